//! A cut answer is recorded with what was delivered and never acted on; a restart is one signal; an action is done once.

#[cfg(feature = "sqlite")]
#[allow(dead_code, reason = "it is the stores' too")]
#[path = "../src/store/testing.rs"]
mod testing;

use std::{
    future::pending,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    time::Duration,
};

use futures_util::{StreamExt as _, future::join_all, stream};
use steadfast::{
    ErrorKind, Event, Events, FallbackLayer, Frame, LlmBody, LlmError, LlmRequest, LlmResponse, ObserveLayer,
    StreamEvent,
    agent::{
        ActionClaim, ActionError, ActionKey, ActionStore, ActionStoreFuture, Actions, AnswerReader, CompletedAnswer,
        KeyBy, MemoryActions, Piece, Scope,
    },
    body::Delivered,
    chat::{Accumulator, FinishReason, Message, Part, Role, ToolCall, Usage},
    events::{RequestEnded, RequestOutcome},
    layers::fallback::StreamBreak,
    provider_fn,
};
#[cfg(feature = "idempotency")]
use steadfast::{
    agent::StoredActions,
    layers::idempotency::{IdempotencyStore, MemoryIdempotency},
};
use tokio::time::{Instant, sleep, timeout};
use tower::{BoxError, ServiceBuilder, ServiceExt};

const SECOND: Duration = Duration::from_secs(1);

fn text(text: &str) -> StreamEvent {
    StreamEvent::Text { index: 0, text: text.into() }
}

fn begins(index: u32, id: &str, name: &str) -> StreamEvent {
    StreamEvent::ToolCall { index, id: id.into(), name: name.into(), opaque: None }
}

fn arguments(index: u32, json: &str) -> StreamEvent {
    StreamEvent::Arguments { index, json: json.into() }
}

/// A whole answer: a thought, text and two tool calls, in pieces.
fn whole() -> Vec<StreamEvent> {
    vec![
        StreamEvent::Start { id: Some("msg_1".into()), model: Some("sonnet".into()) },
        StreamEvent::Usage(Usage::new(20, 1)),
        StreamEvent::Reasoning { index: 0, text: "They want a seat.".into() },
        StreamEvent::KeepAlive,
        text("I book "),
        text("it für you."),
        begins(1, "call_1", "book"),
        arguments(1, r#"{"row":"#),
        arguments(1, "12}"),
        begins(2, "call_2", "mail"),
        arguments(2, r#"{"to":"me"}"#),
        StreamEvent::Usage(Usage::new(20, 40)),
        StreamEvent::Finish(FinishReason::ToolUse),
        StreamEvent::End,
    ]
}

fn body(events: Vec<StreamEvent>) -> LlmBody {
    LlmBody::from_frames(stream::iter(events.into_iter().map(|event| Ok(Frame::event(event)))))
}

/// A completed answer with these calls.
fn answer(calls: &[ToolCall]) -> CompletedAnswer {
    let mut message = Message::new(Role::Assistant, calls.iter().cloned().map(Part::ToolCall).collect());
    message.finish = Some(FinishReason::ToolUse);
    CompletedAnswer::vouched(message)
}

fn pay(id: &str) -> ToolCall {
    ToolCall::new(id, "pay", r#"{"amount":1}"#)
}

/// A tool that counts how often it was used, and takes a second for it.
#[derive(Clone, Default)]
struct Tool {
    begun: Arc<AtomicUsize>,
    done: Arc<AtomicUsize>,
}

impl Tool {
    fn uses(&self) -> impl Fn(ToolCall) -> futures_util::future::BoxFuture<'static, Result<String, BoxError>> + use<> {
        let tool = self.clone();
        move |call| {
            let tool = tool.clone();
            Box::pin(async move {
                let number = tool.begun.fetch_add(1, SeqCst) + 1;
                sleep(SECOND).await;
                tool.done.fetch_add(1, SeqCst);
                Ok(format!("{} number {number}", call.name))
            })
        }
    }

    fn counts(&self) -> (usize, usize) {
        (self.begun.load(SeqCst), self.done.load(SeqCst))
    }
}

/// What was told of the request that was answered with this.
async fn told(events: Vec<StreamEvent>, reads: usize) -> RequestEnded {
    let channel = Events::new();
    let mut heard = channel.subscribe();
    let leaf = provider_fn(move |_| {
        let answer = LlmResponse::new(body(events.clone()));
        async { Ok::<_, LlmError>(answer) }
    });
    let llm = ServiceBuilder::new().layer(ObserveLayer::new(channel)).service(leaf);
    let mut body = llm.oneshot(LlmRequest::prompt("x").stream(true)).await.unwrap().into_body();
    for _ in 0..reads {
        if body.frame().await.is_none() {
            break;
        }
    }
    drop(body);
    match heard.try_recv().unwrap() {
        Event::RequestEnded(ended) => ended,
        other => panic!("{other:?}"),
    }
}

#[tokio::test(start_paused = true)]
async fn an_answer_cut_at_any_frame_is_an_error_with_all_that_was_delivered_and_never_complete() {
    let events = whole();
    for cut_at in 0..events.len() {
        let before = events[..cut_at].to_vec();
        let mut expected = Accumulator::default();
        before.iter().for_each(|event| expected.push(event));

        let mut reader = AnswerReader::new(body(before.clone()));
        let mut shown = String::new();
        let cut = loop {
            match reader.next().await.expect("the error comes before the end") {
                Ok(Piece::Text(text)) => shown.push_str(&text),
                Ok(Piece::Completed(_)) => panic!("cut at {cut_at}, it is not complete"),
                Ok(_) => {}
                Err(cut) => break cut,
            }
        };
        assert!(reader.next().await.is_none());
        assert_eq!(cut.kind(), ErrorKind::StreamBroken);
        let partial = cut.partial();
        assert_eq!(*partial.message(), expected.finish(), "cut at {cut_at}");
        assert_eq!(partial.text(), shown);
        // A call is whole when the next part has begun, or the model said why it stops.
        let (complete, incomplete) = (partial.tool_calls().count(), partial.incomplete_tool_calls().count());
        let calls = match cut_at {
            0..7 => (0, 0),
            7..10 => (0, 1),
            10..13 => (1, 1),
            _ => (2, 0),
        };
        assert_eq!((complete, incomplete), calls, "cut at {cut_at}");
        assert_eq!(
            partial.usage().map(|usage| usage.output),
            [None, Some(1), Some(40)][usize::from(cut_at > 1) + usize::from(cut_at > 11)]
        );

        // The same is told, and no word of it.
        let ended = told(before, usize::MAX).await;
        assert_eq!(ended.outcome, RequestOutcome::Broken(ErrorKind::StreamBroken));
        assert_eq!(ended.delivered.as_deref(), Some(&partial.delivered()), "cut at {cut_at}");
        assert_eq!(ended.usage, partial.usage());
        for said in [format!("{ended:?}"), format!("{cut:?} {cut}"), format!("{partial:?}")] {
            assert!(!["book ", "für", "row", "want a seat"].iter().any(|word| said.contains(word)), "{said}");
        }
        assert_eq!(LlmError::from(cut).kind(), ErrorKind::StreamBroken);
    }
    let completed = AnswerReader::new(body(whole())).complete().await.unwrap();
    assert_eq!(completed.tool_calls().count(), 2);
    assert!(told(whole(), usize::MAX).await.delivered.is_none(), "it was whole");
}

#[tokio::test(start_paused = true)]
async fn what_is_told_of_a_cut_is_frames_characters_bytes_and_calls() {
    let Delivered { frames, characters, bytes, tool_calls, restarts, .. } =
        *told(whole()[..9].into(), 99).await.delivered.unwrap();
    assert_eq!((frames, characters, tool_calls, restarts), (6, 18, 1, 0));
    assert_eq!(bytes, ("They want a seat.I book it für you.call_1book".len() + r#"{"row":12}"#.len()) as u64);

    // One who leaves knows what it has read, and to tell of it would cost an allocation.
    let left = told(whole(), 5).await;
    assert_eq!(left.outcome, RequestOutcome::Abandoned);
    assert!(left.delivered.is_none());
}

#[tokio::test(start_paused = true)]
async fn a_restart_is_one_signal_and_what_came_before_is_neither_kept_nor_done() {
    let events = whole();
    for cut_at in 3..events.len() {
        let first = events[..cut_at].to_vec();
        let primary = provider_fn(move |_| {
            let answer = LlmResponse::new(body(first.clone()));
            async { Ok::<_, LlmError>(answer) }
        });
        let backup = provider_fn(|_| async {
            let events = vec![
                text("Again."),
                begins(0, "call_9", "pay"),
                arguments(0, r#"{"amount":1}"#),
                StreamEvent::Finish(FinishReason::ToolUse),
                StreamEvent::End,
            ];
            Ok::<_, LlmError>(LlmResponse::new(body(events)))
        });
        let llm = ServiceBuilder::new()
            .layer(FallbackLayer::new("primary").tier("backup", backup).stream_break(StreamBreak::Restart))
            .service(primary);
        let response = llm.oneshot(LlmRequest::prompt("x").stream(true)).await.unwrap();
        let (mut shown, mut discards) = (String::new(), 0);
        let mut reader = AnswerReader::from(response);
        let answer = loop {
            match reader.next().await.unwrap().unwrap() {
                Piece::Text(text) => shown.push_str(&text),
                Piece::Discard { reason } => {
                    assert_eq!(reason, ErrorKind::StreamBroken);
                    (shown, discards) = (String::new(), discards + 1);
                }
                Piece::Completed(answer) => break *answer,
                _ => {}
            }
        };
        assert_eq!((shown.as_str(), discards), ("Again.", 1), "cut at {cut_at}");
        assert_eq!((answer.text().as_str(), reader.delivered().restarts), ("Again.", 1));
        let tool = Tool::default();
        let acted = Actions::new().act(&"turn".into(), &answer, tool.uses()).await.unwrap();
        assert_eq!(acted.iter().map(|acted| acted.call.name.as_str()).collect::<Vec<_>>(), ["pay"]);
        assert_eq!(tool.counts(), (1, 1));
    }
}

#[tokio::test(start_paused = true)]
async fn several_restarts_at_once_are_one_signal_and_none_where_nothing_was_shown() {
    let restarted = || StreamEvent::Restarted { reason: ErrorKind::Timeout };
    let all = Frame::events_of(vec![restarted(), text("a"), restarted(), text("b"), StreamEvent::End]);
    let pieces: Vec<_> = AnswerReader::new(LlmBody::from_frames(stream::iter([Ok(all)]))).collect().await;
    let names: Vec<_> = pieces.iter().map(|piece| format!("{:?}", piece.as_ref().unwrap())).collect();
    assert_eq!(names[0], "Text(1 bytes)");
    assert!(names[1].starts_with("Completed") && names.len() == 2, "{names:?}");

    let body = body(vec![text("a"), restarted(), restarted(), text("b"), restarted(), StreamEvent::End]);
    let pieces: Vec<_> = AnswerReader::new(body).map(|piece| format!("{:?}", piece.unwrap())).collect().await;
    let discards = pieces.iter().filter(|piece| piece.starts_with("Discard")).count();
    assert_eq!((discards, pieces.len()), (2, 5), "{pieces:?}");
}

#[tokio::test(start_paused = true)]
async fn a_whole_answer_is_read_like_a_streamed_one() {
    let message = Message::assistant("Hello.");
    let answer = AnswerReader::from(LlmResponse::from_message(message)).complete().await.unwrap();
    assert_eq!(answer.text(), "Hello.");
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
    assert_eq!(format!("{actions:?}").matches("under_way: 0").count(), 1);
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

    // Who has claimed a key and is heard of no more.
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
    assert!(format!("{here:?}").contains("under_way: 0"));
    // While one waits, it is done in the end, whoever came first.
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
#[cfg(feature = "idempotency")]
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

#[cfg(feature = "idempotency")]
#[tokio::test(start_paused = true)]
async fn actions_are_done_once_in_a_store_of_idempotency_keys() {
    let store = MemoryIdempotency::new();
    acts_once_in_a_store_of_keys(|| store.clone()).await;
}

/// In real time: a file's thread is not of tokio's clock.
#[cfg(feature = "sqlite")]
#[tokio::test]
async fn actions_are_done_once_over_restarts_in_a_file() {
    let folder = testing::Folder::new("partial-actions");
    acts_once_in_a_store_of_keys(|| steadfast::store::sqlite::Sqlite::open(folder.file()).unwrap()).await;
}

#[cfg(feature = "idempotency")]
#[tokio::test]
async fn without_a_key_a_request_is_its_own_scope() {
    let asks = |text: &str| Scope::of(&LlmRequest::prompt(text)).unwrap();
    assert_eq!(asks("Book a seat."), asks("Book a seat."));
    assert_ne!(asks("Book a seat."), asks("Book another seat."));
    let whose = |name: &str| {
        let request = LlmRequest::prompt("x").idempotency_key("k");
        Scope::of(&request.extension(steadfast::layers::cache::Tenant::new(name))).unwrap()
    };
    assert_ne!(whose("a"), whose("b"));
    assert_eq!(whose("a"), whose("a"));
}

#[tokio::test(start_paused = true)]
async fn a_reader_dropped_and_asked_again_at_every_poll_loses_no_piece() {
    let slow = stream::iter(whole()).then(|event| async {
        sleep(SECOND).await;
        Ok(Frame::event(event))
    });
    let mut reader = AnswerReader::new(LlmBody::from_frames(slow));
    let mut pieces = 0;
    let answer = loop {
        // Gives up ten times for each piece.
        match timeout(SECOND / 10, reader.next()).await {
            Err(_) => {}
            Ok(Some(Ok(Piece::Completed(answer)))) => break *answer,
            Ok(Some(Ok(_))) => pieces += 1,
            Ok(other) => panic!("{other:?}"),
        }
    };
    assert_eq!(pieces, 5);
    assert_eq!(answer, AnswerReader::new(body(whole())).complete().await.unwrap());
    // And one who reads no further has what it had.
    let mut reader = AnswerReader::new(body(whole()));
    while !matches!(reader.next().await, Some(Ok(Piece::ToolCall { .. }))) {}
    assert_eq!(reader.into_partial().text(), "I book it für you.");
}
