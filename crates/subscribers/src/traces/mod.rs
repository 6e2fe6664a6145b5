//! OpenTelemetry spans of requests and their attempts. Feature `otel`.
//!
//! [`Traces`] is a [`Subscriber`]. For a request that ended it gives a tracer of your choice one span for the request,
//! and below it one `CLIENT` span for each call sent to a provider, retries and failed tiers included. Each span has
//! its own beginning and end. A refusal before sending (an open circuit, a full bulkhead) is an event of the request's
//! span. The SDK does sampling and export.
//!
//! - **Names.** The GenAI semantic conventions' ([`names`]) where they have one, `steadfast.*` elsewhere.
//! - **Content.** No span contains a word of a request or an answer.
//! - **Parents.** Spans are made after the fact, from events without the caller's trace: each request is a trace of its
//!   own.
//!
//! # Example
//!
//! ```
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() {
//! use opentelemetry::trace::TracerProvider;
//! use opentelemetry_sdk::trace::{InMemorySpanExporter, SdkTracerProvider};
//! use steadfast::{Events, LlmRequest, ObserveLayer, providers::Canned};
//! use steadfast_subscribers::traces::Traces;
//! use tower::{Layer, ServiceExt};
//!
//! let spans = InMemorySpanExporter::default(); // in an application: OTLP
//! let provider = SdkTracerProvider::builder().with_simple_exporter(spans.clone()).build();
//!
//! let events = Events::new();
//! let _subscription = events.follow(Traces::new(provider.tracer("steadfast")));
//! let llm = ObserveLayer::new(events).layer(Canned::text("hello"));
//! llm.oneshot(LlmRequest::prompt("Say hello.").with_feature("chat")).await.unwrap();
//! # tokio::task::yield_now().await;
//!
//! let spans = spans.get_finished_spans().unwrap();
//! assert_eq!(spans.len(), 2); // the attempt, then the request
//! # }
//! ```

pub mod names;
#[cfg(test)]
mod tests;

use std::{
    fmt,
    sync::Arc,
    time::{Duration, SystemTime},
};

use opentelemetry::{
    Context, KeyValue, StringValue,
    trace::{Span, SpanBuilder, SpanKind, Status, TraceContextExt, Tracer},
};
use tokio::time::Instant;

use super::conventions;
use steadfast::{
    Attempt, ErrorKind,
    chat::Usage,
    events::{Event, RequestEnded, RequestOutcome, Subscriber},
};
use steadfast_internal::wall_clock;

/// A subscriber that gives each ended request to a tracer. See the [module docs](self).
pub struct Traces<T> {
    tracer: T,
}

impl<T: Tracer> Traces<T> {
    /// Creates traces with this tracer.
    pub fn new(tracer: T) -> Self {
        Self { tracer }
    }

    fn request(&self, request: &RequestEnded) {
        let clock = Clock::now();
        let mut attributes = vec![
            KeyValue::new(names::OPERATION, names::CHAT),
            KeyValue::new(names::OUTCOME, request.outcome.name()),
            KeyValue::new(names::ATTEMPTS, i64::try_from(request.attempts()).unwrap_or(i64::MAX)),
            KeyValue::new(names::STREAM, request.stream),
        ];
        let named = [
            (names::FEATURE, &request.feature),
            (names::TIER, &request.tier),
            (names::RESPONSE_MODEL, &request.model),
            (names::ROUTE, &request.route),
        ];
        attributes.extend(named.into_iter().filter_map(|(name, value)| text(name, value.as_ref())));
        if let Some(degraded) = request.degraded {
            attributes.extend([
                KeyValue::new(names::DEGRADED, true),
                KeyValue::new(names::DEGRADED_LEVEL, i64::from(degraded.level)),
                KeyValue::new(names::DEGRADED_REASON, degraded.reason.name()),
            ]);
        }
        if let Some(cost) = request.cost {
            attributes.push(KeyValue::new(names::COST, cost.dollars()));
        }
        if let Some(delivered) = &request.delivered {
            let number = |count: u64| i64::try_from(count).unwrap_or(i64::MAX);
            attributes.extend([
                KeyValue::new(names::DELIVERED_FRAMES, number(delivered.frames)),
                KeyValue::new(names::DELIVERED_CHARACTERS, number(delivered.characters)),
            ]);
        }
        let failure = request.outcome.kind();
        attributes.extend(failure.map(error));
        let begun = request.at.checked_sub(request.took).unwrap_or(request.at);
        let alone = Context::new();
        let mut span = self.tracer.build_with_context(
            SpanBuilder::from_name(names::REQUEST)
                .with_kind(SpanKind::Internal)
                .with_start_time(clock.date(begun))
                .with_attributes(attributes),
            &alone,
        );
        if span.is_recording() {
            self.attempts(request, begun, &mut span, clock);
        }
        if let Some(kind) = failure {
            span.set_status(Status::error(kind.name()));
        }
        span.end_with_timestamp(clock.date(request.at));
    }

    /// Builds the spans below a request's.
    fn attempts(&self, request: &RequestEnded, begun: Instant, span: &mut T::Span, clock: Clock) {
        let below = Context::new().with_remote_span_context(span.span_context().clone());
        let mut number = 0;
        for step in request.failures.as_deref().unwrap_or_default() {
            let Some(kind) = step.failure else { continue };
            if step.is_local() {
                let tier = text(names::TIER, step.tier.as_ref());
                let attributes = [Some(error(kind)), tier].into_iter().flatten().collect();
                span.add_event_with_timestamp(names::REFUSED, clock.date(step.begun), attributes);
                continue;
            }
            number += 1;
            let mut attributes = called([&step.tier, &step.provider, &step.model], number, step.usage.as_ref());
            attributes.push(error(kind));
            attributes.push(KeyValue::new(names::NEXT, step.next.to_string()));
            attributes.extend(step.status.map(|status| KeyValue::new(names::STATUS, i64::from(status.as_u16()))));
            self.attempt(step.model.as_ref(), [step.begun, ended(step)], Some(kind), attributes, &below, clock);
        }
        if request.is_served() {
            number += 1;
            let leaf = [&request.tier, &request.provider, &request.model];
            let mut attributes = called(leaf, number, request.usage.as_ref());
            if request.stream {
                attributes.push(KeyValue::new(names::FIRST_CHUNK, request.served_in.as_secs_f64()));
            }
            // The response came with the first token, after this much time.
            let answered = begun.checked_add(request.first_token).unwrap_or(request.at);
            let from = answered.checked_sub(request.served_in).unwrap_or(begun);
            let failure = match request.outcome {
                RequestOutcome::Broken(kind) => Some(kind),
                _ => None,
            };
            attributes.extend(failure.map(error));
            self.attempt(request.model.as_ref(), [from, request.at], failure, attributes, &below, clock);
        }
    }

    fn attempt(
        &self,
        model: Option<&Arc<str>>,
        [from, to]: [Instant; 2],
        failure: Option<ErrorKind>,
        attributes: Vec<KeyValue>,
        below: &Context,
        clock: Clock,
    ) {
        // The conventions' name of such a span: the operation and the model.
        let builder = match model {
            Some(model) => SpanBuilder::from_name(format!("{} {model}", names::CHAT)),
            None => SpanBuilder::from_name(names::CHAT),
        };
        let builder = builder.with_kind(SpanKind::Client).with_start_time(clock.date(from)).with_attributes(attributes);
        let mut span = self.tracer.build_with_context(builder, below);
        if let Some(kind) = failure {
            span.set_status(Status::error(kind.name()));
        }
        span.end_with_timestamp(clock.date(to));
    }
}

impl<T: Tracer + Send + 'static> Subscriber for Traces<T> {
    fn event(&mut self, event: &Event) {
        if let Event::RequestEnded(request) = event {
            self.request(request);
        }
    }
}

impl<T> fmt::Debug for Traces<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Traces").finish_non_exhaustive()
    }
}

/// Returns the attributes that all calls to providers have.
fn called([tier, provider, model]: [&Option<Arc<str>>; 3], number: i64, usage: Option<&Usage>) -> Vec<KeyValue> {
    let mut attributes =
        vec![KeyValue::new(names::OPERATION, names::CHAT), KeyValue::new(names::ATTEMPT_NUMBER, number)];
    let provider = provider.as_ref().map(|provider| match conventions::provider(provider) {
        Some(conventional) => KeyValue::new(names::PROVIDER, conventional),
        None => KeyValue::new(names::PROVIDER, StringValue::from(provider.clone())),
    });
    attributes.extend(provider);
    attributes.extend(text(names::REQUEST_MODEL, model.as_ref()));
    attributes.extend(text(names::TIER, tier.as_ref()));
    if let Some(usage) = usage {
        let tokens = |count: u64| i64::try_from(count).unwrap_or(i64::MAX);
        attributes.push(KeyValue::new(names::INPUT_TOKENS, tokens(usage.input)));
        attributes.push(KeyValue::new(names::OUTPUT_TOKENS, tokens(usage.output)));
    }
    attributes
}

fn text(name: &'static str, value: Option<&Arc<str>>) -> Option<KeyValue> {
    Some(KeyValue::new(name, StringValue::from(value?.clone())))
}

fn error(kind: ErrorKind) -> KeyValue {
    KeyValue::new(names::ERROR, kind.name())
}

fn ended(step: &Attempt) -> Instant {
    step.begun.checked_add(step.took).unwrap_or(step.begun)
}

/// Both clocks at one moment, so that all spans of a request have consistent dates.
#[derive(Clone, Copy)]
struct Clock {
    now: Instant,
    date: SystemTime,
}

impl Clock {
    fn now() -> Self {
        Self { now: Instant::now(), date: wall_clock::now() }
    }

    fn date(self, at: Instant) -> SystemTime {
        let ago: Duration = self.now.saturating_duration_since(at);
        self.date.checked_sub(ago).unwrap_or(self.date)
    }
}
