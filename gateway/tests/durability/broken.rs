//! A file that is full, gone or not to be written: nobody is told that anything is queued, and the log says why.

use crate::{
    common::Folder,
    gateway::{PATHS, Place, REASON, task_of},
    storm::desk,
    told::Told,
};

/// The file is deleted, or another is put in its place, under a gateway that has it open: what it would write there is lost.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_file_that_was_deleted_or_replaced_queues_nothing_until_it_is_back() {
    let folder = Folder::new("durability-deleted");
    let file = folder.file("log", "").with_file_name("tasks.db");
    let store = format!("sqlite:{}", file.display());
    let place = Place::new(file.parent().unwrap(), &store, "{}");
    let mut gateway = place.start();
    place.is_ready(&mut gateway).await;
    let mut told = Told::default();
    let asks = async |told: &mut Told, text: &str, path| {
        told.sends(text, false);
        let answer = place.asks(path, text, None).await.unwrap();
        task_of(&answer, path).map(|task| told.acknowledged(text, task.parse().unwrap())).is_some()
    };
    assert!(asks(&mut told, "before", PATHS[0]).await);
    let aside = file.with_extension("aside");
    std::fs::rename(&file, &aside).unwrap();
    for path in PATHS {
        assert!(!asks(&mut told, &format!("deleted {path}"), path).await);
    }
    std::fs::write(&file, "").unwrap();
    for path in PATHS {
        assert!(!asks(&mut told, &format!("replaced {path}"), path).await);
    }
    std::fs::rename(&aside, &file).unwrap();
    assert!(asks(&mut told, "after", PATHS[1]).await);
    gateway.kill();
    told.is_borne_out(&desk(&store).await.unwrap(), REASON).await;
}
