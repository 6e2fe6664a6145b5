//! Promises of streams: where an answer counts as begun, and what becomes of one that is cut.

#[path = "../common/recordings.rs"]
#[allow(dead_code, reason = "each test takes what it needs")]
mod recordings;
#[allow(dead_code, reason = "it is the unit tests' too")]
#[path = "../../crates/stores/src/testing.rs"]
mod testing;

mod commit_points;
mod continued;
mod cuts;
mod partial_answers;
