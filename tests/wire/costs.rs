//! The cost of an answer: the provider's own figure, the price of the model that served, or else of the one that was
//! asked. Every cause, in every dialect, whole and streamed, as the response, its event and a budget see it.

use std::{collections::BTreeMap, convert::Infallible};

use bytes::Bytes;
use futures_util::stream;
use http::{HeaderMap, Response};
use http_body_util::Full;
use serde_json::{Value, json};
use steadfast::{
    BudgetLayer, Dialect, Event, Events, LlmRequest, LlmResponse, ObserveLayer,
    chat::{Chat, Message, ServiceTier, Usage},
    layers::budget::{Cap, Period},
    prices::{Price, PriceTable, Usd},
    provider_fn,
    providers::{Anthropic, codec::Codec},
};
use tower::{Layer, ServiceExt, service_fn};

use crate::recordings::{Exchange, Recordings, folders};

const DIALECTS: [Dialect; 4] = [Dialect::Anthropic, Dialect::OpenAi, Dialect::Responses, Dialect::Gemini];

/// The tokens of every made answer.
const INPUT: u64 = 120;
const OUTPUT: u64 = 5;

/// An answer's facts that tell its cost.
#[derive(Clone, Default)]
struct Said {
    /// The model by the answer's own word.
    model: &'static str,
    /// Fields within `usage`.
    in_usage: Value,
    /// Fields beside `usage`.
    beside: Value,
    headers: HeaderMap,
}

fn with(mut value: Value, fields: &Value) -> Value {
    let object = value.as_object_mut().unwrap();
    object.extend(fields.as_object().cloned().unwrap_or_default());
    value
}

/// Returns the answer: its events, or one body.
fn answer(dialect: Dialect, stream: bool, said: &Said) -> Vec<Value> {
    let tokens = match dialect {
        Dialect::OpenAi => json!({"prompt_tokens": INPUT, "completion_tokens": OUTPUT}),
        Dialect::Gemini => json!({"promptTokenCount": INPUT, "candidatesTokenCount": OUTPUT}),
        _ => json!({"input_tokens": INPUT, "output_tokens": OUTPUT}),
    };
    let (usage, model) = (with(tokens, &said.in_usage), said.model);
    let part = |text: &str| json!([{"index": 0, "content": {"role": "model", "parts": [{"text": text}]}, "finishReason": "STOP"}]);
    match (dialect, stream) {
        (Dialect::Anthropic, false) => vec![with(
            json!({"id": "m", "type": "message", "role": "assistant", "model": model, "stop_reason": "end_turn",
                "content": [{"type": "text", "text": "hello"}], "usage": usage}),
            &said.beside,
        )],
        (Dialect::Anthropic, true) => vec![
            json!({"type": "message_start", "message": {"id": "m", "type": "message", "role": "assistant",
                "model": model, "content": [], "usage": {"input_tokens": INPUT, "output_tokens": 1}}}),
            json!({"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}}),
            json!({"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "hello"}}),
            json!({"type": "content_block_stop", "index": 0}),
            json!({"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": usage}),
            json!({"type": "message_stop"}),
        ],
        (Dialect::OpenAi, false) => vec![with(
            json!({"id": "c", "object": "chat.completion", "model": model, "usage": usage,
                "choices": [{"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": "hello"}}]}),
            &said.beside,
        )],
        (Dialect::OpenAi, true) => vec![
            json!({"id": "c", "model": model, "choices": [{"index": 0, "delta": {"content": "hello"}}]}),
            json!({"id": "c", "model": model, "choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]}),
            with(json!({"id": "c", "model": model, "choices": [], "usage": usage}), &said.beside),
        ],
        (Dialect::Responses, false) => {
            let whole = json!({"id": "r", "object": "response", "status": "completed", "model": model, "usage": usage,
                "output": [{"type": "message", "id": "i", "role": "assistant", "status": "completed",
                    "content": [{"type": "output_text", "text": "hello", "annotations": []}]}]});
            vec![with(whole, &said.beside)]
        }
        (Dialect::Responses, true) => {
            let begun = json!({"id": "r", "model": model, "status": "in_progress", "output": []});
            let item =
                json!({"id": "i", "type": "message", "role": "assistant", "status": "in_progress", "content": []});
            let whole = json!({"id": "r", "model": model, "status": "completed", "output": [], "usage": usage});
            let whole = with(whole, &said.beside);
            vec![
                json!({"type": "response.created", "sequence_number": 0, "response": begun}),
                json!({"type": "response.output_item.added", "output_index": 0, "item": item}),
                json!({"type": "response.output_text.delta", "item_id": "i", "output_index": 0, "content_index": 0, "delta": "hello"}),
                json!({"type": "response.completed", "response": whole}),
            ]
        }
        _ => vec![json!({"candidates": part("hello"), "usageMetadata": usage, "modelVersion": model})],
    }
}

fn sse(dialect: Dialect, events: &[Value]) -> Bytes {
    let mut text = String::new();
    for event in events {
        if let Some(name) = event["type"].as_str() {
            text += &format!("event: {name}\n");
        }
        text += &format!("data: {event}\n\n");
    }
    if dialect == Dialect::OpenAi {
        text += "data: [DONE]\n\n";
    }
    text.into()
}

/// The costs of one answer, by those who tell them.
#[derive(Debug, PartialEq)]
struct Told {
    /// The response's; `None` for a stream, which has ended by then.
    response: Option<Option<u64>>,
    event: Option<u64>,
    budget: u64,
    served_model: Option<String>,
    replaced: usize,
}

/// Asks for a model by this name, with these prices.
async fn told(dialect: Dialect, stream: bool, asked: &'static str, prices: &PriceTable, said: &Said) -> Told {
    let events = Events::new();
    let mut heard = events.subscribe();
    let codec = Codec::new(dialect).model(asked).key("key").events(&events);
    let said = said.clone();
    let leaf = provider_fn(move |request: LlmRequest| {
        let (codec, said) = (codec.clone(), said.clone());
        async move {
            let mut exchange = codec.encode(&request).await?;
            exchange = exchange.response_headers(said.headers.clone());
            let answer = answer(dialect, stream, &said);
            match stream {
                true => exchange.stream_sse(stream::iter([Ok::<_, Infallible>(sse(dialect, &answer))])).await,
                false => exchange.answer(answer[0].to_string()),
            }
        }
    });
    let budget = BudgetLayer::new(prices.clone()).cap(Cap::new("day", Usd::from_dollars(100.0).unwrap(), Period::Day));
    let handle = budget.handle();
    let stack = ObserveLayer::new(events.clone()).prices(prices.clone()).layer(budget.layer(leaf));
    let mut chat = Chat::new([Message::user("word ".repeat(100))]).model(asked).max_tokens(1000);
    chat.stream = stream;
    let response: LlmResponse = stack.oneshot(chat.into()).await.unwrap();
    let served_model = response.served_by().served_model.map(str::to_owned);
    assert_eq!(response.served_by().model, Some(asked), "the asked name stays");
    let of_response = (!stream).then(|| response.cost().map(Usd::nanos));
    response.into_body().collect().await.unwrap();
    let (mut event, mut replaced) = (None, 0);
    while let Ok(heard) = heard.try_recv() {
        match heard {
            Event::RequestEnded(ended) => {
                assert_eq!(ended.served_model.as_deref(), served_model.as_deref());
                event = ended.cost.map(Usd::nanos);
            }
            Event::UsageReplaced { .. } => replaced += 1,
            _ => {}
        }
    }
    Told { response: of_response, event, budget: handle.spent("day").nanos(), served_model, replaced }
}

fn costs(stream: bool, nanos: Option<u64>, served: Option<&str>) -> Told {
    let budget = nanos.unwrap_or(0);
    let served_model = served.map(str::to_owned);
    Told { response: (!stream).then_some(nanos), event: nanos, budget, served_model, replaced: 0 }
}

/// A price in whole dollars for a million tokens, of which the made answers have 125.
fn price(dollars: u64) -> Price {
    Price::new(Usd::from_nanos(dollars * 1_000_000_000), Usd::from_nanos(dollars * 1_000_000_000))
}

const fn at(dollars: u64) -> Option<u64> {
    Some((INPUT + OUTPUT) * dollars * 1000)
}

#[tokio::test(start_paused = true)]
async fn a_providers_own_figure_comes_before_every_price() {
    let mut headers = HeaderMap::new();
    headers.insert("x-litellm-response-cost", "0.0042".parse().unwrap());
    let own = Some(4_200_000);
    // The figures, the cost by them, and the dialects whose servers write them so.
    let all = &DIALECTS[..3];
    let (plain, byok) = (json!({"cost": 0.0042}), json!({"upstream_inference_cost": 0.004}));
    let forms = [
        (Said { in_usage: plain.clone(), ..Said::default() }, own, all),
        (Said { in_usage: json!({"cost": {"total_cost": 0.0042}}), ..Said::default() }, own, all),
        (
            Said { in_usage: json!({"cost": 0.0002, "is_byok": true, "cost_details": byok}), ..Said::default() },
            own,
            all,
        ),
        (Said { in_usage: json!({"cost_in_usd_ticks": 42_000_000}), ..Said::default() }, own, &DIALECTS[1..3]),
        (Said { beside: json!({"cost": {"usd": 0.0042, "diem": 0}}), ..Said::default() }, own, &DIALECTS[1..2]),
        // No figure at all.
        (Said { in_usage: json!({"cost": 0}), ..Said::default() }, at(1000), all),
        (Said { in_usage: json!({"cost": "much"}), ..Said::default() }, at(1000), all),
        (Said { in_usage: json!({"cost": 0.0002, "is_byok": true}), ..Said::default() }, at(1000), all),
    ];
    let priced = PriceTable::empty().with("m", price(1000));
    let mut judged = 0;
    for (said, nanos, dialects) in &forms {
        let said = Said { model: "m", ..said.clone() };
        for dialect in *dialects {
            for stream in [false, true] {
                let case = format!("{dialect}, stream {stream}, {} {}", said.in_usage, said.beside);
                let got = told(*dialect, stream, "m", &priced, &said).await;
                assert_eq!(got, costs(stream, *nanos, None), "{case}");
                let unpriced = told(*dialect, stream, "m", &PriceTable::empty(), &said).await;
                let own = nanos.filter(|nanos| Some(*nanos) == own);
                assert_eq!(unpriced, costs(stream, own, None), "{case}, without a price");
                judged += 2;
            }
        }
    }
    for dialect in DIALECTS {
        let said = Said { model: "m", headers: headers.clone(), ..Said::default() };
        assert_eq!(told(dialect, false, "m", &priced, &said).await, costs(false, own, None), "{dialect}, a header");
        judged += 1;
    }
    assert_eq!(judged, 2 * 2 * (3 * 6 + 2 + 1) + 4);
}

/// The words of the providers' documents for the service tier that an answer had, and the price on the same pages: half
/// for batches and spare capacity, and more for speed.
#[tokio::test(start_paused = true)]
async fn an_answer_costs_what_its_service_tier_does() {
    let price = price(1000).in_service_tier(ServiceTier::Batch, 0.5).unwrap();
    let price = price.in_service_tier(ServiceTier::Flex, 0.5).unwrap().in_service_tier(ServiceTier::Fast, 2.0).unwrap();
    let priced = PriceTable::empty().with("m", price);
    let (usual, half, twice) = (at(1000), at(500), at(2000));
    let beside = |word: Value| Said { beside: json!({ "service_tier": word }), ..Said::default() };
    let within = |name: &str, word: Value| Said { in_usage: json!({ name: word }), ..Said::default() };
    let header = |word: &str| {
        let mut said = Said::default();
        said.headers.insert("x-gemini-service-tier", word.parse().unwrap());
        said
    };
    let mut cases = Vec::new();
    for (word, nanos) in [("flex", half), ("priority", twice), ("fast", twice), ("default", usual), ("new", usual)] {
        cases.extend([Dialect::OpenAi, Dialect::Responses].map(|dialect| (dialect, beside(json!(word)), nanos)));
    }
    for (name, word, nanos) in [
        ("service_tier", "batch", half),
        ("service_tier", "standard", usual),
        // Capacity that was bought beforehand.
        ("service_tier", "priority", usual),
        ("speed", "fast", twice),
        ("speed", "standard", usual),
    ] {
        cases.push((Dialect::Anthropic, within(name, json!(word)), nanos));
    }
    for (word, nanos) in [("ON_DEMAND", usual), ("ON_DEMAND_FLEX", half), ("ON_DEMAND_PRIORITY", twice)] {
        cases.push((Dialect::Gemini, within("trafficType", json!(word)), nanos));
    }
    for (word, nanos) in [("standard", usual), ("flex", half), ("priority", twice)] {
        cases.push((Dialect::Gemini, header(word), nanos));
    }
    // A value of another type spoils nothing.
    for odd in [json!(null), json!(7), json!({"name": "flex"})] {
        cases.extend([Dialect::OpenAi, Dialect::Responses].map(|dialect| (dialect, beside(odd.clone()), usual)));
        cases.push((Dialect::Anthropic, within("service_tier", odd.clone()), usual));
        cases.push((Dialect::Gemini, within("trafficType", odd), usual));
    }
    for (dialect, said, nanos) in cases {
        let said = Said { model: "m", ..said };
        for stream in [false, true] {
            let case = format!("{dialect}, stream {stream}, {} {} {:?}", said.in_usage, said.beside, said.headers);
            assert_eq!(told(dialect, stream, "m", &priced, &said).await, costs(stream, nanos, None), "{case}");
        }
    }
}

/// The providers' pages, row by row: OpenAI's of its fast mode, Google's and Anthropic's of batches, DeepSeek's.
#[test]
fn the_built_in_prices_of_service_tiers_are_those_of_the_pages() {
    let table = PriceTable::builtin();
    let cost = |model: &str, tier: ServiceTier, input: u64, output: u64| {
        let mut usage = Usage::new(input, output);
        usage.service_tier = tier;
        table.cost(Some("deepseek"), model, &usage).unwrap().nanos() as f64 / 1e9
    };
    const M: u64 = 1_000_000;
    for (model, tier, input, output) in [
        ("gpt-5.5", ServiceTier::Batch, 2.5, 15.0),
        ("gpt-5.5", ServiceTier::Flex, 2.5, 15.0),
        ("gpt-5-mini", ServiceTier::Fast, 0.45, 3.6),
        ("gpt-4.1", ServiceTier::Fast, 3.5, 14.0),
        ("gpt-4.1-nano", ServiceTier::Fast, 0.2, 0.8),
        ("gpt-4o", ServiceTier::Fast, 4.25, 17.0),
        ("gpt-4o-2024-05-13", ServiceTier::Fast, 8.75, 26.25),
        ("gpt-4o-mini", ServiceTier::Fast, 0.25, 1.0),
        ("o3", ServiceTier::Fast, 3.5, 14.0),
        ("o4-mini", ServiceTier::Fast, 2.0, 8.0),
        ("gpt-4o", ServiceTier::Flex, 2.5, 10.0),
        ("claude-sonnet-4-5", ServiceTier::Batch, 1.5, 7.5),
        ("claude-opus-4-6", ServiceTier::Fast, 30.0, 150.0),
        ("gemini-2.5-flash", ServiceTier::Flex, 0.15, 1.25),
        ("deepseek-v4-pro", ServiceTier::Standard, 1.32, 3.96),
    ] {
        // Each request is short: long contexts have prices of their own.
        let (of_input, of_output) = (cost(model, tier, M / 10, 0) * 10.0, cost(model, tier, 0, M));
        let is_near = |found: f64, page: f64| (found - page).abs() <= page * 0.001;
        assert!(is_near(of_input, input) && is_near(of_output, output), "{model}, {tier:?}: {of_input}, {of_output}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_figure_that_cannot_be_right_gives_way_to_the_price() {
    let priced = PriceTable::empty().with("m", price(1000));
    for dialect in &DIALECTS[..3] {
        for stream in [false, true] {
            for (dollars, is_kept) in [(9.5, true), (11.0, false), (1e6, false), (1e300, false)] {
                let said = Said { model: "m", in_usage: json!({"cost": dollars}), ..Said::default() };
                let got = told(*dialect, stream, "m", &priced, &said).await;
                let nanos = if is_kept { Some(9_500_000_000) } else { at(1000) };
                let replaced = usize::from(!is_kept && dollars < 1e9);
                assert_eq!(got, Told { replaced, ..costs(stream, nanos, None) }, "{dialect}, {stream}, {dollars}");
            }
        }
    }
}

/// A server that routes by itself: OpenRouter's `auto`, Azure's model-router, a gateway behind.
#[tokio::test(start_paused = true)]
async fn the_model_that_served_is_the_one_that_is_paid() {
    let list = |models: &[(&str, u64)]| {
        let rows: BTreeMap<_, _> =
            models.iter().map(|(model, dollars)| (*model, json!({"input": dollars, "output": dollars}))).collect();
        PriceTable::from_json(&json!({ "models": rows }).to_string()).unwrap()
    };
    let other = Some("served");
    for dialect in DIALECTS {
        for stream in [false, true] {
            for (case, prices, model, nanos, served) in [
                ("both are in the list", list(&[("asked", 1), ("served", 2)]), "served", at(2), other),
                ("only the asked one is", list(&[("asked", 1)]), "served", at(1), other),
                ("only the served one is", list(&[("served", 2)]), "served", at(2), other),
                ("neither is", list(&[]), "served", None, other),
                ("the answer names the same", list(&[("asked", 1)]), "asked", at(1), None),
                ("the answer names none", list(&[("asked", 1)]), "", at(1), None),
                ("by hand", list(&[("served", 2)]).with("asked", price(1)), "served", at(1), other),
                ("both by hand", list(&[]).with("asked", price(1)).with("served", price(2)), "served", at(2), other),
            ] {
                let said = Said { model, ..Said::default() };
                let got = told(dialect, stream, "asked", &prices, &said).await;
                assert_eq!(got, costs(stream, nanos, served), "{dialect}, stream {stream}: {case}");
            }
        }
    }
}

/// The answer of several models, as recorded: a fallback of the server's own, an advisor, a summary.
#[tokio::test]
async fn an_answer_of_several_models_costs_the_sum_of_theirs() {
    let one = |model: &'static str, dollars| (model, dollars);
    let prices = [one("claude-fable-5", 3), one("claude-opus-4-8", 10)];
    let call = |of: Option<&str>, input: u64, output: u64| {
        let mut call = json!({"type": "message", "input_tokens": input, "output_tokens": output});
        if let Some(model) = of {
            call["model"] = json!(model);
        }
        call
    };
    let table = prices.iter().fold(PriceTable::empty(), |table, (model, dollars)| table.with(*model, price(*dollars)));
    for (calls, nanos) in [
        // The refused call, and the one that answered in its place.
        (
            vec![call(Some("claude-fable-5"), 408, 0), call(Some("claude-opus-4-8"), 412, 264)],
            Some(408 * 3000 + 676 * 10_000),
        ),
        // Two turns with an adviser between.
        (
            vec![call(None, 1128, 135), call(Some("claude-opus-4-8"), 2543, 18), call(None, 1283, 10)],
            Some(2556 * 3000 + 2561 * 10_000),
        ),
        // A summary before the turn.
        (vec![call(None, 55_196, 83), call(None, 181, 8)], Some(55_468 * 3000)),
        // One call is the answer itself, and one of an unknown model has no price: the tokens tell the cost.
        (vec![call(None, 412, 264)], None),
        (vec![call(None, 412, 264), call(Some("nobody-knows"), 1, 1)], None),
        (Vec::new(), None),
    ] {
        for stream in [false, true] {
            let said = Said { model: "claude-fable-5", in_usage: json!({"iterations": calls}), ..Said::default() };
            let answer = answer(Dialect::Anthropic, stream, &said);
            let body = if stream { sse(Dialect::Anthropic, &answer) } else { answer[0].to_string().into() };
            let kind = if stream { "text/event-stream" } else { "application/json" };
            let transport = service_fn(move |_: http::Request<Full<Bytes>>| {
                let response = Response::builder().header("content-type", kind).body(Full::new(body.clone())).unwrap();
                async { Ok::<_, Infallible>(response) }
            });
            let leaf = Anthropic::new("key").model("claude-fable-5").prices(&table).transport(transport);
            let request = LlmRequest::prompt("hello").with_stream(stream);
            let used = leaf.oneshot(request).await.unwrap().collect().await.unwrap().usage.unwrap();
            assert_eq!((used.input, used.output), (INPUT, OUTPUT), "the tokens stay the turn's");
            assert_eq!(used.cost.map(Usd::nanos), nanos, "{calls:?}, stream {stream}");
        }
    }
}

/// Returns the last number that a recording has under this name.
fn last_number(text: &str, name: &str) -> Option<f64> {
    let mut places: Vec<usize> = text.match_indices(name).map(|(place, _)| place + name.len()).collect();
    places.reverse();
    places.into_iter().find_map(|place| {
        let value = text[place..].trim_start();
        let end = value.find(|letter: char| !matches!(letter, '0'..='9' | '.' | 'e' | 'E' | '-' | '+'));
        value[..end.unwrap_or(value.len())].parse().ok()
    })
}

/// The judge: every figure that a provider was recorded to write.
#[tokio::test]
async fn every_recorded_figure_is_read() {
    let read =
        |folder: std::path::PathBuf| Recordings::read(&folder).unwrap_or_else(|error| panic!("{error}")).exchanges;
    let exchanges: Vec<Exchange> = folders().into_iter().flat_map(read).collect();
    let mut judged: BTreeMap<String, usize> = BTreeMap::new();
    for exchange in exchanges.iter().filter(|exchange| exchange.status.is_success()) {
        let codec = match exchange.provider.as_str() {
            "anthropic" | "gemini" | "openai" => Codec::new(exchange.dialect),
            "openai-responses" => Codec::new(exchange.dialect).named(exchange.server.as_str()),
            _ => Codec::compatible(exchange.server.as_str()),
        };
        let codec = codec.key("key").model(if exchange.model.is_empty() { "m" } else { exchange.model.as_str() });
        // Some recordings lack their request: any may have been the one.
        let plain = LlmRequest::prompt("word ".repeat(2000)).with_stream(exchange.is_sse);
        let Ok(to) = codec.encode(&plain).await else { continue };
        let to = to.response_headers(exchange.headers.clone());
        let body = exchange.body.clone();
        let text = String::from_utf8_lossy(&body).into_owned();
        let answered = match exchange.is_sse {
            false => to.answer(body),
            true => to.stream_sse(stream::iter([Ok::<_, Infallible>(body)])).await,
        };
        let Ok(response) = answered else { continue };
        let Ok(message) = response.collect().await else { continue };
        let header = || exchange.headers.get("x-litellm-response-cost")?.to_str().ok()?.parse().ok();
        let said = match exchange.server.as_str() {
            _ if text.contains("\"is_byok\":true") || text.contains("\"is_byok\": true") => continue,
            "perplexity" => last_number(&text, "\"total_cost\":"),
            "venice" => last_number(&text, "\"usd\":"),
            _ => last_number(&text, "\"cost_in_usd_ticks\":")
                .map(|ticks| ticks / 1e10)
                .or_else(|| last_number(&text, "\"cost\":")),
        };
        let said = said.filter(|dollars| *dollars > 0.0).or_else(header);
        let Some(said) = said else { continue };
        let cost = message.usage.and_then(|Usage { cost, .. }| cost).map_or(0.0, Usd::dollars);
        assert!((cost - said).abs() <= 1e-9, "{}: {cost} of {said}", exchange.id);
        *judged.entry(exchange.server.clone()).or_default() += 1;
    }
    println!("own costs: {judged:?}");
    if !exchanges.is_empty() {
        assert!(judged.len() >= 6 && judged.values().sum::<usize>() >= 60, "{judged:?}");
    }
}
