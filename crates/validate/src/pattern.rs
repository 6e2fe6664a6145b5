//! The cost of a regular expression, from its text alone.

/// The sizes of what takes more than a letter, in letters: a measure of the time that each takes to compile.
const CLASS: u64 = 5;
/// Any character but a few, as a text in UTF-8 has it.
const NEARLY_ANY: u64 = 60;
/// A property of Unicode, with its hundreds of ranges.
const PROPERTY: u64 = 2_000;

/// Returns the size of a pattern with its counted repeats written out, in letters.
pub(super) fn size(pattern: &str) -> u64 {
    // Each open group: what it has so far, without its last part.
    let mut groups: Vec<u64> = Vec::new();
    let (mut whole, mut last): (u64, u64) = (0, 0);
    let mut rest = pattern;
    while let Some(char) = rest.chars().next() {
        rest = &rest[char.len_utf8()..];
        let part = match char {
            '(' => {
                groups.push(whole.saturating_add(last));
                (whole, last) = (0, 0);
                continue;
            }
            ')' => {
                let group = whole.saturating_add(last);
                (whole, last) = (groups.pop().unwrap_or(0), group);
                continue;
            }
            '{' => {
                if let Some((times, after)) = repeats(rest) {
                    last = last.saturating_mul(times.max(1));
                    rest = after;
                    continue;
                }
                1
            }
            '\\' => {
                let escaped = rest.chars().next();
                rest = &rest[escaped.map_or(0, char::len_utf8)..];
                match escaped {
                    Some('p' | 'P') => {
                        // Its name is no count.
                        rest = rest
                            .strip_prefix('{')
                            .and_then(|named| named.split_once('}'))
                            .map_or(rest, |(_, after)| after);
                        PROPERTY
                    }
                    Some('D' | 'S' | 'W') => NEARLY_ANY,
                    Some('d' | 's' | 'w') => CLASS,
                    _ => 1,
                }
            }
            '[' => {
                let end = class_end(rest);
                let (class, after) = rest.split_at(end);
                rest = after;
                let has = |words: &[&str]| words.iter().any(|word| class.contains(word));
                if has(&["\\p", "\\P"]) {
                    PROPERTY
                } else if class.starts_with('^') || has(&["\\D", "\\S", "\\W"]) {
                    NEARLY_ANY
                } else {
                    CLASS.max(class.len() as u64 / 2)
                }
            }
            '.' => NEARLY_ANY,
            _ => 1,
        };
        whole = whole.saturating_add(last);
        last = part;
    }
    groups.into_iter().fold(whole.saturating_add(last), u64::saturating_add)
}

/// Returns true if matching may try a text again and again: looks around, groups by number or name, and the like.
pub(super) fn goes_back(pattern: &str) -> bool {
    let mut before = ' ';
    let mut rest = pattern;
    while let Some(char) = rest.chars().next() {
        if char == '\\' {
            let escaped = rest[1..].chars().next();
            if matches!(escaped, Some('1'..='9' | 'k' | 'K' | 'G')) {
                return true;
            }
            rest = &rest[1 + escaped.map_or(0, char::len_utf8)..];
            before = ' ';
            continue;
        }
        let looks = ["(?=", "(?!", "(?<=", "(?<!", "(?>", "(?("].iter().any(|group| rest.starts_with(group));
        let keeps = char == '+' && matches!(before, '*' | '+' | '?' | '}');
        if looks || keeps {
            return true;
        }
        before = char;
        rest = &rest[char.len_utf8()..];
    }
    false
}

/// Returns the most repeats of `{n}`, `{n,}` and `{n,m}`, whose `{` was read, and what follows.
fn repeats(text: &str) -> Option<(u64, &str)> {
    let (counts, after) = text.split_once('}')?;
    let (least, most) = counts.split_once(',').unwrap_or((counts, counts));
    let number = |text: &str| {
        let is_number = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        is_number.then(|| text.parse().unwrap_or(u64::MAX))
    };
    let least = number(least.trim())?;
    let most = if most.trim().is_empty() { least.saturating_add(1) } else { number(most.trim())? };
    Some((least.max(most), after))
}

/// Returns where a class ends whose `[` was read. A class may have others within it.
fn class_end(text: &str) -> usize {
    let mut depth = 1;
    let mut bytes = text.bytes().enumerate();
    while let Some((place, byte)) = bytes.next() {
        match byte {
            b'\\' => _ = bytes.next(),
            b'[' => depth += 1,
            b']' if place == 0 || (place == 1 && text.starts_with('^')) => {}
            b']' => {
                depth -= 1;
                if depth == 0 {
                    return place + 1;
                }
            }
            _ => {}
        }
    }
    text.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counted_repeats_are_written_out() {
        for (pattern, letters) in [
            ("", 0),
            ("abc", 3),
            ("(a{100}){100}", 10_000),
            ("^a{2,3}b{4,}$", 1 + 3 + 5 + 1),
            ("a{,3}", 5),
            ("((a{10}b){10}c){10}", 1_110),
            ("a{4000000000}{4000000000}{4000000000}", u64::MAX),
            (r"\{9}", 3),
            (r"\p{L}{9}", 9 * PROPERTY),
            (r"^\d{4}-\d{2}$", 1 + 4 * CLASS + 1 + 2 * CLASS + 1),
            ("^.{1,5000}$", 1 + 5_000 * NEARLY_ANY + 1),
            (r"[^a\]]{10}", 10 * NEARLY_ANY),
            (r"[\p{L} ]{10}", 10 * PROPERTY),
            ("[]a]{3}x", 3 * CLASS + 1),
            ("(a{10}", 10),
            ("a{10})", 10),
        ] {
            assert_eq!(size(pattern), letters, "{pattern}");
        }
    }

    #[test]
    fn what_goes_back_is_known() {
        for pattern in
            ["^(?=a)b", "(?!x)", "(?<=a)", "(?<!a)", r"(a)\1", r"(?<n>a)\k<n>", "(?>a)", "a++", "a*+", "x{2}+"]
        {
            assert!(goes_back(pattern), "{pattern}");
        }
        for pattern in ["^a+$", "(?:a|b)*", "(?i)a", "(?<y>a)", "(?P<y>a)", r"\+\+", r"a\?+", r"\(?", "[0-9]{4}"] {
            assert!(!goes_back(pattern), "{pattern}");
        }
    }
}
