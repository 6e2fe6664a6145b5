//! Tests of the parts that the clouds share.

use super::*;

mod outages;

#[test]
fn only_words_that_no_person_writes_are_opaque() {
    for word in [
        "'system:serviceaccount:default:gateway'",
        "//iam.googleapis.com/projects/123456789012/locations/global/workloadIdentityPools/my-pool/providers/my-provider",
        "robot-with-a-very-long-name-30@a-project-with-a-long-name-30.iam.gserviceaccount.com",
        "0f3a6b2c-1111-2222-3333-444455556666",
        "https://sts.windows.net/0f3a6b2c-1111-2222-3333-444455556666/",
    ] {
        assert!(!is_opaque(word), "{word}");
    }
    let jwt = "eyJhbGciOiJSUzI1NiIsInR5cCI6IkpXVCJ9.eyJpc3MiOiJyb2JvdCIsImF1ZCI6IngifQ.c2lnbmF0dXJl";
    for word in [jwt, &format!("assertion={jwt}&x=y"), &"a".repeat(64)] {
        assert!(is_opaque(word), "{word}");
    }
}

#[test]
fn an_address_that_gets_secrets_has_tls() {
    for url in ["https://h/t", "http://localhost:8/t", "http://127.0.0.1/t", "http://[::1]:80/"] {
        assert!(secure_url("f", url).is_ok(), "{url}");
    }
    for url in ["http://h/t", "http://localhost.evil/t", "ftp://h", "h/t", "", "https://u:p@h/", "https://"] {
        assert!(secure_url("f", url).is_err(), "{url}");
    }
}
