//! Tasks are given to a model again when one works, and its recovery is not its next outage.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst},
    },
    time::Duration,
};

use steadfast::{
    ErrorKind, Event, Events, FallbackLayer, LlmError, LlmRequest, LlmResponse, LlmService,
    events::{CircuitReason, CircuitState},
    layers::fallback::Tier,
    provider_fn,
    providers::Canned,
};
use steadfast_handoff::{ClaimantKind, Desk, DeskError, Handoff, MemoryTasks, Redrive, TaskFilter, TaskId, TaskState};
use tokio::time::{Instant, sleep};
use tower::{ServiceBuilder, ServiceExt};

use crate::handoff::task_of;

/// A model that can be switched, and what it was asked.
#[derive(Clone, Default)]
struct Model {
    works: Arc<AtomicBool>,
    asked: Arc<Mutex<Vec<(Instant, String)>>>,
    under_way: Arc<AtomicUsize>,
    most: Arc<AtomicUsize>,
}

impl Model {
    fn leaf(&self) -> impl LlmService<Error = LlmError, Future: Send> + Clone + Send + Sync + 'static {
        let model = self.clone();
        provider_fn(move |request: LlmRequest| {
            let model = model.clone();
            async move {
                let text = request.chat()?.messages[0].text();
                model.asked.lock().unwrap().push((Instant::now(), text.clone()));
                model.most.fetch_max(model.under_way.fetch_add(1, SeqCst) + 1, SeqCst);
                sleep(Duration::from_secs(2)).await;
                model.under_way.fetch_sub(1, SeqCst);
                match text.as_str() {
                    _ if !model.works.load(SeqCst) => Err(LlmError::new(ErrorKind::Overloaded, "no capacity")),
                    "poison" => Err(LlmError::new(ErrorKind::Timeout, "no answer in time")),
                    "wrong" => Err(LlmError::new(ErrorKind::InvalidRequest, "no such field")),
                    _ => Ok(LlmResponse::from_text(format!("to {text}")).with_model("openai", "gpt-4o")),
                }
            }
        })
    }

    fn asked(&self) -> Vec<String> {
        self.asked.lock().unwrap().iter().map(|(_, text)| text.clone()).collect()
    }
}

async fn hand_over(desk: &Desk, request: LlmRequest) -> TaskId {
    // By the clock, so that their order is known.
    sleep(Duration::from_millis(1)).await;
    task_of(&Handoff::new(desk).allow_volatile().oneshot(request).await.unwrap())
}

async fn hand_over_all(desk: &Desk, count: usize) -> Vec<TaskId> {
    let mut ids = Vec::new();
    for n in 0..count {
        ids.push(hand_over(desk, LlmRequest::prompt(format!("task {n}"))).await);
    }
    ids
}

#[tokio::test(start_paused = true)]
async fn when_a_model_works_again_the_oldest_are_answered_first_and_slowly() {
    let (desk, model, events) = (Desk::new(MemoryTasks::new()), Model::default(), Events::new());
    let ids = hand_over_all(&desk, 20).await;
    let _redriving = Redrive::new(&desk, model.leaf()).per_second(2.0).at_once(2).events(&events).start();
    sleep(Duration::from_secs(3600)).await;
    let probes = model.asked();
    let first_two = |text: &String| text == "task 0" || text == "task 1";
    assert!(probes.len() < 30 && probes.iter().all(first_two), "it is looked at twice in a while: {probes:?}");
    assert_eq!(model.most.load(SeqCst), 1, "one at a time while it fails");

    model.works.store(true, SeqCst);
    let (from, to) = (CircuitState::HalfOpen, CircuitState::Closed);
    let reason = CircuitReason::Recovered;
    events.send(Event::CircuitChanged { circuit: "gpt".into(), from, to, reason, failure: None, at: Instant::now() });
    sleep(Duration::from_secs(60)).await;
    assert_eq!(desk.stats().await.unwrap().answered, 20);
    let after: Vec<String> = model.asked()[probes.len()..].to_vec();
    assert_eq!(after, (0..20).map(|n| format!("task {n}")).collect::<Vec<_>>());
    assert_eq!(model.most.load(SeqCst), 2);
    let at: Vec<Instant> = model.asked.lock().unwrap()[probes.len()..].iter().map(|(at, _)| *at).collect();
    assert!(at.windows(2).all(|two| two[1] - two[0] >= Duration::from_millis(500)), "at most 2 a second");

    let task = desk.show(ids[3]).await.unwrap();
    let result = task.result();
    assert_eq!(task.answer.unwrap().by.kind, ClaimantKind::Redrive);
    assert_eq!((result.output.as_deref(), result.model.as_deref()), (Some("to task 3"), Some("gpt-4o")));
}

#[tokio::test(start_paused = true)]
async fn a_redrive_pauses_when_the_model_fails_again_and_loses_no_task() {
    let (desk, model) = (Desk::new(MemoryTasks::new()), Model::default());
    model.works.store(true, SeqCst);
    hand_over_all(&desk, 100).await;
    let _redriving = Redrive::new(&desk, model.leaf()).start();
    sleep(Duration::from_secs(20)).await;
    model.works.store(false, SeqCst);
    sleep(Duration::from_secs(10)).await;
    let asked = model.asked().len();
    sleep(Duration::from_secs(45)).await;
    assert!(model.asked().len() <= asked + 2, "it is left alone");
    let stats = desk.stats().await.unwrap();
    assert!(stats.answered > 5 && stats.answered + stats.waiting + stats.redriving == 100, "{stats:?}");
    model.works.store(true, SeqCst);
    sleep(Duration::from_secs(900)).await;
    assert_eq!(desk.stats().await.unwrap().answered, 100);
}

#[tokio::test(start_paused = true)]
async fn a_request_that_is_wrong_everywhere_waits_for_a_person_and_holds_up_nobody() {
    let (desk, model) = (Desk::new(MemoryTasks::new()), Model::default());
    model.works.store(true, SeqCst);
    let wrong = hand_over(&desk, LlmRequest::prompt("wrong")).await;
    let right = hand_over(&desk, LlmRequest::prompt("right")).await;
    let _redriving = Redrive::new(&desk, model.leaf()).start();
    sleep(Duration::from_secs(600)).await;
    assert_eq!(desk.show(right).await.unwrap().state, TaskState::Answered);
    assert_eq!(desk.show(wrong).await.unwrap().state, TaskState::Waiting);
    assert_eq!(model.asked(), ["wrong", "right"]);
}

#[tokio::test(start_paused = true)]
async fn a_task_that_fails_while_others_are_answered_holds_them_up_no_longer() {
    let (desk, model) = (Desk::new(MemoryTasks::new()), Model::default());
    model.works.store(true, SeqCst);
    let poison = hand_over(&desk, LlmRequest::prompt("poison")).await;
    let _redriving = Redrive::new(&desk, model.leaf()).start();
    for n in 0..10 {
        let id = hand_over(&desk, LlmRequest::prompt(format!("task {n}"))).await;
        sleep(Duration::from_secs(700)).await;
        assert_eq!(desk.show(id).await.unwrap().state, TaskState::Answered);
    }
    assert_eq!(desk.show(poison).await.unwrap().state, TaskState::Waiting);
    let asked = model.asked().iter().filter(|text| *text == "poison").count();
    sleep(Duration::from_secs(36_000)).await;
    assert_eq!(model.asked().iter().filter(|text| *text == "poison").count(), asked, "it waits for a person");
}

#[tokio::test(start_paused = true)]
async fn what_no_model_may_answer_holds_up_no_other() {
    let (desk, model) = (Desk::new(MemoryTasks::new()), Model::default());
    model.works.store(true, SeqCst);
    let ask = |feature: &str| LlmRequest::prompt("hello").with_feature(feature);
    let legal = hand_over(&desk, ask("legal")).await;
    let chat = hand_over(&desk, ask("chat")).await;
    let layer = FallbackLayer::new("model").push(Tier::new("people", Handoff::new(&desk)).human());
    let stack = ServiceBuilder::new().layer(layer.feature("legal", ["people"])).service(model.leaf());
    let _redriving = Redrive::new(&desk, stack).start();
    sleep(Duration::from_secs(60)).await;
    assert_eq!(desk.show(chat).await.unwrap().state, TaskState::Answered);
    assert_eq!(desk.show(legal).await.unwrap().state, TaskState::Waiting);
}

#[tokio::test(start_paused = true)]
async fn what_requires_a_person_is_given_to_a_model_only_by_hand() {
    let (desk, model) = (Desk::new(MemoryTasks::new()), Model::default());
    model.works.store(true, SeqCst);
    let id = hand_over(&desk, LlmRequest::prompt("May I?").with_human_required(true)).await;
    let other = hand_over(&desk, LlmRequest::prompt("other")).await;
    let _redriving = Redrive::new(&desk, model.leaf()).only_when_ordered().start();
    sleep(Duration::from_secs(600)).await;
    assert_eq!(desk.stats().await.unwrap().waiting, 2);
    desk.redrive(id).await.unwrap();
    sleep(Duration::from_secs(3)).await;
    assert_eq!(desk.show(id).await.unwrap().state, TaskState::Answered);
    assert_eq!(desk.show(other).await.unwrap().state, TaskState::Waiting);
    assert_eq!(desk.redrive_all().await.unwrap(), 1);
    sleep(Duration::from_secs(3)).await;
    assert_eq!(desk.show(other).await.unwrap().state, TaskState::Answered);
    assert!(matches!(desk.redrive(other).await, Err(DeskError::AlreadyAnswered { .. })));
}

#[tokio::test(start_paused = true)]
async fn a_person_and_a_redrive_exclude_each_other() {
    let (desk, model) = (Desk::new(MemoryTasks::new()), Model::default());
    model.works.store(true, SeqCst);
    let ids = hand_over_all(&desk, 2).await;
    desk.claim(ids[0], "ana").await.unwrap();
    let _redriving = Redrive::new(&desk, model.leaf()).start();
    sleep(Duration::from_secs(1)).await;
    let refused = desk.answer(ids[1], "ana", "mine").await.unwrap_err();
    assert!(matches!(refused, DeskError::ClaimedByAnother { .. }), "{refused}");
    sleep(Duration::from_secs(10)).await;
    assert_eq!(model.asked(), ["task 1"]);
    desk.answer(ids[0], "ana", "mine").await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn what_was_under_way_when_a_redrive_ended_is_free_again() {
    let (desk, model) = (Desk::new(MemoryTasks::new()), Model::default());
    model.works.store(true, SeqCst);
    let id = hand_over(&desk, LlmRequest::prompt("hello")).await;
    let redriving = Redrive::new(&desk, model.leaf()).start();
    sleep(Duration::from_secs(1)).await;
    assert_eq!(desk.show(id).await.unwrap().state, TaskState::Redriving);
    drop(redriving);
    sleep(Duration::from_secs(91)).await;
    desk.claim(id, "ana").await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_fixed_sentence_is_no_answer_and_a_task_is_handed_to_nobody_again() {
    let desk = Desk::new(MemoryTasks::new());
    let id = hand_over(&desk, LlmRequest::prompt("hello")).await;
    for model in [
        steadfast::BoxLlmService::new(Canned::text("later")),
        steadfast::BoxLlmService::new(Handoff::new(&desk).allow_volatile()),
    ] {
        let _redriving = Redrive::new(&desk, model).every(Duration::from_secs(1)).start();
        sleep(Duration::from_secs(60)).await;
        assert_eq!(desk.list(TaskFilter::new()).await.unwrap().len(), 1);
        assert_eq!(desk.show(id).await.unwrap().state, TaskState::Waiting);
    }
}

#[tokio::test(start_paused = true)]
async fn a_gate_that_is_closed_keeps_tasks_from_the_model() {
    let (desk, model, open) = (Desk::new(MemoryTasks::new()), Model::default(), Arc::new(AtomicBool::new(false)));
    model.works.store(true, SeqCst);
    hand_over_all(&desk, 2).await;
    let gate = open.clone();
    let _redriving = Redrive::new(&desk, model.leaf()).gate(move || gate.load(SeqCst)).start();
    sleep(Duration::from_secs(300)).await;
    assert!(model.asked().is_empty());
    open.store(true, SeqCst);
    sleep(Duration::from_secs(60)).await;
    assert_eq!(desk.stats().await.unwrap().answered, 2);
}
