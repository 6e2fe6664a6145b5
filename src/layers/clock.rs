//! One reading of the clock for all layers that a call passes on its way down.
//!
//! The layers call each other synchronously, and a reading costs as much as a layer. Whoever has read the clock says so
//! for as long as the call goes down; a layer further in takes that reading, unless something in between has put the
//! request aside (a buffer, a queue), and with it left this stack of calls.

use std::cell::Cell;

use tokio::time::Instant;

thread_local! {
    static READING: Cell<Option<Instant>> = const { Cell::new(None) };
}

/// A reading that counts until this is dropped, even if a call panics.
///
/// In it: what to put back, where that is needed.
pub(crate) struct Reading(Option<Option<Instant>>);

impl Reading {
    /// Whoever is called from here on takes this reading.
    pub(crate) fn begin(now: Instant) -> Self {
        Self(Some(READING.replace(Some(now))))
    }

    /// The reading of the call that is going down, or else a new one, which whoever is called from here on takes.
    #[inline(always)]
    pub(crate) fn pass_on() -> (Instant, Self) {
        match READING.get() {
            Some(now) => (now, Self(None)),
            None => {
                let now = Instant::now();
                READING.set(Some(now));
                (now, Self(Some(None)))
            }
        }
    }
}

impl Drop for Reading {
    #[inline]
    fn drop(&mut self) {
        if let Some(before) = self.0 {
            READING.set(before);
        }
    }
}

/// The reading of the call that is going down, or a new one.
#[inline]
pub(crate) fn now() -> Instant {
    READING.get().unwrap_or_else(Instant::now)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn with<R>(now: Instant, call: impl FnOnce() -> R) -> R {
        let _reading = Reading::begin(now);
        call()
    }

    #[tokio::test(start_paused = true)]
    async fn a_reading_lasts_as_long_as_its_call() {
        let (before, second) = (Instant::now(), Duration::from_secs(1));
        tokio::time::advance(second).await;
        assert_eq!(with(before, || with(before + second * 5, now)), before + second * 5);
        assert_eq!(with(before, || (with(before + second, || ()), now()).1), before);
        assert_eq!(now(), before + second);
        assert!(std::panic::catch_unwind(|| with(before, || panic!("a leaf"))).is_err());
        assert_eq!(now(), before + second);
    }
}
