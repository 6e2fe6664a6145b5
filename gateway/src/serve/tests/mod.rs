//! The gateway through a real socket.

mod callers;
mod connections;
mod harness;
mod images;
mod key_limits;
mod keys;
mod logs;
mod memory;
mod protocols;
mod stopping;
