//! Safe output for terminals.

use std::borrow::Cow;

/// Returns text that is safe for a terminal: foreign text must not move the cursor, change the title, or change the
/// order of reading.
pub(crate) fn printable(text: &str) -> Cow<'_, str> {
    let commands = |c: char| (c.is_control() && c != '\n' && c != '\t') || turns(c);
    if text.contains(commands) { Cow::Owned(text.replace(commands, "\u{fffd}")) } else { Cow::Borrowed(text) }
}

/// Returns safe text on one line.
pub(crate) fn on_a_line(text: &str) -> String {
    printable(text).split_whitespace().collect::<Vec<_>>().join(" ")
}

/// Returns JSON that is safe for a terminal: its writer leaves some control characters as they are.
pub(crate) fn json(value: &serde_json::Value) -> String {
    let mut text = String::new();
    for c in format!("{value:#}\n").chars() {
        // They occur only inside strings.
        match c {
            '\u{7f}'..='\u{9f}' => text.push_str(&format!("\\u{:04x}", u32::from(c))),
            c if turns(c) => text.push_str(&format!("\\u{:04x}", u32::from(c))),
            c => text.push(c),
        }
    }
    text
}

/// Returns whether a character changes the direction of writing.
fn turns(c: char) -> bool {
    matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_printed_cannot_command_the_terminal() {
        assert_eq!(printable("a\n\tb\u{1b}[2Jc\r"), "a\n\tb\u{fffd}[2Jc\u{fffd}");
        assert_eq!(printable("a\u{9b}2J\u{202e}b"), "a\u{fffd}2J\u{fffd}b");
        assert!(matches!(printable("plain"), Cow::Borrowed("plain")));
        assert_eq!(on_a_line(" a\n b\u{7}\tc"), "a b\u{fffd} c");
    }

    #[test]
    fn json_says_the_same_and_commands_nothing() {
        let value = serde_json::json!({"text": "é\u{1b}[2J\u{9b}2J\u{202e}\n"});
        let text = json(&value);
        assert!(!text.contains(|c: char| (c.is_control() && c != '\n') || turns(c)), "{text:?}");
        assert_eq!(serde_json::from_str::<serde_json::Value>(&text).unwrap(), value);
    }
}
