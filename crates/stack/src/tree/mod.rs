//! The file as a tree of values that know their places.
//!
//! All three formats become one tree. References are expanded, overrides applied and imported forms converted in the
//! tree, and only then is it read into the schema. So every error has a place in the text, whichever step finds it.

mod node;
mod parse_error;
mod read;
mod toml;
mod yaml;

pub use self::node::Step;
use self::parse_error::ParseError;
pub(super) use self::{
    node::{Entry, Node, Place, Value},
    read::{Fault, read},
};
use super::format::Format;

/// Parses a text of this format.
pub(super) fn parse(text: &str, format: Format) -> Result<Node, ParseError> {
    match format {
        // Every JSON text is YAML, and the YAML parser reports places.
        Format::Yaml | Format::Json => yaml::parse(text),
        Format::Toml => toml::parse(text),
    }
}
