//! A JSON file of Google's: its type, and its fields by name.

use std::{path::Path, sync::Arc};

use futures_util::future::BoxFuture;
use serde_json::{Map, Value};

use super::{State, external::External, impersonation::Impersonation, service_account::ServiceAccount, user::User};
use crate::{
    InvalidConfig,
    credentials::{SourceError, Token},
};

/// A file of Google's.
pub(super) struct KeyFile {
    key: Key,
    quota_project: Option<String>,
}

/// The credentials that it holds.
enum Key {
    ServiceAccount(ServiceAccount),
    User(User),
    External(External),
    Impersonated { by: Arc<Self>, target: Impersonation },
}

/// The types that we use, as a file's `type` names them.
pub(super) const SERVICE_ACCOUNT: &str = "service_account";
pub(super) const USER: &str = "authorized_user";
pub(super) const EXTERNAL: &str = "external_account";
const EXTERNAL_USER: &str = "external_account_authorized_user";
const IMPERSONATED: &str = "impersonated_service_account";

impl KeyFile {
    /// Parses a file. `place` names it in errors; `wanted` is the only type that it may have.
    pub(super) fn parse(text: &[u8], place: &str, wanted: Option<&str>) -> Result<Self, InvalidConfig> {
        let wrong = |problem: String| InvalidConfig::new(place.to_owned(), problem);
        let value: Value = serde_json::from_slice(text).map_err(|error| wrong(format!("it is no JSON: {error}")))?;
        let Value::Object(object) = &value else { return Err(wrong("it is no JSON object".to_owned())) };
        let fields = Fields { place: place.into(), object };
        if let Some(kind) = ["installed", "web"].into_iter().find(|kind| object.contains_key(*kind)) {
            let problem = format!("it has `{kind}`, so it is the file of an OAuth client, which is no credential");
            return Err(wrong(format!("{problem}; use the key of a service account")));
        }
        let kind = fields.text("type")?;
        if let Some(wanted) = wanted.filter(|wanted| *wanted != kind) {
            return Err(wrong(format!("its type is `{kind}`, and `{wanted}` is expected")));
        }
        let quota_project = fields.optional("quota_project_id")?.map(str::to_owned);
        // A wrong one would make a header that cannot be sent.
        if quota_project.as_deref().is_some_and(|project| !is_project(project)) {
            return Err(fields.wrong("quota_project_id", "it is no project's id"));
        }
        Ok(Self { key: Key::of_type(kind, &fields)?, quota_project })
    }

    /// Fetches a token.
    pub(super) async fn fetch(&self, state: &State) -> Result<Token, SourceError> {
        let token = self.key.fetch(state).await?;
        Ok(match &self.quota_project {
            Some(project) => token.quota_project(project.as_str()),
            None => token,
        })
    }
}

/// Returns true if the text can be a project's id or number.
pub(super) fn is_project(text: &str) -> bool {
    text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.:".contains(&byte))
}

impl Key {
    fn of_type(kind: &str, fields: &Fields<'_>) -> Result<Self, InvalidConfig> {
        match kind {
            SERVICE_ACCOUNT => ServiceAccount::parse(fields).map(Self::ServiceAccount),
            USER => User::parse(fields).map(Self::User),
            EXTERNAL_USER => User::parse_external(fields).map(Self::User),
            EXTERNAL => External::parse(fields).map(Self::External),
            IMPERSONATED => {
                let source = fields.object("source_credentials")?;
                let by = match source.text("type")? {
                    // Google's libraries refuse a chain too; `delegates` is the way to write one.
                    IMPERSONATED => return Err(source.wrong("type", "one impersonation by another is not possible")),
                    kind => Arc::new(Self::of_type(kind, &source)?),
                };
                Ok(Self::Impersonated { by, target: Impersonation::parse(fields)? })
            }
            kind => {
                let usable = [SERVICE_ACCOUNT, USER, EXTERNAL, EXTERNAL_USER, IMPERSONATED].join("`, `");
                Err(fields.wrong("type", &format!("`{kind}` cannot be used; usable are `{usable}`")))
            }
        }
    }

    fn fetch<'a>(&'a self, state: &'a State) -> BoxFuture<'a, Result<Token, SourceError>> {
        Box::pin(async move {
            match self {
                Self::ServiceAccount(account) => account.fetch(state).await,
                Self::User(user) => user.fetch(state).await,
                Self::External(external) => external.fetch(state).await,
                Self::Impersonated { by, target } => target.fetch(&by.fetch(state).await?, state).await,
            }
        })
    }
}

/// A JSON object's fields. Errors name the field and the file.
pub(super) struct Fields<'a> {
    place: String,
    object: &'a Map<String, Value>,
}

impl<'a> Fields<'a> {
    /// Returns the error of a field.
    pub(super) fn wrong(&self, name: &str, problem: &str) -> InvalidConfig {
        InvalidConfig::new(self.name(name), problem.to_owned())
    }

    /// Returns a field's name in errors.
    pub(super) fn name(&self, name: &str) -> String {
        format!("`{name}` of {}", self.place)
    }

    pub(super) fn has(&self, name: &str) -> bool {
        self.object.get(name).is_some_and(|value| !value.is_null())
    }

    /// Returns a text. An empty one counts as missing.
    pub(super) fn text(&self, name: &str) -> Result<&'a str, InvalidConfig> {
        self.optional(name)?.ok_or_else(|| self.wrong(name, "it is missing; download or make the file again"))
    }

    pub(super) fn optional(&self, name: &str) -> Result<Option<&'a str>, InvalidConfig> {
        match self.object.get(name) {
            None | Some(Value::Null) => Ok(None),
            Some(Value::String(text)) => Ok(Some(text.as_str()).filter(|text| !text.trim().is_empty())),
            Some(_) => Err(self.wrong(name, "it is no text")),
        }
    }

    pub(super) fn object(&self, name: &str) -> Result<Self, InvalidConfig> {
        match self.object.get(name) {
            Some(Value::Object(object)) => Ok(Self { place: self.name(name), object }),
            None => Err(self.wrong(name, "it is missing")),
            Some(_) => Err(self.wrong(name, "it is no JSON object")),
        }
    }

    pub(super) fn texts(&self, name: &str) -> Result<Vec<String>, InvalidConfig> {
        let texts = match self.object.get(name) {
            None | Some(Value::Null) => Some(Vec::new()),
            Some(Value::Array(items)) => items.iter().map(|item| item.as_str().map(str::to_owned)).collect(),
            Some(_) => None,
        };
        texts.ok_or_else(|| self.wrong(name, "it is no list of texts"))
    }

    pub(super) fn number(&self, name: &str) -> Result<Option<u64>, InvalidConfig> {
        match self.object.get(name) {
            None | Some(Value::Null) => Ok(None),
            Some(value) => value.as_u64().map(Some).ok_or_else(|| self.wrong(name, "it is no whole number")),
        }
    }

    /// Returns the fields with their names.
    pub(super) fn all(&self) -> impl Iterator<Item = (&'a str, &'a Value)> {
        self.object.iter().map(|(name, value)| (name.as_str(), value))
    }
}

/// Returns a file's name in errors.
pub(super) fn place(path: &Path) -> String {
    format!("the Google credentials file `{}`", path.display())
}
