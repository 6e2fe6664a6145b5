//! A token of another service account, in exchange for one's own.

use std::borrow::Cow;

use http::Uri;
use serde_json::json;

use super::{fields::Fields, state::State, token_server::SCOPE};
use crate::{
    InvalidConfig,
    credentials::{
        Identity, SourceError, Token,
        oauth::{Call, secure_url},
    },
};

/// A service account to become.
pub(super) struct Impersonation {
    url: Uri,
    delegates: Vec<String>,
    /// In seconds.
    lifetime: u64,
}

impl Impersonation {
    /// Parses `service_account_impersonation_url` and what belongs to it.
    pub(super) fn parse(fields: &Fields<'_>) -> Result<Self, InvalidConfig> {
        let name = "service_account_impersonation_url";
        let url = secure_url(&fields.name(name), fields.text(name)?)?;
        let options = "service_account_impersonation";
        let lifetime = match fields.has(options) {
            true => fields.object(options)?.number("token_lifetime_seconds")?,
            false => None,
        };
        Ok(Self { url, delegates: fields.texts("delegates")?, lifetime: lifetime.unwrap_or(LIFETIME) })
    }

    /// Exchanges a token for one of the account.
    pub(super) async fn fetch(&self, own: &Token, state: &State) -> Result<Token, SourceError> {
        let Identity::Bearer(bearer) = &own.identity else {
            return Err(SourceError::setup("AWS keys cannot impersonate a service account of Google's"));
        };
        let account = self.account();
        let who = format!("the IAM credentials API, for `{account}`,");
        let lifetime = format!("{}s", self.lifetime);
        let body = json!({ "delegates": self.delegates, "scope": [SCOPE], "lifetime": lifetime });
        let call = Call::json(&who, &self.url, &body).bearer(bearer)?;
        let answer = call.send(state.machine.servers()).await?;
        let grant = answer.grant().map_err(|failure| {
            failure.advise(|refusal| match refusal.status.as_u16() {
                401 | 403 | 404 => format!(
                    "give the caller the role `roles/iam.serviceAccountTokenCreator` on `{account}`, \
                     and enable the API `iamcredentials.googleapis.com`"
                )
                .into(),
                _ => Cow::Borrowed("check `service_account_impersonation_url` and `token_lifetime_seconds`"),
            })
        });
        Ok(grant?.token)
    }

    /// Returns the account's name: `../serviceAccounts/NAME:generateAccessToken`.
    fn account(&self) -> &str {
        let path = self.url.path();
        let name = path.rsplit('/').next().unwrap_or(path);
        name.strip_suffix(":generateAccessToken").unwrap_or(name)
    }
}

/// Google's default, in seconds.
const LIFETIME: u64 = 3600;
