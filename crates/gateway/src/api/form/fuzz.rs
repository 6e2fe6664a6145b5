//! Forms of any bytes.

use http::HeaderValue;

use super::{Form, FormReader};
use crate::mutation::pieces;

/// The boundary of these forms.
const BOUNDARY: &str = "b-7";

/// Whatever the pieces: the same form, and a lenient reader finds no other model in it.
///
/// # Panics
///
/// It is another, or a lenient reader does.
pub fn form(bytes: &[u8], seed: u64) {
    let kind = HeaderValue::from_static("multipart/form-data; boundary=b-7");
    let whole = Form::read(&kind, bytes).ok();
    for longest in [1, 7, 4096] {
        let mut reader = FormReader::new(&kind).expect("it has a boundary");
        let read = pieces(bytes, longest, seed).into_iter().try_for_each(|piece| reader.push(piece));
        let read = read.and_then(|()| reader.finish()).ok().map(|()| reader.form);
        assert_eq!(read, whole, "in pieces of up to {longest} bytes: {:?}", String::from_utf8_lossy(bytes));
    }
    if let Some(form) = whole {
        let strict: Vec<&[u8]> = form.model.iter().map(|(model, _)| model.as_bytes()).collect();
        assert_eq!(lenient(bytes), strict, "{:?}", String::from_utf8_lossy(bytes));
    }
}

/// Returns the models that some reader may find: any line break ends a line, and a name is read in any spelling.
fn lenient(bytes: &[u8]) -> Vec<&[u8]> {
    let mut models = Vec::new();
    let mut lines = Lines { bytes, at: 0 };
    let mut line = lines.next();
    while let Some((start, end, _)) = line {
        let text = &bytes[start..end];
        line = lines.next();
        let Some(behind) = text.strip_prefix(b"--").and_then(|text| text.strip_prefix(BOUNDARY.as_bytes())) else {
            continue;
        };
        if behind.starts_with(b"--") {
            continue;
        }
        let mut is_model = false;
        // The head, up to an empty line.
        while let Some((start, end, _)) = line.filter(|(start, end, _)| start < end) {
            is_model |= names_model(&bytes[start..end]);
            line = lines.next();
        }
        let Some((_, _, value)) = line.filter(|_| is_model) else { continue };
        // The value, up to the line break before the next boundary.
        let mut value_end = value;
        line = lines.next();
        let mut before = value;
        while let Some((start, end, _)) = line {
            if bytes[start..end].starts_with(b"--b-7") {
                value_end = before;
                break;
            }
            (before, value_end) = (end, end);
            line = lines.next();
        }
        models.push(bytes[value..value_end.max(value)].trim_ascii());
    }
    models
}

/// Returns whether a line of a head may name a field `model` that is no file.
fn names_model(line: &[u8]) -> bool {
    let line = String::from_utf8_lossy(line).to_ascii_lowercase();
    let Some(parameters) = line.strip_prefix("content-disposition:") else { return false };
    let is_name = |parameter: &str| {
        let (name, value) = parameter.split_once('=').unwrap_or_default();
        let value = value.trim().trim_start_matches("utf-8''").trim_start_matches(['"', '\'']).trim_start();
        let field: &str = value.split(['"', '\'', '[', ' ', '\t']).next().unwrap_or_default();
        matches!(name.trim(), "name" | "name*") && field == "model"
    };
    parameters.split(';').any(is_name)
}

/// The lines of a text, by any line break: where each begins and ends, and where the next begins.
struct Lines<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl Iterator for Lines<'_> {
    type Item = (usize, usize, usize);

    fn next(&mut self) -> Option<Self::Item> {
        let start = self.at;
        if start >= self.bytes.len() {
            return None;
        }
        let rest = &self.bytes[start..];
        let end = memchr::memchr2(b'\r', b'\n', rest).map_or(self.bytes.len(), |end| start + end);
        let breaks = if self.bytes[end..].starts_with(b"\r\n") { 2 } else { 1 };
        self.at = end + breaks;
        Some((start, end, self.at.min(self.bytes.len())))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mutation::mutated;

    const GOOD: [&str; 2] = [
        "--b-7\r\nContent-Disposition: form-data; name=\"model\"\r\n\r\nwhisper-1\r\n--b-7\r\nContent-Disposition: form-data; \
         name=\"file\"; filename=\"a.mp3\"\r\nContent-Type: audio/mpeg\r\n\r\n\r\n\n\0\r\n--b-7--\r\n",
        "--b-7\r\nContent-Disposition: form-data; name=\"prompt\"\r\n\r\na\nb\r\n--b-7\r\nContent-Disposition: form-data; \
         name=model\r\n\r\ngpt-image-1\r\n--b-7\r\nContent-Disposition: form-data; name=\"n\"\r\n\r\n2\r\n--b-7--\r\n",
    ];
    const WORDS: [&str; 16] = [
        "\r\n",
        "\n",
        "\r",
        "--b-7\r\n",
        "\r\n--b-7\r\n",
        "--b-7--",
        "Content-Disposition: form-data; name=\"model\"\r\n\r\ndear-1\r\n",
        "\r\n--b-7\r\nContent-Disposition: form-data; name=\"model\"\r\n\r\ndear-1",
        "\n--b-7\nContent-Disposition: form-data; name=\"model\"\n\ndear-1",
        "; name=\"model\"",
        "name*=utf-8''model",
        "; filename=\"x\"",
        "\"",
        "\\",
        " ",
        "\0",
    ];

    #[test]
    fn a_lenient_reader_finds_the_models_of_good_forms() {
        assert_eq!(GOOD.map(|form| lenient(form.as_bytes())), [[b"whisper-1".as_slice()], [b"gpt-image-1"]]);
        // And what a strict one passes over.
        let two = GOOD[0].replace("\r\n\n\0\r\n", "\n--b-7\nContent-Disposition: form-data; name=model\n\ndear-1\r\n");
        assert_eq!(lenient(two.as_bytes()), [&b"whisper-1"[..], b"dear-1"]);
    }

    #[test]
    fn a_form_is_one_form_for_every_reader() {
        let mut random = fastrand::Rng::with_seed(3);
        for seed in 0..20_000 {
            let good = GOOD[random.usize(..GOOD.len())].as_bytes();
            form(&mutated(good, &WORDS, &mut random), seed);
        }
    }
}
