use std::{
    collections::{BTreeMap, HashSet},
    sync::Arc,
    time::Duration,
};

use super::{
    grant::{Grant, GrantTurn, GrantView},
    id::RowId,
    row::{LedgerRow, RowCursor},
    spend::{Spend, SpendGroup, SpendQuery, sum_by_group},
    store::{LedgerFuture, LedgerStore},
};
use steadfast_internal::{
    sync::{Mutex, lock},
    wall_clock,
};

/// A ledger in the memory of the process, for tests: the model that other stores are compared with. It ends with it.
///
/// Clones share the rows.
#[derive(Clone, Debug, Default)]
pub struct MemoryLedger {
    state: Arc<Mutex<State>>,
}

#[derive(Debug, Default)]
struct State {
    rows: BTreeMap<(i64, RowId), LedgerRow>,
    ids: HashSet<RowId>,
    hours: BTreeMap<SpendGroup, Spend>,
    /// With the replica and the end of each.
    grants: Vec<(Arc<str>, Duration, Grant)>,
}

impl MemoryLedger {
    /// Creates an empty ledger.
    pub fn new() -> Self {
        Self::default()
    }
}

impl State {
    fn append(&mut self, row: LedgerRow) -> bool {
        if !self.ids.insert(row.id) {
            return false;
        }
        let spend = Spend::of_row(&row);
        match self.hours.get_mut(&spend.group) {
            Some(sum) => sum.add(&spend),
            None => {
                self.hours.insert(spend.group.clone(), spend);
            }
        }
        self.rows.insert((row.at_millis(), row.id), row);
        true
    }

    fn spend(&self, query: &SpendQuery) -> Vec<Spend> {
        let (from, to) = query.hours();
        let hours = self.hours.values().filter(|spend| (from..to).contains(&spend.group.hour()));
        sum_by_group(hours.map(|spend| Spend { group: spend.group.within(query), ..spend.clone() }))
    }
}

impl LedgerStore for MemoryLedger {
    fn append<'a>(&'a self, rows: &'a [LedgerRow]) -> LedgerFuture<'a, u64> {
        Box::pin(async move {
            let mut state = lock(&self.state);
            Ok(rows.iter().filter(|row| state.append(LedgerRow::clone(row).normalized())).count() as u64)
        })
    }

    fn spend<'a>(&'a self, query: &'a SpendQuery) -> LedgerFuture<'a, Vec<Spend>> {
        Box::pin(async move { Ok(lock(&self.state).spend(query)) })
    }

    fn rows(
        &self,
        from: Duration,
        to: Duration,
        after: Option<RowCursor>,
        limit: usize,
    ) -> LedgerFuture<'_, Vec<LedgerRow>> {
        Box::pin(async move {
            let state = lock(&self.state);
            let page = state.rows.values().filter(|row| row.at >= from && row.at < to);
            Ok(page.filter(|row| after.is_none_or(|after| row.cursor() > after)).take(limit).cloned().collect())
        })
    }

    fn sweep(&self, keep: Duration) -> LedgerFuture<'_, u64> {
        Box::pin(async move {
            let before = wall_clock::since_1970().saturating_sub(keep);
            let mut state = lock(&self.state);
            let State { rows, ids, .. } = &mut *state;
            let count = rows.len();
            rows.retain(|_, row| row.at >= before || !ids.remove(&row.id));
            Ok((count - rows.len()) as u64)
        })
    }

    fn grant(&self, turn: GrantTurn) -> LedgerFuture<'_, ()> {
        Box::pin(async move {
            let GrantTurn { replica, lasts, queries, choice } = turn;
            let now = wall_clock::since_1970();
            let mut state = lock(&self.state);
            state.grants.retain(|(of, ends, _)| *of != replica && *ends > now);
            let replicas: HashSet<&str> = state.grants.iter().map(|(of, ..)| &**of).collect();
            let seen = GrantView {
                replicas: 1 + replicas.len(),
                others: state.grants.iter().map(|(.., grant)| grant.clone()).collect(),
                spends: queries.iter().map(|query| state.spend(query)).collect(),
            };
            let ends = now.saturating_add(lasts);
            state.grants.extend(choice(&seen).into_iter().map(|grant| (replica.clone(), ends, grant)));
            Ok(())
        })
    }
}
