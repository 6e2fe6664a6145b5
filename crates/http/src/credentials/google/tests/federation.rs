//! Workload identity federation (AIP-4117, RFC 8693).

use super::*;

fn external(source: Value) -> Value {
    json!({
        "type": "external_account", "audience": "//iam.googleapis.com/projects/1/locations/global/workloadIdentityPools/a",
        "subject_token_type": "urn:ietf:params:oauth:token-type:jwt", "token_url": "https://sts.googleapis.com/v1/token",
        "credential_source": source,
    })
}

/// STS, and the IAM credentials API.
fn sts() -> Server {
    Server::new(|asked| match asked.url.contains("iamcredentials") {
        true => {
            let end = wall_clock::since_1970() + Duration::from_secs(600);
            let body = json!({ "accessToken": "ya29.robot", "expireTime": wall_clock::rfc3339(end) });
            answer(200, &body.to_string())
        }
        false => answer(
            200,
            r#"{"access_token":"ya29.federated.s3cr3t","issued_token_type":"urn:ietf:params:oauth:token-type:access_token",
               "token_type":"Bearer","expires_in":3599}"#,
        ),
    })
}

/// A token without its secret mark.
fn given() -> Server {
    Server::giving("ya29.federated", 3599)
}

#[tokio::test(start_paused = true)]
async fn the_token_of_a_file_is_exchanged_and_read_at_each_renewal() {
    let folder = Folder::new();
    let path = folder.file("token", "s3cr3t-subject-1\n");
    let server = given();
    let credentials = of(&external(json!({ "file": path })), &server);
    assert_eq!(token(&credentials).await, ("ya29.federated".to_owned(), 3599));
    let asked = server.only();
    assert_eq!((asked.method.as_str(), &*asked.url), ("POST", "https://sts.googleapis.com/v1/token"));
    let form = asked.form();
    for (name, value) in [
        ("grant_type", "urn:ietf:params:oauth:grant-type:token-exchange"),
        ("audience", "//iam.googleapis.com/projects/1/locations/global/workloadIdentityPools/a"),
        ("scope", "https://www.googleapis.com/auth/cloud-platform"),
        ("requested_token_type", "urn:ietf:params:oauth:token-type:access_token"),
        ("subject_token_type", "urn:ietf:params:oauth:token-type:jwt"),
        ("subject_token", "s3cr3t-subject-1"),
    ] {
        assert_eq!(form[name], value);
    }
    assert_eq!(form.len(), 6);
    folder.file("token", json!({ "other": "x" }));
    tokio::time::advance(Duration::from_secs(3600)).await;
    token(&credentials).await;
    assert_eq!(server.asked()[1].form()["subject_token"], r#"{"other":"x"}"#);
}

#[tokio::test(start_paused = true)]
async fn the_token_of_a_json_field_is_found() {
    let folder = Folder::new();
    let path = folder.file("token", json!({ "id": { "no": 1 }, "id_token": "s3cr3t-json" }));
    let of_field = |field: &str| {
        let format = json!({ "type": "json", "subject_token_field_name": field });
        external(json!({ "file": path, "format": format }))
    };
    let server = given();
    token(&of(&of_field("id_token"), &server)).await;
    assert_eq!(server.only().form()["subject_token"], "s3cr3t-json");
    for field in ["id", "none"] {
        let (told, is_setup) = failure(&of(&of_field(field), &Server::unasked())).await;
        assert!(is_setup && told.contains(&format!("no text in its field `{field}`")), "{told}");
    }
    folder.file("token", "s3cr3t");
    let (told, _) = failure(&of(&of_field("id_token"), &Server::unasked())).await;
    assert!(told.contains("has no JSON") && told.contains("`credential_source.format`"), "{told}");
    folder.file("token", "");
    let (told, _) = failure(&of(&external(json!({ "file": path })), &Server::unasked())).await;
    assert!(told.contains("is empty"), "{told}");
    std::fs::remove_file(&path).unwrap();
    let (told, is_setup) = failure(&of(&of_field("id_token"), &Server::unasked())).await;
    assert!(is_setup && told.contains("does not exist") && told.contains(path.to_str().unwrap()), "{told}");
}

#[tokio::test(start_paused = true)]
async fn the_token_of_a_server_is_asked_for_with_its_headers() {
    let source = |url: &str| {
        external(json!({
            "url": url, "headers": { "Metadata": "True" },
            "format": { "type": "json", "subject_token_field_name": "access_token" },
        }))
    };
    let local = "http://169.254.169.254/metadata/identity/oauth2/token?api-version=2018-02-01&resource=r";
    for (url, is_metadata) in [(local, true), ("https://token.actions.example/t?a=b", false)] {
        let subject = Server::new(|asked| {
            assert_eq!((asked.method.as_str(), asked.header("metadata")), ("GET", "True"));
            answer(200, r#"{"access_token":"s3cr3t-subject"}"#)
        });
        let (of_sts, of_subject) = (given(), subject.clone());
        let servers = Server::new(move |asked| match asked.url.contains("sts.googleapis.com") {
            true => of_sts.reply(asked),
            false => of_subject.reply(asked),
        });
        let none = Server::unasked();
        let machine = machine(&[], &servers, if is_metadata { &subject } else { &none });
        let credentials = json(&machine, &source(url).to_string(), "the test's key").unwrap();
        assert_eq!(token(&credentials).await.0, "ya29.federated");
        assert_eq!(servers.asked().last().unwrap().form()["subject_token"], "s3cr3t-subject");
        let asked = if is_metadata { subject.only() } else { servers.asked()[0].clone() };
        assert_eq!(asked.url, url);
    }
    let metadata = Server::new(|_| reply(403, "text/plain", "no identity", &[]));
    let machine = machine(&[], &Server::unasked(), &metadata);
    let credentials = json(&machine, &source(local).to_string(), "the test's key").unwrap();
    let (told, is_setup) = failure(&credentials).await;
    assert!(is_setup && told.contains("403") && told.contains("169.254.169.254"), "{told}");
    assert!(told.contains("`credential_source`"), "{told}");
}

#[tokio::test(start_paused = true)]
async fn a_client_authenticates_and_a_workforce_names_its_project() {
    let folder = Folder::new();
    let path = folder.file("token", "s3cr3t-subject");
    let base = with(external(json!({ "file": path })), "workforce_pool_user_project", "user-project");
    let server = given();
    token(&of(&base, &server)).await;
    assert_eq!(server.only().form()["options"], r#"{"userProject":"user-project"}"#);
    assert_eq!(server.only().header("authorization"), "");

    let server = given();
    token(&of(&with(with(base, "client_id", "c"), "client_secret", "s3cr3t"), &server)).await;
    assert!(!server.only().form().contains_key("options"));
    assert_eq!(server.only().header("authorization"), "Basic YzpzM2NyM3Q=");
}

#[tokio::test(start_paused = true)]
async fn a_service_account_is_impersonated_for_the_stated_time() {
    let folder = Folder::new();
    let path = folder.file("token", "s3cr3t-subject");
    let url = "https://iamcredentials.googleapis.com/v1/projects/-/serviceAccounts/r@p:generateAccessToken";
    let file = with(external(json!({ "file": path })), "service_account_impersonation_url", url);
    let file = with(file, "service_account_impersonation", json!({ "token_lifetime_seconds": 600 }));
    let server = sts();
    let (text, life) = token(&of(&file, &server)).await;
    assert_eq!(text, "ya29.robot");
    assert!((599..=601).contains(&life), "{life}");
    let asked = &server.asked()[1];
    assert_eq!((&*asked.url, asked.header("authorization")), (url, "Bearer ya29.federated.s3cr3t"));
    let body: Value = serde_json::from_str(&asked.body).unwrap();
    assert_eq!(body["lifetime"], "600s");
}

#[tokio::test(start_paused = true)]
async fn a_refusal_of_sts_says_what_to_check() {
    let folder = Folder::new();
    let path = folder.file("token", "s3cr3t-subject");
    for (code, said, wanted) in [
        (
            "invalid_grant",
            "The audience in ID Token [a] does not match the expected audience b.",
            "attribute condition",
        ),
        ("invalid_target", "The target service indicated by the \"audience\" parameters is invalid.", "`audience`"),
        ("invalid_request", "Invalid value for \"subject_token_type\".", "`subject_token_type`"),
    ] {
        let body = json!({ "error": code, "error_description": said }).to_string();
        let server = Server::new(move |_| answer(400, &body));
        let (told, is_setup) = failure(&of(&external(json!({ "file": path })), &server)).await;
        assert!(is_setup && told.contains(code) && told.contains(wanted), "{told}");
        assert!(told.contains(said.trim_end_matches('.')), "{told}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_workload_in_aws_sends_a_signed_request() {
    let source = |changed: Option<(&str, &str)>| {
        let mut source = json!({
            "environment_id": "aws1",
            "region_url": "http://169.254.169.254/latest/meta-data/placement/availability-zone",
            "url": "http://169.254.169.254/latest/meta-data/iam/security-credentials",
            "imdsv2_session_token_url": "http://169.254.169.254/latest/api/token",
            "regional_cred_verification_url": "https://sts.{region}.amazonaws.com?Action=GetCallerIdentity&Version=2011-06-15",
        });
        if let Some((field, value)) = changed {
            source[field] = value.into();
        }
        external(source).to_string()
    };
    let metadata = Server::new(|asked| match (asked.method.as_str(), asked.header("x-aws-ec2-metadata-token")) {
        ("PUT", _) => {
            assert_eq!(asked.header("x-aws-ec2-metadata-token-ttl-seconds"), "300");
            reply(200, "text/plain", "s3cr3t-session", &[])
        }
        ("GET", "s3cr3t-session") => reply(200, "text/plain", "us-gov-west-1b", &[]),
        _ => reply(401, "text/plain", "", &[]),
    });
    let keys = [("AWS_ACCESS_KEY_ID", "AKIDEXAMPLE"), ("AWS_SECRET_ACCESS_KEY", "s3cr3t-key")];
    let with_region = [keys[0], keys[1], ("AWS_REGION", "eu-west-1"), ("AWS_BEARER_TOKEN_BEDROCK", "s3cr3t-bedrock")];
    for (variables, region) in [(&keys[..], "us-gov-west-1"), (&with_region, "eu-west-1")] {
        let server = given();
        let machine = machine(variables, &server, &metadata);
        token(&json(&machine, &source(None), "the test's key").unwrap()).await;
        let subject = server.only().form()["subject_token"].clone();
        let subject: Value = serde_json::from_str(&decoded(&subject)).unwrap();
        let url = format!("https://sts.{region}.amazonaws.com?Action=GetCallerIdentity&Version=2011-06-15");
        assert_eq!(subject["url"], url);
        let text = subject.to_string();
        assert!(text.contains(&format!("/{region}/sts/aws4_request")) && !text.contains("s3cr3t"), "{text}");
    }

    let refusing = Server::new(|_| reply(403, "text/plain", "", &[]));
    let machine = machine(&keys, &Server::unasked(), &refusing);
    let (told, is_setup) = failure(&json(&machine, &source(None), "the test's key").unwrap()).await;
    assert!(is_setup && told.contains("403") && told.contains("AWS_REGION"), "{told}");
    for (field, value, wanted) in [
        ("region_url", "http://evil.example/zone", "its host must be 169.254.169.254"),
        ("imdsv2_session_token_url", "http://169.254.169.254.evil.example/", "its host must be 169.254.169.254"),
        ("regional_cred_verification_url", "http://sts.amazonaws.com", "it must start with https://sts."),
        ("regional_cred_verification_url", "", "it is missing"),
    ] {
        let told = mistake(json(&machine, &source(Some((field, value))), "the test's key"));
        assert!(told.contains(wanted) && told.contains(field), "{told}");
    }
}
