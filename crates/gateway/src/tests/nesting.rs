//! Two stacks around one client, by mistake.

use std::convert::Infallible;

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::Full;
use steadfast::providers::Simulated;
use tower::{Layer, ServiceExt, service_fn, util::BoxCloneSyncService};
use tracing::instrument::WithSubscriber;

use super::{harness::log_to, logs::Log};
use crate::HttpLlmLayer;

#[tokio::test]
async fn two_layers_around_a_client_are_reported_once_when_they_are_built_or_at_the_first_call() {
    let log = Log::default();
    let writer = log.clone();
    let subscriber = tracing_subscriber::fmt().with_writer(move || writer.clone()).with_ansi(false).finish();
    let _here = log_to(subscriber);
    let warnings = || log.said().matches("an HttpLlmLayer stands within another").count();

    let client =
        service_fn(|_: Request<Full<Bytes>>| async { Ok::<_, Infallible>(Response::new(Full::<Bytes>::default())) });
    let stack = || HttpLlmLayer::new(steadfast::providers::OpenAi::new(""));
    let inner = stack().layer(client);
    assert_eq!(warnings(), 0);
    let _outer = stack().layer(inner.clone());
    assert_eq!(warnings(), 1, "at start");

    let boxed = BoxCloneSyncService::new(inner);
    let outer = stack().layer(boxed);
    assert_eq!(warnings(), 1, "the box hides it");
    let calls = async {
        for _ in 0..3 {
            let request = Request::post("http://provider.test/v1/chat/completions");
            let request = request.body(Full::from(r#"{"model": "gpt-4o", "messages": []}"#)).unwrap();
            outer.clone().oneshot(request).await.unwrap();
        }
    };
    calls.with_current_subscriber().await;
    assert_eq!(warnings(), 2, "at the first call");
    let _alone = HttpLlmLayer::new(Simulated::new("gpt-4o")).layer(client);
    assert_eq!(warnings(), 2);
}
