//! The doors of a configuration's models: the provider's own server, or a cloud that serves them too.

use std::borrow::Cow;

use super::{Cloud, Config, Credential, CredentialName, Environment, Provider, Tier, TierApi, TierOrder};
use steadfast::{
    InvalidConfig,
    models::{Door, ModelDoors},
};

/// The region, project or location of a tier at a cloud, and the variables that name it if the file does not.
pub(crate) const REGION: &[&str] = &["AWS_REGION", "AWS_DEFAULT_REGION"];
pub(crate) const PROJECT: &[&str] = &["GOOGLE_CLOUD_PROJECT", "ANTHROPIC_VERTEX_PROJECT_ID"];
/// The location of a tier at Vertex that names none.
pub(crate) const LOCATION: &str = "global";

/// The door of a tier's model, as `steadfast check` shows it. It has no secret.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct TierDoor {
    /// The tier.
    pub tier: String,
    /// The provider or the cloud, with the region, project or resource.
    pub door: String,
    /// The model's id there.
    pub id: String,
    /// The model's name in the table of ids; `None` if the table does not know the id.
    pub model: Option<String>,
    /// The source of the credentials: the variables of a key, or a cloud's source.
    pub credential: String,
}

impl Config {
    /// Returns the crate's table of ids with the file's entries over it.
    ///
    /// # Errors
    ///
    /// An id is empty or belongs to another model; the error names the field.
    pub(crate) fn model_doors(&self) -> Result<ModelDoors, InvalidConfig> {
        self.same_model.iter().try_fold(ModelDoors::builtin(), |table, (model, ids)| {
            let wrong = |error: InvalidConfig| {
                InvalidConfig::new(format!("same_model.{model}.{}", error.field()), error.problem().to_owned())
            };
            table.with(model.as_str(), ids.clone()).map_err(wrong)
        })
    }

    /// Puts the tiers into the order that `fallback.order` asks for.
    pub(crate) fn ordered(mut self) -> Self {
        if self.fallback.order != Some(TierOrder::SameModel) {
            return self;
        }
        let doors = self.model_doors().unwrap_or_default();
        let mut models: Vec<String> = Vec::new();
        self.tiers.sort_by_cached_key(|tier| {
            let model = tier.model.as_deref().filter(|_| tier.provider.is_model());
            // Two tiers without a model are never the same.
            let own = || format!("\0{}", tier.name);
            let key = model.map_or_else(own, |model| doors.model(model).unwrap_or(model).to_owned());
            models.iter().position(|known| *known == key).unwrap_or_else(|| {
                models.push(key);
                models.len() - 1
            })
        });
        self
    }

    /// Returns whether a tier is at a cloud, or the tiers are ordered by their models.
    pub fn has_doors(&self) -> bool {
        self.fallback.order == Some(TierOrder::SameModel)
            || self.tiers.iter().flat_map(Tier::endpoints).any(|tier| tier.at.is_some())
    }

    /// Returns the doors of the tiers with a model of a provider, in order. The environment names regions and projects
    /// that the file leaves open.
    ///
    /// ```
    /// use steadfast_stack::{Config, Environment, Format};
    ///
    /// let tier = "{ name: spare, provider: anthropic, at: aws, region: eu-west-1, model: claude-sonnet-4-5 }";
    /// let config = Config::from_str(&format!("tiers: [{tier}]"), Format::Yaml).unwrap();
    /// let door = config.doors(&Environment::default()).remove(0);
    /// assert_eq!((door.door.as_str(), door.credential.as_str()), ("aws eu-west-1, runtime", "default"));
    /// assert_eq!(door.id, "eu.anthropic.claude-sonnet-4-5-20250929-v1:0");
    /// ```
    pub fn doors(&self, environment: &Environment) -> Vec<TierDoor> {
        let doors = self.model_doors().unwrap_or_default();
        let asked = self.tiers.iter().filter(|tier| !tier.provider.is_local());
        asked.flat_map(Tier::endpoints).map(|tier| tier.shown_door(&doors, environment)).collect()
    }
}

impl Tier {
    /// Returns the API at AWS: the file's, or else the first that has the model.
    pub(crate) fn aws_api(&self, doors: &ModelDoors) -> TierApi {
        let model = self.model.as_deref().unwrap_or_default();
        let default = || match self.provider {
            // AWS serves its newest models of OpenAI through Responses alone.
            Provider::OpenAi if !model.contains("gpt-oss") => TierApi::Responses,
            Provider::OpenAi => TierApi::Auto,
            _ if doors.holds(model, Door::AwsMantle) => TierApi::Mantle,
            _ if doors.holds(model, Door::AwsRuntime) || model.contains(':') => match model.contains("anthropic.") {
                true => TierApi::Runtime,
                false => TierApi::Converse,
            },
            _ if doors.id(model, Door::AwsMantle, None).is_none() && doors.model(model).is_some() => TierApi::Runtime,
            _ => TierApi::Mantle,
        };
        self.api.unwrap_or_else(default)
    }

    /// Returns the tier's door.
    pub(crate) fn door(&self, doors: &ModelDoors) -> Door {
        match self.at {
            None => Door::Own,
            Some(Cloud::Azure) => Door::Azure,
            Some(Cloud::Vertex) => Door::Vertex,
            Some(Cloud::Aws) => match self.aws_api(doors) {
                TierApi::Runtime | TierApi::Invoke | TierApi::Converse => Door::AwsRuntime,
                _ => Door::AwsMantle,
            },
        }
    }

    /// Returns the region of AWS.
    pub(crate) fn region<'a>(&'a self, environment: &'a Environment) -> Option<&'a str> {
        self.region.as_deref().or_else(|| REGION.iter().find_map(|name| environment.secret(name)))
    }

    /// Returns the project of Google Cloud.
    pub(crate) fn project<'a>(&'a self, environment: &'a Environment) -> Option<&'a str> {
        self.project.as_deref().or_else(|| PROJECT.iter().find_map(|name| environment.secret(name)))
    }

    /// Returns the model's id at the tier's door. A model that the table does not know keeps its name.
    pub(crate) fn id_at_door<'a>(&'a self, doors: &'a ModelDoors, environment: &Environment) -> Option<Cow<'a, str>> {
        let model = self.model.as_deref()?;
        if self.at.is_none() {
            return Some(Cow::Borrowed(model));
        }
        let region = self.region(environment);
        Some(doors.id(model, self.door(doors), region).unwrap_or(Cow::Borrowed(model)))
    }

    /// Returns whether the tier's model has no id at its door, though the table knows the model: its name means
    /// nothing there.
    pub(crate) fn lacks_id(&self, doors: &ModelDoors) -> bool {
        let Some(model) = self.model.as_deref() else { return false };
        // A deployment has any name.
        let is_named = matches!(self.at, Some(Cloud::Aws | Cloud::Vertex));
        is_named && doors.model(model).is_some() && doors.id(model, self.door(doors), None).is_none()
    }

    fn shown_door(&self, doors: &ModelDoors, environment: &Environment) -> TierDoor {
        let id = self.id_at_door(doors, environment).unwrap_or_default().into_owned();
        let unset = "NOT SET";
        let door = match self.at {
            None => self.provider.name().to_owned(),
            Some(Cloud::Aws) => {
                let api = match self.aws_api(doors) {
                    TierApi::Chat => "chat",
                    TierApi::Responses => "responses",
                    TierApi::Auto => "auto",
                    TierApi::Mantle => "mantle",
                    TierApi::Runtime => "runtime",
                    TierApi::Invoke => "invoke",
                    TierApi::Converse => "converse",
                };
                format!("aws {}, {api}", self.region(environment).unwrap_or(unset))
            }
            Some(Cloud::Azure) => format!("azure {}", self.resource.as_deref().unwrap_or("-")),
            Some(Cloud::Vertex) => {
                let location = self.location.as_deref().unwrap_or(LOCATION);
                format!("vertex {}, {location}", self.project(environment).unwrap_or(unset))
            }
        };
        let id = match &self.deployment {
            Some(deployment) => format!("{id} (deployment {deployment})"),
            None => id,
        };
        let model = self.model.as_deref().and_then(|model| doors.model(model)).map(str::to_owned);
        TierDoor { tier: self.name.clone(), door, id, model, credential: self.shown_credential(environment) }
    }

    /// Returns the source of the credentials, without a secret.
    fn shown_credential(&self, environment: &Environment) -> String {
        if let (Some(_), None, None) = (self.at, &self.api_key, &self.credential) {
            let named = self.usual_cloud_keys().iter().find(|name| environment.secret(name).is_some());
            return named.map_or_else(|| CredentialName::Default.name().to_owned(), |name| format!("key in {name}"));
        }
        match &self.credential {
            Some(credential) => credential.to_string(),
            None => match self.key_variables()[..] {
                [] => "none".to_owned(),
                ref names => format!("key in {}", names.join(" or ")),
            },
        }
    }

    /// Returns the credential that the file names; without any, and without a key, the cloud's default.
    pub(crate) fn credential(&self) -> Cow<'_, Credential> {
        match &self.credential {
            Some(credential) => Cow::Borrowed(credential),
            None => Cow::Owned(Credential::Named(CredentialName::Default)),
        }
    }

    /// Returns the variables in which a cloud's SDKs look for a key, for a tier that names neither a key nor a
    /// credential.
    pub(crate) fn usual_cloud_keys(&self) -> &'static [&'static str] {
        match (self.at, self.provider) {
            (Some(Cloud::Aws), _) => &["AWS_BEARER_TOKEN_BEDROCK"],
            (Some(Cloud::Azure), Provider::OpenAi) => &["AZURE_OPENAI_API_KEY", "AZURE_API_KEY"],
            (Some(Cloud::Azure), _) => &["ANTHROPIC_FOUNDRY_API_KEY", "AZURE_API_KEY"],
            _ => &[],
        }
    }
}
