//! Tests of sessions of several tenants.

use super::*;
use crate::{
    layers::fallback::SessionSettings,
    request::{BudgetKey, Tenant},
};

fn of_key(key: &str, session: &str) -> LlmRequest {
    prompt().with_session(session).with_extension(BudgetKey::new(key))
}

#[tokio::test(start_paused = true)]
async fn one_tenants_switch_moves_no_session_of_another() {
    for policy in [SessionPolicy::Pin, SessionPolicy::Sticky] {
        // The first call of key `two` fails at the primary.
        let a = Strict::new().script([Err(error(ErrorKind::Server))]);
        let mut llm = FallbackLayer::new("a").tier("b", Strict::new()).session(policy).layer(a);
        let mut served = Vec::new();
        for request in [
            of_key("two", "user-42"),
            of_key("one", "user-42"),
            of_key("two", "user-42"),
            prompt().with_session("user-42"),
            of_key("one", "user-42").with_extension(Tenant::new("three")),
        ] {
            served.push(tier_of(&llm.ready().await.unwrap().call(request).await.unwrap()));
        }
        assert_eq!(served, ["b", "a", "b", "a", "a"], "{policy:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn one_tenants_flood_of_sessions_makes_no_pin_of_another_forgotten() {
    let a = Strict::new().script([Err(error(ErrorKind::Server))]);
    let settings = SessionSettings::new(SessionPolicy::Pin).capacity(50);
    let mut llm = FallbackLayer::new("a").tier("b", Strict::new()).session(settings).layer(a);
    assert_eq!(tier_of(&llm.ready().await.unwrap().call(of_key("one", "mine")).await.unwrap()), "b");
    for n in 0..200 {
        let flood = of_key("two", &format!("s{n}"));
        assert_eq!(tier_of(&llm.ready().await.unwrap().call(flood).await.unwrap()), "a");
    }
    assert_eq!(tier_of(&llm.ready().await.unwrap().call(of_key("one", "mine")).await.unwrap()), "b", "still pinned");
}
