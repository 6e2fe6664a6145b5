//! The vector spaces of known models.
//!
//! Vectors of one space can be compared, and an index holds vectors of one space only. A space is named after its model
//! and the number of dimensions that the model makes where the request asks for no other.

use std::borrow::Cow;

/// The dimensions of a known model's vectors, by the model's name without its maker's prefix. From the makers' pages on
/// their models: OpenAI, Google, Cohere, Mistral, Voyage, Jina, Nomic, BAAI, Mixedbread, Alibaba.
const KNOWN: [(&str, u32); 37] = [
    ("text-embedding-3-small", 1536),
    ("text-embedding-3-large", 3072),
    ("text-embedding-ada-002", 1536),
    ("gemini-embedding-001", 3072),
    ("text-embedding-004", 768),
    ("text-embedding-005", 768),
    ("text-multilingual-embedding-002", 768),
    ("embed-v4.0", 1536),
    ("embed-english-v3.0", 1024),
    ("embed-multilingual-v3.0", 1024),
    ("embed-english-light-v3.0", 384),
    ("embed-multilingual-light-v3.0", 384),
    ("mistral-embed", 1024),
    ("codestral-embed", 1536),
    ("voyage-3.5", 1024),
    ("voyage-3.5-lite", 1024),
    ("voyage-3-large", 1024),
    ("voyage-3", 1024),
    ("voyage-3-lite", 512),
    ("voyage-code-3", 1024),
    ("voyage-finance-2", 1024),
    ("voyage-law-2", 1024),
    ("jina-embeddings-v3", 1024),
    ("jina-embeddings-v4", 2048),
    ("nomic-embed-text", 768),
    ("nomic-embed-text-v1.5", 768),
    ("bge-m3", 1024),
    ("bge-large-en-v1.5", 1024),
    ("bge-base-en-v1.5", 768),
    ("bge-small-en-v1.5", 384),
    ("mxbai-embed-large", 1024),
    ("mxbai-embed-large-v1", 1024),
    ("all-minilm", 384),
    ("all-minilm-l6-v2", 384),
    ("qwen3-embedding-8b", 4096),
    ("qwen3-embedding-4b", 2560),
    ("qwen3-embedding-0.6b", 1024),
];

/// A vector space: its name and, where it is known, the length of its vectors.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct VectorSpace<'a> {
    pub(crate) name: Cow<'a, str>,
    pub(crate) dimensions: Option<u32>,
}

impl<'a> VectorSpace<'a> {
    /// Returns the space that a file names: `name/dimensions`, or a name alone.
    ///
    /// # Errors
    ///
    /// The name is empty, or what follows the last `/` is no number of dimensions.
    pub(crate) fn of_name(name: &'a str) -> Result<Self, &'static str> {
        let name = name.trim();
        let (model, length) = name.rsplit_once('/').unzip();
        if name.is_empty() || model.is_some_and(str::is_empty) {
            return Err("the vector space has no name; give one such as `text-embedding-3-small/1536`");
        }
        let digits = length.filter(|length| length.bytes().all(|byte| byte.is_ascii_digit()));
        match digits.map(str::parse::<u32>) {
            // A maker's prefix, as in `BAAI/bge-m3`.
            None => Ok(Self { name: name.into(), dimensions: None }),
            Some(Ok(length @ 1..=65_536)) => Ok(Self { name: name.into(), dimensions: Some(length) }),
            Some(_) => Err("a vector has 1 to 65536 dimensions; give the space such as `text-embedding-3-small/1536`"),
        }
    }

    /// Returns the space of a known model.
    pub(crate) fn of_model(model: &str) -> Option<VectorSpace<'static>> {
        let name = model.rsplit('/').next().unwrap_or(model).to_ascii_lowercase();
        let name = name.split(':').next().unwrap_or_default();
        let (known, length) = KNOWN.iter().find(|(known, _)| *known == name)?;
        Some(VectorSpace { name: format!("{known}/{length}").into(), dimensions: Some(*length) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_space_is_named_or_known() {
        let named = |name| VectorSpace::of_name(name).map(|space| space.dimensions);
        assert_eq!(named("text-embedding-3-small/256"), Ok(Some(256)));
        assert_eq!(named("our-own"), Ok(None));
        assert_eq!(named("BAAI/bge-m3"), Ok(None));
        for wrong in ["", " ", "/5", "a/0", "a/99999999999"] {
            assert!(named(wrong).is_err(), "{wrong}");
        }
        let known = |model| VectorSpace::of_model(model).map(|space| space.name.into_owned());
        assert_eq!(known("openai/text-embedding-3-small").as_deref(), Some("text-embedding-3-small/1536"));
        assert_eq!(known("nomic-embed-text:latest").as_deref(), Some("nomic-embed-text/768"));
        assert_eq!(known("text-embedding-9"), None);
    }
}
