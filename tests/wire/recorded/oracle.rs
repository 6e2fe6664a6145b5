//! The vendors' own SDKs' readings of the recorded answers (`oracle.jsonl`), and the comparison of the crate's reading
//! with them.

use std::{
    collections::{BTreeMap, HashMap},
    path::{Path, PathBuf},
};

use serde::Deserialize;
use serde_json::Value;
use steadfast::{
    Dialect, ErrorKind, LlmError,
    chat::{Message, Part},
};

use crate::{
    recorded::{
        exceptions,
        expected::{self, Said},
        mapping::{Counted, count, finish},
    },
    recordings::{Exchange, Recordings},
};

/// An SDK's reading of one answer.
#[derive(Deserialize)]
pub(crate) struct Reading {
    id: String,
    #[serde(default)]
    pub(crate) text: String,
    #[serde(default)]
    pub(crate) reasoning: String,
    #[serde(default)]
    pub(crate) refusal: String,
    #[serde(default)]
    pub(crate) tool_calls: Vec<Called>,
    #[serde(default)]
    pub(crate) finish_reason: Option<String>,
    /// Why a response is incomplete.
    #[serde(default)]
    incomplete_reason: Option<String>,
    #[serde(default)]
    pub(crate) usage: Option<Value>,
    #[serde(default)]
    pub(crate) model: Option<String>,
    #[serde(default)]
    pub(crate) response_id: Option<String>,
    #[serde(default)]
    pub(crate) error_class: Option<String>,
    #[serde(default)]
    pub(crate) error_status: Option<u16>,
    #[serde(default)]
    pub(crate) error_type: Option<Value>,
    #[serde(default)]
    pub(crate) error_code: Option<Value>,
    #[serde(default)]
    pub(crate) error_message: Option<String>,
    #[serde(default)]
    pub(crate) skipped: Option<String>,
    /// Why Gemini refused the prompt.
    #[serde(default)]
    block_reason: Option<String>,
    /// The view of a Responses stream's items, where its last response has none of them.
    #[serde(default)]
    items_view: Option<ItemsView>,
}

#[derive(Deserialize)]
struct ItemsView {
    text: String,
    reasoning: String,
    refusal: String,
    tool_calls: Vec<Called>,
}

#[derive(Debug, Deserialize)]
pub(crate) struct Called {
    pub(crate) id: Option<String>,
    pub(crate) name: Option<String>,
    /// With its keys in order and without spaces; as it came, where it is no JSON.
    pub(crate) arguments: String,
}

/// The readings of a folder, by the ids of their exchanges.
pub(crate) type Readings = HashMap<String, Reading>;

/// The file of a folder's readings, or the one that `STEADFAST_ORACLE` names.
pub(crate) fn file(folder: &Path) -> Option<PathBuf> {
    let beside = folder.join("oracle.jsonl");
    std::env::var_os("STEADFAST_ORACLE").map(PathBuf::from).or_else(|| beside.is_file().then_some(beside))
}

/// Reads the readings of these recordings. The error names the file and the line that is wrong: one that is no JSON,
/// and one that has no exchange.
pub(crate) fn read(file: &Path, recordings: &Recordings) -> Result<Readings, String> {
    let text = std::fs::read_to_string(file).map_err(|error| format!("{}: {error}", file.display()))?;
    let known: std::collections::HashSet<&str> = recordings
        .exchanges
        .iter()
        .map(|exchange| exchange.id.as_str())
        .chain(recordings.foreign.iter().map(|foreign| foreign.id.as_str()))
        .collect();
    let mut readings = Readings::new();
    for (number, line) in text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty()) {
        let wrong = |what: String| format!("{}:{}: {what}", file.display(), number + 1);
        let reading: Reading = serde_json::from_str(line)
            .or_else(|error| serde_json::from_str(&without_nan(line)).map_err(|_| error))
            .map_err(|error| wrong(format!("this is no reading: {error}")))?;
        let mut reading = reading;
        if let Some(ItemsView { text, reasoning, refusal, tool_calls }) = reading.items_view.take() {
            (reading.text, reading.reasoning) = (text, reasoning);
            (reading.refusal, reading.tool_calls) = (refusal, tool_calls);
        }
        if !known.contains(reading.id.as_str()) {
            return Err(wrong(format!("there is no exchange {:?}", reading.id)));
        }
        readings.insert(reading.id.clone(), reading);
    }
    Ok(readings)
}

/// A line of Python's, which has numbers that JSON has not.
fn without_nan(line: &str) -> String {
    ["-Infinity", "Infinity", "NaN"].into_iter().fold(line.to_owned(), |line, word| {
        [": ", ", ", "["]
            .into_iter()
            .fold(line, |line, before| line.replace(&[before, word].concat(), &[before, "null"].concat()))
    })
}

/// The result of a comparison.
#[derive(Debug)]
pub(crate) enum Verdict {
    Equal,
    /// All that differs is one of the exceptions, by these rules.
    Excepted(Vec<&'static str>),
    Different(Vec<String>),
    /// The SDK refused what a server had sent, or was not asked: the recording alone counts.
    Silent,
}

/// Something that differs.
pub(crate) struct Difference {
    /// The field that differs, such as `usage`.
    pub(crate) what: &'static str,
    pub(crate) sdk: String,
    pub(crate) ours: String,
}

/// Compares the crate's reading with the SDK's, field by field.
pub(crate) fn compare(exchange: &Exchange, reading: &Reading, came: Result<&Message, &LlmError>) -> Verdict {
    // The SDK fell over what it was to read: a class that no API has, and no words of the provider's.
    let class = reading.error_class.as_deref();
    let fell = class.is_some_and(|class| class.starts_with("builtins.") || class.starts_with("json."));
    if fell || reading.skipped.is_some() {
        return Verdict::Silent;
    }
    let mut differences = Vec::new();
    match (class, came) {
        (None, Ok(message)) => answers(exchange, reading, message, &mut differences),
        // No SDK knows an answer that says nothing as a failure.
        (None, Err(error)) if reading.is_silent() || reading.block_reason.is_some() => {
            let expected = match reading.block_reason {
                Some(_) => Some(ErrorKind::ContentPolicy),
                None => {
                    let counted = reading.counted().and_then(|counted| counted.output);
                    let has_tokens = counted.is_some_and(|output| output > 0) || !reading.reasoning.is_empty();
                    expected::silence(reading.finish(exchange.dialect).as_ref(), has_tokens, exchange)
                }
            };
            differ(&mut differences, "silence", &expected, &Some(error.kind()));
        }
        (None, Err(error)) => {
            let ours = format!("{:?}: {error}", error.kind());
            differences.push(Difference { what: "outcome", sdk: "an answer".to_owned(), ours });
        }
        (Some(class), Ok(_)) => {
            differences.push(Difference { what: "outcome", sdk: class.to_owned(), ours: "an answer".to_owned() });
        }
        (Some(class), Err(error)) => errors(exchange, reading, class, error, &mut differences),
    }
    if differences.is_empty() {
        return Verdict::Equal;
    }
    let rules: Vec<_> = differences.iter().map(|difference| exceptions::rule(exchange, reading, difference)).collect();
    if rules.iter().all(Option::is_some) {
        let mut rules: Vec<&'static str> = rules.into_iter().flatten().collect();
        rules.sort_unstable();
        rules.dedup();
        return Verdict::Excepted(rules);
    }
    let told = differences.iter().zip(rules).filter(|(_, rule)| rule.is_none()).map(|(difference, _)| {
        let short = |text: &str| text.chars().take(160).collect::<String>();
        format!("{}: the SDK has {}, we {}", difference.what, short(&difference.sdk), short(&difference.ours))
    });
    Verdict::Different(told.collect())
}

impl Reading {
    fn is_silent(&self) -> bool {
        self.text.is_empty() && self.refusal.is_empty() && !self.calls()
    }

    /// Returns whether it has a call, which has a name.
    fn calls(&self) -> bool {
        self.tool_calls.iter().any(|call| call.name.as_deref().is_some_and(|name| !name.is_empty()))
    }

    fn finish(&self, dialect: Dialect) -> Option<steadfast::chat::FinishReason> {
        let word = self.incomplete_reason.as_deref().or(self.finish_reason.as_deref())?;
        finish(dialect, word, !self.refusal.is_empty(), self.calls())
    }

    /// The counts as the SDK has them.
    fn counted(&self) -> Option<Counted> {
        let usage = self.usage.as_ref().filter(|usage| usage.is_object())?;
        Some(Counted {
            input: count(&usage["input"]),
            output: count(&usage["output"]),
            cached: count(&usage["cached"]),
            cache_write: count(&usage["cache_write"]),
            reasoning: count(&usage["reasoning"]),
            total: count(&usage["total"]),
            tool_prompt: count(&usage["tool_use_prompt"]),
            audio: None,
        })
    }
}

fn differ<T: std::fmt::Debug + PartialEq>(differences: &mut Vec<Difference>, what: &'static str, sdk: &T, ours: &T) {
    if sdk != ours {
        differences.push(Difference { what, sdk: format!("{sdk:?}"), ours: format!("{ours:?}") });
    }
}

fn answers(exchange: &Exchange, reading: &Reading, message: &Message, differences: &mut Vec<Difference>) {
    let ours = Said::of(message);
    differ(differences, "text", &reading.text, &ours.text);
    // The SDK leaves the paragraphs of a thought apart.
    let thought = |text: &str| match exchange.dialect {
        Dialect::Responses => text.replace("\n\n", ""),
        _ => text.to_owned(),
    };
    differ(differences, "reasoning", &thought(&reading.reasoning), &thought(&ours.thought));
    differ(differences, "refusal", &reading.refusal, &ours.refusal);
    let calls = |id: Option<&str>, name: &str, arguments: &str| {
        let canonical = serde_json::from_str::<Value>(if arguments.trim().is_empty() { "{}" } else { arguments })
            .unwrap_or_else(|_| arguments.into());
        (id.filter(|id| !id.is_empty()).map(str::to_owned), name.to_owned(), canonical)
    };
    // A call without a function's name is none, whatever the SDK makes of a server's empty `function_call`.
    let named = reading.tool_calls.iter().filter(|call| call.name.as_deref().is_some_and(|name| !name.is_empty()));
    let theirs: Vec<_> = named
        .map(|call| calls(call.id.as_deref(), call.name.as_deref().unwrap_or_default(), &call.arguments))
        .collect();
    let own = message.content.iter().enumerate().filter_map(|(place, part)| match part {
        Part::ToolCall(call) => Some((call, message.content.get(place + 1))),
        _ => None,
    });
    let mut own: Vec<_> = own
        .map(|(call, beside)| match beside.filter(|beside| is_custom(beside)) {
            Some(_) => calls(Some(&call.id), &call.name, &free_text(&call.arguments)),
            None => calls(Some(&call.id), &call.name, &call.arguments),
        })
        .collect();
    // An id that the provider left out is the crate's own.
    own.iter_mut().zip(&theirs).filter(|(_, theirs)| theirs.0.is_none()).for_each(|(own, _)| own.0 = None);
    differ(differences, "tool_calls", &theirs, &own);
    // The recording has the count if the SDK says nothing, or does not know a server's name for it.
    let (stop, counted) = expected::end(exchange);
    differ(differences, "finish", &reading.finish(exchange.dialect).or(stop), &message.finish);
    let usage = match (reading.counted(), counted) {
        (Some(sdk), recorded) => Some(sdk.or(recorded.unwrap_or_default())),
        (None, recorded) => recorded,
    };
    differ(differences, "usage", &usage.map(|usage| usage.meaning(exchange.dialect)), &ours.usage);
    for (what, sdk, ours) in [("model", &reading.model, &ours.model), ("id", &reading.response_id, &ours.id)] {
        if sdk.as_deref().is_some_and(|name| !name.is_empty()) {
            differ(differences, what, sdk, ours);
        }
    }
}

/// Returns true if the fields beside a call say that its tool takes free text. The neutral form has that as an
/// argument.
fn is_custom(beside: &Part) -> bool {
    match beside {
        Part::Extra { extra, .. } => {
            extra.fields.value().is_ok_and(|fields| fields["item"]["type"] == "custom_tool_call")
        }
        _ => false,
    }
}

fn free_text(arguments: &str) -> String {
    let arguments: Value = serde_json::from_str(arguments).unwrap_or_default();
    arguments["input"].as_str().unwrap_or_default().to_owned()
}

/// The kinds that an SDK's class of errors may stand for: the class is no more than the status.
fn kinds(class: &str) -> &'static [ErrorKind] {
    use ErrorKind as K;
    match class.rsplit('.').next().unwrap_or_default() {
        "BadRequestError" => &[
            K::InvalidRequest,
            K::ContextLength,
            K::ContentPolicy,
            K::NotFound,
            K::TooLarge,
            K::Auth,
            K::QuotaExhausted,
            K::Malformed,
            K::Server,
        ],
        "AuthenticationError" => &[K::Auth],
        "PermissionDeniedError" => &[K::Auth, K::ContentPolicy, K::QuotaExhausted, K::NotFound, K::Blocked],
        "NotFoundError" => &[K::NotFound],
        "ConflictError" => &[K::Server, K::InvalidRequest],
        "RequestTooLargeError" => &[K::TooLarge, K::ContextLength],
        "UnprocessableEntityError" => {
            &[K::InvalidRequest, K::ContextLength, K::ContentPolicy, K::NotFound, K::TooLarge]
        }
        "RateLimitError" => &[K::RateLimited, K::QuotaExhausted, K::Overloaded, K::TooLarge],
        "OverloadedError" | "ServiceUnavailableError" => &[K::Overloaded],
        "DeadlineExceededError" => &[K::Timeout],
        "InternalServerError" | "ServerError" => &[K::Server, K::Overloaded, K::Timeout, K::ContextLength],
        // Of any status.
        _ => &[
            K::InvalidRequest,
            K::ContextLength,
            K::ContentPolicy,
            K::NotFound,
            K::TooLarge,
            K::Auth,
            K::QuotaExhausted,
            K::RateLimited,
            K::Overloaded,
            K::Server,
            K::Timeout,
            K::Malformed,
            K::StreamBroken,
            K::Blocked,
        ],
    }
}

/// Returns whether the error body has a more exact name within that no SDK reads: Azure's `innererror`, Anthropic's
/// `details`, and a router's `metadata.raw`.
fn is_within(exchange: &Exchange, code: Option<&str>) -> bool {
    let body: Value = serde_json::from_slice(&exchange.body).unwrap_or_default();
    let error = &body["error"];
    let raw = error["metadata"]["raw"].as_str().and_then(|raw| serde_json::from_str::<Value>(raw).ok());
    let raw = raw.unwrap_or_default();
    let places = [&error["innererror"]["code"], &error["details"]["error_code"]];
    let behind = [&raw["code"], &raw["type"], &raw["error"]["code"], &raw["error"]["type"], &raw["error"]["status"]];
    code.is_some() && places.iter().chain(&behind).any(|place| place.as_str() == code)
}

fn errors(exchange: &Exchange, reading: &Reading, class: &str, error: &LlmError, differences: &mut Vec<Difference>) {
    let status = reading.error_status.filter(|_| !exchange.status.is_success());
    if status.is_some() {
        differ(differences, "status", &status, &error.status().map(|status| status.as_u16()));
    }
    // The words of an error name the cause that broke a stream in its middle.
    let broken = exchange.status.is_success() && error.kind() == ErrorKind::StreamBroken;
    if !broken && !kinds(class).contains(&error.kind()) {
        let ours = format!("{:?}", error.kind());
        differences.push(Difference { what: "kind", sdk: class.to_owned(), ours });
    }
    let named = |value: &Option<Value>| match value {
        Some(Value::String(text)) if !text.is_empty() => Some(text.clone()),
        Some(Value::Number(number)) => Some(number.to_string()),
        _ => None,
    };
    // The more exact name of the two is kept, and Google's status before its number.
    let names = [named(&reading.error_code), named(&reading.error_type)];
    let ours = error.code().map(str::to_owned);
    if names.iter().any(Option::is_some) && !names.contains(&ours) && !is_within(exchange, error.code()) {
        differences.push(Difference { what: "code", sdk: format!("{names:?}"), ours: format!("{ours:?}") });
    }
    let theirs = reading.error_message.as_deref().unwrap_or_default();
    // The SDK's own words, where it found none of the provider's.
    let is_own = theirs.is_empty() || theirs.starts_with("Error code: ");
    if !is_own && !same_words(error.message(), theirs) {
        let (sdk, ours) = (theirs.to_owned(), error.message().to_owned());
        differences.push(Difference { what: "message", sdk, ours });
    }
}

/// The number of characters of a message that the readings have.
const LONGEST: usize = 300;

/// Returns whether a message has the provider's words: of a long one the first, without keys, and in front of the text
/// that a router hides behind its own.
fn same_words(ours: &str, theirs: &str) -> bool {
    // The file has the first characters of a long one too.
    let cut = theirs.chars().count() >= LONGEST;
    let (ours, theirs): (Vec<&str>, Vec<&str>) =
        (ours.split_whitespace().collect(), theirs.split_whitespace().collect());
    for (place, word) in ours.iter().enumerate() {
        let last = place + 1 == theirs.len();
        match theirs.get(place) {
            _ if *word == "..." && place + 1 == ours.len() => return true,
            Some(their) if word == their || *word == "[key]" => {}
            Some(their) if last && word.strip_suffix(':') == Some(their) => return true,
            Some(their) if last && cut => return word.starts_with(their),
            None if cut => return true,
            _ => return false,
        }
    }
    ours.len() == theirs.len()
}

/// The result of comparing a folder.
#[derive(Default)]
pub(crate) struct Sum {
    pub(crate) compared: usize,
    pub(crate) equal: usize,
    pub(crate) excepted: usize,
    /// Answers of which the SDK says nothing.
    pub(crate) silent: usize,
    /// Exchanges that have no line.
    pub(crate) without: usize,
    pub(crate) rules: BTreeMap<&'static str, usize>,
}

impl Sum {
    pub(crate) fn add(&mut self, exchange: &Exchange, verdict: Option<Verdict>) {
        match verdict {
            None => self.without += 1,
            Some(Verdict::Silent) => self.silent += 1,
            Some(Verdict::Equal) => (self.compared, self.equal) = (self.compared + 1, self.equal + 1),
            Some(Verdict::Excepted(rules)) => {
                (self.compared, self.excepted) = (self.compared + 1, self.excepted + 1);
                rules.into_iter().for_each(|rule| *self.rules.entry(rule).or_default() += 1);
            }
            Some(Verdict::Different(what)) => {
                self.compared += 1;
                what.iter().for_each(|what| println!("{}: {what}", exchange.id));
            }
        }
    }
}
