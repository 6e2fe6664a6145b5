//! The one thread that works on the file.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    thread,
};

use rusqlite::Connection;
use tokio::sync::mpsc;

/// A job for the thread. It replies to its own waiter.
pub(super) type Job = Box<dyn FnOnce(&mut Connection) + Send>;

/// The number of jobs that may wait. A further caller waits for a place.
const QUEUE: usize = 1024;

/// Starts a thread that does one job after another, and ends with the last sender.
pub(super) fn spawn(mut connection: Connection) -> Result<mpsc::Sender<Job>, std::io::Error> {
    let (sender, mut jobs) = mpsc::channel::<Job>(QUEUE);
    thread::Builder::new().name("steadfast-sqlite".to_owned()).spawn(move || {
        while let Some(job) = jobs.blocking_recv() {
            // A job that panics drops its reply, so its waiter gets an error, and the next job runs all the same.
            let _ = catch_unwind(AssertUnwindSafe(|| job(&mut connection)));
            if !connection.is_autocommit() {
                let _ = connection.execute_batch("ROLLBACK");
            }
        }
    })?;
    Ok(sender)
}
