//! Managed identities, and the default chain.

use super::*;

#[tokio::test(start_paused = true)]
async fn a_virtual_machine_asks_its_metadata() {
    // As the documentation of virtual machines has it: all numbers are texts.
    let metadata = Server::new(|_| {
        let end = wall_clock::since_1970().as_secs() + 5000;
        let body = format!(
            r#"{{"access_token":"token","refresh_token":"","expires_in":"5000","expires_on":"{end}","not_before":"1",
                "resource":"https://cognitiveservices.azure.com","token_type":"Bearer"}}"#
        );
        json(200, &body)
    });
    let machine = machine(&[], &Server::unasked(), &metadata);
    assert_eq!(token(&managed_identity(&machine, None, COGNITIVE_SERVICES).unwrap()).await, ("token".to_owned(), 5000));
    let asked = metadata.only();
    assert_eq!(asked.header("metadata"), "true");
    let url = "http://169.254.169.254/metadata/identity/oauth2/token";
    assert_eq!((asked.method.as_str(), asked.url.split('?').next().unwrap()), ("GET", url));
    let form = asked.form();
    assert_eq!(form["api-version"], "2018-02-01");
    assert_eq!(form["resource"], "https://cognitiveservices.azure.com");
    assert_eq!(form.len(), 2);
    token(&managed_identity(&machine, Some("user-assigned"), AI).unwrap()).await;
    let form = metadata.asked()[1].form();
    assert_eq!((&*form["client_id"], &*form["resource"]), ("user-assigned", "https://ai.azure.com"));
}

#[tokio::test(start_paused = true)]
async fn an_app_asks_the_server_that_azure_names() {
    // As the documentation of App Service has it: the end is a date only.
    let metadata = Server::new(|_| {
        let end = wall_clock::since_1970().as_secs() + 86_000;
        json(200, &format!(r#"{{"access_token":"token","expires_on":"{end}","resource":"r","token_type":"Bearer"}}"#))
    });
    let variables = [("IDENTITY_ENDPOINT", "http://localhost:42356/msi/token"), ("IDENTITY_HEADER", "s3cr3t-header")];
    let machine = machine(&variables, &Server::unasked(), &metadata);
    let (_, life) = token(&managed_identity(&machine, Some("id"), AI).unwrap()).await;
    assert!((85_998..=86_000).contains(&life), "{life}");
    let asked = metadata.only();
    assert_eq!(asked.header("x-identity-header"), "s3cr3t-header");
    assert_eq!(asked.url.split('?').next().unwrap(), "http://localhost:42356/msi/token");
    let form = asked.form();
    assert_eq!((&*form["api-version"], &*form["client_id"]), ("2019-08-01", "id"));
}

#[tokio::test(start_paused = true)]
async fn a_clock_that_is_off_changes_no_life() {
    for ahead in [3600, -3600, 86_400 * 365] {
        for body in [r#""expires_on":END"#, r#""expires_on":"END","expires_in":"5000""#] {
            let metadata = Server::new(move |_| {
                let here = i64::try_from(wall_clock::since_1970().as_secs()).unwrap();
                let now = u64::try_from(here + ahead).unwrap();
                let body = body.replace("END", &(now + 5000).to_string());
                let date = httpdate::fmt_http_date(std::time::UNIX_EPOCH + Duration::from_secs(now));
                let body = format!(r#"{{"access_token":"token",{body}}}"#);
                reply(200, "application/json", &body, &[("date", &date)])
            });
            let machine = machine(&[], &Server::unasked(), &metadata);
            let (_, life) = token(&managed_identity(&machine, None, AI).unwrap()).await;
            assert_eq!(life, 5000, "{ahead} {body}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_the_server_kept_ends_by_its_date() {
    let metadata = Server::new(|_| {
        let date = httpdate::fmt_http_date(wall_clock::now());
        let end = wall_clock::since_1970().as_secs() + 100;
        let body = format!(r#"{{"access_token":"token","expires_in":"86400","expires_on":"{end}"}}"#);
        reply(200, "application/json", &body, &[("date", &date)])
    });
    let machine = machine(&[], &Server::unasked(), &metadata);
    let (_, life) = token(&managed_identity(&machine, None, AI).unwrap()).await;
    assert!((99..=101).contains(&life), "{life}");
}

#[tokio::test(start_paused = true)]
async fn a_refusal_of_a_managed_identity_says_what_to_do() {
    let app = [("IDENTITY_ENDPOINT", "http://localhost:42356/msi/token"), ("IDENTITY_HEADER", "s3cr3t-header")];
    let not_found = r#"{"error":"invalid_request","error_description":"Identity not found"}"#;
    let resource = r#"{"error":"invalid_resource","error_description":"AADSTS500011: The resource was not found"}"#;
    for (variables, id, status, body, wanted, is_mistake) in [
        (&[][..], None, 400, not_found, "enable the system-assigned identity, or set AZURE_CLIENT_ID", true),
        (&[], Some("id"), 400, not_found, "assign the user-assigned identity", true),
        (&[], None, 400, resource, "check the scope", true),
        (&[], None, 404, "", "enable the system-assigned identity", false),
        (&[], None, 410, "", "410", false),
        (&[], None, 429, "", "429", false),
        (&[], None, 500, "", "500", false),
        (&app, None, 404, "", "enable the system-assigned identity", true),
        (&app, None, 401, "", "IDENTITY_HEADER must be the value that Azure set", true),
        (
            &app,
            None,
            400,
            r#"{"statusCode":400,"message":"No User Assigned Identity"}"#,
            "No User Assigned Identity",
            true,
        ),
    ] {
        let metadata = Server::new(move |_| json(status, body));
        let machine = machine(variables, &Server::unasked(), &metadata);
        let (told, is_setup) = failure(&managed_identity(&machine, id, AI).unwrap()).await;
        assert!(told.contains(wanted) && is_setup == is_mistake, "{told}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_machine_elsewhere_is_told_what_it_lacks() {
    for server in [Server::new(|_| Reply::Down), Server::new(|_| Reply::Hang)] {
        let machine = machine(&[], &Server::unasked(), &server);
        let (told, is_setup) = failure(&default_chain(&machine, AI).unwrap()).await;
        assert!(!is_setup && told.contains("169.254.169.254"), "{told}");
        assert!(told.contains("IDENTITY_ENDPOINT is not set") && told.contains("set AZURE_CLIENT_SECRET"), "{told}");
    }
}

#[test]
fn a_server_that_cannot_be_asked_is_named() {
    let endpoint = ("IDENTITY_ENDPOINT", "http://localhost:40342/token");
    let header = ("IDENTITY_HEADER", "s3cr3t");
    for (variables, wanted) in [
        (vec![endpoint], "IDENTITY_HEADER: it is not set"),
        (
            vec![endpoint, ("IMDS_ENDPOINT", "http://localhost:40342")],
            "IMDS_ENDPOINT: it names the identities of Azure Arc",
        ),
        (
            vec![endpoint, header, ("IDENTITY_SERVER_THUMBPRINT", "ab")],
            "IDENTITY_SERVER_THUMBPRINT: it names the identities of Service Fabric",
        ),
        (vec![("MSI_ENDPOINT", "http://localhost:50342")], "MSI_ENDPOINT: it names the identities of Azure ML"),
        (vec![("IDENTITY_ENDPOINT", "localhost"), header], "IDENTITY_ENDPOINT: it is not a URL"),
        (vec![("AZURE_POD_IDENTITY_AUTHORITY_HOST", "s p")], "AZURE_POD_IDENTITY_AUTHORITY_HOST: it is not a URL"),
    ] {
        let machine = machine(&variables, &Server::unasked(), &Server::unasked());
        let told = mistake(managed_identity(&machine, None, AI));
        assert!(told.starts_with(wanted), "{told}");
    }
    let none = machine(&[], &Server::unasked(), &Server::unasked());
    assert!(mistake(managed_identity(&none, None, " ")).starts_with("scope: it is empty"));
}

#[tokio::test(start_paused = true)]
async fn the_default_chain_goes_by_the_variables() {
    let file = TokenFile::new("chain", "s3cr3t-assertion");
    let (tenant, client) = (("AZURE_TENANT_ID", "t"), ("AZURE_CLIENT_ID", "c"));
    let (secret, token_file) = (("AZURE_CLIENT_SECRET", SECRET), ("AZURE_FEDERATED_TOKEN_FILE", file.path()));
    for (variables, fields) in [
        (vec![tenant, client, secret, token_file], ["client_secret", "scope"]),
        (vec![tenant, client, token_file], ["client_assertion", "scope"]),
        (vec![client], ["client_id", "resource"]),
        (vec![], ["api-version", "resource"]),
    ] {
        let server = Server::giving("token", 3599);
        let machine = machine(&variables, &server, &server);
        token(&default_chain(&machine, AI).unwrap()).await;
        let form = server.only().form();
        assert!(fields.iter().all(|field| form.contains_key(*field)), "{form:?}");
    }
}

#[test]
fn the_default_chain_names_a_missing_variable() {
    let (tenant, client, secret) =
        (("AZURE_TENANT_ID", "t"), ("AZURE_CLIENT_ID", "c"), ("AZURE_CLIENT_SECRET", SECRET));
    for (variables, wanted) in [
        (vec![secret], "AZURE_TENANT_ID: it is not set, and a client secret needs it"),
        (vec![secret, tenant], "AZURE_CLIENT_ID: it is not set"),
        (
            vec![tenant, client, ("AZURE_CLIENT_CERTIFICATE_PATH", "/c.pem")],
            "AZURE_CLIENT_CERTIFICATE_PATH: a certificate",
        ),
        (vec![client, ("AZURE_FEDERATED_TOKEN_FILE", "/f")], "AZURE_TENANT_ID: it is not set, and a workload identity"),
    ] {
        let machine = machine(&variables, &Server::unasked(), &Server::unasked());
        let told = mistake(default_chain(&machine, AI));
        assert!(told.starts_with(wanted), "{told}");
    }
}
