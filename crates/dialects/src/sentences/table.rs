#![doc = include_str!("servers.md")]

use std::sync::LazyLock;

use http::StatusCode;

use super::Words;
use crate::ErrorKind;

/// The table, by kind.
struct Table {
    kinds: Vec<OfKind>,
    /// The sentences that may follow in every message.
    endings: Vec<&'static str>,
    /// The words of servers on the way before another's message.
    before: Vec<&'static str>,
}

/// The words of servers for failures of one kind.
struct OfKind {
    kind: ErrorKind,
    names: Vec<&'static str>,
    /// A status and a number; any status if there is none.
    numbers: Vec<(Option<u16>, u16)>,
    first: Vec<&'static str>,
    then: Vec<&'static str>,
}

static TABLE: LazyLock<Table> = LazyLock::new(|| Table::read(include_str!("servers.md")));

impl Table {
    /// Reads the rows; one that cannot be read is left out, and a test finds it.
    fn read(text: &'static str) -> Self {
        let mut table = Self { kinds: Vec::new(), endings: Vec::new(), before: Vec::new() };
        rows(text).for_each(|row| _ = table.add(row));
        table
    }

    fn add(&mut self, [kind, form, words, ..]: [&'static str; 6]) -> Option<()> {
        match (kind, form) {
            ("any", "adds") => self.endings.push(words),
            ("any", "before") => self.before.push(words),
            (kind, form) => {
                let kind = *ErrorKind::ALL.iter().find(|known| known.name() == kind)?;
                let of_kind = self.of_kind(kind);
                match (form, numbered(words)) {
                    ("code", Some(number)) => of_kind.numbers.push(number),
                    ("code", None) => of_kind.names.push(words),
                    ("says", _) => of_kind.first.push(words),
                    ("adds", _) => of_kind.then.push(words),
                    _ => return None,
                }
            }
        }
        Some(())
    }

    fn of_kind(&mut self, kind: ErrorKind) -> &mut OfKind {
        let place = self.kinds.iter().position(|known| known.kind == kind).unwrap_or_else(|| {
            let none = Vec::new;
            self.kinds.push(OfKind { kind, names: none(), numbers: Vec::new(), first: none(), then: none() });
            self.kinds.len() - 1
        });
        &mut self.kinds[place]
    }
}

/// Returns the rows of the table in a page.
fn rows(text: &'static str) -> impl Iterator<Item = [&'static str; 6]> {
    let lines = text.lines().filter_map(|line| line.strip_prefix("| ")?.strip_suffix(" |"));
    lines.skip(1).filter_map(|line| line.split(" | ").collect::<Vec<_>>().try_into().ok())
}

/// Reads a code that is a number, with or without the status under which it counts.
fn numbered(code: &str) -> Option<(Option<u16>, u16)> {
    match code.split_once('/') {
        Some((status, number)) => Some((Some(status.parse().ok()?), number.parse().ok()?)),
        None => Some((None, code.parse().ok()?)),
    }
}

/// Returns the kind of failure that servers call by this code or type.
pub(crate) fn kind_of_name(name: &str) -> Option<ErrorKind> {
    // Case differs from one server to the next.
    let is = |known: &&str| match known.strip_suffix('*') {
        Some(begin) => name.get(..begin.len()).is_some_and(|name| name.eq_ignore_ascii_case(begin)),
        None => name.eq_ignore_ascii_case(known),
    };
    TABLE.kinds.iter().find(|of_kind| of_kind.names.iter().any(&is)).map(|of_kind| of_kind.kind)
}

/// Returns the kind of failure that servers give this number under a status.
pub(crate) fn kind_of_number(status: StatusCode, number: u16) -> Option<ErrorKind> {
    let is =
        |(under, known): &(Option<u16>, u16)| *known == number && under.is_none_or(|under| under == status.as_u16());
    TABLE.kinds.iter().find(|of_kind| of_kind.numbers.iter().any(is)).map(|of_kind| of_kind.kind)
}

/// Returns the kind of failure that a message as a whole reports.
pub(crate) fn kind_of_message(message: &str) -> Option<ErrorKind> {
    let words = Words::of(message)?;
    let says = |of_kind: &&OfKind| words.consist_of(&of_kind.first, &[&of_kind.then, &TABLE.endings]);
    TABLE.kinds.iter().find(says).map(|of_kind| of_kind.kind)
}

/// Returns the sentences that may follow in every message.
pub(super) fn endings() -> &'static [&'static str] {
    &TABLE.endings
}

/// Returns true if a text consists of such sentences alone, or of nothing.
pub(super) fn is_ending(text: &str) -> bool {
    let text = text.trim_start_matches(['.', ',', ';', '\'', '"', ' ']);
    text.trim().is_empty()
        || Words::of(text.trim_start_matches('('))
            .is_some_and(|words| words.0.is_empty() || words.consist_of(endings(), &[endings()]))
}

/// Returns the words of servers on the way before another's message.
pub(super) fn before() -> &'static [&'static str] {
    &TABLE.before
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::{super::bare, *};

    const TEXT: &str = include_str!("servers.md");

    #[test]
    fn every_row_is_read_and_has_its_source_and_its_date() {
        let rows: Vec<_> = rows(TEXT).collect();
        assert_eq!(
            rows.len(),
            TEXT.lines().filter(|line| line.starts_with("| ") && !line.starts_with("| kind")).count()
        );
        let mut table = Table::read("");
        let mut seen = BTreeSet::new();
        for row in rows {
            let [kind, form, words, server, source, date] = row;
            assert!(table.add(row).is_some(), "{row:?}");
            assert!(seen.insert((kind, form, words)), "twice: {row:?}");
            assert!(!server.is_empty() && !source.is_empty(), "{row:?}");
            let is_month =
                date.len() == 7 && date.as_bytes()[4] == b'-' && date.replace('-', "").parse::<u32>().is_ok();
            assert!(is_month, "{row:?}");
            if form != "code" {
                let plain: Vec<&str> = words.split(' ').map(bare).collect();
                assert_eq!(plain.join(" ").to_lowercase(), words, "written as it is compared");
            }
        }
    }

    #[test]
    fn the_words_of_at_least_thirty_servers_are_known() {
        let servers: BTreeSet<&str> = rows(TEXT).map(|[_, _, _, server, ..]| server).collect();
        assert!(servers.len() >= 60, "{}", servers.len());
    }

    /// A sentence of one kind must not be another's: the first kind in the page would win.
    #[test]
    fn no_sentence_is_of_two_kinds() {
        for [kind, form, words, ..] in rows(TEXT).filter(|row| row[1] == "says") {
            let said = words.replace('#', "5").replace('@', "x");
            let known = kind_of_message(&said).map(ErrorKind::name);
            assert_eq!(known, Some(kind), "{form} {said}");
        }
    }
}
