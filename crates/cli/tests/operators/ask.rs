//! `steadfast ask` answers a prompt, and says on request how.

use crate::common::{Folder, steadfast};

#[test]
fn without_a_file_simulated_providers_answer() {
    let ran = steadfast(["ask", "Explain closures."], &[]);
    assert_eq!(ran.code, Some(0), "{}", ran.err);
    assert!(!ran.out.trim().is_empty());
}

#[test]
fn the_record_says_who_answered_and_what_failed_before() {
    let folder = Folder::new("record");
    let file = folder.file(
        "steadfast.yaml",
        "tiers:\n  - { name: down, provider: openai, base_url: 'http://127.0.0.1:9/v1', model: x, retry: { max_attempts: 1 } }\n  \
         - { name: canned, provider: canned, text: Please try again. }\n",
    );
    let config = file.to_str().unwrap();
    let ran = steadfast(["ask", "hello", "--config", config, "--explain"], &[]);
    assert_eq!((ran.code, ran.out.as_str()), (Some(0), "Please try again.\n"), "{}", ran.err);
    assert!(ran.err.contains("down: connect") && ran.err.contains("served by canned"), "{}", ran.err);

    let ran = steadfast(["ask", "hello", "--json", "--explain"], &[("STEADFAST_CONFIG", config)]);
    let answer: serde_json::Value = serde_json::from_str(&ran.out).unwrap();
    assert_eq!(answer["text"], "Please try again.");
    assert_eq!(answer["served_by"]["tier"], "canned");
    assert_eq!(answer["degraded"]["level"], 5);
    assert_eq!(answer["record"][0]["tier"], "down");
    assert_eq!(answer["record"][0]["failure"], "connect");
    assert_eq!((&answer["served_by"]["tier_number"], &answer["record"][0]["tier_number"]), (&2.into(), &1.into()));
    assert!(answer["task_id"].is_null(), "{answer}");
}

#[test]
fn a_prompt_may_be_asked_as_a_client_of_any_protocol_does() {
    for dialect in ["anthropic", "openai", "responses", "gemini"] {
        let arguments = ["ask", "hello", "--dialect", dialect, "--system", "be kind", "--max-tokens", "50"];
        let ran = steadfast(arguments, &[]);
        assert_eq!(ran.code, Some(0), "{dialect}: {}", ran.err);
        assert!(ran.out.contains("simulated"), "{dialect}: {}", ran.out);
    }
    assert_eq!(steadfast(["ask", "hello", "--dialect", "latin"], &[]).code, Some(2));
}

#[test]
fn an_answer_handed_to_people_names_its_task() {
    let folder = Folder::new("people");
    let tasks = folder.path("tasks.db");
    let config = format!(
        "tiers:\n  - {{ name: down, provider: openai, base_url: 'http://127.0.0.1:9/v1', model: x, retry: {{ max_attempts: 1 }} }}\n  \
         - {{ name: people, provider: handoff }}\nstores: {{ durable: 'sqlite:{}' }}\n",
        tasks.display(),
    );
    let file = folder.file("steadfast.yaml", &config);
    let ran = steadfast(["ask", "hello", "--json", "-c", file.to_str().unwrap()], &[]);
    let answer: serde_json::Value = serde_json::from_str(&ran.out).unwrap();
    assert!(answer["task_id"].as_str().is_some_and(|task| task.starts_with("task_")), "{answer}");
    assert_eq!((&answer["served_by"]["tier"], &answer["served_by"]["tier_number"]), (&"people".into(), &2.into()));
}

#[test]
fn a_failure_is_exit_code_1_and_an_object_too() {
    let folder = Folder::new("failure");
    let file = folder.file(
        "steadfast.yaml",
        "tiers:\n  - { name: down, provider: openai, base_url: 'http://127.0.0.1:9/v1', model: x, retry: { max_attempts: 1 } }\n",
    );
    let ran = steadfast(["ask", "hello", "--json", "-c", file.to_str().unwrap()], &[]);
    assert_eq!(ran.code, Some(1));
    let answer: serde_json::Value = serde_json::from_str(&ran.out).unwrap();
    assert_eq!(answer["error"]["kind"], "connect");
    assert!(ran.err.starts_with("error: "), "{}", ran.err);
}

#[test]
fn wrong_words_on_the_command_line_are_exit_code_2() {
    for arguments in [&["ask"][..], &["ask", ""], &["ask", "x", "--timeout", "soon"], &["ask", "x", "-c", "none.yaml"]]
    {
        let ran = steadfast(arguments.iter().copied(), &[]);
        assert_eq!(ran.code, Some(2), "{arguments:?}: {}", ran.err);
        assert!(!ran.err.is_empty());
    }
}
