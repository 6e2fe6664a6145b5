//! The key of a service account: a JWT in exchange for a token.

use std::{borrow::Cow, time::Duration};

use http::Uri;
use ring::signature::RsaKeyPair;

use super::{
    clock::Clock,
    fields::Fields,
    jwt::{self, Claims},
    state::State,
    token_server::{self, SCOPE},
};
use crate::{
    InvalidConfig,
    credentials::{
        SourceError, Token,
        oauth::{Call, Failure, Part, Refusal, secure_url},
    },
};

pub(super) struct ServiceAccount {
    email: String,
    key_id: Option<String>,
    key: RsaKeyPair,
    /// The address as the file spells it: the JWT's audience.
    audience: String,
    url: Uri,
}

impl ServiceAccount {
    pub(super) fn parse(fields: &Fields<'_>) -> Result<Self, InvalidConfig> {
        let audience = fields.text("token_uri")?;
        Ok(Self {
            email: fields.text("client_email")?.to_owned(),
            key_id: fields.optional("private_key_id")?.map(str::to_owned),
            key: jwt::key(fields.text("private_key")?).map_err(|problem| fields.wrong("private_key", problem))?,
            url: secure_url(&fields.name("token_uri"), audience)?,
            audience: audience.to_owned(),
        })
    }

    /// Fetches a token. A clock that is off is corrected by the date of the server's refusal, once.
    pub(super) async fn fetch(&self, state: &State) -> Result<Token, SourceError> {
        let before = state.clock.offset();
        let refusal = match self.ask(state).await {
            Err(Failure::Refused(refusal)) if is_of_the_clock(&refusal, &state.clock) => refusal,
            other => return other.map_err(|failure| failure.advise(advice)),
        };
        if !refusal.date.is_some_and(|date| state.clock.correct(date)) {
            return Err(
                refusal.into_error("the server finds the clock of this machine wrong; set it, for example by NTP")
            );
        }
        let told = state.clock.told();
        match self.ask(state).await {
            Err(Failure::Refused(refusal)) => {
                // It was not the clock, or not the clock alone.
                state.clock.restore(before);
                Err(refusal.into_error(&format!("{told}; set it, for example by NTP")))
            }
            other => other.map_err(|failure| failure.advise(advice)),
        }
    }

    async fn ask(&self, state: &State) -> Result<Token, Failure> {
        let iat = state.clock.since_1970().saturating_sub(EARLIER).as_secs();
        let exp = iat + LIFE.as_secs();
        let claims = Claims { iss: &self.email, scope: SCOPE, aud: &self.audience, iat, exp };
        let jwt = jwt::sign(&self.key, self.key_id.as_deref(), &claims)
            .ok_or_else(|| SourceError::setup("the private key of the service account cannot sign".to_owned()))?;
        let form = [("grant_type", Part::Plain(GRANT)), ("assertion", Part::Secret(&jwt))];
        let who = token_server::name(&self.url);
        let answer = Call::form(&who, &self.url, &form).send(state.machine.servers()).await?;
        Ok(answer.grant()?.token)
    }
}

/// Returns true if the server refuses the JWT's times, or may do so: it says it in words only.
fn is_of_the_clock(refusal: &Refusal, clock: &Clock) -> bool {
    let said = refusal.said.to_ascii_lowercase();
    let is_said = said.contains("timeframe") || said.contains("iat and exp") || said.contains("short-lived");
    refusal.code == "invalid_grant" && (is_said || refusal.date.is_some_and(|date| clock.is_off(date)))
}

fn advice(refusal: &Refusal) -> Cow<'static, str> {
    let said = refusal.said.to_ascii_lowercase();
    Cow::Borrowed(match &*refusal.code {
        "invalid_grant" if said.contains("signature") => {
            "the key was deleted, or is another account's: make a new key of the service account"
        }
        "invalid_grant" => "the service account was deleted or disabled, or its key was: check both in IAM",
        "unauthorized_client" | "access_denied" => "the service account may not have this scope: check it in IAM",
        _ => "check the key file, or make a new key of the service account",
    })
}

/// RFC 7523, section 2.1.
const GRANT: &str = "urn:ietf:params:oauth:grant-type:jwt-bearer";
/// The longest life that Google's token server takes.
const LIFE: Duration = Duration::from_secs(3600);
/// A server whose clock is a little behind refuses a JWT from its future.
const EARLIER: Duration = Duration::from_secs(10);
