//! Files of each type: what is sent, and mistakes in a file.

use super::*;

#[tokio::test(start_paused = true)]
async fn a_service_account_exchanges_a_jwt() {
    let server = Server::giving("ya29.one", 3599);
    let before = wall_clock::since_1970().as_secs();
    assert_eq!(token(&of(&service_account(), &server)).await, ("ya29.one".to_owned(), 3599));
    let asked = server.only();
    assert_eq!((asked.method.as_str(), &*asked.url), ("POST", "https://oauth2.googleapis.com/token"));
    assert_eq!(asked.header("content-type"), "application/x-www-form-urlencoded");
    assert_eq!(asked.form()["grant_type"], "urn:ietf:params:oauth:grant-type:jwt-bearer");
    assert_eq!(asked.form().len(), 2);
    let claims = asked.claims();
    assert_eq!(claims["iss"], "robot@p.iam.gserviceaccount.com");
    assert_eq!(claims["aud"], "https://oauth2.googleapis.com/token");
    assert_eq!(claims["scope"], "https://www.googleapis.com/auth/cloud-platform");
    let (iat, exp) = (claims["iat"].as_u64().unwrap(), claims["exp"].as_u64().unwrap());
    assert_eq!(exp - iat, 3600);
    assert!(iat < before + 5 && iat + 60 > before, "{iat} and {before}");
}

#[tokio::test(start_paused = true)]
async fn a_user_exchanges_a_refresh_token() {
    let server = Server::giving("ya29.two", 3599);
    assert_eq!(token(&of(&user(), &server)).await.0, "ya29.two");
    let asked = server.only();
    assert_eq!(asked.url, "https://oauth2.googleapis.com/token");
    let form = asked.form();
    assert_eq!(form["grant_type"], "refresh_token");
    assert_eq!(form["refresh_token"], "1//s3cr3t/refresh");
    assert_eq!(form["client_id"], "c.apps.googleusercontent.com");
    assert_eq!(form["client_secret"], "d-s3cr3t-client");
}

#[tokio::test(start_paused = true)]
async fn a_user_of_a_workforce_pool_authenticates_in_a_header_and_keeps_the_newest_refresh_token() {
    let server = Server::new(|asked| {
        let next = if asked.form()["refresh_token"] == "s3cr3t-1" { "s3cr3t-2" } else { "s3cr3t-3" };
        let body = json!({ "access_token": "ya29", "expires_in": 3600, "token_type": "Bearer", "refresh_token": next });
        answer(200, &body.to_string())
    });
    let file = json!({
        "type": "external_account_authorized_user", "client_id": "c", "client_secret": "s3cr3t", "refresh_token": "s3cr3t-1",
        "token_url": "https://sts.googleapis.com/v1/oauthtoken",
    });
    let credentials = of(&file, &server);
    for seconds in [0, 4000, 4000] {
        tokio::time::advance(Duration::from_secs(seconds)).await;
        token(&credentials).await;
    }
    let sent: Vec<_> = server.asked().iter().map(|asked| asked.form()["refresh_token"].clone()).collect();
    assert_eq!(sent, ["s3cr3t-1", "s3cr3t-2", "s3cr3t-3"]);
    // `printf c:s3cr3t | base64`
    assert_eq!(server.asked()[0].header("authorization"), "Basic YzpzM2NyM3Q=");
    assert_eq!(server.asked()[0].form().len(), 2);
}

#[tokio::test(start_paused = true)]
async fn an_impersonated_service_account_asks_with_the_token_of_its_source() {
    let server = Server::new(|asked| match asked.url.contains("iamcredentials") {
        true => {
            // By the server's clock, which is a day ahead of this machine's.
            let now = wall_clock::now() + Duration::from_secs(86_400);
            let end = wall_clock::since_1970() + Duration::from_secs(86_400 + 1800);
            let body = json!({ "accessToken": "ya29.robot", "expireTime": wall_clock::rfc3339(end) });
            reply(200, "application/json", &body.to_string(), &[("date", &httpdate::fmt_http_date(now))])
        }
        false => answer(200, r#"{"access_token":"ya29.s3cr3t.source","expires_in":"3599"}"#),
    });
    let url = "https://iamcredentials.googleapis.com/v1/projects/-/serviceAccounts/r@p.iam.gserviceaccount.com";
    let file = json!({
        "type": "impersonated_service_account", "source_credentials": user(), "delegates": ["a@p"],
        "service_account_impersonation_url": format!("{url}:generateAccessToken"),
    });
    let (text, life) = token(&of(&file, &server)).await;
    assert_eq!(text, "ya29.robot");
    assert!((1799..=1802).contains(&life), "{life}");
    let asked = &server.asked()[1];
    assert_eq!(asked.url, format!("{url}:generateAccessToken"));
    assert_eq!(asked.header("authorization"), "Bearer ya29.s3cr3t.source");
    let body: Value = serde_json::from_str(&asked.body).unwrap();
    let scope = "https://www.googleapis.com/auth/cloud-platform";
    assert_eq!(body, json!({ "delegates": ["a@p"], "scope": [scope], "lifetime": "3600s" }));

    let refused = r#"{"error":{"code":403,"message":"Permission 'iam.serviceAccounts.getAccessToken' denied on resource (or it may not exist).","status":"PERMISSION_DENIED"}}"#;
    let server = Server::new(move |asked| match asked.url.contains("iamcredentials") {
        true => answer(403, refused),
        false => answer(200, r#"{"access_token":"ya29.s3cr3t.source","expires_in":3599}"#),
    });
    let (told, is_setup) = failure(&of(&file, &server)).await;
    assert!(is_setup);
    assert!(told.contains("PERMISSION_DENIED") && told.contains("getAccessToken"), "{told}");
    assert!(told.contains("roles/iam.serviceAccountTokenCreator") && told.contains("r@p.iam"), "{told}");
}

#[test]
fn a_mistake_in_a_file_is_named() {
    let machine = machine(&[], &Server::unasked(), &Server::unasked());
    let key = |field: &str, value: Value| with(service_account(), field, value).to_string();
    let external = |source: Value| {
        let (url, token) = ("https://sts.googleapis.com/v1/token", "urn:ietf:params:oauth:token-type:jwt");
        json!({ "type": "external_account", "audience": "//iam", "subject_token_type": token, "token_url": url,
            "credential_source": source })
    };
    let impersonated = json!({ "type": "impersonated_service_account" });
    let chained = with(impersonated.clone(), "source_credentials", impersonated.clone());
    for (text, wanted) in [
        (String::new(), vec!["the variable `KEY`", "it is no JSON"]),
        ("s3cr3t".to_owned(), vec!["it is no JSON"]),
        ("\"s3cr3t\"".to_owned(), vec!["it is no JSON object"]),
        ("{\"private_key\": \"s3cr3t".to_owned(), vec!["it is no JSON", "line 1"]),
        ("{}".to_owned(), vec!["`type` of the variable `KEY`", "missing"]),
        (json!({ "installed": { "client_secret": "s3cr3t" } }).to_string(), vec!["`installed`", "OAuth client"]),
        (json!({ "type": "gdch_service_account" }).to_string(), vec!["`gdch_service_account` cannot be used"]),
        (json!({ "type": 3 }).to_string(), vec!["`type`", "it is no text"]),
        (without(service_account(), "client_email").to_string(), vec!["`client_email`", "missing"]),
        (without(service_account(), "private_key").to_string(), vec!["`private_key`", "missing"]),
        (without(service_account(), "token_uri").to_string(), vec!["`token_uri`", "missing"]),
        (key("client_email", "".into()), vec!["`client_email`", "missing"]),
        (key("private_key", "s3cr3t".into()), vec!["`private_key`", "no PEM"]),
        (key("private_key", 5.into()), vec!["`private_key`", "no text"]),
        (key("token_uri", "http://oauth2.googleapis.com/token".into()), vec!["`token_uri`", "https://"]),
        (key("token_uri", "https://u:s3cr3t@h/token".into()), vec!["`token_uri`", "no user name"]),
        (key("token_uri", "token s3cr3t".into()), vec!["`token_uri`", "not a URL"]),
        (without(user(), "refresh_token").to_string(), vec!["`refresh_token`", "missing"]),
        (without(user(), "client_secret").to_string(), vec!["`client_secret`", "missing"]),
        (without(external(json!({})), "audience").to_string(), vec!["`audience`", "missing"]),
        (without(external(json!({})), "credential_source").to_string(), vec!["`credential_source`", "missing"]),
        (external(json!({})).to_string(), vec!["`file` of `credential_source`", "missing"]),
        (external(json!({ "executable": {} })).to_string(), vec!["`executable`", "cannot be used"]),
        (external(json!({ "certificate": {} })).to_string(), vec!["`certificate`", "cannot be used"]),
        (external(json!({ "environment_id": "aws2" })).to_string(), vec!["`environment_id`", "`aws2`"]),
        (
            external(json!({ "file": "f", "format": { "type": "xml" } })).to_string(),
            vec!["`type` of `format`", "`xml`"],
        ),
        (
            external(json!({ "file": "f", "format": { "type": "json" } })).to_string(),
            vec!["`subject_token_field_name`", "missing"],
        ),
        (external(json!({ "url": "ftp://h" })).to_string(), vec!["`url` of `credential_source`", "http://"]),
        (
            external(json!({ "url": "http://h", "headers": { "a b": "s3cr3t" } })).to_string(),
            vec!["`a b` of `headers`", "no name of a header"],
        ),
        (impersonated.to_string(), vec!["`source_credentials`", "missing"]),
        (chained.to_string(), vec!["`type` of `source_credentials`", "not possible"]),
    ] {
        let told = mistake(json(&machine, &text, "the variable `KEY`"));
        assert!(wanted.iter().all(|wanted| told.contains(wanted)), "{told} is not {wanted:?}");
    }
}

#[test]
fn a_file_must_be_there_and_of_the_expected_type() {
    let folder = Folder::new();
    let machine = machine(&[], &Server::unasked(), &Server::unasked());
    let (key, sign_in) = (folder.file("key.json", service_account()), folder.file("user.json", user()));
    super::super::service_account(&machine, &key).unwrap();
    authorized_user(&machine, &sign_in).unwrap();
    for path in [&key, &sign_in] {
        let credentials = file(&machine, path).unwrap();
        assert!(format!("{credentials:?}").contains(path.to_str().unwrap()));
    }
    for (made, wanted) in [
        (super::super::service_account(&machine, &sign_in), "its type is `authorized_user`, and `service_account`"),
        (authorized_user(&machine, &key), "its type is `service_account`, and `authorized_user`"),
        (external_account(&machine, &key), "its type is `service_account`, and `external_account`"),
        (file(&machine, folder.0.join("other.json")), "does not exist"),
        (file(&machine, &folder.0), "cannot be read"),
    ] {
        let told = mistake(made);
        assert!(told.contains(wanted) && told.contains(folder.0.to_str().unwrap()), "{told}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_file_is_read_at_each_renewal() {
    let folder = Folder::new();
    let path = folder.file("key.json", service_account());
    let server = Server::giving("ya29", 600);
    let credentials = file(&machine(&[], &server, &Server::unasked()), &path).unwrap();
    token(&credentials).await;
    folder.file("key.json", with(service_account(), "client_email", "new@p"));
    tokio::time::advance(Duration::from_secs(601)).await;
    token(&credentials).await;
    assert_eq!(server.asked().last().unwrap().claims()["iss"], "new@p");

    std::fs::remove_file(&path).unwrap();
    tokio::time::advance(Duration::from_secs(601)).await;
    let (told, is_setup) = failure(&credentials).await;
    assert!(is_setup && told.contains("does not exist") && told.contains("key.json"), "{told}");
    folder.file("key.json", "{");
    tokio::time::advance(Duration::from_secs(61)).await;
    let (told, is_setup) = failure(&credentials).await;
    assert!(is_setup && told.contains("it is no JSON"), "{told}");
}

#[tokio::test(start_paused = true)]
async fn the_project_to_bill_is_that_of_the_variable_or_of_the_file() {
    let quota = [("GOOGLE_CLOUD_QUOTA_PROJECT", "by-variable")];
    for (file, variables, wanted) in [
        (user(), &[][..], Some("p")),
        (user(), &quota, Some("by-variable")),
        (without(user(), "quota_project_id"), &[], None),
        (service_account(), &[], None),
        (service_account(), &quota, Some("by-variable")),
    ] {
        let machine = machine(variables, &Server::giving("ya29", 3599), &Server::unasked());
        let credentials = json(&machine, &file.to_string(), "the test's key").unwrap();
        assert_eq!(credentials.get().await.unwrap().quota_project.as_deref(), wanted);
    }
    let wrong = [("GOOGLE_CLOUD_QUOTA_PROJECT", "a\nb")];
    let machine = machine(&wrong, &Server::unasked(), &Server::unasked());
    assert!(mistake(json(&machine, &user().to_string(), "f")).starts_with("GOOGLE_CLOUD_QUOTA_PROJECT: "));
    let told = mistake(json(&machine, &with(user(), "quota_project_id", "a b").to_string(), "f"));
    assert!(told.contains("`quota_project_id` of f"), "{told}");
}
