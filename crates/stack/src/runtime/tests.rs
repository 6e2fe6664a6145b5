use std::{fmt, time::Duration};

use tokio::time::Instant;
use tower::{Service, ServiceExt};

use super::*;
use crate::{
    Candidate, CircuitBreaker, Config, Environment, Format, KeyRef, Mirror, Provider, RateOver, Retry, Share, Tier,
};
use steadfast::{LlmRequest, events::CircuitState};

fn simulated(name: &str) -> Tier {
    Tier { name: name.into(), ..Tier::default() }
}

fn config(tiers: impl IntoIterator<Item = Tier>) -> Config {
    Config { tiers: tiers.into_iter().collect(), ..Config::default() }
}

fn nothing() -> Environment {
    Environment::default()
}

/// Returns the message with which a stack is refused: a check finds the same without building one.
fn refused(config: Config) -> String {
    let builder = Stack::builder().environment(nothing());
    let checked = builder.check(&config).unwrap_err().to_string();
    assert_eq!(checked, builder.build(config).unwrap_err().to_string());
    checked
}

#[test]
fn all_types_are_what_users_need() {
    fn check<T: Send + Sync + Clone + fmt::Debug + 'static>(_: &T) {}
    let stack = Stack::from_config(config([simulated("a")])).unwrap();
    check(&stack);
    check(&stack.handle());
    check(&stack.handle().tiers());
    let shown = format!("{stack:?} {:?}", Stack::builder().environment([("KEY", "sk-secret")].into_iter().collect()));
    assert!(shown.contains("KEY") && !shown.contains("sk-secret"), "{shown}");
}

/// Callers are told the caps at which they are refused, and no others.
#[test]
fn of_a_keys_caps_a_call_counts_under_those_that_refuse_it() {
    let text = "
tiers: [{ name: a, provider: simulated }, { name: b, provider: simulated, level: 2 }]
features: { chat: {}, mail: {} }
prices: { a: { input: 1, output: 1 }, b: { input: 1, output: 1 } }
budgets:
  - { name: refuses, usd: 1, period: day, key: ann }
  - { name: warns, usd: 1, period: day, key: ann, at_cap: warn }
  - { name: steps down, usd: 1, period: day, key: ann, at_cap: { step_down: 2 } }
  - { name: of a tier, usd: 1, period: day, key: ann, tier: a }
  - { name: of chat, usd: 1, period: day, key: ann, feature: chat }
  - { name: of the team, usd: 1, period: day, team: ads }
  - { name: of another, usd: 1, period: day, key: bob }
  - { name: of all, usd: 1, period: day }
";
    let stack = Stack::from_config(Config::from_str(text, Format::Yaml).unwrap()).unwrap();
    let caps = |team, feature| {
        let caps = stack.handle().spend_of_call("ann", team, feature);
        caps.iter().map(|spend| spend.cap.to_string()).collect::<Vec<_>>()
    };
    for (team, feature, expected) in [
        (None, None, &["refuses"][..]),
        (None, Some("mail"), &["refuses"]),
        (None, Some("chat"), &["refuses", "of chat"]),
        (Some("ads"), Some("chat"), &["refuses", "of chat", "of the team"]),
    ] {
        assert_eq!(caps(team, feature), expected, "{team:?}, {feature:?}");
    }
}

#[test]
fn a_missing_key_names_tier_field_and_variable() {
    for (provider, variable) in [
        (Provider::Anthropic, "ANTHROPIC_API_KEY"),
        (Provider::OpenAi, "OPENAI_API_KEY"),
        (Provider::Gemini, "GEMINI_API_KEY or GOOGLE_API_KEY"),
    ] {
        let tier = Tier { provider, ..simulated("first") };
        let message = refused(config([tier.clone()]));
        assert!(message.contains("tiers.first.api_key") && message.contains(variable), "{message}");
        let own = Tier { api_key: Some(KeyRef::env("MY_KEY")), ..tier };
        let message = refused(config([simulated("a"), own]));
        assert!(message.contains("tiers.first.api_key") && message.contains("MY_KEY"), "{message}");
    }
}

#[test]
fn every_missing_key_is_told_at_once() {
    let tier = |name| Tier { provider: Provider::OpenAi, ..simulated(name) };
    let error = Stack::builder().environment(nothing()).build(config([tier("a"), tier("b")])).unwrap_err();
    assert_eq!(error.problems().len(), 2);
    assert_eq!(error.problems()[0].variable.as_deref(), Some("OPENAI_API_KEY"));
}

#[test]
fn a_tier_with_a_server_of_its_own_needs_no_key() {
    for provider in [Provider::Anthropic, Provider::OpenAi, Provider::Gemini] {
        let tier = Tier { provider, base_url: Some("http://127.0.0.1:9/v1".into()), ..simulated("own") };
        Stack::builder().environment(nothing()).build(config([tier])).unwrap();
    }
}

#[test]
fn what_cannot_be_is_refused_by_its_field() {
    type Change = fn(&mut Config);
    let with = |change: Change| {
        let mut config = config([simulated("a"), simulated("b")]);
        change(&mut config);
        refused(config)
    };
    let cases: &[(Change, &str)] = &[
        (|config| config.tiers.clear(), "tiers"),
        (|config| config.tiers[1].name = "a".into(), "two tiers are named `a`"),
        (|config| config.tiers[0].name.clear(), "a tier has no name"),
        (|config| config.tiers[1].provider = Provider::Canned, "tiers.b.text"),
        (|config| config.features = [("f".into(), feature(&["c"], None))].into(), "features.f.tiers"),
        (|config| config.features = [("f".into(), feature(&[], None))].into(), "features.f.tiers"),
        (|config| config.default_feature = Some(feature(&["c"], None)), "default_feature.tiers"),
        (|config| config.features = [("f".into(), feature(&["a"], Some(0)))].into(), "features.f.worst_level"),
        (|config| config.fallback.routes = [("slow".into(), vec!["a".into()])].into(), "`slow`"),
        (|config| config.tiers[0].headers = [("a b".into(), Default::default())].into(), "tiers.a.headers.a b"),
        (
            |config| {
                let tier = Tier { provider: Provider::OpenAi, base_url: Some("nowhere".into()), ..simulated("x") };
                config.tiers.push(tier);
            },
            "tiers.x.base_url",
        ),
    ];
    for (change, expected) in cases {
        let message = with(*change);
        assert!(message.contains(expected), "{expected}: {message}");
    }
}

fn mirrored_to(to: Candidate) -> Mirror {
    let (share, features, max_in_flight, timeout, usd_per_day) = (None, None, None, None, None);
    Mirror { to, share, by_session: false, features, max_in_flight, timeout, usd_per_day }
}

#[test]
fn what_is_wrong_with_a_candidate_is_told_with_its_place() {
    let openai = || Tier { provider: Provider::OpenAi, model: Some("m".into()), ..simulated("next") };
    let no_window = RateOver { share: Share(0.5), calls: None, span: None, min_calls: None };
    let breaker = CircuitBreaker { failure_rate: Some(no_window), ..Default::default() };
    for (candidate, expected) in [
        (openai(), "mirror.to.api_key: the environment variable OPENAI_API_KEY"),
        (Tier { headers: [("a b".into(), Default::default())].into(), ..simulated("next") }, "mirror.to.headers.a b"),
        (Tier { base_url: Some("nowhere".into()), ..openai() }, "mirror.to.base_url"),
        (Tier { provider: Provider::Canned, ..simulated("next") }, "mirror.to.text"),
        (Tier { provider: Provider::Cached, ..simulated("next") }, "mirror.to: a candidate must be a model"),
        (Tier { circuit_breaker: Some(breaker), ..simulated("next") }, "mirror.to.circuit_breaker.failure_rate"),
        (
            Tier { retry: Some(Retry { budget: Some(Share(f64::NAN)), ..Default::default() }), ..simulated("next") },
            "mirror.to.retry.budget",
        ),
    ] {
        let mut config = config([simulated("a")]);
        config.mirror = Some(mirrored_to(Candidate::Tier(Box::new(candidate))));
        let message = refused(config);
        assert!(message.contains(expected) && !message.contains("tiers."), "{expected}: {message}");
    }
}

#[test]
fn what_is_wrong_with_a_tier_that_is_the_candidate_too_is_told_once_and_of_the_tier() {
    let tier = Tier { provider: Provider::OpenAi, ..simulated("next") };
    let mut config = config([simulated("a"), tier]);
    config.mirror = Some(mirrored_to(Candidate::Name("next".into())));
    let error = Stack::builder().environment(nothing()).build(config).unwrap_err();
    assert_eq!(error.problems().len(), 1, "{error}");
    assert!(error.to_string().contains("tiers.next.api_key"), "{error}");
}

#[test]
fn what_is_wrong_in_the_files_own_block_is_not_told_of_a_tier() {
    let no_window = RateOver { share: Share(0.5), calls: None, span: None, min_calls: None };
    let mut config = config([simulated("a")]);
    config.circuit_breaker.failure_rate = Some(no_window);
    let message = refused(config.clone());
    assert!(message.contains("circuit_breaker.failure_rate") && !message.contains("tiers."), "{message}");
    config.tiers[0].circuit_breaker = Some(config.circuit_breaker.clone());
    let message = refused(config);
    assert!(message.contains("tiers.a.circuit_breaker.failure_rate"), "{message}");
}

fn feature(tiers: &[&str], worst_level: Option<u8>) -> crate::Feature {
    let tiers = Some(tiers.iter().map(|tier| (*tier).to_owned()).collect());
    crate::Feature { tiers, worst_level, ..Default::default() }
}

#[tokio::test(start_paused = true)]
async fn settings_of_a_tier_stand_before_those_of_the_file() {
    let mut config = config([simulated("a"), simulated("b")]);
    config.circuit_breaker.consecutive_failures = Some(2);
    config.retry.max_attempts = Some(1);
    config.tiers[1].retry = Some(Retry { max_attempts: Some(4), ..Default::default() });
    let down = |name| {
        steadfast::providers::Simulated::new(name).fault_mix(steadfast::providers::simulated::Fault::ServerError)
    };
    let (a, b) = (down("a"), down("b"));
    let (first, second) = (a.handle(), b.handle());
    let stack = Stack::builder().leaf("a", a).leaf("b", b).seed(1).build(config).unwrap();
    assert!(stack.service().oneshot(LlmRequest::prompt("?")).await.is_err());
    // The second tier's circuit opens after two failures and ends the retries.
    assert_eq!((first.stats().calls, second.stats().calls), (1, 2));
    assert_eq!(stack.handle().circuits()["b"].state(), CircuitState::Open);
}

#[tokio::test(start_paused = true)]
async fn a_feature_has_its_own_time() {
    let mut config = config([simulated("a")]);
    config.timeout = Some(crate::Span(Duration::from_secs(5)));
    let own =
        |seconds| crate::Feature { timeout: Some(crate::Span(Duration::from_secs(seconds))), ..Default::default() };
    config.features = [("slow".into(), own(20)), ("usual".into(), Default::default())].into();
    config.default_feature = Some(own(2));
    let hangs = steadfast::providers::Simulated::new("a").fault_mix(steadfast::providers::simulated::Fault::Hang);
    let llm = Stack::builder().leaf("a", hangs).build(config).unwrap().service();
    for (feature, seconds) in [("slow", 20), ("usual", 5), ("other", 2)] {
        let begun = Instant::now();
        assert!(llm.clone().oneshot(LlmRequest::prompt("?").with_feature(feature)).await.is_err());
        assert_eq!(begun.elapsed(), Duration::from_secs(seconds), "{feature}");
    }
}

#[test]
fn a_feature_without_a_limit_has_as_many_places_as_there_may_be_connections() {
    let mut config = config([simulated("a")]);
    let own = |concurrency| crate::Feature { concurrency, ..Default::default() };
    config.features = [("few".into(), own(Some(7))), ("open".into(), own(None))].into();
    for (connections, places) in [(None, 20_000), (Some(30_000), 30_000)] {
        config.gateway.connections = connections;
        let bulkhead = Stack::builder().build(config.clone()).unwrap().handle().bulkhead();
        let limits = ["few", "open", "other"].map(|feature| bulkhead.limit(feature));
        assert_eq!(limits, [7, places, places]);
    }
}

#[tokio::test(start_paused = true)]
async fn a_healthy_call_allocates_the_one_box_that_gives_the_service_a_name() {
    use std::{future::Future as _, pin::pin, task::Waker};

    let mut file =
        config([Tier { provider: Provider::Canned, text: Some("hello".into()), ..simulated("a") }, simulated("b")]);
    file.features = [("chat".into(), Default::default())].into();
    let stack = Stack::from_config(file).unwrap();
    let mut llm = stack.service();
    let mut leaf = steadfast::providers::Canned::text("hello");
    let request = LlmRequest::prompt("?").with_feature("chat");
    let mut cx = std::task::Context::from_waker(Waker::noop());
    let mut measure = |call: &mut dyn FnMut(&mut std::task::Context<'_>)| {
        // The first call creates what later ones share.
        call(&mut cx);
        allocation_counter::measure(|| (0..100).for_each(|_| call(&mut cx))).count_total
    };
    let alone = measure(&mut |cx| assert!(pin!(leaf.call(request.clone())).poll(cx).is_ready()));
    let whole = measure(&mut |cx| assert!(pin!(llm.call(request.clone())).poll(cx).is_ready()));
    assert_eq!(whole - alone, 100, "one for each call");
    stack.handle().status();
    let watched = measure(&mut |cx| assert!(pin!(llm.call(request.clone())).poll(cx).is_ready()));
    assert_eq!(watched, whole, "and no more while somebody listens");
}

/// DeepSeek's models see no pictures: recorded as `unknown variant `image_url`, expected `text``.
#[tokio::test(start_paused = true)]
async fn a_tier_whose_model_lacks_what_a_request_needs_is_passed_over_unless_the_file_says_otherwise() {
    let url = "https://a.test/b.png".to_owned();
    let picture = steadfast::chat::Part::Image(steadfast::chat::Image { media: steadfast::chat::Media::Url(url) });
    let shown = steadfast::chat::Message::new(steadfast::chat::Role::User, vec![picture]);
    let tier = |name: &str, model: &str, images| Tier {
        provider: Provider::OpenAi,
        model: Some(model.into()),
        images,
        ..simulated(name)
    };
    for (model, images, served) in [
        ("deepseek-chat", None, "b"),
        ("deepseek-chat", Some(true), "a"),
        ("gpt-4o", None, "a"),
        ("our-deployment", None, "a"),
    ] {
        let config = config([tier("a", model, images), tier("b", "gpt-4o", None)]);
        assert_eq!(config.reads_requests(), served == "b" || images.is_some(), "{model}");
        let stack = Stack::builder().environment(nothing());
        let stack = ["a", "b"]
            .into_iter()
            .fold(stack, |stack, name| stack.leaf(name, steadfast::providers::Canned::text(name)));
        let stack = stack.build(config).unwrap();
        let asked = steadfast::Chat::new([shown.clone()]);
        let answer = stack.service().oneshot(asked.into()).await.unwrap();
        assert_eq!(answer.text().await.unwrap(), served, "{model}, images: {images:?}");
        let answer = stack.service().oneshot(LlmRequest::prompt("hello")).await.unwrap();
        assert_eq!(answer.text().await.unwrap(), "a", "{model}: a text needs nothing");
    }
}

#[test]
fn what_the_file_says_of_models_is_held_against_the_table() {
    let facts = steadfast::models::Facts { like: Some("gtp-4o".into()), ..Default::default() };
    let wrong = Config { families: [("mine".to_owned(), facts)].into(), ..config([simulated("a")]) };
    assert!(refused(wrong).contains("families.mine.like"));
}
