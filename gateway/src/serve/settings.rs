use std::time::Duration;

/// What the server allows its callers, and for how long it waits for whom.
#[derive(Clone, Debug)]
pub(crate) struct Settings {
    /// The largest request body, in bytes. Anthropic's own limit.
    pub(crate) body: usize,
    /// The largest request head, in bytes.
    pub(crate) head: usize,
    /// How long a caller may take to send a request's head; also how long a connection may idle between two requests.
    pub(crate) head_timeout: Duration,
    /// How long a caller may take to send a request's body, over the time that [`SLOWEST`] grants for its size.
    pub(crate) body_timeout: Duration,
    /// How long a caller may leave an answer unread before its connection is closed.
    pub(crate) unread: Duration,
    /// How many connections may be open at once.
    pub(crate) connections: usize,
    /// How long a caller of a stream waits without a sign of life. Until then the status is still open, and an error has
    /// its own; from then on the stream has begun, and an error comes inside it.
    pub(crate) first_sign: Duration,
    /// How long a stream that has begun may be silent before a sign of life is put in: well under the quarter of a minute
    /// after which the least patient of what stands between closes a connection.
    pub(crate) keep_alive: Duration,
    /// How long streams may go on once the server has been asked to stop.
    pub(crate) grace: Duration,
    /// How many decision records are kept.
    pub(crate) records: usize,
}

/// The slowest upload that is waited for, in bytes per second.
pub(crate) const SLOWEST: u64 = 32 * 1024;

impl Default for Settings {
    fn default() -> Self {
        Self {
            body: 32 * 1024 * 1024,
            head: 64 * 1024,
            head_timeout: Duration::from_secs(30),
            body_timeout: Duration::from_secs(30),
            unread: Duration::from_secs(60),
            connections: 20_000,
            first_sign: Duration::from_secs(10),
            keep_alive: Duration::from_secs(10),
            grace: Duration::from_secs(30),
            records: 1024,
        }
    }
}
