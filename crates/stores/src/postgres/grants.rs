//! The replicas' grants in the database.

use std::{collections::HashSet, sync::Arc, time::Duration};

use tokio_postgres::{Error, Row};

use super::{Postgres, ledger::spend};
use crate::{ledger_columns::signed, quota::millis};
use steadfast::{prices::Usd, store::StoreError};
use steadfast_ledger::{Grant, GrantTurn, GrantView};

/// Turns come one after the other; whoever reads the table does not wait.
const LOCK: &str = "LOCK TABLE steadfast_ledger_grants IN EXCLUSIVE MODE";
const GONE: &str = "DELETE FROM steadfast_ledger_grants WHERE ends <= steadfast_now() OR replica = $1";
const OTHERS: &str = "SELECT cap, key, since, amount, held, replica FROM steadfast_ledger_grants";
const ADD: &str = "INSERT INTO steadfast_ledger_grants (replica, cap, key, since, amount, held, ends)
    SELECT DISTINCT ON (cap, key) $1, cap, key, since, amount, held, steadfast_now() + $2
    FROM unnest($3::text[], $4::text[], $5::bigint[], $6::bigint[], $7::bigint[])
        AS new (cap, key, since, amount, held)";

fn read(row: &Row) -> Result<Grant, Error> {
    let amount = |column: usize| Ok::<_, Error>(row.try_get::<_, i64>(column)?.unsigned_abs());
    let key = Some(row.try_get::<_, &str>(1)?).filter(|key| !key.is_empty());
    Ok(Grant {
        cap: row.try_get::<_, &str>(0)?.into(),
        key: key.map(Arc::from),
        since: Duration::from_secs(amount(2)?),
        amount: Usd::from_nanos(amount(3)?),
        held: Usd::from_nanos(amount(4)?),
    })
}

impl Postgres {
    pub(super) async fn take_grants(&self, turn: GrantTurn) -> Result<(), StoreError> {
        const WHAT: &str = "taking grants";
        let mut client = self.client(WHAT).await?;
        let done = async {
            let writing = client.transaction().await?;
            writing.batch_execute(LOCK).await?;
            writing.execute(GONE, &[&&*turn.replica]).await?;
            let rows = writing.query(OTHERS, &[]).await?;
            let others = rows.iter().map(read).collect::<Result<_, _>>()?;
            let replicas: HashSet<&str> = rows.iter().map(|row| row.try_get(5)).collect::<Result<_, _>>()?;
            let mut spends = Vec::new();
            for query in &turn.queries {
                spends.push(spend(writing.client(), query).await?);
            }
            let chosen = (turn.choice)(&GrantView { others, replicas: 1 + replicas.len(), spends });
            let texts = |text: fn(&Grant) -> &str| chosen.iter().map(text).collect::<Vec<_>>();
            let numbers = |number: fn(&Grant) -> u64| chosen.iter().map(number).map(signed).collect::<Vec<_>>();
            let (caps, keys) = (texts(|grant| &grant.cap), texts(|grant| grant.key.as_deref().unwrap_or_default()));
            let (since, amounts) = (numbers(|grant| grant.since.as_secs()), numbers(|grant| grant.amount.nanos()));
            let held = numbers(|grant| grant.held.nanos());
            let lasts = millis(turn.lasts);
            writing.execute(ADD, &[&&*turn.replica, &lasts, &caps, &keys, &since, &amounts, &held]).await?;
            writing.commit().await
        };
        done.await.map_err(|cause| self.failed(WHAT, cause))
    }
}
