//! The limits of time around a service that always spends tokio's cooperative budget: a busy stream, a full channel.
//!
//! Once a poll has spent it, every timer of tokio is pending in the same poll (tokio-rs/tokio#4291).

use std::time::Duration;

use futures_util::{StreamExt as _, stream};
use tokio::task::{consume_budget, yield_now};
use tower::{Layer, Service, ServiceExt as _, service_fn, util::BoxCloneSyncService};

use crate::{
    BoxLlmService, BulkheadLayer, CircuitBreakerLayer, ErrorKind, FallbackLayer, Frame, HedgeLayer, LlmBody, LlmError,
    LlmRequest, LlmResponse, LlmService, RetryWithJitterLayer, RouteLayer, TimeoutLayer, layers::route::Rule,
};

const LIMIT: Duration = Duration::from_secs(5);

/// Never answers, and leaves no budget to whom else this poll comes to.
async fn spend() -> Result<LlmResponse, LlmError> {
    loop {
        consume_budget().await;
    }
}

fn busy() -> BoxLlmService {
    BoxCloneSyncService::new(service_fn(|_: LlmRequest| spend()))
}

fn other() -> BoxLlmService {
    BoxCloneSyncService::new(service_fn(|_: LlmRequest| async { Ok::<_, LlmError>(LlmResponse::from_text("other")) }))
}

/// A service whose streams spend the budget behind their first text.
fn busy_stream() -> BoxLlmService {
    BoxCloneSyncService::new(service_fn(|_: LlmRequest| async {
        let rest = stream::once(Box::pin(async { spend().await.map(|_| Frame::text("")) }));
        let frames = stream::iter([Ok(Frame::text("hello"))]).chain(rest);
        Ok::<_, LlmError>(LlmResponse::new(LlmBody::from_frames(frames)))
    }))
}

/// Returns the outcome of a call for which twice its limit passes, or `None` if it is still under way.
async fn outcome(mut llm: BoxLlmService, request: LlmRequest) -> Option<Result<String, ErrorKind>> {
    let task = tokio::spawn(async move {
        let answer = async { llm.ready().await?.call(request).await?.text().await };
        answer.await.map_err(|error| error.kind())
    });
    for _ in 0..10 {
        tokio::time::advance(LIMIT / 5).await;
        for _ in 0..100 {
            yield_now().await;
        }
    }
    task.abort();
    task.await.ok()
}

fn around<L>(layer: L, leaf: BoxLlmService) -> BoxLlmService
where
    L: Layer<
            BoxLlmService,
            Service: LlmService + Service<LlmRequest, Error = LlmError> + Clone + Send + Sync + 'static,
        >,
    <L::Service as Service<LlmRequest>>::Future: Send,
{
    BoxCloneSyncService::new(layer.layer(leaf))
}

#[tokio::test(start_paused = true)]
async fn a_limit_of_time_ends_a_call_that_spends_the_budget() {
    let far = LIMIT * 1000;
    // Built when its case begins: a deadline is a moment.
    let plain: fn() -> LlmRequest = || LlmRequest::prompt("hello");
    let streamed: fn() -> LlmRequest = || LlmRequest::prompt("hello").with_stream(true);
    let limited: fn() -> LlmRequest = || LlmRequest::prompt("hello").with_timeout(LIMIT);
    let shared: fn() -> LlmRequest = || LlmRequest::prompt("hello").with_timeout(LIMIT * 2);
    let timeout = Err(ErrorKind::Timeout);
    let from_other = Ok("other".to_owned());
    let fallback = || FallbackLayer::new("a").tier("b", other()).reserve_for_fallbacks(LIMIT);
    let hedge = || HedgeLayer::new("a").after(LIMIT).extra(1.0).tier("b", other());
    let route = RouteLayer::new().rule(Rule::new("small"), busy()).reserve_for_default(LIMIT);
    let cases = [
        ("total", around(TimeoutLayer::new(LIMIT), busy()), plain, &timeout),
        ("first token", around(TimeoutLayer::new(far).first_token(LIMIT), busy()), streamed, &timeout),
        ("outer and inner", around(TimeoutLayer::new(far), around(TimeoutLayer::new(LIMIT), busy())), plain, &timeout),
        ("circuit", around(CircuitBreakerLayer::new("a"), busy()), limited, &timeout),
        ("retry", around(RetryWithJitterLayer::new(), busy()), limited, &timeout),
        ("bulkhead", around(BulkheadLayer::new(), busy()), limited, &timeout),
        ("fallback", around(fallback(), busy()), shared, &from_other),
        ("fallback's deadline", around(FallbackLayer::new("a"), busy()), limited, &timeout),
        ("hedge", around(hedge(), busy()), plain, &from_other),
        ("hedge's deadline", around(HedgeLayer::new("a"), busy()), limited, &timeout),
        ("hedge under a total", around(TimeoutLayer::new(far), around(hedge(), busy())), plain, &from_other),
        ("route", around(route, other()), shared, &from_other),
        ("silence", around(TimeoutLayer::new(far).idle(LIMIT), busy_stream()), streamed, &timeout),
        ("progress", around(TimeoutLayer::new(far).progress(LIMIT, far), busy_stream()), streamed, &timeout),
    ];
    let mut wrong = Vec::new();
    for (limit, llm, request, expected) in cases {
        let request = request();
        let outcome = outcome(llm, request).await;
        if outcome.as_ref() != Some(expected) {
            wrong.push((limit, outcome));
        }
    }
    assert!(wrong.is_empty(), "{wrong:?}");
}
