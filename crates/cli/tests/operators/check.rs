//! `steadfast check` says what is wrong and where, and what a right file would do.

use std::path::PathBuf;

use crate::common::{Folder, serve::Serve, steadfast};

const RIGHT: &str = "\
tiers:
  - { name: sonnet, provider: anthropic, model: claude-sonnet-4-5 }
  - { name: backup, provider: simulated, model: small }
";

#[test]
fn a_right_file_is_explained() {
    let folder = Folder::new("right");
    let file = folder.file("steadfast.yaml", RIGHT);
    let ran = steadfast(["check", file.to_str().unwrap()], &[("ANTHROPIC_API_KEY", "sk-secret-marker")]);
    assert_eq!(ran.code, Some(0), "{}{}", ran.out, ran.err);
    for said in ["2 tiers", "sonnet", "claude-sonnet-4-5", "ANTHROPIC_API_KEY, set", "none needed", "overloaded"] {
        assert!(ran.out.contains(said), "{said} is missing:\n{}", ran.out);
    }
    assert!(!format!("{}{}", ran.out, ran.err).contains("sk-secret-marker"));
}

#[test]
fn a_model_whose_name_is_nearly_a_known_one_is_told_without_a_call() {
    let folder = Folder::new("names");
    let text = "tiers: [{ name: sonnet, provider: anthropic, model: claude-sonet-4-5 }]";
    let file = folder.file("steadfast.yaml", text);
    let ran = steadfast(["check", "--offline", file.to_str().unwrap()], &[]);
    assert_eq!(ran.code, Some(0), "it may be a model of tomorrow: {}{}", ran.out, ran.err);
    let said = "tier sonnet: no model `claude-sonet-4-5` is known; did you mean `claude-sonnet-4-5`?";
    assert!(ran.out.contains(said), "{}", ran.out);
    let text = "tiers: [{ name: sonnet, provider: simulated }]\nmodels: { 'claude-sonet-*': { tiers: [sonnet] } }";
    let ran = steadfast(["check", "--offline", folder.file("steadfast.yaml", text).to_str().unwrap()], &[]);
    let said = "models: no model `claude-sonet-*` is known; did you mean `claude-sonnet-*`?";
    assert!(ran.code == Some(0) && ran.out.contains(said), "{}{}", ran.out, ran.err);
}

#[test]
fn check_shows_the_parameters_of_each_tiers_model() {
    let folder = Folder::new("models");
    let text = "\
tiers:
  - { name: sonnet, provider: anthropic, model: claude-sonnet-4-5, max_output: 9000 }
  - { name: gpt, provider: openai, model: gpt-4o-2024-08-06 }
  - { name: next, provider: openai, model: gpt-7-nova }
  - { name: ours, provider: openai, model: our-deployment, base_url: 'http://127.0.0.1:9/v1' }
families:
  our-deployment: { like: o3 }
";
    let file = folder.file("steadfast.yaml", text);
    let ran = steadfast(["check", "--offline", file.to_str().unwrap()], &[]);
    assert_eq!(ran.code, Some(0), "{}{}", ran.out, ran.err);
    let row = |tier: &str| {
        let (_, rows) = ran.out.split_once("What the models take").expect("a table of models");
        let from = rows.find(&format!("{tier}: ")).unwrap_or_else(|| panic!("no {tier}:\n{}", ran.out));
        let end = rows[from..].find("\n  input").map_or(rows.len(), |end| from + end);
        rows[from..end].to_owned()
    };
    for (tier, said) in [
        ("sonnet", "of the family claude-4-5"),
        ("sonnet", "temperature or top_p, none while it reasons"),
        ("sonnet", "by budget (from 1024 tokens); only on request; off: `disabled`"),
        ("sonnet", "forced only without reasoning"),
        ("gpt", "reasoning: none on request"),
        ("gpt", "at most 16384 tokens"),
        ("next", "which is not known: taken as `gpt`, carefully"),
        ("ours", "by effort (low, medium, high)"),
        ("ours", "no stop texts"),
    ] {
        assert!(row(tier).contains(said), "{tier} does not say {said}:\n{}", ran.out);
    }
    assert!(ran.out.contains("where a caller sets no limit: 9000 tokens, by the file"), "{}", ran.out);
}

#[test]
fn the_examples_are_right() {
    for name in ["steadfast.yaml", "ladder.yaml"] {
        let file = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples").join(name);
        let ran = steadfast(["check", "--offline", file.to_str().unwrap()], &[]);
        assert_eq!((ran.code, ran.err.as_str()), (Some(0), ""), "{name}: {}", ran.out);
    }
}

#[test]
fn check_says_of_a_lane_that_it_opens_the_providers_account() {
    let folder = Folder::new("lane-other");
    for (other, opens) in [("pass", true), ("[/v1/ocr, '/v1/videos/*/remix']", false), ("refuse", false)] {
        let lane = format!("lane: {{ other: {other}, tiers: [{{ name: more, provider: simulated, model: m }}] }}");
        let file = folder.file("steadfast.yaml", &format!("tiers: [{{ name: main, provider: simulated }}]\n{lane}\n"));
        let ran = steadfast(["check", file.to_str().unwrap()], &[]);
        assert_eq!((ran.code, ran.err.as_str()), (Some(0), ""), "{}", ran.out);
        assert_eq!(ran.out.contains("`other: pass` opens every path of the provider's account"), opens, "{}", ran.out);
    }
    let wrong = folder.file("steadfast.yaml", "tiers: [{ name: main, provider: simulated }]\nlane: { other: [/ocr], tiers: [{ name: more, provider: simulated, model: m }] }\n");
    let ran = steadfast(["check", wrong.to_str().unwrap()], &[]);
    assert_eq!(ran.code, Some(2));
    assert!(ran.err.contains("`/ocr` is no path of `/v1`"), "{}", ran.err);
}

#[test]
fn check_shows_each_tiers_door_its_id_and_its_credential_but_no_secret() {
    let folder = Folder::new("doors");
    let text = "tiers:\n\
                \x20 - { name: own, provider: anthropic, model: claude-sonnet-4-5 }\n\
                \x20 - { name: gpt, provider: openai, at: azure, resource: r-1, model: gpt-4o, api_key: '${AZURE}' }\n\
                \x20 - { name: aws, provider: anthropic, at: aws, region: eu-west-1, model: claude-sonnet-4-5,\n\
                \x20     credential: { key_id: '${ID}', secret: '${SECRET}' } }\n\
                fallback: same_model\n";
    let file = folder.file("steadfast.yaml", text);
    let file = file.to_str().unwrap();
    let set = [("ANTHROPIC_API_KEY", "a-hidden"), ("AZURE", "b-hidden"), ("ID", "c-hidden"), ("SECRET", "d-hidden")];
    let ran = steadfast(["check", file], &set);
    assert_eq!((ran.code, ran.err.as_str()), (Some(0), ""), "{}", ran.out);
    let row = ran.out.lines().find(|line| line.starts_with("aws ") && line.contains("runtime")).unwrap_or_default();
    for said in ["aws eu-west-1, runtime", "eu.anthropic.claude-sonnet-4-5-20250929-v1:0", "key in ID, SECRET"] {
        assert!(row.contains(said), "{said} is missing:\n{}", ran.out);
    }
    assert!(!ran.out.contains("hidden"), "{}", ran.out);
    let ran = steadfast(["check", file], &set[..3]);
    assert_eq!(ran.code, Some(2));
    assert!(ran.err.contains("tiers.aws.credential.secret") && ran.err.contains("SECRET"), "{}", ran.err);
}

#[test]
fn check_shows_how_the_load_spreads_over_deployments() {
    let folder = Folder::new("deployments");
    let text = "tiers:\n\
                \x20 - name: sonnet\n\
                \x20   provider: anthropic\n\
                \x20   model: claude-sonnet-4-5\n\
                \x20   deployments:\n\
                \x20     - { name: first, api_key: '${ONE}', weight: 3, requests_per_minute: 500 }\n\
                \x20     - { name: second, api_key: '${TWO}', max_in_flight: 8 }\n";
    let file = folder.file("steadfast.yaml", text);
    let ran = steadfast(["check", file.to_str().unwrap()], &[("ONE", "a-hidden"), ("TWO", "b-hidden")]);
    assert_eq!((ran.code, ran.err.as_str()), (Some(0), ""), "{}", ran.out);
    let row = |begins: &str, has: &str| ran.out.lines().any(|line| line.starts_with(begins) && line.contains(has));
    for (begins, has) in [
        ("sonnet/first", "ONE, set"),
        ("sonnet/second", "TWO, set"),
        ("sonnet/first", "75.0 %"),
        ("sonnet/first", " 500 "),
        ("sonnet/second", "25.0 %"),
        ("sonnet (anthropic claude-sonnet-4-5) over 2 deployments", "attempt"),
    ] {
        assert!(row(begins, has), "{begins}: {has} is missing:\n{}", ran.out);
    }
    assert!(!ran.out.contains("hidden"), "{}", ran.out);
    let ran = steadfast(["check", file.to_str().unwrap()], &[("ONE", "a-hidden")]);
    assert_eq!(ran.code, Some(2));
    assert!(ran.err.contains("tiers.sonnet.deployments.second.api_key"), "{}", ran.err);
}

#[test]
fn check_misses_a_key_that_serve_needs_unless_it_is_offline() {
    let folder = Folder::new("keyless");
    let file = folder.file("steadfast.yaml", RIGHT);
    let file = file.to_str().unwrap();
    for blank in [None, Some(("ANTHROPIC_API_KEY", "  "))] {
        let ran = steadfast(["check", file], blank.as_slice());
        assert_eq!(ran.code, Some(2), "{}{}", ran.out, ran.err);
        assert!(ran.out.contains("ANTHROPIC_API_KEY, NOT SET") && ran.out.contains("overloaded"), "{}", ran.out);
        let first = ran.out.lines().next().unwrap_or_default();
        assert!(first.ends_with("2 tiers, and a mistake, which the last lines say"), "{first}");
        assert!(!ran.out.contains("no mistake"), "{}", ran.out);
        for said in ["tiers.sonnet.api_key", "ANTHROPIC_API_KEY", "--offline"] {
            assert!(ran.err.contains(said), "{said} is missing:\n{}", ran.err);
        }
    }
    let served = steadfast(["serve", "--listen", "127.0.0.1:0", "--config", file], &[]);
    assert_eq!(served.code, Some(2));
    assert!(served.err.contains("tiers.sonnet.api_key"), "check says what serve says: {}", served.err);

    let ran = steadfast(["check", "--offline", file], &[]);
    assert_eq!((ran.code, ran.err.as_str()), (Some(0), ""), "{}", ran.out);
    assert!(ran.out.contains("ANTHROPIC_API_KEY, NOT SET"), "{}", ran.out);
}

#[test]
fn secrets_of_headers_and_webhooks_may_be_elsewhere_too() {
    let folder = Folder::new("secrets");
    let text = "tiers: [{ name: main, provider: simulated, headers: { x-team: '${TEAM_TOKEN}' } }]\n\
                alerts: { webhooks: [{ url: 'https://hooks.example.com/x', authorization: '${HOOK_TOKEN}' }] }\n";
    let file = folder.file("steadfast.yaml", text);
    let file = file.to_str().unwrap();
    let both = [("TEAM_TOKEN", "a"), ("HOOK_TOKEN", "b")];
    for (set, code, missing) in [(&both[..], 0, ""), (&both[..1], 2, "HOOK_TOKEN"), (&both[1..], 2, "TEAM_TOKEN")] {
        let ran = steadfast(["check", file], set);
        assert_eq!(ran.code, Some(code), "{}{}", ran.out, ran.err);
        assert!(ran.err.contains(missing), "{}", ran.err);
    }
    let ran = steadfast(["check", "--offline", file], &[]);
    assert_eq!((ran.code, ran.err.as_str()), (Some(0), ""), "{}", ran.out);
}

#[test]
fn check_shows_each_tiers_server_and_its_source() {
    let folder = Folder::new("servers");
    let text = "tiers:\n  - { name: sonnet, provider: anthropic, model: a }\n  \
                - { name: proxied, provider: openai, model: b, base_url: 'http://127.0.0.1:9/v1?key=sk-marker' }\n  \
                - { name: own, provider: openai, model: c, base_url: 'https://api.openai.com/v1' }\n  \
                - { name: groq, provider: openai, model: e, base_url: 'https://api.groq.com/openai/v1' }\n  \
                - { name: flash, provider: gemini, model: d }\n";
    let file = folder.file("steadfast.yaml", text);
    let environment = [
        ("ANTHROPIC_BASE_URL", "http://127.0.0.1:7/anthropic"),
        ("OPENAI_API_KEY", "k"),
        ("OPENAI_BASE_URL", "http://not-for-those-with-one.example"),
        ("GEMINI_API_KEY", "k"),
    ];
    let ran = steadfast(["check", file.to_str().unwrap()], &environment);
    assert_eq!(ran.code, Some(0), "{}{}", ran.out, ran.err);
    let row =
        |tier: &str| ran.out.lines().find(|line| line.split_whitespace().next() == Some(tier)).unwrap_or_default();
    assert!(row("sonnet").contains("http://127.0.0.1:7/anthropic (ANTHROPIC_BASE_URL)"), "{}", ran.out);
    assert!(row("sonnet").contains("ANTHROPIC_API_KEY, not set: none is sent"), "{}", ran.out);
    assert!(row("proxied").contains("http://127.0.0.1:9/v1 "), "{}", ran.out);
    assert!(row("proxied").contains("none sent: the server is not api.openai.com; `api_key` names one"), "{}", ran.out);
    assert!(row("groq").contains("`api_key: ${GROQ_API_KEY}` names one"), "{}", ran.out);
    assert!(row("own").contains("OPENAI_API_KEY, set"), "{}", ran.out);
    assert!(row("flash").contains("generativelanguage.googleapis.com"), "{}", ran.out);
    assert!(!ran.out.contains("sk-marker"), "{}", ran.out);
}

#[test]
fn a_server_of_the_environment_that_is_none_or_the_gateway_itself_is_refused() {
    let folder = Folder::new("itself");
    let file = folder.file(
        "settings.json",
        r#"{ "model": { "primaryModel": "gpt-4o", "provider": "openai" }, "listen": "127.0.0.1:8123" }"#,
    );
    let file = file.to_str().unwrap();
    for (url, said) in
        [("nowhere", "it must start with http"), ("http://localhost:8123/v1", "would call this gateway without end")]
    {
        for command in [&["check", file][..], &["serve", "--config", file]] {
            let ran = steadfast(command.iter().copied(), &[("OPENAI_API_KEY", "k"), ("OPENAI_BASE_URL", url)]);
            assert_eq!(ran.code, Some(2), "{command:?}: {}{}", ran.out, ran.err);
            assert!(ran.err.contains("OPENAI_BASE_URL") && ran.err.contains(said), "{command:?}: {}", ran.err);
        }
    }
}

#[test]
fn a_wrong_key_has_its_line_its_column_and_the_nearest_right_one() {
    let folder = Folder::new("wrong");
    let file = folder.file("steadfast.yaml", "tiers:\n  - name: a\n    provider: simulated\n    modle: x\n");
    let ran = steadfast(["check", file.to_str().unwrap()], &[]);
    assert_eq!(ran.code, Some(2), "{}{}", ran.out, ran.err);
    for said in ["steadfast.yaml:4:5", "modle", "`model`"] {
        assert!(ran.err.contains(said), "{said} is missing:\n{}", ran.err);
    }
    assert_eq!(ran.out, "");
}

#[test]
fn a_file_that_is_not_there_is_named() {
    let ran = steadfast(["check", "no-such-file.yaml"], &[]);
    assert_eq!(ran.code, Some(2));
    assert!(ran.err.contains("no-such-file.yaml"), "{}", ran.err);
}

#[test]
fn check_live_calls_each_tier_once_and_shows_the_outcome() {
    let folder = Folder::new("live");
    let file = folder.file(
        "steadfast.yaml",
        "tiers:\n  - { name: works, provider: simulated, model: small }\n  - { name: keyless, provider: anthropic, model: x }\n  \
         - { name: unreachable, provider: openai, base_url: 'http://127.0.0.1:9/v1', model: x }\n",
    );
    let ran = steadfast(["check", "--live", file.to_str().unwrap()], &[]);
    assert_eq!(ran.code, Some(2), "a key is missing: {}{}", ran.out, ran.err);
    let row = |tier: &str| {
        let mut rows = ran.out.lines().filter(|line| line.split_whitespace().next() == Some(tier));
        rows.next_back().unwrap_or_else(|| panic!("no row for {tier}:\n{}", ran.out)).to_owned()
    };
    assert!(row("works").contains("accepted") && row("works").contains("ms"), "{}", ran.out);
    assert!(row("keyless").contains("MISSING"), "{}", ran.out);
    assert!(row("unreachable").contains("NO"), "{}", ran.out);
    assert!(ran.err.contains("ANTHROPIC_API_KEY"), "{}", ran.err);
    let text = std::fs::read_to_string(&file).unwrap();
    let without: Vec<&str> = text.lines().filter(|line| !line.contains("keyless")).collect();
    let file = folder.file("steadfast.yaml", &without.join("\n"));
    let ran = steadfast(["check", "--live", file.to_str().unwrap()], &[]);
    assert_eq!(ran.code, Some(1), "{}{}", ran.out, ran.err);
    assert!(ran.err.contains("1 of 2 tiers"), "{}", ran.err);
}

#[test]
fn the_schema_is_one_json_object() {
    let ran = steadfast(["config", "schema"], &[]);
    assert_eq!(ran.code, Some(0));
    let schema: serde_json::Value = serde_json::from_str(&ran.out).unwrap();
    assert!(schema["properties"]["tiers"].is_object());
}

#[test]
fn a_shell_gets_its_completions() {
    for shell in ["bash", "zsh", "fish"] {
        let ran = steadfast(["completions", shell], &[]);
        assert_eq!(ran.code, Some(0));
        assert!(ran.out.contains("explain") && ran.out.contains("max-tokens"), "{shell}");
    }
}

/// A configuration whose callers have keys, and the entry of one of them with these lines more.
fn keyed(folder: &Folder, more: &str) -> (PathBuf, PathBuf) {
    let config = folder.file(
        "steadfast.yaml",
        "tiers: [{ name: sonnet, provider: simulated, model: claude-sonnet-4-5 }]\n\
         features: { chat: {}, search: {} }\ngateway: { keys: callers.yaml }\n",
    );
    let entry = crate::common::key("ana").1;
    (config, folder.file("callers.yaml", &format!("keys:\n{entry}{more}")))
}

#[test]
fn check_opens_the_file_of_keys_and_knows_what_it_names() {
    let folder = Folder::new("keys");
    for (more, line, said) in [
        ("    features: [chat, chatt]\n", "callers.yaml:4:22", "no feature `chatt`; did you mean `chat`?"),
        ("    features: [other]\n", "callers.yaml:4:16", "no feature `other`; there are chat, search"),
        ("    models: [sonet]\n", "callers.yaml:4:14", "no model `sonet`; did you mean `sonnet`?"),
        ("    models: ['claud-*']\n", "callers.yaml:4:14", "no model `claud-*`; did you mean `claude-*`?"),
        ("    model: [sonnet]\n", "line 4, column 5", "unknown field `model`"),
        ("  - { name: ana, hash: x }\n", "callers.yaml", "the hash of `ana` must be"),
        ("    budget: { usd: 1, period: day, at_cap: { step_down: 4 } }\n", "key ana.at_cap", "no tier has level 4"),
    ] {
        let (config, _) = keyed(&folder, more);
        let ran = steadfast(["check", config.to_str().unwrap()], &[]);
        assert_eq!(ran.code, Some(2), "{more}: {}{}", ran.out, ran.err);
        assert!(ran.err.contains(line) && ran.err.contains(said), "{more}: {}", ran.err);
        assert!(!ran.out.contains("no mistake"), "{}", ran.out);
        // `serve` refuses a file that it cannot read, and says a name that it does not know: it serves the others.
        let serve = ["serve", "--listen", "127.0.0.1:0", "--config", config.to_str().unwrap()];
        if line.starts_with("callers.yaml:") {
            let text = std::fs::read_to_string(&config).unwrap();
            let serve = Serve::with(&text);
            serve.folder.file("callers.yaml", &std::fs::read_to_string(folder.path("callers.yaml")).unwrap());
            let log = serve.start().stop().err;
            assert!(log.contains("a key names what the configuration does not have") && log.contains(said), "{log}");
        } else {
            let served = steadfast(serve, &[]);
            assert_eq!(served.code, Some(2), "{more}");
            assert!(served.err.contains(said), "{more}: {}", served.err);
        }
    }
    let (config, keys) = keyed(&folder, "    features: [chat]\n    models: [sonnet, 'claude-*', gpt-4o]\n");
    let config = config.to_str().unwrap();
    let ran = steadfast(["check", config], &[]);
    assert_eq!((ran.code, ran.err.as_str()), (Some(0), ""), "{}", ran.out);
    std::fs::remove_file(keys).unwrap();
    for offline in [&[][..], &["--offline"]] {
        let ran = steadfast(["check", config].into_iter().chain(offline.iter().copied()), &[]);
        assert_eq!(ran.code, Some(2), "{}{}", ran.out, ran.err);
        assert!(ran.err.contains("callers.yaml: the file of keys cannot be read: No such file"), "{}", ran.err);
    }
}

#[test]
fn check_takes_another_file_of_keys_as_serve_does() {
    let folder = Folder::new("keys-elsewhere");
    let (config, _) = keyed(&folder, "");
    let (config, wrong) = (config.to_str().unwrap(), folder.file("wrong.yaml", "keys: []"));
    let wrong = wrong.to_str().unwrap();
    assert_eq!(steadfast(["check", config], &[]).code, Some(0));
    assert_eq!(steadfast(["check", config, "--keys", wrong], &[]).code, Some(2));
    assert_eq!(steadfast(["check", config], &[("STEADFAST_KEYS", wrong)]).code, Some(2));
    // The examples belong together.
    let example = |name: &str| std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples").join(name);
    let (config, keys) = (example("steadfast.yaml"), example("keys.yaml"));
    let ran = steadfast(["check", "--offline", config.to_str().unwrap(), "--keys", keys.to_str().unwrap()], &[]);
    assert_eq!((ran.code, ran.err.as_str()), (Some(0), ""), "{}", ran.out);
}

#[test]
fn a_provider_of_another_program_is_told_in_our_words() {
    let folder = Folder::new("providers");
    for (text, said) in [
        (
            "tiers: [{ name: a, provider: groq, model: b }]",
            "write `openai` here, and `base_url: https://api.groq.com/openai/v1`",
        ),
        ("tiers: [{ name: a, provider: bedrock, model: b }]", "`at: aws` beside it"),
        ("tiers: [{ name: a, provider: acme, model: b }]", "is `openai`, with its `base_url`"),
    ] {
        let ran = steadfast(["check", folder.file("steadfast.yaml", text).to_str().unwrap()], &[]);
        assert_eq!(ran.code, Some(2));
        assert!(ran.err.contains(said), "{text}: {}", ran.err);
    }
    // In another program's list of providers it is a server of the table.
    let list = folder.file("steadfast.yaml", "providers: [{ name: ollama, model: llama3 }]");
    let ran = steadfast(["check", list.to_str().unwrap()], &[]);
    assert_eq!(ran.code, Some(0), "{}", ran.err);
    assert!(ran.out.contains("http://127.0.0.1:11434/v1"), "{}", ran.out);
}

#[test]
fn a_key_in_quotes_is_told() {
    let folder = Folder::new("quotes");
    let file = folder.file("steadfast.yaml", RIGHT);
    let ran = steadfast(["check", file.to_str().unwrap()], &[("ANTHROPIC_API_KEY", "\"sk-hidden\"")]);
    assert!(ran.out.contains("ANTHROPIC_API_KEY, set, IN QUOTES") && !ran.out.contains("hidden"), "{}", ran.out);
}
