//! Which tier a session is with.

use std::{collections::HashMap, mem, sync::Arc};

/// A bounded map from sessions to tiers. Those used longest ago are forgotten first, half of them at a time: two
/// generations of half the capacity each, and what is used moves to the younger.
#[derive(Debug)]
pub(super) struct Sessions {
    half: usize,
    young: HashMap<Arc<str>, usize>,
    old: HashMap<Arc<str>, usize>,
}

impl Sessions {
    pub(super) fn new(capacity: usize) -> Self {
        Self { half: capacity.div_ceil(2), young: HashMap::new(), old: HashMap::new() }
    }

    pub(super) fn get(&mut self, session: &str) -> Option<usize> {
        if let Some(tier) = self.young.get(session) {
            return Some(*tier);
        }
        let (session, tier) = self.old.remove_entry(session)?;
        self.insert(session, tier);
        Some(tier)
    }

    pub(super) fn insert(&mut self, session: Arc<str>, tier: usize) {
        if self.half == 0 {
            return;
        }
        if self.young.len() >= self.half && !self.young.contains_key(&session) {
            self.old = mem::take(&mut self.young);
        }
        self.young.insert(session, tier);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_used_stays_and_the_map_is_bounded() {
        let mut sessions = Sessions::new(100);
        sessions.insert("kept".into(), 1);
        for n in 0..10_000 {
            sessions.insert(format!("s{n}").into(), 0);
            assert_eq!(sessions.get("kept"), Some(1));
            assert!(sessions.young.len() + sessions.old.len() <= 100);
        }
        assert_eq!(sessions.get("s0"), None);
        assert_eq!(sessions.get("s9999"), Some(0));
    }

    #[test]
    fn a_capacity_of_zero_remembers_nothing() {
        let mut sessions = Sessions::new(0);
        sessions.insert("a".into(), 1);
        assert_eq!(sessions.get("a"), None);
    }
}
