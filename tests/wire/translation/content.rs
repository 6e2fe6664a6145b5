//! Content that a dialect has no place for and could read all the same arrives: as text, as a function, by its address.

use serde_json::{Value, json};
use steadfast::{
    Dialect, ErrorKind, Frame, StreamEvent,
    chat::{FinishReason, Usage},
};
use steadfast_simulator::check;

use super::{answers::encoded, any, translate};

use Dialect::{Anthropic as A, Gemini as G, OpenAi as O};

/// Returns the content that arrives, held against the provider's format.
async fn arrives(from: Dialect, to: Dialect, body: &Value) -> (Value, Vec<String>) {
    let (sent, notes) = translate(from, to, false, body).await.unwrap();
    assert_eq!(check(to, any(to), &sent), Ok(()), "{sent:#}");
    (sent, notes)
}

fn asked(content: Value) -> Value {
    json!({"model": "m", "max_tokens": 100, "messages": [{"role": "user", "content": content}]})
}

#[tokio::test(start_paused = true)]
async fn separate_texts_of_the_system_are_paragraphs() {
    let text = |text: &str| json!({"type": "text", "text": text});
    let user = json!({"role": "user", "content": "?"});
    let system = |content: Value| json!({"role": "system", "content": content});
    let body = json!({"model": "m", "messages": [system(json!([text("Be brief."), text("Be kind.")])), system(json!("Be sure.")), user]});
    let expected = "Be brief.\n\nBe kind.\n\nBe sure.";
    assert_eq!(arrives(O, A, &body).await.0["system"], expected);
    assert_eq!(arrives(O, G, &body).await.0["systemInstruction"]["parts"], json!([{"text": expected}]));
    let mut body = asked(json!("?"));
    body["system"] = json!([text("Be brief."), text("Be kind.")]);
    assert_eq!(arrives(A, O, &body).await.0["messages"][0]["content"], "Be brief.\n\nBe kind.");
}

#[tokio::test(start_paused = true)]
async fn a_document_that_is_text_arrives_as_text() {
    let picture = json!({"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "QUJD"}});
    let text = |text: &str| json!({"type": "text", "text": text});
    let plain = json!({"type": "document", "title": "Notes", "context": "Of May.",
        "source": {"type": "text", "media_type": "text/plain", "data": "It rains."}});
    let blocks =
        json!({"type": "document", "source": {"type": "content", "content": [text("One."), text("Two."), picture]}});
    let found =
        json!({"type": "search_result", "title": "Weather", "source": "https://a.test", "content": [text("Sun.")]});
    let body = asked(json!([plain, blocks, found, text("?")]));
    let (said, listed, result) = ("Notes\n\nOf May.\n\nIt rains.", "One.\n\nTwo.", "Weather\n\nhttps://a.test\n\nSun.");
    let (sent, notes) = arrives(A, O, &body).await;
    let parts = sent["messages"][0]["content"].as_array().unwrap();
    let texts: Vec<_> = parts.iter().filter_map(|part| part["text"].as_str()).collect();
    assert_eq!(texts, [said, listed, result, "?"]);
    assert_eq!(parts[2]["image_url"]["url"], "data:image/png;base64,QUJD");
    assert_eq!(notes, ["text_document: sent as a text"]);
    let (sent, _) = arrives(A, G, &body).await;
    let parts = sent["contents"][0]["parts"].as_array().unwrap();
    let texts: Vec<_> = parts.iter().filter_map(|part| part["text"].as_str()).collect();
    assert_eq!(texts, [said, listed, result, "?"]);

    // Within what a tool gave back too.
    let call = json!({"type": "tool_use", "id": "t", "name": "find", "input": {}});
    let mut body = asked(json!("?"));
    body["tools"] = json!([{"name": "find", "input_schema": {"type": "object", "properties": {}}}]);
    body["messages"] = json!([{"role": "user", "content": "?"}, {"role": "assistant", "content": [call]},
        {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "t", "content": [found]}]}]);
    let (sent, notes) = arrives(A, O, &body).await;
    assert_eq!((&sent["messages"][2]["content"], notes.len()), (&json!(result), 1), "{notes:?}");
    let (sent, _) = arrives(A, G, &body).await;
    assert_eq!(sent["contents"][2]["parts"][0]["functionResponse"]["response"], json!({"output": result}));

    // In base64, where a file is expected to be a PDF.
    let file =
        json!({"type": "file", "file": {"filename": "a.txt", "file_data": "data:text/plain;base64,SXQgcmFpbnMu"}});
    let (sent, _) = arrives(O, A, &asked(json!([file]))).await;
    assert_eq!(sent["messages"][0]["content"], json!([text("a.txt\n\nIt rains.")]));
    let inline = json!({"inlineData": {"mimeType": "text/plain", "data": "SXQgcmFpbnMu"}});
    let body = json!({"contents": [{"role": "user", "parts": [inline]}]});
    assert_eq!(arrives(G, O, &body).await.0["messages"][0]["content"], "It rains.");
}

#[tokio::test(start_paused = true)]
async fn a_public_address_is_read_by_the_model_itself() {
    let picture = |url: &str| asked(json!([{"type": "image_url", "image_url": {"url": url}}]));
    for (url, kind) in [
        ("https://upload.wikimedia.org/a/b.PNG?width=3", Some("image/png")),
        ("https://example.com/picture", None),
        ("http://93.184.216.34/a.jpg", Some("image/jpeg")),
    ] {
        let (sent, notes) = arrives(O, G, &picture(url)).await;
        let mut expected = json!({"fileUri": url});
        kind.into_iter().for_each(|kind| expected["mimeType"] = kind.into());
        assert_eq!(sent["contents"][0]["parts"], json!([{ "fileData": expected }]));
        assert_eq!(notes, Vec::<String>::new());
    }
    for url in [
        "http://127.0.0.1:1/a.png",
        "http://10.0.0.8/a.png",
        "https://intranet/a.png",
        "https://nas.local/a.png",
        "http://[::1]/a",
    ] {
        let error = translate(O, G, false, &picture(url)).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::UnsupportedFeature, "{url}");
        assert!(error.message().starts_with("image_url: "), "{}", error.message());
    }
    let document = json!({"type": "document", "source": {"type": "url", "url": "https://a.test/b.pdf"}});
    let (sent, _) = arrives(A, G, &asked(json!([document]))).await;
    let data = json!({"fileUri": "https://a.test/b.pdf", "mimeType": "application/pdf"});
    assert_eq!(sent["contents"][0]["parts"], json!([{ "fileData": data }]));
    // And from there to those that read pictures by their address.
    let file = json!({"fileData": {"mimeType": "image/jpeg", "fileUri": "https://a.test/b"}});
    let body = json!({"contents": [{"role": "user", "parts": [file]}]});
    let (sent, _) = arrives(G, O, &body).await;
    assert_eq!(sent["messages"][0]["content"][0]["image_url"]["url"], "https://a.test/b");
    let (sent, _) = arrives(G, A, &body).await;
    assert_eq!(sent["messages"][0]["content"][0]["source"], json!({"type": "url", "url": "https://a.test/b"}));
}

#[tokio::test(start_paused = true)]
async fn a_tool_that_the_caller_runs_is_a_function_elsewhere() {
    let mut body = asked(json!("?"));
    body["tools"] = json!([
        {"type": "bash_20250124", "name": "bash"},
        {"type": "text_editor_20250728", "name": "str_replace_based_edit_tool"},
        {"type": "computer_20250124", "name": "computer", "display_width_px": 1024, "display_height_px": 768},
        {"type": "memory_20250818", "name": "memory"},
        {"type": "web_search_20250305", "name": "web_search"},
    ]);
    body["tool_choice"] = json!({"type": "tool", "name": "bash"});
    let names = ["bash", "str_replace_based_edit_tool", "computer", "memory"];
    let (sent, notes) = arrives(A, O, &body).await;
    let tools = sent["tools"].as_array().unwrap();
    assert_eq!(tools.iter().map(|tool| &tool["function"]["name"]).collect::<Vec<_>>(), names);
    assert_eq!(tools[0]["function"]["parameters"]["properties"]["command"], json!({"type": "string"}));
    assert!(tools[2]["function"]["description"].as_str().unwrap().ends_with("1024 pixels wide and 768 high."));
    assert_eq!(sent["tool_choice"]["function"]["name"], "bash");
    let begins = |words: &str| notes.iter().filter(|note| note.starts_with(words)).count();
    assert_eq!(
        (begins("client_tool"), begins("server_tool (web_search)"), begins("server_tool (bash)")),
        (1, 1, 0),
        "{notes:?}"
    );
    let (sent, _) = arrives(A, G, &body).await;
    assert_eq!(sent["tools"][0]["functionDeclarations"].as_array().unwrap().len(), 4);
    // At its own provider it stays what it is.
    assert_eq!(arrives(A, A, &body).await.0["tools"], body["tools"]);
}

#[tokio::test(start_paused = true)]
async fn a_result_of_which_all_went_elsewhere_says_so() {
    let picture = json!({"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "QUJD"}});
    let mut body = asked(json!("?"));
    body["tools"] = json!([{"name": "look", "input_schema": {"type": "object", "properties": {}}}]);
    let with = |content: Value| {
        let mut body = body.clone();
        body["messages"] = json!([{"role": "user", "content": "?"},
            {"role": "assistant", "content": [{"type": "tool_use", "id": "t", "name": "look", "input": {}}]},
            {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "t", "content": content}]}]);
        body
    };
    let attached = "(what the tool gave back is attached)";
    let (sent, notes) = arrives(A, O, &with(json!([picture]))).await;
    assert_eq!((&sent["messages"][2]["content"], &sent["messages"][3]["role"]), (&json!(attached), &json!("user")));
    assert!(notes[0].starts_with("tool_media: "), "{notes:?}");
    let (sent, _) = arrives(A, G, &with(json!([picture]))).await;
    assert_eq!(sent["contents"][2]["parts"][0]["functionResponse"]["response"], json!({"output": attached}));
    // A reference that only its own provider knows is not reported as sent.
    let reference = json!({"type": "tool_reference", "tool_name": "look"});
    let (_, notes) = arrives(A, O, &with(json!([{"type": "text", "text": "seen"}, reference]))).await;
    assert!(notes.iter().all(|note| note.starts_with("own_part")) && notes.len() == 1, "{notes:?}");
}

#[test]
fn why_a_stream_ends_is_told_at_its_end() {
    let text = |text: &str| StreamEvent::Text { index: 0, text: text.into() };
    let call = StreamEvent::ToolCall { index: 1, id: "a".into(), name: "f".into(), opaque: None };
    // A reason in each chunk, as in a recording.
    let frames = [
        vec![
            StreamEvent::Start { id: Some("1".into()), model: None },
            text("one "),
            StreamEvent::Finish(FinishReason::Stop),
        ],
        vec![text("two"), StreamEvent::Finish(FinishReason::Stop)],
        vec![call, StreamEvent::Arguments { index: 1, json: "{}".into() }, StreamEvent::Finish(FinishReason::ToolUse)],
        vec![StreamEvent::Usage(Usage::new(1, 2)), StreamEvent::End],
    ];
    let frames = frames.map(Frame::events_of);
    let stream = String::from_utf8(encoded(&frames, O).to_vec()).unwrap();
    let chunks: Vec<Value> =
        stream.lines().filter_map(|line| serde_json::from_str(line.strip_prefix("data: ")?).ok()).collect();
    let reasons: Vec<_> = chunks.iter().filter_map(|chunk| chunk["choices"][0]["finish_reason"].as_str()).collect();
    assert_eq!(reasons, ["tool_calls"]);
    let last = chunks.iter().position(|chunk| chunk["choices"][0]["finish_reason"].is_string()).unwrap();
    let is_content = |chunk: &Value| chunk["choices"][0]["delta"].as_object().is_some_and(|delta| !delta.is_empty());
    assert!(!chunks[last..].iter().any(is_content), "{stream}");
    for (dialect, word) in [(A, "\"stop_reason\":\"tool_use\""), (G, "finishReason")] {
        let stream = String::from_utf8(encoded(&frames, dialect).to_vec()).unwrap();
        assert_eq!(stream.matches(word).count(), 1, "{stream}");
    }
}

/// OpenAI's guide: PNG, JPEG, WebP and GIF.
#[tokio::test(start_paused = true)]
async fn a_picture_that_openai_does_not_take_is_refused_by_name_in_both_of_its_dialects() {
    let of_claude =
        |kind: &str| json!({"type": "image", "source": {"type": "base64", "media_type": kind, "data": "QUJD"}});
    let of_gemini = |kind: &str| json!({"contents": [{"role": "user", "parts": [{"inlineData": {"mimeType": kind, "data": "QUJD"}}]}]});
    for to in [O, Dialect::Responses] {
        for kind in ["png", "jpeg", "jpg", "webp", "gif"].map(|kind| format!("image/{kind}")) {
            arrives(A, to, &asked(json!([of_claude(&kind)]))).await;
            arrives(G, to, &of_gemini(&kind)).await;
        }
        for kind in ["heic", "heif", "bmp", "tiff", "svg+xml", "avif", "x-icon"].map(|kind| format!("image/{kind}")) {
            for (from, body) in [(A, asked(json!([of_claude(&kind)]))), (G, of_gemini(&kind))] {
                let error = translate(from, to, false, &body).await.unwrap_err();
                assert_eq!(error.kind(), ErrorKind::UnsupportedFeature, "{from} to {to}, {kind}: {error}");
                assert!(error.message().contains("media_type"), "{error}");
            }
        }
    }
}
