//! Server-sent events without I/O. `providers::sse` has the public names and the grammar.

mod decoder;
mod event;
#[cfg(test)]
mod tests;

pub use self::{
    decoder::{Decoder, TooLong},
    event::SseEvent,
};
