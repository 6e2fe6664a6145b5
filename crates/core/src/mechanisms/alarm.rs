//! The alarm: one timer for all the limits of time that are nested in one task.
//!
//! A stack has several limits: the whole request's, a tier's part of it, an attempt's. Each could set a timer of
//! its own, but setting and clearing one is the most expensive part of a call that has to wait. So a layer that
//! sets a timer (a listener) lets the layers inside request an earlier one. It polls them again when the timer
//! fires, and they learn that it did.
//!
//! A layer must share the listener's waker to use its timer. A buffer, a spawned task or a set of futures in
//! between polls with a waker of its own. Then there is no listener, and the layer sets its own timer.

use std::{
    cell::Cell,
    pin::Pin,
    task::{Context, Poll, Waker},
};

use tokio::time::{Instant, Sleep, sleep_until};

use crate::timer;

thread_local! {
    /// The innermost listener of the current poll on this thread.
    static LISTENER: Listener =
        const { Listener { waker: Cell::new(NO_LISTENER), asked: Cell::new(None), rang: Cell::new(false) } };
}

struct Listener {
    waker: Cell<WakerId>,
    /// The earliest time that was requested in this poll.
    asked: Cell<Option<Instant>>,
    rang: Cell<bool>,
}

/// The identity of a waker: its address, valid while the current poll borrows it.
type WakerId = usize;

const NO_LISTENER: WakerId = 0;

#[inline]
fn id(waker: &Waker) -> WakerId {
    std::ptr::from_ref(waker).addr()
}

/// A layer that sets a timer, during its poll of the inner future.
///
/// Create it before that poll and read it after. Dropping it, even by a panic, restores the listener further out.
#[derive(Debug)]
pub struct AlarmListener {
    further_out: Option<FurtherOut>,
}

/// The listener further out, with the time requested of it.
#[derive(Debug)]
struct FurtherOut {
    waker: WakerId,
    asked: Option<Instant>,
    rang: bool,
}

impl AlarmListener {
    /// Starts to listen. `rang` is true if this poll may be due to a time that was requested.
    #[inline]
    pub fn begin(cx: &Context<'_>, rang: bool) -> Self {
        let waker = id(cx.waker());
        LISTENER.with(|listener| {
            let before = listener.waker.replace(waker);
            if before == NO_LISTENER {
                listener.asked.set(None);
                listener.rang.set(rang);
                return Self { further_out: None };
            }
            let further_out = FurtherOut { waker: before, asked: listener.asked.take(), rang: listener.rang.get() };
            // A layer further in may wait for the very time that has become due further out.
            listener.rang.set(rang || (further_out.rang && before == waker));
            Self { further_out: Some(further_out) }
        })
    }

    /// Returns the earliest time at which a layer inside wants to be polled again.
    #[inline]
    pub fn asked(&self) -> Option<Instant> {
        LISTENER.with(|listener| listener.asked.get())
    }
}

impl Drop for AlarmListener {
    #[inline]
    fn drop(&mut self) {
        LISTENER.with(|listener| match &self.further_out {
            None => listener.waker.set(NO_LISTENER),
            Some(FurtherOut { waker, asked, rang }) => {
                listener.waker.set(*waker);
                listener.asked.set(*asked);
                listener.rang.set(*rang);
            }
        });
    }
}

/// The outcome of a request to be polled again at a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wake {
    /// The listener will set a timer.
    Scheduled,
    /// The time has come.
    Due,
    /// There is no listener: set a timer.
    NoTimer,
}

/// Requests to be polled again at `at`.
#[inline]
pub fn request_wake(cx: &Context<'_>, at: Instant) -> Wake {
    LISTENER.with(|listener| {
        if listener.waker.get() != id(cx.waker()) {
            return Wake::NoTimer;
        }
        // Read the clock only if a timer has fired.
        if listener.rang.get() && at <= Instant::now() {
            return Wake::Due;
        }
        if listener.asked.get().is_none_or(|asked| at < asked) {
            listener.asked.set(Some(at));
        }
        Wake::Scheduled
    })
}

/// Completes at `at`: by the timer of a listener further out, or else by this one.
pub fn poll_at(at: Instant, timer: &mut Option<Pin<Box<Sleep>>>, cx: &mut Context<'_>) -> Poll<()> {
    match request_wake(cx, at) {
        Wake::Scheduled => return Poll::Pending,
        Wake::Due => return Poll::Ready(()),
        Wake::NoTimer => {}
    }
    let timer = timer.get_or_insert_with(|| Box::pin(sleep_until(at)));
    if timer.deadline() != at {
        timer.as_mut().reset(at);
    }
    timer::poll(timer.as_mut(), cx)
}

#[cfg(test)]
mod tests {
    use std::{sync::Arc, time::Duration};

    use super::*;

    struct Other;

    impl std::task::Wake for Other {
        fn wake(self: Arc<Self>) {}
    }

    /// Returns the outcomes of these requests, and the time that their listener sees.
    fn poll<const N: usize>(rang: bool, wishes: [Instant; N]) -> ([Wake; N], Option<Instant>) {
        let cx = Context::from_waker(Waker::noop());
        let listening = AlarmListener::begin(&cx, rang);
        (wishes.map(|at| request_wake(&cx, at)), listening.asked())
    }

    #[tokio::test(start_paused = true)]
    async fn the_earliest_wish_is_heard_and_rings_when_it_has_come() {
        let (soon, later) = (Instant::now() + Duration::from_secs(1), Instant::now() + Duration::from_secs(2));
        let cx = Context::from_waker(Waker::noop());
        assert_eq!(request_wake(&cx, soon), Wake::NoTimer);
        assert_eq!(poll(false, [later, soon]), ([Wake::Scheduled; 2], Some(soon)));

        tokio::time::advance(Duration::from_secs(1)).await;
        assert_eq!(poll(true, [later, soon]), ([Wake::Scheduled, Wake::Due], Some(later)));
        assert_eq!(request_wake(&cx, soon), Wake::NoTimer, "the poll is over");
    }

    #[tokio::test(start_paused = true)]
    async fn another_waker_is_not_heard() {
        let other = Arc::new(Other).into();
        let listening = AlarmListener::begin(&Context::from_waker(Waker::noop()), false);
        assert_eq!(request_wake(&Context::from_waker(&other), Instant::now()), Wake::NoTimer);
        assert_eq!(listening.asked(), None);
    }

    #[tokio::test(start_paused = true)]
    async fn listeners_nest_and_a_panic_leaves_none_behind() {
        let at = Instant::now() + Duration::from_secs(1);
        let cx = Context::from_waker(Waker::noop());
        let outer = AlarmListener::begin(&cx, false);
        assert_eq!(poll(false, [at]).1, Some(at));
        assert_eq!(outer.asked(), None, "the inner one hears it, and asks further out if it likes");
        drop(outer);
        let outer = AlarmListener::begin(&cx, true);
        assert_eq!(poll(false, [Instant::now()]).0, [Wake::Due], "what rings further out rings further in");
        drop(outer);

        let panicked = std::panic::catch_unwind(|| {
            let _listening = AlarmListener::begin(&Context::from_waker(Waker::noop()), false);
            panic!("a leaf");
        });
        assert!(panicked.is_err());
        assert_eq!(request_wake(&cx, at), Wake::NoTimer);
    }
}
