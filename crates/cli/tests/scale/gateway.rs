//! The binary under test.

use std::{fs, ops::Deref};

use super::common::{
    client,
    serve::{Serve, Served},
};

pub(crate) struct Gateway(Served);

impl Gateway {
    /// Serves what this configuration says. Another build of it can be measured by the same tests.
    pub(crate) fn start(config: &str, arguments: &[&str]) -> Self {
        let serve = Serve::with(config).args(arguments).env("PROVIDER_KEY", "sk-of-the-provider");
        Self(serve.build_of("STEADFAST_SCALE_BINARY").start())
    }

    /// Returns its memory now and at its highest, in kilobytes.
    pub(crate) fn memory(&self) -> (usize, usize) {
        let status = fs::read_to_string(format!("/proc/{}/status", self.id())).unwrap();
        let of = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name)).unwrap();
            line.trim().trim_end_matches(" kB").parse().unwrap()
        };
        (of("VmRSS:"), of("VmHWM:"))
    }

    /// Returns the number of its open files, sockets included.
    pub(crate) fn open_files(&self) -> usize {
        fs::read_dir(format!("/proc/{}/fd", self.id())).unwrap().count()
    }

    /// Returns the process itself.
    pub(crate) fn into_inner(self) -> Served {
        self.0
    }

    /// Asks it to stop; gives its log. It ends in good order, and has kept the secrets.
    pub(crate) fn end(self) -> String {
        self.signal("-TERM");
        self.ended()
    }

    /// Its log, once it has ended.
    pub(crate) fn ended(self) -> String {
        let said = self.0.stopped().err;
        for secret in client::SECRETS {
            assert!(!said.contains(secret), "{secret:?} is in the log: {said}");
        }
        said
    }
}

impl Deref for Gateway {
    type Target = Served;

    fn deref(&self) -> &Served {
        &self.0
    }
}

/// Two tiers of one dialect each, with no limit on the way that a test is not about.
pub(crate) fn config(provider: &str, more: &str) -> String {
    format!(
        "
tiers:
  - name: sonnet
    provider: anthropic
    model: claude-sonnet-4-5
    base_url: http://{provider}
    api_key: ${{PROVIDER_KEY}}
    timeout: {{ attempt: 2m, idle: 10m, progress: 10m }}
  - name: gpt
    provider: openai
    model: gpt-4o
    base_url: http://{provider}/v1
    api_key: ${{PROVIDER_KEY}}
    timeout: {{ attempt: 2m, idle: 10m, progress: 10m }}
routes:
  - {{ name: openai, when: {{ features: [openai] }}, tiers: [gpt] }}
default_feature: {{ concurrency: 100000 }}
features:
  openai: {{ concurrency: 100000 }}
timeout: 5m
{more}"
    )
}
