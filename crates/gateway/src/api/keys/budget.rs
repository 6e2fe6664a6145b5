//! A key's budget, and its cap in the stack.

use serde::Deserialize;
use serde_json::{Value, json};
use steadfast::layers::budget::KeyGroup;
use steadfast_stack::{self as config, AtCap, Period, Share};

/// A key's budget, in the words of the configuration's `budgets`.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Budget {
    usd: f64,
    #[serde(alias = "per")]
    period: Period,
    #[serde(default)]
    at_cap: AtCap,
    warn_at: Option<Vec<Share>>,
}

impl Budget {
    /// Returns whether another budget allows all that this one does.
    pub(super) fn is_within(&self, other: &Self) -> bool {
        let Self { usd, period, at_cap, warn_at } = self;
        *usd <= other.usd && *period == other.period && *at_cap == other.at_cap && *warn_at == other.warn_at
    }

    /// Returns the budget's own mistake; the stack checks whether its steps lead anywhere.
    pub(super) fn problem(&self) -> Option<String> {
        if !(self.usd.is_finite() && self.usd >= 0.0) {
            return Some(format!("`usd` must be a number of 0 or more, not {}", self.usd));
        }
        let nothing = self.warn_at.iter().flatten().any(|share| share.0 <= 0.0);
        nothing.then(|| "a share of 0 in `warn_at` is always reached; use shares above 0".to_owned())
    }

    /// Returns the budget as a part of a key's document.
    pub(super) fn document(&self) -> Value {
        let Self { usd, period, at_cap, warn_at } = self;
        let period = match period {
            Period::Hour => "hour",
            Period::Day => "day",
            Period::Week => "week",
            Period::Month => "month",
        };
        let at_cap = match at_cap {
            AtCap::Warn => json!("warn"),
            AtCap::StepDown(level) => json!({ "step_down": level }),
            AtCap::Refuse => json!("refuse"),
        };
        let mut document = json!({ "usd": usd, "period": period, "at_cap": at_cap });
        if let Some(shares) = warn_at {
            document["warn_at"] = shares.iter().map(|share| share.0).collect();
        }
        document
    }

    /// Returns its cap in the stack, for the key of this name.
    pub(super) fn cap(&self, key: &str) -> config::Budget {
        config::Budget { key: Some(key.to_owned()), ..self.cap_named(cap_name(key)) }
    }

    /// Returns its cap for each key of a group.
    pub(super) fn cap_of_each(&self, name: &str, group: &KeyGroup) -> config::Budget {
        config::Budget { each_key: true, among: Some(group.clone()), ..self.cap_named(format!("limits {name}")) }
    }

    fn cap_named(&self, name: String) -> config::Budget {
        let Self { usd, period, at_cap, warn_at } = self.clone();
        config::Budget {
            name,
            usd,
            period,
            feature: None,
            key: None,
            team: None,
            each_key: false,
            among: None,
            tier: None,
            at_cap,
            warn_at,
        }
    }
}

/// Returns the name of a key's cap in the stack.
fn cap_name(key: &str) -> String {
    format!("{CAP_PREFIX}{key}")
}

const CAP_PREFIX: &str = "key ";

/// Returns whether a cap is a key's own.
pub(crate) fn is_of_a_key(cap: &str) -> bool {
    cap.starts_with(CAP_PREFIX)
}
