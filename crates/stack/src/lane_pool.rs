//! The pools of the lane: the tiers that may serve a call that is no conversation.

use std::sync::Arc;

use super::{CallKind, Config, Provider, Tier, vector_spaces::VectorSpace};
use steadfast::{Dialect, ErrorKind, LlmError};

/// The tiers that may serve a call, as [`Config::lane_pool`] finds them.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct LanePool {
    /// The name of the pool: see [`OpaqueCall::with_pool`](steadfast::OpaqueCall::with_pool).
    pub name: Arc<str>,
    /// The model that the call names, or the one that it gets where it names none.
    pub model: Arc<str>,
    /// For embeddings, the dimensions of the vector space, as far as they are known.
    pub dimensions: Option<u32>,
}

impl Tier {
    /// Returns whether the tier serves calls of a kind; `None` where neither the file nor the model's name says so.
    pub(crate) fn serves_kind(&self, kind: CallKind) -> Option<bool> {
        match &self.serves {
            Some(kinds) => Some(kinds.contains(&kind)),
            None if kind == CallKind::Embeddings && self.space.is_some() => Some(true),
            None if kind == CallKind::Other => None,
            None => CallKind::of_model(self.model.as_deref()?).map(|own| own == kind),
        }
    }

    fn vector_space(&self) -> Option<VectorSpace<'_>> {
        match &self.space {
            Some(name) => VectorSpace::of_name(name).ok(),
            None => VectorSpace::of_model(self.model.as_deref()?),
        }
    }

    fn lane_dialect(&self) -> Option<Dialect> {
        match self.provider {
            Provider::OpenAi | Provider::Simulated => Some(Dialect::OpenAi),
            Provider::Gemini => Some(Dialect::Gemini),
            Provider::Anthropic => Some(Dialect::Anthropic),
            _ => None,
        }
    }

    fn is_named(&self, model: &str) -> bool {
        self.model.as_deref() == Some(model) || self.name == model
    }

    /// Returns the pool of the tier for calls of a kind.
    fn pool(&self, kind: CallKind) -> Option<String> {
        let dialect = self.lane_dialect()?;
        let words = match kind {
            CallKind::Embeddings => format!("the vector space {}", self.vector_space()?.name),
            _ if self.interchangeable == Some(true) => format!("{} by any model", kind.name()),
            _ => format!("the model {}", self.model.as_deref()?),
        };
        Some(if dialect == Dialect::OpenAi { words } else { format!("{words} by {dialect}'s API") })
    }

    /// Returns all pools of the tier.
    pub(crate) fn pools(&self) -> Vec<String> {
        const KINDS: [CallKind; 8] = [
            CallKind::Embeddings,
            CallKind::Rerank,
            CallKind::Speech,
            CallKind::Transcription,
            CallKind::Images,
            CallKind::Moderations,
            CallKind::Completions,
            CallKind::Other,
        ];
        let served = KINDS.into_iter().filter(|kind| self.serves_kind(*kind) != Some(false));
        let mut pools: Vec<String> = served.filter_map(|kind| self.pool(kind)).collect();
        pools.push(alone(&self.name));
        pools.sort_unstable();
        pools.dedup();
        pools
    }
}

/// Returns the name of a tier's own pool.
fn alone(tier: &str) -> String {
    format!("a call for the tier {tier} alone")
}

impl Config {
    /// Returns all tiers: those of conversations, then those of the lane.
    pub fn all_tiers(&self) -> impl Iterator<Item = &Tier> {
        self.tiers.iter().chain(self.lane.iter().flat_map(|lane| &lane.tiers))
    }

    /// Returns the pool of tiers that may serve a call of this kind, by the model that it names. A call without a model
    /// gets the first tier's that serves the kind.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::NotFound`] if the file has no `lane`, or none of its tiers serves the model; for embeddings also
    /// [`ErrorKind::InvalidRequest`] if the model's vector space is unknown.
    pub fn lane_pool(&self, kind: CallKind, dialect: Dialect, model: Option<&str>) -> Result<LanePool, LlmError> {
        let none = |message: String| LlmError::new(ErrorKind::NotFound, message).with_code("model_not_found");
        let Some(lane) = &self.lane else {
            let message = format!("this gateway serves no {}: its file has no `lane`", kind.name());
            return Err(none(message));
        };
        let speaks = |tier: &&Tier| tier.lane_dialect() == Some(dialect);
        let serves = |tier: &&Tier| tier.serves_kind(kind) != Some(false);
        let tiers = || lane.tiers.iter().filter(speaks).filter(serves);
        let found = match model {
            Some(model) => tiers().find(|tier| tier.is_named(model)),
            None if kind == CallKind::Other => tiers().next(),
            None => tiers().find(|tier| tier.serves_kind(kind) == Some(true)),
        };
        let Some(tier) = found else {
            let mut names: Vec<&str> = tiers().filter_map(|tier| tier.model.as_deref()).collect();
            names.dedup();
            let what = match model {
                Some(_) => format!("no tier of the lane serves {} by this model", kind.name()),
                None => format!("the request names no model, and no tier of the lane is for {}", kind.name()),
            };
            return Err(none(match names.as_slice() {
                [] => what,
                names => format!("{what}; there are {}", names.join(", ")),
            }));
        };
        let model: Arc<str> = model.or(tier.model.as_deref()).unwrap_or(&tier.name).into();
        if kind == CallKind::Other {
            return Ok(LanePool { name: alone(&tier.name).into(), model, dimensions: None });
        }
        let Some(name) = tier.pool(kind) else {
            let message =
                format!("the vector space of `{model}` is not known; the tier `{}` needs a `space`", tier.name);
            return Err(LlmError::new(ErrorKind::InvalidRequest, message));
        };
        let space = tier.vector_space().filter(|_| kind == CallKind::Embeddings);
        Ok(LanePool { name: name.into(), model, dimensions: space.and_then(|space| space.dimensions) })
    }
}
