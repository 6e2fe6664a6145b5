//! A connection's task, and request bodies that do not wake it needlessly.
//!
//! hyper and the reader of a request's body are two ends of a channel, and each wakes the other. Here both run in one
//! task, which is running when it takes a piece. A wake would poll the task once more for each body, with the whole
//! call below it.

use std::{
    cell::Cell,
    future::poll_fn,
    pin::Pin,
    ptr,
    sync::{
        Arc,
        atomic::{
            AtomicBool, AtomicUsize,
            Ordering::{Acquire, Relaxed, Release},
        },
    },
    task::{Context, Poll, Wake, Waker},
};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;

/// A connection's task, as a waker.
pub(crate) struct ConnectionTask {
    waker: Waker,
    /// The thread that is reading a piece of the body, or 0.
    reading_thread: AtomicUsize,
    /// True if that thread has woken the task while reading.
    woken: AtomicBool,
    /// True while the request's body has not been read to its end.
    unread: AtomicBool,
}

impl ConnectionTask {
    /// Returns the task that polls this.
    pub(crate) async fn current() -> Arc<Self> {
        Self::of(poll_fn(|cx| Poll::Ready(cx.waker().clone())).await)
    }

    fn of(waker: Waker) -> Arc<Self> {
        Arc::new(Self {
            waker,
            reading_thread: AtomicUsize::new(0),
            woken: AtomicBool::new(false),
            unread: AtomicBool::new(false),
        })
    }

    /// Returns true if the rest of the newest request's body may still come.
    pub(crate) fn has_unread_body(&self) -> bool {
        self.unread.load(Relaxed)
    }

    /// Returns true if this waker wakes the task too. A connection that has moved to another task is not polled with
    /// the first one's waker: then a body wakes it needlessly, and no more.
    pub(crate) fn is_woken_by(&self, waker: &Waker) -> bool {
        self.waker.will_wake(waker)
    }
}

impl Wake for ConnectionTask {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        // A wake from another thread is about something else.
        if self.reading_thread.load(Acquire) == this_thread() {
            self.woken.store(true, Relaxed);
            return;
        }
        self.waker.wake_by_ref();
    }
}

/// Returns a number that no other thread has, and that is not 0.
fn this_thread() -> usize {
    thread_local! {
        static HERE: Cell<u8> = const { Cell::new(0) };
    }
    HERE.with(|here| ptr::from_ref(here).addr())
}

/// A request body, read within the connection's task.
pub(crate) struct InTaskBody {
    body: Incoming,
    task: Arc<ConnectionTask>,
}

impl InTaskBody {
    pub(crate) fn new(body: Incoming, task: Arc<ConnectionTask>) -> Self {
        task.unread.store(!body.is_end_stream(), Relaxed);
        Self { body, task }
    }
}

impl Body for InTaskBody {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let Self { body, task } = &mut *self;
        task.reading_thread.store(this_thread(), Release);
        let polled = Pin::new(&mut *body).poll_frame(cx);
        task.reading_thread.store(0, Release);
        let has_ended = matches!(polled, Poll::Ready(None)) || body.is_end_stream();
        if has_ended {
            task.unread.store(false, Relaxed);
        }
        // hyper must read on as long as the body has more.
        if task.woken.swap(false, Relaxed) && !has_ended {
            task.wake_by_ref();
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use std::thread;

    use super::*;

    #[derive(Default)]
    struct Count(AtomicUsize);

    impl Wake for Count {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Relaxed);
        }
    }

    #[test]
    fn only_what_the_thread_that_takes_a_piece_says_meanwhile_is_held_back() {
        let count = Arc::new(Count::default());
        let (task, woken) = (ConnectionTask::of(Waker::from(count.clone())), || count.0.load(Relaxed));
        task.wake_by_ref();
        assert_eq!(woken(), 1);

        task.reading_thread.store(this_thread(), Release);
        task.wake_by_ref();
        assert_eq!((woken(), task.woken.load(Relaxed)), (1, true));
        let elsewhere = task.clone();
        thread::spawn(move || elsewhere.wake()).join().unwrap();
        assert_eq!(woken(), 2);

        task.reading_thread.store(0, Release);
        task.wake_by_ref();
        assert_eq!(woken(), 3);
    }

    #[tokio::test]
    async fn a_task_is_woken_by_its_own_waker_alone() {
        let task = ConnectionTask::current().await;
        let own = poll_fn(|cx| Poll::Ready(task.is_woken_by(cx.waker()))).await;
        assert!(own && !task.is_woken_by(Waker::noop()));
    }
}
