//! Ids of tool calls come home as they were, of any length and any letters, from all four callers; and no other server
//! gets one that its vendor's reference does not allow.

use serde_json::Value;
use steadfast::{Dialect, translate::SealMemory};

use crate::thoughts::{CALLERS, Caller, Kind, kinds, last, leaf, leaf_of};

/// Ids of Kimi's kind, of vLLM's, and others of each length and of odd letters.
fn ids() -> Vec<String> {
    let mut ids: Vec<String> = [
        "functions.read:0",
        "chatcmpl-tool-0123456789abcdef0123456789abcdef",
        "a b/ä☃",
        "-x",
        ".",
        "a\"b\\c\n",
        "toolu_sf_call_1",
        "toolu_sf_-a",
        "steadfast.openai.id.x",
        "call_x1",
        "0",
    ]
    .map(str::to_owned)
    .to_vec();
    for length in [40, 41, 55, 56, 64, 65, 257, 1000] {
        ids.push("x".repeat(length));
        ids.push(format!("functions.{}:7", "mcp__srv-".chars().cycle().take(length - 12).collect::<String>()));
        ids.push(format!("toolu_{}", "y".repeat(length - 6)));
    }
    ids
}

/// The servers, with the models that they serve.
fn homes(id: &str) -> Vec<(Kind, &'static str)> {
    let known = kinds().into_iter().filter_map(|kind| {
        Some(match kind.name {
            "content" => (kind, "kimi-k2.5"),
            "plain" => (kind, "qwen3-coder"),
            "call" => (kind, "gemini-2.5-pro"),
            "claude" => (kind, "kimi-k2.5"),
            "responses" => (kind, "gpt-oss-120b"),
            _ => return None,
        })
    });
    let with_id = |(kind, model): (Kind, &'static str)| {
        let mut turn = kind.turn;
        match kind.speaks {
            Dialect::OpenAi => turn["tool_calls"][0]["id"] = id.into(),
            Dialect::Anthropic => turn["content"][2]["id"] = id.into(),
            Dialect::Responses => turn[2]["call_id"] = id.into(),
            _ => turn["parts"][2]["functionCall"]["id"] = id.into(),
        }
        (Kind { turn, ..kind }, model)
    };
    known.map(with_id).collect()
}

/// Returns the ids of the calls and of the results in a request.
fn ids_in(speaks: Dialect, body: &Value) -> Vec<[String; 2]> {
    fn all(value: &Value, names: [&str; 2], found: &mut [Vec<String>; 2]) {
        match value {
            Value::Array(items) => items.iter().for_each(|item| all(item, names, found)),
            Value::Object(fields) => {
                for (name, value) in fields {
                    if let Some(at) = names.iter().position(|known| known == name) {
                        found[at].extend(value.as_str().or_else(|| value["id"].as_str()).map(str::to_owned));
                    }
                    all(value, names, found);
                }
            }
            _ => {}
        }
    }
    let mut found = [Vec::new(), Vec::new()];
    match speaks {
        Dialect::OpenAi => {
            for turn in body["messages"].as_array().unwrap() {
                let calls = turn["tool_calls"].as_array().into_iter().flatten();
                found[0].extend(calls.map(|call| call["id"].as_str().unwrap().to_owned()));
                found[1].extend(turn["tool_call_id"].as_str().map(str::to_owned));
            }
        }
        Dialect::Anthropic => {
            for block in
                body["messages"].as_array().unwrap().iter().flat_map(|turn| turn["content"].as_array()).flatten()
            {
                if block["type"] == "tool_use" {
                    found[0].push(block["id"].as_str().unwrap().to_owned());
                }
                found[1].extend(block["tool_use_id"].as_str().map(str::to_owned));
            }
        }
        Dialect::Responses => {
            for item in body["input"].as_array().unwrap() {
                let id = || item["call_id"].as_str().unwrap().to_owned();
                match item["type"].as_str() {
                    Some("function_call") => found[0].push(id()),
                    Some("function_call_output") => found[1].push(id()),
                    _ => {}
                }
            }
        }
        _ => all(&body["contents"], ["functionCall", "functionResponse"], &mut found),
    }
    let [calls, results] = found;
    assert_eq!(calls.len(), results.len(), "{body}");
    calls.into_iter().zip(results).map(|(call, result)| [call, result]).collect()
}

#[tokio::test(start_paused = true)]
async fn an_id_of_any_length_and_any_letters_comes_home_as_it_was() {
    let (mut cells, mut wrong) = (0, Vec::new());
    for id in ids() {
        for (home, model) in homes(&id) {
            for (dialect, stream) in CALLERS.into_iter().flat_map(|dialect| [(dialect, false), (dialect, true)]) {
                let memory = SealMemory::new();
                let (own, sent) = leaf_of(&home, model, &memory, "a");
                let mut caller = Caller::new(dialect, stream);
                caller.turn(&own).await;
                caller.turn(&own).await;
                cells += 1;
                let back = ids_in(home.speaks, &last(&sent));
                if back != [[id.clone(), id.clone()]] {
                    wrong.push(format!("{dialect} stream {stream}, {} at {}: {id:?} is {back:?}", model, home.speaks));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{} of {cells}:\n{}", wrong.len(), wrong[..wrong.len().min(40)].join("\n"));
    assert!(cells > 1300, "{cells}");
}

/// A vendor's own server gets ids by its reference, and home gets its own ones back behind its turn.
#[tokio::test(start_paused = true)]
async fn another_server_gets_an_id_that_it_takes_and_home_its_own_again() {
    let plain = |id: &str| id.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_-".contains(&byte));
    for id in ids().into_iter().step_by(5) {
        for (home, model) in homes(&id) {
            for other in kinds().into_iter().filter(|kind| ["claude", "responses", "call"].contains(&kind.name)) {
                for (dialect, stream) in CALLERS.into_iter().flat_map(|dialect| [(dialect, false), (dialect, true)]) {
                    // A provider of the caller's own dialect is sent what its caller sends. Two of a kind sign alike.
                    if other.speaks == dialect || other.name == home.name {
                        continue;
                    }
                    let memory = SealMemory::new();
                    let ((own, sent), (strange, sent_there)) =
                        (leaf_of(&home, model, &memory, "a"), leaf(&other, &memory, "b"));
                    let mut caller = Caller::new(dialect, stream);
                    caller.turn(&own).await;
                    caller.turn(&strange).await;
                    caller.turn(&own).await;
                    let what = format!("{dialect} stream {stream}, {model} at {}: {id:?}", home.speaks);
                    for [call, result] in ids_in(other.speaks, &last(&sent_there)) {
                        let fits = match other.speaks {
                            Dialect::Anthropic => (1..=64).contains(&call.len()) && plain(&call),
                            Dialect::Responses => (1..=64).contains(&call.len()),
                            _ => !call.is_empty(),
                        };
                        assert!(fits && call == result, "{what} at {}: {call:?} {result:?}", other.name);
                    }
                    let back = ids_in(home.speaks, &last(&sent));
                    let is_home = back.first() == Some(&[id.clone(), id.clone()]);
                    assert!(is_home, "{what} behind {}: {back:?}", other.name);
                    assert!(back.iter().all(|[call, result]| call == result), "{what} behind {}: {back:?}", other.name);
                    let leaks = last(&sent_there).to_string().contains("steadfast.");
                    assert!(!leaks || id.contains("steadfast."), "{what} at {}", other.name);
                }
            }
        }
    }
}
