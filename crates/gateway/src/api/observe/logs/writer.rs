//! The queue between the program and the reader of the log.

use std::{
    fmt, io, mem,
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    thread,
    time::Duration,
};

use crate::lock::lock;

/// The largest queue of lines, in bytes, some 20,000 lines; the thread may be writing as many again.
const MAX_QUEUED: usize = 4 * 1024 * 1024;
/// The capacity that the queue keeps after a rush.
const KEPT_CAPACITY: usize = 64 * 1024;

/// A queue of lines, which a thread of its own writes: logging never waits for the reader of the log. Lines that do not
/// fit are lost and counted. Clones share the queue.
#[derive(Clone)]
pub(super) struct Writer {
    shared: Arc<Shared>,
}

struct Shared {
    queue: Mutex<Queue>,
    /// Signals that there are lines to write.
    filled: Condvar,
    /// Signals that all lines are written.
    emptied: Condvar,
}

#[derive(Default)]
struct Queue {
    lines: Vec<u8>,
    lost: u64,
    /// True while the thread writes lines.
    writing: bool,
}

impl Writer {
    /// Starts the thread that writes lines to `to`. It reports the number of lost lines once there is room again.
    ///
    /// # Errors
    ///
    /// The system refuses a thread.
    pub(super) fn begin(
        to: impl io::Write + Send + 'static,
        tell_lost: impl Fn(u64) + Send + 'static,
    ) -> io::Result<Self> {
        let shared = Arc::new(Shared { queue: Mutex::default(), filled: Condvar::new(), emptied: Condvar::new() });
        let of_thread = shared.clone();
        thread::Builder::new().name("log".to_owned()).spawn(move || of_thread.write(to, tell_lost))?;
        Ok(Self { shared })
    }

    /// Waits until every line is written, up to a limit; returns whether all are.
    pub(super) fn flush(&self, limit: Duration) -> bool {
        let queue = self.shared.lock();
        let waited = self.shared.emptied.wait_timeout_while(queue, limit, |queue| !queue.is_empty());
        waited.unwrap_or_else(PoisonError::into_inner).0.is_empty()
    }
}

/// Each call has one whole line.
impl io::Write for Writer {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        let mut queue = self.shared.lock();
        if queue.lines.len() + line.len() > MAX_QUEUED {
            queue.lost += 1;
        } else {
            queue.lines.extend_from_slice(line);
        }
        drop(queue);
        self.shared.filled.notify_one();
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Shared {
    fn write(&self, mut to: impl io::Write, tell_lost: impl Fn(u64)) {
        let mut lines = Vec::new();
        loop {
            let mut queue = self.lock();
            queue.writing = false;
            if queue.is_empty() {
                self.emptied.notify_all();
            }
            let waited = self.filled.wait_while(queue, |queue| queue.is_empty());
            let mut queue = waited.unwrap_or_else(PoisonError::into_inner);
            mem::swap(&mut lines, &mut queue.lines);
            let lost = mem::take(&mut queue.lost);
            queue.writing = true;
            drop(queue);
            // An error of writing the log has nowhere to go.
            let _ = to.write_all(&lines).and_then(|()| to.flush());
            lines.clear();
            lines.shrink_to(KEPT_CAPACITY);
            if lost > 0 {
                tell_lost(lost);
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, Queue> {
        lock(&self.queue)
    }
}

impl Queue {
    fn is_empty(&self) -> bool {
        self.lines.is_empty() && self.lost == 0 && !self.writing
    }
}

impl fmt::Debug for Writer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Writer").field("waiting", &self.shared.lock().lines.len()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::{
        io::Write as _,
        sync::{
            atomic::{AtomicU64, Ordering},
            mpsc::{Receiver, SyncSender, sync_channel},
        },
    };

    use super::*;

    const LONG: Duration = Duration::from_secs(20);

    /// A writer that blocks until it is opened.
    struct Gate {
        open: Receiver<()>,
        took: Arc<Mutex<Vec<u8>>>,
    }

    impl io::Write for Gate {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            // A dropped opener leaves it open.
            let _ = self.open.recv();
            self.took.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    struct Gated {
        writer: Writer,
        /// Opens the gate on drop.
        opener: SyncSender<()>,
        took: Arc<Mutex<Vec<u8>>>,
        lost: Arc<AtomicU64>,
    }

    fn gated() -> Gated {
        let (opener, open) = sync_channel(0);
        let (took, lost) = (Arc::new(Mutex::default()), Arc::new(AtomicU64::new(0)));
        let told = lost.clone();
        let gate = Gate { open, took: took.clone() };
        let count = move |lost| {
            told.fetch_add(lost, Ordering::Relaxed);
        };
        let writer = Writer::begin(gate, count).unwrap();
        Gated { writer, opener, took, lost }
    }

    #[test]
    fn lines_are_written_in_their_order_and_none_is_lost() {
        let Gated { mut writer, opener, took, lost } = gated();
        drop(opener);
        let lines: Vec<String> = (0..1000).map(|number| format!("line {number}\n")).collect();
        for line in &lines {
            writer.write_all(line.as_bytes()).unwrap();
        }
        assert!(writer.flush(LONG));
        assert_eq!(String::from_utf8(took.lock().unwrap().clone()).unwrap(), lines.concat());
        assert_eq!(lost.load(Ordering::Relaxed), 0);
    }

    #[test]
    fn who_logs_does_not_wait_and_what_finds_no_room_is_counted() {
        let Gated { mut writer, opener, took, lost } = gated();
        let line = [b'x'; 1 << 20];
        // One line is being written, four fill the queue, and two do not fit.
        writer.write_all(&line).unwrap();
        while !writer.shared.lock().writing {
            thread::yield_now();
        }
        for _ in 0..6 {
            writer.write_all(&line).unwrap();
        }
        assert!(!writer.flush(Duration::ZERO), "nothing was written yet");
        drop(opener);
        assert!(writer.flush(LONG));
        assert_eq!((took.lock().unwrap().len(), lost.load(Ordering::Relaxed)), (5 << 20, 2));
        // There is room again.
        writer.write_all(b"more\n").unwrap();
        assert!(writer.flush(LONG));
        assert!(took.lock().unwrap().ends_with(b"more\n"));
    }
}
