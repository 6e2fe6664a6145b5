//! The gateway through a real socket.

mod admin;
mod cache;
mod callers;
mod compaction;
mod connections;
mod conversations;
mod cors;
mod gemini;
mod handoff;
mod harness;
mod images;
mod key_limits;
mod keys;
mod lane;
mod layers;
mod lessons;
mod limits;
mod logs;
mod memory;
mod nesting;
mod panics;
mod protocols;
mod repeats;
mod responses;
mod responses_input;
mod stopping;
