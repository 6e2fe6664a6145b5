//! Tests of AWS's sources against servers in process.

use std::{
    collections::BTreeMap,
    path::PathBuf,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    time::Duration,
};

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::Full;

use super::*;
use crate::{
    boxed::{Transport, boxed},
    credentials::Credentials,
    internal::wall_clock,
    protocol::RequestBody,
};

/// A request that a fake server got: its method, its address, and all of its headers and body as text.
#[derive(Clone, Debug)]
struct Asked {
    method: String,
    uri: String,
    headers: http::HeaderMap,
    body: String,
}

/// A fake server's answer.
enum Answer {
    Status(u16, String),
    /// A success with the server's date, this many seconds from now.
    Dated(i64, u16, String),
    Page,
    Hang,
    Down,
}

type Log = Arc<Mutex<Vec<Asked>>>;

/// Creates a machine with these variables, in a network where this function is every server.
fn machine(
    variables: &[(&str, &str)],
    answer: impl Fn(&Asked) -> Answer + Clone + Send + Sync + 'static,
) -> (Machine, Log) {
    let variables: BTreeMap<String, String> =
        variables.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    let log = Log::default();
    let server = server(log.clone(), answer);
    let machine = Machine::new().transport(server.clone()).metadata_transport(server);
    (machine.variables(move |name| Ok(variables.get(name).cloned())), log)
}

fn server(log: Log, answer: impl Fn(&Asked) -> Answer + Clone + Send + Sync + 'static) -> Transport {
    boxed(tower::service_fn(move |request: Request<RequestBody>| {
        let (head, body) = request.into_parts();
        let asked = Asked {
            method: head.method.to_string(),
            uri: head.uri.to_string(),
            headers: head.headers,
            body: String::from_utf8(body.into_bytes().to_vec()).unwrap(),
        };
        let answer = answer(&asked);
        log.lock().unwrap().push(asked);
        async move {
            let (status, body, date) = match answer {
                Answer::Status(status, body) => (status, body, None),
                Answer::Dated(ahead, status, body) => (status, body, Some(ahead)),
                Answer::Page => (200, "\n<!DOCTYPE html><html>secret-1</html>".to_owned(), None),
                Answer::Hang => std::future::pending().await,
                Answer::Down => return Err(std::io::Error::other("connection refused")),
            };
            let mut response = Response::builder().status(status);
            if let Some(ahead) = date {
                let by = Duration::from_secs(ahead.unsigned_abs());
                let now = wall_clock::now();
                let date = if ahead < 0 { now - by } else { now + by };
                response = response.header("date", httpdate::fmt_http_date(date));
            }
            Ok::<_, std::io::Error>(response.body(Full::new(Bytes::from(body))).unwrap())
        }
    }))
}

/// Returns a date in this many seconds.
fn date(ahead: u64) -> String {
    wall_clock::rfc3339(wall_clock::since_1970() + Duration::from_secs(ahead))
}

fn keys_in_json(session: &str) -> String {
    let end = date(3600);
    format!(
        r#"{{"Code":"Success","AccessKeyId":"ASIA1","SecretAccessKey":"secret-1","{session}":"secret-2",
        "Expiration":"{end}"}}"#
    )
}

fn sts_answer(id: &str) -> String {
    sts_answer_until(id, &date(3600))
}

fn sts_answer_until(id: &str, end: &str) -> String {
    format!(
        "<AssumeRoleResponse xmlns=\"https://sts.amazonaws.com/doc/2011-06-15/\"><AssumeRoleResult><AssumedRoleUser>\
         <Arn>arn:aws:sts::1:assumed-role/x/y</Arn></AssumedRoleUser><Credentials><AccessKeyId>{id}</AccessKeyId>\
         <SecretAccessKey>secret-1</SecretAccessKey>\n<SessionToken>secret&amp;2</SessionToken>\
         <Expiration>{end}</Expiration></Credentials></AssumeRoleResult></AssumeRoleResponse>"
    )
}

fn sts_error(code: &str, message: &str) -> String {
    format!("<ErrorResponse><Error><Code>{code}</Code><Message>{message}</Message></Error></ErrorResponse>")
}

/// Returns the pair that credentials give.
async fn pair(credentials: &Credentials) -> (String, String, Option<String>) {
    let token = credentials.get().await.unwrap();
    let Identity::Aws(keys) = &token.identity else { panic!("{token:?}") };
    (keys.id.to_string(), keys.secret.to_string(), keys.session.as_deref().map(str::to_owned))
}

/// Returns the sentence of a failure, which holds none of the secrets that these tests use.
async fn failure(credentials: &Credentials) -> String {
    let error = credentials.get().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Credentials);
    let mut text = format!("{error} {error:?}");
    let mut cause = std::error::Error::source(&error);
    while let Some(error) = cause {
        text += &format!(" {error} {error:?}");
        cause = error.source();
    }
    assert!(!text.contains("secret"), "{text}");
    error.to_string()
}

/// A home directory that its drop removes.
struct Home(PathBuf);

impl Home {
    fn new(config: &str, credentials: &str) -> Self {
        static NUMBER: AtomicUsize = AtomicUsize::new(0);
        let name = format!("steadfast-aws-{}-{}", std::process::id(), NUMBER.fetch_add(1, SeqCst));
        let home = Self(std::env::temp_dir().join(name));
        home.write(".aws/config", config);
        home.write(".aws/credentials", credentials);
        home
    }

    fn write(&self, path: &str, text: &str) -> String {
        let path = self.0.join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, text).unwrap();
        path.display().to_string()
    }

    fn path(&self) -> &str {
        self.0.to_str().unwrap()
    }
}

impl Drop for Home {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn nothing(_: &Asked) -> Answer {
    Answer::Down
}

#[tokio::test(start_paused = true)]
async fn the_environment_has_a_bearer_key_or_a_pair() {
    let (set, _) = machine(
        &[("AWS_ACCESS_KEY_ID", " AKID "), ("AWS_SECRET_ACCESS_KEY", "s"), ("AWS_SESSION_TOKEN", "t")],
        nothing,
    );
    assert_eq!(pair(&environment(&set).unwrap()).await, ("AKID".into(), "s".into(), Some("t".into())));
    let (bearer, _) = machine(&[("AWS_BEARER_TOKEN_BEDROCK", "ABSK1"), ("AWS_ACCESS_KEY_ID", "AKID")], nothing);
    let token = environment(&bearer).unwrap().get().await.unwrap();
    assert!(matches!(&token.identity, Identity::Bearer(text) if **text == *"ABSK1"));
    for (variables, names) in [
        (vec![], "AWS_ACCESS_KEY_ID"),
        (vec![("AWS_ACCESS_KEY_ID", "AKID")], "AWS_SECRET_ACCESS_KEY"),
        (vec![("AWS_SECRET_ACCESS_KEY", "secret-1")], "AWS_ACCESS_KEY_ID"),
        (vec![("AWS_ACCESS_KEY_ID", "two words"), ("AWS_SECRET_ACCESS_KEY", "secret-1")], "AWS_ACCESS_KEY_ID"),
        (vec![("AWS_BEARER_TOKEN_BEDROCK", "two words")], "AWS_BEARER_TOKEN_BEDROCK"),
    ] {
        let error = environment(&machine(&variables, nothing).0).unwrap_err();
        assert_eq!(error.field(), names);
        assert!(!error.to_string().contains("secret-1"), "{error}");
        let chain = default_chain(&machine(&variables, nothing).0);
        assert_eq!(chain.is_err(), !variables.is_empty(), "{variables:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_web_identity_becomes_a_role() {
    let home = Home::new("", "");
    let file = home.write("token", "jwt+/=\n");
    let variables = [
        ("AWS_ROLE_ARN", "arn:aws:iam::1:role/x"),
        ("AWS_WEB_IDENTITY_TOKEN_FILE", &*file),
        ("AWS_REGION", "eu-west-1"),
    ];
    let (eks, log) = machine(&variables, |_| Answer::Status(200, sts_answer("ASIA1")));
    let credentials = web_identity(&eks).unwrap();
    assert_eq!(pair(&credentials).await, ("ASIA1".into(), "secret-1".into(), Some("secret&2".into())));
    let asked = log.lock().unwrap()[0].clone();
    assert_eq!((&*asked.method, &*asked.uri), ("POST", "https://sts.eu-west-1.amazonaws.com/"));
    let start = "Action=AssumeRoleWithWebIdentity&Version=2011-06-15&RoleArn=arn%3Aaws%3Aiam%3A%3A1%3Arole%2Fx&\
                 RoleSessionName=steadfast-";
    assert!(asked.body.starts_with(start), "{}", asked.body);
    assert!(asked.body.ends_with("&WebIdentityToken=jwt%2B%2F%3D") && !asked.headers.contains_key("authorization"));

    let refusal = sts_error("InvalidIdentityToken", "the token secret-1 is bad &lt;");
    type Check = (fn(&str) -> Answer, &'static str);
    let cases: [Check; 6] = [
        (|refusal| Answer::Status(400, refusal.to_owned()), "InvalidIdentityToken"),
        (|_| Answer::Status(503, String::new()), "503"),
        (|_| Answer::Page, "web page"),
        (
            |_| Answer::Status(200, "<Credentials><AccessKeyId>secret-1</AccessKeyId></Credentials>".into()),
            "SecretAccessKey",
        ),
        (|_| Answer::Hang, "within 10 s"),
        (|_| Answer::Down, "cannot be reached at `sts.eu-west-1.amazonaws.com`"),
    ];
    home.write("token", "secret-1");
    for (answer, expected) in cases {
        let refusal = refusal.clone();
        let (eks, _) = machine(&variables, move |_| answer(&refusal));
        let text = failure(&web_identity(&eks).unwrap()).await;
        assert!(text.contains(expected), "{text}");
    }
    let (eks, _) = machine(&variables, nothing);
    for (content, expected) in [(Some(" \n"), "is empty"), (None, "is not there")] {
        match content {
            Some(content) => drop(home.write("token", content)),
            None => std::fs::remove_file(&file).unwrap(),
        }
        let text = failure(&web_identity(&eks).unwrap()).await;
        assert!(text.contains(expected) && text.contains("AWS_WEB_IDENTITY_TOKEN_FILE"), "{text}");
    }
    let half = web_identity(&machine(&variables[1..], nothing).0).unwrap_err();
    assert_eq!(half.field(), "AWS_ROLE_ARN");
    let region = [variables[0], variables[1], ("AWS_REGION", "moon")];
    assert!(web_identity(&machine(&region, nothing).0).unwrap_err().to_string().contains("`moon` is no AWS region"));
}

const PROFILES: &str = "[default]\nregion = eu-west-1\n[profile base]\n[profile work]\n\
    role_arn = arn:aws:iam::1:role/a\n\
    source_profile = base\nexternal_id = e f\nrole_session_name = me\nduration_seconds = 900\nregion = us-east-2\n\
    [profile second]\nrole_arn = arn:aws:iam::2:role/b\nsource_profile = work\n\
    [profile half]\naws_access_key_id = AKID\n[profile circle]\nrole_arn = r\nsource_profile = round\n\
    [profile round]\nrole_arn = r\nsource_profile = circle\n[profile lost]\nrole_arn = r\nsource_profile = nowhere\n\
    [profile alone]\nrole_arn = r\n[profile mfa]\nrole_arn = r\nsource_profile = base\nmfa_serial = m\n\
    [profile moon]\nrole_arn = r\nsource_profile = base\nregion = moon\n[profile long]\nrole_arn = r\n\
    source_profile = base\nduration_seconds = 1\n[profile env]\nrole_arn = r\ncredential_source = Environment\n\
    [profile odd]\nrole_arn = r\ncredential_source = Moon\n\
    [profile task]\nrole_arn = r\ncredential_source = EcsContainer\n";
const KEYS: &str = "[base]\naws_access_key_id = AKID0\naws_secret_access_key = secret-0\n";

#[tokio::test(start_paused = true)]
async fn a_profile_leads_to_its_roles() {
    let home = Home::new(PROFILES, KEYS);
    let (here, log) = machine(&[("HOME", home.path())], |asked| {
        let (one, _) = asked.body.split_once("&RoleSessionName=").unwrap();
        Answer::Status(200, sts_answer(if one.ends_with("a") { "ASIA1" } else { "ASIA2" }))
    });
    assert_eq!(pair(&profile(&here, "base").unwrap()).await, ("AKID0".into(), "secret-0".into(), None));
    assert!(log.lock().unwrap().is_empty());
    assert_eq!(pair(&profile(&here, "second").unwrap()).await.0, "ASIA2");
    let asked = log.lock().unwrap().clone();
    assert_eq!(asked[0].uri, "https://sts.us-east-2.amazonaws.com/");
    assert!(asked[0].body.contains("&RoleSessionName=me&DurationSeconds=900&ExternalId=e%20f"), "{}", asked[0].body);
    let authorization = |asked: &Asked| asked.headers["authorization"].to_str().unwrap().to_owned();
    assert!(
        authorization(&asked[0]).contains("Credential=AKID0/") && authorization(&asked[0]).contains("/us-east-2/sts/")
    );
    assert!(
        authorization(&asked[1]).contains("Credential=ASIA1/") && authorization(&asked[1]).contains("/us-east-1/sts/")
    );
    assert_eq!(asked[1].headers["x-amz-security-token"], "secret&2");

    for (name, expected) in [
        ("nowhere", "there is no profile `nowhere`"),
        ("half", "aws_access_key_id without aws_secret_access_key"),
        ("circle", "leads back to `circle`"),
        ("lost", "there is no profile `nowhere`"),
        ("alone", "without source_profile"),
        ("mfa", "mfa_serial"),
        ("moon", "`moon` is no AWS region"),
        ("long", "duration_seconds"),
        ("odd", "credential_source"),
        ("default", "has no credentials"),
    ] {
        let text = profile(&here, name).unwrap_err().to_string();
        assert!(text.contains(expected) && !text.contains("secret-"), "{name}: {text}");
    }
    let missing = profile(&here, "nowhere").unwrap_err().to_string();
    assert!(missing.contains("there are alone, base, circle") && missing.contains(home.path()), "{missing}");
    let text = failure(&profile(&here, "env").unwrap()).await;
    assert!(text.contains("AWS_ACCESS_KEY_ID"), "{text}");
    let text = failure(&profile(&here, "task").unwrap()).await;
    assert!(text.contains("AWS_CONTAINER_CREDENTIALS_RELATIVE_URI"), "{text}");
}

#[tokio::test(start_paused = true)]
async fn a_refused_role_names_the_cause_and_a_wrong_clock_is_corrected() {
    let home = Home::new(PROFILES, KEYS);
    let denied = sts_error("AccessDenied", "User: u is not authorized to perform: sts:AssumeRole");
    let (here, log) = machine(&[("HOME", home.path())], move |_| Answer::Dated(0, 403, denied.clone()));
    let text = failure(&profile(&here, "work").unwrap()).await;
    assert!(text.contains("not authorized") && text.contains("trust policy") && text.contains("role/a"), "{text}");
    assert_eq!(log.lock().unwrap().len(), 1, "a clock that is right is no reason to ask again");
    // The server's clock is an hour ahead.
    let wrong = sts_error("SignatureDoesNotMatch", "canonical secret-0");
    let (here, log) = machine(&[("HOME", home.path())], move |asked| {
        let ahead = httpdate::fmt_http_date(wall_clock::now() + Duration::from_secs(3600));
        let hour = &ahead[17..19];
        match &asked.headers["x-amz-date"].to_str().unwrap()[9..11] == hour {
            true => Answer::Dated(3600, 200, sts_answer_until("ASIA1", &date(2 * 3600))),
            false => Answer::Dated(3600, 403, wrong.clone()),
        }
    });
    let credentials = profile(&here, "work").unwrap();
    let life = credentials.get().await.unwrap().life().unwrap();
    assert!(life.as_secs().abs_diff(3600) < 60, "the server's clock says an hour: {life:?}");
    assert_eq!(log.lock().unwrap().len(), 2);
}

#[tokio::test(start_paused = true)]
async fn sso_reads_the_clis_cache_and_says_how_to_log_in() {
    let config = "[profile new]\nsso_session = corp\nsso_account_id = 123\nsso_role_name = A B\n[sso-session corp]\n\
        sso_region = eu-central-1\nsso_start_url = https://a.example/start\n\
        [profile old]\nsso_start_url = https://a.example/start\n\
        sso_region = us-east-1\nsso_account_id = 123\nsso_role_name = R\n[profile none]\nsso_session = nowhere\n\
        [profile bare]\nsso_start_url = u\nsso_region = us-east-1\nsso_role_name = R\n\
        [profile moon]\nsso_start_url = u\n\
        sso_region = moon\n";
    let home = Home::new(config, "");
    let cached = |end: &str| format!(r#"{{"startUrl":"u","region":"r","accessToken":"secret-0","expiresAt":"{end}"}}"#);
    let millis = wall_clock::millis(wall_clock::since_1970()) + 3_600_000;
    let keys = format!(
        r#"{{"roleCredentials":{{"accessKeyId":"ASIA1","secretAccessKey":"secret-1",
        "sessionToken":"secret-2","expiration":{millis}}}}}"#
    );
    let (here, log) = machine(&[("HOME", home.path())], move |asked| {
        match asked.headers["x-amz-sso_bearer_token"].to_str().unwrap() {
            "secret-0" => Answer::Status(200, keys.clone()),
            _ => Answer::Status(401, r#"{"message":"secret"}"#.to_owned()),
        }
    });
    for name in ["new", "old"] {
        let text = failure(&profile(&here, name).unwrap()).await;
        assert!(text.contains(&format!("run `aws sso login --profile {name}`")), "{text}");
    }
    // `sha1sum` of the session's name, and of the start URL.
    let (corp, start) = ("ee0bfd2552fbd840c02cc48b6e823320543c450f", "556613736b76cf49ce482ee536411eadde74247c");
    home.write(&format!(".aws/sso/cache/{}.json", corp), &cached(&date(60)));
    home.write(&format!(".aws/sso/cache/{}.json", start), &cached(&date(60).replace('Z', "UTC")));
    for profile_name in ["new", "old"] {
        let credentials = profile(&here, profile_name).unwrap();
        assert_eq!(pair(&credentials).await, ("ASIA1".into(), "secret-1".into(), Some("secret-2".into())));
    }
    let asked = log.lock().unwrap()[0].uri.clone();
    assert_eq!(
        asked,
        "https://portal.sso.eu-central-1.amazonaws.com/federation/credentials?role_name=A%20B&account_id=123"
    );
    for (content, expected) in [
        (cached("2020-01-01T00:00:00Z"), "has ended"),
        (cached(&date(60)).replace("secret-0", "secret-9"), "was refused"),
        ("{}".to_owned(), "holds no token"),
        ("secret".to_owned(), "is no JSON"),
    ] {
        home.write(&format!(".aws/sso/cache/{}.json", corp), &content);
        let text = failure(&profile(&here, "new").unwrap()).await;
        assert!(text.contains(expected) && text.contains("aws sso login --profile new"), "{text}");
    }
    for (name, expected) in [("none", "[sso-session nowhere]"), ("bare", "sso_account_id"), ("moon", "sso_region")] {
        let text = profile(&here, name).unwrap_err().to_string();
        assert!(text.contains(expected), "{text}");
    }
}

#[cfg(unix)]
#[tokio::test]
async fn a_credential_process_writes_keys() {
    let home = Home::new("", "");
    let output = home.write("out.json", &keys_in_json("SessionToken").replace("\"Code\"", "\"Version\":1,\"Code\""));
    let config = format!(
        "[profile p]\ncredential_process = /bin/cat \"{output}\"\n[profile bad]\ncredential_process = \
         /bin/sh -c 'echo secret-1; echo expired >&2; exit 1'\n[profile open]\ncredential_process = 'a\n"
    );
    home.write(".aws/config", &config);
    let (here, _) = machine(&[("HOME", home.path())], nothing);
    assert_eq!(pair(&profile(&here, "p").unwrap()).await, ("ASIA1".into(), "secret-1".into(), Some("secret-2".into())));
    let text = failure(&profile(&here, "bad").unwrap()).await;
    assert!(text.contains("expired") && text.contains("`sh`"), "{text}");
    assert!(profile(&here, "open").unwrap_err().to_string().contains("open quote"));
}

#[tokio::test(start_paused = true)]
async fn a_containers_endpoint_gives_keys() {
    let home = Home::new("", "");
    let file = home.write("auth", "secret-9\n");
    let relative = ("AWS_CONTAINER_CREDENTIALS_RELATIVE_URI", "/v2/credentials/1");
    let answer = |_: &Asked| Answer::Status(200, keys_in_json("Token"));
    let (ecs, log) = machine(&[relative], answer);
    assert_eq!(pair(&container(&ecs).unwrap()).await, ("ASIA1".into(), "secret-1".into(), Some("secret-2".into())));
    assert_eq!(log.lock().unwrap()[0].uri, "http://169.254.170.2/v2/credentials/1");
    assert!(!log.lock().unwrap()[0].headers.contains_key("authorization"));

    let full = "AWS_CONTAINER_CREDENTIALS_FULL_URI";
    let eks = [
        (full, "http://169.254.170.23/v1/credentials"),
        ("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE", &*file),
        ("AWS_CONTAINER_AUTHORIZATION_TOKEN", "other"),
    ];
    let (eks, log) = machine(&eks, answer);
    pair(&container(&eks).unwrap()).await;
    assert_eq!(log.lock().unwrap()[0].headers["authorization"], "secret-9");

    for (address, allowed) in [
        ("https://any.example/x", true),
        ("http://localhost:80/x", true),
        ("http://127.1.2.3/x", true),
        ("http://[::1]/x", true),
        ("http://[fd00:ec2::23]/x", true),
        ("http://any.example/x", false),
        ("http://169.254.170.3/x", false),
        ("ftp://any.example/", false),
        ("/x", false),
        ("http://bad host/", false),
    ] {
        let (machine, _) = machine(&[(full, address)], answer);
        let outcome = container(&machine);
        assert_eq!(outcome.is_ok(), allowed, "{address}");
        if let Err(error) = outcome {
            assert_eq!(error.field(), full);
        }
    }
    assert!(container(&machine(&[], answer).0).is_err());
    type Case = (fn() -> Answer, &'static str);
    let cases: [Case; 7] = [
        (|| Answer::Status(403, "secret-1".into()), "403"),
        (|| Answer::Status(500, "secret-1".into()), "500"),
        (|| Answer::Page, "web page"),
        (|| Answer::Status(200, "secret-1".into()), "no JSON object"),
        (|| Answer::Status(200, r#"{"AccessKeyId":"secret-1"}"#.into()), "`SecretAccessKey` is missing"),
        (
            || Answer::Status(200, r#"{"AccessKeyId":"a","SecretAccessKey":"secret","Expiration":"soon"}"#.into()),
            "is no date",
        ),
        (|| Answer::Hang, "within 10 s"),
    ];
    for (answer, expected) in cases {
        let (ecs, _) = machine(&[relative], move |_| answer());
        let text = failure(&container(&ecs).unwrap()).await;
        assert!(text.contains(expected), "{text}");
    }
}

/// Answers as an instance's metadata does, version 2 only.
fn instance(asked: &Asked) -> Answer {
    let path = asked.uri.strip_prefix("http://169.254.169.254/latest/").unwrap_or_default();
    let session = asked.headers.get("x-aws-ec2-metadata-token").map(|token| token.as_bytes());
    match (&*asked.method, path, session) {
        ("PUT", "api/token", None) if asked.headers["x-aws-ec2-metadata-token-ttl-seconds"] == "21600" => {
            Answer::Status(200, "session-1".into())
        }
        ("GET", "meta-data/iam/security-credentials/", Some(b"session-1")) => Answer::Status(200, "my-role\n".into()),
        ("GET", "meta-data/iam/security-credentials/my-role", Some(b"session-1")) => {
            Answer::Status(200, keys_in_json("Token"))
        }
        _ => Answer::Status(401, "secret".into()),
    }
}

#[tokio::test(start_paused = true)]
async fn an_instances_metadata_gives_its_roles_keys() {
    let (ec2, log) = machine(&[], instance);
    assert_eq!(pair(&instance_metadata(&ec2).unwrap()).await.0, "ASIA1");
    assert_eq!(log.lock().unwrap().len(), 3);
    let (six, log) = machine(&[("AWS_EC2_METADATA_SERVICE_ENDPOINT_MODE", "IPv6")], nothing);
    let text = failure(&instance_metadata(&six).unwrap()).await;
    assert!(text.contains("hop limit"), "{text}");
    assert_eq!(log.lock().unwrap()[0].uri, "http://[fd00:ec2::254]/latest/api/token");
    assert!(instance_metadata(&machine(&[("AWS_EC2_METADATA_DISABLED", "TRUE")], nothing).0).is_err());
    assert!(instance_metadata(&machine(&[("AWS_EC2_METADATA_SERVICE_ENDPOINT_MODE", "v5")], nothing).0).is_err());
    assert!(instance_metadata(&machine(&[("AWS_EC2_METADATA_SERVICE_ENDPOINT", "moon x")], nothing).0).is_err());
    for step in 0..3 {
        type Case = (fn() -> Answer, [&'static str; 3]);
        let cases: [Case; 5] = [
            (|| Answer::Hang, ["within 2 s"; 3]),
            (|| Answer::Page, ["web page"; 3]),
            (|| Answer::Status(403, "secret".into()), ["403"; 3]),
            (|| Answer::Status(404, "secret".into()), ["404", "has no IAM role", "404"]),
            (|| Answer::Status(200, String::new()), ["no session", "has no IAM role", "no JSON object"]),
        ];
        for (answer, expected) in cases {
            let count = AtomicUsize::new(0);
            let count = Arc::new(count);
            let (ec2, _) = machine(&[], move |asked| match count.fetch_add(1, SeqCst) == step {
                true => answer(),
                false => instance(asked),
            });
            let text = failure(&instance_metadata(&ec2).unwrap()).await;
            assert!(text.contains(expected[step]), "{step}: {text}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn the_default_chain_takes_the_first_that_there_is() {
    let empty = Home::new("", "");
    let home = Home::new("", "[default]\naws_access_key_id = AKID1\naws_secret_access_key = s\n");
    let file = home.write("token", "jwt");
    let env = [("AWS_ACCESS_KEY_ID", "AKID0"), ("AWS_SECRET_ACCESS_KEY", "s")];
    let eks = [("AWS_ROLE_ARN", "arn:aws:iam::1:role/x"), ("AWS_WEB_IDENTITY_TOKEN_FILE", &*file)];
    let ecs = [("AWS_CONTAINER_CREDENTIALS_RELATIVE_URI", "/x")];
    let answer = |asked: &Asked| match &asked.uri {
        uri if uri.starts_with("https://sts.") => Answer::Status(200, sts_answer("ASIA2")),
        uri if uri.starts_with("http://169.254.170.2/") => {
            Answer::Status(200, keys_in_json("Token").replace("ASIA1", "ASIA3"))
        }
        _ => instance(asked),
    };
    let home_of = |home: &Home| home.path().to_owned();
    for (home, rest, expected) in [
        (home_of(&home), vec![env[0], env[1], eks[0], eks[1], ecs[0]], "AKID0"),
        (home_of(&home), vec![eks[0], eks[1], ecs[0]], "AKID1"),
        (home_of(&empty), vec![eks[0], eks[1], ecs[0]], "ASIA2"),
        (home_of(&empty), vec![ecs[0]], "ASIA3"),
        (home_of(&empty), vec![], "ASIA1"),
    ] {
        let variables: Vec<_> = rest.into_iter().chain([("HOME", &*home)]).collect();
        let (machine, _) = machine(&variables, answer);
        assert_eq!(pair(&default_chain(&machine).unwrap()).await.0, expected);
    }
    // A source that is there and fails is not passed over.
    let variables = [("HOME", empty.path()), eks[0], eks[1]];
    let (broken, _) = machine(&variables, |asked| match asked.uri.contains("sts.") {
        true => Answer::Status(403, sts_error("AccessDenied", "no")),
        false => instance(asked),
    });
    let text = failure(&default_chain(&broken).unwrap()).await;
    assert!(text.contains("role/x") && text.contains("AccessDenied"), "{text}");
    let (nowhere, _) = machine(&[("HOME", empty.path())], nothing);
    let text = failure(&default_chain(&nowhere).unwrap()).await;
    for expected in ["AWS_ACCESS_KEY_ID", "no profile `default`", "AWS_CONTAINER", "hop limit"] {
        assert!(text.contains(expected), "{text}");
    }
    let wrong = default_chain(&machine(&[("HOME", empty.path()), ("AWS_PROFILE", "work")], nothing).0).unwrap_err();
    assert!(wrong.field() == "AWS_PROFILE" && wrong.to_string().contains("`work`"), "{wrong}");
}
