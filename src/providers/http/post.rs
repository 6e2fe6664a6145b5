use bytes::Bytes;
use http::HeaderMap;
use tower::ServiceExt;

use super::{
    HttpLeaf,
    failure::of_transport,
    service::{addressed, read_error, read_whole},
};
use crate::{
    LlmError,
    internal::wall_clock,
    providers::protocol::{Protocol, no_model, request_id},
};

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
            let request = addressed(&settings, HeaderMap::new(), path, body.into())?;
            let response = transport.oneshot(request).await.map_err(of_transport)?;
            let (head, body) = response.into_parts();
            origin.status = Some(head.status);
            origin.request_id = request_id(&head.headers);
            if head.status.is_success() {
                return read(&read_whole(body, settings.coder.limits.answer).await?);
            }
            let body = read_error(body, settings.coder.limits.error).await;
            Err(settings.coder.error(&origin.secret, head.status, &head.headers, body, wall_clock::now()))
        };
        let answer = answer.await;
        answer.map_err(|error| origin.stamp(error))
    }
}
