//! Tasks, from a caller that no model answers to a person who does, and back.

use std::time::Duration;

use serde_json::{Value, json};
use steadfast::{
    BoxLlmService, FallbackLayer,
    layers::fallback::Tier,
    providers::simulated::{Fault, Simulated},
};
use steadfast_handoff::{Desk, Handoff, MemoryTasks, TaskFilter, TaskLimits, TaskState};
use tower::ServiceBuilder;

use super::harness::*;
use crate::{api::Keys, limits::Settings, tasks::MAX_ANSWER_BYTES};

const CALLER: (&str, &str) = ("x-api-key", "sk-of-a-caller");
const OTHER: (&str, &str) = ("x-api-key", "sk-of-another");
const REVIEWER: (&str, &str) = ("authorization", "Bearer sk-of-ana");
const ADMIN: (&str, &str) = ("authorization", "Bearer sk-of-root");

fn keys() -> Keys {
    keys_of(&[
        entry("caller", "sk-of-a-caller", ""),
        entry("another", "sk-of-another", ""),
        entry("ana", "sk-of-ana", ", handoff: true"),
        entry("root", "sk-of-root", ", admin: true"),
    ])
}

/// A gateway whose only model fails, before people.
struct House {
    server: Server,
    desk: Desk,
}

impl House {
    async fn start() -> Self {
        Self::of(Handoff::allow_volatile).await
    }

    async fn of(people: impl FnOnce(Handoff) -> Handoff) -> Self {
        Self::at(Desk::new(MemoryTasks::new()), people).await
    }

    async fn at(desk: Desk, people: impl FnOnce(Handoff) -> Handoff) -> Self {
        let model = Simulated::new("model").reply("Hello from afar");
        let handle = model.handle();
        handle.fail(Fault::ServerError);
        let people = Tier::new("people", people(Handoff::new(&desk))).human();
        let service = ServiceBuilder::new().layer(FallbackLayer::new("model").push(people)).service(model);
        let server = Server::with_desk(BoxLlmService::new(service), &desk, Some(keys())).await;
        Self { server, desk }
    }

    /// The id of a task that was made for the caller.
    async fn pending(&self, path: &str) -> String {
        let answer = self.server.post(path, &[CALLER], &hello(false)).await;
        answer.header("x-steadfast-task-id").unwrap_or_else(|| panic!("{answer:?}")).to_owned()
    }

    async fn order(&self, path: &str, body: Value) -> Answer {
        self.server.post(path, &[REVIEWER], &body).await
    }

    async fn poll(&self, task: &str, key: (&str, &str)) -> Answer {
        self.server.get(&format!("/handoff/answers/{task}"), &[key]).await
    }
}

fn said(answer: &Answer, status: u16, kind: &str) -> String {
    let json = answer.json();
    assert_eq!((answer.status, json["error"]["type"].as_str()), (status, Some(kind)), "{answer:?}");
    json["error"]["message"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn what_a_caller_says_of_its_task_goes_along_and_comes_back() {
    let house = House::start().await;
    let said =
        [CALLER, ("x-steadfast-task-reference", "ticket-17"), ("x-steadfast-task-context", r#"{"order": 4711}"#)];
    let caller = json!({"id": "ticket-17", "context": {"order": 4711}});
    for path in PATHS {
        let pending = house.server.post(path, &said, &hello(false)).await;
        let task = pending.header("x-steadfast-task-id").unwrap_or_else(|| panic!("{pending:?}")).to_owned();
        let shown = house.server.get(&format!("/handoff/tasks/{task}"), &[REVIEWER]).await.json();
        assert_eq!(shown["caller"], caller, "{shown}");
        house.order(&format!("/handoff/tasks/{task}/answer"), json!({"text": "Yes"})).await;
        let result = house.poll(&task, CALLER).await.json();
        assert_eq!((&result["caller"], &result["output"]), (&caller, &json!("Yes")), "{result}");
        assert!(!pending.text().contains("4711") && house.pending(path).await != task);
    }
    for context in ["4711", "[1]", "{", "{\"a\": 1} b", &format!("{{\"a\": \"{}\"}}", "x".repeat(4096))] {
        let refused = house.server.post(CHAT, &[CALLER, ("x-steadfast-task-context", context)], &hello(false)).await;
        assert_eq!(refused.status, 400, "{context}");
        assert!(refused.json()["error"]["message"].as_str().unwrap().contains("x-steadfast-task-context"));
    }
}

#[tokio::test]
async fn a_request_that_no_model_answers_is_pending_then_claimed_then_answered() {
    let house = House::start().await;
    for path in PATHS {
        let pending = house.server.post(path, &[CALLER, ("x-steadfast-feature", "chat")], &hello(false)).await;
        let task = pending.header("x-steadfast-task-id").unwrap().to_owned();
        assert_eq!((pending.status, pending.text()), (200, format!("A person will answer. Your request is {task}.")));
        assert_eq!(pending.header("x-steadfast-degraded"), Some("5;reason=server"));
        assert!(pending.header("x-steadfast-notes").unwrap().contains(&task));
        let mark = json!({"degraded": {"level": 5, "reason": "server"}, "task_id": task});
        assert_eq!(pending.json()["steadfast"], mark);
        let record = pending.header("x-steadfast-request-id").unwrap();
        let record = house.server.get(&format!("/requests/{record}"), &[CALLER]).await.json();
        assert_eq!(record["task_id"], task);

        let waits = house.poll(&task, CALLER).await;
        assert_eq!((waits.status, waits.header("retry-after")), (202, Some("5")), "{waits:?}");
        assert_eq!((&waits.json()["state"], &waits.json()["output"]), (&json!("waiting"), &Value::Null));

        let listed = house.server.get("/handoff/tasks?state=waiting&feature=chat", &[REVIEWER]).await.json();
        assert_eq!((&listed["tasks"][0]["id"], &listed["stats"]["waiting"]), (&json!(task), &json!(1)), "{listed}");
        assert_eq!((&listed["tasks"][0]["preview"], &listed["you"]), (&json!("hello"), &json!("ana")));

        let claimed = house.order(&format!("/handoff/tasks/{task}/claim"), json!({})).await;
        let json = claimed.json();
        assert_eq!((claimed.status, &json["claim"]["by"]["name"]), (200, &json!("ana")), "{claimed:?}");
        assert_eq!(
            json["conversation"]["turns"],
            json!([{"role": "user", "parts": [{"kind": "text", "text": "hello"}]}])
        );
        assert_eq!((&json["reason"], &json["attempts"][0]["tier"]), (&json!("server"), &json!("model")), "{json}");
        assert_eq!(house.poll(&task, CALLER).await.json()["state"], "claimed");

        let by_another = house.order(&format!("/handoff/tasks/{task}/claim"), json!({"as": "ben"})).await;
        assert!(said(&by_another, 409, "claimed_by_another").contains("is claimed by ana"));
        let renewed = house.order(&format!("/handoff/tasks/{task}/renew"), json!({})).await;
        assert!(renewed.json()["until"].as_u64() >= json["claim"]["until"].as_u64(), "{renewed:?}");

        let answer = format!("/handoff/tasks/{task}/answer");
        assert_eq!(house.order(&answer, json!({"text": "no", "as": "ben"})).await.status, 409);
        let answered = house.order(&answer, json!({"text": "Hello from Ana"})).await;
        assert_eq!((answered.status, &answered.json()["state"]), (200, &json!("answered")), "{answered:?}");
        assert_eq!(answered.json()["output"], "Hello from Ana");
        said(&house.order(&answer, json!({"text": "Hello again"})).await, 409, "already_answered");

        let polled = house.poll(&task, CALLER).await;
        let result = polled.json();
        assert_eq!(
            (polled.status, &result["output"], &result["tier"]),
            (200, &json!("Hello from Ana"), &json!("handoff"))
        );
        assert_eq!((&result["task_id"], &result["model"]), (&json!(task), &json!("person")));
        for (dialect, path) in [("anthropic", MESSAGES), ("openai", CHAT), ("gemini", GEMINI)] {
            let own = house.server.get(&format!("/handoff/answers/{task}?dialect={dialect}"), &[CALLER]).await;
            assert_eq!((own.status, own.text().as_str()), (200, "Hello from Ana"), "{path}: {own:?}");
            assert_eq!(own.json()[if path == GEMINI { "modelVersion" } else { "model" }], "person");
        }
    }
}

#[tokio::test]
async fn an_answer_is_for_who_asked_and_a_task_for_who_may_answer() {
    let house = House::start().await;
    let task = house.pending(MESSAGES).await;
    said(&house.poll(&task, OTHER).await, 404, "unknown_task");
    assert_eq!(house.poll(&task, ADMIN).await.status, 202);
    // A reviewer has the paths of reviewers.
    assert_eq!(house.poll(&task, REVIEWER).await.status, 404);
    for path in ["/handoff/tasks".to_owned(), format!("/handoff/tasks/{task}")] {
        let without = house.server.get(&path, &[]).await;
        assert!(said(&without, 401, "authentication_error").contains("handoff: true"));
        assert_eq!(house.server.get(&path, &[("x-api-key", "sk-none")]).await.status, 401);
        said(&house.server.get(&path, &[CALLER]).await, 403, "permission_error");
        assert_eq!(house.server.get(&path, &[ADMIN]).await.status, 200);
    }
    for what in ["claim", "renew", "release", "answer", "redrive"] {
        let answer =
            house.server.post(&format!("/handoff/tasks/{task}/{what}"), &[CALLER], &json!({"text": "x"})).await;
        assert_eq!(answer.status, 403, "{what}");
    }
    assert_eq!(house.server.post("/handoff/redrive", &[CALLER], &json!({})).await.status, 403);
    assert_eq!(house.desk.show(task.parse().unwrap()).await.unwrap().state, TaskState::Waiting);
    // A reviewer has no other right.
    assert_eq!(house.server.get("/admin/keys", &[REVIEWER]).await.status, 403);
    let page = house.server.get("/handoff", &[]).await;
    assert!(page.header("content-security-policy").unwrap().starts_with("default-src 'none'"));
    assert!(!page.body.contains(&task));
}

#[tokio::test]
async fn without_keys_or_without_people_nobody_is_let_in() {
    let providers = Providers::start().await;
    let desk = Desk::new(MemoryTasks::new());
    let open = Server::with_desk(providers.both(), &desk, None).await;
    assert!(said(&open.get("/handoff/tasks", &[]).await, 403, "permission_error").contains("no keys"));
    let models = Server::with_keys(providers.both(), Some(keys()), Settings::default()).await;
    for path in ["/handoff/tasks", "/handoff/answers/task_00000000000000000000000007"] {
        said(&models.get(path, &[ADMIN]).await, 404, "no_handoff");
    }
}

#[tokio::test]
async fn a_wrong_order_changes_nothing_and_says_what_is_wrong() {
    let house = House::start().await;
    let task = house.pending(CHAT).await;
    let none = "task_00000000000000000000000007";
    for what in ["", "/claim", "/renew", "/release", "/answer", "/redrive"] {
        let ask = async |id: &str| match what {
            "" => house.server.get(&format!("/handoff/tasks/{id}"), &[REVIEWER]).await,
            "/answer" => house.order(&format!("/handoff/tasks/{id}{what}"), json!({"text": "x"})).await,
            _ => house.order(&format!("/handoff/tasks/{id}{what}"), json!({})).await,
        };
        said(&ask(none).await, 404, "unknown_task");
        for id in ["task_", "7", "task_00000000000000000000000007x", "%F0%9F%99%82"] {
            assert!(said(&ask(id).await, 400, "invalid_request_error").contains("not a task's id"), "{id}");
        }
    }
    said(&house.poll(none, CALLER).await, 404, "unknown_task");
    said(&house.poll("nonsense", CALLER).await, 400, "invalid_request_error");
    let dialect = house.server.get(&format!("/handoff/answers/{task}?dialect=latin"), &[CALLER]).await;
    assert_eq!(dialect.status, 400);

    let answer = format!("/handoff/tasks/{task}/answer");
    let raw = async |path: &str, body: &[u8]| {
        let mut client = house.server.connect().await;
        client.send(&request("POST", path, &[REVIEWER], body)).await;
        client.answer().await
    };
    for body in [&b""[..], b"hello", b"{\"text\":", b"{\"text\":7}", b"{\"txt\":\"secret words\"}", b"\xff", b"[]"] {
        let message = said(&raw(&answer, body).await, 400, "invalid_request_error");
        assert!(message.contains(r#"{"text""#) && !message.contains("secret"), "{message}");
    }
    for body in [&b"no"[..], b"{\"as\":7}", b"{\"who\":\"ana\"}"] {
        said(&raw(&format!("/handoff/tasks/{task}/claim"), body).await, 400, "invalid_request_error");
    }
    for text in ["", "   "] {
        let empty = house.order(&answer, json!({"text": text})).await;
        assert_eq!((empty.status, text), (400, text), "{empty:?}");
    }
    for who in ["", "a\u{1b}[2J", &"x".repeat(300)] {
        assert_eq!(house.order(&answer, json!({"text": "x", "as": who})).await.status, 400, "{who:?}");
    }
    said(&house.order(&answer, json!({"text": "x".repeat(MAX_ANSWER_BYTES + 1)})).await, 413, "too_large");
    said(&house.order(&answer, json!({"text": "x".repeat(7 * MAX_ANSWER_BYTES)})).await, 413, "too_large");
    let method = house.server.get(&answer, &[REVIEWER]).await;
    assert_eq!(method.status, 405, "{method:?}");
    assert_eq!(house.server.get("/handoff/tasks?stat=waiting", &[REVIEWER]).await.status, 400);
    said(&house.order(&format!("/handoff/tasks/{task}/renew"), json!({})).await, 409, "not_claimed");
    assert_eq!(house.desk.show(task.parse().unwrap()).await.unwrap().state, TaskState::Waiting);

    let longest = house.order(&answer, json!({"text": "é".repeat(MAX_ANSWER_BYTES / 2)})).await;
    assert_eq!(longest.status, 200, "{}", &longest.body[..200]);
}

#[tokio::test(start_paused = true)]
async fn what_nobody_answers_in_its_time_is_gone() {
    let desk = Desk::new(MemoryTasks::new()).ttl(Duration::from_secs(60));
    let people = Tier::new("people", Handoff::new(&desk).allow_volatile()).human();
    let model = Simulated::new("model");
    model.handle().fail(Fault::ServerError);
    let service = ServiceBuilder::new().layer(FallbackLayer::new("model").push(people)).service(model);
    let server = Server::with_desk(BoxLlmService::new(service), &desk, Some(keys())).await;
    let pending = server.post(CHAT, &[CALLER], &hello(false)).await;
    let task = pending.header("x-steadfast-task-id").unwrap().to_owned();
    tokio::time::advance(Duration::from_secs(61)).await;
    said(&server.get(&format!("/handoff/answers/{task}"), &[CALLER]).await, 410, "expired");
    for (what, body) in [("claim", json!({})), ("answer", json!({"text": "late"})), ("redrive", json!({}))] {
        said(&server.post(&format!("/handoff/tasks/{task}/{what}"), &[REVIEWER], &body).await, 410, "expired");
    }
    let shown = server.get(&format!("/handoff/tasks/{task}"), &[REVIEWER]).await.json();
    assert_eq!(shown["state"], "expired");
}

#[tokio::test]
async fn a_caller_who_waits_has_the_persons_answer_whole_and_as_a_stream() {
    let house = House::of(Handoff::wait).await;
    for path in PATHS {
        for stream in [false, true] {
            let mut client = house.server.connect().await;
            client.post(path, &[CALLER], &hello(stream)).await;
            let task = loop {
                let waiting = house.desk.list(TaskFilter::new().state(TaskState::Waiting)).await.unwrap();
                if let [task] = &waiting[..] {
                    break task.id;
                }
                tokio::task::yield_now().await;
            };
            let answered =
                house.order(&format!("/handoff/tasks/{task}/answer"), json!({"text": "Hello from Ana"})).await;
            assert_eq!(answered.status, 200, "{answered:?}");
            let answer = client.answer().await;
            assert_eq!((answer.status, answer.text().as_str()), (200, "Hello from Ana"), "{answer:?}");
            assert_eq!(answer.header("x-steadfast-task-id"), Some(&*task.to_string()));
            assert_eq!(answer.header("x-steadfast-tier"), Some("people"));
            assert_eq!(stream, answer.body.contains("data: "), "{answer:?}");
            assert!(!stream || answer.is_whole(), "{answer:?}");
        }
    }
}

#[tokio::test]
async fn what_requires_a_person_goes_to_no_model() {
    let model = Simulated::new("model").reply("Hello from afar");
    let handle = model.handle();
    let desk = Desk::new(MemoryTasks::new());
    let people = Tier::new("people", Handoff::new(&desk).allow_volatile()).human();
    let service = ServiceBuilder::new().layer(FallbackLayer::new("model").push(people)).service(model);
    let server = Server::with_desk(BoxLlmService::new(service), &desk, Some(keys())).await;
    for path in PATHS {
        let asked = server.post(path, &[CALLER, ("x-steadfast-requires-human", "1")], &hello(false)).await;
        assert_eq!(asked.header("x-steadfast-degraded"), Some("5;reason=requires_human"), "{asked:?}");
        assert!(asked.header("x-steadfast-task-id").is_some());
        let slip = server.post(path, &[CALLER, ("x-steadfast-requires-human", "please")], &hello(false)).await;
        assert_eq!(slip.status, 400, "{slip:?}");
    }
    assert_eq!(handle.stats().calls, 0);
    assert_eq!(server.post(CHAT, &[CALLER], &hello(false)).await.text(), "Hello from afar");
}

#[tokio::test]
async fn tasks_are_listed_in_pages() {
    let house = House::start().await;
    let mut made = Vec::new();
    for _ in 0..5 {
        made.push(house.pending(CHAT).await);
    }
    // Tasks of one millisecond have only the order of their ids.
    made.sort();
    let (mut seen, mut after) = (Vec::new(), String::new());
    loop {
        let page =
            house.server.get(&format!("/handoff/tasks?order=oldest&limit=2&after={after}"), &[REVIEWER]).await.json();
        seen.extend(page["tasks"].as_array().unwrap().iter().map(|task| task["id"].as_str().unwrap().to_owned()));
        match page["next"].as_str() {
            Some(next) => after = next.to_owned(),
            None => break,
        }
    }
    assert_eq!(seen, made);
    let asked = house.order("/handoff/redrive", json!({})).await;
    assert_eq!((asked.status, &asked.json()["asked"]), (200, &json!(5)), "{asked:?}");
    let one = house.order(&format!("/handoff/tasks/{}/redrive", made[0]), json!({})).await;
    assert_eq!(one.status, 200, "{one:?}");
    let released = house.order(&format!("/handoff/tasks/{}/claim", made[1]), json!({})).await;
    assert_eq!(released.status, 200);
    assert_eq!(house.order(&format!("/handoff/tasks/{}/release", made[1]), json!({})).await.json()["released"], true);
}

#[tokio::test]
async fn a_caller_with_as_many_tasks_as_it_may_have_is_refused_and_others_are_not() {
    for path in PATHS {
        let desk = Desk::new(MemoryTasks::new()).limits(TaskLimits::default().tasks_per_caller(2).tasks(4));
        let house = House::at(desk, Handoff::allow_volatile).await;
        let human = ("x-steadfast-requires-human", "true");
        for _ in 0..2 {
            assert_eq!(house.server.post(path, &[CALLER, human], &hello(false)).await.status, 200);
        }
        let refused = house.server.post(path, &[CALLER, human], &hello(false)).await;
        assert!([503, 529].contains(&refused.status), "{refused:?}");
        // OpenAI's Responses has no type for it.
        let kind = match path {
            RESPONSES => "server_error",
            GEMINI => "UNAVAILABLE",
            _ => "overloaded_error",
        };
        assert_eq!(refused.error_type(), kind, "{refused:?}");
        assert!(refused.body.contains("handoff.limits.tasks_per_caller"), "{refused:?}");
        assert_eq!(refused.header("retry-after"), Some("10"), "{refused:?}");
        for _ in 0..2 {
            assert_eq!(house.server.post(path, &[OTHER, human], &hello(false)).await.status, 200, "another has room");
        }
        let full = house.server.post(path, &[ADMIN, human], &hello(false)).await;
        assert!(full.body.contains("`handoff.limits.tasks`"), "{full:?}");
        assert_eq!(house.desk.list(TaskFilter::new()).await.unwrap().len(), 4);
    }
}

#[tokio::test]
async fn an_administrator_has_tasks_forgotten_and_a_reviewer_does_not() {
    let house = House::start().await;
    let human = ("x-steadfast-requires-human", "true");
    for (key, session) in [(CALLER, "one"), (CALLER, "two"), (OTHER, "one"), (OTHER, "two"), (OTHER, "three")] {
        let session = ("x-steadfast-session", session);
        assert_eq!(house.server.post(CHAT, &[key, human, session], &hello(false)).await.status, 200);
    }
    let task = house.pending(MESSAGES).await;
    let left = || async { house.desk.list(TaskFilter::new()).await.unwrap().len() };
    let path = format!("/handoff/tasks/{task}/forget");
    said(&house.server.post(&path, &[REVIEWER], &json!({})).await, 403, "permission_error");
    assert_eq!(left().await, 6);
    let forgotten = house.server.post(&path, &[ADMIN], &json!({})).await;
    assert_eq!((forgotten.status, forgotten.json()), (200, json!({"forgotten": 1})));
    said(&house.server.post(&path, &[ADMIN], &json!({})).await, 404, "unknown_task");
    assert_eq!(house.poll(&task, CALLER).await.status, 404, "nor is it there for who asked");
    for (body, count) in [
        (json!({"session": "one", "tenant": "caller"}), 1),
        (json!({"session": "two"}), 2),
        (json!({"tenant": "another"}), 2),
        (json!({"tenant": "nobody"}), 0),
    ] {
        let forgotten = house.server.post("/handoff/forget", &[ADMIN], &body).await;
        assert_eq!((forgotten.status, forgotten.json()), (200, json!({"forgotten": count})), "{body}");
    }
    assert_eq!(left().await, 0);
    for wrong in [json!({}), json!({"session": ""}), json!({"task": "x"}), json!({"tenant": 7})] {
        said(&house.server.post("/handoff/forget", &[ADMIN], &wrong).await, 400, "invalid_request_error");
    }
    let task = house.pending(MESSAGES).await;
    let mut client = house.server.connect().await;
    client.send(&request("DELETE", &format!("/handoff/tasks/{task}"), &[ADMIN], b"")).await;
    assert_eq!((client.answer().await.status, left().await), (200, 0));
}
