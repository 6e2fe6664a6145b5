use std::time::Duration;

use http::HeaderValue;
use steadfast::{Dialect, WireLimits};
use steadfast_stack::{Config, Size, Span};

use super::memory;

/// The limits of size, time and number for callers.
#[derive(Clone, Debug)]
pub(crate) struct Settings {
    /// The largest request body, in bytes. Anthropic's own limit.
    pub(crate) body: usize,
    /// The largest request head, in bytes.
    pub(crate) head: usize,
    /// The time for a request's head, and for an idle connection between two requests.
    pub(crate) head_timeout: Duration,
    /// The time for a request's body, on top of what [`MIN_UPLOAD_RATE`] grants for its size.
    pub(crate) body_timeout: Duration,
    /// The longest pause of a caller within a request's body.
    pub(crate) body_idle: Duration,
    /// The time for which a caller may leave an answer unread before its connection closes.
    pub(crate) unread: Duration,
    /// The number of connections that may be open at once.
    pub(crate) connections: usize,
    /// The time for which a caller of a stream waits without a sign of life. Until then the status is still open, and
    /// an error has its own; afterwards the stream has begun, and an error comes inside it.
    pub(crate) first_sign: Duration,
    /// The silence of a stream after which the gateway sends a sign of life: well under the 15 s after which the least
    /// patient proxies close a connection.
    pub(crate) keep_alive: Duration,
    /// The time for open streams once the server is asked to stop.
    pub(crate) grace: Duration,
    /// True if the gateway also marks a provider's own answers as degraded.
    pub(crate) mark: bool,
    /// True if comments in streams say who answers.
    pub(crate) notices: bool,
    /// The dialects whose requests wait for rate limits: those of clients that never repeat a 429.
    pub(crate) wait_for_rate_limits: Box<[Dialect]>,
    /// The number of decision records that are kept.
    pub(crate) records: usize,
    /// The memory that all callers together may take, in bytes; [`memory`] divides it.
    pub(crate) memory: u64,
    /// The limits of a request's content for the gateway to parse it.
    pub(crate) limits: WireLimits,
    /// The origins whose pages may call and read every path.
    pub(crate) cors: Box<[HeaderValue]>,
}

/// The slowest upload that the gateway accepts, in bytes per second.
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
            notices: false,
            wait_for_rate_limits: [Dialect::Responses].into(),
            records: 1024,
            memory: 1 << 30,
            limits: WireLimits::default(),
            cors: Box::default(),
        }
    }
}

impl Settings {
    /// Returns the configuration's settings, with defaults for the rest. A grace on the command line takes precedence.
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
            notices: said.notices.unwrap_or(default.notices),
            wait_for_rate_limits: match &said.wait_for_rate_limits {
                Some(protocols) => protocols.iter().copied().map(Dialect::from).collect(),
                None => default.wait_for_rate_limits,
            },
            records: count(said.records, default.records),
            memory: said.memory.map_or_else(|| memory::default(body as u64, config.kept_bytes()), |size| size.0),
            limits: said.limits.wire(),
            cors: said.cors.iter().filter_map(|origin| HeaderValue::from_str(origin).ok()).collect(),
        }
    }
}

/// The longest time. Times are added to a clock, which has an end; a hundred years are as good as forever.
const MAX_TIME: Duration = Duration::from_secs(100 * 365 * 24 * 60 * 60);

fn number(said: u64) -> usize {
    usize::try_from(said).unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests {
    use steadfast_stack as config;

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
