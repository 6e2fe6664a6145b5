//! A canonical form of a request's meaning, independent of how it was written.
//!
//! The form is a hash over tagged, counted pieces, so that no two different requests give the same bytes. The order
//! of an object's fields, white space, escapes and the spelling of numbers do not count; everything else does. An
//! ambiguous request (a name twice in one object, a number that a double cannot hold) has no canonical form, and is
//! not kept.

use std::{borrow::Cow, fmt};

use serde::{
    Deserialize, Deserializer,
    de::{Error, MapAccess, SeqAccess, Visitor},
};
use sha2::{Digest as _, Sha256};

/// A 256-bit hash that callers cannot make collide, and that is the same in every process.
pub(crate) type Hash = [u8; 32];

/// A hasher for the pieces of a meaning.
pub(crate) struct Meaning(Sha256);

impl Meaning {
    /// Creates a hasher for this kind. Meanings of two kinds are never equal.
    pub(crate) fn of(kind: &str) -> Self {
        let mut meaning = Self(Sha256::new());
        meaning.text(kind);
        meaning
    }

    pub(crate) fn finish(self) -> Hash {
        self.0.finalize().into()
    }

    fn tagged(&mut self, tag: u8, number: u64) {
        let mut head = [tag; 9];
        head[1..].copy_from_slice(&number.to_le_bytes());
        self.0.update(head);
    }

    pub(crate) fn bytes(&mut self, bytes: &[u8]) {
        self.tagged(b's', bytes.len() as u64);
        self.0.update(bytes);
    }

    pub(crate) fn text(&mut self, text: &str) {
        self.bytes(text.as_bytes());
    }

    /// Announces the number of pieces that follow.
    pub(super) fn count(&mut self, pieces: usize) {
        self.tagged(b'[', pieces as u64);
    }

    pub(super) fn number(&mut self, number: f64) {
        // A whole number is the same however it is spelled; beyond 2^53 a double may stand for several.
        match number.fract() == 0.0 && number.abs() < EXACT {
            true => self.tagged(b'i', (number as i64) as u64),
            false => self.tagged(b'f', number.to_bits()),
        }
    }

    pub(super) fn flag(&mut self, flag: bool) {
        self.tagged(b'b', flag.into());
    }

    pub(super) fn nothing(&mut self) {
        self.tagged(b'n', 0);
    }

    pub(super) fn optional<T>(&mut self, value: Option<T>, take: impl FnOnce(&mut Self, T)) {
        match value {
            Some(value) => take(self, value),
            None => self.nothing(),
        }
    }

    pub(crate) fn optional_text(&mut self, text: Option<&str>) {
        self.optional(text, Self::text);
    }

    fn fields(&mut self, count: usize) {
        self.tagged(b'{', count as u64);
    }

    pub(super) fn json(&mut self, json: &Json<'_>) {
        match json {
            Json::Null => self.nothing(),
            Json::Bool(flag) => self.flag(*flag),
            Json::Int(number) => self.tagged(b'i', *number as u64),
            Json::Large(number) => self.tagged(b'u', *number),
            Json::Float(number) => self.number(*number),
            Json::Text(text) => self.text(text),
            Json::List(items) => {
                self.count(items.len());
                items.iter().for_each(|item| self.json(item));
            }
            Json::Object(fields) => {
                self.fields(fields.len());
                for (name, value) in fields {
                    self.text(name);
                    self.json(value);
                }
            }
        }
    }
}

/// The largest magnitude up to which a double holds every whole number.
const EXACT: f64 = 9_007_199_254_740_992.0;

/// A JSON value, borrowed from its bytes if it has no escapes. An object's fields are sorted by name.
pub(super) enum Json<'a> {
    Null,
    Bool(bool),
    Int(i64),
    /// A whole number too large for the variant above.
    Large(u64),
    Float(f64),
    Text(Cow<'a, str>),
    List(Vec<Self>),
    Object(Vec<(Cow<'a, str>, Self)>),
}

struct Name<'a>(Cow<'a, str>);

impl<'de> Deserialize<'de> for Name<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match Json::deserialize(deserializer)? {
            Json::Text(name) => Ok(Self(name)),
            _ => Err(D::Error::custom("a name is a text")),
        }
    }
}

impl<'de> Deserialize<'de> for Json<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Reader)
    }
}

struct Reader;

impl<'de> Visitor<'de> for Reader {
    type Value = Json<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON with one meaning")
    }

    fn visit_unit<E>(self) -> Result<Self::Value, E> {
        Ok(Json::Null)
    }

    fn visit_bool<E>(self, flag: bool) -> Result<Self::Value, E> {
        Ok(Json::Bool(flag))
    }

    fn visit_i64<E>(self, number: i64) -> Result<Self::Value, E> {
        Ok(Json::Int(number))
    }

    fn visit_u64<E>(self, number: u64) -> Result<Self::Value, E> {
        Ok(i64::try_from(number).map_or(Json::Large(number), Json::Int))
    }

    fn visit_f64<E: Error>(self, number: f64) -> Result<Self::Value, E> {
        match number.abs() < EXACT {
            true => Ok(Json::Float(number)),
            false => Err(E::custom("a number that a double cannot hold")),
        }
    }

    fn visit_borrowed_str<E>(self, text: &'de str) -> Result<Self::Value, E> {
        Ok(Json::Text(Cow::Borrowed(text)))
    }

    fn visit_str<E>(self, text: &str) -> Result<Self::Value, E> {
        Ok(Json::Text(Cow::Owned(text.to_owned())))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Self::Value, A::Error> {
        let mut list = Vec::new();
        while let Some(item) = items.next_element()? {
            list.push(item);
        }
        Ok(Json::List(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut fields: A) -> Result<Self::Value, A::Error> {
        let mut object: Vec<(Cow<'de, str>, Json<'de>)> = Vec::new();
        while let Some((Name(name), value)) = fields.next_entry()? {
            object.push((name, value));
        }
        object.sort_unstable_by(|(a, _), (b, _)| a.cmp(b));
        match object.windows(2).any(|pair| pair[0].0 == pair[1].0) {
            true => Err(A::Error::custom("a name is there twice")),
            false => Ok(Json::Object(object)),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use serde_json::Value;

    use super::*;

    fn meaning(text: &str) -> Option<Hash> {
        let json: Json<'_> = serde_json::from_str(text).ok()?;
        let mut meaning = Meaning::of("test");
        meaning.json(&json);
        Some(meaning.finish())
    }

    #[test]
    fn spelling_does_not_count() {
        for (a, b) in [
            (r#"{"a":1,"b":[true,null]}"#, "{ \"b\" : [ true , null ] ,\n \"a\" : 1 }"),
            (r#"{"t":"A\n"}"#, r#"{"t":"\u0041\u000a"}"#),
            ("[1]", "[1.0]"),
            ("[100]", "[1e2]"),
            ("[0]", "[-0.0]"),
            ("[0.5]", "[5e-1]"),
        ] {
            assert!(meaning(a).is_some() && meaning(a) == meaning(b), "{a} {b}");
        }
    }

    #[test]
    fn what_is_said_counts() {
        let different = [
            "null",
            "false",
            "true",
            "0",
            "1",
            "-1",
            "0.5",
            r#""""#,
            r#""0""#,
            "[]",
            "{}",
            "[0]",
            r#"["0"]"#,
            "[[]]",
            "[0,1]",
            "[1,0]",
            r#"{"a":0}"#,
            r#"{"b":0}"#,
            r#"["a",0]"#,
            r#"["ab"]"#,
            r#"["a","b"]"#,
            r#"{"a":null}"#,
            "9007199254740993",
            "9007199254740992",
            "18446744073709551615",
            "-9223372036854775808",
        ];
        for (place, a) in different.iter().enumerate() {
            for b in &different[place + 1..] {
                assert!(meaning(a).is_some() && meaning(a) != meaning(b), "{a} {b}");
            }
        }
    }

    #[test]
    fn what_can_be_read_in_two_ways_has_no_meaning() {
        for text in [r#"{"a":1,"a":2}"#, r#"{"a":1,"\u0061":1}"#, r#"[{"b":{"c":0,"c":0}}]"#, "[1e300]", "[1e999]"] {
            assert_eq!(meaning(text), None, "{text}");
        }
        assert_eq!(meaning("[18446744073709551616]"), None);
        assert_eq!(meaning(&format!("{}{}", "[".repeat(200), "]".repeat(200))), None, "too deep to be looked at");
    }

    fn values() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            // Use as many digits as parameters have; with more, spellings may differ in a double's last place.
            any::<i32>().prop_map(|thousandths| Value::from(f64::from(thousandths) / 1000.0)),
            ".{0,12}".prop_map(Value::from),
        ];
        leaf.prop_recursive(4, 40, 5, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..5).prop_map(Value::from),
                prop::collection::btree_map(".{0,6}", inner, 0..5)
                    .prop_map(|fields| Value::Object(fields.into_iter().collect())),
            ]
        })
    }

    /// Returns the same value in another spelling: other order, white space, escapes and number forms.
    fn respelled(value: &Value) -> String {
        match value {
            Value::String(text) => {
                let escaped: String = text.encode_utf16().map(|unit| format!("\\u{unit:04x}")).collect();
                format!("\"{escaped}\"")
            }
            Value::Number(number) => match number.as_i64() {
                Some(whole) if whole.abs() < 1 << 50 => format!("{whole}.000"),
                Some(whole) => whole.to_string(),
                None => format!("{:e}", number.as_f64().unwrap()),
            },
            Value::Array(items) => {
                format!("[ {} ]", items.iter().map(respelled).collect::<Vec<_>>().join(" ,\t"))
            }
            Value::Object(fields) => {
                let fields: Vec<String> = fields
                    .iter()
                    .rev()
                    .map(|(name, value)| format!("\n{} : {}", respelled(&name.clone().into()), respelled(value)))
                    .collect();
                format!("{{{}}}", fields.join(","))
            }
            other => other.to_string(),
        }
    }

    proptest! {
        #[test]
        fn no_spelling_counts(value in values()) {
            let (plain, other) = (meaning(&value.to_string()), meaning(&respelled(&value)));
            prop_assert!(plain.is_some());
            prop_assert_eq!(plain, other);
        }

        #[test]
        fn different_values_differ(a in values(), b in values()) {
            prop_assume!(a != b);
            // 1 and 1.0 are one number.
            prop_assume!(respelled(&a) != respelled(&b));
            prop_assert_ne!(meaning(&a.to_string()), meaning(&b.to_string()));
        }
    }
}
