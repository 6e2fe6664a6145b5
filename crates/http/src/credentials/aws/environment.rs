//! Keys of the environment.

use std::path::PathBuf;

use super::sts::{self, Role};
use crate::{
    InvalidConfig,
    credentials::{Machine, Source, SourceError, Token, TokenFuture, date, machine},
};

/// Returns the pair of keys, if there is one.
pub(super) fn keys(machine: &Machine) -> Result<Option<Token>, InvalidConfig> {
    const ID: &str = "AWS_ACCESS_KEY_ID";
    const SECRET: &str = "AWS_SECRET_ACCESS_KEY";
    let half = |set: &str, missing| Err(InvalidConfig::new(missing, format!("it is not set, and {set} is; set both")));
    let token = match (machine.variable(ID)?, machine.variable(SECRET)?) {
        (None, None) => return Ok(None),
        (Some(_), None) => return half(ID, SECRET),
        (None, Some(_)) => return half(SECRET, ID),
        (Some(id), Some(secret)) => Token::aws(id, secret, machine.variable("AWS_SESSION_TOKEN")?.map(Into::into)),
    };
    if let Some(problem) = token.problem() {
        return Err(InvalidConfig::new(ID, problem));
    }
    let end = "AWS_CREDENTIAL_EXPIRATION";
    Ok(Some(match machine.variable(end)? {
        Some(text) => token.expires_at(date::parse(&text).ok_or_else(|| InvalidConfig::new(end, "it is no date"))?),
        None => token,
    }))
}

/// Returns the bearer key of Bedrock, or else the pair of keys.
pub(super) fn token(machine: &Machine) -> Result<Option<Token>, InvalidConfig> {
    const BEARER: &str = "AWS_BEARER_TOKEN_BEDROCK";
    let Some(bearer) = machine.variable(BEARER)? else { return keys(machine) };
    let token = Token::bearer(bearer);
    match token.problem() {
        Some(problem) => Err(InvalidConfig::new(BEARER, problem)),
        None => Ok(Some(token)),
    }
}

/// A role by another provider's token, as Kubernetes sets it up (IRSA).
pub(super) struct WebIdentity {
    machine: Machine,
    role: Role,
    file: PathBuf,
}

impl WebIdentity {
    /// Returns it, if the environment has one.
    pub(super) fn of(machine: &Machine) -> Result<Option<Self>, InvalidConfig> {
        const ROLE: &str = "AWS_ROLE_ARN";
        const FILE: &str = "AWS_WEB_IDENTITY_TOKEN_FILE";
        let half =
            |set: &str, missing| Err(InvalidConfig::new(missing, format!("it is not set, and {set} is; set both")));
        let (arn, file) = match (machine.variable(ROLE)?, machine.variable(FILE)?) {
            // A role alone is also the AWS CLI's, for profiles.
            (_, None) => return Ok(None),
            (None, Some(_)) => return half(FILE, ROLE),
            (Some(arn), Some(file)) => (arn, file),
        };
        let session_name = machine.variable("AWS_ROLE_SESSION_NAME")?;
        let role = Role { arn, session_name, external_id: None, seconds: None, region: super::region::of(machine)? };
        Ok(Some(Self { machine: machine.clone(), role, file: file.into() }))
    }

    pub(super) async fn keys(&self) -> Result<Token, SourceError> {
        let file = self.file.display();
        let identity = machine::read_file(&self.file).await?.ok_or_else(|| {
            SourceError::setup(format!("the file `{file}` of AWS_WEB_IDENTITY_TOKEN_FILE is not there"))
        })?;
        match identity.trim() {
            "" => Err(SourceError::setup(format!("the file `{file}` of AWS_WEB_IDENTITY_TOKEN_FILE is empty"))),
            identity => sts::assume_role_with_web_identity(&self.machine, &self.role, identity).await,
        }
    }
}

impl Source for WebIdentity {
    fn name(&self) -> String {
        format!("the web identity of the AWS role `{}`", self.role.arn)
    }

    fn fetch(&self) -> TokenFuture<'_> {
        Box::pin(self.keys())
    }
}
