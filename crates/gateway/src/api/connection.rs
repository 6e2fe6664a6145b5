//! The state that the requests of a connection share.

use std::sync::{Arc, Mutex};

use steadfast::BoxLlmService;
use tokio_util::sync::CancellationToken;

use super::{GatewayState, repeats::ConnectionFailures};
use crate::lock::lock;

/// The state that the requests of a connection share. Making it for each request would cost as much as the layers.
pub(crate) struct ConnectionContext {
    pub(super) service: Mutex<BoxLlmService>,
    /// A child of the gateway's token, which has its own lock.
    pub(super) cut: CancellationToken,
    pub(super) failures: Arc<ConnectionFailures>,
}

impl ConnectionContext {
    pub(crate) fn of(gateway: &GatewayState) -> Self {
        Self {
            service: Mutex::new(gateway.service.clone()),
            cut: gateway.lifecycle.cut.child_token(),
            failures: Arc::default(),
        }
    }

    /// Replaces the service after a panic in it. A clone carries no readiness, and nothing that the panic cut short.
    pub(super) fn renew(&self) {
        let mut service = lock(&self.service);
        let renewed = service.clone();
        *service = renewed;
    }
}
