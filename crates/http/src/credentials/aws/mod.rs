//! Credentials of AWS: keys that sign requests, and Bedrock's bearer keys.
//!
//! | function | source |
//! |---|---|
//! | [`keys`] | a pair of keys, with a session token if they are temporary |
//! | [`environment`] | `AWS_BEARER_TOKEN_BEDROCK`, or `AWS_ACCESS_KEY_ID` and `AWS_SECRET_ACCESS_KEY` |
//! | [`profile`] | a profile of `~/.aws/config` and `~/.aws/credentials`: keys, `role_arn`, SSO, `credential_process` |
//! | [`web_identity`] | a role for `AWS_WEB_IDENTITY_TOKEN_FILE`, as on EKS (IRSA) |
//! | [`container`] | the role of an ECS task or an EKS pod |
//! | [`instance_metadata`] | the role of an EC2 instance, by version 2 of its metadata |
//! | [`default_chain`] | the first of these that there is, in this order |
//!
//! The rules are those of AWS's [standardized credential
//! providers](https://docs.aws.amazon.com/sdkref/latest/guide/standardized-credentials.html).

mod chain;
mod environment;
mod metadata;
mod profile;
mod profile_file;
pub(crate) mod region;
mod sso;
mod sts;
#[cfg(test)]
mod tests;

use std::time::SystemTime;

use http::Request;

use self::{
    chain::DefaultChain,
    environment::WebIdentity,
    metadata::{Container, InstanceMetadata},
    profile::Profile,
};
use super::{Credentials, Identity, Machine, Token, sigv4};
use crate::{ErrorKind, InvalidConfig, LlmError, protocol::RequestBody};

/// Creates credentials of a fixed pair of keys, and the session token of temporary ones.
///
/// # Errors
///
/// A key is empty, or has a character that no key has.
pub fn keys(id: &str, secret: &str, session: Option<&str>) -> Result<Credentials, InvalidConfig> {
    let token = Token::aws(id, secret, session.map(Into::into));
    match token.problem() {
        Some(problem) => Err(InvalidConfig::new("keys", problem)),
        None => Ok(Credentials::fixed("the AWS keys", token)),
    }
}

/// Reads Bedrock's bearer key (`AWS_BEARER_TOKEN_BEDROCK`) or a pair of keys from the environment.
///
/// # Errors
///
/// Neither is set, or only half of a pair.
pub fn environment(machine: &Machine) -> Result<Credentials, InvalidConfig> {
    let none = || InvalidConfig::new("AWS_ACCESS_KEY_ID", "it is not set, nor is AWS_BEARER_TOKEN_BEDROCK");
    let token = environment::token(machine)?.ok_or_else(none)?;
    Ok(Credentials::fixed("the AWS keys of the environment", token))
}

/// Uses a profile of the AWS CLI's files.
///
/// The files are `AWS_CONFIG_FILE` and `AWS_SHARED_CREDENTIALS_FILE`, or `config` and `credentials` in `~/.aws`. Each
/// refresh reads them again. A role is assumed by STS, with the keys of `source_profile` or `credential_source`. Of SSO
/// the AWS CLI's cache is read: after the end of its session, a person runs `aws sso login`.
///
/// # Errors
///
/// There is no such profile (the error lists those there are), or it lacks a setting or has a wrong one.
pub fn profile(machine: &Machine, name: &str) -> Result<Credentials, InvalidConfig> {
    let profile = Profile::new(machine, Some(name))?;
    profile.check().map_err(|error| InvalidConfig::new("profile", error.to_string()))?;
    Ok(Credentials::from_source(profile))
}

/// Assumes the role `AWS_ROLE_ARN` with the token in the file `AWS_WEB_IDENTITY_TOKEN_FILE`. Each refresh reads the
/// file again.
///
/// # Errors
///
/// One of the variables is not set.
pub fn web_identity(machine: &Machine) -> Result<Credentials, InvalidConfig> {
    let none = || InvalidConfig::new("AWS_WEB_IDENTITY_TOKEN_FILE", "it is not set");
    Ok(Credentials::from_source(WebIdentity::of(machine)?.ok_or_else(none)?))
}

/// Uses the role of an ECS task or an EKS pod.
///
/// # Errors
///
/// The variables of such a container are not set, or name a place that is not allowed.
pub fn container(machine: &Machine) -> Result<Credentials, InvalidConfig> {
    let container = Container::new(machine);
    match container.address()? {
        Some(_) => Ok(Credentials::from_source(container)),
        None => {
            Err(InvalidConfig::new("AWS_CONTAINER_CREDENTIALS_FULL_URI", "it is not set: this is no such container"))
        }
    }
}

/// Uses the role of an EC2 instance, by version 2 of its metadata.
///
/// # Errors
///
/// `AWS_EC2_METADATA_DISABLED` is true, or a variable of its address is wrong.
pub fn instance_metadata(machine: &Machine) -> Result<Credentials, InvalidConfig> {
    let instance = InstanceMetadata::new(machine);
    match instance.address()? {
        Some(_) => Ok(Credentials::from_source(instance)),
        None => Err(InvalidConfig::new("AWS_EC2_METADATA_DISABLED", "it is true; unset it, or use another source")),
    }
}

/// Uses the first credentials that there are: the environment's, the profile's (`AWS_PROFILE` or `default`), a web
/// identity's, the container's, the instance's.
///
/// Each refresh looks again. A source that is there and fails is an error: no other identity takes its place.
///
/// # Errors
///
/// Half a pair of keys, a profile in `AWS_PROFILE` that does not exist, a wrong address. Servers are not asked here.
pub fn default_chain(machine: &Machine) -> Result<Credentials, InvalidConfig> {
    Ok(Credentials::from_source(DefaultChain::new(machine)?))
}

/// Signs a request to an AWS service with a pair of keys ([Signature Version
/// 4](https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_sigv-create-signed-request.html)), for a client of
/// your own. The leaves sign by themselves.
///
/// It signs the method, path, query, body, and the headers `host`, `content-type` and `x-amz-*`, and sets
/// `authorization` and AWS's own headers. Change none of them after this.
///
/// # Errors
///
/// [`ErrorKind::Credentials`]: the token is no pair of keys, or a text has a character that no header allows.
///
/// ```
/// use std::time::SystemTime;
/// use steadfast::providers::{credentials::{Token, aws}, http::RequestBody};
///
/// let mut request = http::Request::post("https://bedrock-runtime.eu-west-1.amazonaws.com/model/a/invoke")
///     .body(RequestBody::from("{}"))?;
/// let keys = Token::aws("AKIDEXAMPLE", "secret", None);
/// aws::sign(&mut request, &keys, "eu-west-1", "bedrock", SystemTime::UNIX_EPOCH)?;
/// assert!(request.headers()["authorization"].to_str()?.starts_with("AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/"));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn sign(
    request: &mut Request<RequestBody>,
    token: &Token,
    region: &str,
    service: &str,
    time: SystemTime,
) -> Result<(), LlmError> {
    match &token.identity {
        Identity::Aws(keys) => sigv4::sign(request, keys, region, service, time),
        Identity::Bearer(_) => Err(LlmError::new(ErrorKind::Credentials, "a bearer token cannot sign a request")),
    }
}
