//! Requests for unknown paths: a counter and lines of the log.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use tokio::time::Instant;

use crate::lock::lock;

/// A counter of requests for unknown paths, which also logs them, up to a limit. Clones share the counter.
#[derive(Clone, Debug, Default)]
pub(crate) struct UnknownPaths(Arc<Counters>);

#[derive(Debug, Default)]
struct Counters {
    count: AtomicU64,
    lines: Mutex<Lines>,
}

/// The number of lines in a [`SPAN`].
const MAX_LINES: u32 = 10;
/// The span of the limit: a scan for holes asks for thousands of paths, and needs no key.
const SPAN: Duration = Duration::from_secs(10);

/// The lines of the present span.
#[derive(Debug, Default)]
struct Lines {
    since: Option<Instant>,
    said: u32,
    unsaid: u64,
}

impl Lines {
    /// Counts a line; returns the number of suppressed lines before it, if it may be logged.
    fn next(&mut self, now: Instant) -> Option<u64> {
        if self.since.is_none_or(|since| now.saturating_duration_since(since) >= SPAN) {
            (self.since, self.said) = (Some(now), 0);
        }
        if self.said == MAX_LINES {
            self.unsaid += 1;
            return None;
        }
        self.said += 1;
        Some(std::mem::take(&mut self.unsaid))
    }
}

impl UnknownPaths {
    /// Counts and logs a request for an unknown path.
    pub(crate) fn report(&self, method: &str, path: &str) {
        self.0.count.fetch_add(1, Relaxed);
        let Some(unsaid) = lock(&self.0.lines).next(Instant::now()) else { return };
        let unsaid = (unsaid > 0).then_some(unsaid);
        let path = without_keys(path);
        tracing::warn!(event = "unknown_path", method, path, unsaid, "unknown path");
    }

    /// Returns the counter in Prometheus' format.
    pub(crate) fn metrics(&self) -> String {
        let (name, count) = ("steadfast_unknown_paths_total", self.0.count.load(Relaxed));
        format!("# HELP {name} Requests for paths that are not served.\n# TYPE {name} counter\n{name} {count}\n")
    }
}

/// Hides what may be a key in a path.
fn without_keys(path: &str) -> String {
    let hidden = |part: &str| part.len() > MAX_WORD || part.starts_with("sk-") || part.contains(['@', '=']);
    path.split('/').map(|part| if hidden(part) { "***" } else { part }).collect::<Vec<_>>().join("/")
}

/// The longest word of any API's path, in bytes.
const MAX_WORD: usize = 24;

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn of_a_flood_ten_have_a_line_and_the_next_line_says_how_many_had_none() {
        let (mut lines, start) = (Lines::default(), Instant::now());
        let said: Vec<u64> =
            (0..=100).filter_map(|tenth| lines.next(start + Duration::from_millis(tenth * 100))).collect();
        assert_eq!(said, [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 90]);
    }

    #[test]
    fn what_may_be_a_key_is_not_repeated() {
        for (path, shown) in [
            ("/v1/completions", "/v1/completions"),
            ("/v1/messages/count_tokens/", "/v1/messages/count_tokens/"),
            ("/sk-ant-1/v1/messages", "/***/v1/messages"),
            ("/AIzaSyA-0123456789abcdefghijklmno/x", "/***/x"),
            ("/key=7/x", "/***/x"),
        ] {
            assert_eq!(without_keys(path), shown);
        }
    }

    #[test]
    fn each_is_counted() {
        let unknown = UnknownPaths::default();
        for _ in 0..25 {
            unknown.clone().report("GET", "/nothing");
        }
        assert!(unknown.metrics().ends_with("\nsteadfast_unknown_paths_total 25\n"), "{}", unknown.metrics());
    }
}
