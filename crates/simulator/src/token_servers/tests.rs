//! The token servers in process, by requests as the clouds document them.

use std::time::Duration;

use bytes::Bytes;
use http::{Request, StatusCode};
use http_body_util::{BodyExt, Full};
use serde_json::{Value, json};
use steadfast::providers::simulated::Simulated;
use tower::ServiceExt;

use crate::{Accounts, Cloud, InProcess, TokenFault};

async fn ask(accounts: &Accounts, request: http::request::Builder, body: &str) -> (StatusCode, String) {
    let server = InProcess::new(Simulated::new("tokens")).accounts(accounts);
    let response = server.oneshot(request.body(Full::from(Bytes::from(body.to_owned()))).unwrap()).await.unwrap();
    let status = response.status();
    let body = response.into_body().collect().await.unwrap().to_bytes();
    (status, String::from_utf8(body.to_vec()).unwrap())
}

fn json_of(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|error| panic!("{error}: {text}"))
}

#[tokio::test(start_paused = true)]
async fn instance_metadata_needs_a_session() {
    let accounts = Accounts::new().token_life(Duration::from_secs(600));
    let role = "/latest/meta-data/iam/security-credentials/";
    assert_eq!(ask(&accounts, Request::get(role), "").await.0, 401);
    let put = Request::put("/latest/api/token");
    assert_eq!(ask(&accounts, put, "").await.0, 400);
    let put = Request::put("/latest/api/token").header("x-aws-ec2-metadata-token-ttl-seconds", "60");
    let (status, session) = ask(&accounts, put, "").await;
    assert_eq!(status, 200);
    let get = |path: &str| Request::get(path).header("x-aws-ec2-metadata-token", &session);
    let (_, name) = ask(&accounts, get(role), "").await;
    let (status, found) = ask(&accounts, get(&format!("{role}{name}")), "").await;
    let found = json_of(&found);
    assert_eq!((status.as_u16(), &found["Code"]), (200, &json!("Success")));
    assert!(found["AccessKeyId"].as_str().unwrap().starts_with("ASIA") && found["Expiration"].is_string());
    accounts.revoke(Cloud::Aws);
    assert_eq!(ask(&accounts, get(&format!("{role}{name}")), "").await.0, 404);
}

#[tokio::test(start_paused = true)]
async fn each_token_server_takes_its_own_grant_alone() {
    let accounts = Accounts::new()
        .grant(Cloud::Aws, "/v2/credentials/7")
        .grant(Cloud::Aws, "an sso token")
        .grant(Cloud::Aws, "a pod's")
        .grant(Cloud::Google, "a workload's")
        .grant(Cloud::Azure, "a secret");
    let form = |url: &str| Request::post(url).header("content-type", "application/x-www-form-urlencoded");
    let entra = |secret: &str| {
        format!(
            "grant_type=client_credentials&client_id=c&client_secret={secret}&scope=https%3A%2F%2Fai.azure.com%2F.default"
        )
    };
    let exchange = |token: &str| {
        format!(
            "grant_type=urn%3Aietf%3Aparams%3Aoauth%3Agrant-type%3Atoken-exchange&audience=%2F%2Fiam&subject_token={token}"
        )
    };
    let sso = "/federation/credentials?role_name=r&account_id=1";
    let identity = "/metadata/identity/oauth2/token?api-version=2018-02-01&resource=https%3A%2F%2Fai.azure.com";
    let google = "/computeMetadata/v1/instance/service-accounts/default/token";
    for (request, body, status, words) in [
        (Request::get("/v2/credentials/7"), String::new(), 200, "AccessKeyId"),
        (Request::get("/v2/credentials/8"), String::new(), 403, "AccessDenied"),
        (Request::get("/v1/credentials").header("authorization", "a pod's"), String::new(), 200, "SecretAccessKey"),
        (Request::get("/v1/credentials").header("authorization", "another"), String::new(), 403, "AccessDenied"),
        (Request::get(sso).header("x-amz-sso_bearer_token", "an sso token"), String::new(), 200, "sessionToken"),
        (Request::get(sso), String::new(), 401, "UnauthorizedException"),
        (form("/tenant/oauth2/v2.0/token"), entra("a+secret"), 200, "access_token"),
        (form("/tenant/oauth2/v2.0/token"), entra("wrong"), 401, "invalid_client"),
        (form("/tenant/oauth2/v2.0/token"), "grant_type=password".into(), 400, "unsupported_grant_type"),
        (Request::get(identity).header("metadata", "true"), String::new(), 200, "expires_on"),
        (Request::get(identity), String::new(), 400, "metadata header"),
        (Request::get(google).header("metadata-flavor", "Google"), String::new(), 200, "access_token"),
        (Request::get(google), String::new(), 403, "Metadata-Flavor"),
        (form("/v1/token"), exchange("a+workload's"), 200, "issued_token_type"),
        (form("/v1/token"), exchange("wrong"), 400, "invalid_grant"),
        (form("/token"), "grant_type=refresh_token&refresh_token=x".into(), 401, "invalid_client"),
        (form("/"), "Action=AssumeRoleWithWebIdentity&Version=2011-06-15".into(), 400, "ValidationError"),
    ] {
        let what = format!("{:?} {body}", request.uri_ref());
        let (got, text) = ask(&accounts, request, &body).await;
        assert_eq!(got, status, "{what}: {text}");
        assert!(text.contains(words), "{what}: {text}");
    }
    assert_eq!([Cloud::Aws, Cloud::Google, Cloud::Azure].map(|cloud| accounts.issued(cloud)), [3, 2, 2]);
}

#[tokio::test(start_paused = true)]
async fn a_token_server_can_be_down_a_portal_or_silent() {
    let accounts = Accounts::default();
    let get = || {
        Request::get("/computeMetadata/v1/instance/service-accounts/default/token").header("metadata-flavor", "Google")
    };
    accounts.token_fault(Some(TokenFault::Unavailable));
    assert_eq!(ask(&accounts, get(), "").await.0, 503);
    accounts.token_fault(Some(TokenFault::Html));
    let (status, page) = ask(&accounts, get(), "").await;
    assert!(status == 200 && page.starts_with("<!DOCTYPE html>"));
    accounts.token_fault(Some(TokenFault::Hang));
    assert!(tokio::time::timeout(Duration::from_secs(3600), ask(&accounts, get(), "")).await.is_err());
    accounts.token_fault(None);
    assert_eq!(ask(&accounts, get(), "").await.0, 200);
}
