//! The gRPC service over a stack.

use std::time::Duration;

use futures_util::{StreamExt, future::ready, stream::BoxStream};
use steadfast::{BoxLlmService, ErrorKind, Frame, LlmError, LlmRequest, LlmResponse, StreamEvent};
use tonic::{Code, Request, Response, Status, metadata::MetadataMap};
use tower::ServiceExt;

use crate::proto::{Answer, Piece, Question, llm_server::Llm};

/// The service. The stack is boxed only so that the field has a type that can be written down.
pub(crate) struct Service(pub(crate) BoxLlmService);

#[tonic::async_trait]
impl Llm for Service {
    type AskStreamStream = BoxStream<'static, Result<Piece, Status>>;

    async fn ask(&self, question: Request<Question>) -> Result<Response<Answer>, Status> {
        let response = self.call(question, false).await?;
        let (served_by, degraded) = (response.served_by().to_string(), response.degraded().is_some());
        let text = response.text().await.map_err(status)?;
        Ok(Response::new(Answer { text, served_by, degraded }))
    }

    /// Until the first token, a failure is the call's. After it, the status of the trailers tells a cut from an end.
    async fn ask_stream(&self, question: Request<Question>) -> Result<Response<Self::AskStreamStream>, Status> {
        let response = self.call(question, true).await?;
        let served_by = response.served_by().to_string().parse().ok();
        // The body holds the feature's place, and gives it back at its end, or when the caller leaves.
        let pieces = response.into_body().filter_map(|frame| ready(piece(frame).transpose()));
        let mut response = Response::new(pieces.boxed());
        if let Some(served_by) = served_by {
            response.metadata_mut().insert("served-by", served_by);
        }
        Ok(response)
    }
}

impl Service {
    async fn call(&self, question: Request<Question>, stream: bool) -> Result<LlmResponse, Status> {
        let deadline = deadline(question.metadata());
        let mut request = LlmRequest::prompt(question.into_inner().prompt).with_feature("chat").with_stream(stream);
        // So the layers know how long the caller waits: a tier that hangs leaves time for the next one.
        if let Some(deadline) = deadline {
            request = request.with_timeout(deadline);
        }
        self.0.clone().oneshot(request).await.map_err(status)
    }
}

/// The caller's deadline, as gRPC sends it: up to eight digits and a unit.
fn deadline(metadata: &MetadataMap) -> Option<Duration> {
    let value = metadata.get("grpc-timeout")?.to_str().ok()?;
    let (digits, unit) = value.split_at_checked(value.len().checked_sub(1)?)?;
    let count = digits.parse::<u32>().ok().filter(|_| digits.len() <= 8)?;
    let unit = match unit {
        "H" => Duration::from_secs(3600),
        "M" => Duration::from_secs(60),
        "S" => Duration::from_secs(1),
        "m" => Duration::from_millis(1),
        "u" => Duration::from_micros(1),
        "n" => Duration::from_nanos(1),
        _ => return None,
    };
    Some(unit.saturating_mul(count))
}

/// What one frame tells the caller; `None` for what it need not know (usage, pings).
fn piece(frame: Result<Frame, LlmError>) -> Result<Option<Piece>, Status> {
    let mut piece = Piece::default();
    for event in frame.map_err(status)?.events() {
        match event {
            StreamEvent::Text { text, .. } => piece.text.push_str(text),
            StreamEvent::Restarted { .. } => piece = Piece { text: String::new(), restart: true },
            _ => {}
        }
    }
    Ok(Some(piece).filter(|piece| *piece != Piece::default()))
}

/// An error as a status. Its message is the kind alone: the rest names models and request ids, and is for the log.
fn status(error: LlmError) -> Status {
    eprintln!("{error}");
    let code = match error.kind() {
        // The caller sends too much at once, or we do in the caller's name.
        ErrorKind::RateLimited | ErrorKind::BulkheadFull | ErrorKind::Budget => Code::ResourceExhausted,
        ErrorKind::Timeout | ErrorKind::Deadline => Code::DeadlineExceeded,
        // The caller's to mend.
        ErrorKind::InvalidRequest
        | ErrorKind::UnsupportedFeature
        | ErrorKind::ContextLength
        | ErrorKind::TooLarge
        | ErrorKind::ContentPolicy
        | ErrorKind::Refusal => Code::InvalidArgument,
        // The provider's trouble, or ours with it (a refused key, an empty account): none of the caller's doing.
        _ => Code::Unavailable,
    };
    let mut status = Status::new(code, error.kind().name());
    // A gRPC client with a retry policy waits for this long: when the first tier may work again.
    if let Some(wait) = error.retry_after().and_then(|wait| u32::try_from(wait.as_millis()).ok()) {
        status.metadata_mut().insert("grpc-retry-pushback-ms", wait.into());
    }
    status
}
