//! A file that is full, gone or not to be written: nobody is told that anything is queued, and the log says why.

use std::{fs, io::Write as _, path::PathBuf, process::Command};

use crate::{
    common::{Folder, serve::Process},
    durability::{
        gateway::{PATHS, Place, REASON, SECRET_WORDS, task_of},
        storm::desk,
        told::Told,
        until,
    },
};

/// A gateway with a file of its own, and one client.
struct Broken {
    place: Place,
    gateway: Process,
    file: PathBuf,
    told: Told,
    /// Counts the requests that were not queued.
    outages: usize,
    is_away: bool,
}

impl Broken {
    async fn new(file: PathBuf) -> Self {
        let place = Place::new(&format!("sqlite:{}", file.display()), "{}");
        let gateway = place.start().await;
        Self { place, gateway, file, told: Told::default(), outages: 0, is_away: false }
    }

    /// In both dialects, some pages each. Whether it is queued.
    async fn asks(&mut self, what: &str) -> bool {
        let mut queued = Vec::new();
        for path in PATHS {
            let text = format!("{what} {path} {SECRET_WORDS} {}", "w".repeat(100_000));
            self.told.sends(&text, false);
            let answer = self.place.asks(path, &text, None).await.unwrap();
            let task = task_of(&answer, path);
            if let Some(task) = task {
                self.told.acknowledged(&text, task.parse().unwrap());
            }
            self.outages += usize::from(task.is_none() && !self.is_away);
            self.is_away = task.is_none();
            queued.push(answer.status == 200);
        }
        assert_eq!(queued[0], queued[1], "{what}");
        queued[0]
    }

    /// Asserts that every queued task exists and that the log has the reason of each outage once.
    async fn ends(mut self, why: &str) {
        let serve = &self.place.serve;
        // A line is written soon after what it tells of.
        let ends = async || serve.log().matches("handoff_works_again").count() >= self.outages;
        until("the log has the end of each outage", ends).await;
        assert_eq!(self.gateway.ended(), None);
        self.gateway.kill();
        let log = serve.log();
        let of = |event: &str| log.lines().filter(|line| line.contains(event)).collect::<Vec<_>>();
        let refused = of("handoff_refused");
        assert!(refused.len() == self.outages && refused.iter().all(|line| line.contains(why)), "{log}");
        assert_eq!(of("handoff_works_again").len(), self.outages, "{log}");
        assert!(!log.contains(SECRET_WORDS) && !log.contains("panicked"), "{log}");
        let desk = desk(&format!("sqlite:{}", self.file.display())).await.unwrap();
        self.told.is_borne_out(&desk, REASON).await;
    }
}

/// A file whose writer ends with the gateway.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_file_that_was_deleted_or_replaced_queues_nothing_until_it_is_back() {
    let folder = Folder::new("durability-deleted");
    let file = folder.path("tasks.db");
    let mut broken = Broken::new(file.clone()).await;
    assert!(broken.asks("before").await);
    let aside = file.with_extension("aside");
    fs::rename(&file, &aside).unwrap();
    assert!(!broken.asks("deleted").await);
    fs::write(&file, "").unwrap();
    assert!(!broken.asks("replaced").await);
    fs::rename(&aside, &file).unwrap();
    assert!(broken.asks("after").await);
    broken.ends("was deleted, moved or replaced").await;
}

/// A disk of 4 MiB.
pub(crate) struct Disk(pub(crate) PathBuf);

impl Disk {
    /// `None`, said in one line, where this user may not have one.
    pub(crate) fn new(path: PathBuf) -> Option<Self> {
        fs::create_dir(&path).unwrap();
        let disk = Self(path);
        let is_there = disk.mount(&["-t", "tmpfs", "-o", "size=4m", "tmpfs"]);
        if !is_there {
            println!("skipped: this user may not mount a disk");
        }
        is_there.then_some(disk)
    }

    fn mount(&self, how: &[&str]) -> bool {
        Command::new("mount").args(how).arg(&self.0).output().is_ok_and(|ran| ran.status.success())
    }

    pub(crate) fn filler(&self) -> PathBuf {
        self.0.join("filler")
    }

    pub(crate) fn fills(&self) {
        let mut filler = fs::File::create(self.filler()).unwrap();
        // Until not one byte more is taken.
        for size in [65_536, 4096, 1] {
            while filler.write_all(&vec![b'x'; size]).is_ok() {}
        }
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.0).output();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_disk_queues_nothing_until_there_is_room() {
    let folder = Folder::new("durability-full");
    let Some(disk) = Disk::new(folder.path("disk")) else { return };
    let mut broken = Broken::new(disk.0.join("tasks.db")).await;
    assert!(broken.asks("before").await);
    disk.fills();
    assert!(!broken.asks("full").await);
    assert!(!broken.asks("still full").await);
    fs::remove_file(disk.filler()).unwrap();
    assert!(broken.asks("after").await);
    broken.ends("the store is full").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_disk_that_may_not_be_written_is_said_before_anybody_is_served() {
    let folder = Folder::new("durability-read-only");
    let Some(disk) = Disk::new(folder.path("disk")) else { return };
    let mut broken = Broken::new(disk.0.join("tasks.db")).await;
    assert!(broken.asks("before").await);
    broken.gateway.kill();
    assert!(disk.mount(&["-o", "remount,ro"]));
    let refused = broken.place.serve.refused();
    assert_eq!(refused.code, Some(2));
    assert!(refused.err.contains("the store cannot be written"), "{}", refused.err);
    assert!(disk.mount(&["-o", "remount,rw"]));
    broken.gateway = broken.place.start().await;
    assert!(broken.asks("after").await);
    broken.ends("no reason").await;
}
