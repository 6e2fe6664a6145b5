mod bounds;
mod callers;
mod candidates;
mod compared;

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use futures_util::stream;
use tokio::{
    sync::broadcast::Receiver,
    time::{Instant, sleep},
};
use tower::{Service, ServiceExt};

use super::{Comparison, ComparisonSkipReason, MirrorHandle, MirrorLayer};
use crate::{
    ErrorKind, Event, Events, Frame, LlmBody, LlmError, LlmRequest, LlmResponse, StreamEvent,
    chat::{FinishReason, Usage},
    events::RequestOutcome,
    layers::testing::Strict,
    provider_fn,
};

const SECOND: Duration = Duration::from_secs(1);

/// A sink that records comparisons.
#[derive(Clone, Default)]
struct RecordingSink(Arc<Mutex<Vec<Comparison>>>);

impl RecordingSink {
    fn hears(&self, layer: MirrorLayer) -> MirrorLayer {
        let told = self.clone();
        layer.compare(move |comparison| told.0.lock().unwrap().push(comparison))
    }

    fn all(&self) -> Vec<Comparison> {
        self.0.lock().unwrap().clone()
    }

    /// Returns the only comparison, once its task has ended.
    async fn one(&self, handle: &MirrorHandle) -> Comparison {
        ended(handle).await;
        let [one] = <[Comparison; 1]>::try_from(self.all()).unwrap();
        one
    }
}

/// Mirrors every request.
fn mirror(candidate: impl Llm) -> (MirrorLayer, RecordingSink, MirrorHandle) {
    let told = RecordingSink::default();
    let layer = told.hears(MirrorLayer::new(candidate).share(1.0));
    let handle = layer.handle();
    (layer, told, handle)
}

trait Llm:
    Service<LlmRequest, Response = LlmResponse, Error: Into<LlmError>, Future: Send> + Clone + Send + Sync + 'static
{
}
impl<S> Llm for S where
    S: Service<LlmRequest, Response = LlmResponse, Error: Into<LlmError>, Future: Send> + Clone + Send + Sync + 'static
{
}

/// Waits until no mirrored request is under way.
async fn ended(handle: &MirrorHandle) {
    while handle.under_way() > 0 {
        sleep(Duration::from_millis(10)).await;
    }
}

/// Returns the reasons of all `NotCompared` events.
fn not_compared(heard: &mut Receiver<Event>) -> Vec<ComparisonSkipReason> {
    let all = std::iter::from_fn(|| heard.try_recv().ok());
    all.filter_map(|event| if let Event::NotCompared { why, .. } = event { Some(why) } else { None }).collect()
}

fn prompt() -> LlmRequest {
    LlmRequest::prompt("hello").with_feature("chat").with_session("s")
}

/// A leaf that waits `takes`, then gives these frames, `apart` from each other.
fn streams(takes: Duration, apart: Duration, frames: Vec<Result<Frame, LlmError>>) -> impl Llm<Error = LlmError> {
    let frames = Arc::new(frames);
    provider_fn(move |_| {
        let frames = frames.clone();
        async move {
            sleep(takes).await;
            let frames = stream::unfold(0, move |at| {
                let frame = frames.get(at).cloned();
                async move {
                    sleep(apart).await;
                    frame.map(|frame| (frame, at + 1))
                }
            });
            let body = LlmBody::from_frames(Box::pin(frames));
            Ok::<_, LlmError>(LlmResponse::new(body).with_model("anthropic", "claude-sonnet-4-5"))
        }
    })
    .inner_commits()
}

fn end() -> Result<Frame, LlmError> {
    let usage = StreamEvent::Usage(Usage::new(1_000_000, 100_000));
    Ok(Frame::events_of(vec![usage, StreamEvent::Finish(FinishReason::Stop), StreamEvent::End]))
}

fn hello() -> Vec<Result<Frame, LlmError>> {
    vec![Ok(Frame::text("hel")), Ok(Frame::text("lo")), end()]
}
