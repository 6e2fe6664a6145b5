//! Files of keys of any text.

use std::path::Path;

use super::file;

/// An error of the file shows no key, and no cut of it gives a key that it has more rights.
///
/// # Panics
///
/// One does.
pub fn keys(text: &str) {
    let read = |text: &str| file::read(Path::new("keys.yaml"), &Ok(text.to_owned()));
    let whole = match read(text) {
        Ok(reading) => reading.records,
        Err(problem) => {
            let problem = problem.to_string();
            let is_part = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
            let shown = problem.split(|c| !is_part(c)).find(|word| word.starts_with("sk-") && word.len() > 3);
            return assert_eq!(shown, None, "{problem}");
        }
    };
    for (cut, _) in text.char_indices().skip(1) {
        let Ok(mut cut) = read(&text[..cut]) else { continue };
        if cut.is_open {
            cut.records.pop();
        }
        for key in cut.records {
            let is_there = whole.iter().any(|whole| key.is_within(whole));
            assert!(is_there, "`{}` may more in a part of {text:?}", key.entry.name);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mutation::mutated;

    const HASH: &str = "sha256:9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a0";
    const WORDS: [&str; 22] = [
        "\n",
        "\n  - ",
        "\n    ",
        ": ",
        ", ",
        "{",
        "}",
        "[",
        "]",
        "\"",
        "'",
        "&a ",
        "*a",
        "<<: *a",
        "!!str ",
        "#",
        "...\n",
        "---\n",
        "models: [a]",
        "admin: true",
        "sk-secret",
        "|\n",
    ];

    #[test]
    fn a_part_of_a_file_gives_no_key_more() {
        let good = [
            format!(
                "keys:\n  - name: a\n    models: [x, 'y*']\n    hash: '{HASH}1'\n  - name: b\n    hash: {HASH}2\n    budget: {{ usd: 5, period: day }}\n    concurrency: 20\n"
            ),
            format!(
                "keys: [\n  {{ name: a, hash: '{HASH}1', features: [f] }},\n  {{ name: b, hash: '{HASH}2', requests_per_minute: 60 }}\n]\n"
            ),
        ];
        let mut random = fastrand::Rng::with_seed(5);
        for _ in 0..150 {
            let good = good[random.usize(..good.len())].as_bytes();
            keys(&String::from_utf8_lossy(&mutated(good, &WORDS, &mut random)));
        }
    }
}
