//! Query strings, and the encoding of what stands in an address.

use http::Uri;

/// Returns the names and values of a query.
pub(crate) fn pairs(uri: &Uri) -> Result<Vec<[String; 2]>, String> {
    let query = uri.query().unwrap_or_default();
    let fields = query.split('&').filter(|field| !field.is_empty());
    let pair = |field: &'_ str| {
        let (name, value) = field.split_once('=').unwrap_or((field, ""));
        Some([decoded(name)?, decoded(value)?])
    };
    fields
        .map(|field| pair(field).ok_or_else(|| "the query is not UTF-8, or has an invalid `%` escape".to_owned()))
        .collect()
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
