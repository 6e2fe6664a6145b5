use std::time::Duration;

use steadfast_stack::{Config, ConfigError, Environment, Format, Loader, Rate, Span, TierTimeout};

const FILE: &str = "
tiers:
  - { name: main, provider: openai, model: '${MODEL:-gpt-4o}' }
  - { name: spare, provider: simulated, timeout: 30s }
features:
  chat: { concurrency: '${PLACES:-20}' }
  code-review: { concurrency: 3 }
";

fn with(variables: &[(&str, &str)]) -> Result<Config, ConfigError> {
    let environment: Environment = variables.iter().copied().collect();
    Loader::new().environment(environment).text(FILE, Format::Yaml)
}

#[test]
fn references_become_what_their_place_wants() {
    let config = with(&[("MODEL", "4"), ("PLACES", "7")]).unwrap();
    assert_eq!(config.tiers[0].model.as_deref(), Some("4"));
    assert_eq!(config.features["chat"].concurrency, Some(7));
    let config = with(&[]).unwrap();
    assert_eq!(config.tiers[0].model.as_deref(), Some("gpt-4o"));
    assert_eq!(config.features["chat"].concurrency, Some(20));

    let error = with(&[("PLACES", "many")]).unwrap_err();
    assert_eq!(error.problems()[0].line, 6);
    assert!(error.to_string().contains("expected a whole number, 0 or more, found ***"), "{error}");
}

#[test]
fn overrides_come_last() {
    let config = with(&[
        ("MODEL", "gpt-4o-mini"),
        ("STEADFAST__TIMEOUT", "60s"),
        ("STEADFAST__TIERS__0__MODEL", "gpt-5"),
        ("STEADFAST__TIERS__1__TIMEOUT", "{ attempt: 10s, idle: 5s }"),
        ("STEADFAST__FEATURES__CHAT__CONCURRENCY", "5"),
        ("STEADFAST__FEATURES__CHAT__TIERS", "[spare]"),
        ("STEADFAST__FEATURES__CODE_REVIEW__REQUESTS_PER_MINUTE", "0.5"),
        ("STEADFAST__FEATURES__NEW__QUEUE", "1"),
        ("STEADFAST__RETRY__RETRY_TIMEOUTS", "true"),
        ("STEADFAST__FALLBACK__ON_ERROR__0", "503"),
        ("STEADFAST__FALLBACK__ON_ERROR__1", "timeout"),
        ("STEADFAST_HOME", "/not/an/override"),
    ])
    .unwrap();
    assert_eq!(config.timeout, Some(Span(Duration::from_secs(60))));
    assert_eq!(config.tiers[0].model.as_deref(), Some("gpt-5"));
    assert!(matches!(config.tiers[1].timeout, Some(TierTimeout::Limits(limits)) if limits.idle.is_some()));
    assert_eq!(config.features["chat"].concurrency, Some(5));
    assert_eq!(config.features["chat"].tiers.as_deref(), Some(&["spare".to_owned()][..]));
    assert_eq!(config.features["code-review"].requests_per_minute, Some(Rate::PerMinute(0.5)));
    assert_eq!(config.features["new"].queue, Some(1));
    assert_eq!(config.retry.retry_timeouts, Some(true));
    assert_eq!(config.fallback.on_error.map(|errors| errors.len()), Some(2));
}

#[test]
fn tiers_can_stand_in_the_environment_alone() {
    let variables: Vec<(String, String)> = (0..12)
        .flat_map(|n| {
            let tier = format!("STEADFAST__TIERS__{n}__");
            [(format!("{tier}NAME"), format!("tier-{n}")), (format!("{tier}PROVIDER"), "simulated".to_owned())]
        })
        .collect();
    let config = Loader::new().environment(variables.into_iter().collect()).text("", Format::Yaml).unwrap();
    assert_eq!(config.tiers.len(), 12);
    assert_eq!(config.tiers[10].name, "tier-10");
}

#[test]
fn an_override_that_fits_nothing_is_named() {
    for (name, value, phrase, right) in [
        ("STEADFAST__TIMEOT", "60s", "unknown key `timeot`", Some("timeout")),
        ("STEADFAST__TIERS__0__MODLE", "x", "unknown key `modle`", Some("model")),
        ("STEADFAST__FEATURES__CHAT__CONCURENCY", "5", "unknown key `concurency`", Some("concurrency")),
        ("STEADFAST__TIERS__9__MODEL", "x", "index 9 is out of range: the list has 2 values", None),
        ("STEADFAST__TIERS__MAIN__MODEL", "x", "`MAIN` is not an index", None),
        ("STEADFAST__TIERS__1__TIMEOUT__IDLE", "5s", "its parent in the file is a single value", None),
        ("STEADFAST__", "x", "empty step", None),
        ("STEADFAST__TIMEOUT", "soon", "expected a span of time", None),
        ("STEADFAST__RETRY__MAX_ATTEMPTS", "0", "must be 1 or more", None),
        ("STEADFAST__TIERS__0__API_KEY", "hidden-0123456789", "a secret must not be in the file", None),
        ("STEADFAST__FEATURES__CHAT__TIERS", "[mian]", "no tier is named `mian`", Some("main")),
    ] {
        let error = with(&[(name, value)]).unwrap_err();
        let [problem] = error.problems() else { panic!("{name}: {error}") };
        assert_eq!(problem.variable.as_deref(), Some(name), "{error}");
        assert_eq!((problem.line, problem.suggestion.as_deref()), (0, right), "{error}");
        assert!(problem.message.contains(phrase), "{error}");
        assert!(error.to_string().contains(name) && !error.to_string().contains("hidden"), "{error}");
    }
}
