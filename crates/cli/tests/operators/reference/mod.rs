//! The guide's reference of the gateway is what the code has: every header, path, line of the log, metric and field of
//! the status. `STEADFAST_REWRITE_REFERENCE=1` writes it anew.

mod source;

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    time::Duration,
};

use steadfast_subscribers::metrics::{METRICS, Metric, MetricKind};

use self::source::{Source, camel, root, sources, texts};
use crate::common::{comes, serve::Serve};

const PAGE: &str = "crates/guide/src/gateway_reference.md";
const GATEWAY: &str = "crates/gateway/src";
const CLI: &str = "crates/cli/src";

const BEGINNING: &str = "\
Every header, path, line of the log, metric and field of the status, as the code has them: a test writes this page and \
holds it against the
code. [Observation](crate::gateway_observation) says when to look at which.

";

/// A row of a table; a bar in a cell would end it.
fn row(cells: &[&str]) -> String {
    let cells: Vec<String> = cells.iter().map(|cell| cell.replace("\\|", "|").replace('|', "\\|")).collect();
    format!("| {} |\n", cells.join(" | "))
}

fn table(head: &[&str], rows: impl IntoIterator<Item = String>) -> String {
    row(head) + &format!("|{}\n", "---|".repeat(head.len())) + &rows.into_iter().collect::<String>() + "\n"
}

fn code(names: &[String]) -> String {
    names.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ")
}

/// The constants of headers without our prefix.
const OF_OTHERS: [&str; 6] = ["TIMEOUTS_S", "NAMES", "REPLAYED", "SHOULD_RETRY", "ANTHROPIC", "OPENAI"];

/// The headers: of requests, whose constants are texts, and of answers, whose constants are names.
fn headers() -> String {
    let (mut asked, mut given) = (Vec::new(), Vec::new());
    for source in sources("crates/gateway/src/api") {
        for constant in source.constants() {
            let ours = constant.texts.iter().any(|text| text.starts_with("x-steadfast-"));
            // Headers of the caller's protocol or of other services that mean the same here.
            let is_of_others = OF_OTHERS.contains(&constant.name.as_str()) && !constant.docs.is_empty();
            if !ours && !is_of_others {
                continue;
            }
            assert!(!constant.docs.is_empty(), "{}: {:?} says nothing", source.path.display(), constant.texts);
            let cells = row(&[&code(&constant.texts), &constant.docs]);
            if constant.of_type == "HeaderName" { given.push(cells) } else { asked.push(cells) }
        }
    }
    let fixed = "Headers of one row say the same, the first takes precedence. No header that begins with `x-steadfast-` reaches \
                 a provider; others\nof them are ignored. `x-steadfast-live-drill` marks a drill's calls within its own process.\n\n";
    format!(
        "# Headers of requests\n\n{fixed}{}# Headers of answers\n\n{}",
        table(&["header", "meaning"], asked),
        table(&["header", "meaning"], given)
    )
}

/// The paths: of callers by their lists, of operators and reviewers by the tables of their modules.
fn paths() -> String {
    let mut text = "# Paths\n\n".to_owned();
    let list = |file: &str| -> String {
        let source = fs::read_to_string(root().join(GATEWAY).join(file)).unwrap();
        let list = source.split(" SERVED: [").nth(1).unwrap_or_else(|| panic!("{file} has no list"));
        let list = &list[..list.find("];").unwrap()];
        texts(list).into_iter().map(|range| format!("- `{}`\n", &list[range])).collect()
    };
    let rows = |file: &str| -> Vec<String> {
        let source = fs::read_to_string(root().join(GATEWAY).join(file)).unwrap();
        let rows = source.lines().filter_map(|line| line.strip_prefix("//! ")).filter(|line| line.starts_with("| `"));
        rows.map(|line| format!("{}\n", line.replace("[`page`]", "page"))).collect()
    };
    text += &format!("For callers, with any key of the gateway:\n\n{}\n", list("api/paths/mod.rs"));
    text += "A kept response of `/v1/responses` is at `GET /v1/responses/{id}` (`DELETE` deletes it), with `/input_items` and, for one in the background, `/cancel`;\n\
             `/v1alpha` is `/v1beta`; `GET /badge.js` is the badge's script. `GET /requests` takes `key`, `feature`, `tier`, `outcome` and `limit`.\n\n";
    text += &format!("Where the configuration has a `lane`:\n\n{}\n", list("api/paths/lane.rs"));
    text += &format!(
        "Kept by the provider, and passed on to the tier that has them:\n\n{}\n",
        list("api/paths/objects.rs")
    );
    let operators = table(&["for operators (`admin: true`)", "what"], rows("api/admin/mod.rs"));
    let reviewers = table(&["for reviewers (`handoff: true`)", "what"], rows("api/handoff/mod.rs"));
    text + &operators + &reviewers
}

/// The levels and the fields of a line of the log.
#[derive(Default)]
struct Line {
    levels: BTreeSet<&'static str>,
    fields: Vec<String>,
}

/// The lines of the log: those with an event by its name, the others by their message.
fn log() -> String {
    let (mut events, mut others) = (BTreeMap::<String, Line>::new(), BTreeMap::<String, Line>::new());
    let folders = [
        "src",
        "crates/cache/src",
        CLI,
        "crates/core/src",
        "crates/dialects/src",
        GATEWAY,
        "crates/handoff/src",
        "crates/http/src",
        "crates/ledger/src",
        "crates/stack/src",
        "crates/stores/src",
        "crates/subscribers/src",
        "crates/validate/src",
        "crates/oidc/src",
        "crates/webhook/src",
    ];
    for source in folders.into_iter().flat_map(sources) {
        for (name, arguments) in source.log_lines() {
            let (mut line, mut event, mut message) = (Line::default(), None, None);
            if let Some(level) = LEVELS.iter().find(|level| level.eq_ignore_ascii_case(&name)) {
                line.levels.insert(level);
            }
            for argument in &arguments {
                let literal = texts(argument).first().map(|range| argument[range.clone()].to_owned());
                let is_field = |name: &str| name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
                match argument.split_once(" = ").filter(|(name, _)| is_field(name)) {
                    Some(("event", _)) => event = literal,
                    Some((name, _)) => line.fields.push(name.to_owned()),
                    None if argument.starts_with("target:") => {}
                    None if argument.contains("Level::") => {
                        line.levels.extend(LEVELS.iter().filter(|level| argument.contains(&format!("Level::{level}"))));
                    }
                    None if argument.starts_with('"') => message = literal.map(|text| joined(&text)),
                    // The level of a request's line is that of the format.
                    None if argument == "level" && name == "line" => {
                        line.levels.extend(["INFO", "DEBUG"]);
                    }
                    None => {
                        let name = argument.trim_start_matches(['%', '?', '&', '*']);
                        line.fields.push(name.rsplit('.').next().unwrap_or(name).to_owned());
                    }
                }
            }
            let (lines, key) = match (event, message) {
                (Some(event), _) => (&mut events, event),
                (None, Some(message)) => (&mut others, message),
                // The macro itself.
                (None, None) => continue,
            };
            let known = lines.entry(key).or_default();
            known.levels.extend(line.levels);
            let more: Vec<String> = line.fields.into_iter().filter(|field| !known.fields.contains(field)).collect();
            known.fields.extend(more);
        }
    }
    let rows = |lines: &BTreeMap<String, Line>, of: fn(&str) -> String| -> Vec<String> {
        let shown = lines.iter().filter(|(_, line)| line.levels.iter().any(|level| *level != "TRACE"));
        shown
            .map(|(name, Line { levels, fields })| {
                let levels: Vec<&str> = LEVELS.into_iter().filter(|level| levels.contains(level)).collect();
                row(&[&of(name), &levels.join(", "), &code(fields)])
            })
            .collect()
    };
    let told = |line: &Line| line.levels.iter().any(|level| ["ERROR", "WARN", "INFO"].contains(level));
    others.retain(|_, line| told(line));
    format!(
        "# Lines of the log\n\n`--log-format json` writes each as an object with `timestamp`, `level` and `target`; empty fields are left out. A \
         request has a line\nat INFO there, and at DEBUG in text. No line has a word of a prompt \
         or an answer, or a key.\n\n{}\
         Lines without `event` have a `message`:\n\n{}",
        table(&["`event`", "level", "fields"], rows(&events, |name| format!("`{name}`"))),
        table(&["`message`", "level", "fields"], rows(&others, str::to_owned))
    )
}

/// Returns a text without the line ends that its code skips.
fn joined(text: &str) -> String {
    let mut lines = text.split("\\\n");
    let first = lines.next().unwrap_or_default().to_owned();
    lines.fold(first, |text, line| text + line.trim_start())
}

const LEVELS: [&str; 5] = ["ERROR", "WARN", "INFO", "DEBUG", "TRACE"];

/// A metric's name as Prometheus sees it.
fn prometheus(metric: &Metric) -> String {
    let mut name = metric.name.replace('.', "_");
    let unit = metric.unit.map(|unit| unit.as_str()).filter(|unit| *unit != "count" && *unit != "count_per_second");
    if let Some(unit) = unit.filter(|unit| !name.ends_with(unit) && !name.ends_with("_total")) {
        name = format!("{name}_{unit}");
    }
    if metric.kind == MetricKind::Counter && !name.ends_with("_total") {
        name += "_total";
    }
    name
}

fn metrics() -> String {
    let kind = |kind| match kind {
        MetricKind::Counter => "counter",
        MetricKind::Gauge => "gauge",
        _ => "histogram",
    };
    let labels = |metric: &Metric| metric.labels.iter().map(|label| label.replace('.', "_")).collect::<Vec<_>>();
    let mut rows: Vec<String> = METRICS
        .iter()
        .map(|metric| {
            row(&[&format!("`{}`", prometheus(metric)), kind(metric.kind), &code(&labels(metric)), metric.help])
        })
        .collect();
    // The gateway's own, which it writes itself: a name, and next its help.
    for source in sources("crates/gateway/src/api") {
        let found = texts(&source.text);
        for pair in found.windows(2) {
            let [name, help] = [&source.text[pair[0].clone()], &source.text[pair[1].clone()]];
            let is_name = name.starts_with("steadfast_") && name.chars().all(|c| c.is_ascii_lowercase() || c == '_');
            if is_name {
                let help = help.trim_start_matches("# HELP {name} ").split("\\n").next().unwrap_or_default();
                let kind = if name.ends_with("_total") { "counter" } else { "gauge" };
                rows.push(row(&[&format!("`{name}`"), kind, "", help]));
            }
        }
    }
    format!(
        "# Metrics\n\n`GET /metrics`, as Prometheus reads it.\n\n{}",
        table(&["metric", "kind", "labels", "meaning"], rows)
    )
}

/// The fields of `/status`, those of its parts too.
fn status() -> String {
    let mut files = sources("crates/subscribers/src/status");
    files.extend(sources("crates/gateway/src/api/observe"));
    let mut rows = Vec::new();
    fields_of("Status", "", &files, &mut rows);
    let report = files.iter().find_map(|file| file.fields("StatusReport")).expect("the gateway's own part");
    for (name, of_type, docs) in report.iter().filter(|(name, ..)| name != "status") {
        let Some(inner) = part(of_type, &files) else {
            rows.push(row(&[&format!("`{name}`"), docs]));
            continue;
        };
        rows.push(row(&[&format!("`{name}`"), "The tasks for people, where a tier hands requests to them."]));
        fields_of(inner, &format!("{name}."), &files, &mut rows);
    }
    format!(
        "# Status\n\n`GET /status`, without a key. Dates are RFC 3339 in UTC.\n\n{}",
        table(&["field", "meaning"], rows)
    )
}

/// Returns the struct in a field's type.
fn part<'a>(of_type: &'a str, files: &[Source]) -> Option<&'a str> {
    let mut words = of_type.split(|c: char| !c.is_ascii_alphanumeric()).filter(|word| !word.is_empty());
    words.find(|word| files.iter().any(|file| file.fields(word).is_some()))
}

fn fields_of(name: &str, before: &str, files: &[Source], rows: &mut Vec<String>) {
    let fields = files.iter().find_map(|file| file.fields(name)).unwrap_or_else(|| panic!("no struct {name}"));
    for (field, of_type, docs) in fields {
        let values = of_type.split(|c: char| !c.is_ascii_alphanumeric());
        let values = values.filter_map(|word| files.iter().find_map(|file| file.variants(word))).next();
        let values = values.map(|values| format!(" One of {}.", code(&values))).unwrap_or_default();
        let list = if of_type.contains("Vec<") { "[]" } else { "" };
        let path = format!("{before}{}{list}", camel(&field));
        // JSON's word, and no word of the library's own handle.
        let docs = docs.replace("`None`", "`null`").replace(" (`StackHandle::status`)", "");
        rows.push(row(&[&format!("`{path}`"), &format!("{docs}{values}")]));
        if let Some(inner) = part(&of_type, files) {
            fields_of(inner, &format!("{path}."), files, rows);
        }
    }
}

fn page() -> String {
    let text = [BEGINNING.to_owned(), headers(), paths(), log(), metrics(), status()].concat();
    text.trim_end().to_owned() + "\n"
}

#[test]
fn the_reference_is_what_the_code_has() {
    let (path, page) = (root().join(PAGE), page());
    if std::env::var_os("STEADFAST_REWRITE_REFERENCE").is_some() {
        fs::write(&path, &page).unwrap();
    }
    let written = fs::read_to_string(&path).unwrap_or_default();
    let first = written.lines().zip(page.lines()).find(|(written, now)| written != now);
    assert!(
        written == page,
        "STEADFAST_REWRITE_REFERENCE=1 writes the page anew; the first row that differs: {first:#?}"
    );
}

#[test]
fn nothing_of_the_code_is_missing_in_the_reference() {
    let page = page();
    let mut missing = Vec::new();
    for source in [GATEWAY, CLI].into_iter().flat_map(sources) {
        let comments = |range: &std::ops::Range<usize>| {
            let line = &source.text[..range.start];
            line[line.rfind('\n').map_or(0, |at| at + 1)..].trim_start().starts_with("//")
        };
        for range in texts(&source.text).into_iter().filter(|range| !comments(range)) {
            let text = &source.text[range.clone()];
            let is_header = text
                .strip_prefix("x-steadfast-")
                .is_some_and(|rest| !rest.is_empty() && rest.chars().all(|c| c.is_ascii_lowercase() || c == '-'));
            let is_path = source.text[..range.start].ends_with(".route(\"");
            let named = text.replace("{*", "{");
            if (is_header && !page.contains(&format!("`{text}`"))) || is_path && !is_told(&named, &page) {
                missing.push(format!("{}: {text}", source.path.display()));
            }
        }
    }
    for metric in METRICS {
        if !page.contains(&prometheus(metric)) {
            missing.push(metric.name.to_owned());
        }
    }
    assert!(missing.is_empty(), "{missing:#?}");
}

/// Returns whether the page has a path; of a task's paths, its last word where a row has several.
fn is_told(path: &str, page: &str) -> bool {
    let last = path.rsplit('/').next().unwrap_or_default();
    let task = path.strip_prefix("/handoff/tasks/{id}/").or_else(|| path.strip_prefix("/v1/responses/{id}/"));
    path.starts_with("/v1alpha/")
        || page.contains(path)
        || task.is_some() && (page.contains(&format!("`{last}`")) || page.contains(&format!("`/{last}`")))
}

#[test]
fn a_running_gateway_has_no_metric_and_no_header_beside_the_reference() {
    let page = page();
    let served = Serve::simulated().start();
    let body = r#"{"model":"m","messages":[{"role":"user","content":"hello"}]}"#;
    let answer = served.ask("POST /v1/chat/completions", "x-steadfast-explain: 1\r\n", body);
    for line in answer.head.lines().filter(|line| line.starts_with("x-steadfast-")) {
        let name = line.split(':').next().unwrap_or_default();
        assert!(page.contains(&format!("| `{name}` |")), "{name}");
    }
    // The request's event arrives a moment later.
    let metrics = comes(Duration::from_secs(10), "the request is not counted", || {
        let metrics = served.ask("GET /metrics", "", "").body;
        metrics.contains("# TYPE steadfast_requests_total ").then_some(metrics)
    });
    let types: Vec<&str> = metrics.lines().filter_map(|line| line.strip_prefix("# TYPE ")).collect();
    for name in types.iter().filter_map(|line| line.split(' ').next()) {
        assert!(page.contains(&format!("| `{name}` |")), "{name}");
    }
    let status: serde_json::Value = serde_json::from_str(&served.ask("GET /status", "", "").body).unwrap();
    for (field, value) in status.as_object().unwrap() {
        let list = if value.is_array() { "[]" } else { "" };
        assert!(page.contains(&format!("| `{field}{list}` |")), "{field}");
    }
}
