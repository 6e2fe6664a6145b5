use jsonwebtoken::{
    Algorithm, AlgorithmFamily, DecodingKey,
    jwk::{Jwk, PublicKeyUse},
};
use serde::Deserialize;
use serde_json::Value;

/// The keys of an issuer that verify signatures.
#[derive(Clone, Debug, Default)]
pub(crate) struct IssuerKeys(Vec<IssuerKey>);

#[derive(Clone, Debug)]
struct IssuerKey {
    id: Option<String>,
    /// The algorithms of its kind that count.
    algorithms: Vec<Algorithm>,
    key: DecodingKey,
}

/// A set of keys (RFC 7517). Each is read by itself: a kind that is unknown is nobody else's.
#[derive(Deserialize)]
struct Written {
    keys: Vec<Value>,
}

impl IssuerKeys {
    /// Reads a set of keys. Those for encryption and of other algorithms are left out.
    pub(crate) fn read(text: &[u8], algorithms: &[Algorithm]) -> Result<Self, String> {
        let written: Written =
            serde_json::from_slice(text).map_err(|error| format!("its keys are no JWKS: {error}"))?;
        let key = |value: Value| {
            let jwk: Jwk = serde_json::from_value(value).ok()?;
            if jwk.common.public_key_use.as_ref().is_some_and(|wanted| *wanted != PublicKeyUse::Signature) {
                return None;
            }
            let key = DecodingKey::from_jwk(&jwk).ok().filter(|key| key.family() != AlgorithmFamily::Hmac)?;
            let own = jwk.common.key_algorithm.map(|own| own.to_string());
            let counts = |one: &&Algorithm| {
                one.family() == key.family() && own.as_ref().is_none_or(|own| *own == format!("{one:?}"))
            };
            let algorithms: Vec<Algorithm> = algorithms.iter().filter(counts).copied().collect();
            (!algorithms.is_empty()).then_some(IssuerKey { id: jwk.common.key_id, algorithms, key })
        };
        let keys: Vec<IssuerKey> = written.keys.into_iter().filter_map(key).collect();
        if keys.is_empty() {
            Err("none of its keys is for signatures of these algorithms".to_owned())
        } else {
            Ok(Self(keys))
        }
    }

    /// Returns the key of a token: the one that it names, or the only one.
    pub(crate) fn find(&self, id: Option<&str>) -> Option<(&DecodingKey, &[Algorithm])> {
        let found = match id {
            Some(id) => self.0.iter().find(|key| key.id.as_deref() == Some(id)),
            None => self.0.first().filter(|_| self.0.len() == 1),
        };
        found.map(|found| (&found.key, &*found.algorithms))
    }
}
