//! Long work beside the threads that serve requests.
//!
//! From 256 KiB on a request is translated on the runtime's pool for blocking work, and a long check of an answer is
//! done there, four at once in the process. The waiting call holds a guard. Dropping the guard stops the work, be it by
//! the caller, by a hedge that has won or by a timeout further out; a translation checks at each message whether it
//! goes on.

use tokio::{runtime::Handle, sync::Semaphore, time::Instant};

use super::{Stop, limits::StopOnDrop};
use crate::{ErrorKind, LlmError};

/// The size in bytes from which a body is parsed off the threads that serve requests. A smaller one takes less than a
/// few milliseconds, which is about the cost of handing it over under load.
pub const LARGE: usize = 256 * 1024;

/// The number of bodies that the process parses at once. Further ones wait, so that no caller can fill the pool of
/// threads or the memory.
static AT_ONCE: Semaphore = Semaphore::const_new(4);

/// Does the work on a thread of the runtime's pool for blocking work. Without a runtime it is done at once.
///
/// Dropping the future stops the work at the next [check](Stop::check), and so does the deadline.
///
/// # Errors
///
/// Those of the work, and [`ErrorKind::Deadline`].
pub async fn offload<T, W>(deadline: Option<Instant>, work: W) -> Result<T, LlmError>
where
    T: Send + 'static,
    W: FnOnce(Stop) -> Result<T, LlmError> + Send + 'static,
{
    if Handle::try_current().is_err() {
        return work(Stop::default());
    }
    let (stop, guard) = Stop::pair();
    let done = done(work, stop, guard);
    let Some(deadline) = deadline else { return done.await };
    tokio::time::timeout_at(deadline, done).await.unwrap_or_else(|_| {
        Err(LlmError::new(ErrorKind::Deadline, "the request's deadline passed while it, or its answer, was read"))
    })
}

async fn done<T, W>(work: W, stop: Stop, _stops: StopOnDrop) -> Result<T, LlmError>
where
    T: Send + 'static,
    W: FnOnce(Stop) -> Result<T, LlmError> + Send + 'static,
{
    // The semaphore is never closed.
    let permit = AT_ONCE.acquire().await.ok();
    let working = tokio::task::spawn_blocking(move || {
        // The place is free once the work has ended, even if its caller has left.
        let _place = permit;
        stop.check()?;
        work(stop)
    });
    working.await.unwrap_or_else(|error| {
        Err(LlmError::new(ErrorKind::Other, "the request, or its answer, could not be read").with_source(error))
    })
}

#[cfg(test)]
mod tests {
    use std::{sync::mpsc, time::Duration};

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn work_is_done_and_its_error_comes_out() {
        assert_eq!(offload(None, |_| Ok(7)).await.unwrap(), 7);
        let error = offload::<(), _>(None, |_| Err(LlmError::new(ErrorKind::InvalidRequest, "no"))).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidRequest);
    }

    /// Work that goes on until it is stopped, and then reports that.
    fn endless(told: mpsc::Sender<()>) -> impl FnOnce(Stop) -> Result<(), LlmError> + Send {
        move |stop| {
            while !stop.is_given() {
                std::thread::yield_now();
            }
            told.send(()).expect("somebody listens");
            Ok(())
        }
    }

    #[tokio::test]
    async fn who_leaves_stops_the_work() {
        let (told, heard) = mpsc::channel();
        let mut working = Box::pin(offload(None, endless(told)));
        assert!(futures_util::poll!(&mut working).is_pending());
        drop(working);
        // The work has stopped, or has not begun and never will.
        let _stopped_or_never_begun = tokio::task::spawn_blocking(move || heard.recv()).await.unwrap();
    }

    #[tokio::test]
    async fn the_deadline_stops_the_work() {
        let (told, heard) = mpsc::channel();
        let deadline = Instant::now() + Duration::from_millis(5);
        let error = offload(Some(deadline), endless(told)).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Deadline);
        let _stopped_or_never_begun = tokio::task::spawn_blocking(move || heard.recv()).await.unwrap();
    }
}
