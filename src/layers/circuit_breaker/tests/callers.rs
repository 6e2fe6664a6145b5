//! Tests that one caller's invalid requests cannot affect the others.

use tokio::time::{advance, sleep};
use tower::{Layer as _, ServiceExt as _};

use super::*;
use crate::{Event, FallbackLayer, events::CircuitState, provider_fn, request::BudgetKey};

/// A model that calls `bad` requests invalid and answers others.
fn strict(is_bad: impl Fn(&LlmRequest) -> bool + Clone + Send + Sync + 'static) -> crate::BoxLlmService {
    crate::BoxLlmService::new(provider_fn(move |request: LlmRequest| {
        let is_bad = is_bad(&request);
        async move {
            match is_bad {
                true => Err(error(ErrorKind::InvalidRequest)),
                false => Ok(LlmResponse::from_text("yes")),
            }
        }
    }))
}

fn of(key: &str, n: usize) -> LlmRequest {
    question(n).with_extension(BudgetKey::new(key))
}

fn is_mallorys(request: &LlmRequest) -> bool {
    request.tenant().is_some_and(|tenant| **tenant == *"mallory")
}

#[tokio::test(start_paused = true)]
async fn bad_requests_of_one_key_open_no_tier_where_both_call_them_bad() {
    let (first, second) = (layer(), CircuitBreakerLayer::new("gpt"));
    let llm = FallbackLayer::new("sonnet").tier("gpt", second.layer(strict(is_mallorys)));
    let llm = llm.layer(first.layer(strict(is_mallorys)));
    for n in 0..500 {
        let bad = llm.clone().oneshot(of("mallory", n)).await.expect_err("a mistake");
        assert_eq!(bad.kind(), ErrorKind::InvalidRequest);
    }
    assert_eq!([first.handle().state(), second.handle().state()], [CircuitState::Closed; 2]);
    let served = llm.oneshot(of("alice", 0)).await.expect("an answer");
    assert_eq!(served.tier().as_deref(), Some("sonnet"));
}

#[tokio::test(start_paused = true)]
async fn one_key_or_session_alone_opens_no_circuit_where_others_call() {
    let by_key = |name: &str, n| of(name, n);
    let by_session = |name: &str, n| question(n).with_session(name);
    type Ask<'a> = &'a dyn Fn(&str, usize) -> LlmRequest;
    let asks: [Ask<'_>; 2] = [&by_key, &by_session];
    for ask in asks {
        let breaker = layer();
        let llm = breaker.layer(strict(|request| is_mallorys(request) || request.session() == Some("mallory")));
        for n in 0..200 {
            llm.clone().oneshot(ask("mallory", n)).await.expect_err("a mistake");
            if n % 10 == 5 {
                llm.clone().oneshot(ask("alice", n)).await.expect("an answer");
            }
        }
        assert_eq!(breaker.handle().state(), CircuitState::Closed);
    }
}

#[tokio::test(start_paused = true)]
async fn two_keys_at_once_open_no_tier_while_no_other_tier_can_give_an_opinion() {
    let second = CircuitBreakerLayer::new("gpt");
    let is_hostile =
        |request: &LlmRequest| request.tenant().is_some_and(|tenant| ["mallory", "matilda"].contains(&&**tenant));
    let fallback = FallbackLayer::new("sonnet").tier("gpt", second.layer(strict(is_hostile)));
    let first = layer();
    first.handle().force_open();
    let llm = fallback.layer(first.layer(strict(is_hostile)));
    for name in ["alice", "bob"] {
        // The circuit counts callers from the first bad request on.
        llm.clone().oneshot(of("mallory", 1000)).await.expect_err("a mistake");
        llm.clone().oneshot(of(name, 0)).await.expect("an answer");
    }
    for n in 0..200 {
        let name = if n % 2 == 0 { "mallory" } else { "matilda" };
        llm.clone().oneshot(of(name, n)).await.expect_err("a mistake");
        assert_eq!(second.handle().state(), CircuitState::Closed, "after {n} requests");
    }
    llm.oneshot(of("alice", 1)).await.expect("an answer");
}

#[tokio::test(start_paused = true)]
async fn a_provider_that_calls_everyones_requests_invalid_is_in_a_storm() {
    for callers in [2, 3, 4, 5, 10] {
        let breaker = layer();
        let llm = breaker.layer(strict(|_| true));
        for n in 0..22 {
            llm.clone().oneshot(of(&format!("caller {}", n % callers), n)).await.expect_err("a failure");
        }
        assert_eq!(breaker.handle().state(), CircuitState::Open, "{callers} callers");
        // One probe of each caller is enough to see that it lasts.
        advance(COOLDOWN).await;
        for n in 100..100 + callers.min(4) {
            assert_eq!(breaker.handle().state(), if n == 100 { CircuitState::Open } else { CircuitState::HalfOpen });
            llm.clone().oneshot(of(&format!("caller {}", n % callers), n)).await.expect_err("a failure");
        }
        assert_eq!(breaker.handle().state(), CircuitState::Open, "{callers} callers");
    }
}

#[tokio::test(start_paused = true)]
async fn a_storm_that_several_meet_opens_and_a_lone_key_is_believed_after_a_minute() {
    let breaker = layer();
    let llm = breaker.layer(strict(|_| true));
    for n in 0..21 {
        let who = if n % 2 == 0 { "alice" } else { "bob" };
        llm.clone().oneshot(of(who, n)).await.expect_err("a failure");
    }
    assert_eq!(breaker.handle().state(), CircuitState::Open);

    let breaker = layer();
    let llm = breaker.layer(strict(|_| true));
    let mut opened = None;
    for n in 0..100 {
        llm.clone().oneshot(of("alice", n)).await.expect_err("a failure");
        if breaker.handle().state() == CircuitState::Open {
            opened.get_or_insert(n);
        }
        sleep(SECOND).await;
    }
    assert!((60..65).contains(&opened.expect("it opened")), "{opened:?}");
}

#[tokio::test(start_paused = true)]
async fn one_keys_bad_probes_do_not_keep_a_storm_going() {
    let breaker = layer();
    let storm = breaker.layer(strict(|_| true));
    for n in 0..21 {
        storm.clone().oneshot(of(if n % 2 == 0 { "alice" } else { "bob" }, n)).await.expect_err("a failure");
    }
    // The provider is well again, but the first request is always the one whose requests are bad.
    let llm = breaker.layer(strict(is_mallorys));
    advance(COOLDOWN).await;
    for n in 100..110 {
        llm.clone().oneshot(of("mallory", n)).await.expect_err("a mistake");
    }
    llm.clone().oneshot(of("alice", 200)).await.expect("an answer");
    assert_eq!(breaker.handle().state(), CircuitState::Closed);
}

#[tokio::test(start_paused = true)]
async fn a_circuit_that_is_open_or_forced_is_never_forgotten() {
    let layer = layer().consecutive_failures(1).keyed(|request| request.model().unwrap_or_default().into(), 3);
    let of_model = |model: &str| LlmRequest::from(crate::Chat::new([]).model(model));
    let llm = layer.layer(provider_fn(|request: LlmRequest| async move {
        match request.model() {
            Some("broken") => Err(server()),
            _ => Ok(LlmResponse::from_text("yes")),
        }
    }));
    layer.handle_for("isolated").force_open();
    layer.handle_for("kept").force_close();
    llm.clone().oneshot(of_model("broken")).await.expect_err("a failure");
    // There is no room for any other: they pass, and none is kept.
    for n in 0..100 {
        llm.clone().oneshot(of_model(&format!("model {n}"))).await.expect("an answer");
    }
    let mut states = layer.states();
    states.sort_by(|a, b| a.0.cmp(&b.0));
    let (open, closed) = (CircuitState::Open, CircuitState::Closed);
    assert_eq!(states, [("broken".into(), open), ("isolated".into(), open), ("kept".into(), closed)]);
    assert_eq!(layer.handle_for("kept").forced(), Some(CircuitState::Closed));
    for model in ["isolated", "broken"] {
        let refused = llm.clone().oneshot(of_model(model)).await.expect_err("open");
        assert_eq!(refused.kind(), ErrorKind::CircuitOpen);
    }
    // An order by hand is kept even so.
    layer.handle_for("new").force_open();
    assert_eq!(llm.oneshot(of_model("new")).await.expect_err("open").kind(), ErrorKind::CircuitOpen);
}

#[tokio::test(start_paused = true)]
async fn to_look_at_a_key_creates_nothing_and_displaces_nothing() {
    let layer = layer().keyed(|request| request.model().unwrap_or_default().into(), 2);
    let _service = layer.layer(Strict::new());
    for n in 0..10 {
        let handle = layer.handle_for(format!("model {n}"));
        assert_eq!((handle.state(), handle.forced(), handle.in_flight()), (CircuitState::Closed, None, 0));
        assert_eq!((handle.consecutive_failures(), handle.earliest_probe().is_some()), (0, true));
        assert_eq!(&*handle.name(), format!("sonnet/model {n}"));
    }
    assert_eq!(layer.states(), []);
}

#[tokio::test(start_paused = true)]
async fn a_reset_after_a_throttle_has_lapsed_is_no_change() {
    let limited = error(ErrorKind::RateLimited).with_retry_after(SECOND);
    let mut bench = Bench::new(layer(), Strict::new().script([Err(limited)]));
    let mut events = bench.handle.subscribe();
    bench.fails(ErrorKind::RateLimited).await;
    assert_eq!(bench.handle.state(), CircuitState::Open);
    assert!(matches!(events.try_recv(), Ok(Event::CircuitChanged { to: CircuitState::Open, .. })));
    advance(2 * SECOND).await;
    assert_eq!(bench.handle.state(), CircuitState::Closed);
    assert!(!bench.handle.reset(), "it was closed already");
    assert!(events.try_recv().is_err());
    // The call that detects the end of the throttle reports it.
    bench.answers().await;
    assert!(matches!(events.try_recv(), Ok(Event::CircuitChanged { to: CircuitState::Closed, .. })));
    assert!(events.try_recv().is_err());
}

#[tokio::test(start_paused = true)]
async fn changes_are_told_in_the_order_in_which_they_were_made() {
    let layer = layer();
    let handle = layer.handle();
    let mut events = handle.subscribe();
    handle.with(|circuit| {
        // Two threads: the one that made the first change reports it after the other's.
        let opened = circuit.machine.force_open();
        let closed = circuit.machine.reset(tokio::time::Instant::now());
        circuit.tell(closed);
        circuit.tell(opened);
    });
    let mut told = Vec::new();
    while let Ok(Event::CircuitChanged { to, .. }) = events.try_recv() {
        told.push(to);
    }
    assert_eq!(told, [CircuitState::Open, CircuitState::Closed]);
}
