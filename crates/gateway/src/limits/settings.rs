use std::time::Duration;

use steadfast::{
    WireLimits,
    config::{Config, Size, Span},
};

use super::memory;

/// What the server allows its callers, and for how long it waits for whom.
#[derive(Clone, Debug)]
pub(crate) struct Settings {
    /// The largest request body, in bytes. Anthropic's own limit.
    pub(crate) body: usize,
    /// The largest request head, in bytes.
    pub(crate) head: usize,
    /// How long a caller may take to send a request's head; also how long a connection may idle between two requests.
    pub(crate) head_timeout: Duration,
    /// How long a caller may take to send a request's body, over the time that [`MIN_UPLOAD_RATE`] grants for its size.
    pub(crate) body_timeout: Duration,
    /// The longest pause of a caller within a request's body.
    pub(crate) body_idle: Duration,
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
    /// Whether a provider's own answers are marked too where they are degraded.
    pub(crate) mark: bool,
    /// How many decision records are kept.
    pub(crate) records: usize,
    /// The memory that all callers together may take, in bytes; [`memory`] says how it is divided.
    pub(crate) memory: u64,
    /// How much a request may hold for it to be taken apart.
    pub(crate) limits: WireLimits,
}

/// The slowest upload that is waited for, in bytes per second.
pub(crate) const MIN_UPLOAD_RATE: u64 = 32 * 1024;

impl Default for Settings {
    fn default() -> Self {
        Self {
            body: 32 * 1024 * 1024,
            head: 64 * 1024,
            head_timeout: Duration::from_secs(30),
            body_timeout: Duration::from_secs(30),
            body_idle: Duration::from_secs(10),
            unread: Duration::from_secs(60),
            connections: 20_000,
            first_sign: Duration::from_secs(10),
            keep_alive: Duration::from_secs(10),
            grace: Duration::from_secs(30),
            mark: false,
            records: 1024,
            memory: 1 << 30,
            limits: WireLimits::default(),
        }
    }
}

impl Settings {
    /// What the configuration says, and the defaults for the rest. A grace on the command line is stronger.
    pub(crate) fn of(config: &Config, grace: Option<Duration>) -> Self {
        let (said, default) = (&config.gateway, Self::default());
        let time = |said: Option<Span>, default| said.map_or(default, |span| span.0.min(MAX_TIME));
        let size = |said: Option<Size>, default| said.map_or(default, |size| number(size.0));
        let count = |said: Option<u32>, default| said.map_or(default, |count| number(count.into()));
        let body = size(said.max_body, default.body);
        Self {
            body,
            head: size(said.max_head, default.head),
            head_timeout: time(said.head_timeout, default.head_timeout),
            body_timeout: time(said.body_timeout, default.body_timeout),
            body_idle: time(said.body_idle_timeout, default.body_idle),
            unread: time(said.unread_timeout, default.unread),
            connections: count(said.connections, default.connections),
            first_sign: time(said.first_sign, default.first_sign),
            keep_alive: time(said.keep_alive, default.keep_alive),
            grace: grace.unwrap_or_else(|| time(said.grace, default.grace)),
            mark: said.mark_degraded.unwrap_or(default.mark),
            records: count(said.records, default.records),
            memory: said.memory.map_or_else(|| memory::default(body as u64, config.kept_bytes()), |size| size.0),
            limits: said.limits.wire(),
        }
    }
}

/// No time is longer: it is added to a clock, which ends somewhere. A hundred years are for ever.
const MAX_TIME: Duration = Duration::from_secs(100 * 365 * 24 * 60 * 60);

fn number(said: u64) -> usize {
    usize::try_from(said).unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests {
    use steadfast::config;

    use super::*;

    #[test]
    fn what_the_file_does_not_say_is_as_ever() {
        let of_nothing = Settings::of(&Config::default(), None);
        let default = Settings { memory: of_nothing.memory, ..Settings::default() };
        assert_eq!(format!("{of_nothing:?}"), format!("{default:?}"));
        assert!(of_nothing.memory >= 256 << 20, "{}", of_nothing.memory);
        let gateway = config::Gateway {
            max_body: Some(Size(1 << 20)),
            grace: Some(Span(Duration::from_secs(5))),
            connections: Some(7),
            ..config::Gateway::default()
        };
        let said = Config { gateway, ..Config::default() };
        let settings = Settings::of(&said, None);
        assert_eq!((settings.body, settings.grace, settings.connections), (1 << 20, Duration::from_secs(5), 7));
        assert_eq!(Settings::of(&said, Some(Duration::ZERO)).grace, Duration::ZERO, "the command line is stronger");
    }

    #[test]
    fn a_time_without_end_can_be_added_to_a_clock() {
        let forever = Some(Span(Duration::MAX));
        let gateway = config::Gateway {
            head_timeout: forever,
            body_timeout: forever,
            body_idle_timeout: forever,
            unread_timeout: forever,
            keep_alive: forever,
            ..config::Gateway::default()
        };
        let settings = Settings::of(&Config { gateway, ..Config::default() }, None);
        let now = tokio::time::Instant::now();
        for time in
            [settings.head_timeout, settings.body_timeout, settings.body_idle, settings.unread, settings.keep_alive]
        {
            assert!(
                time.checked_add(Duration::from_secs(u32::MAX.into()))
                    .is_some_and(|time| now.checked_add(time).is_some())
            );
        }
    }
}
