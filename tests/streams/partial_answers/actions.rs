//! The action that an answer asks for is done once, and only if the answer is whole.

use std::{
    future::pending,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    time::Duration,
};

use futures_util::future::join_all;
use steadfast::{
    LlmRequest,
    chat::{FinishReason, Message, Part, Role, ToolCall},
    layers::idempotency::{IdempotencyStore, MemoryIdempotency},
};
use steadfast_agent::StoredActions;
use steadfast_agent::{
    ActionClaim, ActionError, ActionKey, ActionStore, ActionStoreFuture, Actions, CompletedAnswer, KeyBy,
    MemoryActions, Scope,
};
use tokio::time::{Instant, sleep, timeout};
use tower::BoxError;

use crate::partial_answers::{SECOND, Tool};

/// A completed answer with these calls.
fn answer(calls: &[ToolCall]) -> CompletedAnswer {
    let mut message = Message::new(Role::Assistant, calls.iter().cloned().map(Part::ToolCall).collect());
    message.finish = Some(FinishReason::ToolUse);
    CompletedAnswer::vouched(message)
}

fn pay(id: &str) -> ToolCall {
    ToolCall::new(id, "pay", r#"{"amount":1}"#)
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_stopped_short_is_not_acted_on() {
    for reason in [FinishReason::Length, FinishReason::Filtered, FinishReason::ModelError("x".into())] {
        let mut message = answer(&[pay("1")]).into_message();
        message.finish = Some(reason.clone());
        let (tool, answer) = (Tool::default(), CompletedAnswer::vouched(message));
        let error = Actions::new().act(&"turn".into(), &answer, tool.uses()).await.unwrap_err();
        assert!(matches!(error, ActionError::StoppedShort(is) if is == reason));
        assert_eq!(tool.counts(), (0, 0));
    }
}

#[tokio::test(start_paused = true)]
async fn a_repeated_or_retried_answer_has_the_first_result_and_the_next_turn_its_own() {
    let (tool, actions, scope) = (Tool::default(), Actions::new(), Scope::from("turn-1"));
    let twice = answer(&[pay("1"), pay("2")]);
    let first = actions.act(&scope, &twice, tool.uses()).await.unwrap();
    assert_eq!(first.iter().map(|acted| acted.repeated).collect::<Vec<_>>(), [false, true], "a model repeats itself");
    // The same answer again, and another one with the same call in other words.
    let reworded = answer(&[ToolCall::new("toolu_77", "pay", r#" { "amount" : 1.0 } "#)]);
    for again in [&twice, &reworded] {
        for acted in actions.clone().act(&scope, again, tool.uses()).await.unwrap() {
            assert_eq!((acted.result.as_deref().unwrap(), acted.repeated), ("pay number 1", true));
            let result = acted.tool_result();
            assert_eq!((&result.call_id, result.is_error), (&acted.call.id, false), "the id is this answer's");
        }
    }
    assert_eq!(tool.counts(), (1, 1));
    let other =
        answer(&[ToolCall::new("1", "pay", r#"{"amount":2}"#), ToolCall::new("1", "refund", r#"{"amount":1}"#)]);
    actions.act(&scope, &other, tool.uses()).await.unwrap();
    actions.act(&"turn-2".into(), &twice, tool.uses()).await.unwrap();
    assert_eq!(tool.counts(), (4, 4));
}

#[tokio::test(start_paused = true)]
async fn by_their_ids_the_same_call_twice_is_two_and_another_call_under_an_id_is_refused() {
    let (tool, actions) = (Tool::default(), Actions::new().key_by(KeyBy::CallId));
    let scope = Scope::from("turn");
    for _ in 0..2 {
        actions.act(&scope, &answer(&[pay("1"), pay("2")]), tool.uses()).await.unwrap();
    }
    assert_eq!(tool.counts(), (2, 2));
    let other = answer(&[ToolCall::new("1", "pay", "{}")]);
    let acted = actions.act(&scope, &other, tool.uses()).await.unwrap();
    assert!(matches!(acted[0].result, Err(ActionError::Conflict)));
    assert!(acted[0].tool_result().is_error);
    assert_eq!(tool.counts(), (2, 2));
}

#[tokio::test(start_paused = true)]
async fn of_a_thousand_who_ask_at_once_one_acts_and_all_have_its_result() {
    let (tool, actions) = (Tool::default(), Actions::new());
    let tasks = (0..1000).map(|n| {
        let (tool, actions) = (tool.clone(), actions.clone());
        tokio::spawn(async move {
            let acted = actions.act(&"turn".into(), &answer(&[pay(&n.to_string())]), tool.uses()).await.unwrap();
            acted[0].result.clone().unwrap()
        })
    });
    let begun = Instant::now();
    let results = join_all(tasks).await;
    assert!(results.into_iter().all(|result| result.unwrap() == "pay number 1"));
    assert_eq!((tool.counts(), begun.elapsed()), ((1, 1), SECOND));
}

#[tokio::test(start_paused = true)]
async fn one_who_leaves_stops_nothing_and_whoever_comes_back_has_the_result() {
    let (tool, actions, scope) = (Tool::default(), Actions::new(), Scope::from("turn"));
    let both = answer(&[pay("1"), ToolCall::new("2", "mail", "{}")]);
    let left = timeout(SECOND / 2, actions.act(&scope, &both, tool.uses())).await;
    assert!(left.is_err());
    assert_eq!(tool.counts(), (1, 0));
    let acted = actions.act(&scope, &both, tool.uses()).await.unwrap();
    assert_eq!(acted[0].result.as_deref().unwrap(), "pay number 1");
    assert!(acted[0].repeated && !acted[1].repeated, "what was not begun yet is done now");
    assert_eq!(tool.counts(), (2, 2));
}

#[tokio::test(start_paused = true)]
async fn a_failed_action_fails_all_who_wait_for_it_and_may_be_tried_again() {
    let (actions, answer) = (Actions::<String>::new(), answer(&[]));
    let key = ActionKey::new(&"turn".into(), "send");
    let tries = Arc::new(AtomicUsize::new(0));
    let send = |how: &'static str| {
        let tries = tries.clone();
        move || async move {
            let tried = tries.fetch_add(1, SeqCst) + 1;
            sleep(SECOND).await;
            assert_ne!(how, "panics");
            if how == "fails" { Err(BoxError::from("the door is shut")) } else { Ok(format!("sent at try {tried}")) }
        }
    };
    let all = join_all((0..10).map(|_| actions.once(&key, &answer, send("fails")))).await;
    for error in all {
        assert_eq!(error.unwrap_err().to_string(), "the action failed: the door is shut");
    }
    assert_eq!(tries.load(SeqCst), 1);
    assert!(matches!(actions.once(&key, &answer, send("panics")).await, Err(ActionError::Panicked)));
    assert_eq!(actions.once(&key, &answer, send("works")).await.unwrap(), "sent at try 3");
    assert_eq!(actions.once(&key, &answer, send("fails")).await.unwrap(), "sent at try 3");
}

#[tokio::test(start_paused = true)]
async fn results_are_bounded_in_time_and_in_number() {
    let (tool, store) = (Tool::default(), MemoryActions::with_capacity(100));
    let actions = Actions::with_store(store.clone()).ttl(SECOND * 60);
    let (scope, call) = (Scope::from("turn"), answer(&[pay("1")]));
    for (wait, count) in [(0, 1), (59, 1), (2, 2)] {
        sleep(SECOND * wait).await;
        actions.act(&scope, &call, tool.uses()).await.unwrap();
        assert_eq!(tool.counts().1, count);
    }
    for n in 0..1000 {
        actions.act(&n.to_string().into(), &call, tool.uses()).await.unwrap();
        assert!(store.len() <= 100);
    }
    actions.act(&scope, &call, tool.uses()).await.unwrap();
    assert_eq!(tool.counts().1, 1003, "it went when others came");
    let last = actions.act(&"999".into(), &call, tool.uses()).await.unwrap();
    assert!(last[0].repeated);
    assert_eq!(format!("{actions:?}").matches("in_flight: 0").count(), 1);
}

#[tokio::test(start_paused = true)]
async fn two_processes_with_one_store_act_once() {
    let (tool, store) = (Tool::default(), MemoryActions::new());
    let processes = [0, 1, 2, 3].map(|_| Actions::with_store(store.clone()));
    let call = answer(&[pay("1")]);
    let all = join_all((0..400).map(|n| {
        let (actions, call, tool) = (&processes[n % 4], &call, tool.uses());
        async move { actions.act(&"turn".into(), call, tool).await.unwrap()[0].result.clone().unwrap() }
    }));
    assert!(all.await.iter().all(|result| result == "pay number 1"));
    assert_eq!(tool.counts(), (1, 1));
}

#[tokio::test(start_paused = true)]
async fn an_action_longer_than_its_lease_keeps_it_and_one_of_a_dead_process_is_done_after_it() {
    let store = MemoryActions::<u32>::new();
    let key = ActionKey::new(&"turn".into(), "slow");
    let actions = || Actions::with_store(store.clone()).lease(SECOND * 10);
    let (here, there, whole) = (actions(), actions(), answer(&[]));
    let slow = here.once(&key, &whole, || async {
        sleep(SECOND * 100).await;
        Ok::<_, BoxError>(1)
    });
    let begun = Instant::now();
    let other = async {
        sleep(SECOND * 50).await;
        there.once(&key, &whole, || async { Ok::<_, BoxError>(2) }).await
    };
    let (slow, other) = tokio::join!(slow, other);
    assert_eq!((slow.unwrap(), other.unwrap()), (1, 1));
    assert!(begun.elapsed() <= SECOND * 101);

    // The owner claimed a key and vanished.
    let key = ActionKey::new(&"turn".into(), "abandoned");
    assert!(matches!(store.claim(&key, SECOND * 10).await.unwrap(), ActionClaim::Won { .. }));
    let begun = Instant::now();
    assert_eq!(there.once(&key, &whole, || async { Ok::<_, BoxError>(3) }).await.unwrap(), 3);
    assert_eq!(begun.elapsed(), SECOND * 10);
}

#[tokio::test(start_paused = true)]
async fn one_who_leaves_while_another_process_acts_leaves_nothing_that_would_act_later() {
    let (tool, store, scope) = (Tool::default(), MemoryActions::new(), Scope::from("turn"));
    let (here, call) = (Actions::with_store(store.clone()), answer(&[pay("1")]));
    // The other process dies with it.
    let key = ActionKey::of_call(&scope, &pay("1"), KeyBy::Arguments);
    assert!(matches!(store.claim(&key, SECOND * 10).await.unwrap(), ActionClaim::Won { .. }));
    assert!(timeout(SECOND * 5, here.act(&scope, &call, tool.uses())).await.is_err());
    sleep(SECOND * 100).await;
    assert_eq!(tool.counts(), (0, 0));
    assert!(format!("{here:?}").contains("in_flight: 0"));
    // One caller waits, so that the action is done in the end, whoever came first.
    let first = here.act(&scope, &call, tool.uses());
    assert_eq!(first.await.unwrap()[0].result.as_deref().unwrap(), "pay number 1");
}

/// A store that cannot be asked, or never answers.
struct Down {
    hangs: bool,
}

impl<R: Send + 'static> ActionStore<R> for Down {
    fn claim<'a>(&'a self, _: &'a ActionKey, _: Duration) -> ActionStoreFuture<'a, ActionClaim<R>> {
        Box::pin(async {
            if self.hangs {
                pending::<()>().await;
            }
            Err("no route to host".into())
        })
    }

    fn renew<'a>(&'a self, _: &'a ActionKey, _: u64, _: Duration) -> ActionStoreFuture<'a, bool> {
        unreachable!("nothing was claimed")
    }

    fn complete<'a>(&'a self, _: &'a ActionKey, _: u64, _: R, _: Duration) -> ActionStoreFuture<'a, bool> {
        unreachable!("nothing was claimed")
    }

    fn release<'a>(&'a self, _: &'a ActionKey, _: u64) -> ActionStoreFuture<'a, ()> {
        unreachable!("nothing was claimed")
    }
}

#[tokio::test(start_paused = true)]
async fn where_the_store_cannot_be_asked_nothing_is_begun() {
    for hangs in [false, true] {
        let (tool, actions, begun) = (Tool::default(), Actions::with_store(Down { hangs }), Instant::now());
        let acted = actions.act(&"turn".into(), &answer(&[pay("1")]), tool.uses()).await.unwrap();
        assert!(matches!(acted[0].result, Err(ActionError::Store(_))));
        assert!(begun.elapsed() <= SECOND * 2);
        assert_eq!(tool.counts(), (0, 0));
    }
}

/// A store in memory that fails to write so many results down.
struct Flaky {
    inner: MemoryActions<String>,
    fails: AtomicUsize,
}

impl ActionStore<String> for Flaky {
    fn claim<'a>(&'a self, key: &'a ActionKey, lease: Duration) -> ActionStoreFuture<'a, ActionClaim<String>> {
        self.inner.claim(key, lease)
    }

    fn renew<'a>(&'a self, key: &'a ActionKey, ticket: u64, lease: Duration) -> ActionStoreFuture<'a, bool> {
        self.inner.renew(key, ticket, lease)
    }

    fn complete<'a>(
        &'a self,
        key: &'a ActionKey,
        ticket: u64,
        result: String,
        ttl: Duration,
    ) -> ActionStoreFuture<'a, bool> {
        if self.fails.fetch_update(SeqCst, SeqCst, |left| left.checked_sub(1)).is_ok() {
            return Box::pin(async { Err("the disk is full".into()) });
        }
        self.inner.complete(key, ticket, result, ttl)
    }

    fn release<'a>(&'a self, key: &'a ActionKey, ticket: u64) -> ActionStoreFuture<'a, ()> {
        self.inner.release(key, ticket)
    }
}

#[tokio::test(start_paused = true)]
async fn a_result_that_cannot_be_written_down_is_given_and_its_lease_keeps_others_from_it() {
    for (fails, done_again) in [(3, false), (4, true)] {
        let (tool, inner) = (Tool::default(), MemoryActions::new());
        let actions =
            Actions::with_store(Flaky { inner: inner.clone(), fails: AtomicUsize::new(fails) }).lease(SECOND * 30);
        let (scope, call) = (Scope::from("turn"), answer(&[pay("1")]));
        let first = actions.act(&scope, &call, tool.uses()).await.unwrap();
        assert_eq!(first[0].result.as_deref().unwrap(), "pay number 1");
        let begun = Instant::now();
        let again = actions.act(&scope, &call, tool.uses()).await.unwrap();
        assert_eq!((again[0].repeated, tool.counts().1), (!done_again, 1 + usize::from(done_again)));
        assert_eq!(begun.elapsed() > SECOND * 20, done_again, "nobody knows, and the lease must be over first");
    }
}

/// A store of idempotency keys keeps actions too: each keeps its promise.
async fn acts_once_in_a_store_of_keys<S: IdempotencyStore + Clone>(open: impl Fn() -> S) {
    let count = Arc::new(AtomicUsize::new(0));
    let counts = |fails: bool| {
        let count = count.clone();
        move |call: ToolCall| {
            let number = count.fetch_add(1, SeqCst) + 1;
            async move { if fails { Err(BoxError::from("no")) } else { Ok(format!("{} {number}: \u{fc}", call.name)) } }
        }
    };
    let (scope, call) = (Scope::from("turn"), answer(&[pay("1")]));
    let actions = || Actions::with_store(StoredActions::new(open())).key_by(KeyBy::CallId);
    let failed = actions().act(&scope, &call, counts(true)).await.unwrap();
    assert!(matches!(failed[0].result, Err(ActionError::Failed(_))));
    let (here, there) = (actions(), actions());
    let both = tokio::join!(here.act(&scope, &call, counts(false)), there.act(&scope, &call, counts(false)));
    for acted in [both.0, both.1] {
        assert_eq!(acted.unwrap()[0].result.as_deref().unwrap(), "pay 2: ü");
    }
    // All processes end, and another begins.
    drop((here, there));
    let again = actions().act(&scope, &call, counts(false)).await.unwrap();
    assert_eq!((again[0].result.as_deref().unwrap(), again[0].repeated), ("pay 2: ü", true));
    let other = answer(&[ToolCall::new("1", "pay", r#"{"amount":2}"#)]);
    let refused = actions().act(&scope, &other, counts(false)).await.unwrap();
    assert!(matches!(refused[0].result, Err(ActionError::Conflict)));
    assert_eq!(count.load(SeqCst), 2);
}

#[tokio::test(start_paused = true)]
async fn actions_are_done_once_in_a_store_of_idempotency_keys() {
    let store = MemoryIdempotency::new();
    acts_once_in_a_store_of_keys(|| store.clone()).await;
}

/// In real time: a file's thread is not of tokio's clock.
#[tokio::test]
async fn actions_are_done_once_over_restarts_in_a_file() {
    let folder = crate::testing::Folder::new("partial-actions");
    acts_once_in_a_store_of_keys(|| steadfast_stores::sqlite::Sqlite::open(folder.file()).unwrap()).await;
}

#[tokio::test]
async fn without_a_key_a_request_is_its_own_scope() {
    let asks = |text: &str| Scope::of(&LlmRequest::prompt(text)).unwrap();
    assert_eq!(asks("Book a seat."), asks("Book a seat."));
    assert_ne!(asks("Book a seat."), asks("Book another seat."));
    let whose = |name: &str| {
        let request = LlmRequest::prompt("x").with_idempotency_key("k");
        Scope::of(&request.with_extension(steadfast::layers::cache::Tenant::new(name))).unwrap()
    };
    assert_ne!(whose("a"), whose("b"));
    assert_eq!(whose("a"), whose("a"));
}
