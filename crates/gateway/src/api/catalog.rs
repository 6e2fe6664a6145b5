//! The models that callers may name.

use std::{collections::HashSet, sync::Arc};

use steadfast::{Dialect, ErrorKind, LlmError, LlmRequest, store::StoreTrouble};
use steadfast_stack::{CallKind, Config, LanePool, OtherPaths, StackHandle};

use super::model_names::ModelNames;

/// The names that callers may ask for: those of the configuration's models, or any if it names none.
pub(crate) enum Catalog {
    /// The names of the stack's models and tiers, as of the last reload.
    Stack(StackHandle),
    /// These names, and any other.
    Listed(Arc<[Arc<str>]>),
}

impl Catalog {
    /// Returns the stores' current problems.
    pub(crate) fn store_troubles(&self) -> Vec<StoreTrouble> {
        match self {
            Self::Stack(stack) => stack.store_troubles(),
            Self::Listed(_) => Vec::new(),
        }
    }

    /// Returns false while no tier has ever answered, since the first one's key or model is refused.
    pub(crate) fn is_ready(&self) -> bool {
        match self {
            Self::Stack(stack) => stack.status().ready,
            Self::Listed(_) => true,
        }
    }

    /// Returns each name once: the configuration's models, then the tiers' models in order of preference, then the
    /// tiers' own names. A pattern is not a name, but admits the names that it matches.
    pub(crate) fn names(&self) -> Vec<Arc<str>> {
        let names: Vec<Arc<str>> = match self {
            Self::Stack(stack) => {
                let config = stack.config();
                let spelled = config.models.keys().filter(|name| !name.ends_with('*')).map(|name| Arc::from(&**name));
                let tiers = stack.tiers();
                let models = tiers.iter().map(|tier| tier.model.as_ref().unwrap_or(&tier.name));
                let of_tiers = models.chain(tiers.iter().map(|tier| &tier.name));
                let served = ModelNames::new(config.models.keys().map(String::as_str));
                let of_tiers = of_tiers.filter(|name| config.models.is_empty() || served.has(name));
                spelled.chain(of_tiers.cloned()).collect()
            }
            Self::Listed(names) => names.to_vec(),
        };
        let mut seen = HashSet::new();
        names.into_iter().filter(|name| seen.insert(name.clone())).collect()
    }

    /// Returns whether any tier calls a provider over the network.
    pub(crate) fn calls_out(&self) -> bool {
        match self {
            Self::Stack(stack) => stack.tiers().iter().any(|tier| !tier.provider.is_local()),
            Self::Listed(_) => true,
        }
    }

    /// Returns whether the gateway is one to the stack of a file.
    pub(crate) fn is_stack(&self) -> bool {
        matches!(self, Self::Stack(_))
    }

    /// Returns whether the stack serves paths that are no conversation.
    pub(crate) fn has_lane(&self) -> bool {
        match self {
            Self::Stack(stack) => stack.config().lane.is_some(),
            Self::Listed(_) => false,
        }
    }

    /// Returns whether an unknown path passes to a provider: true if the file lists it, false if all pass that a key is
    /// for.
    pub(crate) fn passes(&self, path: &str) -> Option<bool> {
        let Self::Stack(stack) = self else { return None };
        let config = stack.config();
        match &config.lane.as_ref()?.other {
            OtherPaths::Refuse => None,
            OtherPaths::Pass => Some(false),
            OtherPaths::Listed(paths) => paths.iter().any(|listed| listed.is(path)).then_some(true),
        }
    }

    /// Returns the tiers that may serve a call that is no conversation.
    pub(crate) fn lane_pool(
        &self,
        kind: CallKind,
        dialect: Dialect,
        model: Option<&str>,
    ) -> Result<LanePool, LlmError> {
        match self {
            Self::Stack(stack) => stack.config().lane_pool(kind, dialect, model),
            Self::Listed(_) => Err(unknown_model()),
        }
    }

    /// Returns whether the stack keeps answers.
    pub(crate) fn keeps_answers(&self) -> bool {
        match self {
            Self::Stack(stack) => stack.keeps_answers(),
            Self::Listed(_) => false,
        }
    }

    /// Returns whether the stack reads the content of requests that it only forwards.
    pub(crate) fn reads_requests(&self) -> bool {
        match self {
            Self::Stack(stack) => stack.config().reads_requests(),
            Self::Listed(_) => false,
        }
    }

    /// Returns the request if callers may ask for its model, or if it names none.
    ///
    /// # Errors
    ///
    /// Callers may not ask for the model.
    pub(crate) fn admit(&self, mut request: LlmRequest) -> Result<LlmRequest, LlmError> {
        if let Some(wire) = request.wire()
            && let Some(own) = request.model().and_then(|model| model.strip_prefix(COMPATIBLE))
        {
            // The list has this prefix; the provider does not know it.
            let named = wire.clone().with_model(own)?;
            request = LlmRequest::from(named);
        }
        match request.model() {
            Some(model) if !self.serves(model) => Err(unknown_model()),
            None if self.names_models() => {
                let message = "`model` is missing; GET /v1/models has the names to choose from";
                Err(LlmError::new(ErrorKind::InvalidRequest, message))
            }
            _ => Ok(request),
        }
    }

    /// Returns true if a tier's provider keeps conversations of its own: this tier's, or any.
    pub(crate) fn keeps_conversations(&self, tier: Option<&str>) -> bool {
        let Self::Stack(stack) = self else { return false };
        match tier {
            Some(tier) => stack.account(tier).is_some(),
            None => stack.tiers().iter().any(|tier| stack.account(&tier.name).is_some()),
        }
    }

    /// Returns true if the file says which models callers may ask for.
    fn names_models(&self) -> bool {
        match self {
            Self::Stack(stack) => !stack.config().models.is_empty(),
            Self::Listed(_) => false,
        }
    }

    /// Returns a note for a caller whose feature the file does not have, though it has others.
    pub(crate) fn note_of_feature(&self, feature: &str) -> Option<String> {
        let Self::Stack(stack) = self else { return None };
        let config = stack.config();
        if config.has_feature(feature) {
            return None;
        }
        let near = config.features.keys().find(|known| known.eq_ignore_ascii_case(feature));
        let near = near.map(|near| format!("; did you mean `{near}`?")).unwrap_or_default();
        Some(format!("x-steadfast-feature: the gateway's file has no such feature, so the defaults apply{near}"))
    }

    /// Returns true if callers may ask for this model.
    pub(crate) fn serves(&self, model: &str) -> bool {
        match self {
            Self::Stack(stack) => serves(&stack.config(), model),
            Self::Listed(_) => true,
        }
    }
}

/// The prefix of other names than Anthropic's in a list for its clients.
pub(crate) const COMPATIBLE: &str = "anthropic-compatible/";

fn serves(config: &Config, model: &str) -> bool {
    config.models.is_empty() || config.named_model(model).is_some()
}

/// Returns the error of a model that callers may not ask for.
pub(crate) fn unknown_model() -> LlmError {
    LlmError::new(ErrorKind::NotFound, "no such model; GET /v1/models has the list")
}
