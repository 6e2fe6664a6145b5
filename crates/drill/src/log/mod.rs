//! A gateway's own log, as a drill.
//!
//! A [`RequestLog`] has the requests of a night as they ended: [`Drill::replay`](crate::Drill::replay) runs them
//! against today's configuration.
//!
//! - Each request arrives at its own time, with its feature, key and session, as a stream or not.
//! - A call that the log has fares as it did: with its failure (`faults.rs` has the table) or its answer, after as
//!   long.
//! - A call that it does not have, because today's configuration asks another tier, fares like one of that tier's calls
//!   in the ten seconds around, drawn by chance; without any, like the last before. A tier that the log never saw is
//!   well.
//! - A tier that failed a lost request fails it again. One that was out for a request with less than a full answer is
//!   out for it again, without a proof for its circuit: nobody knows how it would have answered.
//!
//! So the same configuration loses the same requests. Where the jitter of a circuit's pause decides who is the first to
//! be served again, it may be a few of each hundred more.
//!
//! Each form is read by lines (`line.rs`), and memory is linear in the requests. `outline.rs` draws the outages, for
//! the report's timeline.

mod faults;
mod line;
mod outline;
mod recording;

use std::{
    error::Error,
    fmt,
    io::{self, BufRead},
    sync::Arc,
    time::Duration,
};

pub(crate) use self::{
    faults::BROKEN_AFTER,
    outline::recorded_report,
    recording::{RecordedCall, Recording},
};
use self::{
    line::{Entry, entry},
    recording::Assembly,
};
use crate::scenario::{Scenario, check::REQUESTS};
use steadfast_internal::wall_clock::rfc3339;

/// The requests of a log.
///
/// It reads the lines of `steadfast serve --log-format json`, and the answer of `GET /requests`, whole or a record a
/// line. Lines of both may be mixed, in any order.
#[derive(Clone)]
pub struct RequestLog {
    pub(crate) recording: Arc<Recording>,
    scenario: Scenario,
    notes: Vec<String>,
}

/// A log that cannot be replayed, and the remedy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogError(String);

/// The remedy for a log without requests.
const REMEDY: &str = "a replay takes the log of `steadfast serve --log-format json --log info`, or the answer of \
                      `GET /requests`";

impl RequestLog {
    /// Reads a log. `name` is its name in the report; only requests that arrived `from` and before `to` (both since
    /// 1970) are taken.
    ///
    /// # Errors
    ///
    /// The reader's, a log without a usable request, and one with more than a drill can have.
    pub fn read(
        name: &str,
        reader: impl BufRead,
        (from, to): (Option<Duration>, Option<Duration>),
    ) -> Result<Self, LogError> {
        let mut reading = Reading { from, to, ..Reading::default() };
        reading.read(reader).map_err(|error| LogError(format!("cannot read {name}: {error}")))?;
        if reading.assembly.len() as f64 > REQUESTS {
            let count = reading.assembly.len();
            let problem = format!("{name} has {count} requests, and a drill has at most {REQUESTS:.0}");
            return Err(LogError(format!("{problem}: take a part of it with --from and --to")));
        }
        if reading.assembly.len() == 0 {
            return Err(LogError(reading.nothing(name)));
        }
        let notes = reading.notes();
        let (recording, origin) = reading.assembly.finish();
        let scenario = outline::scenario(&recording, name, origin);
        Ok(Self { recording: recording.into(), scenario, notes })
    }

    /// Returns the number of requests.
    pub fn requests(&self) -> usize {
        self.recording.requests.len()
    }

    /// Returns sentences about the lines that were passed over.
    pub fn notes(&self) -> &[String] {
        &self.notes
    }

    /// Describes how fast a tier answers that the log does not have.
    pub(crate) fn usual(&self) -> String {
        let providers = self.scenario.file().providers;
        format!("with a first token after {:?} (p50), {:?} (p99)", providers.p50.0, providers.p99.0)
    }

    /// Returns the scenario: its duration and the outages of the tiers that `is_known`.
    pub(crate) fn scenario(&self, is_known: impl Fn(&str) -> bool) -> Scenario {
        self.scenario.clone().with_faults_at(is_known)
    }
}

/// The state of a reader.
#[derive(Debug, Default)]
struct Reading {
    from: Option<Duration>,
    to: Option<Duration>,
    assembly: Assembly,
    lines: u64,
    /// Lines about something else.
    others: u64,
    /// Requests outside of the time asked for, and the first and last arrival among these.
    outside: u64,
    span: Option<(Duration, Duration)>,
    /// Lines that cannot be used, and of the first its number and problem.
    unusable: u64,
    first: Option<(u64, String)>,
    /// True if the last line has no end.
    is_cut: bool,
}

impl Reading {
    fn read(&mut self, mut reader: impl BufRead) -> io::Result<()> {
        let mut line = Vec::new();
        while reader.read_until(b'\n', &mut line)? > 0 {
            self.lines += 1;
            // A document over many lines: of a program that indents.
            if self.lines == 1 && matches!(line.trim_ascii(), b"{" | b"[") {
                reader.read_to_end(&mut line)?;
            }
            let is_whole = line.ends_with(b"\n");
            let text = line.trim_ascii();
            let taken = match str::from_utf8(text) {
                _ if text.is_empty() => Ok(()),
                Ok(text) => self.take(text),
                Err(_) => Err("is no text".to_owned()),
            };
            match taken {
                Err(_) if !is_whole && self.lines > 1 => self.is_cut = true,
                Err(problem) => {
                    self.unusable += 1;
                    self.first.get_or_insert((self.lines, problem));
                }
                Ok(()) => {}
            }
            line.clear();
        }
        Ok(())
    }

    fn take(&mut self, text: &str) -> Result<(), String> {
        match entry(text)? {
            Entry::Request(request) => {
                let (at, from, to) = (request.at, self.from, self.to);
                if from.is_some_and(|from| at < from) || to.is_some_and(|to| at >= to) {
                    let (first, last) = self.span.get_or_insert((at, at));
                    (*first, *last) = ((*first).min(at), (*last).max(at));
                    self.outside += 1;
                } else {
                    self.assembly.add(*request);
                }
            }
            Entry::Check(check) => self.assembly.add_check(check),
            Entry::Other => self.others += 1,
            Entry::Records(records) => {
                for record in records {
                    self.take(record.get())?;
                }
            }
        }
        Ok(())
    }

    /// Returns sentences about what was passed over.
    fn notes(&self) -> Vec<String> {
        let mut notes = Vec::new();
        if self.others > 0 {
            notes.push(format!("{} about something else than a conversation's end: passed over", lines(self.others)));
        }
        if self.outside > 0 {
            let count =
                if self.outside == 1 { "1 request is".to_owned() } else { format!("{} requests are", self.outside) };
            notes.push(format!("{count} outside of the time asked for"));
        }
        if let Some((number, problem)) = &self.first {
            let which = if self.unusable == 1 { "" } else { "the first, " };
            notes.push(format!(
                "{} of another program or an older version: passed over; {which}line {number}, {problem}",
                lines(self.unusable)
            ));
        }
        if self.is_cut {
            notes.push(format!("line {}, the last, is cut: passed over", self.lines));
        }
        notes
    }

    /// Returns the reason for which there is no request, and the remedy.
    fn nothing(&self, name: &str) -> String {
        if let Some((first, last)) = self.span {
            let (first, last) = (rfc3339(first), rfc3339(last));
            return format!("no request of {name} arrived in the time asked for: they arrived from {first} to {last}");
        }
        let problem = match (&self.first, self.is_cut) {
            (Some((number, problem)), _) => format!("; line {number} {problem}"),
            (None, true) => "; its only line is cut".to_owned(),
            (None, false) if self.lines == 0 => "; it is empty".to_owned(),
            (None, false) => String::new(),
        };
        format!("{name} has no request that could be replayed{problem}: {REMEDY}")
    }
}

fn lines(count: u64) -> String {
    if count == 1 { "1 line is".to_owned() } else { format!("{count} lines are") }
}

impl fmt::Display for LogError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Error for LogError {}

impl fmt::Debug for RequestLog {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RequestLog").field("requests", &self.requests()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use super::*;

    const ANSWERED: &str = r#"{"timestamp":"2026-11-30T02:00:01.500000Z","level":"INFO","event":"request","outcome":"answered","tier":"a","stream":true,"degraded":false,"latency_ms":1500.0,"first_token_ms":700.0,"latency_by_tier":"a=700","target":"steadfast"}"#;
    const FAILED: &str = r#"{"timestamp":"2026-11-30T02:10:02Z","event":"request","outcome":"failed","kind":"server","failures":"a=server","failed_attempts":[{"attempt":1,"tier":"a","kind":"server","status":500,"latency_ms":300.0,"next":"stopped: no tier is left"}],"stream":false,"latency_ms":300.0,"latency_by_tier":"a=300","target":"steadfast"}"#;
    const OTHER: &str = r#"{"timestamp":"2026-11-30T02:00:00Z","event":"listening","address":"127.0.0.1:1"}"#;

    fn read(text: &str) -> Result<RequestLog, LogError> {
        RequestLog::read("a.log", text.as_bytes(), (None, None))
    }

    #[test]
    fn a_cut_line_and_strange_lines_are_passed_over_and_said() {
        let older = FAILED.replace(r#""latency_ms":300.0,"latency_by"#, r#""latency_by"#);
        let cut = &ANSWERED[..120];
        let text = format!("{ANSWERED}\n{OTHER}\n\n{FAILED}\n2026-11-30 INFO hello\n{older}\n{{\"level\":30}}\n{cut}");
        let log = read(&text).unwrap();
        assert_eq!(log.requests(), 2);
        assert_eq!(
            log.notes(),
            [
                "1 line is about something else than a conversation's end: passed over",
                "3 lines are of another program or an older version: passed over; the first, line 5, is no JSON",
                "line 8, the last, is cut: passed over",
            ]
        );
    }

    #[test]
    fn what_an_older_line_lacks_is_named() {
        for (field, line) in [
            ("latency_ms", FAILED.replace(r#""latency_ms":300.0,"latency_by"#, r#""latency_by"#)),
            ("timestamp", FAILED.replace("timestamp", "ts")),
            ("outcome", FAILED.replace("outcome", "status_text")),
            ("failed_attempts", FAILED.replace("failed_attempts", "attempts_failed")),
            ("event", FAILED.replace("\"event\"", "\"kind_of_line\"")),
            ("steps", r#"{"id":"sf-1","at_ms":5,"outcome":"failed","took_ms":3}"#.to_owned()),
            ("took_ms", r#"{"id":"sf-1","at_ms":5,"outcome":"failed","steps":[]}"#.to_owned()),
        ] {
            let error = read(&format!("{line}\n")).unwrap_err().to_string();
            assert!(error.contains(&format!("line 1 has no field `{field}`")), "{error}");
            assert!(error.contains("--log-format json"), "{error}");
        }
    }

    #[test]
    fn without_a_request_the_error_says_what_to_do() {
        for (text, said) in [
            ("", "it is empty"),
            (&format!("{OTHER}\n"), "a.log has no request that could be replayed:"),
            (&ANSWERED[..90], "line 1 is no whole JSON object"),
            ("2026-11-30T02:00:00Z  INFO steadfast: event=request\n", "line 1 is no JSON"),
            (r#"{"event":"request","latency_ms":"12"}"#, "line 1 is of another program"),
        ] {
            let error = read(text).unwrap_err().to_string();
            assert!(error.contains(said) && error.contains("GET /requests"), "{text}: {error}");
        }
    }

    #[test]
    fn a_part_of_the_night_is_by_arrival() {
        let text = format!("{FAILED}\n{ANSWERED}\n");
        let at = |minute| wall(&format!("2026-11-30T02:{minute}:00Z"));
        let part = |from, to| RequestLog::read("a.log", text.as_bytes(), (from, to));
        assert_eq!(part(None, Some(at("05"))).unwrap().requests(), 1);
        assert_eq!(part(Some(at("00")), None).unwrap().requests(), 2);
        assert_eq!(part(Some(at("05")), None).unwrap().notes(), ["1 request is outside of the time asked for"]);
        let error = part(Some(at("20")), None).unwrap_err().to_string();
        assert!(error.contains("from 2026-11-30T02:00:00Z to 2026-11-30T02:10:02Z"), "{error}");
    }

    fn wall(text: &str) -> Duration {
        steadfast_internal::wall_clock::parse_rfc3339(text).unwrap()
    }

    /// A reader that counts the bytes that are taken from it.
    struct Counted<'a>(&'a [u8], usize);

    impl Read for Counted<'_> {
        fn read(&mut self, room: &mut [u8]) -> io::Result<usize> {
            let read = self.0.read(room)?;
            self.1 += read;
            Ok(read)
        }
    }

    #[test]
    fn work_is_linear_in_the_lines() {
        for count in [200, 400] {
            let text = format!("{ANSWERED}\n{FAILED}\n").repeat(count);
            let mut reader = Counted(text.as_bytes(), 0);
            let log = RequestLog::read("a.log", io::BufReader::new(&mut reader), (None, None)).unwrap();
            assert_eq!((reader.1, log.requests()), (text.len(), 2 * count), "each byte is read once");
            let tiers = &log.recording.tiers;
            assert_eq!((tiers.len(), tiers[0].calls.len()), (1, 2 * count), "a tier and a call are kept once");
        }
    }
}
