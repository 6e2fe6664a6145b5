//! `steadfast spend reconcile`: a provider's own report against the ledger.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    io::Write as _,
    path::PathBuf,
};

use clap::Args;
use http::Uri;
use serde_json::Value;
use steadfast_internal::wall_clock::{parse_rfc3339, rfc3339};

use super::export::{Export, Tokens};
use crate::{Failure, remote::Remote, table::Table};

/// Hold a provider's report of usage or costs against the ledger, by day and model
///
/// The files are what OpenAI's `/v1/organization/usage/completions` and `/v1/organization/costs` answer, and
/// Anthropic's `/v1/organizations/usage_report/messages` and `cost_report`, with `group_by=model`, or the tables that
/// the providers' pages export. Ends with 1 if something differs by more than `--at-most`.
#[derive(Args)]
pub(crate) struct Reconcile {
    /// The provider's report, in one file or more
    #[arg(value_name = "FILE", required = true)]
    files: Vec<PathBuf>,

    /// The provider's name in the ledger; left out: that of the report's form
    #[arg(long, value_name = "NAME")]
    provider: Option<String>,

    /// The difference that is let pass, in percent
    #[arg(long, value_name = "PERCENT", default_value_t = 1.0)]
    at_most: f64,

    /// The gateway
    #[arg(long, value_name = "URL", env = "STEADFAST_URL", default_value = "http://127.0.0.1:8080")]
    url: Uri,

    /// The environment variable of the key
    #[arg(long, value_name = "NAME", default_value = "STEADFAST_ADMIN_KEY")]
    key_env: String,
}

impl Reconcile {
    pub(crate) async fn run(self) -> Result<(), Failure> {
        let mut export = Export::default();
        for path in &self.files {
            let wrong = |problem: String| Failure::Config(format!("{}: {problem}", path.display()));
            let text = fs::read_to_string(path).map_err(|error| wrong(error.to_string()))?;
            export.read(&text).map_err(wrong)?;
        }
        let days: BTreeSet<&String> = export.usage.keys().map(|(day, _)| day).chain(export.costs.keys()).collect();
        let (Some(first), Some(last)) = (days.first(), days.last()) else {
            return Err(Failure::Config("the report is empty: it has no day with usage or costs".to_owned()));
        };
        let provider = self.provider.as_deref().or(export.provider).unwrap_or_default();
        let remote = Remote::of(self.url.clone(), &self.key_env, "`admin: true`")?;
        let path = format!("/admin/spend?by=day,provider,model&from={first}&to={}", after(last));
        let ledger = Ledger::of(&remote.ask(&path, None).await?, provider);
        let report = compare(&export, &ledger, self.at_most);
        let mut out = std::io::stdout();
        out.write_all(report.text.as_bytes())?;
        if export.goes_on {
            writeln!(out, "The report goes on (`has_more`): give its other pages too.")?;
        }
        match report.beyond {
            0 => Ok(()),
            beyond => Err(Failure::Missed(format!("{beyond} of them differ by more than {} %", self.at_most))),
        }
    }
}

/// Returns the day after.
fn after(day: &str) -> String {
    let moment = parse_rfc3339(&format!("{day}T00:00:00Z")).unwrap_or_default();
    rfc3339(moment.saturating_add(std::time::Duration::from_secs(24 * 60 * 60)))
        .get(..10)
        .unwrap_or_default()
        .to_owned()
}

/// A provider's part of the ledger.
#[derive(Debug, Default)]
struct Ledger {
    usage: BTreeMap<(String, String), Tokens>,
    costs: BTreeMap<String, f64>,
}

impl Ledger {
    fn of(answer: &Value, provider: &str) -> Self {
        let mut ledger = Self::default();
        let groups = answer["groups"].as_array().into_iter().flatten();
        for group in groups.filter(|group| group["provider"] == provider) {
            let text = |name: &str| group[name].as_str().unwrap_or_default();
            let day = text("day").get(..10).unwrap_or_default().to_owned();
            *ledger.costs.entry(day.clone()).or_default() += group["costDollars"].as_f64().unwrap_or_default();
            let sum = ledger.usage.entry((day, text("model").to_owned())).or_default();
            sum.input += group["inputTokens"].as_u64().unwrap_or_default();
            sum.output += group["outputTokens"].as_u64().unwrap_or_default();
        }
        ledger
    }
}

/// The report's and the ledger's numbers side by side.
struct Comparison {
    text: String,
    /// The rows that differ by more than is let pass.
    beyond: usize,
}

fn compare(export: &Export, ledger: &Ledger, at_most: f64) -> Comparison {
    let (mut text, mut beyond) = (String::new(), 0);
    if !export.usage.is_empty() {
        let mut table = Table::new(["day", "model", "input", "ledger", "output", "ledger", "difference"]);
        let all: BTreeSet<&(String, String)> = export.usage.keys().chain(ledger.usage.keys()).collect();
        for key in all {
            let (theirs, ours) = (value(&export.usage, key), value(&ledger.usage, key));
            let parts = [(theirs.input, ours.input), (theirs.output, ours.output)];
            let differs = parts.map(|(theirs, ours)| percent(theirs as f64, ours as f64));
            let most = if differs[0].abs() >= differs[1].abs() { differs[0] } else { differs[1] };
            beyond += usize::from(most.abs() > at_most);
            let numbers = [theirs.input, ours.input, theirs.output, ours.output].map(|tokens| tokens.to_string());
            table.row([key.0.clone(), key.1.clone()].into_iter().chain(numbers).chain([in_percent(most)]));
        }
        text += &table.to_string();
    }
    if !export.costs.is_empty() {
        let mut table = Table::new(["day", "cost", "ledger", "difference"]);
        for (day, theirs) in &export.costs {
            let ours = ledger.costs.get(day).copied().unwrap_or_default();
            let differs = percent(*theirs, ours);
            beyond += usize::from(differs.abs() > at_most);
            table.row([day.clone(), format!("${theirs:.4}"), format!("${ours:.4}"), in_percent(differs)]);
        }
        text += &table.to_string();
    }
    Comparison { text, beyond }
}

fn value(of: &BTreeMap<(String, String), Tokens>, key: &(String, String)) -> Tokens {
    of.get(key).copied().unwrap_or_default()
}

/// Returns by how much the ledger is above the provider's report, in percent of the larger.
fn percent(theirs: f64, ours: f64) -> f64 {
    let most = theirs.max(ours);
    if most > 0.0 { (ours - theirs) / most * 100.0 } else { 0.0 }
}

fn in_percent(difference: f64) -> String {
    if difference == 0.0 { "none".to_owned() } else { format!("{difference:+.2} %") }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_differs_is_told_by_day_and_model() {
        let mut export = Export::default();
        let result = |model: &str, input: u64, output: u64| json!({"input_tokens": input, "output_tokens": output, "model": model});
        let page = json!({"data": [
            {"start_time": 1_793_491_200, "results": [result("gpt-4o", 1000, 500), result("gpt-5.4", 10, 10)]},
            {"start_time": 1_793_491_200, "results": [{"amount": {"value": 2.0, "currency": "usd"}}]}]});
        export.read(&page.to_string()).unwrap();
        let group = |provider: &str, model: &str, input: u64, output: u64, cost: f64| {
            json!({"day": "2026-11-01T00:00:00Z", "provider": provider, "model": model, "inputTokens": input,
                "outputTokens": output, "costDollars": cost})
        };
        let answer = json!({"groups": [
            group("openai", "gpt-4o", 1000, 505, 1.0), group("azure", "gpt-4o", 9000, 9000, 9.0),
            group("openai", "o3", 7, 7, 0.5)]});
        let told = compare(&export, &Ledger::of(&answer, "openai"), 1.0);
        let expected = "day         model    input  ledger  output  ledger  difference\n\
            2026-11-01  gpt-4o   1000   1000    500     505     +0.99 %\n\
            2026-11-01  gpt-5.4  10     0       10      0       -100.00 %\n\
            2026-11-01  o3       0      7       0       7       +100.00 %\n\
            day         cost     ledger   difference\n\
            2026-11-01  $2.0000  $1.5000  -25.00 %\n";
        assert_eq!((told.text.as_str(), told.beyond), (expected, 3));
        assert_eq!(after("2026-11-30"), "2026-12-01");
    }
}
