//! The nearest right name.

/// The name nearest to what was written, if any is near enough to have been meant.
pub(super) fn nearest<'a>(written: &str, names: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let plain = plain(written);
    let near = |name: &str| match distance(&plain, &self::plain(name)) {
        // One is the other with something added: `retries` for `max_retries`.
        _ if plain.len() >= 4 && (name.ends_with(&plain) || name.starts_with(&plain)) => 1,
        distance => distance,
    };
    let (distance, name) = names.into_iter().map(|name| (near(name), name)).min_by_key(|(distance, _)| *distance)?;
    (distance <= (plain.chars().count() / 3).max(1)).then_some(name)
}

/// A name without what is a matter of taste: `maxAttempts`, `max-attempts` and `max_attempts` are one.
fn plain(name: &str) -> String {
    let mut plain = String::with_capacity(name.len() + 4);
    for c in name.chars().take(64) {
        match c {
            '-' | ' ' | '.' => plain.push('_'),
            c if c.is_ascii_uppercase() => {
                if plain.ends_with(|c: char| c.is_ascii_lowercase()) {
                    plain.push('_');
                }
                plain.push(c.to_ascii_lowercase());
            }
            c => plain.push(c),
        }
    }
    plain
}

/// How many letters have to be added, removed, changed or swapped with their neighbour to make one of the other: the
/// optimal string alignment distance (Damerau, 1964).
fn distance(a: &str, b: &str) -> usize {
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().collect(), b.chars().collect());
    // The row before last, the last, and the one being filled.
    let (mut before, mut last) = (Vec::new(), (0..=b.len()).collect::<Vec<usize>>());
    for (i, letter) in a.iter().enumerate() {
        let mut row = vec![i + 1];
        for (j, other) in b.iter().enumerate() {
            let changed = last[j] + usize::from(letter != other);
            let mut least = changed.min(last[j + 1] + 1).min(row[j] + 1);
            if i > 0 && j > 0 && *letter == b[j - 1] && a[i - 1] == *other {
                least = least.min(before[j - 1] + 1);
            }
            row.push(least);
        }
        before = std::mem::replace(&mut last, row);
    }
    last[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slip_of_the_finger_is_one_step() {
        for (a, b, steps) in [
            ("model", "model", 0),
            ("modle", "model", 1),
            ("mdel", "model", 1),
            ("models", "model", 1),
            ("madel", "model", 1),
            ("", "model", 5),
        ] {
            assert_eq!((distance(a, b), distance(b, a)), (steps, steps), "{a} {b}");
        }
    }

    #[test]
    fn what_was_meant_is_found_and_what_is_far_is_not() {
        let names = ["name", "model", "max_attempts", "circuit_breaker", "timeout"];
        for (written, meant) in [
            ("modle", Some("model")),
            ("maxAttempts", Some("max_attempts")),
            ("attempts", Some("max_attempts")),
            ("circuit-breaker", Some("circuit_breaker")),
            ("TIMEOUT", Some("timeout")),
            ("nmae", Some("name")),
            ("colour", None),
            ("", None),
        ] {
            assert_eq!(nearest(written, names), meant, "{written}");
        }
    }
}
