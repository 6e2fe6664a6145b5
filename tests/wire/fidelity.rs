//! Within one dialect nothing is lost: a request's bytes go out as the caller wrote them, with only what had to change
//! changed in its place, and an answer's bytes come back as the provider sent them.

use std::{
    convert::Infallible,
    sync::{Arc, Mutex},
};

use bytes::Bytes;
use http::{HeaderMap, Request, Response, StatusCode};
use http_body_util::{BodyExt, Full};
use steadfast::{
    BoxLlmService, Dialect, ErrorKind, LlmError, LlmRequest, LlmResponse, StreamEvent, Wire,
    chat::{ExtraOf, Message, Part},
    providers::{Anthropic, Gemini, OpenAi, OpenAiResponses, http::RequestBody, transport::HttpClient},
};
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader},
    net::TcpListener,
};
use tower::{Service, ServiceExt};

use crate::recorded::meaning;

/// A provider that answers with these bytes and keeps what was sent.
#[derive(Clone)]
struct Provider {
    status: u16,
    content_type: &'static str,
    answer: Bytes,
    sent: Arc<Mutex<Option<Request<Bytes>>>>,
}

impl Provider {
    fn answers(answer: &'static str) -> Self {
        Self { status: 200, content_type: "application/json", answer: answer.into(), sent: Arc::default() }
    }

    fn streams(answer: &'static str) -> Self {
        Self { content_type: "text/event-stream", ..Self::answers(answer) }
    }

    fn leaf(&self, dialect: Dialect, model: Option<&str>) -> BoxLlmService {
        let this = self.clone();
        let transport = tower::service_fn(move |request: Request<Full<Bytes>>| {
            let this = this.clone();
            async move {
                let (head, body) = request.into_parts();
                let body = body.collect().await.expect("it is in memory").to_bytes();
                *this.sent.lock().unwrap() = Some(Request::from_parts(head, body));
                let mut response = Response::new(Full::new(this.answer.clone()));
                *response.status_mut() = StatusCode::from_u16(this.status).expect("a status");
                response.headers_mut().insert("content-type", this.content_type.parse().expect("a value"));
                Ok::<_, Infallible>(response)
            }
        });
        macro_rules! leaf {
            ($leaf:expr) => {{
                let leaf = $leaf.transport(transport);
                BoxLlmService::new(match model {
                    Some(model) => leaf.model(model),
                    None => leaf,
                })
            }};
        }
        match dialect {
            Dialect::Anthropic => leaf!(Anthropic::new("key")),
            Dialect::Gemini => leaf!(Gemini::new("key")),
            Dialect::Responses => leaf!(OpenAiResponses::new("key")),
            _ => leaf!(OpenAi::new("key")),
        }
    }

    async fn ask(&self, request: impl Into<LlmRequest>, model: Option<&str>) -> Result<LlmResponse, LlmError> {
        let request = request.into();
        let dialect = request.wire().map_or(Dialect::OpenAi, Wire::dialect);
        self.leaf(dialect, model).ready().await?.call(request).await
    }

    fn sent(&self) -> String {
        let sent = self.sent.lock().unwrap();
        String::from_utf8(sent.as_ref().expect("a request").body().to_vec()).expect("JSON is text")
    }
}

const OPENAI: &str = r#"{"id":"c","choices":[{"index":0,"message":{"content":"hi"},"finish_reason":"stop"}]}"#;
const ANTHROPIC: &str = r#"{"type":"message","content":[{"type":"text","text":"hi"}],"stop_reason":"end_turn"}"#;
const RESPONSES: &str = r#"{"id":"r","object":"response","status":"completed","output":[{"type":"message","id":"m","role":"assistant","content":[{"type":"output_text","text":"hi"}]}]}"#;
const GEMINI: &str = r#"{"candidates":[{"content":{"parts":[{"text":"hi"}]},"finishReason":"STOP"}]}"#;

fn wire(dialect: Dialect, body: &'static str) -> Wire {
    Wire::new(dialect, body).expect("a request")
}

/// Odd in every way that JSON allows: order, spaces, numbers, escapes, unknown fields, a `model` further in.
const ODD: &str = "\t{ \"zeta\" : [1.0, 1e3, -0, 12345678901234567890123, 0.10],\r\n\"model\":\"a\\u0062\", \
                   \"messages\":[{\"role\":\"user\",\"content\":\"caf\\u00e9 \\/ \u{1f600}\",\"model\":\"x\"}],\
                   \"alpha\":{\"model\":\"y\",\"b\":null,\"a\":{}} , \"max_tokens\":5 }\n";

#[tokio::test]
async fn a_request_goes_out_byte_for_byte() {
    for (dialect, answer) in
        [(Dialect::OpenAi, OPENAI), (Dialect::Anthropic, ANTHROPIC), (Dialect::Responses, RESPONSES)]
    {
        let provider = Provider::answers(answer);
        provider.ask(wire(dialect, ODD), None).await.unwrap();
        assert_eq!(provider.sent(), ODD, "{dialect}");
        provider.ask(wire(dialect, ODD), Some("ab")).await.unwrap();
        assert_eq!(provider.sent(), ODD, "{dialect}: the same model in other letters is the same");
        provider.ask(wire(dialect, ODD), Some("other")).await.unwrap();
        assert_eq!(provider.sent(), ODD.replacen("\"a\\u0062\"", "\"other\"", 1), "{dialect}");
    }
}

/// A conversation of some megabytes, with the model at its end.
fn long() -> Bytes {
    let turn = r#"{"role":"user","content":"a \"word\" and\nanother \u00e9"}"#;
    format!("{{\"messages\":[{}],\"model\":\"a\",\"max_tokens\":5}}", vec![turn; 40_000].join(",")).into()
}

#[tokio::test]
async fn a_long_request_is_forwarded_without_a_copy_of_its_bytes() {
    let body = long();
    let (sent, seen) = (Arc::new(Mutex::new(Vec::new())), body.clone());
    let pieces = sent.clone();
    let transport = tower::service_fn(move |request: Request<RequestBody>| {
        let pieces = pieces.clone();
        async move {
            let mut body = request.into_body();
            while let Some(Ok(frame)) = body.frame().await {
                pieces.lock().unwrap().extend(frame.into_data());
            }
            Ok::<_, Infallible>(Response::new(Full::new(Bytes::from_static(ANTHROPIC.as_bytes()))))
        }
    });
    let leaf = Anthropic::new("key").model("other").transport(transport);
    let wire = Wire::new(Dialect::Anthropic, body).expect("a request");
    leaf.oneshot(wire.into()).await.unwrap();
    let sent = sent.lock().unwrap();
    let inside = seen.as_ptr_range();
    let copied: usize = sent.iter().filter(|piece| !inside.contains(&piece.as_ptr())).map(Bytes::len).sum();
    assert_eq!(copied, "\"other\"".len());
    let expected = String::from_utf8_lossy(&seen).replacen("\"model\":\"a\"", "\"model\":\"other\"", 1);
    assert!(sent.concat() == expected.as_bytes());
}

#[tokio::test]
async fn a_long_request_says_its_exact_length_on_the_wire() {
    let body = long();
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("loopback");
    let base = format!("http://{}", listener.local_addr().expect("bound"));
    let served = tokio::spawn(async move {
        let mut stream = BufReader::new(listener.accept().await.expect("a connection").0);
        let mut length = None;
        let mut line = String::new();
        while stream.read_line(&mut line).await.expect("a head") > 2 {
            assert!(!line.to_ascii_lowercase().starts_with("transfer-encoding"), "{line}");
            if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length:") {
                length = value.trim().parse::<usize>().ok();
            }
            line.clear();
        }
        let mut body = vec![0; length.expect("a length")];
        stream.read_exact(&mut body).await.expect("the whole body");
        let head =
            format!("HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n", ANTHROPIC.len());
        stream.write_all((head + ANTHROPIC).as_bytes()).await.expect("the client reads");
        body
    });
    let client = HttpClient::new().no_proxy();
    let leaf = Anthropic::new("key").model("other").base_url(&base).expect("a URL").transport(client);
    let wire = Wire::new(Dialect::Anthropic, body.clone()).expect("a request");
    leaf.oneshot(wire.into()).await.unwrap();
    let expected = String::from_utf8_lossy(&body).replacen("\"model\":\"a\"", "\"model\":\"other\"", 1);
    assert!(served.await.unwrap() == expected.as_bytes());
}

#[tokio::test]
async fn a_gemini_request_keeps_even_its_model_for_the_path_names_it() {
    let body = r#"{"contents":[{"parts":[{"text":"?"}]}],"model":"models/x","generationConfig":{"seed":7.0}}"#;
    let provider = Provider::answers(GEMINI);
    provider.ask(wire(Dialect::Gemini, body).path("gemini-2.5-pro", false), None).await.unwrap();
    assert_eq!(provider.sent(), body);
    let path = provider.sent.lock().unwrap().as_ref().map(|sent| sent.uri().path().to_owned());
    assert_eq!(path.as_deref(), Some("/v1beta/models/gemini-2.5-pro:generateContent"));
}

#[tokio::test]
async fn what_a_layer_changes_is_changed_in_its_place() {
    let provider = Provider::answers(ANTHROPIC);
    let request = LlmRequest::from(wire(Dialect::Anthropic, ODD)).with_max_tokens(9).with_stream(true);
    provider.ask(request, None).await.unwrap();
    let expected = ODD.replace("\"max_tokens\":5", "\"max_tokens\":9").replace("\t{", "\t{\"stream\":true,");
    assert_eq!(provider.sent(), expected);

    let provider = Provider::answers(RESPONSES);
    let body = r#"{"input":"hi","max_output_tokens" : 5,"reasoning":{"effort":"low"},"text":{"max_output_tokens":1}}"#;
    provider.ask(LlmRequest::from(wire(Dialect::Responses, body)).with_max_tokens(9), Some("m")).await.unwrap();
    let expected = body.replacen("\"max_output_tokens\" : 5", "\"max_output_tokens\" : 9", 1);
    assert_eq!(provider.sent(), expected.replacen('{', "{\"model\":\"m\",", 1));

    let provider = Provider::answers(GEMINI);
    let body = r#"{"contents":[],"generationConfig":{"topK":1.0}}"#;
    let request = LlmRequest::from(wire(Dialect::Gemini, body).path("m", false)).with_max_tokens(9);
    provider.ask(request, None).await.unwrap();
    assert_eq!(provider.sent(), r#"{"contents":[],"generationConfig":{"maxOutputTokens":9,"topK":1.0}}"#);
}

#[tokio::test]
async fn what_a_layer_changes_is_in_the_neutral_form_too() {
    let request = LlmRequest::from(wire(Dialect::OpenAi, ODD));
    assert_eq!(request.chat().unwrap().max_tokens, Some(5));
    let request = request.with_max_tokens(9).with_stream(true);
    let chat = request.chat().unwrap();
    assert_eq!((chat.max_tokens, chat.stream), (Some(9), true));
    // And encoded from there it is the new one that is written, beside all that the caller wrote of his own.
    let provider = Provider::answers(OPENAI);
    provider.ask(chat.clone(), None).await.unwrap();
    let sent: serde_json::Value = serde_json::from_str(&provider.sent()).unwrap();
    assert_eq!((&sent["max_completion_tokens"], &sent["max_tokens"]), (&9.into(), &serde_json::Value::Null));
    assert_eq!(sent["zeta"][1], 1e3);
}

#[test]
fn a_body_with_a_field_twice_is_refused() {
    for body in [
        r#"{"model":"a","messages":[],"model":"b"}"#,
        r#"{"model":"a","mod\u0065l":"b","messages":[]}"#,
        r#"{"model":"a","max_tokens":1,"max_tokens":2,"messages":[]}"#,
    ] {
        let error = Wire::new(Dialect::OpenAi, body).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidRequest);
    }
}

#[tokio::test]
async fn beta_headers_go_out_byte_for_byte_and_credentials_do_not() {
    let mut headers = HeaderMap::new();
    headers.append("anthropic-beta", "tools-2024-04-04 ,x; q=\"1\"".parse().unwrap());
    headers.append("anthropic-beta", "second".parse().unwrap());
    headers.insert("anthropic-version", "2099-01-01".parse().unwrap());
    headers.insert("x-api-key", "the caller's".parse().unwrap());
    headers.insert("authorization", "Bearer the caller's".parse().unwrap());
    let provider = Provider::answers(ANTHROPIC);
    provider.ask(wire(Dialect::Anthropic, ODD).headers(headers), None).await.unwrap();
    let sent = provider.sent.lock().unwrap();
    let sent = sent.as_ref().unwrap().headers();
    let betas: Vec<&[u8]> = sent.get_all("anthropic-beta").iter().map(|value| value.as_bytes()).collect();
    assert_eq!(betas, [b"tools-2024-04-04 ,x; q=\"1\"".as_slice(), b"second"]);
    assert_eq!(sent["anthropic-version"], "2099-01-01");
    assert_eq!(sent["x-api-key"], "key");
    assert!(!sent.contains_key("authorization"));
}

#[tokio::test]
async fn marks_and_unknown_blocks_survive_the_neutral_form() {
    let body = r#"{"model":"m","max_tokens":5,"system":[{"type":"text","text":"s","cache_control":{"type":"ephemeral"}}],
        "messages":[{"role":"user","content":[{"type":"text","text":"a","cache_control":{"type":"ephemeral","ttl":"1h"}},
        {"type":"hologram","depth":3}]}],"tools":[{"type":"web_search_20250305","name":"web_search","max_uses":2},
        {"name":"f","input_schema":{"type":"object"},"cache_control":{"type":"ephemeral"}}],"tool_choice":{"type":"auto"},
        "thinking":{"type":"adaptive","display":"summarized"},"container":"c","temperature":1.0}"#;
    let provider = Provider::answers(ANTHROPIC);
    let request = LlmRequest::from(wire(Dialect::Anthropic, body));
    let response = {
        let chat = request.chat().unwrap().clone();
        provider.leaf(Dialect::Anthropic, None).ready().await.unwrap().call(chat.into()).await.unwrap()
    };
    let json = |text: &str| serde_json::from_str::<serde_json::Value>(text).unwrap();
    assert_eq!(json(&provider.sent()), json(body));
    assert_eq!(response.notes(), &[] as &[&str], "nothing was left out");
}

/// Every kind of item and of tool, with fields of its own, those that no one knows, and the odd ways to write them.
const ITEMS: &str = r#"{"model":"m","instructions":"s","store":false,"truncation":"auto","aurora":{"x":1.0},
    "include":["reasoning.encrypted_content"],"reasoning":{"effort":"low","summary":"auto"},"text":{"verbosity":"low"},
    "tool_choice":{"type":"custom","name":"patch"},"prompt_cache_key":"k","max_output_tokens":500,
    "input":[
        {"role":"developer","content":"d"},
        {"type":"message","role":"system","content":[{"type":"input_text","text":"e"}],"id":"msg_0"},
        {"type":"additional_tools","role":"developer","tools":[]},
        {"role":"user","content":[{"type":"input_text","text":"a","prompt_cache_breakpoint":{"mode":"explicit"}},
            {"type":"input_image","file_id":"file-1","detail":"low"},{"type":"input_audio","data":"AA=="},
            {"type":"input_file","file_data":"data:application/pdf;base64,AA=="}]},
        {"type":"reasoning","id":"rs_1","summary":[{"type":"summary_text","text":"one"},{"type":"summary_text","text":"two"}],
            "encrypted_content":"E:1","status":"completed"},
        {"type":"reasoning","id":"rs_2","summary":[]},
        {"type":"reasoning","id":"rs_3","summary":[],"content":[{"type":"reasoning_text","text":"raw"}]},
        {"type":"web_search_call","id":"ws_1","status":"completed","action":{"type":"search","query":"q"}},
        {"type":"message","id":"msg_1","role":"assistant","status":"completed","phase":"commentary",
            "content":[{"type":"output_text","text":"b","annotations":[{"type":"url_citation","url":"u"}]},{"type":"refusal","refusal":"r"}]},
        {"role":"assistant","content":"c"},
        {"role":"assistant","content":[{"type":"hologram","depth":3},{"type":"input_text","text":"f"}]},
        {"type":"function_call","id":"fc_1","call_id":"c1","name":"find","namespace":"crm","arguments":"{\"a\":1}","status":"completed"},
        {"type":"function_call","call_id":"c2","name":"find","namespace":"gone","arguments":"{}"},
        {"type":"function_call","call_id":"c3","name":"find","namespace":"find","arguments":"{}"},
        {"type":"custom_tool_call","id":"ctc_1","call_id":"c4","name":"patch","input":"*** \"x\"\n"},
        {"type":"custom_tool_call","call_id":"c5","name":"draw","namespace":"crm","input":""},
        {"type":"function_call_output","call_id":"c1","output":"x","status":"completed"},
        {"type":"function_call_output","call_id":"c2","output":[{"type":"input_image","image_url":"https://x/y.png"},{"type":"hologram"}]},
        {"type":"custom_tool_call_output","call_id":"c4","output":"done"},
        {"type":"local_shell_call_output","id":"ls_1","output":"z"},
        {"id":"msg_2"},
        {"role":"developer","content":"g"},
        {"type":"message","role":"user","content":"h"}],
    "tools":[
        {"type":"function","name":"plain","description":"d","parameters":{"type":"object"},"strict":false},
        {"type":"function","name":"late","parameters":{"type":"object"},"defer_loading":true},
        {"type":"function","name":"bare"},
        {"type":"custom","name":"patch","description":"p","format":{"type":"grammar","syntax":"lark","definition":"start: X"}},
        {"type":"namespace","name":"crm","description":"customers","tools":[
            {"type":"function","name":"find","parameters":{"type":"object"}},{"type":"custom","name":"draw"}]},
        {"type":"namespace","name":"mcp__files__","description":"files","tools":[{"type":"function","name":"read","strict":true}]},
        {"type":"web_search","search_context_size":"low"},
        {"type":"mcp","server_label":"l","server_url":"https://x"}]}"#;

#[tokio::test]
async fn items_and_tools_of_responses_survive_the_neutral_form() {
    let provider = Provider::answers(RESPONSES);
    let request = LlmRequest::from(wire(Dialect::Responses, ITEMS));
    let chat = request.chat().unwrap().clone();
    assert_eq!(chat.system.as_deref(), Some("s\n\nd\n\ne"));
    let mut leaf = provider.leaf(Dialect::Responses, None);
    let response = leaf.ready().await.unwrap().call(chat.clone().into()).await.unwrap();
    let json = |text: &str| meaning::of(Dialect::Responses, &serde_json::from_str(text).unwrap());
    let (sent, asked) = (json(&provider.sent()), json(ITEMS));
    for (sent, asked) in sent["input"].as_array().unwrap().iter().zip(asked["input"].as_array().unwrap()) {
        assert_eq!(sent, asked);
    }
    assert_eq!(sent, asked);
    assert_eq!(response.notes(), &[] as &[&str], "nothing was left out");
    // And read again it is the same conversation.
    let again = LlmRequest::from(Wire::new(Dialect::Responses, provider.sent()).unwrap());
    assert_eq!(*again.chat().unwrap(), chat);
}

const STREAM: &str = ": hello\r\n\r\nevent: message_start\r\ndata: {\"type\":\"message_start\",\"message\":{\"id\":\"m\"}}\r\n\r\n\
    event: ping\ndata: {\"type\": \"ping\"}\n\nevent: aurora\ndata: {\"type\":\"aurora\",\"x\":1.0}\n\n\
    event: content_block_start\ndata: {\"type\":\"content_block_start\",\"index\":0,\"content_block\":{\"type\":\"hologram\",\"depth\":\"3\"}}\n\n\
    event: content_block_delta\ndata: {\"type\":\"content_block_delta\",\"index\":0,\"delta\":{\"type\":\"depth_delta\",\"depth\":\"4\"}}\n\n\
    event: content_block_stop\ndata: {\"type\":\"content_block_stop\",\"index\":0}\n\nid: 7\nretry: 10\n\n\
    event: content_block_start\ndata: {\"type\":\"content_block_start\",\"index\":1,\"content_block\":{\"type\":\"text\",\"text\":\"\",\"citations\":[]}}\n\n\
    event: content_block_delta\ndata: {\"type\":\"content_block_delta\",\"index\":1,\"delta\":{\"type\":\"text_delta\",\"text\":\"hi\"}}\n\n\
    event: content_block_delta\ndata: {\"type\":\"content_block_delta\",\"index\":1,\"delta\":{\"type\":\"citations_delta\",\"citation\":{\"n\":1}}}\n\n\
    event: content_block_stop\ndata: {\"type\":\"content_block_stop\",\"index\":1}\n\n\
    data: {\"type\":\"message_delta\",\"delta\":{\"stop_reason\":\"end_turn\"}}\r\rdata: {\"type\":\"message_stop\"}\n\n";

#[tokio::test]
async fn a_stream_comes_back_byte_for_byte_with_what_nobody_knows_in_it() {
    let provider = Provider::streams(STREAM);
    let request = LlmRequest::from(wire(Dialect::Anthropic, ODD)).with_stream(true);
    let mut response = provider.ask(request, None).await.unwrap();
    let (mut raw, mut parts) = (Vec::new(), Vec::new());
    while let Some(frame) = response.body_mut().frame().await {
        let frame = frame.unwrap();
        raw.extend_from_slice(frame.raw().expect("the provider's bytes").1);
        parts.extend(frame.events().iter().filter_map(|event| match event {
            StreamEvent::Part { part, .. } => Some(part.clone()),
            _ => None,
        }));
    }
    assert_eq!(String::from_utf8(raw).unwrap(), STREAM);
    let [Part::Other { value, .. }, Part::Extra { of: ExtraOf::Part, extra }] = &parts[..] else {
        panic!("the unknown block and the citations: {parts:?}")
    };
    assert_eq!(*value, serde_json::json!({"type": "hologram", "depth": "34"}));
    assert_eq!(extra.fields, serde_json::json!({"citations": [{"n": 1}]}));
}

#[tokio::test]
async fn a_line_of_bare_json_within_a_good_stream_is_not_lost() {
    const NOTED: &str = "data: {\"choices\":[{\"index\":0,\"delta\":{\"content\":\"hi\"}}]}\n\n{\"note\":1}\n\n\
        [2]\n\n: ping\n\ndata: {\"choices\":[{\"index\":0,\"delta\":{},\"finish_reason\":\"stop\"}]}\n\n\
        {\"note\":3}\n\ndata: [DONE]\n\n";
    let provider = Provider::streams(NOTED);
    let request = LlmRequest::from(wire(Dialect::OpenAi, ODD)).with_stream(true);
    let mut response = provider.ask(request, None).await.unwrap();
    let mut raw = Vec::new();
    while let Some(frame) = response.body_mut().frame().await {
        raw.extend_from_slice(frame.unwrap().raw().expect("the provider's bytes").1);
    }
    assert_eq!(String::from_utf8(raw).unwrap(), NOTED);
}

#[tokio::test]
async fn a_whole_answer_comes_back_byte_for_byte() {
    const ANSWER: &str = " {\"type\":\"message\",\"usage\":{\"input_tokens\":1.0},\r\n\"content\":[{\"type\":\"text\",\"text\":\"\\u00e9\"}]}\n";
    let provider = Provider::answers(ANSWER);
    let response = provider.ask(wire(Dialect::Anthropic, ODD), None).await.unwrap();
    assert_eq!(response.body().wire(), Some((Dialect::Anthropic, &Bytes::from_static(ANSWER.as_bytes()))));
}

#[tokio::test]
async fn an_error_can_be_returned_as_it_came() {
    const BODY: &str = "{\"error\" : {\"message\":\"caf\\u00e9\",\"type\":\"invalid_request_error\",\"x\":1.0}}\n";
    let provider = Provider { status: 422, ..Provider::answers(BODY) };
    let error = provider.ask(wire(Dialect::OpenAi, ODD), None).await.unwrap_err();
    assert_eq!(error.status().map(|status| status.as_u16()), Some(422));
    assert_eq!(error.raw().map(|raw| &raw[..]), Some(BODY.as_bytes()));

    // An answer without content is a failure here, and its bytes are the provider's answer all the same.
    const SILENT: &str = r#"{"type":"message","content":[],"stop_reason":"end_turn","stop_sequence":null}"#;
    let provider = Provider::answers(SILENT);
    let error = provider.ask(wire(Dialect::Anthropic, ODD), None).await.unwrap_err();
    assert_eq!((error.kind(), error.raw().map(|raw| &raw[..])), (ErrorKind::EmptyAnswer, Some(SILENT.as_bytes())));

    // A model that would not speak has answered.
    const DECLINED: &str =
        r#"{"type":"message","content":[],"stop_reason":"refusal","stop_details":{"category":"bio"}}"#;
    let provider = Provider::answers(DECLINED);
    let response = provider.ask(wire(Dialect::Anthropic, ODD), None).await.unwrap();
    assert_eq!(response.body().wire(), Some((Dialect::Anthropic, &Bytes::from_static(DECLINED.as_bytes()))));
}

#[tokio::test]
async fn an_answer_can_be_given_back_as_a_turn_of_the_conversation() {
    const CITED: &str =
        r#"{"type":"message","content":[{"type":"text","text":"hi","citations":[{"n":1}]}],"stop_reason":"end_turn"}"#;
    let provider = Provider::answers(CITED);
    let mut leaf = provider.leaf(Dialect::Anthropic, Some("m"));
    let mut chat = steadfast::Chat::new([Message::user("?")]);
    let answer = leaf.ready().await.unwrap().call(chat.clone().into()).await.unwrap().collect().await.unwrap();
    chat.messages.extend([answer, Message::user("and?")]);
    leaf.ready().await.unwrap().call(chat.into()).await.unwrap();
    let sent: serde_json::Value = serde_json::from_str(&provider.sent()).unwrap();
    let expected = serde_json::json!([{"type": "text", "text": "hi", "citations": [{"n": 1}]}]);
    assert_eq!(sent["messages"][1]["content"], expected);
}
