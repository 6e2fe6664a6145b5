//! One reading of the clock for all layers that a call passes on its way down.
//!
//! The layers call each other synchronously, and a reading costs as much as a layer. A layer that has read the
//! clock shares the reading while the call goes down, and the layers further in use it. A buffer or a queue in
//! between sets the request aside, and so leaves this stack of calls and the reading.

use std::cell::Cell;

use tokio::time::Instant;

thread_local! {
    static READING: Cell<Option<Instant>> = const { Cell::new(None) };
}

/// A shared reading, valid until this is dropped, even if a call panics. It contains the reading to restore.
#[derive(Debug)]
pub struct Reading(Option<Instant>);

/// The first shared reading, valid until this is dropped, or a reading that another layer shares.
#[derive(Debug)]
pub struct FirstReading {
    is_ours: bool,
}

impl Reading {
    /// Shares this reading with all layers that are called from here on.
    pub fn begin(now: Instant) -> Self {
        Self(READING.replace(Some(now)))
    }

    /// Returns the shared reading, or else takes a new one and shares it with all layers that are called from here
    /// on.
    #[inline(always)]
    pub fn pass_on() -> (Instant, FirstReading) {
        match READING.get() {
            Some(now) => (now, FirstReading { is_ours: false }),
            None => {
                let now = Instant::now();
                READING.set(Some(now));
                (now, FirstReading { is_ours: true })
            }
        }
    }
}

impl Drop for Reading {
    fn drop(&mut self) {
        READING.set(self.0);
    }
}

impl Drop for FirstReading {
    #[inline]
    fn drop(&mut self) {
        if self.is_ours {
            READING.set(None);
        }
    }
}

/// Returns the shared reading, or a new one.
#[inline]
pub fn now() -> Instant {
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
