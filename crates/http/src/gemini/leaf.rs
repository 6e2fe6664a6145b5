use std::sync::Arc;

use super::GenerateContent;
use crate::{
    InvalidConfig,
    http::{BaseUrl, HttpLeaf, Variable, variable},
};

/// A leaf for Google's Gemini API. See the [module docs](super).
pub type Gemini = HttpLeaf<GenerateContent>;

impl Gemini {
    /// Creates a leaf with this API key, at `https://generativelanguage.googleapis.com/v1beta`.
    pub fn new(key: impl Into<Arc<str>>) -> Self {
        let base = BaseUrl::parse("base_url", "https://generativelanguage.googleapis.com/v1beta").expect("it is a URL");
        Self::with(GenerateContent::new(), "gemini", base, Some(key.into()))
    }

    /// Creates a leaf from the environment: `GEMINI_API_KEY` or `GOOGLE_API_KEY` and, if set, `GEMINI_BASE_URL`.
    ///
    /// # Errors
    ///
    /// Neither key is set, or the URL is malformed; the error names the variable.
    pub fn from_env() -> Result<Self, InvalidConfig> {
        Self::from_variables(variable)
    }

    pub(crate) fn from_variables(get: impl Fn(&'static str) -> Variable) -> Result<Self, InvalidConfig> {
        let key = match get("GEMINI_API_KEY")? {
            Some(key) => Some(key),
            None => get("GOOGLE_API_KEY")?,
        };
        let key = key.ok_or_else(|| InvalidConfig::new("GEMINI_API_KEY", "it is not set, nor is GOOGLE_API_KEY"))?;
        let leaf = Self::new(key);
        match get("GEMINI_BASE_URL")? {
            Some(url) => Ok(leaf.at(versioned(BaseUrl::parse("GEMINI_BASE_URL", &url)?))),
            None => Ok(leaf),
        }
    }

    /// Sets the base URL: the part before `/models`. `/v1beta` is added to one without a path.
    ///
    /// # Errors
    ///
    /// The text is not an absolute `http://` or `https://` URL, or holds a user name.
    pub fn base_url(self, url: &str) -> Result<Self, InvalidConfig> {
        Ok(self.at_base(BaseUrl::parse("base_url", url)?, versioned))
    }
}

fn versioned(base: BaseUrl) -> BaseUrl {
    if base.path().is_empty() { base.ending("/v1beta") } else { base }
}
