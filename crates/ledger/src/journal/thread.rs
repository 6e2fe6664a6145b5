//! The journal, and the thread that keeps it.
//!
//! A request's thread writes its own record, and whatever else is queued: a kill of the process between a call and its
//! line would lose it. The thread does what may take long. It deletes and rotates files, reads rows back, and writes in
//! the place of all others while the disk is slow. Nobody calls fsync: what is written outlives the process, and a
//! crash of the machine may lose about the last second.

use std::{
    collections::{HashMap, VecDeque},
    fs::DirBuilder,
    io,
    path::{Path, PathBuf},
    sync::{Arc, atomic::Ordering::Relaxed},
    thread,
    time::Duration,
};

use steadfast_internal::sync::lock;
use tokio::time::Instant;

use super::{
    record::{Record, decode},
    segment::Segment,
};
use crate::{
    id::RowId,
    journal::shared::{Item, Shared, State, Waiting, Work},
    row::LedgerRow,
};

/// The size at which a segment ends and the next one begins.
const SEGMENT_BYTES: u64 = 4 * 1024 * 1024;
/// The share of the whole journal that a segment may have at most.
const SEGMENT_SHARE: u64 = 4;
/// The bytes that are written at a time.
const WRITE_BYTES: usize = 1024 * 1024;
/// The share of the journal that must be free again before its trouble is over.
const FULL_SHARE: u64 = 4;
/// The rows that are passed on at a time.
const PASS_ROWS: usize = 128;
/// The rows that are read back at a time.
const READ_ROWS: usize = 1000;

/// The time of a write from which on a disk counts as slow, and for how long it does.
const SLOW: Duration = Duration::from_millis(20);
const SLOW_FOR: Duration = Duration::from_secs(30);

/// A row that waits in the journal alone.
#[derive(Debug)]
struct Spilled {
    ordinal: u64,
    segment: u64,
    offset: u64,
    length: usize,
}

/// The files of a writer.
#[derive(Debug)]
pub(crate) struct Journal {
    folder: PathBuf,
    writer: u128,
    max_bytes: u64,
    segment_bytes: u64,
    /// Full segments with rows that are not stored, in order.
    old: VecDeque<Segment>,
    current: Segment,
    /// The bytes at the beginning of the current segment that are repeated from the last one.
    carried: u64,
    /// The requests that have begun, as the journal has them.
    open: HashMap<RowId, Arc<LedgerRow>>,
    spilled: VecDeque<Spilled>,
}

/// Creates the folder if necessary, for its owner alone.
pub(crate) fn create_folder(folder: &Path) -> io::Result<()> {
    let mut builder = DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(folder)
}

impl Journal {
    pub(crate) fn create(folder: &Path, writer: u128, max_bytes: u64) -> io::Result<Self> {
        Ok(Self {
            folder: folder.to_owned(),
            writer,
            max_bytes,
            segment_bytes: SEGMENT_BYTES.min(max_bytes / SEGMENT_SHARE),
            old: VecDeque::new(),
            current: Segment::create(folder, writer, 1, &[])?,
            carried: 0,
            open: HashMap::new(),
            spilled: VecDeque::new(),
        })
    }

    fn bytes(&self) -> u64 {
        self.old.iter().map(Segment::bytes).sum::<u64>() + self.current.bytes()
    }

    fn segment(&mut self, number: u64) -> Option<&mut Segment> {
        self.old.iter_mut().chain([&mut self.current]).find(|segment| segment.number == number)
    }

    /// Returns true if the next lines belong into another segment: this one is full, or the journal is half full and
    /// all of its rows are stored.
    fn is_full_segment(&self) -> bool {
        let own = self.current.bytes() - self.carried;
        let is_stored = own > 0 && self.current.rows == 0;
        own >= self.segment_bytes || (is_stored && self.bytes() > self.max_bytes / 2)
    }

    /// Begins the next segment with the requests that are open, so that the last one needs to keep settled rows only.
    fn rotate(&mut self) -> io::Result<()> {
        let mut lines = Vec::new();
        for row in self.open.values() {
            Record::Begun(&**row).encode(&mut lines);
        }
        if self.bytes().saturating_add(lines.len() as u64) > self.max_bytes {
            return Ok(());
        }
        let next = Segment::create(&self.folder, self.writer, self.current.number + 1, &lines)?;
        self.carried = next.bytes();
        self.old.push_back(std::mem::replace(&mut self.current, next));
        Ok(())
    }

    /// Counts rows that the store has, and deletes what has none left.
    fn tidy(&mut self, stored: &[u64]) -> io::Result<()> {
        for number in stored {
            if let Some(segment) = self.segment(*number) {
                segment.rows = segment.rows.saturating_sub(1);
            }
        }
        let mut result = Ok(());
        while let Some(at) = self.old.iter().position(|segment| segment.rows == 0)
            && let Some(segment) = self.old.remove(at)
        {
            let removed = segment.remove();
            result = result.and(removed);
        }
        if self.current.rows == 0 && self.open.is_empty() && self.current.bytes() > 0 {
            let cleared = self.current.clear();
            result = result.and(cleared);
            self.carried = 0;
        }
        result
    }

    fn show_spilled(&self, state: &mut State) {
        state.spilled = self.spilled.front().map(|first| (first.ordinal, self.spilled.len()));
    }

    /// Reads rows back that wait in the journal alone.
    fn read_back(&mut self, limit: usize) -> (Vec<Waiting>, u64) {
        let (mut rows, mut unread) = (Vec::new(), 0);
        while rows.len() < limit
            && let Some(Spilled { ordinal, segment, offset, length }) = self.spilled.pop_front()
        {
            let line = self.segment(segment).and_then(|found| found.read(offset, length).ok());
            match line.as_deref().and_then(decode) {
                Some(Record::Ended(row)) => rows.push(Waiting { ordinal, segment: Some(segment), row }),
                // The segment keeps it: its count of rows does not come to nothing.
                _ => {
                    tracing::warn!(segment, offset, "line of this process's journal unreadable");
                    unread += 1;
                }
            }
        }
        (rows, unread)
    }
}

/// A settled row with its place in the lines that are written.
#[derive(Debug)]
struct Settled {
    ordinal: u64,
    row: LedgerRow,
    /// The offset in the lines and the length; `None` if it had no room.
    place: Option<(usize, usize)>,
}

/// Starts the thread, which ends once all handles and the store's task are gone.
pub(crate) fn spawn(shared: Arc<Shared>) -> io::Result<()> {
    let run = move || {
        let mut work = Work::default();
        while !work.is_over {
            shared.wait_for_work();
            let mut writing = lock(&shared.writing);
            shared.take_work(&mut work);
            writing.write(&shared, &mut work);
            shared.pass();
        }
    };
    thread::Builder::new().name("steadfast-ledger".to_owned()).spawn(run).map(drop)
}

/// The journal, with what its writer keeps between two records.
#[derive(Debug, Default)]
pub(crate) struct Writing {
    journal: Option<Journal>,
    lines: Vec<u8>,
    settled: Vec<Settled>,
    problem: Option<String>,
    /// The time until which the disk counts as slow.
    slow_until: Option<Instant>,
    /// An empty queue, for its capacity.
    pub(crate) spare: Vec<(u64, Item)>,
}

impl Writing {
    pub(crate) fn new(journal: Option<Journal>) -> Self {
        Self { journal, ..Self::default() }
    }

    /// Does all that there is to do, in the journal's thread.
    fn write(&mut self, shared: &Shared, work: &mut Work) {
        // First, so that new lines find the room that stored rows leave.
        let mut problem = self.tidy(&work.stored);
        problem = self.lines_of(shared, &mut work.items).or(problem);
        problem = self.rotate().or(problem);
        problem = self.tidy(&[]).or(problem);
        self.read_back(shared);
        self.report(shared, problem);
        if self.slow_until.is_some_and(|until| Instant::now() >= until) {
            self.slow_until = None;
            shared.is_slow.store(false, Relaxed);
        }
    }

    /// Writes these records in a request's thread. Returns true if the journal's thread is to look at the files.
    pub(crate) fn append(&mut self, shared: &Shared, items: &mut Vec<(u64, Item)>) -> bool {
        let begun = Instant::now();
        let mut problem = None;
        if self.journal.as_ref().is_some_and(|journal| journal.bytes() > journal.max_bytes / 2) {
            // The thread may be late, and stored rows leave room.
            problem = self.tidy(&shared.take_stored());
            problem = self.rotate().or(problem);
            problem = self.tidy(&[]).or(problem);
        }
        problem = self.lines_of(shared, items).or(problem);
        problem = self.rotate().or(problem);
        if begun.elapsed() >= SLOW {
            tracing::warn!("disk of the ledger's journal slow; a thread of its own writes it for a while");
            self.slow_until = Some(Instant::now() + SLOW_FOR);
            shared.is_slow.store(true, Relaxed);
        }
        let is_news = problem != self.problem;
        if is_news && problem.is_some() {
            self.report(shared, problem);
        }
        let journal = self.journal.as_ref();
        is_news || journal.is_some_and(|journal| !journal.spilled.is_empty())
    }

    /// Writes these records, and passes the settled rows on. Returns the problem, if there is any.
    fn lines_of(&mut self, shared: &Shared, items: &mut Vec<(u64, Item)>) -> Option<String> {
        let (mut problem, mut begun) = (None, Vec::new());
        let piece =
            self.journal.as_ref().map_or(WRITE_BYTES, |journal| WRITE_BYTES.min(journal.segment_bytes as usize));
        for (ordinal, item) in items.drain(..) {
            let start = self.lines.len();
            if let Some(journal) = &mut self.journal {
                match &item {
                    Item::Begun(row) => Record::Begun(&**row).encode(&mut self.lines),
                    Item::Ended(row) | Item::Recorded(row) => Record::Ended(row).encode(&mut self.lines),
                }
                if journal.bytes() + self.lines.len() as u64 > journal.max_bytes {
                    self.lines.truncate(start);
                    problem = Some("the journal is full".to_owned());
                }
            }
            let length = self.lines.len() - start;
            match item {
                Item::Begun(row) if length > 0 => begun.push(row),
                Item::Begun(_) => {}
                Item::Ended(row) | Item::Recorded(row) => {
                    let place = (length > 0).then_some((start, length));
                    self.settled.push(Settled { ordinal, row, place });
                }
            }
            if self.lines.len() >= piece {
                problem = self.write_lines(shared, &mut begun).or(problem);
                problem = self.rotate().or(problem);
            }
        }
        self.write_lines(shared, &mut begun).or(problem)
    }

    /// Begins the next segment if the current one is full. Returns the problem, if there is any.
    fn rotate(&mut self) -> Option<String> {
        let journal = self.journal.as_mut().filter(|journal| journal.is_full_segment())?;
        journal.rotate().err().map(|error| error.to_string())
    }

    /// Counts rows that the store has. Returns the problem, if there is any.
    fn tidy(&mut self, stored: &[u64]) -> Option<String> {
        let tidied = self.journal.as_mut()?.tidy(stored);
        tidied.err().map(|error| error.to_string())
    }

    /// Writes the lines, and passes the settled rows on. Returns the problem, if there is any.
    fn write_lines(&mut self, shared: &Shared, begun: &mut Vec<Arc<LedgerRow>>) -> Option<String> {
        let mut problem = None;
        let mut written = None;
        if let Some(journal) = &mut self.journal
            && !self.lines.is_empty()
        {
            match journal.current.write(&self.lines) {
                Ok(start) => written = Some((journal.current.number, start)),
                Err(error) => problem = Some(error.to_string()),
            }
            self.lines.clear();
        }
        if let Some(journal) = &mut self.journal {
            if written.is_some() {
                journal.open.extend(begun.drain(..).map(|row| (row.id, row)));
            }
            for settled in &self.settled {
                journal.open.remove(&settled.row.id);
                journal.current.rows += usize::from(written.is_some() && settled.place.is_some());
            }
        }
        begun.clear();
        self.pass_on(shared, written);
        problem
    }

    /// Passes settled rows on to the store's task, or leaves them in the journal alone.
    fn pass_on(&mut self, shared: &Shared, written: Option<(u64, u64)>) {
        let mut settled = self.settled.drain(..);
        while settled.len() > 0 {
            // A few at a time, because requests wait for the lock.
            let mut state = shared.lock();
            for Settled { ordinal, row, place } in settled.by_ref().take(PASS_ROWS) {
                let place = written.zip(place);
                let segment = place.map(|((segment, _), _)| segment);
                let has_room = state.pending.len() < shared.settings.memory_rows;
                match (place, &mut self.journal) {
                    (Some(((segment, start), (offset, length))), Some(journal))
                        if !has_room || !journal.spilled.is_empty() =>
                    {
                        let offset = start + offset as u64;
                        journal.spilled.push_back(Spilled { ordinal, segment, offset, length });
                    }
                    _ if has_room => state.pending.push_back(Waiting { ordinal, segment, row }),
                    _ => state.lose(),
                }
            }
            if let Some(journal) = &self.journal {
                journal.show_spilled(&mut state);
            }
        }
    }

    fn read_back(&mut self, shared: &Shared) {
        let Some(journal) = &mut self.journal else { return };
        loop {
            let pending = shared.lock().pending.len();
            let room = shared.settings.memory_rows.saturating_sub(pending).min(READ_ROWS);
            if journal.spilled.is_empty() || room == 0 {
                break;
            }
            let (rows, unread) = journal.read_back(room);
            let mut state = shared.lock();
            state.pending.extend(rows);
            state.standing.damaged += unread;
            state.standing.waiting = state.standing.waiting.saturating_sub(unread);
        }
        journal.show_spilled(&mut shared.lock());
    }

    /// Shows the state of the journal. Its trouble is logged once when it begins, and once when it is over.
    fn report(&mut self, shared: &Shared, problem: Option<String>) {
        let Some(journal) = &self.journal else { return };
        let bytes = journal.bytes();
        // A full journal takes a short line now and then.
        let is_over = problem.is_none() && bytes <= journal.max_bytes / FULL_SHARE * (FULL_SHARE - 1);
        match (&self.problem, &problem) {
            (None, Some(problem)) => {
                tracing::error!(problem, "journal of the ledger not written; a kill would lose rows");
            }
            (Some(_), None) if is_over => tracing::info!("journal of the ledger written again"),
            _ => {}
        }
        if problem.is_some() || is_over {
            self.problem = problem;
        }
        let mut state = shared.lock();
        state.standing.journal_bytes = bytes;
        state.standing.journal_problem.clone_from(&self.problem);
    }
}
