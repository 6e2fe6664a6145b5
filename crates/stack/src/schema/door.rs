//! Clouds that serve a provider's models too, and the credentials for them.

use std::{borrow::Cow, collections::BTreeMap, fmt};

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer};

use super::KeyRef;
use steadfast::settings::{Either, short_or_block};

/// A cloud that serves a provider's models.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Cloud {
    /// Amazon Bedrock: Claude, and OpenAI's models.
    #[serde(alias = "bedrock")]
    Aws,
    /// Azure, or Microsoft Foundry: OpenAI's models, and Claude.
    #[serde(alias = "foundry")]
    Azure,
    /// Vertex AI of Google Cloud: Gemini, and Claude.
    #[serde(alias = "vertex_ai")]
    Vertex,
}

impl Cloud {
    /// Returns the cloud's name in the file.
    pub fn name(self) -> &'static str {
        match self {
            Self::Aws => "aws",
            Self::Azure => "azure",
            Self::Vertex => "vertex",
        }
    }
}

/// The source of the credentials for a cloud: one word, or a block with the settings of one source.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Credential {
    /// A source without settings.
    Named(CredentialName),
    /// A source with settings.
    Source(Box<CredentialSource>),
}

/// A source of credentials without settings.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum CredentialName {
    /// The sources that the cloud's own programs try, in their order.
    Default,
    /// AWS: `AWS_ACCESS_KEY_ID`, `AWS_SECRET_ACCESS_KEY` and `AWS_SESSION_TOKEN`.
    Environment,
    /// AWS: the role of a web identity, such as a Kubernetes service account, as the environment names it.
    WebIdentity,
    /// AWS: the container's endpoint for credentials.
    Container,
    /// AWS: the instance's metadata service, version 2.
    Instance,
    /// Google Cloud: the machine's metadata server.
    Metadata,
    /// Azure: the machine's managed identity.
    ManagedIdentity,
    /// Azure: the workload identity of a Kubernetes service account, as the environment names it.
    WorkloadIdentity,
}

impl CredentialName {
    /// Returns the name in the file.
    pub fn name(self) -> &'static str {
        match self {
            Self::Default => "default",
            Self::Environment => "environment",
            Self::WebIdentity => "web_identity",
            Self::Container => "container",
            Self::Instance => "instance",
            Self::Metadata => "metadata",
            Self::ManagedIdentity => "managed_identity",
            Self::WorkloadIdentity => "workload_identity",
        }
    }
}

/// A source of credentials with its settings: the keys of exactly one source.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct CredentialSource {
    /// Any cloud: a command whose output is the token, as a list of the program and its arguments. It gets the
    /// variables of the system and of clouds' own programs, and those that its arguments name as `$NAME`.
    #[schemars(length(min = 1))]
    pub command: Option<Vec<String>>,
    /// AWS: a profile of the files `~/.aws/config` and `~/.aws/credentials`.
    pub profile: Option<String>,
    /// AWS: a reference to the access key's id. Needs `secret`.
    pub key_id: Option<KeyRef>,
    /// A reference to the secret: of AWS's `key_id`, or of Azure's `client_id`.
    pub secret: Option<KeyRef>,
    /// AWS: a reference to the session token of a temporary key.
    pub session: Option<KeyRef>,
    /// AWS: a role that a web identity's token is exchanged for.
    pub web_identity: Option<WebIdentity>,
    /// Google Cloud: the file of a service account's key, in JSON.
    pub service_account: Option<String>,
    /// Google Cloud: the file of an authorized user, as `gcloud auth application-default login` writes it.
    pub authorized_user: Option<String>,
    /// Google Cloud: the file of a workload identity federation.
    pub external_account: Option<String>,
    /// Azure: the tenant of a registered application. Needs `client_id` and `secret`.
    pub tenant: Option<String>,
    /// Azure: the registered application's id.
    pub client_id: Option<String>,
    /// Azure: the managed identity of the machine.
    pub managed_identity: Option<ManagedIdentity>,
}

/// A role at AWS that a web identity's token is exchanged for.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct WebIdentity {
    /// The role's name (ARN).
    pub role: String,
    /// The file of the token.
    pub token_file: String,
}

/// The managed identity of a machine at Azure.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ManagedIdentity {
    /// The id of a user-assigned identity. Default: the machine's own.
    pub client_id: Option<String>,
}

impl CredentialSource {
    /// The keys that begin each source.
    pub(crate) fn given(&self) -> Vec<&'static str> {
        let aws = self.key_id.is_some() || self.session.is_some();
        let azure = self.tenant.is_some() || self.client_id.is_some();
        let all = [
            ("command", self.command.is_some()),
            ("profile", self.profile.is_some()),
            ("key_id", aws || self.secret.is_some() && !azure),
            ("web_identity", self.web_identity.is_some()),
            ("service_account", self.service_account.is_some()),
            ("authorized_user", self.authorized_user.is_some()),
            ("external_account", self.external_account.is_some()),
            ("tenant", azure),
            ("managed_identity", self.managed_identity.is_some()),
        ];
        all.into_iter().filter_map(|(name, is_given)| is_given.then_some(name)).collect()
    }

    /// Returns the variables of its secrets.
    pub(crate) fn variables(&self) -> Vec<&str> {
        [&self.key_id, &self.secret, &self.session].into_iter().flatten().map(KeyRef::name).collect()
    }
}

impl fmt::Display for Credential {
    /// Writes the source, without its secrets.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let source = match self {
            Self::Named(name) => return f.write_str(name.name()),
            Self::Source(source) => source,
        };
        let name = |text: &Option<String>| text.clone().unwrap_or_default();
        match source.given().first() {
            // The arguments may hold a secret.
            Some(&"command") => {
                write!(
                    f,
                    "command {}",
                    source.command.as_ref().and_then(|argv| argv.first()).map_or("", String::as_str)
                )
            }
            Some(&"profile") => write!(f, "profile {}", name(&source.profile)),
            Some(&"key_id") => write!(f, "key in {}", source.variables().join(", ")),
            Some(&"web_identity") => {
                write!(f, "web_identity {}", source.web_identity.as_ref().map_or("", |id| &id.role))
            }
            Some(&"service_account") => write!(f, "service_account {}", name(&source.service_account)),
            Some(&"authorized_user") => write!(f, "authorized_user {}", name(&source.authorized_user)),
            Some(&"external_account") => write!(f, "external_account {}", name(&source.external_account)),
            Some(&"tenant") => {
                write!(f, "client {}, secret in {}", name(&source.client_id), source.variables().join(", "))
            }
            Some(&"managed_identity") => {
                let client = source.managed_identity.as_ref().and_then(|identity| identity.client_id.as_deref());
                write!(f, "managed_identity{}{}", if client.is_some() { " " } else { "" }, client.unwrap_or_default())
            }
            _ => f.write_str("-"),
        }
    }
}

impl<'de> Deserialize<'de> for Credential {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let forms = "`default`, the name of another source such as `environment`, or a block such as { profile: work }";
        Ok(match short_or_block(deserializer, forms)? {
            Either::Short(name) => Self::Named(name),
            Either::Block(source) => Self::Source(source),
        })
    }
}

impl JsonSchema for Credential {
    fn schema_name() -> Cow<'static, str> {
        "Credential".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "description": "The source of the credentials for a cloud: one word, or a block with the settings of one source.",
            "anyOf": [
                generator.subschema_for::<CredentialName>(),
                generator.subschema_for::<CredentialSource>(),
            ],
        })
    }
}

/// The file's own ids of models, by the model's name.
pub(super) type SameModel = BTreeMap<String, steadfast::models::DoorIds>;
