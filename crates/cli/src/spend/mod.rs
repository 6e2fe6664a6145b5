//! `steadfast spend`: what answers cost, out of a running gateway's ledger.

mod export;
mod reconcile;

use std::io::Write as _;

use clap::{Args, Subcommand};
use http::Uri;
use serde_json::Value;

use crate::{
    Failure,
    remote::{Remote, escaped},
    table::Table,
};

/// Show what answers cost, by team, key, model and more, out of a running gateway's ledger
///
/// Needs a key with `admin: true` in an environment variable, since other users can see a command line, and a gateway
/// whose configuration has a `ledger`. Times are in UTC, and hours count whole.
#[derive(Args)]
#[command(args_conflicts_with_subcommands = true)]
pub(crate) struct Spend {
    #[command(subcommand)]
    action: Option<Action>,

    /// The gateway
    #[arg(long, value_name = "URL", env = "STEADFAST_URL", default_value = "http://127.0.0.1:8080")]
    url: Uri,

    /// The environment variable of the key
    #[arg(long, value_name = "NAME", default_value = "STEADFAST_ADMIN_KEY")]
    key_env: String,

    /// The groups: key, team, feature, tier, provider, model, day, hour
    #[arg(long, value_name = "COLUMNS", default_value = "team,model")]
    by: String,

    /// The beginning, such as 2027-01-31 or 2027-01-31T12:00:00Z; left out: that of this month
    #[arg(long, value_name = "TIME", conflicts_with = "month")]
    from: Option<String>,

    /// The end, which counts no more; left out: now
    #[arg(long, value_name = "TIME", conflicts_with = "month")]
    to: Option<String>,

    /// A whole month, such as 2027-01
    #[arg(long, value_name = "MONTH")]
    month: Option<String>,

    /// Print a table for spreadsheets
    #[arg(long, conflicts_with = "json")]
    csv: bool,

    /// Print the gateway's own answer, in JSON
    #[arg(long)]
    json: bool,
}

#[derive(Subcommand)]
enum Action {
    Reconcile(reconcile::Reconcile),
}

impl Spend {
    pub(crate) async fn run(self) -> Result<(), Failure> {
        if let Some(Action::Reconcile(reconcile)) = self.action {
            return reconcile.run().await;
        }
        let remote = Remote::of(self.url.clone(), &self.key_env, "`admin: true`")?;
        let mut out = std::io::stdout();
        if self.csv {
            let table = remote.text(&(self.path() + "&format=csv")).await?;
            return Ok(out.write_all(&table)?);
        }
        let answer = remote.ask(&self.path(), None).await?;
        if self.json {
            return Ok(writeln!(out, "{answer:#}")?);
        }
        Ok(out.write_all(table(&answer).as_bytes())?)
    }

    fn path(&self) -> String {
        let mut path = format!("/admin/spend?by={}", escaped(&self.by));
        for (name, value) in [("from", &self.from), ("to", &self.to), ("month", &self.month)] {
            if let Some(value) = value {
                path += &format!("&{name}={}", escaped(value));
            }
        }
        path
    }
}

/// Returns the answer for people: each group in a row, the dearest first, and the sum.
fn table(answer: &Value) -> String {
    let list = |name: &str| answer[name].as_array().map(Vec::as_slice).unwrap_or_default();
    let by: Vec<&str> = list("by").iter().filter_map(Value::as_str).collect();
    let mut groups: Vec<&Value> = list("groups").iter().collect();
    let is_by_time = by.iter().any(|column| matches!(*column, "hour" | "day"));
    if !is_by_time {
        let cost = |group: &Value| group["costDollars"].as_f64().unwrap_or(0.0);
        groups.sort_by(|one, other| cost(other).total_cmp(&cost(one)));
    }
    let mut table = Table::new(by.iter().copied().chain(["requests", "input", "output", "cost"]));
    let row = |group: &Value, names: Vec<String>| {
        let number = |name: &str| group[name].as_u64().unwrap_or(0).to_string();
        let cost = format!("${:.4}", group["costDollars"].as_f64().unwrap_or(0.0));
        names.into_iter().chain([number("requests"), number("inputTokens"), number("outputTokens"), cost])
    };
    for group in groups {
        table.row(row(group, by.iter().map(|name| group[*name].as_str().unwrap_or("-").to_owned()).collect()));
    }
    let mut sum = vec![String::new(); by.len()];
    if let Some(first) = sum.first_mut() {
        *first = "all".to_owned();
    }
    table.row(row(&answer["total"], sum));
    let mut text = format!(
        "From {} to {}:\n{table}",
        answer["from"].as_str().unwrap_or_default(),
        answer["to"].as_str().unwrap_or_default()
    );
    let total = &answer["total"];
    for (number, words) in [
        (&total["unpricedRows"], "rows are without a price, and their cost is not in the sum"),
        (&total["estimatedRows"], "rows are estimates: nobody learnt what those requests came to"),
        (&answer["waitingRows"], "rows wait for the store, and are not in the sum yet"),
        (&answer["lostRows"], "rows were lost: neither the store nor the journal had room"),
    ] {
        if let Some(number) = number.as_u64().filter(|number| *number > 0) {
            text += &format!("{number} {words}.\n");
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn people_read_the_dearest_first_and_what_the_sum_lacks() {
        let group = |team: Option<&str>, cost: f64| json!({"team": team, "requests": 2, "inputTokens": 30, "outputTokens": 4, "costDollars": cost});
        let answer = json!({"from": "2026-11-01T00:00:00Z", "to": "2026-12-01T00:00:00Z", "by": ["team"],
            "groups": [group(None, 0.5), group(Some("search"), 1.25)],
            "total": {"requests": 4, "inputTokens": 60, "outputTokens": 8, "costDollars": 1.75, "unpricedRows": 3},
            "waitingRows": 0, "lostRows": 0});
        let expected = "From 2026-11-01T00:00:00Z to 2026-12-01T00:00:00Z:\n\
            team    requests  input  output  cost\n\
            search  2         30     4       $1.2500\n\
            -       2         30     4       $0.5000\n\
            all     4         60     8       $1.7500\n\
            3 rows are without a price, and their cost is not in the sum.\n";
        assert_eq!(table(&answer), expected);
    }
}
