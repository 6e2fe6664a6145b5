//! Callers who leave.

use std::time::Duration;

use steadfast::providers::simulated::Fault;
use tokio::time::{sleep, timeout};

use crate::{
    caller::Caller,
    probe::{ALL, Probe, STREAMS, Scene, ensure, probe},
};

const COST: &str = "a provider generates, and bills, until the connection of its caller closes";

pub(super) const PROBES: &[Probe] = &[
    probe!(
        "cancellation/waiting",
        Faults,
        ALL,
        waiting,
        "a caller who leaves before the first word takes the call along within 5 s, and nobody else is asked",
        COST
    ),
    probe!(
        "cancellation/reading",
        Faults,
        STREAMS,
        reading,
        "a caller who leaves in the middle of a stream takes the call along within 5 s",
        COST
    ),
];

/// The time for a caller's leaving to reach the provider.
const SOON: Duration = Duration::from_secs(5);

/// Checks that the first provider has no call under way, soon.
async fn ended(scene: &Scene<'_>) -> Result<(), String> {
    let (upstreams, ..) = scene.providers()?;
    let handle = upstreams.primary.handle();
    let left = timeout(SOON, handle.until(|stats| stats.in_flight == 0)).await;
    ensure(left.is_ok(), || format!("the call went on for {} s after its caller had left", SOON.as_secs()))
}

async fn waiting(scene: &Scene<'_>, caller: Caller) -> Result<(), String> {
    let (upstreams, primary, backup) = scene.providers()?;
    let handle = upstreams.primary.handle();
    handle.fail(Fault::Hang);
    let prompt = scene.prompt();
    let before = handle.stats().calls;
    tokio::select! {
        answer = scene.subject.ask(caller, &prompt) => {
            let said = answer.map_or_else(|error| error, |answer| answer.to_string());
            return Err(format!("answered before it left: {said}"));
        }
        // Its call has reached the provider.
        () = handle.until(|stats| stats.calls > before) => {}
    }
    ended(scene).await?;
    // Time for an attempt that nobody waits for.
    sleep(Duration::from_secs(3)).await;
    let (calls, others) = (primary.calls(), backup.calls());
    ensure(calls == 1 && others == 0, || format!("{calls} calls at the first provider, {others} at the second"))
}

async fn reading(scene: &Scene<'_>, caller: Caller) -> Result<(), String> {
    let (upstreams, ..) = scene.providers()?;
    // The whole answer takes two minutes.
    upstreams.primary.handle().pace(Duration::from_secs(2));
    drop(scene.subject.begin(caller, &scene.prompt()).await?);
    ended(scene).await
}
