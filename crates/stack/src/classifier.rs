//! Turns the file's failure settings into the classification table that the layers consult.

use http::StatusCode;

use super::{Config, OnError};
use steadfast::{
    Classifier, ErrorKind, LlmError,
    classify::{Class, Count, Failover},
};

/// Returns the table that decides which failures move on to the next tier and which count against a circuit.
///
/// The fallback and each tier's circuit breaker use this table. Without `fallback.on_error` it is the default table.
/// With the list, a failure that the list names moves on to the next tier and counts against the circuit; any other
/// failure stops the request at its first tier, and counts for nothing. At a further tier it is that tier's own fault
/// and moves on, unless the default table has it stop. Local refusals (an open circuit, a full bulkhead) keep their
/// default classification. So do failures that only some tiers can help with: a request that is too long moves on to
/// larger windows unless the list names its kind.
///
/// A status covers a failure's class, however another provider spells it:
///
/// - 429, 503 and 529 each cover every overload, whatever its status, including one inside a stream that began with
///   200;
/// - 429 covers every rate limit;
/// - 500, 502, 503 and 504 each cover every failure of the provider's own, by any status: 408, 409, 425, 498, 499 and
///   all from 500 on.
///
/// If the list has statuses, four failures move on that no list can name: a refused key, a used-up account, a page of
/// a server before the API, and a provider that rejects many callers' valid requests.
pub fn classifier(config: &Config) -> Classifier {
    match &config.fallback.on_error {
        None => Classifier::default(),
        Some(listed) => {
            let listed = OnErrorList::new(listed);
            Classifier::overridden(move |error, class| listed.class(error, class))
        }
    }
}

/// The failures that `on_error` lists.
struct OnErrorList {
    errors: Vec<OnError>,
    /// True if the list has at least one status.
    has_statuses: bool,
}

impl OnErrorList {
    fn new(errors: &[OnError]) -> Self {
        let has_statuses = errors.iter().any(|error| matches!(error, OnError::Status(_)));
        Self { errors: errors.to_vec(), has_statuses }
    }

    fn class(&self, error: &LlmError, mut class: Class) -> Class {
        let kind = error.kind();
        if kind.is_local() {
            return class;
        }
        let own_timeout = kind == ErrorKind::Timeout && status_of(error).is_none();
        let named = self.errors.iter().any(|error| match error {
            OnError::Kind(name) => name == kind.name(),
            OnError::OwnTimeout => own_timeout,
            OnError::Status(_) => false,
        });
        let by_status =
            |listed: &OnError| matches!(listed, OnError::Status(status) if stands_for(*status, kind, status_of(error)));
        if !named && !self.errors.iter().any(by_status) {
            return self.unlisted(error, class);
        }
        class.failover = match class.failover {
            Failover::LargerWindow | Failover::IfRouted if !named => class.failover,
            _ => Failover::Yes,
        };
        if class.circuit == Count::Neutral {
            class.circuit = Count::Failure;
        }
        class
    }

    /// Classifies a failure that is not listed: it stops a request that begins with it. Failures that are not the
    /// request's fault remain outages, because statuses cannot name them: they share theirs with callers' mistakes.
    fn unlisted(&self, error: &LlmError, mut class: Class) -> Class {
        let is_ours =
            matches!(error.kind(), ErrorKind::Auth | ErrorKind::QuotaExhausted | ErrorKind::Blocked) || error.is_page();
        class.failover = match class.failover {
            Failover::Yes if self.has_statuses && (is_ours || error.is_doubted()) => Failover::Yes,
            Failover::Yes => Failover::AfterAnother,
            Failover::SecondOpinion => Failover::No,
            other => other,
        };
        class.circuit = match class.circuit {
            Count::FailureInStorm | Count::LatchIfWorked | Count::Latch if self.has_statuses => class.circuit,
            Count::Failure | Count::FailureInStorm | Count::Latch | Count::LatchIfWorked => Count::Neutral,
            other => other,
        };
        class
    }
}

/// Returns whether a listed status covers a failure of this kind with its own status, if any.
fn stands_for(listed: u16, kind: ErrorKind, own: Option<u16>) -> bool {
    match own {
        Some(own) if own == listed => true,
        Some(_)
            if usual_statuses(kind).contains(&listed)
                && matches!(kind, ErrorKind::Overloaded | ErrorKind::RateLimited) =>
        {
            true
        }
        Some(_) => is_providers(kind) && OF_SERVERS.contains(&listed),
        // A proxy would have reported this status.
        None => usual_statuses(kind).contains(&listed),
    }
}

/// The statuses by which nearly every server and proxy reports a failure of its own. Each stands for all such failures.
const OF_SERVERS: [u16; 4] = [500, 502, 503, 504];

/// Returns whether a failure of this kind is the provider's own.
fn is_providers(kind: ErrorKind) -> bool {
    use ErrorKind::{Connect, EmptyAnswer, Malformed, Other, Overloaded, Server, StreamBroken, Timeout};
    matches!(kind, Connect | EmptyAnswer | Malformed | Other | Overloaded | Server | StreamBroken | Timeout)
}

/// Returns the error's HTTP status. An error inside a 200 has none.
fn status_of(error: &LlmError) -> Option<u16> {
    error.status().map(|status| status.as_u16()).filter(|status| *status >= 400)
}

/// Returns the usual statuses of a kind of failure.
fn usual_statuses(kind: ErrorKind) -> &'static [u16] {
    match kind {
        ErrorKind::RateLimited => &[429],
        ErrorKind::Overloaded => &[429, 503, 529],
        ErrorKind::Timeout => &[408, 504],
        ErrorKind::Connect => &[502, 503],
        ErrorKind::Server => &[500, 502, 520],
        ErrorKind::StreamBroken | ErrorKind::Malformed | ErrorKind::EmptyAnswer | ErrorKind::InvalidOutput => &[502],
        ErrorKind::QuotaExhausted => &[402, 429],
        ErrorKind::TooLarge => &[413],
        ErrorKind::InvalidRequest => &[400, 422],
        ErrorKind::ContextLength | ErrorKind::ContentPolicy => &[400],
        ErrorKind::Auth => &[401, 403],
        ErrorKind::NotFound => &[404],
        ErrorKind::Blocked => &[403],
        ErrorKind::Other => &[500],
        _ => &[],
    }
}

/// Explains in sentences which further failures the listed statuses cover.
pub(super) fn status_notes(config: &Config) -> Vec<String> {
    let status = |error: &OnError| if let OnError::Status(status) = error { Some(*status) } else { None };
    let listed: Vec<u16> = config.fallback.on_error.iter().flatten().filter_map(status).collect();
    if listed.is_empty() {
        return Vec::new();
    }
    let split = |statuses: &[u16]| -> (Vec<u16>, Vec<u16>) {
        statuses.iter().copied().partition(|status| listed.contains(status))
    };
    let stand = |there: &[u16]| format!("{} {}", among(there), if there.len() == 1 { "stands" } else { "stand" });
    let mut notes = Vec::new();
    let (overload, other) = split(usual_statuses(ErrorKind::Overloaded));
    if !overload.is_empty() {
        let with = if other.is_empty() { String::new() } else { format!("with {}, and ", among(&other)) };
        notes.push(format!("{} for every overload: {with}inside of a stream that began with 200", stand(&overload)));
    }
    let (failed, _) = split(&OF_SERVERS);
    if !failed.is_empty() {
        let stand = stand(&failed);
        notes.push(format!("{stand} for every status by which a server tells that it failed"));
    }
    notes.push(
        "no status need be listed for a refused key, a used-up account, a firewall's page, or good requests called wrong"
            .into(),
    );
    notes.extend(status_rows(&classifier(config)));
    notes
}

/// Returns the rows of the table of statuses: where each from 400 to 599 goes, if the body says no more.
fn status_rows(table: &Classifier) -> Vec<String> {
    let mut rows: [(&str, Vec<u16>); 4] =
        ["go on", "go on to a larger window", "go on behind another tier's failure", "fail"]
            .map(|fate| (fate, Vec::new()));
    for (number, status) in (400..=599).filter_map(|number| Some((number, StatusCode::from_u16(number).ok()?))) {
        let error = LlmError::new(ErrorKind::from_status(status), "").with_status(status);
        let row = match table.classify(&error).failover {
            Failover::Yes => 0,
            Failover::LargerWindow => 1,
            Failover::AfterAnother => 2,
            _ => 3,
        };
        rows[row].1.push(number);
    }
    let said =
        |(fate, statuses): &(&str, Vec<u16>)| (!statuses.is_empty()).then(|| format!("{} {fate}", ranges(statuses)));
    rows.iter().filter_map(said).collect()
}

/// `400, 404 to 406, 599`.
fn ranges(statuses: &[u16]) -> String {
    let runs = statuses.chunk_by(|one, next| one + 1 == *next);
    let words = runs.flat_map(|run| match run {
        [first, .., last] if run.len() > 2 => vec![format!("{first} to {last}")],
        few => few.iter().map(u16::to_string).collect(),
    });
    words.collect::<Vec<_>>().join(", ")
}

/// `429`, `429 and 503`, `429, 503 and 529`.
fn among(statuses: &[u16]) -> String {
    let words: Vec<String> = statuses.iter().map(u16::to_string).collect();
    match words.split_last() {
        Some((last, [])) => last.clone(),
        Some((last, others)) => format!("{} and {last}", others.join(", ")),
        None => String::new(),
    }
}

/// Returns sample failures of a kind that the file's table may treat differently: one without a status and, if the
/// table lists statuses, one for each usual status of the kind.
pub(super) fn samples(kind: ErrorKind, config: &Config) -> Vec<(Option<u16>, LlmError)> {
    let apart = |error: &OnError| matches!(error, OnError::Status(_) | OnError::OwnTimeout);
    let by_status = config.fallback.on_error.iter().flatten().any(apart);
    let statuses = if by_status { usual_statuses(kind) } else { &[] };
    let with =
        |status: &u16| Some((Some(*status), LlmError::new(kind, "").with_status(StatusCode::from_u16(*status).ok()?)));
    std::iter::once((None, LlmError::new(kind, ""))).chain(statuses.iter().filter_map(with)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Format;

    /// Classifies a failure, with or without a status, by a list.
    fn class(on_error: &str, kind: ErrorKind, status: Option<u16>) -> Class {
        let text = format!("tiers: [{{ name: main, provider: simulated }}]\nfallback: {{ on_error: {on_error} }}");
        let config = Config::from_str(&text, Format::Yaml).unwrap();
        let error = LlmError::new(kind, "");
        let error = match status {
            Some(status) => error.with_status(StatusCode::from_u16(status).unwrap()),
            None => error,
        };
        classifier(&config).classify(&error)
    }

    #[test]
    fn only_what_is_listed_goes_on_and_counts() {
        let list = "[429, 500, 502, 503, timeout]";
        for (kind, status, goes_on) in [
            (ErrorKind::RateLimited, Some(429), true),
            (ErrorKind::Server, Some(500), true),
            (ErrorKind::Server, Some(501), true),
            (ErrorKind::Server, Some(409), true),
            (ErrorKind::Server, Some(520), true),
            (ErrorKind::Overloaded, Some(503), true),
            (ErrorKind::Overloaded, Some(529), true),
            // Inside a stream that began with 200.
            (ErrorKind::Overloaded, Some(200), true),
            (ErrorKind::RateLimited, Some(200), true),
            // Provider-specific spellings: Groq's 498, a limit of Google's projects.
            (ErrorKind::Overloaded, Some(498), true),
            (ErrorKind::RateLimited, Some(403), true),
            (ErrorKind::Connect, None, true),
            (ErrorKind::StreamBroken, None, true),
            (ErrorKind::Timeout, None, true),
            (ErrorKind::Timeout, Some(504), true),
            (ErrorKind::Timeout, Some(408), true),
            (ErrorKind::Timeout, Some(499), true),
            (ErrorKind::NotFound, Some(404), false),
            (ErrorKind::TooLarge, Some(413), false),
        ] {
            let class = class(list, kind, status);
            let (failover, count) =
                if goes_on { (Failover::Yes, Count::Failure) } else { (Failover::AfterAnother, Count::Neutral) };
            let circuit = if class.circuit == Count::Success { Count::Neutral } else { class.circuit };
            assert_eq!((class.failover, circuit), (failover, count), "{kind} {status:?}");
        }
    }

    #[test]
    fn overload_is_a_class_whoever_spells_it_how() {
        for (list, goes_on) in [
            ("[429]", true),
            ("[503]", true),
            ("[529]", true),
            ("[overloaded]", true),
            ("[408, timeout]", false),
            ("[rate_limited]", false),
        ] {
            let failover = if goes_on { Failover::Yes } else { Failover::AfterAnother };
            // By its own name, by the general one, as a limit, and inside of a stream that began with 200.
            for status in [Some(529), Some(503), Some(429), Some(200), None] {
                let listed = status.is_some_and(|status| list.contains(&status.to_string()));
                let met = class(list, ErrorKind::Overloaded, status).failover;
                assert!(met == failover || listed, "{list} {status:?}: {met:?}");
            }
        }
        // A rate limit is not an overload, so no overload status covers it.
        assert_eq!(class("[503, 529]", ErrorKind::RateLimited, Some(429)).failover, Failover::AfterAnother);
    }

    #[test]
    fn a_server_that_failed_is_known_by_any_number() {
        for list in ["[500]", "[502]", "[503]", "[504]"] {
            for own in [409, 425].into_iter().chain(500..=599) {
                assert_eq!(class(list, ErrorKind::Server, Some(own)).failover, Failover::Yes, "{list} {own}");
            }
            for own in [408, 499, 504, 524] {
                assert_eq!(class(list, ErrorKind::Timeout, Some(own)).failover, Failover::Yes, "{list} {own}");
            }
        }
        assert_eq!(class("[429]", ErrorKind::Server, Some(522)).failover, Failover::AfterAnother);
    }

    #[test]
    fn what_no_status_can_name_is_an_outage_where_statuses_are_listed() {
        let (auth, wrong) = ((ErrorKind::Auth, Some(401)), (ErrorKind::InvalidRequest, Some(400)));
        let both = |list: &str, (kind, status): (ErrorKind, Option<u16>)| {
            let class = class(list, kind, status);
            (class.failover, class.circuit)
        };
        assert_eq!(both("[500]", auth), (Failover::Yes, Count::LatchIfWorked));
        assert_eq!(both("[500]", wrong), (Failover::No, Count::FailureInStorm));
        for status in [400, 402, 403, 429] {
            let quota = (ErrorKind::QuotaExhausted, Some(status));
            assert_eq!(both("[500]", quota), (Failover::Yes, Count::Latch), "{status}");
        }
        assert_eq!(both("[500]", (ErrorKind::Blocked, Some(421))), (Failover::Yes, Count::Neutral));
        // A list of kinds could have named these.
        assert_eq!(both("[server]", auth), (Failover::AfterAnother, Count::Neutral));
        assert_eq!(both("[server]", wrong), (Failover::No, Count::Neutral));
    }

    #[test]
    fn what_statuses_stand_for_beside_themselves_is_told() {
        let notes = |on_error: &str| {
            let text = format!("tiers: [{{ name: main, provider: simulated }}]\nfallback: {{ on_error: {on_error} }}");
            status_notes(&Config::from_str(&text, Format::Yaml).unwrap())
        };
        let forms = notes("[429, 500, 502, 503]");
        assert_eq!(
            forms[0],
            "429 and 503 stand for every overload: with 529, and inside of a stream that began with 200"
        );
        assert!(forms[1].starts_with("500, 502 and 503 stand for every status by which a server"), "{forms:?}");
        assert_eq!(
            forms[3..],
            [
                "401 to 403, 407 to 409, 421, 425, 429, 495 to 599 go on",
                "404, 410, 413 go on behind another tier's failure",
                "400, 405, 406, 411, 412, 414 to 420, 422 to 424, 426 to 428, 430 to 494 fail",
            ]
        );
        assert_eq!(notes("[429]")[0].split(':').next(), Some("429 stands for every overload"));
        assert!(notes("[429, 503, 529]")[0].ends_with("overload: inside of a stream that began with 200"));
        assert!(notes("[timeout, overloaded]").is_empty());
    }

    #[test]
    fn a_timeout_of_our_own_is_not_one_that_a_provider_tells_of() {
        for (list, status, goes_on) in [
            ("[own_timeout]", None, true),
            ("[own_timeout]", Some(504), false),
            ("[own_timeout, 504]", Some(504), true),
            ("[504]", None, true),
            ("[500]", None, false),
        ] {
            let failover = if goes_on { Failover::Yes } else { Failover::AfterAnother };
            assert_eq!(class(list, ErrorKind::Timeout, status).failover, failover, "{list} {status:?}");
        }
    }

    #[test]
    fn a_refusal_on_this_side_goes_on_whatever_is_listed() {
        for kind in ErrorKind::ALL.iter().filter(|kind| kind.is_local()) {
            let default = Classifier::default().classify(&LlmError::new(*kind, ""));
            assert_eq!(class("[]", *kind, None), default, "{kind}");
        }
    }

    #[test]
    fn a_kind_that_is_named_goes_anywhere_and_one_that_has_the_status_where_it_helps() {
        assert_eq!(class("[refusal]", ErrorKind::Refusal, None).failover, Failover::Yes);
        assert_eq!(class("[context_length]", ErrorKind::ContextLength, Some(400)).failover, Failover::Yes);
        assert_eq!(class("[400]", ErrorKind::ContextLength, Some(400)).failover, Failover::LargerWindow);
        assert_eq!(class("[400]", ErrorKind::ContentPolicy, Some(400)).failover, Failover::IfRouted);
        assert_eq!(class("[400]", ErrorKind::InvalidRequest, Some(400)).failover, Failover::Yes);
        assert_eq!(class("[401]", ErrorKind::Auth, Some(401)).failover, Failover::Yes);
    }

    #[test]
    fn without_a_list_the_table_is_the_default() {
        let table = classifier(&Config::default());
        for kind in ErrorKind::ALL {
            let error = LlmError::new(*kind, "");
            assert_eq!(table.classify(&error), Classifier::default().classify(&error));
        }
    }
}
