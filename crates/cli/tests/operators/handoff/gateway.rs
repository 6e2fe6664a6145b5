//! Down the ladder to a person, through the gateway, and back.

use serde_json::{Value, json};

use crate::{
    common::{comes, http::answer, within},
    handoff::served::{CHAT, MESSAGES, PATIENCE, SECRET_WORDS, Served},
};

#[test]
fn with_all_models_down_a_person_answers_and_the_caller_finds_it_after_a_crash_too() {
    let mut served = Served::start("{ visibility: 1m }");
    let mut answered = Vec::new();
    for path in [MESSAGES, CHAT] {
        let pending = answer(served.asks(path, false, "x-steadfast-feature: chat\r\n"));
        let task = pending.header("x-steadfast-task-id").unwrap().to_owned();
        assert_eq!((pending.status, pending.text()), (200, format!("A person will answer. Your request is {task}.")));
        assert_eq!(pending.header("x-steadfast-tier"), Some("people"));
        assert!(pending.header("x-steadfast-degraded").unwrap().starts_with("5;reason="), "{pending:?}");
        assert_eq!(pending.json()["steadfast"]["task_id"], task);
        let waits = served.poll(&task);
        assert_eq!((waits.status, waits.header("retry-after")), (202, Some("5")), "{waits:?}");
        assert_eq!(served.get(&format!("/handoff/answers/{task}"), &served.keys[1]).status, 404);

        let listed = served.command(&["list", "--state", "waiting", "--feature", "chat"]);
        assert!(listed.out.contains(&task) && listed.out.contains("in all: 1 waiting"), "{}{}", listed.out, listed.err);
        let shown = served.command(&["show", &task]).out;
        for words in ["asked by: caller", "tried before:", "  claude: ", "  gpt: server, 500, ", SECRET_WORDS] {
            assert!(shown.contains(words), "no {words:?} in {shown}");
        }
        let claimed = served.command(&["claim", &task, "--as", "ana"]);
        assert!(claimed.code == Some(0) && claimed.out.contains("claimed by ana"), "{}{}", claimed.out, claimed.err);

        // A crash between the claim and the answer takes neither the task nor the claim along.
        served.restart();
        let refused = served.command(&["claim", &task, "--as", "ben"]);
        assert!(refused.code == Some(1) && refused.err.contains("is claimed by ana"), "{}{}", refused.out, refused.err);
        assert_eq!(served.order(&task, "answer", json!({"text": "no", "as": "ben"})).status, 409);
        let done = served.order(&task, "answer", json!({"text": "Hello from Ana", "as": "ana"}));
        assert_eq!((done.status, &done.json()["state"]), (200, &json!("answered")), "{done:?}");
        let again = served.command(&["answer", &task, "Something else", "--as", "ana"]);
        assert!(again.code == Some(1) && again.err.contains("was answered by ana"), "{}", again.err);
        answered.push(task);
        served.restart();
        for task in &answered {
            let polled = served.poll(task);
            let result = polled.json();
            assert_eq!((polled.status, &result["output"]), (200, &json!("Hello from Ana")), "{polled:?}");
            let of = ["task_id", "model", "tier"].map(|field| result[field].clone());
            assert_eq!(of, [json!(task), json!("person"), json!("handoff")]);
        }
        for dialect in ["anthropic", "openai"] {
            let own = served.get(&format!("/handoff/answers/{}?dialect={dialect}", answered[0]), &served.keys[0]);
            assert_eq!((own.status, own.text().as_str()), (200, "Hello from Ana"));
        }
    }
    let log = served.gateway.log();
    assert!(log.contains("claim") && !log.contains(SECRET_WORDS) && !log.contains("Hello from Ana"), "{log}");
    assert!(served.keys.iter().all(|key| !log.contains(key)), "{log}");
}

#[test]
fn a_waiting_caller_has_the_answer_of_a_person_whole_and_as_a_stream() {
    let served = Served::start("{ wait: 1m }");
    for path in [MESSAGES, CHAT] {
        for stream in [false, true] {
            let waiting = served.asks(path, stream, "");
            let task = served.waiting();
            // Once through the gateway, once by another process, straight into the store.
            match stream {
                true => assert_eq!(served.order(&task, "answer", json!({"text": "Hello from Ana"})).status, 200),
                false => {
                    let ran = served.beside(&["answer", &task, "Hello from Ana", "--as", "ana"]);
                    assert_eq!(ran.code, Some(0), "{}", ran.err);
                }
            }
            let answer = answer(waiting);
            assert_eq!((answer.status, answer.header("x-steadfast-task-id")), (200, Some(&*task)), "{answer:?}");
            assert_eq!(answer.header("x-steadfast-degraded"), None, "a person's answer is no less: {answer:?}");
            match stream {
                false => assert_eq!(answer.text(), "Hello from Ana"),
                true => {
                    let data = answer.body.lines().filter_map(|line| line.strip_prefix("data: {"));
                    let events = data.map(|data| serde_json::from_str::<Value>(&format!("{{{data}")).unwrap());
                    let texts = events.filter_map(|event| {
                        let text = event["delta"]["text"].as_str();
                        text.or_else(|| event["choices"][0]["delta"]["content"].as_str()).map(str::to_owned)
                    });
                    assert_eq!(texts.collect::<String>(), "Hello from Ana", "{answer:?}");
                    let end = if path == MESSAGES { "message_stop" } else { "[DONE]" };
                    assert!(answer.body.contains(end), "{answer:?}");
                }
            }
        }
    }
}

#[test]
fn on_a_quiet_gateway_a_task_is_redriven_once_the_cooldown_of_a_circuit_is_over() {
    let breaker = "{ consecutive_failures: 1, cooldown: 500ms }";
    let served = Served::with("{ redrive: { every: 200ms } }", breaker);
    let task = served.pending(MESSAGES);
    served.model().heal();
    // Nobody asks a model anything from here on.
    within(PATIENCE, "it is not redriven", || served.poll(&task).status == 200);
    assert_eq!(served.poll(&task).json()["output"], "Hello from afar");
}

#[test]
fn what_requires_a_person_goes_to_one_while_models_work() {
    let served = Served::start("{ visibility: 1m }");
    served.model().heal();
    for path in [MESSAGES, CHAT] {
        assert_eq!(answer(served.asks(path, false, "")).text(), "Hello from afar");
        let calls = served.model().stats().calls;
        let asked = answer(served.asks(path, false, "x-steadfast-requires-human: 1\r\n"));
        assert_eq!(asked.header("x-steadfast-degraded"), Some("5;reason=requires_human"), "{asked:?}");
        assert_eq!(served.model().stats().calls, calls);
        let refused = answer(served.asks(
            path,
            false,
            "x-steadfast-callback-url: https://example.com/\r\n\
                                                      x-steadfast-requires-human: 1\r\n",
        ));
        assert!(refused.status == 400 && refused.body.contains("no host is allowed for callbacks"), "{refused:?}");
    }
}

#[test]
fn a_task_goes_back_to_a_model_that_works_again_when_somebody_asks_for_it() {
    let served = Served::start("{ visibility: 1m }");
    let [one, other] = [MESSAGES, CHAT].map(|path| served.pending(path));
    served.model().heal();
    let asked = served.command(&["redrive", &one]);
    assert!(asked.code == Some(0) && asked.out.contains("1 task"), "{}{}", asked.out, asked.err);
    let result =
        comes(PATIENCE, "no model answers it", || Some(served.poll(&one)).filter(|polled| polled.status == 200)).json();
    let of = ["output", "tier", "model"].map(|field| result[field].clone());
    assert_eq!(of, [json!("Hello from afar"), json!("gpt"), json!("gpt-4o")], "{result}");
    assert_eq!(served.poll(&other).status, 202);
}

#[test]
fn the_status_and_the_metrics_show_waiting_tasks() {
    let served = Served::start("{ visibility: 1m }");
    assert_eq!(served.get("/handoff/tasks", &served.keys[0]).status, 403);
    served.pending(MESSAGES);
    within(PATIENCE, "the status does not say", || {
        let status = served.get("/status", "").json();
        status["handoff"]["waiting"] == 1 && status["handoff"]["oldestWaitingSeconds"].is_number()
    });
    let metrics = served.get("/metrics", "").body;
    for line in ["steadfast_handoff_tasks{state=\"waiting\"} 1", "steadfast_handoff_total{step=\"queued\"} 1"] {
        assert!(metrics.contains(line), "no {line} in {metrics}");
    }
    assert!(!metrics.contains(SECRET_WORDS));
}
