//! The doors of clouds: the same model, in the same dialect, at AWS, Azure or Google Cloud.
//!
//! A door changes the address, the model's id, a few headers and fields, and the credential. The rest of a body is the
//! caller's own bytes, as at the provider's own API. A fallback from one door to another therefore sends the same
//! prompt, and reasoning goes along where its signature holds.
//!
//! | leaf | address | credential |
//! |---|---|---|
//! | [`Anthropic::on_aws`], [`AwsApi::Mantle`] | `bedrock-mantle.{region}.api.aws/anthropic/v1/messages` | AWS keys, or a Bedrock API key |
//! | .., [`AwsApi::Runtime`] | `bedrock-runtime.{region}.amazonaws.com/anthropic/v1/messages` | the same |
//! | .., [`AwsApi::Invoke`] | `../model/{id}/invoke`, `../invoke-with-response-stream` | the same |
//! | .., [`AwsApi::Converse`] | `../model/{id}/converse`, `../converse-stream` | the same |
//! | [`Anthropic::on_azure`] | `{resource}.services.ai.azure.com/anthropic/v1/messages` | a key, or a token of Entra ID |
//! | [`Anthropic::on_vertex`] | `../publishers/anthropic/models/{id}:rawPredict`, `:streamRawPredict` | a token of Google Cloud |
//! | [`OpenAi::on_aws`] | `bedrock-mantle.{region}.api.aws/v1/chat/completions`, `/openai/v1/responses` | AWS keys, or a Bedrock API key |
//! | [`OpenAi::on_azure`] | `{resource}.openai.azure.com/openai/v1/..`, or deployment URLs with `api-version` | a key, or a token of Entra ID |
//! | [`Gemini::on_vertex`] | `../publishers/google/models/{id}:generateContent`, `:streamGenerateContent` | a token of Google Cloud |
//!
//! `base_url` replaces the host, for a proxy, a private endpoint or a test, and everything else stays.
//!
//! ```
//! use bytes::Bytes;
//! use http_body_util::Full;
//! use steadfast::{LlmRequest, providers::{Anthropic, credentials::{Credentials, Token}, http::RequestBody}};
//! use tower::ServiceExt;
//!
//! # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), tower::BoxError> {
//! let google = tower::service_fn(|request: http::Request<RequestBody>| async move {
//!     let place = "/v1/projects/my-project/locations/global/publishers/anthropic/models/";
//!     assert_eq!(request.uri().path(), format!("{place}claude-sonnet-4-5@20250929:rawPredict"));
//!     assert_eq!(request.headers()["authorization"], "Bearer a token");
//!     let answer = r#"{"type":"message","content":[{"type":"text","text":"hi"}],"stop_reason":"end_turn"}"#;
//!     Ok::<_, std::io::Error>(http::Response::new(Full::new(Bytes::from(answer))))
//! });
//! let leaf = Anthropic::on_vertex("my-project", "global")?
//!     .credentials(Credentials::token(Token::bearer("a token")))
//!     .model("claude-sonnet-4-5@20250929")
//!     .transport(google);
//! let response = leaf.oneshot(LlmRequest::prompt("hello")).await?;
//! assert_eq!(response.text().await?, "hi");
//! # Ok(()) }
//! ```
//!
//! # Losses
//!
//! A door that does not take a value of `anthropic-beta`, or a field, gets the request without it.
//! [`LlmResponse::notes`](crate::LlmResponse::notes) lists each loss, and a [strict](super::HttpLeaf::strict) leaf
//! refuses the request instead. One written table has them, with its sources (`filter.rs`), and the tools that run at
//! Anthropic, with their calls and results: a door that does not run a tool gets none of them. A forced call of such a
//! tool, and a file that lies at the provider, are refused by name, so that the next tier is asked. The parts that a
//! door adds to an answer pass: Azure's findings of its content filter, Bedrock's traces of guardrails and its metrics.
//!
//! # Credentials
//!
//! A token that holds is attached at once, and its refresh goes on beside the requests. Without one, a request waits
//! for it. A credential that fails is an [`ErrorKind::Credentials`](crate::ErrorKind::Credentials): nothing is sent. A
//! token that the door refuses (401; expired tokens and signatures of AWS) is reported to its credentials, and the
//! request is sent once more with the renewed token, or with the time of the door's own clock. No layer counts that.
//!
//! # A caller's own client
//!
//! A request with a [`CallerTransport`](super::CallerTransport) passes the door by: its caller's client sends it to the
//! caller's address, with the caller's credentials, and without the door's changes.
//!
//! [`Anthropic::on_aws`]: crate::Anthropic::on_aws
//! [`Anthropic::on_azure`]: crate::Anthropic::on_azure
//! [`Anthropic::on_vertex`]: crate::Anthropic::on_vertex
//! [`Gemini::on_vertex`]: crate::Gemini::on_vertex
//! [`OpenAi::on_aws`]: crate::OpenAi::on_aws
//! [`OpenAi::on_azure`]: crate::OpenAi::on_azure

mod build;
#[cfg(test)]
mod build_tests;
mod codec;
mod developers;
mod error;
mod exchange;
mod filter;
mod hosted;
mod losses;
#[cfg(test)]
mod parts_tests;
mod prepare;
#[cfg(test)]
mod remedy_tests;
mod shape;
#[cfg(test)]
mod tests;
mod whole_mark;
#[cfg(test)]
mod whole_mark_tests;

use std::fmt;

pub(super) use self::{
    exchange::send,
    prepare::{encoded_for_remedy, prepare},
};
use self::{filter::ClaudeDoor, shape::Spelling};
use super::BaseUrl;
use crate::{Dialect, Wire, credentials::Credentials};

/// The API of AWS through which a model is called. Default: [`Mantle`](Self::Mantle).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum AwsApi {
    /// Messages, Chat Completions and Responses themselves, at `bedrock-mantle`. Ids are such as
    /// `anthropic.claude-sonnet-4-5`.
    #[default]
    Mantle,
    /// Messages and Chat Completions themselves, at `bedrock-runtime`, which has inference profiles and writes AWS's
    /// invocation logs. Ids are such as `us.anthropic.claude-sonnet-4-5-20250929-v1:0`.
    Runtime,
    /// `InvokeModel`, for models and regions that have nothing else: Messages in AWS's binary framing. Claude only.
    Invoke,
    /// `Converse`, AWS's own format for the models of all vendors. A leaf for Messages translates to it.
    Converse,
}

/// The way to a model at a cloud.
#[derive(Clone)]
pub(super) struct Door {
    place: Place,
    deployment: Option<Box<str>>,
    api_version: Option<Box<str>>,
    credentials: Option<Credentials>,
}

#[derive(Clone, PartialEq, Eq)]
enum Place {
    /// The leaf's own address: only the credential is another one.
    Own,
    Aws {
        region: Box<str>,
        api: AwsApi,
    },
    Azure {
        resource: Box<str>,
    },
    /// Without a project in express mode, where a key stands for it.
    Vertex {
        project: Option<Box<str>>,
        location: Box<str>,
    },
}

impl Door {
    fn new(place: Place) -> Self {
        Self { place, deployment: None, api_version: None, credentials: None }
    }

    /// Returns the cloud's name, for errors and metrics.
    fn name(&self) -> &'static str {
        match self.place {
            Place::Own => "own",
            Place::Aws { .. } => "bedrock",
            Place::Azure { .. } => "azure",
            Place::Vertex { .. } => "vertex",
        }
    }

    /// Returns the address of the door's host.
    fn host(&self, dialect: Dialect) -> String {
        match &self.place {
            Place::Own => String::new(),
            Place::Aws { region, api: AwsApi::Mantle } => format!("https://bedrock-mantle.{region}.api.aws"),
            Place::Aws { region, .. } => {
                let suffix = if region.starts_with("cn-") { ".cn" } else { "" };
                format!("https://bedrock-runtime.{region}.amazonaws.com{suffix}")
            }
            Place::Azure { resource } if dialect == Dialect::Anthropic => {
                format!("https://{resource}.services.ai.azure.com")
            }
            Place::Azure { resource } => format!("https://{resource}.openai.azure.com"),
            Place::Vertex { location, .. } => match &**location {
                "global" => "https://aiplatform.googleapis.com".to_owned(),
                "us" | "eu" => format!("https://aiplatform.{location}.rep.googleapis.com"),
                location => format!("https://{location}-aiplatform.googleapis.com"),
            },
        }
    }

    /// Returns the address behind which the door's paths begin, out of one that a user gave. Portals show addresses
    /// that end with a part of the path.
    pub(super) fn base(&self, given: BaseUrl) -> BaseUrl {
        let ends: &[&str] = match self.place {
            Place::Own => &[],
            Place::Aws { .. } => &["/anthropic/v1/messages", "/anthropic/v1", "/anthropic", "/openai/v1", "/v1"],
            Place::Azure { .. } => {
                &["/anthropic/v1/messages", "/anthropic/v1", "/anthropic", "/openai/v1", "/openai", "/v1"]
            }
            Place::Vertex { .. } => &["/v1", "/v1beta1"],
        };
        given.without_ending(ends)
    }

    /// Returns the part of the account that the address and the key do not have, for the memory of seals.
    pub(super) fn account(&self) -> String {
        let source = self.credentials.as_ref().map(|credentials| credentials.name().to_string());
        match &self.place {
            Place::Vertex { project: Some(project), location } => format!("/{project}/{location} {source:?}"),
            Place::Aws { region, .. } => format!("/{region} {source:?}"),
            _ => format!(" {source:?}"),
        }
    }

    /// Returns true if the door has addresses of its own.
    pub(super) fn is_elsewhere(&self) -> bool {
        self.place != Place::Own
    }

    pub(super) fn without_credentials(&mut self) {
        self.credentials = None;
    }

    /// Returns true if the whole body is read and written again.
    pub(super) fn is_codec(&self) -> bool {
        matches!(self.place, Place::Aws { api: AwsApi::Converse, .. })
    }

    /// Returns true if a body is to be parsed: as a whole, or for the parts that the door does not take.
    pub(super) fn parses(&self, wire: &Wire) -> bool {
        let may_concern = match wire.dialect() {
            Dialect::Anthropic => hosted::may_concern,
            Dialect::Gemini if matches!(self.place, Place::Vertex { .. }) => developers::may_concern,
            _ => return self.is_codec(),
        };
        self.is_codec() || may_concern(wire.body(), wire.object())
    }

    /// Returns the row of the filter's table, if Claude's dialect is spoken.
    fn claude(&self, dialect: Dialect) -> Option<ClaudeDoor> {
        if dialect != Dialect::Anthropic {
            return None;
        }
        match &self.place {
            Place::Own => None,
            Place::Aws { api: AwsApi::Mantle | AwsApi::Runtime, .. } => Some(ClaudeDoor::Mantle),
            Place::Aws { .. } => Some(ClaudeDoor::Invoke),
            Place::Azure { .. } => Some(ClaudeDoor::Foundry),
            Place::Vertex { .. } => Some(ClaudeDoor::Vertex),
        }
    }

    /// Returns a sentence if a model's id is spelled as at another door. It is a doubt only: clouds add spellings.
    pub(super) fn doubt(&self, dialect: Dialect, model: &str) -> Option<String> {
        let spelling = Spelling::of(model);
        let is_claude = model.contains("claude");
        let (fits, here) = match (&self.place, dialect) {
            (Place::Own, _) => return None,
            // A deployment may have any name.
            (Place::Azure { .. }, _) => {
                (spelling == Spelling::Plain, "it is the deployment's name, such as `claude-sonnet-4-5` or `gpt-4o`")
            }
            (Place::Aws { api: AwsApi::Mantle, .. }, Dialect::Anthropic) => {
                (spelling == Spelling::Bedrock, "one is such as `anthropic.claude-sonnet-4-5`")
            }
            (Place::Aws { api: AwsApi::Mantle, .. }, _) => {
                (spelling == Spelling::Bedrock, "one is such as `openai.gpt-oss-120b`")
            }
            (Place::Aws { .. }, _) => (
                matches!(spelling, Spelling::Bedrock | Spelling::Profile),
                "one is such as `us.anthropic.claude-sonnet-4-5-20250929-v1:0`, an inference profile",
            ),
            (Place::Vertex { .. }, Dialect::Anthropic) => (
                spelling == Spelling::Vertex || spelling == Spelling::Plain && is_claude && !is_dated(model),
                "one is such as `claude-sonnet-4-5@20250929`",
            ),
            (Place::Vertex { .. }, _) => {
                (matches!(spelling, Spelling::Plain | Spelling::Vertex), "one is such as `gemini-2.5-pro`")
            }
        };
        if fits {
            return None;
        }
        let of = match spelling {
            Spelling::Plain => "a provider's own API",
            Spelling::Vertex => "Vertex AI",
            Spelling::Bedrock => "Bedrock",
            Spelling::Profile => "an inference profile of Bedrock",
        };
        Some(format!("the model's id is spelled as one of {of}; here {here}"))
    }
}

/// Returns true if a name ends with a date of eight digits behind a hyphen, as Anthropic's own do.
fn is_dated(model: &str) -> bool {
    let end = model.rsplit('-').next().unwrap_or_default();
    end.len() == 8 && end.bytes().all(|byte| byte.is_ascii_digit())
}

impl fmt::Debug for Door {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = f.debug_struct("Door");
        shown.field("at", &self.name());
        match &self.place {
            Place::Own => {}
            Place::Aws { region, api } => {
                shown.field("region", region).field("api", api);
            }
            Place::Azure { resource } => {
                shown.field("resource", resource);
            }
            Place::Vertex { project, location } => {
                shown.field("project", project).field("location", location);
            }
        }
        shown.field("credentials", &self.credentials).finish_non_exhaustive()
    }
}
