//! The readers of an error.

use super::ErrorKind;

/// The reader of an error's text.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Reader {
    /// The programmer whose program has the stack.
    #[default]
    Programmer,
    /// The operator of a gateway.
    Operator,
    /// A caller of a gateway.
    Caller,
}

/// The failure as a caller's protocol is to encode it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[doc(hidden)]
pub enum Told {
    /// By its kind.
    Kind(ErrorKind),
    /// A fault of the gateway's owner: its key, its account or its model was refused.
    OwnersFault,
    /// Several tiers failed, the first by its servers or by a fault of the owner's.
    AllFailed,
}
