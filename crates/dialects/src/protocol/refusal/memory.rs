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
/// has shown counts for this caller alone, until another caller's shows the same. One person may have several keys: a
/// caller takes part in `MOST_WITH_OTHERS` refusals, those that it shares with another one included.
#[derive(Debug, Default)]
pub struct RefusalMemory {
    /// True if there are any; read without a lock.
    any: AtomicBool,
    refusals: Mutex<Vec<Known>>,
}

#[derive(Debug)]
struct Known {
    model: Arc<str>,
    path: Cow<'static, str>,
    since: Instant,
    /// The callers whose requests were refused: the refusal counts for all once there are two.
    callers: (u64, Option<u64>),
}

impl Known {
    fn is_shown_by(&self, caller: u64) -> bool {
        self.callers.0 == caller || self.callers.1 == Some(caller)
    }

    fn is_common(&self) -> bool {
        self.callers.1.is_some()
    }

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
/// The number of one model's refusals that one caller takes part in, alone or with another. Beyond it, the oldest of
/// those that it alone has shown is forgotten; without any, the new one is not remembered. Agents send some fifteen
/// parts that a strict server refuses, flags included: a choice of ours.
const MOST_WITH_OTHERS: usize = 32;

impl RefusalMemory {
    /// Remembers that this model refuses a part of a caller's request. Returns true if that is new.
    pub(crate) fn add(&self, model: &Arc<str>, path: Cow<'static, str>, caller: u64) -> bool {
        let now = Instant::now();
        let mut refusals = lock(&self.refusals);
        refusals.retain(|known| known.is_fresh(now));
        let at = refusals.iter().position(|known| known.model == *model && known.path == path);
        if at.is_some_and(|at| refusals[at].is_common() || refusals[at].is_shown_by(caller)) {
            return false;
        }
        let is_own = |known: &Known| known.is_shown_by(caller) && !known.is_common();
        let takes_part = |known: &Known| known.is_shown_by(caller) && known.model == *model;
        let mut forgotten = None;
        let count = |is: &dyn Fn(&Known) -> bool| refusals.iter().filter(|known| is(known)).count();
        if count(&is_own) >= MOST_OF_ONE || count(&takes_part) >= MOST_WITH_OTHERS {
            forgotten = refusals.iter().position(is_own);
            if forgotten.is_none() {
                return false;
            }
        }
        if let Some(at) = at {
            refusals[at].callers.1 = Some(caller);
        } else if forgotten.is_none() && refusals.len() >= MOST {
            forgotten = refusals.iter().position(|known| !known.is_common()).or(Some(0));
        }
        if let Some(forgotten) = forgotten {
            refusals.remove(forgotten);
        }
        if at.is_some() {
            return false;
        }
        refusals.push(Known { model: model.clone(), path, since: now, callers: (caller, None) });
        self.any.store(true, Relaxed);
        true
    }

    /// Returns true if there may be any.
    pub(crate) fn is_any(&self) -> bool {
        self.any.load(Relaxed)
    }

    /// Returns the parts that this model is known to refuse of a caller's requests.
    pub fn of(&self, model: &str, caller: u64) -> Vec<Cow<'static, str>> {
        if !self.is_any() {
            return Vec::new();
        }
        let now = Instant::now();
        let refusals = lock(&self.refusals);
        let known = refusals.iter().filter(|known| *known.model == *model && known.is_fresh(now));
        known.filter(|known| known.is_common() || known.is_shown_by(caller)).map(|known| known.path.clone()).collect()
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

    /// Two keys are one person's, as far as a leaf knows.
    #[tokio::test(start_paused = true)]
    async fn two_callers_teach_all_others_no_more_than_one_may_show() {
        for (people, most) in [(2_u64, MOST_WITH_OTHERS), (4, 2 * MOST_WITH_OTHERS), (6, 3 * MOST_WITH_OTHERS)] {
            let (remembered, model) = (RefusalMemory::default(), Arc::from("m"));
            for number in 0..500 {
                for caller in 0..people {
                    remembered.add(&model, path(&format!("tools[{number}]")), caller);
                }
                assert!(remembered.of("m", 99).len() <= most, "{people} callers at {number}");
            }
            // The words of honest callers count all the same.
            remembered.add(&model, path("metadata"), 50);
            remembered.add(&model, path("metadata"), 51);
            assert!(remembered.of("m", 99).contains(&path("metadata")), "{people} callers");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn no_caller_displaces_what_two_have_shown() {
        let (remembered, model) = (RefusalMemory::default(), Arc::from("m"));
        (1..=2).for_each(|caller| _ = remembered.add(&model, path("metadata"), caller));
        for number in 0..2000 {
            remembered.add(&model, path(&format!("tools[{number}]")), 1 + number % 200);
        }
        assert_eq!(remembered.of("m", 999), [path("metadata")]);
        assert!(lock(&remembered.refusals).len() <= MOST);
    }
}
