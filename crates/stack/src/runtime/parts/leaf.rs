//! The leaf of a tier: a service that speaks to the tier's provider.

use std::{
    fmt,
    future::{Future, Ready},
    pin::Pin,
    task::{Context, Poll},
};

use pin_project::pin_project;
use tower::Service;

use steadfast::{
    BoxLlmService, LlmError, LlmRequest, LlmResponse,
    layers::cached::CachedAnswers,
    providers::{
        Anthropic, Canned, Gemini, OpenAi, Simulated,
        responses::{OpenAiAuto, OpenAiResponses},
        simulated,
    },
};
use steadfast_handoff::Handoff;

/// A tier's provider. One type covers all providers, so that the primary's calls need no boxing.
#[derive(Clone, Debug)]
pub(crate) enum Leaf {
    Anthropic(Anthropic),
    OpenAi(OpenAi),
    Responses(OpenAiResponses),
    OpenAiAuto(OpenAiAuto),
    Gemini(Gemini),
    Simulated(Simulated),
    Cached(CachedAnswers),
    Canned(Canned),
    Handoff(Handoff),
    /// The service in the provider's place.
    Own(BoxLlmService),
}

impl Service<LlmRequest> for Leaf {
    type Response = LlmResponse;
    type Error = LlmError;
    type Future = LeafFuture;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), LlmError>> {
        match self {
            Self::Anthropic(leaf) => leaf.poll_ready(cx),
            Self::OpenAi(leaf) => leaf.poll_ready(cx),
            Self::Responses(leaf) => leaf.poll_ready(cx),
            Self::OpenAiAuto(leaf) => leaf.poll_ready(cx),
            Self::Gemini(leaf) => leaf.poll_ready(cx),
            Self::Simulated(leaf) => leaf.poll_ready(cx),
            Self::Cached(leaf) => leaf.poll_ready(cx),
            Self::Canned(leaf) => leaf.poll_ready(cx),
            Self::Handoff(leaf) => leaf.poll_ready(cx),
            Self::Own(leaf) => leaf.poll_ready(cx),
        }
    }

    fn call(&mut self, request: LlmRequest) -> LeafFuture {
        match self {
            Self::Anthropic(leaf) => LeafFuture::Boxed(leaf.call(request)),
            Self::OpenAi(leaf) => LeafFuture::Boxed(leaf.call(request)),
            Self::Responses(leaf) => LeafFuture::Boxed(leaf.call(request)),
            Self::OpenAiAuto(leaf) => LeafFuture::Boxed(leaf.call(request)),
            Self::Gemini(leaf) => LeafFuture::Boxed(leaf.call(request)),
            Self::Simulated(leaf) => LeafFuture::Simulated(leaf.call(request)),
            Self::Cached(leaf) => LeafFuture::Boxed(leaf.call(request)),
            Self::Canned(leaf) => LeafFuture::Canned(leaf.call(request)),
            Self::Handoff(leaf) => LeafFuture::Boxed(leaf.call(request)),
            Self::Own(leaf) => LeafFuture::Own(leaf.call(request)),
        }
    }
}

/// The future of a [`Leaf`].
#[pin_project(project = LeafProjection)]
#[allow(
    clippy::large_enum_variant,
    reason = "a simulated leaf allocates as little as it can: benchmarks measure with it"
)]
pub(crate) enum LeafFuture {
    /// For HTTP providers, the cache and people.
    Boxed(#[pin] steadfast::response::ResponseFuture),
    Simulated(#[pin] simulated::ResponseFuture),
    Canned(#[pin] Ready<Result<LlmResponse, LlmError>>),
    Own(#[pin] <BoxLlmService as Service<LlmRequest>>::Future),
}

impl Future for LeafFuture {
    type Output = Result<LlmResponse, LlmError>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        match self.project() {
            LeafProjection::Boxed(future) => future.poll(cx),
            LeafProjection::Simulated(future) => future.poll(cx),
            LeafProjection::Canned(future) => future.poll(cx),
            LeafProjection::Own(future) => future.poll(cx),
        }
    }
}

impl fmt::Debug for LeafFuture {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LeafFuture").finish_non_exhaustive()
    }
}
