//! The cache of a stack, and the tier that serves from it if no model answers.

use std::{collections::HashMap, time::Duration};

use super::context::StackContext;
use crate::{self as config, CacheAcross, Config, Feature, FeatureCache, Similar, SimilarAcross, Size, classifier};
use steadfast::{
    CacheHandle, CacheLayer, InvalidConfig,
    layers::cached::CachedAnswers,
    providers::{OpenAi, openai::OpenAiEmbeddings},
};

/// The default similarity by words: one or two changed words in a sentence pass.
const WORD_THRESHOLD: f64 = 0.8;
/// The default similarity by embeddings: many models rate questions with the same meaning above it.
const EMBEDDING_THRESHOLD: f64 = 0.85;

/// The cache of a configuration. Clones share the answers.
#[derive(Clone, Debug)]
pub(crate) struct CacheState {
    settings: CacheSettings,
    layer: CacheLayer,
}

/// The settings that determine the layer.
#[derive(Clone, Debug, PartialEq)]
struct CacheSettings {
    cache: config::Cache,
    /// The settings of named features.
    features: HashMap<String, Option<FeatureCache>>,
    others: Option<FeatureCache>,
}

impl CacheState {
    /// Checks that a shared cache has a store.
    pub(crate) fn check(config: &Config, context: &StackContext) -> Result<(), InvalidConfig> {
        let has_store = config.stores.shared.is_some() || context.shares_answers();
        match &config.cache {
            Some(cache) if cache.shared && !has_store => {
                let problem = "no shared store; name one as `stores: { shared: redis://... }`, or leave `shared` out";
                Err(InvalidConfig::new("cache.shared", problem))
            }
            _ => Ok(()),
        }
    }

    /// Creates the cache of a configuration; `None` if it has none. An earlier cache's answers continue in it,
    /// unchanged until [`CacheState::apply_size`].
    pub(crate) fn new(config: &Config, shared: Option<CacheHandle>, before: Option<&Self>) -> Option<Self> {
        let cache = config.cache.as_ref()?;
        let own = |(name, feature): (&String, &Feature)| (name.clone(), feature.cache);
        let settings = CacheSettings {
            cache: cache.clone(),
            features: config.features.iter().map(own).collect(),
            others: config.default_feature.as_ref().and_then(|feature| feature.cache),
        };
        let (room, largest) = (settings.room(), bytes(cache.max_answer, CacheLayer::MAX_ANSWER as u64));
        let known = before.filter(|known| !known.settings.cache.shared).map(|known| known.layer.handle());
        let handle = match known.filter(|known| known.would_have_room(room, largest)) {
            _ if cache.shared => shared.expect("a plan with a shared cache has its store"),
            Some(known) => known,
            None => CacheHandle::with_largest(room, largest),
        };
        let layer = settings.layer(&handle).classifier(classifier(config));
        Some(Self { settings, layer })
    }

    pub(crate) fn layer(&self) -> CacheLayer {
        self.layer.clone()
    }

    pub(crate) fn handle(&self) -> CacheHandle {
        self.layer.handle()
    }

    /// Applies the configured size to the answers.
    pub(crate) fn apply_size(&self) {
        if !self.settings.cache.shared {
            self.handle().set_max_bytes(self.settings.room());
        }
    }

    /// Clears this cache after a reload, unless the next one continues it. Answers that replicas share stay.
    pub(crate) fn yield_to(&self, next: Option<&Self>) {
        let goes_on = next.is_some_and(|next| next.handle().is(&self.handle()));
        if !goes_on && !self.settings.cache.shared {
            self.handle().clear();
        }
    }

    /// Creates a tier of these answers. `embeddings` is the server that similar questions are found by, if any.
    pub(crate) fn tier(
        &self,
        similar: Option<&Similar>,
        embeddings: Option<OpenAi>,
        context: &StackContext,
    ) -> CachedAnswers {
        let leaf = CachedAnswers::new(&self.layer);
        let Some(similar) = similar else { return leaf };
        let Similar { method: _, threshold, base_url: _, model, api_key: _, across, quote, remember } = similar;
        let threshold = |default: f64| threshold.unwrap_or(default) as f32;
        let mut leaf = match embeddings {
            None => leaf.similar(threshold(WORD_THRESHOLD)),
            Some(server) => {
                let model = model.as_deref().unwrap_or_default();
                let embeddings = OpenAiEmbeddings::new(server.model(model).over(context.transport()));
                leaf.similar_by(embeddings, threshold(EMBEDDING_THRESHOLD))
            }
        };
        // Set each time, because remembered questions continue over reloads.
        leaf = leaf.remember(remember.map_or(CachedAnswers::REMEMBERED, |questions| questions as usize));
        for across in across {
            leaf = match across {
                SimilarAcross::Features => leaf.across_features(),
                SimilarAcross::SystemPrompts => leaf.across_system_prompts(),
                SimilarAcross::Tenants => leaf.across_tenants(),
            };
        }
        if *quote { leaf.quote() } else { leaf }
    }
}

/// Equal if a tier of one may serve in place of a tier of the other.
impl PartialEq for CacheState {
    fn eq(&self, other: &Self) -> bool {
        let sized = |settings: &CacheSettings| CacheSettings {
            cache: config::Cache { max_bytes: None, ..settings.cache.clone() },
            ..settings.clone()
        };
        sized(&self.settings) == sized(&other.settings) && self.handle().is(&other.handle())
    }
}

impl CacheSettings {
    fn room(&self) -> u64 {
        bytes(self.cache.max_bytes, CacheHandle::MAX_BYTES)
    }

    fn layer(&self, handle: &CacheHandle) -> CacheLayer {
        let config::Cache {
            ttl,
            stale_for,
            max_bytes: _,
            max_answer,
            single_flight,
            max_temperature,
            ref across,
            shared: _,
        } = self.cache;
        let mut layer = CacheLayer::over(handle);
        if let Some(ttl) = ttl {
            layer = layer.ttl(ttl.0);
        }
        if let Some(stale_for) = stale_for {
            layer = layer.stale_for(stale_for.0);
        }
        if let Some(largest) = max_answer {
            layer = layer.max_answer(usize::try_from(largest.0).unwrap_or(usize::MAX));
        }
        if let Some(single) = single_flight {
            layer = layer.single_flight(single);
        }
        if let Some(hottest) = max_temperature {
            layer = layer.temperature_at_most(hottest);
        }
        for across in across {
            layer = match across {
                CacheAcross::Models => layer.ignore_model(),
                CacheAcross::Features => layer.ignore_feature(),
                CacheAcross::Tenants => layer.share_between_tenants(),
            };
        }
        if self.features.values().chain([&self.others]).all(Option::is_none) {
            return layer;
        }
        let ttl = ttl.map_or(CacheLayer::TTL, |ttl| ttl.0);
        let lasts = move |said: Option<FeatureCache>| match said {
            None | Some(FeatureCache::On(true)) => Some(ttl),
            Some(FeatureCache::On(false)) => None,
            Some(FeatureCache::Ttl(own)) => Some(own.0),
        };
        let others = lasts(self.others);
        let named: HashMap<String, Option<Duration>> =
            self.features.iter().map(|(name, said)| (name.clone(), lasts(*said))).collect();
        layer.ttl_by(move |request| request.feature().and_then(|name| named.get(name)).copied().unwrap_or(others))
    }
}

fn bytes(said: Option<Size>, default: u64) -> u64 {
    said.map_or(default, |size| size.0)
}
