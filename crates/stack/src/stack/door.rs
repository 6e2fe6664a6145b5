//! A tier's door: its cloud with region, project or resource, and the credentials that tiers share.

use std::sync::{Arc, Mutex, Weak};

use super::StackContext;
use crate::{
    Cloud, ConfigError, Credential, CredentialName, CredentialSource, Environment, Problem, Provider, Tier, TierApi,
    doors::{LOCATION, PROJECT, REGION},
};
use steadfast::{
    InvalidConfig,
    models::ModelDoors,
    providers::{
        Anthropic, Gemini, OpenAi,
        credentials::{Credentials, Machine, aws, azure, google},
        http::door::AwsApi,
    },
};
use steadfast_internal::sync::lock;

/// A tier's cloud, resolved.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct DoorPlan {
    place: Place,
    /// The model's id there.
    pub(super) model: Option<String>,
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

/// Credentials of all tiers with the same settings.
#[derive(Clone, Debug)]
struct SharedCredentials(Arc<(CredentialSettings, Credentials)>);

impl PartialEq for SharedCredentials {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

/// The settings by which credentials are the same. `Debug` shows no secret.
#[derive(PartialEq)]
struct CredentialSettings {
    cloud: Cloud,
    credential: Credential,
    /// The values of the variables that hold the source's secrets.
    secrets: Vec<String>,
    /// The scope of the token, at Azure.
    scope: Option<&'static str>,
}

impl std::fmt::Debug for CredentialSettings {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {}", self.cloud.name(), self.credential)
    }
}

/// The credentials that some tier uses, so that tiers with the same settings share one refresh, and a reload keeps it.
#[derive(Default)]
pub(super) struct CredentialPool(Mutex<Vec<Weak<(CredentialSettings, Credentials)>>>);

impl CredentialPool {
    /// Returns the known credentials of these settings, or new ones.
    fn get(
        &self,
        settings: CredentialSettings,
        new: impl FnOnce(&CredentialSettings) -> Result<Credentials, InvalidConfig>,
    ) -> Result<SharedCredentials, InvalidConfig> {
        let find = |known: &Vec<Weak<(CredentialSettings, Credentials)>>| {
            known.iter().filter_map(Weak::upgrade).find(|known| known.0 == settings).map(SharedCredentials)
        };
        if let Some(known) = find(&lock(&self.0)) {
            return Ok(known);
        }
        // Without the lock: a source may read a file.
        let credentials = new(&settings)?;
        let mut known = lock(&self.0);
        known.retain(|known| known.strong_count() > 0);
        if let Some(known) = find(&known) {
            return Ok(known);
        }
        let new = Arc::new((settings, credentials));
        known.push(Arc::downgrade(&new));
        Ok(SharedCredentials(new))
    }
}

impl DoorPlan {
    /// Resolves a tier's cloud; `None` if the tier has none. `key` is the tier's key, which replaces a credential.
    ///
    /// # Errors
    ///
    /// Every region, project and credential that is missing or wrong. The error names the place, the field and the
    /// variable.
    pub(super) fn new(
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
    pub(super) fn account(&self) -> String {
        let source = self.credentials.as_ref().map(|shared| format!("{:?}", shared.0.0)).unwrap_or_default();
        format!("{:?} {source}", self.place)
    }

    /// Returns Claude at this door.
    pub(super) fn anthropic(&self, key: Option<Arc<str>>) -> Result<Anthropic, InvalidConfig> {
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
            (None, Some(shared)) => leaf.credentials(shared.0.1.clone()),
            (None, None) => leaf,
        })
    }

    /// Returns OpenAI's models at this door.
    pub(super) fn openai(&self, key: Option<Arc<str>>) -> Result<OpenAi, InvalidConfig> {
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
            (None, Some(shared)) => leaf.credentials(shared.0.1.clone()),
            (None, None) => leaf,
        })
    }

    /// Returns Gemini at this door.
    pub(super) fn gemini(&self, key: Option<Arc<str>>) -> Result<Gemini, InvalidConfig> {
        let Place::Vertex { project, location } = &self.place else {
            return Err(InvalidConfig::new("at", "Gemini is at Vertex alone"));
        };
        let leaf = Gemini::on_vertex(project, location)?;
        Ok(match (key, &self.credentials) {
            (Some(key), _) => leaf.key(key),
            (None, Some(shared)) => leaf.credentials(shared.0.1.clone()),
            (None, None) => leaf,
        })
    }
}

/// Returns the key that a cloud's SDKs would take, for a tier that names neither a key nor a credential.
pub(super) fn usual_key(tier: &Tier, environment: &Environment) -> Option<Arc<str>> {
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

/// Returns the credentials of a tier, shared with all tiers that have the same.
fn credentials(
    tier: &Tier,
    cloud: Cloud,
    place: &str,
    context: &StackContext,
    environment: &Environment,
) -> Result<SharedCredentials, Vec<Problem>> {
    let credential = tier.credential().into_owned();
    let mut secrets = Vec::new();
    if let Credential::Source(source) = &credential {
        let named = [("key_id", &source.key_id), ("secret", &source.secret), ("session", &source.session)];
        let mut problems = Vec::new();
        for (field, key) in named.into_iter().filter_map(|(field, key)| Some((field, key.as_ref()?))) {
            match environment.secret(key.name()) {
                Some(secret) => secrets.push(secret.trim().to_owned()),
                None => {
                    problems.push(Problem::not_set(&format!("{place}.credential.{field}"), &[key.name()], "; set it"))
                }
            }
        }
        if !problems.is_empty() {
            return Err(problems);
        }
    }
    let scope = (cloud == Cloud::Azure).then_some(match tier.provider {
        Provider::OpenAi => azure::COGNITIVE_SERVICES,
        _ => azure::AI,
    });
    let settings = CredentialSettings { cloud, credential, secrets, scope };
    let new = |settings: &CredentialSettings| {
        let credentials = source(settings, &machine(&settings.credential, context, environment))?;
        Ok(credentials.events(&context.events))
    };
    context.credentials.get(settings, new).map_err(|error| {
        let field = match &tier.credential {
            Some(Credential::Source(source)) => source.given().first().map(|given| format!("credential.{given}")),
            _ => None,
        };
        let field = field.unwrap_or_else(|| "credential".to_owned());
        // The sources name a variable, a file or a profile.
        vec![InvalidConfig::new(format!("{place}.{field}"), error.to_string()).into()]
    })
}

/// Returns the machine that sources read: this stack's environment, with the file's role, and its transport, if it has
/// one of its own.
fn machine(credential: &Credential, context: &StackContext, environment: &Environment) -> Machine {
    let environment = environment.clone();
    let role = match credential {
        Credential::Source(source) => source.web_identity.clone(),
        Credential::Named(_) => None,
    };
    let machine = Machine::new().variables(move |name| {
        Ok(match (name, &role) {
            ("AWS_ROLE_ARN", Some(identity)) => Some(identity.role.clone()),
            ("AWS_WEB_IDENTITY_TOKEN_FILE", Some(identity)) => Some(identity.token_file.clone()),
            _ => environment.get(name).map(str::to_owned),
        })
    });
    match context.own_transport() {
        Some(transport) => machine.transport(transport.clone()).metadata_transport(transport),
        None => machine,
    }
}

fn source(settings: &CredentialSettings, machine: &Machine) -> Result<Credentials, InvalidConfig> {
    let scope = settings.scope.unwrap_or_default();
    let name = match &settings.credential {
        Credential::Source(source) => return with_settings(source, settings, machine),
        Credential::Named(name) => name,
    };
    match (name, settings.cloud) {
        (CredentialName::Default, Cloud::Aws) => aws::default_chain(machine),
        (CredentialName::Default, Cloud::Azure) => azure::default_chain(machine, scope),
        (CredentialName::Default, Cloud::Vertex) => google::application_default(machine),
        (CredentialName::Environment, _) => aws::environment(machine),
        (CredentialName::WebIdentity, _) => aws::web_identity(machine),
        (CredentialName::Container, _) => aws::container(machine),
        (CredentialName::Instance, _) => aws::instance_metadata(machine),
        (CredentialName::Metadata, _) => google::metadata(machine),
        (CredentialName::ManagedIdentity, _) => azure::managed_identity(machine, None, scope),
        (CredentialName::WorkloadIdentity, _) => azure::workload_identity(machine, scope),
    }
}

fn with_settings(
    source: &CredentialSource,
    settings: &CredentialSettings,
    machine: &Machine,
) -> Result<Credentials, InvalidConfig> {
    let scope = settings.scope.unwrap_or_default();
    let secret = |at: usize| settings.secrets.get(at).map(String::as_str);
    if let Some(argv) = &source.command {
        return Credentials::command(argv);
    }
    if let Some(profile) = &source.profile {
        return aws::profile(machine, profile);
    }
    if source.key_id.is_some() {
        return aws::keys(secret(0).unwrap_or_default(), secret(1).unwrap_or_default(), secret(2));
    }
    if source.web_identity.is_some() {
        return aws::web_identity(machine);
    }
    if let Some(path) = &source.service_account {
        return google::service_account(machine, path);
    }
    if let Some(path) = &source.authorized_user {
        return google::authorized_user(machine, path);
    }
    if let Some(path) = &source.external_account {
        return google::external_account(machine, path);
    }
    if let Some(identity) = &source.managed_identity {
        return azure::managed_identity(machine, identity.client_id.as_deref(), scope);
    }
    let given = |field: &'static str, text: &Option<String>| {
        text.clone().ok_or_else(|| InvalidConfig::new(field, "it is missing here"))
    };
    let (tenant, client) = (given("tenant", &source.tenant)?, given("client_id", &source.client_id)?);
    azure::client_secret(machine, &tenant, &client, secret(0).unwrap_or_default(), scope)
}
