//! A tier's door: its cloud with region, project or resource.

use std::sync::Arc;

use super::{context::StackContext, credential_pool::SharedCredentials, credentials::credentials};
use crate::{
    Cloud, ConfigError, Environment, Problem, Tier, TierApi,
    doors::{LOCATION, PROJECT, REGION},
};
use steadfast::{
    InvalidConfig,
    models::ModelDoors,
    providers::{Anthropic, Gemini, OpenAi, http::door::AwsApi},
};

/// A tier's cloud, resolved.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct DoorPlan {
    place: Place,
    /// The model's id there.
    pub(crate) model: Option<String>,
    deployment: Option<String>,
    api_version: Option<String>,
    credentials: Option<SharedCredentials>,
}

#[derive(Clone, Debug, PartialEq)]
enum Place {
    Aws { region: String, api: AwsApi },
    Azure { resource: String },
    Vertex { project: String, location: String },
}

impl DoorPlan {
    /// Resolves a tier's cloud; `None` if the tier has none. `key` is the tier's key, which replaces a credential.
    ///
    /// # Errors
    ///
    /// Every region, project and credential that is missing or wrong. The error names the place, the field and the
    /// variable.
    pub(crate) fn new(
        tier: &Tier,
        place: &str,
        key: Option<&str>,
        doors: &ModelDoors,
        context: &StackContext,
        environment: &Environment,
    ) -> Result<Option<Self>, ConfigError> {
        let Some(cloud) = tier.at else { return Ok(None) };
        let mut problems: Vec<Problem> = Vec::new();
        let found = door_place(tier, cloud, place, doors, environment).map_err(|found| problems.extend(found)).ok();
        let credentials = match key {
            Some(_) => None,
            None => credentials(tier, cloud, place, context, environment).map_err(|found| problems.extend(found)).ok(),
        };
        let Some(found) = found.filter(|_| problems.is_empty()) else { return Err(ConfigError::new(problems)) };
        Ok(Some(Self {
            place: found,
            model: tier.id_at_door(doors, environment).map(std::borrow::Cow::into_owned),
            deployment: tier.deployment.clone(),
            api_version: tier.api_version.clone(),
            credentials,
        }))
    }

    /// Returns everything that says whose account it is, without a secret.
    pub(crate) fn account(&self) -> String {
        let source = self.credentials.as_ref().map(SharedCredentials::account).unwrap_or_default();
        format!("{:?} {source}", self.place)
    }

    /// Returns the secrets of its credentials that the environment holds.
    pub(crate) fn secrets(&self) -> &[String] {
        self.credentials.as_ref().map_or(&[], SharedCredentials::secrets)
    }

    /// Returns Claude at this door.
    pub(crate) fn anthropic(&self, key: Option<Arc<str>>) -> Result<Anthropic, InvalidConfig> {
        let leaf = match &self.place {
            Place::Aws { region, api } => Anthropic::on_aws(region)?.aws_api(*api)?,
            Place::Azure { resource } => Anthropic::on_azure(resource)?,
            Place::Vertex { project, location } => Anthropic::on_vertex(project, location)?,
        };
        let leaf = match &self.deployment {
            Some(deployment) => leaf.deployment(deployment)?,
            None => leaf,
        };
        Ok(match (key, &self.credentials) {
            (Some(key), _) => leaf.key(key),
            (None, Some(shared)) => leaf.credentials(shared.credentials()),
            (None, None) => leaf,
        })
    }

    /// Returns OpenAI's models at this door.
    pub(crate) fn openai(&self, key: Option<Arc<str>>) -> Result<OpenAi, InvalidConfig> {
        let mut leaf = match &self.place {
            Place::Aws { region, .. } => OpenAi::on_aws(region)?,
            Place::Azure { resource } => OpenAi::on_azure(resource)?,
            Place::Vertex { .. } => return Err(InvalidConfig::new("at", "OpenAI's models are not at Vertex")),
        };
        if let Some(deployment) = &self.deployment {
            leaf = leaf.deployment(deployment)?;
        }
        if let Some(version) = &self.api_version {
            leaf = leaf.api_version(version)?;
        }
        Ok(match (key, &self.credentials) {
            (Some(key), _) => leaf.key(key),
            (None, Some(shared)) => leaf.credentials(shared.credentials()),
            (None, None) => leaf,
        })
    }

    /// Returns Gemini at this door.
    pub(crate) fn gemini(&self, key: Option<Arc<str>>) -> Result<Gemini, InvalidConfig> {
        let Place::Vertex { project, location } = &self.place else {
            return Err(InvalidConfig::new("at", "Gemini is at Vertex alone"));
        };
        let leaf = Gemini::on_vertex(project, location)?;
        Ok(match (key, &self.credentials) {
            (Some(key), _) => leaf.key(key),
            (None, Some(shared)) => leaf.credentials(shared.credentials()),
            (None, None) => leaf,
        })
    }
}

/// Returns the key that a cloud's SDKs would take, for a tier that names neither a key nor a credential.
pub(crate) fn usual_key(tier: &Tier, environment: &Environment) -> Option<Arc<str>> {
    if tier.at.is_none() || tier.credential.is_some() || tier.api_key.is_some() {
        return None;
    }
    tier.usual_cloud_keys().iter().find_map(|name| environment.secret(name)).map(Arc::from)
}

fn door_place(
    tier: &Tier,
    cloud: Cloud,
    place: &str,
    doors: &ModelDoors,
    environment: &Environment,
) -> Result<Place, Vec<Problem>> {
    let missing = |field: &str, variables: &[&str]| {
        vec![Problem::not_set(&format!("{place}.{field}"), variables, &format!("; set it, or give `{field}`"))]
    };
    Ok(match cloud {
        Cloud::Aws => Place::Aws {
            region: tier.region(environment).ok_or_else(|| missing("region", REGION))?.to_owned(),
            api: match tier.aws_api(doors) {
                TierApi::Runtime => AwsApi::Runtime,
                TierApi::Invoke => AwsApi::Invoke,
                TierApi::Converse => AwsApi::Converse,
                _ => AwsApi::Mantle,
            },
        },
        // Behind a base URL of the file's own, the name of the resource is in no address.
        Cloud::Azure => Place::Azure { resource: tier.resource.clone().unwrap_or_else(|| "resource".to_owned()) },
        Cloud::Vertex => Place::Vertex {
            project: tier.project(environment).ok_or_else(|| missing("project", PROJECT))?.to_owned(),
            location: tier.location.as_deref().unwrap_or(LOCATION).to_owned(),
        },
    })
}
