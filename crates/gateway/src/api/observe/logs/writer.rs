//! What stands between those who log and who reads the log.

use std::{
    fmt, io, mem,
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    thread,
    time::Duration,
};

use crate::lock::lock;

/// How many bytes of lines wait at most; as many again may be on their way out. Some 20,000 lines.
const MAX_QUEUED: usize = 4 * 1024 * 1024;
/// So much room is kept after a rush.
const KEPT_CAPACITY: usize = 64 * 1024;

/// Where lines go, to be written by a thread of its own: who logs never waits for who reads the log. Lines that find no
/// room are lost, and counted. Clones are the same writer.
#[derive(Clone)]
pub(super) struct Writer {
    shared: Arc<Shared>,
}

struct Shared {
    queue: Mutex<Queue>,
    /// There is something to write.
    filled: Condvar,
    /// Everything is written.
    emptied: Condvar,
}

#[derive(Default)]
struct Queue {
    lines: Vec<u8>,
    lost: u64,
    /// Lines were taken, and are being written.
    writing: bool,
}

impl Writer {
    /// Writes to this. Of lines that were lost their number is told, once there is room again.
    ///
    /// # Errors
    ///
    /// There is no thread to be had.
    pub(super) fn begin(
        to: impl io::Write + Send + 'static,
        tell_lost: impl Fn(u64) + Send + 'static,
    ) -> io::Result<Self> {
        let shared = Arc::new(Shared { queue: Mutex::default(), filled: Condvar::new(), emptied: Condvar::new() });
        let of_thread = shared.clone();
        thread::Builder::new().name("log".to_owned()).spawn(move || of_thread.write(to, tell_lost))?;
        Ok(Self { shared })
    }

    /// Waits until every line is written, but no longer than this: whether it is.
    pub(super) fn flush(&self, limit: Duration) -> bool {
        let queue = self.shared.lock();
        let waited = self.shared.emptied.wait_timeout_while(queue, limit, |queue| !queue.is_empty());
        waited.unwrap_or_else(PoisonError::into_inner).0.is_empty()
    }
}

/// A line comes whole, in one call.
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
            // There is nobody to tell that the log cannot be written.
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

    /// Takes a write when it is let.
    struct Gate {
        open: Receiver<()>,
        took: Arc<Mutex<Vec<u8>>>,
    }

    impl io::Write for Gate {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            // Open for good once nobody is there to open it.
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
        /// Dropped, it lets everything through.
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
        // What is being written, what fills the room, and two more.
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
