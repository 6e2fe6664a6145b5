//! tower's contract by other people's probes, those of tower-resilience-core: each layer around them, and they alone.
//!
//! `conformance/run` reads the lines that begin with `conformance`.

use futures_util::future::join_all;
use serde_json::json;
use steadfast::{BoxLlmService, ErrorKind, LlmError, LlmRequest, LlmResponse};
use tokio::time::{sleep, timeout};
use tower::{Service, ServiceExt, limit::ConcurrencyLimit};
use tower_resilience_core::testing::{ControlledHandle, ControlledService, ProbeHandle, ServiceProbe};

use super::{
    fixtures::{millis, secs},
    readiness::{LAYERS, Wrap, boxed},
};

/// A layer around a probed leaf.
struct Probed {
    llm: BoxLlmService,
    control: ControlledHandle,
    probe: ProbeHandle,
}

impl Probed {
    /// Puts a layer around a leaf that admits one call at a time, so that a clone has to wait for its own place.
    fn new(wrap: Wrap, ready: bool) -> Self {
        let (leaf, control) = ControlledService::new(ready);
        let leaf = leaf
            .map_response(|_: LlmRequest| LlmResponse::from_text("hello"))
            .map_err(|closed| LlmError::new(ErrorKind::Server, closed.to_string()));
        let leaf = ServiceProbe::new(leaf);
        let probe = leaf.handle();
        Self { llm: wrap(boxed(ConcurrencyLimit::new(leaf, 1))), control, probe }
    }

    /// Waits until the probe has seen this.
    async fn until(&self, what: &str, seen: impl Fn(&ProbeHandle) -> bool) -> Result<(), String> {
        let seen = async {
            while !seen(&self.probe) {
                sleep(millis(1)).await;
            }
        };
        timeout(secs(5), seen).await.map_err(|_| format!("{what} never: {:?}", self.probe.snapshot()))
    }

    /// Checks that no call went to an instance that was not ready, and that none is under way.
    async fn at_rest(&self) -> Result<(), String> {
        self.until("at rest", |probe| probe.snapshot().in_flight == 0).await?;
        let seen = self.probe.snapshot();
        ensure(seen.readiness_violations == 0, || format!("called unready: {seen:?}"))
    }
}

type Outcome = Result<(), String>;

fn ensure(is: bool, wrong: impl FnOnce() -> String) -> Outcome {
    if is { Ok(()) } else { Err(wrong()) }
}

/// Makes a request that no cache has seen.
fn ask(number: usize) -> LlmRequest {
    LlmRequest::prompt(format!("hello {number}")).with_feature("chat")
}

async fn answered(llm: &mut BoxLlmService, request: LlmRequest) -> Outcome {
    let call = async { llm.ready().await?.call(request).await?.text().await };
    let text = timeout(secs(30), call).await.map_err(|_| "no answer".to_owned())?;
    let text = text.map_err(|error| error.to_string())?;
    ensure(text == "hello", || format!("another answer: {text}"))
}

/// One instance called again and again, and clones of one that is ready.
async fn each_call_is_of_a_ready_instance(wrap: Wrap) -> Outcome {
    let probed = Probed::new(wrap, true);
    probed.control.allow(100);
    let mut llm = probed.llm.clone();
    for number in 0..3 {
        answered(&mut llm, ask(number)).await?;
    }
    llm.ready().await.map_err(|error| error.to_string())?;
    let clones: Vec<_> = (3..11).map(|number| (llm.clone(), number)).collect();
    // Ready and not called, it may have the only place.
    drop(llm);
    let calls = clones.into_iter().map(async |(mut llm, number)| answered(&mut llm, ask(number)).await);
    join_all(calls).await.into_iter().collect::<Outcome>()?;
    ensure(probed.control.calls() >= 11, || format!("{} calls", probed.control.calls()))?;
    probed.at_rest().await
}

async fn a_leaf_that_becomes_ready_wakes_its_callers(wrap: Wrap) -> Outcome {
    let probed = Probed::new(wrap, false);
    probed.control.allow(100);
    let mut llm = probed.llm.clone();
    let call = tokio::spawn(async move { answered(&mut llm, ask(0)).await });
    probed.until("polled", |probe| probe.snapshot().readiness_pending > 0).await?;
    ensure(probed.control.calls() == 0, || "called before it was ready".to_owned())?;
    probed.control.set_ready(true);
    call.await.map_err(|error| error.to_string())??;
    probed.at_rest().await
}

async fn a_caller_who_leaves_takes_the_call_along(wrap: Wrap) -> Outcome {
    let probed = Probed::new(wrap, true);
    let mut llm = probed.llm.clone();
    let call = tokio::spawn(async move { answered(&mut llm, ask(0)).await });
    probed.until("called", |probe| probe.snapshot().in_flight > 0).await?;
    call.abort();
    probed.at_rest().await?;
    let seen = probed.probe.snapshot();
    ensure(seen.cancelled == seen.calls, || format!("not cancelled: {seen:?}"))?;
    probed.control.allow(100);
    answered(&mut probed.llm.clone(), ask(1)).await?;
    probed.at_rest().await
}

/// A leaf that is broken for good is not called; the caller hears of it, or has a fallback's answer.
async fn a_leaf_that_cannot_be_ready_is_not_called(wrap: Wrap) -> Outcome {
    let probed = Probed::new(wrap, true);
    probed.control.close();
    let ended = timeout(secs(60), probed.llm.clone().oneshot(ask(0))).await;
    let ended = ended.map_err(|_| "no end".to_owned())?;
    let told = ended.is_err_and(|error| error.to_string().contains("closed"));
    ensure(told || probed.probe.snapshot().readiness_errors > 0, || "the error is lost".to_owned())?;
    ensure(probed.control.calls() == 0, || format!("{} calls", probed.control.calls()))?;
    probed.at_rest().await
}

/// A call that fails, and whatever the layer does then, leave nothing behind.
async fn a_call_that_fails_leaves_nothing_behind(wrap: Wrap) -> Outcome {
    let probed = Probed::new(wrap, true);
    let call = tokio::spawn(probed.llm.clone().oneshot(ask(0)));
    probed.until("called", |probe| probe.snapshot().in_flight > 0).await?;
    probed.control.close();
    let ended = timeout(secs(60), call).await.map_err(|_| "no end".to_owned())?;
    if let Err(error) = ended.map_err(|error| error.to_string())? {
        ensure(error.to_string().contains("closed"), || format!("another error: {error}"))?;
    }
    probed.at_rest().await
}

#[tokio::test(start_paused = true)]
async fn each_layer_passes_the_probes_of_tower_resilience() {
    let mut failed = Vec::new();
    let alone: [(&str, Wrap); 1] = [("no layer", |inner| inner)];
    for (subject, layers) in [("upstream", &alone[..]), ("steadfast", LAYERS)] {
        let mut cases = Vec::new();
        for &(layer, wrap) in layers {
            for (property, outcome) in [
                ("each call is of a ready instance", each_call_is_of_a_ready_instance(wrap).await),
                (
                    "a leaf that becomes ready wakes its callers",
                    a_leaf_that_becomes_ready_wakes_its_callers(wrap).await,
                ),
                ("a caller who leaves takes the call along", a_caller_who_leaves_takes_the_call_along(wrap).await),
                ("a leaf that cannot be ready is not called", a_leaf_that_cannot_be_ready_is_not_called(wrap).await),
                ("a call that fails leaves nothing behind", a_call_that_fails_leaves_nothing_behind(wrap).await),
            ] {
                let name = format!("{layer}: {property}");
                let why = outcome.err().unwrap_or_default();
                let result = if why.is_empty() { "pass" } else { "fail" };
                if !why.is_empty() {
                    failed.push(format!("{name}: {why}"));
                }
                cases.push(json!({ "name": name, "result": result, "why": why }));
            }
        }
        println!("conformance {}", json!({ "subject": subject, "cases": cases }));
    }
    assert!(failed.is_empty(), "{failed:#?}");
}
