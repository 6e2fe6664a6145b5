//! Models that callers name, and the list of names.

use serde_json::Value;
use steadfast::providers::simulated::Fault;

use super::{PATHS, hello, house::*};
use crate::tests::harness::{entry, keys_of};

fn naming(model: &str, stream: bool) -> Value {
    let mut body = hello(stream);
    body["model"] = model.into();
    body
}

fn listed(list: &Value) -> Vec<&str> {
    list["data"].as_array().unwrap().iter().map(|model| model["id"].as_str().unwrap()).collect()
}

/// The model that answers is in a header, whoever was asked for.
#[tokio::test(start_paused = true)]
async fn every_name_of_the_list_is_answered_by_what_it_names() {
    let names = [
        ("claude-sonnet-4-6", "sonnet", "claude-sonnet-4-6"),
        ("gpt-4o", "backup", "gpt-4o"),
        ("sonnet", "sonnet", "claude-sonnet-4-6"),
        ("backup", "backup", "gpt-4o"),
    ];
    let house = Plan::of(TWO).build();
    assert_eq!(listed(&house.get("/v1/models", &[]).await.json()), names.map(|(name, ..)| name));
    // A name that no tier knows goes to the primary, as ever.
    for (name, tier, model) in names.into_iter().chain([("gpt-4o-mini", "sonnet", "claude-sonnet-4-6")]) {
        for (path, stream) in PATHS.into_iter().flat_map(|path| [(path, false), (path, true)]) {
            let answer = house.post(path, &[], &naming(name, stream)).await;
            answer.assert_clean(name);
            let by = (answer.header("x-steadfast-tier"), answer.header("x-steadfast-model"));
            assert_eq!(by, (Some(tier), Some(model)), "{name} {path} {stream}");
            assert_eq!((answer.header("x-steadfast-attempts"), house.steps().len()), (Some("1"), 1), "{name}");
            assert_eq!(house.record()["asked_model"], name);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn who_named_a_tier_that_is_down_is_answered_by_the_others() {
    for path in PATHS {
        let house = Plan::of(TWO).build();
        house.provider(OPENAI).fail(Fault::Overloaded);
        let answer = house.post(path, &[], &naming("gpt-4o", true)).await;
        answer.assert_clean(path);
        assert_eq!(
            (answer.header("x-steadfast-tier"), house.steps()),
            (Some("sonnet"), vec!["backup".into(), "sonnet".into()])
        );
        assert_eq!(answer.header("x-steadfast-fallback-reason"), Some("overloaded"));
        let only = house.post(path, &[("x-steadfast-no-fallback", "1")], &naming("backup", false)).await;
        assert_eq!((only.status / 100, house.steps()), (5, vec!["backup".to_owned()]), "{only:?}");
    }
}

/// A key is for names, whoever answers to them.
#[tokio::test(start_paused = true)]
async fn a_key_names_and_sees_what_it_is_for() {
    let house = Plan::of(TWO).keys(Some(keys_of(&[entry("one", "sk-one", ", models: [gpt-4o]")]))).build();
    let key = [("authorization", "Bearer sk-one")];
    assert_eq!(listed(&house.get("/v1/models", &key).await.json()), ["gpt-4o"]);
    for path in PATHS {
        let answer = house.post(path, &key, &naming("gpt-4o", false)).await;
        assert_eq!((answer.status, answer.header("x-steadfast-tier")), (200, Some("backup")));
        for other in ["backup", "claude-sonnet-4-6", "sonnet"] {
            assert_eq!(house.post(path, &key, &naming(other, false)).await.status, 403, "{other}");
        }
    }
}

/// A file with names serves no others, and a chain for exactly one name stays as written.
#[tokio::test(start_paused = true)]
async fn a_files_own_names_stand_before_those_of_its_tiers() {
    let named = |models: &str| Plan::of(&format!("{TWO}models: {{ {models} }}\n")).build();
    let (exact, pattern) = (named("gpt-4o: { tiers: [sonnet, backup] }"), named("'*': { tiers: [sonnet, backup] }"));
    for path in PATHS {
        for (house, name, tier) in [
            (&exact, "gpt-4o", Some("sonnet")),
            (&exact, "backup", None),
            (&pattern, "gpt-4o", Some("backup")),
            (&pattern, "backup", Some("backup")),
            (&pattern, "gpt-4o-mini", Some("sonnet")),
        ] {
            let answer = house.post(path, &[], &naming(name, false)).await;
            assert_eq!(answer.header("x-steadfast-tier"), tier, "{name}");
            assert_eq!(answer.status, if tier.is_some() { 200 } else { 404 }, "{name}");
        }
    }
    assert_eq!(listed(&exact.get("/v1/models", &[]).await.json()), ["gpt-4o"]);
}
