//! The stack's cost for each single call, and for each event of a stream.

use std::{
    hint::black_box,
    pin::pin,
    task::{Context, Poll, Waker},
    time::{Duration, Instant},
};

use futures_util::stream;
use metrics_exporter_prometheus::PrometheusBuilder;
use steadfast::{Events, Frame, LlmBody, LlmError, LlmRequest, LlmResponse, ObserveLayer, StreamEvent, provider_fn};
use steadfast_subscribers::{StatusBoard, metrics::Metrics};
use tower::{Layer, Service};

use super::quantile;
use crate::{
    measure::{Effort, spread},
    ours::{self, Llm},
    subject::{Answers, Subject},
};

/// The five with events, status and metrics, less what a service without layers takes.
#[derive(Clone, Copy, Debug)]
pub struct Overhead {
    pub p50: Duration,
    pub p99: Duration,
    /// For each event of a stream of a thousand.
    pub event: Duration,
    /// The time of an event without any layer.
    pub bare_event: Duration,
}

const ROUNDS: usize = 9;
const CALLS: usize = 20_000;
const EVENTS: usize = 1000;

/// Single calls by the clock on the wall: of each figure the best of the rounds, for whatever else the machine does can
/// only add.
pub fn overhead(effort: Effort) -> Overhead {
    let rounds = effort.rounds(ROUNDS);
    let (bare50, bare99) = calls(Answers::<Llm>::new(), rounds);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().expect("a runtime");
    let (p50, p99, event, bare_event) = runtime.block_on(async {
        let events = Events::new();
        let recorder = PrometheusBuilder::new().build_recorder();
        let _listens = events.follow((StatusBoard::new("primary"), Metrics::with_recorder(recorder).tier("primary")));
        let stack = ObserveLayer::new(events.clone()).layer(ours::five(Answers::<Llm>::new()));
        let (p50, p99) = calls(stack, rounds);
        // Its texts are empty, so that it never comes to a commit point.
        let leaf = provider_fn(|_: LlmRequest| async { Ok::<_, LlmError>(answer()) }).inner_commits();
        let bare = per_event(leaf, rounds);
        let layered = ObserveLayer::new(events.clone()).layer(ours::five(steadfast::BoxLlmService::new(leaf)));
        (p50, p99, per_event(layered, rounds).saturating_sub(bare), bare)
    });
    Overhead { p50: p50.saturating_sub(bare50), p99: p99.saturating_sub(bare99), event, bare_event }
}

fn calls<S: Service<LlmRequest>>(mut service: S, rounds: usize) -> (Duration, Duration) {
    let mut cx = Context::from_waker(Waker::noop());
    let mut best = (Duration::MAX, Duration::MAX);
    for _ in 0..rounds {
        let mut took = Vec::with_capacity(CALLS);
        for _ in 0..CALLS {
            let request = Llm::request();
            let begun = Instant::now();
            assert!(service.poll_ready(&mut cx).is_ready());
            let Poll::Ready(answer) = pin!(service.call(request)).poll(&mut cx) else { panic!("no answer at once") };
            drop(black_box(answer));
            took.push(begun.elapsed());
        }
        took.sort_unstable();
        best = (best.0.min(quantile(&took, 0.5)), best.1.min(quantile(&took, 0.99)));
    }
    best
}

/// A stream that is there at once.
fn answer() -> LlmResponse {
    let texts =
        (0..EVENTS).map(|_| Ok::<_, LlmError>(Frame::event(StreamEvent::Text { index: 0, text: String::new() })));
    let end = [Ok(Frame::event(StreamEvent::End))];
    LlmResponse::new(LlmBody::from_frames(stream::iter(texts.chain(end).collect::<Vec<_>>())))
}

fn per_event<S>(mut service: S, rounds: usize) -> Duration
where
    S: Service<LlmRequest, Response = LlmResponse>,
{
    let mut cx = Context::from_waker(Waker::noop());
    let mut took = Vec::new();
    for _ in 0..rounds * 20 {
        assert!(service.poll_ready(&mut cx).is_ready());
        let call = pin!(service.call(Llm::request().with_stream(true)));
        let Poll::Ready(Ok(answer)) = call.poll(&mut cx) else { panic!("no answer at once") };
        let mut body = answer.into_body();
        let begun = Instant::now();
        while let Poll::Ready(Some(frame)) = body.poll_frame(&mut cx) {
            drop(black_box(frame));
        }
        took.push(begun.elapsed().as_secs_f64());
    }
    Duration::from_secs_f64(spread(&took).low / EVENTS as f64)
}
