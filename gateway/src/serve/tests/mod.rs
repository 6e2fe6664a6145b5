//! The gateway through a real socket.

mod admin;
mod callers;
mod connections;
mod harness;
mod keys;
mod logs;
mod memory;
mod protocols;
mod stopping;
