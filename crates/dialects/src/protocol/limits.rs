/// Limits on the bytes that a leaf reads of an answer.
///
/// No server, be it a broken proxy or a line without an end, can make a leaf read more. A decoded answer takes more
/// memory than its bytes: usually a few times as much, and under 64 times for JSON made to that end.
///
/// ```
/// use steadfast::providers::{Anthropic, http::Limits};
///
/// let leaf = Anthropic::new("key").limits(Limits::default().answer(8 << 20));
/// # drop(leaf);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Limits {
    /// One event of a stream. Default: 16 MiB. Beyond it: [`ErrorKind::Malformed`](crate::ErrorKind::Malformed).
    pub event: usize,
    /// A whole answer, streamed or not, keep-alives included. Default: 64 MiB. Beyond it:
    /// [`ErrorKind::Malformed`](crate::ErrorKind::Malformed).
    pub answer: usize,
    /// An error body; a longer one is cut. Default: 64 KiB.
    pub error: usize,
}

impl Limits {
    /// Sets the limit of one event, in bytes. Default: 16 MiB.
    #[must_use]
    pub fn event(mut self, bytes: usize) -> Self {
        self.event = bytes;
        self
    }

    /// Sets the limit of a whole answer, in bytes. Default: 64 MiB.
    #[must_use]
    pub fn answer(mut self, bytes: usize) -> Self {
        self.answer = bytes;
        self
    }

    /// Sets the limit of an error body, in bytes. Default: 64 KiB.
    #[must_use]
    pub fn error(mut self, bytes: usize) -> Self {
        self.error = bytes;
        self
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self { event: 16 << 20, answer: 64 << 20, error: 64 << 10 }
    }
}
