use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Deserializer};
use serde_json::{Map, Value};

/// Callers with a token (JWT) of an OpenID Connect identity provider, beside those with keys.
///
/// A caller's name is `oidc:` and its claim. A key of that name, in the file or the store, decides in place of the
/// token's claims: so one caller has other limits, or is paused.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Oidc {
    /// The provider's URL, as its tokens have it in `iss`.
    pub issuer: String,
    /// The audience, or several, of which a token has one in `aud`. Claude Code takes a token for `claude-gateway` for
    /// a login, and then shows how much of a cap is spent.
    #[serde(deserialize_with = "one_or_several")]
    #[schemars(with = "OneOrSeveral")]
    pub audience: Vec<String>,
    /// The address of the provider's keys (JWKS). Default: the one in its discovery document.
    pub jwks: Option<String>,
    /// The algorithms of signatures, such as `RS256`. Default: all of public keys; those of shared secrets never count.
    pub algorithms: Option<Vec<String>>,
    /// The claims that say who a caller is and what it may.
    #[serde(default)]
    pub claims: OidcClaims,
    /// Rights and limits by name, each with the fields of a key's entry: `requests_per_minute`, `budget`, `models` and
    /// the others. A budget is each caller's own. `default` is for tokens that name none of them; without it these are
    /// refused. Without any limits all callers go without.
    #[serde(default)]
    pub limits: BTreeMap<String, Map<String, Value>>,
}

/// The names of claims. A name with dots may lead into objects: `realm_access.roles`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct OidcClaims {
    /// The claim with the caller's name, to which its spending, objects and tasks belong: one that callers cannot
    /// choose. Default: `sub`.
    pub name: String,
    /// The claim with the caller's team; of a list the first. Default: the team of the limits.
    pub team: Option<String>,
    /// The claim with the features that the caller may name, as text or a list. A token without it may name none.
    /// Default: those of the limits.
    pub features: Option<String>,
    /// The claim that names the caller's `limits`; of a list the first that there is. Default: `default` for all.
    pub limits: Option<String>,
}

impl Default for OidcClaims {
    fn default() -> Self {
        Self { name: "sub".to_owned(), team: None, features: None, limits: None }
    }
}

/// A name, or a list of names.
#[derive(Deserialize, JsonSchema)]
#[serde(untagged, expecting = "expected a name, or a list of names")]
enum OneOrSeveral {
    /// One.
    One(String),
    /// Several.
    Several(Vec<String>),
}

fn one_or_several<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<String>, D::Error> {
    Ok(match OneOrSeveral::deserialize(deserializer)? {
        OneOrSeveral::One(name) => vec![name],
        OneOrSeveral::Several(names) => names,
    })
}
