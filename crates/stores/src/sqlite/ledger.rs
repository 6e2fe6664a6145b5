//! The ledger in the file.

use std::time::Duration;

use rusqlite::{
    Connection, Error, Row, ToSql, TransactionBehavior,
    types::{FromSqlError, Type},
};

use super::{Sqlite, clock::now, grants};
use crate::{
    ledger_columns::{COLUMNS, GROUPS, ceiled_millis, group_places, groups, list, signed, sums, texts},
    quota::{STEP, millis},
};
use steadfast::{chat::Usage, prices::Usd};
use steadfast_ledger::{
    GrantTurn, LedgerFuture, LedgerRow, LedgerStore, RowCursor, RowKind, Spend, SpendColumn, SpendGroup, SpendQuery,
    hour_start, sum_by_group,
};

const SWEEP: &str = "DELETE FROM ledger WHERE id IN (SELECT id FROM ledger WHERE at < ?1 ORDER BY at, id LIMIT ?2)";

/// A sum is kept as two halves until it is read: SQLite's own sum fails where it is too large.
const HALF: u32 = 32;

/// Adds to a group. SQLite's own addition would make a float of a sum that is too large.
fn add_sql() -> String {
    let largest = i64::MAX;
    let add = |name: &str| format!("{name} = min({name}, {largest} - excluded.{name}) + excluded.{name}");
    let all = || ["hour"].into_iter().chain(texts());
    let places = list(all().chain(sums()), |_| "?".to_owned());
    format!(
        "INSERT INTO ledger_hours ({}, {}) VALUES ({places}) ON CONFLICT ({}) DO UPDATE SET {}",
        list(all(), str::to_owned),
        list(sums(), str::to_owned),
        list(all(), str::to_owned),
        list(sums(), add),
    )
}

fn append(file: &mut Connection, rows: &[LedgerRow]) -> Result<u64, Error> {
    let writing = file.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let mut spends = Vec::new();
    {
        let places = list(COLUMNS.split(','), |_| "?".to_owned());
        let mut sql = writing.prepare(&format!("INSERT OR IGNORE INTO ledger ({COLUMNS}) VALUES ({places})"))?;
        for row in rows {
            if insert(&mut sql, row)? > 0 {
                spends.push(Spend::of_row(row));
            }
        }
    }
    let new = spends.len() as u64;
    {
        let mut sql = writing.prepare(&add_sql())?;
        for spend in sum_by_group(spends) {
            let hour = spend.group.hour();
            let texts = SpendColumn::TEXTS.map(|column| spend.group.text(column).map_or("", |text| text));
            let sums = spend.sums().map(signed);
            let mut values: Vec<&dyn ToSql> = vec![&hour];
            values.extend(texts.iter().map(|text| text as &dyn ToSql));
            values.extend(sums.iter().map(|sum| sum as &dyn ToSql));
            sql.execute(&*values)?;
        }
    }
    writing.commit()?;
    Ok(new)
}

fn insert(sql: &mut rusqlite::Statement<'_>, row: &LedgerRow) -> Result<usize, Error> {
    let Usage { input, cache_read, cache_write, output, reasoning, .. } = row.usage;
    let tokens = [input, cache_read, cache_write, output, reasoning].map(signed);
    let amounts = [row.list, row.own].map(|amount| amount.map(|amount| signed(amount.nanos())));
    let (id, at, kind) = (row.id.to_string(), row.at_millis(), row.kind.name());
    let names = [
        row.request_id.as_deref(),
        row.key.as_deref(),
        row.team.as_deref(),
        row.feature.as_deref(),
        row.session.as_deref(),
        row.tier.as_deref(),
        row.provider.as_deref(),
        row.asked_model.as_deref(),
        row.served_model.as_deref(),
    ];
    let mut values: Vec<&dyn ToSql> = vec![&id, &at];
    values.extend(names.iter().map(|name| name as &dyn ToSql));
    values.extend(tokens.iter().map(|tokens| tokens as &dyn ToSql));
    values.extend(amounts.iter().map(|amount| amount as &dyn ToSql));
    values.extend([&kind as &dyn ToSql, &row.degraded, &row.is_estimate]);
    sql.execute(&*values)
}

fn wrong<E: std::error::Error + Send + Sync + 'static>(column: usize) -> impl Fn(E) -> Error {
    move |cause| Error::FromSqlConversionFailure(column, Type::Text, Box::new(cause))
}

fn read(row: &Row<'_>) -> Result<LedgerRow, Error> {
    let name = |column: usize| Ok::<_, Error>(row.get::<_, Option<String>>(column)?.map(Into::into));
    let count = |column: usize| Ok::<_, Error>(row.get::<_, i64>(column)?.unsigned_abs());
    let amount = |column: usize| {
        let amount = row.get::<_, Option<i64>>(column)?;
        Ok::<_, Error>(amount.map(|amount| Usd::from_nanos(amount.unsigned_abs())))
    };
    let mut usage = Usage::new(count(11)?, count(14)?);
    (usage.cache_read, usage.cache_write, usage.reasoning) = (count(12)?, count(13)?, count(15)?);
    let kind: String = row.get(18)?;
    Ok(LedgerRow {
        id: row.get::<_, String>(0)?.parse().map_err(wrong(0))?,
        at: Duration::from_millis(count(1)?),
        request_id: name(2)?,
        key: name(3)?,
        team: name(4)?,
        feature: name(5)?,
        session: name(6)?,
        tier: name(7)?,
        provider: name(8)?,
        asked_model: name(9)?,
        served_model: name(10)?,
        usage,
        list: amount(16)?,
        own: amount(17)?,
        kind: RowKind::from_name(&kind).ok_or(FromSqlError::InvalidType).map_err(wrong(18))?,
        degraded: row.get(19)?,
        is_estimate: row.get(20)?,
    })
}

pub(super) fn spend(file: &Connection, query: &SpendQuery) -> Result<Vec<Spend>, Error> {
    let halves = |name: &str| format!("sum({name} >> {HALF}), sum({name} & {})", u32::MAX);
    let sql = format!(
        "SELECT {}, {} FROM ledger_hours WHERE hour >= ?1 AND hour < ?2 GROUP BY {}",
        groups(query),
        list(sums(), halves),
        group_places(),
    );
    let mut sql = file.prepare(&sql)?;
    let rows = sql.query_map(query.hours(), |row| {
        let since = row.get::<_, Option<i64>>(0)?.and_then(hour_start);
        let mut group = SpendGroup { since, ..SpendGroup::default() };
        for (place, column) in SpendColumn::TEXTS.into_iter().enumerate() {
            group.set_text(column, &row.get::<_, String>(1 + place)?);
        }
        let mut sums = [0; Spend::SUMS];
        for (place, sum) in sums.iter_mut().enumerate() {
            let half = |half: usize| Ok::<_, Error>(row.get::<_, i64>(GROUPS + 2 * place + half)?.unsigned_abs());
            let whole = (u128::from(half(0)?) << HALF) + u128::from(half(1)?);
            *sum = u64::try_from(whole).unwrap_or(u64::MAX);
        }
        Ok(Spend::from_sums(group, sums))
    })?;
    Ok(sum_by_group(rows.collect::<Result<Vec<_>, _>>()?))
}

impl LedgerStore for Sqlite {
    fn append<'a>(&'a self, rows: &'a [LedgerRow]) -> LedgerFuture<'a, u64> {
        let rows: Vec<_> = rows.iter().cloned().map(LedgerRow::normalized).collect();
        Box::pin(self.call("writing the ledger", move |file| append(file, &rows)))
    }

    fn spend<'a>(&'a self, query: &'a SpendQuery) -> LedgerFuture<'a, Vec<Spend>> {
        let query = query.clone();
        Box::pin(self.call("reading the ledger's sums", move |file| spend(file, &query)))
    }

    fn rows(
        &self,
        from: Duration,
        to: Duration,
        after: Option<RowCursor>,
        limit: usize,
    ) -> LedgerFuture<'_, Vec<LedgerRow>> {
        Box::pin(self.call("reading the ledger", move |file| {
            let (after_at, after_id) = after.map_or((i64::MIN, String::new()), |after| {
                (i64::try_from(after.at.as_millis()).unwrap_or(i64::MAX), after.id.to_string())
            });
            let sql = format!(
                "SELECT {COLUMNS} FROM ledger WHERE at >= ?1 AND at < ?2 AND (at, id) > (?3, ?4)
                ORDER BY at, id LIMIT ?5"
            );
            let mut sql = file.prepare(&sql)?;
            // The first time of the page again, by which SQLite finds it.
            let from = ceiled_millis(from).max(after_at);
            let limit = i64::try_from(limit).unwrap_or(i64::MAX);
            sql.query_map((from, ceiled_millis(to), after_at, after_id, limit), read)?.collect()
        }))
    }

    fn sweep(&self, keep: Duration) -> LedgerFuture<'_, u64> {
        Box::pin(async move {
            let before = now().saturating_sub(millis(keep));
            let mut all = 0;
            loop {
                let step = move |file: &mut Connection| file.execute(SWEEP, (before, STEP));
                let gone = self.call("sweeping the ledger", step).await?;
                all += gone as u64;
                if gone < STEP as usize {
                    return Ok(all);
                }
            }
        })
    }

    fn grant(&self, turn: GrantTurn) -> LedgerFuture<'_, ()> {
        Box::pin(self.call("taking grants", move |file| grants::grant(file, &turn)))
    }
}
