//! A request that waits for the answer under a key.

use std::sync::Arc;

use tokio::{
    sync::oneshot,
    time::{Instant, timeout_at},
};

use super::{
    IdempotencyHandle,
    calls::{CallEnd, Stage, Waiting},
    key::KeyedInput,
    place::Place,
    settings::Settings,
    shared::Shared,
    task::Task,
};
use crate::{
    LlmBody, LlmError, LlmRequest, LlmResponse, LlmService,
    cache::{Answer, Reader, Recording, ran_out},
    deadline,
    error::{Phase, TimeoutLimit},
    ledger,
    response::CacheReason,
    totals::count,
};

/// Returns the answer under this key, or an error at the request's own deadline.
pub(super) async fn answer_under_key<S>(
    same: KeyedInput,
    service: S,
    request: LlmRequest,
    settings: Settings,
    handle: IdempotencyHandle,
) -> Result<LlmResponse, LlmError>
where
    S: LlmService + Clone + Send + 'static,
    S::Future: Send,
{
    let (begun, deadline) = (Instant::now(), request.context().deadline);
    // The call's own deadline is later by the grace, so without this check the call would begin.
    if let Some(late) = deadline::late(request.context(), begun) {
        return Err(late);
    }
    let result = wait_for_result(same, service, request, settings, handle.shared);
    match deadline {
        None => result.await,
        // An answer that has come wins over a deadline that has passed.
        Some(deadline) => timeout_at(deadline, result).await.unwrap_or_else(|_| {
            let after = deadline.saturating_duration_since(begun);
            Err(LlmError::timed_out(TimeoutLimit::Deadline, Phase::Answer, after))
        }),
    }
}

async fn wait_for_result<S>(
    same: KeyedInput,
    service: S,
    request: LlmRequest,
    settings: Settings,
    shared: Arc<Shared>,
) -> Result<LlmResponse, LlmError>
where
    S: LlmService + Clone + Send + 'static,
    S::Future: Send,
{
    let as_stream = request.is_stream();
    let mut again = true;
    loop {
        let (mut waiting, call) = shared.calls.join(same);
        if let Some(call) = call {
            let (reply, replied) = oneshot::channel();
            let place = Place::new(shared.clone(), same, call);
            let task = Task::new(place, settings, reply);
            tokio::spawn(task.run(service.clone(), request.clone()));
            // The request's own answer, with all its facts. Without one, it gets the shared answer.
            if let Ok(result) = replied.await {
                return result;
            }
        }
        match follow(&mut waiting, &shared, as_stream).await {
            Some(Err(error)) if again && ran_out(&error) => again = false,
            Some(result) => return result,
            None => {}
        }
    }
}

/// Returns the call's outcome for a request that did not make it. Returns `None` if nothing could be shared, so
/// that the request begins again.
async fn follow(waiting: &mut Waiting, shared: &Shared, as_stream: bool) -> Option<Result<LlmResponse, LlmError>> {
    let mut reads = true;
    loop {
        // Clone the stage, so that its use holds no lock.
        let now = match &*waiting.borrow_and_update() {
            Stage::Ended(ended) => StageSnapshot::Ended(ended.clone()),
            Stage::Streaming(recording) if reads => StageSnapshot::Streams(recording.clone()),
            Stage::Streaming(_) | Stage::Calling => StageSnapshot::Waits,
        };
        match now {
            StageSnapshot::Ended(ended) => return ended.result(shared, as_stream),
            StageSnapshot::Streams(recording) => match recording.read() {
                Some(reader) => return Some(read_along(&recording, reader, shared, as_stream).await),
                // The stream's beginning is gone: the call ends in a moment.
                None => reads = false,
            },
            StageSnapshot::Waits => {}
        }
        if waiting.changed().await.is_err() {
            return None;
        }
    }
}

/// A snapshot of the call's stage.
enum StageSnapshot {
    Waits,
    Streams(Arc<Recording>),
    Ended(CallEnd),
}

impl CallEnd {
    fn result(self, shared: &Shared, as_stream: bool) -> Option<Result<LlmResponse, LlmError>> {
        match self {
            Self::Kept(answer) => {
                count(&shared.counters.replayed);
                Some(Ok(given(&answer, as_stream, CacheReason::Replayed)))
            }
            Self::Answered(answer) => {
                count(&shared.counters.shared);
                Some(Ok(given(&answer, as_stream, CacheReason::Shared)))
            }
            Self::Refused(error) => Some(Err(error)),
            Self::Failed(mut error) => {
                ledger::of_another(&mut error);
                Some(Err(error))
            }
            Self::Nothing => None,
        }
    }
}

fn given(answer: &Answer, as_stream: bool, why: CacheReason) -> LlmResponse {
    noted(answer.response(as_stream, why, Instant::now()))
}

/// Adds a note that the response is a replay.
fn noted(response: LlmResponse) -> LlmResponse {
    let age = response.cached().map_or(0, |cached| cached.age.as_secs());
    response.with_note(format!("replayed: the answer to an earlier request with the same idempotency key, {age} s old"))
}

/// Returns another request's stream, from its beginning and then live.
async fn read_along(
    recording: &Recording,
    reader: Reader,
    shared: &Shared,
    as_stream: bool,
) -> Result<LlmResponse, LlmError> {
    let mut body = LlmBody::from_frames(reader);
    if !as_stream {
        body = LlmBody::from_message(body.collect().await?);
    }
    count(&shared.counters.shared);
    let response = recording.facts().put(LlmResponse::new(body), CacheReason::Shared, Instant::now());
    Ok(noted(response))
}
