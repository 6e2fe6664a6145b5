//! The request's copy: the candidate's call and the comparison, in a task of its own.

use std::{panic::AssertUnwindSafe, pin::pin, sync::Arc, time::Duration};

use futures_util::{
    FutureExt as _,
    future::{Either, select},
};
use tokio::{
    runtime::Handle,
    sync::oneshot,
    task::yield_now,
    time::{Instant, timeout},
};

use super::{
    ComparedTexts, Comparison, ComparisonSkipReason,
    measure::same_tools,
    observer::{Observer, SideOutcome},
    primary::Watch,
    settings::Settings,
    under_way::Place,
};
use crate::{
    Context, ErrorKind, Event, LlmError, LlmRequest,
    events::RequestOutcome,
    layers::{call::BoxedCall, totals::count},
};

/// Sends the copy to the candidate, if there is a place for it. Returns the observer of the caller's own call.
pub(super) fn begin(settings: &Arc<Settings>, request: LlmRequest, begun: Instant) -> Option<Watch> {
    let shared = &settings.shared;
    let Ok(runtime) = Handle::try_current() else {
        gives_up(settings, &request, ComparisonSkipReason::WithoutRuntime);
        return None;
    };
    let Some(place) = shared.enter(settings.max_in_flight) else {
        gives_up(settings, &request, ComparisonSkipReason::Full);
        return None;
    };
    let (done, primary) = oneshot::channel();
    let shadow = Shadow { place, settings: settings.clone(), request, primary };
    runtime.spawn(shadow.run());
    Some(Watch::new(Observer::new(settings.clone(), begun), done))
}

struct Shadow {
    place: Place,
    settings: Arc<Settings>,
    request: LlmRequest,
    primary: oneshot::Receiver<SideOutcome>,
}

/// The default of [`MirrorLayer::timeout`], and the least for requests that have less time or no deadline.
const TIMEOUT: Duration = Duration::from_secs(60);
/// The number of frames that are read in a row before other tasks get their turn.
const TURN: u32 = 64;

impl Shadow {
    async fn run(self) {
        let Self { place, settings, request, primary } = self;
        // Give the place back last.
        let shared = &place.shared;
        let mut closed = shared.closed.subscribe();
        let closes = pin!(closed.wait_for(|closed| *closed));
        let compares = pin!(AssertUnwindSafe(compares(&place, &settings, &request, primary)).catch_unwind());
        let not_compared = match select(closes, compares).await {
            Either::Right((Ok(Ok(())), _)) | Either::Left(_) => return,
            Either::Right((Ok(Err(why)), _)) => why,
            Either::Right((Err(_), _)) => ComparisonSkipReason::Panicked,
        };
        gives_up(&settings, &request, not_compared);
    }
}

/// Counts and reports a request that was chosen and is not compared.
fn gives_up(settings: &Settings, request: &LlmRequest, why: ComparisonSkipReason) {
    count(settings.shared.counters.not_compared(why));
    if let Some(events) = &settings.events {
        events.send_with(|| Event::NotCompared { feature: request.shared_feature(), why, at: Instant::now() });
    }
}

async fn compares(
    place: &Place,
    settings: &Arc<Settings>,
    request: &LlmRequest,
    primary: oneshot::Receiver<SideOutcome>,
) -> Result<(), ComparisonSkipReason> {
    let limit = settings.timeout.unwrap_or_else(|| {
        let left = request.context().time_left(Instant::now());
        left.map_or(TIMEOUT, |left| left.max(TIMEOUT))
    });
    let candidate = asks(settings, request, limit).await.ok_or(ComparisonSkipReason::Refused)?;
    let Ok(Ok(primary)) = timeout(limit, primary).await else { return Err(ComparisonSkipReason::Unpaired) };
    tells(settings, request, primary, candidate);
    count(&place.shared.counters.compared);
    Ok(())
}

/// Returns the candidate's side, or `None` if its own layers refused, so that nothing was sent.
async fn asks(settings: &Arc<Settings>, request: &LlmRequest, limit: Duration) -> Option<SideOutcome> {
    let begun = Instant::now();
    let mut context = Context::default();
    context.deadline = begun.checked_add(limit);
    context.commit = request.context().commit;
    let copy = request.shadow(context);
    let mut observer = Observer::new(settings.clone(), begun);
    let listens = AssertUnwindSafe(listens(&mut observer, settings, copy)).catch_unwind();
    let outcome = match timeout(limit, listens).await {
        Ok(Ok(outcome)) => outcome?,
        Ok(Err(_)) => RequestOutcome::Failed(ErrorKind::Other),
        Err(_) if observer.is_begun() => RequestOutcome::Broken(ErrorKind::Timeout),
        Err(_) => RequestOutcome::Failed(ErrorKind::Timeout),
    };
    Some(observer.ends(outcome))
}

async fn listens(observer: &mut Observer, settings: &Settings, request: LlmRequest) -> Option<RequestOutcome> {
    let mut response = match BoxedCall::elsewhere(settings.candidate.clone(), request).await {
        Ok(response) => response,
        Err(error) if is_refused(&error) => return None,
        Err(error) => {
            observer.fails(&error);
            return Some(RequestOutcome::Failed(error.kind()));
        }
    };
    observer.responds(&response);
    if !response.body().arrives_in_frames() {
        return Some(RequestOutcome::Answered);
    }
    let mut read = 0u32;
    loop {
        match response.body_mut().frame().await {
            Some(Ok(frame)) => observer.frame(&frame),
            Some(Err(error)) => return Some(RequestOutcome::Broken(error.kind())),
            None => return Some(RequestOutcome::Answered),
        }
        if observer.is_too_large() {
            return Some(RequestOutcome::Abandoned);
        }
        read = read.wrapping_add(1);
        // A flooding candidate is always ready.
        if read.is_multiple_of(TURN) {
            yield_now().await;
        }
    }
}

/// Returns whether nothing was sent: a circuit, a bulkhead, a budget or an operator refused, or there were no
/// credentials.
fn is_refused(error: &LlmError) -> bool {
    let spares = |kind| {
        use ErrorKind::{Budget, BulkheadFull, CircuitOpen, Credentials, OutOfService};
        matches!(kind, CircuitOpen | BulkheadFull | Budget | OutOfService | Credentials)
    };
    spares(error.kind()) && error.attempts().iter().all(|attempt| attempt.is_local())
}

fn tells(settings: &Settings, request: &LlmRequest, primary: SideOutcome, candidate: SideOutcome) {
    let (mut similarity, mut same) = (None, None);
    if let (Some(one), Some(other)) = (primary.whole(), candidate.whole()) {
        similarity = Some((settings.measure)(one, other));
        same = Some(same_tools(one, other));
    }
    let alike = similarity.map(|similarity| similarity >= settings.agrees_from);
    let keeps = settings.keep_texts && settings.sink.is_some();
    let texts =
        keeps.then(|| Box::new(ComparedTexts::new(request.chat().ok().cloned(), primary.message, candidate.message)));
    let comparison = Comparison {
        feature: request.shared_feature(),
        session: request.shared_session(),
        primary: primary.side,
        candidate: candidate.side,
        similarity,
        same_tools: same,
        agrees: alike.zip(same).map(|(alike, same)| alike && same),
        texts,
        at: Instant::now(),
    };
    if let Some(events) = &settings.events {
        events.send_with(|| Event::Mirrored(Arc::new(comparison.told())));
    }
    if let Some(sink) = &settings.sink {
        sink.compare(comparison);
    }
}
