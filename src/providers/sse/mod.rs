//! Server-sent events without I/O: bytes go in by [`Decoder::push`], events come out of
//! [`Decoder::next_event`].
//!
//! A decoder for answers that are *passed on*: every event carries the exact bytes it came as, so that a
//! caller of the same dialect can be given what the provider sent, comments and odd spacing included.
//! Nothing that arrives is lost: the `raw` parts of all events, one after the other, are the input.
//!
//! The grammar is the one of the WHATWG HTML standard, section 9.2.6 ("Interpreting an event stream"): lines end
//! with LF, CRLF or CR, a byte order mark may come first, `data` lines are joined with LF, one space after the
//! colon is dropped. It departs from the standard in three ways that answers of language models need:
//!
//! - a block without `data` is delivered instead of being skipped (see [`SseEvent::has_data`]), because keep-alive
//!   comments have to be passed on and prove that the connection lives, and because some servers write a bare JSON
//!   error into the stream;
//! - what follows the last blank line is an event too ([`Decoder::finish`]), because some servers
//!   forget that line;
//! - bytes stay bytes: the payload is JSON, whose parser checks the UTF-8.
//!
//! Each byte is looked at once, however small the pieces it arrives in, and an event that lies within one piece is
//! a slice of it, not a copy. An event larger than the limit is an error, so that a line without an end cannot
//! take all memory.
//!
//! # Example
//!
//! ```
//! use bytes::Bytes;
//! use steadfast::providers::sse::Decoder;
//!
//! let mut decoder = Decoder::new(1024);
//! decoder.push(Bytes::from_static(b": hello\r\n\r\nevent: greet\r\nda"));
//! let keep_alive = decoder.next_event()?.expect("a whole block");
//! assert!(keep_alive.is_keep_alive());
//! assert!(decoder.next_event()?.is_none());
//!
//! decoder.push(Bytes::from_static(b"ta: {\"x\":1}\r\n\r\n"));
//! let event = decoder.next_event()?.expect("a whole event");
//! assert_eq!(event.event(), b"greet");
//! assert_eq!(event.data(), b"{\"x\":1}");
//! assert_eq!(event.raw, "event: greet\r\ndata: {\"x\":1}\r\n\r\n");
//! # Ok::<(), steadfast::providers::sse::TooLong>(())
//! ```

mod decoder;
mod event;
#[cfg(test)]
mod tests;

pub use self::{
    decoder::{Decoder, TooLong},
    event::SseEvent,
};
