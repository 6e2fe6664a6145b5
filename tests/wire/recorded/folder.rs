//! A folder of recordings judged as a whole, each exchange counted as what it is.

use std::{collections::BTreeMap, sync::Arc};

use steadfast::providers::transport::HttpClient;

use crate::{
    recorded::{
        Sent, Verdict, expected, judge,
        oracle::{Readings, Sum},
        server::Server,
    },
    recordings::Recordings,
};

/// The number of exchanges that are judged at once: of many more connections than the 128 that may wait to be accepted,
/// the system resets some.
const AT_ONCE: usize = 64;

#[derive(Default)]
struct Row {
    exchanges: usize,
    decoded: usize,
    equal: usize,
    identical: usize,
}

/// The result of a folder.
pub(crate) struct Judged {
    /// The exchanges that the crate has a dialect for, and how many of them are read without loss.
    known: Row,
    /// The number of them whose request can be encoded again.
    compared: usize,
    oracle: Option<Sum>,
}

/// Judges all exchanges of a folder, and prints what came of it: differences, a table, what was not compared and why,
/// and the two lines for which this is run.
pub(crate) async fn judged(recordings: Recordings, readings: Option<Readings>) -> Judged {
    let Recordings { exchanges, foreign } = recordings;
    let (exchanges, readings) = (Arc::new(exchanges), Arc::new(readings));
    let mut verdicts = verdicts(&exchanges, &readings).await;
    let mut table: BTreeMap<String, Row> = BTreeMap::new();
    let (mut known, mut oracle) = (Row::default(), readings.is_some().then(Sum::default));
    let mut what: BTreeMap<&str, usize> = BTreeMap::new();
    let mut compared = 0;
    for (n, exchange) in exchanges.iter().enumerate() {
        let row = table.entry(exchange.kind.clone()).or_default();
        row.exchanges += 1;
        known.exchanges += 1;
        let mut is = |name| *what.entry(name).or_default() += 1;
        if exchange.request.body.is_some() && !exchange.names_model() {
            is("no model in the request");
        }
        if expected::choices(exchange) > 1 {
            is("several choices, of which the first is the answer");
        }
        let Some(verdict) = verdicts.remove(&n) else { continue };
        match verdict.request {
            Sent::Unrecorded => is("no request"),
            Sent::Refused => is("refused before it is sent"),
            Sent::Compared => compared += 1,
        }
        let equal = verdict.request == Sent::Compared && verdict.not_equal.is_empty();
        for (good, count, all) in [
            (verdict.not_decoded.is_empty(), &mut row.decoded, &mut known.decoded),
            (equal, &mut row.equal, &mut known.equal),
            (verdict.not_identical.is_empty(), &mut row.identical, &mut known.identical),
        ] {
            *count += usize::from(good);
            *all += usize::from(good);
        }
        for what in [&verdict.not_decoded, &verdict.not_equal, &verdict.not_identical].into_iter().flatten() {
            println!("{}: {what}", exchange.id);
        }
        if let Some(sum) = &mut oracle {
            sum.add(exchange, verdict.oracle);
        }
    }
    println!(
        "{:18} {:>9} {:>8} {:>17} {:>27}",
        "kind", "exchanges", "decoded", "equal in meaning", "byte-identical pass-through"
    );
    for (kind, row) in &table {
        println!("{kind:18} {:>9} {:>8} {:>17} {:>27}", row.exchanges, row.decoded, row.equal, row.identical);
    }
    let mut kinds: BTreeMap<&str, usize> = BTreeMap::new();
    foreign.iter().for_each(|foreign| *kinds.entry(&foreign.kind).or_default() += 1);
    for (kind, count) in kinds {
        println!("{kind:18} {count:>9} of an unknown dialect");
    }
    what.iter().for_each(|(what, count)| println!("{count:>6} {what}"));
    if let Some(sum) = &oracle {
        println!("{:>6} of which the SDK says nothing: the recording alone counts", sum.silent);
        println!("{:>6} without a line of the oracle", sum.without);
        sum.rules.iter().for_each(|(rule, count)| println!("{count:>6} excepted: {rule}"));
    }
    println!(
        "recorded: {} exchanges, {} decoded, {} equal, {} byte-identical",
        known.exchanges + foreign.len(),
        known.decoded,
        known.equal,
        known.identical
    );
    if let Some(Sum { compared, equal, excepted, .. }) = &oracle {
        println!("oracle: {compared} compared, {equal} equal, {excepted} excepted");
    }
    Judged { known, compared, oracle }
}

async fn verdicts(
    exchanges: &Arc<Vec<crate::recorded::Exchange>>,
    readings: &Arc<Option<Readings>>,
) -> BTreeMap<usize, Verdict> {
    let server = Arc::new(Server::start(exchanges.clone()).await);
    let client = HttpClient::new().no_proxy();
    let mut judged = tokio::task::JoinSet::new();
    let mut verdicts = BTreeMap::new();
    let mut waiting = 0..exchanges.len();
    loop {
        while judged.len() < AT_ONCE
            && let Some(n) = waiting.next()
        {
            let (exchanges, readings) = (exchanges.clone(), readings.clone());
            let (server, client) = (server.clone(), client.clone());
            judged.spawn(async move {
                let exchange = &exchanges[n];
                let reading = readings.as_ref().as_ref().and_then(|readings| readings.get(&exchange.id));
                (n, judge(exchange, reading, n, &server, &client).await)
            });
        }
        match judged.join_next().await {
            Some(Ok((n, verdict))) => {
                verdicts.insert(n, verdict);
            }
            Some(Err(error)) => println!("panicked: {error}"),
            None => return verdicts,
        }
    }
}

impl Judged {
    /// Holds the folder to what is promised: where its exchanges have been `seen` here, that nothing differs which is
    /// not excepted.
    pub(crate) fn assert(&self, seen: bool) {
        let nearly = |count: usize, of: usize| count * 1000 >= of * 995;
        let enough = |count: usize, of: usize| if seen { count == of } else { nearly(count, of) };
        let all = self.known.exchanges;
        assert!(enough(self.known.decoded, all), "every answer is read without loss");
        assert!(enough(self.known.identical, all), "bytes go through as they are");
        assert!(self.known.equal * 100 >= self.compared * 99, "requests encode again to the same meaning");
        if let Some(sum) = &self.oracle {
            assert!(!seen || sum.without == 0, "every exchange has its reading");
            assert!(!seen || nearly(sum.equal, sum.compared), "what is read is what the vendor's SDK reads");
            assert!(enough(sum.equal + sum.excepted, sum.compared), "an exception has a rule with its reason");
        }
    }
}

/// A folder of its own for a test, with these files.
#[cfg(test)]
fn with(name: &str, files: &[(&str, &str)]) -> std::path::PathBuf {
    let folder = std::path::Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("recorded-{name}"));
    let _absent = std::fs::remove_dir_all(&folder);
    for (file, text) in files {
        let file = folder.join(file);
        std::fs::create_dir_all(file.parent().expect("a folder")).expect("a temporary folder");
        std::fs::write(file, text).expect("a temporary file");
    }
    folder
}

#[cfg(test)]
const GOOD: &str = r#"{"id": "a", "provider": "openai", "api": "chat.completions", "stream": false, "source": {},
    "request": {"method": "POST", "path": "/v1/chat/completions", "headers": {}, "body": null},
    "response": {"status": 200, "headers": {}, "sse": null,
        "body": {"id": "c", "model": "m", "choices": [{"index": 0, "message": {"content": "hi"}, "finish_reason": "stop"}]}}}"#;

#[test]
fn what_is_no_recording_is_named_by_file_and_line() {
    for (name, text, line) in [
        ("no-json", "{\n  \"id\": nothing\n}", ":2: this is no recording"),
        ("cut", "{\n\"id\": \"a\",\n", ":3: this is no recording"),
        ("another-form", "{\n\"id\": 7\n}", ":2: this is no recording"),
        ("status", &GOOD.replace("200", "2000"), ":1: 2000 is no status of HTTP"),
    ] {
        let folder = with(name, &[("openai/good.json", GOOD), ("openai/wrong.json", text)]);
        let error = Recordings::read(&folder).err().expect("it is refused");
        assert!(error.contains(&format!("wrong.json{line}")), "{error}");
    }
    let error = Recordings::read(std::path::Path::new("/no/such/folder")).err().expect("it is refused");
    assert!(error.starts_with("/no/such/folder: "), "{error}");
}

#[test]
fn a_reading_that_is_none_or_has_no_exchange_is_named_by_file_and_line() {
    let reading = r#"{"id": "a", "text": "hi", "tool_calls": [], "finish_reason": "stop"}"#;
    for (name, readings, line) in [
        ("reading-no-json", format!("{reading}\n\n{{\"id\": nothing}}\n"), ":3: this is no reading"),
        (
            "reading-alone",
            format!("{reading}\n{}\n", reading.replace("\"a\"", "\"b\"")),
            ":2: there is no exchange \"b\"",
        ),
    ] {
        let folder = with(name, &[("openai/good.json", GOOD), ("oracle.jsonl", &readings)]);
        let recordings = Recordings::read(&folder).expect("they are recordings");
        let error =
            crate::recorded::oracle::read(&folder.join("oracle.jsonl"), &recordings).err().expect("it is refused");
        assert!(error.contains(&format!("oracle.jsonl{line}")), "{error}");
    }
}

#[tokio::test]
async fn what_differs_from_the_oracle_is_told() {
    let line = |text: &str, finish: &str| {
        format!(
            r#"{{"id": "a", "text": "{text}", "tool_calls": [], "finish_reason": "{finish}", "model": "m", "response_id": "c"}}"#
        )
    };
    for (name, reading, equal) in [
        ("same", line("hi", "stop"), true),
        ("other-text", line("hello", "stop"), false),
        ("other-finish", line("hi", "length"), false),
        ("an-error", line("hi", "stop").replace("}", r#", "error_class": "openai.NotFoundError"}"#), false),
    ] {
        let folder = with(name, &[("openai/good.json", GOOD), ("oracle.jsonl", &reading)]);
        let recordings = Recordings::read(&folder).expect("they are recordings");
        let readings =
            crate::recorded::oracle::read(&folder.join("oracle.jsonl"), &recordings).expect("they are readings");
        let judged = judged(recordings, Some(readings)).await;
        let sum = judged.oracle.expect("there is an oracle");
        assert_eq!((sum.compared, sum.equal, sum.excepted), (1, usize::from(equal), 0), "{name}");
        assert_eq!(
            (judged.known.decoded, judged.known.equal, judged.compared),
            (1, 0, 0),
            "no request is no equal one"
        );
    }
}
