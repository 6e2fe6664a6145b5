use http::{
    Uri,
    uri::{Authority, PathAndQuery, Scheme},
};

use crate::InvalidConfig;

/// The address of a provider's API: scheme, host, the start of the path, and a query for every request (Azure's
/// `api-version`).
#[derive(Clone, Debug)]
pub struct BaseUrl {
    scheme: Scheme,
    authority: Authority,
    path: String,
    query: Option<String>,
}

impl BaseUrl {
    /// Parses a URL.
    ///
    /// # Errors
    ///
    /// The text is not an absolute `http://` or `https://` URL, or it holds a user name: a key in a URL ends up in
    /// logs.
    pub fn parse(field: &str, url: &str) -> Result<Self, InvalidConfig> {
        let wrong = |problem: &'static str| InvalidConfig::new(field.to_owned(), problem);
        let uri: Uri = url.trim().parse().map_err(|_| wrong("it is not a URL"))?;
        let Some(scheme) = uri.scheme().filter(|scheme| matches!(scheme.as_str(), "http" | "https")) else {
            return Err(wrong("it must start with http:// or https://"));
        };
        let authority = uri.authority().ok_or_else(|| wrong("it has no host"))?;
        if authority.as_str().contains('@') {
            return Err(wrong("it must not hold a user name or password"));
        }
        if authority.host().is_empty() {
            return Err(wrong("it has no host"));
        }
        let path = uri.path().trim_end_matches('/').to_owned();
        let query = uri.query().map(str::to_owned);
        Ok(Self { scheme: scheme.clone(), authority: authority.clone(), path, query })
    }

    /// The path, without a trailing slash.
    pub(crate) fn path(&self) -> &str {
        &self.path
    }

    /// Returns the URL without its query, in one spelling.
    pub(crate) fn place(&self) -> String {
        format!("{}://{}{}", self.scheme, self.authority.as_str().to_ascii_lowercase(), self.path)
    }

    /// Appends to the path, unless it ends so already.
    pub(crate) fn ending(mut self, end: &str) -> Self {
        if !self.path.ends_with(end) {
            self.path.push_str(end);
        }
        self
    }

    /// Removes the first of these ends that the path has.
    #[cfg(feature = "clouds")]
    pub(crate) fn without_ending(mut self, ends: &[&str]) -> Self {
        if let Some(rest) = ends.iter().find_map(|end| self.path.strip_suffix(end)) {
            self.path.truncate(rest.len());
        }
        self
    }

    /// Returns the address without the version at its end, for a path that has one of its own.
    pub(crate) fn without_version(&self) -> Self {
        let mut base = self.clone();
        let last = base.path.rsplit('/').next().unwrap_or_default();
        let is_version =
            last.strip_prefix('v').is_some_and(|rest| rest.starts_with(|digit: char| digit.is_ascii_digit()));
        if is_version {
            base.path.truncate(base.path.len() - last.len() - 1);
        }
        base
    }

    /// Returns the URL of a request. Only its path is parsed.
    pub(crate) fn join(&self, path: &str) -> Result<Uri, http::Error> {
        let start = &self.path;
        let path = match &self.query {
            None => format!("{start}{path}"),
            Some(query) if path.contains('?') => format!("{start}{path}&{query}"),
            Some(query) => format!("{start}{path}?{query}"),
        };
        let path = PathAndQuery::from_maybe_shared(path)?;
        let (scheme, authority) = (self.scheme.clone(), self.authority.clone());
        Uri::builder().scheme(scheme).authority(authority).path_and_query(path).build()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slashes_and_queries_are_put_where_they_belong() {
        for (base, path, whole) in [
            ("https://a.test", "/x", "https://a.test/x"),
            ("https://a.test/", "/x", "https://a.test/x"),
            ("http://[::1]:8080/v1/", "/x?s=1", "http://[::1]:8080/v1/x?s=1"),
            ("https://a.test/d?api-version=1", "/x", "https://a.test/d/x?api-version=1"),
            ("https://a.test/?k=1", "/x?s=1", "https://a.test/x?s=1&k=1"),
        ] {
            assert_eq!(BaseUrl::parse("base_url", base).unwrap().join(path).unwrap(), whole);
        }
    }

    #[test]
    fn ending_is_added_once() {
        for base in ["http://a.test", "http://a.test/v1", "http://a.test/v1/"] {
            assert_eq!(BaseUrl::parse("base_url", base).unwrap().ending("/v1").path(), "/v1");
        }
    }

    #[test]
    fn what_is_no_base_url_is_refused() {
        for url in ["", "a.test/v1", "/v1", "ftp://a.test", "https://", "https://user:pass@a.test", "http://a b"] {
            let error = BaseUrl::parse("OPENAI_BASE_URL", url).unwrap_err();
            assert_eq!(error.field(), "OPENAI_BASE_URL", "{url}");
            assert!(!error.to_string().contains("pass@"));
        }
    }
}
