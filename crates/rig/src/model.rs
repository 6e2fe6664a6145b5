//! A model of rig over a stack.

use futures_util::TryStreamExt;
use rig_core::{
    DynModel, Model,
    completion::{
        Accepts, CompletionRequest, Media, Place, ReplayTarget,
        options::{Mapping, OptionFields, OptionMap},
    },
    driver::{Exchange, Opened, Opening, Transport},
    error::EncodeError,
    message::{Api, DocumentSourceKind},
    operation::Completion,
    wire::{
        Descriptor, Mode, Wire,
        document::{Reassemble, Serves},
    },
};
use serde_json::{Value, json};
use steadfast::{BoxLlmService, Frame, LlmBody, LlmError, LlmRequest, LlmService};
use tower::ServiceExt;

use crate::{decoder::FrameDecoder, error::provider_error, request};

/// Returns a model of rig that is answered by a stack, for `AgentBuilder::new` and `call`.
///
/// `name` is the model that requests ask for; a leaf with a model of its own sends that one. Set the feature, the
/// session or the deadline of its requests by tower's `map_request` around the stack.
///
/// An answer's `raw` has its tier, provider, model and attempts. The stack's failures are
/// [`provider_error`](crate::provider_error)s. Dropping a call, or a stream, drops the call to the provider.
///
/// ```
/// use steadfast::{LlmRequest, providers::simulated::Simulated};
/// use tower::ServiceExt;
///
/// # #[tokio::main(flavor = "current_thread", start_paused = true)] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let stack = Simulated::new("sonnet").reply("It rains.");
/// let stack = stack.map_request(|request: LlmRequest| request.with_feature("forecast"));
/// let model = steadfast_rig::model("claude-sonnet-4-5", stack);
///
/// let answer = model.call("How is the weather?").await?;
/// assert_eq!(answer.text(), "It rains.");
/// assert_eq!(answer.raw["attempts"], 1);
/// # Ok(()) }
/// ```
///
/// # Limits of the types
///
/// - `additional_params` are fields of OpenAI's chat completions. A tier of another protocol omits them.
/// - The options `cache`, `service_tier`, `verbosity` and `seed` belong to one provider. A request with one of them is
///   refused, or goes without it under `OnUnsupported::Ignore`. `provider_options` are not read: they name a provider.
/// - A stack takes no audio and no video: rig replaces them by a sentence.
/// - A request that requires one of several named tools is refused; one tool, or any, can be required.
/// - A stream cannot take back its words: one that a stack begins again with another tier (`stream_break: restart`)
///   ends with an error.
/// - A refusal of the model is a failed turn of rig's, with the model's words.
pub fn model<S>(name: impl Into<String>, stack: S) -> DynModel<Completion>
where
    S: LlmService + Clone + Send + Sync + 'static,
    S::Future: Send + 'static,
{
    let wire = StackWire { model: name.into() };
    Model::new(wire, Stack(BoxLlmService::new(stack.map_err(Into::into)))).erase()
}

/// The wire format of a stack: its requests are steadfast's own, its frames too.
#[derive(Clone, Debug)]
struct StackWire {
    model: String,
}

const NAME: &str = "steadfast";

impl Wire for StackWire {
    type Op = Completion;
    type Payload = LlmRequest;
    type Frame = Frame;
    type Decoder<'id> = FrameDecoder;
    type Reassembler = NoDocument;

    fn describe(&self) -> Descriptor<'_> {
        Descriptor::new(NAME).model(&*self.model).replay(self)
    }

    fn encode(&self, request: CompletionRequest, mode: Mode) -> Result<LlmRequest, EncodeError> {
        Ok(LlmRequest::from(request::chat(request)?.stream(mode == Mode::Streaming)))
    }

    fn decoder<'id>(&self) -> Self::Decoder<'id> {
        FrameDecoder::default()
    }
}

impl ReplayTarget for StackWire {
    fn api(&self) -> Api {
        Api::from_static(NAME)
    }

    fn provider(&self) -> &str {
        NAME
    }

    fn model(&self) -> &str {
        &self.model
    }

    fn accepts(&self, _: &str) -> Accepts {
        Accepts { assistant_images: false, ..Accepts::ALL }
    }

    fn encodes(&self, _: &str, media: Media<'_>) -> bool {
        let (source, is_typed) = match media {
            // A model's picture is for the reader.
            Media::Image(_, Place::Assistant) | Media::Audio(_) | Media::Video(_) => return false,
            Media::Image(image, _) => (&image.data, image.media_type.is_some()),
            Media::Document(document) => (&document.data, document.media_type.is_some()),
        };
        match source {
            DocumentSourceKind::Base64(_) => is_typed,
            source => matches!(source, DocumentSourceKind::Url(_) | DocumentSourceKind::FileId(_)),
        }
    }

    fn map_options(&self, _: &CompletionRequest, fields: OptionFields<'_>) -> OptionMap {
        let OptionFields { reasoning, cache, service_tier, verbosity, parallel_tool_calls, top_p, seed, stop } = fields;
        let carried = |is_set| if is_set { Mapping::Omit("the conversation carries it") } else { Mapping::Nothing };
        let of_one_provider = |is_set| match is_set {
            true => Mapping::unsupported("a stack has providers of several kinds, and this option is one provider's"),
            false => Mapping::Nothing,
        };
        OptionMap {
            reasoning: carried(reasoning.is_some()),
            cache: of_one_provider(cache.is_some()),
            service_tier: of_one_provider(service_tier.is_some()),
            verbosity: of_one_provider(verbosity.is_some()),
            parallel_tool_calls: carried(parallel_tool_calls.is_some()),
            top_p: carried(top_p.is_some()),
            seed: of_one_provider(seed.is_some()),
            stop: carried(!stop.is_empty()),
        }
    }

    fn states_finish_reason(&self) -> bool {
        false
    }
}

/// The transport of a [`StackWire`].
#[derive(Clone)]
struct Stack(BoxLlmService);

impl Transport<StackWire> for Stack {
    fn send(&self, request: LlmRequest, exchange: Exchange) -> Opening<Frame> {
        let stack = self.0.clone();
        Opening::new(async move {
            let failed = |error: LlmError| provider_error(&error);
            let response = stack.oneshot(request).await.map_err(failed)?;
            let source = response.served_by();
            let document = json!({
                "tier": source.tier, "provider": source.provider, "model": source.model, "attempts": source.attempts,
                "notes": response.notes(),
            });
            let id = response.request_id().map(str::to_owned);
            let mut body = response.into_body();
            if exchange.mode == Mode::Unary {
                // A tier may answer in frames all the same, and begin again.
                body = LlmBody::from_message(body.collect().await.map_err(failed)?);
            }
            Ok(Opened::new(body.map_err(failed)).with_request_id(id).with_document(document))
        })
    }
}

/// Stands for a document that the transport has stated already.
#[derive(Default)]
struct NoDocument;

impl Reassemble<Frame> for NoDocument {
    fn absorb(&mut self, _: &Frame) {}

    fn finish(self) -> Value {
        Value::Null
    }
}

impl Serves<Completion> for NoDocument {}
