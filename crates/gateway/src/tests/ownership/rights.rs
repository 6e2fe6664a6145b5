//! The rights of a key: paths that the gateway does not know, objects at all, and models in them.

use serde_json::json;

use super::*;

/// Paths of a provider's account, which are nobody's business.
const ACCOUNT_PATHS: [&str; 5] = [
    "/v1/realtime/client_secrets",
    "/v1/organization/admin_api_keys",
    "/v1/videos/video_1/remix",
    "/v1/fine_tuning/checkpoints/ft:x/permissions",
    "/v1/chatkit/sessions",
];

#[tokio::test]
async fn an_unknown_path_needs_a_right_or_a_list() {
    let wide = World::with("pass", "", Some(keys())).await;
    for path in ACCOUNT_PATHS {
        let denied = wide.post("two", path, &json!({"prompt": "x"})).await;
        assert_eq!((denied.status, wide.provider.calls().len()), (403, 0), "{path}");
        assert!(
            denied.body.contains("`pass_through: true`") && denied.body.contains("`lane.other`"),
            "{}",
            denied.body
        );
    }
    assert_eq!(wide.post("passes", "/v1/dreams", &json!({})).await.status, 200);
    assert_eq!(wide.post("admin", "/v1/dreams", &json!({})).await.status, 200);
    let list = World::with("[/v1/ocr, /v1/videos, '/v1/videos/*/remix']", "", Some(keys())).await;
    for (path, status) in
        [("/v1/ocr", 200), ("/v1/ocr/x", 404), ("/v1/realtime/client_secrets", 404), ("/v1/dreams", 404)]
    {
        for key in ["two", "passes", "admin"] {
            assert_eq!(list.post(key, path, &json!({"document": "x"})).await.status, status, "{key} {path}");
        }
    }
    let open = World::with("pass", "", None).await;
    assert_eq!(open.post("", "/v1/dreams", &json!({})).await.status, 200);
}

#[tokio::test]
async fn a_path_that_passes_names_its_keys_own_objects_alone() {
    let world = World::with("[/v1/videos, '/v1/videos/*/remix', /v1/ocr]", "", Some(keys())).await;
    world.provider.answer_with(200, "application/json", json!({"id": "video_1", "object": "video"}));
    assert_eq!(world.post("one", "/v1/videos", &json!({"prompt": "x"})).await.status, 200);
    world.provider.calls();
    world.give("file-foreign", "one").await;
    for (path, body) in [
        ("/v1/videos/video_1/remix", json!({})),
        ("/v1/videos/video_9/remix", json!({})),
        ("/v1/ocr", json!({"document": {"file_id": "file-foreign"}})),
        ("/v1/ocr", json!({"input": {"any_id": "file-nobodys"}})),
        ("/v1/ocr?file=file-foreign", json!({})),
    ] {
        let answer = world.post("two", path, &body).await;
        assert_eq!((answer.status, world.provider.calls().len()), (404, 0), "{path} {body}: {}", answer.body);
    }
    assert_eq!(world.post("one", "/v1/videos/video_1/remix", &json!({})).await.status, 200);
    assert_eq!(world.post("one", "/v1/ocr?file=file-foreign", &json!({})).await.status, 200);
    // A form names objects as JSON does, before its file and not behind it.
    let form = |id: &str, is_late: bool| {
        let id = format!("--xyz\r\ncontent-disposition: form-data; name=\"file_id\"\r\n\r\n{id}\r\n");
        let file = "--xyz\r\ncontent-disposition: form-data; name=\"file\"; filename=\"f\"\r\n\r\nx\r\n";
        let parts = if is_late { format!("{file}{id}") } else { format!("{id}{file}") };
        format!("{parts}--xyz--\r\n")
    };
    for path in ["/v1/videos", "/v1/images/edits"] {
        let model = "--xyz\r\ncontent-disposition: form-data; name=\"model\"\r\n\r\nm-more\r\n";
        for (key, id, status) in
            [("two", "file-foreign", 404), ("two", "file-nobodys", 404), ("one", "file-foreign", 200)]
        {
            for is_late in [false, true] {
                world.provider.calls();
                let answer = world.form(key, path, &format!("{model}{}", form(id, is_late))).await;
                assert_eq!(answer.status, status, "{key} {path} {id}: {}", answer.body);
                assert_eq!(world.provider.calls().len(), usize::from(status == 200), "{key} {path} {id}");
            }
        }
    }
    // A call of the lane that the gateway knows.
    let images = json!({"model": "m-more", "prompt": "x", "images": [{"file_id": "file-foreign"}]});
    world.provider.calls();
    assert_eq!((world.post("two", "/v1/images/edits", &images).await.status, world.provider.calls().len()), (404, 0));
    assert_eq!(world.post("one", "/v1/images/edits", &images).await.status, 200);
}

#[tokio::test]
async fn a_keys_models_hold_within_a_batch() {
    let world = World::start().await;
    let batch = |model: &str| json!({"requests": [{"custom_id": "a", "params": {"model": "m-claude", "max_tokens": 9, "messages": []}}, {"custom_id": "b", "params": {"model": model, "max_tokens": 9, "messages": []}}]});
    assert_eq!(world.post("small", "/v1/messages/batches", &batch("cheap-1")).await.status, 200);
    world.provider.calls();
    for (path, body) in [
        ("/v1/messages/batches", batch("claude-opus-4-5")),
        ("/v1/assistants", json!({"model": "gpt-5-pro"})),
        (
            "/v1/fine_tuning/jobs",
            json!({"model": "m-chat", "method": {"reinforcement": {"grader": {"model": "gpt-5-pro"}}}}),
        ),
    ] {
        let answer = world.post("small", path, &body).await;
        assert_eq!((answer.status, world.provider.calls().len()), (403, 0), "{path}: {}", answer.body);
    }
}

/// The lines of a batch's file are requests, which the provider makes under the account's key.
#[tokio::test]
async fn a_batchs_file_names_its_keys_own_objects_and_models() {
    let world = World::start().await;
    for (id, owner) in [("file-two", "two"), ("file-small", "small"), ("file-own", "two"), ("file-foreign", "one")] {
        world.give(id, owner).await;
    }
    let line = |id: &str, model: &str| {
        let body = json!({"model": model, "messages": [{"role": "user", "content": [{"type": "file", "file": {"file_id": id}}]}]});
        json!({"custom_id": "file-1", "method": "POST", "url": "/v1/chat/completions", "body": body}).to_string()
    };
    for (key, file, id, model, status) in [
        ("two", "file-two", "file-own", "gpt-5-pro", 200),
        ("two", "file-two", "file-foreign", "m-chat", 404),
        ("two", "file-two", "file-nobodys", "m-chat", 404),
        ("small", "file-small", "file-small", "cheap-1", 200),
        ("small", "file-small", "file-small", "gpt-5-pro", 403),
        ("small", "file-small", "file-small", "models/gpt-5-pro", 403),
    ] {
        world.provider.answer_with(
            200,
            "application/octet-stream",
            format!("{}\n{}", line(file, "m-chat"), line(id, model)),
        );
        let batch = json!({"input_file_id": file, "endpoint": "/v1/chat/completions", "completion_window": "24h"});
        let answer = world.post(key, "/v1/batches", &batch).await;
        let calls: Vec<String> = world.provider.calls().into_iter().map(|(call, _)| call).collect();
        assert_eq!(answer.status, status, "{key} {id} {model}: {}", answer.body);
        assert_eq!(calls[0], format!("GET /v1/files/{file}/content"));
        assert_eq!(calls.len(), if status == 200 { 2 } else { 1 }, "{calls:?}");
    }
    // As a request itself: other spellings, further models, a choice that is the provider's.
    for (more, status) in [
        (json!({"Model": "gpt-5-pro"}), 403),
        (json!({"models": ["cheap-1", "gpt-5-pro"]}), 403),
        (json!({"fallbacks": [{"model": "gpt-5-pro"}]}), 403),
        (json!({"route": "fallback"}), 400),
        (json!({"models": ["cheap-1"]}), 200),
    ] {
        let mut body = json!({"model": "cheap-1", "messages": []});
        body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        let line = json!({"custom_id": "a", "method": "POST", "url": "/v1/chat/completions", "body": body});
        world.provider.answer_with(200, "application/octet-stream", line.to_string());
        world.provider.calls();
        let batch = json!({"input_file_id": "file-small", "endpoint": "/v1/chat/completions"});
        let answer = world.post("small", "/v1/batches", &batch).await;
        assert_eq!(answer.status, status, "{more}: {}", answer.body);
        assert_eq!(world.provider.calls().len(), if status == 200 { 2 } else { 1 }, "{more}");
    }
    let twice = r#"{"input_file_id":"file-two","input_file_id":"file-own"}"#;
    assert_eq!(world.send("two", "POST", "/v1/batches", twice).await.status, 400);
    assert!(world.provider.calls().is_empty());
    world.provider.answer_with(404, "application/json", "{}");
    let batch = json!({"input_file_id": "file-two"});
    assert_eq!(world.post("two", "/v1/batches", &batch).await.status, 400);
    assert_eq!(world.provider.calls().len(), 1);
    assert_eq!(world.post("all", "/v1/batches", &batch).await.status, 200);
    assert_eq!(world.provider.calls().len(), 1, "who may name anything has no file read");
}

#[tokio::test]
async fn an_error_has_no_word_of_the_accounts_key() {
    let world = World::start().await;
    for status in [301, 400, 401, 404, 429, 500, 503] {
        for path in ["/v1/files", "/v1/assistants", "/v1/messages/batches"] {
            let error =
                json!({"error": {"message": format!("Incorrect API key provided: {ACCOUNT}."), "code": ACCOUNT}});
            world.provider.answer_with(status, "application/json", error);
            let answer = world.send("two", "GET", path, "").await;
            assert_eq!(answer.status, status, "{path}: {}", answer.body);
            assert!(!answer.body.contains("0123456789") && answer.body.contains("[key]"), "{path}: {}", answer.body);
        }
    }
}
