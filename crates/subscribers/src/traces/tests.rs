use opentelemetry::{
    Value,
    trace::{SpanId, TracerProvider},
};
use opentelemetry_sdk::trace::{InMemorySpanExporter, Sampler, SdkTracerProvider, SpanData};

use super::*;
use crate::testing::{answered, failed};
use steadfast::{body::Delivery, ledger::Next};

const SECOND: Duration = Duration::from_secs(1);

/// Returns the spans of a request, its own first.
fn spans(request: RequestEnded) -> Vec<SpanData> {
    let exporter = InMemorySpanExporter::default();
    let provider = SdkTracerProvider::builder().with_simple_exporter(exporter.clone()).build();
    Traces::new(provider.tracer("steadfast")).event(&Event::RequestEnded(request));
    let mut spans = exporter.get_finished_spans().unwrap();
    spans.rotate_right(1);
    spans
}

fn attribute(span: &SpanData, name: &str) -> Option<Value> {
    span.attributes.iter().find(|attribute| attribute.key.as_str() == name).map(|attribute| attribute.value.clone())
}

fn lasted(span: &SpanData) -> Duration {
    span.end_time.duration_since(span.start_time).unwrap()
}

/// Returns a request that sonnet failed, a closed circuit refused, and gpt answered: 1 s, then a second to the first
/// token, and two more to the end.
fn rescued() -> RequestEnded {
    let begun = Instant::now();
    let mut first = failed("sonnet", ErrorKind::Server, Next::FailedOver);
    (first.begun, first.took, first.status) = (begun, SECOND, Some(http::StatusCode::BAD_GATEWAY));
    (first.provider, first.model) = (Some("anthropic".into()), Some("claude".into()));
    first.message = "the user asked about secrets".into();
    let mut refused = failed("haiku", ErrorKind::CircuitOpen, Next::FailedOver);
    refused.begun = begun + SECOND;
    RequestEnded {
        failures: Some([first, refused].into()),
        first_token: SECOND * 2,
        took: SECOND * 4,
        at: begun + SECOND * 4,
        ..answered("gpt", "gemini", "gemini-flash")
    }
}

#[tokio::test(start_paused = true)]
async fn a_request_is_a_span_with_one_below_it_for_each_call() {
    let request = rescued();
    tokio::time::advance(SECOND * 10).await;
    let spans = spans(request);
    let [request, dead, served] = &spans[..] else { panic!("{spans:?}") };
    assert_eq!((request.name.as_ref(), request.span_kind.clone()), ("steadfast.request", SpanKind::Internal));
    assert_eq!(request.parent_span_id, SpanId::INVALID);
    assert_eq!((dead.name.as_ref(), served.name.as_ref()), ("chat claude", "chat gemini-flash"));
    for call in [dead, served] {
        assert_eq!((call.parent_span_id, call.span_kind.clone()), (request.span_context.span_id(), SpanKind::Client));
        assert_eq!(call.span_context.trace_id(), request.span_context.trace_id());
    }

    assert_eq!((lasted(request), lasted(dead), lasted(served)), (SECOND * 4, SECOND, SECOND * 3));
    assert_eq!(dead.start_time, request.start_time);
    assert_eq!(served.start_time.duration_since(request.start_time).unwrap(), SECOND);
    assert_eq!(served.end_time, request.end_time);

    assert_eq!(attribute(request, names::ATTEMPTS), Some(2.into()));
    assert_eq!(attribute(request, names::OUTCOME), Some("answered".into()));
    assert_eq!(attribute(request, names::FEATURE), Some("chat".into()));
    assert_eq!(attribute(dead, names::ERROR), Some("server".into()));
    assert_eq!(attribute(dead, names::STATUS), Some(502.into()));
    assert_eq!(dead.status, Status::error("server"));
    assert_eq!(attribute(served, names::PROVIDER), Some("gcp.gemini".into()));
    assert_eq!(attribute(served, names::INPUT_TOKENS), Some(1000.into()));
    assert_eq!(attribute(served, names::FIRST_CHUNK), Some(1.0.into()));
    assert_eq!(attribute(served, names::ATTEMPT_NUMBER), Some(2.into()));
    assert_eq!((served.status.clone(), request.status.clone()), (Status::Unset, Status::Unset));

    let [refused] = &request.events.events[..] else { panic!("{:?}", request.events) };
    assert_eq!(refused.name, names::REFUSED);
    assert!(refused.attributes.contains(&KeyValue::new(names::TIER, "haiku")));
    assert!(!format!("{spans:?}").contains("secrets"), "no provider's words");
}

#[tokio::test(start_paused = true)]
async fn what_fails_breaks_or_is_left_shows_as_that() {
    let broken = RequestOutcome::Broken(ErrorKind::StreamBroken);
    let delivered = Some(Arc::new(Delivery { characters: 18, frames: 2, ..Delivery::default() }));
    let all = spans(RequestEnded { outcome: broken, delivered, ..answered("sonnet", "anthropic", "claude") });
    assert_eq!(attribute(&all[0], names::DELIVERED_FRAMES), Some(2.into()));
    assert_eq!(attribute(&all[0], names::DELIVERED_CHARACTERS), Some(18.into()));
    for span in &all {
        assert_eq!(span.status, Status::error("stream_broken"));
        assert_eq!(attribute(span, names::ERROR), Some("stream_broken".into()));
    }
    assert_eq!(all.len(), 2);

    let unanswered = RequestOutcome::Failed(ErrorKind::Server);
    let all = spans(RequestEnded { outcome: unanswered, tier: None, ..rescued() });
    assert_eq!(all.len(), 2, "the request and the call that failed");
    assert_eq!(all[0].status, Status::error("server"));

    let all = spans(RequestEnded { outcome: RequestOutcome::Abandoned, stream: false, ..answered("", "", "") });
    assert_eq!((all.len(), all[0].status.clone()), (1, Status::Unset));
}

#[tokio::test(start_paused = true)]
async fn what_is_not_sampled_has_no_spans_below() {
    let exporter = InMemorySpanExporter::default();
    let provider =
        SdkTracerProvider::builder().with_sampler(Sampler::AlwaysOff).with_simple_exporter(exporter.clone()).build();
    Traces::new(provider.tracer("steadfast")).event(&Event::RequestEnded(rescued()));
    assert!(exporter.get_finished_spans().unwrap().is_empty());
}
