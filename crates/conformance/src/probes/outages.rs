//! Outages of both providers at once.

use std::time::{Duration, SystemTime};

use http::header::RETRY_AFTER;
use steadfast::providers::simulated::Fault;
use steadfast_internal::wall_clock;

use super::errors::{FORMS, is_error};
use crate::{
    answer::Answer,
    caller::Caller,
    probe::{ALL, Probe, Scene, Verdict, ensure, probe},
};

pub(super) const PROBES: &[Probe] = &[
    probe!(
        "outages/all-limited",
        Faults,
        ALL,
        retry_after,
        "with all providers at their limits the caller gets 429 and the wait that they named",
        "RFC 9110, 10.2.3; every vendor's SDK waits as long as Retry-After says"
    ),
    probe!(
        "outages/all-down",
        Faults,
        ALL,
        all_down,
        "with all providers down the error is a 5xx in the dialect's form, after six attempts at each at most",
        FORMS
    ),
];

async fn all_down(scene: &Scene<'_>, caller: Caller) -> Result<(), String> {
    let (upstreams, primary, backup) = scene.providers()?;
    upstreams.primary.handle().fail(Fault::Unavailable);
    upstreams.backup.handle().fail(Fault::Unavailable);
    let answer = scene.subject.ask(caller, &scene.prompt()).await?;
    is_error(&answer, &[500, 502, 503, 504, 529])?;
    let calls = primary.calls().max(backup.calls());
    ensure(calls <= 6, || format!("a provider was asked {calls} times"))
}

/// The wait that both providers name.
const WAIT: Duration = Duration::from_secs(7);

async fn retry_after(scene: &Scene<'_>, caller: Caller) -> Verdict {
    match limited(scene, caller).await {
        // The gateway waited for its caller, and its stream had begun.
        Ok(answer) if caller.is_streamed && answer.status == 200 && answer.is_told("") => Verdict::Told,
        Ok(answer) => named_wait(&answer).into(),
        Err(why) => Verdict::Fail(why),
    }
}

async fn limited(scene: &Scene<'_>, caller: Caller) -> Result<Answer, String> {
    let (upstreams, ..) = scene.providers()?;
    for upstream in [&upstreams.primary, &upstreams.backup] {
        upstream.handle().fail(Fault::RateLimited { retry_after: Some(WAIT) });
    }
    scene.subject.ask(caller, &scene.prompt()).await
}

/// Checks for a 429 with the providers' wait.
fn named_wait(answer: &Answer) -> Result<(), String> {
    is_error(answer, &[429])?;
    let Some(value) = answer.headers.get(RETRY_AFTER).and_then(|value| value.to_str().ok()) else {
        return Err(format!("no Retry-After: {answer}"));
    };
    let seconds = value.parse().ok().map(Duration::from_secs_f64);
    let now = SystemTime::UNIX_EPOCH + wall_clock::since_1970();
    let until = || httpdate::parse_http_date(value).ok()?.duration_since(now).ok();
    // Some of the wait may have passed, and a gateway may round it up.
    let is_it = seconds.or_else(until).is_some_and(|wait| !wait.is_zero() && wait <= WAIT + Duration::from_secs(1));
    ensure(is_it, || format!("Retry-After is {value:?}, and the providers' was {} s", WAIT.as_secs()))
}
