//! A user's credentials: a refresh token in exchange for a token.

use std::borrow::Cow;

use http::Uri;

use super::{fields::Fields, state::State, token_server};
use crate::{
    InvalidConfig,
    credentials::{
        SourceError, Token,
        oauth::{Call, Part, Refusal, secure_url},
    },
    internal::sync::lock,
};

pub(super) struct User {
    client_id: String,
    client_secret: String,
    refresh_token: String,
    url: Uri,
    /// True for a user of a workforce pool, whose server wants the client in a header.
    is_external: bool,
}

impl User {
    pub(super) fn parse(fields: &Fields<'_>) -> Result<Self, InvalidConfig> {
        Self::at(fields, fields.optional("token_uri")?.unwrap_or(TOKEN_URL), false)
    }

    /// Parses the file of a user of a workforce pool.
    pub(super) fn parse_external(fields: &Fields<'_>) -> Result<Self, InvalidConfig> {
        Self::at(fields, fields.text("token_url")?, true)
    }

    fn at(fields: &Fields<'_>, url: &str, is_external: bool) -> Result<Self, InvalidConfig> {
        Ok(Self {
            client_id: fields.text("client_id")?.to_owned(),
            client_secret: fields.text("client_secret")?.to_owned(),
            refresh_token: fields.text("refresh_token")?.to_owned(),
            url: secure_url(&fields.name(if is_external { "token_url" } else { "token_uri" }), url)?,
            is_external,
        })
    }

    pub(super) async fn fetch(&self, state: &State) -> Result<Token, SourceError> {
        let refresh_token = self.newest(state);
        let form = [
            ("grant_type", Part::Plain("refresh_token")),
            ("refresh_token", Part::Secret(&refresh_token)),
            ("client_id", Part::Plain(&self.client_id)),
            ("client_secret", Part::Secret(&self.client_secret)),
        ];
        let who = token_server::name(&self.url);
        let call = match self.is_external {
            true => Call::form(&who, &self.url, &form[..2]).basic(&self.client_id, &self.client_secret)?,
            false => Call::form(&who, &self.url, &form),
        };
        let answer = call.send(state.machine.servers()).await?;
        let grant = answer.grant().map_err(|failure| failure.advise(advice))?;
        if let Some(next) = grant.refresh {
            *lock(&state.rotated) = Some((self.refresh_token.clone(), next));
        }
        Ok(grant.token)
    }

    /// Returns the refresh token that a server gave in exchange for the file's, or the file's.
    fn newest(&self, state: &State) -> String {
        match &*lock(&state.rotated) {
            Some((of, newest)) if *of == self.refresh_token => newest.clone(),
            _ => self.refresh_token.clone(),
        }
    }
}

fn advice(refusal: &Refusal) -> Cow<'static, str> {
    Cow::Borrowed(match (&*refusal.code, &*refusal.subtype) {
        ("invalid_grant", "invalid_rapt" | "rapt_required") => {
            "the organization asks its users to sign in again: run `gcloud auth application-default login`; \
             a server should have a service account"
        }
        ("invalid_grant", _) => {
            "the sign-in has ended or was withdrawn: run `gcloud auth application-default login` again"
        }
        ("invalid_client" | "unauthorized_client", _) => "check `client_id` and `client_secret` of the file",
        _ => "run `gcloud auth application-default login` again",
    })
}

/// Google's token server, which the file does not name.
const TOKEN_URL: &str = "https://oauth2.googleapis.com/token";
