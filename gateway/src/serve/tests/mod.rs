//! The gateway through a real socket.

mod harness;
mod protocols;
