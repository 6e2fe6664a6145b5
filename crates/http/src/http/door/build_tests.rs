use tower::ServiceExt;

use super::AwsApi;
use crate::{
    Anthropic, Dialect, Gemini, InvalidConfig, LlmRequest, OpenAi, Wire,
    credentials::{Credentials, Token},
    http::{HttpLeaf, testing::Scripted},
    protocol::Protocol,
};

fn bearer() -> Credentials {
    Credentials::token(Token::bearer("a-token"))
}

fn keys() -> Credentials {
    Credentials::token(Token::aws("AKIDEXAMPLE", "wJalrXUtnFEMI", None))
}

/// Returns the address, and the header that carries the credential, of the request that a leaf sends.
async fn sent<P: Protocol>(leaf: HttpLeaf<P>, stream: bool) -> (String, String) {
    let transport = Scripted::json("{}");
    let leaf = leaf.transport(transport.clone());
    let _no_answer = leaf.oneshot(LlmRequest::prompt("hello").with_stream(stream)).await;
    let request = transport.request();
    let names = ["authorization", "x-api-key", "api-key", "x-goog-api-key"];
    let held = names.iter().filter_map(|name| {
        let value = request.headers().get(*name)?;
        assert!(value.is_sensitive(), "{name}");
        let value = value.to_str().expect("a text");
        // A signature ends with itself.
        let value = value.split(", SignedHeaders").next().unwrap_or(value);
        Some(format!("{name}: {value}"))
    });
    (request.uri().to_string(), held.collect::<Vec<_>>().join("; "))
}

/// The addresses are those of the clouds' documentation, as the module's table has them.
#[tokio::test(start_paused = true)]
async fn each_door_has_its_address_and_its_credential() {
    let mantle = || Anthropic::on_aws("us-east-1").unwrap().model("anthropic.claude-sonnet-4-5");
    let profile = || mantle().model("us.anthropic.claude-sonnet-4-5-20250929-v1:0");
    let id = "us.anthropic.claude-sonnet-4-5-20250929-v1%3A0";
    for (leaf, stream, url, credential) in [
        (
            mantle().key("a-key"),
            false,
            "https://bedrock-mantle.us-east-1.api.aws/anthropic/v1/messages".to_owned(),
            "authorization: Bearer a-key",
        ),
        (
            profile().aws_api(AwsApi::Runtime).unwrap().key("a-key"),
            true,
            "https://bedrock-runtime.us-east-1.amazonaws.com/anthropic/v1/messages".to_owned(),
            "authorization: Bearer a-key",
        ),
        (
            profile().aws_api(AwsApi::Invoke).unwrap().credentials(bearer()),
            false,
            format!("https://bedrock-runtime.us-east-1.amazonaws.com/model/{id}/invoke"),
            "authorization: Bearer a-token",
        ),
        (
            profile().aws_api(AwsApi::Invoke).unwrap().credentials(bearer()),
            true,
            format!("https://bedrock-runtime.us-east-1.amazonaws.com/model/{id}/invoke-with-response-stream"),
            "authorization: Bearer a-token",
        ),
        (
            profile().aws_api(AwsApi::Converse).unwrap().credentials(bearer()),
            true,
            format!("https://bedrock-runtime.us-east-1.amazonaws.com/model/{id}/converse-stream"),
            "authorization: Bearer a-token",
        ),
        (
            Anthropic::on_azure("my-resource").unwrap().model("claude-sonnet-4-5").key("a-key"),
            false,
            "https://my-resource.services.ai.azure.com/anthropic/v1/messages".to_owned(),
            "x-api-key: a-key",
        ),
        (
            Anthropic::on_vertex("my-project", "global")
                .unwrap()
                .model("claude-sonnet-4-5@20250929")
                .credentials(bearer()),
            true,
            "https://aiplatform.googleapis.com/v1/projects/my-project/locations/global/publishers/anthropic/models/\
             claude-sonnet-4-5@20250929:streamRawPredict"
                .to_owned(),
            "authorization: Bearer a-token",
        ),
        (
            Anthropic::on_vertex("my-project", "eu").unwrap().model("claude-opus-4-6").credentials(bearer()),
            false,
            "https://aiplatform.eu.rep.googleapis.com/v1/projects/my-project/locations/eu/publishers/anthropic/models/\
             claude-opus-4-6:rawPredict"
                .to_owned(),
            "authorization: Bearer a-token",
        ),
    ] {
        assert_eq!(sent(leaf, stream).await, (url, credential.to_owned()));
    }
    let gpt = || OpenAi::on_azure("my-resource").unwrap().model("gpt-4o").key("a-key");
    let v1 = "https://my-resource.openai.azure.com/openai/v1";
    assert_eq!(sent(gpt(), false).await, (format!("{v1}/chat/completions"), "api-key: a-key".to_owned()));
    assert_eq!(sent(gpt().responses(), true).await, (format!("{v1}/responses"), "api-key: a-key".to_owned()));
    let older = || gpt().api_version("2024-10-21").unwrap();
    let deployments = "https://my-resource.openai.azure.com/openai/deployments";
    let url = format!("{deployments}/gpt-4o/chat/completions?api-version=2024-10-21");
    assert_eq!(sent(older(), true).await.0, url);
    let url = format!("{deployments}/ours/chat/completions?api-version=2024-10-21");
    assert_eq!(sent(older().deployment("ours").unwrap(), true).await.0, url);
    let url = "https://my-resource.openai.azure.com/openai/responses?api-version=2024-10-21";
    assert_eq!(sent(older().responses(), true).await.0, url);

    let oss = || OpenAi::on_aws("us-west-2").unwrap().model("openai.gpt-oss-120b").key("a-key");
    let mantle = "https://bedrock-mantle.us-west-2.api.aws";
    assert_eq!(sent(oss(), false).await.0, format!("{mantle}/v1/chat/completions"));
    assert_eq!(sent(oss().responses(), false).await.0, format!("{mantle}/openai/v1/responses"));

    let gemini = || Gemini::on_vertex("my-project", "us-central1").unwrap().credentials(bearer());
    let place = "https://us-central1-aiplatform.googleapis.com/v1/projects/my-project/locations/us-central1";
    for (model, stream, end) in [
        ("gemini-2.5-pro", false, "/publishers/google/models/gemini-2.5-pro:generateContent"),
        ("gemini-2.5-pro", true, "/publishers/google/models/gemini-2.5-pro:streamGenerateContent?alt=sse"),
        ("publishers/google/models/gemini-2.5-pro", false, "/publishers/google/models/gemini-2.5-pro:generateContent"),
    ] {
        assert_eq!(sent(gemini().model(model), stream).await.0, format!("{place}{end}"));
    }
    let url = "https://aiplatform.googleapis.com/v1/publishers/google/models/gemini-2.5-flash:generateContent";
    let express = Gemini::on_vertex_express("a-key").model("gemini-2.5-flash");
    assert_eq!(sent(express, false).await, (url.to_owned(), "x-goog-api-key: a-key".to_owned()));
}

#[tokio::test(start_paused = true)]
async fn aws_keys_sign_for_the_service_and_the_region() {
    let leaf = || Anthropic::on_aws("eu-central-1").unwrap().model("anthropic.claude-sonnet-4-5").credentials(keys());
    let (_, credential) = sent(leaf(), false).await;
    assert!(credential.starts_with("authorization: AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/"), "{credential}");
    assert!(credential.ends_with("/eu-central-1/bedrock-mantle/aws4_request"), "{credential}");
    let (_, credential) = sent(leaf().aws_api(AwsApi::Invoke).unwrap(), true).await;
    assert!(credential.ends_with("/eu-central-1/bedrock/aws4_request"), "{credential}");
}

#[tokio::test(start_paused = true)]
async fn a_base_url_replaces_the_host_and_keeps_everything_else() {
    let claude = || Anthropic::on_aws("us-east-1").unwrap().model("anthropic.claude-sonnet-4-5").key("a-key");
    for given in
        ["http://proxy.test", "http://proxy.test/", "http://proxy.test/anthropic/v1", "http://proxy.test/anthropic"]
    {
        let (url, credential) = sent(claude().base_url(given).unwrap(), false).await;
        assert_eq!((&*url, &*credential), ("http://proxy.test/anthropic/v1/messages", "authorization: Bearer a-key"));
    }
    let (url, _) =
        sent(claude().base_url("http://proxy.test/aws").unwrap().aws_api(AwsApi::Invoke).unwrap(), false).await;
    assert_eq!(url, "http://proxy.test/aws/model/anthropic.claude-sonnet-4-5/invoke");
    let gpt = OpenAi::on_azure("my-resource").unwrap().model("gpt-4o").key("a-key");
    let (url, _) = sent(gpt.base_url("https://other.openai.azure.com/openai/v1/").unwrap(), false).await;
    assert_eq!(url, "https://other.openai.azure.com/openai/v1/chat/completions");
    let gemini = Gemini::on_vertex("my-project", "global").unwrap().model("gemini-2.5-pro").credentials(bearer());
    let (url, _) = sent(gemini.base_url("http://proxy.test/v1").unwrap(), false).await;
    let place = "http://proxy.test/v1/projects/my-project/locations/global/publishers/google/models";
    assert_eq!(url, format!("{place}/gemini-2.5-pro:generateContent"));
}

#[tokio::test(start_paused = true)]
async fn the_credential_that_was_set_last_counts() {
    let leaf = || Anthropic::on_azure("my-resource").unwrap().model("claude-sonnet-4-5");
    assert_eq!(sent(leaf().credentials(bearer()).key("a-key"), false).await.1, "x-api-key: a-key");
    assert_eq!(sent(leaf().key("a-key").credentials(bearer()), false).await.1, "authorization: Bearer a-token");
    // Without a cloud too.
    let own = OpenAi::compatible("own", "http://own.test/v1").unwrap().model("m").credentials(bearer());
    let (url, credential) = sent(own, false).await;
    assert_eq!((&*url, &*credential), ("http://own.test/v1/chat/completions", "authorization: Bearer a-token"));
}

#[tokio::test(start_paused = true)]
async fn both_apis_of_openai_and_embeddings_go_through_the_door() {
    let leaf = |transport: &Scripted| {
        let leaf = OpenAi::on_azure("my-resource").unwrap().model("gpt-4o").key("a-key");
        leaf.transport(transport.clone())
    };
    for (dialect, body, end) in [
        (Dialect::Responses, r#"{"model":"gpt-4o","input":"hi"}"#, "responses"),
        (Dialect::OpenAi, r#"{"model":"gpt-4o","messages":[]}"#, "chat/completions"),
    ] {
        let transport = Scripted::json("{}");
        let _no_answer = leaf(&transport).auto().oneshot(Wire::new(dialect, body).unwrap().into()).await;
        let request = transport.request();
        assert_eq!(request.uri().to_string(), format!("https://my-resource.openai.azure.com/openai/v1/{end}"));
        assert_eq!(request.headers()["api-key"], "a-key");
        assert_eq!(transport.body(), body.as_bytes());
    }
    {
        use crate::{embed::EmbedRequest, openai::OpenAiEmbeddings};
        let transport = Scripted::json(r#"{"data":[{"index":0,"embedding":[0.5]}]}"#);
        let embeddings = OpenAiEmbeddings::new(leaf(&transport));
        let response = embeddings.oneshot(EmbedRequest::new(["hello".to_owned()])).await.unwrap();
        assert_eq!(response.vectors, [[0.5]]);
        let request = transport.request();
        assert_eq!(request.uri(), "https://my-resource.openai.azure.com/openai/v1/embeddings");
        assert_eq!(request.headers()["api-key"], "a-key");
    }
}

#[test]
fn a_deployment_stands_in_the_body_where_the_address_has_none() {
    let body = async {
        let transport = Scripted::json("{}");
        let leaf = OpenAi::on_azure("my-resource").unwrap().model("gpt-4o").deployment("ours").unwrap().key("k");
        let _no_answer = leaf.transport(transport.clone()).oneshot(LlmRequest::prompt("hello")).await;
        transport.sent()
    };
    let sent = tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(body);
    assert_eq!(sent["model"], "ours");
}

#[test]
fn a_mistake_is_refused_when_the_leaf_is_made() {
    fn field<T>(made: Result<T, InvalidConfig>) -> String {
        made.err().expect("it is refused").field().to_owned()
    }
    assert_eq!(field(Anthropic::on_aws("us-east5")), "region");
    assert_eq!(field(OpenAi::on_aws("")), "region");
    assert_eq!(field(Anthropic::on_azure("https://x.services.ai.azure.com")), "resource");
    assert_eq!(field(OpenAi::on_azure("a b")), "resource");
    assert_eq!(field(Anthropic::on_vertex("My Project", "global")), "project");
    assert_eq!(field(Gemini::on_vertex("my-project", "us-east-1")), "location");
    let aws = || OpenAi::on_aws("us-east-1").unwrap();
    assert_eq!(field(aws().aws_api(AwsApi::Invoke)), "aws_api");
    assert_eq!(field(aws().responses().aws_api(AwsApi::Runtime)), "aws_api");
    assert_eq!(field(Anthropic::new("k").aws_api(AwsApi::Mantle)), "aws_api");
    assert_eq!(field(aws().deployment("x")), "deployment");
    assert_eq!(field(OpenAi::on_azure("ab").unwrap().deployment("a/b")), "deployment");
    assert_eq!(field(aws().api_version("2024-10-21")), "api_version");
    assert_eq!(field(Anthropic::on_azure("ab").unwrap().api_version("2024-10-21")), "api_version");
}

#[test]
fn a_model_of_another_door_raises_a_doubt() {
    let mantle = Anthropic::on_aws("us-east-1").unwrap();
    let invoke = mantle.clone().aws_api(AwsApi::Invoke).unwrap();
    let vertex = Anthropic::on_vertex("my-project", "global").unwrap();
    let azure = Anthropic::on_azure("my-resource").unwrap();
    let (plain, dated) = ("claude-sonnet-4-5", "claude-sonnet-4-5-20250929");
    let (at_mantle, profile) = ("anthropic.claude-sonnet-4-5", "us.anthropic.claude-sonnet-4-5-20250929-v1:0");
    let at_vertex = "claude-sonnet-4-5@20250929";
    for (leaf, good, bad) in [
        (mantle, vec![at_mantle], vec![plain, dated, at_vertex, profile]),
        (invoke, vec![at_mantle, profile], vec![plain, dated, at_vertex]),
        (vertex, vec![at_vertex, plain], vec![dated, at_mantle, profile]),
        (azure, vec![plain, dated], vec![at_vertex, at_mantle, profile]),
    ] {
        for model in good {
            assert_eq!(leaf.clone().model(model).model_doubt(), None, "{leaf:?} {model}");
        }
        for model in bad {
            let doubt = leaf.clone().model(model).model_doubt();
            assert!(doubt.is_some_and(|doubt| doubt.contains("claude-sonnet-4-5")), "{leaf:?} {model}");
        }
    }
    assert_eq!(Anthropic::new("k").model(profile).model_doubt(), None);
}

#[tokio::test]
async fn debug_shows_the_door_and_no_secret() {
    let leaf = Anthropic::on_aws("us-east-1").unwrap().credentials(keys());
    let shown = format!("{leaf:?}");
    assert!(shown.contains("us-east-1") && shown.contains("bedrock") && !shown.contains("wJalrXUtnFEMI"), "{shown}");
}
