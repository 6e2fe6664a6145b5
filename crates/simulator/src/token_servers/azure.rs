//! Entra's token endpoint (client secret, assertion of a workload), and the identities of instances and App Service.

use std::time::UNIX_EPOCH;

use http::{Method, request::Parts};
use serde_json::json;

use super::{Form, Issued, json};
use crate::{
    door::{Cloud, State},
    protocol::header,
};

const PREFIX: &str = "eyJ0eXAiOiJKV1QiLCJhbGciOiJSUzI1NiJ9.";

pub(super) fn answer(request: &Parts, form: &Form, state: &mut State, refused: bool) -> Option<Issued> {
    let path = request.uri.path();
    let get = request.method == Method::GET;
    if let Some(tenant) = path.strip_suffix("/oauth2/v2.0/token") {
        return Some(entra(tenant.trim_matches('/'), form, state, refused));
    }
    match path {
        "/metadata/identity/oauth2/token" if get => {
            if header(request, "metadata") != Some("true") {
                return Some(refuse("invalid_request", "Required metadata header not specified"));
            }
            Some(identity(form, state, refused))
        }
        "/msi/token" if get => {
            let secret = header(request, "x-identity-header").unwrap_or_default();
            if !state.takes(Cloud::Azure, secret) {
                return Some(json(401, json!({ "statusCode": 401, "message": "No valid identity header" })));
            }
            Some(identity(form, state, refused))
        }
        _ => None,
    }
}

fn refuse(code: &str, words: &str) -> Issued {
    json(400, json!({ "error": code, "error_description": words }))
}

fn entra(tenant: &str, form: &Form, state: &mut State, refused: bool) -> Issued {
    let fail = |status: u16, code: &str, words: &str| {
        json(status, json!({ "error": code, "error_description": words, "error_codes": [7_000_215], "trace_id": "0" }))
    };
    if tenant.is_empty() || tenant.contains('/') {
        return fail(
            400,
            "invalid_request",
            "AADSTS900023: Specified tenant identifier is neither a valid DNS name, nor a valid external domain.",
        );
    }
    if form.get("grant_type") != "client_credentials" {
        return fail(400, "unsupported_grant_type", "AADSTS70003: The app requested an unsupported grant type.");
    }
    if form.get("client_id").is_empty() || !form.get("scope").ends_with("/.default") {
        return fail(
            400,
            "invalid_scope",
            "AADSTS1002012: The provided value for scope is not valid. Client credential flows must have a scope value with /.default suffixed to the resource identifier.",
        );
    }
    let secret = if form.get("client_secret").is_empty() {
        let kind = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer";
        form.get(if form.get("client_assertion_type") == kind { "client_assertion" } else { "-" })
    } else {
        form.get("client_secret")
    };
    if refused || !state.takes(Cloud::Azure, secret) {
        return fail(
            401,
            "invalid_client",
            "AADSTS7000215: Invalid client secret provided. Ensure the secret being sent in the request is the client secret value, not the client secret ID.",
        );
    }
    let token = state.issue(Cloud::Azure, PREFIX);
    let life = state.life.as_secs();
    json(200, json!({ "token_type": "Bearer", "expires_in": life, "ext_expires_in": life, "access_token": token }))
}

/// The token of a managed identity; numbers are texts there.
fn identity(form: &Form, state: &mut State, refused: bool) -> Issued {
    let resource = form.get("resource").to_owned();
    if resource.is_empty() || form.get("api-version").is_empty() {
        return refuse("invalid_request", "Required query variable 'resource' or 'api-version' is missing");
    }
    if refused || state.is_revoked(Cloud::Azure) {
        return refuse("invalid_request", "Identity not found");
    }
    let token = state.issue(Cloud::Azure, PREFIX);
    let now = state.now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    let life = state.life.as_secs();
    json(
        200,
        json!({ "access_token": token, "client_id": "simulated", "expires_in": life.to_string(),
        "expires_on": (now + life).to_string(), "not_before": now.to_string(), "resource": resource,
        "token_type": "Bearer" }),
    )
}
