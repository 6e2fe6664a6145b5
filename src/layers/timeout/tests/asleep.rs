//! Tests of limits that pass while the machine is asleep: after a sleep, all timers fire at once.

use tower::util::BoxCloneService;

use super::*;
use crate::{CircuitBreakerLayer, FallbackLayer, events::CircuitState};

type Llm = BoxCloneService<LlmRequest, LlmResponse, LlmError>;

/// Calls a model, and reads the answer to its end.
async fn called(llm: Llm, deadline: Option<Duration>) {
    let mut request = asked().with_stream(true);
    if let Some(limit) = deadline {
        request = request.with_timeout(limit);
    }
    if let Ok(response) = llm.oneshot(request).await {
        let _broken = response.collect().await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_limit_that_passes_in_a_sleep_opens_no_circuit() {
    type Stack = fn(CircuitBreakerLayer, Strict) -> Llm;
    let silent = || Strict::new().takes(secs(100_000));
    let rows: [(&str, Strict, Option<Duration>, Stack); 5] = [
        ("an attempt's", silent(), None, |breaker, model| BoxCloneService::new(breaker.layer(limited(30, model)))),
        ("the call's", silent(), None, |breaker, model| BoxCloneService::new(limited(30, breaker.layer(model)))),
        ("a caller's", silent(), Some(secs(30)), |breaker, model| {
            BoxCloneService::new(limited(60, breaker.layer(model)))
        }),
        ("a tier's", silent(), Some(secs(60)), |breaker, model| {
            let fallback = FallbackLayer::new("a").reserve_for_fallbacks(secs(30)).tier("b", Strict::new());
            BoxCloneService::new(fallback.layer(breaker.layer(model)))
        }),
        ("a stream's", Strict::new(), None, |breaker, _| {
            BoxCloneService::new(breaker.layer(TimeoutLayer::new(secs(90)).idle(secs(30)).layer(stalling())))
        }),
    ];
    for (name, model, deadline, stack) in rows {
        for sleeps in [false, true] {
            let breaker = CircuitBreakerLayer::new("a").consecutive_failures(1);
            let handle = breaker.handle();
            let call = tokio::spawn(called(stack(breaker, model.clone()), deadline));
            sleep(secs(1)).await;
            if sleeps {
                advance(secs(3600)).await;
            }
            call.await.unwrap();
            let expected = if sleeps { CircuitState::Closed } else { CircuitState::Open };
            assert_eq!(handle.state(), expected, "{name}, in a sleep: {sleeps}");
        }
    }
}
