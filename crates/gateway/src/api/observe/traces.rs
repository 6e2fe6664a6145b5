//! Traces to an OpenTelemetry collector: OTLP over HTTP, in batches, on a thread of the SDK's own. Feature `otlp`.

use std::{pin::Pin, time::Duration};

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt, Limited};
use opentelemetry::{Key, trace::TracerProvider as _};
use opentelemetry_http::{HttpClient, HttpError};
use opentelemetry_otlp::{SpanExporter, WithExportConfig as _, WithHttpConfig as _};
use opentelemetry_sdk::{Resource, trace::SdkTracerProvider};
use steadfast::{
    Events,
    events::Subscription,
    providers::{http::RequestBody, transport},
};
use steadfast_subscribers::traces::Traces;
use tokio::{runtime::Handle, time::timeout};
use tower::ServiceExt as _;

use crate::error::ServeError;

/// An exporter of traces. Dropping it sends the last ones.
pub(super) struct TraceExporter {
    provider: SdkTracerProvider,
    _subscription: Subscription,
}

/// The time for a collector to take a batch.
const EXPORT_TIMEOUT: Duration = Duration::from_secs(10);
/// The time to send the last batch when the process ends.
const SHUTDOWN_TIMEOUT: Duration = Duration::from_secs(2);
/// The longest answer of a collector, in bytes.
const MAX_ANSWER: usize = 1 << 20;

impl TraceExporter {
    /// Starts to export, if there is a collector.
    pub(super) fn begin(endpoint: Option<&str>, events: &Events) -> Result<Option<Self>, ServeError> {
        let Some(endpoint) = endpoint.map(str::trim).filter(|url| !url.is_empty()) else {
            return Ok(None);
        };
        let exporter = SpanExporter::builder()
            .with_http()
            .with_http_client(Client { client: transport::HttpClient::new(), runtime: Handle::current() })
            .with_endpoint(format!("{}/v1/traces", endpoint.trim_end_matches('/')))
            .with_timeout(EXPORT_TIMEOUT)
            .build()
            .map_err(|error| ServeError::invalid(format_args!("--otlp-endpoint: {error}")))?;
        let provider = SdkTracerProvider::builder().with_batch_exporter(exporter).with_resource(resource()).build();
        let subscription = events.follow(Traces::new(provider.tracer("steadfast")));
        Ok(Some(Self { provider, _subscription: subscription }))
    }
}

/// Returns the service's name: the environment's (`OTEL_SERVICE_NAME`, `OTEL_RESOURCE_ATTRIBUTES`), or our own.
fn resource() -> Resource {
    let said = Resource::builder().build();
    let named = said.get(&Key::from_static_str("service.name")).map(|name| name.to_string());
    match named {
        Some(name) if !name.starts_with("unknown_service") => said,
        _ => Resource::builder().with_service_name("steadfast").build(),
    }
}

impl Drop for TraceExporter {
    fn drop(&mut self) {
        if let Err(error) = self.provider.shutdown_with_timeout(SHUTDOWN_TIMEOUT) {
            tracing::warn!(%error, "the last traces were not sent");
        }
    }
}

/// The library's HTTP client, for the SDK's thread, which has no runtime.
#[derive(Clone, Debug)]
struct Client {
    client: transport::HttpClient,
    runtime: Handle,
}

impl Client {
    async fn send(self, request: Request<Bytes>) -> Result<Response<Bytes>, HttpError> {
        let exchange = async {
            let response = self.client.oneshot(request.map(RequestBody::from)).await?;
            let (head, body) = response.into_parts();
            let body = Limited::new(body, MAX_ANSWER).collect().await?.to_bytes();
            Ok(Response::from_parts(head, body))
        };
        timeout(EXPORT_TIMEOUT, exchange).await?
    }
}

type Sending<'a> = Pin<Box<dyn Future<Output = Result<Response<Bytes>, HttpError>> + Send + 'a>>;

impl HttpClient for Client {
    fn send_bytes<'s, 'f>(&'s self, request: Request<Bytes>) -> Sending<'f>
    where
        's: 'f,
        Self: 'f,
    {
        let sending = self.runtime.spawn(self.clone().send(request));
        Box::pin(async { sending.await? })
    }
}
