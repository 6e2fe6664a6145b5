//! A handle that is taken from a new layer follows the settings that come after it. A balancer's handle is its
//! service's, which has all settings.

use std::{sync::Arc, time::Duration};

use steadfast::{
    BudgetLayer, BulkheadLayer, CircuitBreakerLayer, ErrorKind, Event, Events, FallbackHandle, FallbackLayer,
    HedgeLayer, LlmError, LlmRequest, LlmResponse, MirrorLayer,
    chat::{Message, Usage},
    events::{CircuitState, Operation},
    layers::{
        budget::{Cap, Period},
        fallback::Tier,
        mirror::Comparison,
    },
    prices::{PriceTable, Usd},
    provider_fn,
    providers::Canned,
};
use tokio::sync::Notify;
use tower::{Layer, Service as _, ServiceExt as _};

const SECOND: Duration = Duration::from_secs(1);

fn ask(feature: &'static str) -> LlmRequest {
    LlmRequest::prompt("hello").with_feature(feature)
}

fn tier_of(answer: &LlmResponse) -> &str {
    answer.served_by().tier.unwrap()
}

#[tokio::test(start_paused = true)]
async fn a_bulkheads_handle_follows() {
    let layer = BulkheadLayer::new();
    let handle = layer.handle();
    assert!(handle.set_limit("chat", 2).is_err(), "not named yet");
    let layer = layer.feature("chat", 1).feature("batch", 9);
    assert_eq!((handle.limit("chat"), handle.limit("batch"), handle.limit("other")), (1, 9, 64));
    handle.set_limit("batch", 2).unwrap();
    let layer = layer.queue(3).feature("code", 5);
    assert_eq!((handle.limit("batch"), handle.limit("code")), (2, 5), "what was set by hand stays");

    let leaf = provider_fn(|_| async {
        tokio::time::sleep(SECOND).await;
        Ok::<_, LlmError>(LlmResponse::from_text("hello"))
    });
    let mut llm = layer.layer(leaf);
    let calls = (llm.call(ask("chat")), llm.call(ask("chat")));
    assert_eq!((handle.in_flight("chat"), handle.queued("chat")), (1, 1));
    handle.set_limit("chat", 2).unwrap();
    assert_eq!((handle.in_flight("chat"), handle.queued("chat")), (2, 0));
    drop(calls);
    assert_eq!(llm.handle().limit("chat"), 2);

    // A layer that is changed now has places of its own.
    let other = layer.feature("chat", 7).layer(Canned::text("hello"));
    assert_eq!((handle.limit("chat"), other.handle().limit("chat")), (2, 7));
}

#[tokio::test(start_paused = true)]
async fn a_circuits_handle_follows() {
    let down = provider_fn(|_| async { Err::<LlmResponse, _>(LlmError::new(ErrorKind::Server, "down")) });
    let events = Events::new();
    let mut heard = events.subscribe();
    let layer = CircuitBreakerLayer::new("a");
    let handle = layer.handle();
    assert_eq!(handle.state(), CircuitState::Closed);
    let layer = layer.consecutive_failures(1).events(events);
    let llm = layer.cooldown(60 * SECOND).layer(down);
    assert_eq!(llm.clone().oneshot(ask("chat")).await.unwrap_err().kind(), ErrorKind::Server);
    assert_eq!(handle.state(), CircuitState::Open);
    assert!(handle.acting_as("ana").force_close());
    assert_eq!(llm.oneshot(ask("chat")).await.unwrap_err().kind(), ErrorKind::Server);
    let mut operated = 0;
    while let Ok(event) = heard.try_recv() {
        operated += usize::from(matches!(event, Event::Operated { operation: Operation::CircuitForced { .. }, .. }));
    }
    assert_eq!(operated, 1, "where the layer's events go");
}

#[tokio::test(start_paused = true)]
async fn an_order_to_a_circuit_outlasts_the_settings_after_it() {
    let layer = CircuitBreakerLayer::new("a");
    let handle = layer.handle();
    assert!(handle.force_open());
    let llm = layer.consecutive_failures(1).layer(Canned::text("hello"));
    assert_eq!(handle.forced(), Some(CircuitState::Open));
    assert_eq!(llm.clone().oneshot(ask("chat")).await.unwrap_err().kind(), ErrorKind::CircuitOpen);
    assert!(handle.reset() && llm.oneshot(ask("chat")).await.is_ok());

    let layer = CircuitBreakerLayer::new("models").keyed(|request| request.feature().unwrap_or_default().into(), 3);
    let (one, other) = (layer.handle_for("one"), layer.handle_for("other"));
    assert!(one.force_open());
    let llm = layer.cooldown(SECOND).layer(Canned::text("hello"));
    assert_eq!(llm.clone().oneshot(ask("one")).await.unwrap_err().kind(), ErrorKind::CircuitOpen);
    assert!(llm.oneshot(ask("other")).await.is_ok());
    assert_eq!((one.forced(), other.forced()), (Some(CircuitState::Open), None));
}

#[tokio::test(start_paused = true)]
async fn an_active_probe_that_began_before_the_last_setting_closes_the_circuit() {
    let layer = CircuitBreakerLayer::new("a");
    let handle = layer.handle();
    let probe = tokio::spawn(handle.probe_with(Canned::text("well"), ask("probe"), SECOND));
    tokio::task::yield_now().await;
    let down = provider_fn(|_| async { Err::<LlmResponse, _>(LlmError::new(ErrorKind::Server, "down")) });
    let llm = layer.consecutive_failures(1).cooldown(600 * SECOND).layer(down);
    llm.clone().oneshot(ask("chat")).await.unwrap_err();
    assert_eq!(handle.state(), CircuitState::Open);
    tokio::time::sleep(2 * SECOND).await;
    assert_eq!(handle.state(), CircuitState::Closed);
    drop((handle, llm));
    tokio::time::timeout(5 * SECOND, probe).await.expect("nobody has the circuit").unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_budgets_handle_follows() {
    let leaf = provider_fn(|_| async {
        let mut message = Message::assistant("hello");
        message.usage = Some(Usage::new(1000, 500));
        Ok::<_, LlmError>(LlmResponse::from_message(message).with_model("openai", "gpt-4o"))
    });
    let dollars = |dollars| Usd::from_dollars(dollars).unwrap();
    let layer = BudgetLayer::new(PriceTable::builtin());
    let handle = layer.handle();
    assert_eq!(handle.limit("all"), None);
    let layer = layer.cap(Cap::new("all", dollars(9.0), Period::Day));
    handle.set_limit("all", dollars(5.0)).unwrap();
    let llm = layer.default_output(10).layer(leaf);
    assert_eq!(handle.limit("all"), Some(dollars(5.0)), "what was set by hand stays");
    let answer = llm.clone().oneshot(ask("chat")).await.unwrap();
    assert_eq!(handle.spent("all"), answer.cost().unwrap());
    handle.set_limit("all", Usd::ZERO).unwrap();
    let gpt = LlmRequest::from(steadfast::Chat::new([Message::user("hello")]).model("gpt-4o"));
    assert_eq!(llm.oneshot(gpt).await.unwrap_err().kind(), ErrorKind::Budget);
}

#[tokio::test(start_paused = true)]
async fn a_hedges_handle_follows() {
    let slow = provider_fn(|_| async {
        tokio::time::sleep(60 * SECOND).await;
        Ok::<_, LlmError>(LlmResponse::from_text("late"))
    });
    let layer = HedgeLayer::new("a");
    let handle = layer.handle();
    let layer = layer.after(SECOND).extra(1.0);
    assert_eq!(handle.delay(false), Some(SECOND));
    let llm = layer.tier("b", Canned::text("b")).layer(slow);
    assert_eq!(tier_of(&llm.oneshot(ask("chat")).await.unwrap()), "b");
    assert_eq!((handle.stats().sent, handle.stats().won), (1, 1));

    let next = HedgeLayer::new("a");
    let new = next.handle();
    let _next = next.state(&handle);
    assert_eq!(new.stats(), handle.stats(), "those of the state that it was given");
}

#[tokio::test(start_paused = true)]
async fn a_mirrors_handle_follows() {
    let done = Arc::new(Notify::new());
    let told = done.clone();
    let layer = MirrorLayer::new(Canned::text("b"));
    let handle = layer.handle();
    let layer = layer.share(1.0).compare(move |_: Comparison| told.notify_one());
    let llm = layer.max_in_flight(3).layer(Canned::text("a"));
    llm.oneshot(ask("chat")).await.unwrap();
    done.notified().await;
    assert_eq!((handle.stats().mirrored, handle.stats().compared), (1, 1));

    let next = MirrorLayer::new(Canned::text("b"));
    let new = next.handle();
    let _next = next.state(&handle);
    assert_eq!(new.stats(), handle.stats(), "those of the state that it was given");
}

#[tokio::test(start_paused = true)]
async fn a_fallbacks_handle_and_view_follow() {
    let events = Events::new();
    let mut heard = events.subscribe();
    let layer = FallbackLayer::new("a");
    let (handle, view) = (layer.handle(), layer.eligibility());
    assert!(!view.admits("b", &ask("chat")));
    let layer = layer.events(events).feature("code", ["a"]).push(Tier::new("b", Canned::text("b")));
    let llm = layer.layer(Canned::text("a"));
    assert_eq!(tier_of(&llm.clone().oneshot(ask("chat")).await.unwrap()), "a");
    assert!(view.admits("b", &ask("chat")) && !view.admits("b", &ask("code")));
    handle.drain("a");
    assert_eq!(tier_of(&llm.oneshot(ask("chat")).await.unwrap()), "b");
    assert!(!view.admits("a", &ask("chat")));
    assert!(matches!(heard.try_recv(), Ok(Event::Operated { .. })), "where the layer's events go");
}

#[tokio::test(start_paused = true)]
async fn a_fallbacks_handle_gives_the_orders_that_it_is_steered_by() {
    let steer = FallbackHandle::new(Events::new());
    let layer = FallbackLayer::new("a");
    let handle = layer.handle();
    let llm = layer.steered_by(&steer).tier("b", Canned::text("b")).layer(Canned::text("a"));
    handle.drain("a");
    assert!(steer.is_drained("a"));
    assert_eq!(tier_of(&llm.oneshot(ask("chat")).await.unwrap()), "b");
}
