//! A service that is never ready, and one that takes its time.

use std::{
    future::{Pending, pending},
    marker::PhantomData,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use tower::Service;

use crate::subject::Subject;

pub(super) struct Never<K>(PhantomData<fn() -> K>);

pub(super) struct Slow<K>(PhantomData<fn() -> K>);

impl<K> Never<K> {
    pub(super) fn new() -> Self {
        Self(PhantomData)
    }
}

impl<K> Slow<K> {
    pub(super) fn new() -> Self {
        Self(PhantomData)
    }
}

impl<K> Clone for Never<K> {
    fn clone(&self) -> Self {
        Self::new()
    }
}

impl<K> Clone for Slow<K> {
    fn clone(&self) -> Self {
        Self::new()
    }
}

impl<K: Subject> Service<K::Request> for Never<K> {
    type Response = K::Answer;
    type Error = K::Error;
    type Future = Pending<Result<K::Answer, K::Error>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), K::Error>> {
        Poll::Pending
    }

    fn call(&mut self, _: K::Request) -> Self::Future {
        pending()
    }
}

impl<K: Subject> Service<K::Request> for Slow<K> {
    type Response = K::Answer;
    type Error = K::Error;
    type Future = Pin<Box<dyn Future<Output = Result<K::Answer, K::Error>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), K::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: K::Request) -> Self::Future {
        Box::pin(async {
            tokio::time::sleep(Duration::from_millis(50)).await;
            Ok(K::answer())
        })
    }
}
