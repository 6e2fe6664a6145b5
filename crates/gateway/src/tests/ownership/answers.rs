//! The ids that an answer gives: they are the caller's own from then on, and nobody else's.

use serde_json::json;
use steadfast_stores::{places::PlaceStore, sqlite::Sqlite};

use super::{
    provider::{chat, message, response, said},
    *,
};

/// Asks, with this answer of the provider, and then names the answer's ids.
async fn given(world: &World, ask: (&str, Value), answer: (&'static str, String), uses: &[(&str, Value)]) {
    let (path, body) = ask;
    let is_stream = body["stream"] == true;
    world.provider.answer_with(200, answer.0, answer.1);
    let got = world.post("two", path, &body).await;
    assert_eq!(got.status, 200, "{}", got.body);
    world.provider.calls();
    for (path, body) in uses {
        let foreign = world.post("one", path, body).await;
        assert!(matches!(foreign.status, 400 | 404), "stream {is_stream}, {body}: {}", foreign.body);
        assert!(world.provider.calls().is_empty(), "{body}");
        let own = world.post("two", path, body).await;
        assert_eq!((own.status, world.provider.calls().len()), (200, 1), "stream {is_stream}, {body}: {}", own.body);
    }
}

fn asked(stream: bool, more: Value) -> (&'static str, Value) {
    let mut body = json!({"model": "m-resp", "input": "x", "stream": stream});
    body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    (RESPONSES, body)
}

#[tokio::test]
async fn what_an_answer_names_is_its_callers() {
    let world = World::start().await;
    for stream in [false, true] {
        let s = u8::from(stream);
        let mut text = said(&format!("msg_{s}"));
        text["content"][0]["annotations"] = json!([{"type": "container_file_citation", "container_id": format!("cntr_{s}"), "file_id": format!("cfile_{s}")}]);
        let output = json!([
            {"type": "reasoning", "id": format!("rs_{s}"), "summary": []},
            {"type": "code_interpreter_call", "id": format!("ci_{s}"), "container_id": format!("cntr_{s}"), "code": "1", "status": "completed"},
            {"type": "image_generation_call", "id": format!("ig_{s}"), "status": "completed", "result": "cG5n"},
            text,
        ]);
        let next = |more| asked(false, more);
        given(&world, asked(stream, json!({})), response(&output, &format!("resp_a{s}"), stream), &[
            next(json!({"previous_response_id": format!("resp_a{s}")})),
            next(json!({"input": [{"type": "item_reference", "id": format!("rs_{s}")}, {"type": "item_reference", "id": format!("msg_{s}")}]})),
            next(json!({"input": [{"type": "reasoning", "id": format!("rs_{s}"), "summary": []}, {"role": "user", "content": "x"}]})),
            next(json!({"input": [{"type": "image_generation_call", "id": format!("ig_{s}")}, {"role": "user", "content": "x"}]})),
            next(json!({"tools": [{"type": "code_interpreter", "container": format!("cntr_{s}")}]})),
        ]).await;
        let file = format!("/v1/containers/cntr_{s}/files/cfile_{s}/content");
        assert_eq!(world.send("one", "GET", &file, "").await.status, 404);
        assert_eq!(world.send("two", "GET", &file, "").await.status, 200);

        let audio = json!({"role": "assistant", "content": "x", "audio": {"id": format!("audio_{s}"), "data": "eA==", "transcript": "x", "expires_at": 1}});
        let ask = json!({"model": "m-chat", "messages": [{"role": "user", "content": "x"}], "stream": stream});
        let again = json!({"model": "m-chat", "messages": [{"role": "assistant", "audio": {"id": format!("audio_{s}")}}, {"role": "user", "content": "x"}]});
        given(&world, (CHAT, ask), chat(&audio, stream), &[(CHAT, again)]).await;

        let more = json!({"container": {"id": format!("container_{s}"), "expires_at": "2027-01-01T00:00:00Z"}});
        let content = json!([
            {"type": "bash_code_execution_tool_result", "tool_use_id": "srvtoolu_1", "content": {"type": "bash_code_execution_result",
                "stdout": "", "stderr": "", "return_code": 0, "content": [{"type": "bash_code_execution_output", "file_id": format!("file_{s}")}]}},
            {"type": "text", "text": "hi"},
        ]);
        let ask = |more: Value| {
            let mut body =
                json!({"model": "m-claude", "max_tokens": 9, "messages": [{"role": "user", "content": "x"}]});
            body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
            (MESSAGES, body)
        };
        given(&world, ask(json!({"stream": stream})), message(&more, &content, stream), &[
            ask(json!({"container": format!("container_{s}")})),
            ask(json!({"messages": [{"role": "user", "content": [{"type": "container_upload", "file_id": format!("file_{s}")}]}]})),
        ]).await;
        let path = format!("/v1/files/file_{s}");
        assert_eq!(world.send_as("one", "GET", &path, "", true).await.status, 404);
        assert_eq!(world.send_as("two", "GET", &path, "", true).await.status, 200);
    }
}

/// A model says what its caller wants it to: that makes nothing the caller's.
#[tokio::test]
async fn no_caller_gets_an_id_by_having_it_repeated() {
    let world = World::start().await;
    world.give("file_foreign", "one").await;
    let content = json!([{"type": "tool_use", "id": "toolu_1", "name": "f", "input": {"file_id": "file_nobodys"}}, {"type": "text", "text": "file_nobodys"}]);
    let (kind, answer) = message(&json!({"container": {"id": "file_foreign"}}), &content, false);
    world.provider.answer_with(200, kind, answer);
    let ask = |id: &str| json!({"model": "m-claude", "max_tokens": 9, "messages": [{"role": "user", "content": [{"type": "container_upload", "file_id": id}]}]});
    let plain = json!({"model": "m-claude", "max_tokens": 9, "messages": [{"role": "user", "content": "x"}]});
    assert_eq!(world.post("two", MESSAGES, &plain).await.status, 200);
    for id in ["file_nobodys", "file_foreign"] {
        assert_eq!(world.post("two", MESSAGES, &ask(id)).await.status, 404, "{id}");
    }
    assert_eq!(world.post("one", MESSAGES, &ask("file_foreign")).await.status, 200);
}

#[tokio::test]
async fn a_conversation_goes_on_after_a_restart_with_a_durable_store() {
    let folder = std::env::temp_dir().join(format!("steadfast-ownership-{}.db", std::process::id()));
    let _ = std::fs::remove_file(&folder);
    let more = format!("stores: {{ durable: 'sqlite:{}' }}", folder.display());
    let provider = Provider::start().await;
    for (round, stream) in [false, true].into_iter().enumerate() {
        let world = World::over(provider.clone(), "refuse", &more, Some(keys())).await;
        let (kind, answer) = response(&json!([said(&format!("msg_r{round}"))]), &format!("resp_r{round}"), stream);
        provider.answer_with(200, kind, answer);
        assert_eq!(world.post("two", RESPONSES, &asked(stream, json!({})).1).await.status, 200);
        let ids = [format!("msg_r{round}"), format!("resp_r{round}")];
        // A stream's ids are written beside it.
        let stored = Sqlite::open(&folder).unwrap();
        while stored.find(ids.to_vec()).await.unwrap().len() < 2 {
            tokio::task::yield_now().await;
        }
        drop(world);
        let world = World::over(provider.clone(), "refuse", &more, Some(keys())).await;
        let next = json!({"model": "m-resp", "input": [{"type": "item_reference", "id": ids[0]}], "previous_response_id": ids[1]});
        assert_eq!(world.post("one", RESPONSES, &next).await.status, 400);
        let answer = world.post("two", RESPONSES, &next).await;
        assert_eq!(answer.status, 200, "{}", answer.body);
    }
    let _ = std::fs::remove_file(&folder);
}

#[tokio::test]
async fn a_run_that_streams_gives_its_ids() {
    let world = World::start().await;
    let events = "event: thread.run.created\ndata: {\"id\":\"run_1\",\"object\":\"thread.run\",\"thread_id\":\"thread_1\"}\n\nevent: thread.message.created\ndata: {\"id\":\"msg_1\",\"object\":\"thread.message\"}\n\nevent: done\ndata: [DONE]\n\n";
    world.give("asst_1", "two").await;
    world.provider.answer_with(200, "text/event-stream", events);
    let answer = world.post("two", "/v1/threads/runs", &json!({"assistant_id": "asst_1", "stream": true})).await;
    assert_eq!((answer.status, &*answer.body), (200, events));
    for path in ["/v1/threads/thread_1", "/v1/threads/thread_1/runs/run_1", "/v1/threads/thread_1/messages/msg_1"] {
        assert_eq!(world.send("two", "GET", path, "").await.status, 200, "{path}");
        assert_eq!(world.send("one", "GET", path, "").await.status, 404, "{path}");
    }
}
