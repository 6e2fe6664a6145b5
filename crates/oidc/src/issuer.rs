use std::{fmt, str::FromStr as _, time::Duration};

use bytes::{Bytes, BytesMut};
use http::{HeaderValue, Request, Response, Uri, header};
use http_body::Body;
use http_body_util::BodyExt as _;
use jsonwebtoken::{Algorithm, AlgorithmFamily};
use serde::Deserialize;
use steadfast::{
    InvalidConfig,
    providers::{
        http::{RequestBody, Transport, boxed},
        transport::HttpClient,
    },
};
use tokio::time::timeout;
use tower::{BoxError, Service, ServiceExt as _};

use crate::issuer_keys::IssuerKeys;

/// The time for one of the provider's answers.
const TIMEOUT: Duration = Duration::from_secs(10);
/// The most bytes of one.
const MOST_BYTES: usize = 1 << 20;

/// An identity provider, and the tokens of it that count.
#[derive(Clone)]
pub struct Issuer {
    pub(crate) url: String,
    pub(crate) audiences: Vec<String>,
    pub(crate) algorithms: Vec<Algorithm>,
    keys: Option<Uri>,
    client: Transport,
}

/// The part of the discovery document that names the keys.
#[derive(Deserialize)]
struct Discovery {
    issuer: String,
    jwks_uri: String,
}

impl Issuer {
    /// Creates an issuer from its URL, as its tokens have it in `iss`, and the audiences, of which each token must have
    /// one in `aud`.
    ///
    /// # Errors
    ///
    /// Fails for a URL that is none, and without audiences: tokens for other services would count.
    pub fn new<A: Into<String>>(url: &str, audiences: impl IntoIterator<Item = A>) -> Result<Self, InvalidConfig> {
        address(url, "issuer")?;
        let audiences: Vec<String> = audiences.into_iter().map(Into::into).collect();
        if audiences.is_empty() || audiences.iter().any(|audience| audience.trim().is_empty()) {
            let problem = "name the audience that the identity provider puts into tokens for this service";
            return Err(InvalidConfig::new("audience", problem));
        }
        let algorithms = ALGORITHMS.to_vec();
        Ok(Self { url: url.to_owned(), audiences, algorithms, keys: None, client: boxed(HttpClient::new()) })
    }

    /// Sets the address of the keys (JWKS). Default: the one in the issuer's discovery document.
    ///
    /// # Errors
    ///
    /// Fails for an address that is none.
    pub fn keys_at(mut self, url: &str) -> Result<Self, InvalidConfig> {
        self.keys = Some(address(url, "jwks")?);
        Ok(self)
    }

    /// Sets the algorithms of signatures, such as `RS256`. Default: all of public keys that it knows.
    ///
    /// # Errors
    ///
    /// Fails for an unknown one, and for one of shared secrets.
    pub fn algorithms<'a>(mut self, names: impl IntoIterator<Item = &'a str>) -> Result<Self, InvalidConfig> {
        let known = |name: &str| {
            let algorithm = Algorithm::from_str(name).ok().filter(|one| one.family() != AlgorithmFamily::Hmac);
            algorithm.filter(|one| ALGORITHMS.contains(one)).ok_or_else(|| {
                let all: Vec<String> = ALGORITHMS.iter().map(|one| format!("{one:?}")).collect();
                let problem = format!("`{name}` is not among the algorithms of public keys: {}", all.join(", "));
                InvalidConfig::new("algorithms", problem)
            })
        };
        self.algorithms = names.into_iter().map(known).collect::<Result<_, _>>()?;
        if self.algorithms.is_empty() {
            return Err(InvalidConfig::new(
                "algorithms",
                "the list is empty: leave it out to allow all of public keys",
            ));
        }
        Ok(self)
    }

    /// Sets the HTTP client that reads the keys. Default: one of its own. An answer has ten seconds, and a megabyte.
    #[must_use]
    pub fn client<S, R, B>(mut self, client: S) -> Self
    where
        S: Service<Request<R>, Response = Response<B>> + Clone + Send + Sync + 'static,
        S::Error: Into<BoxError>,
        S::Future: Send + 'static,
        R: From<RequestBody> + 'static,
        B: Body<Data = Bytes> + Send + 'static,
        B::Error: Into<BoxError>,
    {
        self.client = boxed(client);
        self
    }

    /// Reads the provider's keys.
    pub(crate) async fn fetch(&self) -> Result<IssuerKeys, String> {
        let keys = match &self.keys {
            Some(keys) => keys.clone(),
            None => {
                let document = format!("{}/.well-known/openid-configuration", self.url.trim_end_matches('/'));
                let document = address(&document, "issuer").map_err(|error| error.to_string())?;
                let found: Discovery = serde_json::from_slice(&self.get(document).await?)
                    .map_err(|error| format!("its discovery document is none: {error}"))?;
                if found.issuer != self.url {
                    return Err(format!("its discovery document is of {:?}: write `issuer` so", found.issuer));
                }
                address(&found.jwks_uri, "jwks_uri").map_err(|error| error.to_string())?
            }
        };
        IssuerKeys::read(&self.get(keys).await?, &self.algorithms)
    }

    async fn get(&self, url: Uri) -> Result<Bytes, String> {
        let place = url.to_string();
        let mut request = Request::new(RequestBody::default());
        *request.uri_mut() = url;
        request.headers_mut().insert(header::ACCEPT, HeaderValue::from_static("application/json"));
        let answer = async {
            let response = self.client.clone().oneshot(request).await.map_err(|error| format!("{place}: {error}"))?;
            let status = response.status();
            if !status.is_success() {
                return Err(format!("{place} answers {status}"));
            }
            let (mut body, mut read) = (response.into_body(), BytesMut::new());
            while let Some(frame) = body.frame().await {
                let Ok(data) = frame.map_err(|error| format!("{place}: {error}"))?.into_data() else { continue };
                if read.len() + data.len() > MOST_BYTES {
                    return Err(format!("{place} answers with more than a megabyte"));
                }
                read.extend_from_slice(&data);
            }
            Ok(read.freeze())
        };
        timeout(TIMEOUT, answer).await.unwrap_or_else(|_| Err(format!("{place}: no answer in time")))
    }
}

impl fmt::Debug for Issuer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Issuer").field("url", &self.url).field("audiences", &self.audiences).finish_non_exhaustive()
    }
}

/// The algorithms of public keys.
const ALGORITHMS: [Algorithm; 9] = [
    Algorithm::RS256,
    Algorithm::RS384,
    Algorithm::RS512,
    Algorithm::PS256,
    Algorithm::PS384,
    Algorithm::PS512,
    Algorithm::ES256,
    Algorithm::ES384,
    Algorithm::EdDSA,
];

fn address(url: &str, field: &'static str) -> Result<Uri, InvalidConfig> {
    let found: Result<Uri, _> = url.parse();
    match found {
        Ok(found) if matches!(found.scheme_str(), Some("http" | "https")) && found.host().is_some() => Ok(found),
        _ => Err(InvalidConfig::new(field, format!("{url:?} is not a URL with http:// or https://"))),
    }
}
