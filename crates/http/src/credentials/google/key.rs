//! A JSON file of Google's, by its type.

use std::{path::Path, sync::Arc};

use futures_util::future::BoxFuture;
use serde_json::Value;

use super::{
    external::External, fields::Fields, impersonation::Impersonation, service_account::ServiceAccount, state::State,
    user::User,
};
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
        let fields = Fields::new(place, object);
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

/// Returns a file's name in errors.
pub(super) fn place(path: &Path) -> String {
    format!("the Google credentials file `{}`", path.display())
}
