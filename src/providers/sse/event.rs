use bytes::Bytes;

/// One block of an event stream: everything up to and including a blank line.
///
/// Cloning is cheap: the parts are reference-counted slices.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct SseEvent {
    /// The bytes of the wire, from after the previous event to the end of the blank line, comments included.
    pub raw: Bytes,
    /// The value of the last `event` field; empty when there was none.
    pub event: Bytes,
    /// The values of the `data` fields, joined with LF; empty when there was none.
    pub data: Bytes,
    pub(super) has_data: bool,
    pub(super) has_fields: bool,
}

impl SseEvent {
    /// True when the block had at least one `data` field, be it empty.
    ///
    /// The standard's parser dispatches such blocks only.
    #[must_use]
    pub const fn has_data(&self) -> bool {
        self.has_data
    }

    /// True when the block holds nothing but comments and line ends: it proves that the connection lives, not that
    /// the answer makes progress.
    #[must_use]
    pub const fn is_keep_alive(&self) -> bool {
        !self.has_fields
    }
}
