use std::{fmt, io, path::Path, path::PathBuf, sync::Arc};

use bytes::Bytes;
use http::{Request, Response};
use tower::{BoxError, Service};

use super::SourceError;
use crate::{
    InvalidConfig,
    boxed::{Transport, boxed},
    protocol::RequestBody,
    transport::HttpClient,
};

/// The machine that sources read: its environment variables, its files and its network.
///
/// [`new`](Self::new) is the real one. A test sets other variables and an in-process transport. Clones are the same
/// machine.
///
/// ```
/// use steadfast::providers::credentials::{Machine, aws};
///
/// let machine = Machine::new().variables(|name| {
///     Ok(match name {
///         "AWS_ACCESS_KEY_ID" => Some("AKIDEXAMPLE".to_owned()),
///         "AWS_SECRET_ACCESS_KEY" => Some("secret".to_owned()),
///         _ => None,
///     })
/// });
/// let credentials = aws::environment(&machine)?;
/// # Ok::<(), steadfast::InvalidConfig>(())
/// ```
#[derive(Clone)]
pub struct Machine {
    variables: Arc<Variables>,
    servers: Transport,
    metadata: Transport,
}

type Variables = dyn Fn(&str) -> Result<Option<String>, InvalidConfig> + Send + Sync;

impl Machine {
    /// Creates the machine that this process runs on. Token servers are asked through the proxies of the environment,
    /// addresses of metadata without one.
    #[must_use]
    pub fn new() -> Self {
        let client = HttpClient::new();
        Self { variables: Arc::new(variable), metadata: boxed(client.clone().no_proxy()), servers: boxed(client) }
    }

    /// Sets the function that reads environment variables. An empty value counts as absent. Default: the process's
    /// environment.
    #[must_use]
    pub fn variables(
        mut self,
        get: impl Fn(&str) -> Result<Option<String>, InvalidConfig> + Send + Sync + 'static,
    ) -> Self {
        self.variables = Arc::new(get);
        self
    }

    /// Sets the transport to token servers. Default: an [`HttpClient`] with its defaults.
    ///
    /// It must not follow redirects, or a secret travels along.
    #[must_use]
    pub fn transport<S, R, B>(mut self, transport: S) -> Self
    where
        S: Service<Request<R>, Response = Response<B>> + Clone + Send + Sync + 'static,
        S::Error: Into<BoxError>,
        S::Future: Send + 'static,
        R: From<RequestBody> + 'static,
        B: http_body::Body<Data = Bytes> + Send + 'static,
        B::Error: Into<BoxError>,
    {
        self.servers = boxed(transport);
        self
    }

    /// Sets the transport to addresses of metadata: the machine's own, and those of its container. Default: an
    /// [`HttpClient`] without a proxy.
    #[must_use]
    pub fn metadata_transport<S, R, B>(mut self, transport: S) -> Self
    where
        S: Service<Request<R>, Response = Response<B>> + Clone + Send + Sync + 'static,
        S::Error: Into<BoxError>,
        S::Future: Send + 'static,
        R: From<RequestBody> + 'static,
        B: http_body::Body<Data = Bytes> + Send + 'static,
        B::Error: Into<BoxError>,
    {
        self.metadata = boxed(transport);
        self
    }

    /// Returns the value of an environment variable, without the white space around it; `None` if it is empty.
    pub(crate) fn variable(&self, name: &str) -> Result<Option<String>, InvalidConfig> {
        let value = (self.variables)(name)?;
        Ok(value.map(|value| value.trim().to_owned()).filter(|value| !value.is_empty()))
    }

    /// Returns the transport to token servers.
    pub(crate) fn servers(&self) -> &Transport {
        &self.servers
    }

    /// Returns the transport to addresses of metadata.
    pub(crate) fn metadata(&self) -> &Transport {
        &self.metadata
    }

    /// Returns the user's home directory.
    pub(crate) fn home(&self) -> Result<Option<PathBuf>, InvalidConfig> {
        let names: &[&str] = if cfg!(windows) { &["USERPROFILE", "HOME"] } else { &["HOME"] };
        for name in names {
            if let Some(home) = self.variable(name)? {
                return Ok(Some(home.into()));
            }
        }
        Ok(None)
    }
}

impl Default for Machine {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for Machine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Machine").finish_non_exhaustive()
    }
}

fn variable(name: &str) -> Result<Option<String>, InvalidConfig> {
    match std::env::var(name) {
        Ok(value) => Ok(Some(value)),
        Err(std::env::VarError::NotPresent) => Ok(None),
        Err(std::env::VarError::NotUnicode(_)) => Err(InvalidConfig::new(name.to_owned(), "it is not UTF-8")),
    }
}

/// Reads a small file off the threads that serve requests. `None` if there is no such file.
pub(crate) async fn read_file(path: &Path) -> Result<Option<String>, SourceError> {
    let owned = path.to_owned();
    let read = tokio::task::spawn_blocking(move || read_small(&owned));
    let read = read.await.map_err(|_| SourceError::new("the runtime is shutting down"))?;
    read.map_err(|problem| SourceError::setup(format!("the file `{}` {problem}", path.display())))
}

/// Reads a small file; `None` if there is no such file.
pub(crate) fn read_small(path: &Path) -> Result<Option<String>, String> {
    use io::Read;
    let file = match std::fs::File::open(path) {
        Ok(file) => file,
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
            return Ok(None);
        }
        Err(error) => return Err(format!("cannot be read ({error}); check its permissions")),
    };
    let mut bytes = Vec::new();
    let limit = LARGEST_FILE as u64 + 1;
    file.take(limit).read_to_end(&mut bytes).map_err(|error| format!("cannot be read ({error})"))?;
    if bytes.len() > LARGEST_FILE {
        return Err(format!("is larger than {} KiB; name the right file", LARGEST_FILE >> 10));
    }
    let text = String::from_utf8(bytes).map_err(|_| "is not UTF-8; name the right file".to_owned())?;
    Ok(Some(text.strip_prefix('\u{feff}').map(str::to_owned).unwrap_or(text)))
}

/// The largest file that is read, in bytes. Files with hundreds of profiles stay below a tenth of it.
const LARGEST_FILE: usize = 1 << 20;
