//! Tokens of an identity provider that signs by ring, and the examples of the specifications.

use std::{
    convert::Infallible,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    time::Duration,
};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD as BASE64};
use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body_util::Full;
use jsonwebtoken::{Algorithm, DecodingKey, crypto, jwk::Jwk};
use ring::{
    rand::SystemRandom,
    signature::{
        ECDSA_P256_SHA256_FIXED_SIGNING, ECDSA_P384_SHA384_FIXED_SIGNING, EcdsaKeyPair, EcdsaSigningAlgorithm,
        Ed25519KeyPair, KeyPair as _,
    },
};
use serde_json::{Value, json};
use steadfast::providers::http::RequestBody;
use steadfast_internal::{
    sync::{Mutex, lock},
    wall_clock::since_1970,
};
use tower::service_fn;

use crate::{Issuer, TokenError, TokenVerifier, signature};

/// A key of the provider.
enum Signer {
    Ec(Algorithm, EcdsaKeyPair),
    Ed(Ed25519KeyPair),
}

impl Signer {
    fn es256() -> Self {
        Self::ec(Algorithm::ES256, &ECDSA_P256_SHA256_FIXED_SIGNING)
    }

    fn ec(algorithm: Algorithm, of: &'static EcdsaSigningAlgorithm) -> Self {
        let random = SystemRandom::new();
        let key = EcdsaKeyPair::generate_pkcs8(of, &random).unwrap();
        Self::Ec(algorithm, EcdsaKeyPair::from_pkcs8(of, key.as_ref(), &random).unwrap())
    }

    fn ed() -> Self {
        let key = Ed25519KeyPair::generate_pkcs8(&SystemRandom::new()).unwrap();
        Self::Ed(Ed25519KeyPair::from_pkcs8(key.as_ref()).unwrap())
    }

    fn algorithm(&self) -> Algorithm {
        if let Self::Ec(algorithm, _) = self { *algorithm } else { Algorithm::EdDSA }
    }

    /// Returns the public key under this name.
    fn jwk(&self, id: &str) -> Value {
        match self {
            Self::Ec(algorithm, key) => {
                let point = &key.public_key().as_ref()[1..];
                let (x, y) = point.split_at(point.len() / 2);
                let curve = if *algorithm == Algorithm::ES256 { "P-256" } else { "P-384" };
                json!({"kty": "EC", "crv": curve, "x": BASE64.encode(x), "y": BASE64.encode(y), "kid": id, "use": "sig"})
            }
            Self::Ed(key) => {
                json!({"kty": "OKP", "crv": "Ed25519", "x": BASE64.encode(key.public_key().as_ref()), "kid": id})
            }
        }
    }

    fn sign(&self, header: &Value, claims: &Value) -> String {
        let message = format!("{}.{}", BASE64.encode(header.to_string()), BASE64.encode(claims.to_string()));
        let signature = match self {
            Self::Ec(_, key) => key.sign(&SystemRandom::new(), message.as_bytes()).unwrap().as_ref().to_vec(),
            Self::Ed(key) => key.sign(message.as_bytes()).as_ref().to_vec(),
        };
        format!("{message}.{}", BASE64.encode(signature))
    }

    /// Returns a token of these claims, signed by the key of this name.
    fn token(&self, id: &str, claims: &Value) -> String {
        self.sign(&json!({"alg": format!("{:?}", self.algorithm()), "typ": "JWT", "kid": id}), claims)
    }
}

/// An identity provider, behind a client without a network.
struct Provider {
    url: &'static str,
    /// Its keys; `None` while it is broken.
    keys: Arc<Mutex<Option<Value>>>,
    /// The number of times that its keys were read.
    readings: Arc<AtomicUsize>,
}

impl Provider {
    fn new(keys: Value) -> Self {
        let url = "https://login.example.com/realms/acme";
        Self { url, keys: Arc::new(Mutex::new(Some(keys))), readings: Arc::default() }
    }

    fn issuer(&self, url: &str) -> Issuer {
        let (keys, readings, own) = (self.keys.clone(), self.readings.clone(), self.url);
        let client = service_fn(move |request: Request<RequestBody>| {
            let answer = match (lock(&keys).clone(), request.uri().path()) {
                (None, _) => None,
                (Some(keys), "/realms/acme/keys") => {
                    readings.fetch_add(1, Relaxed);
                    Some(keys)
                }
                (Some(_), "/realms/acme/.well-known/openid-configuration") => {
                    Some(json!({"issuer": own, "jwks_uri": format!("{own}/keys")}))
                }
                (Some(_), path) => panic!("it has no {path}"),
            };
            let mut response =
                Response::new(Full::<Bytes>::from(answer.as_ref().map_or_else(String::new, Value::to_string)));
            if answer.is_none() {
                *response.status_mut() = StatusCode::INTERNAL_SERVER_ERROR;
            }
            std::future::ready(Ok::<_, Infallible>(response))
        });
        Issuer::new(url, ["llm", "claude-gateway"]).unwrap().client(client)
    }

    fn verifier(&self) -> TokenVerifier {
        TokenVerifier::new(self.issuer(self.url))
    }

    fn set(&self, keys: Option<Value>) {
        *lock(&self.keys) = keys;
    }

    /// Returns claims that are right, with these changes. A change to `null` removes a claim.
    fn claims(&self, changes: &Value) -> Value {
        let now = since_1970().as_secs();
        let mut claims = json!({"iss": self.url, "aud": "llm", "sub": "ann", "iat": now, "exp": now + 3600});
        for (name, value) in changes.as_object().unwrap() {
            match value {
                Value::Null => drop(claims.as_object_mut().unwrap().remove(name)),
                value => claims[name] = value.clone(),
            }
        }
        claims
    }
}

fn set(keys: &[Value]) -> Value {
    json!({ "keys": keys })
}

/// RFC 7515, A.2 and A.3, and RFC 8037, A.4: each signature with its key.
const EXAMPLES: &str = include_str!("tests/examples.json");

#[test]
fn the_signatures_of_the_specifications_are_right() {
    signature::install();
    let examples: Vec<Value> = serde_json::from_str(EXAMPLES).unwrap();
    assert_eq!(examples.len(), 3);
    for example in examples {
        let algorithm: Algorithm = serde_json::from_value(example["algorithm"].clone()).unwrap();
        let key: Jwk = serde_json::from_value(example["key"].clone()).unwrap();
        let key = DecodingKey::from_jwk(&key).unwrap();
        let (message, signed) = example["token"].as_str().unwrap().rsplit_once('.').unwrap();
        assert!(crypto::verify(signed, message.as_bytes(), &key, algorithm).unwrap(), "{algorithm:?}");
        let other = message.replacen("eyJ", "eyK", 1);
        assert!(!crypto::verify(signed, other.as_bytes(), &key, algorithm).unwrap(), "{algorithm:?}");
    }
}

#[tokio::test]
async fn a_token_of_the_provider_counts_and_every_other_does_not() {
    let (es256, es384, ed) =
        (Signer::es256(), Signer::ec(Algorithm::ES384, &ECDSA_P384_SHA384_FIXED_SIGNING), Signer::ed());
    let provider = Provider::new(set(&[
        es256.jwk("one"),
        es384.jwk("two"),
        ed.jwk("three"),
        json!({"kty": "oct", "k": BASE64.encode("a secret for all the world"), "kid": "shared"}),
        json!({"kty": "later", "kid": "unheard-of"}),
    ]));
    let verifier = provider.verifier();
    let right = provider.claims(&json!({}));
    assert_eq!(verifier.verify(&es256.token("one", &right)), Err(TokenError::KeysAway));
    verifier.read_keys().await.unwrap();
    for (signer, id) in [(&es256, "one"), (&es384, "two"), (&ed, "three")] {
        let claims = verifier.verify(&signer.token(id, &right)).unwrap_or_else(|error| panic!("{id}: {error}"));
        assert_eq!((claims.text("sub"), claims.ends().as_secs()), (Some("ann"), right["exp"].as_u64().unwrap()));
    }
    let now = since_1970().as_secs();
    for (changes, expected) in [
        (json!({"aud": ["other", "claude-gateway"]}), Ok(())),
        (json!({"nbf": now - 1}), Ok(())),
        // A minute for clocks that differ.
        (json!({"exp": now - 30}), Ok(())),
        (json!({"nbf": now + 30}), Ok(())),
        (json!({"exp": now - 120}), Err(TokenError::Expired)),
        (json!({"nbf": now + 120}), Err(TokenError::NotYetValid)),
        (json!({"aud": "other"}), Err(TokenError::Audience)),
        (json!({"aud": null}), Err(TokenError::Claim)),
        (json!({"aud": []}), Err(TokenError::Audience)),
        (json!({"iss": "https://evil.example"}), Err(TokenError::Issuer)),
        (json!({"iss": null}), Err(TokenError::Claim)),
        (json!({"iss": format!("{}/", provider.url)}), Err(TokenError::Issuer)),
        (json!({"exp": null}), Err(TokenError::Claim)),
        (json!({"exp": (now + 3600).to_string()}), Err(TokenError::Claim)),
        (json!({"nbf": (now + 3600).to_string()}), Err(TokenError::Claim)),
    ] {
        let told = verifier.verify(&es256.token("one", &provider.claims(&changes))).map(drop);
        assert_eq!(told, expected, "{changes}");
    }
    // The key decides over the header.
    let header = |algorithm: &str, id: &str| json!({"alg": algorithm, "kid": id});
    for (header, expected) in [
        (header("none", "one"), TokenError::Algorithm),
        (header("HS256", "one"), TokenError::Algorithm),
        (header("HS256", "shared"), TokenError::KeysAway),
        (header("RS256", "one"), TokenError::Algorithm),
        (header("ES384", "one"), TokenError::Signature),
        (header("ES256", "two"), TokenError::Signature),
        (header("ES256", "three"), TokenError::Algorithm),
    ] {
        assert_eq!(verifier.verify(&es256.sign(&header, &right)).unwrap_err(), expected, "{header}");
    }
    // A public key as a shared secret, with its own words as the header.
    let whole = es256.token("one", &right);
    let (message, _) = whole.rsplit_once('.').unwrap();
    for token in [
        format!("{message}."),
        message.to_owned(),
        format!("{whole}.{whole}"),
        String::new(),
        "a.b.c".to_owned(),
        "...".to_owned(),
        whole.replace("eyJ", "eyJ\u{e9}"),
    ] {
        assert!(verifier.verify(&token).is_err(), "{token}");
    }
    // Any byte that is another is a token of nobody.
    for place in 0..whole.len() {
        let mut bytes = whole.clone().into_bytes();
        bytes[place] = if bytes[place] == b'A' { b'B' } else { b'A' };
        let changed = String::from_utf8(bytes).unwrap();
        let told = verifier.verify(&changed);
        // The last character has bits beyond the signature's, which a reader may not let pass.
        assert!(told.is_err(), "{place}: {told:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_key_that_is_new_is_read_within_seconds_and_an_invented_one_is_refused() {
    let (first, second) = (Signer::es256(), Signer::es256());
    let provider = Provider::new(set(&[first.jwk("first")]));
    let verifier = Arc::new(provider.verifier());
    tokio::spawn(verifier.clone().follow());
    let until = async |is_so: &dyn Fn() -> bool| {
        for _ in 0..10_000 {
            if is_so() {
                return;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("it is never so");
    };
    until(&|| !verifier.is_unread()).await;
    let right = provider.claims(&json!({}));
    assert!(verifier.verify(&first.token("first", &right)).is_ok());
    // The provider rotates: the old key stays for a while, or goes at once.
    provider.set(Some(set(&[second.jwk("second")])));
    let token = second.token("second", &right);
    assert_eq!(verifier.verify(&token), Err(TokenError::KeysAway), "it is about to be read");
    let begun = tokio::time::Instant::now();
    until(&|| verifier.verify(&token).is_ok()).await;
    assert!(begun.elapsed() < Duration::from_secs(15), "{:?}", begun.elapsed());
    assert_eq!(verifier.verify(&first.token("first", &right)), Err(TokenError::KeysAway));
    // While the provider is away the keys stay.
    provider.set(None);
    tokio::time::sleep(Duration::from_secs(3600)).await;
    assert!(verifier.verify(&token).is_ok());
    provider.set(Some(set(&[second.jwk("second")])));
    let forged = first.token("invented", &right);
    assert_eq!(verifier.verify(&forged), Err(TokenError::KeysAway));
    until(&|| verifier.verify(&forged) == Err(TokenError::UnknownKey)).await;
    assert_eq!(verifier.verify(&first.token("second", &right)), Err(TokenError::Signature));
}

/// Nobody can say that a provider which cannot be read does not have a key.
#[tokio::test(start_paused = true)]
async fn a_new_key_is_about_to_be_read_for_as_long_as_the_provider_is_away() {
    let (first, second) = (Signer::es256(), Signer::es256());
    let provider = Provider::new(set(&[first.jwk("first")]));
    let verifier = Arc::new(provider.verifier());
    tokio::spawn(verifier.clone().follow());
    tokio::time::sleep(Duration::from_secs(60)).await;
    provider.set(None);
    let right = provider.claims(&json!({}));
    let (token, invented) = (second.token("second", &right), second.token("invented", &right));
    for _ in 0..120 {
        assert_eq!([&token, &invented].map(|token| verifier.verify(token)), [const { Err(TokenError::KeysAway) }; 2]);
        assert!(verifier.verify(&first.token("first", &right)).is_ok());
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    provider.set(Some(set(&[first.jwk("first"), second.jwk("second")])));
    tokio::time::sleep(Duration::from_secs(15)).await;
    assert!(verifier.verify(&token).is_ok());
    assert_eq!(verifier.verify(&invented), Err(TokenError::UnknownKey));
}

/// Forged tokens cost the provider a reading in ten seconds, however many there are.
#[tokio::test(start_paused = true)]
async fn ten_thousand_forged_tokens_cost_the_provider_a_reading_in_ten_seconds() {
    let (own, forger) = (Signer::es256(), Signer::es256());
    let provider = Provider::new(set(&[own.jwk("own")]));
    let verifier = Arc::new(provider.verifier());
    tokio::spawn(verifier.clone().follow());
    while verifier.is_unread() {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let right = provider.claims(&json!({}));
    let honest = own.token("own", &right);
    let before = provider.readings.load(Relaxed);
    for number in 0..10_000 {
        let id = if number % 2 == 0 { "own".to_owned() } else { format!("invented {number}") };
        assert!(verifier.verify(&forger.token(&id, &right)).is_err());
        if number % 100 == 0 {
            assert!(verifier.verify(&honest).is_ok());
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
    }
    let readings = provider.readings.load(Relaxed) - before;
    assert!((1..=11).contains(&readings), "in a hundred seconds: {readings}");
}

#[test]
fn a_setting_that_cannot_work_is_refused_with_what_to_do() {
    let problem = |made: Result<Issuer, steadfast::InvalidConfig>| made.unwrap_err().to_string();
    assert!(problem(Issuer::new("login.example.com", ["llm"])).contains("is not a URL"));
    assert!(problem(Issuer::new("https://login.example.com", [""])).contains("name the audience"));
    assert!(problem(Issuer::new::<&str>("https://login.example.com", [])).contains("name the audience"));
    let issuer = || Issuer::new("https://login.example.com", ["llm"]).unwrap();
    for wrong in ["HS256", "none", "RS1", ""] {
        let problem = problem(issuer().algorithms([wrong]));
        assert!(problem.contains("RS256") && problem.contains("EdDSA"), "{problem}");
    }
    assert!(problem(issuer().algorithms([])).contains("leave it out"));
    assert!(problem(issuer().keys_at("keys.json")).contains("is not a URL"));
}

#[tokio::test]
async fn an_answer_that_has_no_keys_says_so() {
    for (keys, problem) in [
        (json!({"keys": []}), "none of its keys"),
        (json!({"keys": [{"kty": "oct", "k": "AAAA", "kid": "a"}]}), "none of its keys"),
        (json!([]), "no JWKS"),
        (json!("keys"), "no JWKS"),
        (json!("k".repeat(1 << 20)), "more than a megabyte"),
    ] {
        let provider = Provider::new(keys.clone());
        let told = provider.verifier().read_keys().await.unwrap_err();
        assert!(told.contains(problem), "{problem}: {told}");
    }
    let provider = Provider::new(set(&[Signer::es256().jwk("one")]));
    let another = provider.issuer(&format!("{}/", provider.url));
    let told = TokenVerifier::new(another).read_keys().await.unwrap_err();
    assert!(told.contains("write `issuer` so"), "{told}");
    provider.set(None);
    assert!(provider.verifier().read_keys().await.unwrap_err().contains("answers 500"));
}
