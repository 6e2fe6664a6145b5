//! `steadfast drill`, by the real binary: its page, all its scenarios, and the drill against real providers.

#[path = "../common/mod.rs"]
mod common;
mod live;
mod page;
