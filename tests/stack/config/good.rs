use std::{fs, path::PathBuf, time::Duration};

use steadfast::CommitPoint;
use steadfast_stack::{
    AllOpen, AtCap, CacheAcross, Candidate, Config, Cooldown, Environment, FeatureCache, Format, Growth, KeyRef,
    Likeness, Loader, OnError, Protocol, RuleThreshold, Share, Size, Span, TierApi,
};

use crate::config::{folder, load};

#[test]
fn three_formats_are_one_configuration() {
    let [yaml, toml, json] = ["yaml", "toml", "json"].map(|suffix| {
        let path = folder("good").join(format!("whole.{suffix}"));
        load(&path).unwrap_or_else(|error| panic!("{error}"))
    });
    assert_eq!(yaml, toml);
    assert_eq!(yaml, json);

    assert_eq!(yaml.tiers[0].api_key, Some(KeyRef::env("ANTHROPIC_API_KEY")));
    assert_eq!(yaml.tiers[3].text.as_deref(), Some("Sorry: $5 later."));
    assert_eq!((&*yaml.tiers[1].headers["x-team"], yaml.tiers[1].api), ("search", Some(TierApi::Responses)));
    assert_eq!(yaml.timeout, Some(Span(Duration::from_secs(90))));
    assert_eq!(yaml.stream.commit, Some(CommitPoint::FirstText));
    assert_eq!(yaml.features["code"].stream.commit, Some(CommitPoint::Complete));
    assert_eq!(yaml.features["chat"].stream.commit, None);
    assert_eq!(yaml.retry.backoff, Some(Growth::Linear));
    assert_eq!(yaml.fallback.all_open, Some(AllOpen::Wait(Span(Duration::from_secs(5)))));
    assert_eq!(yaml.features["code"].all_open, Some(AllOpen::Queue(Span(Duration::from_secs(120)))));
    assert_eq!(
        yaml.fallback.on_error.as_deref(),
        Some(&[OnError::Status(429), OnError::Status(503), OnError::Kind("timeout".into())][..])
    );
    assert_eq!(yaml.models["claude-haiku-*"].tiers, ["local", "sorry"]);
    assert_eq!(yaml.named_model("claude-haiku-4-5"), Some("claude-haiku-*"));
    assert_eq!(yaml.named_model("gpt-4o"), None);
    assert_eq!(yaml.budgets[0].at_cap, AtCap::StepDown(3));
    assert!(yaml.budgets[1].each_key);
    let mirror = yaml.mirror.as_ref().unwrap();
    assert!(matches!(&mirror.to, Candidate::Tier(tier) if tier.name == "shadow"));
    assert_eq!((mirror.share, mirror.by_session, mirror.max_in_flight), (Some(Share(0.05)), true, Some(4)));
    assert_eq!(yaml.gateway.max_body, Some(Size(8 << 20)));
    assert_eq!((yaml.gateway.grace, yaml.gateway.keep_alive), (Some(Span(Duration::from_secs(45))), None));
    assert_eq!(yaml.gateway.cors, ["https://app.example.com"]);
    assert_eq!(yaml.gateway.wait_for_rate_limits.as_deref(), Some(&[Protocol::Responses, Protocol::OpenAi][..]));
    let idempotency = yaml.idempotency.unwrap();
    assert_eq!((idempotency.ttl, idempotency.max_bytes), (Some(Span(Duration::from_secs(3600))), Some(Size(32 << 20))));
    let cache = yaml.cache.unwrap();
    assert_eq!((cache.ttl, cache.across.as_slice()), (Some(Span(Duration::from_secs(60))), &[CacheAcross::Models][..]));
    assert_eq!(yaml.features["chat"].cache, Some(FeatureCache::Ttl(Span(Duration::from_secs(600)))));
    assert_eq!(yaml.features["code"].cache, Some(FeatureCache::On(false)));
    let similar = yaml.tiers[2].similar.as_ref().unwrap();
    assert_eq!(
        (yaml.tiers[2].service_level(), similar.method, similar.threshold),
        (4, Likeness::Embeddings, Some(0.9))
    );
    assert_eq!(yaml.alerts.rules.key_refused, Some(RuleThreshold::On(false)));
    let cooldown = yaml.tiers[0].circuit_breaker.as_ref().and_then(|breaker| breaker.cooldown);
    assert!(matches!(cooldown, Some(Cooldown::Growing(growing)) if growing.factor == 2.0));
}

#[test]
fn yaml_anchors_and_empty_blocks_are_read() {
    let config = load(&folder("good").join("anchors.yaml")).unwrap();
    assert_eq!(config.tiers[1].name, "spare");
    assert_eq!(config.tiers[1].retry, config.tiers[0].retry);
    assert_eq!(config.retry.max_attempts, Some(2));
    assert!(config.features.is_empty());
}

#[test]
fn the_example_is_a_configuration() {
    let path = PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/..")).join("examples/steadfast.yaml");
    let config = load(&path).unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(config.tiers.len(), 4);
    let text = fs::read_to_string(&path).unwrap();
    // The settings that are commented out hold too.
    let all = text
        .replace("\n# gateway", "\ngateway")
        .replace("\n# idempotency", "\nidempotency")
        .replace("\n# cache", "\ncache")
        .replace("\n# stores", "\nstores")
        .replace("\n# responses", "\nresponses")
        .replace("\n# ledger", "\nledger")
        .replace("\n# handoff", "\nhandoff")
        .replace("\n# mirror", "\nmirror")
        .replace("\n# same_model", "\nsame_model")
        .replace("\n#   ", "\n  ");
    let all = all.replace("\n# listen", "\nlisten").replace("\n# retry", "\nretry").replace("\n# circuit", "\ncircuit");
    let all = all.replace("\n# hedge", "\nhedge").replace("\n# balance", "\nbalance");
    let all =
        all.replace("\n# default_feature", "\ndefault_feature").replace("\n  # ", "\n  ").replace("\n    # ", "\n    ");
    let all = Config::from_str(&all, Format::Yaml).unwrap_or_else(|error| panic!("{error}"));
    assert!(all.cache.is_some() && all.idempotency.is_some() && all.stores.durable.is_some());
    assert!(all.handoff.is_some() && all.mirror.is_some() && all.responses.is_some() && all.ledger.is_some());
    assert!(all.tiers.iter().any(|tier| tier.deployments.is_some()) && all.balance.affinity == Some(true));
    assert!(all.tiers.iter().filter(|tier| tier.at.is_some()).count() == 3 && all.same_model.len() == 1);
}

#[test]
fn no_secret_is_in_what_debug_prints() {
    let text = "
tiers:
  - { name: main, provider: openai, model: gpt-4o, api_key: '${MY_KEY}', headers: { x-key: 'Bearer ${MY_KEY}' } }
alerts: { webhooks: [{ url: 'https://example.com/${MY_KEY}', authorization: '${MY_KEY}' }] }
stores: { durable: 'sqlite:${MY_KEY}.db' }
handoff: { notify: { url: 'https://example.com/${MY_KEY}' }, callbacks: { secret: '${MY_KEY}' } }
";
    let environment: Environment = [("MY_KEY", "hidden-0123456789")].into_iter().collect();
    let loader = Loader::new().environment(environment.clone());
    let config = loader.text(text, Format::Yaml).unwrap();
    assert_eq!(&*config.tiers[0].headers["x-key"], "Bearer hidden-0123456789");
    assert_eq!(config.stores.durable.as_deref(), Some("sqlite:hidden-0123456789.db"));
    for shown in [format!("{config:?}"), format!("{environment:?}"), format!("{loader:?}")] {
        assert!(!shown.contains("hidden"), "{shown}");
    }
    assert!(format!("{config:?}").contains("MY_KEY"));
}

#[test]
fn missing_keys_are_named_with_all_variables_that_would_do() {
    let text = "
tiers:
  - { name: sonnet, provider: anthropic, model: claude-sonnet-4-5 }
  - { name: gemini, provider: gemini, model: gemini-2.5-pro }
  - { name: own, provider: openai, model: gpt-4o, api_key: '${MY_KEY}' }
  - { name: local, provider: openai, model: llama, base_url: 'http://127.0.0.1:9001/v1' }
  - { name: sorry, provider: canned, text: Sorry. }
alerts: { webhooks: [{ url: 'https://example.com', authorization: '${HOOK}' }] }
";
    let config = Config::from_str(text, Format::Yaml).unwrap();
    let missing = |variables: &[(&str, &str)]| -> Vec<(Option<String>, Vec<String>)> {
        let environment: Environment = variables.iter().copied().collect();
        config.missing_keys(&environment).into_iter().map(|key| (key.tier, key.variables)).collect()
    };
    let names = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
    assert_eq!(
        missing(&[("ANTHROPIC_API_KEY", "x"), ("MY_KEY", " ")]),
        [
            (Some("gemini".to_owned()), names(&["GEMINI_API_KEY", "GOOGLE_API_KEY"])),
            (Some("own".to_owned()), names(&["MY_KEY"])),
            (None, names(&["HOOK"])),
        ]
    );
    let all = [("ANTHROPIC_API_KEY", "x"), ("GOOGLE_API_KEY", "x"), ("MY_KEY", "x"), ("HOOK", "x")];
    assert_eq!(missing(&all), []);
}

#[test]
fn a_price_from_elsewhere_makes_a_budget_good() {
    let text = "
tiers: [{ name: main, provider: openai, model: gpt-4o }]
budgets: [{ name: day, usd: 5, period: day }]
";
    let loader = Loader::new().priced(|_, _| false);
    assert!(loader.text(text, Format::Yaml).is_err());
    assert!(
        loader.priced(|provider, model| (provider, model) == ("openai", "gpt-4o")).text(text, Format::Yaml).is_ok()
    );
}

#[test]
fn a_model_without_a_price_is_named_once_however_many_tiers_have_it() {
    let text = "
tiers:
  - { name: a, provider: openai, model: one }
  - { name: b, provider: openai, model: two }
  - { name: c, provider: openai, model: one }
budgets: [{ name: day, usd: 5, period: day }]
";
    let error = Loader::new().priced(|_, _| false).text(text, Format::Yaml).unwrap_err();
    assert!(error.problems()[0].message.contains("without a price: `one`, `two`;"), "{error}");
}

#[test]
fn a_store_is_read_where_it_is_compiled_in_and_else_named_with_its_feature() {
    let read = |stores: &str| {
        let text = format!("tiers: [{{ name: main, provider: simulated }}]\nstores: {stores}");
        Config::from_str(&text, Format::Yaml)
    };
    for (stores, feature, there) in [
        ("{ durable: 'sqlite:steadfast.db' }", "sqlite", true),
        ("{ durable: 'postgres://ada:hush@host/state' }", "postgres", true),
        ("{ shared: 'redis://ada:hush@host' }", "redis", true),
    ] {
        match read(stores) {
            Ok(_) => assert!(there, "{stores}"),
            Err(error) => {
                assert!(!there && error.to_string().contains(&format!("the feature `{feature}`")), "{error}");
            }
        }
    }
}
