//! Streams that go wrong: before there is anything to read, in the middle, and at their end.

use std::time::Duration;

use http_body_util::BodyExt;
use serde_json::json;
use steadfast::{
    events::CircuitState,
    providers::simulated::{Fault, Simulated},
};

use super::{house::*, wire::*, *};

/// The provider behind a path that speaks its dialect: (stack, host, whole stream).
fn own(path: &str) -> (&'static str, &'static str, Vec<String>) {
    match path {
        MESSAGES => (TWO, ANTHROPIC, anthropic_stream().into()),
        _ => (TURNED, OPENAI, openai_stream().into()),
    }
}

/// Everything that a provider may send before the first word.
fn preamble(host: &str) -> Vec<String> {
    match host {
        ANTHROPIC => {
            let open =
                json!({"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}});
            vec![START.to_owned(), PING.to_owned(), event(&open)]
        }
        _ => vec![role(), ": keep-alive\n\n".to_owned(), role()],
    }
}

fn error_of(host: &str) -> String {
    match host {
        ANTHROPIC => error_event("overloaded_error", "Overloaded"),
        _ => format!(
            "data: {}\n\n",
            json!({"error": {"message": "The server is overloaded", "type": "server_error", "code": "server_is_overloaded"}})
        ),
    }
}

// B4, B5, B47. maximhq/bifrost#5395: an error in the second event found no fallback, for the first had been taken for
// the answer. BerriAI/litellm#6957: `overloaded_error` inside a 200, still being mended two years later.
#[tokio::test(start_paused = true)]
async fn an_error_after_the_preamble_and_before_the_first_word_goes_to_the_next_tier_unseen() {
    for (config, host) in [(TWO, ANTHROPIC), (TURNED, OPENAI)] {
        for path in TWO_PATHS {
            for before in 0..=3 {
                for (end, broken) in [("error", false), ("cut", true), ("clean end", false)] {
                    let mut pieces = preamble(host)[..before].to_vec();
                    if end == "error" {
                        pieces.push(error_of(host));
                    }
                    let reply = Reply::stream(pieces);
                    let failing = Scripted::new([if broken { reply.cut() } else { reply }]);
                    let house = Plan::of(config).scripted(host, &failing).build();
                    let answer = house.post(path, &[], &hello(true)).await;
                    let case = format!("{host} {path}: {end} after {before} events");
                    answer.assert_clean(&case);
                    assert_eq!((failing.seen().len(), house.steps().len()), (1, 2), "{case}");
                    for once in ["message_start", "\"role\""] {
                        assert!(answer.body.matches(once).count() <= 2, "{case}: {}", answer.body);
                    }
                }
            }
        }
    }
}

// B6, B7. maximhq/bifrost#4788: a flag that the dead stream had set made every repeat fail. PR #2897: its end mark was
// carried into the next answer.
#[tokio::test(start_paused = true)]
async fn a_repeat_is_as_if_it_were_the_first() {
    for path in TWO_PATHS {
        let (config, host, whole) = own(path);
        let config = config.replace("max_attempts: 1", "max_attempts: 3, jitter: none");
        let finish = match host {
            ANTHROPIC => END.replace("\"output_tokens\":3", "\"output_tokens\":0"),
            _ => format!("{}{DONE}", chunk(&json!({}), Some("stop"))),
        };
        let dead = [
            Reply::stream(preamble(host)).cut(),
            // A whole stream without any text or token, with ids and a reason to stop.
            Reply::stream([preamble(host).remove(0), finish]),
        ];
        for dead in dead {
            let fresh = Plan::of(&config).scripted(host, &Scripted::new([Reply::stream(whole.clone())])).build();
            let first = fresh.post(path, &[], &hello(true)).await;
            first.assert_clean(path);
            let provider = Scripted::new([dead, Reply::stream(whole.clone())]);
            let house = Plan::of(&config).scripted(host, &provider).build();
            let repeated = house.post(path, &[], &hello(true)).await;
            assert_eq!((&repeated.body, provider.seen().len()), (&first.body, 2));
            assert_eq!(provider.seen()[0].body, provider.seen()[1].body);
            assert_eq!(
                (&house.record()["usage"], &house.record()["outcome"]),
                (&fresh.record()["usage"], &json!("answered"))
            );
        }
    }
}

/// The outcome of a stream that fails after its second word: the tiers called, and the caller's answer.
struct Policy {
    /// The settings for the file.
    setting: &'static str,
    /// The number of calls to each tier.
    calls: [u64; 2],
    rescued: bool,
}

// B2, B11, B12, B13. BerriAI/litellm#40404: a stream that was cut, stalled or sent one bad line was lost, whatever was
// configured. #29808: retries that were configured were not used in the middle of a stream. PR #32835: the text came
// twice.
#[tokio::test(start_paused = true)]
async fn each_way_in_which_a_stream_goes_wrong_has_its_policy() {
    let policies = [
        Policy { setting: "stream: { commit: first_token }", calls: [1, 0], rescued: false },
        Policy { setting: "stream: { commit: complete }", calls: [1, 1], rescued: true },
        Policy { setting: "stream: { on_break: buffer }", calls: [1, 1], rescued: true },
        // The gateway's protocols cannot express a restart: the caller gets an error, and the text once.
        Policy { setting: "stream: { on_break: restart }", calls: [1, 1], rescued: false },
    ];
    for policy in policies {
        for fault in [Fault::CutAfter(2), Fault::TruncatedAfter(2), Fault::ErrorEventAfter(2), Fault::StallAfter(2)] {
            for (config, hosts) in [(TWO, [ANTHROPIC, OPENAI]), (TURNED, [OPENAI, ANTHROPIC])] {
                for path in PATHS {
                    let case = format!("{} {fault} {} {path}", policy.setting, hosts[0]);
                    let house = Plan::of(&format!("{config}{}\n", policy.setting)).build();
                    house.provider(hosts[0]).fail(fault.clone());
                    let answer = house.post(path, &[], &hello(true)).await;
                    assert_eq!(hosts.map(|host| house.calls(host)), policy.calls, "{case}");
                    assert_eq!(answer.text().matches("Hello").count(), 1, "{case}: {}", answer.body);
                    if policy.rescued {
                        answer.assert_clean(&case);
                        continue;
                    }
                    assert_eq!((answer.status, answer.is_whole()), (200, false), "{case}: {}", answer.body);
                    assert!(answer.error_event()["message"].is_string(), "{case}: {}", answer.body);
                    // A caller that wants no other model gets none, here too.
                    let house = Plan::of(&format!("{config}{}\n", policy.setting)).build();
                    house.provider(hosts[0]).fail(fault.clone());
                    house.post(path, &[("x-steadfast-no-fallback", "1")], &hello(true)).await;
                    assert_eq!(hosts.map(|host| house.calls(host)), [1, 0], "{case}");
                }
            }
        }
    }
}

// B11. BerriAI/litellm#19077: `disable_fallbacks` had no effect in the middle of a stream.
#[tokio::test(start_paused = true)]
async fn who_wants_no_fallback_gets_none_before_and_in_the_middle_of_a_stream() {
    for path in PATHS {
        for fault in [Fault::Overloaded, Fault::CutAfter(2), Fault::StallAfter(2)] {
            let house = Plan::of(&format!("{TWO}stream: {{ commit: complete }}\n")).build();
            house.provider(ANTHROPIC).fail(fault.clone());
            let answer = house.post(path, &[("x-steadfast-no-fallback", "1")], &hello(true)).await;
            assert!(answer.status >= 500 || !answer.is_whole(), "{fault} {path}: {answer:?}");
            assert_eq!((house.calls(ANTHROPIC), house.calls(OPENAI)), (1, 0), "{fault} {path}");
        }
    }
}

// B12. Retries without any fallback.
#[tokio::test(start_paused = true)]
async fn a_stream_that_is_held_back_is_repeated_where_there_is_one_tier_alone() {
    let config =
        "tiers: [{ name: only, provider: anthropic, model: claude-sonnet-4-5 }]\nstream: { commit: complete }\n";
    for path in PATHS {
        let house = Plan::of(config).build();
        house.provider(ANTHROPIC).fail_next(1, &Fault::CutAfter(2));
        house.post(path, &[], &hello(true)).await.assert_clean(path);
        assert_eq!(house.calls(ANTHROPIC), 2);
    }
}

// B2. One bad line in the middle of a stream.
#[tokio::test(start_paused = true)]
async fn a_line_that_is_no_json_is_told_of_and_never_passed_off_as_an_answer() {
    for (config, host) in [(TWO, ANTHROPIC), (TURNED, OPENAI)] {
        for path in TWO_PATHS {
            let mut pieces: Vec<String> =
                if host == ANTHROPIC { anthropic_stream().into() } else { openai_stream().into() };
            pieces.insert(2, "data: {\"choices\":[{\"delta\":{\"content\":\"bro\n\n".to_owned());
            let provider = Scripted::new([Reply::stream(pieces)]);
            let house = Plan::of(config).scripted(host, &provider).build();
            let answer = house.post(path, &[], &hello(true)).await;
            let honest = !answer.is_whole() && answer.events().last().unwrap()["error"].is_object();
            assert!(honest, "{host} {path}: {}", answer.body);
            // If the gateway holds the answer back until it is whole, another tier answers.
            let house =
                Plan::of(&format!("{config}stream: {{ commit: complete }}\n")).scripted(host, &provider).build();
            house.post(path, &[], &hello(true)).await.assert_clean(path);
        }
    }
}

// B15. BerriAI/litellm#26015: a 429 in the middle of a stream kept a processor busy for ever.
#[tokio::test(start_paused = true)]
async fn after_an_error_in_the_middle_the_stream_is_over_however_often_it_is_polled() {
    for path in PATHS {
        let house = Plan::of(TWO).build();
        house.provider(ANTHROPIC).fail(Fault::ErrorEventAfter(2));
        let response = house.begin("POST", path, &[], hello(true).to_string()).await;
        let mut body = response.into_body();
        let mut frames = 0;
        while body.frame().await.is_some() {
            frames += 1;
        }
        assert!(frames < 20, "{frames}");
        for _ in 0..1000 {
            assert!(body.frame().await.is_none());
        }
        assert_eq!(house.provider(ANTHROPIC).stats().in_flight, 0);
    }
}

// B29. router-for-me/CLIProxyAPI#4658: a thought before the failure made the client take the answer as begun.
#[tokio::test(start_paused = true)]
async fn a_failure_among_thoughts_is_another_tiers_answer_where_text_alone_counts() {
    let thinking = Scripted::new([Reply::stream([START.to_owned(), thinking_block(0), error_of(ANTHROPIC)])]);
    for path in PATHS {
        let house =
            Plan::of(&format!("{TWO}stream: {{ commit: first_text }}\n")).scripted(ANTHROPIC, &thinking).build();
        let answer = house.post(path, &[], &hello(true)).await;
        answer.assert_clean(path);
        assert!(!answer.body.contains("Let me see"), "{}", answer.body);
        // By default thoughts are shown as they come, and then the error is honest.
        let house = Plan::of(TWO).scripted(ANTHROPIC, &thinking).build();
        let answer = house.post(path, &[], &hello(true)).await;
        assert!(!answer.is_whole() && answer.error_event().is_object(), "{}", answer.body);
    }
}

// B29, bounded. The whole time, less the share of the other tiers, bounds how long thoughts are held back: a tier's own
// limit is for its first token, and a thought is one.
#[tokio::test(start_paused = true)]
async fn thoughts_that_do_not_end_are_given_up_in_time() {
    let thoughts = (0..600).map(|_| {
        event(
            &json!({"type": "content_block_delta", "index": 0, "delta": {"type": "thinking_delta", "thinking": "hm "}}),
        )
    });
    let open = event(
        &json!({"type": "content_block_start", "index": 0, "content_block": {"type": "thinking", "thinking": "", "signature": ""}}),
    );
    let pieces = [START.to_owned(), open].into_iter().chain(thoughts);
    let endless = Scripted::new([Reply::stream(pieces).every(Duration::from_secs(1))]);
    let file = format!("{TWO}stream: {{ commit: first_text }}\ntimeout: 90s\n");
    let house = Plan::of(&file).scripted(ANTHROPIC, &endless).build();
    let answer = house.post(MESSAGES, &[], &hello(true)).await;
    assert_eq!((answer.text().as_str(), answer.is_whole()), ("Hello from afar", true), "{}", answer.body);
    assert!(answer.took <= Duration::from_secs(81), "{:?}", answer.took);
}

// B54. anthropics/claude-code#68362: a break after a whole tool call, and the tool ran again and again.
#[tokio::test(start_paused = true)]
async fn after_a_tool_call_was_sent_the_answer_never_begins_anew() {
    for setting in ["stream: { on_break: fail }", "stream: { on_break: restart }"] {
        for path in TWO_PATHS {
            let calls = Scripted::new([Reply::stream([START.to_owned(), tool_block(0, "toolu_1")]).cut()]);
            let again = Scripted::new([Reply::stream(anthropic_stream())]);
            let config = format!(
                "{}{setting}\n",
                TWO.replace(
                    "provider: openai, model: gpt-4o",
                    "provider: anthropic, model: x, base_url: 'http://second/'"
                )
            );
            let house = Plan::of(&config).scripted(ANTHROPIC, &calls).scripted("second", &again).build();
            let answer = house.post(path, &[], &hello(true)).await;
            assert_eq!(answer.body.matches("toolu_1").count(), 1, "{setting}: {}", answer.body);
            assert!(!answer.is_whole() && !answer.body.contains("from afar"), "{setting}: {}", answer.body);
            assert!(answer.events().last().unwrap()["error"].is_object(), "{setting}: {}", answer.body);
        }
    }
}

// B57. PostHog/code#3092: pings were dropped, and a proxy in between closed the silent connection.
#[tokio::test(start_paused = true)]
async fn a_silent_minute_survives_a_client_that_waits_fifteen_seconds() {
    const IDLE: Duration = Duration::from_secs(15);
    let patient = TWO.replace("retry: { max_attempts: 1 }", "timeout: { attempt: 80s, idle: 3m, progress: 3m }");
    for path in PATHS {
        // Before the first word, and in the middle.
        for silent in [
            Simulated::new("late").latency(Duration::from_secs(60)),
            Simulated::new("slow").pace(Duration::from_secs(60)),
        ] {
            let house = Plan::of(&patient).simulated(ANTHROPIC, silent.reply("Hello from afar")).build();
            let answer = house.post(path, &[], &hello(true)).await;
            assert_eq!((answer.text().as_str(), answer.is_whole()), ("Hello from afar", true), "{}", answer.body);
            assert!(answer.took >= Duration::from_secs(60));
            let mut heard = Duration::ZERO;
            for (at, piece) in &answer.pieces {
                assert!(*at - heard < IDLE, "{path}: silent from {heard:?} to {at:?}, before {piece}");
                heard = *at;
            }
        }
    }
}

// B57. The provider's own pings go on as they came.
#[tokio::test(start_paused = true)]
async fn a_providers_pings_are_passed_on() {
    let [start, text, end] = anthropic_stream();
    let pings = Scripted::new([
        Reply::stream([start, text, PING.to_owned(), PING.to_owned(), end]).every(Duration::from_secs(4))
    ]);
    let house = Plan::of(TWO).scripted(ANTHROPIC, &pings).build();
    let answer = house.post(MESSAGES, &[], &hello(true)).await;
    assert_eq!(answer.body.matches(PING).count(), 2, "{}", answer.body);
}

// B10, B42, B45. BerriAI/litellm PR #26067: the call was made when the stream was first read, so that a 429 came too
// late for any fallback. mnfst/llm-gateway#1656: a 200 at once, and stalls never failed over.
#[tokio::test(start_paused = true)]
async fn the_head_waits_for_the_first_word_so_that_a_failure_has_its_own_status() {
    for (path, status) in [(MESSAGES, 529), (CHAT, 503)] {
        let house = Plan::of(TWO).build();
        for host in [ANTHROPIC, OPENAI] {
            house.provider(host).latency(Duration::from_secs(4));
            house.provider(host).fail(Fault::Overloaded);
        }
        let answer = house.post(path, &[], &hello(true)).await;
        assert!((8..10).contains(&answer.head.as_secs()), "{:?}", answer.head);
        answer.assert_error(path, status, path);
    }
}

// B3, B48. Portkey-AI/gateway#1797, anomalyco/opencode#39968: a stream that broke off ended as if it were whole, and
// half an answer was saved as a finished turn.
#[tokio::test(start_paused = true)]
async fn an_end_without_the_providers_end_mark_is_never_a_clean_end() {
    for (config, host, whole) in
        [(TWO, ANTHROPIC, Vec::from(anthropic_stream())), (TURNED, OPENAI, Vec::from(openai_stream()))]
    {
        for path in TWO_PATHS {
            // After the first words, up to just before the end mark.
            for kept in 2..whole.len() - usize::from(host == OPENAI) {
                let provider = Scripted::new([Reply::stream(whole[..kept].to_vec())]);
                let house = Plan::of(config).scripted(host, &provider).build();
                let answer = house.post(path, &[], &hello(true)).await;
                let case = format!("{host} {path} {kept}: {}", answer.body);
                assert!(!answer.is_whole() && answer.events().last().unwrap()["error"].is_object(), "{case}");
                assert_eq!(house.record()["outcome"], "broken", "{case}");
                let tier = if host == ANTHROPIC { "sonnet" } else { "backup" };
                assert_eq!(house.stack.circuit(tier).unwrap().state(), CircuitState::Closed, "one is not enough");
            }
        }
    }
}

// Issue 53: an imported file's limit of minutes was the limit of the first token too.
#[tokio::test(start_paused = true)]
async fn a_silent_stream_is_left_after_its_own_limit_and_one_that_thinks_after_a_longer_one() {
    let limits: [(&str, &str, [u64; 3]); 6] = [
        // The limit of the file, the model; the seconds of a whole answer, of a stream, and of one that is to think.
        ("", "gpt-4o", [30, 30, 300]),
        (", timeout: 20s", "gpt-4o", [20, 20, 20]),
        (", timeout: 45s", "o3", [45, 45, 45]),
        (", timeout: 600s", "gpt-4o", [600, 60, 300]),
        (", timeout: 600s", "o3", [600, 300, 300]),
        (", timeout: { attempt: 600s, first_token: 10s }", "o3", [600, 10, 10]),
    ];
    for (limit, model, seconds) in limits {
        for path in [CHAT, RESPONSES] {
            let tier =
                format!("{{ name: only, provider: openai, model: {model}{limit}, retry: {{ max_attempts: 1 }} }}");
            // Without another one, the tier would be waited for.
            let other = "{ name: other, provider: anthropic, model: claude-sonnet-4-6 }";
            let config = format!("timeout: 1000s\ntiers: [{tier}, {other}]\n");
            for (asked, seconds) in [(false, false), (true, false), (true, true)].into_iter().zip(seconds) {
                let (stream, thinks) = asked;
                let house = Plan::of(&config).build();
                house.provider(OPENAI).fail(Fault::Hang);
                let mut request = hello(stream);
                if thinks && path == CHAT {
                    request["reasoning_effort"] = "high".into();
                } else if thinks {
                    request["reasoning"] = json!({"effort": "high"});
                }
                let answer = house.post(path, &[], &request).await;
                assert_eq!(answer.took, Duration::from_secs(seconds), "{model}{limit} {path} {asked:?}: {answer:?}");
            }
        }
    }
}
