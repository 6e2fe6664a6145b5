//! `GET /admin/spend`: what answers cost, out of the ledger.

use std::time::Duration;

use axum::{Extension, body::Body};
use http::{HeaderValue, Response, StatusCode, Uri, header};
use serde_json::{Value, json};
use steadfast::prices::Usd;
use steadfast_internal::{
    calendar,
    wall_clock::{self, parse_rfc3339, rfc3339},
};
use steadfast_ledger::{Ledger, Spend, SpendColumn, SpendGroup, SpendQuery, sum_by_group};
use tokio::time::timeout;

use super::{
    Operator,
    answer::{error, ok, wrong},
};
use crate::api::query;

const PARAMETERS: [&str; 5] = ["by", "from", "to", "month", "format"];
/// The time for which a report waits for rows that are on their way to the store.
const FLUSH_TIMEOUT: Duration = Duration::from_secs(2);
/// The time for the store's answer. `steadfast spend` waits a little longer.
const STORE_TIMEOUT: Duration = Duration::from_secs(20);
pub(super) const DAY: Duration = Duration::from_secs(24 * 60 * 60);

pub(super) async fn spend(Extension(stack): Operator, uri: Uri) -> Response<Body> {
    let report = match Report::of(&uri) {
        Ok(report) => report,
        Err(problem) => return wrong(problem),
    };
    let Some(ledger) = stack.ledger() else {
        let message = "this gateway keeps no ledger: add `ledger: {}` and a durable store to its configuration";
        return error(StatusCode::NOT_FOUND, "not_found_error", message);
    };
    report.answer(&ledger).await
}

/// A report on spending, as it was asked for.
struct Report {
    query: SpendQuery,
    is_csv: bool,
}

impl Report {
    /// Reads a query. Without a time it asks for the month so far.
    fn of(uri: &Uri) -> Result<Self, String> {
        let now = wall_clock::since_1970();
        let (year, month, _) = calendar::date_of(now.as_secs() / DAY.as_secs());
        let first = calendar::day_of(year, month, 1);
        let mut query = SpendQuery::new(day(first), now.saturating_add(DAY));
        let (mut is_csv, mut names_month, mut names_time) = (false, false, false);
        for [name, value] in query::parameters(uri, &PARAMETERS)? {
            match &*name {
                "by" => query.by = columns(&value)?,
                "month" => {
                    let is_month = value.len() == "2027-01".len();
                    let first = calendar::parse_day(&value).filter(|_| is_month);
                    let first = first.ok_or_else(|| format!("`month` is `{value}`; write it as 2027-01"))?;
                    (query.from, query.to) = (day(first), day(calendar::next_month(first)));
                    names_month = true;
                }
                "format" => {
                    is_csv = match &*value {
                        "csv" => true,
                        "json" => false,
                        _ => return Err("`format` is `json` or `csv`".to_owned()),
                    };
                }
                _ => {
                    let time = calendar::parse_day(&value).map(day).or_else(|| parse_rfc3339(&value));
                    let time = time.ok_or_else(|| {
                        format!("`{name}` is `{value}`; write it as 2027-01-31 or 2027-01-31T12:00:00Z")
                    })?;
                    *(if name == "from" { &mut query.from } else { &mut query.to }) = time;
                    names_time = true;
                }
            }
        }
        if names_month && names_time {
            return Err("`month` stands for `from` and `to`: give it alone".to_owned());
        }
        if query.from >= query.to {
            return Err(format!("`from` ({}) is not before `to` ({})", rfc3339(query.from), rfc3339(query.to)));
        }
        Ok(Self { query, is_csv })
    }

    async fn answer(&self, ledger: &Ledger) -> Response<Body> {
        let groups = match groups(ledger, &self.query).await {
            Ok(groups) => groups,
            Err(problem) => return error(StatusCode::SERVICE_UNAVAILABLE, "api_error", &problem),
        };
        if self.is_csv {
            return csv(&self.query.by, &groups);
        }
        let all = groups.iter().map(|spend| Spend { group: SpendGroup::default(), ..spend.clone() });
        let total = sum_by_group(all).pop().unwrap_or_default();
        let standing = ledger.standing();
        let groups: Vec<Value> = groups.iter().map(|spend| group(&self.query.by, spend)).collect();
        ok(&json!({
            "from": rfc3339(self.query.from),
            "to": rfc3339(self.query.to),
            "by": self.query.by.iter().map(|column| column.name()).collect::<Vec<_>>(),
            "groups": groups,
            "total": group(&[], &total),
            "waitingRows": standing.waiting,
            "lostRows": standing.lost,
            "storeProblem": standing.store_problem,
            "journalProblem": standing.journal_problem,
        }))
    }
}

/// Asks the ledger's store.
///
/// # Errors
///
/// The store failed or was silent; the error is a sentence.
pub(super) async fn groups(ledger: &Ledger, query: &SpendQuery) -> Result<Vec<Spend>, String> {
    // Rows may still be on their way after that, as the ledger's standing tells.
    let _ = timeout(FLUSH_TIMEOUT, ledger.flush()).await;
    match timeout(STORE_TIMEOUT, ledger.store().spend(query)).await {
        Ok(groups) => groups.map_err(|failed| failed.to_string()),
        Err(_) => Err("the ledger's store gives no answer in time".to_owned()),
    }
}

pub(super) fn day(since_1970: u64) -> Duration {
    DAY * u32::try_from(since_1970).unwrap_or(u32::MAX)
}

fn columns(value: &str) -> Result<Vec<SpendColumn>, String> {
    let names = value.split(',').map(str::trim).filter(|name| !name.is_empty());
    let column = |name: &str| {
        let known = SpendColumn::ALL.map(SpendColumn::name).join(", ");
        SpendColumn::from_name(name).ok_or_else(|| format!("`by` has no `{name}`; there are {known}"))
    };
    names.map(column).collect()
}

/// The sums of a group, by their names in an answer.
fn sums(spend: &Spend) -> [(&'static str, Sum); 10] {
    let Spend { requests, usage, cost, list, unpriced, estimates, .. } = spend;
    [
        ("requests", Sum::Number(*requests)),
        ("inputTokens", Sum::Number(usage.input)),
        ("cacheReadTokens", Sum::Number(usage.cache_read)),
        ("cacheWriteTokens", Sum::Number(usage.cache_write)),
        ("outputTokens", Sum::Number(usage.output)),
        ("reasoningTokens", Sum::Number(usage.reasoning)),
        ("costDollars", Sum::Dollars(*cost)),
        ("listDollars", Sum::Dollars(*list)),
        ("unpricedRows", Sum::Number(*unpriced)),
        ("estimatedRows", Sum::Number(*estimates)),
    ]
}

#[derive(Clone, Copy)]
enum Sum {
    Number(u64),
    Dollars(Usd),
}

/// Returns the text of a group in a column; a row without one has none.
fn text(spend: &Spend, column: SpendColumn) -> Option<String> {
    match column {
        SpendColumn::Hour | SpendColumn::Day => spend.group.since.map(rfc3339),
        column => spend.group.text(column).map(|text| text.to_string()),
    }
}

fn group(by: &[SpendColumn], spend: &Spend) -> Value {
    let mut group = json!({});
    for column in by {
        group[column.name()] = text(spend, *column).into();
    }
    for (name, sum) in sums(spend) {
        group[name] = match sum {
            Sum::Number(number) => number.into(),
            Sum::Dollars(amount) => amount.dollars().into(),
        };
    }
    group
}

/// Returns the groups as a table of RFC 4180.
fn csv(by: &[SpendColumn], groups: &[Spend]) -> Response<Body> {
    let heads = by.iter().map(|column| column.name()).chain(sums(&Spend::default()).map(|(name, _)| name));
    let mut table = heads.collect::<Vec<_>>().join(",") + "\r\n";
    for spend in groups {
        let names = by.iter().map(|column| cell(&text(spend, *column).unwrap_or_default()));
        let sums = sums(spend).map(|(_, sum)| match sum {
            Sum::Number(number) => number.to_string(),
            Sum::Dollars(amount) => amount.plain(),
        });
        table += &(names.chain(sums).collect::<Vec<_>>().join(",") + "\r\n");
    }
    let mut response = Response::new(Body::from(table));
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("text/csv; charset=utf-8"));
    response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

/// Returns a text as a cell. A spreadsheet takes some beginnings for a formula, and a provider chooses the names of
/// models: an apostrophe before them keeps them texts.
fn cell(text: &str) -> String {
    let text = match text.starts_with(['=', '+', '-', '@', '\t', '\r']) {
        true => format!("'{text}"),
        false => text.to_owned(),
    };
    if text.contains(['"', ',', '\r', '\n']) { format!("\"{}\"", text.replace('"', "\"\"")) } else { text }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(query: &str) -> Result<SpendQuery, String> {
        Report::of(&format!("/admin/spend?{query}").parse().unwrap()).map(|report| report.query)
    }

    #[test]
    fn a_question_is_read_and_a_wrong_one_says_what_to_write() {
        let at = |text: &str| parse_rfc3339(text).unwrap();
        let december = asked("month=2026-12&by=team,model").unwrap();
        assert_eq!((december.from, december.to), (at("2026-12-01T00:00:00Z"), at("2027-01-01T00:00:00Z")));
        assert_eq!(december.by, [SpendColumn::Team, SpendColumn::Model]);
        let some = asked("from=2026-11-05&to=2026-11-05T12:00:00%2B02:00&by=").unwrap();
        assert_eq!((some.from, some.to), (at("2026-11-05T00:00:00Z"), at("2026-11-05T10:00:00Z")));
        let so_far = asked("").unwrap();
        assert!(so_far.from <= wall_clock::since_1970() && wall_clock::since_1970() < so_far.to);
        for (query, said) in [
            ("by=teams", "`by` has no `teams`; there are hour, day, key, team, feature, tier, provider, model"),
            ("from=yesterday", "`from` is `yesterday`; write it as 2027-01-31"),
            ("month=2026-13", "`month` is `2026-13`"),
            ("month=2026-12-05", "`month` is `2026-12-05`"),
            ("month=2026-12&to=2026-12-05", "give it alone"),
            ("from=2026-12-01&to=2026-11-01", "is not before `to`"),
            ("format=xml", "`format` is `json` or `csv`"),
            ("until=now", "unknown parameter `until`; the parameters are by, from, to, month, format"),
        ] {
            assert!(asked(query).unwrap_err().contains(said), "{query}: {:?}", asked(query));
        }
    }

    #[test]
    fn a_cell_is_a_text_in_every_spreadsheet() {
        for (text, written) in [
            ("search", "search"),
            ("a,b", "\"a,b\""),
            ("a \"b\"", "\"a \"\"b\"\"\""),
            ("=HYPERLINK(1)", "'=HYPERLINK(1)"),
            ("-1+2,3", "\"'-1+2,3\""),
            ("", ""),
        ] {
            assert_eq!(cell(text), written);
        }
    }
}
