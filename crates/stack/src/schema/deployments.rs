//! The deployments of a tier's model.

use std::collections::{BTreeMap, HashMap};

use http::Uri;
use schemars::JsonSchema;
use serde::Deserialize;

use super::{Cloud, Credential, KeyRef, Secret, Simulated, Tier, TierApi};

/// A deployment of a tier's model: a key, region, cloud or server of its own. A key that it lacks is the tier's.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Deployment {
    /// The deployment's name in logs, metrics and orders. Default: the parts that identify it, such as
    /// `aws-us-east-1` or `gpu1.internal:8000`.
    #[schemars(length(min = 1))]
    pub name: Option<String>,
    /// Its share of the tier's requests, relative to the others' weights. Default: 1.
    #[schemars(extend("default" = 1, "exclusiveMinimum" = 0))]
    pub weight: Option<f64>,
    /// Its zone. A balancer with a zone prefers its own.
    pub zone: Option<String>,
    /// The provider's limit on requests. Default: read from the headers of answers, or learned from a 429.
    #[schemars(range(min = 1))]
    pub requests_per_minute: Option<u64>,
    /// The provider's limit on tokens, of prompts and answers together. Default: read from the headers of answers.
    #[schemars(range(min = 1))]
    pub tokens_per_minute: Option<u64>,
    /// The most requests that it serves at once; a stream counts until its end. Default: any number.
    #[schemars(range(min = 1))]
    pub max_in_flight: Option<u32>,
    /// Another server with the provider's protocol, as for a tier.
    #[schemars(extend("pattern" = "^(https?://|.*\\$\\{)"))]
    pub base_url: Option<String>,
    /// A reference to its key: `${NAME}`, an environment variable.
    pub api_key: Option<KeyRef>,
    /// The cloud that serves the model here. Another cloud than the tier's inherits no key, server or place.
    pub at: Option<Cloud>,
    /// The id of the same model here, in this server's spelling. Default: the tier's model.
    pub model: Option<String>,
    /// AWS: the region.
    pub region: Option<String>,
    /// Vertex: the project's id.
    pub project: Option<String>,
    /// Vertex: the location.
    pub location: Option<String>,
    /// Azure: the resource's name.
    pub resource: Option<String>,
    /// Azure: the deployment's name there.
    pub deployment: Option<String>,
    /// Azure: the version of the API of deployment addresses.
    pub api_version: Option<String>,
    /// The source of the credentials for `at`.
    pub credential: Option<Credential>,
    /// The API, as for a tier.
    pub api: Option<TierApi>,
    /// Further headers of each request, beside the tier's.
    pub headers: BTreeMap<String, Secret>,
    /// The behaviour of a simulated deployment.
    pub simulated: Option<Simulated>,
}

impl Deployment {
    /// Returns the parts that identify it: its cloud or server, and its place there.
    fn identity(&self) -> Option<String> {
        let host = self.base_url.as_deref().and_then(|url| {
            let url: Uri = url.trim().parse().ok()?;
            // Without a user's name and key, which some URLs have before the host.
            let host = url.host()?;
            Some(url.port().map_or_else(|| host.to_owned(), |port| format!("{host}:{port}")))
        });
        let at = self.at.map(|at| at.name().to_owned());
        let places = [&self.region, &self.location, &self.resource, &self.deployment, &self.project];
        let places = places.into_iter().flatten().cloned();
        let parts: Vec<String> = at.into_iter().chain(host).chain(places).collect();
        (!parts.is_empty()).then(|| parts.join("-").replace('/', "-"))
    }

    fn key_name(&self) -> Option<String> {
        self.api_key.as_ref().map(|key| key.name().to_lowercase())
    }
}

impl Tier {
    /// Returns the names of its deployments: the file's, or else the parts that identify each. None for a tier without
    /// deployments.
    ///
    /// ```
    /// use steadfast_stack::{Config, Format};
    ///
    /// let tiers = "[{ name: gpu, provider: openai, model: llama, deployments: [{ base_url: 'http://a:8000/v1' },
    ///     { base_url: 'http://b:8000/v1', name: big }] }]";
    /// let config = Config::from_str(&format!("tiers: {tiers}"), Format::Yaml).unwrap();
    /// assert_eq!(config.tiers[0].deployment_names(), ["a:8000", "big"]);
    /// ```
    pub fn deployment_names(&self) -> Vec<String> {
        let list = self.deployments.as_deref().unwrap_or_default();
        let identities: Vec<Option<String>> = list.iter().map(Deployment::identity).collect();
        let mut number: HashMap<&Option<String>, usize> = HashMap::new();
        for identity in &identities {
            *number.entry(identity).or_default() += 1;
        }
        let named = |(own, identity): (&Deployment, &Option<String>)| {
            let is_shared = number[identity] > 1;
            own.name.clone().unwrap_or_else(|| match (identity, own.key_name()) {
                (Some(identity), Some(key)) if is_shared => format!("{identity}-{key}"),
                (Some(identity), _) => identity.clone(),
                (None, Some(key)) => key,
                // All that it has is the tier's.
                (None, None) => self.provider.name().to_owned(),
            })
        };
        list.iter().zip(&identities).map(named).collect()
    }

    /// Returns a tier for each server that the tier sends requests to: itself, or one for each deployment. The latter
    /// is named `TIER/DEPLOYMENT`, and has the settings of both.
    pub fn endpoints(&self) -> Vec<Self> {
        let Some(list) = &self.deployments else { return vec![self.clone()] };
        list.iter().zip(self.deployment_names()).map(|(own, name)| self.endpoint(own, &name)).collect()
    }

    fn endpoint(&self, own: &Deployment, name: &str) -> Self {
        let mut tier = Self { deployments: None, balance: None, name: format!("{}/{name}", self.name), ..self.clone() };
        if own.at.is_some() && own.at != self.at {
            // Another cloud has other places, keys and servers.
            let clear = [
                &mut tier.region,
                &mut tier.project,
                &mut tier.location,
                &mut tier.resource,
                &mut tier.deployment,
                &mut tier.api_version,
                &mut tier.base_url,
            ];
            clear.into_iter().for_each(|field| *field = None);
            (tier.api_key, tier.credential, tier.api) = (None, None, None);
        }
        // One of the two is enough: a deployment's own replaces either.
        if own.api_key.is_some() || own.credential.is_some() {
            (tier.api_key, tier.credential) = (None, None);
        }
        fn put<T: Clone>(field: &mut Option<T>, own: &Option<T>) {
            if own.is_some() {
                field.clone_from(own);
            }
        }
        put(&mut tier.base_url, &own.base_url);
        put(&mut tier.api_key, &own.api_key);
        put(&mut tier.at, &own.at);
        put(&mut tier.model, &own.model);
        put(&mut tier.region, &own.region);
        put(&mut tier.project, &own.project);
        put(&mut tier.location, &own.location);
        put(&mut tier.resource, &own.resource);
        put(&mut tier.deployment, &own.deployment);
        put(&mut tier.api_version, &own.api_version);
        put(&mut tier.credential, &own.credential);
        put(&mut tier.api, &own.api);
        put(&mut tier.simulated, &own.simulated);
        tier.headers.extend(own.headers.clone());
        tier
    }

    /// Returns whether two tiers send the same requests to the same place.
    pub(crate) fn is_same_endpoint(&self, other: &Self) -> bool {
        let place = |tier: &Self| {
            let url = tier.base_url.as_deref().map(|url| url.trim_end_matches('/').to_owned());
            let named =
                [&tier.region, &tier.project, &tier.location, &tier.resource, &tier.deployment].map(Clone::clone);
            (tier.at, url, tier.model.clone(), named)
        };
        place(self) == place(other)
            && (&self.api_key, &self.credential, &self.headers) == (&other.api_key, &other.credential, &other.headers)
    }
}
