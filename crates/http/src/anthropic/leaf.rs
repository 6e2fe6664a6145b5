use std::sync::Arc;

use super::Messages;
use crate::{
    InvalidConfig,
    http::{BaseUrl, HttpLeaf, Variable, variable},
    prices::PriceTable,
};

/// A leaf for Anthropic's Messages API. See the [module docs](super).
pub type Anthropic = HttpLeaf<Messages>;

impl Anthropic {
    /// Creates a leaf with this API key, at `https://api.anthropic.com`.
    pub fn new(key: impl Into<Arc<str>>) -> Self {
        let base = BaseUrl::parse("base_url", "https://api.anthropic.com/v1").expect("it is a URL");
        Self::with(Messages::new(), "anthropic", base, Some(key.into()))
    }

    /// Creates a leaf from the environment: `ANTHROPIC_API_KEY` and, if set, `ANTHROPIC_BASE_URL`.
    ///
    /// # Errors
    ///
    /// The key is not set, or the URL is malformed; the error names the variable.
    pub fn from_env() -> Result<Self, InvalidConfig> {
        Self::from_variables(variable)
    }

    pub(crate) fn from_variables(get: impl Fn(&'static str) -> Variable) -> Result<Self, InvalidConfig> {
        let key = get("ANTHROPIC_API_KEY")?;
        let key = key.ok_or_else(|| InvalidConfig::new("ANTHROPIC_API_KEY", "it is not set"))?;
        let leaf = Self::new(key);
        match get("ANTHROPIC_BASE_URL")? {
            Some(url) => Ok(leaf.at(BaseUrl::parse("ANTHROPIC_BASE_URL", &url)?.ending("/v1"))),
            None => Ok(leaf),
        }
    }

    /// Sets the base URL; `/v1` is added unless it ends so.
    ///
    /// # Errors
    ///
    /// The text is not an absolute `http://` or `https://` URL, or holds a user name.
    pub fn base_url(self, url: &str) -> Result<Self, InvalidConfig> {
        Ok(self.at_base(BaseUrl::parse("base_url", url)?, |base| base.ending("/v1")))
    }

    /// Sets the `anthropic-version` for all but forwarded requests with their own. Default: `2023-06-01`. With
    /// `2026-10-21` and later, temperature and top_p are omitted and noted on the response: those versions refuse them.
    ///
    /// # Errors
    ///
    /// The version cannot be the text of a header.
    pub fn version(mut self, version: &str) -> Result<Self, InvalidConfig> {
        self.protocol_mut().version = version
            .parse()
            .map_err(|_| InvalidConfig::new("version", "it contains a character that HTTP headers do not allow"))?;
        Ok(self)
    }

    /// Sets the prices for answers that several models made together: a fallback of the server's own, an advisor. Their
    /// sum is the answer's own cost (`Usage::cost`). Default: [`PriceTable::builtin`].
    #[must_use]
    pub fn prices(mut self, prices: &PriceTable) -> Self {
        self.protocol_mut().prices = prices.clone();
        self
    }

    /// Sets the longest answer, in tokens, for requests that name none: this API requires a number. Default: the
    /// largest that the model gives, by [`models`](crate::models); for an unknown model 4,096. The response notes it.
    #[must_use]
    pub fn default_max_tokens(mut self, tokens: u32) -> Self {
        self.protocol_mut().max_tokens = Some(tokens);
        self
    }
}
