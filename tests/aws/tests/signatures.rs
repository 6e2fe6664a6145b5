//! Signatures of requests beside those of the crate `aws-sigv4`.
//!
//! Both sign the same requests with the settings that AWS's SDKs have for all services but S3: the path encoded twice,
//! the hash of the body in a header. The requests are random, from a seed.

use std::time::{Duration, SystemTime};

use aws_credential_types::Credentials;
use aws_sigv4::{
    http_request::{PayloadChecksumKind, SignableBody, SignableRequest, SigningSettings, sign},
    sign::v4,
};
use fastrand::Rng;
use http::Request;
use steadfast::providers::{
    credentials::{Token, aws},
    http::RequestBody,
};

const REQUESTS: u64 = 10_000;

/// A random request's parts.
#[derive(Debug)]
struct Parts {
    method: &'static str,
    uri: String,
    headers: Vec<(String, String)>,
    body: Vec<u8>,
    id: String,
    secret: String,
    session: Option<String>,
    region: &'static str,
    service: &'static str,
    time: SystemTime,
}

fn text(rng: &mut Rng, alphabet: &[char], longest: usize) -> String {
    (0..rng.usize(..=longest)).map(|_| alphabet[rng.usize(..alphabet.len())]).collect()
}

fn letters(text: &str) -> Vec<char> {
    text.chars().collect()
}

/// Percent-encodes some letters, as a client may: in either case, and also those that need no escape.
fn escaped(rng: &mut Rng, text: &str, keep: &str) -> String {
    let mut escaped = String::new();
    for letter in text.chars() {
        if keep.contains(letter) && rng.u8(..10) > 0 {
            escaped.push(letter);
            continue;
        }
        for byte in letter.to_string().bytes() {
            escaped += &if rng.bool() { format!("%{byte:02X}") } else { format!("%{byte:02x}") };
        }
    }
    escaped
}

const UNRESERVED: &str = "ABCxyz019-._~";
/// Letters that a URL has in a path as they are.
const IN_PATH: &str = "ABCxyz019-._~!$&'()*+,;=:@/";
/// Letters that a URL has in a query as they are, but for those that separate parameters.
const IN_QUERY: &str = "ABCxyz019-._~!$'()*,;:@/?+";
const ODD: &str = " %\"<>^`{}|\\#?[]éሴ😀\u{7f}\t";

fn parts(rng: &mut Rng) -> Parts {
    let path = letters(&(IN_PATH.to_owned() + ODD + "//..::%%"));
    let query = letters(&(IN_QUERY.to_owned() + ODD + "&="));
    let host = ["bedrock-runtime.eu-west-1.amazonaws.com", "sts.amazonaws.com", "localhost:8080", "[::1]:443", "a:443"];
    let mut uri = format!("https://{}/", host[rng.usize(..host.len())]);
    let inner = text(rng, &path, 40);
    uri += &escaped(rng, &inner, IN_PATH);
    if rng.bool() {
        uri.push('?');
        for place in 0..rng.usize(..6) {
            uri += if place > 0 { "&" } else { "" };
            let (name, value) = (text(rng, &query, 8), text(rng, &query, 12));
            uri += &escaped(rng, &name, IN_QUERY);
            uri += ["=", "", "=="][rng.usize(..3)];
            uri += &escaped(rng, &value, IN_QUERY);
        }
    }
    let visible = letters(&(UNRESERVED.to_owned() + "!\"#$%&'()*+,/:;<=>?@[]^`{|}   "));
    let mut headers = Vec::new();
    if rng.bool() {
        headers.push(("content-type".to_owned(), "application/json; charset=utf-8".to_owned()));
    }
    for _ in 0..rng.usize(..4) {
        let name = format!("x-amz-{}", text(rng, &letters("abcdefgh-0"), 6));
        headers.push((name, text(rng, &visible, 20)));
    }
    let key = letters("ABCDEFGHIJKLMNOPQRSTUVWXYZ234567");
    let secret = letters("ABCxyz019+/=");
    Parts {
        method: ["GET", "POST", "PUT", "DELETE"][rng.usize(..4)],
        uri,
        headers,
        body: (0..rng.usize(..200)).map(|_| rng.u8(..)).collect(),
        id: format!("AKIA{}", text(rng, &key, 16)),
        secret: format!("s{}", text(rng, &secret, 40)),
        session: rng.bool().then(|| format!("t{}", text(rng, &secret, 300))),
        region: ["us-east-1", "eu-central-1", "cn-north-1", "us-gov-west-1"][rng.usize(..4)],
        service: ["bedrock", "bedrock-mantle", "sts"][rng.usize(..3)],
        time: SystemTime::UNIX_EPOCH + Duration::from_millis(rng.u64(..4_102_444_800_000)),
    }
}

/// Returns the headers that AWS's crate adds.
fn theirs(parts: &Parts) -> Vec<(String, String)> {
    let credentials = Credentials::new(&parts.id, &parts.secret, parts.session.clone(), None, "test");
    let identity = credentials.into();
    let mut settings = SigningSettings::default();
    settings.payload_checksum_kind = PayloadChecksumKind::XAmzSha256;
    let params = v4::SigningParams::builder()
        .identity(&identity)
        .region(parts.region)
        .name(parts.service)
        .time(parts.time)
        .settings(settings)
        .build()
        .unwrap();
    let headers = parts.headers.iter().map(|(name, value)| (&**name, &**value));
    let request = SignableRequest::new(parts.method, &parts.uri, headers, SignableBody::Bytes(&parts.body)).unwrap();
    let (instructions, _) = sign(request, &params.into()).unwrap().into_parts();
    let mut added: Vec<_> = instructions.headers().map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
    added.sort();
    added
}

/// Returns the headers that steadfast adds.
fn ours(parts: &Parts) -> Vec<(String, String)> {
    let mut request = Request::builder().method(parts.method).uri(&parts.uri);
    for (name, value) in &parts.headers {
        request = request.header(name, value);
    }
    let mut request = request.body(RequestBody::from(parts.body.clone())).unwrap();
    let token = Token::aws(&*parts.id, &*parts.secret, parts.session.as_deref().map(Into::into));
    aws::sign(&mut request, &token, parts.region, parts.service, parts.time).unwrap();
    let names = ["authorization", "x-amz-content-sha256", "x-amz-date", "x-amz-security-token"];
    let value = |name| Some((String::from(name), request.headers().get(name)?.to_str().unwrap().to_owned()));
    names.into_iter().filter_map(value).collect()
}

#[test]
fn ten_thousand_requests_have_the_same_signature() {
    let mut signed = 0;
    let mut rng = Rng::with_seed(21);
    while signed < REQUESTS {
        let parts = parts(&mut rng);
        // Some letters make no URL; neither signs those.
        if parts.uri.parse::<http::Uri>().is_err() {
            continue;
        }
        signed += 1;
        assert_eq!(ours(&parts), theirs(&parts), "{parts:?}");
    }
}
