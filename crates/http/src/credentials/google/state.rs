//! The memory of Google's credentials.

use std::sync::{Mutex, OnceLock};

use super::clock::Clock;
use crate::credentials::{Credentials, Machine};

/// The memory from one token to the next.
pub(super) struct State {
    pub(super) machine: Machine,
    pub(super) clock: Clock,
    /// A file's refresh token, and the one that replaces it.
    pub(super) rotated: Mutex<Option<(String, String)>>,
    /// The keys of AWS, once a token was asked for.
    pub(super) aws: OnceLock<Credentials>,
    /// The one that replaces a file's.
    pub(super) quota_project: Option<String>,
}
