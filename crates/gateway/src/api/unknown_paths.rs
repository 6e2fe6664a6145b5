//! Requests for unknown paths: a counter and lines of the log.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use steadfast::providers::http::looks_like_a_key;
use steadfast_subscribers::LineLimit;
use tokio::time::Instant;

use crate::lock::lock;

/// A counter of requests for unknown paths, which also logs them, up to a limit. Clones share the counter.
#[derive(Clone, Debug, Default)]
pub(crate) struct UnknownPaths(Arc<Counters>);

#[derive(Debug)]
struct Counters {
    count: AtomicU64,
    lines: Mutex<LineLimit>,
}

/// The number of lines in a [`SPAN`].
const MAX_LINES: u32 = 10;
/// The span of the limit: a scan for holes asks for thousands of paths, and needs no key.
const SPAN: Duration = Duration::from_secs(10);

impl Default for Counters {
    fn default() -> Self {
        Self { count: AtomicU64::new(0), lines: Mutex::new(LineLimit::new(MAX_LINES, SPAN)) }
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
    let hidden = |part: &str| part.len() > MAX_WORD || looks_like_a_key(part) || part.contains(['@', '=']);
    path.split('/').map(|part| if hidden(part) { "***" } else { part }).collect::<Vec<_>>().join("/")
}

/// The longest word of any API's path, in bytes.
const MAX_WORD: usize = 24;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_may_be_a_key_is_not_repeated() {
        for (path, shown) in [
            ("/v1/completions", "/v1/completions"),
            ("/v1/messages/count_tokens/", "/v1/messages/count_tokens/"),
            ("/sk-ant-1/v1/messages", "/***/v1/messages"),
            ("/AIzaSyA-0123456789abcdefghijklmno/x", "/***/x"),
            ("/key=7/x", "/***/x"),
            ("/gsk_7/x", "/***/x"),
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
