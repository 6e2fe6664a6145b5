//! Honest providers that need long for their first word: reasoning models, and local ones that load.

use std::time::Duration;

use serde_json::{Value, json};

use super::{house::*, wire::*, *};

const GOOGLE: &str = "generativelanguage.googleapis.com";

/// Each protocol as the only one, by its caller's path.
const PROVIDERS: [(&str, &str, &str); 4] = [
    (MESSAGES, ANTHROPIC, "provider: anthropic, model: claude-sonnet-4-6"),
    (CHAT, OPENAI, "provider: openai, api: chat, model: gpt-4o"),
    (RESPONSES, OPENAI, "provider: openai, api: responses, model: gpt-5.4"),
    (GEMINI, GOOGLE, "provider: gemini, model: gemini-2.5-pro"),
];

const LONG: Duration = Duration::from_secs(42);
/// The default time-out of OpenAI's and Anthropic's SDKs, in seconds.
const SDKS: u64 = 600;

/// The events of a protocol's stream before its first word, its sign of life, and the rest.
fn events(path: &str) -> (String, String, String) {
    let response = |status: &str, output: Value| json!({"id": "resp_1", "object": "response", "model": "g", "status": status, "output": output});
    match path {
        MESSAGES => (START.to_owned(), PING.to_owned(), text_block(0, "Hello from afar") + END),
        CHAT => {
            let rest = chunk(&json!({"content": "Hello from afar"}), None) + &chunk(&json!({}), Some("stop")) + DONE;
            (role(), ": OPENROUTER PROCESSING\n\n".to_owned(), rest)
        }
        RESPONSES => {
            let part = json!({"type": "output_text", "text": "Hello from afar", "annotations": []});
            let item = json!({"type": "message", "id": "msg_1", "role": "assistant", "status": "completed", "content": [part]});
            let of = |kind: &str, number: u32, more: Value| {
                let mut event = more;
                (event["type"], event["sequence_number"]) = (kind.into(), number.into());
                wire::event(&event)
            };
            let queued = of("response.created", 0, json!({"response": response("queued", json!([]))}))
                + &of("response.queued", 1, json!({"response": response("queued", json!([]))}));
            let alive = of("response.in_progress", 2, json!({"response": response("in_progress", json!([]))}));
            let rest = of(
                "response.output_item.added",
                3,
                json!({"output_index": 0, "item": {"type": "message", "id": "msg_1", "role": "assistant", "status": "in_progress", "content": []}}),
            ) + &of(
                "response.output_text.delta",
                4,
                json!({"output_index": 0, "content_index": 0, "item_id": "msg_1", "delta": "Hello from afar"}),
            ) + &of("response.output_item.done", 5, json!({"output_index": 0, "item": item}))
                + &of("response.completed", 6, json!({"response": response("completed", json!([item]))}));
            (queued, alive, rest)
        }
        _ => {
            let chunk = |text: Option<&str>| {
                let parts: Vec<Value> = text.iter().map(|text| json!({"text": text})).collect();
                let mut candidate = json!({"content": {"role": "model", "parts": parts}, "index": 0});
                if text.is_some() {
                    candidate["finishReason"] = "STOP".into();
                }
                format!(
                    "data: {}\r\n\r\n",
                    json!({"candidates": [candidate], "usageMetadata": {"promptTokenCount": 3, "totalTokenCount": 3}})
                )
            };
            (chunk(None), chunk(None), chunk(Some("Hello from afar")))
        }
    }
}

/// A provider's way of being slow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Slow {
    /// Nothing comes, not even a head.
    Head,
    /// The head comes, and then nothing.
    Silent,
    /// The events before the first word come, and signs of life.
    Alive,
}

impl Slow {
    const ALL: [Self; 3] = [Self::Head, Self::Silent, Self::Alive];

    fn reply(self, path: &str, stream: bool) -> Reply {
        self.reply_after(path, stream, LONG)
    }

    fn reply_after(self, path: &str, stream: bool, long: Duration) -> Reply {
        let (begin, alive, rest) = events(path);
        let whole = match path {
            MESSAGES => anthropic_answer(),
            CHAT => json!({"id": "c", "object": "chat.completion", "created": 1, "model": "m", "choices": [{"index": 0,
                "message": {"role": "assistant", "content": "Hello from afar"}, "finish_reason": "stop"}]})
            .to_string(),
            RESPONSES => {
                let data = rest.lines().filter_map(|line| line.strip_prefix("data: ")).next_back().unwrap();
                serde_json::from_str::<Value>(data).unwrap()["response"].to_string()
            }
            _ => rest.trim().trim_start_matches("data: ").to_owned(),
        };
        match (self, stream) {
            (Self::Head, true) => Reply::stream([begin, rest]).after(long),
            (Self::Head, false) => Reply::json(200, whole).after(long),
            (_, false) => Reply::json(200, whole).first_after(long),
            (Self::Silent, true) => Reply::stream([begin + &rest]).first_after(long),
            (Self::Alive, true) => {
                Reply::stream([begin, alive.clone(), alive.clone(), alive.clone(), alive.clone(), rest]).every(long / 6)
            }
        }
    }
}

/// OmniRoute#6354, hermes-agent PR 103818, pollinations#11000, free-claude-code#219, code-cli#96: a provider that needs
/// 42 s was asked twice, and its caller had an error after 61 s. Whoever waits as long as the vendors' SDKs is served
/// as the client alone.
#[tokio::test(start_paused = true)]
async fn a_slow_lone_provider_is_asked_once_and_answers() {
    for (of, host, tier) in PROVIDERS {
        for slow in Slow::ALL {
            for stream in [false, true] {
                // In its own protocol, and translated.
                for (path, long) in PATHS.into_iter().flat_map(|path| [42, 200, SDKS - 10].map(|long| (path, long))) {
                    let what = format!("{tier} {slow:?} for {path}, stream {stream}, {long} s");
                    let provider = Scripted::new([slow.reply_after(of, stream, Duration::from_secs(long))]);
                    let house =
                        Plan::of(&format!("tiers: [{{ name: only, {tier} }}]")).scripted(host, &provider).build();
                    let answer = house.post(path, &[], &hello(stream)).await;
                    answer.assert_clean(&what);
                    assert_eq!(provider.seen().len(), 1, "{what}");
                    assert!((long - 1..long + 2).contains(&answer.took.as_secs()), "{what}: {:?}", answer.took);
                }
            }
        }
    }
}

/// A protocol's stream up to its words, and the rest.
fn halves(path: &str) -> [String; 2] {
    let (begin, _, rest) = events(path);
    if path == GEMINI {
        let unfinished = rest.replace("\"finishReason\":\"STOP\",", "");
        return [begin + &unfinished, rest.replace("Hello from afar", "")];
    }
    let words = rest.find("afar").unwrap();
    let (said, left) = rest.split_at(words + rest[words..].find("\n\n").unwrap() + 2);
    [begin + said, left.to_owned()]
}

/// A model thinks or runs a tool between two words, and sends nothing. Claude Code and Codex wait 5 min for it alone,
/// the vendors' SDKs 10. With another tier left it is left after a minute: a repeat begins there.
#[tokio::test(start_paused = true)]
async fn a_pause_of_a_lone_model_is_waited_for_as_long_as_agents_wait_alone() {
    for (of, host, tier) in PROVIDERS {
        for (second, most) in [("", 300), (", { name: second, provider: simulated }", 60)] {
            for (path, pause) in
                PATHS.into_iter().flat_map(|path| [42, 58, 62, 100, 298, 302].map(|pause| (path, pause)))
            {
                let what = format!("{tier}{second} for {path}, {pause} s");
                let reply = Reply::stream(halves(of)).last_after(Duration::from_secs(pause));
                let provider = Scripted::new([reply]);
                let file = format!("tiers: [{{ name: only, {tier} }}{second}]");
                let house = Plan::of(&file).scripted(host, &provider).build();
                let answer = house.post(path, &[], &hello(true)).await;
                assert_eq!(answer.text(), "Hello from afar", "{what}: {}", answer.body);
                assert_eq!(answer.is_whole(), pause < most, "{what}: {}", answer.body);
                assert_eq!(answer.took.as_secs(), pause.min(most), "{what}");
                assert_eq!(provider.seen().len(), 1, "{what}");
            }
        }
    }
}

/// No setting of a lone tier that is about the time before its first word shortens that, and the last tier that is left
/// is a lone one.
#[tokio::test(start_paused = true)]
async fn a_pause_is_waited_for_whatever_the_file_says_of_the_first_word_and_at_the_last_tier() {
    let settings = ["timeout: 80s", "timeout: { first_token: 20s }", "retry: { retry_timeouts: true }"];
    for (setting, is_last) in settings.into_iter().flat_map(|setting| [(setting, false), (setting, true)]) {
        for path in PATHS {
            let what = format!("{setting} for {path}, last {is_last}");
            let (of, host, tier) = PROVIDERS[3];
            let first = format!("{{ name: first, {}, retry: {{ max_attempts: 1 }} }}, ", PROVIDERS[0].2);
            let file = format!("tiers: [{}{{ name: only, {tier}, {setting} }}]", if is_last { &first } else { "" });
            let down = Scripted::new([Reply::json(529, r#"{"type":"error","error":{"type":"overloaded_error"}}"#)]);
            let provider = Scripted::new([Reply::stream(halves(of)).last_after(Duration::from_secs(100))]);
            let house = Plan::of(&file).scripted(ANTHROPIC, &down).scripted(host, &provider).build();
            let answer = house.post(path, &[], &hello(true)).await;
            assert!(answer.is_whole() && answer.took.as_secs() == 100, "{what}: {:?} {}", answer.took, answer.body);
            assert_eq!(provider.seen().len(), 1, "{what}");
        }
    }
}

/// A lone model's silence is left after a minute if another call goes on with its answer.
#[tokio::test(start_paused = true)]
async fn a_silent_stream_that_goes_on_is_left_after_a_minute() {
    for path in PATHS {
        for (policy, took) in [("continue", 60), ("fail", 300)] {
            let [said, left] = halves(GEMINI);
            let silent = Reply::stream([said, left]).last_after(Duration::from_secs(400));
            let provider = Scripted::new([silent, Reply::stream(halves(GEMINI))]);
            let file = format!("tiers: [{{ name: only, {} }}]", PROVIDERS[3].2);
            let house = Plan::of(&file).scripted(GOOGLE, &provider).build();
            let answer = house.post(path, &[("x-steadfast-on-break", policy)], &hello(true)).await;
            let what = format!("{path}, {policy}: {:?} {}", answer.took, answer.body);
            assert_eq!(answer.took.as_secs(), took, "{what}");
            assert_eq!(provider.seen().len(), 1 + usize::from(policy == "continue"), "{what}");
        }
    }
}

/// With another tier left, the limits are what they were; the last one has all the time that is left.
#[tokio::test(start_paused = true)]
async fn a_slow_first_tier_is_left_and_a_slow_last_one_is_waited_for() {
    for slow in Slow::ALL {
        for stream in [false, true] {
            for (slow_first, least, most) in [(true, 29, 31), (false, 41, 43)] {
                let (first, second) = match slow_first {
                    true => (slow.reply(MESSAGES, stream), Slow::Head.reply(CHAT, stream).after(Duration::ZERO)),
                    false => (
                        Reply::json(
                            529,
                            r#"{"type":"error","error":{"type":"overloaded_error","message":"Overloaded"}}"#,
                        ),
                        slow.reply(CHAT, stream),
                    ),
                };
                let (first, second) = (Scripted::new([first]), Scripted::new([second]));
                let house = Plan::of(TWO).scripted(ANTHROPIC, &first).scripted(OPENAI, &second).build();
                let answer = house.post(CHAT, &[], &hello(stream)).await;
                let what = format!("{slow:?}, stream {stream}, slow first {slow_first}: {:?}", answer.took);
                answer.assert_clean(&what);
                assert_eq!((first.seen().len(), second.seen().len()), (1, 1), "{what}");
                assert!((least..=most).contains(&answer.took.as_secs()), "{what}");
            }
        }
    }
}

/// Anthropic's SDKs expect 128,000 tokens in an hour of an answer that is no stream. Below 30 s and beyond 5 min, and
/// for streams, the limits are what they were.
#[tokio::test(start_paused = true)]
async fn a_first_tier_has_the_time_that_a_long_whole_answer_takes() {
    let thinking = json!({"type": "enabled", "budget_tokens": 2048});
    for (tokens, more, stream, limit) in [
        (500, None, false, 30),
        (1_000, None, false, 30),
        (4_000, None, false, 112),
        (8_000, None, false, 225),
        (64_000, None, false, 300),
        (3_000, Some(&thinking), false, 300),
        (8_000, None, true, 30),
    ] {
        for (long, is_served) in [(limit - 2, true), (limit + 2, false)] {
            let first = Scripted::new([Slow::Head.reply_after(MESSAGES, stream, Duration::from_secs(long))]);
            let second = Scripted::new([Slow::Head.reply_after(CHAT, stream, Duration::ZERO)]);
            let house = Plan::of(TWO).scripted(ANTHROPIC, &first).scripted(OPENAI, &second).build();
            let mut ask = hello(stream);
            ask["max_tokens"] = tokens.into();
            if let Some(thinking) = more {
                ask["thinking"] = thinking.clone();
            }
            let answer = house.post(MESSAGES, &[], &ask).await;
            let what = format!("{tokens} tokens, stream {stream}, {long} s: {:?} {}", answer.took, answer.body);
            answer.assert_clean(&what);
            assert_eq!((first.seen().len(), second.seen().len()), (1, usize::from(!is_served)), "{what}");
            let took = if is_served { long } else { limit };
            assert!((took..=took + 1).contains(&answer.took.as_secs()), "{what}");
        }
    }
}

/// The limit that a file sets holds, and the error names it.
#[tokio::test(start_paused = true)]
async fn a_limit_of_the_files_holds_and_is_named() {
    for (limits, took, calls, key) in [
        ("timeout: 20s", 41, 2, "`tiers[..].timeout`"),
        ("timeout: { attempt: 20s }", 41, 2, "`tiers[..].timeout`"),
        ("retry: { retry_timeouts: true, max_attempts: 2, base: 1s, jitter: none }", 61, 2, "`tiers[..].timeout`"),
    ] {
        for path in PATHS {
            let provider = Scripted::new([Slow::Head.reply(MESSAGES, false).after(LONG * 9)]);
            let file = format!("tiers: [{{ name: only, provider: anthropic, model: claude-sonnet-4-6, {limits} }}]");
            let house = Plan::of(&file).scripted(ANTHROPIC, &provider).build();
            let answer = house.post(path, &[], &hello(false)).await;
            assert_eq!((answer.status, provider.seen().len()), (504, calls), "{limits} {path}: {}", answer.body);
            assert_eq!(answer.took.as_secs(), took, "{limits} {path}");
            let message = answer.json()["error"]["message"].as_str().unwrap().to_owned();
            assert!(message.contains(key), "{limits} {path}: {message}");
        }
    }
    // One that a file has raised holds for the first token of a stream too.
    for stream in [false, true] {
        let provider = Scripted::new([Slow::Head.reply(MESSAGES, stream).after(LONG * 3)]);
        let file =
            "timeout: 600s\ntiers: [{ name: only, provider: anthropic, model: claude-sonnet-4-6, timeout: 300s }]";
        let house = Plan::of(file).scripted(ANTHROPIC, &provider).build();
        house.post(MESSAGES, &[], &hello(stream)).await.assert_clean("a raised limit");
        assert_eq!(provider.seen().len(), 1);
    }
    // The whole request's own time, by the file and by the caller.
    for (header, file, took) in
        [(&[][..], "timeout: 50s", 50), (&[("x-steadfast-timeout-ms", "40000")], "timeout: 600s", 40), (&[], "", SDKS)]
    {
        for stream in [false, true] {
            let provider = Scripted::new([Slow::Head.reply(MESSAGES, stream).after(LONG * 20)]);
            let file = format!("tiers: [{{ name: only, provider: anthropic, model: claude-sonnet-4-6 }}]\n{file}\n");
            let house = Plan::of(&file).scripted(ANTHROPIC, &provider).build();
            let answer = house.post(MESSAGES, header, &hello(stream)).await;
            assert_eq!((answer.took.as_secs(), provider.seen().len()), (took, 1), "{file} {}", answer.body);
            assert!(answer.body.contains("`x-steadfast-timeout-ms`"), "{}", answer.body);
            assert_eq!(answer.body.contains("`timeout` in the gateway's file"), header.is_empty(), "{}", answer.body);
        }
    }
}
