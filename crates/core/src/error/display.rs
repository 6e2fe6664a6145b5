//! The text of an error.

use std::{fmt, time::Duration};

use super::{LlmError, chain::Chain};

impl fmt::Display for LlmError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let chain = Chain::of(self);
        if let Some(chain) = &chain {
            chain.write(self, f)?;
        } else {
            f.write_str(&self.what())?;
            if let Some(timed_out) = self.own_timeout() {
                write!(f, ": {timed_out}")?;
            }
            if !self.message().is_empty() && self.may_quote() {
                write!(f, ": {}", self.message())?;
            }
        }
        let facts: [Option<String>; 6] = [
            self.provider().map(str::to_owned),
            self.model().map(str::to_owned),
            self.status().filter(|_| chain.is_none()).map(|status| format!("HTTP {}", status.as_u16())),
            self.code().map(|code| format!("code {code}")),
            self.request_id().map(|id| format!("request {id}")),
            (self.attempts().len() > 1).then(|| format!("{} steps tried", self.attempts().len())),
        ];
        let facts: Vec<String> = facts.into_iter().flatten().collect();
        if !facts.is_empty() {
            write!(f, " ({})", facts.join(", "))?;
        }
        if let Some(after) = self.retry_after().filter(|after| !after.is_zero()) {
            write!(f, "; worth retrying in {}", WholeSeconds(after))?;
        }
        match chain {
            Some(chain) => write!(f, "; {}", self.advice_for(&chain)),
            None => write!(f, "; {}", self.advice()),
        }
    }
}

/// A wait for people to read: in whole seconds, rounded up.
struct WholeSeconds(Duration);

impl fmt::Display for WholeSeconds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let millis = self.0.as_nanos().div_ceil(1_000_000);
        if millis < 1000 { write!(f, "{millis} ms") } else { write!(f, "{} s", millis.div_ceil(1000)) }
    }
}
