//! Keys of IAM Identity Center (SSO): the AWS CLI's session, and the keys of a role for it.
//!
//! The rules are those of [IAM Identity Center credential
//! provider](https://docs.aws.amazon.com/sdkref/latest/guide/feature-sso-credentials.html).

use std::{path::Path, time::UNIX_EPOCH};

use http::{HeaderValue, Request, StatusCode};
use ring::digest;
use serde::Deserialize;

use super::region;
use crate::{
    credentials::{Machine, SourceError, Token, date, fetch, machine},
    internal::{hex, wall_clock},
    protocol::RequestBody,
};

const WHO: &str = "AWS SSO";

/// A role of an account, and the session that has it.
#[derive(Clone, Debug)]
pub(super) struct Sso {
    /// The profile, for the advice to log in.
    pub(super) profile: String,
    /// The session's name, or the start URL of a profile without one: the CLI names its cache after it.
    pub(super) cached_as: String,
    pub(super) region: String,
    pub(super) account: String,
    pub(super) role: String,
}

/// The AWS CLI's cache of a session.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Session {
    access_token: Option<String>,
    expires_at: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Answer {
    role_credentials: Option<RoleCredentials>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct RoleCredentials {
    access_key_id: String,
    secret_access_key: String,
    session_token: Option<String>,
    /// In milliseconds since 1970.
    expiration: u64,
}

impl Sso {
    /// Fetches the role's keys.
    pub(super) async fn keys(&self, machine: &Machine, home: Option<&Path>) -> Result<Token, SourceError> {
        let session = self.session(home).await?;
        let region = &self.region;
        let host = format!("https://portal.sso.{region}.{}", region::suffix(region));
        let (role, account) = (fetch::encoded(&self.role), fetch::encoded(&self.account));
        let mut bearer = HeaderValue::from_str(&session).map_err(|_| self.ended("holds no token"))?;
        bearer.set_sensitive(true);
        let request = Request::get(format!("{host}/federation/credentials?role_name={role}&account_id={account}"))
            .header("x-amz-sso_bearer_token", bearer)
            .body(RequestBody::default())
            .map_err(|_| SourceError::setup("sso_role_name or sso_account_id does not fit into a URL"))?;
        let (status, headers, body) = fetch::ask(machine.servers(), request, WHO).await?;
        if let Some(page) = fetch::page(&headers, &body, WHO) {
            return Err(page);
        }
        let (role, account, profile) = (&self.role, &self.account, &self.profile);
        match status {
            StatusCode::UNAUTHORIZED => return Err(self.ended("was refused")),
            StatusCode::FORBIDDEN | StatusCode::NOT_FOUND | StatusCode::BAD_REQUEST => {
                return Err(SourceError::setup(format!(
                    "{WHO} gives no keys of the role `{role}` in the account `{account}` (status {}); check \
                     sso_role_name and sso_account_id of the profile `{profile}`",
                    status.as_u16()
                )));
            }
            status if !status.is_success() => {
                return Err(SourceError::new(format!("{WHO} answered with status {}", status.as_u16())));
            }
            _ => {}
        }
        let answer: Answer = serde_json::from_slice(&body)
            .map_err(|_| SourceError::new(format!("the answer of {WHO} is no JSON object with `roleCredentials`")))?;
        let keys = answer
            .role_credentials
            .ok_or_else(|| SourceError::new(format!("the answer of {WHO} has no `roleCredentials`")))?;
        let token = Token::aws(keys.access_key_id, keys.secret_access_key, keys.session_token.map(Into::into));
        let end = UNIX_EPOCH.checked_add(std::time::Duration::from_millis(keys.expiration));
        Ok(match end {
            Some(end) => date::ending(token, end, &headers),
            None => token,
        })
    }

    /// Reads the token of the session from the AWS CLI's cache.
    async fn session(&self, home: Option<&Path>) -> Result<String, SourceError> {
        let Some(home) = home else {
            return Err(SourceError::setup("HOME is not set, so the cache of AWS SSO has no place; set it"));
        };
        let name = hex::encode(digest::digest(&digest::SHA1_FOR_LEGACY_USE_ONLY, self.cached_as.as_bytes()).as_ref());
        let path = home.join(".aws/sso/cache").join(format!("{name}.json"));
        let Some(text) = machine::read_file(&path).await? else { return Err(self.ended("has not begun")) };
        let session: Session = serde_json::from_str(&text)
            .map_err(|_| SourceError::setup(format!("the file `{}` is no JSON; {}", path.display(), self.advice())))?;
        let end = session.expires_at.as_deref().and_then(date::parse);
        match session.access_token {
            Some(token) if end.is_none_or(|end| wall_clock::now() < end) => Ok(token),
            Some(_) => Err(self.ended("has ended")),
            None => Err(self.ended("holds no token")),
        }
    }

    fn ended(&self, state: &str) -> SourceError {
        SourceError::setup(format!("the session of AWS SSO {state}; {}", self.advice()))
    }

    fn advice(&self) -> String {
        format!("run `aws sso login --profile {}`", self.profile)
    }
}
