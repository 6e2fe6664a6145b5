//! Keys from addresses of metadata: a container's, and an instance's.

use http::{HeaderMap, HeaderValue, Request, StatusCode, Uri, header, uri::Authority};
use std::{net::IpAddr, path::Path, time::Duration};

use crate::{
    InvalidConfig,
    credentials::{Machine, Source, SourceError, Token, TokenFuture, date, fetch, machine, output},
    protocol::RequestBody,
};

/// The address of ECS's agent.
const ECS: &str = "http://169.254.170.2";
/// The hosts beside loopback that a container's credentials may come from over plain HTTP: those of ECS and EKS.
const CONTAINER_HOSTS: [&str; 3] = ["169.254.170.2", "169.254.170.23", "fd00:ec2::23"];
const IPV4: &str = "http://169.254.169.254";
const IPV6: &str = "http://[fd00:ec2::254]";
/// The longest time for one answer of metadata. On other machines nothing answers there.
const LIMIT: Duration = Duration::from_secs(2);
/// The life of the session that instance metadata requires, in seconds: the longest.
const SESSION: &str = "21600";

/// The credentials of a container: of ECS's task role, or EKS's Pod Identity.
///
/// The rules are those of [Container credential
/// provider](https://docs.aws.amazon.com/sdkref/latest/guide/feature-container-credentials.html).
pub(super) struct Container {
    machine: Machine,
}

impl Container {
    pub(super) fn new(machine: &Machine) -> Self {
        Self { machine: machine.clone() }
    }

    /// Returns the address; `None` if this is no such container.
    pub(super) fn address(&self) -> Result<Option<Uri>, InvalidConfig> {
        let (relative, full) = ("AWS_CONTAINER_CREDENTIALS_RELATIVE_URI", "AWS_CONTAINER_CREDENTIALS_FULL_URI");
        if let Some(path) = self.machine.variable(relative)? {
            let uri = if path.starts_with('/') { format!("{ECS}{path}") } else { String::new() };
            return uri
                .parse()
                .map(Some)
                .map_err(|_| InvalidConfig::new(relative, "it is no path that begins with `/`"));
        }
        let Some(address) = self.machine.variable(full)? else { return Ok(None) };
        let wrong = |problem| InvalidConfig::new(full, problem);
        let uri: Uri = address.parse().map_err(|_| wrong("it is no URL"))?;
        let host = uri.host().ok_or_else(|| wrong("it has no host"))?.trim_matches(['[', ']']);
        let is_loopback = host == "localhost" || host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback());
        if uri.scheme_str() == Some("https") || is_loopback || CONTAINER_HOSTS.contains(&host) {
            return Ok(Some(uri));
        }
        Err(wrong("plain http is for loopback, ECS's and EKS's addresses only; use https"))
    }

    async fn authorization(&self) -> Result<Option<HeaderValue>, SourceError> {
        let (file, text) = ("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE", "AWS_CONTAINER_AUTHORIZATION_TOKEN");
        let (name, token) = match self.machine.variable(file)? {
            Some(path) => {
                let token = machine::read_file(Path::new(&path)).await?;
                let missing = || SourceError::setup(format!("the file `{path}` of {file} is not there"));
                (file, Some(token.ok_or_else(missing)?))
            }
            None => (text, self.machine.variable(text)?),
        };
        let Some(token) = token else { return Ok(None) };
        let mut value = HeaderValue::from_str(token.trim())
            .map_err(|_| SourceError::setup(format!("the token of {name} has a character that no header allows")))?;
        value.set_sensitive(true);
        Ok(Some(value))
    }

    pub(super) async fn keys(&self) -> Result<Token, SourceError> {
        const WHO: &str = "the container's credentials endpoint";
        let Some(uri) = self.address()? else {
            return Err(SourceError::absent("neither AWS_CONTAINER_CREDENTIALS_RELATIVE_URI nor _FULL_URI is set"));
        };
        let mut request = Request::new(RequestBody::default());
        *request.uri_mut() = uri;
        request.headers_mut().insert(header::ACCEPT, HeaderValue::from_static("application/json"));
        if let Some(authorization) = self.authorization().await? {
            request.headers_mut().insert(header::AUTHORIZATION, authorization);
        }
        let (status, headers, body) = fetch::ask(self.machine.metadata(), request, WHO).await?;
        read_keys(status, &headers, &body, WHO)
    }
}

impl Source for Container {
    fn name(&self) -> String {
        "the AWS credentials of the container".to_owned()
    }

    fn fetch(&self) -> TokenFuture<'_> {
        Box::pin(self.keys())
    }
}

/// The credentials of an EC2 instance's role, by version 2 of its metadata.
///
/// The rules are those of [IMDS credential
/// provider](https://docs.aws.amazon.com/sdkref/latest/guide/feature-imds-credentials.html).
pub(super) struct InstanceMetadata {
    machine: Machine,
}

impl InstanceMetadata {
    const WHO: &str = "the EC2 instance metadata";

    pub(super) fn new(machine: &Machine) -> Self {
        Self { machine: machine.clone() }
    }

    /// Returns the address; `None` if it is switched off.
    pub(super) fn address(&self) -> Result<Option<String>, InvalidConfig> {
        if self.machine.variable("AWS_EC2_METADATA_DISABLED")?.is_some_and(|value| value.eq_ignore_ascii_case("true")) {
            return Ok(None);
        }
        let endpoint = "AWS_EC2_METADATA_SERVICE_ENDPOINT";
        if let Some(address) = self.machine.variable(endpoint)? {
            let is_url = address.parse::<Uri>().is_ok_and(|uri| uri.authority().map(Authority::host).is_some());
            return match is_url {
                true => Ok(Some(address.trim_end_matches('/').to_owned())),
                false => Err(InvalidConfig::new(endpoint, "it is no URL; write it as http://host")),
            };
        }
        let name = "AWS_EC2_METADATA_SERVICE_ENDPOINT_MODE";
        match self.machine.variable(name)?.as_deref() {
            None => Ok(Some(IPV4.to_owned())),
            Some(mode) if mode.eq_ignore_ascii_case("ipv4") => Ok(Some(IPV4.to_owned())),
            Some(mode) if mode.eq_ignore_ascii_case("ipv6") => Ok(Some(IPV6.to_owned())),
            Some(_) => Err(InvalidConfig::new(name, "it is neither IPv4 nor IPv6")),
        }
    }

    async fn ask(&self, request: http::request::Builder) -> Result<(StatusCode, HeaderMap, bytes::Bytes), SourceError> {
        let request = request.body(RequestBody::default()).map_err(|_| {
            SourceError::setup("the metadata's address or the role's name does not fit into a URL; check both")
        })?;
        fetch::ask_within(LIMIT, self.machine.metadata(), request, Self::WHO).await
    }

    pub(super) async fn keys(&self) -> Result<Token, SourceError> {
        let Some(address) = self.address()? else {
            return Err(SourceError::absent("AWS_EC2_METADATA_DISABLED is true"));
        };
        let session = Request::put(format!("{address}/latest/api/token"));
        let asked = self.ask(session.header("x-aws-ec2-metadata-token-ttl-seconds", SESSION)).await;
        // Nothing there: this is no instance, or a container one hop too far from it.
        let (status, headers, body) = asked.map_err(|error| {
            let hint = "; on an instance in a container, set the metadata's hop limit to 2";
            SourceError::new(format!("{error}{hint}")).into_absent().with_source(error)
        })?;
        if let Some(page) = fetch::page(&headers, &body, Self::WHO) {
            return Err(page);
        }
        let session = str::from_utf8(&body).ok().and_then(|text| HeaderValue::from_str(text.trim()).ok());
        let Some(mut session) = session.filter(|session| status.is_success() && !session.is_empty()) else {
            return Err(unexpected(status, Self::WHO, "no session token"));
        };
        session.set_sensitive(true);
        let get = async |path: &str| {
            let request = Request::get(format!("{address}/latest/meta-data/iam/security-credentials/{path}"));
            self.ask(request.header("x-aws-ec2-metadata-token", session.clone())).await
        };
        let (status, headers, body) = get("").await?;
        if let Some(page) = fetch::page(&headers, &body, Self::WHO) {
            return Err(page);
        }
        let role = str::from_utf8(&body).ok().and_then(|text| text.lines().next()).map(str::trim).unwrap_or_default();
        if status == StatusCode::NOT_FOUND || status.is_success() && role.is_empty() {
            return Err(SourceError::absent("the EC2 instance has no IAM role; attach one"));
        }
        if !status.is_success() {
            return Err(unexpected(status, Self::WHO, "no name of a role"));
        }
        let (status, headers, body) = get(role).await?;
        read_keys(status, &headers, &body, Self::WHO)
    }
}

impl Source for InstanceMetadata {
    fn name(&self) -> String {
        "the AWS credentials of the EC2 instance".to_owned()
    }

    fn fetch(&self) -> TokenFuture<'_> {
        Box::pin(self.keys())
    }
}

/// Reads keys in JSON.
fn read_keys(status: StatusCode, headers: &HeaderMap, body: &[u8], who: &str) -> Result<Token, SourceError> {
    if let Some(page) = fetch::page(headers, body, who) {
        return Err(page);
    }
    if !status.is_success() {
        return Err(unexpected(status, who, "no keys"));
    }
    let keys = output::aws(body).map_err(|error| error.within(format!("the answer of {who}")))?;
    Ok(match keys.end {
        Some(end) => date::ending(keys.token, end, headers),
        None => keys.token,
    })
}

/// Returns the error of a status that is no success, or of a success without content.
fn unexpected(status: StatusCode, who: &str, content: &str) -> SourceError {
    let error = format!("{who} answered with status {} and {content}", status.as_u16());
    match status.as_u16() {
        401 | 403 => SourceError::setup(format!("{error}; check that this machine may use it")),
        400 | 404 | 405 => SourceError::setup(format!("{error}; check its address")),
        _ => SourceError::new(error),
    }
}
