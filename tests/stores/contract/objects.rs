//! The places of objects that providers keep: in memory, in a file, in a database.

use std::{sync::Arc, time::Duration};

use steadfast::layers::cache::AnswerOwner;
use steadfast_stores::{
    places::{MemoryPlaces, Place, PlaceStore},
    postgres::Postgres,
    sqlite::Sqlite,
};

use crate::testing::{Folder, Schema};

/// The contract of a store, as two processes have it.
async fn keeps(stores: [Arc<dyn PlaceStore>; 2]) {
    let place = |id: &str, owner: &str, tier: &str| Place { id: id.into(), owner: owner.into(), tier: tier.into() };
    let ids = |ids: &[&str]| ids.iter().map(|id| (*id).to_owned()).collect::<Vec<_>>();
    let [one, other] = stores;
    one.put(vec![place("file-1", "", "main"), place("File-1", "a", "main")], None).await.unwrap();
    one.put(Vec::new(), None).await.unwrap();
    // An id keeps what it has, and the others of the call are stored.
    other.put(vec![place("file-1", "thief", "other"), place("batch_'2", "b", "other")], None).await.unwrap();
    let mut found = one.find(ids(&["batch_'2", "file-1", "file-3", "FILE-1"])).await.unwrap();
    found.sort_by(|one, other| one.id.cmp(&other.id));
    assert_eq!(found, [place("batch_'2", "b", "other"), place("file-1", "", "main")]);
    assert!(one.find(Vec::new()).await.unwrap().is_empty());

    let day = Some(Duration::from_secs(86_400));
    one.put(vec![place("resp_1", "a", "main"), place("file-1", "a", "main")], day).await.unwrap();
    let found = other.find(ids(&["resp_1", "file-1"])).await.unwrap();
    assert!(found.contains(&place("resp_1", "a", "main")) && found.contains(&place("file-1", "", "main")), "{found:?}");

    assert!(one.delete("batch_'2").await.unwrap() && !other.delete("batch_'2").await.unwrap());
    let mut session = AnswerOwner::tenant("a");
    session.session = Some("a".into());
    assert_eq!(one.forget_owner(&session).await.unwrap(), 0);
    assert_eq!(other.forget_owner(&AnswerOwner::tenant("a")).await.unwrap(), 2);
    assert_eq!(one.find(ids(&["file-1", "File-1"])).await.unwrap(), [place("file-1", "", "main")]);
}

/// A place that is kept for no time is over at once, and the next one of its kind removes it.
async fn ends(store: Arc<dyn PlaceStore>) {
    let place = |id: &str| Place { id: id.into(), owner: "a".into(), tier: "main".into() };
    store.put(vec![place("resp_1")], Some(Duration::ZERO)).await.unwrap();
    store.put(vec![place("file-9")], None).await.unwrap();
    let find = || store.find(vec!["resp_1".into(), "file-9".into()]);
    // The shortest time is a millisecond.
    while find().await.unwrap().len() > 1 {
        tokio::task::yield_now().await;
    }
    assert_eq!(find().await.unwrap(), [place("file-9")]);
    store.put(vec![place("resp_2")], Some(Duration::from_secs(3600))).await.unwrap();
    assert_eq!(store.forget_owner(&AnswerOwner::tenant("a")).await.unwrap(), 2, "resp_1 is removed");
}

#[tokio::test]
async fn memory_keeps_places() {
    let store = MemoryPlaces::new();
    keeps([Arc::new(store.clone()), Arc::new(store)]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_file_keeps_places() {
    let folder = Folder::new("object-places");
    let open = || -> Arc<dyn PlaceStore> { Arc::new(Sqlite::open(folder.file()).unwrap()) };
    keeps([open(), open()]).await;
    assert_eq!(open().find(vec!["file-1".to_owned()]).await.unwrap().len(), 1, "after a restart");
    ends(open()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_database_keeps_places() {
    let Some(schema) = Schema::new("object_places").await else { return };
    let connect = async || Postgres::connect(schema.url()).await.unwrap();
    keeps([Arc::new(connect().await), Arc::new(connect().await)]).await;
    ends(Arc::new(connect().await)).await;
    schema.ends().await;
}
