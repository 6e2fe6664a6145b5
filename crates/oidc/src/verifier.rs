use std::{collections::VecDeque, error, fmt, sync::Arc, time::Duration};

use arc_swap::ArcSwapOption;
use jsonwebtoken::{Validation, decode, decode_header, errors::ErrorKind};
use serde_json::{Map, Value};
use steadfast_internal::sync::{Mutex, lock};
use tokio::{
    sync::Notify,
    time::{Instant, sleep, timeout},
};

use crate::{Claims, Issuer, issuer_keys::IssuerKeys, signature};

/// The interval at which the keys are read.
const INTERVAL: Duration = Duration::from_secs(10 * 60);
/// The least time between two readings, so that tokens with invented keys cost the provider little.
const LEAST_INTERVAL: Duration = Duration::from_secs(10);
/// The most names of missing keys that are remembered.
const MOST_MISSING: usize = 256;
/// The difference of clocks that is let pass.
const LEEWAY: Duration = Duration::from_secs(60);

/// Verifies the tokens of an [`Issuer`].
///
/// All tasks that verify share it. [`follow`](Self::follow) reads the issuer's keys.
///
/// ```no_run
/// use std::sync::Arc;
/// use steadfast_oidc::{Issuer, TokenError, TokenVerifier};
///
/// # async fn run(token: &str) -> Result<(), Box<dyn std::error::Error>> {
/// let issuer = Issuer::new("https://login.example.com/realms/acme", ["llm"])?.algorithms(["RS256", "ES256"])?;
/// let verifier = Arc::new(TokenVerifier::new(issuer));
/// tokio::spawn(verifier.clone().follow());
///
/// match verifier.verify(token) {
///     Ok(claims) => println!("{:?} of {:?}", claims.text("sub"), claims.texts("groups")),
///     // 503, with a `Retry-After` of a second.
///     Err(TokenError::KeysAway) => println!("try again in a moment"),
///     // 401.
///     Err(error) => println!("{error}"),
/// }
/// # Ok(()) }
/// ```
#[derive(Debug)]
pub struct TokenVerifier {
    issuer: Issuer,
    /// The keys, and the beginning of their reading.
    keys: ArcSwapOption<(IssuerKeys, Instant)>,
    /// The names of keys that the issuer did not have, with the times at which they were first seen.
    missing: Mutex<VecDeque<(Box<str>, Instant)>>,
    /// Told of tokens with unknown keys.
    unknown: Notify,
}

/// The reason for which a token does not count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum TokenError {
    /// The issuer's keys are not known yet, or the token's is new and about to be read: another try soon may succeed.
    KeysAway,
    /// It is no JWT.
    Malformed,
    /// Its algorithm is not among those that count, or not its key's.
    Algorithm,
    /// The issuer has no such key.
    UnknownKey,
    /// Its signature is wrong.
    Signature,
    /// It has expired.
    Expired,
    /// It is not valid yet.
    NotYetValid,
    /// It is another issuer's.
    Issuer,
    /// It is for another audience.
    Audience,
    /// A claim is missing or has another form.
    Claim,
}

impl fmt::Display for TokenError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::KeysAway => "the keys of the identity provider are not known yet",
            Self::Malformed => "the token is no JWT",
            Self::Algorithm => "the token's algorithm is not allowed for its key",
            Self::UnknownKey => "the identity provider does not have the token's key",
            Self::Signature => "the token's signature is wrong",
            Self::Expired => "the token has expired",
            Self::NotYetValid => "the token is not valid yet",
            Self::Issuer => "the token is another issuer's",
            Self::Audience => "the token is for another audience",
            Self::Claim => "the token lacks `iss`, `aud` or `exp`, or has one in a form that is none",
        })
    }
}

impl error::Error for TokenError {}

impl TokenVerifier {
    /// Creates a verifier, which knows no keys until [`follow`](Self::follow) or [`read_keys`](Self::read_keys) has
    /// read them.
    pub fn new(issuer: Issuer) -> Self {
        signature::install();
        Self { issuer, keys: ArcSwapOption::empty(), missing: Mutex::default(), unknown: Notify::new() }
    }

    /// Returns true until the issuer's keys are known.
    pub fn is_unread(&self) -> bool {
        self.keys.load().is_none()
    }

    /// Returns the time at which the current keys were read; `None` until they are. A token that was verified before
    /// may have lost its key.
    pub fn read_at(&self) -> Option<Instant> {
        self.keys.load().as_deref().map(|(_, read)| *read)
    }

    /// Verifies a token at once, and returns its claims.
    ///
    /// # Errors
    ///
    /// The token does not count. [`TokenError::KeysAway`] may pass within seconds.
    pub fn verify(&self, token: &str) -> Result<Claims, TokenError> {
        // `none` and unknown algorithms have no header in this sense.
        let header = decode_header(token).map_err(|error| match error.kind() {
            ErrorKind::Json(json) if json.is_data() => TokenError::Algorithm,
            _ => TokenError::Malformed,
        })?;
        let keys = self.keys.load();
        let Some((keys, read)) = keys.as_deref() else { return Err(TokenError::KeysAway) };
        let id = header.kid.as_deref();
        let Some((key, algorithms)) = keys.find(id) else { return Err(self.missing(id.unwrap_or_default(), *read)) };
        let mut validation = Validation::new(header.alg);
        validation.algorithms = algorithms.to_vec();
        validation.leeway = LEEWAY.as_secs();
        validation.validate_nbf = true;
        validation.set_issuer(&[&self.issuer.url]);
        validation.set_audience(&self.issuer.audiences);
        validation.set_required_spec_claims(&["exp", "iss", "aud"]);
        let decoded = decode::<Map<String, Value>>(token, key, &validation).map_err(|error| reason(error.kind()))?;
        Ok(Claims(decoded.claims))
    }

    /// Reads the issuer's keys. Those that are known stay if that fails.
    ///
    /// # Errors
    ///
    /// The text says what failed.
    pub async fn read_keys(&self) -> Result<(), String> {
        let begun = Instant::now();
        let keys = self.issuer.fetch().await?;
        self.keys.store(Some(Arc::new((keys, begun))));
        Ok(())
    }

    /// Reads the issuer's keys again and again, for ever. Failures are logged, one for each kind.
    pub async fn follow(self: Arc<Self>) {
        let mut said = String::new();
        loop {
            let is_read = !self.is_unread();
            if is_read || !said.is_empty() {
                sleep(LEAST_INTERVAL).await;
            }
            if is_read && said.is_empty() {
                // A token with an unknown key ends the wait.
                let _ = timeout(INTERVAL - LEAST_INTERVAL, self.unknown.notified()).await;
            }
            match self.read_keys().await {
                Ok(()) if said.is_empty() => {}
                Ok(()) => {
                    tracing::info!(issuer = self.issuer.url, "the identity provider's keys are read again");
                    said.clear();
                }
                Err(problem) if problem == said => {}
                Err(problem) => {
                    tracing::warn!(issuer = self.issuer.url, problem, "the identity provider's keys cannot be read");
                    said = problem;
                }
            }
        }
    }

    /// Returns the error of a token whose key is missing among those that were `read`. They are read again for a name
    /// that is new.
    fn missing(&self, id: &str, read: Instant) -> TokenError {
        let mut missing = lock(&self.missing);
        match missing.iter().find(|(known, _)| **known == *id) {
            Some((_, seen)) if read > *seen => return TokenError::UnknownKey,
            Some(_) => {}
            None => {
                missing.truncate(MOST_MISSING - 1);
                missing.push_front((id.into(), Instant::now()));
            }
        }
        self.unknown.notify_one();
        TokenError::KeysAway
    }
}

fn reason(kind: &ErrorKind) -> TokenError {
    match kind {
        ErrorKind::InvalidAlgorithm
        | ErrorKind::MissingAlgorithm
        | ErrorKind::UnsupportedAlgorithm
        | ErrorKind::InvalidKeyFormat => TokenError::Algorithm,
        ErrorKind::InvalidSignature => TokenError::Signature,
        ErrorKind::ExpiredSignature => TokenError::Expired,
        ErrorKind::ImmatureSignature => TokenError::NotYetValid,
        ErrorKind::InvalidIssuer => TokenError::Issuer,
        ErrorKind::InvalidAudience => TokenError::Audience,
        ErrorKind::MissingRequiredClaim(_) | ErrorKind::InvalidClaimFormat(_) => TokenError::Claim,
        _ => TokenError::Malformed,
    }
}
