//! STS, instance metadata version 2, container credentials, and the credentials of an SSO role.

use http::{Method, request::Parts};
use serde_json::json;

use super::{Form, Issued, JSON};
use crate::{
    door::{Cloud, State},
    protocol::header,
};
use steadfast_internal::wall_clock;

const TEXT: &str = "text/plain";
const XML: &str = "text/xml";

/// The name of the role that an instance has.
const ROLE: &str = "simulated-role";

pub(super) fn answer(request: &Parts, form: &Form, state: &mut State, refused: bool) -> Option<Issued> {
    let path = request.uri.path();
    let get = request.method == Method::GET;
    if matches!(path, "/" | "") && form.get("Action") == "AssumeRoleWithWebIdentity" {
        return Some(web_identity(form, state, refused));
    }
    if path == "/latest/api/token" {
        let seconds = header(request, "x-aws-ec2-metadata-token-ttl-seconds").and_then(|text| text.parse::<u32>().ok());
        return Some(match seconds {
            _ if request.method != Method::PUT => (405, TEXT, String::new()),
            Some(1..=21_600) => {
                let token = format!("imds-session-{}", state.sessions.len() + 1);
                state.sessions.insert(token.clone());
                (200, TEXT, token)
            }
            _ => (400, TEXT, String::new()),
        });
    }
    if let Some(rest) = path.strip_prefix("/latest/meta-data/iam/security-credentials").filter(|_| get) {
        let token = header(request, "x-aws-ec2-metadata-token").unwrap_or_default();
        let known = state.sessions.contains(token);
        return Some(match rest.trim_matches('/') {
            _ if !known => (401, TEXT, String::new()),
            "" => (200, TEXT, ROLE.to_owned()),
            ROLE if refused || state.is_revoked(Cloud::Aws) => (404, TEXT, String::new()),
            ROLE => {
                let [id, secret, token] = state.issue_pair();
                let body = json!({ "Code": "Success", "LastUpdated": end(state, false), "Type": "AWS-HMAC",
                    "AccessKeyId": id, "SecretAccessKey": secret, "Token": token, "Expiration": end(state, true) });
                // It is JSON in fact, as recorded.
                (200, TEXT, body.to_string())
            }
            _ => (404, TEXT, String::new()),
        });
    }
    if path == "/latest/meta-data/placement/region" && get {
        let known = state.sessions.contains(header(request, "x-aws-ec2-metadata-token").unwrap_or_default());
        return Some(if known { (200, TEXT, "us-east-1".to_owned()) } else { (401, TEXT, String::new()) });
    }
    if (path.starts_with("/v2/credentials/") || path == "/v1/credentials") && get {
        // A task's path is its secret; a pod has a token.
        let secret = header(request, "authorization").unwrap_or(path);
        if refused || !state.takes(Cloud::Aws, secret) {
            let body = json!({ "code": "AccessDeniedException", "message": "The credentials are not for you" });
            return Some((403, JSON, body.to_string()));
        }
        let [id, secret, token] = state.issue_pair();
        let role = format!("arn:aws:iam::123456789012:role/{ROLE}");
        let body = json!({ "RoleArn": role, "AccessKeyId": id, "SecretAccessKey": secret, "Token": token,
            "Expiration": end(state, true) });
        return Some((200, JSON, body.to_string()));
    }
    if path == "/federation/credentials" && get {
        let secret = header(request, "x-amz-sso_bearer_token").unwrap_or_default();
        let asked = !form.get("role_name").is_empty() && !form.get("account_id").is_empty();
        if refused || !asked || !state.takes(Cloud::Aws, secret) {
            let body = json!({ "__type": "UnauthorizedException", "message": "Session token not found or invalid" });
            return Some((401, JSON, body.to_string()));
        }
        let [id, secret, token] = state.issue_pair();
        let until = (state.now() + state.life).duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
        let body = json!({ "roleCredentials": { "accessKeyId": id, "secretAccessKey": secret, "sessionToken": token,
            "expiration": wall_clock::millis(until) } });
        return Some((200, JSON, body.to_string()));
    }
    None
}

/// Returns the end of what is issued now, or the moment itself.
fn end(state: &State, later: bool) -> String {
    let at = if later { state.now() + state.life } else { state.now() };
    let since = at.duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    wall_clock::rfc3339(std::time::Duration::from_secs(since.as_secs()))
}

fn web_identity(form: &Form, state: &mut State, refused: bool) -> Issued {
    let error = |status: u16, code: &str, words: &str| {
        let body = format!(
            "<ErrorResponse xmlns=\"https://sts.amazonaws.com/doc/2011-06-15/\">\n  <Error>\n    <Type>Sender</Type>\n    \
             <Code>{code}</Code>\n    <Message>{words}</Message>\n  </Error>\n  <RequestId>0</RequestId>\n</ErrorResponse>\n"
        );
        (status, XML, body)
    };
    for name in ["Version", "RoleArn", "RoleSessionName", "WebIdentityToken"] {
        if form.get(name).is_empty() {
            let words = format!("1 validation error detected: Value null at '{name}' failed to satisfy constraint");
            return error(400, "ValidationError", &words);
        }
    }
    if refused || !state.takes(Cloud::Aws, form.get("WebIdentityToken")) {
        return error(400, "InvalidIdentityToken", "No OpenIDConnect provider found in your account for the token");
    }
    let role = form.get("RoleArn").to_owned();
    let [id, secret, token] = state.issue_pair();
    let session = form.get("RoleSessionName");
    let until = end(state, true);
    let credentials = format!(
        "<AccessKeyId>{id}</AccessKeyId>\n      <SecretAccessKey>{secret}</SecretAccessKey>\n      \
         <SessionToken>{token}</SessionToken>\n      <Expiration>{until}</Expiration>"
    );
    let user = format!("<Arn>{role}/{session}</Arn>\n      <AssumedRoleId>AROASIMULATED:{session}</AssumedRoleId>");
    let body = format!(
        "<AssumeRoleWithWebIdentityResponse xmlns=\"https://sts.amazonaws.com/doc/2011-06-15/\">\n  \
         <AssumeRoleWithWebIdentityResult>\n    \
         <SubjectFromWebIdentityToken>simulated</SubjectFromWebIdentityToken>\n    \
         <AssumedRoleUser>\n      {user}\n    </AssumedRoleUser>\n    \
         <Credentials>\n      {credentials}\n    </Credentials>\n  </AssumeRoleWithWebIdentityResult>\n  \
         <ResponseMetadata>\n    <RequestId>0</RequestId>\n  </ResponseMetadata>\n\
         </AssumeRoleWithWebIdentityResponse>\n"
    );
    (200, XML, body)
}
