//! The places of objects that providers keep: in memory, in a file, in a database.

use std::sync::Arc;

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
    one.put(vec![place("file-1", "", "main"), place("File-1", "a", "main")]).await.unwrap();
    one.put(Vec::new()).await.unwrap();
    // An id keeps what it has, and the others of the call are stored.
    other.put(vec![place("file-1", "thief", "other"), place("batch_'2", "b", "other")]).await.unwrap();
    let mut found = one.find(ids(&["batch_'2", "file-1", "file-3", "FILE-1"])).await.unwrap();
    found.sort_by(|one, other| one.id.cmp(&other.id));
    assert_eq!(found, [place("batch_'2", "b", "other"), place("file-1", "", "main")]);
    assert!(one.find(Vec::new()).await.unwrap().is_empty());

    assert!(one.delete("batch_'2").await.unwrap() && !other.delete("batch_'2").await.unwrap());
    let mut session = AnswerOwner::tenant("a");
    session.session = Some("a".into());
    assert_eq!(one.forget_owner(&session).await.unwrap(), 0);
    assert_eq!(other.forget_owner(&AnswerOwner::tenant("a")).await.unwrap(), 1);
    assert_eq!(one.find(ids(&["file-1", "File-1"])).await.unwrap(), [place("file-1", "", "main")]);
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
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_database_keeps_places() {
    let Some(schema) = Schema::new("object_places").await else { return };
    let connect = async || Postgres::connect(schema.url()).await.unwrap();
    keeps([Arc::new(connect().await), Arc::new(connect().await)]).await;
    schema.ends().await;
}
