//! `steadfast handoff`: what was handed to people, found and answered from a terminal.

mod conversation;

pub(crate) use self::conversation::Conversation;

/// The longest answer that is taken, in bytes.
pub(crate) const LONGEST_ANSWER: usize = 1 << 20;
/// The longest name of who answers, in bytes.
pub(crate) const LONGEST_NAME: usize = 256;
