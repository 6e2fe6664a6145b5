//! Calls that are dropped because another one answered.
//!
//! To a circuit breaker a dropped call is one whose caller has left, which says nothing. So a provider that hangs, and whose
//! every call loses against its hedge, would look healthy for ever. Whoever drops a call that has shown nothing says so
//! for the time of the drop, and the breaker inside hears it. A task or a queue in between drops it later, unheard.

use std::cell::Cell;

thread_local! {
    static SILENT: Cell<bool> = const { Cell::new(false) };
}

/// Until it is dropped, calls that are dropped on this thread count as such from which nothing came.
pub(crate) struct Silence(bool);

impl Silence {
    pub(crate) fn begin() -> Self {
        Self(SILENT.replace(true))
    }
}

impl Drop for Silence {
    fn drop(&mut self) {
        SILENT.set(self.0);
    }
}

/// Whether what is dropped now counts as silent.
pub(crate) fn is_silent() -> bool {
    // A thread that is being torn down drops nothing on anybody's behalf.
    SILENT.try_with(Cell::get).unwrap_or(false)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_silence_lasts_as_long_as_its_guard_even_if_a_drop_panics() {
        assert!(!is_silent());
        let outer = Silence::begin();
        drop(Silence::begin());
        assert!(is_silent());
        drop(outer);
        let panicked = std::panic::catch_unwind(|| {
            let _silence = Silence::begin();
            panic!("a leaf");
        });
        assert!(panicked.is_err() && !is_silent());
    }
}
