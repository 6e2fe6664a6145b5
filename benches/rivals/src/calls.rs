//! Calls in a row, polled by hand.

use std::{
    hint::black_box,
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    task::{Context, Poll, Wake, Waker},
};

use tower::Service;

/// A waker that costs what a task's waker costs to clone and to drop.
#[derive(Default)]
struct Counting(AtomicU64);

impl Wake for Counting {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.0.fetch_add(1, Relaxed);
    }
}

/// Makes that many calls.
pub type Calls = Box<dyn FnMut(u64)>;

/// The outcome that every call must have, else the figure would be of something else.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expect {
    Answer,
    Refusal,
}

pub fn calls<S, R>(mut service: S, request: R, expect: Expect) -> Calls
where
    S: Service<R> + 'static,
    R: Clone + 'static,
{
    let waker = Waker::from(Arc::new(Counting::default()));
    Box::new(move |n| {
        let mut cx = Context::from_waker(&waker);
        for _ in 0..n {
            let got = one(&mut service, black_box(&request).clone(), &mut cx);
            assert_eq!(got, expect);
        }
    })
}

/// More polls than any contestant here needs: one that needs more would need them for ever.
const POLLS: usize = 100;

fn one<S: Service<R>, R>(service: &mut S, request: R, cx: &mut Context<'_>) -> Expect {
    for _ in 0..POLLS {
        match service.poll_ready(cx) {
            Poll::Ready(Ok(())) => break,
            Poll::Ready(Err(_)) => return Expect::Refusal,
            Poll::Pending => {}
        }
    }
    let mut future = pin!(service.call(request));
    for _ in 0..POLLS {
        if let Poll::Ready(result) = future.as_mut().poll(cx) {
            return match black_box(result) {
                Ok(_) => Expect::Answer,
                Err(_) => Expect::Refusal,
            };
        }
    }
    panic!("a call waits for what only a running timer can bring")
}

/// Begins a call that stays pending, and gives its future to keep.
pub fn hold<S, R>(service: &mut S, request: R) -> std::pin::Pin<Box<S::Future>>
where
    S: Service<R>,
{
    let mut cx = Context::from_waker(Waker::noop());
    assert!(service.poll_ready(&mut cx).is_ready());
    let mut future = Box::pin(service.call(request));
    assert!(future.as_mut().poll(&mut cx).is_pending());
    future
}
