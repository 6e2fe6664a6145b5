//! The callees: the innermost services, and the request and answer that they carry.

use std::{
    fmt,
    future::{Future, Pending, Ready, ready},
    marker::PhantomData,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    task::{Context, Poll},
};

use tower::{BoxError, Service};

/// The request, answer and error of one family of contestants.
pub trait Subject: Send + Sync + 'static {
    type Request: Clone + Send + Sync + 'static;
    type Answer: Send + 'static;
    type Error: Into<BoxError> + Send + Sync + 'static;

    fn request() -> Self::Request;
    fn answer() -> Self::Answer;
    fn error() -> Self::Error;
}

/// The least that a request can be: one `Arc` in, one number out.
#[derive(Debug)]
pub enum Small {}

#[derive(Clone, Debug)]
pub struct SmallRequest(pub Arc<str>);

#[derive(Clone, Debug)]
pub struct SmallError;

impl fmt::Display for SmallError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the service failed")
    }
}

impl std::error::Error for SmallError {}

impl Subject for Small {
    type Request = SmallRequest;
    type Answer = u64;
    type Error = SmallError;

    fn request() -> SmallRequest {
        SmallRequest(Arc::from("Explain closures."))
    }

    fn answer() -> u64 {
        42
    }

    fn error() -> SmallError {
        SmallError
    }
}

macro_rules! inner {
    ($(#[$doc:meta])* $name:ident, $future:ty, $make:expr) => {
        $(#[$doc])*
        pub struct $name<K>(PhantomData<fn() -> K>);

        impl<K> $name<K> {
            #[allow(clippy::new_without_default)]
            pub fn new() -> Self {
                Self(PhantomData)
            }
        }

        impl<K> Clone for $name<K> {
            fn clone(&self) -> Self {
                Self(PhantomData)
            }
        }

        impl<K: Subject> Service<K::Request> for $name<K> {
            type Response = K::Answer;
            type Error = K::Error;
            type Future = $future;

            fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), K::Error>> {
                Poll::Ready(Ok(()))
            }

            fn call(&mut self, _: K::Request) -> Self::Future {
                $make
            }
        }
    };
}

inner!(
    /// Answers at once.
    Answers, Ready<Result<K::Answer, K::Error>>, ready(Ok(K::answer()))
);
inner!(
    /// Fails at once.
    Fails, Ready<Result<K::Answer, K::Error>>, ready(Err(K::error()))
);
inner!(
    /// Never answers: it keeps a place occupied.
    Hangs, Pending<Result<K::Answer, K::Error>>, std::future::pending()
);
inner!(
    /// Is pending once, so that timers register, and answers when polled again.
    AnswersLater, Later<K>, Later { polled: false, subject: PhantomData }
);

#[derive(Debug)]
pub struct Later<K> {
    polled: bool,
    subject: PhantomData<fn() -> K>,
}

impl<K: Subject> Future for Later<K> {
    type Output = Result<K::Answer, K::Error>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        if self.polled {
            return Poll::Ready(Ok(K::answer()));
        }
        self.polled = true;
        cx.waker().wake_by_ref();
        Poll::Pending
    }
}

/// Holds its first calls for ever, and answers those after them at once.
pub struct HoldsFirst<K> {
    to_hold: Arc<AtomicUsize>,
    subject: PhantomData<fn() -> K>,
}

impl<K> HoldsFirst<K> {
    pub fn new(to_hold: usize) -> Self {
        Self { to_hold: Arc::new(AtomicUsize::new(to_hold)), subject: PhantomData }
    }
}

impl<K> Clone for HoldsFirst<K> {
    fn clone(&self) -> Self {
        Self { to_hold: self.to_hold.clone(), subject: PhantomData }
    }
}

impl<K: Subject> Service<K::Request> for HoldsFirst<K> {
    type Response = K::Answer;
    type Error = K::Error;
    type Future = Held<K>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), K::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: K::Request) -> Held<K> {
        let held = self.to_hold.load(Relaxed) > 0;
        if held {
            self.to_hold.fetch_sub(1, Relaxed);
        }
        Held { held, subject: PhantomData }
    }
}

#[derive(Debug)]
pub struct Held<K> {
    held: bool,
    subject: PhantomData<fn() -> K>,
}

impl<K: Subject> Future for Held<K> {
    type Output = Result<K::Answer, K::Error>;

    fn poll(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Self::Output> {
        if self.held { Poll::Pending } else { Poll::Ready(Ok(K::answer())) }
    }
}
