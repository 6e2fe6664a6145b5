//! Number 16: no piece of an answer reaches a reader twice, unless a restart has told it to discard what it had.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    time::Duration,
};

use futures_util::{future::join_all, stream};
use steadfast::{
    BoxLlmService, CacheLayer, CircuitBreakerLayer, CommitOnFirstTokenLayer, CommitPoint, ErrorKind, FallbackLayer,
    Frame, IdempotencyLayer, LlmBody, LlmError, LlmRequest, LlmResponse, RetryWithJitterLayer, StreamEvent,
    TimeoutLayer,
    chat::FinishReason,
    layers::fallback::{FeaturePolicy, StreamBreak},
    provider_fn,
};
use tokio::time::sleep;
use tower::{Service, ServiceBuilder, ServiceExt};

use crate::numbers::scaled;

/// The number of reports of each kind.
#[derive(Debug, Default)]
struct Counts {
    answers: usize,
    whole: usize,
    restarts: usize,
    broken: usize,
    pieces: usize,
}

/// A provider whose answers are numbered pieces (`answer.piece `), and which breaks off, stalls or says no as its seed
/// says.
fn leaf(
    calls: Arc<AtomicUsize>,
    seed: u64,
) -> impl Service<LlmRequest, Response = LlmResponse, Error = LlmError, Future: Send> + Clone + Send + Sync + 'static {
    provider_fn(move |_| {
        let call = calls.fetch_add(1, SeqCst);
        let mut random = fastrand::Rng::with_seed(seed ^ ((call as u64) << 20));
        async move {
            sleep(Duration::from_millis(random.u64(0..50))).await;
            let error = || LlmError::new(ErrorKind::StreamBroken, "scripted");
            if random.u8(0..5) == 0 {
                return Err(error());
            }
            let (pieces, breaks) = (random.usize(1..8), random.u8(0..3));
            let at = random.usize(0..=pieces);
            let frames = stream::unfold((0, random), move |(number, mut random)| async move {
                sleep(Duration::from_millis(random.u64(0..20))).await;
                let frame = match breaks {
                    0 if number == at => Err(error()),
                    0 if number > at => return None,
                    // Nothing more, until a limit ends it.
                    1 if number == at => std::future::pending().await,
                    _ if number < pieces => Ok(Frame::text(format!("{call}.{number} "))),
                    _ if number > pieces => return None,
                    _ => Ok(Frame::events_of(vec![StreamEvent::Finish(FinishReason::Stop), StreamEvent::End])),
                };
                Some((frame, (number + 1, random)))
            });
            Ok(LlmResponse::new(LlmBody::from_frames(frames)))
        }
    })
}

fn stack(seed: u64, policy: StreamBreak, point: CommitPoint) -> BoxLlmService {
    let calls = Arc::new(AtomicUsize::new(0));
    let tier = |name: &'static str| {
        ServiceBuilder::new()
            .layer(RetryWithJitterLayer::new().seed(seed))
            .layer(CommitOnFirstTokenLayer::new().at(point))
            .layer(CircuitBreakerLayer::new(name).consecutive_failures(1000))
            .layer(TimeoutLayer::new(Duration::from_secs(5)).idle(Duration::from_millis(200)))
    };
    let backup = |name| tier(name).service(leaf(calls.clone(), seed));
    let llm = ServiceBuilder::new()
        .layer(TimeoutLayer::new(Duration::from_secs(60)))
        .layer(IdempotencyLayer::new())
        .layer(CacheLayer::new())
        .layer(
            FallbackLayer::new("first")
                .default_policy(FeaturePolicy::new().stream_break(policy))
                .tier("second", backup("second"))
                .tier("third", backup("third")),
        )
        .layer(tier("first").into_inner())
        .service(leaf(calls.clone(), seed));
    BoxLlmService::new(llm)
}

/// Reads an answer as a reader does who trusts it: every piece must be the next of the same answer, and the first after
/// a restart the first of another.
async fn read(llm: BoxLlmService, request: LlmRequest, counts: &mut Counts) {
    counts.answers += 1;
    let Ok(mut response) = llm.oneshot(request).await else { return };
    // The answer that is being read, and its pieces so far.
    let mut reading: Option<(usize, usize)> = None;
    let mut discarded = Vec::new();
    while let Some(frame) = response.body_mut().frame().await {
        let Ok(frame) = frame else {
            counts.broken += 1;
            return;
        };
        for event in frame.events() {
            match event {
                StreamEvent::Restarted { .. } => {
                    counts.restarts += 1;
                    discarded.extend(reading.take().map(|(answer, _)| answer));
                }
                StreamEvent::Text { text, .. } => {
                    for piece in text.split_terminator(' ') {
                        let (answer, number) = piece.split_once('.').unwrap();
                        let piece: (usize, usize) = (answer.parse().unwrap(), number.parse().unwrap());
                        let next = reading.map_or((piece.0, 0), |(answer, number)| (answer, number + 1));
                        assert_eq!(piece, next, "after {reading:?}");
                        assert!(!discarded.contains(&piece.0), "answer {} was broken off before", piece.0);
                        reading = Some(piece);
                        counts.pieces += 1;
                    }
                }
                StreamEvent::End => counts.whole += 1,
                _ => {}
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn no_piece_comes_twice_without_a_restart_that_says_so() {
    let mut counts = Counts::default();
    for seed in 0..scaled(500, 100_000) as u64 {
        let mut random = fastrand::Rng::with_seed(seed);
        let policy =
            [StreamBreak::Fail, StreamBreak::Restart, StreamBreak::Restart, StreamBreak::Buffer][random.usize(..4)];
        let points = [CommitPoint::FirstToken, CommitPoint::FirstEvent, CommitPoint::FirstText, CommitPoint::Complete];
        let llm = stack(seed, policy, points[random.usize(..4)]);
        let restarts = counts.restarts;
        // Several readers of one answer, where the cache or a key makes them so.
        let readers = (0..random.usize(1..4)).map(|reader| {
            let key = if random.bool() { "one".to_owned() } else { reader.to_string() };
            let request = LlmRequest::prompt("hello").with_feature("chat").with_stream(true).with_idempotency_key(key);
            let (llm, late) = (llm.clone(), Duration::from_millis(random.u64(0..100)));
            async move {
                let mut counts = Counts::default();
                sleep(late).await;
                read(llm, request, &mut counts).await;
                counts
            }
        });
        for of_reader in join_all(readers).await {
            counts.answers += of_reader.answers;
            counts.whole += of_reader.whole;
            counts.restarts += of_reader.restarts;
            counts.broken += of_reader.broken;
            counts.pieces += of_reader.pieces;
        }
        assert!(policy == StreamBreak::Restart || counts.restarts == restarts, "{policy:?} restarts nothing");
    }
    println!("number 16: {counts:?}: no piece came twice but after a restart");
    assert!(counts.whole > counts.answers / 3 && counts.restarts > 100 && counts.broken > 100, "{counts:?}");
}
