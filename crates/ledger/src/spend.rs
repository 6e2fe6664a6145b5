use std::{collections::BTreeMap, sync::Arc, time::Duration};

use super::row::{LARGEST, LedgerRow, RowKind};
use steadfast::{chat::Usage, prices::Usd};

/// A question for the spend of a time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SpendQuery {
    /// The beginning by the wall clock, since 1970. The hour that contains it counts whole.
    pub from: Duration,
    /// The end by the wall clock, since 1970. An hour that begins before it counts whole.
    pub to: Duration,
    /// The columns that tell groups apart. None: one group of everything.
    pub by: Vec<SpendColumn>,
}

impl SpendQuery {
    /// Creates a question for the sum of these hours.
    pub fn new(from: Duration, to: Duration) -> Self {
        Self { from, to, by: Vec::new() }
    }

    /// Adds a column that tells groups apart.
    #[must_use]
    pub fn by(mut self, column: SpendColumn) -> Self {
        self.by.push(column);
        self
    }

    /// Returns the hours since 1970 that count: from the first number up to, but without, the second.
    pub fn hours(&self) -> (i64, i64) {
        let hours = |millis: u128| i64::try_from(millis).unwrap_or(i64::MAX);
        (hours(self.from.as_millis() / HOUR_MILLIS), hours(self.to.as_nanos().div_ceil(HOUR_MILLIS * 1_000_000)))
    }

    /// Returns true if the groups are told apart by this column.
    pub fn has(&self, column: SpendColumn) -> bool {
        self.by.contains(&column)
    }
}

const HOUR_MILLIS: u128 = 3_600_000;
const HOUR_SECONDS: u64 = 3600;
/// The number of hours of a day.
const DAY_HOURS: i64 = 24;

/// A column by which spend is told apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub enum SpendColumn {
    /// The hour, in UTC.
    Hour,
    /// The day, in UTC. With [`Hour`](Self::Hour) beside it, it changes nothing.
    Day,
    /// The name of the caller's key.
    Key,
    /// The caller's team.
    Team,
    /// The product's feature.
    Feature,
    /// The tier.
    Tier,
    /// The provider.
    Provider,
    /// The model that answered, or else the one that was asked for.
    Model,
}

impl SpendColumn {
    /// All columns.
    pub const ALL: [Self; 8] =
        [Self::Hour, Self::Day, Self::Key, Self::Team, Self::Feature, Self::Tier, Self::Provider, Self::Model];
    /// The columns with a text, in the order of a store's key.
    pub const TEXTS: [Self; 6] = [Self::Key, Self::Team, Self::Feature, Self::Tier, Self::Provider, Self::Model];

    /// Returns the name, which stores use for their columns.
    pub fn name(self) -> &'static str {
        match self {
            Self::Hour => "hour",
            Self::Day => "day",
            Self::Key => "key",
            Self::Team => "team",
            Self::Feature => "feature",
            Self::Tier => "tier",
            Self::Provider => "provider",
            Self::Model => "model",
        }
    }

    /// Returns the column of this name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|column| column.name() == name)
    }
}

/// A group of rows. A column by which the question does not tell groups apart is `None`, as one that rows lack.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SpendGroup {
    /// The beginning of the hour or the day, since 1970, in UTC.
    pub since: Option<Duration>,
    /// The name of the caller's key.
    pub key: Option<Arc<str>>,
    /// The caller's team.
    pub team: Option<Arc<str>>,
    /// The product's feature.
    pub feature: Option<Arc<str>>,
    /// The tier.
    pub tier: Option<Arc<str>>,
    /// The provider.
    pub provider: Option<Arc<str>>,
    /// The model.
    pub model: Option<Arc<str>>,
}

impl SpendGroup {
    /// Returns the group that a row has in the hourly roll-up: that of all columns.
    pub fn of_row(row: &LedgerRow) -> Self {
        Self {
            since: hour_start(hour_of_millis(row.at_millis())),
            key: row.key.clone(),
            team: row.team.clone(),
            feature: row.feature.clone(),
            tier: row.tier.clone(),
            provider: row.provider.clone(),
            model: row.model().cloned(),
        }
    }

    /// Returns the hour since 1970.
    pub fn hour(&self) -> i64 {
        self.since.map_or(0, |since| hour_of_millis(i64::try_from(since.as_millis()).unwrap_or(i64::MAX)))
    }

    /// Returns the text of a column.
    pub fn text(&self, column: SpendColumn) -> Option<&Arc<str>> {
        match column {
            SpendColumn::Key => self.key.as_ref(),
            SpendColumn::Team => self.team.as_ref(),
            SpendColumn::Feature => self.feature.as_ref(),
            SpendColumn::Tier => self.tier.as_ref(),
            SpendColumn::Provider => self.provider.as_ref(),
            SpendColumn::Model => self.model.as_ref(),
            SpendColumn::Hour | SpendColumn::Day => None,
        }
    }

    /// Sets the text of a column. An empty one is `None`.
    pub fn set_text(&mut self, column: SpendColumn, text: &str) {
        let place = match column {
            SpendColumn::Key => &mut self.key,
            SpendColumn::Team => &mut self.team,
            SpendColumn::Feature => &mut self.feature,
            SpendColumn::Tier => &mut self.tier,
            SpendColumn::Provider => &mut self.provider,
            SpendColumn::Model => &mut self.model,
            SpendColumn::Hour | SpendColumn::Day => return,
        };
        *place = (!text.is_empty()).then(|| text.into());
    }

    /// Returns the wider group that a question asks for.
    #[must_use]
    pub fn within(&self, query: &SpendQuery) -> Self {
        let since = if query.has(SpendColumn::Hour) {
            self.since
        } else if query.has(SpendColumn::Day) {
            day_start(self.hour() / DAY_HOURS)
        } else {
            None
        };
        let mut wider = Self { since, ..Self::default() };
        for column in SpendColumn::TEXTS {
            if query.has(column)
                && let Some(text) = self.text(column)
            {
                wider.set_text(column, text);
            }
        }
        wider
    }
}

/// Returns the hour since 1970 of a time.
pub fn hour_of_millis(millis: i64) -> i64 {
    millis.div_euclid(HOUR_MILLIS as i64)
}

/// Returns the beginning of an hour since 1970.
pub fn hour_start(hour: i64) -> Option<Duration> {
    Some(Duration::from_secs(u64::try_from(hour).ok()?.saturating_mul(HOUR_SECONDS)))
}

/// Returns the beginning of a day since 1970.
pub fn day_start(day: i64) -> Option<Duration> {
    hour_start(day.saturating_mul(DAY_HOURS))
}

/// The spend of a group. Sums saturate at [`LARGEST`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Spend {
    /// The group.
    pub group: SpendGroup,
    /// The number of rows.
    pub rows: u64,
    /// The number of requests: of the rows that are no failed attempt.
    pub requests: u64,
    /// The tokens.
    pub usage: Usage,
    /// The cost. Free answers cost nothing.
    pub cost: Usd,
    /// The cost by the price table, that of free answers included.
    pub list: Usd,
    /// The number of rows without a price, which `cost` lacks.
    pub unpriced: u64,
    /// The number of rows with estimated amounts.
    pub estimates: u64,
}

impl Spend {
    /// The number of sums.
    pub const SUMS: usize = 11;
    /// The names of the sums, which stores use for their columns.
    pub const NAMES: [&'static str; Self::SUMS] = [
        "rows",
        "requests",
        "input",
        "cache_read",
        "cache_write",
        "output",
        "reasoning",
        "cost",
        "list",
        "unpriced",
        "estimates",
    ];

    /// Returns the spend of one row, in its group of the hourly roll-up.
    pub fn of_row(row: &LedgerRow) -> Self {
        let cost = row.cost();
        Self {
            group: SpendGroup::of_row(row),
            rows: 1,
            requests: u64::from(row.kind != RowKind::Failed),
            usage: row.usage,
            cost: cost.unwrap_or_default(),
            list: row.list.unwrap_or_default(),
            unpriced: u64::from(cost.is_none()),
            estimates: u64::from(row.is_estimate),
        }
    }

    /// Returns the sums in the order of [`NAMES`](Self::NAMES).
    pub fn sums(&self) -> [u64; Self::SUMS] {
        let Usage { input, cache_read, cache_write, output, reasoning, .. } = self.usage;
        [
            self.rows,
            self.requests,
            input,
            cache_read,
            cache_write,
            output,
            reasoning,
            self.cost.nanos(),
            self.list.nanos(),
            self.unpriced,
            self.estimates,
        ]
    }

    /// Creates a spend from its sums in the order of [`NAMES`](Self::NAMES).
    pub fn from_sums(group: SpendGroup, sums: [u64; Self::SUMS]) -> Self {
        let [rows, requests, input, cache_read, cache_write, output, reasoning, cost, list, unpriced, estimates] =
            sums.map(|sum| sum.min(LARGEST));
        let mut usage = Usage::new(input, output);
        (usage.cache_read, usage.cache_write, usage.reasoning) = (cache_read, cache_write, reasoning);
        let (cost, list) = (Usd::from_nanos(cost), Usd::from_nanos(list));
        Self { group, rows, requests, usage, cost, list, unpriced, estimates }
    }

    /// Adds the sums of another spend.
    pub fn add(&mut self, other: &Self) {
        let (mut sums, others) = (self.sums(), other.sums());
        for (sum, other) in sums.iter_mut().zip(others) {
            *sum = sum.saturating_add(other);
        }
        *self = Self::from_sums(std::mem::take(&mut self.group), sums);
    }
}

/// Adds spends up by their groups, in the order of the groups.
pub fn sum_by_group(spends: impl IntoIterator<Item = Spend>) -> Vec<Spend> {
    let mut groups: BTreeMap<SpendGroup, Spend> = BTreeMap::new();
    for spend in spends {
        match groups.get_mut(&spend.group) {
            Some(sum) => sum.add(&spend),
            None => {
                groups.insert(spend.group.clone(), spend);
            }
        }
    }
    groups.into_values().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_hour_counts_whole_if_the_time_touches_it() {
        let hours = |from, to| SpendQuery::new(Duration::from_millis(from), Duration::from_millis(to)).hours();
        assert_eq!(hours(0, 3_600_000), (0, 1));
        assert_eq!(hours(3_599_999, 3_600_001), (0, 2));
        assert_eq!(hours(3_600_000, 3_600_000), (1, 1));
        let (_, end) = SpendQuery::new(Duration::ZERO, Duration::new(3600, 1)).hours();
        assert_eq!(end, 2, "less than a millisecond counts too");
        assert!(SpendQuery::new(Duration::ZERO, Duration::MAX).hours().1 > 1 << 40);
    }

    #[test]
    fn sums_saturate_where_stores_end() {
        let mut sum = Spend { cost: Usd::from_nanos(LARGEST - 1), rows: 1, ..Spend::default() };
        sum.add(&Spend { cost: Usd::from_nanos(u64::MAX), rows: 1, ..Spend::default() });
        assert_eq!((sum.cost, sum.rows), (Usd::from_nanos(LARGEST), 2));
    }

    #[test]
    fn a_row_is_in_its_hour_and_day() {
        let row = LedgerRow { at: Duration::from_secs(25 * 3600 + 5), key: Some("k".into()), ..LedgerRow::default() };
        let group = SpendGroup::of_row(&row);
        assert_eq!((group.since, group.hour()), (Some(Duration::from_secs(25 * 3600)), 25));
        let day = SpendQuery::new(Duration::ZERO, Duration::MAX).by(SpendColumn::Day);
        assert_eq!(
            group.within(&day),
            SpendGroup { since: Some(Duration::from_secs(86_400)), ..SpendGroup::default() }
        );
        let key = SpendQuery::new(Duration::ZERO, Duration::MAX).by(SpendColumn::Key);
        assert_eq!(group.within(&key).key.as_deref(), Some("k"));
        for column in SpendColumn::ALL {
            assert_eq!(SpendColumn::from_name(column.name()), Some(column));
        }
    }
}
