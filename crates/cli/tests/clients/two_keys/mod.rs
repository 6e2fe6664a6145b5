//! Two keys at one gateway: nothing that `one` does shows in what `two` gets.
//!
//! Each walk is done twice with the same seed, with the calls of `one` and without them. An id of one's that `two`
//! guesses is an unknown id in the second walk. Both walks of `two` must be equal but for the names that chance gives.

mod account;

use std::collections::HashMap;

use serde_json::{Value, json};

use self::account::Account;
use crate::common::{client::Client, serve::Serve};

const KEYS: [(&str, &str); 2] = [("one", "sk-one"), ("two", "sk-two")];

fn entries() -> String {
    use sha2::{Digest as _, Sha256};
    let hash = |key: &str| Sha256::digest(key).iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    KEYS.iter().map(|(name, key)| format!("  - {{ name: {name}, hash: 'sha256:{}' }}\n", hash(key))).collect()
}

/// The kinds of objects: their path, and true if the protocol is Anthropic's.
const KINDS: [(&str, bool, &str); 10] = [
    ("files", false, "file-"),
    ("files", true, "file-"),
    ("messages/batches", true, "msgbatch_"),
    ("uploads", false, "upload_"),
    ("batches", false, "batch_"),
    ("assistants", false, "asst_"),
    ("threads", false, "thread_"),
    ("vector_stores", false, "vs_"),
    ("fine_tuning/jobs", false, "ftjob-"),
    ("containers", false, "cntr_"),
];
/// The place of responses behind the kinds.
const RESPONSES: usize = KINDS.len();

/// The id that a call names: the caller's own, or one of the other key's.
#[derive(Clone, Copy, Debug)]
struct Name {
    is_own: bool,
    kind: usize,
    place: usize,
}

/// A call, before its names are known.
#[derive(Clone, Copy, Debug)]
enum Call {
    Make(usize, Name),
    List { kind: usize, limit: usize, after: Option<Name> },
    Get(Name),
    Content(Name),
    Delete(Name),
    Part(Name, Name),
    Chat(Name),
    Messages(Name),
    Input(Name),
    Search(Name),
    Goes(Name),
    Response(Name, bool),
    Session { name: usize, begins_at_second: bool },
    Repeat { key: usize, words: usize },
    Kept(usize),
    Lane(usize),
    Models,
}

fn name(random: &mut fastrand::Rng, kind: usize) -> Name {
    Name { is_own: random.bool(), kind, place: random.usize(..3) }
}

fn call(random: &mut fastrand::Rng) -> Call {
    let kind = random.usize(..KINDS.len());
    let file = if random.bool() { 0 } else { random.usize(..KINDS.len()) };
    match random.usize(..20) {
        0..5 => Call::Make(kind, name(random, 0)),
        5..7 => {
            let after = random.bool().then(|| name(random, kind));
            Call::List { kind, limit: [1, 2, 20][random.usize(..3)], after }
        }
        7 => Call::Get(name(random, kind)),
        8 => Call::Content(name(random, kind)),
        9 => Call::Delete(name(random, kind)),
        10 => {
            let outer = [6, 7, 9][random.usize(..3)];
            Call::Part(name(random, outer), name(random, file))
        }
        11 => match random.usize(..5) {
            0 => Call::Chat(name(random, 0)),
            1 => Call::Messages(name(random, 1)),
            2 => Call::Input(name(random, 0)),
            3 => Call::Search(name(random, 7)),
            _ => Call::Search(name(random, 9)),
        },
        12 => Call::Goes(name(random, RESPONSES)),
        13 => Call::Response(name(random, RESPONSES), random.bool()),
        14 | 15 => Call::Session { name: random.usize(..2), begins_at_second: random.bool() },
        16 => Call::Repeat { key: random.usize(..2), words: random.usize(..2) },
        17 => Call::Kept(random.usize(..2)),
        18 => Call::Lane(random.usize(..2)),
        _ => Call::Models,
    }
}

/// One key's things, in the order of their making.
#[derive(Default)]
struct Things(HashMap<usize, Vec<String>>);

/// A walk: the gateway, its providers, and what each key has made.
struct Walk {
    gateway: crate::common::serve::Served,
    things: [Things; 2],
    unknown: fastrand::Rng,
    _accounts: [Account; 2],
}

impl Walk {
    async fn start(seed: u64, responses: bool) -> Self {
        let accounts = [Account::start(2 * seed).await, Account::start(2 * seed + 1).await];
        let folder = crate::common::Folder::new("two-keys");
        let kept = match responses {
            true => format!(
                "stores: {{ durable: 'sqlite:{}' }}\nresponses: {{ keep: 1h }}\n",
                folder.path("kept.db").display()
            ),
            false => String::new(),
        };
        let config = format!(
            "tiers:\n\
             \x20 - {{ name: main, provider: openai, api: responses, model: gpt-4o, base_url: 'http://{main}/v1', api_key: '${{ONE}}' }}\n\
             \x20 - {{ name: claude, provider: anthropic, model: claude-sonnet-4-5, base_url: 'http://{claude}', api_key: '${{ONE}}' }}\n\
             \x20 - {{ name: chat, provider: openai, model: gpt-4o-mini, base_url: 'http://{main}/v1', api_key: '${{ONE}}' }}\n\
             fallback: {{ session: pin }}\nidempotency: {{}}\ncache: {{}}\n\
             lane: {{ tiers: [{{ name: small, provider: openai, model: small, base_url: 'http://{main}/v1', \
             api_key: '${{ONE}}', space: s/2 }}] }}\n{kept}",
            main = accounts[0].address,
            claude = accounts[1].address,
        );
        let gateway = Serve::with(&config).env("ONE", "sk-of-the-provider").keys(&entries()).start();
        std::mem::forget(folder);
        Self { gateway, things: Default::default(), unknown: fastrand::Rng::with_seed(!seed), _accounts: accounts }
    }

    /// Returns the id, or an unknown one where there is none.
    fn id(&mut self, who: usize, name: Name) -> (String, bool) {
        let owner = if name.is_own { who } else { 1 - who };
        let known = self.things[owner].0.get(&name.kind).and_then(|ids| ids.get(name.place));
        if let Some(id) = known {
            return (id.clone(), name.is_own);
        }
        let beginning = KINDS.get(name.kind).map_or("resp_", |(.., beginning)| beginning);
        let unknown = beginning.chars().chain((0..20).map(|_| self.unknown.alphanumeric())).collect();
        (unknown, false)
    }

    /// Makes a call, and returns what its caller sees.
    async fn call(&mut self, who: usize, call: Call) -> Value {
        let (key, secret) = KEYS[who];
        let mut headers = String::new();
        let mut guessed = Vec::new();
        let mut id = |walk: &mut Self, name| {
            let (id, is_own) = walk.id(who, name);
            if !is_own {
                guessed.push(id.clone());
            }
            id
        };
        let mut made = None;
        let hello = |model: &str, content: Value| json!({"model": model, "max_tokens": 9, "messages": [{"role": "user", "content": content}]});
        let (method, path, is_anthropics, body) = match call {
            Call::Make(kind, of) => {
                made = Some(kind);
                let (path, is_anthropics, _) = KINDS[kind];
                let body = match path {
                    "files" => Err(format!("secret of {key}")),
                    "messages/batches" => Ok(json!({"requests": [
                        {"custom_id": "a", "params": hello("claude-sonnet-4-5", json!("hi"))}]})),
                    "uploads" => {
                        Ok(json!({"purpose": "assistants", "filename": "f", "bytes": 9, "mime_type": "text/plain"}))
                    }
                    "batches" => Ok(
                        json!({"input_file_id": id(self, of), "endpoint": "/v1/chat/completions", "completion_window": "24h"}),
                    ),
                    "fine_tuning/jobs" => Ok(json!({"model": "gpt-4o-mini", "training_file": id(self, of)})),
                    "assistants" => Ok(json!({"model": "gpt-4o"})),
                    "vector_stores" | "containers" => Ok(json!({"name": "n", "file_ids": [id(self, of)]})),
                    _ => Ok(json!({"messages": []})),
                };
                ("POST", format!("/v1/{path}"), is_anthropics, Some(body))
            }
            Call::List { kind, limit, after } => {
                let (path, is_anthropics, _) = KINDS[kind];
                let after = after.map(|after| id(self, after));
                let cursor = if is_anthropics { "after_id" } else { "after" };
                let after = after.map(|after| format!("&{cursor}={after}")).unwrap_or_default();
                ("GET", format!("/v1/{path}?limit={limit}{after}"), is_anthropics, None)
            }
            Call::Get(name) => {
                ("GET", format!("/v1/{}/{}", KINDS[name.kind].0, id(self, name)), KINDS[name.kind].1, None)
            }
            Call::Delete(name) => {
                ("DELETE", format!("/v1/{}/{}", KINDS[name.kind].0, id(self, name)), KINDS[name.kind].1, None)
            }
            Call::Content(name) => {
                let part = if KINDS[name.kind].0 == "messages/batches" { "results" } else { "content" };
                ("GET", format!("/v1/{}/{}/{part}", KINDS[name.kind].0, id(self, name)), KINDS[name.kind].1, None)
            }
            Call::Part(outer, inner) => {
                let part = if KINDS[outer.kind].0 == "threads" { "messages" } else { "files" };
                let path = format!("/v1/{}/{}/{part}", KINDS[outer.kind].0, id(self, outer));
                ("POST", path, false, Some(Ok(json!({ "file_id": id(self, inner) }))))
            }
            Call::Chat(file) => {
                let file = json!([{"type": "file", "file": {"file_id": id(self, file)}}]);
                ("POST", "/v1/chat/completions".to_owned(), false, Some(Ok(hello("gpt-4o-mini", file))))
            }
            Call::Messages(file) => {
                let file = json!([{"type": "document", "source": {"type": "file", "file_id": id(self, file)}}]);
                ("POST", "/v1/messages".to_owned(), true, Some(Ok(hello("claude-sonnet-4-5", file))))
            }
            Call::Input(file) => {
                let content = json!([{"type": "input_file", "file_id": id(self, file)}]);
                let body = json!({"model": "gpt-4o", "input": [{"role": "user", "content": content}]});
                ("POST", "/v1/responses".to_owned(), false, Some(Ok(body)))
            }
            Call::Search(name) => {
                let id = id(self, name);
                let tool = match KINDS[name.kind].0 {
                    "containers" => json!({"type": "code_interpreter", "container": id}),
                    _ => json!({"type": "file_search", "vector_store_ids": [id]}),
                };
                let body = json!({"model": "gpt-4o", "input": "hello", "tools": [tool]});
                ("POST", "/v1/responses".to_owned(), false, Some(Ok(body)))
            }
            Call::Goes(before) => {
                made = Some(RESPONSES);
                let mut body = json!({"model": "gpt-4o", "input": format!("a turn of {key}"), "store": true});
                if before.place > 0 {
                    body["previous_response_id"] = id(self, before).into();
                }
                ("POST", "/v1/responses".to_owned(), false, Some(Ok(body)))
            }
            Call::Response(name, deletes) => {
                let path = format!("/v1/responses/{}", id(self, name));
                (if deletes { "DELETE" } else { "GET" }, path, false, None)
            }
            Call::Session { name, begins_at_second } => {
                headers = format!("x-steadfast-session: user-{name}\r\n");
                let model = if begins_at_second && who == 0 { "claude-sonnet-4-5" } else { "any" };
                (
                    "POST",
                    "/v1/chat/completions".to_owned(),
                    false,
                    Some(Ok(hello(model, json!(format!("session of {key}"))))),
                )
            }
            Call::Repeat { key: number, words } => {
                headers = format!("idempotency-key: key-{number}\r\n");
                let words = json!(format!("repeat {words}"));
                ("POST", "/v1/chat/completions".to_owned(), false, Some(Ok(hello("gpt-4o", words))))
            }
            Call::Kept(words) => {
                let mut body = hello("gpt-4o", json!(format!("kept {words}")));
                body["temperature"] = 0.into();
                ("POST", "/v1/chat/completions".to_owned(), false, Some(Ok(body)))
            }
            Call::Lane(0) => {
                ("POST", "/v1/embeddings".to_owned(), false, Some(Ok(json!({"model": "small", "input": "hello"}))))
            }
            Call::Lane(_) => (
                "POST",
                "/v1/images/generations".to_owned(),
                false,
                Some(Ok(json!({"model": "small", "prompt": "hello"}))),
            ),
            Call::Models => ("GET", "/v1/models".to_owned(), false, None),
        };
        let (kind, body) = match body {
            None => ("application/json", String::new()),
            Some(Ok(json)) => ("application/json", json.to_string()),
            Some(Err(content)) => (
                "multipart/form-data; boundary=xyz",
                format!(
                    "--xyz\r\ncontent-disposition: form-data; name=\"file\"; filename=\"f\"\r\n\r\n{content}\r\n--xyz\r\n\
                     content-disposition: form-data; name=\"purpose\"\r\n\r\nassistants\r\n--xyz--\r\n"
                ),
            ),
        };
        let credential = match is_anthropics {
            true => format!("x-api-key: {secret}\r\nanthropic-version: 2023-06-01\r\n"),
            false => format!("authorization: Bearer {secret}\r\n"),
        };
        let request = format!(
            "{method} {path} HTTP/1.1\r\nhost: g\r\n{credential}{headers}content-type: {kind}\r\ncontent-length: {}\r\n\r\n{body}",
            body.len()
        );
        let mut client = Client::connect(self.gateway.address()).await.unwrap();
        client.send(request).await.unwrap();
        let answer = client.answer().await.unwrap();
        let text = answer.body.clone();
        let json: Value = serde_json::from_str(&text).unwrap_or(Value::Null);
        if let (Some(kind), 200, Some(id)) = (made, answer.status, json["id"].as_str()) {
            self.things[who].0.entry(kind).or_default().push(id.to_owned());
        }
        let head: Vec<&str> = answer.head.lines().filter(|line| is_compared(line)).collect();
        let mut text = format!("{}\n{text}", head.join("\n"));
        for id in guessed {
            text = text.replace(&id, "GUESSED").replace(&id.to_ascii_lowercase(), "GUESSED");
        }
        json!({"call": format!("{call:?}"), "status": answer.status, "answer": text})
    }
}

/// Times, lengths and the names of requests are chance's, and so is a store that is late on a busy machine.
fn is_compared(line: &str) -> bool {
    let chance = [
        "date:",
        "content-length:",
        "x-request-id:",
        "request-id:",
        "x-steadfast-request-id:",
        "openai-processing-ms:",
        "x-steadfast-overhead-ms:",
        "x-steadfast-repeated:",
    ];
    !chance.iter().any(|name| line.starts_with(name))
}

/// Replaces the names that chance gives by their numbers.
fn without_chance(seen: &[Value]) -> Vec<String> {
    let mut names: HashMap<String, usize> = HashMap::new();
    let is_part = |letter: char| letter.is_ascii_alphanumeric() || matches!(letter, '-' | '_');
    let mut words = |text: &str| {
        let mut out = String::new();
        let mut rest = text;
        while let Some(at) = rest.find(is_part) {
            out.push_str(&rest[..at]);
            let end = rest[at..].find(|letter| !is_part(letter)).map_or(rest.len(), |end| at + end);
            let word = &rest[at..end];
            let mut beginnings = KINDS.iter().map(|(.., beginning)| *beginning).chain(["resp_", "msg_", "chatcmpl-"]);
            let is_object = beginnings.any(|beginning| word.starts_with(beginning) && word.len() > beginning.len());
            let is_name = is_object || word.len() >= 20 && word.bytes().any(|byte| byte.is_ascii_digit());
            let is_time = word.len() == 10 && word.bytes().all(|byte| byte.is_ascii_digit());
            match (is_name, is_time) {
                (true, _) => {
                    let number = names.len();
                    let number = *names.entry(word.to_owned()).or_insert(number);
                    out.push_str(&format!("#{number}"));
                }
                (_, true) => out.push_str("TIME"),
                _ => out.push_str(word),
            }
            rest = &rest[end..];
        }
        out + rest
    };
    seen.iter()
        .map(|seen| words(&format!("{} {}\n{}", seen["call"], seen["status"], seen["answer"].as_str().unwrap())))
        .collect()
}

/// Walks through calls of both keys, or of `two` alone, and returns what `two` saw.
async fn walked(seed: u64, has_one: bool) -> Vec<Value> {
    let mut random = fastrand::Rng::with_seed(seed);
    let calls: Vec<(usize, Call)> = (0..80).map(|_| (random.usize(..2), call(&mut random))).collect();
    let mut walk = Walk::start(seed, seed.is_multiple_of(2)).await;
    let mut seen = Vec::new();
    for (who, call) in calls {
        if who == 0 && !has_one {
            continue;
        }
        let answer = walk.call(who, call).await;
        if who == 1 {
            seen.push(answer);
        }
    }
    seen
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_that_one_key_does_shows_in_what_another_gets() {
    let walks: u64 = std::env::var("STEADFAST_WALKS").ok().and_then(|walks| walks.parse().ok()).unwrap_or(12);
    let mut served = 0;
    for seed in 0..walks {
        let (beside, alone) = (walked(seed, true).await, walked(seed, false).await);
        served += alone.iter().filter(|seen| seen["status"] == 200).count();
        for (number, (beside, alone)) in without_chance(&beside).iter().zip(without_chance(&alone)).enumerate() {
            assert_eq!(*beside, alone, "walk {seed}, call {number}");
            assert!(!beside.contains("secret of one") && !beside.contains("of one"), "walk {seed}: {beside}");
        }
    }
    // The calls are such that most of them are served.
    assert!(served > 15 * walks as usize, "{served} calls served");
}
