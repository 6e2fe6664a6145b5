//! `steadfast check` says what is wrong and where, and what a right file would do.

pub mod common;

use self::common::{Folder, steadfast};

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
fn what_each_tiers_model_takes_is_shown() {
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
    let ran = steadfast(["check", file.to_str().unwrap()], &[]);
    assert_eq!(ran.code, Some(0), "{}{}", ran.out, ran.err);
    let row = |tier: &str| {
        let rows: Vec<&str> = ran.out.split("\n\n").collect();
        let rows = rows.last().expect("the table is the last").to_owned();
        let from = rows.find(&format!("{tier}: ")).unwrap_or_else(|| panic!("no {tier}:\n{}", ran.out));
        let end = rows[from..].find("\n  input").map_or(rows.len(), |end| from + end);
        rows[from..end].to_owned()
    };
    for (tier, said) in [
        ("sonnet", "of the family claude-4-5"),
        ("sonnet", "temperature or top_p, none while it reasons"),
        ("sonnet", "by budget (from 1024 tokens); only when asked; off: `disabled`"),
        ("sonnet", "forced only without reasoning"),
        ("gpt", "reasoning: none that is asked for"),
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
        let file = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples").join(name);
        let ran = steadfast(["check", file.to_str().unwrap()], &[]);
        assert_eq!((ran.code, ran.err.as_str()), (Some(0), ""), "{name}: {}", ran.out);
    }
}

#[test]
fn a_missing_key_is_shown_and_is_no_mistake_of_the_file() {
    let folder = Folder::new("keyless");
    let file = folder.file("steadfast.yaml", RIGHT);
    let ran = steadfast(["check", file.to_str().unwrap()], &[]);
    assert_eq!(ran.code, Some(0), "{}{}", ran.out, ran.err);
    assert!(ran.out.contains("ANTHROPIC_API_KEY, NOT SET"), "{}", ran.out);
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
fn live_calls_each_tier_once_and_says_what_came_of_it() {
    let folder = Folder::new("live");
    let file = folder.file(
        "steadfast.yaml",
        "tiers:\n  - { name: works, provider: simulated, model: small }\n  - { name: keyless, provider: anthropic, model: x }\n  \
         - { name: unreachable, provider: openai, base_url: 'http://127.0.0.1:9/v1', model: x }\n",
    );
    let ran = steadfast(["check", "--live", file.to_str().unwrap()], &[]);
    assert_eq!(ran.code, Some(1), "{}{}", ran.out, ran.err);
    let row = |tier: &str| {
        let mut rows = ran.out.lines().filter(|line| line.split_whitespace().next() == Some(tier));
        rows.next_back().unwrap_or_else(|| panic!("no row for {tier}:\n{}", ran.out)).to_owned()
    };
    assert!(row("works").contains("accepted") && row("works").contains("ms"), "{}", ran.out);
    assert!(row("keyless").contains("MISSING"), "{}", ran.out);
    assert!(row("unreachable").contains("NO"), "{}", ran.out);
    assert!(ran.err.contains("2 of 3 tiers"), "{}", ran.err);
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
