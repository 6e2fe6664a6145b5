//! Tests of a request that waits for rate limits.

use std::task::{Context, Poll};

use futures_util::future::join_all;

use super::*;

const SECOND: Duration = Duration::from_secs(1);

/// A rate limit that is over so long from now.
fn limited(seconds: u32) -> LlmError {
    error(ErrorKind::RateLimited).with_retry_after(SECOND * seconds)
}

/// A request that waits, with this long until its deadline.
fn patient(seconds: u32) -> LlmRequest {
    let mut request = prompt().wait_for_rate_limits();
    request.context_mut().deadline = Some(Instant::now() + SECOND * seconds);
    request
}

/// Returns whether a wait ends after so many seconds, or up to one second later.
fn is_after(elapsed: Duration, seconds: u32) -> bool {
    (SECOND * seconds..=SECOND * (seconds + 1)).contains(&elapsed)
}

#[tokio::test(start_paused = true)]
async fn a_rate_limit_is_waited_for_and_the_request_is_answered() {
    let leaf = Strict::new().script([Err(limited(20)), Err(limited(50)), Ok(())]);
    let llm = FallbackLayer::new("a").layer(leaf.clone());
    let begun = Instant::now();
    let response = llm.oneshot(patient(90)).await.unwrap();
    assert!(is_after(begun.elapsed(), 50), "{:?}", begun.elapsed());
    assert_eq!((leaf.calls(), response.attempts().len()), (3, 2), "each failure is on record");
}

#[tokio::test(start_paused = true)]
async fn a_rate_limit_beyond_the_deadline_is_told_at_once() {
    let leaf = Strict::new().script([Err(limited(20)), Err(limited(100))]);
    let llm = FallbackLayer::new("a").layer(leaf);
    let begun = Instant::now();
    let error = llm.oneshot(patient(90)).await.unwrap_err();
    assert!(is_after(begun.elapsed(), 20), "{:?}", begun.elapsed());
    assert_eq!((error.kind(), error.retry_after()), (ErrorKind::RateLimited, Some(SECOND * 100 - begun.elapsed())));
}

#[tokio::test(start_paused = true)]
async fn other_requests_and_other_failures_are_not_waited_for() {
    let begun = Instant::now();
    let mut hasty = patient(90);
    hasty = prompt().with_context(*hasty.context_mut());
    for (request, kind) in [
        (hasty, ErrorKind::RateLimited),
        (prompt().wait_for_rate_limits(), ErrorKind::RateLimited),
        (patient(90), ErrorKind::Overloaded),
        (patient(90), ErrorKind::QuotaExhausted),
        (patient(90), ErrorKind::InvalidRequest),
        (patient(90).with_max_attempts(1), ErrorKind::RateLimited),
    ] {
        let llm = FallbackLayer::new("a").layer(Strict::new().fails(9, error(kind).with_retry_after(SECOND * 5)));
        assert_eq!(llm.oneshot(request).await.unwrap_err().kind(), kind);
    }
    assert_eq!(begun.elapsed(), Duration::ZERO);
}

#[tokio::test(start_paused = true)]
async fn another_tier_is_asked_first_and_the_earliest_of_them_ends_the_wait() {
    let backup = Strict::new().script([Ok(())]);
    let layer = |backup: &Strict| FallbackLayer::new("a").tier("b", backup.clone());
    let begun = Instant::now();
    let llm = layer(&backup).layer(Strict::new().script([Err(limited(20))]));
    assert_eq!(tier_of(&llm.oneshot(patient(90)).await.unwrap()), "b");
    assert_eq!(begun.elapsed(), Duration::ZERO);

    let backup = Strict::new().script([Err(limited(7)), Ok(())]);
    let llm = layer(&backup).layer(Strict::new().script([Err(limited(20)), Err(limited(13))]));
    assert_eq!(tier_of(&llm.oneshot(patient(90)).await.unwrap()), "b");
    assert!(is_after(begun.elapsed(), 7), "{:?}", begun.elapsed());
}

#[tokio::test(start_paused = true)]
async fn a_tier_that_cannot_carry_the_request_does_not_keep_it_from_waiting() {
    let backup = Strict::new().fails(9, error(ErrorKind::UnsupportedFeature));
    let llm = FallbackLayer::new("a").tier("b", backup).layer(Strict::new().script([Err(limited(20)), Ok(())]));
    let begun = Instant::now();
    assert_eq!(tier_of(&llm.oneshot(patient(90)).await.unwrap()), "a");
    assert!(is_after(begun.elapsed(), 20), "{:?}", begun.elapsed());
}

#[tokio::test(start_paused = true)]
async fn a_rate_limit_without_a_time_is_tried_again_in_a_moment() {
    let leaf = Strict::new().script([Err(error(ErrorKind::RateLimited)), Err(error(ErrorKind::RateLimited)), Ok(())]);
    let begun = Instant::now();
    assert!(FallbackLayer::new("a").layer(leaf).oneshot(patient(90)).await.is_ok());
    assert!((SECOND * 2..=SECOND * 4).contains(&begun.elapsed()), "{:?}", begun.elapsed());
}

#[tokio::test(start_paused = true)]
async fn requests_that_wait_for_the_same_moment_come_back_one_by_one() {
    let llm = FallbackLayer::new("a").layer(Strict::new().fails(50, limited(20)));
    let begun = Instant::now();
    let answers = join_all((0..50).map(|_| {
        let call = llm.clone().oneshot(patient(90));
        async move {
            call.await.unwrap();
            begun.elapsed()
        }
    }));
    let mut times = answers.await;
    assert!(times.iter().all(|time| is_after(*time, 20)), "{times:?}");
    times.sort_unstable();
    times.dedup();
    // Tokio's timers are of milliseconds.
    assert!(times.len() >= 45, "{times:?}");
}

/// A service that counts its clones.
struct CountingClones(Strict, Arc<AtomicUsize>);

impl Clone for CountingClones {
    fn clone(&self) -> Self {
        self.1.fetch_add(1, Relaxed);
        Self(self.0.clone(), self.1.clone())
    }
}

impl Service<LlmRequest> for CountingClones {
    type Response = LlmResponse;
    type Error = <Strict as Service<LlmRequest>>::Error;
    type Future = <Strict as Service<LlmRequest>>::Future;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.0.poll_ready(cx)
    }

    fn call(&mut self, request: LlmRequest) -> Self::Future {
        self.0.call(request)
    }
}

/// A provider's client is expensive to clone.
#[tokio::test(start_paused = true)]
async fn a_primary_that_answers_is_not_cloned_for_a_wait_that_does_not_come() {
    let clones = Arc::<AtomicUsize>::default();
    let leaf = CountingClones(Strict::new().script([Ok(()), Err(limited(20)), Ok(())]), clones.clone());
    let mut llm = FallbackLayer::new("a").tier("b", failing(ErrorKind::RateLimited)).layer(leaf);
    let before = clones.load(Relaxed);
    llm.ready().await.unwrap().call(patient(90)).await.unwrap();
    assert_eq!(clones.load(Relaxed), before);
    let begun = Instant::now();
    assert_eq!(tier_of(&llm.ready().await.unwrap().call(patient(90)).await.unwrap()), "a");
    assert!(begun.elapsed() >= SECOND, "{:?}", begun.elapsed());
}
