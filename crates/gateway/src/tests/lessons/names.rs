//! Models that callers name, and the list of names.

use serde_json::Value;
use steadfast::providers::simulated::Fault;

use super::{PATHS, hello, house::*};
use crate::tests::harness::{CHAT, GEMINI, MESSAGES, addressed, entry, keys_of, spelled};

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

/// 9router#2531, sub2api PR 4505, cc-router PR 23, opencodex#856, OmniRoute#8311: Claude Code's small model, whose name
/// has a date, was answered by the first tier.
#[tokio::test(start_paused = true)]
async fn another_form_of_a_tiers_model_finds_that_tier() {
    const FORMS: [(&str, &[&str]); 3] = [
        (
            "claude-haiku-4-5",
            &[
                "claude-haiku-4-5-20251001",
                "claude-haiku-4-5-latest",
                "claude-haiku-4-5[1m]",
                "claude-haiku-4-5-20251001[1m]",
                "claude-haiku-4-5@20251001",
                "anthropic/claude-haiku-4.5",
                "openrouter/anthropic/claude-haiku-4-5-20251001",
            ],
        ),
        ("claude-haiku-4-5-20251001", &["claude-haiku-4-5", "claude-haiku-4-5-latest", "claude-haiku-4-5@20251001"]),
        ("meta-llama/llama-3.3-70b-instruct", &["llama-3.3-70b-instruct", "groq/llama-3.3-70b-instruct"]),
    ];
    let tiers = |small: &str| {
        format!(
            "tiers:\n  - {{ name: large, provider: anthropic, model: claude-sonnet-4-6 }}\n  - {{ name: small, provider: \
             openai, api: chat, model: '{small}' }}\n"
        )
    };
    for (model, forms) in FORMS {
        let house = Plan::of(&tiers(model)).build();
        for name in forms.iter().chain([&model]) {
            for (path, stream) in PATHS.into_iter().flat_map(|path| [(path, false), (path, true)]) {
                // A slash in a name is a part of Gemini's path.
                if path == GEMINI && name.contains(['/', '[']) {
                    continue;
                }
                let answer = house.post(path, &[], &naming(name, stream)).await;
                answer.assert_clean(name);
                let by = (answer.header("x-steadfast-tier"), answer.header("x-steadfast-model"));
                assert_eq!(by, (Some("small"), Some(model)), "{name} {path} {stream}");
            }
        }
        // Other models go where they went.
        for name in ["claude-haiku-3-5-20241022", "claude-haiku", "llama-3.3-8b-instruct", "claude-sonnet-4-6-20260101"]
        {
            let answer = house.post(MESSAGES, &[], &naming(name, false)).await;
            assert_eq!(answer.header("x-steadfast-tier"), Some("large"), "{name}");
        }
    }
    // A name that two tiers could be goes to the first tier, as ever.
    let twins = "tiers:\n  - { name: large, provider: anthropic, model: claude-sonnet-4-6 }\n  - { name: a, provider: openai, api: chat, model: gpt-4o-2024-05-13 }\n  - { name: b, provider: openai, api: chat, model: gpt-4o-2024-08-06 }\n";
    let house = Plan::of(twins).build();
    for (name, tier) in [
        ("gpt-4o", "large"),
        ("gpt-4o-latest", "large"),
        ("gpt-4o-2024-08-06", "b"),
        ("openai/gpt-4o-2024-05-13", "a"),
        ("gpt-4o-2024-11-20", "large"),
    ] {
        let answer = house.post(CHAT, &[], &naming(name, false)).await;
        assert_eq!(answer.header("x-steadfast-tier"), Some(tier), "{name}");
    }
}

/// aisix PR 104, CLIProxyAPI PR 849, litellm-vscode-chat#54: a base URL that ends in a slash.
#[tokio::test(start_paused = true)]
async fn slashes_too_many_in_a_path_are_passed_over() {
    let house = Plan::of(TWO).build().on_one_connection();
    for path in PATHS {
        let plain = addressed(path, &hello(false));
        let (version, rest) = plain[1..].split_once('/').unwrap();
        for slashed in
            [format!("/{plain}"), format!("/{version}//{rest}"), format!("{plain}/"), format!("//{version}///{rest}//")]
        {
            let body = spelled(path, &hello(false)).to_string();
            house.send("POST", &slashed, &[], body).await.assert_clean(&slashed);
        }
    }
    assert_eq!(house.get("//v1/models/", &[]).await.status, 200);
    assert_eq!(house.get("//admin/keys", &[]).await.status, 404);
}
