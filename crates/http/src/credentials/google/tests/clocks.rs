//! Wrong clocks, refusals, and servers that are down.

use super::*;

/// A token server whose clock is ahead of this machine's by so many seconds, and which looks at a JWT's times as
/// Google's does: not from its future, not after its end, an hour at most.
fn ahead_by(seconds: i64, dated: bool) -> Server {
    Server::new(move |asked| {
        let here = i64::try_from(wall_clock::since_1970().as_secs()).unwrap();
        let now = here + seconds;
        let claims = asked.claims();
        let (iat, exp) = (claims["iat"].as_i64().unwrap(), claims["exp"].as_i64().unwrap());
        let date = SystemTime::UNIX_EPOCH + Duration::from_secs(u64::try_from(now).unwrap());
        let date = httpdate::fmt_http_date(date);
        let headers: &[_] = if dated { &[("date", date.as_str())] } else { &[] };
        if iat <= now && now < exp && exp - iat <= 3600 {
            return reply(200, "application/json", r#"{"access_token":"ya29","expires_in":3599}"#, headers);
        }
        let said = "Invalid JWT: Token must be a short-lived token (60 minutes) and in a reasonable timeframe. Check \
                    your iat and exp values in the JWT claim.";
        let body = json!({ "error": "invalid_grant", "error_description": said }).to_string();
        reply(400, "application/json", &body, headers)
    })
}

#[tokio::test(start_paused = true)]
async fn a_clock_that_is_off_is_corrected_by_the_date_of_the_refusal() {
    for (seconds, requests) in [(0, 1), (3, 1), (-5, 1), (3700, 2), (-3600, 2), (86_400 * 365, 2), (-86_400, 2)] {
        let server = ahead_by(seconds, true);
        let credentials = of(&service_account(), &server);
        assert_eq!(token(&credentials).await, ("ya29".to_owned(), 3599), "{seconds}");
        assert_eq!(server.asked().len(), requests, "{seconds}");
        // The correction is kept.
        tokio::time::advance(Duration::from_secs(3600)).await;
        token(&credentials).await;
        assert_eq!(server.asked().len(), requests + 1, "{seconds}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_clock_that_cannot_be_corrected_is_told_as_such() {
    let (told, is_setup) = failure(&of(&service_account(), &ahead_by(-3600, false))).await;
    assert!(is_setup && told.contains("clock of this machine") && told.contains("NTP"), "{told}");

    // A server that refuses every time, and whose date is an hour ahead.
    let server = Server::new(|_| {
        let date = httpdate::fmt_http_date(wall_clock::now() + Duration::from_secs(3600));
        let body = r#"{"error":"invalid_grant","error_description":"Invalid JWT: Token must be a short-lived token"}"#;
        reply(400, "application/json", body, &[("date", &date)])
    });
    let credentials = of(&service_account(), &server);
    let (told, _) = failure(&credentials).await;
    assert!(told.contains("s behind the server's; set it"), "{told}");
    assert_eq!(server.asked().len(), 2);
    // The next attempt begins with this machine's clock.
    tokio::time::advance(Duration::from_secs(61)).await;
    failure(&credentials).await;
    let iat = |at: usize| server.asked()[at].claims()["iat"].as_u64().unwrap();
    assert!(iat(1) > iat(0) + 3500 && iat(2) < iat(0) + 60);
}

#[tokio::test(start_paused = true)]
async fn a_refused_grant_says_what_to_do() {
    for (file, status, code, said, wanted) in [
        (user(), 400, "invalid_grant", "Token has been expired or revoked.", "gcloud auth application-default login"),
        (user(), 401, "invalid_client", "The OAuth client was not found.", "check `client_id` and `client_secret`"),
        (service_account(), 400, "invalid_grant", "Invalid JWT Signature.", "make a new key"),
        (service_account(), 400, "invalid_grant", "Invalid grant: account not found", "deleted or disabled"),
        (service_account(), 401, "unauthorized_client", "Client is unauthorized.", "may not have this scope"),
    ] {
        let body = json!({ "error": code, "error_description": said }).to_string();
        let server = Server::new(move |_| answer(status, &body));
        let (told, is_setup) = failure(&of(&file, &server)).await;
        assert!(is_setup && told.contains("oauth2.googleapis.com"), "{told}");
        let said = said.trim_end_matches('.');
        for wanted in [wanted, code, said, &status.to_string()] {
            assert!(told.contains(wanted), "{told} lacks {wanted}");
        }
    }
    let body = r#"{"error":"invalid_grant","error_description":"reauth related error (invalid_rapt)","error_subtype":"invalid_rapt"}"#;
    let (told, _) = failure(&of(&user(), &Server::new(move |_| answer(400, body)))).await;
    assert!(told.contains("sign in again") && told.contains("service account"), "{told}");
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_is_no_token_is_explained_and_asked_for_again() {
    for (reply_of, wanted) in [
        ((200, "text/html", "<html><title>Sign in s3cr3t</title></html>"), "web page"),
        ((502, "text/html", "<html><title>502 Bad Gateway</title></html>"), "502"),
        ((503, "application/json", r#"{"error":"backend_error"}"#), "backend_error"),
        ((429, "application/json", r#"{"error":"rate_limit_exceeded"}"#), "429"),
        ((500, "text/plain", ""), "500"),
        ((200, "application/json", r#"{"access_token":"s3cr3t"#), "no JSON object"),
        ((200, "application/json", r#""s3cr3t""#), "no JSON object"),
        ((200, "application/json", ""), "no JSON object"),
        ((200, "application/json", r#"{"id_token":"s3cr3t"}"#), "has no `access_token`"),
        ((200, "application/json", r#"{"access_token":""}"#), "has no `access_token`"),
        ((200, "application/json", r#"{"access_token":7}"#), "has no `access_token`"),
        ((200, "application/json", r#"{"access_token":"s3cr3t\nx: y"}"#), "characters that no token has"),
        ((200, "application/json", r#"{"access_token":"s3cr3t","token_type":"mac"}"#), "`token_type`"),
        ((200, "application/json", r#"{"access_token":"s3cr3t","expires_in":0}"#), "ended already"),
    ] {
        let (status, kind, body) = reply_of;
        let server = Server::new(move |_| reply(status, kind, body, &[]));
        for file in [user(), service_account()] {
            let (told, is_setup) = failure(&of(&file, &server)).await;
            assert!(told.contains(wanted) && told.contains("oauth2.googleapis.com") && !is_setup, "{told}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_token_without_a_plain_end_is_used_for_a_time() {
    let named = |name: &str, value: &str| format!(r#"{{"access_token":"ya29","{name}":{value}}}"#);
    let (none, week) = (300, 7 * 86_400);
    for (body, life) in [
        (named("expires_in", "\"3599\""), 3599),
        (named("expires_in", "3599.9"), 3599),
        (named("expires_in", "1e300"), week),
        (named("expires_in", "18446744073709551616"), week),
        (named("expires_in", "-1e3"), 0),
        (named("expires_in", "null"), none),
        (named("expires_in", "\"soon\""), none),
        (named("scope", "\"x\""), none),
        (named("expireTime", "\"9999-12-31T23:59:59Z\""), week),
        (named("expireTime", "\"tomorrow\""), none),
    ] {
        let answered = body.clone();
        let credentials = of(&user(), &Server::new(move |_| answer(200, &answered)));
        match life {
            0 => assert!(failure(&credentials).await.0.contains("ended already"), "{body}"),
            _ => assert_eq!(token(&credentials).await.1, life, "{body}"),
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_server_that_hangs_or_is_down_is_named() {
    for (server, wanted) in [
        (Server::new(|_| Reply::Hang), "did not answer at `oauth2.googleapis.com` within 10 s"),
        (Server::new(|_| Reply::Down), "cannot be reached at `oauth2.googleapis.com`"),
    ] {
        let (told, is_setup) = failure(&of(&service_account(), &server)).await;
        assert!(!is_setup && told.contains(wanted), "{told}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_server_that_repeats_the_request_gives_no_secret_away() {
    for file in [user(), service_account()] {
        let server = Server::new(|asked| {
            let fields: Vec<_> = asked.form().into_values().collect();
            let said = format!("bad request: {} ({})", asked.body, fields.join(" and "));
            answer(400, &json!({ "error": "invalid_request", "error_description": said }).to_string())
        });
        let (told, _) = failure(&of(&file, &server)).await;
        assert!(told.contains("bad request") && told.contains("[secret]"), "{told}");
        let server = Server::new(|asked| reply(400, "text/plain", &asked.body, &[]));
        failure(&of(&file, &server)).await;
    }
}

#[test]
fn debug_shows_no_secret() {
    for file in [user(), service_account()] {
        assert_no_secret(&of(&file, &Server::unasked()));
    }
}
