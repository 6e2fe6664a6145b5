//! The ids of objects in JSON, where a field names one.

use std::fmt;

use serde::{
    Deserialize, Deserializer,
    de::{self, DeserializeSeed, IgnoredAny, MapAccess, SeqAccess, Visitor},
};

/// The beginnings of providers' ids, by which they differ from other texts.
const BEGINNINGS: [&str; 15] = [
    "file-",
    "file_",
    "batch_",
    "upload_",
    "asst_",
    "thread_",
    "msg_",
    "run_",
    "step_",
    "vs_",
    "vsfb_",
    "ftjob-",
    "ftckpt_",
    "cntr_",
    "msgbatch_",
];

/// The fields of an object that name another one, beside all that end in `id` or `ids`.
const FIELDS: [&str; 6] = ["file", "files", "training_file", "validation_file", "result_files", "last_error_file"];

/// The longest id, in bytes.
const MAX_ID: usize = 256;
/// The largest number of ids that one text may have.
const MAX_IDS: usize = 10_000;

/// Returns the ids in a JSON text, each once.
///
/// # Errors
///
/// The text is no JSON, or has too many.
pub(super) fn ids_in(json: &[u8]) -> Result<Vec<String>, serde_json::Error> {
    let mut ids = Vec::new();
    let mut text = serde_json::Deserializer::from_slice(json);
    Walk { ids: &mut ids, names_object: false }.deserialize(&mut text)?;
    text.end()?;
    ids.sort_unstable();
    ids.dedup();
    Ok(ids)
}

fn names_object(field: &str) -> bool {
    field.ends_with("id") || field.ends_with("ids") || FIELDS.contains(&field)
}

fn is_id(text: &str) -> bool {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
    text.len() <= MAX_ID
        && BEGINNINGS.iter().any(|beginning| text.len() > beginning.len() && text.starts_with(beginning))
        && text.bytes().all(is_plain)
}

/// Goes through a value.
struct Walk<'a> {
    ids: &'a mut Vec<String>,
    /// True if the value's field names objects.
    names_object: bool,
}

impl<'de> DeserializeSeed<'de> for Walk<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, text: D) -> Result<(), D::Error> {
        text.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Walk<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_map<M: MapAccess<'de>>(self, mut map: M) -> Result<(), M::Error> {
        while let Some(Field(field)) = map.next_key::<Field>()? {
            // The caller's own words.
            if field == "metadata" {
                map.next_value::<IgnoredAny>()?;
                continue;
            }
            map.next_value_seed(Walk { ids: &mut *self.ids, names_object: names_object(&field) })?;
        }
        Ok(())
    }

    fn visit_seq<S: SeqAccess<'de>>(self, mut list: S) -> Result<(), S::Error> {
        while list.next_element_seed(Walk { ids: &mut *self.ids, names_object: self.names_object })?.is_some() {}
        Ok(())
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<(), E> {
        if self.names_object && is_id(text) {
            if self.ids.len() == MAX_IDS {
                return Err(E::custom("more than 10,000 ids"));
            }
            self.ids.push(text.to_owned());
        }
        Ok(())
    }

    fn visit_bool<E>(self, _: bool) -> Result<(), E> {
        Ok(())
    }

    fn visit_i64<E>(self, _: i64) -> Result<(), E> {
        Ok(())
    }

    fn visit_u64<E>(self, _: u64) -> Result<(), E> {
        Ok(())
    }

    fn visit_f64<E>(self, _: f64) -> Result<(), E> {
        Ok(())
    }

    fn visit_unit<E>(self) -> Result<(), E> {
        Ok(())
    }
}

/// The name of a field, which may have escapes.
#[derive(Deserialize)]
#[serde(transparent)]
struct Field(String);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_found_where_a_field_names_an_object() {
        for (json, ids) in [
            (r#"{"id":"file-1","object":"file","filename":"file-2","purpose":"batch"}"#, &["file-1"][..]),
            (r#"{"input_file_id":"file-1","output_file_id":null,"metadata":{"a_id":"file-2"}}"#, &["file-1"]),
            (r#"{"tool_resources":{"file_search":{"vector_store_ids":["vs_1","vs_2"]}}}"#, &["vs_1", "vs_2"]),
            (r#"{"training_file":"file-1","model":"gpt-4o","file\u005fid":"file-2"}"#, &["file-1", "file-2"]),
            (r#"{"content":"file-1","tool_call_id":"call_1","user_id":"me","id":"file-"}"#, &[]),
            (r#"[{"source":{"type":"file","file_id":"file_01"}},{"source":{"file_id":"file_01"}}]"#, &["file_01"]),
            (r#"{"id":"file-../x"}"#, &[]),
            ("7.5", &[]),
        ] {
            assert_eq!(ids_in(json.as_bytes()).unwrap(), ids, "{json}");
        }
        for wrong in ["", "{", "{} {}", "[1,]"] {
            assert!(ids_in(wrong.as_bytes()).is_err(), "{wrong}");
        }
        let many = format!("{{\"ids\":[{}\"vs_0\"]}}", "\"vs_1\",".repeat(MAX_IDS));
        assert!(ids_in(many.as_bytes()).is_err());
    }
}
