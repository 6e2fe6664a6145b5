use std::time::Duration;

use steadfast_stack::{
    CircuitBreaker, Config, Cooldown, Environment, Fallback, Format, Growth, Loader, OnError, Provider, RecoveryCheck,
    RecoverySettings, Share, Span, Stream, StreamBreak, Tier, TierTimeout,
};

use crate::config::{folder, load};

fn tiers(config: &Config) -> Vec<(&str, Provider, &str)> {
    config
        .tiers
        .iter()
        .map(|tier| (tier.name.as_str(), tier.provider, tier.model.as_deref().unwrap_or_default()))
        .collect()
}

fn statuses(codes: &[u16], timeout: OnError) -> Vec<OnError> {
    codes.iter().copied().map(OnError::Status).chain([timeout]).collect()
}

fn active(every: Option<Span>) -> RecoveryCheck {
    RecoveryCheck::Settings(RecoverySettings { every, active: true, probe_with: None })
}

#[test]
fn a_settings_json_becomes_what_its_words_say() {
    let config = load(&folder("imported").join("settings.json")).unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(
        tiers(&config),
        [
            ("claude-sonnet-4-5", Provider::Anthropic, "claude-sonnet-4-5"),
            ("openai/gpt-4o", Provider::OpenAi, "gpt-4o"),
            ("gemini-2.5-pro", Provider::Gemini, "gemini-2.5-pro"),
            ("anthropic/gpt-4o", Provider::Anthropic, "gpt-4o"),
        ]
    );
    let attempt = Some(TierTimeout::Attempt(Span(Duration::from_secs(30))));
    assert!(config.tiers.iter().all(|tier| tier.timeout == attempt));
    assert_eq!(config.fallback.on_error, Some(statuses(&[429, 500, 502, 503], OnError::OwnTimeout)));
    assert_eq!(config.retry.max_attempts, Some(3));
    assert_eq!(config.retry.retry_timeouts, Some(true));
    assert_eq!(config.retry.budget, Some(Share(1.0)));
    // The last is not left alone for one request's bad luck.
    let own = |tier: &Tier| tier.circuit_breaker.as_ref().and_then(|breaker| breaker.consecutive_failures);
    assert_eq!(config.tiers.iter().map(own).collect::<Vec<_>>(), [Some(3), Some(3), Some(3), None]);
    assert_eq!(config.circuit_breaker.consecutive_failures, None);
    let minute = Span(Duration::from_secs(60));
    assert_eq!(config.circuit_breaker.cooldown, Some(Cooldown::Fixed(minute)));
    assert_eq!(config.fallback.recovery_check, Some(active(Some(minute))));
    // Three attempts of 30 s and two waits of up to 30 s, four times.
    assert_eq!(config.timeout, Some(Span(Duration::from_secs(600))));
    let keys: Vec<&str> = config.tiers.iter().flat_map(|tier| tier.key_variables()).collect();
    assert_eq!(keys, ["ANTHROPIC_API_KEY", "OPENAI_API_KEY", "GEMINI_API_KEY", "GOOGLE_API_KEY", "ANTHROPIC_API_KEY"]);
}

#[test]
fn what_a_settings_json_leaves_out_has_its_default() {
    let text = r#"{ "model": { "primaryModel": "gpt-4o", "provider": "openai" } }"#;
    let config = Config::from_str(text, Format::Json).unwrap();
    assert_eq!(tiers(&config), [("gpt-4o", Provider::OpenAi, "gpt-4o")]);
    let circuit_breaker = CircuitBreaker { second_opinion_after: Some(0), ..CircuitBreaker::default() };
    let stream = Stream { on_break: Some(StreamBreak::Restart), ..Stream::default() };
    let fallback = Fallback { recovery_check: Some(active(None)), ..Fallback::default() };
    let same = Config { tiers: config.tiers.clone(), circuit_breaker, stream, fallback, ..Config::default() };
    assert_eq!(config, same);
    assert!(config.tiers[0].last_resort);

    let text = r#"{ "model": { "primaryModel": "gpt-4o", "provider": "openai", "failover": { "retriesBeforeFailover": 0 } } }"#;
    let config = Config::from_str(text, Format::Json).unwrap();
    assert_eq!((config.retry.max_attempts, &config.tiers[0].circuit_breaker), (Some(1), &None));
    assert_eq!(config.fallback.on_error, None);
}

#[test]
fn blocks_of_this_crates_own_stand_beside_the_model_and_what_is_not_ours_is_not_looked_at() {
    let text = r#"{
      "env": { "TIMEOUT": "${NOT_OURS}" }, "permissions": {}, "statusLine": { "type": "command" }, "hooks": 3,
      "listen": "127.0.0.1:9090",
      "timeout": "45s",
      "features": { "chat": { "concurrency": 7, "tiers": ["gpt-4o"] } },
      "alerts": { "rules": { "budget": "off" }, "webhooks": [{ "url": "https://hooks.example.com/x" }] },
      "fallback": { "recovery_check": "5s" },
      "stream": { "on_break": "fail" },
      "retry": { "max_attempts": 1 },
      "model": {
        "primaryModel": "claude-sonnet-4-5", "provider": "anthropic",
        "fallbackModels": [{ "model": "gpt-4o", "provider": "openai" }],
        "failover": { "retriesBeforeFailover": 2, "triggerOnStatusCodes": [503], "primaryRecoveryCheckIntervalMs": 60000 }
      }
    }"#;
    let config = Config::from_str(text, Format::Json).unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(config.listen, Some("127.0.0.1:9090".parse().unwrap()));
    assert_eq!((config.features["chat"].concurrency, config.alerts.webhooks.len()), (Some(7), 1));
    assert_eq!(config.fallback.on_error, Some(statuses(&[503], OnError::OwnTimeout)));
    // A setting in our own words goes before the meaning of the model's block.
    let second = |n| Some(Span(Duration::from_secs(n)));
    assert_eq!(
        (config.timeout, config.fallback.recovery_check, config.retry.max_attempts),
        (second(45), second(5).map(RecoveryCheck::Every), Some(1))
    );
    assert_eq!(config.circuit_breaker.cooldown, Some(Cooldown::Fixed(Span(Duration::from_secs(60)))));
    assert_eq!(
        (config.stream.on_break, config.circuit_breaker.second_opinion_after),
        (Some(StreamBreak::Fail), Some(0))
    );
}

#[test]
fn a_provider_list_becomes_what_its_words_say() {
    let config = load(&folder("imported").join("providers.yaml")).unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(
        tiers(&config),
        [
            ("anthropic", Provider::Anthropic, "claude-sonnet-4-5"),
            ("openai", Provider::OpenAi, "gpt-4o"),
            ("google", Provider::Gemini, "gemini-2.5-pro"),
        ]
    );
    assert_eq!(config.fallback.on_error, Some(statuses(&[429, 500, 502, 503], OnError::Kind("timeout".to_owned()))));
    assert_eq!((config.retry.max_attempts, config.retry.retry_timeouts), (Some(3), Some(true)));
    // Exponential is what each kind of failure has by itself.
    assert_eq!(config.retry.backoff, None);
    assert_eq!(config.features["chat"].concurrency, Some(20));
    // Three attempts of 30 s and two waits of up to 30 s, three times.
    assert_eq!(config.timeout, Some(Span(Duration::from_secs(450))));
}

#[test]
fn providers_without_a_priority_come_last_and_names_are_kept_apart() {
    let config = load(&folder("imported").join("providers.toml")).unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(
        tiers(&config),
        [("openai/gpt-4o-mini", Provider::OpenAi, "gpt-4o-mini"), ("openai/gpt-4o", Provider::OpenAi, "gpt-4o"),]
    );
    assert_eq!((config.retry.max_attempts, config.retry.backoff), (Some(5), Some(Growth::Fixed)));
    assert_eq!(config.fallback.on_error, Some(vec![OnError::Status(500)]));
}

#[test]
fn overrides_are_laid_over_an_imported_form_too() {
    let environment: Environment =
        [("STEADFAST__TIERS__0__MODEL", "claude-opus-4-1"), ("STEADFAST__TIMEOUT", "45s")].into_iter().collect();
    let config = Loader::new().environment(environment).path(folder("imported").join("settings.json")).unwrap();
    assert_eq!(config.tiers[0].model.as_deref(), Some("claude-opus-4-1"));
    assert_eq!(config.timeout, Some(Span(Duration::from_secs(45))));
}

/// The configurations of other programs, as their documentation has them, and the name that each must be called by.
const FOREIGN: [(&str, Format, &str); 22] = [
    (
        "LiteLLM",
        Format::Yaml,
        "model_list:\n  - model_name: gpt\n    litellm_params: { model: openai/gpt-4o, api_key: sk-hidden }\n",
    ),
    (
        "LiteLLM",
        Format::Yaml,
        "model_list: [{ model_name: gpt, litellm_params: { model: openai/gpt-4o } }]\nrouter_settings: { num_retries: 2 }\ngeneral_settings: { master_key: sk-hidden, database_url: 'postgres://u:hidden@h/d' }\n",
    ),
    ("LiteLLM", Format::Yaml, "litellm_settings: { drop_params: true }\n"),
    ("LiteLLM", Format::Yaml, "general_settings: { master_key: sk-hidden }\n"),
    (
        "claude-code-router",
        Format::Json,
        r#"{"Providers":[{"name":"openrouter","api_base_url":"https://x/v1","api_key":"sk-hidden","models":["m"]}],"Router":{"default":"openrouter,m"}}"#,
    ),
    (
        "claude-code-router",
        Format::Json,
        r#"{"providers":[{"name":"openrouter","api_base_url":"https://x/v1","api_key":"sk-hidden","models":["m"],"transformer":{"use":["openrouter"]}}]}"#,
    ),
    ("claude-code-router", Format::Json, r#"{"LOG":true,"HOST":"127.0.0.1","Router":{"default":"a,b"}}"#),
    (
        "Portkey",
        Format::Json,
        r#"{"strategy":{"mode":"fallback"},"targets":[{"provider":"openai","api_key":"sk-hidden"}]}"#,
    ),
    (
        "Bifrost",
        Format::Json,
        r#"{"providers":{"openai":{"keys":[{"value":"sk-hidden","models":["gpt-4o"],"weight":1}]}},"client":{}}"#,
    ),
    ("Claude Code", Format::Json, r#"{"permissions":{"allow":["Bash(ls)"]},"model":"opus","fallbackModel":"sonnet"}"#),
    (
        "Claude Code",
        Format::Json,
        r#"{"$schema":"https://json.schemastore.org/claude-code-settings.json","env":{"ANTHROPIC_AUTH_TOKEN":"sk-hidden"},"model":"opus"}"#,
    ),
    (
        "Codex",
        Format::Toml,
        "model = \"gpt-5.5\"\nmodel_provider = \"x\"\n[model_providers.x]\nname = \"x\"\nbase_url = \"https://x/v1\"\n",
    ),
    ("Codex", Format::Toml, "model = \"gpt-5.5\"\n[mcp_servers.files]\ncommand = \"npx\"\n"),
    (
        "TensorZero",
        Format::Toml,
        "[gateway]\nbind_address = \"0.0.0.0:3000\"\n[models.m]\nrouting = [\"openai\"]\n[models.m.providers.openai]\ntype = \"openai\"\n",
    ),
    ("TensorZero", Format::Toml, "[functions.chat]\ntype = \"chat\"\n[functions.chat.variants.a]\nmodel = \"m\"\n"),
    (
        "Helicone",
        Format::Yaml,
        "helicone: { features: all }\nrouters: { my-router: { load-balance: { chat: { strategy: latency } } } }\n",
    ),
    ("one-api or new-api", Format::Json, r#"{"channels":[{"type":1,"key":"sk-hidden","models":"gpt-4o"}]}"#),
    ("CLIProxyAPI", Format::Yaml, "port: 8317\nauth-dir: ~/.cli-proxy-api\nclaude-api-key: [{ api-key: sk-hidden }]\n"),
    (
        "opencode",
        Format::Json,
        r#"{"$schema":"https://opencode.ai/config.json","model":"anthropic/claude","provider":{"anthropic":{}}}"#,
    ),
    ("llama-swap", Format::Yaml, "models: { qwen: { cmd: llama-server --port 9001 } }\n"),
    ("LibreChat", Format::Yaml, "version: 1.2.1\nendpoints: { custom: [{ name: groq, apiKey: sk-hidden }] }\n"),
    (
        "Continue",
        Format::Yaml,
        "name: mine\nversion: 0.0.1\nmodels: [{ name: gpt, provider: openai, model: gpt-4o, roles: [chat] }]\n",
    ),
];

#[test]
fn a_file_of_another_program_is_called_by_its_name_in_one_sentence() {
    for (program, format, text) in FOREIGN {
        let error = Loader::new().environment(Environment::default()).text(text, format).unwrap_err();
        let [problem] = error.problems() else { panic!("{program}: {error}") };
        let beginning = format!("this is a configuration of {program}, not of steadfast: ");
        let remedy = problem.message.strip_prefix(&beginning).unwrap_or_else(|| panic!("{program}: {error}"));
        assert!(remedy.contains("tiers") || remedy.contains("from_litellm"), "{error}");
        assert!(!error.to_string().contains("hidden"), "{error}");
        // A file of this crate's with a block of another's is this crate's, and the block is what is wrong.
        let own = match format {
            Format::Json => text.replacen('{', r#"{"tiers":[{"name":"a","provider":"simulated"}],"#, 1),
            Format::Toml => format!("tiers = [{{ name = \"a\", provider = \"simulated\" }}]\n{text}"),
            Format::Yaml => format!("tiers: [{{ name: a, provider: simulated }}]\n{text}"),
        };
        let told = Loader::new().environment(Environment::default()).text(&own, format).unwrap_err().to_string();
        assert!(!told.contains("configuration of"), "{program}: {told}");
    }
    let told = Loader::new().text("{\n // hi\n \"tears\": [] }", Format::Json).unwrap_err().to_string();
    assert!(told.contains("begin with `#`"), "{told}");
}
