//! The events of a response, for any number of readers, from any number on.

use std::{
    convert::Infallible,
    fmt,
    sync::{Arc, Mutex},
    time::Duration,
};

use axum::body::Body;
use bytes::{Bytes, BytesMut};
use futures_util::stream;
use tokio::{sync::watch, time::timeout};

use crate::{api::conversation::json::Fields, limits::memory::Reservation, lock::lock};

/// The events of a response as they come. The number of an event is its place.
pub(crate) struct EventLog {
    log: Mutex<Log>,
    /// Changes with each event, and at the end.
    changed: watch::Sender<()>,
}

struct Log {
    events: Vec<Bytes>,
    size: usize,
    /// The memory of what is kept; `None` once there is no more.
    memory: Option<Reservation>,
    is_over: bool,
}

/// The size up to which a piece for a reader takes another event, in bytes.
const PIECE: usize = 16 << 10;

/// The last event for readers of events that are not kept.
const NO_MEMORY: &str = r#"{"type":"error","code":"server_error","message":"the gateway has no memory for the events of this response: get it without `stream`","param":null}"#;

impl EventLog {
    /// Creates the log of a response that has begun. `memory` is what its caller has reserved.
    pub(super) fn new(queued: &str, memory: Reservation) -> Self {
        let log = Log { events: Vec::new(), size: 0, memory: Some(memory), is_over: false };
        let own = Self { log: Mutex::new(log), changed: watch::channel(()).0 };
        for kind in ["response.created", "response.queued"] {
            let event = format!(r#"{{"type":"{kind}","response":{queued}}}"#);
            own.push(kind, &event);
        }
        own
    }

    /// Adds an event.
    pub(super) fn push(&self, kind: &str, event: &str) {
        let mut log = lock(&self.log);
        let number = log.events.len().to_string();
        let Some(fields) = Fields::read(event).filter(|_| log.memory.is_some()) else { return };
        let event = format!("event: {kind}\ndata: {}\n\n", fields.with(&[], &[("sequence_number", &number)]));
        log.size += event.len();
        let size = log.size;
        if log.memory.as_mut().is_none_or(|memory| memory.grow(size).is_err()) {
            (log.events, log.memory) = (Vec::new(), None);
        } else {
            log.events.push(event.into());
        }
        self.changed.send_replace(());
    }

    /// Ends the log.
    pub(super) fn end(&self) {
        lock(&self.log).is_over = true;
        self.changed.send_replace(());
    }

    /// Returns the number of the last event; `None` once there is no memory for them.
    pub(crate) fn last(&self) -> Option<usize> {
        lock(&self.log).events.len().checked_sub(1)
    }

    /// Returns the events from a number on, as they come, with a sign of life in each silence.
    pub(super) fn read(self: &Arc<Self>, from: usize, keep_alive: Duration) -> Body {
        let reader = Reader { log: self.clone(), next: Some(from), changed: self.changed.subscribe(), keep_alive };
        Body::from_stream(stream::unfold(reader, async |mut reader| {
            let piece = reader.piece().await?;
            Some((Ok::<_, Infallible>(piece), reader))
        }))
    }
}

impl fmt::Debug for EventLog {
    /// Writes nothing of the events.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EventLog").field("last", &self.last()).finish_non_exhaustive()
    }
}

struct Reader {
    log: Arc<EventLog>,
    /// The number of the next event; `None` once there is none.
    next: Option<usize>,
    changed: watch::Receiver<()>,
    keep_alive: Duration,
}

impl Reader {
    /// Returns the next events, or a sign of life; `None` at the end.
    async fn piece(&mut self) -> Option<Bytes> {
        loop {
            let next = self.next?;
            // Events from here on are seen below.
            self.changed.mark_unchanged();
            {
                let log = lock(&self.log.log);
                if log.memory.is_none() {
                    self.next = None;
                    return Some(format!("event: error\ndata: {NO_MEMORY}\n\n").into());
                }
                let mut piece = BytesMut::new();
                let ready = log.events.iter().skip(next);
                let taken = ready.take_while(|event| {
                    let has_room = piece.is_empty() || piece.len() + event.len() <= PIECE;
                    if has_room {
                        piece.extend_from_slice(event);
                    }
                    has_room
                });
                self.next = Some(next + taken.count());
                if !piece.is_empty() {
                    return Some(piece.freeze());
                }
                if log.is_over {
                    return None;
                }
            }
            match timeout(self.keep_alive, self.changed.changed()).await {
                Ok(Ok(())) => {}
                Ok(Err(_)) => return None,
                Err(_) => return Some(Bytes::from_static(b": keep-alive\n\n")),
            }
        }
    }
}
