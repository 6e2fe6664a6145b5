//! A leaf's memory of the parts that its models refuse.

use std::{
    borrow::Cow,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::Duration,
};

use tokio::time::Instant;

use crate::internal::sync::{Mutex, lock};

/// A leaf's memory of the parts that its models refuse. Clones of a leaf share it.
///
/// A caller can bring a server to refuse a part in words that look like another refusal. So what one caller's request
/// has shown counts for this caller alone, until another caller's shows the same.
#[derive(Debug, Default)]
pub(crate) struct RefusalMemory {
    /// True if there are any; read without a lock.
    any: AtomicBool,
    refusals: Mutex<Vec<Known>>,
}

#[derive(Debug)]
struct Known {
    model: Arc<str>,
    path: Cow<'static, str>,
    since: Instant,
    /// The caller whose request was refused; `None` once there are two.
    caller: Option<u64>,
}

impl Known {
    fn is_fresh(&self, now: Instant) -> bool {
        now.saturating_duration_since(self.since) < LASTS
    }
}

/// The time for which a refusal is remembered: models change.
const LASTS: Duration = Duration::from_secs(3600);
/// The number of refusals that a leaf remembers. Beyond it, it forgets the oldest, those of one caller first.
const MOST: usize = 128;
/// The number of refusals that one caller alone has shown. Beyond it, the oldest of these is forgotten.
const MOST_OF_ONE: usize = 16;

impl RefusalMemory {
    /// Remembers that this model refuses a part of a caller's request. Returns true if that is new.
    pub(crate) fn add(&self, model: &Arc<str>, path: Cow<'static, str>, caller: u64) -> bool {
        let now = Instant::now();
        let mut refusals = lock(&self.refusals);
        refusals.retain(|known| known.is_fresh(now));
        if let Some(known) = refusals.iter_mut().find(|known| known.model == *model && known.path == path) {
            if known.caller != Some(caller) {
                known.caller = None;
            }
            return false;
        }
        let is_own = |known: &Known| known.caller == Some(caller);
        let oldest = if refusals.iter().filter(|known| is_own(known)).count() >= MOST_OF_ONE {
            refusals.iter().position(is_own)
        } else if refusals.len() >= MOST {
            refusals.iter().position(|known| known.caller.is_some()).or(Some(0))
        } else {
            None
        };
        if let Some(oldest) = oldest {
            refusals.remove(oldest);
        }
        refusals.push(Known { model: model.clone(), path, since: now, caller: Some(caller) });
        self.any.store(true, Relaxed);
        true
    }

    /// Returns true if there may be any.
    pub(crate) fn is_any(&self) -> bool {
        self.any.load(Relaxed)
    }

    /// Returns the parts that this model is known to refuse of a caller's requests.
    pub(crate) fn of(&self, model: &str, caller: u64) -> Vec<Cow<'static, str>> {
        if !self.is_any() {
            return Vec::new();
        }
        let now = Instant::now();
        let refusals = lock(&self.refusals);
        let known = refusals.iter().filter(|known| *known.model == *model && known.is_fresh(now));
        known.filter(|known| known.caller.is_none_or(|only| only == caller)).map(|known| known.path.clone()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path(path: &str) -> Cow<'static, str> {
        path.to_owned().into()
    }

    #[tokio::test(start_paused = true)]
    async fn a_refusal_is_remembered_for_an_hour_and_for_its_model_alone() {
        let remembered = RefusalMemory::default();
        let one = path("temperature");
        assert!(remembered.add(&"one".into(), one.clone(), 0) && !remembered.add(&"one".into(), one.clone(), 0));
        assert_eq!((remembered.of("one", 0), remembered.of("other", 0)), (vec![one], vec![]));
        tokio::time::advance(LASTS).await;
        assert!(remembered.of("one", 0).is_empty());
        for model in 0..1000 {
            remembered.add(&model.to_string().into(), path("top_p"), model);
        }
        assert_eq!((remembered.of("999", 999).len(), remembered.of("0", 0).len()), (1, 0));
        assert!(lock(&remembered.refusals).len() <= MOST);
    }

    #[tokio::test(start_paused = true)]
    async fn what_one_caller_has_shown_counts_for_it_alone() {
        let (remembered, model) = (RefusalMemory::default(), Arc::from("m"));
        remembered.add(&model, path("a"), 1);
        assert_eq!((remembered.of("m", 1).len(), remembered.of("m", 2).len()), (1, 0));
        assert!(!remembered.add(&model, path("a"), 2), "it is known, and now for all");
        assert_eq!((remembered.of("m", 1).len(), remembered.of("m", 3).len()), (1, 1));
        // A caller who shows a thousand displaces its own.
        for number in 0..1000 {
            remembered.add(&model, path(&format!("tools[{number}]")), 7);
        }
        assert_eq!((remembered.of("m", 7).len(), remembered.of("m", 3).len()), (MOST_OF_ONE + 1, 1));
    }
}
