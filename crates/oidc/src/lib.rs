//! Verifies the tokens of an OpenID Connect identity provider: [`TokenVerifier`], for an [`Issuer`].
//!
//! A verification waits for nobody. A [task](TokenVerifier::follow) reads the provider's keys at the start and every
//! ten minutes, and within seconds after a token with an unknown key: providers rotate theirs. Keys that were read
//! stay while the provider is away.
//!
//! # The rules
//!
//! Those of [RFC 7519], [RFC 8725] and [OpenID Connect Core], in `jsonwebtoken`'s implementation over `ring`:
//!
//! - The signature is one of a public key: RSA (`RS256` to `RS512`, `PS256` to `PS512`), ECDSA (`ES256`, `ES384`) or
//!   Ed25519 (`EdDSA`). `none` and shared secrets (`HS256`) never are, so that no public key passes for a secret.
//! - The key's kind and its own `alg` decide over the token's header, which only names the key (`kid`).
//! - `iss`, `aud` and `exp` must be there and right, and `nbf` right if it is there, with a minute for clocks that
//!   differ.
//!
//! [RFC 7519]: https://www.rfc-editor.org/rfc/rfc7519
//! [RFC 8725]: https://www.rfc-editor.org/rfc/rfc8725
//! [OpenID Connect Core]: https://openid.net/specs/openid-connect-core-1_0.html

mod claims;
mod issuer;
mod issuer_keys;
mod signature;
#[cfg(test)]
mod tests;
mod verifier;

pub use self::{
    claims::Claims,
    issuer::Issuer,
    verifier::{TokenError, TokenVerifier},
};
