//! The reading of an answer's body.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http_body_util::BodyExt;
use tokio::time::timeout;
use tower::BoxError;

use crate::{
    ErrorKind, LlmError,
    body::HeldMemory,
    internal::joined_bytes::JoinedBytes,
    protocol::{of_body, readable},
};

/// Reads a whole answer, as far as there is memory for it. One that breaks off is none.
pub(super) async fn read_whole<B>(mut body: B, limit: usize, memory: &mut HeldMemory) -> Result<Bytes, LlmError>
where
    B: http_body::Body<Data = Bytes, Error = BoxError> + Unpin,
{
    let announced = http_body::Body::size_hint(&body).exact();
    let announced = announced.and_then(|length| usize::try_from(length).ok()).filter(|length| *length <= limit);
    let mut read = JoinedBytes::default();
    while let Some(frame) = body.frame().await {
        let Ok(data) = frame.map_err(of_body)?.into_data() else { continue };
        let length = read.len() + data.len();
        if length > limit {
            let message = format!("the answer is larger than the limit of {limit} bytes");
            return Err(LlmError::new(ErrorKind::Malformed, message));
        }
        memory.cover(announced.unwrap_or(length).max(length), announced.is_some()).await?;
        read.push(data, announced);
    }
    Ok(read.join())
}

/// The time in which an error body is read, from its head on. A choice of ours: SDKs decide by the head alone.
const ERROR_BODY: Duration = Duration::from_secs(1);

/// Reads the start of an error body. A part of it suffices: the status is known.
pub(super) async fn read_error<B>(mut body: B, limit: usize) -> Bytes
where
    B: http_body::Body<Data = Bytes, Error = BoxError> + Unpin,
{
    let mut read = BytesMut::new();
    let reading = async {
        while let Some(Ok(frame)) = body.frame().await {
            if let Ok(data) = frame.into_data() {
                let room = limit - read.len();
                read.extend_from_slice(&data[..data.len().min(room)]);
                if read.len() == limit {
                    break;
                }
            }
        }
    };
    // Boxed: it is rare, and every call would reserve room for its timer.
    let _whole = Box::pin(timeout(ERROR_BODY, reading)).await;
    readable(read.freeze())
}
