//! The formats of the log's lines.

use std::fmt::{self, Debug, Write as _};

use serde::de::IgnoredAny;
use tracing::{
    Event, Subscriber,
    field::{Field, Visit},
};
use tracing_subscriber::{
    field::MakeExt as _,
    fmt::{
        FmtContext, FormatEvent, FormatFields,
        format::{Writer, debug_fn},
        time::{FormatTime as _, SystemTime},
    },
    registry::LookupSpan,
};

/// The field of a line's message.
const MESSAGE: &str = "message";
/// A field whose text is a JSON list.
const LIST: &str = "failed_attempts";

/// Returns the format of a text line's fields, `name=value`; a value with a space is quoted.
pub(super) fn values() -> impl for<'a> FormatFields<'a> + Send + Sync + 'static {
    debug_fn(|writer, field, value| {
        let text = format!("{value:?}");
        if field.name() == MESSAGE {
            return text.chars().try_for_each(|char| match char {
                '\n' | '\t' => writer.write_char(char),
                char if char.is_control() => write!(writer, "{}", char.escape_default()),
                char => writer.write_char(char),
            });
        }
        match writer.has_ansi_escapes() {
            true => write!(writer, "\x1b[3m{}\x1b[0m\x1b[2m=\x1b[0m", field.name())?,
            false => write!(writer, "{}=", field.name())?,
        }
        if is_one_word(&text) { writer.write_str(&text) } else { write!(writer, "{text:?}") }
    })
    .delimited(" ")
}

/// Returns whether a value's end is clear without quotes: it is quoted already, or has nothing to quote.
fn is_one_word(text: &str) -> bool {
    if let Some(quoted) = text.strip_prefix('"').and_then(|text| text.strip_suffix('"')) {
        let mut escaped = false;
        let sound = quoted.chars().all(|char| {
            let sound = escaped || char != '"' && !char.is_control();
            escaped = char == '\\' && !escaped;
            sound
        });
        return sound && !escaped;
    }
    !text.is_empty() && !text.contains(|char: char| char.is_whitespace() || char.is_control())
}

/// Writes an object for each line: `timestamp`, `level`, the fields, `target`. A [`LIST`] stays a list.
pub(super) struct Json;

impl<S, N> FormatEvent<S, N> for Json
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(&self, _: &FmtContext<'_, S, N>, mut writer: Writer<'_>, event: &Event<'_>) -> fmt::Result {
        let mut timestamp = String::with_capacity(32);
        SystemTime.format_time(&mut Writer::new(&mut timestamp))?;
        let mut line = Line(String::with_capacity(512));
        line.put("timestamp", &quoted(&timestamp));
        line.put("level", &quoted(event.metadata().level().as_str()));
        event.record(&mut line);
        line.put("target", &quoted(event.metadata().target()));
        writeln!(writer, "{{{}}}", line.0)
    }
}

/// The members of an object.
struct Line(String);

impl Line {
    fn put(&mut self, name: &str, json: &str) {
        let between = if self.0.is_empty() { "" } else { "," };
        // Writing to a string cannot fail.
        let _ = write!(self.0, "{between}{}:{json}", quoted(name));
    }
}

impl Visit for Line {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        self.put(field.name(), &quoted(&format!("{value:?}")));
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        let is_list =
            field.name() == LIST && !value.contains('\n') && serde_json::from_str::<IgnoredAny>(value).is_ok();
        if is_list { self.put(LIST, value) } else { self.put(field.name(), &quoted(value)) }
    }

    fn record_f64(&mut self, field: &Field, value: f64) {
        self.put(field.name(), &serde_json::Value::from(value).to_string());
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.put(field.name(), &value.to_string());
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.put(field.name(), &value.to_string());
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.put(field.name(), if value { "true" } else { "false" });
    }
}

fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

#[cfg(test)]
mod tests {
    use std::{
        io,
        sync::{Arc, Mutex},
    };

    use tracing_subscriber::fmt::MakeWriter;

    use super::*;

    #[derive(Clone, Default)]
    struct Lines(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Lines {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    impl<'a> MakeWriter<'a> for Lines {
        type Writer = Self;

        fn make_writer(&'a self) -> Self {
            self.clone()
        }
    }

    impl Lines {
        fn text(&self) -> String {
            String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
        }
    }

    fn says() {
        let (spaced, hostile) = (String::from("a value"), "x\n2026 ERROR forged=\"yes\"");
        tracing::info!(
            event = "request",
            number = 7,
            share = 0.5,
            on = true,
            failed_attempts = r#"[{"tier":"a b"}]"#,
            shown = %spaced,
            word = %"word",
            %hostile,
            "it happened"
        );
    }

    #[test]
    fn values_with_spaces_are_quoted_and_words_are_not() {
        let lines = Lines::default();
        let log = tracing_subscriber::fmt().with_writer(lines.clone()).with_ansi(false).fmt_fields(values()).finish();
        tracing::subscriber::with_default(log, says);
        let text = lines.text();
        let fields = "it happened event=\"request\" number=7 share=0.5 on=true";
        assert!(text.contains(fields), "{text}");
        assert!(text.contains(" shown=\"a value\" word=word "), "{text}");
        assert_eq!(text.lines().count(), 1, "nobody forges a line: {text}");
    }

    #[test]
    fn what_looks_quoted_is_quoted_again_where_it_is_not() {
        for (text, one) in [
            ("word", true),
            ("", false),
            ("two words", false),
            (r#""a b""#, true),
            (r#""a" b""#, false),
            (r#""\""#, false),
        ] {
            assert_eq!(is_one_word(text), one, "{text}");
        }
    }

    #[test]
    fn a_line_of_json_is_an_object_and_a_list_in_it_is_a_list() {
        let lines = Lines::default();
        let log = tracing_subscriber::fmt().with_writer(lines.clone()).event_format(Json).finish();
        tracing::subscriber::with_default(log, says);
        let line: serde_json::Value = serde_json::from_str(&lines.text()).unwrap();
        assert_eq!((&line["event"], &line["message"]), (&"request".into(), &"it happened".into()));
        assert_eq!((&line["number"], &line["share"], &line["on"]), (&7.into(), &0.5.into(), &true.into()));
        assert_eq!(line["failed_attempts"][0]["tier"], "a b");
        assert_eq!((&line["level"], &line["shown"]), (&"INFO".into(), &"a value".into()));
        assert!(line["timestamp"].as_str().unwrap().ends_with('Z') && line["target"].is_string(), "{line}");
    }
}
