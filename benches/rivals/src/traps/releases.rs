//! The resources that are given back, and the time of it.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    time::Duration,
};

use steadfast::{
    ErrorKind, Frame, LlmBody, LlmError, LlmRequest, LlmResponse, RetryWithJitterLayer, StreamEvent, provider_fn,
};
use tower::{Layer, Service, ServiceExt};
use tower_resilience::retry::RetryLayer;

use super::{Case, OURS, Trap, Verdict};
use crate::{
    ours,
    rivals::{resilience, tower as towers},
    subject::{Small, SmallError, SmallRequest, Subject},
};

pub(super) fn traps() -> Vec<Trap> {
    vec![
        Trap {
            id: "held-in-backoff",
            says: "while a retry waits, nothing of the failed attempt is held",
            cases: vec![
                Case::new("tower-resilience", || {
                    held(|guards| {
                        let layer = RetryLayer::<SmallRequest, Guard, SmallError>::builder()
                            .max_attempts(2)
                            .fixed_backoff(BACKOFF)
                            .retry_on_response(|_: &Guard| true)
                            .build();
                        layer.layer(guarded(guards))
                    })
                }),
                Case::new("seatbelt", || {
                    held(|guards| {
                        let context = seatbelt::ResilienceContext::new(tick::Clock::new_tokio());
                        let layer = seatbelt::retry::Retry::layer("retry", &context)
                            .clone_input()
                            .recovery_with(|_: &Result<Guard, SmallError>, _| seatbelt::RecoveryInfo::retry())
                            .max_retry_attempts(1)
                            .base_delay(BACKOFF)
                            .use_jitter(false);
                        layer.layer(guarded(guards))
                    })
                }),
                Case::new(OURS, our_backoff),
            ],
        },
        Trap {
            id: "stream-holds-place",
            says: "with one place, a second call begins only when the first stream is over",
            cases: vec![
                Case::new("tower", || second_stream(|inner| towers::limit(1, inner))),
                Case::new("tower-resilience", || second_stream(|inner| resilience::refusing_bulkhead(1, inner))),
                #[cfg(feature = "liter-llm")]
                Case::new("liter-llm", liter_stream),
                Case::new(OURS, || second_stream(|inner| ours::bulkhead(1, inner))),
            ],
        },
    ]
}

const BACKOFF: Duration = Duration::from_millis(200);

/// A socket, a body, a place: what an attempt holds as long as it is not dropped.
struct Guard(Arc<AtomicUsize>);

impl Guard {
    fn new(guards: &Arc<AtomicUsize>) -> Self {
        guards.fetch_add(1, SeqCst);
        Self(guards.clone())
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        self.0.fetch_sub(1, SeqCst);
    }
}

fn guarded(
    guards: Arc<AtomicUsize>,
) -> impl Service<SmallRequest, Response = Guard, Error = SmallError, Future: Send> + Clone + Send + Sync + 'static {
    tower::service_fn(move |_: SmallRequest| {
        let guard = Guard::new(&guards);
        async move { Ok(guard) }
    })
}

/// Returns the number of places that are held in the middle of the wait before the second try.
fn held<S>(make: impl Fn(Arc<AtomicUsize>) -> S) -> Verdict
where
    S: Service<SmallRequest, Future: Send> + Send + 'static,
{
    super::block_on(async {
        let guards = Arc::new(AtomicUsize::new(0));
        let call = make(guards.clone()).oneshot(Small::request());
        in_the_middle(call, &guards).await
    })
}

fn our_backoff() -> Verdict {
    super::block_on(async {
        let guards = Arc::new(AtomicUsize::new(0));
        let of_leaf = guards.clone();
        let leaf = provider_fn(move |_: LlmRequest| {
            let guard = Guard::new(&of_leaf);
            async move {
                let _connection = guard;
                Err::<LlmResponse, _>(LlmError::new(ErrorKind::Overloaded, "too much load").with_retry_after(BACKOFF))
            }
        });
        let call = RetryWithJitterLayer::new().max_attempts(2).layer(leaf).oneshot(LlmRequest::prompt("Hello."));
        in_the_middle(call, &guards).await
    })
}

async fn in_the_middle<F: Future>(call: F, guards: &AtomicUsize) -> Verdict {
    let mut call = std::pin::pin!(call);
    if tokio::time::timeout(BACKOFF / 2, &mut call).await.is_ok() {
        return Verdict::new(false, "it does not wait");
    }
    let held = guards.load(SeqCst);
    Verdict::new(held == 0, format!("{held} held in the middle of the wait"))
}

/// Streams that begin and never end.
fn endless() -> LlmResponse {
    use futures_util::StreamExt as _;

    let first = Frame::event(StreamEvent::Text { index: 0, text: "Once".to_owned() });
    let frames = futures_util::stream::iter([Ok::<_, LlmError>(first)]).chain(futures_util::stream::pending());
    LlmResponse::new(LlmBody::from_frames(frames))
}

fn second_stream<S, E>(make: impl Fn(steadfast::BoxLlmService) -> S) -> Verdict
where
    S: Service<LlmRequest, Response = LlmResponse, Error = E>,
{
    super::block_on(async {
        let leaf = steadfast::BoxLlmService::new(provider_fn(|_: LlmRequest| async { Ok::<_, LlmError>(endless()) }));
        let mut service = make(leaf);
        let mut call = async || {
            let ready = service.ready().await.ok()?;
            ready.call(LlmRequest::prompt("Hello.").with_feature("chat").with_stream(true)).await.ok()
        };
        judge(async move {
            let first = call().await?;
            let second = tokio::time::timeout(Duration::from_millis(50), call()).await;
            let early = matches!(second, Ok(Some(_)));
            drop((first, second));
            let after = tokio::time::timeout(Duration::from_millis(50), call()).await;
            Some((early, matches!(after, Ok(Some(_)))))
        })
        .await
    })
}

/// Judges whether a second call was let in while the first was there, and whether one was after it.
async fn judge(calls: impl Future<Output = Option<(bool, bool)>>) -> Verdict {
    match calls.await {
        Some((false, true)) => Verdict::new(true, "the second waited for the first one's end"),
        Some((true, _)) => Verdict::new(false, "two streams at once"),
        Some((false, false)) => Verdict::new(false, "the place did not come back"),
        None => Verdict::new(false, "the first call failed"),
    }
}

#[cfg(feature = "liter-llm")]
fn liter_stream() -> Verdict {
    use crate::rivals::liter::{self, Liter};
    use liter_llm::{
        LiterLlmError,
        tower::types::{LlmRequest, LlmResponse},
    };

    super::block_on(async {
        let leaf = tower::service_fn(|_: LlmRequest| async {
            Ok::<_, LiterLlmError>(LlmResponse::ChatStream(Box::pin(futures_util::stream::pending())))
        });
        let mut service = liter::limit(1, leaf);
        let request = || match Liter::request().kind {
            liter_llm::tower::types::LlmRequestKind::Chat(chat) => LlmRequest::ChatStream(chat),
            _ => Liter::request(),
        };
        let mut call = async || service.ready().await.ok()?.call(request()).await.ok();
        judge(async move {
            let Some(first) = call().await else { return None };
            let second = tokio::time::timeout(Duration::from_millis(50), call()).await;
            let early = matches!(second, Ok(Some(_)));
            drop((first, second));
            let after = tokio::time::timeout(Duration::from_millis(50), call()).await;
            Some((early, matches!(after, Ok(Some(_)))))
        })
        .await
    })
}
