//! The ledger: in memory, in a file, in a database. `MemoryLedger` is the model that the others are compared with.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex},
    time::Duration,
};

use fastrand::Rng;
use futures_util::future::join_all;
use steadfast::{chat::Usage, prices::Usd, store::StoreErrorKind};
use steadfast_ledger::{
    Grant, GrantTurn, GrantView, LARGEST, LedgerRow, LedgerStore, MemoryLedger, RowCursor, RowId, RowKind, Spend,
    SpendColumn, SpendQuery,
};
use steadfast_stores::{postgres::Postgres, sqlite::Sqlite};

use crate::testing::{Folder, Schema};

/// A store as two processes have it, and what holds it.
struct Place {
    stores: [Arc<dyn LedgerStore>; 2],
    _folder: Option<Folder>,
    schema: Option<Schema>,
}

async fn memory(_: &str) -> Option<Place> {
    let store = MemoryLedger::new();
    Some(Place { stores: [Arc::new(store.clone()), Arc::new(store)], _folder: None, schema: None })
}

async fn sqlite(test: &str) -> Option<Place> {
    let folder = Folder::new(&format!("ledger-{test}"));
    let open = || -> Arc<dyn LedgerStore> { Arc::new(Sqlite::open(folder.file()).unwrap()) };
    Some(Place { stores: [open(), open()], _folder: Some(folder), schema: None })
}

async fn postgres(test: &str) -> Option<Place> {
    let schema = Schema::new(&format!("ledger_{test}")).await?;
    let connect = async || Postgres::connect(schema.url()).await.unwrap();
    let (one, other) = (connect().await, connect().await);
    Some(Place { stores: [Arc::new(one), Arc::new(other)], _folder: None, schema: Some(schema) })
}

macro_rules! ledger {
    ($($place:ident)*) => {
        $(ledger! { $place:
            random_batches_with_repeats_are_as_in_the_model
            replicas_in_parallel_count_each_row_once
            each_column_tells_groups_apart
            an_hour_counts_whole_and_a_row_to_the_millisecond
            pages_have_each_row_once_in_order
            what_is_swept_stays_in_the_sums
            sums_saturate_and_never_wrap
            names_of_any_kind_are_kept
            a_row_comes_back_as_it_was
            a_turn_sees_the_grants_of_others_that_last
            turns_in_parallel_never_overlap
        })*
    };
    ($place:ident: $($test:ident)*) => {
        mod $place {
            $(
                #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
                async fn $test() {
                    let Some(place) = super::$place(stringify!($test)).await else { return };
                    super::$test(&place.stores).await;
                    drop(place.stores);
                    if let Some(schema) = place.schema {
                        schema.ends().await;
                    }
                }
            )*
        }
    };
}

ledger!(memory sqlite postgres);

type Stores = [Arc<dyn LedgerStore>; 2];

const HOUR: Duration = Duration::from_secs(3600);
/// The beginning of an hour and a day.
const DAY: Duration = Duration::from_secs(20_000 * 86_400);

fn row(sequence: u64, at: Duration, nanos: u64) -> LedgerRow {
    let id = RowId { writer: 7, sequence };
    LedgerRow { id, at, list: Some(Usd::from_nanos(nanos)), usage: Usage::new(nanos, 1), ..LedgerRow::default() }
}

/// A row in one of a few hours, with few different names, so that many share a group.
fn random_row(random: &mut Rng, ids: u64) -> LedgerRow {
    let id = RowId { writer: u128::from(random.u64(..2)) << 100, sequence: random.u64(..ids) };
    // Of an id: a row that comes again is the same.
    let mut random = Rng::with_seed(id.sequence ^ (id.writer >> 99) as u64);
    let mut name = |names: &[&str]| match random.usize(..=names.len()) {
        0 => None,
        at => Some(names[at - 1].into()),
    };
    let (key, team) = (name(&["ada", "", "ben é 漢"]), name(&["red", "blue"]));
    let (feature, tier, provider) =
        (name(&["chat", "'; --"]), name(&["first", "second"]), name(&["anthropic", "openai"]));
    let (asked_model, served_model) = (name(&["m", "n"]), name(&["m", "n-1"]));
    let (session, request_id) = (name(&["s"]), name(&["r"]));
    let edge = [0, 1, HOUR.as_millis() as u64 - 1, random.u64(..HOUR.as_millis() as u64)][random.usize(..4)];
    let at = DAY + HOUR * random.u32(..50) + Duration::from_millis(edge);
    let mut amount = || match random.u8(..10) {
        0..4 => None,
        4 => Some(Usd::from_nanos([u64::MAX, LARGEST, LARGEST / 2 + 1, 0][random.usize(..4)])),
        _ => Some(Usd::from_nanos(random.u64(..1_000_000))),
    };
    let (list, own) = (amount(), amount());
    let mut usage = Usage::new(random.u64(..10_000), random.u64(..1000));
    (usage.cache_read, usage.cache_write, usage.reasoning) = (random.u64(..9), random.u64(..9), random.u64(..9));
    if random.u8(..50) == 0 {
        usage.input = u64::MAX;
    }
    let kind = RowKind::ALL[random.usize(..RowKind::ALL.len())];
    let (degraded, is_estimate) = (random.bool(), random.bool());
    LedgerRow {
        id,
        at,
        request_id,
        key,
        team,
        feature,
        session,
        tier,
        provider,
        asked_model,
        served_model,
        usage,
        list,
        own,
        kind,
        degraded,
        is_estimate,
    }
}

async fn all_rows(store: &dyn LedgerStore) -> Vec<LedgerRow> {
    store.rows(Duration::ZERO, Duration::MAX, None, usize::MAX).await.unwrap()
}

async fn all_spend(store: &dyn LedgerStore) -> Vec<Spend> {
    let query = SpendColumn::ALL.into_iter().fold(SpendQuery::new(Duration::ZERO, Duration::MAX), SpendQuery::by);
    store.spend(&query).await.unwrap()
}

/// The sums of the rows by hand, in numbers that cannot overflow.
fn by_hand(rows: &[LedgerRow], group: impl Fn(&LedgerRow) -> String) -> BTreeMap<String, (u128, u128, u128)> {
    let mut sums: BTreeMap<String, (u128, u128, u128)> = BTreeMap::new();
    for row in rows {
        let (count, cost, input) = sums.entry(group(row)).or_default();
        *count += 1;
        *cost += u128::from(row.cost().unwrap_or_default().nanos().min(LARGEST));
        *input += u128::from(row.usage.input.min(LARGEST));
    }
    for (_, cost, input) in sums.values_mut() {
        (*cost, *input) = ((*cost).min(u128::from(LARGEST)), (*input).min(u128::from(LARGEST)));
    }
    sums
}

async fn random_batches_with_repeats_are_as_in_the_model([one, other]: &Stores) {
    let mut random = Rng::with_seed(11);
    let model = MemoryLedger::new();
    let mut seen = BTreeSet::new();
    for round in 0..30 {
        let batch: Vec<_> = (0..random.usize(..120)).map(|_| random_row(&mut random, 1500)).collect();
        let new = batch.iter().filter(|row| seen.insert(row.id)).count() as u64;
        let store = if random.bool() { one } else { other };
        assert_eq!(store.append(&batch).await.unwrap(), new, "{round}");
        assert_eq!(model.append(&batch).await.unwrap(), new, "{round}");
    }
    assert!(seen.len() > 500);
    let rows = all_rows(&**one).await;
    assert_eq!(rows, all_rows(&model).await);
    assert_eq!(all_spend(&**other).await, all_spend(&model).await);
    // Some questions at random.
    for _ in 0..40 {
        let from = DAY + Duration::from_millis(random.u64(..HOUR.as_millis() as u64 * 50));
        let query = SpendQuery::new(from, from + HOUR * random.u32(..30));
        let columns = SpendColumn::ALL.into_iter().filter(|_| random.bool());
        let query = columns.fold(query, SpendQuery::by);
        assert_eq!(one.spend(&query).await.unwrap(), model.spend(&query).await.unwrap(), "{query:?}");
    }
    let key = |row: &LedgerRow| row.key.as_deref().unwrap_or_default().to_owned();
    let query = SpendQuery::new(Duration::ZERO, Duration::MAX).by(SpendColumn::Key);
    let spend = one.spend(&query).await.unwrap().into_iter().map(|spend| {
        let key = spend.group.key.as_deref().unwrap_or_default().to_owned();
        (key, (u128::from(spend.rows), u128::from(spend.cost.nanos()), u128::from(spend.usage.input)))
    });
    assert_eq!(spend.collect::<BTreeMap<_, _>>(), by_hand(&rows, key));
}

async fn replicas_in_parallel_count_each_row_once(stores: &Stores) {
    let model = MemoryLedger::new();
    let mut tasks = Vec::new();
    for task in 0..8 {
        let mut random = Rng::with_seed(task / 2);
        // Two of the tasks have the same batches, in another order, and all of them the same groups.
        let mut batches: Vec<Vec<_>> =
            (0..10).map(|_| (0..60).map(|_| random_row(&mut random, 2000)).collect()).collect();
        for batch in &batches {
            model.append(batch).await.unwrap();
        }
        let mut random = Rng::with_seed(100 + task);
        random.shuffle(&mut batches);
        batches.iter_mut().for_each(|batch| random.shuffle(batch));
        let store = stores[task as usize % 2].clone();
        tasks.push(tokio::spawn(async move {
            let mut new = 0;
            for batch in batches {
                new += store.append(&batch).await.unwrap();
            }
            new
        }));
    }
    let new: u64 = join_all(tasks).await.into_iter().map(Result::unwrap).sum();
    let rows = all_rows(&*stores[0]).await;
    assert_eq!(new, rows.len() as u64);
    assert_eq!(rows, all_rows(&model).await);
    assert_eq!(all_spend(&*stores[1]).await, all_spend(&model).await);
}

async fn each_column_tells_groups_apart([one, _]: &Stores) {
    let text = |text: &str| Some(text.into());
    let base = LedgerRow { key: text("k"), team: text("t"), feature: text("f"), ..row(0, DAY, 1) };
    let base = LedgerRow { tier: text("i"), provider: text("p"), served_model: text("m"), ..base };
    let others = [
        LedgerRow { at: DAY + HOUR * 24, ..base.clone() },
        LedgerRow { key: text("K"), ..base.clone() },
        LedgerRow { team: None, ..base.clone() },
        LedgerRow { feature: text("f "), ..base.clone() },
        LedgerRow { tier: text("ı"), ..base.clone() },
        LedgerRow { provider: text("P"), ..base.clone() },
        LedgerRow { served_model: None, asked_model: text("M"), ..base.clone() },
        // The same group: what was asked for counts only if no model answered, and sessions never.
        LedgerRow { asked_model: text("M"), session: text("s"), ..base.clone() },
    ];
    let rows = [base].into_iter().chain(others).zip(0..);
    let rows: Vec<_> = rows.map(|(row, sequence)| LedgerRow { id: RowId { writer: 1, sequence }, ..row }).collect();
    assert_eq!(one.append(&rows).await.unwrap(), 9);
    for column in SpendColumn::ALL {
        let query = SpendQuery::new(Duration::ZERO, Duration::MAX).by(column);
        let spend = one.spend(&query).await.unwrap();
        let mut counts: Vec<_> = spend.iter().map(|spend| spend.rows).collect();
        counts.sort_unstable();
        assert_eq!(counts, [1, 8], "{column:?}");
        assert!(spend.is_sorted_by_key(|spend| spend.group.clone()));
    }
    assert_eq!(all_spend(&**one).await.len(), 8);
    let [sum] = &one.spend(&SpendQuery::new(Duration::ZERO, Duration::MAX)).await.unwrap()[..] else { panic!() };
    assert_eq!((sum.rows, sum.cost.nanos(), sum.usage.output), (9, 9, 9));
    assert_eq!(one.spend(&SpendQuery::new(Duration::ZERO, DAY)).await.unwrap(), []);
}

async fn an_hour_counts_whole_and_a_row_to_the_millisecond([one, _]: &Stores) {
    let milli = Duration::from_millis(1);
    let times = [DAY - milli, DAY, DAY + HOUR - milli, DAY + HOUR];
    let rows: Vec<_> = times.into_iter().zip(1..).map(|(at, nanos)| row(nanos, at, 10_u64.pow(nanos as u32))).collect();
    one.append(&rows).await.unwrap();
    let cost = async |from, to| {
        let spend = one.spend(&SpendQuery::new(from, to)).await.unwrap();
        spend.first().map_or(0, |spend| spend.cost.nanos())
    };
    assert_eq!(cost(DAY, DAY + HOUR).await, 1100);
    assert_eq!(cost(DAY + HOUR - milli, DAY + HOUR).await, 1100);
    assert_eq!(cost(DAY, DAY + HOUR + milli).await, 11_100);
    assert_eq!(cost(DAY - milli, DAY).await, 10);
    assert_eq!(cost(DAY, DAY).await, 0);
    let found = async |from, to| one.rows(from, to, None, 100).await.unwrap().len();
    assert_eq!(found(DAY, DAY + HOUR).await, 2);
    assert_eq!(found(DAY, DAY + HOUR - milli).await, 1);
    assert_eq!(found(DAY + Duration::from_nanos(1), DAY + HOUR).await, 1);
    assert_eq!(found(DAY, DAY + Duration::from_nanos(1)).await, 1);
    assert_eq!(found(DAY + HOUR, DAY).await, 0);
}

async fn pages_have_each_row_once_in_order([one, other]: &Stores) {
    let mut random = Rng::with_seed(3);
    // Many within a millisecond.
    let rows: Vec<_> = (0..200).map(|number| row(number, DAY + Duration::from_millis(random.u64(..20)), 1)).collect();
    one.append(&rows).await.unwrap();
    for limit in [1, 7, 200, 1000] {
        let (mut pages, mut after) = (Vec::new(), None::<RowCursor>);
        loop {
            let page = other.rows(DAY, DAY + HOUR, after, limit).await.unwrap();
            assert!(page.len() <= limit);
            let Some(last) = page.last() else { break };
            after = Some(last.cursor());
            pages.extend(page);
        }
        assert_eq!(pages.len(), 200);
        assert!(pages.is_sorted_by_key(LedgerRow::cursor));
    }
}

async fn what_is_swept_stays_in_the_sums([one, other]: &Stores) {
    let now = std::time::SystemTime::UNIX_EPOCH.elapsed().unwrap();
    let old = (0..1200).map(|number| row(number, now - HOUR * 3, 1));
    let new = (5000..5010).map(|number| row(number, now - HOUR, 1));
    let rows: Vec<_> = old.chain(new).collect();
    one.append(&rows).await.unwrap();
    let before = all_spend(&**one).await;
    assert_eq!(one.sweep(HOUR * 24).await.unwrap(), 0);
    assert_eq!(one.sweep(HOUR * 2).await.unwrap(), 1200);
    assert_eq!(other.sweep(HOUR * 2).await.unwrap(), 0);
    assert_eq!(all_rows(&**other).await.len(), 10);
    assert_eq!(all_spend(&**other).await, before);
    assert_eq!(one.append(&rows[1200..]).await.unwrap(), 0, "what is left is known");
}

async fn sums_saturate_and_never_wrap([one, other]: &Stores) {
    let huge = |sequence| LedgerRow { usage: Usage::new(u64::MAX, LARGEST), ..row(sequence, DAY, u64::MAX) };
    let batch: Vec<_> = (0..3).map(huge).collect();
    assert_eq!(one.append(&batch).await.unwrap(), 3);
    assert_eq!(other.append(&[huge(3), row(4, DAY, 1), row(5, DAY + HOUR, 5)]).await.unwrap(), 3);
    let [sum] = &one.spend(&SpendQuery::new(Duration::ZERO, Duration::MAX)).await.unwrap()[..] else { panic!() };
    assert_eq!((sum.rows, sum.cost.nanos(), sum.list.nanos()), (6, LARGEST, LARGEST));
    assert_eq!((sum.usage.input, sum.usage.output), (LARGEST, LARGEST));
    let hours = one.spend(&SpendQuery::new(DAY + HOUR, DAY + HOUR * 2)).await.unwrap();
    assert_eq!(hours[0].cost.nanos(), 5);
    let latest = LedgerRow { at: Duration::MAX, ..row(6, DAY, 2) };
    assert_eq!(one.append(&[latest]).await.unwrap(), 1);
    assert_eq!(all_rows(&**one).await.len(), 7);
}

async fn names_of_any_kind_are_kept([one, other]: &Stores) {
    let long = "é".repeat(5000);
    let names =
        ["", " ", "'", "\"; DROP TABLE ledger", "漢字 🦀 e\u{301}", "a\0b", "\n\t\\", "%_", "{}", "NULL", &long];
    let model = MemoryLedger::new();
    for (name, sequence) in names.into_iter().zip(0..) {
        let text = || Some(Arc::from(name));
        let row = LedgerRow { key: text(), team: text(), feature: text(), session: text(), ..row(sequence, DAY, 1) };
        let row = LedgerRow { tier: text(), provider: text(), asked_model: text(), served_model: text(), ..row };
        let row = LedgerRow { request_id: text(), ..row };
        assert_eq!(one.append(std::slice::from_ref(&row)).await.unwrap(), 1, "{name:?}");
        assert_eq!(other.append(std::slice::from_ref(&row)).await.unwrap(), 0, "{name:?}");
        model.append(&[row]).await.unwrap();
    }
    assert_eq!(all_rows(&**one).await, all_rows(&model).await);
    assert_eq!(all_spend(&**one).await, all_spend(&model).await);
}

async fn a_row_comes_back_as_it_was([one, other]: &Stores) {
    for (kind, sequence) in RowKind::ALL.into_iter().zip(0..) {
        let text = |text: &str| Some(text.into());
        let mut usage = Usage::new(1, 2);
        (usage.cache_read, usage.cache_write, usage.reasoning) = (3, 4, 5);
        let row = LedgerRow {
            id: RowId { writer: u128::MAX - 5, sequence },
            at: DAY + Duration::from_millis(sequence),
            request_id: text("req"),
            key: text("key"),
            team: text("team"),
            feature: text("feature"),
            session: text("session"),
            tier: text("tier"),
            provider: text("provider"),
            asked_model: text("asked"),
            served_model: text("served"),
            usage,
            list: Some(Usd::from_nanos(6)),
            own: (sequence > 0).then(|| Usd::from_nanos(7)),
            kind,
            degraded: sequence == 1,
            is_estimate: sequence == 2,
        };
        one.append(std::slice::from_ref(&row)).await.unwrap();
        let page = other.rows(row.at, row.at + Duration::from_millis(1), None, 10).await.unwrap();
        assert_eq!(page, [row]);
    }
}

/// Takes a turn; returns what it saw.
async fn turn(store: &dyn LedgerStore, replica: &str, lasts: Duration, grants: Vec<Grant>) -> GrantView {
    let seen = Arc::new(Mutex::new(GrantView::default()));
    let told = seen.clone();
    let choice = Arc::new(move |view: &GrantView| {
        *told.lock().unwrap() = view.clone();
        grants.clone()
    });
    let queries = vec![SpendQuery::new(DAY, DAY + HOUR), SpendQuery::new(DAY, DAY + HOUR).by(SpendColumn::Key)];
    store.grant(GrantTurn { replica: replica.into(), lasts, queries, choice }).await.unwrap();
    seen.lock().unwrap().clone()
}

fn grant(cap: &str, key: Option<&str>, nanos: u64) -> Grant {
    let (since, key) = (DAY, key.map(Into::into));
    Grant { cap: cap.into(), key, since, amount: Usd::from_nanos(nanos), held: Usd::from_nanos(nanos / 2) }
}

async fn a_turn_sees_the_grants_of_others_that_last([one, other]: &Stores) {
    one.append(&[LedgerRow { key: Some("ada".into()), ..row(1, DAY, 5) }]).await.unwrap();
    let (long, of_one) = (HOUR, vec![grant("all", None, 7), grant("each", Some("é'; --"), LARGEST), Grant::default()]);
    let seen = turn(&**one, "one", long, of_one.clone()).await;
    assert_eq!((seen.others.len(), seen.replicas), (0, 1));
    let sums: Vec<Vec<u64>> =
        seen.spends.iter().map(|spends| spends.iter().map(|spend| spend.cost.nanos()).collect()).collect();
    assert_eq!(sums, [[5], [5]]);
    assert_eq!(seen.spends[1][0].group.key.as_deref(), Some("ada"));

    let seen = turn(&**other, "other", Duration::ZERO, vec![grant("all", None, 9)]).await;
    let sorted = |mut grants: Vec<Grant>| {
        grants.sort_by(|a, b| a.cap.cmp(&b.cap));
        grants
    };
    assert_eq!((sorted(seen.others), seen.replicas), (sorted(of_one), 2));
    // A replica does not see its own, and the other's ends in a millisecond.
    let alone = GrantView { replicas: 1, others: Vec::new(), spends: seen.spends };
    while turn(&**one, "one", long, vec![Grant::default()]).await != alone {}
    let seen = turn(&**other, "other", long, Vec::new()).await;
    assert_eq!((&*seen.others, seen.replicas), (&[Grant::default()][..], 2));
    assert_eq!(turn(&**one, "one", long, Vec::new()).await, alone);
}

/// Each takes what is left of ten, in eight turns at once.
async fn turns_in_parallel_never_overlap(stores: &Stores) {
    const ALL: u64 = 10;
    let turns = (0..8).map(|place| {
        let store = &stores[place % 2];
        let choice = Arc::new(|view: &GrantView| {
            let taken: u64 = view.others.iter().map(|other| other.amount.nanos()).sum();
            if taken < ALL { vec![grant("all", None, (ALL - taken).min(3))] } else { Vec::new() }
        });
        store.grant(GrantTurn { replica: format!("{place}").into(), lasts: HOUR, queries: Vec::new(), choice })
    });
    join_all(turns).await.into_iter().for_each(Result::unwrap);
    let mut amounts: Vec<u64> =
        turn(&*stores[0], "last", HOUR, Vec::new()).await.others.iter().map(|other| other.amount.nanos()).collect();
    amounts.sort_unstable();
    assert_eq!(amounts, [1, 3, 3, 3]);
}

/// A migration is all or nothing: one that is cut leaves the version before, and is made anew.
#[tokio::test]
async fn a_migration_of_a_file_that_was_cut_is_made_anew() {
    let folder = Folder::new("ledger-migration");
    drop(Sqlite::open(folder.file()).unwrap());
    let file = rusqlite::Connection::open(folder.file()).unwrap();
    // The second of its tables cannot be made.
    file.execute_batch(
        "DROP TABLE response_leases; DROP TABLE owner; DROP TABLE worked_keys; DROP TABLE registry;
        DROP TABLE registry_changes; DROP TABLE ledger_grants; DROP TABLE ledger_hours; DROP TABLE ledger; PRAGMA user_version = 8; CREATE VIEW ledger_hours AS SELECT 1",
    )
    .unwrap();
    let _ = Sqlite::open(folder.file()).unwrap_err();
    let version: i64 = file.query_row("PRAGMA user_version", (), |row| row.get(0)).unwrap();
    let tables: i64 =
        file.query_row("SELECT count(*) FROM sqlite_schema WHERE name = 'ledger'", (), |row| row.get(0)).unwrap();
    assert_eq!((version, tables), (8, 0));
    file.execute_batch("DROP VIEW ledger_hours").unwrap();
    let store = Sqlite::open(folder.file()).unwrap();
    assert_eq!(store.append(&[row(1, DAY, 1)]).await.unwrap(), 1);
}

#[tokio::test]
async fn a_migration_of_a_database_that_was_cut_is_made_anew() {
    let Some(schema) = Schema::new("ledger_migration").await else { return };
    drop(Postgres::connect(schema.url()).await.unwrap());
    let before = "DROP TABLE steadfast_response_leases; DROP TABLE steadfast_owner; DROP TABLE steadfast_worked_keys;
        DROP TABLE steadfast_registry; DROP TABLE steadfast_registry_changes; DROP TABLE steadfast_ledger_grants;
        DROP TABLE steadfast_ledger_hours; DROP TABLE steadfast_ledger;
        DELETE FROM steadfast_schema WHERE version >= 8; CREATE VIEW steadfast_ledger_hours AS SELECT 1";
    schema.execute(before).await;
    assert_eq!(Postgres::connect(schema.url()).await.unwrap_err().kind(), StoreErrorKind::Corrupt);
    let untouched = "DO $$ BEGIN ASSERT to_regclass('steadfast_ledger') IS NULL;
        ASSERT (SELECT max(version) FROM steadfast_schema) = 7; END $$; DROP VIEW steadfast_ledger_hours";
    schema.execute(untouched).await;
    let store = Postgres::connect(schema.url()).await.unwrap();
    assert_eq!(store.append(&[row(1, DAY, 1)]).await.unwrap(), 1);
    schema.ends().await;
}
