//! The ledger of what answers cost.

use std::{
    mem,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use tokio::{runtime::Handle, sync::Mutex, time::Instant};

use super::{context::StackContext, grants::Agreement, spend, stores::OpenStores};
use crate::{Config, DurableUrl, Environment};
use steadfast::{
    CacheReason, InvalidConfig, LlmRequest,
    chat::Usage,
    events::{Account, Accountant, RequestEnded, RequestOutcome},
    prices::{Price, PriceTable, PricedNames},
    request::unseen_answer,
};
use steadfast_ledger::{Entry, Ledger, LedgerRow, LedgerSettings, RowKind};

/// The open ledger of a configuration. Clones are the same.
#[derive(Clone, Debug)]
pub(crate) struct LedgerState {
    settings: crate::Ledger,
    stores: OpenStores,
    pub(crate) ledger: Ledger,
    pub(crate) agreement: Arc<Mutex<Agreement>>,
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
        if folder.is_none() {
            tracing::warn!("ledger without a journal: a kill loses up to a second; name a folder in `ledger.folder`");
        }
        let mut chosen = LedgerSettings::new();
        if let Some(keep) = settings.keep {
            chosen = chosen.keep(keep.0);
        }
        let ledger = Ledger::open(durable.ledger(), folder.as_deref(), chosen)
            .map_err(|error| InvalidConfig::new("ledger.folder", error.to_string()))?;
        ledger.set_events(&context.events);
        Ok(Some(Self { settings: settings.clone(), stores: stores.clone(), ledger, agreement: Arc::default() }))
    }

    /// Returns the accountant of the requests of a generation.
    pub(crate) fn accountant(&self, config: &Config, prices: &PriceTable) -> Arc<dyn Accountant> {
        let usual = config.tiers.first().and_then(|tier| spend::price_of(prices, tier)).copied();
        Arc::new(LedgerAccountant(Arc::new(Book { ledger: self.ledger.clone(), prices: prices.clone(), usual })))
    }
}

/// Returns the folder of the journal, if there is one.
fn folder(config: &Config, environment: &Environment) -> Option<PathBuf> {
    if let Some(folder) = config.ledger.as_ref().and_then(|ledger| ledger.folder.as_ref()) {
        return Some(folder.into());
    }
    if let Some(folder) = environment.state_folder() {
        return Some(folder.join("ledger"));
    }
    match DurableUrl::parse(config.stores.durable.as_deref()?)? {
        DurableUrl::Sqlite(file) => Some(format!("{}.ledger", Path::new(file).display()).into()),
        DurableUrl::Postgres(_) => None,
    }
}

/// Writes each request into the ledger, by the prices of its generation.
#[derive(Debug)]
struct LedgerAccountant(Arc<Book>);

/// A ledger, with the prices of its rows.
#[derive(Debug)]
struct Book {
    ledger: Ledger,
    prices: PriceTable,
    /// The price for requests whose own model has none: that of the first tier's model.
    usual: Option<Price>,
}

/// The account of one request.
#[derive(Debug)]
struct LedgerAccount {
    book: Arc<Book>,
    entry: Entry,
    begun: Instant,
    /// The most tokens that an answer may have that nobody saw: none of a stream.
    unseen: u64,
}

impl Accountant for LedgerAccountant {
    /// Opens an account with an estimate, which counts if nobody learns the request's end: its prompt and a common
    /// answer, at the price of the model that it asks for.
    fn open(&self, request: &LlmRequest) -> Box<dyn Account> {
        let Self(book) = self;
        let (caller, prompt) = (request.caller_part(), request.glanced_prompt());
        let usage = Usage::new(prompt.into(), request.glanced_tokens().saturating_sub(prompt).into());
        let row = LedgerRow {
            request_id: caller.id.clone(),
            key: caller.key().cloned(),
            team: caller.team().cloned(),
            feature: caller.feature.clone(),
            session: caller.session().cloned(),
            asked_model: request.model().map(Into::into),
            list: book.asked(request.model()).map(|price| price.cost(&usage)),
            usage,
            ..LedgerRow::default()
        };
        let unseen = if request.is_stream() { 0 } else { request.glanced_answer() };
        Box::new(LedgerAccount { book: book.clone(), entry: book.ledger.begin(row), begun: Instant::now(), unseen })
    }
}

impl Account for LedgerAccount {
    fn close(self: Box<Self>, ended: &RequestEnded) {
        let Self { book, entry, begun, unseen } = *self;
        // The law of silent calls is the budget's: the prompt and what may have been written, once for a request.
        let read = Usage::new(entry.row().usage.input, unseen_answer(begun.elapsed(), unseen));
        let mut is_estimated = false;
        let begun = LedgerRow { at: Duration::ZERO, usage: Usage::default(), list: None, ..entry.row().clone() };
        for attempt in ended.failures.as_deref().unwrap_or_default() {
            let estimate = (attempt.is_silent() && !mem::replace(&mut is_estimated, true)).then_some(read);
            if let Some(usage) = attempt.usage.or(estimate) {
                let names = PricedNames::of([&attempt.provider, &attempt.model, &None]);
                let row = LedgerRow {
                    tier: attempt.tier.clone(),
                    provider: attempt.provider.clone(),
                    served_model: attempt.model.clone(),
                    kind: RowKind::Failed,
                    is_estimate: attempt.usage.is_none(),
                    ..begun.clone()
                };
                book.ledger.record(book.priced(row, names, usage));
            }
        }
        let row = LedgerRow {
            tier: ended.tier.clone(),
            provider: ended.provider.clone(),
            served_model: ended.served_model.clone().or_else(|| ended.model.clone()),
            degraded: ended.degraded.is_some(),
            kind: kind(ended),
            ..begun
        };
        // A caller that leaves before the answer leaves the provider at work.
        let is_estimate = ended.usage.is_none() && row.kind == RowKind::Left;
        let row = match ended.usage.or_else(|| is_estimate.then_some(read)) {
            Some(usage) => book.priced(LedgerRow { is_estimate, ..row }, ended.priced_names(), usage),
            None => row,
        };
        entry.end(LedgerRow { asked_model: row.asked_model.or_else(|| ended.model.clone()), ..row });
    }
}

impl Book {
    /// Returns the price of the model that a request asks for.
    fn asked(&self, model: Option<&str>) -> Option<&Price> {
        model.and_then(|model| self.prices.price(None, model)).or(self.usual.as_ref())
    }

    /// Sets a row's tokens, and both costs. A leaf that names no model is assumed to use the requested one.
    fn priced(&self, mut row: LedgerRow, names: PricedNames<'_>, usage: Usage) -> LedgerRow {
        let price = match names.asked {
            None => self.asked(row.asked_model.as_deref()),
            Some(_) => self.prices.place_of(names).map(|place| self.prices.at(place)),
        };
        (row.own, row.list) = (usage.cost, price.map(|price| price.cost(&usage)));
        row.usage = usage;
        row.usage.cost = None;
        row
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
