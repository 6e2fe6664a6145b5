//! The alarm: one timer for all the limits of time that are nested in one task.
//!
//! A stack has several: the whole request's, the slice of it that a fallback gives to a tier, an attempt's. Each could set
//! a timer of its own, but to set and clear one is the dearest part of a call that has to wait. So whoever sets a timer
//! (a listener) lets the layers inside ask for an earlier one: they are polled again when it rings, and told that it did.
//!
//! Who asks must share the listener's waker. A buffer, a spawned task or a set of futures in between polls with a waker of
//! its own; then nobody listens, and the layer sets its own timer.

use std::{
    cell::Cell,
    future::Future as _,
    pin::Pin,
    task::{Context, Poll, Waker},
};

use tokio::time::{Instant, Sleep, sleep_until};

thread_local! {
    /// The innermost listener of the poll that is under way on this thread.
    static LISTENER: Listener = const { Listener { waker: Cell::new(NOBODY), asked: Cell::new(None), rang: Cell::new(false) } };
}

struct Listener {
    waker: Cell<WakerId>,
    /// The earliest that was asked for in this poll.
    asked: Cell<Option<Instant>>,
    rang: Cell<bool>,
}

/// Which waker it is: where it stands, for as long as the poll that is under way borrows it.
type WakerId = usize;

const NOBODY: WakerId = 0;

#[inline]
fn id(waker: &Waker) -> WakerId {
    std::ptr::from_ref(waker).addr()
}

/// One who sets a timer, for the time of a poll of what is inside.
///
/// Made before that poll and asked after it; dropped, even by a panic, it puts the listener further out back.
pub(crate) struct Listening {
    further_out: Option<FurtherOut>,
}

/// Who listened before, with what was asked of it.
struct FurtherOut {
    waker: WakerId,
    asked: Option<Instant>,
    rang: bool,
}

impl Listening {
    /// Listens from now on. `rang` says that the poll is made because a moment has come that somebody asked for.
    #[inline]
    pub(crate) fn begin(cx: &Context<'_>, rang: bool) -> Self {
        let waker = id(cx.waker());
        LISTENER.with(|listener| {
            let before = listener.waker.replace(waker);
            let asked = listener.asked.take();
            if before == NOBODY {
                listener.rang.set(rang);
                return Self { further_out: None };
            }
            let further_out = FurtherOut { waker: before, asked, rang: listener.rang.get() };
            // What rang further out may be what somebody further in waits for.
            listener.rang.set(rang || (further_out.rang && before == waker));
            Self { further_out: Some(further_out) }
        })
    }

    /// The earliest moment at which somebody inside wants to be polled again.
    #[inline]
    pub(crate) fn asked(&self) -> Option<Instant> {
        LISTENER.with(|listener| listener.asked.get())
    }
}

impl Drop for Listening {
    #[inline]
    fn drop(&mut self) {
        LISTENER.with(|listener| match &self.further_out {
            None => listener.waker.set(NOBODY),
            Some(FurtherOut { waker, asked, rang }) => {
                listener.waker.set(*waker);
                listener.asked.set(*asked);
                listener.rang.set(*rang);
            }
        });
    }
}

/// What became of a wish to be polled again at a moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Alarm {
    /// It is set.
    Set,
    /// The moment has come.
    Rang,
    /// Nobody listens: set a timer.
    Unheard,
}

/// Asks to be polled again at `at`.
#[inline]
pub(crate) fn ask(cx: &Context<'_>, at: Instant) -> Alarm {
    LISTENER.with(|listener| {
        if listener.waker.get() != id(cx.waker()) {
            return Alarm::Unheard;
        }
        // The clock is read only when there is a reason to.
        if listener.rang.get() && at <= Instant::now() {
            return Alarm::Rang;
        }
        if listener.asked.get().is_none_or(|asked| at < asked) {
            listener.asked.set(Some(at));
        }
        Alarm::Set
    })
}

/// Ready at `at`: by the timer of a listener further out, or else by this one.
pub(crate) fn poll_at(at: Instant, timer: &mut Option<Pin<Box<Sleep>>>, cx: &mut Context<'_>) -> Poll<()> {
    match ask(cx, at) {
        Alarm::Set => return Poll::Pending,
        Alarm::Rang => return Poll::Ready(()),
        Alarm::Unheard => {}
    }
    let timer = timer.get_or_insert_with(|| Box::pin(sleep_until(at)));
    if timer.deadline() != at {
        timer.as_mut().reset(at);
    }
    timer.as_mut().poll(cx)
}

#[cfg(test)]
mod tests {
    use std::{sync::Arc, task::Wake, time::Duration};

    use super::*;

    struct Other;

    impl Wake for Other {
        fn wake(self: Arc<Self>) {}
    }

    /// What a poll that makes these wishes comes to, and what its listener hears.
    fn poll<const N: usize>(rang: bool, wishes: [Instant; N]) -> ([Alarm; N], Option<Instant>) {
        let cx = Context::from_waker(Waker::noop());
        let listening = Listening::begin(&cx, rang);
        (wishes.map(|at| ask(&cx, at)), listening.asked())
    }

    #[tokio::test(start_paused = true)]
    async fn the_earliest_wish_is_heard_and_rings_when_it_has_come() {
        let (soon, later) = (Instant::now() + Duration::from_secs(1), Instant::now() + Duration::from_secs(2));
        let cx = Context::from_waker(Waker::noop());
        assert_eq!(ask(&cx, soon), Alarm::Unheard);
        assert_eq!(poll(false, [later, soon]), ([Alarm::Set; 2], Some(soon)));

        tokio::time::advance(Duration::from_secs(1)).await;
        assert_eq!(poll(true, [later, soon]), ([Alarm::Set, Alarm::Rang], Some(later)));
        assert_eq!(ask(&cx, soon), Alarm::Unheard, "the poll is over");
    }

    #[tokio::test(start_paused = true)]
    async fn another_waker_is_not_heard() {
        let other = Arc::new(Other).into();
        let listening = Listening::begin(&Context::from_waker(Waker::noop()), false);
        assert_eq!(ask(&Context::from_waker(&other), Instant::now()), Alarm::Unheard);
        assert_eq!(listening.asked(), None);
    }

    #[tokio::test(start_paused = true)]
    async fn listeners_nest_and_a_panic_leaves_none_behind() {
        let at = Instant::now() + Duration::from_secs(1);
        let cx = Context::from_waker(Waker::noop());
        let outer = Listening::begin(&cx, false);
        assert_eq!(poll(false, [at]).1, Some(at));
        assert_eq!(outer.asked(), None, "the inner one hears it, and asks further out if it likes");
        drop(outer);
        let outer = Listening::begin(&cx, true);
        assert_eq!(poll(false, [Instant::now()]).0, [Alarm::Rang], "what rings further out rings further in");
        drop(outer);

        let panicked = std::panic::catch_unwind(|| {
            let _listening = Listening::begin(&Context::from_waker(Waker::noop()), false);
            panic!("a leaf");
        });
        assert!(panicked.is_err());
        assert_eq!(ask(&cx, at), Alarm::Unheard);
    }
}
