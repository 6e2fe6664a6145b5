//! Verifies AWS Signature Version 4 (IAM user guide, "Create a signed AWS API request"): a second implementation,
//! which shares nothing with the one that signs.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use http::request::Parts;
use ring::{digest, hmac};

use crate::protocol::header;
use crate::refusal::Denial;
use steadfast_internal::hex;

/// A pair of keys that an account has.
#[derive(Clone, Debug)]
pub(super) struct Pair {
    pub(super) secret: String,
    pub(super) session: Option<String>,
    pub(super) expires: Option<SystemTime>,
}

/// The demands of a door on a signature.
#[derive(Debug)]
pub(super) struct Scope<'a> {
    pub(super) services: &'a [&'static str],
    /// `None`: the region is that of the signature.
    pub(super) region: Option<&'a str>,
    pub(super) now: SystemTime,
}

const ALGORITHM: &str = "AWS4-HMAC-SHA256";

/// The most by which a request's date may differ from the server's.
const SKEW: Duration = Duration::from_secs(300);

/// Returns true if a request is signed.
pub(super) fn is_signed(request: &Parts) -> bool {
    header(request, "authorization").is_some_and(|value| value.starts_with(ALGORITHM))
}

/// Verifies a signed request. Without a pair to compare with, only form, scope and date count: `pair` returns
/// `Ok(None)`.
pub(super) fn verify(
    request: &Parts,
    body: &[u8],
    scope: &Scope<'_>,
    pair: impl Fn(&str) -> Result<Option<Pair>, Denial>,
) -> Result<(), Denial> {
    let signed = Signed::parse(request).ok_or_else(|| {
        Denial::Signature(
            "Authorization header requires 'Credential', 'Signature' and 'SignedHeaders' parameters.".into(),
        )
    })?;
    let date = header(request, "x-amz-date").or_else(|| header(request, "date")).unwrap_or_default();
    let at = time_of(date).ok_or_else(|| {
        Denial::Signature("Date must be in ISO-8601 'basic format', in the header X-Amz-Date.".into())
    })?;
    let [day, region, service, "aws4_request"] = signed.scope[..] else {
        return Err(Denial::Signature("Credential must have exactly 5 slash-delimited elements.".into()));
    };
    if !date.starts_with(day) {
        let words = format!("Date in Credential scope does not match YYYYMMDD from ISO-8601 version of date: {date}.");
        return Err(Denial::Signature(words));
    }
    if scope.region.is_some_and(|asked| asked != region) {
        return Err(Denial::Signature("Credential should be scoped to a valid region.".into()));
    }
    if !scope.services.contains(&service) {
        let words = format!("Credential should be scoped to correct service: '{}'.", scope.services[0]);
        return Err(Denial::Signature(words));
    }
    let known = pair(signed.key)?;
    in_time(at, scope.now)?;
    let token = header(request, "x-amz-security-token");
    if let Some(pair) = &known {
        if pair.session.as_deref() != token {
            return Err(Denial::Unknown);
        }
        if pair.expires.is_some_and(|end| end <= scope.now) {
            return Err(Denial::Expired);
        }
    }
    let unsigned = request
        .headers
        .keys()
        .map(|name| name.as_str())
        .find(|name| (*name == "host" || name.starts_with("x-amz-")) && !signed.headers.contains(name));
    if let Some(name) = unsigned {
        return Err(Denial::Signature(format!("'{name}' must be a 'SignedHeader' in the AWS Authorization.")));
    }
    let hash = hex::encode(digest::digest(&digest::SHA256, body).as_ref());
    let wrong = || {
        Denial::Signature(
            "The request signature we calculated does not match the signature you provided. Check your AWS Secret \
             Access Key and signing method. Consult the service documentation for details."
                .into(),
        )
    };
    if header(request, "x-amz-content-sha256").is_some_and(|said| said != hash) {
        return Err(wrong());
    }
    let Some(pair) = known else { return Ok(()) };
    let canonical = canonical(request, &signed.headers, &hash).ok_or_else(wrong)?;
    let canonical = hex::encode(digest::digest(&digest::SHA256, canonical.as_bytes()).as_ref());
    let to_sign = format!("{ALGORITHM}\n{date}\n{}\n{canonical}", signed.scope.join("/"));
    let key = signed.scope.iter().fold(format!("AWS4{}", pair.secret).into_bytes(), |key, part| mac(&key, part));
    if hex::encode(&mac(&key, &to_sign)) == signed.signature { Ok(()) } else { Err(wrong()) }
}

/// The parts of a header `Authorization`.
struct Signed<'a> {
    key: &'a str,
    /// Day, region, service and `aws4_request`.
    scope: Vec<&'a str>,
    headers: Vec<&'a str>,
    signature: &'a str,
}

impl<'a> Signed<'a> {
    fn parse(request: &'a Parts) -> Option<Self> {
        let value = header(request, "authorization")?.strip_prefix(ALGORITHM)?;
        let part =
            |name: &str| value.split(',').map(str::trim).find_map(|part| part.strip_prefix(name)?.strip_prefix('='));
        let (key, scope) = part("Credential")?.split_once('/')?;
        let headers = part("SignedHeaders")?.split(';').collect();
        Some(Self { key, scope: scope.split('/').collect(), headers, signature: part("Signature")? })
    }
}

fn in_time(at: SystemTime, now: SystemTime) -> Result<(), Denial> {
    let (said, server) = (stamp(at), stamp(now));
    let words = if now.duration_since(at).is_ok_and(|late| late > SKEW) {
        let edge = stamp(now - SKEW);
        format!("Signature expired: {said} is now earlier than {edge} ({server} - 5 min.)")
    } else if at.duration_since(now).is_ok_and(|early| early > SKEW) {
        let edge = stamp(now + SKEW);
        format!("Signature not yet current: {said} is still later than {edge} ({server} + 5 min.)")
    } else {
        return Ok(());
    };
    Err(Denial::Signature(words))
}

/// Returns the canonical request; `None` if a signed header is not there.
fn canonical(request: &Parts, headers: &[&str], hash: &str) -> Option<String> {
    let mut canonical = format!("{}\n{}\n{}\n", request.method, path(request.uri.path()), query(request));
    for name in headers {
        let mut values = Vec::new();
        for value in request.headers.get_all(*name) {
            values.push(value.to_str().ok()?.split(' ').filter(|word| !word.is_empty()).collect::<Vec<_>>().join(" "));
        }
        if values.is_empty() {
            // HTTP/2 and transports in process have the host in the address.
            let host = request.uri.authority().filter(|_| *name == "host")?;
            values.push(host.as_str().to_owned());
        }
        canonical.push_str(&format!("{name}:{}\n", values.join(",")));
    }
    Some(format!("{canonical}\n{}\n{hash}", headers.join(";")))
}

/// Returns the path without `.`, `..` and empty segments, percent-encoded once more than it arrived.
fn path(path: &str) -> String {
    let mut segments: Vec<&str> = Vec::new();
    for segment in path.split('/') {
        match segment {
            "" | "." => {}
            ".." => drop(segments.pop()),
            segment => segments.push(segment),
        }
    }
    let end = if path.ends_with('/') && !segments.is_empty() { "/" } else { "" };
    let encoded: Vec<String> = segments.into_iter().map(encode).collect();
    format!("/{}{end}", encoded.join("/"))
}

fn query(request: &Parts) -> String {
    let query = request.uri.query().unwrap_or_default();
    let mut pairs: Vec<(String, String)> = query
        .split('&')
        .filter(|pair| !pair.is_empty())
        .map(|pair| pair.split_once('=').unwrap_or((pair, "")))
        .map(|(name, value)| (encode(&super::decoded(name)), encode(&super::decoded(value))))
        .collect();
    pairs.sort();
    pairs.into_iter().map(|(name, value)| format!("{name}={value}")).collect::<Vec<_>>().join("&")
}

fn encode(text: &str) -> String {
    let mut encoded = String::new();
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-_.~".contains(&byte) {
            encoded.push(byte.into());
        } else {
            encoded.push_str(&format!("%{byte:02X}"));
        }
    }
    encoded
}

fn mac(key: &[u8], text: &str) -> Vec<u8> {
    hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, key), text.as_bytes()).as_ref().to_vec()
}

/// Parses `20150830T123600Z`, by the days of each year and month.
fn time_of(text: &str) -> Option<SystemTime> {
    let (date, time) = text.strip_suffix('Z')?.split_once('T')?;
    if date.len() != 8 || time.len() != 6 || !format!("{date}{time}").bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let part = |text: &str, from: usize, to: usize| text[from..to].parse::<u64>().ok();
    let (year, month, day) = (part(date, 0, 4)?, part(date, 4, 6)?, part(date, 6, 8)?);
    if !(1970..=9999).contains(&year) || !(1..=12).contains(&month) || day == 0 {
        return None;
    }
    let leaps = |year: u64| year / 4 - year / 100 + year / 400;
    let leap = u64::from(leaps(year) > leaps(year - 1));
    let months = [31, 28 + leap, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31];
    let days = (year - 1970) * 365 + leaps(year - 1) - leaps(1969);
    let days = days + months[..month as usize - 1].iter().sum::<u64>() + day - 1;
    let seconds = part(time, 0, 2)? * 3600 + part(time, 2, 4)? * 60 + part(time, 4, 6)?;
    Some(UNIX_EPOCH + Duration::from_secs(days * 86_400 + seconds))
}

fn stamp(at: SystemTime) -> String {
    let since = at.duration_since(UNIX_EPOCH).unwrap_or_default();
    let text = steadfast_internal::wall_clock::rfc3339(Duration::from_secs(since.as_secs()));
    text.replace(['-', ':'], "")
}

#[cfg(test)]
mod tests {
    use http::Request;

    use super::*;

    /// AWS's example keys, of which the documentation and the published test suite are made.
    const KEY: &str = "AKIDEXAMPLE";
    const SECRET: &str = "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY";

    fn verdict(request: Request<()>, now: &str) -> Result<(), Denial> {
        let (parts, ()) = request.into_parts();
        let scope =
            Scope { services: &["service"], region: Some("us-east-1"), now: time_of(now).expect("a date in the test") };
        verify(&parts, b"", &scope, |key| {
            assert_eq!(key, KEY);
            Ok(Some(Pair { secret: SECRET.to_owned(), session: None, expires: None }))
        })
    }

    fn signed(method: &str, path: &str, signature: &str) -> Request<()> {
        let authorization = format!(
            "AWS4-HMAC-SHA256 Credential={KEY}/20150830/us-east-1/service/aws4_request, SignedHeaders=host;x-amz-date, \
             Signature={signature}"
        );
        let request = Request::builder().method(method).uri(path).header("host", "example.amazonaws.com");
        request.header("x-amz-date", "20150830T123600Z").header("authorization", authorization).body(()).unwrap()
    }

    /// From AWS's published suite: get-vanilla, post-vanilla, get-vanilla-query-order-key-case.
    #[test]
    fn published_vectors_are_verified() {
        for (method, path, signature) in [
            ("GET", "/", "5fa00fa31553b73ebf1942676e86291e8372ff2a2260956d9b8aae1d763fbf31"),
            ("POST", "/", "5da7c1a2acd57cee7505fc6676e4e544621c30862966e37dddb68e92efbe5d6b"),
            (
                "GET",
                "/?Param2=value2&Param1=value1",
                "b97d918cfa904a5beff61c982a1b6f458b799221646efd99d3219ec94cdf2500",
            ),
        ] {
            assert_eq!(verdict(signed(method, path, signature), "20150830T123859Z"), Ok(()), "{method} {path}");
            let other = signature.replace('5', "6");
            assert!(verdict(signed(method, path, &other), "20150830T123859Z").is_err());
        }
    }

    #[test]
    fn a_date_five_minutes_off_is_refused_with_both_dates() {
        let get = || signed("GET", "/", "5fa00fa31553b73ebf1942676e86291e8372ff2a2260956d9b8aae1d763fbf31");
        assert_eq!(verdict(get(), "20150830T124100Z"), Ok(()));
        let late = Denial::Signature(
            "Signature expired: 20150830T123600Z is now earlier than 20150830T123601Z (20150830T124101Z - 5 min.)"
                .into(),
        );
        assert_eq!(verdict(get(), "20150830T124101Z"), Err(late));
        let early = verdict(get(), "20150830T123059Z").unwrap_err();
        assert!(matches!(early, Denial::Signature(words) if words.starts_with("Signature not yet current")));
    }
}
