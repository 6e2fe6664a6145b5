use super::*;

#[tokio::test]
async fn each_protocol_answers_whole() {
    let server = start(provider()).await;
    let anthropic = ask(&server, MESSAGES, false).await;
    assert_eq!(anthropic.json()["content"][0]["text"], "Hello from afar");
    assert_eq!(anthropic.json()["stop_reason"], "end_turn");
    assert!(anthropic.header("request-id").starts_with("req_"));

    let openai = ask(&server, CHAT, false).await.json();
    assert_eq!(openai["choices"][0]["message"]["content"], "Hello from afar");
    assert_eq!(openai["usage"]["completion_tokens"], 3);

    let gemini = ask(&server, GENERATE, false).await.json();
    let part = &gemini["candidates"][0]["content"]["parts"][0];
    assert_eq!(part["text"], "Hello from afar");
    assert_eq!(gemini["candidates"][0]["finishReason"], "STOP");

    let stats = server.handle().stats();
    assert_eq!((stats.calls, stats.answered, stats.in_flight), (3, 3, 0));
}

#[tokio::test]
async fn an_anthropic_stream_has_its_events_in_order() {
    let server = start(provider()).await;
    let got = ask(&server, MESSAGES, true).await;
    assert_eq!(got.header("content-type"), "text/event-stream; charset=utf-8");
    let events = got.events();
    let kinds: Vec<_> = events.iter().map(|e| e["type"].as_str().unwrap()).collect();
    assert_eq!(
        kinds,
        [
            "message_start",
            "content_block_start",
            "ping",
            "content_block_delta",
            "content_block_delta",
            "content_block_delta",
            "content_block_stop",
            "message_delta",
            "message_stop",
        ]
    );
    let text: String = events.iter().filter_map(|e| e["delta"]["text"].as_str()).collect();
    assert_eq!(text, "Hello from afar");
}

#[tokio::test]
async fn an_openai_stream_ends_with_usage_and_done() {
    let server = start(provider()).await;
    let got = ask(&server, CHAT, true).await;
    let events = got.events();
    assert_eq!(events[0]["choices"][0]["delta"]["role"], "assistant");
    let text: String = events.iter().filter_map(|e| e["choices"][0]["delta"]["content"].as_str()).collect();
    assert_eq!(text, "Hello from afar");
    let [.., finish, usage] = &events[..] else { panic!() };
    assert_eq!(finish["choices"][0]["finish_reason"], "stop");
    assert_eq!(usage["choices"], json!([]));
    assert_eq!(usage["usage"]["completion_tokens"], 3);
    assert!(got.text.ends_with("data: [DONE]\n\n"));
}

#[tokio::test]
async fn a_gemini_stream_is_whole_objects_and_an_array_without_sse() {
    let server = start(provider()).await;
    let events = ask(&server, GENERATE_STREAM, true).await.events();
    let text: String =
        events.iter().filter_map(|e| e["candidates"][0]["content"]["parts"][0]["text"].as_str()).collect();
    assert_eq!(text, "Hello from afar");
    assert_eq!(events[3]["candidates"][0]["finishReason"], "STOP");
    assert_eq!(events[3]["usageMetadata"]["candidatesTokenCount"], 3);

    let path = GENERATE_STREAM.strip_suffix("?alt=sse").unwrap();
    let array = ask(&server, path, true).await.json();
    assert_eq!(array[0]["candidates"][0]["finishReason"], "STOP");
}

#[tokio::test]
async fn errors_have_the_status_and_body_of_their_provider() {
    let server = start(provider()).await;
    type Expectation = (u16, &'static str, &'static str);
    let cases: [(Fault, [Expectation; 3]); 6] = [
        (
            Fault::ServerError,
            [
                (500, "/error/type", "api_error"),
                (500, "/error/type", "server_error"),
                (500, "/error/status", "INTERNAL"),
            ],
        ),
        (
            Fault::Overloaded,
            [
                (529, "/error/type", "overloaded_error"),
                (503, "/error/type", "server_error"),
                (503, "/error/status", "UNAVAILABLE"),
            ],
        ),
        (
            Fault::InsufficientQuota,
            [
                (429, "/error/details/error_code", "enforced_spend_limit_reached"),
                (429, "/error/code", "insufficient_quota"),
                (429, "/error/details/0/violations/0/quotaId", "GenerateRequestsPerDayPerProjectPerModel"),
            ],
        ),
        (
            Fault::Unauthorized,
            [
                (401, "/error/type", "authentication_error"),
                (401, "/error/code", "invalid_api_key"),
                (401, "/error/status", "UNAUTHENTICATED"),
            ],
        ),
        (
            Fault::BadRequest,
            [
                (400, "/error/type", "invalid_request_error"),
                (400, "/error/type", "invalid_request_error"),
                (400, "/error/status", "INVALID_ARGUMENT"),
            ],
        ),
        (Fault::ComeBackLater, [(429, "/status", "come back later"); 3]),
    ];
    for (fault, wanted) in cases {
        for (path, (status, pointer, value)) in PATHS.into_iter().zip(wanted) {
            server.handle().fail_next(1, &fault);
            let got = ask(&server, path, false).await;
            assert_eq!(got.status, status, "{fault} {path}");
            assert_eq!(got.json().pointer(pointer).unwrap(), value, "{fault} {path}");
        }
        assert_eq!(server.handle().stats().failed_by[fault.name()], 3);
    }
    assert_eq!(server.handle().stats().answered, 0);
}

#[tokio::test]
async fn a_rate_limit_says_when_to_come_back_in_each_providers_way() {
    let limit = RateLimit::requests_per_minute(40).burst(1);
    let server = start(provider()).await;
    let limited = async |path| {
        server.handle().rate_limit(Some(limit));
        let first = ask(&server, path, false).await;
        assert_eq!(first.status, 200);
        let second = ask(&server, path, false).await;
        assert_eq!(second.status, 429);
        (first, second)
    };
    let (first, second) = limited(MESSAGES).await;
    assert_eq!(first.header("anthropic-ratelimit-requests-limit"), "40");
    assert_eq!(first.header("anthropic-ratelimit-requests-remaining"), "0");
    assert!(first.header("anthropic-ratelimit-requests-reset").ends_with('Z'));
    assert_eq!(second.header("retry-after"), "2");
    assert_eq!(second.header("x-should-retry"), "true");

    let (first, second) = limited(CHAT).await;
    assert_eq!(first.header("x-ratelimit-remaining-requests"), "0");
    assert!(first.header("x-ratelimit-reset-requests").ends_with('s'));
    let wait: u64 = second.header("retry-after-ms").parse().unwrap();
    assert!((1_000..=1_500).contains(&wait), "{wait}");

    let (_, second) = limited(GENERATE).await;
    let wait = second.json();
    let wait = wait.pointer("/error/details/1/retryDelay").unwrap().as_str().unwrap();
    let wait: f64 = wait.strip_suffix('s').unwrap().parse().unwrap();
    assert!((1.0..=1.5).contains(&wait), "{wait}");
    assert!(second.header("retry-after").is_empty());
}

#[tokio::test]
async fn requests_that_lack_something_are_refused_in_the_providers_words() {
    let server = start(provider().models(["m"])).await;
    let refused = async |path: &str, body: &[u8]| send(server.addr(), request(path, body)).await.unwrap();

    let got = refused(MESSAGES, br#"{"model":"m","messages":[{}]}"#).await;
    assert_eq!(
        (got.status.as_u16(), got.json()["error"]["message"].as_str()),
        (400, Some("max_tokens: Field required"))
    );
    let got = refused(CHAT, br#"{"messages":[{}]}"#).await;
    assert_eq!((got.status.as_u16(), &got.json()["error"]["param"]), (400, &json!("model")));
    let got = refused(CHAT, br#"{"model":"m"}"#).await;
    assert_eq!(got.json()["error"]["param"], "messages");
    let got = refused(GENERATE, b"{}").await;
    assert_eq!((got.status.as_u16(), &got.json()["error"]["status"]), (400, &json!("INVALID_ARGUMENT")));
    for path in PATHS {
        assert_eq!(refused(path, b"{nonsense").await.status, 400);
        assert_eq!(refused(path, &[0xff, 0xfe]).await.status, 400);
        assert_eq!(refused(path, b"[1]").await.status, 400);
    }
    let got = refused(CHAT, br#"{"model":"x","messages":[{"role":"user","content":"?"}]}"#).await;
    assert_eq!((got.status.as_u16(), &got.json()["error"]["code"]), (404, &json!("model_not_found")));
    assert_eq!(refused("/v1/embeddings", b"{}").await.status, 404);
    let stats = server.handle().stats();
    assert_eq!((stats.calls, stats.rejected), (0, 15));
}

#[tokio::test]
async fn the_bad_key_is_refused() {
    let server = start(provider()).await;
    for (path, name, value, status) in [
        (MESSAGES, "x-api-key", "bad-key", 401),
        (MESSAGES, "authorization", "Bearer bad-key", 401),
        (CHAT, "authorization", "Bearer bad-key", 401),
        (GENERATE, "x-goog-api-key", "bad-key", 400),
    ] {
        let body = body_for(path, false).to_string();
        let mut request = request(path, body.as_bytes());
        request.headers_mut().insert(name, value.parse().unwrap());
        let got = send(server.addr(), request).await.unwrap();
        assert_eq!(got.status, status, "{path}");
        assert!(!got.text.contains("bad-key"));
    }
}

#[tokio::test]
async fn a_cut_stream_breaks_off_and_a_truncated_one_ends_without_its_mark() {
    let server = start(provider()).await;
    for path in [MESSAGES, CHAT, GENERATE_STREAM] {
        server.handle().fail_next(1, &Fault::CutAfter(2));
        let cut = ask(&server, path, true).await;
        assert!(cut.text.contains("from ") && !cut.text.contains("afar"), "{path}");
        assert!(!cut.whole, "{path}");

        server.handle().fail_next(1, &Fault::TruncatedAfter(99));
        let truncated = ask(&server, path, true).await;
        assert!(truncated.text.contains("afar") && truncated.whole, "{path}");
        for mark in ["message_stop", "[DONE]", "finishReason"] {
            assert!(!truncated.text.contains(mark), "{path}");
        }
    }
    let stats = server.handle().stats();
    assert_eq!((stats.failed_by["cut"], stats.failed_by["truncated"]), (3, 3));
}

#[tokio::test]
async fn whole_answers_can_be_cut_and_truncated_too() {
    let server = start(provider()).await;
    for path in PATHS {
        server.handle().fail_next(1, &Fault::CutAfter(2));
        let cut = ask(&server, path, false).await;
        assert!(!cut.whole && !cut.text.is_empty(), "{path}");
        server.handle().fail_next(1, &Fault::TruncatedAfter(2));
        let truncated = ask(&server, path, false).await;
        assert!(truncated.whole, "{path}");
        assert!(serde_json::from_str::<Value>(&truncated.text).is_err());
    }
    server.handle().until(|stats| stats.failed == 6).await;
}

#[tokio::test]
async fn errors_come_inside_a_stream_of_status_200() {
    let server = start(provider()).await;
    for (path, mark) in
        [(MESSAGES, "event: error\ndata: "), (CHAT, "data: {\"error\":"), (GENERATE_STREAM, "\n{\n  \"error\":")]
    {
        server.handle().fail_next(1, &Fault::ErrorEventAfter(1));
        let got = ask(&server, path, true).await;
        assert_eq!(got.status, 200);
        assert!(got.text.contains("Hello ") && got.text.contains(mark), "{}", got.text);
        assert!(!got.text.contains("message_stop") && !got.text.contains("finishReason"));
    }
}

#[tokio::test]
async fn an_empty_answer_is_well_formed() {
    let server = start(provider()).await;
    server.handle().fail(Fault::Empty);
    assert_eq!(ask(&server, MESSAGES, false).await.json()["content"], json!([]));
    let chat = ask(&server, CHAT, false).await.json();
    assert_eq!(chat["choices"][0]["message"]["content"], "");
    assert_eq!(ask(&server, GENERATE, false).await.json()["candidates"], json!([]));
    let stream = ask(&server, MESSAGES, true).await;
    assert!(stream.text.contains("message_stop") && !stream.text.contains("content_block"));
}

#[tokio::test]
async fn a_page_with_200_is_no_answer() {
    let server = start(provider()).await;
    server.handle().fail_next(1, &Fault::HtmlPage);
    let got = ask(&server, CHAT, true).await;
    assert_eq!((got.status.as_u16(), got.header("content-type")), (200, "text/html; charset=UTF-8"));
    assert!(got.text.starts_with("<!DOCTYPE html>"));
    server.handle().fail_next(1, &Fault::Status(530));
    assert_eq!(ask(&server, CHAT, true).await.status.as_u16(), 530);
}

#[tokio::test]
async fn tools_are_called_once_and_then_answered() {
    let arguments = json!({ "city": "東京 and some more places" });
    let server = start(provider().call_tools(arguments.clone())).await;
    let mut body = body_for(MESSAGES, true);
    body["tools"] = json!([{ "name": "weather", "input_schema": { "type": "object" } }]);
    let got = send(server.addr(), request(MESSAGES, body.to_string().as_bytes())).await.unwrap();
    let events = got.events();
    assert_eq!(events[1]["content_block"]["name"], "weather");
    let joined: String = events.iter().filter_map(|e| e["delta"]["partial_json"].as_str()).collect();
    assert_eq!(serde_json::from_str::<Value>(&joined).unwrap(), arguments);

    body["messages"] = json!([
        { "role": "user", "content": "Hi" },
        { "role": "assistant", "content": [{ "type": "tool_use", "id": "t", "name": "weather", "input": {} }] },
        { "role": "user", "content": [{ "type": "tool_result", "tool_use_id": "t" }] },
    ]);
    let got = send(server.addr(), request(MESSAGES, body.to_string().as_bytes())).await.unwrap();
    assert!(got.text.contains("Hello ") && got.text.contains("end_turn"));

    let mut body = body_for(CHAT, false);
    body["tools"] = json!([{ "type": "function", "function": { "name": "weather" } }]);
    let got = send(server.addr(), request(CHAT, body.to_string().as_bytes())).await.unwrap().json();
    let call = &got["choices"][0]["message"]["tool_calls"][0]["function"];
    assert_eq!(call["name"], "weather");
    assert_eq!(serde_json::from_str::<Value>(call["arguments"].as_str().unwrap()).unwrap(), arguments);

    let mut body = body_for(GENERATE, false);
    body["tools"] = json!([{ "functionDeclarations": [{ "name": "weather" }] }]);
    for path in [GENERATE, GENERATE_STREAM] {
        let got = send(server.addr(), request(path, body.to_string().as_bytes())).await.unwrap();
        assert!(got.text.contains("\"functionCall\":{\"args\":{\"city\":"), "{}", got.text);
    }
}

#[tokio::test]
async fn what_a_request_holds_the_model_to_is_what_it_gets() {
    let server = start(provider()).await;
    let schema = json!({"type": "object", "properties": {"days": {"type": "integer", "enum": [3]}}, "required": ["days"],
        "additionalProperties": false});
    let answer = json!({"days": 3});
    let with = |path, stream, more: Value| {
        let mut body = body_for(path, stream);
        more.as_object().unwrap().iter().for_each(|(name, value)| body[name] = value.clone());
        let bytes = body.to_string();
        let address = server.addr();
        async move { send(address, request(path, bytes.as_bytes())).await.unwrap() }
    };
    let parsed = |text: &str| serde_json::from_str::<Value>(text).unwrap_or_else(|e| panic!("{e}: {text}"));
    let joined = |got: &Reply, at: &str| -> String {
        got.events().iter().filter_map(|event| event.pointer(at)?.as_str().map(str::to_owned)).collect()
    };

    let tools =
        json!([{"name": "other", "input_schema": {"type": "object"}}, {"name": "plan", "input_schema": schema}]);
    for choice in [json!({"type": "tool", "name": "plan"}), json!({"type": "any"})] {
        let named = choice["type"] == "tool";
        let more = json!({"tools": tools, "tool_choice": choice});
        let block = with(MESSAGES, false, more.clone()).await.json()["content"][0].clone();
        let expected = if named { ("plan", &answer) } else { ("other", &json!({})) };
        assert_eq!((block["name"].as_str().unwrap(), &block["input"]), expected);
        let got = with(MESSAGES, true, more).await;
        assert_eq!(parsed(&joined(&got, "/delta/partial_json")), *expected.1);
    }
    let shape = json!({"output_config": {"format": {"type": "json_schema", "schema": schema}}});
    let text = with(MESSAGES, false, shape.clone()).await.json()["content"][0]["text"].clone();
    assert_eq!(parsed(text.as_str().unwrap()), answer);
    assert_eq!(parsed(&joined(&with(MESSAGES, true, shape).await, "/delta/text")), answer);

    let tool = |name: &str| json!({"type": "function", "function": {"name": name, "parameters": schema}});
    let tools = json!([tool("other"), tool("plan")]);
    for (choice, name) in [
        (json!("required"), "other"),
        (json!({"type": "function", "function": {"name": "plan"}}), "plan"),
        (json!({"type": "allowed_tools", "allowed_tools": {"mode": "required", "tools": [tool("plan")]}}), "plan"),
    ] {
        let more = json!({"tools": tools, "tool_choice": choice});
        let whole = with(CHAT, false, more.clone()).await.json();
        let call = &whole["choices"][0]["message"]["tool_calls"][0]["function"];
        assert_eq!((call["name"].as_str(), parsed(call["arguments"].as_str().unwrap())), (Some(name), answer.clone()));
        assert_eq!(whole["choices"][0]["finish_reason"], "tool_calls");
        let got = with(CHAT, true, more).await;
        assert_eq!(parsed(&joined(&got, "/choices/0/delta/tool_calls/0/function/arguments")), answer);
    }
    let json_schema = json!({"name": "plan", "schema": schema, "strict": true});
    let shape = json!({"response_format": {"type": "json_schema", "json_schema": json_schema}});
    let text = with(CHAT, false, shape.clone()).await.json()["choices"][0]["message"]["content"].clone();
    assert_eq!(parsed(text.as_str().unwrap()), answer);
    assert_eq!(parsed(&joined(&with(CHAT, true, shape).await, "/choices/0/delta/content")), answer);

    let declaration = |name: &str| json!({"name": name, "parameters": {"type": "OBJECT", "properties": {"days": {"type": "INTEGER", "minimum": 3}}}});
    let calling = json!({"mode": "ANY", "allowedFunctionNames": ["plan"]});
    let more = json!({"tools": [{"functionDeclarations": [declaration("other"), declaration("plan")]}],
        "toolConfig": {"functionCallingConfig": calling}});
    let shape = json!({"generationConfig": {"responseMimeType": "application/json", "responseSchema": declaration("")["parameters"]}});
    for (path, stream) in [(GENERATE, false), (GENERATE_STREAM, true)] {
        let got = with(path, stream, more.clone()).await;
        let first = if stream { got.events()[0].clone() } else { got.json() };
        let call = &first["candidates"][0]["content"]["parts"][0]["functionCall"];
        assert_eq!((call["name"].as_str(), &call["args"]), (Some("plan"), &answer));
        let got = with(path, stream, shape.clone()).await;
        let at = "/candidates/0/content/parts/0/text";
        let text = if stream { joined(&got, at) } else { got.json().pointer(at).unwrap().as_str().unwrap().to_owned() };
        assert_eq!(parsed(&text), answer);
    }
}

#[tokio::test]
async fn an_answer_that_the_caller_cut_short_says_so() {
    let server = start(provider().tokens(50..=50)).await;
    for (path, limit, reason) in [(MESSAGES, "max_tokens", "max_tokens"), (CHAT, "max_tokens", "length")] {
        let mut body = body_for(path, false);
        body[limit] = 2.into();
        let got = send(server.addr(), request(path, body.to_string().as_bytes())).await.unwrap();
        assert!(got.text.contains("Hello from ") && !got.text.contains("afar"));
        assert!(got.text.contains(&format!("reason\":\"{reason}\"")), "{}", got.text);
    }
}

#[tokio::test]
async fn the_list_of_models_is_well_while_everything_fails() {
    let server = start(provider()).await;
    server.handle().fail(Fault::Unavailable);
    let request = Request::get("/v1/models").header("host", "x").body(Full::default()).unwrap();
    let got = send(server.addr(), request).await.unwrap();
    assert_eq!((got.status.as_u16(), &got.json()["data"][0]["id"]), (200, &json!("sonnet")));
    assert_eq!(server.handle().stats().calls, 0);
}

#[tokio::test]
async fn tokens_are_counted_without_a_call() {
    let server = start(provider()).await;
    let got = ask(&server, "/v1/messages/count_tokens", false).await.json();
    assert!(got["input_tokens"].as_u64().unwrap() > 0);
    assert_eq!(server.handle().stats().calls, 0);
}
