//! The same from a configuration file.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt, Full};
use steadfast::{
    Event, LlmRequest,
    events::CircuitState,
    providers::simulated::{Fault, Simulated},
};
use steadfast_handoff::{MemoryTasks, TaskFilter, TaskId, TaskState, WebhookSecret};
use steadfast_stack::{Config, Environment, Format, Provider, Stack, StackHandle};
use tokio::{
    task::JoinSet,
    time::{Instant, sleep},
};
use tower::{BoxError, ServiceExt, service_fn};

use crate::handoff::SECRET;

const FILE: &str = "
timeout: 600s
tiers:
  - { name: sonnet, provider: simulated }
  - { name: people, provider: handoff, text: 'Your ticket is {task_id}.' }
handoff:
  wait: 5m
  notify: { url: 'https://hooks.slack.example/T0/B0/x', preview: false }
  callbacks: { secret: '${CALLBACK_SECRET}', url: 'https://app.example/answered', hosts: [app.example] }
  redrive: { per_second: 2 }
";

type Posted = Arc<Mutex<Vec<Request<Bytes>>>>;

/// The configuration of a file, without the store that it must name: these tests have the tasks in memory.
fn config(file: &str) -> Config {
    let file = file.replace("provider: handoff", "provider: simulated").replace(", text: ", ", model: ");
    let mut config = Config::from_str(&file, Format::Yaml).unwrap();
    let people = config.tiers.iter_mut().find(|tier| tier.name == "people").unwrap();
    (people.provider, people.text) = (Provider::Handoff, people.model.take());
    config
}

fn stack(file: &str) -> (Stack, Posted) {
    let posted = Posted::default();
    let posts = posted.clone();
    let transport = service_fn(move |request: Request<Full<Bytes>>| {
        let posts = posts.clone();
        async move {
            let (head, body) = request.into_parts();
            let body = body.collect().await?.to_bytes();
            posts.lock().unwrap().push(Request::from_parts(head, body));
            Ok::<_, BoxError>(Response::new(Full::<Bytes>::default()))
        }
    });
    let stack = Stack::builder()
        .environment(Environment::from_iter([("CALLBACK_SECRET", SECRET)]))
        .tasks(MemoryTasks::new())
        .transport(transport)
        .seed(7)
        .build(config(file))
        .unwrap();
    (stack, posted)
}

async fn the_task(handle: &StackHandle) -> TaskId {
    crate::handoff::the_task(&handle.desk().unwrap()).await
}

#[tokio::test(start_paused = true)]
async fn a_caller_waits_for_a_person_who_was_told_and_is_called_back() {
    let (stack, posted) = stack(FILE);
    let handle = stack.handle();
    let mut events = handle.events().subscribe();
    let _at_work = handle.hand_over();
    handle.circuits()["sonnet"].force_open();
    let asked = tokio::spawn(stack.service().oneshot(LlmRequest::prompt("May I?").with_feature("chat")));
    let task = the_task(&handle).await;
    sleep(Duration::from_secs(100)).await;
    let told = posted.lock().unwrap()[0].clone();
    let told = String::from_utf8(told.into_body().to_vec()).unwrap();
    assert!(told.contains(&task.to_string()) && !told.contains("May I?"), "{told}");

    handle.desk().unwrap().answer(task, "ana", "You may.").await.unwrap();
    let response = asked.await.unwrap().unwrap();
    assert_eq!(response.task_id(), Some(&*task.to_string()));
    assert_eq!(response.served_by().tier, Some("people"));
    assert_eq!(response.text().await.unwrap(), "You may.");
    sleep(Duration::from_secs(2)).await;
    let called = posted.lock().unwrap()[1].clone();
    assert_eq!(called.uri(), "https://app.example/answered");
    WebhookSecret::new(SECRET).unwrap().verify(called.headers(), called.body()).unwrap();
    let mut steps = Vec::new();
    while let Ok(event) = events.try_recv() {
        if let Event::HandedOver(handed) = event {
            steps.push(handed.step.name());
        }
    }
    assert_eq!(steps, ["queued", "answered"]);
}

#[tokio::test(start_paused = true)]
async fn one_who_has_waited_is_refused_where_the_tasks_are_not_durable() {
    let (stack, _) = stack(FILE);
    stack.handle().circuits()["sonnet"].force_open();
    let begun = Instant::now();
    let error = stack.service().oneshot(LlmRequest::prompt("May I?")).await.unwrap_err();
    assert!(begun.elapsed() >= Duration::from_secs(299), "{:?}", begun.elapsed());
    let last = error.attempts().last().unwrap();
    assert!(last.message.as_str().contains("a task in memory ends with the process"), "{last:?}");
    assert_eq!(error.attempts().iter().filter(|step| step.tier.as_deref() == Some("people")).count(), 1, "tried once");
}

#[tokio::test(start_paused = true)]
async fn a_task_is_redriven_when_the_circuit_closes() {
    let (stack, _) = stack(FILE);
    let handle = stack.handle();
    let _at_work = handle.hand_over();
    handle.circuits()["sonnet"].force_open();
    let asked = tokio::spawn(stack.service().oneshot(LlmRequest::prompt("May I?")));
    let task = the_task(&handle).await;
    sleep(Duration::from_secs(60)).await;
    assert_eq!(handle.desk().unwrap().show(task).await.unwrap().state, TaskState::Waiting);
    handle.circuits()["sonnet"].force_close();
    let response = asked.await.unwrap().unwrap();
    assert!(response.notes().iter().any(|note| note.contains("answered by sonnet")), "{:?}", response.notes());
    assert!(response.text().await.unwrap().contains("simulated answer"));
    let list = handle.desk().unwrap().list(TaskFilter::new()).await.unwrap();
    assert_eq!(list.len(), 1, "the redrive was no task of its own");
}

#[tokio::test(start_paused = true)]
async fn on_a_quiet_stack_tasks_are_redriven_once_the_cooldown_is_over() {
    let file = "
timeout: 600s
retry: { max_attempts: 1 }
tiers:
  - { name: sonnet, provider: simulated }
  - { name: people, provider: handoff }
handoff: { wait: 5m, redrive: { per_second: 2 } }
";
    for check in ["", "fallback: { recovery_check: { every: 60s, active: true } }"] {
        let sonnet = Simulated::new("sonnet").reply("You may.");
        let model = sonnet.handle();
        let builder = Stack::builder().tasks(MemoryTasks::new()).leaf("sonnet", sonnet).seed(7);
        let stack = builder.build(config(&format!("{file}{check}"))).unwrap();
        let handle = stack.handle();
        let (_at_work, _checking) = (handle.hand_over(), handle.check_recovery());
        model.fail(Fault::Unavailable);
        let mut asked = JoinSet::new();
        for _ in 0..6 {
            let ask = stack.service().oneshot(LlmRequest::prompt("May I?"));
            asked.spawn(async move { ask.await.unwrap().text().await.unwrap() });
            sleep(Duration::from_millis(100)).await;
        }
        assert_eq!(handle.circuits()["sonnet"].state(), CircuitState::Open);
        // Tasks wait for the model that is down, and few calls are made.
        sleep(Duration::from_secs(100)).await;
        let calls = model.stats().calls;
        assert!((6..=10).contains(&calls), "{calls}");
        assert_eq!(handle.desk().unwrap().stats().await.unwrap().answered, 0);

        // Nobody asks anything from here on.
        model.heal();
        sleep(Duration::from_secs(60 + 60)).await;
        let stats = handle.desk().unwrap().stats().await.unwrap();
        assert_eq!((stats.answered, asked.len()), (6, 6), "{stats:?}");
        assert_eq!(handle.circuits()["sonnet"].state(), CircuitState::Closed);
        assert!(asked.join_all().await.iter().all(|answer| answer == "You may."));
    }
}

#[tokio::test(start_paused = true)]
async fn a_request_that_requires_a_person_goes_past_routes_features_and_caches() {
    let file = "
cache: { ttl: 1h }
features: { chat: { tiers: [sonnet] } }
tiers:
  - { name: sonnet, provider: simulated }
  - { name: people, provider: handoff }
handoff: { wait: 10m }
";
    let (stack, _) = stack(file);
    let handle = stack.handle();
    let ask = || LlmRequest::prompt("May I?").with_feature("chat");
    stack.service().oneshot(ask()).await.unwrap();
    let asked = tokio::spawn(stack.service().oneshot(ask().with_human_required(true)));
    let task = the_task(&handle).await;
    assert!(handle.desk().unwrap().show(task).await.unwrap().requires_human);
    handle.desk().unwrap().answer(task, "ana", "You may.").await.unwrap();
    assert_eq!(asked.await.unwrap().unwrap().text().await.unwrap(), "You may.");
    let again = stack.service().oneshot(ask()).await.unwrap();
    assert!(again.text().await.unwrap().contains("simulated answer"), "a person's answer was to that one request");
}

#[tokio::test(start_paused = true)]
async fn a_reload_keeps_those_who_wait_and_changes_the_rest() {
    let (stack, posted) = stack(FILE);
    let handle = stack.handle();
    let _at_work = handle.hand_over();
    handle.circuits()["sonnet"].force_open();
    let asked = tokio::spawn(stack.service().oneshot(LlmRequest::prompt("May I?")));
    let task = the_task(&handle).await;
    sleep(Duration::from_secs(1)).await;
    handle.reload(config(&FILE.replace("app.example/answered", "app.example/other"))).unwrap();
    sleep(Duration::from_secs(1)).await;
    let answered_at = Instant::now();
    handle.desk().unwrap().answer(task, "ana", "You may.").await.unwrap();
    assert_eq!(asked.await.unwrap().unwrap().text().await.unwrap(), "You may.");
    assert!(answered_at.elapsed() < Duration::from_millis(5), "at once, as at one desk");
    sleep(Duration::from_secs(2)).await;
    assert_eq!(posted.lock().unwrap()[1].uri(), "https://app.example/other");
}

#[tokio::test(start_paused = true)]
async fn people_need_a_store_and_callbacks_a_secret() {
    let error = Stack::builder()
        .environment(Environment::from_iter([] as [(String, String); 0]))
        .build(config(FILE))
        .unwrap_err();
    assert!(error.to_string().contains("the environment variable CALLBACK_SECRET is not set"), "{error}");
    let environment = || Environment::from_iter([("CALLBACK_SECRET", SECRET)]);
    let error = Stack::builder().environment(environment()).build(config(FILE)).unwrap_err();
    assert!(error.to_string().contains("sqlite:steadfast.db"), "{error}");
    let error = Config::from_str(FILE, Format::Yaml).unwrap_err();
    assert_eq!(error.problems()[0].line, 5, "{error}");
    let wrong = Environment::from_iter([("CALLBACK_SECRET", "short")]);
    let error = Stack::builder().environment(wrong).tasks(MemoryTasks::new()).build(config(FILE)).unwrap_err();
    assert!(error.to_string().contains("it is too short") && !error.to_string().contains("short`"), "{error}");
}

#[tokio::test]
async fn what_a_file_names_is_where_the_tasks_are_over_reloads_and_restarts() {
    let folder = std::env::temp_dir().join(format!("steadfast-handoff-file-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let file = format!(
        "stores: {{ durable: 'sqlite:{}' }}\ntiers:\n  - {{ name: people, provider: handoff, text: 'Your ticket is {{task_id}}.' }}\n",
        folder.join("tasks.db").display()
    );
    let config = || Config::from_str(&file, Format::Yaml).unwrap();
    let stack = Stack::from_config(config()).unwrap();
    let response = stack.service().oneshot(LlmRequest::prompt("May I?")).await.unwrap();
    let task: TaskId = response.task_id().unwrap().parse().unwrap();
    assert_eq!(response.text().await.unwrap(), format!("Your ticket is {task}."));
    let desk = stack.handle().desk().unwrap();
    stack.handle().reload(config()).unwrap();
    desk.claim(task, "ana").await.unwrap();
    drop((stack, desk));
    let stack = Stack::from_config(config()).unwrap();
    let desk = stack.handle().desk().unwrap();
    assert_eq!(desk.show(task).await.unwrap().claim.unwrap().by.name, "ana");
    desk.answer(task, "ana", "You may.").await.unwrap();
    drop((stack, desk));
    std::fs::remove_dir_all(&folder).unwrap();
}
