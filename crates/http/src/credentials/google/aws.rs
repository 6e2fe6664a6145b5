//! The subject token of a workload in AWS: a signed request for its identity, which Google sends on to AWS.
//!
//! The keys come from AWS's default chain, so that containers and web identities work too, not only the environment
//! and the instance that AIP-4117 names.

use std::{borrow::Cow, time::SystemTime};

use http::{HeaderName, HeaderValue, Method, Request, Uri, header::HOST};
use serde_json::json;

use super::{fields::Fields, state::State};
use crate::{
    InvalidConfig,
    credentials::{
        AwsKeys, Credentials, Identity, Machine, SourceError, aws, fetch,
        oauth::{Call, any_url},
        sigv4,
    },
    protocol::RequestBody,
};

/// A request for the identity of AWS keys, for one pool.
pub(super) struct AwsSubject {
    /// The pool's provider. It is signed, so that no other pool can use the request.
    audience: String,
    /// The address of AWS STS, with `{region}`.
    verification_url: String,
    region_url: Option<Uri>,
    session_url: Option<Uri>,
}

impl AwsSubject {
    pub(super) fn parse(fields: &Fields<'_>, audience: &str) -> Result<Self, InvalidConfig> {
        let name = "regional_cred_verification_url";
        let verification_url = fields.text(name)?.to_owned();
        if !verification_url.starts_with("https://sts.") {
            return Err(fields.wrong(name, "it must start with https://sts."));
        }
        let metadata = |name: &str| {
            let Some(text) = fields.optional(name)? else { return Ok(None) };
            let url = any_url(&fields.name(name), text)?;
            match url.host() {
                Some("169.254.169.254" | "[fd00:ec2::254]") => Ok(Some(url)),
                _ => Err(fields.wrong(name, "its host must be 169.254.169.254 or [fd00:ec2::254]")),
            }
        };
        let (region_url, session_url) = (metadata("region_url")?, metadata("imdsv2_session_token_url")?);
        Ok(Self { audience: audience.to_owned(), verification_url, region_url, session_url })
    }

    pub(super) async fn read(&self, state: &State) -> Result<String, SourceError> {
        let region = self.region(&state.machine).await?;
        let credentials = credentials(state)?;
        let token = match credentials.current() {
            Some(token) => token,
            None => credentials.get().await.map_err(|error| SourceError::new(error.to_string()))?,
        };
        let Identity::Aws(keys) = &token.identity else {
            return Err(SourceError::setup("Google needs a pair of AWS keys, and found a bearer key"));
        };
        self.token(keys, &region, credentials.signing_time())
    }

    /// Returns the subject token: a signed request, as JSON and encoded as in a query.
    fn token(&self, keys: &AwsKeys, region: &str, time: SystemTime) -> Result<String, SourceError> {
        let unusable = |problem: &str| {
            SourceError::setup(format!("`regional_cred_verification_url` or the audience cannot be used: {problem}"))
        };
        let url = self.verification_url.replace("{region}", region);
        let uri = any_url("regional_cred_verification_url", &url)?;
        let mut request = Request::new(RequestBody::from(""));
        let host = uri.authority().map(|host| host.as_str().to_owned()).unwrap_or_default();
        *request.method_mut() = Method::POST;
        *request.uri_mut() = uri;
        for (name, text) in [(HOST, &host), (TARGET, &self.audience)] {
            let value = HeaderValue::from_str(text).map_err(|_| unusable("it has letters that no header has"))?;
            request.headers_mut().insert(name, value);
        }
        sigv4::sign_for_google(&mut request, keys, region, "sts", time).map_err(|_| unusable("it cannot be signed"))?;
        let headers: Vec<_> = request.headers().iter().map(header).collect();
        Ok(fetch::encoded(&json!({ "url": url, "method": "POST", "headers": headers }).to_string()))
    }

    /// Returns the region: the environment's, or the instance's.
    async fn region(&self, machine: &Machine) -> Result<String, SourceError> {
        if let Some(region) = aws::region::of(machine)? {
            return Ok(region);
        }
        let Some(url) = &self.region_url else {
            return Err(SourceError::setup("AWS_REGION is not set, and `credential_source` has no `region_url`"));
        };
        let who = "the metadata of the EC2 instance";
        let advice = |_: &_| Cow::Borrowed("set AWS_REGION, or allow version 2 of the instance metadata");
        let mut call = Call::get(who, url);
        if let Some(url) = &self.session_url {
            let session = Call::put(who, url).header(SESSION_LIFE, Cow::Borrowed("300"))?;
            let answer = session.send(machine.metadata()).await?;
            let session = answer.text().map_err(|failure| failure.advise(advice))?.trim().to_owned();
            call = call.header(SESSION, session.into())?;
        }
        let answer = call.send(machine.metadata()).await?;
        let zone = answer.text().map_err(|failure| failure.advise(advice))?.trim();
        // `us-east-1b` is a zone of `us-east-1`.
        let region = zone.trim_end_matches(|letter: char| letter.is_ascii_lowercase()).to_owned();
        aws::region::check(&region)
            .map_err(|problem| SourceError::new(format!("{who} names no zone: {problem}; set AWS_REGION")))?;
        Ok(region)
    }
}

/// Returns AWS's default chain, without Bedrock's bearer key, which signs nothing.
fn credentials(state: &State) -> Result<&Credentials, SourceError> {
    if let Some(credentials) = state.aws.get() {
        return Ok(credentials);
    }
    let machine = state.machine.clone();
    let without = machine.clone().variables(move |name| match name {
        "AWS_BEARER_TOKEN_BEDROCK" => Ok(None),
        name => machine.variable(name),
    });
    let credentials = aws::default_chain(&without)?;
    Ok(state.aws.get_or_init(|| credentials))
}

/// Returns a header as Google wants it. Names are in lower case but one, as AWS's own tools write them.
fn header((name, value): (&HeaderName, &HeaderValue)) -> serde_json::Value {
    let name = if name == "authorization" { "Authorization" } else { name.as_str() };
    json!({ "key": name, "value": value.to_str().unwrap_or_default() })
}

const TARGET: HeaderName = HeaderName::from_static("x-goog-cloud-target-resource");
const SESSION: HeaderName = HeaderName::from_static("x-aws-ec2-metadata-token");
const SESSION_LIFE: HeaderName = HeaderName::from_static("x-aws-ec2-metadata-token-ttl-seconds");

#[cfg(test)]
mod tests {
    use std::time::{Duration, UNIX_EPOCH};

    use serde_json::Value;

    use super::*;
    use crate::credentials::{Token, oauth::testing::decoded};

    #[test]
    fn the_signature_is_that_of_botocore() {
        // `testdata/aws.py` printed them.
        for (session, signed, signature) in [
            (
                Some("session+token/s3cr3t=="),
                "host;x-amz-date;x-amz-security-token;x-goog-cloud-target-resource",
                "f608fefd0d603113609879a80e2a739172c97f0e1dfccbfdc48dba1093d57b77",
            ),
            (
                None,
                "host;x-amz-date;x-goog-cloud-target-resource",
                "53b13efb3fcabd9c05e5a3aab1d8efddaf05a506914150017971a9a91bcb8599",
            ),
        ] {
            let audience = "//iam.googleapis.com/projects/1/locations/global/workloadIdentityPools/pool/providers/aws";
            let url = "https://sts.{region}.amazonaws.com?Action=GetCallerIdentity&Version=2011-06-15";
            let (audience, verification_url) = (audience.to_owned(), url.to_owned());
            let subject =
                AwsSubject { audience: audience.clone(), verification_url, region_url: None, session_url: None };
            let Identity::Aws(keys) = Token::aws("AKIDEXAMPLE", "s3cr3t-key", session.map(Into::into)).identity else {
                panic!("keys");
            };
            // 2026-11-22T21:04:05Z
            let time = UNIX_EPOCH + Duration::from_secs(1_795_381_445);
            let token = subject.token(&keys, "eu-west-1", time).unwrap();
            let token: Value = serde_json::from_str(&decoded(&token)).unwrap();
            assert_eq!(token["url"], url.replace("{region}", "eu-west-1"));
            assert_eq!(token["method"], "POST");
            let header = |name: &str| {
                let headers = token["headers"].as_array().unwrap();
                let found = headers.iter().find(|header| header["key"] == name);
                found.map(|header| header["value"].as_str().unwrap())
            };
            let scope = "AKIDEXAMPLE/20261122/eu-west-1/sts/aws4_request";
            let wanted = format!("AWS4-HMAC-SHA256 Credential={scope}, SignedHeaders={signed}, Signature={signature}");
            assert_eq!(header("Authorization"), Some(&*wanted));
            assert_eq!(header("host"), Some("sts.eu-west-1.amazonaws.com"));
            assert_eq!(header("x-amz-date"), Some("20261122T210405Z"));
            assert_eq!(header("x-amz-security-token"), session);
            assert_eq!(header("x-goog-cloud-target-resource"), Some(&*audience));
        }
    }
}
