//! The names of the schema's own blocks, taken from the schema itself.

use serde::{
    Deserialize, Deserializer,
    de::{Error as _, Visitor, value::Error},
    forward_to_deserialize_any,
};

use crate::Config;

/// Returns the keys that a file may have at its top level.
pub(super) fn blocks() -> &'static [&'static str] {
    let mut names: &'static [&'static str] = &[];
    let _names_only = Config::deserialize(FieldNames(&mut names));
    names
}

/// A deserializer that records a struct's field names and yields no value.
struct FieldNames<'a>(&'a mut &'static [&'static str]);

impl<'de> Deserializer<'de> for FieldNames<'_> {
    type Error = Error;

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        fields: &'static [&'static str],
        _: V,
    ) -> Result<V::Value, Error> {
        *self.0 = fields;
        Err(Error::custom("only the names are asked for"))
    }

    fn deserialize_any<V: Visitor<'de>>(self, _: V) -> Result<V::Value, Error> {
        Err(Error::custom("a configuration is a struct"))
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf option unit unit_struct
        newtype_struct seq tuple tuple_struct map enum identifier ignored_any
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_names_are_those_of_the_published_schema() {
        let schema = Config::json_schema();
        let published = schema["properties"].as_object().unwrap().keys().filter(|name| *name != "$schema");
        let mut published: Vec<&str> = published.map(String::as_str).collect();
        let mut names = blocks().to_vec();
        published.sort_unstable();
        names.sort_unstable();
        assert_eq!(names, published);
    }
}
