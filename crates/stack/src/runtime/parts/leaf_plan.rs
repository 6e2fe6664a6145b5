//! The plan of a tier's leaf: the provider that the file names, or the service that replaces it.

use std::{sync::Arc, time::Duration};

use ::http::{HeaderMap, HeaderName, HeaderValue, Method, Request};
use bytes::Bytes;
use sha2::{Digest as _, Sha256};
use tower::Layer as _;

use super::{
    cache::CacheState,
    context::StackContext,
    door::{self, DoorPlan},
    handoff::HandoffState,
    leaf::Leaf,
};
use crate::{
    CallTools, Cloud, ConfigError, Environment, Likeness, Problem, Provider, Server, Similar,
    Simulated as SimulatedSettings, Tier, TierApi,
};
use steadfast::{
    BoxLlmService, CommitOnFirstTokenLayer, Dialect, ErrorKind, InvalidConfig, LlmError,
    models::{FamilyTable, ModelDoors},
    prices::PriceTable,
    providers::{Anthropic, Canned, Gemini, OpenAi, Simulated, http::BaseUrl, servers::KnownServer, without_key},
};

/// Gives an HTTP leaf its tier's settings. The leaf's protocol has no name outside of the library.
macro_rules! over_http {
    ($settings:ident, $leaf:ident, $context:ident) => {{
        let mut leaf = $leaf;
        let at_door = $settings.door.as_ref().map(|door| &door.model);
        if let Some(model) = at_door.unwrap_or(&$settings.model) {
            leaf = leaf.model(model.as_str());
        }
        if $settings.key.is_none() && $settings.door.is_none() {
            leaf = leaf.without_key();
        }
        for (name, value) in &$settings.headers {
            leaf = leaf.header(name.clone(), value.clone());
        }
        leaf = leaf.families($settings.families.clone()).events(&$context.events).over($context.transport());
        if let Some(client) = $context.uploads() {
            leaf = leaf.uploads(client.clone());
        }
        leaf.seals(&$context.seals)
    }};
}

/// The facts about models, with the file's own.
pub(crate) struct ModelTables {
    pub(crate) families: FamilyTable,
    /// The models' ids at clouds.
    pub(crate) doors: ModelDoors,
    pub(crate) prices: PriceTable,
}

/// A leaf whose key, headers and server are checked, with the state that it stands on.
#[derive(Clone)]
pub(crate) struct LeafPlan {
    settings: LeafSettings,
    source: LeafSource,
    /// The cache of a cached tier.
    cache: Option<CacheState>,
    /// The handoff of a tier of people.
    handoff: Option<HandoffState>,
}

/// The leaves of a tier: one, or those of its deployments, in order.
#[derive(Clone)]
pub(crate) enum LeafPlans {
    One(Box<LeafPlan>),
    Many {
        /// The tier's place in the configuration, for errors.
        place: String,
        leaves: Vec<LeafPlan>,
    },
}

impl LeafPlans {
    /// Resolves the keys of a tier, or of its deployments: see [`LeafPlan::new`].
    ///
    /// # Errors
    ///
    /// Everything that is wrong with any of them.
    pub(crate) fn new(
        tier: &Tier,
        place: String,
        tables: &ModelTables,
        context: &StackContext,
        environment: &Environment,
    ) -> Result<Self, ConfigError> {
        let Some(list) = &tier.deployments else {
            let own = context.leaf(&tier.name);
            return LeafPlan::new(tier, place, own, tables, context, environment).map(|plan| Self::One(Box::new(plan)));
        };
        let (mut leaves, mut problems) = (Vec::with_capacity(list.len()), Vec::new());
        for (endpoint, name) in tier.endpoints().iter().zip(tier.deployment_names()) {
            let place = format!("{place}.deployments.{name}");
            let own = context.leaf(&endpoint.name).or_else(|| context.leaf(&tier.name));
            match LeafPlan::new(endpoint, place, own, tables, context, environment) {
                Ok(plan) => leaves.push(plan),
                Err(error) => problems.extend_from_slice(error.problems()),
            }
        }
        if problems.is_empty() { Ok(Self::Many { place, leaves }) } else { Err(ConfigError::new(problems)) }
    }

    /// Returns the tier's place in the configuration, for errors.
    pub(crate) fn place(&self) -> &str {
        match self {
            Self::One(leaf) => leaf.place(),
            Self::Many { place, .. } => place,
        }
    }
}

/// The settings of a leaf. A reload that leaves them unchanged keeps the leaf and its connections.
#[derive(Clone, PartialEq)]
struct LeafSettings {
    tier: String,
    /// The tier's place in the configuration, for errors.
    place: String,
    provider: Provider,
    model: Option<String>,
    base_url: Option<String>,
    /// The cloud that serves the provider's models.
    door: Option<DoorPlan>,
    /// The choice of OpenAI's APIs.
    api: Option<TierApi>,
    key: Option<Arc<str>>,
    headers: HeaderMap,
    /// The known facts about models.
    families: FamilyTable,
    prices: PriceTable,
    /// The longest answer, for requests without a limit.
    longest: Option<u32>,
    text: Option<String>,
    simulated: Option<SimulatedSettings>,
    similar: Option<Similar>,
}

/// The source of a leaf's answers, before the connections and stores that it needs.
#[derive(Clone)]
enum LeafSource {
    Anthropic(Anthropic),
    OpenAi(OpenAi, TierApi),
    Gemini(Gemini),
    Simulated(Simulated),
    /// With the server of the embeddings that similar questions are found by, if the tier uses them.
    Cached(Option<OpenAi>),
    Canned(Canned),
    Handoff,
    /// The service in the provider's place.
    Own(BoxLlmService),
}

/// The default time to a simulated tier's first token.
const LATENCY: Duration = Duration::from_millis(50);

impl LeafPlan {
    /// Resolves the tier's key, so that the leaf can be built without the environment. `own` is a service in the
    /// provider's place.
    ///
    /// # Errors
    ///
    /// A missing key, an invalid header, an invalid server address in the file or the environment, or a canned tier
    /// without a text; the error names the place, the field and the variable.
    fn new(
        tier: &Tier,
        place: String,
        own: Option<&BoxLlmService>,
        tables: &ModelTables,
        context: &StackContext,
        environment: &Environment,
    ) -> Result<Self, ConfigError> {
        let mut headers = HeaderMap::new();
        for (name, value) in &tier.headers {
            let wrong = |what: &'static str| InvalidConfig::new(format!("{place}.headers.{name}"), what);
            let field: HeaderName = name.parse().map_err(|_| wrong("it is not a valid HTTP header name"))?;
            let mut value = HeaderValue::from_str(value)
                .map_err(|_| wrong("the header's value has a line break or a control character"))?;
            value.set_sensitive(true);
            headers.insert(field, value);
        }
        // A service in the provider's place needs neither the provider's key nor a server.
        let is_replaced = own.is_some();
        let key = if is_replaced { None } else { key(tier, &place, environment)? };
        let key = key.or_else(|| door::usual_key(tier, environment).filter(|_| !is_replaced));
        let door = match is_replaced {
            true => None,
            false => DoorPlan::new(tier, &place, key.as_deref(), &tables.doors, context, environment)?,
        };
        let server = tier.server(environment).filter(|_| !is_replaced);
        if let Some(Server { url, variable: Some(variable), .. }) = server {
            BaseUrl::parse(variable, url)?;
        }
        let settings = LeafSettings {
            tier: tier.name.clone(),
            place,
            provider: tier.provider,
            model: tier.model.clone(),
            base_url: server.map(|server| server.url.to_owned()),
            api: match tier.at {
                Some(Cloud::Aws) => Some(tier.aws_api(&tables.doors)),
                // The addresses of deployments have Chat Completions alone.
                Some(Cloud::Azure) if tier.api_version.is_some() => tier.api.or(Some(TierApi::Chat)),
                Some(_) => tier.api.or(Some(TierApi::Auto)),
                None => tier.api,
            },
            door,
            key,
            headers,
            families: tables.families.clone(),
            prices: tables.prices.clone(),
            longest: tier.max_output.map(|tokens| u32::try_from(tokens).unwrap_or(u32::MAX)),
            text: tier.text.clone(),
            simulated: tier.simulated.clone(),
            similar: tier.similar.clone(),
        };
        let source = match own {
            Some(own) => LeafSource::Own(own.clone()),
            None => settings.source()?,
        };
        Ok(Self { settings, source, cache: None, handoff: None })
    }

    /// Adds the cache, if this is a cached tier.
    pub(crate) fn over(mut self, cache: Option<&CacheState>) -> Self {
        self.cache = cache.filter(|_| self.settings.provider == Provider::Cached).cloned();
        self
    }

    /// Adds the handoff, if this is a tier of people.
    pub(crate) fn of(mut self, handoff: Option<&HandoffState>) -> Self {
        self.handoff = handoff.filter(|_| self.settings.provider == Provider::Handoff).cloned();
        self
    }

    /// Returns whether the model reasons without being asked to.
    pub(crate) fn thinks(&self) -> bool {
        let model = self.settings.model.as_deref();
        model.is_some_and(|model| self.settings.families.family(model).reasons_by_default())
    }

    /// Returns the tier's place in the configuration, for errors.
    pub(crate) fn place(&self) -> &str {
        &self.settings.place
    }

    /// Returns the server that replaces the provider's own.
    #[cfg(feature = "redis")]
    pub(crate) fn server(&self) -> Option<&str> {
        self.settings.base_url.as_deref()
    }

    /// Returns a fingerprint of the provider's account, if the provider keeps conversations of its own: a hash of
    /// everything that says whose conversations they are.
    pub(crate) fn account(&self) -> Option<Arc<str>> {
        if self.settings.provider != Provider::OpenAi || self.settings.openai_api() == TierApi::Chat {
            return None;
        }
        Some(self.fingerprint())
    }

    /// Returns a fingerprint of the account that keeps objects such as files, if the tier's provider does.
    pub(crate) fn object_account(&self) -> Option<Arc<str>> {
        let keeps = matches!(self.source, LeafSource::Anthropic(_) | LeafSource::OpenAi(..));
        (keeps && self.settings.door.is_none()).then(|| self.fingerprint())
    }

    /// Returns the head of a request for an object to the tier's provider.
    ///
    /// # Errors
    ///
    /// The provider keeps no objects, or the path fits into no URL.
    pub(crate) fn object_head(&self, method: Method, path: &str) -> Result<Request<()>, LlmError> {
        let settings = &self.settings;
        let is_keyless = settings.key.is_none() && settings.door.is_none();
        let mut request = match &self.source {
            LeafSource::Anthropic(leaf) if is_keyless => leaf.clone().without_key().head(method, path)?,
            LeafSource::Anthropic(leaf) => leaf.head(method, path)?,
            LeafSource::OpenAi(leaf, _) if is_keyless => leaf.clone().without_key().head(method, path)?,
            LeafSource::OpenAi(leaf, _) => leaf.head(method, path)?,
            _ => {
                let message = format!("the provider of the tier `{}` keeps no objects", settings.tier);
                return Err(LlmError::new(ErrorKind::NotFound, message));
            }
        };
        for (name, value) in &settings.headers {
            request.headers_mut().insert(name.clone(), value.clone());
        }
        Ok(request)
    }

    /// Returns a provider's text without the tier's key, and without the keys in its headers.
    pub(crate) fn without_key(&self, text: &Bytes) -> Bytes {
        const NAMES: [&str; 4] = ["key", "auth", "token", "secret"];
        let settings = &self.settings;
        let is_secret = |name: &HeaderName| NAMES.iter().any(|part| name.as_str().contains(part));
        let in_headers = settings.headers.iter().filter(|(name, _)| is_secret(name));
        let in_headers = in_headers.filter_map(|(_, value)| value.to_str().ok()?.rsplit(' ').next());
        let keys = settings.key.as_deref().into_iter().chain(in_headers);
        keys.fold(text.clone(), |text, key| without_key(&text, key))
    }

    /// Returns the name of the fact that the tier's key has worked in a circuit, if a provider has given it: the
    /// circuit's name, and a hash of the account with its key, its address and the model. Another key, address or model
    /// is another fact.
    pub(crate) fn key_name(&self, circuit: &str) -> Option<Arc<str>> {
        let LeafSettings { provider, model, door, .. } = &self.settings;
        if !matches!(self.source, LeafSource::Anthropic(_) | LeafSource::OpenAi(..) | LeafSource::Gemini(_)) {
            return None;
        }
        let (account, model) = (self.fingerprint(), model.as_deref().unwrap_or_default());
        let secrets = door.as_ref().map_or(&[][..], DoorPlan::secrets).iter().map(String::as_str);
        let hash = hash([provider.name(), model, &account].into_iter().chain(secrets).map(str::as_bytes));
        Some(format!("{circuit} {hash}").into())
    }

    fn fingerprint(&self) -> Arc<str> {
        let LeafSettings { tier, base_url, door, key, headers, .. } = &self.settings;
        // A service in the provider's place has an account of its own.
        let own = matches!(self.source, LeafSource::Own(_)).then_some(tier.as_bytes());
        let mut headers: Vec<_> =
            headers.iter().map(|(name, value)| [name.as_str().as_bytes(), value.as_bytes()]).collect();
        headers.sort_unstable();
        let server = base_url.as_deref().unwrap_or_default().trim_end_matches('/').as_bytes();
        let door = door.as_ref().map(DoorPlan::account).unwrap_or_default();
        let key = key.as_deref().unwrap_or_default().as_bytes();
        let parts = [own.unwrap_or_default(), server, door.as_bytes(), key];
        hash(parts.into_iter().chain(headers.into_iter().flatten())).into()
    }

    /// Builds the leaf.
    pub(crate) fn leaf(&self, context: &StackContext) -> Leaf {
        let settings = &self.settings;
        match self.source.clone() {
            LeafSource::Anthropic(leaf) => Leaf::Anthropic(over_http!(settings, leaf, context)),
            LeafSource::OpenAi(leaf, api) => {
                let leaf = over_http!(settings, leaf, context);
                match api {
                    TierApi::Responses => Leaf::Responses(leaf.responses()),
                    TierApi::Auto => Leaf::OpenAiAuto(leaf.auto()),
                    _ => Leaf::OpenAi(leaf),
                }
            }
            LeafSource::Gemini(leaf) => Leaf::Gemini(over_http!(settings, leaf, context)),
            LeafSource::Simulated(leaf) => Leaf::Simulated(leaf),
            LeafSource::Cached(embeddings) => {
                let cache = self.cache.as_ref().expect("a plan with a cached tier has a cache");
                Leaf::Cached(cache.tier(settings.similar.as_ref(), embeddings, context))
            }
            LeafSource::Canned(leaf) => Leaf::Canned(leaf),
            LeafSource::Handoff => {
                let handoff = self.handoff.as_ref().expect("a plan with a tier of people has a handoff");
                Leaf::Handoff(handoff.tier(settings.text.as_deref()))
            }
            LeafSource::Own(own) => Leaf::Own(BoxLlmService::new(CommitOnFirstTokenLayer::new().layer(own))),
        }
    }
}

/// Equal if a leaf of one may serve in place of a leaf of the other.
impl PartialEq for LeafPlan {
    fn eq(&self, other: &Self) -> bool {
        (&self.settings, &self.cache, &self.handoff) == (&other.settings, &other.cache, &other.handoff)
    }
}

impl LeafSettings {
    /// Returns the source of the answers.
    ///
    /// # Errors
    ///
    /// A base URL is invalid, or a canned tier has no text.
    fn source(&self) -> Result<LeafSource, InvalidConfig> {
        let wrong_url = |field: &'static str| move |error: InvalidConfig| self.wrong(field, error.problem().to_owned());
        let key = self.key.clone().unwrap_or_default();
        let wrong_door = |error: InvalidConfig| self.wrong(error.field(), error.problem().to_owned());
        Ok(match self.provider {
            Provider::Anthropic => {
                let leaf = match &self.door {
                    Some(door) => door.anthropic(self.key.clone()).map_err(wrong_door)?,
                    None => Anthropic::new(key),
                };
                let leaf = leaf.prices(&self.prices);
                let leaf = match self.longest {
                    Some(tokens) => leaf.default_max_tokens(tokens),
                    None => leaf,
                };
                LeafSource::Anthropic(match &self.base_url {
                    Some(url) => leaf.base_url(url).map_err(wrong_url("base_url"))?,
                    None => leaf,
                })
            }
            Provider::OpenAi => {
                let leaf = match (&self.door, &self.base_url) {
                    (None, url) => openai(url.as_deref(), key).map_err(wrong_url("base_url"))?,
                    (Some(door), None) => door.openai(self.key.clone()).map_err(wrong_door)?,
                    (Some(door), Some(url)) => {
                        let leaf = door.openai(self.key.clone()).map_err(wrong_door)?;
                        leaf.base_url(url).map_err(wrong_url("base_url"))?
                    }
                };
                LeafSource::OpenAi(leaf, self.openai_api())
            }
            Provider::Gemini => {
                let leaf = match &self.door {
                    Some(door) => door.gemini(self.key.clone()).map_err(wrong_door)?,
                    None => Gemini::new(key),
                };
                LeafSource::Gemini(match &self.base_url {
                    Some(url) => leaf.base_url(url).map_err(wrong_url("base_url"))?,
                    None => leaf,
                })
            }
            Provider::Simulated => LeafSource::Simulated(self.simulated()),
            Provider::Cached => LeafSource::Cached(match &self.similar {
                Some(similar) if similar.method == Likeness::Embeddings => {
                    let server = openai(similar.base_url.as_deref(), key).map_err(wrong_url("similar.base_url"))?;
                    Some(if self.key.is_none() { server.without_key() } else { server })
                }
                _ => None,
            }),
            Provider::Handoff => LeafSource::Handoff,
            Provider::Canned => {
                let text = self.text.as_deref().ok_or_else(|| self.wrong("text", "a canned tier needs a text"))?;
                LeafSource::Canned(Canned::text(text))
            }
        })
    }

    /// Returns the API of an OpenAI tier: the file's choice, or else the one that the server is sure to have.
    fn openai_api(&self) -> TierApi {
        let is_own = self.base_url.as_deref().is_none_or(is_openais_own);
        self.api.unwrap_or(if is_own { TierApi::Auto } else { TierApi::Chat })
    }

    fn simulated(&self) -> Simulated {
        let settings = self.simulated.clone().unwrap_or_default();
        let name = self.model.as_deref().unwrap_or(&self.tier);
        let reply = settings.reply.unwrap_or_else(|| format!("This is a simulated answer of {name}."));
        let leaf = Simulated::new(name).reply(reply).latency(settings.latency.map_or(LATENCY, |latency| latency.0));
        let leaf = match settings.call_tools {
            Some(CallTools::Arguments(arguments)) => leaf.call_tools(arguments.into()),
            Some(CallTools::Switch(true)) => leaf.call_tools(true.into()),
            Some(CallTools::Switch(false)) | None => leaf,
        };
        match settings.seed {
            Some(seed) => leaf.seed(seed),
            None => leaf,
        }
    }

    fn wrong(&self, field: &str, problem: impl Into<String>) -> InvalidConfig {
        let problem: String = problem.into();
        InvalidConfig::new(format!("{}.{field}", self.place), problem)
    }
}

/// Returns the first half of a SHA-256 of these parts, in hexadecimal digits.
fn hash<'a>(parts: impl Iterator<Item = &'a [u8]>) -> String {
    let mut hash = Sha256::new();
    for part in parts {
        // With its length, so that no two lists of parts have the same bytes.
        hash.update((part.len() as u64).to_le_bytes());
        hash.update(part);
    }
    let hash: [u8; 32] = hash.finalize().into();
    hash[..16].iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Returns the key that a tier sends. Only the environment contains it.
fn key(tier: &Tier, place: &str, environment: &Environment) -> Result<Option<Arc<str>>, ConfigError> {
    let names = tier.key_variables();
    if names.is_empty() {
        return Ok(None);
    }
    if let Some(key) = names.iter().find_map(|name| environment.secret(name)) {
        return Ok(Some(key.into()));
    }
    if !tier.needs_key(environment) {
        return Ok(None);
    }
    let (field, said) = match &tier.similar {
        Some(similar) if tier.provider == Provider::Cached => ("similar.api_key", similar.api_key.is_some()),
        _ => ("api_key", tier.api_key.is_some()),
    };
    let hint = if said { "" } else { "; set it, or name another one with `api_key: ${NAME}`" };
    Err(ConfigError::new(vec![Problem::not_set(&format!("{place}.{field}"), &names, hint)]))
}

/// Creates a client for OpenAI or a compatible server.
fn openai(base_url: Option<&str>, key: Arc<str>) -> Result<OpenAi, InvalidConfig> {
    match base_url {
        Some(url) if is_openais_own(url) => OpenAi::new(key).base_url(url),
        Some(url) => OpenAi::compatible("openai", url).map(|leaf| leaf.key(key)),
        None => Ok(OpenAi::new(key)),
    }
}

/// Returns whether a server is OpenAI's own, which supports fields that compatible servers do not.
fn is_openais_own(url: &str) -> bool {
    KnownServer::at(url.trim()).is_some_and(|server| server.is_vendor_of(Dialect::OpenAi))
}
