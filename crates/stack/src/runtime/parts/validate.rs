//! Validation of structured output, as configured in the file.

use super::tier_runtime::TierService;
use crate::{Config, Tier};
#[cfg(feature = "validate")]
use crate::{Provider, ValidateSettings};
use steadfast::InvalidConfig;
#[cfg(feature = "validate")]
use steadfast::{BoxLlmService, LlmRequest, ValidateLayer};

/// The validation of each tier's answers against their requests' schemas: one layer per kind of settings.
#[derive(Default)]
pub(crate) struct Validators {
    #[cfg(feature = "validate")]
    layers: Vec<ValidateLayer>,
}

impl Validators {
    /// Returns an error if the file needs validation, because this build lacks it.
    #[cfg(not(feature = "validate"))]
    pub(crate) fn new(config: &Config) -> Result<Self, InvalidConfig> {
        match config.validates() {
            true => Err(InvalidConfig::new("validate", Config::NO_VALIDATE)),
            false => Ok(Self::default()),
        }
    }

    #[cfg(feature = "validate")]
    #[allow(clippy::unnecessary_wraps, reason = "as without it")]
    pub(crate) fn new(config: &Config) -> Result<Self, InvalidConfig> {
        let of = |settings: Option<crate::Validate>| match settings.or(config.validate) {
            Some(crate::Validate::On(settings)) => Some(settings),
            Some(crate::Validate::Off) | None => None,
        };
        let others = of(config.default_feature.as_ref().and_then(|feature| feature.validate));
        let named: Vec<(String, Option<ValidateSettings>)> =
            config.features.iter().map(|(name, feature)| (name.clone(), of(feature.validate))).collect();
        let mut all: Vec<ValidateSettings> = Vec::new();
        for settings in named.iter().filter_map(|(_, settings)| *settings).chain(others) {
            if !all.contains(&settings) {
                all.push(settings);
            }
        }
        let layer = |settings: ValidateSettings| {
            let ValidateSettings { reasks, repair } = settings;
            let mut layer = ValidateLayer::new();
            if let Some(times) = reasks {
                layer = layer.reasks(times);
            }
            if let Some(repair) = repair {
                layer = layer.repair(repair);
            }
            if named.iter().all(|(_, own)| *own == Some(settings)) && others == Some(settings) {
                return layer;
            }
            let named = named.clone();
            layer.only(move |request: &LlmRequest| {
                let own = named.iter().find(|(name, _)| Some(name.as_str()) == request.feature());
                own.map_or(others, |(_, own)| *own) == Some(settings)
            })
        };
        Ok(Self { layers: all.into_iter().map(layer).collect() })
    }

    /// Wraps a tier whose answers are validated. The wrapper is boxed, so that other tiers pay nothing.
    #[cfg_attr(not(feature = "validate"), allow(clippy::unused_self, reason = "as with it"))]
    pub(crate) fn around(&self, tier: &Tier, service: TierService) -> TierService {
        #[cfg(feature = "validate")]
        if tier.provider != Provider::Handoff {
            // Validating people's answers would mean asking again, and thus a second task.
            return self.layers.iter().fold(service, |service, layer| {
                let layer = if tier.provider.is_model() { layer.clone() } else { layer.clone().reasks(0) };
                TierService::Left(BoxLlmService::new(tower::Layer::layer(&layer, service)))
            });
        }
        let _ = tier;
        service
    }
}
