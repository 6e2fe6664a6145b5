//! A provider that follows a script, in process, for [steadfast](https://docs.rs/steadfast).
//!
//! This package is for steadfast's own packages, and what is not in `steadfast` too may change with any version. Depend
//! on [`steadfast`](https://docs.rs/steadfast) instead, which names all of this.

use steadfast_core::{
    CommitPoint, Dialect, ErrorKind, Frame, LlmBody, LlmError, LlmRequest, LlmResponse, OpaqueCall, StreamEvent, chat,
    commit,
};
use steadfast_internal as internal;

pub mod simulated;
