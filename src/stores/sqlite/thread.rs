//! The one thread that works on the file.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    thread,
};

use rusqlite::Connection;
use tokio::sync::mpsc;

/// What is to be done. It tells whoever waits for it by itself.
pub(super) type Job = Box<dyn FnOnce(&mut Connection) + Send>;

/// How many may wait. Whoever comes then waits for a place.
const QUEUE: usize = 1024;

/// A thread that does one job after another, and ends with the last sender.
pub(super) fn spawn(mut connection: Connection) -> Result<mpsc::Sender<Job>, std::io::Error> {
    let (sender, mut jobs) = mpsc::channel::<Job>(QUEUE);
    thread::Builder::new().name("steadfast-sqlite".to_owned()).spawn(move || {
        while let Some(job) = jobs.blocking_recv() {
            // Who waits for a job that panics hears of it, and the next one is done all the same.
            let _ = catch_unwind(AssertUnwindSafe(|| job(&mut connection)));
            if !connection.is_autocommit() {
                let _ = connection.execute_batch("ROLLBACK");
            }
        }
    })?;
    Ok(sender)
}
