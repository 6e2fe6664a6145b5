use std::{sync::Arc, time::Duration};

use serde::{Deserialize, Serialize};

use super::id::RowId;
use steadfast::{chat::Usage, prices::Usd};

/// The settled cost of one call to a language model, or of one attempt that used tokens and failed.
///
/// [`Ledger`](crate::Ledger) gives a row its id, and its time unless the caller has set one.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct LedgerRow {
    /// The id, by which a store knows the row again.
    pub id: RowId,
    /// The end of the request by the wall clock, since 1970. Stores keep whole milliseconds.
    #[serde(with = "millis")]
    pub at: Duration,
    /// The server's id of the request.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub request_id: Option<Arc<str>>,
    /// The name of the caller's key, never the key itself.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key: Option<Arc<str>>,
    /// The caller's team.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub team: Option<Arc<str>>,
    /// The product's feature.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub feature: Option<Arc<str>>,
    /// The caller's session. The hourly roll-up does not have it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub session: Option<Arc<str>>,
    /// The tier that answered.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tier: Option<Arc<str>>,
    /// The provider that answered.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub provider: Option<Arc<str>>,
    /// The model that the caller asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub asked_model: Option<Arc<str>>,
    /// The model that answered.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub served_model: Option<Arc<str>>,
    /// The tokens.
    pub usage: Usage,
    /// The cost by the price table. `None` if the table has no price.
    #[serde(with = "nanos", skip_serializing_if = "Option::is_none")]
    pub list: Option<Usd>,
    /// The provider's own figure, or the sum of an answer's parts where another model went on with it. It wins over the
    /// price table's.
    #[serde(with = "nanos", skip_serializing_if = "Option::is_none")]
    pub own: Option<Usd>,
    /// The end that the request came to.
    pub kind: RowKind,
    /// True if the answer is of a lesser tier or a kept one.
    pub degraded: bool,
    /// True if the amounts are an estimate: the process died while the request was in flight, or nobody ended it.
    pub is_estimate: bool,
}

/// The end that a request, or an attempt, came to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RowKind {
    /// The caller has the answer.
    #[default]
    Answered,
    /// An attempt used tokens and failed. Its request has a row of its own.
    Failed,
    /// The answer broke after its first token: the caller has a part of it.
    Broken,
    /// The caller left before the end.
    Left,
    /// The request failed, and nothing was paid for it but its failed attempts, which have rows of their own.
    Unanswered,
    /// The answer came from a cache, free of charge.
    Cached,
    /// The answer under an idempotency key was given again, free of charge.
    Replayed,
}

impl RowKind {
    /// All kinds.
    pub const ALL: [Self; 7] =
        [Self::Answered, Self::Failed, Self::Broken, Self::Left, Self::Unanswered, Self::Cached, Self::Replayed];

    /// Returns the name that stores and the journal use.
    pub fn name(self) -> &'static str {
        match self {
            Self::Answered => "answered",
            Self::Failed => "failed",
            Self::Broken => "broken",
            Self::Left => "left",
            Self::Unanswered => "unanswered",
            Self::Cached => "cached",
            Self::Replayed => "replayed",
        }
    }

    /// Returns the kind of this name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.name() == name)
    }

    /// Returns true if no provider was paid.
    pub fn is_free(self) -> bool {
        matches!(self, Self::Cached | Self::Replayed | Self::Unanswered)
    }
}

/// The largest amount and the largest number of tokens that stores keep: that of their signed integers.
pub const LARGEST: u64 = i64::MAX as u64;
/// The longest text of a row in bytes: more is cut off, so that six texts fit into one entry of an index.
pub const TEXT_BYTES: usize = 256;

impl LedgerRow {
    /// Returns the cost: the provider's own figure, or else that of the price table. A free answer costs nothing.
    pub fn cost(&self) -> Option<Usd> {
        if self.kind.is_free() {
            return Some(Usd::ZERO);
        }
        self.own.or(self.list)
    }

    /// Returns the model that answered, or else the one that was asked for.
    pub fn model(&self) -> Option<&Arc<str>> {
        self.served_model.as_ref().or(self.asked_model.as_ref())
    }

    /// Returns the place of the row in the order of [`LedgerStore::rows`](crate::LedgerStore::rows).
    pub fn cursor(&self) -> RowCursor {
        RowCursor { at: self.at, id: self.id }
    }

    /// Returns the time in whole milliseconds since 1970, below the largest number: a store's question has an end.
    pub fn at_millis(&self) -> i64 {
        i64::try_from(self.at.as_millis()).unwrap_or(i64::MAX).min(i64::MAX - 1)
    }

    /// Returns the row as every store keeps it.
    ///
    /// Times are whole milliseconds. Amounts and tokens are at most [`LARGEST`]. Texts are cut at [`TEXT_BYTES`], an
    /// empty one is `None`, and NUL, which PostgreSQL refuses, becomes U+FFFD.
    #[must_use]
    pub fn normalized(mut self) -> Self {
        self.at = Duration::from_millis(self.at_millis().unsigned_abs());
        for text in [
            &mut self.request_id,
            &mut self.key,
            &mut self.team,
            &mut self.feature,
            &mut self.session,
            &mut self.tier,
            &mut self.provider,
            &mut self.asked_model,
            &mut self.served_model,
        ] {
            normalize(text);
        }
        let Usage { input, cache_read, cache_write, output, reasoning, .. } = &mut self.usage;
        for tokens in [input, cache_read, cache_write, output, reasoning] {
            *tokens = LARGEST.min(*tokens);
        }
        for amount in [&mut self.list, &mut self.own] {
            *amount = amount.map(|amount| amount.min(Usd::from_nanos(LARGEST)));
        }
        self
    }
}

fn normalize(text: &mut Option<Arc<str>>) {
    let Some(old) = text else { return };
    if old.is_empty() {
        *text = None;
    } else if old.len() > TEXT_BYTES || old.contains('\0') {
        let mut new = old.replace('\0', "\u{fffd}");
        let cut = (0..=TEXT_BYTES.min(new.len())).rev().find(|at| new.is_char_boundary(*at));
        new.truncate(cut.unwrap_or_default());
        *text = Some(new.into());
    }
}

/// The place of a row in the order of time and, within a millisecond, of ids.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct RowCursor {
    /// The row's time.
    pub at: Duration,
    /// The row's id.
    pub id: RowId,
}

/// Times as whole milliseconds.
mod millis {
    use std::time::Duration;

    use serde::{Deserialize as _, Deserializer, Serializer};
    use steadfast_internal::wall_clock;

    pub(super) fn serialize<S: Serializer>(at: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_u64(wall_clock::millis(*at))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
        u64::deserialize(deserializer).map(Duration::from_millis)
    }
}

/// Amounts as billionths of a dollar: a number of dollars would lose some of them.
mod nanos {
    use serde::{Deserialize as _, Deserializer, Serialize as _, Serializer};
    use steadfast::prices::Usd;

    pub(super) fn serialize<S: Serializer>(amount: &Option<Usd>, serializer: S) -> Result<S::Ok, S::Error> {
        amount.map(Usd::nanos).serialize(serializer)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Usd>, D::Error> {
        Ok(Option::<u64>::deserialize(deserializer)?.map(Usd::from_nanos))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_providers_own_figure_wins_and_a_free_answer_costs_nothing() {
        let (list, own) = (Some(Usd::from_nanos(7)), Some(Usd::from_nanos(5)));
        assert_eq!(LedgerRow { list, ..LedgerRow::default() }.cost(), list);
        assert_eq!(LedgerRow { list, own, ..LedgerRow::default() }.cost(), own);
        assert_eq!(LedgerRow::default().cost(), None);
        for kind in RowKind::ALL {
            let row = LedgerRow { list, kind, ..LedgerRow::default() };
            assert_eq!(row.cost() == Some(Usd::ZERO), kind.is_free());
            assert_eq!(RowKind::from_name(kind.name()), Some(kind));
            assert_eq!(serde_json::to_string(&kind).unwrap(), format!("\"{}\"", kind.name()));
        }
    }

    #[test]
    fn json_gives_every_billionth_back() {
        let row = LedgerRow {
            id: RowId { writer: 3, sequence: 4 },
            at: Duration::from_millis(1_700_000_000_123),
            key: Some("né\u{0}\n\"".into()),
            usage: Usage::new(u64::MAX, 1),
            list: Some(Usd::from_nanos(u64::MAX)),
            own: Some(Usd::from_nanos(9_007_199_254_740_993)),
            kind: RowKind::Left,
            degraded: true,
            is_estimate: true,
            ..LedgerRow::default()
        };
        let json = serde_json::to_string(&row).unwrap();
        assert!(!json.contains('\n') && !json.contains("team"), "{json}");
        assert_eq!(serde_json::from_str::<LedgerRow>(&json).unwrap(), row);
    }

    #[test]
    fn a_normal_row_fits_into_every_store() {
        let row = LedgerRow {
            at: Duration::MAX,
            key: Some("".into()),
            team: Some("a\0b".into()),
            feature: Some("é".repeat(TEXT_BYTES).into()),
            usage: Usage::new(u64::MAX, 1),
            list: Some(Usd::from_nanos(u64::MAX)),
            ..LedgerRow::default()
        }
        .normalized();
        assert_eq!((row.key.as_deref(), row.team.as_deref()), (None, Some("a\u{fffd}b")));
        assert_eq!(row.feature.as_deref().unwrap().len(), TEXT_BYTES);
        assert_eq!((row.usage.input, row.list), (LARGEST, Some(Usd::from_nanos(LARGEST))));
        assert_eq!(row.at_millis(), i64::MAX - 1);
        assert_eq!(row.clone().normalized(), row);
    }
}
