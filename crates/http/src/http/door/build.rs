use std::sync::Arc;

use super::{AwsApi, Door, Place, shape};
use steadfast_dialects::{anthropic::Messages, gemini::GenerateContent, openai::ChatCompletions};

use crate::{
    Dialect, InvalidConfig,
    credentials::Credentials,
    http::{BaseUrl, HttpLeaf},
    protocol::Protocol,
};

/// Creates a leaf at a door.
fn at<P: Protocol>(protocol: P, place: Place) -> HttpLeaf<P> {
    let door = Door::new(place);
    let host = BaseUrl::parse("base_url", &door.host(protocol.dialect())).expect("its parts have been checked");
    HttpLeaf::with(protocol, door.name(), host, None).through(Some(door))
}

fn aws(region: &str) -> Result<Place, InvalidConfig> {
    Ok(Place::Aws { region: shape::region(region)?.into(), api: AwsApi::default() })
}

fn azure(resource: &str) -> Result<Place, InvalidConfig> {
    Ok(Place::Azure { resource: shape::resource(resource)?.into() })
}

fn vertex(project: &str, location: &str) -> Result<Place, InvalidConfig> {
    let project = Some(shape::project(project)?.into());
    Ok(Place::Vertex { project, location: shape::location(location)?.into() })
}

#[cfg_attr(docsrs, doc(cfg(feature = "clouds")))]
impl HttpLeaf<Messages> {
    /// Creates a leaf for Claude at Amazon Bedrock, in this region. See [`http::door`](crate::http::door).
    ///
    /// The default is Messages itself at `bedrock-mantle`; [`aws_api`](Self::aws_api) chooses another API. Set
    /// [`credentials`](Self::credentials) with AWS keys, or a Bedrock API key by [`key`](Self::key).
    ///
    /// # Errors
    ///
    /// The region is none of AWS.
    ///
    /// ```
    /// use steadfast::providers::{Anthropic, credentials::{Credentials, Token}};
    ///
    /// let keys = Credentials::token(Token::aws("AKIDEXAMPLE", "a secret", None));
    /// let leaf = Anthropic::on_aws("us-east-1")?.credentials(keys).model("anthropic.claude-sonnet-4-5");
    /// assert!(Anthropic::on_aws("us-east5").is_err());
    /// # drop(leaf);
    /// # Ok::<(), steadfast::InvalidConfig>(())
    /// ```
    pub fn on_aws(region: &str) -> Result<Self, InvalidConfig> {
        Ok(at(Messages::new(), aws(region)?))
    }

    /// Creates a leaf for Claude at Microsoft Foundry, in the resource of this name. The model's id is the name of the
    /// deployment. Set [`key`](Self::key), or [`credentials`](Self::credentials) with tokens of Entra ID for
    /// `https://ai.azure.com/.default`. See [`http::door`](crate::http::door).
    ///
    /// # Errors
    ///
    /// The resource cannot be a part of an address.
    ///
    /// ```
    /// use steadfast::providers::Anthropic;
    ///
    /// let leaf = Anthropic::on_azure("my-resource")?.key("a key").model("claude-sonnet-4-5");
    /// # drop(leaf);
    /// # Ok::<(), steadfast::InvalidConfig>(())
    /// ```
    pub fn on_azure(resource: &str) -> Result<Self, InvalidConfig> {
        Ok(at(Messages::new(), azure(resource)?))
    }

    /// Creates a leaf for Claude at Vertex AI, in this project and location: `global`, `us`, `eu` or a region. Set
    /// [`credentials`](Self::credentials) with tokens of Google Cloud. See
    /// [`http::door`](crate::http::door).
    ///
    /// # Errors
    ///
    /// The project or the location has the shape of none.
    ///
    /// ```
    /// use steadfast::providers::{Anthropic, credentials::{Credentials, Token}};
    ///
    /// let token = Credentials::token(Token::bearer("a token"));
    /// let leaf = Anthropic::on_vertex("my-project", "us-east5")?.credentials(token).model("claude-sonnet-4-5@20250929");
    /// # drop(leaf);
    /// # Ok::<(), steadfast::InvalidConfig>(())
    /// ```
    pub fn on_vertex(project: &str, location: &str) -> Result<Self, InvalidConfig> {
        Ok(at(Messages::new(), vertex(project, location)?))
    }
}

#[cfg_attr(docsrs, doc(cfg(feature = "clouds")))]
impl HttpLeaf<ChatCompletions> {
    /// Creates a leaf for Chat Completions at Amazon Bedrock, in this region. [`responses`](Self::responses) and
    /// [`auto`](Self::auto) work as elsewhere. Set [`credentials`](Self::credentials) with AWS keys, or a Bedrock API
    /// key by [`key`](Self::key). See [`http::door`](crate::http::door).
    ///
    /// # Errors
    ///
    /// The region is none of AWS.
    ///
    /// ```
    /// use steadfast::providers::OpenAi;
    ///
    /// let leaf = OpenAi::on_aws("us-west-2")?.key("a Bedrock API key").model("openai.gpt-oss-120b").responses();
    /// # drop(leaf);
    /// # Ok::<(), steadfast::InvalidConfig>(())
    /// ```
    pub fn on_aws(region: &str) -> Result<Self, InvalidConfig> {
        Ok(at(ChatCompletions::own(), aws(region)?))
    }

    /// Creates a leaf for Azure OpenAI, in the resource of this name, at `/openai/v1`. There the model's id is the name
    /// of the [`deployment`](Self::deployment). With an [`api_version`](Self::api_version) it calls the older URLs of
    /// deployments. Set [`key`](Self::key), or [`credentials`](Self::credentials) with tokens of Entra ID for
    /// `https://cognitiveservices.azure.com/.default`. See [`http::door`](crate::http::door).
    ///
    /// # Errors
    ///
    /// The resource cannot be a part of an address.
    ///
    /// ```
    /// use steadfast::providers::OpenAi;
    ///
    /// let leaf = OpenAi::on_azure("my-resource")?.key("a key").model("gpt-4o").deployment("our-gpt-4o")?;
    /// let older = leaf.clone().api_version("2024-10-21")?;
    /// # drop((leaf, older));
    /// # Ok::<(), steadfast::InvalidConfig>(())
    /// ```
    pub fn on_azure(resource: &str) -> Result<Self, InvalidConfig> {
        Ok(at(ChatCompletions::own(), azure(resource)?))
    }
}

#[cfg_attr(docsrs, doc(cfg(feature = "clouds")))]
impl HttpLeaf<GenerateContent> {
    /// Creates a leaf for Gemini at Vertex AI, in this project and location: `global`, `us`, `eu` or a region. Set
    /// [`credentials`](Self::credentials) with tokens of Google Cloud. See
    /// [`http::door`](crate::http::door).
    ///
    /// # Errors
    ///
    /// The project or the location has the shape of none.
    ///
    /// ```
    /// use steadfast::providers::{Gemini, credentials::{Credentials, Token}};
    ///
    /// let token = Credentials::token(Token::bearer("a token"));
    /// let leaf = Gemini::on_vertex("my-project", "global")?.credentials(token).model("gemini-2.5-pro");
    /// # drop(leaf);
    /// # Ok::<(), steadfast::InvalidConfig>(())
    /// ```
    pub fn on_vertex(project: &str, location: &str) -> Result<Self, InvalidConfig> {
        Ok(at(GenerateContent::new(), vertex(project, location)?))
    }

    /// Creates a leaf for Vertex AI in express mode, where a key of Google Cloud stands for the project.
    ///
    /// ```
    /// use steadfast::providers::Gemini;
    ///
    /// let leaf = Gemini::on_vertex_express("a key").model("gemini-2.5-flash");
    /// # drop(leaf);
    /// ```
    pub fn on_vertex_express(key: impl Into<Arc<str>>) -> Self {
        at(GenerateContent::new(), Place::Vertex { project: None, location: "global".into() }).key(key)
    }
}

#[cfg_attr(docsrs, doc(cfg(feature = "clouds")))]
#[allow(private_bounds, reason = "the protocols are the crate's own")]
impl<P: Protocol> HttpLeaf<P> {
    /// Sets the credentials, in place of a [`key`](Self::key). Default: none.
    ///
    /// AWS keys sign each request, at AWS only. A token goes along as `Authorization: Bearer`, at any address.
    #[must_use]
    pub fn credentials(self, credentials: Credentials) -> Self {
        let leaf = self.without_key();
        let mut door = leaf.door().cloned().unwrap_or_else(|| Door::new(Place::Own));
        door.credentials = Some(credentials);
        leaf.through(Some(door))
    }

    /// Sets the API of AWS. Default: [`AwsApi::Mantle`].
    ///
    /// # Errors
    ///
    /// The leaf is not at AWS, or the API does not speak the leaf's dialect.
    pub fn aws_api(self, api: AwsApi) -> Result<Self, InvalidConfig> {
        let dialect = self.dialect();
        let Some(Door { place: Place::Aws { region, .. }, .. }) = self.door() else {
            return Err(InvalidConfig::new("aws_api", "only a leaf at AWS has one: create it by on_aws"));
        };
        if dialect != Dialect::Anthropic && matches!(api, AwsApi::Invoke | AwsApi::Converse) {
            let problem =
                "it is for Messages: create the leaf by Anthropic::on_aws, which serves every vendor's models";
            return Err(InvalidConfig::new("aws_api", problem));
        }
        if dialect == Dialect::Responses && api == AwsApi::Runtime {
            return Err(InvalidConfig::new("aws_api", "only bedrock-mantle has Responses"));
        }
        let place = Place::Aws { region: region.clone(), api };
        let before = self.door().map(|door| door.host(dialect));
        let door = self.door().cloned().map(|door| Door { place, ..door });
        // A base URL of the user's own stays.
        let host = door.as_ref().map(|door| door.host(dialect));
        let is_own = before.is_some_and(|before| self.is_at(&before));
        let leaf = self.through(door);
        Ok(match host.and_then(|host| BaseUrl::parse("base_url", &host).ok()).filter(|_| is_own) {
            Some(base) => leaf.at(base),
            None => leaf,
        })
    }

    /// Sets the name of the deployment at Azure, where it is not the model's id. Default: the model's id. The model's
    /// own name then still decides its price and its parameters.
    ///
    /// # Errors
    ///
    /// The leaf is not at Azure, or the name cannot be a deployment's.
    pub fn deployment(self, deployment: &str) -> Result<Self, InvalidConfig> {
        let deployment = shape::deployment(deployment)?.into();
        match self.door().cloned() {
            Some(door @ Door { place: Place::Azure { .. }, .. }) => {
                Ok(self.through(Some(Door { deployment: Some(deployment), ..door })))
            }
            _ => Err(InvalidConfig::new("deployment", "only a leaf at Azure has one: create it by on_azure")),
        }
    }

    /// Sets the version of the door's API. At Azure OpenAI it is a date, such as `2024-10-21`, and chooses the URLs of
    /// deployments in place of `/openai/v1`. At Vertex AI it is `v1` or `v1beta1`. Default: `/openai/v1`; `v1`.
    ///
    /// # Errors
    ///
    /// The door has no versions, or the text cannot be one.
    pub fn api_version(self, version: &str) -> Result<Self, InvalidConfig> {
        let version = shape::api_version(version)?.into();
        let is_claude = self.dialect() == Dialect::Anthropic;
        match self.door().cloned() {
            Some(door @ Door { place: Place::Vertex { .. }, .. }) => {
                Ok(self.through(Some(Door { api_version: Some(version), ..door })))
            }
            Some(door @ Door { place: Place::Azure { .. }, .. }) if !is_claude => {
                Ok(self.through(Some(Door { api_version: Some(version), ..door })))
            }
            _ => Err(InvalidConfig::new(
                "api_version",
                "only leaves at Azure OpenAI and Vertex AI have one: leave it out",
            )),
        }
    }

    /// Returns a sentence if the id of the leaf's model is spelled as at another door, for a check of a configuration.
    pub fn model_doubt(&self) -> Option<String> {
        self.door()?.doubt(self.dialect(), self.own_model()?)
    }
}
