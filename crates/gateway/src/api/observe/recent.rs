//! A page that many look at: it is made a few times in a second, however often they ask.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use axum::{
    body::{Body, Bytes},
    extract::{Request, State},
    middleware::Next,
};
use http::{Method, Response, response::Parts};
use http_body_util::{BodyExt, Collected};
use tokio::time::Instant;

use crate::lock::lock;

/// The age that a page may have when a reader gets it.
const AGE: Duration = Duration::from_millis(100);
/// The number of pages that are made within that time, so that who asks now and then gets a new one.
const MADE: u32 = 5;

/// The last page of a path. Clones share it.
#[derive(Clone, Debug, Default)]
pub(super) struct Recent(Arc<Mutex<Page>>);

#[derive(Debug, Default)]
struct Page {
    /// The begin of the current interval, and the number of pages that are made within it.
    begun: Option<Instant>,
    made: u32,
    last: Option<(Instant, Parts, Bytes)>,
}

impl Page {
    /// Returns the last page, if enough were made within the interval; otherwise counts one more.
    fn take(&mut self, now: Instant) -> Option<Response<Body>> {
        if self.begun.is_none_or(|begun| now - begun >= AGE) {
            (self.begun, self.made) = (Some(now), 0);
        }
        let last = self.last.as_ref().filter(|(at, ..)| self.made >= MADE && now - *at < AGE);
        if let Some((_, head, body)) = last {
            return Some(Response::from_parts(head.clone(), Body::from(body.clone())));
        }
        self.made += 1;
        None
    }
}

/// Answers with the last page, or makes one.
pub(super) async fn reuse(State(recent): State<Recent>, request: Request, next: Next) -> Response<Body> {
    // A page without its body is made like any other: the router takes the body off.
    if ![Method::GET, Method::HEAD].contains(request.method()) {
        return next.run(request).await;
    }
    let now = Instant::now();
    if let Some(page) = lock(&recent.0).take(now) {
        return page;
    }
    let (head, body) = next.run(request).await.into_parts();
    // A page is a text in the memory, which neither fails nor keeps anybody waiting.
    let body = body.collect().await.map(Collected::to_bytes).unwrap_or_default();
    lock(&recent.0).last = Some((now, head.clone(), body.clone()));
    Response::from_parts(head, Body::from(body))
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

    use axum::{Router, middleware::from_fn_with_state, routing::get};
    use tower::ServiceExt;

    use super::*;

    /// Returns a path whose page is the number of pages so far, with the age of the first in milliseconds.
    fn numbers() -> (Router, Arc<AtomicUsize>) {
        let made = Arc::new(AtomicUsize::new(0));
        let (counted, start) = (made.clone(), Instant::now());
        let page = get(move || async move {
            counted.fetch_add(1, Relaxed);
            start.elapsed().as_millis().to_string()
        });
        (Router::new().route("/", page.layer(from_fn_with_state(Recent::default(), reuse))), made)
    }

    async fn look(router: &Router, method: Method) -> String {
        let request = Request::builder().method(method).uri("/").body(Body::empty()).unwrap();
        let body = router.clone().oneshot(request).await.unwrap().into_body();
        String::from_utf8(body.collect().await.unwrap().to_bytes().to_vec()).unwrap()
    }

    #[tokio::test(start_paused = true)]
    async fn ten_thousand_looks_in_a_second_make_fifty_pages_and_none_is_old() {
        let (router, made) = numbers();
        for millisecond in 0..1000 {
            look(&router, Method::HEAD).await;
            for _ in 0..10 {
                let told: i32 = look(&router, Method::GET).await.parse().unwrap();
                assert!((0..100).contains(&(millisecond - told)), "{told} at {millisecond}");
            }
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        assert!((10..=50).contains(&made.load(Relaxed)), "{made:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn who_looks_now_and_then_gets_a_new_page() {
        let (router, made) = numbers();
        for looks in 1..=200 {
            look(&router, Method::GET).await;
            assert_eq!(made.load(Relaxed), looks);
            tokio::time::sleep(Duration::from_millis(21)).await;
        }
        assert_eq!(look(&router, Method::HEAD).await, "");
    }
}
