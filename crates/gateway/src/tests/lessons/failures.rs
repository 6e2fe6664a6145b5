//! The classification of failures, and the tier that is tried next.

use std::time::Duration;

use serde_json::{Value, json};
use steadfast::{events::CircuitState, providers::simulated::Fault};

use super::{house::*, wire::*, *};

/// The stack whose primary speaks this dialect: (stack, host, the host of the next tier).
const BOTH: [(&str, &str, &str); 2] = [(TWO, ANTHROPIC, OPENAI), (TURNED, OPENAI, ANTHROPIC)];

/// An answer that the primary gives, and whether the next tier is asked after it.
async fn meets(reply: Reply, fails_over: bool, case: &str) {
    for (config, host, other) in BOTH {
        for path in PATHS {
            for stream in [false, true] {
                let provider = Scripted::new([reply.clone()]);
                let house = Plan::of(config).scripted(host, &provider).build();
                let answer = house.post(path, &[], &hello(stream)).await;
                let case = format!("{case}: {host} {path} {stream}");
                assert_eq!(
                    (provider.seen().len(), house.calls(other)),
                    (1, u64::from(fails_over)),
                    "{case}: {answer:?}"
                );
                match fails_over {
                    true => answer.assert_clean(&case),
                    false => assert!(answer.status >= 400 && answer.json()["error"].is_object(), "{case}: {answer:?}"),
                }
            }
        }
    }
}

// B40, B41. huggingface/tau#333: the set of what is tried elsewhere ended at 504, so that Anthropic's 529 was fatal.
// anthropics/claude-code#8413: a fallback for overload alone.
#[tokio::test(start_paused = true)]
async fn every_status_that_another_model_can_mend_goes_to_the_next_tier_and_no_other_does() {
    for status in
        [401, 404, 408, 409, 413, 425, 429, 500, 501, 502, 503, 504, 520, 521, 522, 523, 524, 525, 526, 527, 529, 530]
    {
        meets(Reply::json(status, "<html>no</html>"), true, &status.to_string()).await;
    }
    for status in [405, 415] {
        meets(Reply::json(status, "{}"), false, &status.to_string()).await;
    }
    // Without a reason another model may see it otherwise. A field is the caller's to mend.
    for status in [400, 422] {
        meets(Reply::json(status, "{}"), true, &status.to_string()).await;
        let field =
            json!({"type": "error", "error": {"type": "invalid_request_error", "param": "tools", "message": "no"}});
        meets(Reply::json(status, field.to_string()), false, &status.to_string()).await;
    }
    // A firewall's page is about this request, and another provider's firewall may let the request pass.
    meets(Reply::json(403, "<html>no</html>"), true, "a page").await;
    let refused = json!({"type": "error", "error": {"type": "permission_error", "message": "no"}}).to_string();
    meets(Reply::json(403, refused), true, "a key").await;
}

/// A 400 that names no fault: what the caller gets, and the calls to both providers.
#[tokio::test(start_paused = true)]
async fn a_400_without_a_reason_gets_a_second_opinion_and_the_first_ones_words_where_it_is_the_same() {
    for status in [400, 422] {
        let second = Reply::json(400, r#"{"error": {"message": "Nor here."}}"#);
        for (config, host, other) in BOTH {
            let mut words = json!({"error": {"type": "invalid_request_error", "message": "That was not understood."}});
            if host == ANTHROPIC {
                words["type"] = "error".into();
            }
            let first = Reply::json(status, words.to_string());
            for (path, stream) in PATHS.into_iter().flat_map(|path| [(path, false), (path, true)]) {
                let case = format!("{status} {host} {path} {stream}");
                let both = || (Scripted::new([first.clone()]), Scripted::new([second.clone()]));
                let (one, two) = both();
                let house = Plan::of(config).scripted(host, &one).scripted(other, &two).build();
                let answer = house.post(path, &[], &hello(stream)).await;
                // A translated error has the status of its kind.
                assert!([400, status].contains(&answer.status), "{case}: {answer:?}");
                answer.assert_error(path, answer.status, &case);
                assert!(answer.body.contains("That was not understood."), "{case}: {answer:?}");
                assert_eq!((one.seen().len(), two.seen().len()), (1, 1), "{case}");
                // The next request asks the first provider first, as if nothing had been.
                let house = Plan::of(config).scripted(host, &one).build();
                for _ in 0..2 {
                    house.post(path, &[], &hello(stream)).await.assert_clean(&case);
                }
                assert_eq!((one.seen().len(), house.calls(other)), (3, 2), "{case}");
                // Alone it is what it says.
                let alone = Plan::of(config).scripted(host, &one).build();
                let answer = alone.post(path, &[("x-steadfast-no-fallback", "1")], &hello(stream)).await;
                answer.assert_error(path, answer.status, &case);
                assert_eq!(alone.calls(other), 0, "{case}");
            }
        }
    }
}

// musistudio/claude-code-router#1799, MiniMax-AI/MiniMax-M2#119: a full context in a server's own words, which no agent
// knows, so that none shortened its conversation.
#[tokio::test(start_paused = true)]
async fn agents_hear_of_a_full_context_in_the_words_upon_which_they_shorten_a_conversation() {
    let claudes = "tiers: [{ name: a, provider: anthropic, model: claude-sonnet-4-6 }]";
    let codexes = "tiers: [{ name: a, provider: openai, api: responses, model: gpt-5 }]";
    for words in [
        "invalid params, context window exceeds limit (2013)",
        "litellm.BadRequestError: OpenAIException - Prompt exceeds max length. Received Model Group=a",
        "prompt token count of 138898 exceeds the limit of 64000 (request id: 2026)",
        "prompt is too long: 200001 tokens > 200000 maximum",
    ] {
        for stream in [false, true] {
            let body = json!({"type": "error", "error": {"type": "invalid_request_error", "message": words}});
            let provider = Scripted::new([Reply::json(400, body.to_string())]);
            let house = Plan::of(claudes).scripted(ANTHROPIC, &provider).build();
            let answer = house.post(MESSAGES, &[], &hello(stream)).await;
            answer.assert_error(MESSAGES, 400, words);
            let said = answer.json()["error"]["message"].as_str().unwrap().to_owned();
            assert!(said.contains("prompt is too long") && said.contains(words), "{said}");

            let body =
                json!({"error": {"message": words, "type": "invalid_request_error", "param": null, "code": null}});
            let provider = Scripted::new([Reply::json(400, body.to_string())]);
            let house = Plan::of(codexes).scripted(OPENAI, &provider).build();
            let answer = house.post(RESPONSES, &[], &hello(stream)).await;
            answer.assert_error(RESPONSES, 400, words);
            assert_eq!(answer.json()["error"]["code"], "context_length_exceeded", "{answer:?}");
        }
    }
}

// B41. A name that does not resolve, a port that is closed, a connection that breaks.
#[tokio::test(start_paused = true)]
async fn a_network_that_fails_is_a_reason_to_go_on() {
    for fault in [Fault::Refused, Fault::CutAfter(0), Fault::BadGateway] {
        for (config, host, _) in BOTH {
            for path in PATHS {
                let house = Plan::of(config).build();
                house.provider(host).fail(fault.clone());
                house.post(path, &[], &hello(true)).await.assert_clean(&format!("{fault} {host} {path}"));
            }
        }
    }
}

// B37, B38. Portkey-AI/gateway#267: a 200 with the words "Network connection lost" was an answer. antiwork/gumroad PR #5833:
// a 200 with an `error` in it became an empty one.
#[tokio::test(start_paused = true)]
async fn a_200_that_is_no_answer_is_a_failure() {
    let error = json!({"error": {"message": "Provider returned error", "code": 502}}).to_string();
    for body in ["Network connection lost", "<html>busy</html>", "null", "[]", "{}", "", &error] {
        meets(Reply::json(200, body.to_owned()), true, body).await;
        meets(Reply::stream([body.to_owned()]), true, body).await;
    }
}

// B39, B47. BerriAI/litellm PR #30946: errors inside a stream were all 500, so that a limit was no limit any more.
#[tokio::test(start_paused = true)]
async fn an_error_inside_a_200_is_of_the_same_kind_as_one_with_a_status() {
    for (kind, status, reason) in [
        ("rate_limit_error", 429, "rate_limited"),
        ("overloaded_error", 529, "overloaded"),
        ("api_error", 500, "server"),
        ("timeout_error", 504, "timeout"),
        // The tier's model, which the caller has not named.
        ("not_found_error", 502, "not_found"),
    ] {
        let provider = Scripted::new([Reply::stream([START.to_owned(), error_event(kind, "no")])]);
        for path in PATHS {
            let house = Plan::of(TWO).scripted(ANTHROPIC, &provider).build();
            let answer = house.post(path, &[], &hello(true)).await;
            answer.assert_clean(kind);
            assert_eq!(answer.header("x-steadfast-fallback-reason"), Some(reason));
        }
        let house = Plan::of(TWO).scripted(ANTHROPIC, &provider).build();
        let alone = house.post(MESSAGES, &[("x-steadfast-no-fallback", "1")], &hello(true)).await;
        alone.assert_error(MESSAGES, status, kind);
        assert_eq!(alone.json()["error"]["type"], if status == 502 { "api_error" } else { kind });
    }
}

// B52. Alishahryar1/free-claude-code#1543: a stream whose first event called the request bad, after a 200, was taken
// for the caller's mistake. What the provider had accepted is not the caller's to mend, unless it says exactly what.
#[tokio::test(start_paused = true)]
async fn a_request_that_was_accepted_and_is_then_called_bad_goes_to_the_next_tier() {
    let openai =
        format!("data: {}\n\n", json!({"error": {"message": "Bad request", "type": "BAD_REQUEST", "code": 400}}));
    for (config, host, event) in
        [(TWO, ANTHROPIC, error_event("invalid_request_error", "Error")), (TURNED, OPENAI, openai)]
    {
        for path in PATHS {
            let provider = Scripted::new([Reply::stream([event.clone()])]);
            let house = Plan::of(config).scripted(host, &provider).build();
            house.post(path, &[], &hello(true)).await.assert_clean(&format!("{host} {path}"));
        }
    }
    // An error that is certainly about the request goes to its caller.
    let long = Scripted::new([Reply::stream([error_event(
        "invalid_request_error",
        "prompt is too long: 200001 tokens > 200000",
    )])]);
    let house = Plan::of(TWO).scripted(ANTHROPIC, &long).build();
    house.post(MESSAGES, &[], &hello(true)).await.assert_error(MESSAGES, 400, "too long");
    assert_eq!(house.calls(OPENAI), 0);
}

// B53. decocms/studio#6657: OpenRouter's `400 Provider returned error` was a router's trouble, and ended the run.
#[tokio::test(start_paused = true)]
async fn a_routers_400_about_its_own_provider_goes_to_the_next_tier() {
    let body = json!({"error": {"message": "Provider returned error", "code": 400, "metadata": {"raw": "ERROR", "provider_name": "X"}}});
    for path in PATHS {
        let provider = Scripted::new([Reply::json(400, body.to_string())]);
        let house = Plan::of(TURNED).scripted(OPENAI, &provider).build();
        house.post(path, &[], &hello(false)).await.assert_clean(path);
    }
}

// B55. musistudio/claude-code-router#419: "no endpoints support tool use" failed this turn and every later one.
#[tokio::test(start_paused = true)]
async fn a_tier_without_tools_is_passed_over_or_left_behind_and_stays_good_for_other_requests() {
    let mut with_tools = hello(false);
    with_tools["tools"] = json!([{"name": "run", "input_schema": {"type": "object"}}]);
    let refusal = json!({"error": {"message": "No endpoints found that support tool use.", "code": 404}}).to_string();
    let answers = [Reply::json(404, refusal.clone()), Reply::json(404, refusal), Reply::json(200, openai_answer())];
    let provider = Scripted::new(answers);
    let house = Plan::of(TURNED).scripted(OPENAI, &provider).build();
    for _ in 0..2 {
        house.post(MESSAGES, &[], &with_tools).await.assert_clean("404");
    }
    let plain = house.post(MESSAGES, &[], &hello(false)).await;
    assert_eq!(plain.header("x-steadfast-tier"), Some("backup"));
    assert_eq!(house.stack.circuit("backup").unwrap().state(), CircuitState::Closed);
    // If the file says that the model takes no tools, it gets no call at all.
    let config = TURNED.replace("model: gpt-4o,", "model: gpt-4o, tools: false,");
    let house = Plan::of(&config).build();
    house.post(MESSAGES, &[], &with_tools).await.assert_clean("tools: false");
    assert_eq!((house.calls(OPENAI), house.calls(ANTHROPIC)), (0, 1));
    assert_eq!(house.steps(), ["backup", "sonnet"]);
}

fn openai_answer() -> String {
    json!({
        "id": "chatcmpl-1", "object": "chat.completion", "created": 1, "model": "gpt-4o",
        "choices": [{"index": 0, "message": {"role": "assistant", "content": "Hello from afar"}, "finish_reason": "stop"}],
        "usage": {"prompt_tokens": 7, "completion_tokens": 3, "total_tokens": 10},
    })
    .to_string()
}

// B19, B20. BerriAI/litellm#3274: a client inside slept 47 s because a provider asked it to, before anybody could go
// elsewhere. PR #42450: a wait before a tier that was ready.
#[tokio::test(start_paused = true)]
async fn a_long_wait_is_the_next_tiers_answer_at_once() {
    for (config, host, _) in BOTH {
        for path in PATHS {
            let config = config.replace("retry: { max_attempts: 1 }", "retry: { max_attempts: 3 }");
            let house = Plan::of(&config).build();
            house.provider(host).fail(Fault::RateLimited { retry_after: Some(Duration::from_secs(47)) });
            let answer = house.post(path, &[], &hello(false)).await;
            answer.assert_clean(path);
            assert_eq!((house.calls(host), answer.took), (1, Duration::ZERO), "{host} {path}");
        }
    }
}

// B26. superagent-ai/superagent#1145: a limit of two seconds sent the whole burst to the fallback, which was limited
// next.
#[tokio::test(start_paused = true)]
async fn a_short_wait_is_kept_at_the_same_tier() {
    for (config, host, other) in BOTH {
        for path in PATHS {
            let house = Plan::of(&config.replace("retry: { max_attempts: 1 }", "retry: { max_attempts: 3 }")).build();
            house.provider(host).fail_next(1, &Fault::RateLimited { retry_after: Some(Duration::from_secs(2)) });
            let answer = house.post(path, &[], &hello(false)).await;
            answer.assert_clean(path);
            assert_eq!((house.calls(host), house.calls(other)), (2, 0), "{host} {path}");
            assert!((2..4).contains(&answer.took.as_secs()), "{:?}", answer.took);
        }
    }
}

// B42, B46. NousResearch/hermes-agent PR #71427: silence was asked again at two levels, nine times.
// mnfst/llm-gateway#1656: a timeout was a 500 that no fallback knew.
#[tokio::test(start_paused = true)]
async fn silence_is_asked_once_and_then_the_next_tier() {
    for (config, host, _) in BOTH {
        for path in PATHS {
            for (stream, fault) in [(false, Fault::Hang), (true, Fault::Hang), (true, Fault::StallAfter(0))] {
                let settings = "retry: { max_attempts: 3 }, timeout: { attempt: 20s, first_token: 10s }";
                let house = Plan::of(&config.replace("retry: { max_attempts: 1 }", settings)).build();
                house.provider(host).fail(fault.clone());
                let answer = house.post(path, &[], &hello(stream)).await;
                let case = format!("{host} {path} {stream} {fault}");
                assert_eq!((answer.status, answer.text().as_str()), (200, "Hello from afar"), "{case}: {answer:?}");
                assert_eq!(house.calls(host), 1, "{case}");
                assert_eq!(answer.took.as_secs(), if stream { 10 } else { 20 }, "{case}");
                assert_eq!(house.record()["fallback_reason"], "timeout", "{case}");
            }
        }
    }
}

// B43, B44. kgateway-dev/kgateway#11116: retries of a failover went to the pool that had failed.
// tensorzero/tensorzero#2907: one list of models, providers and keys was not to be had.
#[tokio::test(start_paused = true)]
async fn one_list_mixes_keys_models_and_providers_and_each_step_is_another() {
    let config = "
tiers:
  - { name: first-key, provider: anthropic, model: claude-sonnet-4-5, retry: { max_attempts: 1 } }
  - name: second-key
    provider: anthropic
    model: claude-sonnet-4-5
    api_key: '${SECOND_KEY}'
    retry: { max_attempts: 1 }
  - { name: smaller, provider: anthropic, model: claude-haiku-4-5, retry: { max_attempts: 1 } }
  - { name: elsewhere, provider: openai, model: gpt-4o, retry: { max_attempts: 1 } }
";
    let anthropic = Scripted::new([Reply::json(529, "{}")]);
    for path in PATHS {
        let house = Plan::of(config).scripted(ANTHROPIC, &anthropic).build();
        house.post(path, &[], &hello(false)).await.assert_clean(path);
        assert_eq!(house.steps(), ["first-key", "second-key", "smaller", "elsewhere"]);
    }
    let seen = anthropic.seen();
    let keys: Vec<&str> = seen[..3].iter().map(|seen| seen.headers["x-api-key"].to_str().unwrap()).collect();
    assert_eq!(keys, ["sk-ANTHROPIC_API_KEY", "sk-SECOND_KEY", "sk-ANTHROPIC_API_KEY"]);
    let model = |body: &str| serde_json::from_str::<Value>(body).unwrap()["model"].clone();
    assert_eq!(model(&seen[2].body), "claude-haiku-4-5");
    assert!(seen[1..].iter().all(|next| next.at == seen[0].at), "no wait in between");
}

// B14. BerriAI/litellm#27967: what the caller saw was the fallback's complaint about how it had been asked, not why the
// primary had failed.
#[tokio::test(start_paused = true)]
async fn the_first_failure_is_told_and_not_the_fallbacks_complaint() {
    let complaint = r#"{"type":"error","error":{"type":"invalid_request_error","message":"prefill is not supported"}}"#;
    for (config, host, other) in BOTH {
        for (path, statuses) in [(MESSAGES, [529, 529]), (CHAT, [503, 503])] {
            let provider = Scripted::new([Reply::json(400, complaint)]);
            let house = Plan::of(config).scripted(other, &provider).build();
            house.provider(host).fail(Fault::Overloaded);
            let answer = house.post(path, &[], &hello(false)).await;
            answer.assert_error(path, statuses[0], &format!("{host} {path}"));
            assert!(!answer.body.contains("prefill"), "{}", answer.body);
            let record = house.record();
            assert_eq!(record["steps"][1]["failure"], "invalid_request", "{record}");
            assert!(record["steps"][1]["message"].as_str().unwrap().contains("prefill"), "{record}");
        }
    }
}

// GATEWAY.md F8. A client hears where a repeat cannot help. Elsewhere it may repeat: see `same_request` for its cost.
#[tokio::test(start_paused = true)]
async fn a_client_is_told_not_to_repeat_what_no_repeat_mends_and_nothing_else() {
    let passing = [Fault::Overloaded, Fault::ServerError, Fault::Hang, Fault::Refused, Fault::HtmlPage];
    let lasting = [Fault::BadRequest, Fault::ContextLength, Fault::ContentFilter, Fault::InsufficientQuota];
    let faults = passing.map(|fault| (fault, None)).into_iter();
    for (fault, told) in faults.chain(lasting.map(|fault| (fault, Some("false")))) {
        for path in PATHS {
            let house = Plan::of(TWO).build();
            for host in [ANTHROPIC, OPENAI] {
                house.provider(host).fail(fault.clone());
            }
            let answer = house.post(path, &[], &hello(false)).await;
            assert!(answer.status >= 400, "{fault} {path}: {answer:?}");
            assert_eq!(answer.header("x-should-retry"), told, "{fault} {path}: {answer:?}");
        }
    }
}
