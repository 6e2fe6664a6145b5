//! The tables, in markdown.

use serde_json::{Value, json};

use crate::{
    contestants::{COPIES, COPY, Contestant, OURS},
    timing::spread,
};

/// One table a group. An empty list is a measurement that was not made.
pub fn tables(contestants: &[Contestant], times: &[Vec<f64>], allocations: &[f64]) {
    let mut groups: Vec<&str> = contestants.iter().map(|contestant| contestant.group.as_str()).collect();
    groups.dedup();
    for group in groups {
        let within = || contestants.iter().enumerate().filter(move |(_, one)| one.group == group);
        // A request is held against a copy of it; a stream's other readers are held against ours.
        let base = within().find(|(_, one)| one.name == COPY).or_else(|| within().find(|(_, one)| one.name == OURS));
        let base = base.and_then(|(at, one)| Some((times.get(at)?, one.name)));
        println!("\n### {group}\n");
        println!(
            "| | MB/s | half of the rounds | time / {} | allocations per frame |",
            base.map_or("-", |(_, name)| name)
        );
        println!("|---|---:|---:|---:|---:|");
        for (at, contestant) in within() {
            let rate = |nanos: f64| contestant.bytes as f64 / nanos * 1e3;
            let (mut middle, mut range, mut ratio) = ("-".to_owned(), "-".to_owned(), "-".to_owned());
            if let (Some(rounds), Some((base, _))) = (times.get(at), base) {
                let [low, median, high] = spread(rounds);
                middle = format!("{:.0}", rate(median));
                range = format!("{:.0} to {:.0}", rate(high), rate(low));
                let ratios: Vec<f64> = rounds.iter().zip(base).map(|(figure, base)| figure / base).collect();
                ratio = format!("{:.2}", spread(&ratios)[1]);
            }
            let allocated =
                allocations.get(at).map_or("-".into(), |all| format!("{:.2}", all / contestant.frames as f64));
            println!("| {} | {middle} | {range} | {ratio} | {allocated} |", contestant.name);
        }
    }
}

/// For each contestant its time and that of ours in the same group, in nanoseconds. A copy is no rival, but a
/// yardstick.
pub fn json(contestants: &[Contestant], times: &[Vec<f64>]) -> Value {
    let ours = |group: &str| contestants.iter().position(|one| one.group == group && one.name == OURS);
    let rows =
        contestants.iter().zip(times).filter(|(one, _)| !one.name.starts_with(OURS) && !one.name.starts_with(COPIES));
    rows.map(|(one, rounds)| {
        let ours = ours(&one.group).map(|at| spread(&times[at])[1]);
        json!({ "group": one.group, "name": one.name, "ns": spread(rounds)[1], "ours_ns": ours })
    })
    .collect()
}
