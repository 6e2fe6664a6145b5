//! Signatures of requests to AWS, version 4.
//!
//! The rules are those of AWS's page [Create a signed AWS API
//! request](https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_sigv-create-signed-request.html). The tests
//! below are vectors of AWS's own suite; the package `tests/aws` compares with the crate `aws-sigv4`.

use std::time::{SystemTime, UNIX_EPOCH};

use http::{
    HeaderMap, HeaderName, HeaderValue, Request, Uri,
    header::{AUTHORIZATION, CONTENT_TYPE, HOST},
};
use ring::{digest, hmac};

use super::AwsKeys;
use crate::{
    ErrorKind, LlmError,
    internal::{hex, wall_clock},
    protocol::RequestBody,
};

const ALGORITHM: &str = "AWS4-HMAC-SHA256";
const DATE: HeaderName = HeaderName::from_static("x-amz-date");
const SECURITY_TOKEN: HeaderName = HeaderName::from_static("x-amz-security-token");
const CONTENT_SHA256: HeaderName = HeaderName::from_static("x-amz-content-sha256");
/// The prefixes of headers that AWS and Google want signed.
const PREFIXES: [&str; 2] = ["x-amz-", "x-goog-"];

/// Signs a request: its method, path, query, body, and the headers `host`, `content-type`, `x-amz-*` and `x-goog-*`.
///
/// Sets `authorization`, `x-amz-date`, `x-amz-content-sha256` and, for temporary keys, `x-amz-security-token`. A change
/// of the signed parts after this breaks the signature. The path is encoded once more than it is sent, as all services
/// but S3 want it.
pub(crate) fn sign(
    request: &mut Request<RequestBody>,
    keys: &AwsKeys,
    region: &str,
    service: &str,
    time: SystemTime,
) -> Result<(), LlmError> {
    sign_parts(request, keys, region, service, time, true)
}

/// Signs a request that Google sends on to AWS: without `x-amz-content-sha256`, which Google does not name.
pub(crate) fn sign_for_google(
    request: &mut Request<RequestBody>,
    keys: &AwsKeys,
    region: &str,
    service: &str,
    time: SystemTime,
) -> Result<(), LlmError> {
    sign_parts(request, keys, region, service, time, false)
}

fn sign_parts(
    request: &mut Request<RequestBody>,
    keys: &AwsKeys,
    region: &str,
    service: &str,
    time: SystemTime,
    has_body_hash: bool,
) -> Result<(), LlmError> {
    let host = host(request).ok_or_else(|| unsignable("the address has no host"))?;
    let body_hash = {
        let mut hash = digest::Context::new(&digest::SHA256);
        request.body().chunks().for_each(|chunk| hash.update(chunk));
        hex::encode(hash.finish().as_ref())
    };
    let date = date(time);
    let headers = request.headers_mut();
    headers.insert(DATE, value(&date)?);
    if has_body_hash {
        headers.insert(CONTENT_SHA256, value(&body_hash)?);
    }
    headers.remove(SECURITY_TOKEN);
    if let Some(session) = &keys.session {
        headers.insert(SECURITY_TOKEN, secret(session)?);
    }
    let signed = signed_headers(request.headers(), host);
    let scope = Scope { date: &date, region, service };
    let canonical = canonical_request(request, &signed, &body_hash);
    let signature = scope.signature(&keys.secret, &canonical);
    let (id, names) = (&keys.id, names(&signed));
    let authorization = format!("{ALGORITHM} Credential={id}/{scope}, SignedHeaders={names}, Signature={signature}");
    request.headers_mut().insert(AUTHORIZATION, secret(&authorization)?);
    Ok(())
}

/// The date, region and service that a signature is for.
struct Scope<'a> {
    /// In the form `20150830T123600Z`.
    date: &'a str,
    region: &'a str,
    service: &'a str,
}

impl Scope<'_> {
    fn day(&self) -> &str {
        self.date.split('T').next().unwrap_or_default()
    }

    /// Returns the signature of a canonical request.
    fn signature(&self, secret: &str, canonical: &[u8]) -> String {
        let hash = hex::encode(digest::digest(&digest::SHA256, canonical).as_ref());
        let text = format!("{ALGORITHM}\n{}\n{self}\n{hash}", self.date);
        let parts = [self.day(), self.region, self.service, "aws4_request", &text];
        let first = format!("AWS4{secret}").into_bytes();
        let last = parts.iter().fold(first, |key, part| {
            let key = hmac::Key::new(hmac::HMAC_SHA256, &key);
            hmac::sign(&key, part.as_bytes()).as_ref().to_vec()
        });
        hex::encode(&last)
    }
}

impl std::fmt::Display for Scope<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}/{}/aws4_request", self.day(), self.region, self.service)
    }
}

/// The names and canonical values of the signed headers, in order.
type SignedHeaders = Vec<(String, Vec<u8>)>;

fn signed_headers(headers: &HeaderMap, host: Vec<u8>) -> SignedHeaders {
    let is_ours = |name: &HeaderName| PREFIXES.iter().any(|prefix| name.as_str().starts_with(prefix));
    let is_signed = |name: &&HeaderName| *name == CONTENT_TYPE || is_ours(name);
    let mut signed: SignedHeaders = headers
        .keys()
        .filter(is_signed)
        .map(|name| {
            let values: Vec<Vec<u8>> = headers.get_all(name).iter().map(|value| trimmed(value.as_bytes())).collect();
            (name.as_str().to_owned(), values.join(&b','))
        })
        .collect();
    signed.push((HOST.as_str().to_owned(), host));
    signed.sort_unstable();
    signed
}

fn names(signed: &SignedHeaders) -> String {
    signed.iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>().join(";")
}

fn canonical_request<B>(request: &Request<B>, signed: &SignedHeaders, body_hash: &str) -> Vec<u8> {
    let (path, query) = (path(request.uri().path()), query(request.uri().query().unwrap_or_default()));
    let mut canonical = format!("{}\n{path}\n{query}\n", request.method()).into_bytes();
    for (name, value) in signed {
        canonical.extend_from_slice(name.as_bytes());
        canonical.push(b':');
        canonical.extend_from_slice(value);
        canonical.push(b'\n');
    }
    canonical.extend_from_slice(format!("\n{}\n{body_hash}", names(signed)).as_bytes());
    canonical
}

/// Returns the host as the transport sends it: without the port that its scheme has by default.
fn host<B>(request: &Request<B>) -> Option<Vec<u8>> {
    if let Some(host) = request.headers().get(HOST) {
        return Some(trimmed(host.as_bytes()));
    }
    let uri: &Uri = request.uri();
    let host = uri.host().filter(|host| !host.is_empty())?;
    let port =
        uri.port_u16().filter(|port| !matches!((uri.scheme_str(), port), (Some("http"), 80) | (Some("https"), 443)));
    Some(port.map_or_else(|| host.to_owned(), |port| format!("{host}:{port}")).into_bytes())
}

/// Returns the path without empty segments and dots, encoded once more.
fn path(path: &str) -> String {
    let mut segments: Vec<&str> = Vec::new();
    for segment in path.split('/') {
        match segment {
            "" | "." => {}
            ".." => drop(segments.pop()),
            segment => segments.push(segment),
        }
    }
    let mut canonical = String::with_capacity(path.len() + 16);
    for segment in &segments {
        canonical.push('/');
        encode(segment.as_bytes(), &mut canonical);
    }
    let is_folder = ["/", "/.", "/.."].iter().any(|end| path.ends_with(end));
    if segments.is_empty() || is_folder {
        canonical.push('/');
    }
    canonical
}

/// Returns the query's parameters in order, decoded and encoded again.
fn query(query: &str) -> String {
    let encoded = |text: &str| {
        let mut encoded = String::with_capacity(text.len());
        encode(&decode(text), &mut encoded);
        encoded
    };
    let parameters = query.split('&').filter(|parameter| !parameter.is_empty());
    let mut parameters: Vec<(String, String)> = parameters
        .map(|parameter| parameter.split_once('=').unwrap_or((parameter, "")))
        .map(|(name, value)| (encoded(name), encoded(value)))
        .collect();
    parameters.sort_unstable();
    parameters.iter().map(|(name, value)| format!("{name}={value}")).collect::<Vec<_>>().join("&")
}

/// Percent-encodes all bytes but RFC 3986's unreserved ones.
pub(super) fn encode(bytes: &[u8], to: &mut String) {
    const DIGITS: &[u8; 16] = b"0123456789ABCDEF";
    for byte in bytes {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => to.push((*byte).into()),
            _ => {
                let digit = |value: u8| char::from(DIGITS[usize::from(value)]);
                to.extend(['%', digit(byte >> 4), digit(byte & 15)]);
            }
        }
    }
}

/// Decodes a part of a query. What is no escape stays.
fn decode(text: &str) -> Vec<u8> {
    let bytes = text.as_bytes();
    let digit = |at: usize| bytes.get(at).and_then(|byte| char::from(*byte).to_digit(16));
    let mut decoded = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while let Some(byte) = bytes.get(at) {
        match (byte, digit(at + 1), digit(at + 2)) {
            (b'%', Some(high), Some(low)) => {
                decoded.push((high << 4 | low) as u8);
                at += 2;
            }
            (b'+', ..) => decoded.push(b' '),
            _ => decoded.push(*byte),
        }
        at += 1;
    }
    decoded
}

/// Removes the spaces around a header's value, and all but one of those in a row.
fn trimmed(value: &[u8]) -> Vec<u8> {
    let mut trimmed = Vec::with_capacity(value.len());
    for byte in value {
        if *byte != b' ' || trimmed.last().is_some_and(|last| *last != b' ') {
            trimmed.push(*byte);
        }
    }
    if trimmed.last() == Some(&b' ') {
        trimmed.pop();
    }
    trimmed
}

/// Returns a time in the form `20150830T123600Z`.
fn date(time: SystemTime) -> String {
    let since_1970 = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    let whole = std::time::Duration::from_secs(since_1970.as_secs());
    wall_clock::rfc3339(whole).replace(['-', ':'], "")
}

fn value(text: &str) -> Result<HeaderValue, LlmError> {
    HeaderValue::from_str(text)
        .map_err(|_| unsignable("a region, service or key has a character that no header allows"))
}

fn secret(text: &str) -> Result<HeaderValue, LlmError> {
    let mut value = value(text)?;
    value.set_sensitive(true);
    Ok(value)
}

fn unsignable(problem: &'static str) -> LlmError {
    LlmError::new(ErrorKind::Credentials, format!("the request cannot be signed: {problem}"))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const SECRET: &str = "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY";
    const DAY: &str = "20150830T123600Z";
    const SCOPE: Scope<'_> = Scope { date: DAY, region: "us-east-1", service: "service" };
    const EMPTY: &str = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

    /// Signs the request of a vector, which has the headers to be signed.
    fn signature(method: &str, uri: &str, headers: &[(&str, &str)]) -> String {
        let uri = format!("https://example.amazonaws.com{uri}");
        let request = Request::builder().method(method).uri(uri).body(()).unwrap();
        let mut signed: SignedHeaders =
            headers.iter().map(|(name, value)| ((*name).to_owned(), trimmed(value.as_bytes()))).collect();
        signed.push(("host".to_owned(), host(&request).unwrap()));
        signed.push(("x-amz-date".to_owned(), DAY.into()));
        signed.sort_unstable();
        SCOPE.signature(SECRET, &canonical_request(&request, &signed, EMPTY))
    }

    /// The vectors are from `aws-sig-v4-test-suite`, which AWS publishes with its SDKs.
    #[test]
    fn signatures_are_those_of_awss_vectors() {
        let session = "6e86291e8372ff2a2260956d9b8aae1d763fbf315fa00fa31553b73ebf194267";
        let trim: &[_] = &[("my-header1", " value1"), ("my-header2", " \"a   b   c\"")];
        type Vector<'a> = (&'a str, &'a str, &'a [(&'a str, &'a str)], &'a str);
        let vectors: [Vector<'_>; 4] = [
            ("GET", "/", &[], "5fa00fa31553b73ebf1942676e86291e8372ff2a2260956d9b8aae1d763fbf31"),
            ("POST", "/", &[], "5da7c1a2acd57cee7505fc6676e4e544621c30862966e37dddb68e92efbe5d6b"),
            ("GET", "/", trim, "acc3ed3afb60bb290fc8d2dd0098b9911fcaa05412b367055dee359757a9c736"),
            (
                "GET",
                "/",
                &[("x-amz-security-token", session)],
                "07ec1639c89043aa0e3e2de82b96708f198cceab042d4a97044c66dd9f74e7f8",
            ),
        ];
        for (method, uri, headers, expected) in vectors {
            assert_eq!(signature(method, uri, headers), expected, "{method} {uri} {headers:?}");
        }
    }

    #[test]
    fn the_parameters_of_a_query_are_sorted_by_their_encoded_form() {
        assert_eq!(query("b=2&a=1&a=0&&c"), "a=0&a=1&b=2&c=");
        assert_eq!(
            query("Param-3=Value3&Param=Value2&%E1%88%B4=Value1"),
            "%E1%88%B4=Value1&Param=Value2&Param-3=Value3"
        );
        assert_eq!(query("a=%2f+%zz"), "a=%2F%20%25zz");
    }

    #[test]
    fn a_path_is_normalized_and_encoded_once_more() {
        for (sent, expected) in [
            ("/", "/"),
            ("", "/"),
            ("//a//b/./c/../d/", "/a/b/d/"),
            ("/..", "/"),
            ("/model/us.anthropic.claude%3A0/invoke", "/model/us.anthropic.claude%253A0/invoke"),
            ("/model/a:0/invoke", "/model/a%3A0/invoke"),
        ] {
            assert_eq!(path(sent), expected, "{sent}");
        }
    }

    #[test]
    fn a_signed_request_names_its_headers_and_hides_its_secrets() {
        let mut request = Request::post("https://bedrock.example:443/model/a%3A0/invoke")
            .header("content-type", "application/json")
            .header("user-agent", "any")
            .body(RequestBody::from("{}"))
            .unwrap();
        let keys = AwsKeys { id: "AKID".into(), secret: "secret".into(), session: Some("session".into()) };
        let time = UNIX_EPOCH + Duration::from_millis(1_440_938_160_999);
        sign(&mut request, &keys, "eu-west-1", "bedrock", time).unwrap();
        let headers = request.headers();
        assert_eq!(headers["x-amz-date"], DAY);
        let authorization = headers[AUTHORIZATION].to_str().unwrap();
        let start = "AWS4-HMAC-SHA256 Credential=AKID/20150830/eu-west-1/bedrock/aws4_request, \
                     SignedHeaders=content-type;host;x-amz-content-sha256;x-amz-date;x-amz-security-token, Signature=";
        assert!(authorization.starts_with(start), "{authorization}");
        assert!(headers[AUTHORIZATION].is_sensitive() && headers["x-amz-security-token"].is_sensitive());
        let before = headers.clone();
        sign(&mut request, &keys, "eu-west-1", "bedrock", time).unwrap();
        assert_eq!(*request.headers(), before, "a second signature replaces the first");
    }

    #[test]
    fn a_region_that_no_header_allows_is_an_error() {
        let mut request = Request::new(RequestBody::default());
        *request.uri_mut() = Uri::from_static("https://a.example/");
        let keys = AwsKeys { id: "AKID".into(), secret: "secret".into(), session: None };
        let error = sign(&mut request, &keys, "eu\n", "bedrock", UNIX_EPOCH).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Credentials);
        *request.uri_mut() = Uri::from_static("/");
        assert!(sign(&mut request, &keys, "eu", "bedrock", UNIX_EPOCH).is_err());
    }
}
