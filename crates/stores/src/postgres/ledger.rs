//! The ledger in the database.

use std::{
    collections::BTreeMap,
    sync::{Arc, LazyLock},
    time::Duration,
};

use tokio_postgres::{Client, Error, Row};

use super::Postgres;
use crate::{
    ledger_columns::{COLUMNS, GROUPS, ceiled_millis, group_places, groups, list, signed, sums, texts},
    quota::{STEP, millis},
};
use steadfast::{
    chat::Usage,
    prices::Usd,
    store::{StoreError, StoreErrorKind},
};
use steadfast_internal::wall_clock;
use steadfast_ledger::{
    GrantTurn, LedgerFuture, LedgerRow, LedgerStore, RowCursor, RowId, RowKind, Spend, SpendColumn, SpendGroup,
    SpendQuery, hour_start, sum_by_group,
};

/// The new rows and, in the same statement, their sums.
///
/// Two processes never wait for each other in a circle. Each locks rows in the order of ids, then groups in the order
/// of their names, and no group before the last row.
static APPEND: LazyLock<String> = LazyLock::new(|| {
    let largest = i64::MAX;
    let least = |sum: &str| format!("least({sum}, {largest})::bigint");
    let groups = || ["hour"].into_iter().chain(texts());
    let add = |name: &str| format!("{name} = {}", least(&format!("had.{name}::numeric + excluded.{name}")));
    let sum = |name: &str| least(&format!("sum({name})"));
    let names = |names: &mut dyn Iterator<Item = &'static str>| list(names, str::to_owned);
    let (hours, values) = (names(&mut groups()), names(&mut sums()));
    let free = RowKind::ALL.into_iter().filter(|kind| kind.is_free()).map(RowKind::name);
    let free = list(free, |name| format!("'{name}'"));
    format!(
        "WITH new AS (
            INSERT INTO steadfast_ledger ({COLUMNS})
            SELECT * FROM unnest($1::text[], $2::bigint[], $3::text[], $4::text[], $5::text[], $6::text[], $7::text[],
                $8::text[], $9::text[], $10::text[], $11::text[], $12::bigint[], $13::bigint[], $14::bigint[],
                $15::bigint[], $16::bigint[], $17::bigint[], $18::bigint[], $19::text[], $20::boolean[], $21::boolean[])
                AS row ({COLUMNS}) ORDER BY id COLLATE \"C\"
            ON CONFLICT (id) DO NOTHING RETURNING *),
        spent AS (
            SELECT at / 3600000 AS hour, coalesce(key, '') AS key, coalesce(team, '') AS team,
                coalesce(feature, '') AS feature, coalesce(tier, '') AS tier, coalesce(provider, '') AS provider,
                coalesce(served_model, asked_model, '') AS model, 1 AS rows,
                CASE WHEN kind = 'failed' THEN 0 ELSE 1 END AS requests,
                input, cache_read, cache_write, output, reasoning,
                CASE WHEN kind IN ({free}) THEN 0 ELSE coalesce(own, list, 0) END AS cost,
                coalesce(list, 0) AS list,
                CASE WHEN kind NOT IN ({free}) AND own IS NULL AND list IS NULL THEN 1 ELSE 0 END
                    AS unpriced,
                CASE WHEN is_estimate THEN 1 ELSE 0 END AS estimates
            FROM new),
        added AS (
            INSERT INTO steadfast_ledger_hours AS had ({hours}, {values})
            SELECT {hours}, {sums} FROM spent GROUP BY {hours} ORDER BY {ordered}
            ON CONFLICT ({hours}) DO UPDATE SET {adds})
        SELECT count(*) FROM new",
        sums = list(sums(), sum),
        ordered = list(groups(), |name| if name == "hour" { name.to_owned() } else { format!("{name} COLLATE \"C\"") }),
        adds = list(sums(), add),
    )
});
const SWEEP: &str = "DELETE FROM steadfast_ledger WHERE id IN (SELECT id FROM steadfast_ledger
    WHERE at < $1 ORDER BY at, id LIMIT $2 FOR UPDATE SKIP LOCKED)";

/// The rows of a batch, a list for each column.
#[derive(Default)]
struct Columns<'a> {
    id: Vec<String>,
    at: Vec<i64>,
    names: [Vec<Option<&'a str>>; 9],
    tokens: [Vec<i64>; 5],
    amounts: [Vec<Option<i64>>; 2],
    kind: Vec<&'static str>,
    degraded: Vec<bool>,
    is_estimate: Vec<bool>,
}

impl<'a> Columns<'a> {
    fn push(&mut self, row: &'a LedgerRow) {
        self.id.push(row.id.to_string());
        self.at.push(row.at_millis());
        let names = [
            &row.request_id,
            &row.key,
            &row.team,
            &row.feature,
            &row.session,
            &row.tier,
            &row.provider,
            &row.asked_model,
            &row.served_model,
        ];
        for (column, name) in self.names.iter_mut().zip(names) {
            column.push(name.as_deref());
        }
        let Usage { input, cache_read, cache_write, output, reasoning, .. } = row.usage;
        for (column, tokens) in self.tokens.iter_mut().zip([input, cache_read, cache_write, output, reasoning]) {
            column.push(signed(tokens));
        }
        for (column, amount) in self.amounts.iter_mut().zip([row.list, row.own]) {
            column.push(amount.map(|amount| signed(amount.nanos())));
        }
        self.kind.push(row.kind.name());
        self.degraded.push(row.degraded);
        self.is_estimate.push(row.is_estimate);
    }
}

impl Postgres {
    async fn append_rows(&self, rows: &[LedgerRow]) -> Result<u64, StoreError> {
        const WHAT: &str = "writing the ledger";
        if rows.is_empty() {
            return Ok(0);
        }
        // The first of those with the same id.
        let mut sorted: BTreeMap<RowId, LedgerRow> = BTreeMap::new();
        for row in rows {
            sorted.entry(row.id).or_insert_with(|| row.clone().normalized());
        }
        let mut columns = Columns::default();
        for row in sorted.values() {
            columns.push(row);
        }
        let Columns { id, at, names, tokens, amounts, kind, degraded, is_estimate } = &columns;
        let mut with: Vec<&(dyn tokio_postgres::types::ToSql + Sync)> = vec![id, at];
        for column in names {
            with.push(column);
        }
        for column in tokens {
            with.push(column);
        }
        for column in amounts {
            with.push(column);
        }
        with.extend([kind as &(dyn tokio_postgres::types::ToSql + Sync), degraded, is_estimate]);
        let client = self.client(WHAT).await?;
        // One statement is one transaction.
        let done =
            async { client.query_one(&client.prepare_cached(&APPEND).await?, &with).await?.try_get::<_, i64>(0) };
        Ok(done.await.map_err(|cause| self.failed(WHAT, cause))?.unsigned_abs())
    }
}

fn read(row: &Row) -> Result<Option<LedgerRow>, Error> {
    let name = |column: usize| Ok::<Option<Arc<str>>, Error>(row.try_get::<_, Option<&str>>(column)?.map(Into::into));
    let count = |column: usize| Ok::<_, Error>(row.try_get::<_, i64>(column)?.unsigned_abs());
    let amount = |column: usize| {
        let amount = row.try_get::<_, Option<i64>>(column)?;
        Ok::<_, Error>(amount.map(|amount| Usd::from_nanos(amount.unsigned_abs())))
    };
    let mut usage = Usage::new(count(11)?, count(14)?);
    (usage.cache_read, usage.cache_write, usage.reasoning) = (count(12)?, count(13)?, count(15)?);
    let (Ok(id), Some(kind)) = (row.try_get::<_, &str>(0)?.parse(), RowKind::from_name(row.try_get(18)?)) else {
        return Ok(None);
    };
    Ok(Some(LedgerRow {
        id,
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
        kind,
        degraded: row.try_get(19)?,
        is_estimate: row.try_get(20)?,
    }))
}

fn read_spend(row: &Row) -> Result<Spend, Error> {
    let since = row.try_get::<_, Option<i64>>(0)?.and_then(hour_start);
    let mut group = SpendGroup { since, ..SpendGroup::default() };
    for (place, column) in SpendColumn::TEXTS.into_iter().enumerate() {
        group.set_text(column, row.try_get(1 + place)?);
    }
    let mut sums = [0; Spend::SUMS];
    for (place, sum) in sums.iter_mut().enumerate() {
        *sum = row.try_get::<_, i64>(GROUPS + place)?.unsigned_abs();
    }
    Ok(Spend::from_sums(group, sums))
}

pub(super) async fn spend(client: &Client, query: &SpendQuery) -> Result<Vec<Spend>, Error> {
    let sum = |name: &str| format!("least(sum({name}), {})::bigint", i64::MAX);
    let sql = format!(
        "SELECT {} FROM (SELECT {}, {} FROM steadfast_ledger_hours WHERE hour >= $1 AND hour < $2) AS found
        GROUP BY {}",
        format_args!("of_time, {}, {}", list(texts(), |name| format!("of_{name}")), list(sums(), sum)),
        groups(query).replace("NULL AS", "NULL::bigint AS"),
        list(sums(), str::to_owned),
        group_places(),
    );
    let (from, to) = query.hours();
    let rows = client.query(&sql, &[&from, &to]).await?;
    Ok(sum_by_group(rows.iter().map(read_spend).collect::<Result<Vec<_>, _>>()?))
}

impl LedgerStore for Postgres {
    fn append<'a>(&'a self, rows: &'a [LedgerRow]) -> LedgerFuture<'a, u64> {
        Box::pin(self.append_rows(rows))
    }

    fn spend<'a>(&'a self, query: &'a SpendQuery) -> LedgerFuture<'a, Vec<Spend>> {
        Box::pin(async move {
            const WHAT: &str = "reading the ledger's sums";
            let client = self.client(WHAT).await?;
            spend(&client, query).await.map_err(|cause| self.failed(WHAT, cause))
        })
    }

    fn rows(
        &self,
        from: Duration,
        to: Duration,
        after: Option<RowCursor>,
        limit: usize,
    ) -> LedgerFuture<'_, Vec<LedgerRow>> {
        Box::pin(async move {
            const WHAT: &str = "reading the ledger";
            let sql = format!(
                "SELECT {COLUMNS} FROM steadfast_ledger WHERE at >= $1 AND at < $2 AND (at, id) > ($3, $4)
                ORDER BY at, id LIMIT $5"
            );
            let (after_at, after_id) = after.map_or((i64::MIN, String::new()), |after| {
                (i64::try_from(after.at.as_millis()).unwrap_or(i64::MAX), after.id.to_string())
            });
            let (from, to) = (ceiled_millis(from), ceiled_millis(to));
            let limit = i64::try_from(limit).unwrap_or(i64::MAX);
            let client = self.client(WHAT).await?;
            let found = client.query(&sql, &[&from, &to, &after_at, &after_id, &limit]).await;
            let found = found.and_then(|rows| rows.iter().map(read).collect::<Result<Option<Vec<_>>, _>>());
            let damaged = || StoreError::new(StoreErrorKind::Corrupt, format!("{WHAT}: a row has no id or no kind"));
            found.map_err(|cause| self.failed(WHAT, cause))?.ok_or_else(damaged)
        })
    }

    fn sweep(&self, keep: Duration) -> LedgerFuture<'_, u64> {
        Box::pin(async move {
            // By the clock that rows have their times from.
            let before = millis(wall_clock::since_1970()).saturating_sub(millis(keep));
            let mut all = 0;
            loop {
                let gone = self.execute("sweeping the ledger", SWEEP, &[&before, &STEP]).await?;
                all += gone;
                if gone < STEP.unsigned_abs() {
                    return Ok(all);
                }
            }
        })
    }

    fn grant(&self, turn: GrantTurn) -> LedgerFuture<'_, ()> {
        Box::pin(self.take_grants(turn))
    }
}
