//! The promises. None of them waits for time to pass: what is to be over is given no time.

use std::{collections::HashSet, sync::Arc, time::Duration};

use steadfast::{
    LlmRequest,
    chat::{Chat, Message},
};
use steadfast_handoff::{
    Callback, CallerTask, Claimant, DeliveryKind, DeliveryOutcome, DeliveryState, DeskError, NewAnswer, NewTask,
    RedriveScope, Release, StoredRequest, Task, TaskFilter, TaskId, TaskLimit, TaskLimits, TaskScope, TaskState,
    TaskStore,
};

type Store = Arc<dyn TaskStore>;

const HOUR: Duration = Duration::from_secs(3600);
const NONE: Duration = Duration::ZERO;

pub(crate) fn new_task(text: &str) -> NewTask {
    let request = StoredRequest::of(&LlmRequest::prompt(text)).unwrap();
    NewTask::new(TaskId::new().unwrap(), request)
}

/// So many tasks, written in the order of their ids.
async fn tasks(store: &Store, count: usize) -> Vec<TaskId> {
    let mut new: Vec<NewTask> = (0..count).map(|n| new_task(&format!("task {n}"))).collect();
    new.sort_by_key(|task| task.id);
    let mut ids = Vec::new();
    for task in new {
        ids.push(store.insert(task).await.unwrap());
    }
    ids
}

async fn one(store: &Store) -> TaskId {
    store.insert(new_task("hello")).await.unwrap()
}

fn person(name: &str) -> Claimant {
    Claimant::person(name)
}

fn answer(by: &str, text: &str) -> NewAnswer {
    NewAnswer::new(person(by), Message::assistant(text))
}

/// All that many tasks at once come to.
async fn at_once<T: Send + 'static, F>(count: usize, make: impl Fn(usize) -> F) -> Vec<T>
where
    F: Future<Output = T> + Send + 'static,
{
    let started: Vec<_> = (0..count).map(|n| tokio::spawn(make(n))).collect();
    let mut done = Vec::new();
    for one in started {
        done.push(one.await.unwrap());
    }
    done
}

pub(crate) async fn it_is_there_as_it_was_written(store: Store) {
    let chat = Chat::new([Message::user("one"), Message::assistant("two"), Message::user("three")]).system("brief");
    let mut new = NewTask::new(TaskId::new().unwrap(), StoredRequest::of(&LlmRequest::from(chat)).unwrap());
    (new.feature, new.session, new.tenant) = (Some("chat".into()), Some("s-1".into()), Some("ada".into()));
    (new.ttl, new.requires_human, new.reason) = (HOUR, true, "requires_human".into());
    new.caller = Some(CallerTask::new().id("ticket-17").context(serde_json::json!({"order": "n\u{0}\u{e9}"})));
    let id = store.insert(new.clone()).await.unwrap();
    assert_eq!(id, new.id);
    let task = store.get(id).await.unwrap();
    let Task { state, feature, session, tenant, created_at, expires_at, requires_human, .. } = task;
    assert_eq!((task.id, state, task.request), (id, TaskState::Waiting, new.request));
    assert_eq!((task.caller.is_some(), task.caller), (true, new.caller));
    assert_eq!((feature.as_deref(), session.as_deref(), tenant.as_deref()), (Some("chat"), Some("s-1"), Some("ada")));
    assert_eq!((expires_at - created_at, requires_human, task.reason.as_str()), (3_600_000, true, "requires_human"));
    assert!(task.claim.is_none() && task.answer.is_none() && task.deliveries.is_empty() && task.attempts.is_empty());
    assert!(created_at > 1_700_000_000_000, "Unix milliseconds: {created_at}");
    assert_eq!(store.state(id).await.unwrap(), TaskState::Waiting);
}

pub(crate) async fn the_same_id_again_changes_nothing(store: Store) {
    let mut new = new_task("hello");
    let id = store.insert(new.clone()).await.unwrap();
    new.reason = "another".into();
    new.notify = true;
    assert_eq!(store.insert(new).await.unwrap(), id);
    let task = store.get(id).await.unwrap();
    assert_eq!((task.reason.as_str(), task.deliveries.len()), ("order", 0));
    assert_eq!(store.stats().await.unwrap().waiting, 1);
}

pub(crate) async fn a_repeat_is_the_same_task_until_that_has_expired(store: Store) {
    let same = |ttl| {
        let mut new = new_task("hello");
        (new.same_as, new.ttl, new.notify) = (Some("k".into()), ttl, true);
        new
    };
    let gone = store.insert(same(NONE)).await.unwrap();
    let id = store.insert(same(HOUR)).await.unwrap();
    assert_ne!(id, gone, "its time was over");
    assert_eq!(store.insert(same(HOUR)).await.unwrap(), id);
    store.answer(id, answer("ana", "yes"), false).await.unwrap();
    assert_eq!(store.insert(same(HOUR)).await.unwrap(), id, "answered, it stands for the request still");
    assert_eq!(store.get(id).await.unwrap().deliveries.len(), 1, "people are told once");
    assert_ne!(store.insert(new_task("hello")).await.unwrap(), id);
}

pub(crate) async fn of_many_repeats_at_once_one_is_written(store: Store) {
    let ids: HashSet<TaskId> = at_once(20, |_| {
        let (store, mut new) = (store.clone(), new_task("hello"));
        new.same_as = Some("k".into());
        async move { store.insert(new).await.unwrap() }
    })
    .await
    .into_iter()
    .collect();
    assert_eq!((ids.len(), store.stats().await.unwrap().waiting), (1, 1));
}

pub(crate) async fn what_was_never_written_is_unknown(store: Store) {
    let id = TaskId::new().unwrap();
    let is_unknown = |error: DeskError| assert!(matches!(error, DeskError::Unknown { task } if task == id), "{error}");
    is_unknown(store.get(id).await.unwrap_err());
    is_unknown(store.state(id).await.unwrap_err());
    is_unknown(store.claim(id, person("ana"), HOUR).await.unwrap_err());
    is_unknown(store.renew(id, person("ana"), HOUR).await.unwrap_err());
    is_unknown(store.release(id, person("ana"), Release::Free).await.unwrap_err());
    is_unknown(store.answer(id, answer("ana", "yes"), true).await.unwrap_err());
    is_unknown(store.order_redrive(Some(id)).await.unwrap_err());
}

pub(crate) async fn a_list_is_in_order_and_goes_on_where_it_ended(store: Store) {
    let ids = tasks(&store, 7).await;
    for oldest_first in [true, false] {
        let (mut listed, mut after) = (Vec::new(), None);
        loop {
            let mut filter = TaskFilter::new().limit(3);
            (filter.oldest_first, filter.after) = (oldest_first, after);
            let page = store.list(filter).await.unwrap();
            assert!(page.len() <= 3);
            let Some(last) = page.last() else { break };
            after = Some(last.id);
            listed.extend(page.into_iter().map(|task| task.id));
        }
        let order: Vec<TaskId> = if oldest_first { ids.clone() } else { ids.iter().rev().copied().collect() };
        assert_eq!(listed, order);
    }
}

pub(crate) async fn a_list_is_of_what_was_asked_for(store: Store) {
    let mut new = new_task(&"word ".repeat(100));
    (new.feature, new.tenant) = (Some("chat".into()), Some("ada".into()));
    let first = store.insert(new).await.unwrap();
    let mut new = new_task("expired");
    new.ttl = NONE;
    let expired = store.insert(new).await.unwrap();
    let ids = tasks(&store, 3).await;
    store.claim(ids[0], person("ana"), HOUR).await.unwrap();
    store.claim(ids[1], Claimant::redrive("1"), HOUR).await.unwrap();
    store.answer(ids[2], answer("ana", "yes"), false).await.unwrap();
    let listed = async |filter| store.list(filter).await.unwrap().into_iter().map(|task| task.id).collect::<Vec<_>>();
    for (state, id) in [
        (TaskState::Waiting, first),
        (TaskState::Claimed, ids[0]),
        (TaskState::Redriving, ids[1]),
        (TaskState::Answered, ids[2]),
        (TaskState::Expired, expired),
    ] {
        let found = store.list(TaskFilter::new().state(state)).await.unwrap();
        assert_eq!(found.iter().map(|task| (task.id, task.state)).collect::<Vec<_>>(), [(id, state)]);
    }
    assert_eq!(listed(TaskFilter::new().feature("chat")).await, [first]);
    assert_eq!(listed(TaskFilter::new().tenant("ada")).await, [first]);
    assert_eq!(listed(TaskFilter::new().tenant("eve")).await, []);
    let [summary] = &store.list(TaskFilter::new().feature("chat")).await.unwrap()[..] else { panic!() };
    assert!(summary.preview.starts_with("word word") && summary.preview.chars().count() <= 200);
    let claimed = store.list(TaskFilter::new().state(TaskState::Claimed)).await.unwrap();
    assert_eq!(claimed[0].claim.as_ref().unwrap().by, person("ana"));
    let answered = store.list(TaskFilter::new().state(TaskState::Answered)).await.unwrap();
    assert!(answered[0].answered_at.is_some());
}

pub(crate) async fn of_many_who_claim_at_once_one_has_it(store: Store) {
    let id = one(&store).await;
    let claims = at_once(20, |n| {
        let store = store.clone();
        async move { store.claim(id, person(&format!("person {n}")), HOUR).await }
    });
    let (mut has, mut told) = (Vec::new(), Vec::new());
    for claim in claims.await {
        match claim {
            Ok(task) => has.push(task.claim.unwrap().by),
            Err(DeskError::ClaimedByAnother { by, .. }) => told.push(by),
            Err(error) => panic!("{error}"),
        }
    }
    assert_eq!((has.len(), told.len()), (1, 19));
    assert!(told.iter().all(|by| *by == has[0]));
}

pub(crate) async fn who_has_it_renews_and_others_are_told_who_and_until_when(store: Store) {
    let id = one(&store).await;
    let first = store.claim(id, person("ana"), HOUR).await.unwrap();
    let until = first.claim.unwrap().until;
    assert_eq!(first.state, TaskState::Claimed);
    assert!(store.claim(id, person("ana"), 2 * HOUR).await.unwrap().claim.unwrap().until > until);
    let until = store.renew(id, person("ana"), 3 * HOUR).await.unwrap();
    match store.claim(id, person("ben"), HOUR).await.unwrap_err() {
        DeskError::ClaimedByAnother { task, by, until: told } => {
            assert_eq!((task, by, told), (id, person("ana"), until))
        }
        error => panic!("{error}"),
    }
    let renewed = store.renew(id, person("ben"), HOUR).await;
    assert!(matches!(renewed, Err(DeskError::ClaimedByAnother { .. })));
}

pub(crate) async fn a_claim_that_is_over_may_be_taken(store: Store) {
    let id = one(&store).await;
    assert_eq!(store.claim(id, person("ana"), NONE).await.unwrap().state, TaskState::Waiting);
    // Nobody has taken it: it is given again.
    store.renew(id, person("ana"), NONE).await.unwrap();
    assert_eq!(store.claim(id, person("ben"), HOUR).await.unwrap().claim.unwrap().by, person("ben"));
    assert!(matches!(store.renew(id, person("ana"), HOUR).await, Err(DeskError::ClaimedByAnother { .. })));
    let late = store.answer(id, answer("ana", "yes"), false).await;
    assert!(matches!(late, Err(DeskError::ClaimedByAnother { .. })), "who comes back late answers over nobody");
}

pub(crate) async fn only_who_has_a_claim_gives_it_back(store: Store) {
    let id = one(&store).await;
    let release = |who| store.release(id, person(who), Release::Free);
    assert!(matches!(release("ana").await, Err(DeskError::NotClaimed { .. })));
    assert!(matches!(store.renew(id, person("ana"), HOUR).await, Err(DeskError::NotClaimed { .. })));
    store.claim(id, person("ana"), HOUR).await.unwrap();
    assert!(matches!(release("ben").await, Err(DeskError::ClaimedByAnother { .. })));
    release("ana").await.unwrap();
    assert_eq!(store.state(id).await.unwrap(), TaskState::Waiting);
    store.claim(id, person("ben"), NONE).await.unwrap();
    release("ben").await.unwrap();
}

pub(crate) async fn of_many_who_answer_at_once_one_does(store: Store) {
    let mut new = new_task("hello");
    new.callback = Some(Callback::Settings);
    let id = store.insert(new).await.unwrap();
    let answers = at_once(20, |n| {
        let store = store.clone();
        async move { store.answer(id, answer(&format!("person {n}"), "yes"), n % 2 == 0).await }
    });
    let mut by = Vec::new();
    for done in answers.await {
        match done {
            Ok(task) => by.push(task.answer.unwrap().by),
            Err(error) => assert!(matches!(error, DeskError::AlreadyAnswered { .. }), "{error}"),
        }
    }
    let task = store.get(id).await.unwrap();
    assert_eq!((by.as_slice(), task.deliveries.len()), (&[task.answer.unwrap().by][..], 1));
}

pub(crate) async fn who_is_at_it_answers_and_others_only_by_force(store: Store) {
    let id = one(&store).await;
    store.claim(id, person("ana"), HOUR).await.unwrap();
    let refused = store.answer(id, answer("ben", "no"), false).await.unwrap_err();
    assert!(matches!(refused, DeskError::ClaimedByAnother { .. }), "{refused}");
    let task = store.answer(id, answer("ben", "no"), true).await.unwrap();
    assert_eq!((task.state, task.claim), (TaskState::Answered, None));
    assert_eq!(task.answer.unwrap().by, person("ben"));

    let id = one(&store).await;
    store.claim(id, person("ana"), HOUR).await.unwrap();
    let mut given = answer("ana", "yes");
    (given.provider, given.model, given.tier) = (Some("p".into()), Some("m".into()), Some("t".into()));
    let done = store.answer(id, given, false).await.unwrap().answer.unwrap();
    assert_eq!(
        (done.message.text().as_str(), done.model.as_deref(), done.tier.as_deref()),
        ("yes", Some("m"), Some("t"))
    );
}

pub(crate) async fn the_same_answer_again_is_no_error_and_another_one_is(store: Store) {
    let id = one(&store).await;
    let first = store.answer(id, answer("ana", "yes"), false).await.unwrap();
    assert_eq!(store.answer(id, answer("ana", "yes"), false).await.unwrap(), first);
    for (by, text) in [("ana", "no"), ("ben", "yes")] {
        match store.answer(id, answer(by, text), true).await.unwrap_err() {
            DeskError::AlreadyAnswered { by, at, .. } => {
                assert_eq!((by, at), (person("ana"), first.answer.as_ref().unwrap().at));
            }
            error => panic!("{error}"),
        }
    }
    assert_eq!(store.get(id).await.unwrap(), first);
    assert!(matches!(store.claim(id, person("ben"), HOUR).await, Err(DeskError::AlreadyAnswered { .. })));
    assert!(matches!(store.order_redrive(Some(id)).await, Err(DeskError::AlreadyAnswered { .. })));
}

pub(crate) async fn an_expired_task_is_neither_claimed_nor_answered(store: Store) {
    let mut new = new_task("hello");
    new.ttl = NONE;
    let id = store.insert(new).await.unwrap();
    let is_expired = |error: DeskError| assert!(matches!(error, DeskError::Expired { .. }), "{error}");
    is_expired(store.claim(id, person("ana"), HOUR).await.unwrap_err());
    is_expired(store.answer(id, answer("ana", "yes"), true).await.unwrap_err());
    is_expired(store.order_redrive(Some(id)).await.unwrap_err());
    assert_eq!(store.claim_oldest(Claimant::redrive("1"), HOUR, RedriveScope::All).await.unwrap(), None);
    assert_eq!(store.get(id).await.unwrap().state, TaskState::Expired, "it can still be read");
}

pub(crate) async fn the_oldest_is_redriven_first_and_each_by_one(store: Store) {
    let ids = tasks(&store, 3).await;
    let next = |n: usize| store.claim_oldest(Claimant::redrive(n.to_string()), HOUR, RedriveScope::All);
    for (n, id) in ids.iter().enumerate() {
        let task = next(n).await.unwrap().unwrap();
        assert_eq!((task.id, task.state), (*id, TaskState::Redriving));
    }
    assert_eq!(next(9).await.unwrap(), None);

    let mut more = tasks(&store, 10).await;
    let mut taken: Vec<TaskId> = at_once(10, |n| {
        let store = store.clone();
        // Under load one may be passed over for the moment, while another is about to take it: it is asked for again.
        async move {
            loop {
                let taken =
                    store.claim_oldest(Claimant::redrive(format!("at once {n}")), HOUR, RedriveScope::All).await;
                if let Some(task) = taken.unwrap() {
                    return task.id;
                }
                tokio::task::yield_now().await;
            }
        }
    })
    .await;
    more.sort();
    taken.sort();
    assert_eq!(taken, more);
}

pub(crate) async fn a_redrive_and_a_person_exclude_each_other(store: Store) {
    let ids = tasks(&store, 2).await;
    store.claim(ids[0], person("ana"), HOUR).await.unwrap();
    let redriven = store.claim_oldest(Claimant::redrive("1"), HOUR, RedriveScope::All).await.unwrap().unwrap();
    assert_eq!(redriven.id, ids[1], "a person is at the older one");
    let refused = store.claim(ids[1], person("ana"), HOUR).await.unwrap_err();
    assert!(refused.to_string().contains("is claimed by a redrive"), "{refused}");
    store.release(ids[1], Claimant::redrive("1"), Release::Free).await.unwrap();
    store.claim(ids[1], person("ana"), HOUR).await.unwrap();
}

pub(crate) async fn what_waits_for_a_person_is_redriven_when_it_is_asked_for(store: Store) {
    let mut new = new_task("hello");
    new.requires_human = true;
    let required = store.insert(new).await.unwrap();
    let back = one(&store).await;
    let next = |which| store.claim_oldest(Claimant::redrive("1"), HOUR, which);
    assert_eq!(next(RedriveScope::All).await.unwrap().unwrap().id, back);
    store.release(back, Claimant::redrive("1"), Release::ForPeople).await.unwrap();
    assert_eq!(next(RedriveScope::All).await.unwrap(), None);
    assert_eq!(store.order_redrive(Some(required)).await.unwrap(), 1);
    assert_eq!(next(RedriveScope::Ordered).await.unwrap().unwrap().id, required);
    assert_eq!(next(RedriveScope::Ordered).await.unwrap(), None);
}

pub(crate) async fn what_is_asked_for_is_all_that_may_be_answered(store: Store) {
    let ids = tasks(&store, 4).await;
    store.answer(ids[0], answer("ana", "yes"), false).await.unwrap();
    store.claim(ids[1], person("ana"), HOUR).await.unwrap();
    assert_eq!(store.order_redrive(None).await.unwrap(), 3);
    let next = |n: &str| store.claim_oldest(Claimant::redrive(n), HOUR, RedriveScope::Ordered);
    assert_eq!(next("1").await.unwrap().unwrap().id, ids[2], "a person goes first");
    assert_eq!(next("2").await.unwrap().unwrap().id, ids[3]);
    store.release(ids[1], person("ana"), Release::Free).await.unwrap();
    assert_eq!(next("3").await.unwrap().unwrap().id, ids[1]);
}

pub(crate) async fn a_notification_is_written_with_its_task_and_due_until_it_is_settled(store: Store) {
    let mut new = new_task("hello");
    new.notify = true;
    let id = store.insert(new).await.unwrap();
    let [told] = &store.due(10, NONE).await.unwrap()[..] else { panic!() };
    assert_eq!((told.task, told.kind, told.attempts), (id, DeliveryKind::Notification, 1));
    assert_eq!((told.url.as_deref(), told.state), (None, DeliveryState::Pending));
    let [again] = &store.due(10, HOUR).await.unwrap()[..] else { panic!("whoever had it is gone") };
    assert_eq!((again.id.as_str(), again.attempts), (told.id.as_str(), 2));
    assert!(store.due(10, HOUR).await.unwrap().is_empty(), "somebody has it");
    let problem = "no answer".to_owned();
    assert!(store.settle(again.clone(), DeliveryOutcome::Again { after: NONE, problem }).await.unwrap());
    assert_eq!(store.get(id).await.unwrap().deliveries[0].problem.as_deref(), Some("no answer"));
    let [third] = &store.due(10, HOUR).await.unwrap()[..] else { panic!() };
    assert!(store.settle(third.clone(), DeliveryOutcome::Done).await.unwrap());
    assert!(store.due(10, NONE).await.unwrap().is_empty());
    let [done] = &store.get(id).await.unwrap().deliveries[..] else { panic!() };
    assert_eq!((done.state, done.attempts, done.next_at), (DeliveryState::Done, 3, None));
}

pub(crate) async fn a_callback_is_written_with_the_answer(store: Store) {
    let mut ids = Vec::new();
    for callback in [None, Some(Callback::Settings), Some(Callback::Url("https://example.com/hook".into()))] {
        let mut new = new_task("hello");
        new.callback = callback;
        ids.push(store.insert(new).await.unwrap());
    }
    assert!(store.due(10, NONE).await.unwrap().is_empty());
    for id in &ids {
        store.answer(*id, answer("ana", "yes"), false).await.unwrap();
    }
    let due = store.due(10, HOUR).await.unwrap();
    let mut due: Vec<_> = due.iter().map(|told| (told.task, told.kind, told.url.as_deref())).collect();
    due.sort_by_key(|told| told.0);
    let mut all = vec![
        (ids[1], DeliveryKind::Callback, None),
        (ids[2], DeliveryKind::Callback, Some("https://example.com/hook")),
    ];
    all.sort_by_key(|told| told.0);
    assert_eq!(due, all);
}

pub(crate) async fn of_many_who_look_for_deliveries_each_has_its_own(store: Store) {
    for n in 0..30 {
        let mut new = new_task(&n.to_string());
        new.notify = true;
        store.insert(new).await.unwrap();
    }
    assert_eq!(store.due(5, NONE).await.unwrap().len(), 5, "no more than were asked for");
    let due: Vec<String> = at_once(10, |_| {
        let store = store.clone();
        async move {
            let mut mine = Vec::new();
            loop {
                let due = store.due(4, HOUR).await.unwrap();
                if due.is_empty() {
                    return mine;
                }
                mine.extend(due.into_iter().map(|told| told.id));
            }
        }
    })
    .await
    .concat();
    assert_eq!((due.len(), due.iter().collect::<HashSet<_>>().len()), (30, 30));
}

pub(crate) async fn a_late_word_on_a_delivery_changes_nothing(store: Store) {
    let mut new = new_task("hello");
    new.notify = true;
    let id = store.insert(new).await.unwrap();
    let late = store.due(1, NONE).await.unwrap().remove(0);
    let now = store.due(1, HOUR).await.unwrap().remove(0);
    assert!(!store.settle(late.clone(), DeliveryOutcome::Dead { problem: "late".into() }).await.unwrap());
    assert!(store.settle(now.clone(), DeliveryOutcome::Done).await.unwrap());
    assert!(!store.settle(now, DeliveryOutcome::Dead { problem: "twice".into() }).await.unwrap());
    assert_eq!(store.get(id).await.unwrap().deliveries[0].state, DeliveryState::Done);
}

pub(crate) async fn what_is_given_up_stays_and_is_counted(store: Store) {
    let mut new = new_task("hello");
    new.notify = true;
    let id = store.insert(new).await.unwrap();
    assert_eq!(store.stats().await.unwrap().deliveries_pending, 1);
    let told = store.due(1, HOUR).await.unwrap().remove(0);
    assert!(store.settle(told, DeliveryOutcome::Dead { problem: "it was refused (404)".into() }).await.unwrap());
    let stats = store.stats().await.unwrap();
    assert_eq!((stats.deliveries_pending, stats.deliveries_dead), (0, 1));
    assert!(store.due(1, NONE).await.unwrap().is_empty());
    let [dead] = &store.get(id).await.unwrap().deliveries[..] else { panic!() };
    assert_eq!((dead.state, dead.problem.as_deref()), (DeliveryState::Dead, Some("it was refused (404)")));
}

pub(crate) async fn a_sweep_takes_what_is_over_and_nothing_else(store: Store) {
    let waiting = one(&store).await;
    let mut new = new_task("answered");
    (new.notify, new.same_as) = (true, Some("k".into()));
    let answered = store.insert(new.clone()).await.unwrap();
    store.answer(answered, answer("ana", "yes"), false).await.unwrap();
    let mut expired = new_task("expired");
    expired.ttl = NONE;
    let expired = store.insert(expired).await.unwrap();
    assert_eq!(store.sweep(HOUR).await.unwrap(), 0);
    let mut swept = 0;
    while swept < 2 {
        // A task that ended in this very millisecond ended no longer ago than nothing.
        swept += store.sweep(NONE).await.unwrap();
    }
    assert_eq!(store.sweep(NONE).await.unwrap(), 0);
    assert_eq!(store.get(waiting).await.unwrap().state, TaskState::Waiting);
    for gone in [answered, expired] {
        assert!(matches!(store.get(gone).await, Err(DeskError::Unknown { .. })));
    }
    assert!(store.due(10, NONE).await.unwrap().is_empty(), "its deliveries are gone with it");
    new.id = TaskId::new().unwrap();
    assert_eq!(store.insert(new.clone()).await.unwrap(), new.id, "what stood for the request is gone");
}

pub(crate) async fn what_there_is_to_do_is_counted(store: Store) {
    assert_eq!(store.stats().await.unwrap(), Default::default());
    let ids = tasks(&store, 5).await;
    store.claim(ids[1], person("ana"), HOUR).await.unwrap();
    store.claim(ids[2], Claimant::redrive("1"), HOUR).await.unwrap();
    store.answer(ids[3], answer("ana", "yes"), false).await.unwrap();
    let mut new = new_task("expired");
    new.ttl = NONE;
    store.insert(new).await.unwrap();
    let stats = store.stats().await.unwrap();
    let counts = (stats.waiting, stats.claimed, stats.redriving, stats.answered, stats.expired);
    assert_eq!(counts, (2, 1, 1, 1, 1));
    assert!(stats.oldest_waiting_ms.is_some_and(|age| age < 60_000), "{stats:?}");
}

pub(crate) async fn odd_characters_come_back(store: Store) {
    let text = "a\u{0}b\u{7f}\u{2028}\"'\\;--🦀é\r\n";
    let mut new = new_task(text);
    new.feature = Some("'; DROP TABLE tasks; --".into());
    let id = store.insert(new).await.unwrap();
    store.claim(id, person("O'Hara; --"), HOUR).await.unwrap();
    let task = store.answer(id, answer("O'Hara; --", text), false).await.unwrap();
    assert_eq!(task.request.chat().unwrap().messages[0].text(), text);
    assert_eq!(task.answer.unwrap().message.text(), text);
    assert_eq!(store.list(TaskFilter::new().feature("'; DROP TABLE tasks; --")).await.unwrap().len(), 1);
}

/// A task of a caller, within these limits.
fn of(tenant: &str, limits: TaskLimits) -> NewTask {
    let mut new = new_task("hello");
    (new.tenant, new.session, new.limits, new.ttl) = (Some(tenant.into()), Some("s".into()), limits, HOUR);
    new
}

/// The limit that refuses a task.
async fn refused(store: &Store, new: NewTask) -> Option<TaskLimit> {
    match store.insert(new).await {
        Ok(_) => None,
        Err(DeskError::LimitReached { limit, .. }) => Some(limit),
        Err(error) => panic!("{error}"),
    }
}

pub(crate) async fn a_caller_has_so_many_tasks_and_others_have_theirs(store: Store) {
    let limits = TaskLimits::default().tasks(5).tasks_per_caller(3);
    let mut ids = Vec::new();
    for _ in 0..3 {
        ids.push(store.insert(of("ada", limits)).await.unwrap());
    }
    assert_eq!(refused(&store, of("ada", limits)).await, Some(TaskLimit::TasksPerCaller));
    let mut repeat = of("bob", limits);
    repeat.same_as = Some("k".into());
    let known = store.insert(repeat.clone()).await.unwrap();
    assert_eq!(refused(&store, of("bob", limits)).await, None);
    assert_eq!(refused(&store, of("eve", limits)).await, Some(TaskLimit::Tasks));
    let mut nobodys = of("", limits);
    nobodys.tenant = None;
    assert_eq!(refused(&store, nobodys).await, Some(TaskLimit::Tasks));
    repeat.id = TaskId::new().unwrap();
    assert_eq!(store.insert(repeat).await.unwrap(), known, "a repeat is no task more");
    // One that is answered is none that waits.
    store.answer(ids[0], answer("ana", "yes"), false).await.unwrap();
    assert_eq!(refused(&store, of("ada", limits)).await, None);
    assert_eq!(store.stats().await.unwrap().waiting, 5, "what was refused was not written");
}

pub(crate) async fn of_many_at_once_no_more_are_written_than_there_may_be(store: Store) {
    let limits = TaskLimits::default().tasks_per_caller(5);
    let written = at_once(30, |_| {
        let store = store.clone();
        async move { store.insert(of("ada", limits)).await.is_ok() }
    });
    let written = written.await.into_iter().filter(|written| *written).count() as u64;
    let waiting = store.stats().await.unwrap().waiting;
    assert_eq!(written, waiting);
    // A database writes as many more as it does at the same moment.
    assert!((5..=5 + 16).contains(&waiting), "{waiting}");
    assert_eq!(refused(&store, of("ada", limits)).await, Some(TaskLimit::TasksPerCaller));
}

pub(crate) async fn bytes_count_as_long_as_a_task_is_kept(store: Store) {
    let large = |tenant: &str, limits| {
        let request = StoredRequest::of(&LlmRequest::prompt("x".repeat(10_000))).unwrap();
        let mut new = NewTask::new(TaskId::new().unwrap(), request);
        (new.tenant, new.limits) = (Some(tenant.to_owned()), limits);
        new
    };
    let limits = TaskLimits::default().bytes(45_000).bytes_per_caller(25_000);
    let first = store.insert(large("ada", limits)).await.unwrap();
    store.insert(large("ada", limits)).await.unwrap();
    assert_eq!(refused(&store, large("ada", limits)).await, Some(TaskLimit::BytesPerCaller));
    store.answer(first, answer("ana", "yes"), false).await.unwrap();
    assert_eq!(refused(&store, large("ada", limits)).await, Some(TaskLimit::BytesPerCaller), "it is kept");
    assert_eq!(refused(&store, large("bob", limits)).await, None);
    assert_eq!(refused(&store, large("bob", limits)).await, None);
    assert_eq!(refused(&store, large("eve", limits)).await, Some(TaskLimit::Bytes));
    assert_eq!(store.forget(TaskScope::Task(first)).await.unwrap(), 1);
    assert_eq!(refused(&store, large("ada", limits)).await, None);
}

pub(crate) async fn what_is_forgotten_is_gone_and_nothing_else(store: Store) {
    let limits = TaskLimits::default();
    let new = |tenant: Option<&str>, session: Option<&str>| {
        let mut new = of("", limits);
        (new.tenant, new.session, new.notify) = (tenant.map(Into::into), session.map(Into::into), true);
        new
    };
    let mut known = Vec::new();
    for (tenant, session) in [
        (Some("ada"), Some("one")),
        (Some("ada"), Some("two")),
        (Some("bob"), Some("one")),
        (Some("bob"), None),
        (None, Some("two")),
        (None, None),
    ] {
        known.push(store.insert(new(tenant, session)).await.unwrap());
    }
    let mut repeated = new(Some("bob"), None);
    repeated.same_as = Some("k".into());
    known.push(store.insert(repeated.clone()).await.unwrap());
    store.claim(known[3], person("ana"), HOUR).await.unwrap();
    store.answer(known[1], answer("ana", "yes"), false).await.unwrap();
    let session = |session: &str, tenant: Option<&str>| TaskScope::Session {
        session: session.to_owned(),
        tenant: tenant.map(str::to_owned),
    };
    for (which, gone) in [
        (TaskScope::Task(TaskId::new().unwrap()), vec![]),
        (session("three", None), vec![]),
        (session("one", Some("ada")), vec![0]),
        (session("two", None), vec![1, 4]),
        (TaskScope::Tenant("bob".into()), vec![2, 3, 6]),
        (TaskScope::Task(known[5]), vec![5]),
    ] {
        assert_eq!(store.forget(which.clone()).await.unwrap(), gone.len() as u64, "{which:?}");
        for place in gone {
            assert!(matches!(store.get(known[place]).await, Err(DeskError::Unknown { .. })), "{which:?}: {place}");
        }
    }
    assert!(store.list(TaskFilter::new()).await.unwrap().is_empty());
    assert!(store.due(100, NONE).await.unwrap().is_empty(), "nor is anything told of them");
    repeated.id = TaskId::new().unwrap();
    assert_eq!(store.insert(repeated.clone()).await.unwrap(), repeated.id, "nothing stands for its request");
}
