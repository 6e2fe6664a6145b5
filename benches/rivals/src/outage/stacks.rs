//! The stacks that are drilled, each set up as its documentation says, with the same limits.

use std::{pin::Pin, time::Duration};

use seatbelt::{
    RecoveryInfo, ResilienceContext,
    breaker::{Breaker, HalfOpenMode},
    fallback::Fallback,
    retry::Retry,
    timeout::Timeout,
};
use steadfast::{
    CircuitBreakerLayer, ErrorKind, FallbackLayer, LlmError, LlmRequest, LlmResponse, RetryBudget,
    RetryWithJitterLayer, TimeoutLayer,
    layers::{fallback::FeaturePolicy, retry::Backoff},
    provider_fn,
};
use tick::Clock;
use tower::{BoxError, Layer, ServiceBuilder, service_fn};
use tower_resilience::{
    circuitbreaker::{CircuitBreakerError, CircuitBreakerLayer as ResilienceBreaker},
    fallback::FallbackLayer as ResilienceFallback,
    retry::RetryLayer,
    timelimiter::TimeLimiterLayer,
};

use super::{
    ATTEMPT, BACKOFF, COOLDOWN, Drilled, Fault, TOTAL, drill,
    provider::{Provider, Side, Wrong},
    scaled,
};

type Drilling = Pin<Box<dyn Future<Output = Drilled> + Send>>;
type Drill = fn(Fault, Duration) -> Drilling;

pub(super) struct Stack {
    pub(super) who: &'static str,
    pub(super) drill: Drill,
}

pub(super) fn all() -> Vec<Stack> {
    vec![
        Stack { who: "tower-resilience: fallback, retry, breaker, time limit", drill: resilience },
        Stack { who: "seatbelt: fallback, retry, breaker, timeout", drill: seatbelt },
        #[cfg(feature = "liter-llm")]
        Stack { who: "liter-llm: fallback", drill: liter::fallback },
        #[cfg(feature = "liter-llm")]
        Stack { who: "liter-llm: fallback, circuit", drill: liter::with_circuit },
        Stack { who: OURS, drill: ours },
    ]
}

pub const OURS: &str = "steadfast: fallback, retry, breaker, timeout";

fn ours(fault: Fault, length: Duration) -> Drilling {
    let leaf = |provider: Provider| {
        provider_fn(move |_: LlmRequest| {
            let call = provider.clone().call(false);
            async move {
                match call.await {
                    Ok(Side::Primary) => Ok(LlmResponse::from_text("primary")),
                    Ok(Side::Backup) => Ok(LlmResponse::from_text("backup")),
                    Err(_) => Err(LlmError::new(ErrorKind::Overloaded, "too much load")),
                }
            }
        })
    };
    let primary = Provider::primary(fault, length);
    // The defaults, as fast as all here. After a silence the default cooldown is twice the wait.
    let circuit = CircuitBreakerLayer::new("primary");
    let circuit = match fault {
        Fault::Errors => circuit.cooldown(scaled(1_000)).cooldown_growth(2.0, scaled(8_000)),
        Fault::Silence => circuit.cooldown(ATTEMPT * 2),
    };
    let budget = RetryBudget::with_limits(0.1, f64::from(super::SCALE), 100).expect("a valid budget");
    let stack = ServiceBuilder::new()
        .layer(TimeoutLayer::new(TOTAL))
        .layer(
            FallbackLayer::new("primary")
                .tier("backup", leaf(Provider::backup()))
                .default_policy(FeaturePolicy::new().min_useful(scaled(100)))
                .reserve_for_fallbacks(scaled(10_000)),
        )
        .layer(
            RetryWithJitterLayer::new()
                .budget(budget)
                .schedule(ErrorKind::Overloaded, Backoff::new(BACKOFF).factor(1.5)),
        )
        .layer(circuit)
        .layer(TimeoutLayer::new(ATTEMPT))
        .service(leaf(primary.clone()));
    fn by(answer: &LlmResponse) -> Side {
        if answer.served_by().tier == Some("backup") { Side::Backup } else { Side::Primary }
    }
    Box::pin(drill(stack, || LlmRequest::prompt("Hello."), by, primary))
}

/// A provider as the others call it.
async fn plain(provider: Provider) -> Result<Side, BoxError> {
    provider.call(false).await.map_err(|wrong| format!("{wrong:?}").into())
}

fn resilience(fault: Fault, length: Duration) -> Drilling {
    let primary = Provider::primary(fault, length);
    let of_leaf = primary.clone();
    let backup = Provider::backup();
    let inner = service_fn(move |(): ()| plain(of_leaf.clone()));
    let inner = TimeLimiterLayer::builder().timeout_duration(ATTEMPT).build().layer(inner);
    let breaker = ResilienceBreaker::builder().consecutive_failures(5).wait_duration_in_open(COOLDOWN);
    let inner = breaker.permitted_calls_in_half_open(1).build().expect("a valid breaker").layer(inner);
    // The stack does not retry the refusal of an open circuit, as its documentation recommends.
    let retry = RetryLayer::builder()
        .max_attempts(3)
        .exponential_backoff(BACKOFF)
        .retry_on(|error: &CircuitBreakerError<_>| !error.is_circuit_open());
    let inner = retry.build().layer(inner);
    let stack = ResilienceFallback::tower_service(service_fn(move |(): ()| plain(backup.clone()))).layer(inner);
    Box::pin(drill(stack, || (), |side| *side, primary))
}

/// The outcome of a call of seatbelt's stack.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ended {
    Wrong,
    Late,
    Open,
}

fn seatbelt(fault: Fault, length: Duration) -> Drilling {
    let primary = Provider::primary(fault, length);
    let of_leaf = primary.clone();
    let backup = Provider::backup();
    let context: ResilienceContext<(), Result<Side, Ended>> = ResilienceContext::new(Clock::new_tokio());
    let inner = service_fn(move |(): ()| {
        let call = of_leaf.clone().call(false);
        async move { call.await.map_err(|_: Wrong| Ended::Wrong) }
    });
    let timeout = Timeout::layer("timeout", &context).timeout(ATTEMPT).timeout_error(|_| Ended::Late);
    let breaker = Breaker::layer("breaker", &context)
        .recovery_with(|result: &Result<Side, Ended>, _| recovery(result))
        .rejected_input_error(|(), _| Ended::Open)
        .min_throughput(5)
        .break_duration(COOLDOWN)
        .half_open_mode(HalfOpenMode::quick());
    let retry = Retry::layer("retry", &context)
        .clone_input()
        .recovery_with(|result: &Result<Side, Ended>, _| recovery(result))
        .max_retry_attempts(2)
        .base_delay(BACKOFF);
    let fallback = Fallback::layer("fallback", &context)
        .should_fallback(|result: &Result<Side, Ended>| result.is_err())
        .fallback_async(move |_, _| {
            let call = backup.clone().call(false);
            async move { call.await.map_err(|_| Ended::Wrong) }
        });
    let stack = fallback.layer(retry.layer(breaker.layer(timeout.layer(inner))));
    Box::pin(drill(stack, || (), |side| *side, primary))
}

fn recovery(result: &Result<Side, Ended>) -> RecoveryInfo {
    match result {
        Err(Ended::Wrong | Ended::Late) => RecoveryInfo::retry(),
        Ok(_) | Err(Ended::Open) => RecoveryInfo::never(),
    }
}

#[cfg(feature = "liter-llm")]
mod liter {
    use liter_llm::{
        ChatCompletionResponse, LiterLlmError,
        tower::types::{LlmRequest, LlmResponse},
    };
    use tower::{Service, service_fn};

    use super::{COOLDOWN, Drilling, Duration, Fault, Provider, Side, Wrong, drill};
    use crate::{
        rivals::liter::{Liter, breaker_after, fallback_to},
        subject::Subject,
    };

    /// A client that gives up by itself, for there is no layer that does.
    fn leaf(
        provider: Provider,
    ) -> impl Service<LlmRequest, Response = LlmResponse, Error = LiterLlmError, Future: Send> + Clone + Send + 'static
    {
        service_fn(move |_: LlmRequest| {
            let call = provider.clone().call(true);
            async move {
                match call.await {
                    Ok(side) => Ok(LlmResponse::Chat(ChatCompletionResponse {
                        model: format!("{side:?}"),
                        ..ChatCompletionResponse::default()
                    })),
                    Err(Wrong::Late) => Err(LiterLlmError::Timeout),
                    Err(Wrong::Overloaded) => Err(LiterLlmError::ServiceUnavailable {
                        message: "too much load".into(),
                        status: 503,
                        retry_after: None,
                    }),
                }
            }
        })
    }

    fn by(answer: &LlmResponse) -> Side {
        match answer {
            LlmResponse::Chat(chat) if chat.model == "Primary" => Side::Primary,
            _ => Side::Backup,
        }
    }

    pub(super) fn fallback(fault: Fault, length: Duration) -> Drilling {
        let primary = Provider::primary(fault, length);
        let stack = fallback_to(leaf(Provider::backup()), leaf(primary.clone()));
        Box::pin(drill(stack, Liter::request, by, primary))
    }

    pub(super) fn with_circuit(fault: Fault, length: Duration) -> Drilling {
        let primary = Provider::primary(fault, length);
        let stack = fallback_to(leaf(Provider::backup()), breaker_after(COOLDOWN, leaf(primary.clone())));
        Box::pin(drill(stack, Liter::request, by, primary))
    }
}
