//! The ledger of what answers cost.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use tokio::runtime::Handle;

use super::{context::StackContext, spend, stores::OpenStores};
use crate::{Config, DurableUrl, Environment};
use steadfast::{
    Attempt, CacheReason, ErrorKind, InvalidConfig, LlmRequest,
    chat::Usage,
    events::{Account, Accountant, RequestEnded, RequestOutcome},
    prices::{Price, PriceTable, PricedNames},
};
use steadfast_ledger::{Entry, Ledger, LedgerRow, LedgerSettings, RowKind};

/// The open ledger of a configuration. Clones are the same.
#[derive(Clone, Debug)]
pub(crate) struct LedgerState {
    settings: crate::Ledger,
    stores: OpenStores,
    pub(crate) ledger: Ledger,
}

impl LedgerState {
    /// Opens the configured ledger; one that a reload leaves unchanged stays open.
    ///
    /// # Errors
    ///
    /// The journal's folder cannot be read, written or locked.
    pub(crate) fn new(
        config: &Config,
        stores: &OpenStores,
        context: &StackContext,
        before: Option<&Self>,
    ) -> Result<Option<Self>, InvalidConfig> {
        let (Some(settings), Some(durable)) = (&config.ledger, &stores.durable) else { return Ok(None) };
        let is_same = |before: &&Self| {
            before.settings == *settings && before.stores.durable.as_ref().is_some_and(|known| known.is(durable))
        };
        if let Some(before) = before.filter(is_same) {
            return Ok(Some(before.clone()));
        }
        if Handle::try_current().is_err() {
            return Err(InvalidConfig::new("ledger", "a stack with a ledger is built within a tokio runtime"));
        }
        let folder = folder(config, &context.environment());
        let mut chosen = LedgerSettings::new();
        if let Some(keep) = settings.keep {
            chosen = chosen.keep(keep.0);
        }
        let ledger = Ledger::open(durable.ledger(), folder.as_deref(), chosen)
            .map_err(|error| InvalidConfig::new("ledger.folder", error.to_string()))?;
        ledger.set_events(&context.events);
        Ok(Some(Self { settings: settings.clone(), stores: stores.clone(), ledger }))
    }

    /// Returns the accountant of the requests of a generation.
    pub(crate) fn accountant(&self, config: &Config, prices: &PriceTable) -> Arc<dyn Accountant> {
        let usual = config.tiers.first().and_then(|tier| spend::price_of(prices, tier)).copied();
        Arc::new(LedgerAccountant { ledger: self.ledger.clone(), prices: prices.clone(), usual })
    }
}

/// Returns the folder of the journal, if there is one.
fn folder(config: &Config, environment: &Environment) -> Option<PathBuf> {
    if let Some(folder) = config.ledger.as_ref().and_then(|ledger| ledger.folder.as_ref()) {
        return Some(folder.into());
    }
    // systemd lists several with colons between.
    let state = environment.get("STATE_DIRECTORY").filter(|folders| !folders.is_empty());
    if let Some(folder) = state.and_then(|folders| folders.split(':').next()) {
        return Some(Path::new(folder).join("ledger"));
    }
    match DurableUrl::parse(config.stores.durable.as_deref()?)? {
        DurableUrl::Sqlite(file) => Some(format!("{}.ledger", Path::new(file).display()).into()),
        DurableUrl::Postgres(_) => None,
    }
}

/// Writes each request into the ledger, by the prices of its generation.
#[derive(Debug)]
struct LedgerAccountant {
    ledger: Ledger,
    prices: PriceTable,
    /// The price for requests whose own model has none: that of the first tier's model.
    usual: Option<Price>,
}

/// The account of one request.
#[derive(Debug)]
struct LedgerAccount {
    ledger: Ledger,
    prices: PriceTable,
    usual: Option<Price>,
    entry: Entry,
}

impl Accountant for LedgerAccountant {
    /// Opens an account with an estimate, which counts if nobody learns the request's end: its prompt and a common
    /// answer, at the price of the model that it asks for.
    fn open(&self, request: &LlmRequest) -> Box<dyn Account> {
        let (caller, prompt) = (request.caller_part(), request.glanced_prompt());
        let usage = Usage::new(prompt.into(), request.glanced_tokens().saturating_sub(prompt).into());
        let asked = request.model().and_then(|model| self.prices.price(None, model));
        let row = LedgerRow {
            request_id: caller.id.clone(),
            key: caller.key().cloned(),
            team: caller.team().cloned(),
            feature: caller.feature.clone(),
            session: caller.session().cloned(),
            asked_model: request.model().map(Into::into),
            list: asked.or(self.usual.as_ref()).map(|price| price.cost(&usage)),
            usage,
            ..LedgerRow::default()
        };
        Box::new(LedgerAccount {
            entry: self.ledger.begin(row),
            ledger: self.ledger.clone(),
            prices: self.prices.clone(),
            usual: self.usual,
        })
    }
}

impl Account for LedgerAccount {
    fn close(self: Box<Self>, ended: &RequestEnded) {
        let Self { ledger, prices, usual, entry } = *self;
        let begun = entry.row().clone();
        let caller =
            || LedgerRow { at: std::time::Duration::ZERO, usage: Usage::default(), list: None, ..begun.clone() };
        for attempt in ended.failures.as_deref().unwrap_or_default() {
            // One that may have been worked on without a report has read its prompt at least.
            let read = || Usage::new(begun.usage.input, 0);
            let silent = attempt.failure.is_some_and(ErrorKind::may_have_cost);
            if let Some(usage) = attempt.usage.or_else(|| silent.then(read)) {
                let row = of_attempt(attempt, usage, &prices, caller());
                ledger.record(LedgerRow { is_estimate: attempt.usage.is_none(), ..row });
            }
        }
        let mut row = LedgerRow {
            tier: ended.tier.clone(),
            provider: ended.provider.clone(),
            served_model: ended.served_model.clone().or_else(|| ended.model.clone()),
            degraded: ended.degraded.is_some(),
            kind: kind(ended),
            ..caller()
        };
        row.asked_model = row.asked_model.or_else(|| ended.model.clone());
        match ended.usage {
            Some(usage) => {
                set_cost(&mut row, usage, prices.place_of(ended.priced_names()).map(|place| prices.at(place)))
            }
            // A caller that leaves before the answer leaves the provider at work: it has read the prompt at least.
            None if row.kind == RowKind::Left => {
                let read = Usage::new(begun.usage.input, 0);
                let price = row.asked_model.as_deref().and_then(|model| prices.price(None, model));
                set_cost(&mut row, read, price.or(usual.as_ref()));
                row.is_estimate = true;
            }
            None => {}
        }
        entry.end(row);
    }
}

fn kind(ended: &RequestEnded) -> RowKind {
    match (&ended.cached, ended.outcome) {
        (Some(cached), _) if cached.why == CacheReason::Replayed => RowKind::Replayed,
        (Some(_), _) => RowKind::Cached,
        (None, RequestOutcome::Answered) => RowKind::Answered,
        (None, RequestOutcome::Failed(_)) => RowKind::Unanswered,
        (None, RequestOutcome::Broken(_)) => RowKind::Broken,
        (None, RequestOutcome::Abandoned) => RowKind::Left,
        (None, _) => RowKind::Answered,
    }
}

fn of_attempt(attempt: &Attempt, usage: Usage, prices: &PriceTable, caller: LedgerRow) -> LedgerRow {
    let names = PricedNames { provider: attempt.provider.as_deref(), asked: attempt.model.as_deref(), served: None };
    let mut row = LedgerRow {
        tier: attempt.tier.clone(),
        provider: attempt.provider.clone(),
        served_model: attempt.model.clone(),
        kind: RowKind::Failed,
        ..caller
    };
    set_cost(&mut row, usage, prices.place_of(names).map(|place| prices.at(place)));
    row
}

/// Sets the tokens and both costs.
fn set_cost(row: &mut LedgerRow, usage: Usage, price: Option<&Price>) {
    (row.own, row.list) = (usage.cost, price.map(|price| price.cost(&usage)));
    row.usage = usage;
    row.usage.cost = None;
}
