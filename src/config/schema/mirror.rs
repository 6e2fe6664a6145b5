use schemars::JsonSchema;
use serde::{Deserialize, Deserializer};

use super::{
    Share, Span, Tier,
    either::{Either, short_or_block},
};

/// Shadow traffic: a share of the requests is also sent to a candidate, whose answers nobody sees, and what came of both is
/// compared. Where the block is left out, nothing is.
#[derive(Clone, Debug, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Mirror {
    /// The candidate. Its circuit and its retries are its own, also where it is a tier that serves: what goes wrong in the
    /// shadow is held against no tier. It is tried once, unless its `retry` says otherwise.
    pub to: Candidate,
    /// How many of the requests. Default: 1 %.
    #[schemars(extend("default" = "1%"))]
    pub share: Option<Share>,
    /// Chooses whole sessions rather than single requests. Default: `false`.
    #[serde(default)]
    pub by_session: bool,
    /// Only requests of these features. Default: all but those that are for people.
    pub features: Option<Vec<String>>,
    /// How many are under way at once; beyond it requests are not mirrored. Default: 10.
    #[schemars(extend("default" = 10), range(min = 1))]
    pub max_in_flight: Option<usize>,
    /// How long the candidate may take, to the end of its answer. Default: the time that the request has, and at least 60 s.
    pub timeout: Option<Span>,
    /// The most that the candidate may cost in a day, from midnight UTC, in US dollars. The cap is called `mirror`.
    /// Default: no cap.
    #[schemars(range(min = 0))]
    pub usd_per_day: Option<f64>,
}

/// A candidate: the name of a tier, or a tier of its own that serves nobody.
#[derive(Clone, Debug, PartialEq, JsonSchema)]
#[schemars(untagged)]
pub enum Candidate {
    /// One of the `tiers`, as it is set there.
    Name(String),
    /// One that stands here alone.
    Tier(Box<Tier>),
}

impl Candidate {
    /// What is wrong with one that answers without a model.
    pub(in crate::config) const NO_MODEL: &str = "a candidate is a model: neither what the cache has kept nor people";
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
    /// The tier that is the candidate of the [mirror](Mirror); `None` without one, or where no tier has its name.
    pub(in crate::config) fn candidate(&self) -> Option<&Tier> {
        match &self.mirror.as_ref()?.to {
            Candidate::Name(name) => self.tiers.iter().find(|tier| tier.name == *name),
            Candidate::Tier(tier) => Some(tier),
        }
    }
}
