//! The documented order of places (AIP-4110), and the metadata server (AIP-4115).

use super::*;

#[tokio::test(start_paused = true)]
async fn the_named_file_comes_first() {
    let folder = Folder::new();
    let named = folder.file("named.json", service_account());
    folder.file(".config/gcloud/application_default_credentials.json", user());
    let server = Server::giving("ya29", 3599);
    let variables = [("GOOGLE_APPLICATION_CREDENTIALS", named.to_str().unwrap()), ("HOME", folder.0.to_str().unwrap())];
    let credentials = application_default(&machine(&variables, &server, &Server::unasked())).unwrap();
    token(&credentials).await;
    assert!(server.only().form().contains_key("assertion"));
}

#[tokio::test(start_paused = true)]
async fn the_file_of_gcloud_comes_second() {
    for (variable, file) in [
        ("HOME", ".config/gcloud/application_default_credentials.json"),
        ("CLOUDSDK_CONFIG", "application_default_credentials.json"),
    ] {
        let folder = Folder::new();
        folder.file(file, user());
        let server = Server::giving("ya29", 3599);
        let variables = [(variable, folder.0.to_str().unwrap())];
        let credentials = application_default(&machine(&variables, &server, &Server::unasked())).unwrap();
        token(&credentials).await;
        assert!(server.only().form().contains_key("refresh_token"));
    }
}

/// A metadata server as the documentation of Compute Engine describes it.
fn metadata() -> Server {
    Server::new(|asked| {
        assert_eq!((asked.method.as_str(), asked.header("metadata-flavor")), ("GET", "Google"));
        let body = r#"{"access_token":"ya29.machine","expires_in":3598,"token_type":"Bearer"}"#;
        reply(200, "application/json", body, &[("metadata-flavor", "Google"), ("server", "Metadata Server for VM")])
    })
}

#[tokio::test(start_paused = true)]
async fn the_metadata_server_comes_last_and_a_sign_in_needs_no_restart() {
    let folder = Folder::new();
    let (servers, metadata) = (Server::giving("ya29.user", 3599), metadata());
    let machine = machine(&[("HOME", folder.0.to_str().unwrap())], &servers, &metadata);
    let credentials = application_default(&machine).unwrap();
    assert_eq!(token(&credentials).await, ("ya29.machine".to_owned(), 3598));
    let place = "http://metadata.google.internal/computeMetadata/v1/instance/service-accounts/default/token";
    let asked = metadata.only();
    assert_eq!(asked.url.split('?').next().unwrap(), place);
    assert_eq!(asked.form()["scopes"], "https://www.googleapis.com/auth/cloud-platform");

    folder.file(".config/gcloud/application_default_credentials.json", user());
    tokio::time::advance(Duration::from_secs(3600)).await;
    assert_eq!(token(&credentials).await.0, "ya29.user");
}

#[tokio::test(start_paused = true)]
async fn a_variable_replaces_the_address_of_the_metadata_server() {
    let metadata = metadata();
    let machine = machine(&[("GCE_METADATA_HOST", "127.0.0.1:8080")], &Server::unasked(), &metadata);
    token(&super::super::metadata(&machine).unwrap()).await;
    assert!(metadata.only().url.starts_with("http://127.0.0.1:8080/computeMetadata/"));
}

#[tokio::test(start_paused = true)]
async fn a_server_that_is_no_metadata_server_is_not_believed() {
    let body = r#"{"access_token":"s3cr3t","expires_in":3598,"token_type":"Bearer"}"#;
    for answer in [
        (200, "application/json", body, None),
        (200, "application/json", body, Some("Other")),
        (302, "text/html", "<html><title>Sign in</title></html>", None),
    ] {
        let metadata = Server::new(move |_| {
            let (status, kind, body, flavor) = answer;
            let headers: Vec<_> = flavor.map(|flavor| ("metadata-flavor", flavor)).into_iter().collect();
            reply(status, kind, body, &headers)
        });
        let machine = machine(&[], &Server::unasked(), &metadata);
        let (told, _) = failure(&super::super::metadata(&machine).unwrap()).await;
        assert!(told.contains("`Metadata-Flavor: Google`") && told.contains("GCE_METADATA_HOST"), "{told}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_machine_without_a_service_account_is_explained() {
    let metadata = Server::new(|_| reply(404, "text/html", "Not Found", &[("metadata-flavor", "Google")]));
    let machine = machine(&[], &Server::unasked(), &metadata);
    let (told, is_setup) = failure(&super::super::metadata(&machine).unwrap()).await;
    assert!(is_setup && told.contains("404") && told.contains("attach one"), "{told}");
}

#[tokio::test(start_paused = true)]
async fn a_machine_without_any_place_says_what_to_do() {
    let folder = Folder::new();
    let metadata = Server::new(|_| Reply::Down);
    let variables = [("CLOUDSDK_CONFIG", folder.0.to_str().unwrap())];
    let credentials = application_default(&machine(&variables, &Server::unasked(), &metadata)).unwrap();
    let (told, _) = failure(&credentials).await;
    for wanted in [
        "GOOGLE_APPLICATION_CREDENTIALS is not set",
        folder.0.to_str().unwrap(),
        "`gcloud auth application-default login`",
        "metadata.google.internal",
    ] {
        assert!(told.contains(wanted), "{told}");
    }
}

#[test]
fn a_named_file_that_cannot_be_used_is_a_mistake_at_once() {
    let folder = Folder::new();
    for (path, wanted) in [
        (folder.0.join("none.json"), "GOOGLE_APPLICATION_CREDENTIALS: the file"),
        (folder.file("text.json", "s3cr3t"), "it is no JSON"),
        (folder.file("lacking.json", without(user(), "client_id")), "`client_id` of the Google credentials file"),
    ] {
        let variables = [("GOOGLE_APPLICATION_CREDENTIALS", path.to_str().unwrap())];
        let told = mistake(application_default(&machine(&variables, &Server::unasked(), &Server::unasked())));
        assert!(told.contains(wanted) && told.contains(path.to_str().unwrap()), "{told}");
    }
    folder.file("application_default_credentials.json", "{}");
    let variables = [("CLOUDSDK_CONFIG", folder.0.to_str().unwrap())];
    let told = mistake(application_default(&machine(&variables, &Server::unasked(), &Server::unasked())));
    assert!(told.contains("`type`"), "{told}");
}
