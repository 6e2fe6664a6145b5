//! The way of a request to its server: by a transport, or through a door.

use http::Request;
use tower::ServiceExt;

use super::{CallerTransport, RequestBody, leaf::Settings};
#[cfg(feature = "clouds")]
use crate::commit;
use crate::{
    LlmRequest,
    boxed::{Sending, Transport},
    protocol::Protocol,
};

impl<P> Settings<P> {
    /// Returns true if the leaf stands at a cloud.
    pub(super) fn has_door(&self) -> bool {
        #[cfg(feature = "clouds")]
        return self.door.is_some();
        #[cfg(not(feature = "clouds"))]
        false
    }
}

/// Sends a request: by the caller's own client as it is, or through the leaf's door, if there is one.
pub(super) fn dispatch<P: Protocol>(
    settings: &Settings<P>,
    caller: Option<&CallerTransport>,
    transport: Transport,
    sent: Request<RequestBody>,
    request: &LlmRequest,
) -> Sending {
    #[cfg(feature = "clouds")]
    if let (Some(door), None) = (&settings.door, caller) {
        let model = settings.coder.model_of(request);
        let memory = commit::memory_for(request);
        return super::door::send(settings, door, transport, sent, model, request.context().deadline, memory);
    }
    let _of_doors = (settings, caller, request);
    Box::pin(transport.oneshot(sent))
}

/// Returns the transport that is ready. A clone that is not ready stays behind.
pub(super) fn take(ready: &mut Transport) -> Transport {
    let clone = ready.clone();
    std::mem::replace(ready, clone)
}
