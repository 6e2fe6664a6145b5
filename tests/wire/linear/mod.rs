//! To take a request apart takes time and memory in proportion to its size, whatever is in it.
//!
//! Memory is what the thread allocates at its peak, beside the body itself. Work is counted in allocations and in bytes
//! allocated, which grow with the square of the size wherever something is done over for each piece; instructions are
//! counted by `.ci/linear`, which runs this file's `each` under callgrind.
//!
//! Sizes are small by default. `STEADFAST_SCALE=full` makes them what the gateway takes: 32 MB.

mod shapes;

use std::{
    convert::Infallible,
    pin::pin,
    task::{Context, Poll, Waker},
};

use bytes::Bytes;
use http::{Response, header};
use http_body_util::Full;
use steadfast::{
    BoxLlmService, Dialect, ErrorKind, Frame, LlmError, LlmRequest, LlmResponse, StreamEvent, Wire, WireLimits,
    providers::{Anthropic, Gemini, OpenAi, OpenAiResponses, http::RequestBody},
    translate::StreamEncoder,
};
use tower::{Service, service_fn};

use self::shapes::Shape;

/// An answer of no account.
fn answer(dialect: Dialect) -> &'static str {
    match dialect {
        Dialect::Anthropic => r#"{"type":"message","content":[{"type":"text","text":"x"}],"stop_reason":"end_turn"}"#,
        Dialect::OpenAi => r#"{"choices":[{"message":{"content":"x"},"finish_reason":"stop"}]}"#,
        Dialect::Responses => {
            r#"{"status":"completed","output":[{"type":"message","content":[{"type":"output_text","text":"x"}]}]}"#
        }
        _ => r#"{"candidates":[{"content":{"parts":[{"text":"x"}]},"finishReason":"STOP"}]}"#,
    }
}

/// A provider of this dialect, which answers at once.
fn provider(target: Dialect) -> BoxLlmService {
    let transport = service_fn(move |_: http::Request<RequestBody>| async move {
        let mut response = Response::new(Full::new(Bytes::from_static(answer(target).as_bytes())));
        response.headers_mut().insert(header::CONTENT_TYPE, header::HeaderValue::from_static("application/json"));
        Ok::<_, Infallible>(response)
    });
    match target {
        Dialect::Anthropic => BoxLlmService::new(Anthropic::new("k").model("m").transport(transport)),
        Dialect::OpenAi => BoxLlmService::new(OpenAi::new("k").model("m").transport(transport)),
        Dialect::Responses => BoxLlmService::new(OpenAiResponses::new("k").model("m").transport(transport)),
        _ => BoxLlmService::new(Gemini::new("k").model("m").transport(transport)),
    }
}

/// Calls it outside of a runtime: all of it is done by this thread.
fn send(provider: &mut BoxLlmService, wire: Wire) -> Result<LlmResponse, LlmError> {
    let mut calling = pin!(provider.call(LlmRequest::from(wire)));
    loop {
        if let Poll::Ready(answered) = calling.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
            return answered;
        }
    }
}

/// The cost of translating a body.
struct Took {
    bytes: usize,
    peak: f64,
    allocated: f64,
    allocations: f64,
    result: Result<LlmResponse, LlmError>,
}

fn translate(shape: &Shape, bytes: usize, limits: WireLimits) -> Took {
    let body = Bytes::from(shape.body(bytes));
    let bytes = body.len();
    let (mut provider, mut result) = (provider(shape.target), None);
    let measured = allocation_counter::measure(|| {
        result = Some(Wire::new(shape.source, body).and_then(|wire| send(&mut provider, wire.limits(limits))));
    });
    Took {
        bytes,
        peak: measured.bytes_max as f64,
        allocated: measured.bytes_total as f64,
        allocations: measured.count_total as f64,
        result: result.expect("it was translated"),
    }
}

fn is_full() -> bool {
    std::env::var("STEADFAST_SCALE").is_ok_and(|scale| scale == "full")
}

/// The exponent of growth between two sizes: 1 where twice the size takes twice as much.
fn exponent(small: f64, large: f64, ratio: f64) -> f64 {
    (large / small).ln() / ratio.ln()
}

#[test]
fn work_grows_with_the_size_and_not_with_its_square() {
    let (small, large) = if is_full() { (4 << 20, 32 << 20) } else { (32 << 10, 256 << 10) };
    let mut wrong = Vec::new();
    for shape in shapes::all() {
        let limits = WireLimits::unlimited();
        let (few, many) = (translate(&shape, small, limits), translate(&shape, large, limits));
        let ratio = many.bytes as f64 / few.bytes as f64;
        let allocated = exponent(few.allocated, many.allocated, ratio);
        let allocations = exponent(few.allocations, many.allocations, ratio);
        println!("{shape}: bytes allocated ^{allocated:.2}, allocations ^{allocations:.2}");
        if let Err(error) = &many.result {
            wrong.push(format!("{shape}: {error}"));
        }
        // Room doubles as it grows, so that a step of eight is never quite even.
        if allocated > 1.25 || allocations > 1.25 {
            wrong.push(format!("{shape}: ^{allocated:.2} and ^{allocations:.2}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// The memory that a rewritten schema, or the most parts that a small body can have, may take beside that.
const BESIDE: f64 = 8.0 * 1024.0 * 1024.0;

#[test]
fn at_its_peak_a_body_takes_eight_times_its_size() {
    let sizes: &[usize] = if is_full() { &[1 << 20, 8 << 20, 32 << 20] } else { &[1 << 20] };
    let mut wrong = Vec::new();
    for shape in shapes::all() {
        for bytes in sizes {
            let took = translate(&shape, *bytes, WireLimits::default());
            let times = took.peak / took.bytes as f64;
            let refused = took.result.as_ref().is_err_and(|error| error.kind() == ErrorKind::TooLarge);
            println!("{shape}, {} KB: {times:.1} times{}", took.bytes >> 10, if refused { ", refused" } else { "" });
            if took.peak > 8.0 * took.bytes as f64 + BESIDE {
                wrong.push(format!("{shape}, {} KB: {times:.1} times", took.bytes >> 10));
            }
            assert!(refused || took.result.is_ok(), "{shape}: {:?}", took.result);
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// A large request is taken apart by another thread: whoever shares this one goes on.
#[test]
fn a_large_request_holds_up_nobody() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
    let _guard = runtime.enter();
    for shape in shapes::all() {
        let body = Bytes::from(shape.body(320 << 10));
        let wire = Wire::new(shape.source, body.clone()).unwrap();
        let (mut provider, mut answered) = (provider(shape.target), None);
        let measured = allocation_counter::measure(|| {
            answered = Some(runtime.block_on(provider.call(LlmRequest::from(wire))));
        });
        assert!(measured.bytes_total < 64 << 10, "{shape}: {} bytes", measured.bytes_total);
        if let Some(Err(error)) = answered {
            assert_eq!(error.kind(), ErrorKind::TooLarge, "{shape}: {error}");
        }
    }
}

/// The fields that layers read of a large request are decoded ahead in the same way, and once.
#[test]
fn a_large_request_is_decoded_ahead_beside_the_thread_that_serves() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
    let body = format!(r#"{{"messages":[{{"role":"user","content":"{}"}}]}}"#, "x".repeat(1 << 20));
    let request = LlmRequest::from(Wire::new(Dialect::OpenAi, body).unwrap());
    let measured = allocation_counter::measure(|| {
        runtime.block_on(request.decode_ahead()).unwrap();
        assert_eq!(request.chat().unwrap().messages.len(), 1);
    });
    assert!(measured.bytes_total < 64 << 10, "{} bytes", measured.bytes_total);
}

/// An answer of so many calls that come side by side: all begin before the first one ends.
fn side_by_side(calls: u32) -> Vec<Frame> {
    let begun = (0..calls).map(|index| StreamEvent::ToolCall {
        index,
        id: format!("i{index}"),
        name: "t".to_owned(),
        opaque: None,
    });
    let text = [StreamEvent::Text { index: calls, text: "x".to_owned() }];
    let ended = (0..calls).map(|index| StreamEvent::Arguments { index, json: "{}".to_owned() });
    begun.chain(text).chain(ended).chain([StreamEvent::End]).map(Frame::event).collect()
}

fn encoded(frames: &[Frame], dialect: Dialect) -> usize {
    let mut encoder = StreamEncoder::new(dialect);
    frames.iter().map(|frame| encoder.frame(frame).len()).sum()
}

const DIALECTS: [Dialect; 4] = [Dialect::Anthropic, Dialect::OpenAi, Dialect::Gemini, Dialect::Responses];

#[test]
fn answers_of_many_calls_are_written_in_linear_work() {
    for dialect in DIALECTS {
        let took = |calls: u32| {
            let frames = side_by_side(calls);
            let measured = allocation_counter::measure(|| assert!(encoded(&frames, dialect) > calls as usize));
            (measured.bytes_total as f64, measured.count_total as f64)
        };
        let (few, many) = (took(500), took(4000));
        let (allocated, allocations) = (exponent(few.0, many.0, 8.0), exponent(few.1, many.1, 8.0));
        println!("{dialect}: bytes allocated ^{allocated:.2}, allocations ^{allocations:.2}");
        assert!(allocated < 1.25 && allocations < 1.25, "{dialect}: ^{allocated:.2} and ^{allocations:.2}");
    }
}

/// Shapes of one size, for who counts instructions: `.ci/linear`. `STEADFAST_SHAPES` has their numbers; without them it
/// prints how many there are.
#[test]
#[ignore = "run by .ci/linear under callgrind"]
fn each() {
    let all = shapes::all();
    let Ok(numbers) = std::env::var("STEADFAST_SHAPES") else {
        return println!("shapes: {}", all.len() + DIALECTS.len());
    };
    let bytes: usize = std::env::var("STEADFAST_BYTES").ok().and_then(|text| text.parse().ok()).expect("a size");
    for number in numbers.split_whitespace() {
        let number: usize = number.parse().expect("a number");
        let Some(shape) = all.get(number) else {
            let dialect = DIALECTS[number - all.len()];
            println!("shape: an answer of many calls (to {dialect})");
            // About as many bytes for each.
            let frames = side_by_side(u32::try_from(bytes / 64).expect("a small number"));
            counted(&mut || assert!(encoded(&frames, dialect) > 0));
            continue;
        };
        let body = Bytes::from(shape.body(bytes));
        println!("shape: {shape}");
        let wire = Wire::new(shape.source, body).expect("it is an object").limits(WireLimits::unlimited());
        let (mut provider, mut wire) = (provider(shape.target), Some(wire));
        counted(&mut || drop(send(&mut provider, wire.take().expect("once")).expect("it is translated")));
    }
}

/// Runs it apart, so that its instructions can be told from those of making the body.
#[inline(never)]
fn counted(work: &mut dyn FnMut()) {
    work();
}
