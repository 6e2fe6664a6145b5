//! Tests of the parts that the clouds share.

use super::*;

mod outages;

#[test]
fn dates_are_those_of_the_calendar() {
    let seconds = |text: &str| rfc3339(text).map(|date| date.duration_since(UNIX_EPOCH).unwrap().as_secs());
    for (text, wanted) in [
        ("1970-01-01T00:00:00Z", 0),
        ("2000-02-29T00:00:00Z", 951_782_400),
        ("2025-06-02T15:15:48.123456789Z", 1_748_877_348),
        ("2025-06-02T17:15:48+02:00", 1_748_877_348),
        ("2025-06-02T14:45:48-00:30", 1_748_877_348),
        ("2026-02-28T23:59:59z", 1_772_323_199),
    ] {
        assert_eq!(seconds(text), Some(wanted), "{text}");
    }
    for text in ["", "soon", "2025-06-02", "2025-06-02T15:15:48", "2025-13-02T15:15:48Z", "2025-06-02T15:15:48+2"] {
        assert_eq!(seconds(text), None, "{text}");
    }
    // The inverse of the one that writes dates.
    let mut random = fastrand::Rng::with_seed(21);
    for _ in 0..10_000 {
        let since = random.u64(0..LONGEST_NUMBER);
        assert_eq!(seconds(&wall_clock::rfc3339(Duration::from_secs(since))), Some(since));
    }
    // No text stops it.
    let letters = ['2', '0', '-', ':', 'T', 'Z', '+', '.', 'é'];
    for _ in 0..100_000 {
        let text: String = (0..random.usize(0..30)).map(|_| letters[random.usize(..letters.len())]).collect();
        let _ = rfc3339(&text);
    }
    let whole = "2025-06-02T15:15:48.5+02:00";
    for _ in 0..100_000 {
        let mut text: Vec<char> = whole.chars().collect();
        for _ in 0..random.usize(1..4) {
            let at = random.usize(..text.len());
            text[at] = letters[random.usize(..letters.len())];
        }
        text.truncate(random.usize(1..=text.len()));
        let _ = rfc3339(&text.into_iter().collect::<String>());
    }
}

#[test]
fn a_form_is_encoded_as_rfc_3986_does() {
    assert_eq!(encoded("aZ09-._~"), "aZ09-._~");
    assert_eq!(encoded("a b+c&d=e/é%\n"), "a%20b%2Bc%26d%3De%2F%C3%A9%25%0A");
}

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
