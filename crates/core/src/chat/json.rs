use std::{fmt, sync::Arc};

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::{Map, Value, value::RawValue, value::to_raw_value};

use crate::{fields, raw_json::RawJson};

/// A JSON value as its text: a tool's schema, a part or a field that only one dialect knows.
///
/// It is passed on unchanged, and only its reader parses it: a tree of many small nodes takes many times the memory of
/// its text. Cloning copies nothing.
///
/// Two values are equal if they mean the same, however they are written.
///
/// ```
/// use serde_json::json;
/// use steadfast::chat::Json;
///
/// let schema = Json::from(json!({"type": "object"}));
/// assert_eq!(schema.as_str(), r#"{"type":"object"}"#);
/// assert_eq!(schema.value()?["type"], "object");
/// # Ok::<(), serde_json::Error>(())
/// ```
#[derive(Clone)]
pub struct Json(Arc<RawValue>);

impl Json {
    /// Checks the grammar of a text, and keeps the text alone.
    ///
    /// # Errors
    ///
    /// The text is not one JSON value.
    pub fn parse(text: impl Into<String>) -> Result<Self, serde_json::Error> {
        RawValue::from_string(text.into()).map(Self::from)
    }

    /// Returns the text.
    pub fn as_str(&self) -> &str {
        self.0.get()
    }

    /// Reads the value into a type of your own.
    ///
    /// # Errors
    ///
    /// The value is not of that type, or is nested more than 127 deep.
    pub fn read<'a, T: Deserialize<'a>>(&'a self) -> Result<T, serde_json::Error> {
        serde_json::from_str(self.as_str())
    }

    /// Reads the value into a tree. Many small nodes take far more memory than their text.
    ///
    /// # Errors
    ///
    /// The value is nested more than 127 deep, or contains a text or number that Rust cannot represent.
    pub fn value(&self) -> Result<Value, serde_json::Error> {
        self.read()
    }

    /// Returns true if the value is `null`.
    pub fn is_null(&self) -> bool {
        self.as_str() == "null"
    }

    /// Returns true if the value is an object.
    pub fn is_object(&self) -> bool {
        self.as_str().starts_with('{')
    }

    /// Copies a value out of a larger text.
    #[doc(hidden)]
    pub fn of<'a>(raw: impl Into<RawJson<'a>>) -> Self {
        Self::parse(raw.into().get()).expect("the grammar was checked")
    }

    #[doc(hidden)]
    pub fn null() -> Self {
        Value::Null.into()
    }

    /// Returns an object without fields.
    #[doc(hidden)]
    pub fn no_fields() -> Self {
        Map::new().into()
    }

    #[doc(hidden)]
    pub fn raw(&self) -> RawJson<'_> {
        RawJson::from(&*self.0)
    }

    /// Returns a field of an object as text; of several, the last one.
    #[doc(hidden)]
    pub fn get(&self, name: &str) -> Option<RawJson<'_>> {
        let mut found = None;
        let read = fields::fields(self.raw(), |field, value| {
            if field == name {
                found = Some(value);
            }
            Ok(())
        });
        read.ok().and(found)
    }

    /// Returns the name of an object's first field.
    #[doc(hidden)]
    pub fn first_name(&self) -> Option<String> {
        let mut first = None;
        let read = fields::fields(self.raw(), |name, _| {
            first.get_or_insert_with(|| name.to_owned());
            Ok(())
        });
        read.ok().and(first)
    }

    /// Returns the fields of an object, parsed; empty if the value is no object.
    #[doc(hidden)]
    pub fn fields(&self) -> Map<String, Value> {
        self.read().unwrap_or_default()
    }
}

impl From<Box<RawValue>> for Json {
    fn from(raw: Box<RawValue>) -> Self {
        Self(raw.into())
    }
}

impl From<Value> for Json {
    fn from(value: Value) -> Self {
        to_raw_value(&value).expect("a value's fields are named by texts").into()
    }
}

impl From<Map<String, Value>> for Json {
    fn from(fields: Map<String, Value>) -> Self {
        Value::Object(fields).into()
    }
}

impl PartialEq for Json {
    fn eq(&self, other: &Self) -> bool {
        self.as_str() == other.as_str() || matches!((self.value(), other.value()), (Ok(one), Ok(two)) if one == two)
    }
}

impl PartialEq<Value> for Json {
    fn eq(&self, other: &Value) -> bool {
        self.value().is_ok_and(|value| value == *other)
    }
}

impl Serialize for Json {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.0.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Json {
    /// By way of a value, which every format can give: a raw value exists in JSON's own text alone.
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Value::deserialize(deserializer).map(Self::from)
    }
}

impl fmt::Debug for Json {
    /// Writes nothing of the content.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Json({} bytes)", self.as_str().len())
    }
}
