//! A request that no model can answer is handed to people: written down, told of, answered once.

mod configured;
mod deliveries;
mod redrive;

use std::time::Duration;

use steadfast::{
    DegradedReason, ErrorKind, FallbackLayer, LlmError, LlmRequest, LlmResponse,
    layers::fallback::{FeaturePolicy, SessionPolicy, Tier, TierSettings},
    provider_fn,
    providers::Canned,
};
use steadfast_handoff::{Desk, DeskError, Handoff, MemoryTasks, TaskFilter, TaskId, TaskState};
use tokio::time::{Instant, sleep, timeout};
use tower::{Service, ServiceBuilder, ServiceExt};

/// The secret that signs callbacks.
const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";

fn desk() -> Desk {
    Desk::new(MemoryTasks::new())
}

/// A model that is down, and people after it.
fn stack(
    people: Handoff,
) -> impl Service<LlmRequest, Response = LlmResponse, Error = LlmError, Future: Send> + Clone + Send + Sync + 'static {
    let down = provider_fn(|_| async {
        Err::<LlmResponse, _>(LlmError::new(ErrorKind::Overloaded, "no capacity").with_model("anthropic", "claude"))
    });
    ServiceBuilder::new().layer(FallbackLayer::new("sonnet").push(Tier::new("people", people).human())).service(down)
}

fn task_of(response: &LlmResponse) -> TaskId {
    response.task_id().expect("a task").parse().expect("a task's id")
}

/// The one task that there is, as soon as it is there.
async fn the_task(desk: &Desk) -> TaskId {
    loop {
        if let [task] = &desk.list(TaskFilter::new()).await.unwrap()[..] {
            return task.id;
        }
        sleep(Duration::from_millis(1)).await;
    }
}

#[tokio::test(start_paused = true)]
async fn when_every_model_is_down_the_request_is_a_task_that_says_why() {
    let desk = desk();
    let request = LlmRequest::prompt("Cancel my contract.").with_feature("chat").with_session("s-1");
    let response = stack(Handoff::new(&desk).allow_volatile()).oneshot(request).await.unwrap();
    let degraded = response.degraded().unwrap();
    assert_eq!((degraded.level, degraded.reason), (5, DegradedReason::Failure(ErrorKind::Overloaded)));
    assert_eq!(response.served_by().to_string(), "people (handoff pending, 2 attempts)");

    let task = desk.show(task_of(&response)).await.unwrap();
    assert_eq!((task.state, task.reason.as_str()), (TaskState::Waiting, "overloaded"));
    assert_eq!((task.feature.as_deref(), task.session.as_deref()), (Some("chat"), Some("s-1")));
    assert_eq!(task.request.chat().unwrap().messages[0].text(), "Cancel my contract.");
    let [tried] = &task.attempts[..] else { panic!("{:?}", task.attempts) };
    assert_eq!((tried.tier.as_deref(), tried.model.as_deref()), (Some("sonnet"), Some("claude")));
    assert_eq!((tried.kind.as_deref(), tried.message.as_str()), (Some("overloaded"), "no capacity"));
    assert!(response.text().await.unwrap().contains(&task.id.to_string()));
}

#[tokio::test(start_paused = true)]
async fn a_task_that_would_not_outlive_the_process_is_not_called_queued() {
    let desk = desk();
    let error = Handoff::new(&desk).oneshot(LlmRequest::prompt("hello")).await.unwrap_err();
    assert!(error.to_string().contains("in memory"), "{error}");
    assert_eq!(desk.stats().await.unwrap().waiting, 0, "and none was made");

    let waits = Handoff::new(&desk).wait_up_to(Duration::from_secs(1));
    let error = waits.oneshot(LlmRequest::prompt("hello")).await.unwrap_err();
    assert!(error.to_string().contains("no person answered in time"), "{error}");
}

#[tokio::test(start_paused = true)]
async fn a_full_store_is_an_error_and_the_next_tier_answers() {
    let desk = Desk::new(MemoryTasks::new().max_tasks(1));
    let people = Handoff::new(&desk).allow_volatile();
    let first = people.clone().oneshot(LlmRequest::prompt("hello")).await.unwrap();
    assert!(first.task_id().is_some());
    let llm = ServiceBuilder::new()
        .layer(FallbackLayer::new("people").primary(TierSettings::new().human()).tier("canned", Canned::text("later")))
        .service(people);
    let second = llm.oneshot(LlmRequest::prompt("hello")).await.unwrap();
    assert!(second.attempts()[0].message.as_str().contains("the store is full"), "{:?}", second.attempts());
    assert_eq!(second.task_id(), None);
    assert_eq!(second.text().await.unwrap(), "later");
}

#[tokio::test(start_paused = true)]
async fn an_answer_resumes_who_waits_at_once() {
    let desk = desk();
    let asked = tokio::spawn(stack(Handoff::new(&desk).wait()).oneshot(LlmRequest::prompt("May I?")));
    let task = the_task(&desk).await;
    sleep(Duration::from_secs(3600)).await;
    let answered_at = Instant::now();
    desk.answer(task, "ana", "You may.").await.unwrap();
    let response = asked.await.unwrap().unwrap();
    assert!(answered_at.elapsed() < Duration::from_millis(5));
    assert_eq!(task_of(&response), task);
    assert_eq!(response.served_by().to_string(), "people (handoff person, 2 attempts)");
    assert!(response.degraded().is_none(), "a person's answer is no worse");
    assert_eq!(response.text().await.unwrap(), "You may.");
}

#[tokio::test(start_paused = true)]
async fn an_answer_of_another_process_resumes_who_waits_within_a_second() {
    let tasks = MemoryTasks::new();
    let (here, there) = (Desk::new(tasks.clone()), Desk::new(tasks));
    let asked = tokio::spawn(Handoff::new(&here).wait().oneshot(LlmRequest::prompt("May I?")));
    let task = the_task(&there).await;
    sleep(Duration::from_secs(100)).await;
    let answered_at = Instant::now();
    there.answer(task, "ana", "You may.").await.unwrap();
    assert_eq!(asked.await.unwrap().unwrap().text().await.unwrap(), "You may.");
    assert!(answered_at.elapsed() <= Duration::from_millis(1010), "{:?}", answered_at.elapsed());
}

#[tokio::test(start_paused = true)]
async fn who_has_waited_until_the_deadline_is_told_that_it_is_pending_and_polls_later() {
    let desk = desk();
    let begun = Instant::now();
    let people = Handoff::new(&desk).wait().allow_volatile();
    let request = LlmRequest::prompt("May I?").with_timeout(Duration::from_secs(30));
    let llm = ServiceBuilder::new().layer(steadfast::TimeoutLayer::new(Duration::from_secs(20))).service(people);
    let response = llm.oneshot(request).await.unwrap();
    assert_eq!(response.degraded().unwrap().level, 5);
    let waited = begun.elapsed();
    assert!(waited > Duration::from_millis(19_500) && waited < Duration::from_secs(20), "{waited:?}");

    let task = task_of(&response);
    assert_eq!(desk.show(task).await.unwrap().result().output, None);
    desk.answer(task, "ana", "You may.").await.unwrap();
    let result = desk.show(task).await.unwrap().result();
    assert_eq!((result.state, result.output.as_deref()), (TaskState::Answered, Some("You may.")));
    assert_eq!((result.model.as_deref(), result.tier.as_deref()), (Some("person"), Some("handoff")));
}

#[tokio::test(start_paused = true)]
async fn a_caller_who_leaves_takes_no_task_along() {
    let desk = desk();
    let waits = Handoff::new(&desk).wait().oneshot(LlmRequest::prompt("May I?"));
    assert!(timeout(Duration::from_secs(5), waits).await.is_err());
    let task = the_task(&desk).await;
    assert_eq!(desk.show(task).await.unwrap().state, TaskState::Waiting);
    desk.answer(task, "ana", "You may.").await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_request_that_requires_a_person_goes_there_whatever_works() {
    let desk = desk();
    let model = provider_fn(|_| async { Ok::<_, LlmError>(LlmResponse::from_text("a model")) });
    let layer = FallbackLayer::new("model")
        .push(Tier::new("other", Canned::text("another")))
        .push(Tier::new("people", Handoff::new(&desk).allow_volatile()).human())
        .session(SessionPolicy::Sticky)
        .feature("code", FeaturePolicy::new().tiers(["model"]).worst_level(1));
    let llm = ServiceBuilder::new().layer(layer).service(model);
    let ask =
        |required| LlmRequest::prompt("May I?").with_feature("code").with_session("s").with_human_required(required);
    let response = llm.clone().oneshot(ask(true)).await.unwrap();
    assert_eq!(response.degraded().unwrap().reason, DegradedReason::RequiresHuman);
    assert_eq!(response.served_by().to_string(), "people (handoff pending, 1 attempt)");
    let task = desk.show(task_of(&response)).await.unwrap();
    assert_eq!((task.reason.as_str(), task.requires_human), ("requires_human", true));
    let next = llm.oneshot(ask(false)).await.unwrap();
    assert_eq!(next.text().await.unwrap(), "a model", "the session did not stay with people");
}

#[tokio::test(start_paused = true)]
async fn a_request_that_requires_a_person_fails_where_there_are_none() {
    let llm = ServiceBuilder::new()
        .layer(FallbackLayer::new("model").tier("canned", Canned::text("later")))
        .service(Canned::text("a model"));
    let error = llm.oneshot(LlmRequest::prompt("May I?").with_human_required(true)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Exhausted);
    assert!(error.to_string().contains("requires a person"), "{error}");
}

#[tokio::test(start_paused = true)]
async fn a_repeat_under_the_same_key_is_the_same_task_and_has_its_answer() {
    let desk = desk();
    let people = Handoff::new(&desk).allow_volatile();
    let ask = |text: &str, key: &str| people.clone().oneshot(LlmRequest::prompt(text).with_idempotency_key(key));
    let first = task_of(&ask("May I?", "k").await.unwrap());
    assert_eq!(task_of(&ask("May I?", "k").await.unwrap()), first);
    assert_ne!(task_of(&ask("May I?", "other").await.unwrap()), first);
    assert_ne!(task_of(&ask("May we?", "k").await.unwrap()), first);
    desk.answer(first, "ana", "You may.").await.unwrap();
    let again = ask("May I?", "k").await.unwrap();
    assert_eq!(again.text().await.unwrap(), "You may.");
}

#[tokio::test(start_paused = true)]
async fn of_many_who_answer_at_once_one_does() {
    let desk = desk();
    let people = Handoff::new(&desk).allow_volatile();
    let task = task_of(&people.oneshot(LlmRequest::prompt("May I?")).await.unwrap());
    let answers = (0..50).map(|who| {
        let desk = desk.clone();
        tokio::spawn(async move { desk.answer(task, &format!("person {who}"), format!("answer {who}")).await })
    });
    let mut answered = 0;
    for answer in answers.collect::<Vec<_>>() {
        match answer.await.unwrap() {
            Ok(_) => answered += 1,
            Err(error) => assert!(matches!(error, DeskError::AlreadyAnswered { .. }), "{error}"),
        }
    }
    assert_eq!(answered, 1);
}

#[tokio::test(start_paused = true)]
async fn many_who_wait_each_have_their_own_answer() {
    let desk = desk();
    let people = Handoff::new(&desk).wait();
    let asked: Vec<_> =
        (0..500).map(|n| tokio::spawn(people.clone().oneshot(LlmRequest::prompt(format!("{n}"))))).collect();
    while desk.stats().await.unwrap().waiting < 500 {
        sleep(Duration::from_millis(10)).await;
    }
    for task in desk.list(TaskFilter::new().limit(1000)).await.unwrap() {
        desk.answer(task.id, "ana", format!("to {}", task.preview)).await.unwrap();
    }
    for (n, asked) in asked.into_iter().enumerate() {
        assert_eq!(asked.await.unwrap().unwrap().text().await.unwrap(), format!("to {n}"));
    }
}

#[tokio::test(start_paused = true)]
async fn an_answer_with_nothing_in_it_or_from_nobody_is_refused() {
    let desk = desk();
    let people = Handoff::new(&desk).allow_volatile();
    let task = task_of(&people.oneshot(LlmRequest::prompt("May I?")).await.unwrap());
    assert!(matches!(desk.answer(task, "ana", "").await, Err(DeskError::Invalid { .. })));
    assert!(matches!(desk.answer(task, "  ", "yes").await, Err(DeskError::Invalid { .. })));
    assert!(matches!(desk.claim(task, "").await, Err(DeskError::Invalid { .. })));
}

#[tokio::test(start_paused = true)]
async fn a_request_that_is_too_large_is_not_handed_over() {
    let people = Handoff::new(&desk()).allow_volatile().max_bytes(1000);
    let error = people.oneshot(LlmRequest::prompt("x".repeat(1001))).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::TooLarge);
}

#[tokio::test(start_paused = true)]
async fn no_word_of_what_was_asked_is_shown() {
    let desk = desk();
    let people = Handoff::new(&desk).allow_volatile();
    let response = people.oneshot(LlmRequest::prompt("a secret")).await.unwrap();
    let task = desk.answer(task_of(&response), "ana", "a secret").await.unwrap();
    let list = desk.list(TaskFilter::new()).await.unwrap();
    assert!(!format!("{desk:?} {task:?} {list:?} {:?} {response:?}", task.result()).contains("secret"));
}

#[tokio::test(start_paused = true)]
async fn a_caller_who_is_cancelled_at_any_moment_leaves_a_whole_task_or_none() {
    for polls in 0..10 {
        let desk = desk();
        let mut asked = Box::pin(Handoff::new(&desk).wait().oneshot(LlmRequest::prompt("May I?")));
        for _ in 0..polls {
            assert!(futures_util::poll!(asked.as_mut()).is_pending());
            sleep(Duration::from_millis(100)).await;
        }
        drop(asked);
        let tasks = desk.list(TaskFilter::new()).await.unwrap();
        assert!(tasks.len() <= 1 && (polls == 0) == tasks.is_empty());
        for task in tasks {
            desk.answer(task.id, "ana", "You may.").await.unwrap();
        }
    }
}

#[tokio::test(start_paused = true)]
async fn who_waits_under_an_idempotency_key_is_told_in_time_too() {
    let desk = desk();
    let llm = ServiceBuilder::new()
        .layer(steadfast::TimeoutLayer::new(Duration::from_secs(20)))
        .layer(steadfast::IdempotencyLayer::new())
        .service(Handoff::new(&desk).wait().allow_volatile());
    let ask = || LlmRequest::prompt("May I?").with_idempotency_key("k");
    let response = llm.clone().oneshot(ask()).await.unwrap();
    let task = task_of(&response);
    assert!(response.text().await.unwrap().contains("A person will answer"));
    desk.answer(task, "ana", "You may.").await.unwrap();
    let again = llm.oneshot(ask()).await.unwrap();
    assert_eq!(again.text().await.unwrap(), "You may.");
}
