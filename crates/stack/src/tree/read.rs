//! Reads the tree into typed values, with errors that know their place.

use std::{borrow::Cow, fmt};

use serde::{
    Deserialize, Deserializer,
    de::{
        DeserializeSeed, EnumAccess, Error, Expected, IntoDeserializer, MapAccess, SeqAccess, Unexpected,
        VariantAccess, Visitor, value::StrDeserializer,
    },
    forward_to_deserialize_any,
};

use super::{Entry, Node, Place, Value, yaml};
use crate::{
    secrets::REDACTED,
    suggest::{provider_advice, suggest_key},
};

/// An error in a value of the tree.
#[derive(Debug)]
pub(crate) struct Fault {
    /// The message: the text before the value, the value, and the text after it.
    before: Box<str>,
    value: Option<Box<str>>,
    after: Box<str>,
    pub(crate) suggestion: Option<Box<str>>,
    /// Set by the innermost value that the error passes.
    pub(crate) place: Option<Place>,
    /// True for a key that the schema does not have; the place is then the key's.
    pub(crate) unknown_key: bool,
    /// The missing key; the place is then the block's.
    pub(crate) missing_key: Option<&'static str>,
}

/// Reads a tree as a `T`.
pub(crate) fn read<T: for<'de> Deserialize<'de>>(node: &Node) -> Result<T, Fault> {
    T::deserialize(Reader(node))
}

impl Fault {
    fn new(message: impl Into<Box<str>>) -> Self {
        Self {
            before: message.into(),
            value: None,
            after: "".into(),
            suggestion: None,
            place: None,
            unknown_key: false,
            missing_key: None,
        }
    }

    fn at(mut self, place: &Place) -> Self {
        self.place.get_or_insert_with(|| place.clone());
        self
    }

    /// Hides the value in the message.
    pub(crate) fn concealed(mut self) -> Self {
        self.value = self.value.map(|_| REDACTED.into());
        self
    }

    /// Creates the error for a name that is not among the expected ones.
    fn no_such(what: &str, name: &str, expected: &[&str]) -> Self {
        let mut fault = Self::new(format!("unknown {what} "));
        fault.value = Some(format!("`{}`", short(name)).into());
        fault.suggestion = suggest_key(name, expected).map(Into::into);
        if fault.suggestion.is_none() && !expected.is_empty() {
            let expected: Vec<String> = expected.iter().map(|name| format!("`{name}`")).collect();
            fault.after = format!("; there are {}", expected.join(", ")).into();
        }
        fault
    }
}

impl Error for Fault {
    fn custom<T: fmt::Display>(message: T) -> Self {
        Self::new(message.to_string())
    }

    fn invalid_type(found: Unexpected<'_>, expected: &dyn Expected) -> Self {
        let value = Some(ActualValue(found).to_string().into());
        Self { value, ..Self::new(format!("expected {}, found ", ExpectedValue(expected))) }
    }

    fn invalid_value(found: Unexpected<'_>, expected: &dyn Expected) -> Self {
        Self::invalid_type(found, expected)
    }

    fn invalid_length(_: usize, expected: &dyn Expected) -> Self {
        Self::new(format!("expected {}", ExpectedValue(expected)))
    }

    fn unknown_variant(name: &str, expected: &'static [&'static str]) -> Self {
        let mut fault = Self::no_such("value", name, expected);
        // The names of the providers.
        if fault.suggestion.is_none() && ["anthropic", "canned"].iter().all(|name| expected.contains(name)) {
            fault.after = provider_advice(name).into();
        }
        fault
    }

    fn unknown_field(name: &str, expected: &'static [&'static str]) -> Self {
        Self { unknown_key: true, ..Self::no_such("key", name, expected) }
    }

    fn missing_field(name: &'static str) -> Self {
        Self { missing_key: Some(name), ..Self::new(format!("`{name}` is missing here")) }
    }
}

impl std::error::Error for Fault {}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}{}", self.before, self.value.as_deref().unwrap_or_default(), self.after)
    }
}

/// The expected value, in the file's terms rather than Rust's.
struct ExpectedValue<'a>(&'a dyn Expected);

impl fmt::Display for ExpectedValue<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let wanted = self.0.to_string();
        f.write_str(match wanted.as_str() {
            "u8" => "a whole number from 0 to 255",
            "u16" => "a whole number from 0 to 65535",
            "u32" | "u64" | "usize" => "a whole number, 0 or more",
            "a nonzero u32" => "a whole number, 1 or more",
            "i64" => "a whole number",
            "f64" => "a number",
            "a boolean" => "true or false",
            "a sequence" => "a list",
            "a map" => "a block of keys",
            wanted if wanted.starts_with("struct ") => "a block of keys",
            wanted if wanted.starts_with("enum ") => "a name",
            wanted => wanted,
        })
    }
}

/// The longest text that a message repeats, in characters.
const MAX_QUOTED: usize = 80;

fn short(text: &str) -> Cow<'_, str> {
    match text.char_indices().nth(MAX_QUOTED) {
        Some((end, _)) => Cow::Owned(format!("{}..", &text[..end])),
        None => Cow::Borrowed(text),
    }
}

/// The actual value, in the file's terms.
struct ActualValue<'a>(Unexpected<'a>);

impl fmt::Display for ActualValue<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Unexpected::Bool(value) => write!(f, "`{value}`"),
            Unexpected::Unsigned(number) => write!(f, "the number `{number}`"),
            Unexpected::Signed(number) => write!(f, "the number `{number}`"),
            Unexpected::Float(number) => write!(f, "the number `{number}`"),
            Unexpected::Str(text) => write!(f, "`{}`", short(text)),
            Unexpected::Unit | Unexpected::Option => f.write_str("nothing"),
            Unexpected::Seq => f.write_str("a list"),
            Unexpected::Map => f.write_str("a block of keys"),
            other => other.fmt(f),
        }
    }
}

/// Reads one value. It lends no data, so that a text from the environment can be read as a tree of its own.
struct Reader<'a>(&'a Node);

impl Reader<'_> {
    fn visit<'de, V: Visitor<'de>>(&self, visitor: V) -> Result<V::Value, Fault> {
        match &self.0.value {
            Value::Null => visitor.visit_unit(),
            Value::Bool(value) => visitor.visit_bool(*value),
            Value::Integer(number) => match u64::try_from(*number) {
                Ok(number) => visitor.visit_u64(number),
                Err(_) => visitor.visit_i64(*number),
            },
            Value::Float(number) => visitor.visit_f64(*number),
            Value::Text(text) => visitor.visit_str(text),
            Value::Untyped(text) => Reader(&guess(text, &self.0.place)).visit(visitor),
            Value::List(items) => visitor.visit_seq(List(items.iter())),
            Value::Map(entries) => visitor.visit_map(Block { entries: entries.iter(), value: None }),
        }
    }

    fn placed<T>(&self, result: Result<T, Fault>) -> Result<T, Fault> {
        result.map_err(|fault| match self.0.value {
            // A variable may hold anything, including keys, so its value is not repeated.
            Value::Untyped(_) => fault.concealed().at(&self.0.place),
            _ => fault.at(&self.0.place),
        })
    }
}

/// Returns the value that a text from the environment would have in the file.
fn guess(text: &str, place: &Place) -> Node {
    let trimmed = text.trim();
    let value = match trimmed {
        "true" => Value::Bool(true),
        "false" => Value::Bool(false),
        _ if trimmed.starts_with(['[', '{']) => match yaml::parse(trimmed) {
            Ok(node) => return node.moved_to(place),
            Err(_) => Value::Text(text.to_owned()),
        },
        _ if trimmed.starts_with(|c: char| c.is_ascii_digit() || matches!(c, '-' | '+' | '.')) => {
            match (trimmed.parse(), trimmed.parse()) {
                (Ok(number), _) => Value::Integer(number),
                (_, Ok(number)) => Value::Float(number),
                _ => Value::Text(text.to_owned()),
            }
        }
        _ => Value::Text(text.to_owned()),
    };
    Node::new(value, place.clone())
}

impl Node {
    /// Moves the whole tree to one place.
    fn moved_to(mut self, place: &Place) -> Self {
        self.place = place.clone();
        self.value = match self.value {
            Value::List(items) => Value::List(items.into_iter().map(|item| item.moved_to(place)).collect()),
            Value::Map(entries) => Value::Map(
                entries
                    .into_iter()
                    .map(|entry| Entry::new(entry.key, place.clone(), entry.value.moved_to(place)))
                    .collect(),
            ),
            value => value,
        };
        self
    }
}

impl<'de> Deserializer<'de> for Reader<'_> {
    type Error = Fault;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        self.placed(self.visit(visitor))
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        match self.0.value {
            Value::Null => visitor.visit_none(),
            _ => visitor.visit_some(self),
        }
    }

    fn deserialize_str<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        match &self.0.value {
            Value::Untyped(text) => self.placed(visitor.visit_str(text)),
            _ => self.deserialize_any(visitor),
        }
    }

    fn deserialize_string<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        self.deserialize_str(visitor)
    }

    /// Reads a key without a value as an empty block, such as one whose content is commented out.
    fn deserialize_map<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        match self.0.value {
            Value::Null => self.placed(visitor.visit_map(Block { entries: [].iter(), value: None })),
            _ => self.deserialize_any(visitor),
        }
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Fault> {
        match self.0.value {
            // serde would otherwise assign a list's values to the fields in order.
            Value::List(_) => Err(Fault::invalid_type(Unexpected::Seq, &"a block of keys").at(&self.0.place)),
            _ => self.deserialize_map(visitor),
        }
    }

    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        match self.0.value {
            Value::Null => self.placed(visitor.visit_seq(List([].iter()))),
            _ => self.deserialize_any(visitor),
        }
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(self, _: &'static str, visitor: V) -> Result<V::Value, Fault> {
        let place = &self.0.place;
        visitor.visit_newtype_struct(Reader(self.0)).map_err(|fault| fault.at(place))
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _: &'static str,
        variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Fault> {
        let result = match (&self.0.value, self.0.entries()) {
            (Value::Text(name) | Value::Untyped(name), _) => visitor.visit_enum(Variant { name, value: None }),
            (_, [entry]) => {
                let variant = Variant { name: &entry.key, value: Some(&entry.value) };
                visitor.visit_enum(variant).map_err(|fault| fault.at(&entry.key_place))
            }
            _ => {
                let names: Vec<String> = variants.iter().map(|name| format!("`{name}`")).collect();
                Err(Fault::new(format!("expected one of {}", names.join(", "))))
            }
        };
        self.placed(result)
    }

    fn deserialize_ignored_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        visitor.visit_unit()
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char bytes byte_buf unit unit_struct tuple tuple_struct
        identifier
    }
}

struct List<'a>(std::slice::Iter<'a, Node>);

impl<'de> SeqAccess<'de> for List<'_> {
    type Error = Fault;

    fn next_element_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<Option<T::Value>, Fault> {
        self.0.next().map(|item| seed.deserialize(Reader(item)).map_err(|fault| fault.at(&item.place))).transpose()
    }
}

struct Block<'a> {
    entries: std::slice::Iter<'a, Entry>,
    value: Option<&'a Node>,
}

impl<'de> MapAccess<'de> for Block<'_> {
    type Error = Fault;

    fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, seed: K) -> Result<Option<K::Value>, Fault> {
        let Some(entry) = self.entries.next() else { return Ok(None) };
        self.value = Some(&entry.value);
        let key: StrDeserializer<'_, Fault> = entry.key.as_str().into_deserializer();
        seed.deserialize(key).map(Some).map_err(|fault| fault.at(&entry.key_place))
    }

    fn next_value_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<T::Value, Fault> {
        let value = self.value.take().ok_or_else(|| Fault::new("a value was asked for before its key"))?;
        seed.deserialize(Reader(value)).map_err(|fault| fault.at(&value.place))
    }

    fn size_hint(&self) -> Option<usize> {
        Some(self.entries.len())
    }
}

/// One of several names, with or without a value.
struct Variant<'a> {
    name: &'a str,
    value: Option<&'a Node>,
}

impl<'de, 'a> EnumAccess<'de> for Variant<'a> {
    type Error = Fault;
    type Variant = Self;

    fn variant_seed<T: DeserializeSeed<'de>>(self, seed: T) -> Result<(T::Value, Self), Fault> {
        let name: StrDeserializer<'_, Fault> = self.name.into_deserializer();
        Ok((seed.deserialize(name)?, self))
    }
}

impl<'de> VariantAccess<'de> for Variant<'_> {
    type Error = Fault;

    fn unit_variant(self) -> Result<(), Fault> {
        match self.value {
            None => Ok(()),
            Some(value) => Err(Fault::new(format!("`{}` takes no value", self.name)).at(&value.place)),
        }
    }

    fn newtype_variant_seed<T: DeserializeSeed<'de>>(self, seed: T) -> Result<T::Value, Fault> {
        let name = self.name;
        let value = self.value.ok_or_else(|| Fault::new(format!("`{name}` needs a value: {{ {name}: .. }}")))?;
        seed.deserialize(Reader(value))
    }

    fn tuple_variant<V: Visitor<'de>>(self, _: usize, _: V) -> Result<V::Value, Fault> {
        Err(Fault::new(format!("`{}` takes no value", self.name)))
    }

    fn struct_variant<V: Visitor<'de>>(self, _: &'static [&'static str], _: V) -> Result<V::Value, Fault> {
        Err(Fault::new(format!("`{}` takes no value", self.name)))
    }
}
