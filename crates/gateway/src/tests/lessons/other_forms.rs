//! Forms that callers of one kind expect of servers of another: ids of calls, a stream's first tokens, vectors.

use serde_json::{Value, json};

use super::{house::*, wire::*, *};

const KIMI: &str = "api.moonshot.ai";
const TIER: &str = "tiers: [{ name: only, provider: openai, api: chat, base_url: 'https://api.moonshot.ai/v1', model: kimi-k2, api_key: '${SECOND_KEY}', retry: { max_attempts: 1 } }]";

/// Ids of Kimi's kind: with points and colons, and longer than OpenAI's.
const IDS: [&str; 4] = [
    "functions.run:0",
    "functions.mcp__github__list_pull_requests:12",
    "functions.mcp__a_server_with_a_long_name__and_a_tool_with_one_that_is_longer_yet:7",
    "-odd id/é☃",
];

fn calling(ids: &[&str], stream: bool) -> Reply {
    let call = |(at, id): (usize, &&str)| json!({"index": at, "id": id, "type": "function", "function": {"name": "run", "arguments": "{}"}});
    let calls: Vec<Value> = ids.iter().enumerate().map(call).collect();
    match stream {
        true => Reply::stream([role(), chunk(&json!({ "tool_calls": calls }), None), chunk(&json!({}), Some("tool_calls")), DONE.to_owned()]),
        false => Reply::json(200, json!({"id": "c", "object": "chat.completion", "created": 1, "model": "kimi-k2", "choices": [{"index": 0,
            "message": {"role": "assistant", "content": "", "reasoning_content": "Hm.", "tool_calls": calls}, "finish_reason": "tool_calls"}]}).to_string()),
    }
}

/// maple-proxy#18, vscode#327597: Kimi's ids came back in another form.
#[tokio::test(start_paused = true)]
async fn ids_of_a_servers_own_go_back_as_they_came() {
    for stream in [false, true] {
        for path in [MESSAGES, CHAT] {
            let provider = Scripted::new([calling(&IDS, stream)]);
            let house = Plan::of(TIER).scripted(KIMI, &provider).build();
            let mut body = hello(stream);
            let function = json!({"name": "run", "parameters": {"type": "object", "properties": {}}});
            body["tools"] = match path {
                MESSAGES => json!([{"name": "run", "input_schema": function["parameters"]}]),
                _ => json!([{"type": "function", "function": function}]),
            };
            let answer = house.post(path, &[], &body).await;
            assert_eq!(answer.status, 200, "{}", answer.body);
            let ids: Vec<String> = answer
                .body
                .split("\"id\":\"")
                .skip(1)
                .filter_map(|rest| rest.split('"').next())
                .filter(|id| id.starts_with("toolu_") || IDS.contains(id))
                .map(str::to_owned)
                .collect();
            assert_eq!(ids.len(), IDS.len(), "{}", answer.body);
            let plain = |id: &String| id.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_-".contains(&byte));
            assert!(path == CHAT || ids.iter().all(|id| plain(id) && id.len() <= 64), "{ids:?}");
            let call = |id: &String| match path {
                MESSAGES => json!({"type": "tool_use", "id": id, "name": "run", "input": {}}),
                _ => json!({"id": id, "type": "function", "function": {"name": "run", "arguments": "{}"}}),
            };
            let calls: Vec<Value> = ids.iter().map(call).collect();
            let messages = body["messages"].as_array_mut().unwrap();
            match path {
                MESSAGES => {
                    let results: Vec<Value> = ids
                        .iter()
                        .map(|id| json!({"type": "tool_result", "tool_use_id": id, "content": "4"}))
                        .collect();
                    messages.extend([
                        json!({"role": "assistant", "content": calls}),
                        json!({"role": "user", "content": results}),
                    ]);
                }
                _ => {
                    messages.push(json!({"role": "assistant", "content": "", "tool_calls": calls}));
                    messages.extend(ids.iter().map(|id| json!({"role": "tool", "tool_call_id": id, "content": "4"})));
                }
            }
            house.post(path, &[], &body).await;
            let sent: Value = serde_json::from_str(&provider.seen().pop().unwrap().body).unwrap();
            let turns = sent["messages"].as_array().unwrap();
            let sent_calls: Vec<&str> =
                turns[1]["tool_calls"].as_array().unwrap().iter().map(|call| call["id"].as_str().unwrap()).collect();
            let sent_results: Vec<&str> =
                turns[2..].iter().map(|turn| turn["tool_call_id"].as_str().unwrap()).collect();
            assert_eq!(sent_calls, sent_results, "{path} {stream}");
            for (sent, id) in sent_calls.into_iter().zip(IDS) {
                // The longest does not fit an id of Messages.
                assert!(sent == id || (path == MESSAGES && id.len() > 64), "{path} {stream}: {sent} for {id}");
            }
        }
    }
}

/// The first event of a translated stream has an estimate of the prompt's tokens, the last one the provider's count.
#[tokio::test(start_paused = true)]
async fn a_translated_stream_begins_with_an_estimate() {
    let counted = "data: {\"id\":\"c\",\"object\":\"chat.completion.chunk\",\"created\":1,\"model\":\"m\",\"choices\":[],\"usage\":{\"prompt_tokens\":321,\"completion_tokens\":3,\"total_tokens\":324}}\n\n";
    let words = chunk(&json!({"content": "Hello from afar"}), None);
    let reply = Reply::stream([role(), words, chunk(&json!({}), Some("stop")), counted.to_owned(), DONE.to_owned()]);
    let house = Plan::of(TIER).scripted(KIMI, &Scripted::new([reply])).build();
    for length in [400, 40_000] {
        let mut body = hello(true);
        body["messages"][0]["content"] = "word ".repeat(length / 5).into();
        let answer = house.post(MESSAGES, &[], &body).await;
        answer.assert_clean("estimate");
        let events: Vec<Value> = answer
            .body
            .lines()
            .filter_map(|line| line.strip_prefix("data: "))
            .map(|data| serde_json::from_str(data).unwrap())
            .collect();
        let told = events[0]["message"]["usage"]["input_tokens"].as_u64().unwrap() as usize;
        assert!((length / 4..length / 4 + 60).contains(&told), "{told} for {length} characters");
        let end = events.iter().find(|event| event["type"] == "message_delta").unwrap();
        assert_eq!((&end["usage"]["input_tokens"], &end["usage"]["output_tokens"]), (&json!(321), &json!(3)));
    }
}

const EMBEDDER: &str = "lane: { tiers: [{ name: only, provider: openai, base_url: 'http://embed.internal/v1', model: our-embedder, api_key: '${SECOND_KEY}', space: our-embedder/3 }] }\ntiers: [{ name: sorry, provider: canned, text: Sorry. }]";

/// The numbers of a vector, in either form.
fn vector(value: &Value) -> Vec<f32> {
    match value {
        Value::Array(numbers) => numbers.iter().map(|number| number.as_f64().unwrap() as f32).collect(),
        text => {
            let bytes = steadfast_internal::base64::decode(text.as_str().unwrap()).unwrap();
            bytes.chunks(4).map(|four| f32::from_le_bytes(four.try_into().unwrap())).collect()
        }
    }
}

/// litellm#42426, lmstudio#756, gbrain PR 220, flexible-graphrag#17, graphiti PR 1782: SDKs ask for base64, and servers
/// know numbers alone or refuse the field.
#[tokio::test(start_paused = true)]
async fn vectors_come_in_the_form_that_their_caller_asks_for() {
    const VECTORS: [[f32; 3]; 2] = [[0.25, -1.5e-7, 1.0], [3.402_823e38, 0.1, -0.0]];
    let packed = |vector: &[f32; 3]| {
        let bytes: Vec<u8> = vector.iter().flat_map(|number| number.to_le_bytes()).collect();
        steadfast_internal::base64::encode(&bytes)
    };
    for (server, refuses) in [("numbers", false), ("numbers", true), ("base64", false), ("base64", true)] {
        for asked in [Some("base64"), Some("float"), None] {
            let provider = Scripted::acting(move |seen| {
                let body: Value = serde_json::from_str(&seen.body).unwrap();
                if refuses && body.get("encoding_format").is_some() {
                    return Reply::json(
                        400,
                        r#"{"error":{"message":"Unrecognized request argument supplied: encoding_format","type":"invalid_request_error"}}"#,
                    );
                }
                let data: Vec<Value> = VECTORS
                    .iter()
                    .enumerate()
                    .map(|(index, vector)| {
                        let vector = if server == "base64" { json!(packed(vector)) } else { json!(vector) };
                        json!({"object": "embedding", "index": index, "embedding": vector})
                    })
                    .collect();
                Reply::json(200, json!({"object": "list", "data": data, "model": "our-embedder", "usage": {"prompt_tokens": 2, "total_tokens": 2}}).to_string())
            });
            let house = Plan::of(EMBEDDER).scripted("embed.internal", &provider).build().on_one_connection();
            let mut body = json!({"model": "our-embedder", "input": ["a", "b"]});
            if let Some(form) = asked {
                body["encoding_format"] = form.into();
            }
            for call in 0..2 {
                let what = format!("{server}, refuses {refuses}, asked {asked:?}, call {call}");
                let answer = house
                    .send("POST", "/v1/embeddings", &[("content-type", "application/json")], body.to_string())
                    .await;
                assert_eq!(answer.status, 200, "{what}: {}", answer.body);
                let told = answer.json();
                for (index, vector) in VECTORS.iter().enumerate() {
                    let value = &told["data"][index]["embedding"];
                    assert_eq!(self::vector(value), vector, "{what}");
                    match asked {
                        Some("base64") => assert!(value.is_string(), "{what}: {value}"),
                        Some(_) => assert!(value.is_array(), "{what}: {value}"),
                        // Nobody has asked for a form.
                        None => assert_eq!(value.is_string(), server == "base64", "{what}"),
                    }
                }
                assert_eq!(told["usage"]["prompt_tokens"], 2);
                // A refused field is left out from then on.
                let sent = if refuses && asked.is_some() { call + 2 } else { call + 1 };
                assert_eq!(provider.seen().len(), sent, "{what}");
            }
        }
    }
}
