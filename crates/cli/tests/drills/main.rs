//! `steadfast drill`, by the real binary: how it judges, its page, all its scenarios, and the drill against real
//! providers.

mod all;
#[path = "../common/mod.rs"]
pub mod common;
mod forms;
mod judged;
mod live;
mod log;
mod page;
