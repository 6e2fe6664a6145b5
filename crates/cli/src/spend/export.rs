//! A provider's own report of usage or costs: the JSON of OpenAI's and Anthropic's organization APIs, or a table.
//!
//! OpenAI's usage has `input_tokens` with the cached ones among them; Anthropic's has `uncached_input_tokens` beside
//! those of its cache. OpenAI's costs are in dollars, Anthropic's in cents.

use std::collections::BTreeMap;

use serde_json::Value;
use steadfast_internal::wall_clock::{parse_rfc3339, rfc3339};

/// A provider's report, of one file or more.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Export {
    /// The name of the provider, if the form tells it.
    pub(super) provider: Option<&'static str>,
    /// The tokens, by day and model.
    pub(super) usage: BTreeMap<(String, String), Tokens>,
    /// Dollars, by day.
    pub(super) costs: BTreeMap<String, f64>,
    /// True if the report goes on in another file.
    pub(super) goes_on: bool,
}

/// Tokens, the cached ones among the input.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Tokens {
    pub(super) input: u64,
    pub(super) output: u64,
}

impl Export {
    /// Adds a file. The last one says whether the report goes on.
    ///
    /// # Errors
    ///
    /// It is no report that is known, in the way that the text says.
    pub(super) fn read(&mut self, text: &str) -> Result<(), String> {
        if !text.trim_start().starts_with(['{', '[']) {
            self.goes_on = false;
            return self.read_table(text);
        }
        let value: Value = serde_json::from_str(text).map_err(|error| error.to_string())?;
        let pages = if let Value::Array(pages) = &value { &pages[..] } else { std::slice::from_ref(&value) };
        for page in pages {
            self.goes_on = page["has_more"] == true;
            let buckets = page["data"].as_array().ok_or("it has no `data`: save the API's answer as it came")?;
            for bucket in buckets {
                let day = day(bucket).ok_or("a bucket has no `start_time` or `starting_at`")?;
                for result in bucket["results"].as_array().into_iter().flatten() {
                    self.read_result(&day, result)?;
                }
            }
        }
        Ok(())
    }

    fn read_result(&mut self, day: &str, result: &Value) -> Result<(), String> {
        let number = |name: &str| result[name].as_u64().unwrap_or_default();
        if let Some(dollars) = amount(result)? {
            self.provider = Some(if result["amount"].is_object() { "openai" } else { "anthropic" });
            *self.costs.entry(day.to_owned()).or_default() += dollars;
            return Ok(());
        }
        let tokens = if result.get("uncached_input_tokens").is_some() {
            self.provider = Some("anthropic");
            let written = match &result["cache_creation"] {
                Value::Object(parts) => parts.values().filter_map(Value::as_u64).sum(),
                _ => number("cache_creation_5m_input_tokens") + number("cache_creation_1h_input_tokens"),
            };
            let input = number("uncached_input_tokens") + number("cache_read_input_tokens") + written;
            Tokens { input, output: number("output_tokens") }
        } else if result.get("input_tokens").is_some() {
            self.provider = Some("openai");
            Tokens { input: number("input_tokens"), output: number("output_tokens") }
        } else {
            let object = result["object"].as_str().unwrap_or("a result");
            return Err(format!("{object} has neither tokens nor an amount: export usage of completions or messages"));
        };
        let model = result["model"].as_str().ok_or("a result has no model: export it with `group_by=model`")?;
        self.add(day, model, tokens);
        Ok(())
    }

    /// Reads a table with a head, as the providers' pages export it.
    fn read_table(&mut self, text: &str) -> Result<(), String> {
        let mut table = csv::Reader::from_reader(text.as_bytes());
        let heads = table.headers().map_err(|error| error.to_string())?.clone();
        let place = |names: &[&str]| heads.iter().position(|head| names.contains(&head.trim()));
        let wanted =
            |names: &[&str]| place(names).ok_or_else(|| format!("the table has no column {}", names.join(" or ")));
        let date = wanted(&["usage_date_utc", "starting_at", "start_time_iso", "start_time", "date"])?;
        let model = wanted(&["model_version", "model"])?;
        let output = wanted(&["usage_output_tokens", "output_tokens"])?;
        let all = place(&["input_tokens"]);
        let parts: Vec<usize> = [
            &["usage_input_tokens_no_cache", "uncached_input_tokens"][..],
            &["usage_input_tokens_cache_read", "cache_read_input_tokens"],
            &["usage_input_tokens_cache_write_5m", "cache_creation_5m_input_tokens"],
            &["usage_input_tokens_cache_write_1h", "cache_creation_1h_input_tokens"],
        ]
        .into_iter()
        .filter_map(place)
        .collect();
        self.provider = Some(match (parts.is_empty(), all) {
            (false, _) => "anthropic",
            (true, Some(_)) => "openai",
            (true, None) => return Err("the table has no column of input tokens".to_owned()),
        });
        let places = if parts.is_empty() { all.into_iter().collect() } else { parts };
        for (number, row) in (2..).zip(table.records()) {
            let row = row.map_err(|error| error.to_string())?;
            let cell = |place: usize| row.get(place).unwrap_or_default().trim();
            let count = |place: usize| match cell(place) {
                "" => Ok(0),
                digits => {
                    digits.parse::<u64>().map_err(|_| format!("line {number}: {digits:?} is no number of tokens"))
                }
            };
            let input = places.iter().map(|place| count(*place)).sum::<Result<u64, String>>()?;
            let day = day_of(cell(date)).ok_or_else(|| format!("line {number}: {:?} is no date", cell(date)))?;
            self.add(&day, cell(model), Tokens { input, output: count(output)? });
        }
        Ok(())
    }

    fn add(&mut self, day: &str, model: &str, Tokens { input, output }: Tokens) {
        let sum = self.usage.entry((day.to_owned(), model.to_owned())).or_default();
        sum.input += input;
        sum.output += output;
    }
}

/// Returns the dollars of a result that is about costs.
fn amount(result: &Value) -> Result<Option<f64>, String> {
    let Some(amount) = result.get("amount") else { return Ok(None) };
    let (value, currency, parts) = match amount {
        Value::Object(amount) => (amount.get("value"), amount.get("currency"), 1.0),
        _ => (Some(amount), result.get("currency"), 100.0),
    };
    let number = value.and_then(|value| value.as_f64().or_else(|| value.as_str()?.parse().ok()));
    let number = number.ok_or("an amount is no number")?;
    match currency.and_then(Value::as_str) {
        None => {}
        Some(currency) if currency.eq_ignore_ascii_case("usd") => {}
        Some(other) => return Err(format!("an amount is in {other}, and the ledger is in US dollars")),
    }
    Ok(Some(number / parts))
}

fn day(bucket: &Value) -> Option<String> {
    match (bucket["start_time"].as_u64(), bucket["starting_at"].as_str()) {
        (Some(seconds), _) => day_of(&seconds.to_string()),
        (None, text) => day_of(text?),
    }
}

/// Returns the day in UTC of a date, a moment, or seconds since 1970.
fn day_of(text: &str) -> Option<String> {
    let seconds = || text.parse().ok().map(std::time::Duration::from_secs);
    let date = || parse_rfc3339(&format!("{}T00:00:00Z", text.get(..10)?));
    let moment = parse_rfc3339(text).or_else(seconds).or_else(date)?;
    rfc3339(moment).get(..10).map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn read(texts: &[String]) -> Result<Export, String> {
        let mut export = Export::default();
        texts.iter().try_for_each(|text| export.read(text))?;
        Ok(export)
    }

    /// The forms of the providers' references.
    #[test]
    fn each_form_of_a_report_is_read() {
        let openai = json!({"object": "page", "has_more": true, "data": [
            {"object": "bucket", "start_time": 1_730_419_200, "end_time": 1_730_505_600, "results": [
                {"object": "organization.usage.completions.result", "input_tokens": 1000, "output_tokens": 500,
                    "input_cached_tokens": 800, "num_model_requests": 5, "model": "gpt-4o"}]}]});
        let costs = json!({"object": "page", "has_more": false, "data": [
            {"object": "bucket", "start_time": 1_730_419_200, "results": [
                {"object": "organization.costs.result", "amount": {"value": 0.06, "currency": "usd"}, "line_item": null},
                {"object": "organization.costs.result", "amount": {"value": "1.5", "currency": "usd"}}]}]});
        let export = read(&[openai.to_string(), costs.to_string()]).unwrap();
        let key = ("2024-11-01".to_owned(), "gpt-4o".to_owned());
        assert_eq!(export.usage, BTreeMap::from([(key, Tokens { input: 1000, output: 500 })]));
        assert_eq!(export.costs, BTreeMap::from([("2024-11-01".to_owned(), 1.56)]));
        assert_eq!((export.provider, export.goes_on), (Some("openai"), false));

        let anthropic = json!({"data": [{"starting_at": "2026-11-01T23:00:00Z", "results": [
            {"uncached_input_tokens": 100, "cache_read_input_tokens": 20, "output_tokens": 7, "model": "claude-haiku-4-5",
                "cache_creation": {"ephemeral_1h_input_tokens": 3, "ephemeral_5m_input_tokens": 4}}]},
            {"starting_at": "2026-11-01T22:00:00Z", "results": [
            {"uncached_input_tokens": 1, "cache_creation_5m_input_tokens": 2, "output_tokens": 1, "model": "claude-haiku-4-5"}]}],
            "has_more": false});
        let costs = json!([{"data": [{"starting_at": "2026-11-01T00:00:00Z", "results": [{"amount": "1234.5", "currency": "USD"}]}]}]);
        let export = read(&[anthropic.to_string(), costs.to_string()]).unwrap();
        let key = ("2026-11-01".to_owned(), "claude-haiku-4-5".to_owned());
        assert_eq!(export.usage, BTreeMap::from([(key.clone(), Tokens { input: 130, output: 8 })]));
        assert_eq!(export.costs, BTreeMap::from([("2026-11-01".to_owned(), 12.345)]));
        assert_eq!(export.provider, Some("anthropic"));

        let table = "usage_date_utc,model_version,api_key,usage_input_tokens_no_cache,usage_input_tokens_cache_write_5m,\
            usage_input_tokens_cache_write_1h,usage_input_tokens_cache_read,usage_output_tokens\n\
            2026-11-01,claude-haiku-4-5,\"a, b\",100,4,3,20,7\n";
        let export = read(&[table.to_owned()]).unwrap();
        assert_eq!(export.usage, BTreeMap::from([(key, Tokens { input: 127, output: 7 })]));
    }

    #[test]
    fn a_file_that_is_no_report_says_what_it_lacks() {
        let bucket = |result: Value| json!({"data": [{"start_time": 1, "results": [result]}]}).to_string();
        for (text, problem) in [
            (json!({"error": {"message": "no"}}).to_string(), "no `data`"),
            (json!({"data": [{"results": []}]}).to_string(), "no `start_time`"),
            (bucket(json!({"input_tokens": 1, "output_tokens": 1, "model": null})), "group_by=model"),
            (
                bucket(json!({"object": "organization.usage.images.result", "images": 3})),
                "neither tokens nor an amount",
            ),
            (bucket(json!({"amount": {"value": 1, "currency": "eur"}})), "is in eur"),
            (bucket(json!({"amount": {"value": null}})), "no number"),
            ("{".to_owned(), "EOF"),
            ("a,b\n1,2\n".to_owned(), "no column usage_date_utc or"),
            ("date,model,output_tokens\n".to_owned(), "no column of input tokens"),
            ("date,model,input_tokens,output_tokens\n2026-11-01,m,x,1\n".to_owned(), "line 2: \"x\" is no number"),
            ("date,model,input_tokens,output_tokens\nnever,m,1,1\n".to_owned(), "line 2: \"never\" is no date"),
        ] {
            let told = read(std::slice::from_ref(&text)).unwrap_err();
            assert!(told.contains(problem), "{text}: {told}");
        }
    }
}
