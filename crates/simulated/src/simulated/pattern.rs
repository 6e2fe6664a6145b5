//! Makes a shortest text that a regular expression matches.

use std::{iter::Peekable, str::Chars};

/// Returns a text of at least this many characters that `pattern` matches, in the common grammar of JSON Schema's
/// patterns. Assertions about a position (`(?=`, `\b`) are ignored.
pub(super) fn matching(pattern: &str, least: usize) -> String {
    let said = |more| Reader { left: pattern.chars().peekable(), more, depth: 0 }.choice();
    let mut text = said(0);
    // Adds one to every open repetition, until the text is long enough or stops growing.
    for more in 1..=least {
        if text.chars().count() >= least {
            break;
        }
        let longer = said(more);
        if longer.len() <= text.len() {
            break;
        }
        text = longer;
    }
    text
}

struct Reader<'a> {
    left: Peekable<Chars<'a>>,
    /// The repetitions beyond the required ones.
    more: usize,
    depth: usize,
}

/// The limit of repetitions, and of nesting.
const MOST: usize = 1_000;
const DEEPEST: usize = 64;
/// The limit of a text, in bytes.
const LONGEST: usize = 100_000;

impl Reader<'_> {
    /// Reads alternatives up to the end or a closing bracket, and returns the first; the longest, if the text is to
    /// grow.
    fn choice(&mut self) -> String {
        let mut text = self.sequence();
        while self.left.next_if_eq(&'|').is_some() {
            let other = self.sequence();
            if self.more > 0 && other.len() > text.len() {
                text = other;
            }
        }
        text
    }

    fn sequence(&mut self) -> String {
        let mut text = String::new();
        while let Some(&next) = self.left.peek() {
            if matches!(next, '|' | ')') {
                break;
            }
            self.left.next();
            let atom = match next {
                '^' | '$' => continue,
                '.' => "a".to_owned(),
                '[' => self.class().to_string(),
                '(' => self.group(),
                '\\' => self.escaped().map(String::from).unwrap_or_default(),
                other => other.to_string(),
            };
            let times = self.times();
            if text.len().saturating_add(atom.len().saturating_mul(times)) <= LONGEST {
                text.extend(std::iter::repeat_n(atom, times));
            }
        }
        text
    }

    fn group(&mut self) -> String {
        let mut around = false;
        if self.left.next_if_eq(&'?').is_some() {
            match self.left.next() {
                Some('=' | '!') => around = true,
                // A name, or a look behind.
                Some('<') => match self.left.next_if(|next| matches!(next, '=' | '!')) {
                    Some(_) => around = true,
                    None => while self.left.next().is_some_and(|letter| letter != '>') {},
                },
                Some('P') => while self.left.next().is_some_and(|letter| letter != '>') {},
                _ => {}
            }
        }
        self.depth += 1;
        let text = if self.depth > DEEPEST { String::new() } else { self.choice() };
        self.depth -= 1;
        self.left.next_if_eq(&')');
        if around { String::new() } else { text }
    }

    /// Reads a quantifier, and returns the number of repetitions.
    fn times(&mut self) -> usize {
        let (least, most) = match self.left.peek() {
            Some('*') => (0, None),
            Some('+') => (1, None),
            Some('?') => (0, Some(1)),
            Some('{') => {
                let bounds: String = self.left.clone().skip(1).take_while(|letter| *letter != '}').collect();
                let (least, most) = bounds.split_once(',').unwrap_or((&bounds, &bounds));
                let Ok(least) = least.trim().parse::<usize>() else { return 1 };
                for _ in 0..=bounds.chars().count() {
                    self.left.next();
                }
                (least, most.trim().parse().ok())
            }
            _ => return 1,
        };
        self.left.next();
        // Greediness makes no difference.
        self.left.next_if(|next| matches!(next, '?' | '+'));
        least.saturating_add(self.more).min(most.unwrap_or(usize::MAX)).min(least.max(MOST))
    }

    /// Returns a character for an escape; `None` for a position between two.
    fn escaped(&mut self) -> Option<char> {
        Some(match self.left.next()? {
            'd' => '0',
            'w' | 'D' | 'S' => 'a',
            's' => ' ',
            'W' => '-',
            'n' => '\n',
            't' => '\t',
            'r' => '\r',
            'b' | 'B' | 'A' | 'z' | 'Z' => return None,
            'x' => self.code(2),
            'u' => self.code(4),
            'p' | 'P' => {
                if self.left.next_if_eq(&'{').is_some() {
                    while self.left.next().is_some_and(|letter| letter != '}') {}
                } else {
                    self.left.next();
                }
                'A'
            }
            other => other,
        })
    }

    fn code(&mut self, digits: usize) -> char {
        let code: String = self.left.by_ref().take(digits).collect();
        u32::from_str_radix(&code, 16).ok().and_then(char::from_u32).unwrap_or('a')
    }

    /// Returns a character of a class.
    fn class(&mut self) -> char {
        let negated = self.left.next_if_eq(&'^').is_some();
        let mut ranges: Vec<(char, char)> = Vec::new();
        let mut first = true;
        while let Some(letter) = self.left.next() {
            if letter == ']' && !first {
                break;
            }
            first = false;
            let begin = match letter {
                '\\' => {
                    let kind = self.left.peek().copied();
                    let Some(one) = self.escaped() else { continue };
                    match kind {
                        Some('d') => ranges.push(('0', '9')),
                        Some('w') => ranges.extend([('a', 'z'), ('A', 'Z'), ('0', '9'), ('_', '_')]),
                        Some('s') => ranges.extend([(' ', ' '), ('\t', '\r')]),
                        _ => {}
                    }
                    one
                }
                other => other,
            };
            let mut ahead = self.left.clone();
            let end = match (ahead.next(), ahead.next()) {
                (Some('-'), Some(end)) if end != ']' => {
                    self.left.next();
                    self.left.next();
                    if end == '\\' { self.escaped().unwrap_or(begin) } else { end }
                }
                _ => begin,
            };
            ranges.push((begin, end));
        }
        let within = |letter: char| ranges.iter().any(|(begin, end)| (*begin..=*end).contains(&letter));
        if negated {
            let usual = "aA0_-. ,:;/\\\"'!?#é東";
            return usual.chars().find(|letter| !within(*letter)).unwrap_or('a');
        }
        // A letter and not a control character, if the class begins with one.
        match ranges.first() {
            Some((begin, _)) if !begin.is_control() => *begin,
            _ => "aA0 _-"
                .chars()
                .find(|letter| within(*letter))
                .or_else(|| ranges.first().map(|(begin, _)| *begin))
                .unwrap_or('a'),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_shortest_text_is_found() {
        for (pattern, least, text) in [
            ("", 0, ""),
            ("^\\d{3}-\\d{4}$", 0, "000-0000"),
            ("^(?:GET|POST) /\\w+$", 0, "GET /a"),
            ("[^a-z]+", 3, "AAA"),
            ("^a{2,4}b?$", 4, "aaab"),
            ("^[\\w.+-]+@[a-z]+\\.com$", 0, "a@a.com"),
            ("^(?<year>[12]\\d{3})(?=-)-", 0, "1000-"),
            ("[\\x00-\\x7f]", 0, "a"),
            ("(((((((", 0, ""),
            ("a{x}", 0, "a{x}"),
            ("[", 0, "a"),
            ("a{99999999999999999999}", 3, "a{99999999999999999999}"),
            ("a{18446744073709551615}b", 3, "b"),
        ] {
            assert_eq!(matching(pattern, least), text, "{pattern}");
        }
    }

    #[test]
    fn a_text_matches_its_pattern() {
        for pattern in [
            "^[A-Z]{2}\\d{2}(?: ?\\w{4}){3,7}$",
            "^#[0-9a-fA-F]{6}$",
            "^(?:\\d{1,3}\\.){3}\\d{1,3}$",
            "^[^\\s@]+@[^\\s@]+\\.[^\\s@]{2,}$",
            "^\\p{Lu}\\p{L}*$",
            "^(a|b(c|d))+$",
            "^v?(0|[1-9]\\d*)\\.(0|[1-9]\\d*)$",
        ] {
            let schema = serde_json::json!({"type": "string", "pattern": pattern, "minLength": 12});
            let text = matching(pattern, 12).into();
            let fixed = pattern.contains("[0-9a-fA-F]{6}");
            let schema = if fixed { serde_json::json!({"pattern": pattern}) } else { schema };
            assert!(jsonschema::is_valid(&schema, &text), "{pattern} does not match {text}");
        }
    }
}
