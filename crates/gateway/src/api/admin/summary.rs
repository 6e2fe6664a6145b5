//! `GET /admin/spend/summary`: the month so far, as an owner asks for it: who spends what, what failover costs, and
//! which cap is near.
//!
//! Spend comes from the ledger, so it is that of all gateways of its store. What the tokens of a later tier would have
//! cost at the first is computed from their sums at the first tier's price.

use std::{cmp::Reverse, collections::BTreeMap, sync::Arc, time::Duration};

use axum::{Extension, body::Body};
use http::Response;
use serde::Serialize;
use steadfast::{
    chat::Usage,
    layers::budget::{AtCap, CapSpend},
    prices::{PriceTable, Usd},
};
use steadfast_internal::{calendar, wall_clock, wall_clock::rfc3339};
use steadfast_ledger::{Spend, SpendColumn, SpendQuery};
use steadfast_stack::{Config, StackHandle, Tier};
use tokio::time::Instant;

use super::{
    Operator,
    answer::ok,
    spend::{DAY, day, groups},
};

/// The caps of an answer: those that are the nearest to their ends. Those of teams are there in any case.
const MOST_CAPS: usize = 50;

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Summary {
    /// The beginning of the month, in UTC.
    from: String,
    /// The number of its days that have begun.
    days: usize,
    /// The spend; `None` without a ledger, or while its store is away.
    spend: Option<MonthSpend>,
    /// The reason for which there is none, or for which it lacks something.
    problem: Option<String>,
    caps: Vec<Cap>,
    /// The number of all caps.
    caps_in_all: usize,
}

#[derive(Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
struct MonthSpend {
    today_dollars: f64,
    month_dollars: f64,
    requests: u64,
    /// The answers whose cost is not known, and that `month_dollars` lacks.
    unpriced_rows: u64,
    /// The teams, the one that spends the most first.
    teams: Vec<Team>,
    failover: Failover,
}

#[derive(Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
struct Team {
    /// The name; `None` for requests whose key has no team.
    team: Option<Arc<str>>,
    today_dollars: f64,
    month_dollars: f64,
    requests: u64,
    /// The dollars of each day.
    days: Vec<f64>,
}

/// The answers that a later tier gave.
#[derive(Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
struct Failover {
    requests: u64,
    cost_dollars: f64,
    /// The cost beyond that of the first tier, and the cost below it, where both prices are known.
    extra_dollars: f64,
    saved_dollars: f64,
    /// The requests for which the first tier's price is not known.
    unknown_requests: u64,
    tiers: Vec<LaterTier>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct LaterTier {
    tier: Arc<str>,
    instead_of: Box<str>,
    requests: u64,
    cost_dollars: f64,
    /// The same tokens at the first tier; `None` if its price is not known.
    there_dollars: Option<f64>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Cap {
    cap: Arc<str>,
    key: Option<Arc<str>>,
    team: Option<Box<str>>,
    feature: Option<Arc<str>>,
    period: String,
    at_cap: String,
    spent_dollars: f64,
    reserved_dollars: f64,
    limit_dollars: f64,
    /// Spent and reserved, of the limit; 1 for a limit of nothing.
    used: f64,
    resets_in_seconds: u64,
}

pub(super) async fn summary(Extension(stack): Operator) -> Response<Body> {
    let now = wall_clock::since_1970();
    let today = now.as_secs() / DAY.as_secs();
    let (year, month, date) = calendar::date_of(today);
    let (first, config) = (calendar::day_of(year, month, 1), stack.config());
    let (spend, problem) = match spent(&stack, &config, first, today).await {
        Ok(spend) => (Some(spend), None),
        Err(problem) => (None, Some(problem)),
    };
    let (caps, caps_in_all) = caps(stack.spend(), &config, Instant::now());
    let days = usize::try_from(date).unwrap_or_default();
    ok(&Summary { from: rfc3339(day(first)), days, spend, problem, caps, caps_in_all })
}

/// Returns the spend from a day to today, in days since 1970.
async fn spent(stack: &StackHandle, config: &Config, first: u64, today: u64) -> Result<MonthSpend, String> {
    let ledger = stack.ledger().ok_or("this gateway keeps no ledger: add `ledger: {}` and a durable store to it")?;
    let month = SpendQuery::new(day(first), day(today + 1));
    let by_team = month.clone().by(SpendColumn::Day).by(SpendColumn::Team);
    let by_tier = [SpendColumn::Feature, SpendColumn::Tier, SpendColumn::Provider, SpendColumn::Model];
    let by_tier = by_tier.into_iter().fold(month, SpendQuery::by);
    let (by_team, by_tier) = tokio::try_join!(groups(&ledger, &by_team), groups(&ledger, &by_tier))?;
    let days = usize::try_from(today + 1 - first).unwrap_or_default();
    Ok(MonthSpend { failover: failover(&by_tier, config, &stack.prices()), ..of_teams(&by_team, day(first), days) })
}

/// Adds up the spend of days and teams.
fn of_teams(groups: &[Spend], from: Duration, days: usize) -> MonthSpend {
    let mut spend = MonthSpend::default();
    let mut teams = BTreeMap::<Option<Arc<str>>, (Team, Vec<Usd>)>::new();
    for Spend { group, requests, cost, unpriced, .. } in groups {
        let since = group.since.unwrap_or(from).saturating_sub(from);
        let at = usize::try_from(since.as_secs() / DAY.as_secs()).unwrap_or(usize::MAX);
        let new = || (Team { team: group.team.clone(), ..Team::default() }, vec![Usd::ZERO; days]);
        let (team, of_days) = teams.entry(group.team.clone()).or_insert_with(new);
        if let Some(of_day) = of_days.get_mut(at) {
            *of_day = *of_day + *cost;
        }
        team.requests += requests;
        spend.requests += requests;
        spend.unpriced_rows += unpriced;
    }
    let [mut today, mut month] = [Usd::ZERO; 2];
    let mut in_all = |(mut team, of_days): (Team, Vec<Usd>)| {
        let all = of_days.iter().fold(Usd::ZERO, |sum, cost| sum + *cost);
        let last = of_days.last().copied().unwrap_or_default();
        (today, month) = (today + last, month + all);
        (team.today_dollars, team.month_dollars) = (last.dollars(), all.dollars());
        team.days = of_days.iter().map(|cost| cost.dollars()).collect();
        (Reverse(all), team)
    };
    let mut teams: Vec<_> = teams.into_values().map(&mut in_all).collect();
    teams.sort_by_key(|(most, _)| *most);
    (spend.today_dollars, spend.month_dollars) = (today.dollars(), month.dollars());
    spend.teams = teams.into_iter().map(|(_, team)| team).collect();
    spend
}

/// Adds up the answers of tiers that are not the first of their feature's chain.
fn failover(groups: &[Spend], config: &Config, prices: &PriceTable) -> Failover {
    let mut all = Failover::default();
    let mut tiers = BTreeMap::<(Arc<str>, Box<str>), (u64, Usd, Option<Usd>)>::new();
    let [mut cost_of_all, mut extra, mut saved] = [Usd::ZERO; 3];
    for Spend { group, requests, usage, cost, .. } in groups {
        let first = first_tier(config, group.feature.as_deref());
        let (Some(tier), Some(first)) = (&group.tier, first) else { continue };
        let is_of_route = config.routes.iter().any(|route| route.tiers.first().is_some_and(|name| **name == **tier));
        if *first.name == **tier || is_of_route || *requests == 0 {
            continue;
        }
        let there = there(first, usage, prices);
        match there {
            Some(there) => {
                extra = extra + cost.saturating_sub(there);
                saved = saved + there.saturating_sub(*cost);
            }
            None => all.unknown_requests += requests,
        }
        all.requests += requests;
        cost_of_all = cost_of_all + *cost;
        let new = (0, Usd::ZERO, Some(Usd::ZERO));
        let (of_tier, of_cost, of_there) = tiers.entry((tier.clone(), first.name.as_str().into())).or_insert(new);
        *of_tier += requests;
        *of_cost = *of_cost + *cost;
        *of_there = of_there.zip(there).map(|(sum, there)| sum + there);
    }
    (all.cost_dollars, all.extra_dollars, all.saved_dollars) =
        (cost_of_all.dollars(), extra.dollars(), saved.dollars());
    let tiers = tiers.into_iter().map(|((tier, instead_of), (requests, cost, there))| LaterTier {
        tier,
        instead_of,
        requests,
        cost_dollars: cost.dollars(),
        there_dollars: there.map(Usd::dollars),
    });
    all.tiers = tiers.collect();
    all
}

/// Returns the first tier of a feature's chain.
fn first_tier<'a>(config: &'a Config, feature: Option<&str>) -> Option<&'a Tier> {
    let of_feature = feature.and_then(|feature| config.features.get(feature)).or(config.default_feature.as_ref());
    let first = of_feature.and_then(|feature| feature.tiers.as_ref()?.first());
    match first {
        Some(first) => config.tiers.iter().find(|tier| tier.name == *first),
        None => config.tiers.first(),
    }
}

/// Returns the cost of these tokens at a tier.
fn there(tier: &Tier, usage: &Usage, prices: &PriceTable) -> Option<Usd> {
    let price = prices.price(Some(tier.provider.name()), tier.model.as_deref()?)?;
    Some(price.cost_of_sum(usage))
}

/// Returns the caps that are the nearest to their ends and those of teams, and the number of all.
fn caps(spends: Vec<CapSpend>, config: &Config, now: Instant) -> (Vec<Cap>, usize) {
    let in_all = spends.len();
    let mut caps: Vec<Cap> = spends.into_iter().map(|spend| cap(spend, config, now)).collect();
    caps.sort_by(|one, other| other.used.total_cmp(&one.used).then_with(|| one.cap.cmp(&other.cap)));
    let mut place = 0;
    caps.retain(|cap| {
        place += 1;
        place <= MOST_CAPS || cap.team.is_some()
    });
    (caps, in_all)
}

fn cap(spend: CapSpend, config: &Config, now: Instant) -> Cap {
    let CapSpend { cap, key, feature, period, at_cap, spent, reserved, limit, resets_at, .. } = spend;
    let taken = (spent + reserved).dollars();
    let at_cap = match at_cap {
        AtCap::Warn => "warns".to_owned(),
        AtCap::StepDown(level) => format!("steps down to level {level}"),
        _ => "refuses".to_owned(),
    };
    let of_file = config.budgets.iter().find(|budget| *budget.name == *cap);
    Cap {
        team: of_file.and_then(|budget| Some(budget.team.as_deref()?.into())),
        cap,
        key,
        feature,
        period: period.to_string(),
        at_cap,
        spent_dollars: spent.dollars(),
        reserved_dollars: reserved.dollars(),
        limit_dollars: limit.dollars(),
        used: if limit == Usd::ZERO { 1.0 } else { taken / limit.dollars() },
        resets_in_seconds: resets_at.saturating_duration_since(now).as_secs(),
    }
}

#[cfg(test)]
mod tests {
    use steadfast::prices::Price;
    use steadfast_ledger::SpendGroup;
    use steadfast_stack::Format;

    use super::*;

    fn spend_of(group: SpendGroup, requests: u64, cost: Usd) -> Spend {
        Spend { group, rows: requests, requests, cost, ..Spend::default() }
    }

    fn dollars(dollars: f64) -> Usd {
        Usd::from_dollars(dollars).unwrap()
    }

    #[test]
    fn a_team_has_what_its_keys_spent_on_each_day() {
        let from = day(20_000);
        let of = |at: u32, team: Option<&str>, requests, cost| {
            let group =
                SpendGroup { since: Some(from + DAY * at), team: team.map(Into::into), ..SpendGroup::default() };
            spend_of(group, requests, dollars(cost))
        };
        let rows = [
            of(0, Some("search"), 3, 1.5),
            of(2, Some("search"), 1, 0.25),
            of(1, None, 7, 4.0),
            of(2, Some("chat"), 2, 0.5),
            // Of a clock that runs ahead.
            of(9, Some("chat"), 1, 8.0),
        ];
        let spend = of_teams(&rows, from, 3);
        let told = |team: &Team| (team.team.as_deref().map(str::to_owned), team.requests, team.days.clone());
        let expected = [
            (None, 7, vec![0.0, 4.0, 0.0]),
            (Some("search".to_owned()), 4, vec![1.5, 0.0, 0.25]),
            (Some("chat".to_owned()), 3, vec![0.0, 0.0, 0.5]),
        ];
        assert_eq!(spend.teams.iter().map(told).collect::<Vec<_>>(), expected);
        assert_eq!((spend.today_dollars, spend.month_dollars, spend.requests), (0.75, 6.25, 14));
        assert_eq!((spend.teams[1].today_dollars, spend.teams[1].month_dollars), (0.25, 1.75));
    }

    const CONFIG: &str = "
tiers:
  - { name: sonnet, provider: simulated, model: dear }
  - { name: gpt, provider: simulated, model: cheap }
  - { name: mini, provider: simulated, model: cheap }
  - { name: any, provider: simulated }
features:
  batch: { tiers: [gpt, sonnet] }
  odd: { tiers: [any, gpt] }
routes: [{ name: small, when: { max_input_tokens: 100 }, tiers: [mini] }]
";

    /// The judge prices each answer by itself, as the events' metrics do.
    #[test]
    fn failover_costs_what_each_answer_cost_beyond_the_first_tier() {
        let config = Config::from_str(CONFIG, Format::Yaml).unwrap();
        let prices = PriceTable::empty()
            .with("dear", Price::dollars(3.0, 15.0).unwrap())
            .with("cheap", Price::dollars(0.5, 20.0).unwrap());
        let mut random = fastrand::Rng::with_seed(7);
        let first = |feature: Option<&str>| match feature {
            Some("batch") => ("gpt", Some("cheap")),
            Some("odd") => ("any", None),
            _ => ("sonnet", Some("dear")),
        };
        let mut groups = BTreeMap::<(Option<&str>, &str), (u64, Usage, Usd)>::new();
        let [mut cost_of_all, mut extra, mut saved] = [0.0; 3];
        let (mut requests, mut unknown) = (0, 0);
        for _ in 0..2000 {
            let feature = [None, Some("chat"), Some("batch"), Some("odd")][random.usize(..4)];
            let (tier, model) = [("sonnet", "dear"), ("gpt", "cheap"), ("mini", "cheap")][random.usize(..3)];
            let usage = Usage::new(random.u64(..10_000), random.u64(..2_000));
            let cost = prices.cost(None, model, &usage).unwrap();
            let (first, of_first) = first(feature);
            if tier != first && tier != "mini" {
                requests += 1;
                cost_of_all += cost.dollars();
                match of_first {
                    None => unknown += 1,
                    Some(of_first) => {
                        let more = cost.dollars() - prices.cost(None, of_first, &usage).unwrap().dollars();
                        *(if more > 0.0 { &mut extra } else { &mut saved }) += more.abs();
                    }
                }
            }
            let (count, sum, costs) = groups.entry((feature, tier)).or_default();
            *count += 1;
            (sum.input, sum.output, *costs) = (sum.input + usage.input, sum.output + usage.output, *costs + cost);
        }
        let groups = groups.into_iter().map(|((feature, tier), (requests, usage, cost))| {
            let (feature, tier) = (feature.map(Into::into), Some(tier.into()));
            Spend { usage, ..spend_of(SpendGroup { feature, tier, ..SpendGroup::default() }, requests, cost) }
        });
        let all = failover(&groups.collect::<Vec<_>>(), &config, &prices);
        assert_eq!((all.requests, all.unknown_requests), (requests, unknown));
        let is = |one: f64, other: f64| assert!((one - other).abs() < 1e-5, "{one} {other}");
        is(all.cost_dollars, cost_of_all);
        // Sums of a tier tell no single answers apart: what some cost more and others less is one figure.
        is(all.extra_dollars - all.saved_dollars, extra - saved);
        let tiers = all.tiers.iter().map(|tier| (&*tier.tier, &*tier.instead_of, tier.there_dollars.is_some()));
        let expected =
            [("gpt", "any", false), ("gpt", "sonnet", true), ("sonnet", "any", false), ("sonnet", "gpt", true)];
        assert_eq!(tiers.collect::<Vec<_>>(), expected);
    }

    #[test]
    fn long_answers_are_no_reason_for_the_price_of_long_ones() {
        let price = Price::dollars(3.0, 15.0).unwrap().long_context(200_000, Price::dollars(6.0, 22.5).unwrap());
        let ten = Usage::new(10 * 50_000, 10);
        assert_eq!(price.cost_of_sum(&ten).nanos(), 10 * price.cost(&Usage::new(50_000, 1)).nanos());
    }

    #[test]
    fn the_caps_that_are_the_nearest_to_their_ends_come_first() {
        let config = Config::from_str(
            "tiers: [{ name: a, provider: simulated }]\nbudgets: [{ name: half, usd: 4, period: day, team: search }]",
            Format::Yaml,
        )
        .unwrap();
        let stack = steadfast_stack::Stack::from_config(config.clone()).unwrap().handle();
        let template = stack.spend().pop().unwrap();
        let of = |cap: &str, spent: f64, limit: f64| {
            let mut spend = template.clone();
            (spend.cap, spend.spent, spend.limit) = (cap.into(), dollars(spent), dollars(limit));
            spend
        };
        let mut all: Vec<_> = (0..100).map(|n| of(&format!("key {n}"), 0.0, 1.0)).collect();
        all.extend([of("half", 2.0, 4.0), of("over", 5.0, 4.0), of("nothing", 0.0, 0.0)]);
        let far = [of("half", 0.0, 4.0)].into_iter().chain((0..100).map(|n| of(&format!("key {n}"), 0.5, 1.0)));
        let (of_team, _) = caps(far.collect(), &config, Instant::now());
        assert_eq!((of_team.len(), of_team.last().unwrap().team.as_deref()), (MOST_CAPS + 1, Some("search")));
        let (caps, in_all) = caps(all, &config, Instant::now());
        assert_eq!((caps.len(), in_all), (MOST_CAPS, 103));
        let named = caps[..3].iter().map(|cap| (&*cap.cap, cap.used, cap.team.as_deref())).collect::<Vec<_>>();
        assert_eq!(named, [("over", 1.25, None), ("nothing", 1.0, None), ("half", 0.5, Some("search"))]);
    }
}
