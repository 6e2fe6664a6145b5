//! Server-sent events without I/O: [`Decoder::push`] takes bytes, [`Decoder::next_event`] returns events.
//!
//! The decoder is for answers that are *passed on*: every event carries its exact bytes, so that a caller of the same
//! dialect receives the provider's own, comments and odd spacing included. Nothing is lost: the `raw` parts of all
//! events, concatenated, are the input.
//!
//! The grammar is that of the WHATWG HTML standard, section 9.2.6 ("Interpreting an event stream"): lines end with LF,
//! CRLF or CR, a byte order mark may come first, `data` lines are joined with LF, one space after the colon is dropped.
//! It departs from the standard in three ways that answers of language models need:
//!
//! - A block without `data` is delivered and not skipped (see [`SseEvent::has_data`]). Keep-alive comments must be
//!   passed on and prove that the connection is alive, and some servers write a bare JSON error into the stream.
//! - The bytes behind the last blank line are an event too ([`Decoder::finish`]), because some servers omit that line.
//! - Bytes stay bytes: the payload is JSON, whose parser checks the UTF-8.
//!
//! Each byte is scanned once, in pieces of any size, and an event within one piece is a slice of it, not a copy. An
//! event over the limit is an error, so that a line without an end cannot take all memory.
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

#[doc(no_inline)]
pub use steadfast_core::sse::{Decoder, SseEvent, TooLong};
