//! The columns of the ledger's tables, the same in each database.

use std::time::Duration;

use steadfast_ledger::{Spend, SpendColumn, SpendQuery};

/// The columns of a row, in the order in which they are written and read.
pub(crate) const COLUMNS: &str = "id, at, request_id, key, team, feature, session, tier, provider, asked_model,
    served_model, input, cache_read, cache_write, output, reasoning, list, own, kind, degraded, is_estimate";

/// Returns names as a list in SQL, each by this form.
pub(crate) fn list(names: impl IntoIterator<Item = &'static str>, form: impl Fn(&str) -> String) -> String {
    names.into_iter().map(form).collect::<Vec<_>>().join(", ")
}

/// Returns the names of the columns that tell groups of the roll-up apart, the hour aside.
pub(crate) fn texts() -> impl Iterator<Item = &'static str> {
    SpendColumn::TEXTS.into_iter().map(SpendColumn::name)
}

/// Returns the names of the columns with sums.
pub(crate) fn sums() -> impl Iterator<Item = &'static str> {
    Spend::NAMES.into_iter()
}

/// Returns the expressions by which a question tells groups apart, for `SELECT`: the time, then the names.
pub(crate) fn groups(query: &SpendQuery) -> String {
    let time = match () {
        () if query.has(SpendColumn::Hour) => "hour",
        () if query.has(SpendColumn::Day) => "hour / 24 * 24",
        () => "NULL",
    };
    let name = |column: SpendColumn| if query.has(column) { column.name() } else { "''" };
    let names = SpendColumn::TEXTS.map(|column| format!("{} AS of_{}", name(column), column.name()));
    format!("{time} AS of_time, {}", names.join(", "))
}

/// Returns the number of groups' columns in the result of a question.
pub(crate) const GROUPS: usize = 1 + SpendColumn::TEXTS.len();

/// Returns the places of groups' columns, for `GROUP BY`.
pub(crate) fn group_places() -> String {
    (1..=GROUPS).map(|place| place.to_string()).collect::<Vec<_>>().join(", ")
}

/// Returns a time in milliseconds, rounded up: a row is at least as late as it if its milliseconds are.
pub(crate) fn ceiled_millis(time: Duration) -> i64 {
    i64::try_from(time.as_nanos().div_ceil(1_000_000)).unwrap_or(i64::MAX)
}

/// Returns an amount for a column.
pub(crate) fn signed(amount: u64) -> i64 {
    i64::try_from(amount).unwrap_or(i64::MAX)
}
