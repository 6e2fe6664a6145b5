//! The token endpoint (a service account's JWT, a refresh token), the exchange of workload identities, and the
//! metadata server.

use std::time::{Duration, UNIX_EPOCH};

use http::{Method, request::Parts};
use ring::signature::{RSA_PKCS1_2048_8192_SHA256, UnparsedPublicKey};
use serde_json::{Value, json};
use steadfast_internal::{base64, wall_clock};

use super::{Form, Issued, json};
use crate::{
    door::{Cloud, State},
    protocol::{bearer, header},
};

const PREFIX: &str = "ya29.";

pub(super) fn answer(request: &Parts, form: &Form, state: &mut State, refused: bool) -> Option<Issued> {
    let path = request.uri.path();
    if let Some(rest) = path.strip_prefix("/computeMetadata/v1/") {
        return Some(metadata(request, rest, state, refused));
    }
    if request.method != Method::POST {
        return None;
    }
    let exchanges = form.get("grant_type").ends_with("token-exchange") || !form.get("subjectToken").is_empty();
    match path {
        "/token" | "/oauth2/v4/token" if !exchanges => Some(token(form, state, refused)),
        "/v1/token" | "/token" => Some(exchange(form, state, refused)),
        path if path.ends_with(":generateAccessToken") => {
            let known =
                bearer(request).is_some_and(|token| state.takes(Cloud::Google, token) || token.starts_with(FEDERATED));
            Some(if known && !refused && !state.is_revoked(Cloud::Google) {
                let token = state.issue(Cloud::Google, PREFIX);
                let until = (state.now() + state.life).duration_since(UNIX_EPOCH).unwrap_or_default();
                let until = wall_clock::rfc3339(Duration::from_secs(until.as_secs()));
                json(200, json!({ "accessToken": token, "expireTime": until }))
            } else {
                let words = "Permission 'iam.serviceAccounts.getAccessToken' denied on resource (or it may not exist).";
                json(403, json!({ "error": { "code": 403, "message": words, "status": "PERMISSION_DENIED" } }))
            })
        }
        _ => None,
    }
}

/// The beginning of a federated token, which buys a service account's.
const FEDERATED: &str = "ya29.d.";

fn metadata(request: &Parts, path: &str, state: &mut State, refused: bool) -> Issued {
    if header(request, "metadata-flavor") != Some("Google") {
        return (403, "text/html; charset=UTF-8", "<p>Missing Metadata-Flavor:Google header.</p>".to_owned());
    }
    match path {
        "instance/service-accounts/default/token" if refused || state.is_revoked(Cloud::Google) => {
            (404, "text/html; charset=UTF-8", "<p>The requested URL was not found on this server.</p>".to_owned())
        }
        "instance/service-accounts/default/token" => grant(state, PREFIX),
        "instance/service-accounts/default/email" => {
            (200, "application/text", "simulated@project.iam.gserviceaccount.com".to_owned())
        }
        "project/project-id" => (200, "application/text", "simulated-project".to_owned()),
        _ => (404, "text/html; charset=UTF-8", "<p>The requested URL was not found on this server.</p>".to_owned()),
    }
}

fn grant(state: &mut State, prefix: &str) -> Issued {
    let token = state.issue(Cloud::Google, prefix);
    json(200, json!({ "access_token": token, "expires_in": state.life.as_secs(), "token_type": "Bearer" }))
}

fn refuse(code: &str, words: &str) -> Issued {
    json(400, json!({ "error": code, "error_description": words }))
}

fn token(form: &Form, state: &mut State, refused: bool) -> Issued {
    if refused || state.is_revoked(Cloud::Google) {
        return refuse("invalid_grant", "Token has been expired or revoked.");
    }
    match form.get("grant_type") {
        "refresh_token" => {
            let known = ["client_id", "client_secret"].iter().all(|name| !form.get(name).is_empty());
            if !known {
                return json(
                    401,
                    json!({ "error": "invalid_client", "error_description": "The OAuth client was not found." }),
                );
            }
            if !state.takes(Cloud::Google, form.get("refresh_token")) {
                return refuse("invalid_grant", "Bad Request");
            }
        }
        "urn:ietf:params:oauth:grant-type:jwt-bearer" => {
            if let Err(words) = assertion(form.get("assertion"), state) {
                return refuse("invalid_grant", words);
            }
        }
        other => return refuse("unsupported_grant_type", &format!("Invalid grant_type: {other}")),
    }
    grant(state, PREFIX)
}

/// Checks a service account's assertion (RFC 7523, with Google's demands on its claims).
fn assertion(jwt: &str, state: &State) -> Result<(), &'static str> {
    let parts: Vec<&str> = jwt.split('.').collect();
    let [head, claims, signature] = parts[..] else { return Err("Invalid JWT: three parts are required.") };
    let read = |part: &str| -> Option<Value> { serde_json::from_slice(&unpadded(part)?).ok() };
    let head = read(head).ok_or("Invalid JWT: the header is no JSON.")?;
    let said = read(claims).ok_or("Invalid JWT: the claims are no JSON.")?;
    if head["alg"] != "RS256" {
        return Err("Invalid JWT: the algorithm must be RS256.");
    }
    let number = |name: &str| said[name].as_u64().ok_or("Invalid JWT: iat and exp must be numbers.");
    let (issued, ends) = (number("iat")?, number("exp")?);
    let now = state.now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    if issued > now + 300 || ends < now || ends.saturating_sub(issued) > 3600 {
        return Err(
            "Invalid JWT: Token must be a short-lived token (60 minutes) and in a reasonable timeframe. Check \
                    your iat and exp values in the JWT claim.",
        );
    }
    if said["scope"].as_str().is_none_or(str::is_empty)
        || !said["aud"].as_str().is_some_and(|aud| aud.ends_with("/token"))
    {
        return Err("Invalid JWT: scope and audience are required.");
    }
    let Some(key) = said["iss"].as_str().and_then(|email| state.service_accounts.get(email)) else {
        return if state.is_open() { Ok(()) } else { Err("Invalid grant: account not found") };
    };
    let signed = &jwt[..jwt.len() - signature.len() - 1];
    let signature = unpadded(signature).unwrap_or_default();
    let verified = UnparsedPublicKey::new(&RSA_PKCS1_2048_8192_SHA256, key).verify(signed.as_bytes(), &signature);
    verified.map_err(|_| "Invalid JWT Signature.")
}

/// Decodes base64 in the alphabet of URLs.
fn unpadded(text: &str) -> Option<Vec<u8>> {
    if text.contains(['+', '/', '=']) {
        return None;
    }
    base64::decode(&text.replace('-', "+").replace('_', "/"))
}

/// Exchanges a workload's token (RFC 8693).
fn exchange(form: &Form, state: &mut State, refused: bool) -> Issued {
    let said = [form.get("subject_token"), form.get("subjectToken")].into_iter().find(|text| !text.is_empty());
    let audience = [form.get("audience"), form.get("subject_token_type"), form.get("subjectTokenType")];
    if audience.iter().all(|text| text.is_empty()) {
        return refuse("invalid_request", "Missing required parameter: audience");
    }
    match said {
        Some(token) if !refused && state.takes(Cloud::Google, token) => {
            let token = state.issue(Cloud::Google, FEDERATED);
            let kind = "urn:ietf:params:oauth:token-type:access_token";
            let life = state.life.as_secs();
            json(
                200,
                json!({ "access_token": token, "issued_token_type": kind, "token_type": "Bearer", "expires_in": life }),
            )
        }
        _ => refuse("invalid_grant", "The given subject token is not valid."),
    }
}
