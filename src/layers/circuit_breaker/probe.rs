//! A small request that shows whether a provider is well. It is no caller's request, so that it holds no part of a
//! circuit.

use std::time::Duration;

use tokio::time::timeout;
use tower::ServiceExt;

use crate::{LlmError, LlmRequest, LlmService};

/// The longest time of such a probe.
pub const LONGEST_PROBE: Duration = Duration::from_secs(30);

/// Returns the outcome of a request, its answer read to the end; `None` if that takes longer than the limit.
pub async fn ask<S>(service: S, request: LlmRequest, limit: Duration) -> Option<Result<(), LlmError>>
where
    S: LlmService,
{
    let asked = async {
        let response = service.oneshot(request).await.map_err(Into::into)?;
        response.collect().await.map(drop)
    };
    timeout(limit, asked).await.ok()
}
