//! AWS STS: keys of a role.
//!
//! The actions are those of the [API reference](https://docs.aws.amazon.com/STS/latest/APIReference/).

use std::{borrow::Cow, time::SystemTime};

use bytes::Bytes;
use http::{HeaderMap, Request, StatusCode, header};

use super::region;
use crate::{
    credentials::{AwsKeys, Machine, SourceError, Token, date, fetch, sigv4},
    internal::wall_clock,
    protocol::RequestBody,
};

const WHO: &str = "AWS STS";
/// The difference of clocks from which a refused request is signed again by the server's date.
const SMALLEST_SKEW: u64 = 60;

/// A role to assume.
#[derive(Clone, Debug)]
pub(super) struct Role {
    pub(super) arn: String,
    pub(super) session_name: Option<String>,
    pub(super) external_id: Option<String>,
    pub(super) seconds: Option<u32>,
    pub(super) region: Option<String>,
}

impl Role {
    fn form(&self, action: &str) -> Vec<(&'static str, Cow<'_, str>)> {
        let session_name = self.session_name.clone().map_or_else(
            // Unique enough to find the process in an audit trail.
            || format!("steadfast-{}", wall_clock::since_1970().as_millis()).into(),
            Cow::from,
        );
        let mut form = vec![
            ("Action", action.to_owned().into()),
            ("Version", "2011-06-15".into()),
            ("RoleArn", self.arn.as_str().into()),
            ("RoleSessionName", session_name),
        ];
        if let Some(seconds) = self.seconds {
            form.push(("DurationSeconds", seconds.to_string().into()));
        }
        form
    }

    /// Returns the address to ask: the region's own, as AWS recommends it.
    fn address(&self, machine: &Machine) -> Result<(String, String), SourceError> {
        let region = match &self.region {
            Some(region) => Some(region.clone()),
            None => region::of(machine)?,
        };
        let region = region.unwrap_or_else(|| "us-east-1".to_owned());
        region::check(&region).map_err(SourceError::setup)?;
        let address = match machine.variable("AWS_ENDPOINT_URL_STS")? {
            Some(address) => address,
            None => format!("https://sts.{region}.{}/", region::suffix(&region)),
        };
        Ok((address, region))
    }
}

/// Assumes a role with the keys of another identity.
pub(super) async fn assume_role(machine: &Machine, role: &Role, keys: &AwsKeys) -> Result<Token, SourceError> {
    let (address, region) = role.address(machine)?;
    let mut form = role.form("AssumeRole");
    if let Some(id) = &role.external_id {
        form.push(("ExternalId", id.as_str().into()));
    }
    let secrets = [Some(&*keys.secret), keys.session.as_deref()];
    let mut time = wall_clock::now();
    let mut is_first = true;
    loop {
        let mut request = post(&address, &form)?;
        sigv4::sign(&mut request, keys, &region, "sts", time).map_err(|error| SourceError::setup(error.to_string()))?;
        let (status, headers, body) = fetch::ask(machine.servers(), request, WHO).await?;
        // A clock that is wrong: the server has said the right time.
        if let Some(date) = fetch::date(&headers).filter(|date| is_first && !status.is_success() && differ(*date, time))
        {
            (time, is_first) = (date, false);
            continue;
        }
        return answer(status, &headers, &body, &role.arn, &secrets);
    }
}

fn differ(a: SystemTime, b: SystemTime) -> bool {
    let span = a.duration_since(b).unwrap_or_else(|earlier| earlier.duration());
    span.as_secs() >= SMALLEST_SKEW
}

/// Assumes a role with another provider's token, without keys.
pub(super) async fn assume_role_with_web_identity(
    machine: &Machine,
    role: &Role,
    identity: &str,
) -> Result<Token, SourceError> {
    let (address, _) = role.address(machine)?;
    let mut form = role.form("AssumeRoleWithWebIdentity");
    form.push(("WebIdentityToken", identity.into()));
    let (status, headers, body) = fetch::ask(machine.servers(), post(&address, &form)?, WHO).await?;
    answer(status, &headers, &body, &role.arn, &[Some(identity)])
}

fn post(address: &str, form: &[(&str, Cow<'_, str>)]) -> Result<Request<RequestBody>, SourceError> {
    Request::post(address)
        .header(header::CONTENT_TYPE, "application/x-www-form-urlencoded; charset=utf-8")
        .body(RequestBody::from(fetch::form(form)))
        .map_err(|_| SourceError::setup("AWS_ENDPOINT_URL_STS is no URL; write it as https://host"))
}

/// Reads an answer, in XML.
fn answer(
    status: StatusCode,
    headers: &HeaderMap,
    body: &Bytes,
    role: &str,
    secrets: &[Option<&str>],
) -> Result<Token, SourceError> {
    if let Some(page) = fetch::page(headers, body, WHO) {
        return Err(page);
    }
    let text = String::from_utf8_lossy(body);
    if !status.is_success() {
        let code = element(&text, "Code").unwrap_or_default();
        // The message of a wrong signature repeats what was signed.
        let message = element(&text, "Message").filter(|_| code != "SignatureDoesNotMatch");
        let refusal = fetch::refusal(WHO, status, &code, message.as_deref(), secrets);
        let hint = match &*code {
            "AccessDenied" => "; check the role's trust policy",
            "InvalidIdentityToken" | "ExpiredTokenException" => "; check the token's file and the identity provider",
            _ => "",
        };
        let error = format!("{refusal}{hint} (role `{role}`)");
        let is_passing = status.is_server_error()
            || matches!(status.as_u16(), 408 | 429)
            || matches!(&*code, "Throttling" | "ThrottlingException" | "IDPCommunicationError" | "RequestExpired");
        return Err(if is_passing { SourceError::new(error) } else { SourceError::setup(error) });
    }
    let missing = |name: &str| SourceError::new(format!("the answer of {WHO} has no `{name}`; check its address"));
    let credentials = element(&text, "Credentials").ok_or_else(|| missing("Credentials"))?;
    let get = |name: &str| element(&credentials, name).filter(|text| !text.is_empty()).ok_or_else(|| missing(name));
    let (id, secret) = (get("AccessKeyId")?, get("SecretAccessKey")?);
    let token = Token::aws(id, secret, Some(get("SessionToken")?.into()));
    let end = date::parse(&get("Expiration")?).ok_or_else(|| missing("Expiration` that is a date, `"))?;
    Ok(date::ending(token, end, headers))
}

/// Returns the text of the first element of this name.
fn element(xml: &str, name: &str) -> Option<String> {
    let after = xml.split_once(&format!("<{name}>"))?.1;
    let inner = after.split_once(&format!("</{name}>"))?.0.trim();
    if !inner.contains('&') {
        return Some(inner.to_owned());
    }
    let entities = [("&lt;", "<"), ("&gt;", ">"), ("&quot;", "\""), ("&apos;", "'"), ("&#39;", "'"), ("&amp;", "&")];
    Some(entities.iter().fold(inner.to_owned(), |text, (entity, letter)| text.replace(entity, letter)))
}
