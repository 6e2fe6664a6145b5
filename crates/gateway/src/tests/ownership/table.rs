//! The table: resource x place of the id x dialect x whose the id is. Each cell is a request.

use serde_json::json;

use super::*;
use crate::api::paths::objects::{KINDS, SERVED};

/// A place in which a request names an object: the path, the body with `ID`, the id's beginning.
type Row = (&'static str, &'static str, &'static str);

const CHAT_BODY: &str = "/v1/chat/completions";
const GEMINI_PATH: &str = "/v1beta/models/m-gem:generateContent";

/// The places in conversations. `CONTENT` and `INPUT` are parts of a message.
const CONVERSATIONS: &[Row] = &[
    (CHAT_BODY, r#"CONTENT{"type":"file","file":{"file_id":"ID"}}"#, "file-"),
    (CHAT_BODY, r#"CONTENT{"type":"file","file":{"file\u005fid":"ID"}}"#, "file-"),
    (CHAT_BODY, r#"CONTENT{"type":"file","file":{"file_id":"file-own","file_id":"ID"}}"#, "file-"),
    (CHAT_BODY, r#"CONTENT{"type":"file","file":{"File_ID":"ID"}}"#, "file-"),
    (CHAT_BODY, r#"CONTENT{"type":"file","file":{"file_id":"ID"}}"#, "0a1b-any-form-"),
    (CHAT_BODY, r#""messages":[{"role":"assistant","audio":{"id":"ID"}},{"role":"user","content":"x"}]"#, "audio_"),
    (
        CHAT_BODY,
        r#""messages":[{"role":"tool","tool_call_id":"c","content":[{"type":"file","file":{"file_id":"ID"}}]}]"#,
        "file-",
    ),
    (RESPONSES, r#"INPUT{"type":"input_file","file_id":"ID"}"#, "file-"),
    (RESPONSES, r#"INPUT{"type":"input_image","file_id":"ID","detail":"auto"}"#, "file-"),
    (RESPONSES, r#""input":"x","tools":[{"type":"file_search","vector_store_ids":["vs_own","ID"]}]"#, "vs_"),
    (RESPONSES, r#""input":"x","tools":[{"type":"code_interpreter","container":"ID"}]"#, "cntr_"),
    (
        RESPONSES,
        r#""input":"x","tools":[{"type":"code_interpreter","container":{"type":"auto","file_ids":["ID"]}}]"#,
        "file-",
    ),
    (
        RESPONSES,
        r#""input":"x","tools":[{"type":"shell","environment":{"skills":[{"type":"skill_reference","skill_id":"ID"}]}}]"#,
        "skill_",
    ),
    (RESPONSES, r#""input":"x","conversation":"ID""#, "conv_"),
    (RESPONSES, r#""input":"x","conversation":{"id":"ID"}"#, "conv_"),
    (RESPONSES, r#""input":"x","previous_response_id":"ID""#, "resp_"),
    (RESPONSES, r#""input":"x","previous_response_id":"ID""#, "another-form-"),
    (RESPONSES, r#""input":[{"type":"item_reference","id":"ID"}]"#, "msg_"),
    (RESPONSES, r#""input":[{"type":"item_reference","id":"ID"}]"#, "rs_"),
    (RESPONSES, r#""input":[{"id":"ID"},{"role":"user","content":"x"}]"#, "fc_"),
    (RESPONSES, r#""input":[{"type":"reasoning","id":"ID","summary":[]},{"role":"user","content":"x"}]"#, "rs_"),
    (RESPONSES, r#""input":[{"type":"image_generation_call","id":"ID"},{"role":"user","content":"x"}]"#, "ig_"),
    (
        RESPONSES,
        r#""input":[{"type":"message","id":"ID","role":"user","content":"x","type":"item_reference","id":"ID"}]"#,
        "msg_",
    ),
    (
        RESPONSES,
        r#""input":[{"type":"function_call_output","call_id":"c","output":[{"type":"input_file","file_id":"ID"}]}]"#,
        "file-",
    ),
    (RESPONSES, r#""input":[{"type":"code_interpreter_call","id":"ci_1","container_id":"ID","code":"1"}]"#, "cntr_"),
    (
        RESPONSES,
        r#""input":"x","prompt":{"id":"pmpt_1","variables":{"x":{"type":"input_file","file_id":"ID"}}}"#,
        "file-",
    ),
    ("/v1/responses/compact", r#""input":"x","previous_response_id":"ID""#, "resp_"),
    (MESSAGES, r#"CONTENT{"type":"document","source":{"type":"file","file_id":"ID"}}"#, "file_"),
    (MESSAGES, r#"CONTENT{"type":"image","source":{"type":"file","file_id":"ID"}}"#, "file_"),
    (MESSAGES, r#"CONTENT{"type":"container_upload","file_id":"ID"}"#, "file_"),
    (
        MESSAGES,
        r#"CONTENT{"type":"tool_result","tool_use_id":"t","content":[{"type":"document","source":{"type":"file","file_id":"ID"}}]}"#,
        "file_",
    ),
    (MESSAGES, r#""messages":[{"role":"user","content":"x"}],"container":"ID""#, "container_"),
    (MESSAGES, r#""messages":[{"role":"user","content":"x"}],"container":{"id":"ID"}"#, "container_"),
    (
        MESSAGES,
        r#""messages":[{"role":"user","content":"x"}],"container":{"skills":[{"type":"custom","skill_id":"ID"}]}"#,
        "skill_",
    ),
    (
        GEMINI_PATH,
        r#""contents":[{"role":"user","parts":[{"fileData":{"fileUri":"https://generativelanguage.googleapis.com/v1beta/ID"}}]}]"#,
        "files/",
    ),
    (GEMINI_PATH, r#""contents":[{"role":"user","parts":[{"file_data":{"file_uri":"ID"}}]}]"#, "files/"),
    (GEMINI_PATH, r#""contents":[{"role":"user","parts":[{"text":"x"}]}],"cachedContent":"ID""#, "cachedContents/"),
    (GEMINI_PATH, r#""contents":[{"role":"user","parts":[{"text":"x"}]}],"cached_content":"ID""#, "cachedContents/"),
    (
        GEMINI_PATH,
        r#""contents":[{"role":"user","parts":[{"text":"x"}]}],"tools":[{"fileSearch":{"fileSearchStoreNames":["ID"]}}]"#,
        "fileSearchStores/",
    ),
];

/// Returns the body of a row.
fn body(path: &str, template: &str, id: &str) -> String {
    let fields = match template.split_at_checked(7) {
        Some(("CONTENT", part)) => {
            format!(r#""messages":[{{"role":"user","content":[{{"type":"text","text":"x"}},{part}]}}]"#)
        }
        _ => match template.strip_prefix("INPUT") {
            Some(part) => {
                format!(r#""input":[{{"role":"user","content":[{{"type":"input_text","text":"x"}},{part}]}}]"#)
            }
            None => template.to_owned(),
        },
    };
    let fields = fields.replace("\"ID\"", &format!("\"{id}\"")).replace("/ID\"", &format!("/{id}\""));
    let fields = fields.replace("file-own", "file-two-own").replace("vs_own", "vs_two_own");
    let model = match path {
        CHAT_BODY => r#""model":"m-chat","#,
        MESSAGES => r#""model":"m-claude","max_tokens":9,"#,
        GEMINI_PATH => "",
        _ => r#""model":"m-resp","#,
    };
    format!("{{{model}{fields}}}")
}

/// The words of an answer, whatever id it names.
fn words(answer: &Answer, id: &str) -> (u16, String) {
    (answer.status, answer.body.replace(id, "ID"))
}

#[tokio::test]
async fn a_conversation_names_its_keys_own_objects_alone() {
    let world = World::start().await;
    for own in ["file-two-own", "vs_two_own"] {
        world.give(own, "two").await;
    }
    let mut cells = 0;
    for (number, (path, template, beginning)) in CONVERSATIONS.iter().enumerate() {
        let [own, foreign, nobodys] = ["a", "b", "c"].map(|whose| format!("{beginning}{whose}{number:04}"));
        world.give(&own, "two").await;
        world.give(&foreign, "one").await;
        for stream in [false, true] {
            let ask = async |key: &str, id: &str| {
                let body = body(path, template, id);
                let body = match stream && *path != GEMINI_PATH && !path.ends_with("compact") {
                    true => body.replacen('{', r#"{"stream":true,"#, 1),
                    false => body,
                };
                let answer = world.send(key, "POST", path, &body).await;
                (answer, world.provider.calls())
            };
            let (answer, calls) = ask("two", &own).await;
            assert_eq!(calls.len(), 1, "{path} {template}: {} {}", answer.status, answer.body);
            assert!(calls[0].1.contains(&own) && (answer.status == 200 || path.ends_with("compact")), "{answer:?}");
            let (foreigns, asked) = ask("two", &foreign).await;
            let (unknowns, also_asked) = ask("two", &nobodys).await;
            assert!(asked.is_empty() && also_asked.is_empty(), "{path} {template}");
            assert!(matches!(foreigns.status, 400 | 403 | 404), "{path} {template}: {}", foreigns.status);
            assert_eq!(words(&foreigns, &foreign), words(&unknowns, &nobodys), "{path} {template}");
            assert!(foreigns.body.contains(&foreign), "{}", foreigns.body);
            for key in ["all", "admin"] {
                let (answer, calls) = ask(key, &foreign).await;
                assert_eq!(calls.len(), 1, "{key} {path} {template}: {answer:?}");
            }
            cells += 5;
        }
    }
    let open = World::with("refuse", "", None).await;
    for (path, template, beginning) in CONVERSATIONS {
        open.send("", "POST", path, &body(path, template, &format!("{beginning}any"))).await;
        assert_eq!(open.provider.calls().len(), 1, "{path} {template}");
        cells += 1;
    }
    println!("{cells} cells");
}

#[tokio::test]
async fn an_unknown_id_is_told_in_the_protocols_words() {
    let world = World::start().await;
    for (path, template, id, status, field, word) in [
        (
            CHAT_BODY,
            r#"CONTENT{"type":"file","file":{"file_id":"ID"}}"#,
            "file-x",
            404,
            "type",
            "invalid_request_error",
        ),
        (MESSAGES, r#"CONTENT{"type":"container_upload","file_id":"ID"}"#, "file_x", 404, "type", "not_found_error"),
        (RESPONSES, r#""input":"x","previous_response_id":"ID""#, "resp_x", 400, "code", "previous_response_not_found"),
        (RESPONSES, r#""input":[{"type":"item_reference","id":"ID"}]"#, "rs_x", 404, "param", "input"),
        (GEMINI_PATH, r#""contents":[],"cachedContent":"ID""#, "cachedContents/x", 403, "status", "PERMISSION_DENIED"),
    ] {
        let answer = world.send("two", "POST", path, &body(path, template, id)).await;
        assert_eq!((answer.status, answer.json()["error"][field].as_str()), (status, Some(word)), "{}", answer.body);
        assert_ne!(answer.json()["error"]["code"], "model_not_found");
        assert_eq!(answer.header("x-should-retry"), Some("false"));
    }
}

/// A text that no provider looks up is the caller's own words, whatever it looks like.
#[tokio::test]
async fn the_callers_own_words_are_no_ids() {
    let world = World::start().await;
    for (path, fields) in [
        (
            CHAT_BODY,
            r#""messages":[{"role":"user","content":"file-1 vs_1"}],"metadata":{"file_id":"file-1"},"user":"file-1""#,
        ),
        (
            CHAT_BODY,
            r#""messages":[{"role":"assistant","tool_calls":[{"id":"fc_1","type":"function","function":{"name":"f","arguments":"{\"file_id\":\"file-1\"}"}}]},{"role":"tool","tool_call_id":"fc_1","content":"file-1"}]"#,
        ),
        (
            CHAT_BODY,
            r#""messages":[{"role":"user","content":"x"}],"tools":[{"type":"function","function":{"name":"f","parameters":{"type":"object","properties":{"file_id":{"type":"string","enum":["file-1"]}}}}}]"#,
        ),
        (CHAT_BODY, r#""messages":[{"role":"user","content":"broken \ud83d"}]"#),
        (
            MESSAGES,
            r#""messages":[{"role":"user","content":"x"},{"role":"assistant","content":[{"type":"tool_use","id":"toolu_1","name":"open","input":{"file_id":"file_1","thread_id":"thread_1"}}]},{"role":"user","content":[{"type":"tool_result","tool_use_id":"toolu_1","content":"file_1"}]}],"metadata":{"user_id":"file_1"}"#,
        ),
        (
            MESSAGES,
            r#""messages":[{"role":"user","content":"x"}],"container":{"skills":[{"type":"anthropic","skill_id":"pptx"}]}"#,
        ),
        (
            RESPONSES,
            r#""input":[{"type":"function_call","call_id":"call_1","name":"f","arguments":"{\"file_id\":\"file-1\"}"},{"type":"function_call_output","call_id":"call_1","output":"file-1"}],"previous_response_id":null,"metadata":{"run_id":"run_1"}"#,
        ),
        (RESPONSES, r#""input":"x","prompt_cache_key":"file-1","safety_identifier":"file-1","prompt":{"id":"pmpt_1"}"#),
        (
            GEMINI_PATH,
            r#""contents":[{"role":"user","parts":[{"fileData":{"fileUri":"https://www.youtube.com/watch?v=1"}},{"fileData":{"fileUri":"gs://bucket/files/x"}}]}]"#,
        ),
    ] {
        let answer = world.send("two", "POST", path, &body(path, fields, "")).await;
        assert_eq!((answer.status, world.provider.calls().len()), (200, 1), "{fields}: {}", answer.body);
    }
}

/// A part of an object, and the beginning of its ids.
type Part = (&'static str, &'static str);

/// The beginning of the ids of each kind's objects, and what is in them.
const IDS: [(&str, &str, Option<Part>); 10] = [
    ("files", "file-", None),
    ("messages/batches", "msgbatch_", None),
    ("uploads", "upload_", None),
    ("batches", "batch_", None),
    ("assistants", "asst_", None),
    ("threads", "thread_", Some(("runs", "run_"))),
    ("vector_stores", "vs_", Some(("files", "file-"))),
    ("fine_tuning/jobs", "ftjob-", None),
    ("containers", "cntr_", Some(("files", "cfile_"))),
    ("conversations", "conv_", Some(("items", "msg_"))),
];

/// The bodies that name a file.
const BODIES: [&str; 8] = [
    r#"{"file_id":"ID"}"#,
    r#"{"file_ids":["ID"]}"#,
    r#"{"input_file_id":"ID","metadata":{"x":"y"}}"#,
    r#"{"training_file":"ID","model":"m-more"}"#,
    r#"{"tool_resources":{"code_interpreter":{"file_ids":["ID"]}}}"#,
    r#"{"messages":[{"role":"user","content":"x","attachments":[{"file_id":"ID","tools":[]}]}]}"#,
    r#"{"requests":[{"custom_id":"file-1","params":{"model":"m-claude","messages":[{"content":[{"source":{"type":"file","file_id":"ID"}}]}]}}]}"#,
    r#"{"file\u005fid":"ID"}"#,
];

#[tokio::test]
async fn an_objects_request_names_its_keys_own_objects_alone() {
    // A path of objects without its row is a mistake here.
    assert_eq!(KINDS.map(|(kind, _)| kind), IDS.map(|(kind, ..)| kind));
    assert_eq!(SERVED.map(str::to_owned), KINDS.map(|(kind, _)| format!("/v1/{kind}")));
    let world = World::start().await;
    let (mut cells, mut number) = (0, 0);
    for ((kind, only), (_, beginning, inner)) in KINDS.into_iter().zip(IDS) {
        for is_anthropics in [false, true] {
            if is_anthropics != (only == Some(steadfast::Dialect::Anthropic)) && only.is_some() {
                continue;
            }
            let file = if is_anthropics { "file_" } else { "file-" };
            let beginning = if kind == "files" { file } else { beginning };
            let after = if is_anthropics { "after_id" } else { "after" };
            let before = if is_anthropics { "before_id" } else { "before" };
            let mine = format!("{beginning}mine");
            let tier = if is_anthropics { "claude" } else { "resp" };
            world.give_at(&mine, "two", tier).await;
            // The method, the path and the body with `ID`, and the id's beginning.
            let mut rows = vec![
                ("GET", format!("/v1/{kind}/ID"), String::new(), beginning),
                ("DELETE", format!("/v1/{kind}/ID"), String::new(), beginning),
                ("POST", format!("/v1/{kind}/ID"), "{}".to_owned(), beginning),
                ("GET", format!("/v1/{kind}/ID/content"), String::new(), beginning),
                ("POST", format!("/v1/{kind}/ID/cancel"), String::new(), beginning),
                ("GET", format!("/v1/{kind}?limit=1&{after}=ID"), String::new(), beginning),
                ("GET", format!("/v1/{kind}?{before}=ID"), String::new(), beginning),
                ("GET", format!("/v1/{kind}?%61fter=ID"), String::new(), beginning),
                ("GET", format!("/v1/{kind}/{mine}/parts?{after}=ID"), String::new(), beginning),
                ("GET", format!("/v1/{kind}/ID"), String::new(), "0a-any-form-"),
            ];
            rows.extend(BODIES.map(|body| ("POST", format!("/v1/{kind}"), body.to_owned(), file)));
            rows.extend(BODIES.map(|body| ("POST", format!("/v1/{kind}/{mine}"), body.to_owned(), file)));
            if let Some((part, within)) = inner {
                rows.push(("GET", format!("/v1/{kind}/{mine}/{part}/ID"), String::new(), within));
                rows.push(("DELETE", format!("/v1/{kind}/{mine}/{part}/ID"), String::new(), within));
            }
            for (method, path, body, beginning) in rows {
                number += 1;
                let ids = ["a", "b", "c"].map(|whose| format!("{beginning}{whose}{number:04}"));
                let [own, foreign, nobodys] = &ids;
                world.give_at(own, "two", tier).await;
                world.give_at(foreign, "one", tier).await;
                let ask = async |key: &str, id: &str| {
                    let answer = world
                        .send_as(key, method, &path.replace("ID", id), &body.replace("ID", id), is_anthropics)
                        .await;
                    (answer, world.provider.calls().len())
                };
                let (answer, calls) = ask("two", own).await;
                // The file of a new batch is read.
                let usual = if path == "/v1/batches" && body.contains("input_file_id") { 2 } else { 1 };
                assert_eq!((answer.status, calls), (200, usual), "{method} {path} {body}: {}", answer.body);
                let (foreigns, asked) = ask("two", foreign).await;
                let (unknowns, also_asked) = ask("two", nobodys).await;
                assert_eq!((foreigns.status, asked, also_asked), (404, 0, 0), "{method} {path} {body}");
                assert_eq!(words(&foreigns, foreign), words(&unknowns, nobodys), "{method} {path}");
                let (refused, asked) = ask("none", own).await;
                assert_eq!((refused.status, asked), (403, 0), "{method} {path}");
                let (answer, calls) = ask("all", foreign).await;
                assert_eq!((answer.status, calls > 0), (200, true), "{method} {path}: {}", answer.body);
                cells += 5;
            }
        }
    }
    println!("{cells} cells");
}

#[tokio::test]
async fn an_item_goes_on_with_its_content_and_without_anothers_id() {
    let world = World::start().await;
    for (id, owner) in [("msg_own", "two"), ("msg_foreign", "one")] {
        world.give(id, owner).await;
    }
    let said = |id: &str| json!({"type": "message", "id": id, "role": "assistant", "content": [{"type": "output_text", "text": id.replace('_', " ")}]});
    let input = json!([said("msg_own"), said("msg_foreign"), said("msg_nobodys"),
        {"type": "web_search_call", "id": "ws_nobodys", "status": "completed"}, {"role": "user", "content": "go on"}]);
    let answer = world.post("two", RESPONSES, &json!({"model": "m-resp", "input": input})).await;
    assert_eq!(answer.status, 200, "{}", answer.body);
    let sent: Value = serde_json::from_str(&world.provider.calls()[0].1).unwrap();
    let ids: Vec<&Value> = sent["input"].as_array().unwrap().iter().map(|item| &item["id"]).collect();
    assert_eq!((ids[0], ids[1], ids[2]), (&json!("msg_own"), &Value::Null, &Value::Null));
    assert!(ids[3].as_str().unwrap().starts_with("ws_") && ids[3] != "ws_nobodys");
    let texts: Vec<&str> = (0..3).map(|at| sent["input"][at]["content"][0]["text"].as_str().unwrap()).collect();
    assert_eq!(texts, ["msg own", "msg foreign", "msg nobodys"]);
}
