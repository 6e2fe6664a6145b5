//! Workload identity federation: another system's token in exchange for Google's (RFC 8693; AIP-4117).

use std::{borrow::Cow, path::PathBuf};

use http::{HeaderName, Uri};
use serde_json::{Value, json};

use super::{
    aws::AwsSubject,
    fields::Fields,
    impersonation::Impersonation,
    state::State,
    token_server::{self, SCOPE},
};
use crate::{
    InvalidConfig,
    credentials::{
        SourceError, Token,
        machine::read_file,
        oauth::{Call, Part, Refusal, any_url, secure_url},
    },
};

pub(super) struct External {
    audience: String,
    subject_type: String,
    url: Uri,
    client: Option<(String, String)>,
    /// `options`, as JSON.
    options: Option<String>,
    subject: Subject,
    target: Option<Impersonation>,
}

/// The place of the other system's token.
enum Subject {
    File(PathBuf, Format),
    Url { url: Uri, headers: Vec<(HeaderName, String)>, format: Format },
    Aws(AwsSubject),
}

/// The form in which the token is there.
enum Format {
    Text,
    /// The field of a JSON object.
    Json(String),
}

impl External {
    pub(super) fn parse(fields: &Fields<'_>) -> Result<Self, InvalidConfig> {
        let audience = fields.text("audience")?.to_owned();
        let client = match fields.optional("client_id")? {
            Some(id) => Some((id.to_owned(), fields.text("client_secret")?.to_owned())),
            None => None,
        };
        let project = fields.optional("workforce_pool_user_project")?;
        // A client of its own tells the project already.
        let options = project.filter(|_| client.is_none()).map(|project| json!({ "userProject": project }).to_string());
        let target = match fields.has("service_account_impersonation_url") {
            true => Some(Impersonation::parse(fields)?),
            false => None,
        };
        Ok(Self {
            subject_type: fields.text("subject_token_type")?.to_owned(),
            url: secure_url(&fields.name("token_url"), fields.text("token_url")?)?,
            subject: Subject::parse(&fields.object("credential_source")?, &audience)?,
            audience,
            client,
            options,
            target,
        })
    }

    pub(super) async fn fetch(&self, state: &State) -> Result<Token, SourceError> {
        let subject = self.subject.read(state).await?;
        let mut form = vec![
            ("grant_type", Part::Plain(GRANT)),
            ("audience", Part::Plain(&self.audience)),
            ("scope", Part::Plain(SCOPE)),
            ("requested_token_type", Part::Plain(ACCESS_TOKEN)),
            ("subject_token", Part::Secret(&subject)),
            ("subject_token_type", Part::Plain(&self.subject_type)),
        ];
        form.extend(self.options.as_deref().map(|options| ("options", Part::Plain(options))));
        let who = token_server::name(&self.url);
        let mut call = Call::form(&who, &self.url, &form);
        if let Some((id, secret)) = &self.client {
            call = call.basic(id, secret)?;
        }
        let answer = call.send(state.machine.servers()).await?;
        let token = answer.grant().map_err(|failure| failure.advise(advice))?.token;
        match &self.target {
            Some(target) => target.fetch(&token, state).await,
            None => Ok(token),
        }
    }
}

impl Subject {
    fn parse(fields: &Fields<'_>, audience: &str) -> Result<Self, InvalidConfig> {
        if let Some(id) = fields.optional("environment_id")? {
            return match id {
                "aws1" => AwsSubject::parse(fields, audience).map(Self::Aws),
                id => Err(fields.wrong("environment_id", &format!("`{id}` cannot be used; usable is `aws1`"))),
            };
        }
        if let Some(path) = fields.optional("file")? {
            return Ok(Self::File(path.into(), Format::parse(fields)?));
        }
        if let Some(url) = fields.optional("url")? {
            let url = any_url(&fields.name("url"), url)?;
            return Ok(Self::Url { url, headers: headers(fields)?, format: Format::parse(fields)? });
        }
        for unusable in ["executable", "certificate"] {
            if fields.has(unusable) {
                return Err(fields.wrong(unusable, "it cannot be used; usable are `file`, `url` and `environment_id`"));
            }
        }
        Err(fields.wrong("file", "it is missing, and so are `url` and `environment_id`; make the file again"))
    }

    /// Reads the token. A file or a server may have another one each time.
    async fn read(&self, state: &State) -> Result<String, SourceError> {
        match self {
            Self::File(path, format) => {
                let place = format!("the file of the subject token `{}`", path.display());
                let text = read_file(path).await?.ok_or_else(|| {
                    SourceError::setup(format!("{place} does not exist; check `credential_source` and the mount"))
                })?;
                format.read(&text, &place)
            }
            Self::Url { url, headers, format } => {
                let place = format!("the server of the subject token `{}`", url.host().unwrap_or_default());
                let mut call = Call::get(&place, url);
                for (name, value) in headers {
                    call = call.header(name.clone(), value.as_str().into())?;
                }
                // An address without TLS is the machine's own.
                let is_metadata = url.scheme_str() == Some("http");
                let transport = if is_metadata { state.machine.metadata() } else { state.machine.servers() };
                let answer = call.send(transport).await?;
                let text = answer.text().map_err(|failure| {
                    failure.advise(|_| Cow::Borrowed("check `credential_source`: its `url` and `headers`"))
                })?;
                format.read(text, &place)
            }
            Self::Aws(subject) => subject.read(state).await,
        }
    }
}

impl Format {
    fn parse(fields: &Fields<'_>) -> Result<Self, InvalidConfig> {
        if !fields.has("format") {
            return Ok(Self::Text);
        }
        let format = fields.object("format")?;
        match format.optional("type")?.unwrap_or("text") {
            "text" => Ok(Self::Text),
            "json" => Ok(Self::Json(format.text("subject_token_field_name")?.to_owned())),
            other => Err(format.wrong("type", &format!("`{other}` cannot be used; usable are `text` and `json`"))),
        }
    }

    fn read(&self, text: &str, place: &str) -> Result<String, SourceError> {
        let token = match self {
            Self::Text => text.trim().to_owned(),
            Self::Json(field) => {
                let value: Value = serde_json::from_str(text).map_err(|_| {
                    SourceError::setup(format!("{place} has no JSON; check `credential_source.format`"))
                })?;
                let token = value.get(field).and_then(Value::as_str).unwrap_or_default();
                if token.is_empty() {
                    return Err(SourceError::setup(format!("{place} has no text in its field `{field}`")));
                }
                token.to_owned()
            }
        };
        match token.is_empty() {
            true => Err(SourceError::new(format!("{place} is empty"))),
            false => Ok(token),
        }
    }
}

fn headers(fields: &Fields<'_>) -> Result<Vec<(HeaderName, String)>, InvalidConfig> {
    if !fields.has("headers") {
        return Ok(Vec::new());
    }
    let object = fields.object("headers")?;
    let header = |(name, _): (&str, _)| match (name.parse(), object.text(name)) {
        (Ok(header), value) => Ok((header, value?.to_owned())),
        (Err(_), _) => Err(object.wrong(name, "it is no name of a header")),
    };
    object.all().map(header).collect()
}

fn advice(refusal: &Refusal) -> Cow<'static, str> {
    Cow::Borrowed(match &*refusal.code {
        "invalid_grant" => {
            "the subject token has ended, or the pool's provider does not take it: check its issuer, its audience \
             and the attribute condition"
        }
        "invalid_target" => "check `audience` of the file: the pool and its provider must exist and be enabled",
        "invalid_client" | "unauthorized_client" => "check `client_id` and `client_secret` of the file",
        _ => "check `audience`, `subject_token_type` and `credential_source` of the file",
    })
}

/// RFC 8693, section 2.1.
const GRANT: &str = "urn:ietf:params:oauth:grant-type:token-exchange";
const ACCESS_TOKEN: &str = "urn:ietf:params:oauth:token-type:access_token";
