//! The whole stack in one file. Feature `config`.
//!
//! A [`Config`] is read from YAML, TOML or JSON, whose keys are the same: the tiers in order of preference, and what
//! surrounds them. The smallest is two lines; [`Config::json_schema`] describes all of it, for completion in an editor.
//!
//! ```
//! use steadfast::config::{Config, Format};
//!
//! let file = "
//! tiers:
//!   - { name: sonnet, provider: anthropic, model: claude-sonnet-4-5, api_key: '${ANTHROPIC_API_KEY}' }
//!   - { name: backup, provider: openai, model: gpt-4o }
//! features:
//!   chat: { concurrency: 20 }
//!   background: { concurrency: 5, tiers: [backup] }
//! timeout: 90s
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
//! - **References.** `${NAME}` in any text stands for a variable; `${NAME:-default}` for the default where the variable
//!   is not set or empty; `$$` is a dollar sign. A text that is one reference and nothing else may become a number.
//!   `api_key`, a webhook's `authorization` and the callbacks' `secret` are *only* ever a reference: the secret is looked up when the stack is
//!   built, and is never in a [`Config`].
//! - **Servers.** A tier without a `base_url` goes where `ANTHROPIC_BASE_URL`, `OPENAI_BASE_URL`, `GEMINI_BASE_URL` or
//!   `GOOGLE_GEMINI_BASE_URL` says, as with the providers' SDKs, and takes the environment's key along. A `base_url` in the file gets
//!   the provider's usual key only where it is the provider's own host; for any other, `api_key` names one.
//! - **Overrides.** A variable such as `STEADFAST__TIMEOUT=60s`, `STEADFAST__TIERS__0__MODEL=gpt-4o` or
//!   `STEADFAST__FEATURES__CHAT__CONCURRENCY=5` is laid over the file: the steps are keys in capitals, or places of a
//!   list counted from 0; the place after the last adds to it. A list or block may be written as in YAML: `[a, b]`. An
//!   override that fits no key is an error.
//!
//! # Limits
//!
//! A file has at most 1 MiB, 50,000 values with its YAML aliases followed, and blocks at most 32 deep.
//!
//! # Other forms
//!
//! Two forms that users already have are read as they are: see [`import`].

mod check;
mod classifier;
mod environment;
mod error;
mod expand;
mod explain;
mod families;
mod hedge;
pub mod import;
mod json_schema;
mod keys;
mod load;
mod overrides;
mod schema;
mod source;
mod stack;
mod suggest;
mod tree;
mod watch;

use std::path::Path;

use crate::{CacheHandle, layers::idempotency::MemoryIdempotency};

#[cfg(feature = "drill")]
pub(crate) use self::{
    check::Findings,
    load::{document, document_of},
    suggest::nearest,
};

#[cfg(feature = "alerts")]
pub use self::stack::AlertTask;
pub use self::{
    classifier::classifier,
    environment::Environment,
    error::{ConfigError, Problem},
    keys::{MissingKey, Server},
    load::{Format, Loader},
    schema::*,
    stack::{HandoffTask, RecoveryCheckTask, Reload, Stack, StackBuilder, StackHandle, TierInfo},
    watch::FileWatch,
};

impl Config {
    /// Reads a file; the suffix says its format: `.yaml`, `.yml`, `.toml` or `.json`. References and overrides come
    /// from the environment of this process; [`Loader`] takes another.
    ///
    /// # Errors
    ///
    /// Everything that is wrong with it: see [`ConfigError`].
    pub fn from_path(path: impl AsRef<Path>) -> Result<Self, ConfigError> {
        Loader::new().path(path)
    }

    /// Reads a text of this format. As [`from_path`](Self::from_path) otherwise.
    ///
    /// # Errors
    ///
    /// Everything that is wrong with it: see [`ConfigError`].
    pub fn from_str(text: &str, format: Format) -> Result<Self, ConfigError> {
        Loader::new().text(text, format)
    }

    /// Returns how many bytes of memory kept answers, idempotency keys and decision records may take.
    pub fn kept_bytes(&self) -> u64 {
        /// A decision record, with what failures said.
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

    /// The name or pattern of [`models`](Self::models) that a caller's model goes by; `None` where none fits.
    pub fn named_model(&self, model: &str) -> Option<&str> {
        let fit = |pattern: &&str| crate::layers::fallback::models::fit(pattern, model);
        self.models.keys().map(String::as_str).filter(|pattern| fit(pattern).is_some()).max_by_key(fit)
    }
}
