//! Azure's sources against servers in process. The forms of requests and the words of refusals are those of Microsoft's
//! documentation; `mod.rs` has the addresses.

use std::{path::PathBuf, time::Duration};

use super::{
    super::oauth::testing::{Reply, Server, assert_no_secret, failure, json, machine, mistake, reply, token},
    *,
};
use crate::internal::wall_clock;

mod identities;

const SECRET: &str = "s3cr3t~value/of+client";

fn application(servers: &Server) -> Credentials {
    let machine = machine(&[], servers, &Server::unasked());
    client_secret(&machine, "contoso.onmicrosoft.com", "app-id", SECRET, COGNITIVE_SERVICES).unwrap()
}

/// A file with a token, removed at its end.
struct TokenFile(PathBuf);

impl TokenFile {
    fn new(name: &str, text: &str) -> Self {
        let path = std::env::temp_dir().join(format!("steadfast-azure-{}-{name}", std::process::id()));
        std::fs::write(&path, text).unwrap();
        Self(path)
    }

    fn path(&self) -> &str {
        self.0.to_str().unwrap()
    }
}

impl Drop for TokenFile {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

#[tokio::test(start_paused = true)]
async fn a_client_secret_is_posted_to_the_tenant() {
    let server = Server::giving("token-one", 3599);
    let credentials = application(&server);
    assert_eq!(token(&credentials).await, ("token-one".to_owned(), 3599));
    assert!(format!("{credentials:?}").contains("app-id"));
    let asked = server.only();
    let url = "https://login.microsoftonline.com/contoso.onmicrosoft.com/oauth2/v2.0/token";
    assert_eq!((asked.method.as_str(), &*asked.url), ("POST", url));
    assert_eq!(asked.header("content-type"), "application/x-www-form-urlencoded");
    let form = asked.form();
    assert_eq!(form["grant_type"], "client_credentials");
    assert_eq!(form["client_id"], "app-id");
    assert_eq!(form["client_secret"], SECRET);
    assert_eq!(form["scope"], "https://cognitiveservices.azure.com/.default");
    assert_eq!(form.len(), 4);
}

#[tokio::test(start_paused = true)]
async fn another_cloud_has_another_authority() {
    let server = Server::giving("token", 3599);
    let host = [("AZURE_AUTHORITY_HOST", "https://login.microsoftonline.us/")];
    let machine = machine(&host, &server, &Server::unasked());
    token(&client_secret(&machine, "t", "c", SECRET, AI).unwrap()).await;
    assert_eq!(server.only().url, "https://login.microsoftonline.us/t/oauth2/v2.0/token");
}

#[tokio::test(start_paused = true)]
async fn a_refusal_of_entra_id_says_what_to_do() {
    for (status, code, said, wanted) in [
        (401, "invalid_client", "AADSTS7000215: Invalid client secret provided.", "the secret's value, not its id"),
        (401, "invalid_client", "AADSTS7000222: The provided client secret keys are expired.", "make a new one"),
        (400, "unauthorized_client", "AADSTS700016: Application was not found.", "AZURE_CLIENT_ID and AZURE_TENANT_ID"),
        (400, "invalid_request", "AADSTS90002: Tenant 't' not found.", "there is no such tenant"),
        (400, "invalid_scope", "AADSTS70011: The provided value for scope is not valid.", "check the scope"),
        (400, "invalid_resource", "AADSTS500011: The resource principal was not found.", "check the scope"),
        (400, "invalid_grant", "AADSTS7000218: Other.", "AZURE_TENANT_ID, AZURE_CLIENT_ID and AZURE_CLIENT_SECRET"),
    ] {
        let said = format!("{said} Trace ID: 0f3a6b2c-1111-2222-3333-444455556666 Timestamp: 2026-11-22 21:04:05Z");
        let body = serde_json::json!({ "error": code, "error_description": said, "error_codes": [1] }).to_string();
        let (told, is_setup) = failure(&application(&Server::new(move |_| json(status, &body)))).await;
        assert!(is_setup && told.contains("login.microsoftonline.com") && told.contains("app-id"), "{told}");
        assert!([wanted, code, &said].iter().all(|wanted| told.contains(wanted)), "{told} lacks {wanted}");
    }
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_is_no_token_is_explained_and_asked_for_again() {
    for (status, kind, body, wanted) in [
        (200, "text/html", "<html><title>Sign in s3cr3t</title></html>", "web page"),
        (503, "text/html", "<html><title>Service Unavailable</title></html>", "503"),
        (429, "application/json", r#"{"error":"temporarily_unavailable"}"#, "429"),
        (200, "application/json", r#"{"access_token":"s3cr3t"#, "no JSON object"),
        (200, "application/json", r#"{"id_token":"s3cr3t"}"#, "has no `access_token`"),
        (200, "application/json", r#"{"access_token":"s3cr3t","expires_in":"0"}"#, "ended already"),
        (200, "application/json", r#"{"access_token":"s3cr3t","expires_on":"1"}"#, "ended already"),
    ] {
        let (told, is_setup) = failure(&application(&Server::new(move |_| reply(status, kind, body, &[])))).await;
        assert!(!is_setup && told.contains(wanted) && told.contains("login.microsoftonline.com"), "{told}");
    }
    for (server, wanted) in [
        (Server::new(|_| Reply::Hang), "did not answer at `login.microsoftonline.com` within 10 s"),
        (Server::new(|_| Reply::Down), "cannot be reached at `login.microsoftonline.com`"),
    ] {
        let (told, is_setup) = failure(&application(&server)).await;
        assert!(!is_setup && told.contains(wanted), "{told}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_server_that_repeats_the_request_gives_no_secret_away() {
    let file = TokenFile::new("repeated", "s3cr3t-assertion");
    let server = Server::new(|asked| {
        let fields: Vec<_> = asked.form().into_values().collect();
        let said = format!("bad request: {} ({}) {:?}", asked.body, fields.join(" and "), asked.headers);
        json(400, &serde_json::json!({ "error": "invalid_request", "error_description": said }).to_string())
    });
    let variables = [
        ("AZURE_TENANT_ID", "t"),
        ("AZURE_CLIENT_ID", "c"),
        ("AZURE_FEDERATED_TOKEN_FILE", file.path()),
        ("IDENTITY_ENDPOINT", "http://localhost:42356/msi/token"),
        ("IDENTITY_HEADER", "s3cr3t-header"),
    ];
    let repeated =
        Server::new(|asked| json(400, &format!("{{\"message\":\"header {}\"}}", asked.header("x-identity-header"))));
    let machine = machine(&variables, &server, &repeated);
    for credentials in
        [application(&server), workload_identity(&machine, AI).unwrap(), managed_identity(&machine, None, AI).unwrap()]
    {
        let (told, _) = failure(&credentials).await;
        assert!(told.contains("[secret]"), "{told}");
        assert_no_secret(&credentials);
    }
}

#[tokio::test(start_paused = true)]
async fn a_workload_identity_reads_its_file_at_each_renewal() {
    let file = TokenFile::new("workload", "s3cr3t-assertion-1\n");
    let server = Server::giving("token", 3599);
    let variables = [("AZURE_TENANT_ID", "t"), ("AZURE_CLIENT_ID", "c"), ("AZURE_FEDERATED_TOKEN_FILE", file.path())];
    let credentials = workload_identity(&machine(&variables, &server, &Server::unasked()), AI).unwrap();
    token(&credentials).await;
    std::fs::write(&file.0, "s3cr3t-assertion-2").unwrap();
    tokio::time::advance(Duration::from_secs(3600)).await;
    token(&credentials).await;
    let asked = server.asked();
    assert_eq!(asked[0].url, "https://login.microsoftonline.com/t/oauth2/v2.0/token");
    let form = asked[0].form();
    assert_eq!(form["client_assertion_type"], "urn:ietf:params:oauth:client-assertion-type:jwt-bearer");
    assert_eq!(form["grant_type"], "client_credentials");
    assert_eq!(form["scope"], "https://ai.azure.com/.default");
    assert_eq!(form["client_id"], "c");
    assert_eq!(form.len(), 5);
    let assertions: Vec<_> = asked.iter().map(|asked| asked.form()["client_assertion"].clone()).collect();
    assert_eq!(assertions, ["s3cr3t-assertion-1", "s3cr3t-assertion-2"]);

    std::fs::write(&file.0, " \n").unwrap();
    tokio::time::advance(Duration::from_secs(3600)).await;
    let (told, is_setup) = failure(&credentials).await;
    assert!(!is_setup && told.contains("is empty") && told.contains(file.path()), "{told}");
    std::fs::remove_file(&file.0).unwrap();
    tokio::time::advance(Duration::from_secs(61)).await;
    let (told, is_setup) = failure(&credentials).await;
    assert!(is_setup && told.contains("does not exist") && told.contains("AZURE_FEDERATED_TOKEN_FILE"), "{told}");
}

#[tokio::test(start_paused = true)]
async fn a_refused_assertion_says_what_to_do() {
    for (said, wanted) in [
        ("AADSTS700024: Client assertion is not within its valid time range.", "the clock of this machine"),
        ("AADSTS700213: No matching federated identity record found.", "add a federated credential"),
        ("AADSTS70021: No matching federated identity record found.", "add a federated credential"),
    ] {
        let file = TokenFile::new("refused", "s3cr3t-assertion");
        let body = serde_json::json!({ "error": "invalid_client", "error_description": said }).to_string();
        let server = Server::new(move |_| json(401, &body));
        let variables =
            [("AZURE_TENANT_ID", "t"), ("AZURE_CLIENT_ID", "c"), ("AZURE_FEDERATED_TOKEN_FILE", file.path())];
        let credentials = workload_identity(&machine(&variables, &server, &Server::unasked()), AI).unwrap();
        let (told, is_setup) = failure(&credentials).await;
        assert!(is_setup && told.contains(wanted), "{told}");
    }
}

#[test]
fn a_missing_argument_or_variable_is_named() {
    let none = machine(&[], &Server::unasked(), &Server::unasked());
    for (tenant, client, secret, scope, wanted) in [
        ("", "c", SECRET, AI, "tenant: it is empty"),
        ("a/b", "c", SECRET, AI, "tenant: it is neither"),
        ("t", " ", SECRET, AI, "client_id: it is empty"),
        ("t", "c", "", AI, "secret: it is empty"),
        ("t", "c", SECRET, "", "scope: it is empty"),
    ] {
        let told = mistake(client_secret(&none, tenant, client, secret, scope));
        assert!(told.starts_with(wanted), "{told}");
    }
    let (tenant, client, file) =
        (("AZURE_TENANT_ID", "t"), ("AZURE_CLIENT_ID", "c"), ("AZURE_FEDERATED_TOKEN_FILE", "/f"));
    for (variables, wanted) in [
        (vec![], "AZURE_FEDERATED_TOKEN_FILE: it is not set, and a workload identity needs it"),
        (vec![file], "AZURE_TENANT_ID: it is not set"),
        (vec![file, tenant], "AZURE_CLIENT_ID: it is not set"),
        (vec![file, client], "AZURE_TENANT_ID: it is not set"),
        (vec![file, client, ("AZURE_TENANT_ID", " ")], "AZURE_TENANT_ID: it is not set"),
        (vec![file, tenant, client, ("AZURE_AUTHORITY_HOST", "login")], "AZURE_AUTHORITY_HOST: it is not a URL"),
        (
            vec![file, tenant, client, ("AZURE_AUTHORITY_HOST", "http://h")],
            "AZURE_AUTHORITY_HOST: it must start with https",
        ),
    ] {
        let machine = machine(&variables, &Server::unasked(), &Server::unasked());
        let told = mistake(workload_identity(&machine, AI));
        assert!(told.starts_with(wanted), "{told}");
    }
}
