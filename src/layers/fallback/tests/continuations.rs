//! Tests of a stream with which another call goes on when it breaks.

use std::{collections::VecDeque, sync::Mutex};

use tower::util::BoxCloneSyncService;

use super::*;
use crate::{
    BoxLlmService,
    chat::{Chat, Message, Opaque, OutputSchema, Role, Tool, Usage},
    estimate,
    prices::{Price, PriceTable, Usd},
};

/// A model that knows one text, and goes on with any beginning of it. Each of its calls breaks after so many of the
/// characters that it says, or never.
#[derive(Clone)]
struct Writer {
    text: Arc<str>,
    breaks: Arc<Mutex<VecDeque<Option<usize>>>>,
    /// The answers so far that it was asked to go on with.
    asked: Arc<Mutex<Vec<Option<String>>>>,
    /// The characters that it says again.
    again: usize,
    refuses: bool,
}

impl Writer {
    fn new(text: &str, breaks: impl IntoIterator<Item = Option<usize>>) -> Self {
        let breaks = Arc::new(Mutex::new(breaks.into_iter().collect()));
        Self { text: text.into(), breaks, asked: Arc::default(), again: 0, refuses: false }
    }

    fn service(&self) -> BoxLlmService {
        let writer = self.clone();
        BoxCloneSyncService::new(provider_fn(move |request: LlmRequest| {
            let answer = writer.answer(&request);
            async move { answer }
        }))
    }

    fn asked(&self) -> Vec<Option<String>> {
        self.asked.lock().unwrap().clone()
    }

    fn answer(&self, request: &LlmRequest) -> Result<LlmResponse, LlmError> {
        let last = request.chat()?.messages.iter().rfind(|message| message.role == Role::Assistant);
        let so_far = last.map(Message::text);
        self.asked.lock().unwrap().push(so_far.clone());
        if self.refuses && so_far.is_some() {
            let said = "This model does not support assistant message prefill. It must end with a user message.";
            return Err(LlmError::new(ErrorKind::InvalidRequest, said));
        }
        let so_far = so_far.unwrap_or_default();
        let rest = self.text.strip_prefix(&*so_far).expect("it is asked to go on with its own text");
        let from = self.text.len() - rest.len();
        let from = self.text[..from].char_indices().rev().nth(self.again.max(1) - 1).map_or(0, |(at, _)| at);
        let rest = if self.again == 0 { rest } else { &self.text[from..] };
        let end = self.breaks.lock().unwrap().pop_front().flatten();
        let mut frames = vec![
            Ok(Frame::event(StreamEvent::Start { id: Some("msg_1".into()), model: Some("writer-1".into()) })),
            Ok(Frame::event(StreamEvent::Usage(Usage::new(10, 0)))),
        ];
        let said: String = rest.chars().take(end.unwrap_or(usize::MAX)).collect();
        let letters: Vec<char> = said.chars().collect();
        let pieces = letters.chunks(7).map(|piece| piece.iter().collect());
        frames.extend(pieces.map(|text| Ok(Frame::event(StreamEvent::Text { index: 0, text }))));
        match end {
            Some(_) => frames.push(Err(LlmError::new(ErrorKind::StreamBroken, "cut"))),
            None => {
                let used = StreamEvent::Usage(Usage::new(10, estimate::said(said.len() as u64)));
                frames.push(Ok(Frame::events_of(vec![
                    used,
                    StreamEvent::Finish(FinishReason::Stop),
                    StreamEvent::End,
                ])));
            }
        }
        Ok(LlmResponse::new(LlmBody::from_frames(stream::iter(frames))))
    }
}

fn tier(name: &str, model: &str, writer: &Writer) -> Tier {
    Tier::new(name, writer.service()).settings(TierSettings::new().model(model).goes_on())
}

fn layer() -> FallbackLayer {
    FallbackLayer::new("a")
        .primary(TierSettings::new().model("writer-1").goes_on())
        .default_policy(FeaturePolicy::new().stream_break(StreamBreak::Continue))
}

/// The events of an answer, and the error that ended it.
async fn read(mut response: LlmResponse) -> (Vec<StreamEvent>, Option<LlmError>) {
    let mut events = Vec::new();
    while let Some(frame) = response.body_mut().frame().await {
        match frame {
            Ok(frame) => events.extend(frame.events().to_vec()),
            Err(error) => return (events, Some(error)),
        }
    }
    (events, None)
}

fn text_of(events: &[StreamEvent]) -> String {
    let texts = events.iter().filter_map(|event| match event {
        StreamEvent::Text { index: 0, text } => Some(text.as_str()),
        _ => None,
    });
    texts.collect()
}

fn continued(events: &[StreamEvent]) -> Vec<(String, Option<&str>)> {
    let places = events.iter().filter_map(|event| match event {
        StreamEvent::Continued(place) => Some((place.so_far.to_string(), place.tier.as_deref())),
        _ => None,
    });
    places.collect()
}

const TEXT: &str = "Zuerst kommt die Größe, dann 日本 and then the rest of what there is to say.\nIt ends here.";

#[tokio::test(start_paused = true)]
async fn another_call_goes_on_at_the_character() {
    let (a, b) = (Writer::new(TEXT, [Some(20)]), Writer::new(TEXT, []));
    let llm = layer().push(tier("b", "writer-2", &b)).layer(a.service());
    let (events, error) = read(llm.oneshot(prompt()).await.unwrap()).await;
    assert!(error.is_none());
    assert_eq!(text_of(&events), TEXT);
    let so_far: String = TEXT.chars().take(20).collect();
    assert_eq!(continued(&events), [(so_far.clone(), Some("b"))]);
    assert_eq!(b.asked(), [Some(so_far.trim_end().to_owned())]);
    let starts = events.iter().filter(|event| matches!(event, StreamEvent::Start { .. })).count();
    let ends = events.iter().filter(|event| matches!(event, StreamEvent::End)).count();
    assert_eq!((starts, ends), (1, 1), "it is one message");
    let used = events.iter().rev().find_map(|event| match event {
        StreamEvent::Usage(usage) => Some(*usage),
        _ => None,
    });
    let of_first = estimate::said(so_far.len() as u64);
    let of_second = estimate::said((TEXT.len() - so_far.trim_end().len()) as u64);
    assert_eq!(used, Some(Usage::new(20, of_first + of_second)), "both are paid for");
}

#[tokio::test(start_paused = true)]
async fn an_answer_of_two_models_costs_what_each_part_costs() {
    let dollars = |amount: u64| Usd::from_nanos(amount * 1_000_000_000);
    let prices = PriceTable::empty()
        .with("dear", Price::new(dollars(100), dollars(1_000)))
        .with("cheap", Price::new(dollars(1), dollars(10)));
    for (second, is_known) in [("cheap", true), ("of-nobody", false)] {
        let (a, b) = (Writer::new(TEXT, [Some(20)]), Writer::new(TEXT, []));
        let of = |writer: &Writer, model: &'static str| {
            let prices = prices.clone();
            let named = move |answer: LlmResponse| answer.with_model("acme", model).with_prices(&prices);
            BoxLlmService::new(writer.service().map_response(named))
        };
        let second = Tier::new("b", of(&b, second)).settings(TierSettings::new().model("writer-2").goes_on());
        let mut response = layer().push(second).layer(of(&a, "dear")).oneshot(prompt()).await.unwrap();
        let mut costs = Vec::new();
        while let Some(frame) = response.body_mut().frame().await {
            costs.extend(frame.unwrap().events().iter().filter_map(|event| match event {
                StreamEvent::Usage(usage) => Some(usage.cost.is_some()),
                _ => None,
            }));
        }
        // A reader who leaves before the end has had more than the tokens so far, and pays for that by the price.
        assert_eq!(costs, [false, false, is_known]);
        let of_first: String = TEXT.chars().take(20).collect();
        let of_first = estimate::said(of_first.len() as u64);
        let of_second = response.usage().unwrap().output - of_first;
        // In millionths of a dollar: ten tokens of each prompt, and what each said.
        let each = [10 * 100 + of_first * 1_000, 10 + of_second * 10];
        let cost = Usd::from_nanos(1_000 * each.iter().sum::<u64>());
        // Without a price of one part, all of it has the first one's.
        let at_first = Usd::from_nanos(1_000 * (20 * 100 + (of_first + of_second) * 1_000));
        assert_eq!(response.cost(), Some(if is_known { cost } else { at_first }));
    }
}

#[tokio::test(start_paused = true)]
async fn the_tiers_of_the_same_model_come_first_and_its_own_last_unless_it_is_spread() {
    // The characters after which each tier breaks, and the tiers that go on.
    let cut = || Writer::new(TEXT, [Some(20), Some(20)]);
    let writer = |after: Option<usize>| Writer::new(TEXT, [after]);
    for (of_b, of_c, again, is_spread, went) in [
        (writer(None), writer(None), false, false, &["c"][..]),
        (writer(None), writer(Some(9)), false, false, &["c", "b"]),
        (writer(None), writer(Some(9)), true, false, &["c", "b"]),
        (writer(None), writer(Some(9)), true, true, &["a"]),
        (writer(None), writer(Some(0)), true, false, &["b"]),
    ] {
        let a = cut();
        let mut layer = layer().push(tier("b", "other", &of_b)).push(tier("c", "writer-1", &of_c));
        if is_spread {
            layer = layer.primary(TierSettings::new().model("writer-1").goes_on().spread());
        }
        if again {
            layer = layer.primary_again(Writer::new(TEXT, []).service());
        }
        let (events, error) = read(layer.layer(a.service()).oneshot(prompt()).await.unwrap()).await;
        assert!(error.is_none(), "{error:?}");
        assert_eq!(text_of(&events), TEXT);
        let tiers: Vec<&str> = continued(&events).iter().filter_map(|(_, tier)| *tier).collect();
        assert_eq!(tiers, went);
    }
}

#[tokio::test(start_paused = true)]
async fn the_rest_of_an_answer_is_no_switch() {
    let (a, b) = (Writer::new(TEXT, vec![Some(20); 30]), Writer::new(TEXT, []));
    let events = Events::new();
    let mut seen = events.subscribe();
    let llm = layer().push(tier("b", "2", &b)).events(events).layer(a.service());
    for _ in 0..30 {
        let (events, error) = read(llm.clone().oneshot(prompt()).await.unwrap()).await;
        assert!(error.is_none() && text_of(&events) == TEXT);
    }
    assert!(seen.try_recv().is_err(), "nothing is reported");
}

#[tokio::test(start_paused = true)]
async fn no_route_leads_to_a_tier_that_does_not_go_on() {
    for breaks in [vec![Some(20)], vec![Some(20), Some(20), Some(20)]] {
        let (a, b) = (Writer::new(TEXT, breaks), Writer::new(TEXT, []));
        let llm = layer()
            .tier("b", b.service())
            .route(ErrorKind::StreamBroken, ["b"])
            .primary_again(a.service())
            .layer(a.service());
        let (events, error) = read(llm.oneshot(prompt()).await.unwrap()).await;
        assert!(TEXT.starts_with(&text_of(&events)) && b.asked().is_empty());
        assert_eq!(error.is_none(), continued(&events).len() == 1 && text_of(&events) == TEXT);
    }
}

#[tokio::test(start_paused = true)]
async fn a_stream_over_the_longest_text_fails_as_without() {
    for (length, is_whole) in [(1 << 20, true), ((1 << 20) + 1, false)] {
        let text = "a b, ".repeat(length / 5 + 10);
        let (first, second) = (Writer::new(&text, [Some(length)]), Writer::new(&text, []));
        let llm = layer().push(tier("b", "writer-1", &second)).layer(first.service());
        let (events, error) = read(llm.oneshot(prompt()).await.unwrap()).await;
        assert_eq!((error.is_none(), text_of(&events) == text), (is_whole, is_whole), "{length}");
        assert_eq!(second.asked().len(), usize::from(is_whole), "{length}");
    }
}

#[tokio::test(start_paused = true)]
async fn two_calls_go_on_and_no_more() {
    let writers = [Some(20), Some(11), Some(12), None].map(|after| Writer::new(TEXT, [after]));
    let [a, b, c, d] = &writers;
    let layer = layer().push(tier("b", "2", b)).push(tier("c", "3", c)).push(tier("d", "4", d));
    let (events, error) = read(layer.layer(a.service()).oneshot(prompt()).await.unwrap()).await;
    assert_eq!(error.unwrap().kind(), ErrorKind::StreamBroken);
    assert!(TEXT.starts_with(&text_of(&events)) && events.iter().all(|event| *event != StreamEvent::End));
    assert_eq!((continued(&events).len(), d.asked().len()), (2, 0));
}

/// A stream of these events, which breaks.
fn begun(events: &[StreamEvent]) -> BoxLlmService {
    let events = events.to_vec();
    BoxCloneSyncService::new(provider_fn(move |_| {
        let frames = events.clone().into_iter().map(|event| Ok(Frame::event(event)));
        let cut = Err(LlmError::new(ErrorKind::StreamBroken, "cut"));
        let body = LlmBody::from_frames(stream::iter(frames.chain([cut]).collect::<Vec<_>>()));
        async move { Ok::<_, LlmError>(LlmResponse::new(body)) }
    }))
}

#[tokio::test(start_paused = true)]
async fn what_is_more_than_text_is_not_gone_on_with() {
    let text = || StreamEvent::Text { index: 0, text: "Zuerst".into() };
    let call = StreamEvent::ToolCall { index: 1, id: "1".into(), name: "t".into(), opaque: None };
    let thought = StreamEvent::Reasoning { index: 0, text: "hm".into() };
    let opaque = Opaque { dialect: crate::Dialect::Anthropic, token: "x".into(), redacted: false };
    let signature = StreamEvent::Signature { index: 0, opaque };
    let cases: [(&str, Vec<StreamEvent>, bool); 6] = [
        ("text", vec![text()], true),
        ("a thought that bears no signature", vec![thought.clone(), text()], true),
        ("a thought alone", vec![thought], false),
        ("a signed thought", vec![signature, text()], false),
        ("a call of a tool", vec![text(), call], false),
        ("an answer that has ended", vec![text(), StreamEvent::Finish(FinishReason::Stop)], false),
    ];
    for (what, events, goes_on) in cases {
        let b = Writer::new(TEXT, []);
        let llm = layer().push(tier("b", "2", &b)).layer(begun(&events));
        let (seen, error) = read(llm.oneshot(prompt()).await.unwrap()).await;
        assert_eq!((error.is_none(), b.asked().len()), (goes_on, usize::from(goes_on)), "{what}");
        assert_eq!(text_of(&seen) == TEXT, goes_on, "{what}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_request_that_asks_for_a_form_or_has_begun_the_answer_fails_as_without() {
    let chat = || Chat::new([Message::user("write")]);
    let mut form = chat();
    form.output = Some(OutputSchema { name: "a".into(), schema: None, strict: false });
    let mut own = chat();
    own.messages.push(Message::assistant("Zuerst"));
    for (chat, goes_on) in [(chat(), true), (form, false), (own, false)] {
        let (a, b) = (Writer::new(TEXT, [Some(20)]), Writer::new(TEXT, []));
        let llm = layer().push(tier("b", "2", &b)).layer(a.service());
        let (_, error) = read(llm.oneshot(chat.into()).await.unwrap()).await;
        assert_eq!((error.is_none(), b.asked().is_empty()), (goes_on, !goes_on));
    }
}

#[tokio::test(start_paused = true)]
async fn a_model_that_takes_no_beginning_is_told_to_go_on_where_that_is_allowed_and_there_are_no_tools() {
    for (allowed, tools, goes_on) in [(true, false, true), (true, true, false), (false, false, false)] {
        let (a, b) = (Writer::new(TEXT, [Some(20)]), Writer::new(TEXT, []));
        let policy = FeaturePolicy::new().stream_break(StreamBreak::Continue).goes_on_by_instruction(allowed);
        let llm = layer().tier("b", b.service()).default_policy(policy).layer(a.service());
        let mut chat = Chat::new([Message::user("write")]);
        if tools {
            chat = chat.tool(Tool::new("t", serde_json::json!({})));
        }
        let (events, error) = read(llm.oneshot(chat.into()).await.unwrap()).await;
        assert_eq!((error.is_none(), b.asked().len()), (goes_on, usize::from(goes_on)));
        assert_eq!(text_of(&events) == TEXT, goes_on);
    }
}

#[tokio::test(start_paused = true)]
async fn a_tier_that_refuses_a_begun_answer_is_known_and_the_next_one_asked() {
    let mut b = Writer::new(TEXT, []);
    b.refuses = true;
    let (a, c) = (Writer::new(TEXT, [Some(20), Some(20)]), Writer::new(TEXT, []));
    let llm = layer().push(tier("b", "2", &b)).push(tier("c", "3", &c)).layer(a.service());
    for calls in [1, 1] {
        let (events, error) = read(llm.clone().oneshot(prompt()).await.unwrap()).await;
        assert!(error.is_none(), "{error:?}");
        assert_eq!(text_of(&events), TEXT);
        assert_eq!(b.asked().len(), calls, "it is asked once and no more");
    }
    assert_eq!(c.asked().len(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_rest_that_is_empty_a_refusal_or_another_answer_is_a_break() {
    let event = |event: StreamEvent| Frame::event(event);
    let end = || Frame::events_of(vec![StreamEvent::Finish(FinishReason::Stop), StreamEvent::End]);
    let long = "The three reasons are these, in the order of their weight, as far as we know.";
    let anew = "The three reasons are these, in the order of their weight: to begin with";
    let refusal = || event(StreamEvent::Refusal { index: 0, text: "no".into() });
    let filtered = Frame::events_of(vec![StreamEvent::Finish(FinishReason::Refusal), StreamEvent::End]);
    for rest in [vec![end()], vec![refusal(), end()], vec![filtered], vec![Frame::text(anew), end()]] {
        let b: BoxLlmService = BoxCloneSyncService::new(provider_fn(move |_| {
            let frames: Vec<_> = rest.clone().into_iter().map(Ok).collect();
            async move { Ok::<_, LlmError>(LlmResponse::new(LlmBody::from_frames(stream::iter(frames)))) }
        }));
        let c = Writer::new(&format!("{long} Whole."), []);
        let a = begun(&[StreamEvent::Text { index: 0, text: long.into() }]);
        let b = Tier::new("b", b).settings(TierSettings::new().goes_on());
        let llm = layer().push(b).push(tier("c", "3", &c)).layer(a);
        let (events, error) = read(llm.oneshot(prompt()).await.unwrap()).await;
        assert!(error.is_none(), "{error:?}");
        assert_eq!(text_of(&events), format!("{long} Whole."));
        assert_eq!(continued(&events).len(), 1, "nothing of it was shown");
    }
}

/// A model that goes on in another language, or without an end, is as in a single call: nobody can tell.
#[tokio::test(start_paused = true)]
async fn a_rest_in_another_language_or_without_an_end_reaches_its_reader_as_it_comes() {
    let a = begun(&[StreamEvent::Text { index: 0, text: "First come ".into() }]);
    let b: BoxLlmService = BoxCloneSyncService::new(provider_fn(|_| {
        let frames = stream::iter(0_u64..).map(|number| {
            let text = if number == 0 { "zuerst die Größe, ".to_owned() } else { format!("{number} und ") };
            Ok(Frame::text(text))
        });
        async move { Ok::<_, LlmError>(LlmResponse::new(LlmBody::from_frames(frames))) }
    }));
    let llm = layer().push(Tier::new("b", b).settings(TierSettings::new().goes_on())).layer(a);
    let mut answer = llm.oneshot(prompt()).await.unwrap();
    let mut text = String::new();
    // More than any text that is kept.
    while text.len() < 3 << 20 {
        let frame = answer.body_mut().frame().await.unwrap().unwrap();
        text.extend(frame.events().iter().filter_map(|event| match event {
            StreamEvent::Text { text, .. } => Some(text.as_str()),
            _ => None,
        }));
    }
    assert!(text.starts_with("First come zuerst die Größe, 1 und 2 und 3 und "), "{:.60}", text);
}

#[tokio::test(start_paused = true)]
async fn a_rest_may_call_a_tool_behind_its_words_and_its_thoughts_stay_where_they_are() {
    let rest = vec![
        StreamEvent::Reasoning { index: 0, text: "hm".into() },
        StreamEvent::Text { index: 1, text: " kommt".into() },
        StreamEvent::ToolCall { index: 2, id: "1".into(), name: "t".into(), opaque: None },
        StreamEvent::Arguments { index: 2, json: "{}".into() },
        StreamEvent::Finish(FinishReason::ToolUse),
        StreamEvent::End,
    ];
    let b: BoxLlmService = BoxCloneSyncService::new(provider_fn(move |_| {
        let frames: Vec<_> = rest.clone().into_iter().map(|event| Ok(Frame::event(event))).collect();
        async move { Ok::<_, LlmError>(LlmResponse::new(LlmBody::from_frames(stream::iter(frames)))) }
    }));
    let a = begun(&[StreamEvent::Text { index: 0, text: "Zuerst".into() }]);
    let llm = layer().push(Tier::new("b", b).settings(TierSettings::new().goes_on())).layer(a);
    let message = llm.oneshot(prompt()).await.unwrap().into_body().collect().await.unwrap();
    assert_eq!(message.text(), "Zuerst kommt");
    assert_eq!(message.tool_calls().map(|call| (&*call.name, &*call.arguments)).collect::<Vec<_>>(), [("t", "{}")]);
    assert_eq!(message.content.len(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_stop_text_across_the_seam_ends_the_answer() {
    for (cut, whole) in [(9, "one, two, "), (12, "one, two, EN"), (40, "one, two, END of it")] {
        let text = "one, two, END of it";
        let (a, b) = (Writer::new(text, [Some(cut)]), Writer::new(text, []));
        let mut chat = Chat::new([Message::user("count")]);
        chat.stop = vec!["END".into()];
        let llm = layer().push(tier("b", "2", &b)).layer(a.service());
        let (events, error) = read(llm.oneshot(chat.into()).await.unwrap()).await;
        if cut == 12 {
            assert!(error.is_none(), "{error:?}");
            assert_eq!(text_of(&events), whole, "what was there can't be taken back");
            assert_eq!(events.last(), Some(&StreamEvent::End));
        }
    }
}

/// 4,000 cuts at random characters, once or twice in an answer, by models that say up to 200 characters again or none.
#[tokio::test(start_paused = true)]
async fn no_character_is_lost_or_doubled_wherever_it_is_cut() {
    let mut random = fastrand::Rng::with_seed(59);
    let mut cuts = 0;
    for round in 0..2_500 {
        let letters: Vec<char> = "abcdefghijklmnopqrstuvwxyz    \n.äß日本😀".chars().collect();
        let text: String = (0..random.usize(60..600)).map(|_| random.choice(&letters).unwrap()).collect();
        let text = format!("begin {text} end");
        let length = text.chars().count();
        let first = random.usize(30..length);
        let second = random.bool().then(|| random.usize(17..400));
        let again = if random.bool() { random.usize(24..200) } else { 0 };
        let mut b = Writer::new(&text, [second]);
        b.again = again;
        let mut c = Writer::new(&text, []);
        c.again = again;
        let a = Writer::new(&text, [Some(first)]);
        let llm = layer().push(tier("b", "2", &b)).push(tier("c", "3", &c)).layer(a.service());
        let (events, error) = read(llm.oneshot(prompt()).await.unwrap()).await;
        let said = text_of(&events);
        cuts += 1 + usize::from(second.is_some());
        match error {
            None => assert_eq!(said, text, "{round}: {first} {second:?} {again}"),
            // Its rest was white space alone, or nothing.
            Some(error) => {
                assert_eq!(error.kind(), ErrorKind::StreamBroken, "{round}");
                assert!(text.starts_with(&said), "{round}: {first} {second:?} {again}");
                assert!(
                    first + second.unwrap_or_default() >= length || again > 0,
                    "{round}: {first} {second:?} {again}"
                );
            }
        }
    }
    assert!(cuts > 3_500, "{cuts}");
}
