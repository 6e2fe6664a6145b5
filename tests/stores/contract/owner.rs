//! The owner of a store: the first deployment that opens it, until it hands it over.

use std::{fmt::Debug, sync::Arc};

use steadfast::store::{StoreError, StoreErrorKind};
use steadfast_stores::{StoreOwner, postgres::Postgres, sqlite::Sqlite};
use tokio::{sync::Barrier, task::JoinSet};

use crate::testing::{Folder, Schema};

fn named(name: &str) -> Option<StoreOwner> {
    Some(StoreOwner::new(name))
}

fn refused(opened: Result<impl Debug, StoreError>, owner: &str, this: &str) {
    let error = opened.unwrap_err();
    assert!(error.kind() == StoreErrorKind::Misconfigured && !error.heals(), "{error}");
    let text = error.to_string();
    for part in [format!("`prefix: {owner:?}`"), format!("`prefix: {this:?}`"), format!("`former_prefix: {owner:?}`")] {
        assert!(text.contains(&part), "{text}");
    }
}

/// The contract: `open` opens the store as a process of a deployment does.
async fn has_one<S: Debug>(open: impl AsyncFn(Option<StoreOwner>) -> Result<S, StoreError>) {
    // Without a name nothing is known, and nobody becomes the owner.
    open(None).await.unwrap();
    open(named("shop:")).await.unwrap();
    open(named("shop:")).await.unwrap();
    open(None).await.unwrap();
    for other in ["blog:", "Shop:", "shop", "shop: "] {
        refused(open(named(other)).await, "shop:", other);
    }
    // The wrong former name hands nothing over; the right one does, once and for all.
    refused(open(Some(StoreOwner::new("blog:").formerly("shop"))).await, "shop:", "blog:");
    let blog = StoreOwner::new("blog:").formerly("shop:");
    open(Some(blog.clone())).await.unwrap();
    open(Some(blog)).await.unwrap();
    open(named("blog:")).await.unwrap();
    refused(open(named("shop:")).await, "blog:", "shop:");
}

/// Of many first starts at once one wins, and all of its name.
async fn is_one_of_many<S, F>(open: impl Fn(Option<StoreOwner>) -> F)
where
    S: Send + 'static,
    F: Future<Output = Result<S, StoreError>> + Send + 'static,
{
    let (mut starts, together) = (JoinSet::new(), Arc::new(Barrier::new(12)));
    for number in 0..12 {
        let name = ["shop:", "blog:", "mail:"][number % 3];
        let (opening, together) = (open(named(name)), together.clone());
        starts.spawn(async move {
            together.wait().await;
            (name, opening.await.is_ok())
        });
    }
    let ended = starts.join_all().await;
    let winners: Vec<_> = ended.iter().filter(|(_, is_open)| *is_open).map(|(name, _)| *name).collect();
    assert_eq!(winners.len(), 4, "{ended:?}");
    assert!(winners.iter().all(|name| *name == winners[0]), "{ended:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_file_has_one_owner() {
    let folder = Folder::new("owner");
    has_one(async |owner| Sqlite::open_for(folder.file(), owner.as_ref())).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 12)]
async fn of_many_first_starts_over_a_file_one_wins() {
    for round in 0..5 {
        let folder = Folder::new(&format!("owner-race-{round}"));
        let file = folder.file();
        // The tables may be there already, or not.
        if round % 2 == 0 {
            drop(Sqlite::open(&file).unwrap());
        }
        is_one_of_many(|owner| {
            let file = file.clone();
            async move { Sqlite::open_for(file, owner.as_ref()) }
        })
        .await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_database_has_one_owner() {
    let Some(schema) = Schema::new("owner").await else { return };
    has_one(async |owner| {
        let database = Postgres::lazy_for(schema.url(), owner)?;
        database.check().await.map(|()| database)
    })
    .await;
    schema.ends().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn of_many_first_starts_over_a_database_one_wins() {
    for round in 0..5 {
        let Some(schema) = Schema::new(&format!("owner_race_{round}")).await else { return };
        if round % 2 == 0 {
            Postgres::connect(schema.url()).await.unwrap();
        }
        is_one_of_many(|owner| {
            let database = Postgres::lazy_for(schema.url(), owner).unwrap();
            async move { database.check().await.map(|()| database) }
        })
        .await;
        schema.ends().await;
    }
}
