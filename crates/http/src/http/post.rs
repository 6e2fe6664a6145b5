use bytes::Bytes;
use http::{HeaderMap, Request};
use tower::ServiceExt;

use super::{
    HttpLeaf, RequestBody,
    address::addressed,
    leaf::Settings,
    reading::{read_error, read_whole},
};
use crate::{
    LlmError,
    body::HeldMemory,
    boxed::{Sending, Transport},
    failure::of_transport,
    internal::wall_clock,
    protocol::{Protocol, no_model, readable, request_id},
};

/// Creates the request to a path of the API, or of the leaf's door.
fn posted<P: Protocol>(
    settings: &Settings<P>,
    path: &str,
    model: &str,
    body: Bytes,
) -> Result<Request<RequestBody>, LlmError> {
    #[cfg(feature = "clouds")]
    if let Some(door) = &settings.door {
        let protocol = &settings.coder.protocol;
        let path = door.path(protocol.dialect(), model, false, path);
        let mut request = addressed(settings, HeaderMap::new(), &path, body.into())?;
        door.finish(protocol, settings.coder.key.as_deref(), request.headers_mut())?;
        return Ok(request);
    }
    let _of_doors = model;
    addressed(settings, HeaderMap::new(), path, body.into())
}

fn sending<P: Protocol>(settings: &Settings<P>, transport: Transport, request: Request<RequestBody>) -> Sending {
    #[cfg(feature = "clouds")]
    if let Some(door) = &settings.door {
        return super::door::send(settings, door, transport, request, None, None, HeldMemory::default());
    }
    let _of_doors = settings;
    Box::pin(transport.oneshot(request))
}

#[allow(private_bounds, reason = "the protocols are the crate's own")]
impl<P: Protocol> HttpLeaf<P> {
    /// Returns the leaf's model, or else this one.
    pub(crate) fn model_or(&self, asked: Option<&str>) -> Result<String, LlmError> {
        self.settings.coder.model.as_deref().or(asked).map(str::to_owned).ok_or_else(no_model)
    }

    /// Sends JSON to another path of the same API, and reads the answer.
    pub(crate) async fn post<T>(
        self,
        path: &str,
        model: &str,
        body: Bytes,
        read: impl FnOnce(&[u8]) -> Result<T, LlmError>,
    ) -> Result<T, LlmError> {
        let Self { settings, transport } = self;
        let mut origin = settings.coder.origin(Some(model.into()));
        let answer = async {
            let request = posted(&settings, path, model, body)?;
            let response = sending(&settings, transport, request).await.map_err(of_transport)?;
            let (head, body) = response.into_parts();
            origin.status = Some(head.status);
            origin.request_id = request_id(&head.headers);
            if head.status.is_success() {
                return read(&readable(
                    read_whole(body, settings.coder.limits.answer, &mut HeldMemory::default()).await?,
                ));
            }
            let body = read_error(body, settings.coder.limits.error).await;
            Err(settings.coder.error(&origin.secret, head.status, &head.headers, body, wall_clock::now()))
        };
        let answer = answer.await;
        answer.map_err(|error| origin.stamp(error))
    }
}
