//! The stack without a configuration: simulated providers.

use std::time::Duration;

use steadfast::providers::simulated::{Fault, FaultMix, Latency, Simulated};
use steadfast_stack::{Config, ConfigError, Format, Stack};

const CONFIG: &str = "
tiers:
  - { name: simulated-primary, provider: simulated, model: simulated-primary }
  - { name: simulated-backup, provider: simulated, model: simulated-backup }
lane:
  tiers:
    - { name: simulated-small, provider: simulated, model: text-embedding-3-small }
    - { name: simulated-large, provider: simulated, model: text-embedding-3-large }
    - { name: simulated-text, provider: simulated, model: gpt-3.5-turbo-instruct }
";

/// The primary's model, for a caller to name.
pub(crate) const MODEL: &str = "simulated-primary";

/// Returns a stack of two simulated models: the primary fails one call in twenty, and the backup answers in its place.
pub(crate) fn stack() -> Result<Stack, ConfigError> {
    let model = |name| {
        Simulated::new(name)
            .latency(Latency::percentiles(Duration::from_millis(250), Duration::from_millis(900)))
            .pace(Duration::from_millis(25))
            .tokens(24..=72)
    };
    Stack::builder()
        .leaf(MODEL, model(MODEL).fault_mix(FaultMix::new().with(0.05, Fault::Overloaded)))
        .leaf("simulated-backup", model("simulated-backup"))
        .leaf("simulated-text", model("gpt-3.5-turbo-instruct"))
        .build(Config::from_str(CONFIG, Format::Yaml)?)
}

#[cfg(test)]
mod tests {
    use axum::body::Body;
    use http::Request;
    use http_body_util::BodyExt;
    use tower::ServiceExt;

    use super::*;
    use crate::Gateway;

    #[tokio::test(start_paused = true)]
    async fn every_usual_call_works_without_a_file() {
        let gateway = Gateway::from(&stack().unwrap());
        let calls = [
            (
                "/v1/chat/completions",
                r#"{"model":"gpt-4o","messages":[{"role":"user","content":"hello"}]}"#,
                "\"content\"",
            ),
            ("/v1/embeddings", r#"{"model":"text-embedding-3-small","input":["a","b"]}"#, "\"embedding\""),
            ("/v1/embeddings", r#"{"model":"text-embedding-3-large","input":"a"}"#, "\"embedding\""),
            (
                "/v1/embeddings",
                r#"{"model":"text-embedding-3-small","input":"a","dimensions":256,"encoding_format":"base64"}"#,
                "\"embedding\"",
            ),
            ("/v1/completions", r#"{"model":"gpt-3.5-turbo-instruct","prompt":"Once"}"#, "\"text_completion\""),
            ("/v1/completions", r#"{"model":"gpt-3.5-turbo-instruct","prompt":"Once","stream":true}"#, "data: [DONE]"),
        ];
        for (path, body, has) in calls {
            let request =
                Request::post(path).header("content-type", "application/json").body(Body::from(body)).unwrap();
            let (head, answer) = gateway.clone().oneshot(request).await.unwrap().into_parts();
            let answer = String::from_utf8(answer.collect().await.unwrap().to_bytes().into()).unwrap();
            assert!(head.status == 200 && answer.contains(has), "{path}: {}, {answer}", head.status);
            let is_stream = head.headers["content-type"].as_bytes().starts_with(b"text/event-stream");
            assert_eq!(is_stream, body.contains("stream"), "{path}");
        }
    }
}
