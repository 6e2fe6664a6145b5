//! Tests of latches that one call reports: no call is refused before a probe of the circuit's own has confirmed
//! them.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering::SeqCst},
};

use http::StatusCode;
use tokio::time::{advance, sleep};
use tower::{Layer as _, ServiceExt as _};

use super::*;
use crate::{
    Event,
    chat::Part,
    events::{CircuitReason, CircuitState},
    provider_fn,
};

/// A provider with a script for its callers and one for probes, that counts the calls of each.
#[derive(Clone, Default)]
struct Provider {
    to_callers: Arc<std::sync::Mutex<Option<LlmError>>>,
    to_probes: Arc<std::sync::Mutex<Option<LlmError>>>,
    probes: Arc<AtomicUsize>,
    calls: Arc<AtomicUsize>,
}

impl Provider {
    fn fails(&self, to_callers: Option<LlmError>, to_probes: Option<LlmError>) {
        *self.to_callers.lock().unwrap() = to_callers;
        *self.to_probes.lock().unwrap() = to_probes;
    }

    async fn answer(self, request: LlmRequest) -> Result<LlmResponse, LlmError> {
        let is_probe = request.chat().unwrap().messages[0].content == [Part::Text("ping".into())];
        let (count, failure) = match is_probe {
            true => (&self.probes, &self.to_probes),
            false => (&self.calls, &self.to_callers),
        };
        count.fetch_add(1, SeqCst);
        sleep(SECOND).await;
        let failure = failure.lock().unwrap().clone();
        failure.map_or_else(|| Ok(LlmResponse::from_text("yes")), Err)
    }
}

impl Provider {
    /// Returns a circuit that asks the provider before it believes a call.
    fn layer(&self) -> CircuitBreakerLayer {
        let provider = self.clone();
        let asked = provider_fn(move |request| provider.clone().answer(request));
        layer().confirm_with(asked, LlmRequest::prompt("ping").with_max_tokens(1))
    }
}

/// Returns the results of so many calls to `provider`, one after the other.
async fn call_often(layer: &CircuitBreakerLayer, provider: &Provider, times: usize) -> Vec<Option<ErrorKind>> {
    let provider = provider.clone();
    let llm = layer.layer(provider_fn(move |request| provider.clone().answer(request)));
    let mut met = Vec::new();
    for _ in 0..times {
        met.push(llm.clone().oneshot(LlmRequest::prompt("hello")).await.err().map(|error| error.kind()));
    }
    met
}

fn refused(kind: ErrorKind, status: u16) -> LlmError {
    error(kind).with_status(StatusCode::from_u16(status).unwrap()).with_code("a_code")
}

#[tokio::test(start_paused = true)]
async fn one_calls_word_refuses_nobody_where_a_probe_is_answered() {
    for (kind, status) in [(ErrorKind::QuotaExhausted, 400), (ErrorKind::Auth, 403), (ErrorKind::Auth, 404)] {
        let provider = Provider::default();
        let layer = provider.layer();
        assert_eq!(call_often(&layer, &provider, 1).await, [None], "the key works");
        provider.fails(Some(refused(kind, status)), None);
        assert_eq!(call_often(&layer, &provider, 40).await, [Some(kind); 40], "each is told its own failure");
        assert_eq!(layer.handle().state(), CircuitState::Closed);
        // Forty seconds: however often it is reported, the circuit asks once in ten.
        assert!((1..=5).contains(&provider.probes.load(SeqCst)), "{:?}", provider.probes);
    }
}

#[tokio::test(start_paused = true)]
async fn what_the_probe_meets_too_latches_and_is_looked_at_again() {
    for (kind, status, reason) in
        [(ErrorKind::QuotaExhausted, 400, CircuitReason::Quota), (ErrorKind::Auth, 403, CircuitReason::Auth)]
    {
        let provider = Provider::default();
        let layer = provider.layer();
        let mut events = layer.handle().subscribe();
        call_often(&layer, &provider, 1).await;
        let failure = refused(kind, status);
        provider.fails(Some(failure.clone()), Some(failure));
        // The first reports it, and beside the second the probe is under way.
        let met = call_often(&layer, &provider, 4).await;
        assert_eq!((met[0], met[3]), (Some(kind), Some(ErrorKind::CircuitOpen)), "{met:?}");
        assert!(matches!(events.try_recv(), Ok(Event::CircuitChanged { reason: why, .. }) if why == reason));
        assert_eq!(provider.probes.load(SeqCst), 1);

        // A caller's request is a probe like any other, but cannot keep it open.
        advance(COOLDOWN).await;
        let caused = refused(kind, status);
        provider.fails(Some(caused), None);
        let met = call_often(&layer, &provider, 4).await;
        assert_eq!(met, [Some(kind); 4]);
        assert_eq!(layer.handle().state(), CircuitState::Closed, "its own probe was answered");
    }
}

#[tokio::test(start_paused = true)]
async fn a_probe_that_fails_in_another_way_decides_nothing() {
    let provider = Provider::default();
    let layer = provider.layer();
    call_often(&layer, &provider, 1).await;
    provider.fails(Some(refused(ErrorKind::QuotaExhausted, 400)), Some(refused(ErrorKind::Auth, 403)));
    call_often(&layer, &provider, 20).await;
    assert_eq!(layer.handle().state(), CircuitState::Closed);
    assert_eq!(provider.calls.load(SeqCst), 21);
}

#[tokio::test(start_paused = true)]
async fn a_key_that_has_never_worked_is_not_asked_about() {
    let provider = Provider::default();
    let layer = provider.layer();
    let failure = refused(ErrorKind::Auth, 403);
    provider.fails(Some(failure.clone()), Some(failure));
    call_often(&layer, &provider, 20).await;
    assert_eq!((layer.handle().state(), provider.probes.load(SeqCst)), (CircuitState::Closed, 0));
}

/// The refusals of an account that its provider names as such.
fn refusals() -> [LlmError; 3] {
    [(ErrorKind::Auth, 401), (ErrorKind::QuotaExhausted, 402), (ErrorKind::QuotaExhausted, 429)]
        .map(|(kind, status)| refused(kind, status))
}

/// Sends this request, and returns the kind of its failure.
async fn call(layer: &CircuitBreakerLayer, provider: &Provider, request: LlmRequest) -> Option<ErrorKind> {
    let provider = provider.clone();
    let llm = layer.layer(provider_fn(move |request| provider.clone().answer(request)));
    llm.oneshot(request).await.err().map(|error| error.kind())
}

#[tokio::test(start_paused = true)]
async fn one_calls_word_for_a_refused_account_refuses_nobody_where_a_probe_is_answered() {
    for failure in refusals() {
        let provider = Provider::default();
        let layer = provider.layer();
        call_often(&layer, &provider, 1).await;
        let kind = failure.kind();
        provider.fails(Some(failure), None);
        call(&layer, &provider, LlmRequest::prompt("dear").with_session("one")).await;
        provider.fails(None, None);
        for n in 0..30 {
            assert_eq!(call(&layer, &provider, question(n).with_session("two")).await, None, "{kind}");
        }
        assert_eq!((layer.handle().state(), provider.probes.load(SeqCst)), (CircuitState::Closed, 1));
    }
}

#[tokio::test(start_paused = true)]
async fn the_circuits_own_probe_or_another_call_confirms_that_the_account_is_refused() {
    for failure in refusals() {
        // The probe meets the same.
        let provider = Provider::default();
        let layer = provider.layer();
        call_often(&layer, &provider, 1).await;
        let kind = failure.kind();
        provider.fails(Some(failure.clone()), Some(failure.clone()));
        let again = || call(&layer, &provider, LlmRequest::prompt("hello").with_session("one"));
        assert_eq!(again().await, Some(kind));
        sleep(2 * SECOND).await;
        assert_eq!((again().await, provider.probes.load(SeqCst)), (Some(ErrorKind::CircuitOpen), 1));

        // The next call confirms it where there is no probe: another caller's, or another request of the only one.
        for second in [question(1).with_session("two"), question(2).with_session("one")] {
            let (provider, layer) = (Provider::default(), super::layer());
            call(&layer, &provider, question(0)).await;
            provider.fails(Some(failure.clone()), None);
            assert_eq!(call(&layer, &provider, question(0).with_session("one")).await, Some(kind));
            assert_eq!(layer.handle().state(), CircuitState::Closed);
            assert_eq!(call(&layer, &provider, second).await, Some(kind));
            assert_eq!(layer.handle().state(), CircuitState::Open);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn all_that_is_believed_latches_at_once() {
    for failure in refusals().into_iter().chain([refused(ErrorKind::QuotaExhausted, 400)]) {
        let provider = Provider::default();
        let layer = provider.layer().without_confirmation();
        call_often(&layer, &provider, 1).await;
        let kind = failure.kind();
        provider.fails(Some(failure), None);
        let met = call_often(&layer, &provider, 2).await;
        assert_eq!(met, [Some(kind), Some(ErrorKind::CircuitOpen)]);
        assert_eq!(provider.probes.load(SeqCst), 0);
    }
    // A page with that status is not the account's; and without a probe, nothing is believed.
    let page = error(ErrorKind::QuotaExhausted).with_status(StatusCode::PAYMENT_REQUIRED);
    for (asks, failure) in [(true, page), (false, refused(ErrorKind::QuotaExhausted, 400))] {
        let provider = Provider::default();
        let layer = if asks { provider.layer() } else { layer() };
        provider.fails(Some(failure), None);
        call_often(&layer, &provider, 20).await;
        assert_eq!((layer.handle().state(), provider.calls.load(SeqCst)), (CircuitState::Closed, 20));
    }
}

#[tokio::test(start_paused = true)]
async fn a_probe_that_hangs_refuses_nobody_and_is_given_up() {
    let asked = Arc::new(AtomicUsize::new(0));
    let counted = asked.clone();
    let hangs = provider_fn(move |_| {
        counted.fetch_add(1, SeqCst);
        std::future::pending::<Result<LlmResponse, LlmError>>()
    });
    let layer = layer().confirm_with(hangs, LlmRequest::prompt("ping"));
    let llm = layer.layer(Strict::new().fails(10, refused(ErrorKind::QuotaExhausted, 400)));
    for _ in 0..10 {
        let failure = llm.clone().oneshot(LlmRequest::prompt("hello")).await.unwrap_err();
        assert_eq!(failure.kind(), ErrorKind::QuotaExhausted);
    }
    tokio::task::yield_now().await;
    assert_eq!((asked.load(SeqCst), layer.handle().in_flight()), (1, 0));
    sleep(60 * SECOND).await;
    assert_eq!(layer.handle().state(), CircuitState::Closed);
    // Nor does it hold the circuit.
    drop((llm, layer));
}

#[tokio::test(start_paused = true)]
async fn a_refused_account_costs_one_call_a_rest_while_its_callers_are_several() {
    for failure in refusals() {
        let provider = Provider::default();
        let layer = provider.layer();
        call(&layer, &provider, question(0)).await;
        let kind = failure.kind();
        provider.fails(Some(failure.clone()), Some(failure));
        call(&layer, &provider, question(1).with_session("one")).await;
        sleep(2 * SECOND).await;
        assert_eq!((layer.handle().state(), provider.probes.load(SeqCst)), (CircuitState::Open, 1));
        let before = provider.calls.load(SeqCst);
        for n in 2..10 {
            advance(COOLDOWN).await;
            let caller = if n % 2 == 0 { "two" } else { "one" };
            assert_eq!(call(&layer, &provider, question(n).with_session(caller)).await, Some(kind));
            assert_eq!(layer.handle().state(), CircuitState::Open);
        }
        assert_eq!((provider.calls.load(SeqCst) - before, provider.probes.load(SeqCst)), (8, 1));
    }
}

#[tokio::test(start_paused = true)]
async fn one_caller_whom_a_provider_that_is_well_again_refuses_does_not_keep_it_closed_off() {
    for failure in refusals() {
        let provider = Provider::default();
        let layer = provider.layer();
        call(&layer, &provider, question(0)).await;
        provider.fails(Some(failure.clone()), Some(failure.clone()));
        call(&layer, &provider, question(1).with_session("one")).await;
        sleep(2 * SECOND).await;
        assert_eq!(layer.handle().state(), CircuitState::Open);
        provider.fails(Some(failure.clone()), None);
        for n in 2..4 {
            advance(COOLDOWN).await;
            call(&layer, &provider, question(n).with_session("one")).await;
            sleep(2 * SECOND).await;
        }
        assert_eq!(layer.handle().state(), CircuitState::Closed);
    }
}

#[tokio::test(start_paused = true)]
async fn another_callers_word_for_another_reason_confirms_nothing() {
    let [auth, quota, _] = refusals();
    let provider = Provider::default();
    let layer = provider.layer();
    call(&layer, &provider, question(0)).await;
    provider.fails(Some(quota.clone()), Some(quota.clone()));
    call(&layer, &provider, question(1).with_session("one")).await;
    sleep(2 * SECOND).await;
    assert_eq!(layer.handle().state(), CircuitState::Open);
    // The provider is well again for all but these two.
    advance(COOLDOWN).await;
    provider.fails(Some(auth), Some(error(ErrorKind::Server)));
    call(&layer, &provider, question(2).with_session("two")).await;
    sleep(11 * SECOND).await;
    assert_eq!(layer.handle().state(), CircuitState::HalfOpen);
    provider.fails(Some(quota), None);
    call(&layer, &provider, question(3).with_session("one")).await;
    sleep(2 * SECOND).await;
    assert_eq!(layer.handle().state(), CircuitState::Closed);
}
