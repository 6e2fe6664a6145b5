//! Calls that are dropped because another one answered.
//!
//! For a circuit breaker, a dropped call is one whose caller has left, which shows nothing. A provider that hangs,
//! and loses every call to its hedge, would thus look healthy for ever. A layer that drops such a call therefore
//! sets a flag for the time of the drop, and the breaker inside reads it. A task or a queue in between drops the
//! call later, without the flag.

use std::cell::Cell;

thread_local! {
    static SILENT: Cell<bool> = const { Cell::new(false) };
}

/// A guard: until it is dropped, calls that are dropped on this thread count as losses of a silent tier.
pub(crate) struct HedgeLoss(bool);

impl HedgeLoss {
    pub(crate) fn begin() -> Self {
        Self(SILENT.replace(true))
    }
}

impl Drop for HedgeLoss {
    fn drop(&mut self) {
        SILENT.set(self.0);
    }
}

/// Returns whether a call that is dropped now counts as silent.
pub(crate) fn is_silent() -> bool {
    // A thread that is being torn down drops no call for another layer.
    SILENT.try_with(Cell::get).unwrap_or(false)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hedge_loss_lasts_as_long_as_its_guard_even_if_a_drop_panics() {
        assert!(!is_silent());
        let outer = HedgeLoss::begin();
        drop(HedgeLoss::begin());
        assert!(is_silent());
        drop(outer);
        let panicked = std::panic::catch_unwind(|| {
            let _loss = HedgeLoss::begin();
            panic!("a leaf");
        });
        assert!(panicked.is_err() && !is_silent());
    }
}
