//! Holds the table of efforts, over all families of models.

use std::fmt::Write;

use super::{Reasoning, Report, Situation, settle};
use crate::{
    Dialect,
    chat::{Chat, Effort, Thinking},
    models::{Family, FamilyTable, ReasoningOff},
};

const EFFORTS: [Effort; 6] = [Effort::Minimal, Effort::Low, Effort::Medium, Effort::High, Effort::XHigh, Effort::Max];
const DIALECTS: [Dialect; 4] = [Dialect::Anthropic, Dialect::OpenAi, Dialect::Gemini, Dialect::Responses];

/// The rungs of the ladder.
fn rungs() -> impl Iterator<Item = Thinking> {
    [Thinking::Off].into_iter().chain(EFFORTS.map(Thinking::Effort))
}

/// Returns what a model of this family is asked for, and whether a note reports the change.
fn asked(
    family: &Family,
    dialect: Dialect,
    wish: Thinking,
    max_tokens: Option<u32>,
    has_tools: bool,
) -> (Reasoning, bool) {
    let mut chat = Chat::default();
    (chat.thinking, chat.max_tokens) = (Some(wish), max_tokens);
    let default_output = family.max_output().filter(|_| dialect == Dialect::Anthropic);
    let at = Situation { has_tools, default_output, ..Situation::default() };
    let mut report = Report::new(dialect, Some(Dialect::Responses));
    let settings = settle(&chat, at, family, &mut report);
    let is_noted = |note: &str| ["thinking", "model_reasoning"].iter().any(|about| note.starts_with(about));
    (settings.reasoning, report.notes().iter().any(|note| is_noted(note)))
}

/// The amount of reasoning that the model makes of it, in an order of its own: a model has one way to count.
fn amount(family: &Family, dialect: Dialect, reasoning: Reasoning) -> u32 {
    let rung = |effort: Effort| EFFORTS.iter().position(|own| *own == effort).map_or(0, |place| 2 + place as u32);
    // Without a word of it, a model reasons as much as usual, or not at all.
    let usual = if family.reasons_by_default() { rung(Effort::Medium) } else { 0 };
    match reasoning {
        Reasoning::Effort(effort) | Reasoning::Adaptive(Some(effort)) => rung(effort),
        Reasoning::Budget(tokens) => tokens,
        Reasoning::Adaptive(None) => rung(Effort::Medium),
        Reasoning::Own | Reasoning::Unsaid => usual,
        Reasoning::Off(form) => match (dialect, form) {
            (Dialect::Anthropic, ReasoningOff::BetweenTools) => 1,
            (Dialect::Anthropic, ReasoningOff::Disabled | ReasoningOff::None | ReasoningOff::Zero)
            | (Dialect::OpenAi | Dialect::Responses, ReasoningOff::None)
            | (Dialect::Gemini, ReasoningOff::Zero) => 0,
            // The dialect does not write it.
            _ => usual,
        },
    }
}

#[test]
fn a_higher_rung_is_never_less_reasoning_for_any_family_and_dialect() {
    let budgets = [0, 1, 512, 1024, 1025, 8192, 24_576, 30_000, 65_536, u32::MAX].map(Thinking::Budget);
    let (mut compared, mut failures) = (0, Vec::new());
    for family in FamilyTable::builtin().families() {
        for dialect in DIALECTS {
            for max_tokens in [None, Some(1), Some(1024), Some(1500), Some(5000), Some(20_000), Some(200_000)] {
                for has_tools in [false, true] {
                    for ladder in [rungs().collect::<Vec<_>>(), budgets.to_vec()] {
                        let amounts: Vec<u32> = ladder
                            .iter()
                            .map(|wish| amount(family, dialect, asked(family, dialect, *wish, max_tokens, has_tools).0))
                            .collect();
                        for (place, low) in amounts.iter().enumerate() {
                            compared += amounts.len() - place;
                            if amounts[place..].iter().any(|high| high < low) {
                                let name = family.name();
                                failures.push(format!("{name} at {dialect}, {max_tokens:?}, {has_tools}: {amounts:?}"));
                                break;
                            }
                        }
                    }
                }
            }
        }
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
    assert!(compared > 50_000, "{compared}");
}

/// A rung that a family has is asked for by its own name, and without a note.
#[test]
fn a_rung_that_a_model_has_is_exact() {
    let table = FamilyTable::builtin();
    for family in table.families() {
        let dialect = own_dialect(family);
        for effort in family.efforts().iter().filter(|_| family.is_adaptive() || dialect != Dialect::Anthropic) {
            let (reasoning, is_noted) = asked(family, dialect, Thinking::Effort(*effort), None, false);
            assert!(!is_noted, "{} {effort:?}", family.name());
            let given = match reasoning {
                Reasoning::Effort(effort) | Reasoning::Adaptive(Some(effort)) => Some(effort),
                _ => None,
            };
            assert_eq!(given, Some(*effort), "{}", family.name());
        }
    }
}

/// The dialect of the maker's own API. OpenAI's two give the same.
fn own_dialect(family: &Family) -> Dialect {
    match family.name() {
        name if name.starts_with("claude") => Dialect::Anthropic,
        name if name.starts_with("gemini") => Dialect::Gemini,
        _ => Dialect::OpenAi,
    }
}

fn table() -> String {
    let mut table = String::from(
        "| family | none | minimal | low | medium | high | xhigh | max |\n|---|---|---|---|---|---|---|---|\n",
    );
    for family in FamilyTable::builtin().families() {
        let dialect = own_dialect(family);
        let cells: Vec<String> = rungs()
            .map(|wish| {
                let (reasoning, is_noted) = asked(family, dialect, wish, None, false);
                if dialect == Dialect::OpenAi {
                    let there = asked(family, Dialect::Responses, wish, None, false);
                    assert_eq!((reasoning, is_noted), there, "{}", family.name());
                }
                let form = match reasoning {
                    Reasoning::Unsaid => "–".to_owned(),
                    Reasoning::Own | Reasoning::Adaptive(None) => "its own".to_owned(),
                    Reasoning::Off(ReasoningOff::BetweenTools) => "between tools".to_owned(),
                    Reasoning::Off(_) => "none".to_owned(),
                    Reasoning::Effort(effort) | Reasoning::Adaptive(Some(effort)) => effort.name().to_owned(),
                    Reasoning::Budget(tokens) => tokens.to_string(),
                };
                if is_noted { format!("{form}\\*") } else { form }
            })
            .collect();
        // Writing to a string cannot fail.
        let _ = writeln!(table, "| `{}` | {} |", family.name(), cells.join(" | "));
    }
    table
}

#[test]
fn the_table_in_the_documentation_is_what_the_code_does() {
    let (documented, table) = (include_str!("../../../../core/src/models/efforts.md"), table());
    assert!(documented.ends_with(&table), "efforts.md must end with:\n{table}");
}
