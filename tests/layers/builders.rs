//! A layer is the same whatever the order in which its builder is told its settings, and a wrong one is said once.

use std::{error::Error as _, fmt::Debug, time::Duration};

use futures_util::FutureExt as _;
use proptest::prelude::*;
use steadfast::{
    BalanceLayer, BudgetLayer, BulkheadLayer, CircuitBreakerLayer, ErrorKind, FallbackLayer, HedgeLayer, LlmError,
    LlmRequest, LlmResponse, MirrorLayer, RetryBudget, RetryWithJitterLayer, RouteLayer, TimeoutLayer,
    chat::{Chat, Message, Usage},
    layers::{
        budget::{Cap, Period},
        bulkhead::Limits,
        circuit_breaker::Window,
        fallback::{AllOpen, FeaturePolicy, RampStep, SessionPolicy, Tier, TierSettings},
        route::Rule,
    },
    prices::{Price, PriceTable, Usd},
    provider_fn,
    providers::Canned,
};
use tower::{Layer, ServiceExt as _};

const SECOND: Duration = Duration::from_secs(1);

/// Checks that a layer looks the same in whatever order it is told these settings.
fn in_any_order<L>(new: impl Fn() -> L, settings: &[fn(L) -> L], look: impl Fn(L) -> String) {
    let told = |order: &[usize]| look(order.iter().fold(new(), |layer, setting| settings[*setting](layer)));
    let usual: Vec<usize> = (0..settings.len()).collect();
    let expected = told(&usual);
    let config = ProptestConfig { cases: 100, failure_persistence: None, ..ProptestConfig::default() };
    proptest!(config, |(order in Just(usual).prop_shuffle())| prop_assert_eq!(told(&order), &*expected));
}

fn debug(layer: impl Debug) -> String {
    format!("{layer:?}")
}

/// Returns an answer that comes at once.
fn now<T>(future: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
    runtime.block_on(future)
}

/// A leaf that answers a chat, and refuses all that is said to be bad.
fn leaf() -> impl steadfast::LlmService<Future: Send> + Clone + Send + Sync + 'static {
    provider_fn(|request: LlmRequest| async move {
        if request.feature() == Some("bad") {
            return Err(LlmError::new(ErrorKind::Refusal, "no"));
        }
        let mut message = Message::assistant("hello");
        message.usage = Some(Usage::new(1_000_000, 0));
        Ok(LlmResponse::from_message(message).with_model("mine", "small"))
    })
}

fn naming(model: &str) -> LlmRequest {
    LlmRequest::from(Chat::new([Message::user("hello")]).model(model))
}

fn tiers(layer: FallbackLayer) -> FallbackLayer {
    layer
        .push(Tier::new("b", Canned::text("b")).level(2).model("model-b"))
        .push(Tier::new("c", Canned::text("c")).level(3))
}

/// Returns the layer's chains, and the tiers that answer its requests.
fn served(layer: FallbackLayer) -> String {
    let layer = layer.checked().unwrap();
    let chains = layer.chains();
    let llm = layer.layer(leaf());
    let ask = |request: LlmRequest| {
        let answer = now(llm.clone().oneshot(request));
        answer.map(|answer| answer.served_by().tier.map(str::to_owned)).map_err(|error| error.to_string())
    };
    let plain = || LlmRequest::prompt("hello");
    let answers = [
        ask(plain()),
        ask(plain().with_feature("chat")),
        ask(plain().with_feature("code")),
        ask(plain().with_feature("bad")),
        ask(naming("model-b")),
        ask(naming("big-1")),
        ask(naming("small")),
        ask(naming("small").with_feature("chat")),
    ];
    format!("{chains:?} {answers:?}")
}

#[test]
fn a_fallback_is_the_same_in_any_order() {
    in_any_order(
        || FallbackLayer::new("a"),
        &[
            tiers,
            |layer| layer.feature("chat", ["c", "a"]),
            |layer| layer.feature("code", FeaturePolicy::new().worst_level(1)),
            |layer| layer.default_policy(FeaturePolicy::new().tiers(["a", "b"]).all_open(AllOpen::Wait(SECOND))),
            |layer| layer.model("big*", ["b", "a"]),
            |layer| layer.model("bigger*", ["b"]),
            |layer| layer.model("small", ["c", "b"]),
            |layer| layer.route(ErrorKind::Refusal, ["c"]),
            |layer| layer.primary(TierSettings::new().model("model-a")),
            |layer| layer.chain_id("main"),
            |layer| layer.session(SessionPolicy::Sticky),
            |layer| layer.gradually([RampStep::new(10, SECOND)]),
            |layer| layer.budget(RetryBudget::unlimited()),
            |layer| layer.reserve_for_fallbacks(SECOND),
        ],
        served,
    );
}

#[test]
fn unknown_names_are_said_once_each_in_any_order() {
    in_any_order(
        || FallbackLayer::new("a"),
        &[
            tiers,
            |layer| layer.feature("chat", ["x", "b"]),
            |layer| layer.default_policy(["b", "b"]),
            |layer| layer.model("big*", ["x", "y"]),
            |layer| layer.route(ErrorKind::Refusal, ["y", "z"]),
        ],
        |layer| {
            let error = layer.checked().unwrap_err();
            assert_eq!(error.field(), "features.chat.tiers");
            for name in ["`x`", "`y`", "`z`", "names `b` twice", "there are a, b, c", "routes.refusal: "] {
                assert_eq!(error.problem().matches(name).count(), 1, "{name}: {error}");
            }
            error.to_string()
        },
    );
}

#[test]
fn an_unchecked_fallback_of_a_wrong_name_refuses_all_and_says_why() {
    let llm = FallbackLayer::new("a").feature("chat", ["nobody"]).tier("b", leaf()).layer(leaf());
    for feature in ["chat", "code"] {
        let error = now(llm.clone().oneshot(LlmRequest::prompt("hello").with_feature(feature))).unwrap_err();
        let said = error.source().expect("the setting").to_string();
        assert_eq!(said, "features.chat.tiers: no tier is named `nobody`; there are a, b");
        assert!(error.is_unsent() || error.attempts().is_empty(), "{error}");
    }
}

#[test]
fn a_route_finds_its_price_whenever_it_was_told() {
    let dollars = |input| Price::dollars(input, 1.0).unwrap();
    let table = move || PriceTable::empty().with("small", dollars(1.0)).with("large", dollars(5.0));
    in_any_order(
        RouteLayer::new,
        &[
            |layer: RouteLayer| layer.rule(Rule::new("all"), leaf()),
            |layer| layer.instead_of(None, "large"),
            |layer| layer.reserve_for_default(SECOND),
            |layer| {
                let dollars = |input| Price::dollars(input, 1.0).unwrap();
                layer.prices(PriceTable::empty().with("small", dollars(1.0)).with("large", dollars(5.0)))
            },
        ],
        |layer| {
            let llm = layer.checked().unwrap().layer(leaf());
            let answer = now(llm.oneshot(LlmRequest::prompt("hello"))).unwrap().with_prices(&table());
            assert_eq!(answer.cost_without_route(), Usd::from_dollars(5.0));
            format!("{:?}", answer.route())
        },
    );
    let unpriced = RouteLayer::new().rule(Rule::new("all"), leaf()).instead_of(None, "unheard-of");
    assert!(unpriced.clone().checked().unwrap_err().problem().contains("`unheard-of` has no price"));
    let answer = now(unpriced.layer(leaf()).oneshot(LlmRequest::prompt("hello"))).unwrap();
    assert_eq!(answer.cost_without_route(), None);
}

#[test]
fn a_budget_is_the_same_in_any_order_and_refuses_what_it_cannot_reserve() {
    let cap = |dollars| Cap::new("all", Usd::from_dollars(dollars).unwrap(), Period::Day);
    let table = || PriceTable::empty().with("small", Price::dollars(1.0, 1.0).unwrap());
    in_any_order(
        || BudgetLayer::new(table()),
        &[
            |layer: BudgetLayer| layer.cap(Cap::new("all", Usd::from_dollars(10.0).unwrap(), Period::Day)),
            |layer| layer.model(None, "small"),
            |layer| layer.default_output(2_000_000),
            |layer| layer.keys(3),
            |layer| layer.starting_at(std::time::UNIX_EPOCH),
        ],
        |layer| {
            let layer = layer.checked().unwrap();
            let (handle, llm) = (layer.handle(), layer.layer(leaf()));
            let mut call = Box::pin(llm.oneshot(LlmRequest::prompt("hello")));
            // It reserves in `call`, at the first poll.
            now(async { assert!(call.as_mut().now_or_never().is_some()) });
            format!("{} {:?}", handle.spent("all"), handle.limit("all"))
        },
    );
    let wrong = || BudgetLayer::new(table()).model(None, "unheard-of");
    assert!(wrong().checked().unwrap_err().problem().contains("`unheard-of` has no price"));
    let error = now(wrong().cap(cap(1.0)).layer(leaf()).oneshot(LlmRequest::prompt("hello"))).unwrap_err();
    assert!(error.source().expect("the setting").to_string().contains("`unheard-of` has no price"), "{error}");
    assert!(now(wrong().layer(leaf()).oneshot(LlmRequest::prompt("hello"))).is_ok(), "no cap counts it");
}

#[test]
fn a_hedge_is_the_same_in_any_order_and_takes_the_default_for_nonsense() {
    in_any_order(
        || HedgeLayer::new("a"),
        &[
            |layer: HedgeLayer| layer.state(&HedgeLayer::new("other").extra(0.0).handle()),
            |layer| layer.extra(1.0),
            |layer| layer.quantile(0.9),
            |layer| layer.tier("b", leaf()),
            |layer| layer.between(SECOND, 2 * SECOND),
            |layer| layer.min_observed(3),
            |layer| layer.sessions(true),
        ],
        |layer| {
            let layer = layer.checked().unwrap();
            let (handle, llm) = (layer.handle(), layer.layer(leaf()));
            now(llm.oneshot(LlmRequest::prompt("hello"))).unwrap();
            format!("{:?} {:?}", handle.stats(), handle.delay(false))
        },
    );
    for wrong in [HedgeLayer::new("a").extra(7.0), HedgeLayer::new("a").quantile(f64::NAN)] {
        assert!(wrong.clone().checked().is_err());
        assert!(now(wrong.layer(leaf()).oneshot(LlmRequest::prompt("hello"))).is_ok());
    }
}

#[test]
fn a_bulkhead_is_the_same_in_any_order() {
    in_any_order(
        BulkheadLayer::new,
        &[
            |layer: BulkheadLayer| layer.feature("chat", 3),
            |layer| layer.feature("batch", Limits::new(2).queue(7)),
            |layer| layer.default_limit(5),
            |layer| layer.queue(9),
            |layer| layer.max_wait(SECOND),
        ],
        |layer| format!("{:?} {:?}", layer.handle().snapshot(), layer.layer(leaf()).handle().snapshot()),
    );
}

#[test]
fn settings_of_the_other_layers_are_the_same_in_any_order() {
    in_any_order(
        || CircuitBreakerLayer::new("a"),
        &[
            |layer: CircuitBreakerLayer| layer.consecutive_failures(2),
            |layer| layer.failure_rate(0.5, Window::last_calls(10)),
            |layer| layer.slow_calls(SECOND, 0.5, Window::last(SECOND)),
            |layer| layer.cooldown(SECOND),
            |layer| layer.cooldown_growth(2.0, 9 * SECOND),
            |layer| layer.probes(3),
            |layer| layer.keyed(|_| "key".into(), 3),
        ],
        debug,
    );
    in_any_order(
        BalanceLayer::new,
        &[
            |layer: BalanceLayer| layer.affinity(false),
            |layer| layer.zone("here"),
            |layer| layer.max_ejected(0.5),
            |layer| layer.slow_start(SECOND),
            |layer| layer.seed(7),
        ],
        |layer| debug(layer.checked().unwrap()),
    );
    in_any_order(
        || TimeoutLayer::new(9 * SECOND),
        &[|layer: TimeoutLayer| layer.first_token(SECOND), |layer| layer.idle(2 * SECOND)],
        debug,
    );
    in_any_order(
        || MirrorLayer::new(leaf()),
        &[
            |layer: MirrorLayer| layer.share(0.5),
            |layer| layer.by_session(),
            |layer| layer.max_in_flight(3),
            |layer| layer.keep_texts(true),
        ],
        debug,
    );
    in_any_order(
        || RetryWithJitterLayer::new().seed(1).budget(RetryBudget::unlimited()),
        &[
            |layer: RetryWithJitterLayer| layer.max_attempts(5),
            |layer| layer.max_delay(SECOND),
            |layer| layer.failover_first(true),
        ],
        |layer| debug(layer.layer(Canned::text("a"))).replace(|sign: char| sign.is_ascii_digit(), "#"),
    );
}
