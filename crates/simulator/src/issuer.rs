use std::{io, net::Ipv4Addr};

use ring::{
    rand::SystemRandom,
    signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _},
};
use serde_json::{Value, json};
use steadfast_internal::{base64::encode_url, wall_clock::since_1970};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpListener,
    task::JoinHandle,
};

/// A simulated OpenID Connect identity provider on loopback, with a key of its own.
///
/// It serves its discovery document and its public key, and signs the tokens that a test asks for. Dropping it closes
/// the port.
///
/// ```
/// use serde_json::json;
/// use steadfast_simulator::SimulatedIssuer;
///
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> std::io::Result<()> {
/// let issuer = SimulatedIssuer::start().await?;
/// let token = issuer.token(&json!({"aud": "llm", "sub": "ann", "groups": ["research"]}));
/// assert_eq!(token.split('.').count(), 3);
/// # Ok(()) }
/// ```
#[derive(Debug)]
pub struct SimulatedIssuer {
    url: String,
    key: EcdsaKeyPair,
    task: JoinHandle<()>,
}

/// The name of its key.
const KEY: &str = "simulated";

impl SimulatedIssuer {
    /// Starts it on a free port.
    ///
    /// # Errors
    ///
    /// The system gives no port.
    pub async fn start() -> io::Result<Self> {
        let (of, random) = (&ECDSA_P256_SHA256_FIXED_SIGNING, SystemRandom::new());
        let key = EcdsaKeyPair::generate_pkcs8(of, &random)
            .ok()
            .and_then(|key| EcdsaKeyPair::from_pkcs8(of, key.as_ref(), &random).ok())
            .ok_or_else(|| io::Error::other("the system gives no random numbers"))?;
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let url = format!("http://{}", listener.local_addr()?);
        let discovery = json!({"issuer": url, "jwks_uri": format!("{url}/keys")}).to_string();
        let keys = json!({ "keys": [public_key(&key)] }).to_string();
        let task = tokio::spawn(async move {
            while let Ok((mut caller, _)) = listener.accept().await {
                let mut head = vec![0; 4096];
                let length = caller.read(&mut head).await.unwrap_or_default();
                let path = head[..length].split(|byte| *byte == b' ').nth(1).unwrap_or_default();
                let (status, body) = match path {
                    b"/.well-known/openid-configuration" => ("200 OK", &*discovery),
                    b"/keys" => ("200 OK", &*keys),
                    _ => ("404 Not Found", ""),
                };
                let length = body.len();
                let answer =
                    format!("HTTP/1.1 {status}\r\nconnection: close\r\ncontent-length: {length}\r\n\r\n{body}");
                // A caller that has left misses nothing.
                let _ = caller.write_all(answer.as_bytes()).await;
            }
        });
        Ok(Self { url, key, task })
    }

    /// Returns its URL, which its tokens have in `iss`.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Returns its public key, as a JSON Web Key.
    pub fn public_key(&self) -> Value {
        public_key(&self.key)
    }

    /// Returns a token of these claims. Without others of their own it has `iss`, `iat`, and an `exp` in an hour.
    ///
    /// # Panics
    ///
    /// If the claims are no JSON object: they are a test's.
    pub fn token(&self, claims: &Value) -> String {
        let now = since_1970().as_secs();
        let mut all = json!({"iss": self.url, "iat": now, "exp": now + 3600});
        let own = claims.as_object().expect("claims are a JSON object");
        all.as_object_mut().expect("an object").extend(own.clone());
        let part = |value: &Value| encode_url(value.to_string().as_bytes());
        let message = format!("{}.{}", part(&json!({"alg": "ES256", "kid": KEY, "typ": "JWT"})), part(&all));
        let signature = self.key.sign(&SystemRandom::new(), message.as_bytes()).expect("random numbers");
        format!("{message}.{}", encode_url(signature.as_ref()))
    }
}

impl Drop for SimulatedIssuer {
    fn drop(&mut self) {
        self.task.abort();
    }
}

fn public_key(key: &EcdsaKeyPair) -> Value {
    // An uncompressed point: a mark, and both coordinates.
    let (x, y) = key.public_key().as_ref()[1..].split_at(32);
    json!({"kty": "EC", "crv": "P-256", "use": "sig", "kid": KEY, "x": encode_url(x), "y": encode_url(y)})
}
