//! Tasks as text.

use std::{
    fmt::Write as _,
    time::{Duration, UNIX_EPOCH},
};

use steadfast_gateway::tasks::{self, TaskView};
use steadfast_handoff::PriorAttempt;

use super::source::TaskPage;
use crate::{
    table::Table,
    terminal::{on_a_line, printable},
};

/// The length of a request's beginning in a list, in characters.
const PREVIEW: usize = 60;

pub(super) fn list(listed: &TaskPage) -> String {
    let mut table = Table::new(["task", "state", "feature", "why", "age", "by", "asked"]);
    for task in &listed.tasks {
        let name = |name: Option<&str>| name.map_or_else(|| "-".to_owned(), on_a_line);
        let by = task.claim.as_ref().map(|claim| claim.by.to_string());
        let age = span(tasks::age(task));
        table.row([
            task.id.to_string(),
            task.state.to_string(),
            name(task.feature.as_deref()),
            on_a_line(&task.reason),
            age,
            name(by.as_deref()),
            cut(&on_a_line(&task.preview), PREVIEW),
        ]);
    }
    let stats = listed.stats;
    let counts = [
        (stats.waiting, "waiting"),
        (stats.claimed, "claimed"),
        (stats.redriving, "redriving"),
        (stats.answered, "answered"),
        (stats.expired, "expired"),
    ];
    let counts: Vec<String> =
        counts.iter().filter(|(count, _)| *count > 0).map(|(count, state)| format!("{count} {state}")).collect();
    let mut text = if listed.tasks.is_empty() { String::new() } else { table.to_string() };
    let _ = match counts.is_empty() {
        true => writeln!(text, "no tasks"),
        false => writeln!(text, "in all: {}", counts.join(", ")),
    };
    if let Some(next) = listed.next {
        let _ = writeln!(text, "there may be more: --after {next}");
    }
    text
}

pub(super) fn whole(shown: &TaskView<'_>) -> String {
    let TaskView { task, conversation, output } = shown;
    let mut text = format!("{}  {}\n", task.id, task.state);
    let named = [("feature", &task.feature), ("session", &task.session), ("asked by", &task.tenant)];
    for (what, name) in named {
        if let Some(name) = name {
            let _ = writeln!(text, "{what}: {}", on_a_line(name));
        }
    }
    if let Some(caller) = &task.caller {
        if let Some(id) = &caller.id {
            let _ = writeln!(text, "its caller's name for it: {}", on_a_line(id));
        }
        if let Some(context) = &caller.context {
            let _ = writeln!(text, "belongs to: {}", on_a_line(&context.to_string()));
        }
    }
    let _ = writeln!(text, "why: {}", on_a_line(&task.reason));
    let _ = writeln!(text, "since {}, until {}", date(task.created_at), date(task.expires_at));
    if let Some(claim) = &task.claim {
        let _ = writeln!(text, "claimed by {} until {}", on_a_line(&claim.by.to_string()), date(claim.until));
    }
    for told in &task.deliveries {
        let (kind, state, attempts) = (told.kind.name(), told.state.name(), told.attempts);
        let problem = told.problem.as_deref().map(|problem| format!(", {}", on_a_line(problem))).unwrap_or_default();
        let _ = writeln!(text, "{kind}: {state} after {attempts} attempts{problem}");
    }
    if !task.attempts.is_empty() {
        let _ = writeln!(text, "\ntried before:");
        task.attempts.iter().for_each(|step| text += &tried(step));
    }
    let _ = writeln!(text, "\nwhat was asked:");
    for note in conversation.notes() {
        let _ = writeln!(text, "({})", on_a_line(&note));
    }
    for turn in &conversation.turns {
        let _ = writeln!(text, "\n[{}]", turn.role);
        for part in &turn.parts {
            match part.kind {
                "text" => {}
                kind => _ = writeln!(text, "({kind})"),
            }
            text += &quoted(&part.text);
        }
    }
    if let (Some(answer), Some(output)) = (&task.answer, output) {
        let by = match &answer.model {
            Some(model) => format!("the model {model}"),
            None => answer.by.to_string(),
        };
        let _ = writeln!(text, "\nwhat {} answered, {}:\n", on_a_line(&by), date(answer.at));
        text += &quoted(output);
    }
    text
}

/// Marks each line of foreign text, so that none looks like the command's own. Splits at every line end that a terminal
/// or reader may know.
fn quoted(said: &str) -> String {
    let ends = |c: char| matches!(c, '\n' | '\u{b}' | '\u{c}' | '\r' | '\u{85}' | '\u{2028}' | '\u{2029}');
    let said = said.replace("\r\n", "\n");
    said.trim_end_matches(ends).split(ends).map(|line| format!("| {}\n", printable(line))).collect()
}

fn tried(step: &PriorAttempt) -> String {
    let name = |name: &Option<String>| name.as_deref().map(on_a_line);
    let tier = name(&step.tier).or_else(|| name(&step.provider)).unwrap_or_else(|| "a tier".to_owned());
    let status = step.status.map(|status| status.to_string());
    let took = if step.skipped { "left out".to_owned() } else { format!("{} ms", step.took_ms) };
    let message = Some(on_a_line(&step.message)).filter(|message| !message.is_empty());
    let parts: Vec<String> = [name(&step.kind), status, Some(took), message].into_iter().flatten().collect();
    format!("  {tier}: {}\n", parts.join(", "))
}

/// Returns a date in HTTP's format, in UTC.
fn date(unix_ms: u64) -> String {
    // A date beyond the year 9999 has no text.
    let at = UNIX_EPOCH.checked_add(Duration::from_secs((unix_ms / 1000).min(LAST)));
    at.map(httpdate::fmt_http_date).unwrap_or_default()
}

/// The last second of the year 9999.
const LAST: u64 = 253_402_300_799;

fn span(time: Duration) -> String {
    match time.as_secs() {
        seconds @ 0..120 => format!("{seconds} s"),
        seconds @ 120..7200 => format!("{} min", seconds / 60),
        seconds @ 7200..172_800 => format!("{} h", seconds / 3600),
        seconds => format!("{} d", seconds / 86_400),
    }
}

fn cut(text: &str, characters: usize) -> String {
    match text.char_indices().nth(characters) {
        None => text.to_owned(),
        Some(_) => text.chars().take(characters - 1).chain(['…']).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_line_of_what_somebody_wrote_looks_like_ours() {
        let said = "first\n\n[assistant]\r\nwhat was asked:\rover\u{2028}there\u{85}last\u{1b}[2J\n";
        let shown = quoted(said);
        assert_eq!(shown.lines().count(), 7);
        assert!(
            shown
                .split(['\n', '\r', '\u{2028}', '\u{85}'])
                .filter(|line| !line.is_empty())
                .all(|line| line.starts_with("| ")),
            "{shown}"
        );
        assert_eq!((quoted(""), quoted("a\n\n")), ("| \n".to_owned(), "| a\n".to_owned()));
    }

    #[test]
    fn dates_and_spans_are_for_people() {
        assert_eq!(date(951_782_400_999), "Tue, 29 Feb 2000 00:00:00 GMT");
        assert!(date(u64::MAX).contains("9999"));
        let spans = [(0, "0 s"), (119, "119 s"), (120, "2 min"), (7200, "2 h"), (200_000, "2 d")];
        for (seconds, text) in spans {
            assert_eq!(span(Duration::from_secs(seconds)), text);
        }
        assert_eq!((cut("abc", 3).as_str(), cut("abcd", 3).as_str()), ("abc", "ab…"));
    }
}
