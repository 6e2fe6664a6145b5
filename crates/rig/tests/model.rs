//! A stack as a model of rig, in process and on paused time.

use std::{
    future::ready,
    sync::{Arc, Mutex},
    time::Duration,
};

use futures_util::{FutureExt, StreamExt, stream};
use rig_agent::{AgentBuilder, agent::MultiTurnStreamItem, rig_tool};
use rig_core::{
    DynModel,
    completion::{
        CompletionRequest, CompletionResponse, Document as RigDocument, Effort as RigEffort, FinishReason as RigFinish,
        OnUnsupported, ToolDefinition,
    },
    error::ProviderError,
    message::{
        AssistantContent, AssistantMessage, Audio, Document, DocumentMediaType, DocumentSourceKind, Image,
        ImageMediaType, Message as RigMessage, Opaque as RigOpaque, StopReason, Text, ToolChoice as RigChoice,
        ToolName, ToolResultContent, UserContent,
    },
    operation::Completion,
    schemars::Schema,
    streaming::{Item, StreamEvent as RigEvent},
    tool::ToolExecutionError,
};
use serde_json::json;
use steadfast::{
    BulkheadLayer, Chat, Dialect, ErrorKind, FallbackLayer, Frame, LlmBody, LlmError, LlmRequest, LlmResponse,
    LlmService, RetryWithJitterLayer, StreamEvent,
    chat::{
        self, Effort, Extra, FinishReason, Media, Message, Opaque, OutputSchema, Part, Reasoning, Role, Thinking, Tool,
        ToolCall, ToolChoice, ToolResult, Usage,
    },
    provider_fn,
    providers::simulated::{Fault, Simulated},
};
use steadfast_rig::model;
use tower::ServiceBuilder;

const SECOND: Duration = Duration::from_secs(1);
const REPLY: &str = "one two three four five six";

/// Returns the events of a stream, and the answer or the error that ended it.
async fn streamed(
    model: &DynModel<Completion>,
    request: impl Into<CompletionRequest>,
) -> (Vec<RigEvent>, Result<CompletionResponse, ProviderError>) {
    let (mut stream, mut events) = (model.stream(request).unwrap(), Vec::new());
    while let Some(item) = stream.next().await {
        match item {
            Ok(Item::Event(event)) => events.push(event),
            Ok(Item::Unknown(_)) => {}
            Err(error) => return (events, Err(error)),
        }
    }
    (events, stream.finish().await)
}

fn text(events: &[RigEvent]) -> String {
    let texts = events.iter().filter_map(|event| match event {
        RigEvent::Text { text, .. } => Some(&**text),
        _ => None,
    });
    texts.collect()
}

/// A leaf that keeps the conversations that it receives, and answers with the next of these messages.
fn scripted(answers: Vec<Message>) -> (impl LlmService<Future: Send> + Clone + Send + Sync, Arc<Mutex<Vec<Chat>>>) {
    let chats = Arc::new(Mutex::new(Vec::new()));
    let (kept, answers) = (chats.clone(), Arc::new(answers));
    let leaf = provider_fn(move |request: LlmRequest| {
        let mut kept = kept.lock().unwrap();
        let answer = answers[kept.len().min(answers.len() - 1)].clone();
        kept.push(request.chat().unwrap().clone());
        ready(Ok::<_, LlmError>(LlmResponse::from_message(answer).with_model("house", "large")))
    });
    (leaf, chats)
}

fn answer(content: Vec<Part>) -> Message {
    let mut message = Message::new(Role::Assistant, content);
    message.finish = Some(FinishReason::Stop);
    message
}

#[tokio::test(start_paused = true)]
async fn whole_answers_and_streams_come_from_the_stack() {
    let gpt = Simulated::new("gpt-4o");
    gpt.handle().fail(Fault::ServerError);
    let claude = Simulated::new("claude").reply(REPLY);
    let model =
        model("gpt-4o", ServiceBuilder::new().layer(FallbackLayer::new("gpt").tier("claude", claude)).service(gpt));
    let whole = model.call("hello").await.unwrap();
    let (events, streamed) = streamed(&model, "hello").await;
    assert_eq!(text(&events), REPLY);
    assert!(events.len() > 3, "in pieces: {events:?}");
    for answer in [whole, streamed.unwrap()] {
        assert_eq!(answer.text(), REPLY);
        assert_eq!(answer.finish_reason(), Some(RigFinish::Stop));
        assert_eq!(answer.usage.output_tokens, Some(6), "one a word");
        assert_eq!((&answer.raw["tier"], &answer.raw["attempts"]), (&json!("claude"), &json!(2)));
        assert_eq!(answer.provider(), "steadfast");
    }
}

#[tokio::test]
async fn a_whole_request_arrives() {
    let (leaf, chats) = scripted(vec![answer(vec![Part::Text("ok".to_owned())])]);
    let name = |name| ToolName::new(name).unwrap();
    let image = |data| Image { data, media_type: Some(ImageMediaType::PNG), ..Image::default() };
    let call = rig_core::message::ToolCall::from_wire(
        "call_1",
        rig_core::message::ToolFunction::new(name("look"), json!({"at": "Rome"})),
    );
    let result = call.error_result(vec![
        ToolResultContent::Text(Text::new("clouds")),
        ToolResultContent::Json { value: json!({"hPa": 990}) },
        ToolResultContent::Image(image(DocumentSourceKind::Base64("AAAA".to_owned()))),
    ]);
    let parameters = json!({"type": "object", "properties": {"at": {"type": "string"}}});
    let schema = json!({"title": "Forecast<Rome>", "type": "object"});
    let pdf = Document {
        data: DocumentSourceKind::Base64("BBBB".to_owned()),
        media_type: Some(DocumentMediaType::PDF),
        additional_params: Some(json!({"title": "almanac"})),
    };
    let audio = Audio { data: DocumentSourceKind::Url("https://example.org/a.mp3".to_owned()), media_type: None };
    let request = CompletionRequest::new(RigMessage::User {
        content: vec![
            UserContent::text("And now?"),
            UserContent::Image(image(DocumentSourceKind::Url("https://example.org/now.png".to_owned()))),
            UserContent::Document(pdf),
            UserContent::Audio(audio),
        ],
    })
    .messages([
        RigMessage::user("How is the weather?"),
        RigMessage::Assistant(AssistantMessage::new(vec![
            AssistantContent::text("Let me see."),
            AssistantContent::ToolCall(call),
        ])),
        RigMessage::User { content: vec![UserContent::ToolResult(result)] },
        RigMessage::system("Be quick."),
    ])
    .preamble("Be brief.")
    .document(RigDocument { id: "d".to_owned(), text: "It rained.".to_owned(), additional_props: Default::default() })
    .tool(ToolDefinition::new(name("look"), "Looks at the sky", parameters.clone()))
    .tool_choice(RigChoice::Specific { function_names: vec![name("look")] })
    .temperature(0.5)
    .max_tokens(300)
    .output_schema(Schema::try_from(schema.clone()).unwrap())
    .additional_params(json!({"user": "u-17"}))
    .reasoning(RigEffort::High)
    .parallel_tool_calls(false)
    .top_p(0.9)
    .stop(["END"]);
    model("gpt-4o", leaf).call(request).await.unwrap();

    let base64 =
        |media_type: &str, data: &str| Media::Base64 { media_type: media_type.to_owned(), data: data.to_owned() };
    let mut result = ToolResult::new("call_1", "clouds");
    result.content.push(Part::Text(r#"{"hPa":990}"#.to_owned()));
    result.content.push(Part::Image(chat::Image { media: base64("image/png", "AAAA") }));
    (result.name, result.is_error) = (Some("look".to_owned()), true);
    let mut expected = Chat::new([
        Message::new(
            Role::User,
            vec![
                // rig's own form of a document of text.
                Part::Text("<file id: d>\nIt rained.\n</file>\n".to_owned()),
                Part::Text("How is the weather?".to_owned()),
            ],
        ),
        Message::new(
            Role::Assistant,
            vec![
                Part::Text("Let me see.".to_owned()),
                Part::ToolCall(ToolCall::new("call_1", "look", r#"{"at":"Rome"}"#)),
            ],
        ),
        Message::new(Role::User, vec![Part::ToolResult(result)]),
        Message::new(Role::System, vec![Part::Text("Be quick.".to_owned())]),
        Message::new(
            Role::User,
            vec![
                Part::Text("And now?".to_owned()),
                Part::Image(chat::Image { media: Media::Url("https://example.org/now.png".to_owned()) }),
                Part::Document(chat::Document {
                    media: base64("application/pdf", "BBBB"),
                    name: Some("almanac".to_owned()),
                }),
                // rig's own words.
                Part::Text("(audio omitted: the provider cannot receive it in this form)".to_owned()),
            ],
        ),
    ]);
    expected.model = Some("gpt-4o".to_owned());
    expected.system = Some("Be brief.".to_owned());
    expected.tools = vec![Tool::new("look", parameters).description("Looks at the sky")];
    expected.tool_choice = Some(ToolChoice::Named("look".to_owned()));
    expected.parallel_tool_calls = Some(false);
    expected.max_tokens = Some(300);
    expected.temperature = Some(0.5);
    expected.top_p = Some(0.9);
    expected.stop = vec!["END".to_owned()];
    expected.output =
        Some(OutputSchema { name: "Forecast_Rome_".to_owned(), schema: Some(schema.into()), strict: true });
    expected.thinking = Some(Thinking::Effort(Effort::High));
    expected.extra = Some(Extra::new(Dialect::OpenAi, json!({"user": "u-17"})));
    let chats = chats.lock().unwrap();
    assert_eq!(serde_json::to_value(&chats[0]).unwrap(), serde_json::to_value(&expected).unwrap());
}

#[tokio::test]
async fn an_answer_goes_back_as_it_came() {
    let opaque =
        |token: &str, redacted| Some(Opaque { dialect: Dialect::Anthropic, token: token.to_owned(), redacted });
    let mut call = ToolCall::new("call_1", "look", r#"{"at":"Rome"}"#);
    call.opaque = Some(Opaque { dialect: Dialect::Gemini, token: "thought".to_owned(), redacted: false });
    let content = vec![
        Part::Reasoning(Reasoning { text: "Clouds?".to_owned(), opaque: opaque("signed", false) }),
        Part::Reasoning(Reasoning { text: String::new(), opaque: opaque("encrypted", true) }),
        Part::Other { dialect: Dialect::Anthropic, value: json!({"type": "server_tool_use", "id": "s"}).into() },
        Part::Text("Let me see.".to_owned()),
        Part::ToolCall(call),
    ];
    let mut first = answer(content.clone());
    first.finish = Some(FinishReason::ToolUse);
    first.usage = Some(Usage::new(10, 5));
    (first.id, first.model) = (Some("msg_1".to_owned()), Some("claude".to_owned()));
    let (leaf, chats) = scripted(vec![first, answer(vec![Part::Text("It rains.".to_owned())])]);
    let model = model("claude", leaf);

    for is_stream in [false, true] {
        chats.lock().unwrap().clear();
        let look = ToolDefinition::new(ToolName::new("look").unwrap(), "Looks", json!({"type": "object"}));
        let request = CompletionRequest::new("How is the weather?").tool(look.clone());
        let answer = match is_stream {
            false => model.call(request).await.unwrap(),
            true => streamed(&model, request).await.1.unwrap(),
        };
        assert_eq!((answer.reasoning(), answer.text()), ("Clouds?".to_owned(), "Let me see.".to_owned()));
        assert_eq!(answer.finish_reason(), Some(RigFinish::ToolCalls));
        assert_eq!((answer.response_id(), answer.model()), (Some("msg_1"), Some("claude")));
        assert_eq!((answer.usage.input_tokens, answer.usage.total_tokens), (Some(10), Some(15)));
        let call = answer.tool_calls().next().unwrap().clone();
        let result = UserContent::ToolResult(call.result(vec![ToolResultContent::Text(Text::new("clouds"))]));
        // A part that only another model reads.
        let foreign = RigOpaque { item: json!({"type": "compaction"}), replay: true };
        let foreign = AssistantMessage::new(vec![AssistantContent::Opaque(foreign), AssistantContent::text("Hm.")]);
        let foreign = [RigMessage::user("Hello"), RigMessage::Assistant(foreign)];
        let history = foreign.into_iter().chain([RigMessage::user("How is the weather?"), answer.message().unwrap()]);
        let next = CompletionRequest::new(RigMessage::User { content: vec![result] }).messages(history).tool(look);
        assert_eq!(model.call(next).await.unwrap().text(), "It rains.");
        let chats = chats.lock().unwrap();
        assert_eq!(chats[1].messages[1].content, [Part::Text("Hm.".to_owned())]);
        assert_eq!(chats[1].messages[3].content, content, "streamed: {is_stream}");
    }
}

#[rig_tool(description = "Measures the air pressure in a city, in hPa", params(city = "The city's name"))]
fn air_pressure(city: String) -> Result<String, ToolExecutionError> {
    Ok(format!("990 hPa in {city}"))
}

#[tokio::test(start_paused = true)]
async fn an_agents_tools_work_over_a_fallback() {
    let gpt = Simulated::new("gpt-4o");
    gpt.handle().fail(Fault::InsufficientQuota);
    let claude = Simulated::new("claude").reply(REPLY).call_tools(json!({"city": "Rome"}));
    let served = claude.handle();
    let stack = ServiceBuilder::new().layer(FallbackLayer::new("gpt").tier("claude", claude)).service(gpt);
    let agent = AgentBuilder::new(model("gpt-4o", stack)).preamble("You forecast the weather.").tool(AirPressure);
    let agent = agent.default_max_turns(3).build();
    assert_eq!(agent.prompt("How is the weather?").await.unwrap().output(), REPLY);

    let (mut items, mut events, mut results) = (agent.prompt("How is the weather?").stream(), Vec::new(), Vec::new());
    while let Some(item) = items.next().await {
        match item.unwrap() {
            MultiTurnStreamItem::StreamAssistantItem(Item::Event(event)) => events.push(event),
            MultiTurnStreamItem::ToolResult { tool_result, .. } => results.push(tool_result),
            _ => {}
        }
    }
    assert_eq!((&*text(&events), results.len()), (REPLY, 1));
    assert_eq!(results[0].content[0].as_text(), Some("990 hPa in Rome"));
    assert_eq!(served.stats().calls, 4, "two turns, whole and streamed");
}

#[tokio::test(start_paused = true)]
async fn a_failure_is_rigs_own_with_its_status_and_the_stacks_attempts() {
    let provider = Simulated::new("gpt-4o");
    let handle = provider.handle();
    handle.fail(Fault::Overloaded);
    let stack = ServiceBuilder::new().layer(RetryWithJitterLayer::new().max_attempts(3)).service(provider);
    let model = model("gpt-4o", stack);
    let whole = model.call("hello").await.unwrap_err();
    let (events, late) = streamed(&model, "hello").await;
    assert!(events.is_empty());
    for error in [whole, late.unwrap_err()] {
        assert_eq!(error.provider_response_status().map(|status| status.as_u16()), Some(529), "{error}");
        assert!(error.to_string().contains("overloaded"), "{error}");
    }
    assert_eq!(handle.stats().calls, 6, "three attempts each");
}

#[tokio::test(start_paused = true)]
async fn a_stream_that_breaks_or_begins_again_ends_with_an_error() {
    let provider = Simulated::new("gpt-4o").reply(REPLY);
    provider.handle().fail(Fault::CutAfter(3));
    let (events, end) = streamed(&model("gpt-4o", provider), "hello").await;
    let words = text(&events);
    assert!(!words.is_empty() && words.len() < REPLY.len(), "{words}");
    let error = end.expect_err("half an answer is none");
    assert_eq!(steadfast_rig::llm_error(error).kind(), ErrorKind::StreamBroken);

    let restarting = provider_fn(|_| {
        let events = [
            StreamEvent::Text { index: 0, text: "Half".to_owned() },
            StreamEvent::Restarted { reason: ErrorKind::StreamBroken },
            StreamEvent::Text { index: 0, text: "Whole".to_owned() },
            StreamEvent::Finish(FinishReason::Stop),
            StreamEvent::End,
        ];
        let frames = stream::iter(events.map(|event| Ok(Frame::event(event))));
        ready(Ok::<_, LlmError>(LlmResponse::new(LlmBody::from_frames(frames))))
    });
    let model = model("gpt-4o", restarting);
    assert_eq!(model.call("hello").await.unwrap().text(), "Whole", "nothing of a whole answer was shown yet");
    let (events, end) = streamed(&model, "hello").await;
    assert_eq!(text(&events), "Half");
    assert!(end.unwrap_err().to_string().contains("began the answer again"));
}

#[tokio::test(start_paused = true)]
async fn a_dropped_call_or_stream_drops_the_providers_and_frees_its_place() {
    let provider = Simulated::new("gpt-4o").reply(REPLY).latency(10 * SECOND).pace(SECOND);
    let handle = provider.handle();
    let bulkhead = BulkheadLayer::new();
    let places = bulkhead.handle();
    let model = model("gpt-4o", ServiceBuilder::new().layer(bulkhead).service(provider));
    let under_way = || (handle.stats().in_flight, places.in_flight("default"));
    let mut calling = Box::pin(model.call("hello"));
    assert!(calling.as_mut().now_or_never().is_none());
    assert_eq!(under_way(), (1, 1));
    drop(calling);
    assert_eq!(under_way(), (0, 0));

    let mut stream = model.stream("hello").unwrap();
    assert_eq!(under_way(), (0, 0), "nothing is sent before the first poll");
    assert!(stream.next().await.unwrap().is_ok());
    assert_eq!(under_way(), (1, 1));
    drop(stream);
    assert_eq!(under_way(), (0, 0));
}

#[tokio::test]
async fn the_failure_of_a_turn_is_a_failed_turn_in_rig() {
    let refused = |parts: Vec<Part>, reason| {
        let mut message = answer(parts);
        message.finish = Some(reason);
        message
    };
    let words = vec![Part::Text("I".to_owned()), Part::Refusal("I cannot help with this.".to_owned())];
    for (message, explanation) in [
        (refused(words, FinishReason::Refusal), "I cannot help with this."),
        (refused(vec![Part::Text("I".to_owned())], FinishReason::Refusal), "the model declined"),
        (
            refused(vec![Part::Text("I".to_owned())], FinishReason::ModelError("no resources".to_owned())),
            "no resources",
        ),
    ] {
        let (leaf, _) = scripted(vec![message]);
        let answer = model("gpt-4o", leaf).call("hello").await.unwrap();
        let StopReason::Error(reason) = answer.stop() else { panic!("{:?}", answer.stop()) };
        assert!(reason.contains(explanation), "{reason}");
    }
    for (reason, expected) in
        [(FinishReason::Length, RigFinish::Length), (FinishReason::Filtered, RigFinish::ContentFilter)]
    {
        let (leaf, _) = scripted(vec![refused(vec![Part::Text("I".to_owned())], reason)]);
        assert_eq!(model("gpt-4o", leaf).call("hello").await.unwrap().finish_reason(), Some(expected));
    }
}

#[tokio::test]
async fn what_a_stack_cannot_carry_is_refused_by_name() {
    let (leaf, chats) = scripted(vec![answer(vec![Part::Text("ok".to_owned())])]);
    let model = model("gpt-4o", leaf);
    let request = || CompletionRequest::new("hello");
    let look = |name: &str| ToolDefinition::new(ToolName::new(name).unwrap(), "", json!({"type": "object"}));
    let either = RigChoice::Specific { function_names: ["a", "b"].map(|name| ToolName::new(name).unwrap()).into() };
    for (request, named) in [
        (request().seed(7), "`seed`"),
        (request().tools(vec![look("a"), look("b")]).tool_choice(either), "one of several"),
        (request().additional_params(json!(7)), "additional_params"),
    ] {
        let error = model.call(request).await.unwrap_err();
        assert!(error.to_string().contains(named), "{error}");
        assert!(steadfast_rig::llm_error(error).kind().is_callers_own());
    }
    assert!(chats.lock().unwrap().is_empty());
    model.call(request().seed(7).on_unsupported(OnUnsupported::Ignore)).await.unwrap();
}
