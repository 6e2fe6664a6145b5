//! Troubles of a file lose nothing.

use rusqlite::Connection;
use steadfast::{LlmRequest, store::StoreErrorKind};
use steadfast_handoff::{Claimant, Desk, DeskError, Handoff, RedriveScope, TaskFilter, TaskState, TaskStore};
use steadfast_stores::sqlite::Sqlite;
use tower::ServiceExt;

use crate::{tasks::suite::new_task, testing::Folder};

fn kind(error: DeskError) -> StoreErrorKind {
    match error {
        DeskError::Store(error) => error.kind(),
        error => panic!("{error}"),
    }
}

pub(crate) fn open(place: &Folder) -> Sqlite {
    Sqlite::open(place.file()).unwrap()
}

/// Another's hand on the file.
fn other(place: &Folder, sql: &str) {
    Connection::open(place.file()).unwrap().execute_batch(sql).unwrap();
}

#[tokio::test]
async fn what_was_acknowledged_is_there_when_the_file_is_opened_again() {
    let place = Folder::new("tasks-again");
    let desk = Desk::new(open(&place));
    assert!(desk.is_durable());
    let response = Handoff::new(&desk).oneshot(LlmRequest::prompt("May I?")).await.unwrap();
    let id = response.task_id().unwrap().parse().unwrap();
    drop(desk);
    let desk = Desk::new(open(&place));
    assert_eq!(desk.show(id).await.unwrap().state, TaskState::Waiting);
    desk.answer(id, "ana", "You may.").await.unwrap();
}

#[tokio::test]
async fn two_that_have_the_file_open_see_the_same_tasks() {
    let place = Folder::new("tasks-two");
    let (here, there) = (Desk::new(open(&place)), Desk::new(open(&place)));
    let asked = tokio::spawn(Handoff::new(&here).wait().oneshot(LlmRequest::prompt("May I?")));
    let id = loop {
        if let [task] = &there.list(TaskFilter::new()).await.unwrap()[..] {
            break task.id;
        }
    };
    there.claim(id, "ana").await.unwrap();
    assert!(matches!(here.claim(id, "ben").await, Err(DeskError::ClaimedByAnother { .. })));
    there.answer(id, "ana", "You may.").await.unwrap();
    assert_eq!(asked.await.unwrap().unwrap().text().await.unwrap(), "You may.");
}

#[tokio::test]
async fn a_damaged_row_is_an_error_of_its_own_and_the_rest_is_served() {
    let place = Folder::new("tasks-damaged");
    let store = open(&place);
    let (bad, good) = (store.insert(new_task("bad")).await.unwrap(), store.insert(new_task("good")).await.unwrap());
    other(&place, &format!("UPDATE tasks SET request = '{{\"form\":', created_at = 0 WHERE id = '{bad}'"));
    let error = store.get(bad).await.unwrap_err();
    assert!(error.to_string().contains(&bad.to_string()) && error.to_string().contains("request"), "{error}");
    assert_eq!(kind(error), StoreErrorKind::Corrupt);
    assert_eq!(store.list(TaskFilter::new()).await.unwrap().len(), 2, "its head can be read");
    let oldest =
        store.claim_oldest(Claimant::redrive("1"), std::time::Duration::ZERO, RedriveScope::All).await.unwrap();
    assert_eq!(oldest.unwrap().id, good, "it holds up nobody");
    other(&place, &format!("UPDATE tasks SET expires_at = 'soon' WHERE id = '{bad}'"));
    let listed = store.list(TaskFilter::new()).await.unwrap();
    assert_eq!(listed.iter().map(|task| task.id).collect::<Vec<_>>(), [good]);
    assert_eq!(
        kind(store.claim(bad, Claimant::person("ana"), std::time::Duration::ZERO).await.unwrap_err()),
        StoreErrorKind::Corrupt
    );
}

#[tokio::test]
async fn a_file_of_a_newer_version_is_refused() {
    let place = Folder::new("tasks-newer");
    drop(open(&place));
    other(&place, "PRAGMA user_version = 99");
    assert_eq!(Sqlite::open(place.file()).unwrap_err().kind(), StoreErrorKind::NewerSchema);
}

#[tokio::test]
async fn a_file_from_before_there_were_tasks_is_brought_up_to_date() {
    let place = Folder::new("tasks-before");
    drop(open(&place));
    let later = [
        "response_leases",
        "owner",
        "worked_keys",
        "registry_changes",
        "registry",
        "ledger_grants",
        "ledger_hours",
        "ledger",
        "places",
        "response_items",
        "responses",
        "answers",
        "task_deliveries",
        "tasks",
    ];
    let drop = later.map(|table| format!("DROP TABLE {table};")).concat();
    other(&place, &format!("{drop} PRAGMA user_version = 1"));
    let store = open(&place);
    store.insert(new_task("hello")).await.unwrap();
}

#[tokio::test]
async fn a_caller_who_is_cancelled_at_any_moment_leaves_a_whole_task_or_none() {
    let place = Folder::new("tasks-cancelled");
    let desk = Desk::new(open(&place));
    for polls in 0..30 {
        let mut asked = Box::pin(Handoff::new(&desk).oneshot(LlmRequest::prompt("May I?")));
        for _ in 0..polls {
            if futures_util::poll!(asked.as_mut()).is_ready() {
                break;
            }
            tokio::task::yield_now().await;
        }
        drop(asked);
    }
    let tasks = desk.list(TaskFilter::new().limit(1000)).await.unwrap();
    for task in &tasks {
        assert_eq!(desk.show(task.id).await.unwrap().state, TaskState::Waiting);
    }
    assert_eq!(desk.stats().await.unwrap().waiting, tasks.len() as u64);
}
