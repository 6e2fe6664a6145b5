//! Any bytes, anywhere that bytes of others come in: never a panic, never more memory than the limits allow, and an
//! answer or an error with a name.
//!
//! A plain run takes a second or two a property. `STEADFAST_FUZZ_SECONDS=600` runs each for that long, from another
//! seed each time, and `cargo test --release --test wire fuzz -- --nocapture` then prints the executions. The same
//! properties are cargo-fuzz targets in `fuzz/`.

mod bedrock;
mod made;
mod mutate;
mod properties;

use std::{
    fmt,
    panic::{AssertUnwindSafe, catch_unwind, resume_unwind},
    sync::OnceLock,
    time::Duration,
};

use proptest::{
    prelude::*,
    sample::Index,
    strategy::ValueTree,
    test_runner::{Config, RngAlgorithm, TestCaseError, TestRng, TestRunner},
};
use steadfast::{
    Dialect,
    providers::bedrock::event_stream::{HeaderValue, encode},
};

use self::mutate::{Mutation, apply, mutations};
use crate::recordings::{Exchange, Recordings, folders, recordings};

/// The recordings, or a little of everything without recordings.
#[derive(Default)]
struct Corpus {
    answers: [Vec<Vec<u8>>; 4],
    requests: [Vec<Vec<u8>>; 4],
}

fn place(dialect: Dialect) -> usize {
    properties::DIALECTS.iter().position(|one| *one == dialect).unwrap_or_default()
}

fn corpus() -> &'static Corpus {
    static CORPUS: OnceLock<Corpus> = OnceLock::new();
    CORPUS.get_or_init(|| {
        let mut corpus = Corpus::default();
        for (at, answers, requests) in [
            (0, ANTHROPIC, ANTHROPIC_ASKED),
            (1, OPENAI, OPENAI_ASKED),
            (2, GEMINI, GEMINI_ASKED),
            (3, RESPONSES, RESPONSES_ASKED),
        ] {
            corpus.answers[at].extend(answers.iter().map(|text| text.as_bytes().to_vec()));
            corpus.requests[at].push(requests.as_bytes().to_vec());
        }
        for exchange in recorded() {
            let at = place(exchange.dialect);
            // The long ones would take the time of many.
            if exchange.body.len() < LONG {
                corpus.answers[at].push(exchange.body.to_vec());
            }
            corpus.requests[at]
                .extend(exchange.request.body.filter(|body| body.len() < LONG).map(|body| body.to_vec()));
        }
        corpus
    })
}

/// The first folder's exchanges, and those of Responses, which are in another one.
fn recorded() -> impl Iterator<Item = Exchange> {
    let others = folders().into_iter().skip(1).filter_map(|folder| Recordings::read(&folder).ok());
    let others = others.flat_map(|read| read.exchanges).filter(|exchange| exchange.dialect == Dialect::Responses);
    recordings().into_iter().flatten().chain(others)
}

const LONG: usize = 48 << 10;

const ANTHROPIC: &[&str] = &[
    "event: message_start\ndata: {\"type\":\"message_start\",\"message\":{\"id\":\"m\",\"model\":\"c\",\"usage\":{\"input_tokens\":3}}}\n\nevent: content_block_start\ndata: {\"type\":\"content_block_start\",\"index\":0,\"content_block\":{\"type\":\"text\",\"text\":\"\"}}\n\ndata: {\"type\":\"content_block_delta\",\"index\":0,\"delta\":{\"type\":\"text_delta\",\"text\":\"hi\"}}\n\ndata: {\"type\":\"content_block_delta\",\"index\":0,\"delta\":{\"type\":\"citations_delta\",\"citation\":{\"a\":1}}}\n\ndata: {\"type\":\"content_block_stop\",\"index\":0}\n\ndata: {\"type\":\"message_delta\",\"delta\":{\"stop_reason\":\"end_turn\"},\"usage\":{\"output_tokens\":2}}\n\ndata: {\"type\":\"message_stop\"}\n\n",
    "{\"type\":\"message\",\"content\":[{\"type\":\"thinking\",\"thinking\":\"so\",\"signature\":\"s\"},{\"type\":\"text\",\"text\":\"hi\"},{\"type\":\"tool_use\",\"id\":\"t\",\"name\":\"n\",\"input\":{\"a\":1}}],\"stop_reason\":\"tool_use\",\"usage\":{\"input_tokens\":1,\"output_tokens\":2}}",
    "{\"type\":\"error\",\"error\":{\"type\":\"overloaded_error\",\"message\":\"Overloaded\"}}",
];
const OPENAI: &[&str] = &[
    "data: {\"id\":\"c\",\"model\":\"g\",\"choices\":[{\"index\":0,\"delta\":{\"role\":\"assistant\",\"content\":\"hi\"}}]}\n\ndata: {\"choices\":[{\"index\":0,\"delta\":{\"tool_calls\":[{\"index\":0,\"id\":\"t\",\"function\":{\"name\":\"n\",\"arguments\":\"{\"}}]}}]}\n\ndata: {\"choices\":[{\"index\":0,\"delta\":{},\"finish_reason\":\"stop\"}],\"usage\":{\"prompt_tokens\":1,\"completion_tokens\":2}}\n\ndata: [DONE]\n\n",
    "{\"choices\":[{\"index\":0,\"message\":{\"content\":\"hi\",\"tool_calls\":[{\"id\":\"t\",\"function\":{\"name\":\"n\",\"arguments\":\"{}\"}}]},\"finish_reason\":\"stop\"}],\"usage\":{\"prompt_tokens\":1}}",
    "{\"error\":{\"message\":\"Rate limit reached. Please try again in 18.642s.\",\"code\":\"rate_limit_exceeded\"}}",
];
const GEMINI: &[&str] = &[
    "data: {\"candidates\":[{\"content\":{\"parts\":[{\"text\":\"a\",\"thought\":true},{\"text\":\"hi\"}]}}],\"modelVersion\":\"g\"}\r\n\r\ndata: {\"candidates\":[{\"content\":{\"parts\":[{\"functionCall\":{\"name\":\"n\",\"args\":{}}}]},\"finishReason\":\"STOP\"}],\"usageMetadata\":{\"promptTokenCount\":1}}\r\n\r\n",
    "{\"candidates\":[{\"content\":{\"parts\":[{\"text\":\"hi\"},{\"inlineData\":{\"mimeType\":\"image/png\",\"data\":\"AA==\"}}]},\"finishReason\":\"STOP\"}]}",
    "{\"error\":{\"code\":429,\"status\":\"RESOURCE_EXHAUSTED\",\"message\":\"Please retry in 12.3s\",\"details\":[{\"@type\":\"type.googleapis.com/google.rpc.RetryInfo\",\"retryDelay\":\"12s\"}]}}",
];
const RESPONSES: &[&str] = &[
    "data: {\"type\":\"response.created\",\"response\":{\"id\":\"r\",\"model\":\"g\",\"output\":[]}}\n\ndata: {\"type\":\"response.output_item.added\",\"output_index\":0,\"item\":{\"id\":\"m\",\"type\":\"message\",\"role\":\"assistant\",\"content\":[]}}\n\ndata: {\"type\":\"response.output_text.delta\",\"item_id\":\"m\",\"output_index\":0,\"content_index\":0,\"delta\":\"hi\"}\n\ndata: {\"type\":\"response.function_call_arguments.delta\",\"output_index\":1,\"delta\":\"{\"}\n\ndata: {\"type\":\"response.completed\",\"response\":{\"id\":\"r\",\"status\":\"completed\",\"output\":[],\"usage\":{\"input_tokens\":1,\"output_tokens\":2}}}\n\n",
    "{\"id\":\"r\",\"object\":\"response\",\"status\":\"completed\",\"output\":[{\"type\":\"reasoning\",\"id\":\"rs\",\"summary\":[]},{\"type\":\"message\",\"id\":\"m\",\"role\":\"assistant\",\"content\":[{\"type\":\"output_text\",\"text\":\"hi\"}]},{\"type\":\"custom_tool_call\",\"call_id\":\"c\",\"name\":\"n\",\"input\":\"x\"}]}",
    "{\"error\":{\"message\":\"Your input exceeds the context window of this model.\",\"code\":\"context_length_exceeded\"}}",
];
const RESPONSES_ASKED: &str = "{\"model\":\"g\",\"stream\":true,\"instructions\":\"s\",\"max_output_tokens\":9,\"store\":false,\"include\":[\"reasoning.encrypted_content\"],\"reasoning\":{\"effort\":\"low\",\"summary\":\"auto\"},\"input\":[{\"role\":\"developer\",\"content\":\"d\"},{\"role\":\"user\",\"content\":[{\"type\":\"input_text\",\"text\":\"hi\"},{\"type\":\"input_image\",\"image_url\":\"data:image/png;base64,AA==\"}]},{\"type\":\"reasoning\",\"id\":\"rs\",\"summary\":[{\"type\":\"summary_text\",\"text\":\"so\"}],\"encrypted_content\":\"E\"},{\"type\":\"message\",\"id\":\"m\",\"role\":\"assistant\",\"content\":[{\"type\":\"output_text\",\"text\":\"a\",\"annotations\":[]},{\"type\":\"refusal\",\"refusal\":\"b\"}]},{\"type\":\"function_call\",\"call_id\":\"c\",\"namespace\":\"a\",\"name\":\"n\",\"arguments\":\"{}\"},{\"type\":\"custom_tool_call\",\"call_id\":\"e\",\"name\":\"p\",\"input\":\"x\"},{\"type\":\"function_call_output\",\"call_id\":\"c\",\"output\":\"x\"},{\"type\":\"custom_tool_call_output\",\"call_id\":\"e\",\"output\":[{\"type\":\"input_text\",\"text\":\"y\"}]},{\"type\":\"web_search_call\",\"id\":\"ws\"}],\"tools\":[{\"type\":\"namespace\",\"name\":\"a\",\"description\":\"d\",\"tools\":[{\"type\":\"function\",\"name\":\"n\",\"parameters\":{\"type\":\"object\"}}]},{\"type\":\"custom\",\"name\":\"p\",\"format\":{\"type\":\"text\"}},{\"type\":\"web_search\"}],\"text\":{\"format\":{\"type\":\"json_object\"}}}";
const ANTHROPIC_ASKED: &str = "{\"model\":\"c\",\"max_tokens\":9,\"system\":[{\"type\":\"text\",\"text\":\"s\",\"cache_control\":{\"type\":\"ephemeral\"}}],\"messages\":[{\"role\":\"user\",\"content\":\"hi\"},{\"role\":\"assistant\",\"content\":[{\"type\":\"tool_use\",\"id\":\"t\",\"name\":\"n\",\"input\":{\"a\":1.0}}]},{\"role\":\"user\",\"content\":[{\"type\":\"tool_result\",\"tool_use_id\":\"t\",\"content\":\"x\"}]}],\"tools\":[{\"name\":\"n\",\"input_schema\":{\"type\":\"object\"}}]}";
const OPENAI_ASKED: &str = "{\"model\":\"g\",\"stream\":true,\"temperature\":1e0,\"messages\":[{\"role\":\"system\",\"content\":\"s\"},{\"role\":\"user\",\"content\":[{\"type\":\"image_url\",\"image_url\":{\"url\":\"data:image/png;base64,AA==\"}}]},{\"role\":\"assistant\",\"tool_calls\":[{\"id\":\"t\",\"type\":\"function\",\"function\":{\"name\":\"n\",\"arguments\":\"{}\"}}]},{\"role\":\"tool\",\"tool_call_id\":\"t\",\"content\":\"x\"}],\"tools\":[{\"type\":\"function\",\"function\":{\"name\":\"n\",\"parameters\":{\"type\":\"object\"}}}]}";
const GEMINI_ASKED: &str = "{\"contents\":[{\"role\":\"user\",\"parts\":[{\"text\":\"hi\"}]},{\"role\":\"model\",\"parts\":[{\"functionCall\":{\"name\":\"n\",\"args\":{}}}]},{\"role\":\"user\",\"parts\":[{\"functionResponse\":{\"name\":\"n\",\"response\":{\"a\":1}}}]}],\"generationConfig\":{\"maxOutputTokens\":9},\"tools\":[{\"functionDeclarations\":[{\"name\":\"n\"}]}]}";

/// One execution's input.
#[derive(Clone)]
struct Case {
    dialect: Dialect,
    of: Index,
    mutations: Vec<Mutation>,
    seed: u64,
    /// Instead of a mutated body.
    anything: Option<Vec<u8>>,
}

impl fmt::Debug for Case {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { dialect, seed, mutations, .. } = self;
        write!(f, "{dialect}, seed {seed}, {mutations:?}")?;
        for (name, of) in [("answer", &corpus().answers), ("request", &corpus().requests)] {
            let bytes = self.bytes(of);
            write!(f, "\n{name}: {}", String::from_utf8_lossy(&bytes[..bytes.len().min(4000)]))?;
        }
        Ok(())
    }
}

impl Case {
    fn bytes(&self, corpus: &[Vec<Vec<u8>>; 4]) -> Vec<u8> {
        let corpus = &corpus[place(self.dialect)];
        self.anything.clone().unwrap_or_else(|| apply(&corpus[self.of.index(corpus.len())], &self.mutations, corpus))
    }
}

fn cases(dialect: Dialect) -> impl Strategy<Value = Case> {
    let anything = prop_oneof![
        9 => Just(None),
        1 => prop::collection::vec(any::<u8>(), 0..200).prop_map(Some),
    ];
    (any::<Index>(), mutations(), any::<u64>(), anything).prop_map(move |(of, mutations, seed, anything)| Case {
        dialect,
        of,
        mutations,
        seed,
        anything,
    })
}

/// The number of executions that a plain run makes of each property and dialect, and the longest time for it on a slow
/// machine.
const EXECUTIONS: u64 = 300;
const PLAIN: Duration = Duration::from_millis(800);

/// Runs a property, and shrinks what it fails on.
#[allow(clippy::disallowed_types, reason = "how long to fuzz is real time")]
fn run<T: fmt::Debug>(name: &str, strategy: impl Strategy<Value = T>, property: impl Fn(&T)) {
    let seconds = std::env::var("STEADFAST_FUZZ_SECONDS").ok().and_then(|seconds| seconds.parse().ok());
    let (time, most) = seconds.map_or((PLAIN, EXECUTIONS), |seconds| (Duration::from_secs(seconds), u64::MAX));
    let mut seed = [7; 32];
    if seconds.is_some() {
        seed.fill_with(|| fastrand::u8(..));
    }
    let config = Config { failure_persistence: None, ..Config::default() };
    let mut runner = TestRunner::new_with_rng(config, TestRng::from_seed(RngAlgorithm::ChaCha, &seed));
    let begun = std::time::Instant::now();
    let mut executions = 0;
    while executions < most && begun.elapsed() < time {
        let tree = strategy.new_tree(&mut runner).expect("no filters");
        let _first = tree.current();
        let result = runner.run_one(tree, |case| {
            property(&case);
            Ok::<_, TestCaseError>(())
        });
        if let Err(error) = result {
            panic!("{name}: {error}");
        }
        executions += 1;
    }
    println!("fuzzed: {name}: {executions} executions in {:.1?}, nothing found", begun.elapsed());
}

/// The bytes that a property takes at its highest, under a limit. What is decoded takes more room than its text: a
/// number of two bytes becomes a value of 32.
fn bounded(property: impl FnOnce()) {
    // A panic must not leave the counter in the middle of a measurement: shrinking goes on after it.
    let mut outcome = Ok(());
    let allocated = allocation_counter::measure(|| outcome = catch_unwind(AssertUnwindSafe(property)));
    if let Err(panic) = outcome {
        resume_unwind(panic);
    }
    assert!(allocated.bytes_max <= 64 * properties::ANSWER as u64, "{} bytes at once", allocated.bytes_max);
}

#[test]
fn sse_framing_is_the_same_in_any_pieces() {
    let dialects = prop::sample::select(properties::DIALECTS.to_vec());
    run("SSE framing", dialects.prop_flat_map(cases), |case| {
        properties::sse(&case.bytes(&corpus().answers), case.seed)
    });
    let lines = "(data|event|id|:)?:? ?[a-z]{0,3}(\r\n|\n|\r|\u{feff}|\n\n|\r\r){0,3}";
    let lines = prop::collection::vec(lines, 0..12);
    run("SSE lines", (lines, any::<u64>()), |(lines, seed)| properties::sse(lines.concat().as_bytes(), *seed));
}

fn answers(dialect: Dialect) {
    let status = prop::sample::select(vec![200, 200, 200, 200, 400, 429, 500, 529]);
    run(&format!("{dialect} answers"), (cases(dialect), status, any::<bool>()), |(case, status, other)| {
        let bytes = case.bytes(&corpus().answers);
        // A stream is read as one, nearly always.
        let stream = bytes.first() != Some(&b'{') || (*other && case.seed % 8 == 0);
        bounded(|| properties::answer(dialect, &bytes, stream, *status, case.seed));
    });
}

#[test]
fn anthropic_answers_are_read_or_named_as_errors() {
    answers(Dialect::Anthropic);
}

#[test]
fn openai_answers_are_read_or_named_as_errors() {
    answers(Dialect::OpenAi);
}

#[test]
fn gemini_answers_are_read_or_named_as_errors() {
    answers(Dialect::Gemini);
}

#[test]
fn responses_answers_are_read_or_named_as_errors() {
    answers(Dialect::Responses);
}

#[test]
fn retry_after_is_never_beyond_the_longest_wait() {
    let texts = "([0-3]?(retry after |try again in |retry in )?[-+0-9.eE hmsunµ\u{3bc}a-z,:GMT]{0,30}\n?){0,4}";
    run("Retry-After", texts, |text| properties::retry(text.as_bytes()));
    let bytes = prop::collection::vec(any::<u8>(), 0..100);
    run("Retry-After bytes", bytes, |bytes| properties::retry(bytes));
}

#[test]
fn forwarded_requests_differ_in_nothing_but_their_model() {
    for dialect in properties::DIALECTS {
        run(&format!("{dialect} splice"), cases(dialect), |case| {
            properties::splice(dialect, &case.bytes(&corpus().requests));
        });
    }
}

#[test]
fn fields_are_found_where_they_stand_however_the_json_is_written() {
    run("made-up JSON", (prop::sample::select(properties::DIALECTS.to_vec()), any::<u64>()), |(dialect, seed)| {
        properties::splice(*dialect, &made::request(*seed));
    });
}

#[test]
fn requests_are_decoded_and_translated_or_refused() {
    for dialect in properties::DIALECTS {
        run(&format!("{dialect} requests"), cases(dialect), |case| {
            let bytes = case.bytes(&corpus().requests);
            bounded(|| properties::request(dialect, &bytes));
        });
    }
}

/// Inputs of the targets in `fuzz/`.
#[test]
fn inputs_that_were_found_hold() {
    let input =
        r#"{"input": "Hello world", "model": "gpt-4.1", "streAm": true, "tools": [{"type": "web_search_preview"}]}"#;
    let choice =
        r#"{"input": [{"content": "x", "role": "user"}], "model": "gpt-5", "tool_choice": "auto", "top_ktools": []}"#;
    for dialect in properties::DIALECTS {
        for found in [input, choice] {
            properties::splice(dialect, found.as_bytes());
            properties::request(dialect, found.as_bytes());
        }
    }
}

#[test]
fn bodies_of_bedrock_are_read_or_named_as_errors() {
    let message = (0..4_u8, prop::collection::vec(any::<u8>(), 0..40)).prop_map(|(name, payload)| {
        let headers = [(["a", ":event-type", "b", "c"][usize::from(name)], HeaderValue::Text("chunk"))];
        encode(&headers, &payload).expect("it is short")
    });
    let messages = (prop::collection::vec(message, 0..6), mutations()).prop_map(|(messages, mutations)| {
        let whole = messages.concat();
        apply(&whole, &mutations, std::slice::from_ref(&whole))
    });
    run("event streams", (messages, any::<u64>()), |(bytes, seed)| bedrock::event_stream(bytes, *seed));
    let lines = prop::collection::vec((prop::sample::select(BEDROCK.to_vec()), mutations()), 0..8);
    let lines = lines.prop_map(|lines| {
        let lines = lines.into_iter().map(|(line, mutations)| apply(line.as_bytes(), &mutations, &[line.into()]));
        lines.collect::<Vec<_>>().join(&b'\n')
    });
    run("payloads of Bedrock", (lines, any::<u64>()), |(bytes, seed)| {
        bounded(|| bedrock::payloads(bytes, *seed));
    });
    run("requests to Converse", cases(Dialect::Anthropic), |case| {
        let bytes = case.bytes(&corpus().requests);
        bounded(|| bedrock::request(&bytes));
    });
}

const BEDROCK: &[&str] = &[
    "{\"role\":\"assistant\"}",
    "{\"contentBlockIndex\":0,\"delta\":{\"text\":\"hi\"},\"p\":\"ab\"}",
    "{\"contentBlockIndex\":1,\"delta\":{\"reasoningContent\":{\"text\":\"so\"}}}",
    "{\"contentBlockIndex\":1,\"delta\":{\"reasoningContent\":{\"redactedContent\":\"YWJj\"}}}",
    "{\"contentBlockIndex\":2,\"start\":{\"toolUse\":{\"toolUseId\":\"t\",\"name\":\"f\"}}}",
    "{\"contentBlockIndex\":2,\"delta\":{\"toolUse\":{\"input\":\"{}\"}}}",
    "{\"contentBlockIndex\":3,\"delta\":{\"citation\":{\"title\":\"t\",\"location\":{\"web\":{\"url\":\"u\"}}}}}",
    "{\"contentBlockIndex\":2}",
    "{\"stopReason\":\"end_turn\",\"additionalModelResponseFields\":{\"stop_sequence\":\"x\"}}",
    "{\"usage\":{\"inputTokens\":1,\"outputTokens\":2,\"cacheDetails\":[{\"ttl\":\"1h\",\"inputTokens\":1}]}}",
    "{\"bytes\":\"eyJ0eXBlIjoibWVzc2FnZV9zdG9wIn0=\",\"p\":\"abc\"}",
    "{\"message\":\"Too many tokens\"}",
    "{\"output\":{\"message\":{\"content\":[{\"text\":\"a\"},{\"citationsContent\":{\"content\":[{\"text\":\"b\"}],\"citations\":[{}]}}]}}}",
];
