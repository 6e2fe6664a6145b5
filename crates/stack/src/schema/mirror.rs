use schemars::JsonSchema;
use serde::{Deserialize, Deserializer};

use super::{Share, Span, Tier};
use steadfast::settings::{Either, short_or_block};

/// Shadow traffic: a share of the requests also goes to a candidate, for comparison. Callers never see its answers.
/// Without this block, no request is mirrored.
#[derive(Clone, Debug, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Mirror {
    /// The candidate. It has its own circuit and retries, even if it is a serving tier: shadow failures do not count
    /// against any tier. It gets one attempt, unless its `retry` says otherwise.
    pub to: Candidate,
    /// The share of the requests. Default: 1 %.
    #[schemars(extend("default" = "1%"))]
    pub share: Option<Share>,
    /// Chooses whole sessions rather than single requests. Default: `false`.
    #[serde(default)]
    pub by_session: bool,
    /// The features whose requests are mirrored. Default: all, except requests for people.
    pub features: Option<Vec<String>>,
    /// The most concurrent mirrored requests; further ones are not mirrored. Default: 10.
    #[schemars(extend("default" = 10), range(min = 1))]
    pub max_in_flight: Option<usize>,
    /// The candidate's time to the end of its answer. Default: the request's own time, and at least 60 s.
    pub timeout: Option<Span>,
    /// The most that the candidate may cost in a day, from midnight UTC, in US dollars. The cap's name is `mirror`.
    /// Default: no cap.
    #[schemars(range(min = 0))]
    pub usd_per_day: Option<f64>,
}

/// A candidate: the name of a tier, or a separate tier that serves no callers.
#[derive(Clone, Debug, PartialEq, JsonSchema)]
#[schemars(untagged)]
pub enum Candidate {
    /// One of the `tiers`, with its settings.
    Name(String),
    /// A tier that is defined only here.
    Tier(Box<Tier>),
}

impl Candidate {
    /// The error for a candidate that answers without a model.
    pub(crate) const NO_MODEL: &str = "a candidate must be a model, not the cache or people";
}

impl<'de> Deserialize<'de> for Candidate {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let forms = "the name of a tier, or a tier such as { name: candidate, provider: openai, model: gpt-4o }";
        Ok(match short_or_block(deserializer, forms)? {
            Either::Short(name) => Self::Name(name),
            Either::Block(tier) => Self::Tier(tier),
        })
    }
}

impl super::Config {
    /// Returns the candidate tier of the [mirror](Mirror); `None` without a mirror, or if no tier has its name.
    pub(crate) fn candidate(&self) -> Option<&Tier> {
        match &self.mirror.as_ref()?.to {
            Candidate::Name(name) => self.tiers.iter().find(|tier| tier.name == *name),
            Candidate::Tier(tier) => Some(tier),
        }
    }
}
