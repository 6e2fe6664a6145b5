//! Kept responses: in memory, in a file, in a database.

use std::{sync::Arc, time::Duration};

use steadfast::layers::cache::AnswerOwner;
use steadfast_stores::{
    postgres::Postgres,
    responses::{
        MemoryResponses, PathLimits, ResponseOrigin, ResponsePath, ResponseState, ResponseStore, StoredResponse,
    },
    sqlite::Sqlite,
};

use crate::testing::{Folder, Schema};

const HOUR: Duration = Duration::from_secs(3600);
const LIMITS: PathLimits = PathLimits { responses: 100, bytes: 1 << 20 };

/// A store as two processes have it, and what holds it.
struct Place {
    stores: [Arc<dyn ResponseStore>; 2],
    _folder: Option<Folder>,
    schema: Option<Schema>,
}

async fn memory(_: &str) -> Option<Place> {
    let store = MemoryResponses::new();
    Some(Place { stores: [Arc::new(store.clone()), Arc::new(store)], _folder: None, schema: None })
}

async fn sqlite(test: &str) -> Option<Place> {
    let folder = Folder::new(&format!("responses-{test}"));
    let open = || -> Arc<dyn ResponseStore> { Arc::new(Sqlite::open(folder.file()).unwrap()) };
    Some(Place { stores: [open(), open()], _folder: Some(folder), schema: None })
}

async fn postgres(test: &str) -> Option<Place> {
    let schema = Schema::new(&format!("responses_{test}")).await?;
    let connect = async || Postgres::connect(schema.url()).await.unwrap();
    let (one, other) = (connect().await, connect().await);
    Some(Place { stores: [Arc::new(one), Arc::new(other)], _folder: None, schema: Some(schema) })
}

macro_rules! responses {
    ($($place:ident)*) => {
        $(responses! { $place:
            a_response_comes_back_as_it_was_to_its_owner_alone
            a_path_is_the_conversation_from_its_first_turn_on
            a_path_with_a_gap_is_unknown
            a_path_over_a_limit_is_told_from_an_unknown_one
            two_that_continue_the_same_response_have_a_path_each
            a_response_expires_and_its_predecessors_stay_as_long_as_it
            an_item_is_found_in_the_latest_response_of_its_owner
            what_is_of_a_caller_or_a_session_is_forgotten_and_nothing_else
            over_its_room_an_owner_loses_its_own_oldest
            a_store_that_is_swept_has_nothing_expired
            a_response_that_runs_is_known_to_all_and_ends_once
            a_response_whose_process_is_gone_is_lost_and_can_be_ended
            a_response_that_ends_keeps_its_beginning_and_its_predecessors
        })*
    };
    ($place:ident: $($test:ident)*) => {
        mod $place {
            $(
                #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
                async fn $test() {
                    let Some(place) = super::$place(stringify!($test)).await else { return };
                    super::$test(&*place.stores[0], &*place.stores[1]).await;
                    drop(place.stores);
                    if let Some(schema) = place.schema {
                        schema.ends().await;
                    }
                }
            )*
        }
    };
}

responses!(memory sqlite postgres);

fn response(id: &str, owner: &str, previous: Option<&str>) -> StoredResponse {
    StoredResponse {
        id: id.to_owned(),
        owner: owner.to_owned(),
        session: Some(format!("session of {owner}")),
        previous: previous.map(str::to_owned),
        origin: Some(ResponseOrigin { account: "account".to_owned(), id: format!("own {id}") }),
        input: format!(r#"[{{"id":"msg_{id}","content":"né\u0000 {id}"}}]"#),
        response: format!(r#"{{"id":"{id}","output":[]}}"#),
        items: vec![format!("msg_{id}"), "shared".to_owned()],
        state: ResponseState::Ended,
    }
}

/// The ids of a path.
async fn ids(store: &dyn ResponseStore, owner: &str, id: &str) -> Option<Vec<String>> {
    match store.path(owner, id, LIMITS).await.unwrap() {
        ResponsePath::Whole(path) => Some(path.into_iter().map(|response| response.id).collect()),
        ResponsePath::Unknown => None,
        ResponsePath::TooLong => panic!("too long"),
    }
}

async fn a_response_comes_back_as_it_was_to_its_owner_alone(one: &dyn ResponseStore, other: &dyn ResponseStore) {
    let put = StoredResponse { origin: None, session: None, ..response("r1", "", None) };
    for put in [response("r2", "ada", None), put] {
        one.put(put.clone(), HOUR).await.unwrap();
        let found = other.get(&put.owner, &put.id).await.unwrap().unwrap();
        // A store need not read the ids of items back.
        assert_eq!(StoredResponse { items: put.items.clone(), ..found }, put);
    }
    for (owner, id) in [("ben", "r2"), ("", "r2"), ("ada", "r1"), ("ada", "r3")] {
        assert!(one.get(owner, id).await.unwrap().is_none(), "{owner} {id}");
        assert_eq!(ids(one, owner, id).await, None, "{owner} {id}");
        assert!(!one.delete(owner, id).await.unwrap(), "{owner} {id}");
    }
    assert!(other.delete("ada", "r2").await.unwrap() && !one.delete("ada", "r2").await.unwrap());
    assert!(one.get("ada", "r2").await.unwrap().is_none());
}

async fn a_path_is_the_conversation_from_its_first_turn_on(one: &dyn ResponseStore, other: &dyn ResponseStore) {
    for (id, previous) in [("a", None), ("b", Some("a")), ("c", Some("b"))] {
        one.put(response(id, "ada", previous), HOUR).await.unwrap();
    }
    for (id, path) in [("a", vec!["a"]), ("b", vec!["a", "b"]), ("c", vec!["a", "b", "c"])] {
        assert_eq!(ids(other, "ada", id).await.unwrap(), path);
    }
}

async fn a_path_with_a_gap_is_unknown(one: &dyn ResponseStore, _: &dyn ResponseStore) {
    for (id, owner, previous) in [("a", "ada", None), ("b", "ada", Some("a")), ("c", "ada", Some("b"))] {
        one.put(response(id, owner, previous), HOUR).await.unwrap();
    }
    // A predecessor that is another owner's is no predecessor.
    one.put(response("d", "ben", Some("c")), HOUR).await.unwrap();
    assert_eq!(ids(one, "ben", "d").await, None);
    assert!(one.delete("ada", "a").await.unwrap());
    assert_eq!((ids(one, "ada", "b").await, ids(one, "ada", "c").await), (None, None));
    assert!(one.get("ada", "c").await.unwrap().is_some(), "it can be read on");
}

async fn a_path_over_a_limit_is_told_from_an_unknown_one(one: &dyn ResponseStore, _: &dyn ResponseStore) {
    let mut previous = None;
    let mut size = 0;
    for turn in 0..5 {
        let id = format!("r{turn}");
        let put = response(&id, "ada", previous.as_deref());
        size += put.size();
        one.put(put, HOUR).await.unwrap();
        previous = Some(id);
    }
    for (responses, bytes, fits) in [(5, size, true), (4, size, false), (5, size - 1, false), (1, 1, false)] {
        let path = one.path("ada", "r4", PathLimits { responses, bytes }).await.unwrap();
        assert_eq!(matches!(path, ResponsePath::Whole(_)), fits, "{responses} {bytes}");
        assert_eq!(path == ResponsePath::TooLong, !fits, "{responses} {bytes}");
    }
    let narrow = PathLimits { responses: 1, bytes: 1 };
    assert_eq!(one.path("ada", "nobody's", narrow).await.unwrap(), ResponsePath::Unknown);
}

async fn two_that_continue_the_same_response_have_a_path_each(one: &dyn ResponseStore, other: &dyn ResponseStore) {
    one.put(response("a", "ada", None), HOUR).await.unwrap();
    let (left, right) =
        tokio::join!(one.put(response("b", "ada", Some("a")), HOUR), other.put(response("c", "ada", Some("a")), HOUR),);
    left.unwrap();
    right.unwrap();
    assert_eq!(ids(other, "ada", "b").await.unwrap(), ["a", "b"]);
    assert_eq!(ids(one, "ada", "c").await.unwrap(), ["a", "c"]);
}

async fn a_response_expires_and_its_predecessors_stay_as_long_as_it(one: &dyn ResponseStore, _: &dyn ResponseStore) {
    let short = Duration::from_millis(700);
    one.put(response("alone", "ada", None), short).await.unwrap();
    one.put(response("a", "ada", None), short).await.unwrap();
    one.put(response("b", "ada", Some("a")), short).await.unwrap();
    one.put(response("c", "ada", Some("b")), HOUR).await.unwrap();
    tokio::time::sleep(short * 2).await;
    assert!(one.get("ada", "alone").await.unwrap().is_none() && ids(one, "ada", "alone").await.is_none());
    assert!(one.with_item("ada", "msg_alone").await.unwrap().is_none());
    assert!(!one.delete("ada", "alone").await.unwrap());
    assert_eq!(ids(one, "ada", "c").await.unwrap(), ["a", "b", "c"]);
}

async fn an_item_is_found_in_the_latest_response_of_its_owner(one: &dyn ResponseStore, other: &dyn ResponseStore) {
    for (id, owner) in [("a", "ada"), ("b", "ada"), ("c", "ben")] {
        one.put(response(id, owner, None), HOUR).await.unwrap();
    }
    for (owner, item, found) in [
        ("ada", "msg_a", Some("a")),
        ("ada", "shared", Some("b")),
        ("ben", "shared", Some("c")),
        ("ben", "msg_a", None),
        ("", "shared", None),
    ] {
        let response = other.with_item(owner, item).await.unwrap();
        assert_eq!(response.as_ref().map(|response| &*response.id), found, "{owner} {item}");
    }
    assert!(one.delete("ada", "b").await.unwrap());
    assert_eq!(other.with_item("ada", "shared").await.unwrap().unwrap().id, "a");
}

async fn what_is_of_a_caller_or_a_session_is_forgotten_and_nothing_else(
    one: &dyn ResponseStore,
    other: &dyn ResponseStore,
) {
    for (id, owner) in [("a", "ada"), ("b", "ada"), ("c", "ben"), ("d", "")] {
        one.put(response(id, owner, None), HOUR).await.unwrap();
    }
    let both = AnswerOwner::session("session of ben").of_tenant("ada");
    assert_eq!(other.forget_owner(&both).await.unwrap(), 0);
    assert_eq!(other.forget_owner(&AnswerOwner::session("session of ben")).await.unwrap(), 1);
    assert_eq!(other.forget_owner(&AnswerOwner::tenant("ada")).await.unwrap(), 2);
    assert!(one.get("ada", "a").await.unwrap().is_none() && one.get("ben", "c").await.unwrap().is_none());
    assert!(one.with_item("ada", "msg_a").await.unwrap().is_none());
    assert!(one.get("", "d").await.unwrap().is_some());
}

async fn over_its_room_an_owner_loses_its_own_oldest(one: &dyn ResponseStore, _: &dyn ResponseStore) {
    one.put(response("x", "ben", None), HOUR).await.unwrap();
    for id in ["a", "b", "c"] {
        one.put(response(id, "ada", None), HOUR).await.unwrap();
    }
    let size = response("a", "ada", None).size() as u64;
    one.sweep(size * 2).await.unwrap();
    for (owner, id, stays) in [("ada", "a", false), ("ada", "b", true), ("ada", "c", true), ("ben", "x", true)] {
        assert_eq!(one.get(owner, id).await.unwrap().is_some(), stays, "{id}");
    }
}

async fn a_store_that_is_swept_has_nothing_expired(one: &dyn ResponseStore, _: &dyn ResponseStore) {
    one.put(response("a", "ada", None), Duration::from_millis(1)).await.unwrap();
    tokio::time::sleep(Duration::from_millis(50)).await;
    one.sweep(u64::MAX).await.unwrap();
    // The id is free again.
    one.put(response("a", "ada", None), HOUR).await.unwrap();
    assert!(one.get("ada", "a").await.unwrap().is_some());
}

async fn state(store: &dyn ResponseStore, owner: &str, id: &str) -> Option<ResponseState> {
    store.get(owner, id).await.unwrap().map(|found| found.state)
}

/// An end of a response, with an item that its beginning has not.
fn answered(id: &str, answer: &str) -> StoredResponse {
    let items = vec![format!("answer_{id}")];
    StoredResponse { origin: None, response: answer.to_owned(), items, ..response(id, "ada", None) }
}

async fn a_response_that_runs_is_known_to_all_and_ends_once(one: &dyn ResponseStore, other: &dyn ResponseStore) {
    for id in ["a", "b"] {
        one.begin(response(id, "ada", None), HOUR, HOUR).await.unwrap();
        assert_eq!(state(other, "ada", id).await, Some(ResponseState::Running));
        assert_eq!(state(other, "ben", id).await, None);
    }
    let ResponsePath::Whole(path) = other.path("ada", "a", LIMITS).await.unwrap() else { panic!("no path") };
    assert_eq!(path[0].state, ResponseState::Running);
    let with_item = other.with_item("ada", "msg_a").await.unwrap().unwrap();
    assert_eq!(with_item.state, ResponseState::Running);
    // Only its owner renews and ends it.
    assert!(one.renew("ada", "a", HOUR).await.unwrap() && !one.renew("ben", "a", HOUR).await.unwrap());
    let of_ben = StoredResponse { owner: "ben".to_owned(), ..answered("a", "{}") };
    assert!(!one.end(of_ben, HOUR).await.unwrap());
    let (left, right) = tokio::join!(one.end(answered("a", "left"), HOUR), other.end(answered("a", "right"), HOUR));
    let (left, right) = (left.unwrap(), right.unwrap());
    assert!(left != right, "{left} {right}");
    let ended = one.get("ada", "a").await.unwrap().unwrap();
    assert_eq!((ended.state, &*ended.response), (ResponseState::Ended, if left { "left" } else { "right" }));
    assert!(!one.renew("ada", "a", HOUR).await.unwrap(), "it has ended");
    // One that is deleted has no end.
    assert!(other.delete("ada", "b").await.unwrap());
    assert!(!one.renew("ada", "b", HOUR).await.unwrap() && !one.end(answered("b", "{}"), HOUR).await.unwrap());
    assert_eq!(state(one, "ada", "b").await, None);
    // One that was stored at its end never ran.
    one.put(response("c", "ada", None), HOUR).await.unwrap();
    assert!(!one.renew("ada", "c", HOUR).await.unwrap() && !one.end(answered("c", "{}"), HOUR).await.unwrap());
    assert_eq!(state(one, "ada", "c").await, Some(ResponseState::Ended));
}

async fn a_response_whose_process_is_gone_is_lost_and_can_be_ended(one: &dyn ResponseStore, other: &dyn ResponseStore) {
    let short = Duration::from_millis(300);
    for id in ["a", "b"] {
        one.begin(response(id, "ada", None), HOUR, short).await.unwrap();
    }
    assert!(one.renew("ada", "b", HOUR).await.unwrap());
    tokio::time::sleep(short * 2).await;
    assert_eq!(state(other, "ada", "a").await, Some(ResponseState::Lost));
    assert_eq!(state(other, "ada", "b").await, Some(ResponseState::Running));
    // It was slow, and not gone.
    assert!(one.renew("ada", "a", short).await.unwrap());
    assert_eq!(state(other, "ada", "a").await, Some(ResponseState::Running));
    tokio::time::sleep(short * 2).await;
    assert!(one.end(answered("a", "{}"), HOUR).await.unwrap());
    assert_eq!(state(other, "ada", "a").await, Some(ResponseState::Ended));
}

async fn a_response_that_ends_keeps_its_beginning_and_its_predecessors(
    one: &dyn ResponseStore,
    other: &dyn ResponseStore,
) {
    let short = Duration::from_millis(300);
    one.put(response("first", "ada", None), short).await.unwrap();
    let begun = response("a", "ada", Some("first"));
    one.begin(begun.clone(), short, HOUR).await.unwrap();
    let end = StoredResponse { origin: None, ..answered("a", "answer") };
    assert!(one.end(end, HOUR).await.unwrap());
    tokio::time::sleep(short * 2).await;
    assert_eq!(ids(other, "ada", "a").await.unwrap(), ["first", "a"]);
    let ended = other.get("ada", "a").await.unwrap().unwrap();
    assert_eq!((&*ended.input, &*ended.response, ended.origin), (&*begun.input, "answer", None));
    for item in ["msg_a", "answer_a"] {
        assert_eq!(other.with_item("ada", item).await.unwrap().unwrap().id, "a", "{item}");
    }
}
