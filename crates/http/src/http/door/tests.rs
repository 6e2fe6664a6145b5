use std::{
    collections::VecDeque,
    convert::Infallible,
    sync::{Arc, Mutex},
    time::Duration,
};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Request, Response};
use http_body_util::{BodyExt, Full};
use tower::{Service, ServiceExt, service_fn};

use super::AwsApi;
use crate::{
    Anthropic, Chat, Dialect, ErrorKind, Gemini, LlmError, LlmRequest, OpenAi, Wire,
    chat::Message,
    credentials::{Credentials, Token},
    http::{CallerTransport, HttpLeaf, RequestBody, testing::Scripted},
    protocol::Protocol,
};

const MESSAGE: &str = r#"{"type":"message","content":[{"type":"text","text":"hi"}],"stop_reason":"end_turn"}"#;

fn bearer() -> Credentials {
    Credentials::token(Token::bearer("a-token-of-length"))
}

fn keys() -> Credentials {
    Credentials::token(Token::aws("AKIDEXAMPLE", "wJalrXUtnFEMI", Some("a-session-token".into())))
}

/// The doors of Claude, each with a model of its own spelling.
fn claude() -> Vec<(&'static str, Anthropic)> {
    let aws = |api| Anthropic::on_aws("us-east-1").unwrap().aws_api(api).unwrap().credentials(bearer());
    let profile = "us.anthropic.claude-sonnet-4-5-20250929-v1:0";
    vec![
        ("mantle", aws(AwsApi::Mantle).model("anthropic.claude-sonnet-4-5")),
        ("runtime", aws(AwsApi::Runtime).model(profile)),
        ("invoke", aws(AwsApi::Invoke).model(profile)),
        ("azure", Anthropic::on_azure("my-resource").unwrap().key("a-key").model("our-claude")),
        (
            "vertex",
            Anthropic::on_vertex("my-project", "global")
                .unwrap()
                .credentials(bearer())
                .model("claude-sonnet-4-5@20250929"),
        ),
    ]
}

fn wire(body: &'static str, betas: &str) -> LlmRequest {
    let mut headers = HeaderMap::new();
    headers.insert("anthropic-version", HeaderValue::from_static("2023-06-01"));
    headers.insert("x-amz-security-token", HeaderValue::from_static("the caller's own"));
    if !betas.is_empty() {
        headers.insert("anthropic-beta", betas.parse().unwrap());
    }
    Wire::new(Dialect::Anthropic, body).unwrap().headers(headers).into()
}

/// A request in an unusual spelling goes out in that spelling. The door's own fields are `model`, `stream` and
/// `anthropic_version`.
#[tokio::test(start_paused = true)]
async fn bodies_are_identical_from_door_to_door_but_for_the_doors_own_fields() {
    let rest = r#" "max_tokens" : 1.6e1,"temperature":1.0, "messages":[{"role":"user","content":"h\u00e9\/"}],"x":{"model":"y"} "#;
    let body: &'static str = format!(r#"{{"model":"claude-sonnet-4-5", "stream":false,{rest}}}"#).leak();
    for (name, leaf) in claude() {
        let transport = Scripted::json(MESSAGE);
        let response = leaf.transport(transport.clone()).oneshot(wire(body, "")).await.unwrap();
        assert_eq!(response.notes(), [] as [&str; 0], "{name}");
        let sent = String::from_utf8(transport.body().to_vec()).unwrap();
        let expected = match name {
            "mantle" => format!(r#"{{"model":"anthropic.claude-sonnet-4-5", "stream":false,{rest}}}"#),
            "runtime" => {
                format!(r#"{{"model":"us.anthropic.claude-sonnet-4-5-20250929-v1:0", "stream":false,{rest}}}"#)
            }
            "invoke" => format!(r#"{{"anthropic_version":"bedrock-2023-05-31",{}}}"#, rest.trim_start()),
            "azure" => format!(r#"{{"model":"our-claude", "stream":false,{rest}}}"#),
            _ => format!(r#"{{"anthropic_version":"vertex-2023-10-16","stream":false,{rest}}}"#),
        };
        assert_eq!(sent, expected, "{name}");
        let headers = transport.request().headers().clone();
        let has_version = headers.contains_key("anthropic-version");
        assert_eq!(has_version, !matches!(name, "invoke" | "vertex"), "{name}");
        assert!(!headers.contains_key("x-amz-security-token"), "{name}: it is the caller's");
    }
}

#[tokio::test(start_paused = true)]
async fn each_loss_is_noted_and_a_strict_leaf_refuses_it() {
    let body =
        r#"{"model":"c","max_tokens":9,"cache_control":{"type":"ephemeral"},"messages":[],"inference_geo":"us"}"#;
    let betas = "context-1m-2025-08-07,oauth-2025-04-20";
    for (name, leaf) in claude() {
        let transport = Scripted::json(MESSAGE);
        let response = leaf.clone().transport(transport.clone()).oneshot(wire(body, betas)).await.unwrap();
        let notes = response.notes().join("\n");
        let sent = transport.sent();
        assert!(
            sent.get("inference_geo").is_none() && notes.contains("`inference_geo` was left out"),
            "{name}: {notes}"
        );
        assert_eq!(sent.get("cache_control").is_some(), name == "azure", "{name}");
        assert_eq!(notes.contains("`cache_control`"), name != "azure", "{name}: {notes}");
        assert!(notes.contains("oauth-2025-04-20") && !notes.contains("context-1m"), "{name}: {notes}");
        let header = transport.request().headers().get("anthropic-beta").cloned();
        match name {
            "invoke" => {
                assert_eq!(header, None);
                assert_eq!(sent["anthropic_beta"], serde_json::json!(["context-1m-2025-08-07"]));
            }
            _ => assert_eq!(header.unwrap(), "context-1m-2025-08-07", "{name}"),
        }
        let strict = leaf.strict(true).transport(Scripted::json(MESSAGE));
        let error = strict.oneshot(wire(body, betas)).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::UnsupportedFeature, "{name}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_header_of_the_leafs_own_is_not_filtered() {
    for (name, leaf) in claude() {
        let transport = Scripted::json(MESSAGE);
        let value = HeaderValue::from_static("new-2027-01-01");
        let leaf = leaf.header("anthropic-beta".parse().unwrap(), value.clone()).transport(transport.clone());
        let body = r#"{"model":"c","max_tokens":9,"messages":[]}"#;
        let _response = leaf.oneshot(wire(body, "context-1m-2025-08-07")).await.unwrap();
        match name {
            "invoke" => assert_eq!(transport.sent()["anthropic_beta"], serde_json::json!(["new-2027-01-01"])),
            _ => assert_eq!(transport.request().headers()["anthropic-beta"], value, "{name}"),
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_translated_request_has_the_doors_fields_too() {
    for (name, leaf) in claude() {
        let transport = Scripted::json(MESSAGE);
        let chat = Chat::new([Message::user("hello")]).model("gpt-4o");
        let response = leaf.transport(transport.clone()).oneshot(chat.into()).await.unwrap();
        let sent = transport.sent();
        assert_eq!(sent.get("model").is_none(), matches!(name, "invoke" | "vertex"), "{name}");
        assert_eq!(sent.get("anthropic_version").is_some(), matches!(name, "invoke" | "vertex"), "{name}");
        assert_eq!(response.text().await.unwrap(), "hi");
    }
}

/// A large body goes out as slices of the caller's own bytes, unsigned and signed.
#[tokio::test]
async fn a_large_body_is_not_copied() {
    let prompt = "x".repeat(2 << 20);
    let body = Bytes::from(format!(
        r#"{{"model":"claude","stream":true,"messages":[{{"role":"user","content":"{prompt}"}}],"max_tokens":9}}"#
    ));
    for credentials in [bearer(), keys()] {
        for api in [AwsApi::Mantle, AwsApi::Invoke] {
            let (own, frames) = (body.as_ptr_range(), Arc::new(Mutex::new(Vec::new())));
            let heard = frames.clone();
            let transport = service_fn(move |request: Request<RequestBody>| {
                let heard = heard.clone();
                async move {
                    let mut body = request.into_body();
                    while let Some(Ok(frame)) = body.frame().await {
                        heard.lock().unwrap().extend(frame.into_data());
                    }
                    Ok::<_, Infallible>(Response::new(Full::new(Bytes::from(MESSAGE))))
                }
            });
            let leaf = Anthropic::on_aws("us-east-1").unwrap().aws_api(api).unwrap().credentials(credentials.clone());
            let wire = Wire::new(Dialect::Anthropic, body.clone()).unwrap();
            let request = LlmRequest::from(wire).with_stream(false);
            let _response =
                leaf.model("anthropic.claude-sonnet-4-5").transport(transport).oneshot(request).await.unwrap();
            let frames = frames.lock().unwrap();
            let largest = frames.iter().max_by_key(|frame: &&Bytes| frame.len()).unwrap();
            assert!(largest.len() > 2 << 20 && own.contains(&largest.as_ptr()), "{api:?}");
        }
    }
}

type Sent = Arc<Mutex<Vec<HeaderMap>>>;
/// The status, the headers and the body of an answer.
type Answer<'a> = (u16, &'a [(&'a str, &'a str)], &'a str);

/// Returns a leaf over a transport with these answers (status, headers, body), and the headers of its requests.
fn over<P: Protocol>(leaf: HttpLeaf<P>, answers: &[Answer<'_>]) -> (HttpLeaf<P>, Sent) {
    let answers: VecDeque<Response<Full<Bytes>>> = answers
        .iter()
        .map(|(status, headers, body)| {
            let mut response = Response::builder().status(*status).header("content-type", "application/json");
            for (name, value) in *headers {
                response = response.header(*name, *value);
            }
            response.body(Full::new(Bytes::from((*body).to_owned()))).unwrap()
        })
        .collect();
    let (answers, sent) = (Arc::new(Mutex::new(answers)), Sent::default());
    let heard = sent.clone();
    let transport = service_fn(move |request: Request<Full<Bytes>>| {
        heard.lock().unwrap().push(request.headers().clone());
        let answer = answers.lock().unwrap().pop_front().expect("no further request");
        std::future::ready(Ok::<_, Infallible>(answer))
    });
    (leaf.transport(transport), sent)
}

async fn ask<S>(leaf: S) -> Result<crate::LlmResponse, LlmError>
where
    S: Service<LlmRequest, Response = crate::LlmResponse, Error = LlmError>,
{
    leaf.oneshot(LlmRequest::prompt("hello")).await
}

fn at_aws(credentials: Credentials) -> Anthropic {
    Anthropic::on_aws("us-east-1").unwrap().model("anthropic.claude-sonnet-4-5").credentials(credentials)
}

/// The bodies are those of the recordings (`fixtures2/bedrock`), and of the documentation that `error.rs` and
/// `cloud_error.rs` name.
#[tokio::test(start_paused = true)]
async fn errors_of_aws_have_their_kinds_and_remedies() {
    let profile = "Invocation of model ID anthropic.claude-sonnet-4-5-20250929-v1:0 with on-demand throughput isn\u{2019}t \
                   supported. Retry your request with the ID or ARN of an inference profile that contains this model.";
    let denied = "User: arn:aws:sts::123456789012:assumed-role/x/y is not authorized to perform: bedrock:InvokeModel on \
                  resource: arn:aws:bedrock:us-east-1::foundation-model/z because no identity-based policy allows it";
    for (status, name, message, kind, advice) in [
        (429, "ThrottlingException", "Too many requests, please wait before trying again.", ErrorKind::RateLimited, ""),
        (
            429,
            "ThrottlingException",
            "Too many tokens per day, please wait before trying again.",
            ErrorKind::QuotaExhausted,
            "Service Quotas",
        ),
        (503, "ServiceUnavailableException", "Bedrock is unable to process your request.", ErrorKind::Overloaded, ""),
        (
            429,
            "ModelNotReadyException",
            "Model is not ready for inference. Wait and try your request again.",
            ErrorKind::Overloaded,
            "",
        ),
        (
            400,
            "ServiceQuotaExceededException",
            "Your request exceeds the service quota for your account.",
            ErrorKind::QuotaExhausted,
            "",
        ),
        (408, "ModelTimeoutException", "Model took too long to respond.", ErrorKind::Timeout, ""),
        (424, "ModelErrorException", "The system encountered an unexpected error.", ErrorKind::Server, ""),
        (500, "InternalServerException", "The system encountered an unexpected error.", ErrorKind::Server, ""),
        (
            403,
            "AccessDeniedException",
            "You don't have access to the model with the specified model ID.",
            ErrorKind::NotFound,
            "request access",
        ),
        (403, "AccessDeniedException", denied, ErrorKind::Auth, "IAM"),
        (
            404,
            "ResourceNotFoundException",
            "Model use case details have not been submitted for this account. Fill out the Anthropic use case details form before using the model. If you have already filled out the form, try again in 15 minutes.",
            ErrorKind::NotFound,
            "request access",
        ),
        (
            404,
            "ResourceNotFoundException",
            "This model version has reached the end of its life. Please refer to the AWS documentation for more details.",
            ErrorKind::NotFound,
            "check the model's id",
        ),
        (400, "ValidationException", profile, ErrorKind::NotFound, "inference profile"),
        (
            400,
            "ValidationException",
            "The provided model identifier is invalid.",
            ErrorKind::NotFound,
            "check the model's id",
        ),
        (
            400,
            "ValidationException",
            "Malformed input request, please reformat your input and try again.",
            ErrorKind::InvalidRequest,
            "",
        ),
        (
            400,
            "ValidationException",
            "The model returned the following errors: Input Tokens Exceeded: Number of input tokens exceeds maximum length. Please update the input to try again.",
            ErrorKind::ContextLength,
            "",
        ),
        (400, "ValidationException", "Input is too long for requested model.", ErrorKind::ContextLength, ""),
        (
            400,
            "ValidationException",
            "The model returned the following errors: prompt is too long: 201234 tokens > 200000 maximum",
            ErrorKind::ContextLength,
            "",
        ),
        (
            403,
            "UnrecognizedClientException",
            "The security token included in the request is invalid.",
            ErrorKind::Auth,
            "",
        ),
        (403, "ExpiredTokenException", "The security token included in the request is expired", ErrorKind::Auth, ""),
    ] {
        let header = format!("{name}:http://internal.amazon.com/coral/com.amazon.bedrock/");
        let body = serde_json::json!({ "message": message }).to_string();
        let (leaf, _) = over(at_aws(keys()), &[(status, &[("x-amzn-errortype", &header)], &body)]);
        let error = ask(leaf).await.unwrap_err();
        assert_eq!(error.kind(), kind, "{name}: {message}");
        assert_eq!(error.status().unwrap().as_u16(), status);
        if kind != ErrorKind::InvalidRequest && kind != ErrorKind::ContextLength {
            assert_eq!(error.code(), Some(name));
        }
        assert!(error.message().contains(advice), "{error}");
        // The name may stand in the body alone.
        let body = serde_json::json!({ "__type": format!("com.amazon.coral#{name}"), "Message": message }).to_string();
        let (leaf, _) = over(at_aws(keys()), &[(status, &[], &body)]);
        assert_eq!(ask(leaf).await.unwrap_err().kind(), kind, "{name}: {message}");
    }
}

/// Google refuses a developer's own sign-in without the header: "API requires a quota project".
#[tokio::test(start_paused = true)]
async fn a_quota_project_goes_along_to_google_alone() {
    let billed = || Credentials::token(Token::bearer("a-token-of-length").quota_project("billed-project"));
    let google = Anthropic::on_vertex("my-project", "global").unwrap().credentials(billed()).model("claude-opus-4-6");
    let azure = Anthropic::on_azure("my-resource").unwrap().credentials(billed()).model("our-claude");
    for (leaf, project) in [(google, Some("billed-project")), (azure, None)] {
        let transport = Scripted::json(MESSAGE);
        leaf.transport(transport.clone()).oneshot(LlmRequest::prompt("hello")).await.unwrap();
        let sent = transport.request();
        assert_eq!(sent.headers().get("x-goog-user-project").map(|value| value.to_str().unwrap()), project);
    }
}

#[tokio::test(start_paused = true)]
async fn errors_of_azure_and_google_have_their_kinds_and_remedies() {
    let azure = || OpenAi::on_azure("my-resource").unwrap().model("gpt-4o").key("a-key");
    let foundry = || Anthropic::on_azure("my-resource").unwrap().model("claude-sonnet-4-5").key("a-key");
    let gemini = || Gemini::on_vertex("my-project", "global").unwrap().model("gemini-2.5-pro").credentials(bearer());
    let claude =
        || Anthropic::on_vertex("my-project", "global").unwrap().model("claude-opus-4-6").credentials(bearer());
    let missing = r#"{"error":{"code":"DeploymentNotFound","message":"The API deployment for this resource does not exist. If you created the deployment within the last 5 minutes, please wait a moment and try again."}}"#;
    let filtered = r#"{"error":{"message":"The response was filtered due to the prompt triggering Azure OpenAI's content management policy.","type":null,"param":"prompt","code":"content_filter","status":400,"innererror":{"code":"ResponsibleAIPolicyViolation","content_filter_result":{"jailbreak":{"filtered":true,"detected":true}}}}}"#;
    let busy = r#"{"error":{"code":"429","message":"Requests to the ChatCompletions_Create Operation under Azure OpenAI API version 2024-10-21 have exceeded call rate limit of your current OpenAI S0 pricing tier. Please retry after 6 seconds."}}"#;
    let wrong_key =
        r#"{"error":{"code":"401","message":"Access denied due to invalid subscription key or wrong API endpoint."}}"#;
    let no_role = r#"{"error":{"code":"PermissionDenied","message":"The principal lacks the required data action."}}"#;
    let page = "<html><head><title>502 Bad Gateway</title></head></html>";
    let exhausted = r#"{"error":{"code":429,"message":"Resource exhausted. Please try again later.","status":"RESOURCE_EXHAUSTED"}}"#;
    let denied = r#"{"error":{"code":403,"message":"Permission 'aiplatform.endpoints.predict' denied on resource '//aiplatform.googleapis.com/projects/p'.","status":"PERMISSION_DENIED","details":[{"@type":"type.googleapis.com/google.rpc.ErrorInfo","reason":"IAM_PERMISSION_DENIED","domain":"aiplatform.googleapis.com"}]}}"#;
    let disabled = r#"[{"error":{"code":403,"message":"Vertex AI API has not been used in project 1 before or it is disabled.","status":"PERMISSION_DENIED","details":[{"@type":"type.googleapis.com/google.rpc.ErrorInfo","reason":"SERVICE_DISABLED"}]}}]"#;
    let unknown = r#"{"error":{"code":404,"message":"Publisher Model `projects/p/locations/global/publishers/anthropic/models/x` was not found or your project does not have access to it.","status":"NOT_FOUND"}}"#;
    let invalid = r#"{"type":"error","error":{"type":"invalid_request_error","message":"max_tokens: Field required"},"request_id":"req_vrtx_1"}"#;
    let overloaded = r#"{"type":"error","error":{"type":"overloaded_error","message":"Overloaded"}}"#;

    macro_rules! fails {
        ($leaf:expr, $status:expr, $headers:expr, $body:expr, $kind:ident, $says:expr) => {{
            let (leaf, _) = over($leaf, &[($status, $headers, $body)]);
            let error = ask(leaf).await.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::$kind, "{error}");
            assert!(error.message().contains($says), "{error}");
            error
        }};
    }
    fails!(azure(), 404, &[], missing, NotFound, "create the deployment");
    fails!(foundry(), 404, &[], missing, NotFound, "create the deployment");
    fails!(azure(), 400, &[], filtered, ContentPolicy, "");
    let error = fails!(azure(), 429, &[("retry-after-ms", "2150"), ("retry-after", "3")], busy, RateLimited, "");
    assert_eq!(error.retry_after(), Some(Duration::from_millis(2150)));
    fails!(foundry(), 429, &[], busy, RateLimited, "");
    fails!(azure(), 401, &[], wrong_key, Auth, "");
    fails!(foundry(), 401, &[], no_role, Auth, "Cognitive Services User");
    fails!(azure(), 502, &[("content-type", "text/html")], page, Server, "HTML page: 502 Bad Gateway");
    for status in [429] {
        let error = fails!(claude(), status, &[], exhausted, RateLimited, "");
        assert_eq!(error.retry_after(), None);
        fails!(gemini(), status, &[], exhausted, RateLimited, "");
    }
    fails!(claude(), 403, &[], denied, Auth, "roles/aiplatform.user");
    fails!(gemini(), 403, &[], denied, Auth, "roles/aiplatform.user");
    fails!(claude(), 403, &[], disabled, Auth, "enable the Vertex AI API");
    fails!(gemini(), 403, &[], disabled, Auth, "enable the Vertex AI API");
    fails!(claude(), 404, &[], unknown, NotFound, "Model Garden");
    let spelled = claude().model("us.anthropic.claude-opus-4-6-v1");
    fails!(spelled, 404, &[], unknown, NotFound, "claude-sonnet-4-5@20250929");
    fails!(claude(), 400, &[], invalid, InvalidRequest, "max_tokens");
    fails!(claude(), 529, &[], overloaded, Overloaded, "");
}

const EXPIRED: &str = r#"{"message":"Signature expired: 20251117T063822Z is now earlier than 20251117T063849Z (20251117T064349Z - 5 min.)"}"#;
const SIGNATURE: (&str, &str) = ("x-amzn-errortype", "InvalidSignatureException:http://internal.amazon.com/");

#[tokio::test(start_paused = true)]
async fn a_signature_of_a_wrong_clock_is_made_once_more_with_the_providers_date() {
    let date = ("date", "Mon, 17 Nov 2025 06:43:49 GMT");
    let (leaf, sent) = over(at_aws(keys()), &[(403, &[SIGNATURE, date], EXPIRED), (200, &[], MESSAGE)]);
    assert_eq!(ask(leaf).await.unwrap().text().await.unwrap(), "hi");
    let sent = sent.lock().unwrap();
    assert_eq!(sent.len(), 2);
    assert!(sent[1]["x-amz-date"].to_str().unwrap().starts_with("20251117T0643"), "{:?}", sent[1]["x-amz-date"]);
    assert_ne!(sent[0]["authorization"], sent[1]["authorization"]);
}

#[tokio::test(start_paused = true)]
async fn a_signature_that_is_refused_twice_is_an_error() {
    let date = ("date", "Mon, 17 Nov 2025 06:43:49 GMT");
    let answer = (403, &[SIGNATURE, date][..], EXPIRED);
    let (leaf, sent) = over(at_aws(keys()), &[answer, answer]);
    assert_eq!(ask(leaf).await.unwrap_err().kind(), ErrorKind::Auth);
    assert_eq!(sent.lock().unwrap().len(), 2);
}

/// A source of tokens `token-1`, `token-2` and so on, each good for an hour.
fn counting() -> Credentials {
    let count = Arc::new(Mutex::new(0));
    Credentials::service(service_fn(move |()| {
        *count.lock().unwrap() += 1;
        let token = format!("token-{}", count.lock().unwrap());
        std::future::ready(Ok::<_, Infallible>(Token::bearer(token).expires_in(Duration::from_secs(3600))))
    }))
}

#[tokio::test(start_paused = true)]
async fn a_refused_token_is_renewed_and_the_request_repeated_once() {
    let expired = r#"{"error":{"code":401,"message":"Request had invalid authentication credentials.","status":"UNAUTHENTICATED"}}"#;
    let leaf = Anthropic::on_vertex("my-project", "global").unwrap().model("claude-opus-4-6").credentials(counting());
    let (leaf, sent) = over(leaf, &[(401, &[], expired), (200, &[], MESSAGE), (401, &[], expired)]);
    assert_eq!(ask(leaf.clone()).await.unwrap().text().await.unwrap(), "hi");
    let tokens: Vec<_> = sent.lock().unwrap().iter().map(|headers| headers["authorization"].clone()).collect();
    assert_eq!(tokens, ["Bearer token-1", "Bearer token-2"]);
    // Refusals renew at a bounded rate: this one is the caller's to see.
    assert_eq!(ask(leaf).await.unwrap_err().kind(), ErrorKind::Auth);
}

#[tokio::test(start_paused = true)]
async fn a_right_that_is_missing_is_not_asked_for_twice() {
    let denied = r#"{"message":"You don't have access to the model with the specified model ID."}"#;
    let header = ("x-amzn-errortype", "AccessDeniedException");
    let (leaf, sent) = over(at_aws(counting()), &[(403, &[header], denied)]);
    assert_eq!(ask(leaf).await.unwrap_err().kind(), ErrorKind::NotFound);
    assert_eq!(sent.lock().unwrap().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn without_a_credential_nothing_is_sent() {
    let failing =
        Credentials::service(service_fn(|()| async { Err::<Token, _>(std::io::Error::other("vault is sealed")) }));
    let aws_keys_at_google = Anthropic::on_vertex("my-project", "global").unwrap().credentials(keys()).model("claude");
    for leaf in [
        Anthropic::on_aws("us-east-1").unwrap().model("anthropic.claude-sonnet-4-5"),
        Anthropic::on_azure("my-resource").unwrap().model("claude"),
        at_aws(failing),
        aws_keys_at_google,
    ] {
        let (leaf, sent) = over(leaf, &[]);
        let error = ask(leaf).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Credentials, "{error}");
        assert_eq!(sent.lock().unwrap().len(), 0);
    }
}

/// The credential never comes: callers leave, and those who stay are answered once it is there.
#[tokio::test(start_paused = true)]
async fn a_caller_that_leaves_while_the_credential_is_fetched_hurts_no_other() {
    let gate = Arc::new(tokio::sync::Semaphore::new(0));
    let opened = gate.clone();
    let slow = Credentials::service(service_fn(move |()| {
        let gate = opened.clone();
        async move {
            let _open = gate.acquire().await;
            Ok::<_, Infallible>(Token::bearer("a-token").expires_in(Duration::from_secs(3600)))
        }
    }));
    let (mut leaf, sent) = over(at_aws(slow), &[(200, &[], MESSAGE)]);
    std::future::poll_fn(|cx| leaf.poll_ready(cx)).await.unwrap();
    let mut left = tokio_test::task::spawn(ask(leaf.clone()));
    tokio_test::assert_pending!(left.poll());
    drop(left);
    let staying = tokio::spawn(ask(leaf));
    tokio::task::yield_now().await;
    assert_eq!(sent.lock().unwrap().len(), 0);
    gate.add_permits(1);
    assert_eq!(staying.await.unwrap().unwrap().text().await.unwrap(), "hi");
    assert_eq!(sent.lock().unwrap().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn an_errors_text_has_no_session_token() {
    let body = r#"{"message":"The Canonical String should have been 'x-amz-security-token:a-session-token'"}"#;
    let header = ("x-amzn-errortype", "SignatureDoesNotMatchException");
    let (leaf, _) = over(at_aws(keys()), &[(403, &[header], body)]);
    let error = ask(leaf).await.unwrap_err();
    let shown = format!("{error:?} {error} {:?}", error.raw());
    assert!(!shown.contains("a-session-token"), "{shown}");
}

#[tokio::test(start_paused = true)]
async fn a_callers_own_client_passes_the_door_by() {
    let own = Scripted::json(MESSAGE);
    let head = Request::post("https://api.anthropic.com/v1/messages").header("x-api-key", "the caller's");
    let (head, ()) = head.body(()).unwrap().into_parts();
    let body = r#"{"model":"claude-sonnet-4-5","cache_control":{},"max_tokens":9,"messages":[]}"#;
    let client = own.clone();
    let request = wire(body, "").with_extension(CallerTransport::new(Dialect::Anthropic, head, client));
    let (leaf, sent) = over(Anthropic::on_aws("us-east-1").unwrap().credentials(keys()), &[]);
    let _response = leaf.oneshot(request).await.unwrap();
    assert_eq!(sent.lock().unwrap().len(), 0);
    assert_eq!(own.request().uri(), "https://api.anthropic.com/v1/messages");
    assert_eq!(own.body(), body.as_bytes());
    assert!(!own.request().headers().contains_key("authorization"));
}

/// The answer is the example of the API reference of `Converse`, with its metrics.
#[tokio::test(start_paused = true)]
async fn converse_is_spoken_in_both_directions() {
    let answer = r#"{"output":{"message":{"role":"assistant","content":[{"text":"hi"}]}},"stopReason":"end_turn","usage":{"inputTokens":30,"outputTokens":628,"totalTokens":658},"metrics":{"latencyMs":1275}}"#;
    let transport = Scripted::json(answer).header("x-amzn-requestid", "an-id");
    let leaf = Anthropic::on_aws("us-east-1").unwrap().aws_api(AwsApi::Converse).unwrap().credentials(keys());
    let leaf = leaf.model("us.amazon.nova-2-lite-v1:0").transport(transport.clone());
    let body = r#"{"model":"c","max_tokens":9,"stream":false,"messages":[{"role":"user","content":"hello"}]}"#;
    let response = leaf.oneshot(wire(body, "")).await.unwrap();
    assert_eq!(response.text().await.unwrap(), "hi");
    let sent = transport.sent();
    assert_eq!(sent["messages"][0]["content"][0]["text"], "hello");
    assert_eq!(sent["inferenceConfig"]["maxTokens"], 9);
    let absent = ["model", "stream", "anthropic_version", "max_tokens"];
    assert!(absent.iter().all(|name| sent.get(*name).is_none()), "{sent}");
    let signed = transport.request().headers()["authorization"].to_str().unwrap().to_owned();
    assert!(signed.contains("/us-east-1/bedrock/aws4_request"), "{signed}");
}
