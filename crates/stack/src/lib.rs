//! A whole stack in one file.
//!
//! A [`Config`] is read from YAML, TOML or JSON, all with the same keys: the tiers in order of preference, and the
//! settings around them. The smallest file is two lines; [`Config::json_schema`] describes all of it, for completion
//! in an editor.
//!
//! ```
//! use steadfast_stack::{Config, Format};
//!
//! let file = "
//! tiers:
//!   - { name: sonnet, provider: anthropic, model: claude-sonnet-4-5, api_key: '${ANTHROPIC_API_KEY}' }
//!   - { name: backup, provider: openai, model: gpt-4o }
//! features:
//!   chat: { concurrency: 20 }
//!   background: { concurrency: 5, tiers: [backup] }
//! timeout: 10m
//! ";
//! let config = Config::from_str(file, Format::Yaml).unwrap();
//! assert_eq!(config.tiers[0].name, "sonnet");
//!
//! let wrong = file.replace("tiers: [backup]", "tiers: [bakcup]");
//! let error = Config::from_str(&wrong, Format::Yaml).unwrap_err();
//! assert_eq!(error.problems()[0].line, 7);
//! assert_eq!(error.problems()[0].suggestion.as_deref(), Some("backup"));
//! ```
//!
//! # From the environment
//!
//! - **References.** `${NAME}` in any text stands for a variable. `${NAME:-default}` stands for the default if the
//!   variable is unset or empty; `$$` is a dollar sign. A text that is only one reference may become a number.
//!   `api_key`, a webhook's `authorization` and the callbacks' `secret` are *only* ever references: building the stack
//!   looks the secret up, and a [`Config`] never contains it.
//! - **Servers.** A tier without a `base_url` uses the server in `ANTHROPIC_BASE_URL`, `OPENAI_BASE_URL`,
//!   `GEMINI_BASE_URL` or `GOOGLE_GEMINI_BASE_URL`, as the providers' SDKs do, with the environment's key. A
//!   `base_url` in the file receives the provider's usual key only if it is the provider's own host; for any other,
//!   `api_key` names one.
//! - **Overrides.** A variable such as `STEADFAST__TIMEOUT=60s`, `STEADFAST__TIERS__0__MODEL=gpt-4o` or
//!   `STEADFAST__FEATURES__CHAT__CONCURRENCY=5` overrides the file. The steps are keys in capitals, or indexes of a
//!   list counted from 0; the index after the last appends to it. A list or block may be written as in YAML: `[a, b]`.
//!   An override that matches no key is an error.
//!
//! # Limits
//!
//! A file has at most 1 MiB, 50,000 values with YAML aliases expanded, and blocks nested at most 32 deep.
//!
//! # Other forms
//!
//! Two forms that users already have are read unchanged: see [`import`].

mod changes;
mod check;
mod classifier;
mod doors;
mod end_mark;
mod environment;
mod error;
mod expand;
mod explain;
mod families;
mod file_text;
mod format;
mod hedge;
pub mod import;
mod json_schema;
mod keys;
mod lane_pool;
mod load;
mod model_names;
mod overrides;
mod queues;
mod report;
mod runtime;
mod schema;
mod secrets;
mod source;
#[cfg(test)]
mod statuses;
mod suggest;
mod tree;
mod vector_spaces;
mod watch;

use std::path::Path;

use steadfast::{CacheHandle, layers::idempotency::MemoryIdempotency};

#[cfg(feature = "alerts")]
pub use self::runtime::AlertTask;
pub use self::{
    check::Findings,
    classifier::classifier,
    doors::TierDoor,
    end_mark::{EndMark, WrongChecksum},
    environment::Environment,
    error::{ConfigError, Problem},
    format::Format,
    keys::{MissingKey, Server},
    lane_pool::LanePool,
    load::{Loader, document, document_of},
    runtime::{
        AskedTier, Continuation, HandoffTask, ObjectPlaces, ObjectTier, RecoveryCheckTask, Reload, ResponseArchive,
        Stack, StackBuilder, StackHandle, TierDeployment, TierInfo, WorkedKeyTask,
    },
    schema::*,
    suggest::nearest,
    tree::Step,
    watch::FileWatch,
};

impl Config {
    /// Reads a file; its suffix determines the format: `.yaml`, `.yml`, `.toml` or `.json`. References and overrides
    /// come from the environment of this process; [`Loader`] accepts another.
    ///
    /// # Errors
    ///
    /// Everything that is wrong with it: see [`ConfigError`].
    pub fn from_path(path: impl AsRef<Path>) -> Result<Self, ConfigError> {
        Loader::new().path(path)
    }

    /// Reads a text of this format; otherwise like [`from_path`](Self::from_path).
    ///
    /// # Errors
    ///
    /// Everything that is wrong with it: see [`ConfigError`].
    pub fn from_str(text: &str, format: Format) -> Result<Self, ConfigError> {
        Loader::new().text(text, format)
    }

    /// Returns how many bytes of memory cached answers, idempotency keys and decision records may take.
    pub fn kept_bytes(&self) -> u64 {
        /// The size of a decision record with its failures' messages.
        const RECORD: u64 = 4 << 10;
        let answers =
            self.cache.as_ref().map_or(0, |cache| cache.max_bytes.map_or(CacheHandle::MAX_BYTES, |size| size.0));
        let keys = self
            .idempotency
            .as_ref()
            .map_or(0, |keys| keys.max_bytes.map_or(MemoryIdempotency::MAX_BYTES, |size| size.0));
        let records = u64::from(self.gateway.records.unwrap_or(1024)) * RECORD;
        answers.saturating_add(keys).saturating_add(records)
    }

    /// Returns the name or pattern in [`models`](Self::models) that matches a caller's model; `None` if none does.
    pub fn named_model(&self, model: &str) -> Option<&str> {
        let fit = |pattern: &&str| steadfast::layers::fallback::model_fit(pattern, model);
        self.models.keys().map(String::as_str).filter(|pattern| fit(pattern).is_some()).max_by_key(fit)
    }
}

/// The README's code runs too.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
