//! Signatures of callbacks, by which a receiver checks their sender and time.

use std::{fmt, sync::Arc, time::Duration};

use hmac::{Hmac, KeyInit, Mac};
use http::HeaderMap;
use sha2::Sha256;

use steadfast::InvalidConfig;
use steadfast_internal::{
    base64::{decode, encode},
    wall_clock,
};

/// The header with the message's name, the same for each attempt.
pub const ID: &str = "webhook-id";
/// The header with the time of sending, in Unix seconds.
pub const TIMESTAMP: &str = "webhook-timestamp";
/// The header with the signatures: each is `v1,` and a base64 text, separated by spaces.
pub const SIGNATURE: &str = "webhook-signature";

/// A secret, shared with the receiver, that signs callbacks.
///
/// The signature is that of [Standard Webhooks](https://www.standardwebhooks.com): HMAC-SHA256 over
/// `id.timestamp.body`, in the headers `webhook-id`, `webhook-timestamp`, `webhook-signature`. Any library for it can
/// check signatures; in Rust, [`verify`](Self::verify) does.
///
/// ```
/// use http::HeaderMap;
/// use steadfast_handoff::WebhookSecret;
///
/// let secret = WebhookSecret::new("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")?;
/// let body = br#"{"type":"handoff.answered"}"#;
/// let mut headers = HeaderMap::new();
/// for (name, value) in secret.headers("msg_1", body) {
///     headers.insert(name, value.parse()?);
/// }
/// assert!(secret.verify(&headers, body).is_ok());
/// assert!(secret.verify(&headers, b"something else").is_err());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone)]
pub struct WebhookSecret {
    key: Arc<[u8]>,
}

/// The shortest length of a secret in bytes: 192 bits, as Standard Webhooks requires.
const LEAST: usize = 24;
/// The largest age of a callback, and the largest lead of its clock.
const TOLERANCE: Duration = Duration::from_secs(5 * 60);

impl WebhookSecret {
    /// Creates a secret from `whsec_` and base64, or from any other text, which stands for its bytes. It needs at least
    /// 24 bytes.
    ///
    /// # Errors
    ///
    /// Returns an error if it is too short, or no base64. The error does not repeat it.
    pub fn new(secret: &str) -> Result<Self, InvalidConfig> {
        let wrong = |problem: &'static str| InvalidConfig::new("secret", problem);
        let key = match secret.trim().strip_prefix("whsec_") {
            Some(encoded) => decode(encoded).ok_or_else(|| wrong("the part after `whsec_` is not base64"))?,
            None => secret.trim().as_bytes().to_vec(),
        };
        if key.len() < LEAST {
            return Err(wrong("it is too short; use at least 24 random bytes"));
        }
        Ok(Self { key: key.into() })
    }

    /// Returns the three headers for a body that is sent now.
    pub fn headers(&self, id: &str, body: &[u8]) -> [(&'static str, String); 3] {
        let timestamp = wall_clock::since_1970().as_secs();
        let signature = format!("v1,{}", encode(&self.mac(id, &timestamp.to_string(), body).finalize().into_bytes()));
        [(ID, id.to_owned()), (TIMESTAMP, timestamp.to_string()), (SIGNATURE, signature)]
    }

    /// Checks that a received message was signed with this secret at most 5 minutes ago. A message with a known
    /// `webhook-id` is a repeat.
    ///
    /// # Errors
    ///
    /// Returns the reason for which the message is not valid.
    pub fn verify(&self, headers: &HeaderMap, body: &[u8]) -> Result<(), VerifyError> {
        self.verify_at(headers, body, wall_clock::since_1970(), TOLERANCE)
    }

    /// Checks as [`verify`](Self::verify), and that the message was sent to this address, the receiver's own. Others
    /// who have the same secret could pass on what they have received.
    ///
    /// # Errors
    ///
    /// Returns the reason for which the message is not valid, or not for this address.
    pub fn verify_for(&self, address: &str, headers: &HeaderMap, body: &[u8]) -> Result<(), VerifyError> {
        #[derive(serde::Deserialize)]
        struct Addressed<'a> {
            #[serde(borrow)]
            address: std::borrow::Cow<'a, str>,
        }
        self.verify(headers, body)?;
        let said = serde_json::from_slice::<Addressed<'_>>(body).ok();
        let parsed = |address: &str| address.trim().parse::<http::Uri>().ok();
        let is_ours = said.and_then(|said| parsed(&said.address)).is_some_and(|said| Some(said) == parsed(address));
        if is_ours { Ok(()) } else { Err(VerifyError::Address) }
    }

    /// Checks at a given moment, as the time since 1970, and with another tolerance of clocks and delays.
    ///
    /// # Errors
    ///
    /// Returns the reason for which the message is not valid.
    pub fn verify_at(
        &self,
        headers: &HeaderMap,
        body: &[u8],
        now: Duration,
        tolerance: Duration,
    ) -> Result<(), VerifyError> {
        let header = |name| headers.get(name).and_then(|value| value.to_str().ok()).ok_or(VerifyError::Missing(name));
        let (id, timestamp, signatures) = (header(ID)?, header(TIMESTAMP)?, header(SIGNATURE)?);
        let sent: u64 = timestamp.parse().map_err(|_| VerifyError::Missing(TIMESTAMP))?;
        if now.abs_diff(Duration::from_secs(sent)) > tolerance {
            return Err(VerifyError::OutOfTolerance);
        }
        let mac = self.mac(id, timestamp, body);
        let given = signatures.split_ascii_whitespace().filter_map(|one| one.strip_prefix("v1,"));
        let mut given = given.filter_map(decode);
        // The comparison takes the same time however many bytes match.
        let is_ours = given.any(|one| mac.clone().verify_slice(&one).is_ok());
        if is_ours { Ok(()) } else { Err(VerifyError::Mismatch) }
    }

    fn mac(&self, id: &str, timestamp: &str, body: &[u8]) -> Hmac<Sha256> {
        let mut mac = Hmac::<Sha256>::new_from_slice(&self.key).expect("HMAC takes keys of any length");
        for part in [id.as_bytes(), b".", timestamp.as_bytes(), b".", body] {
            mac.update(part);
        }
        mac
    }
}

impl fmt::Debug for WebhookSecret {
    /// Hides the secret.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("WebhookSecret(..)")
    }
}

/// The reason for which a callback is not valid.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum VerifyError {
    /// This header is absent or malformed.
    Missing(&'static str),
    /// It was sent too long ago, or carries a time in the future.
    OutOfTolerance,
    /// It was not signed with this secret.
    Mismatch,
    /// It was sent to another address, or names none.
    Address,
}

impl fmt::Display for VerifyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Missing(header) => write!(f, "the header {header} is missing or malformed"),
            Self::OutOfTolerance => f.write_str("it was sent too long ago, or the clocks differ"),
            Self::Mismatch => f.write_str("it was not signed with this secret"),
            Self::Address => f.write_str("it was sent to another address"),
        }
    }
}

impl std::error::Error for VerifyError {}

#[cfg(test)]
mod tests {
    use super::*;

    const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";

    /// The example is that of the specification.
    #[test]
    fn a_signature_is_that_of_standard_webhooks() {
        let secret = WebhookSecret::new(SECRET).unwrap();
        let mac = secret.mac("msg_p5jXN8AQM9LWM0D4loKWxJek", "1614265330", br#"{"test": 2432232314}"#);
        assert_eq!(encode(&mac.finalize().into_bytes()), "g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=");
    }

    #[test]
    fn what_is_not_as_it_was_signed_is_not_believed() {
        let secret = WebhookSecret::new(SECRET).unwrap();
        let now = wall_clock::since_1970();
        let signed = |change: fn(&mut HeaderMap)| {
            let mut headers = HeaderMap::new();
            for (name, value) in secret.headers("msg_1", b"body") {
                headers.insert(name, value.parse().unwrap());
            }
            change(&mut headers);
            headers
        };
        let right = signed(|_| {});
        assert_eq!(secret.verify(&right, b"body"), Ok(()));
        assert_eq!(secret.verify(&right, b"other"), Err(VerifyError::Mismatch));
        let later = now + TOLERANCE + Duration::from_secs(2);
        assert_eq!(secret.verify_at(&right, b"body", later, TOLERANCE), Err(VerifyError::OutOfTolerance));
        let id = signed(|headers| _ = headers.insert(ID, "msg_2".parse().unwrap()));
        assert_eq!(secret.verify(&id, b"body"), Err(VerifyError::Mismatch));
        let none = signed(|headers| _ = headers.remove(SIGNATURE));
        assert_eq!(secret.verify(&none, b"body"), Err(VerifyError::Missing(SIGNATURE)));
        let two = signed(|headers| {
            let first = headers[SIGNATURE].to_str().unwrap().to_owned();
            headers.insert(SIGNATURE, format!("v1,AAAA v2,xyz {first}").parse().unwrap());
        });
        assert_eq!(secret.verify(&two, b"body"), Ok(()), "another secret's, as while it is changed");
        let other = WebhookSecret::new(&"x".repeat(24)).unwrap();
        assert_eq!(other.verify(&right, b"body"), Err(VerifyError::Mismatch));
    }

    #[test]
    fn a_weak_secret_is_refused_and_none_is_shown() {
        for weak in ["", "short", "whsec_AAAA", "whsec_not base64 at all, not at all"] {
            assert!(WebhookSecret::new(weak).is_err(), "{weak}");
        }
        assert_eq!(format!("{:?}", WebhookSecret::new(SECRET).unwrap()), "WebhookSecret(..)");
    }

    #[test]
    fn a_message_for_another_receiver_is_none_under_the_same_secret() {
        let secret = WebhookSecret::new(SECRET).unwrap();
        let body = br#"{"type":"handoff.answered","address":"https://a.example/hook?k=1","data":{}}"#;
        let signed = |body: &[u8]| -> HeaderMap {
            let headers = secret.headers("msg_1", body).into_iter();
            headers.map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap())).collect()
        };
        let headers = signed(body);
        for (address, is_ours) in [
            ("https://a.example/hook?k=1", Ok(())),
            ("https://A.example/hook?k=1", Ok(())),
            ("https://b.example/hook?k=1", Err(VerifyError::Address)),
            ("https://a.example/hook", Err(VerifyError::Address)),
            ("https://a.example/other?k=1", Err(VerifyError::Address)),
            ("", Err(VerifyError::Address)),
        ] {
            assert_eq!(secret.verify_for(address, &headers, body), is_ours, "{address}");
        }
        let silent = br#"{"type":"handoff.answered","data":{"address":"https://a.example/hook?k=1"}}"#;
        let told = secret.verify_for("https://a.example/hook?k=1", &signed(silent), silent);
        assert_eq!(told, Err(VerifyError::Address), "an older sender's");
        let moved = String::from_utf8(body.to_vec()).unwrap().replace("a.example", "b.example");
        assert_eq!(
            secret.verify_for("https://b.example/hook?k=1", &headers, moved.as_bytes()),
            Err(VerifyError::Mismatch)
        );
    }
}
