//! Requests, and callers' behaviour while they send them.

use std::time::Duration;

use bytes::Bytes;
use fastrand::Rng;
use tokio::time::{sleep, timeout};

use super::{OPENAI, secret};
use crate::{
    answers::{AT_LENGTH, BLOCKED, UNREADABLE, UNSPEAKABLE},
    common::client::Client,
};

/// A request, as yet without a key.
#[derive(Clone, Debug)]
pub(crate) struct Sent {
    path: &'static str,
    /// Lines of the head.
    headers: String,
    pub(crate) body: Bytes,
    /// The behaviour of a caller.
    pub(crate) manner: Manner,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Manner {
    /// Reads the whole answer.
    Reads,
    /// Disconnects after the request.
    Leaves,
    /// Disconnects after this many bytes of the answer.
    LeavesAfter(usize),
    /// Never sends the end of the body.
    Halts,
}

pub(crate) const MESSAGES: &str = "/v1/messages";
pub(crate) const CHAT: &str = "/v1/chat/completions";
pub(crate) const RESPONSES: &str = "/v1/responses";

impl Sent {
    fn new(path: &'static str, headers: &str, body: impl Into<Bytes>) -> Self {
        Self { path, headers: headers.to_owned(), body: body.into(), manner: Manner::Reads }
    }

    pub(crate) fn manner(self, manner: Manner) -> Self {
        Self { manner, ..self }
    }

    /// Sends the request with the key of this name.
    pub(crate) fn bytes(&self, name: &str) -> Vec<u8> {
        let Self { path, headers, body, .. } = self;
        let (key, length) = (secret(name), body.len());
        let head = format!(
            "POST {path} HTTP/1.1\r\nhost: gateway\r\nx-api-key: {key}\r\n{headers}content-length: {length}\r\n\r\n"
        );
        [head.as_bytes(), body].concat()
    }

    /// Does it; gives the status, where there was an answer. Whoever halts waits for so long.
    pub(crate) async fn act(&self, address: &str, name: &str, patience: Duration) -> Option<u16> {
        let bytes = self.bytes(name);
        let acting = async {
            let mut client = Client::connect(address).await.ok()?;
            match self.manner {
                Manner::Reads => {
                    client.send(bytes).await.ok()?;
                    Some(client.answer().await.ok()?.status)
                }
                Manner::Leaves => {
                    client.send(bytes).await.ok()?;
                    // Before that it has not asked for anything.
                    sleep(Duration::from_millis(20)).await;
                    None
                }
                Manner::LeavesAfter(length) => {
                    client.send(bytes).await.ok()?;
                    client.at_least(length).await.ok()?;
                    None
                }
                Manner::Halts => {
                    client.send(&bytes[..bytes.len() - 1]).await.ok()?;
                    // It may be refused meanwhile.
                    Some(client.answer().await.ok()?.status)
                }
            }
        };
        timeout(patience, acting).await.ok().flatten()
    }
}

/// A body of either dialect: this content of the last turn, and these fields more.
fn body(content: &str, more: &str) -> String {
    format!(
        r#"{{"model":"claude-of-the-caller","max_tokens":50,{more}"messages":[{{"role":"user","content":"{content}"}}]}}"#
    )
}

fn words(path: &'static str, headers: &str, content: &str, more: &str) -> Sent {
    Sent::new(path, headers, body(content, more))
}

/// An honest caller's request.
pub(crate) fn plain(path: &'static str, headers: &str) -> Sent {
    words(path, headers, "the words of the prompt", "")
}

pub(crate) fn stream(path: &'static str, headers: &str) -> Sent {
    words(path, headers, "the words of the prompt", r#""stream":true,"#)
}

/// `piece`, so many times, with a comma between two. A `#` in it is its number.
fn many(count: usize, piece: &str) -> String {
    let mut list = String::with_capacity(count * (piece.len() + 6));
    for number in 0..count {
        if number > 0 {
            list.push(',');
        }
        list += &piece.replace('#', &number.to_string());
    }
    list
}

/// For a tier of another dialect, what is to be translated of that there are so many: a list of each kind in each
/// dialect.
pub(crate) fn to_translate(count: usize) -> Vec<(&'static str, Sent)> {
    let turns = |turns: &str| format!(r#"{{"model":"m","max_tokens":50,"messages":[{turns}]}}"#);
    let asked = r#"{"role":"user","content":"hello"}"#;
    let anthropic = |text: String| Sent::new(MESSAGES, OPENAI, text);
    let openai = |text: String| Sent::new(CHAT, "", text);
    let name = "n".repeat(70);
    let required = format!(
        r#"{{"type":"object","properties":{{{}}},"required":[{}]}}"#,
        many(count, r#""property-#":{"type":"string"}"#),
        many(count, r#""property-#""#)
    );
    let calls = many(count, r#"{"id":"a","type":"function","function":{"name":"f","arguments":"{}"}}"#);
    let uses = many(count, r#"{"type":"tool_use","id":"a","name":"f","input":{}}"#);
    let results = many(count, r#"{"role":"tool","tool_call_id":"a-#","content":"x"}"#);
    let tool_results = many(count, r#"{"type":"tool_result","tool_use_id":"a-#","content":"x"}"#);
    let named = many(count, &format!(r#"{{"name":"{name} #","input_schema":{{"type":"object"}}}}"#));
    let functions =
        many(count, &format!(r#"{{"type":"function","function":{{"name":"{name} #","parameters":{{}}}}}}"#));
    vec![
        ("calls of one id (chat)", openai(turns(&format!(r#"{asked},{{"role":"assistant","tool_calls":[{calls}]}}"#)))),
        (
            "calls of one id (messages)",
            anthropic(turns(&format!(r#"{asked},{{"role":"assistant","content":[{uses}]}},{asked}"#))),
        ),
        ("results of no call (chat)", openai(turns(&format!("{asked},{results}")))),
        (
            "results of no call (messages)",
            anthropic(turns(&format!(r#"{{"role":"user","content":[{tool_results}]}}"#))),
        ),
        ("names of tools (messages)", anthropic(body("hello", &format!(r#""tools":[{named}],"#)))),
        ("names of tools (chat)", openai(body("hello", &format!(r#""tools":[{functions}],"#)))),
        ("unknown fields (messages)", anthropic(body("hello", &(many(10 * count, r#""x-#":0"#) + ",")))),
        ("unknown fields (chat)", openai(body("hello", &(many(10 * count, r#""x-#":0"#) + ",")))),
        (
            "required properties (messages)",
            anthropic(body("hello", &format!(r#""tools":[{{"name":"f","strict":true,"input_schema":{required}}}],"#))),
        ),
        (
            "required properties (chat)",
            openai(body(
                "hello",
                &format!(
                    r#""response_format":{{"type":"json_schema","json_schema":{{"name":"f","strict":true,"schema":{required}}}}},"#
                ),
            )),
        ),
    ]
    .into_iter()
    .chain(items_to_translate(count))
    .collect()
}

/// The same of Responses: of which each item and each tool may be another kind.
fn items_to_translate(count: usize) -> Vec<(&'static str, Sent)> {
    let asked = r#"{"role":"user","content":"hello"}"#;
    let items = |to: &str, items: String| {
        Sent::new(RESPONSES, to, format!(r#"{{"model":"m","max_output_tokens":50,"input":[{asked},{items},{asked}]}}"#))
    };
    let fields = |fields: String| {
        Sent::new(RESPONSES, "", format!(r#"{{"model":"m","input":"hello","max_output_tokens":50,{fields}}}"#))
    };
    let name = "n".repeat(70);
    vec![
        (
            "calls of one id (responses)",
            items("", many(count, r#"{"type":"function_call","call_id":"a","name":"f","arguments":"{}"}"#)),
        ),
        (
            "outputs of no call (responses)",
            items(OPENAI, many(count, r#"{"type":"function_call_output","call_id":"a-#","output":"x"}"#)),
        ),
        (
            "calls with free text (responses)",
            items(
                OPENAI,
                many(count, r#"{"type":"custom_tool_call","call_id":"a-#","name":"f","input":"\\\"\u00e9"}"#),
            ),
        ),
        (
            "thoughts (responses)",
            items("", many(count, r#"{"type":"reasoning","id":"rs_#","summary":[],"encrypted_content":"x"}"#)),
        ),
        ("messages of the system (responses)", items("", many(count, r#"{"role":"developer","content":"x"}"#))),
        (
            "tools of namespaces (responses)",
            fields(format!(
                r#""tools":[{}]"#,
                many(
                    count,
                    &format!(r#"{{"type":"namespace","name":"{name}","tools":[{{"type":"function","name":"f #"}}]}}"#)
                )
            )),
        ),
        (
            "custom tools (responses)",
            fields(format!(r#""tools":[{}]"#, many(count, &format!(r#"{{"type":"custom","name":"{name} #"}}"#)))),
        ),
        ("unknown fields (responses)", fields(many(10 * count, r#""x-#":0"#))),
    ]
}

/// A tool whose schema has as many objects as go into so many bytes.
fn of_objects(length: usize) -> String {
    let objects = many(length / 7, r#"{"":0}"#);
    body("hello", &format!(r#""tools":[{{"name":"f","input_schema":{{"type":"object","default":[{objects}]}}}}],"#))
}

/// A request of Responses with as many of these items as go into so many bytes.
fn of_items(length: usize, item: &str) -> Sent {
    let items = many(length / (item.len() + 7), item);
    Sent::new(RESPONSES, OPENAI, format!(r#"{{"model":"m","input":[{items}]}}"#))
}

/// Requests that take many times their size as a tree of values: to be counted, and to be translated.
pub(crate) fn to_fill_memory(length: usize) -> [(&'static str, Sent); 8] {
    let body = Bytes::from(of_objects(length));
    let deep = format!("{}{}", "[".repeat(length / 2), "]".repeat(length / 2));
    let deep = format!(r#""tools":[{{"name":"f","input_schema":{{"type":"object","default":{deep}}}}}],"#);
    [
        ("deep", words("/v1/messages/count_tokens", "", "hello", &deep)),
        ("counted", Sent::new("/v1/messages/count_tokens", "", body.clone())),
        ("translated", Sent::new(MESSAGES, OPENAI, body)),
        ("items", of_items(length, r#"{"role":"user","content":"x"}"#)),
        ("outputs", of_items(length, r#"{"type":"function_call_output","call_id":"a-#","output":"x"}"#)),
        ("unknown items", of_items(length, r#"{"type":"web_search_call"}"#)),
        (
            "fields of items",
            of_items(length, r#"{"role":"user","content":[{"type":"input_text","text":"","a":0}],"b":0}"#),
        ),
        ("a schema of objects", {
            let objects = many(length / 7, r#"{"":0}"#);
            let tool =
                format!(r#"{{"type":"function","name":"f","parameters":{{"type":"object","default":[{objects}]}}}}"#);
            Sent::new(RESPONSES, "", format!(r#"{{"model":"m","input":"hello","tools":[{tool}]}}"#))
        }),
    ]
}

/// Half a request that says it has so many bytes.
pub(crate) fn half_sent(length: usize) -> Sent {
    let body = body("hello", "");
    let mut bytes = body.into_bytes();
    bytes.resize(length, b' ');
    Sent::new(MESSAGES, "", bytes).manner(Manner::Halts)
}

/// Requests that fail, or have an answer without a word, by the caller's own doing. Each is sent to a first tier of the
/// caller's own dialect and of the other, and says whether it has to be answered.
pub(crate) fn to_be_blamed_on_others() -> Vec<(&'static str, bool, Vec<Sent>)> {
    let of = |content: &str, more: &str| {
        [(MESSAGES, ""), (CHAT, OPENAI), (CHAT, ""), (MESSAGES, OPENAI)]
            .map(|(path, to)| words(path, to, content, more))
    };
    let both = |content: &str, more: &str| {
        let mut sent = of(content, more).to_vec();
        sent.extend(of(content, &format!(r#"{more}"stream":true,"#)));
        sent
    };
    let beta = |value: &str| plain(MESSAGES, &format!("anthropic-beta: {value}\r\n"));
    let betas = ["usage limit", "your credit balance is too low", "insufficient_quota", "invalid x-api-key"].map(beta);
    let tier = |path, to, value: &str| words(path, to, "hello", &format!(r#""service_tier":"{value}","#));
    let tiers = |value: &str| [tier(CHAT, OPENAI, value), tier(MESSAGES, "", value)];
    let values = ["insufficient credits", "you exceeded your current quota", "billing hard limit", "incorrect api key"];
    let numbered = |number: usize, content: &str| {
        let (path, to) = if number.is_multiple_of(2) { (MESSAGES, "") } else { (CHAT, OPENAI) };
        words(path, to, &format!("{number}: {content}"), "")
    };
    // Each second one goes to OpenAI's dialect, which says that an answer was filtered where Anthropic's says that it
    // was refused.
    let unspeakable = [both(UNSPEAKABLE, ""), both(UNSPEAKABLE, "")].concat();
    let of_each = |first: usize| unspeakable.iter().skip(first).step_by(2).cloned().collect();
    let (refused, filtered) = (of_each(0), of_each(1));
    let none = |more: &str| [both("hello", more), both("hello", more)].concat();
    vec![
        ("words of quota in a header", false, betas.to_vec()),
        ("words of quota in a field", false, values.iter().flat_map(|value| tiers(value)).collect()),
        ("a stop sequence as first token", true, {
            let stop = |path, to, more: &str| {
                let name = if path == MESSAGES { "stop_sequences" } else { "stop" };
                words(path, to, "hello", &format!(r#"{more}"{name}":["first"],"#))
            };
            let all = [(MESSAGES, ""), (CHAT, OPENAI), (CHAT, ""), (MESSAGES, OPENAI)];
            let all = all.into_iter().flat_map(|(path, to)| ["", r#""stream":true,"#].map(|more| stop(path, to, more)));
            all.cycle().take(24).collect()
        }),
        ("one token at most", true, {
            let one = |sent: Sent| {
                let text = String::from_utf8(sent.body.to_vec()).unwrap();
                Sent { body: text.replace(r#""max_tokens":50"#, r#""max_tokens":1"#).into(), ..sent }
            };
            none("").into_iter().map(one).collect()
        }),
        ("a refusal without a word", true, refused),
        ("an answer that was filtered whole", false, filtered),
        ("a firewall's page", false, (0..8).map(|number| numbered(number, BLOCKED)).collect()),
        ("many different bad requests", false, (0..60).map(|number| numbered(number, UNREADABLE)).collect()),
    ]
}

/// A stream of many words, left after some of them.
pub(crate) fn left_early(path: &'static str, headers: &str, after: usize) -> Sent {
    words(path, headers, AT_LENGTH, r#""stream":true,"#).manner(Manner::LeavesAfter(after))
}

/// A call under a key of idempotency that goes on for as long as the model likes, and whose caller is gone at once.
pub(crate) fn left_at_once(key: &str) -> Sent {
    words(MESSAGES, &format!("idempotency-key: {key}\r\n"), "hold", r#""stream":true,"#).manner(Manner::Leaves)
}

/// A task for people of so many bytes.
pub(crate) fn for_people(length: usize, number: usize) -> Sent {
    let content = format!("{number}: {}", "x".repeat(length));
    words(MESSAGES, "x-steadfast-requires-human: 1\r\n", &content, "")
}

/// Bytes that are no request, or two.
const SHAPES: [&str; 6] = [
    "POST /v1/messages HTTP/1.1\r\nhost: a\r\nhost: b\r\ncontent-length: 0\r\n\r\n",
    "POST /v1/messages HTTP/1.1\nhost: a\ncontent-length: 0\n\n",
    "POST /v1/messages HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
    "POST /v1/messages HTTP/1.1\r\nhost: a\r\ncontent-length: 5\r\ncontent-length: 6\r\n\r\nhello",
    "POST /v1/messages HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n5\nhello\r\n0\r\n\r\n",
    "POST /v1/mess\0ages HTTP/1.1\r\nhost: a\r\n\r\n",
];

/// One of these, sent as it is.
pub(crate) async fn shape(address: &str, random: &mut Rng) {
    let bytes = *random.choice(&SHAPES).unwrap();
    let sent = async {
        let mut client = Client::connect(address).await?;
        client.send(bytes).await?;
        client.answer().await
    };
    // Whatever comes of it: `smuggling` has what should.
    let _ = timeout(Duration::from_secs(2), sent).await;
}

/// All that a hostile caller does, made once: the large ones take long to make.
pub(crate) struct Acts(Vec<(&'static str, Vec<Sent>)>);

impl Acts {
    /// Of the sizes of the findings.
    pub(crate) fn new() -> Self {
        let mut acts: Vec<(&str, Vec<Sent>)> = Vec::new();
        for (name, sent) in to_translate(16_000).into_iter().chain(to_fill_memory(8_000_000)) {
            acts.push((name, vec![sent]));
        }
        acts.extend(to_be_blamed_on_others().into_iter().map(|(name, _, sent)| (name, sent)));
        acts.push(("counting", (0..40).map(|_| counted()).collect()));
        acts.push((
            "streams left early",
            [left_early(MESSAGES, "", 100_000), left_early(CHAT, OPENAI, 100_000)].to_vec(),
        ));
        acts.push(("half-sent bodies", vec![half_sent(30_000_000); 2]));
        acts.push(("tasks for people", (0..10).map(|number| for_people(500_000, number)).collect()));
        Self(acts)
    }

    pub(crate) fn all(&self) -> &[(&'static str, Vec<Sent>)] {
        &self.0
    }

    /// Does one of them, chosen by chance, its requests side by side: how many there were, and how many were answered
    /// with 200 or refused as too many.
    pub(crate) async fn one(&self, address: &str, name: &str, random: &mut Rng) -> (&'static str, Told) {
        let choice = random.usize(..self.0.len() + 2);
        let Some((act, sent)) = self.0.get(choice) else {
            if choice == self.0.len() {
                shape(address, random).await;
                return ("shapes", Told { requests: 1, ..Told::default() });
            }
            let sent: Vec<Sent> = (0..10).map(|_| left_at_once(&random.u64(..).to_string())).collect();
            return ("idempotency keys, left at once", together(address, name, &sent, random).await);
        };
        (act, together(address, name, sent, random).await)
    }
}

/// The outcomes of requests.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Told {
    pub(crate) requests: usize,
    pub(crate) answered: usize,
    /// 429 and 503.
    pub(crate) limited: usize,
}

impl std::ops::AddAssign for Told {
    fn add_assign(&mut self, more: Self) {
        self.requests += more.requests;
        self.answered += more.answered;
        self.limited += more.limited;
    }
}

async fn together(address: &str, name: &str, sent: &[Sent], random: &mut Rng) -> Told {
    let mut told = Told { requests: sent.len(), ..Told::default() };
    // The number that the key may have in flight, and some more.
    for some in sent.chunks(10) {
        let acting = some.iter().map(|sent| sent.act(address, name, Duration::from_secs(5)));
        for status in futures_util::future::join_all(acting).await {
            told.answered += usize::from(status == Some(200));
            told.limited += usize::from(matches!(status, Some(429 | 503)));
        }
        sleep(Duration::from_millis(random.u64(..50))).await;
    }
    told
}

/// A request to count the tokens of a prompt.
pub(crate) fn counted() -> Sent {
    words("/v1/messages/count_tokens", "", &"word ".repeat(2_000), "")
}
