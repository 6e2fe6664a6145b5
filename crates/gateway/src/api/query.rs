//! Query strings, and the encoding of what stands in an address.

use http::Uri;

/// Returns the names and values of a query.
pub(crate) fn pairs(uri: &Uri) -> Result<Vec<[String; 2]>, String> {
    pairs_of(uri.query().unwrap_or_default())
}

/// Returns the names and values of a query's text.
pub(crate) fn pairs_of(query: &str) -> Result<Vec<[String; 2]>, String> {
    let fields = query.split('&').filter(|field| !field.is_empty());
    let pair = |field: &'_ str| {
        let (name, value) = field.split_once('=').unwrap_or((field, ""));
        Some([decoded(name)?, decoded(value)?])
    };
    fields
        .map(|field| pair(field).ok_or_else(|| "the query is not UTF-8, or has an invalid `%` escape".to_owned()))
        .collect()
}

/// The longest value of a list's parameter, in bytes.
const MAX_VALUE: usize = 256;
/// The most that a list may be asked for.
const MOST_LISTED: usize = 1000;

/// Returns the parameters of a list's query that have a value: a form sends an empty one for an empty field.
///
/// # Errors
///
/// A parameter is none of the known ones, or its value is too long; the text names it.
pub(crate) fn parameters(uri: &Uri, known: &[&str]) -> Result<Vec<[String; 2]>, String> {
    let mut found = pairs(uri)?;
    for [name, value] in &found {
        if value.len() > MAX_VALUE {
            return Err(format!("`{name}` is longer than {MAX_VALUE} bytes"));
        }
        if !known.contains(&&**name) {
            let other: String = name.chars().take(50).collect();
            return Err(format!("unknown parameter `{other}`; the parameters are {}", known.join(", ")));
        }
    }
    found.retain(|[_, value]| !value.is_empty());
    Ok(found)
}

/// Reads the number of entries that a list is asked for.
pub(crate) fn limit(value: &str) -> Result<usize, String> {
    let limit = value.parse().ok().filter(|limit| (1..=MOST_LISTED).contains(limit));
    limit.ok_or_else(|| format!("`limit` is a number from 1 to {MOST_LISTED}"))
}

/// Decodes a form's encoding.
fn decoded(text: &str) -> Option<String> {
    unescaped(text, b' ')
}

/// Decodes a path's segments, in which a plus is itself.
pub(crate) fn decoded_path(text: &str) -> Option<String> {
    unescaped(text, b'+')
}

fn unescaped(text: &str, plus: u8) -> Option<String> {
    let mut bytes = text.bytes();
    let mut plain = Vec::with_capacity(text.len());
    while let Some(byte) = bytes.next() {
        plain.push(match byte {
            b'+' => plus,
            b'%' => {
                let mut digit = || char::from(bytes.next()?).to_digit(16);
                u8::try_from(digit()? * 16 + digit()?).ok()?
            }
            other => other,
        });
    }
    String::from_utf8(plain).ok()
}
