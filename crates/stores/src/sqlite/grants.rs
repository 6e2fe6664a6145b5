//! The replicas' grants in the file.

use std::{collections::HashSet, sync::Arc, time::Duration};

use rusqlite::{Connection, Error, TransactionBehavior};

use super::{clock::now, ledger::spend};
use crate::{ledger_columns::signed, quota::millis};
use steadfast::prices::Usd;
use steadfast_ledger::{Grant, GrantTurn, GrantView};

const GONE: &str = "DELETE FROM ledger_grants WHERE ends <= ?1 OR replica = ?2";
const OTHERS: &str = "SELECT replica, cap, key, since, amount, held FROM ledger_grants";
const ADD: &str = "INSERT OR REPLACE INTO ledger_grants (replica, cap, key, since, amount, held, ends)
    VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)";

pub(super) fn grant(file: &mut Connection, turn: &GrantTurn) -> Result<(), Error> {
    let writing = file.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let now = now();
    writing.execute(GONE, (now, &*turn.replica))?;
    let mut replicas: HashSet<String> = HashSet::new();
    let mut others = Vec::new();
    {
        let mut sql = writing.prepare(OTHERS)?;
        let mut rows = sql.query(())?;
        while let Some(row) = rows.next()? {
            replicas.insert(row.get(0)?);
            let amount = |column: usize| Ok::<_, Error>(row.get::<_, i64>(column)?.unsigned_abs());
            let key = Some(row.get::<_, String>(2)?).filter(|key| !key.is_empty());
            others.push(Grant {
                cap: row.get::<_, String>(1)?.into(),
                key: key.map(Arc::from),
                since: Duration::from_secs(amount(3)?),
                amount: Usd::from_nanos(amount(4)?),
                held: Usd::from_nanos(amount(5)?),
            });
        }
    }
    let spends = turn.queries.iter().map(|query| spend(&writing, query)).collect::<Result<_, _>>()?;
    let chosen = (turn.choice)(&GrantView { others, replicas: 1 + replicas.len(), spends });
    {
        let mut sql = writing.prepare(ADD)?;
        let ends = now.saturating_add(millis(turn.lasts));
        for Grant { cap, key, since, amount, held } in chosen {
            let [since, amount, held] = [since.as_secs(), amount.nanos(), held.nanos()].map(signed);
            sql.execute((&*turn.replica, &*cap, key.as_deref().unwrap_or_default(), since, amount, held, ends))?;
        }
    }
    writing.commit()
}
