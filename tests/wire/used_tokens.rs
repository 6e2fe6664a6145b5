//! The tokens that providers say they used, against what passed: every dialect, whole and streamed.

use std::time::{Duration, UNIX_EPOCH};

use bytes::Bytes;
use futures_util::stream;
use serde_json::{Value, json};
use steadfast::{
    BudgetLayer, Dialect, Event, Events, LlmError, LlmRequest, LlmResponse, Wire,
    chat::{Chat, Message, Usage},
    layers::budget::{Cap, Period},
    prices::{Price, PriceTable, Usd},
    provider_fn,
    providers::codec::Codec,
};
use tower::{Layer, ServiceExt};

use crate::recordings::{Exchange, Recordings, folders};

const DIALECTS: [(Dialect, &str); 4] = [
    (Dialect::Anthropic, "claude-3-5-haiku"),
    (Dialect::OpenAi, "gpt-4o"),
    (Dialect::Responses, "gpt-4o"),
    (Dialect::Gemini, "gemini-2.0-flash"),
];

/// A provider's figures: JSON for input and output.
#[derive(Clone, Debug)]
struct Figures {
    input: Value,
    output: Value,
}

fn figures(input: impl Into<Value>, output: impl Into<Value>) -> Figures {
    Figures { input: input.into(), output: output.into() }
}

fn usage(dialect: Dialect, Figures { input, output }: &Figures) -> Value {
    match dialect {
        Dialect::OpenAi => json!({"prompt_tokens": input, "completion_tokens": output}),
        Dialect::Gemini => json!({"promptTokenCount": input, "candidatesTokenCount": output}),
        _ => json!({"input_tokens": input, "output_tokens": output}),
    }
}

/// A whole answer of this text.
fn whole(dialect: Dialect, text: &str, figures: &Figures) -> Value {
    let usage = usage(dialect, figures);
    match dialect {
        Dialect::Anthropic => {
            json!({"id": "m", "type": "message", "role": "assistant", "model": "m", "stop_reason": "end_turn",
            "content": [{"type": "text", "text": text}], "usage": usage})
        }
        Dialect::OpenAi => json!({"id": "c", "object": "chat.completion", "model": "m", "usage": usage,
            "choices": [{"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": text}}]}),
        Dialect::Responses => {
            json!({"id": "r", "object": "response", "status": "completed", "model": "m", "usage": usage,
            "output": [{"type": "message", "id": "i", "role": "assistant", "status": "completed",
                "content": [{"type": "output_text", "text": text, "annotations": []}]}]})
        }
        _ => json!({"usageMetadata": usage, "candidates": [{"index": 0, "finishReason": "STOP",
            "content": {"role": "model", "parts": [{"text": text}]}}]}),
    }
}

/// The events of a streamed answer of these pieces. Every dialect says its figures where it does: at the end, and
/// Anthropic's the input at the start.
fn streamed(dialect: Dialect, pieces: &[String], figures: &Figures) -> Vec<Value> {
    let usage = usage(dialect, figures);
    let mut events = Vec::new();
    match dialect {
        Dialect::Anthropic => {
            events.push(json!({"type": "message_start", "message": {"id": "m", "type": "message", "role": "assistant",
                "model": "m", "content": [], "usage": {"input_tokens": figures.input, "output_tokens": 1}}}));
            let block = json!({"type": "text", "text": ""});
            events.push(json!({"type": "content_block_start", "index": 0, "content_block": block}));
            for text in pieces {
                let delta = json!({"type": "text_delta", "text": text});
                events.push(json!({"type": "content_block_delta", "index": 0, "delta": delta}));
            }
            events.push(json!({"type": "content_block_stop", "index": 0}));
            events.push(json!({"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": usage}));
            events.push(json!({"type": "message_stop"}));
        }
        Dialect::OpenAi => {
            for text in pieces {
                events.push(json!({"id": "c", "choices": [{"index": 0, "delta": {"content": text}}]}));
            }
            events.push(json!({"id": "c", "choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]}));
            events.push(json!({"id": "c", "choices": [], "usage": usage}));
        }
        Dialect::Responses => {
            let begun = json!({"id": "r", "model": "m", "status": "in_progress", "output": []});
            events.push(json!({"type": "response.created", "sequence_number": 0, "response": begun}));
            let item =
                json!({"id": "i", "type": "message", "role": "assistant", "status": "in_progress", "content": []});
            events.push(json!({"type": "response.output_item.added", "output_index": 0, "item": item}));
            for text in pieces {
                events.push(json!({"type": "response.output_text.delta", "item_id": "i", "output_index": 0,
                    "content_index": 0, "delta": text}));
            }
            let response = json!({"id": "r", "model": "m", "status": "completed", "output": [], "usage": usage});
            events.push(json!({"type": "response.completed", "response": response}));
        }
        _ => {
            for text in pieces {
                events.push(json!({"candidates": [{"index": 0, "content": {"parts": [{"text": text}]}}]}));
            }
            let last = json!([{"index": 0, "content": {"parts": [{"text": ""}]}, "finishReason": "STOP"}]);
            events.push(json!({"candidates": last, "usageMetadata": usage}));
        }
    }
    events
}

fn sse(dialect: Dialect, events: &[Value]) -> Vec<Result<Bytes, LlmError>> {
    let mut pieces: Vec<Result<Bytes, LlmError>> = events
        .iter()
        .map(|event| {
            let name = event["type"].as_str().map(|name| format!("event: {name}\n")).unwrap_or_default();
            Ok(format!("{name}data: {event}\n\n").into())
        })
        .collect();
    if dialect == Dialect::OpenAi {
        pieces.push(Ok(Bytes::from_static(b"data: [DONE]\n\n")));
    }
    pieces
}

/// A leaf that answers any request like this.
fn leaf(
    dialect: Dialect,
    model: &'static str,
    text: Vec<String>,
    figures: Figures,
    events: Events,
) -> impl tower::Service<LlmRequest, Response = LlmResponse, Error = LlmError, Future: Send> + Clone {
    let codec = Codec::new(dialect).model(model).key("key").events(&events);
    provider_fn(move |request: LlmRequest| {
        let (codec, text, figures) = (codec.clone(), text.clone(), figures.clone());
        async move {
            let exchange = codec.encode(&request).await?;
            match request.is_stream() {
                true => {
                    let events = sse(dialect, &streamed(dialect, &text, &figures));
                    exchange.stream_sse(stream::iter(events)).await
                }
                false => exchange.answer(whole(dialect, &text.concat(), &figures).to_string()),
            }
        }
    })
}

fn asked(stream: bool) -> LlmRequest {
    let mut chat = Chat::new([Message::user("word ".repeat(400))]).max_tokens(4000);
    chat.stream = stream;
    chat.into()
}

/// Returns the tokens that count of an answer, and the number of figures that were reported as replaced.
async fn counted(dialect: Dialect, model: &'static str, stream: bool, text: &str, said: &Figures) -> (Usage, usize) {
    counted_for(dialect, model, asked(stream), text, said).await
}

async fn counted_for(
    dialect: Dialect,
    model: &'static str,
    request: LlmRequest,
    text: &str,
    said: &Figures,
) -> (Usage, usize) {
    let events = Events::new();
    let mut heard = events.subscribe();
    let pieces: Vec<String> =
        text.as_bytes().chunks(1000).map(|piece| String::from_utf8(piece.to_vec()).unwrap()).collect();
    let pieces = if pieces.is_empty() { vec![String::new()] } else { pieces };
    let response = leaf(dialect, model, pieces, said.clone(), events.clone()).oneshot(request).await.unwrap();
    let message = response.into_body().collect().await.unwrap();
    assert_eq!(message.text(), text, "the answer itself is not touched");
    let mut replaced = 0;
    while let Ok(event) = heard.try_recv() {
        replaced += usize::from(matches!(event, Event::UsageReplaced { .. }));
    }
    (message.usage.unwrap_or_default(), replaced)
}

#[tokio::test(start_paused = true)]
async fn figures_that_cannot_be_right_give_way_to_the_estimate() {
    let (short, long) = ("hello".to_owned(), "some words ".repeat(9100));
    // 2,000 characters of prompt; 5 of the short answer, and 100,100 of the long one: a token for four.
    let (prompt, said_short, said_long) = (500, 2, 25_025);
    let huge = || [json!(1_000_000_000), json!(u64::MAX), json!(50_000)];
    let nothing = || [json!(0), json!(-5), json!(-1_000_000_000), json!(1e308), json!("many"), Value::Null];
    for (dialect, model) in DIALECTS {
        for stream in [false, true] {
            for input in huge() {
                let case = format!("{dialect}, stream {stream}, input {input}");
                let (used, replaced) = counted(dialect, model, stream, &short, &figures(input, 5)).await;
                assert_eq!((used.input, used.output, replaced), (prompt, 5, 1), "{case}");
            }
            for input in nothing() {
                let case = format!("{dialect}, stream {stream}, input {input}");
                let (used, replaced) = counted(dialect, model, stream, &short, &figures(input, 5)).await;
                assert_eq!((used.input, used.output, replaced), (prompt, 5, 1), "{case}");
            }
            for output in huge() {
                let case = format!("{dialect}, stream {stream}, output {output}");
                let (used, replaced) = counted(dialect, model, stream, &short, &figures(120, output)).await;
                assert_eq!((used.input, used.output, replaced), (120, said_short, 1), "{case}");
            }
            for output in nothing() {
                let case = format!("{dialect}, stream {stream}, output {output}");
                let (used, replaced) = counted(dialect, model, stream, &long, &figures(120, output)).await;
                assert_eq!((used.input, used.output, replaced), (120, said_long, 1), "{case}");
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn honest_figures_stay_whatever_they_are() {
    let long = "some words ".repeat(9100);
    let spaces = " ".repeat(100_000);
    for (dialect, model) in DIALECTS {
        for stream in [false, true] {
            for (text, input, output) in [
                ("hello", 8, 5),
                // A long prompt of the provider's own for its tools, and an answer of few words.
                ("hello", 9000, 5),
                // One token for each character, and one for hundreds.
                ("x", 1, 3),
                (long.as_str(), 120, 100_100),
                (long.as_str(), 120, 18_200),
                (spaces.as_str(), 120, 800),
                // Nothing was said, but for the marks of the turn.
                ("ok", 120, 0),
            ] {
                let (used, replaced) = counted(dialect, model, stream, text, &figures(input, output)).await;
                assert_eq!((used.input, used.output, replaced), (input, output, 0), "{dialect}, {stream}, {text:.9}");
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn what_a_body_refers_to_may_be_larger_than_the_body() {
    let of = |dialect, body: Value| LlmRequest::from(Wire::new(dialect, body.to_string()).unwrap());
    let openai =
        |content: Value| of(Dialect::OpenAi, json!({"model": "m", "messages": [{"role": "user", "content": content}]}));
    let anthropic = |more: Value, content: Value| {
        let mut body = json!({"model": "m", "max_tokens": 10, "messages": [{"role": "user", "content": content}]});
        body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        of(Dialect::Anthropic, body)
    };
    let responses = |more: Value| {
        let mut body = json!({"model": "m", "input": "hello"});
        body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        of(Dialect::Responses, body)
    };
    let url = json!({"type": "image_url", "image_url": {"url": "https://a.example/b.png"}});
    let cases = [
        openai(json!([{"type": "text", "text": "what is it?"}, url])),
        openai(json!([{"type": "file", "file": {"file_id": "file-1"}}])),
        anthropic(
            json!({}),
            json!([{"type": "document", "source": {"type": "url", "url": "https://a.example/b.pdf"}}]),
        ),
        anthropic(json!({"tools": [{"type": "web_search_20250305", "name": "web_search"}]}), json!("what is new?")),
        responses(json!({"previous_response_id": "resp_1"})),
        responses(json!({"conversation": "conv_1"})),
        responses(json!({"prompt": {"id": "pmpt_1"}})),
        responses(json!({"tools": [{"type": "file_search", "vector_store_ids": ["vs_1"]}]})),
        of(Dialect::Gemini, json!({"contents": [{"parts": [{"fileData": {"fileUri": "files/1"}}]}]})),
        of(Dialect::Gemini, json!({"contents": [{"parts": [{"text": "hi"}]}], "cachedContent": "cachedContents/1"})),
        of(Dialect::Gemini, json!({"contents": [{"parts": [{"text": "hi"}]}], "tools": [{"googleSearch": {}}]})),
    ];
    for (n, request) in cases.into_iter().enumerate() {
        let dialect = request.wire().unwrap().dialect();
        let (_, model) = DIALECTS.into_iter().find(|(known, _)| *known == dialect).unwrap();
        let (used, replaced) = counted_for(dialect, model, request.clone(), "hello", &figures(180_000, 5)).await;
        assert_eq!((used.input, replaced), (180_000, 0), "case {n}, {dialect}");
        let (used, replaced) = counted_for(dialect, model, request, "hello", &figures(1_000_000_000, 5)).await;
        assert!(used.input < 10_000 && replaced == 1, "case {n}, {dialect}: {used:?}");
    }
    // Tools, schemas and words of such names are none.
    let tools =
        json!([{"name": "f", "input_schema": {"type": "object", "properties": {"a": {"type": ["string", "null"]}}}}]);
    let plain = anthropic(
        json!({"tools": tools}),
        json!([{"type": "text", "text": "an \"image\" of a file, \"type\": \"image\""}]),
    );
    let (used, replaced) =
        counted_for(Dialect::Anthropic, "claude-3-5-haiku", plain, "hello", &figures(180_000, 5)).await;
    assert!(used.input < 1000 && replaced == 1, "{used:?}");
}

#[tokio::test(start_paused = true)]
async fn thoughts_that_were_reported_or_sealed_count() {
    let said = figures(120, 30_000);
    let mut answer = whole(Dialect::OpenAi, "hello", &said);
    answer["usage"]["completion_tokens_details"] = json!({"reasoning_tokens": 29_900});
    let exchange = Codec::new(Dialect::OpenAi).model("gpt-5").key("key").encode(&asked(false)).await.unwrap();
    assert_eq!(exchange.answer(answer.to_string()).unwrap().usage().unwrap().output, 30_000);
    answer["usage"] = json!({"prompt_tokens": 120, "completion_tokens": 1_000_000_000,
        "completion_tokens_details": {"reasoning_tokens": 1_000_000_000}});
    assert_eq!(exchange.answer(answer.to_string()).unwrap().usage().unwrap().output, 2, "no model thinks so long");

    let mut sealed = whole(Dialect::Anthropic, "hello", &said);
    sealed["content"]
        .as_array_mut()
        .unwrap()
        .insert(0, json!({"type": "thinking", "thinking": "", "signature": "Eq=="}));
    let exchange =
        Codec::new(Dialect::Anthropic).model("claude-sonnet-4-5").key("key").encode(&asked(false)).await.unwrap();
    assert_eq!(exchange.answer(sealed.to_string()).unwrap().usage().unwrap().output, 30_000);

    let cached = json!({"input_tokens": 4, "cache_read_input_tokens": 100, "cache_creation_input_tokens": 20, "output_tokens": 5});
    let mut answer = whole(Dialect::Anthropic, "hello", &said);
    answer["usage"] = cached;
    let used = *exchange.answer(answer.to_string()).unwrap().usage().as_ref().unwrap();
    assert_eq!((used.input, used.cache_read, used.cache_write, used.output), (124, 100, 20, 5));
    answer["usage"]["cache_read_input_tokens"] = json!(1_000_000_000);
    let used = *exchange.answer(answer.to_string()).unwrap().usage().as_ref().unwrap();
    assert_eq!((used.input, used.cache_read), (500, 0), "parts of the whole have its bound");
}

/// A stop button costs what came, whichever provider it was: prompt and text, a token for four characters.
#[tokio::test(start_paused = true)]
async fn leaving_a_stream_costs_the_prompt_and_what_came_in_all_dialects() {
    for (dialect, model) in DIALECTS {
        for words in [1, 20, 1000] {
            let prices = PriceTable::empty().with(model, Price::dollars(1000.0, 1000.0).unwrap());
            let cap = Cap::new("day", Usd::from_dollars(100.0).unwrap(), Period::Day);
            let layer = BudgetLayer::new(prices).cap(cap).starting_at(UNIX_EPOCH);
            let handle = layer.handle();
            let text: Vec<String> = (0..words + 1).map(|_| "word".to_owned()).collect();
            let leaf = leaf(dialect, model, text, figures(125, 20_000), Events::new());
            let chat = Chat::new([Message::user("word ".repeat(100))]).model(model).max_tokens(20_000);
            let request = LlmRequest::from(chat).with_stream(true);
            let mut response = layer.layer(leaf).oneshot(request).await.unwrap();
            let (body, mut seen) = (response.body_mut(), 0);
            while seen < words {
                let frame = body.frame().await.unwrap().unwrap();
                seen += frame.events().iter().filter(|event| format!("{event:?}").starts_with("Text(4")).count();
            }
            tokio::time::advance(Duration::from_secs(600)).await;
            drop(response);
            let tokens = handle.spent("day").nanos() / 1_000_000;
            assert_eq!((tokens, handle.reserved("day")), (125 + words as u64, Usd::ZERO), "{dialect}, {words} words");
        }
    }
}

/// The judge of the bounds: no figure that a provider has told in any recording is beyond them.
/// The recorded exchanges; none where there is no folder of them.
fn recorded() -> Vec<Exchange> {
    let read =
        |folder: std::path::PathBuf| Recordings::read(&folder).unwrap_or_else(|error| panic!("{error}")).exchanges;
    folders().into_iter().flat_map(read).collect()
}

/// Reads a recorded answer as the answer to its request.
async fn decoded(exchange: &Exchange, events: &Events) -> Option<LlmResponse> {
    let codec = match exchange.provider.as_str() {
        "anthropic" | "gemini" | "openai" => Codec::new(exchange.dialect),
        "openai-responses" => Codec::new(exchange.dialect).named(exchange.server.as_str()),
        _ => Codec::compatible(exchange.server.as_str()),
    };
    let codec = codec.key("key").model(exchange.model.as_str()).events(events);
    let to = codec.encode(&exchange.request()).await.ok()?;
    let body = exchange.body.clone();
    match exchange.is_sse {
        false => to.answer(body).ok(),
        true => to.stream_sse(stream::iter([Ok::<_, std::convert::Infallible>(body)])).await.ok(),
    }
}

/// The providers' own counts are the judge. Many recorded prompts are short, and search and files are in the count
/// alone.
#[tokio::test]
async fn a_prompt_is_estimated_near_what_its_provider_counted() {
    let (mut all, mut with_tools) = (Vec::new(), Vec::new());
    for exchange in recorded().iter().filter(|exchange| exchange.status.is_success() && exchange.request.body.is_some())
    {
        let Some(response) = decoded(exchange, &Events::new()).await else { continue };
        let usage = response.into_body().collect().await.ok().and_then(|message| message.usage);
        let Some(counted) = usage.map(|usage| usage.input).filter(|counted| *counted > 0) else { continue };
        let request = exchange.request();
        let Ok(chat) = request.chat() else { continue };
        let ratio = f64::from(request.estimated_tokens().0) / counted as f64;
        all.push(ratio);
        if chat.tools.iter().any(|tool| !tool.runs_at_provider()) {
            with_tools.push(ratio);
        }
    }
    for (what, mut ratios, least) in [("all", all, 0.45), ("with tools", with_tools, 0.5)] {
        ratios.sort_by(f64::total_cmp);
        let Some(median) = ratios.get(ratios.len() / 2) else { continue };
        println!("estimates: {what}: {} judged, in the middle {median:.2} of the count", ratios.len());
        assert!((least..=1.1).contains(median), "{what}: {median}");
    }
}

#[tokio::test]
async fn no_recorded_figure_is_out_of_bounds() {
    let exchanges = recorded();
    let (mut judged, mut beyond) = (0, Vec::new());
    for exchange in exchanges.iter().filter(|exchange| exchange.status.is_success() && exchange.request.body.is_some())
    {
        let events = Events::new();
        let mut heard = events.subscribe();
        let answered = decoded(exchange, &events).await;
        let Some(response) = answered else { continue };
        judged += usize::from(response.into_body().collect().await.is_ok_and(|message| message.usage.is_some()));
        while let Ok(event) = heard.try_recv() {
            if let Event::UsageReplaced { reported, counted, .. } = event {
                beyond.push(format!("{}: {reported:?}, counted {counted:?}", exchange.id));
            }
        }
    }
    println!("figures: {judged} judged, {} beyond their bounds", beyond.len());
    assert!(beyond.is_empty(), "{}", beyond.join("\n"));
}
