use std::{
    fmt,
    sync::{Arc, OnceLock},
};

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Response, Uri, header::CONTENT_TYPE};
use tower::{BoxError, Service};

#[cfg(feature = "clouds")]
use super::door::Door;
use super::{BaseUrl, Limits, RequestBody, worked_keys::WorkedKeys};
use crate::{
    CommitPoint, ErrorKind, Events, InvalidConfig, LlmError,
    boxed::{Transport, boxed},
    models::FamilyTable,
    protocol::{Coder, Protocol},
    translate::SealMemory,
    transport::HttpClient,
};

/// A provider's API as a service: one request to it for each call. See the [module docs](super).
///
/// Each provider's module has a name for it: [`Anthropic`](crate::Anthropic),
/// [`OpenAi`](crate::OpenAi), [`Gemini`](crate::Gemini).
///
/// Clones share the settings and the transport's connections; a clone carries no readiness.
#[derive(Clone)]
pub struct HttpLeaf<P> {
    pub(super) settings: Arc<Settings<P>>,
    pub(super) transport: Transport,
}

#[derive(Clone)]
pub(super) struct Settings<P> {
    pub(super) coder: Coder<P>,
    pub(super) base: BaseUrl,
    pub(super) commit: CommitPoint,
    /// The way to the model at a cloud, if that is where it is.
    #[cfg(feature = "clouds")]
    pub(super) door: Option<Arc<Door>>,
    /// The transport of a call's second request.
    pub(super) again: Transport,
    /// The client of bodies that come in pieces, which no boxed transport takes.
    pub(super) uploads: Option<HttpClient>,
    /// The keys of callers with their own clients that have worked.
    pub(super) worked_keys: Arc<WorkedKeys>,
    /// The parts of the first request that all others have in common.
    pub(super) template: OnceLock<RequestTemplate>,
}

/// The common parts of all requests to one path.
#[derive(Clone)]
pub(super) struct RequestTemplate {
    pub(super) path: Box<str>,
    pub(super) uri: Uri,
    /// The headers of a request whose caller has sent none.
    pub(super) headers: HeaderMap,
}

#[allow(private_bounds, reason = "the protocols are the crate's own; a client of another one is a leaf of its own")]
impl<P: Protocol> HttpLeaf<P> {
    pub(crate) fn with(protocol: P, provider: impl Into<Arc<str>>, base: BaseUrl, key: Option<Arc<str>>) -> Self {
        let client = HttpClient::new();
        let transport = boxed(client.clone());
        let settings = Settings {
            coder: Coder::new(protocol, provider, key),
            base,
            commit: CommitPoint::default(),
            #[cfg(feature = "clouds")]
            door: None,
            again: transport.clone(),
            uploads: Some(client),
            worked_keys: Arc::default(),
            template: OnceLock::new(),
        };
        Self { settings: Arc::new(settings), transport }.enrolled()
    }

    /// Sets the API key, without the white space around it. No `Debug`, error or log shows it. Default: the key that
    /// the leaf was made with, if any.
    #[must_use]
    pub fn key(mut self, key: impl Into<Arc<str>>) -> Self {
        self.settings_mut().coder.set_key(key.into());
        #[cfg(feature = "clouds")]
        if let Some(door) = &mut self.settings_mut().door {
            Arc::make_mut(door).without_credentials();
        }
        self.enrolled()
    }

    /// Removes the key, for a server of your own that requires none. Default: the key that the leaf was made with.
    #[must_use]
    pub fn without_key(mut self) -> Self {
        self.settings_mut().coder.key = None;
        self.enrolled()
    }

    /// Sets the model, in place of the one that a request names. Default: the request's; a request without one fails
    /// with [`InvalidRequest`](crate::ErrorKind::InvalidRequest).
    #[must_use]
    pub fn model(mut self, model: impl Into<Arc<str>>) -> Self {
        self.settings_mut().coder.model = Some(model.into());
        self
    }

    /// Sets whether the leaf refuses a request of which it would have to omit a part. The error is an
    /// [`ErrorKind::UnsupportedFeature`](crate::ErrorKind::UnsupportedFeature) that names the part, so that a fallback
    /// goes on to a tier that has it. Default: false, and [`LlmResponse::notes`](crate::LlmResponse::notes) lists the
    /// omitted parts. The rules are in [`translate`](crate::translate).
    #[must_use]
    pub fn strict(mut self, strict: bool) -> Self {
        self.settings_mut().coder.strict = strict;
        self
    }

    /// Sets the channel for [`Event::ParameterRefused`](crate::Event::ParameterRefused). Default: none.
    ///
    /// The model may refuse a parameter that the request can do without: one that the translation carried, or the
    /// caller's own if the leaf's [`model`](Self::model) is not the one that the caller named. A
    /// `RetryWithJitter` around the leaf then asks again without the parameter. The leaf
    /// itself asks again without what clients send to every server of the dialect: see
    /// [`translate`](crate::translate#refused-parts). Later requests omit it for an hour.
    /// [`LlmResponse::notes`](crate::LlmResponse::notes) lists it. A [strict](Self::strict) leaf omits nothing.
    #[must_use]
    pub fn events(mut self, events: &Events) -> Self {
        self.settings_mut().coder.events = Some(events.clone());
        self
    }

    /// Sets the memory of the accounts that sealed reasoning. Leaves that share it send a sealed thought to the account
    /// that made it, and to no other: there the thought is omitted, and [`LlmResponse::notes`] lists it. Default: none,
    /// and the provider's refusal shows that a thought is another account's.
    ///
    /// [`LlmResponse::notes`]: crate::LlmResponse::notes
    #[must_use]
    pub fn seals(mut self, memory: &SealMemory) -> Self {
        let place = self.settings.place();
        self.settings_mut().coder.enroll(memory, &place);
        self
    }

    /// Sets the facts of models, by which the leaf translates a request's parameters. Default: the crate's own table,
    /// [`FamilyTable::builtin`].
    #[must_use]
    pub fn families(mut self, families: FamilyTable) -> Self {
        self.settings_mut().coder.families = families;
        self
    }

    /// Sets the transport: any service that answers HTTP requests, such as an [`HttpClient`] with settings of your own
    /// or behind tower-http's layers. Default: an [`HttpClient`] of this leaf's own.
    ///
    /// The transport gets the body as a [`RequestBody`], or as any type that can be made of one, such as a
    /// [`Full<Bytes>`](http_body_util::Full). For a service that takes any body, name the type by a
    /// `.map_request(|request: http::Request<RequestBody>| request)`.
    ///
    /// The leaf sends no `Accept-Encoding`: the transport asks for what it can decompress, and the leaf reads plain
    /// answers only. An [`HttpClient`] asks for `identity`, unless a layer around it has asked for more.
    ///
    /// The transport must not follow redirects, or the key travels along. Its errors count as
    /// [`ErrorKind::Connect`](crate::ErrorKind::Connect), unless they are known to mean something else.
    #[must_use]
    pub fn transport<S, R, B>(self, transport: S) -> Self
    where
        S: Service<Request<R>, Response = Response<B>> + Clone + Send + Sync + 'static,
        S::Error: Into<BoxError>,
        S::Future: Send + 'static,
        R: From<RequestBody> + 'static,
        B: http_body::Body<Data = Bytes> + Send + 'static,
        B::Error: Into<BoxError>,
    {
        self.over(boxed(transport))
    }

    /// Sets a transport that is boxed already. See [`transport`](Self::transport).
    pub fn over(mut self, transport: Transport) -> Self {
        let settings = self.settings_mut();
        (settings.again, settings.uploads) = (transport.clone(), None);
        self.transport = transport;
        self
    }

    /// Sets the client of bodies that come in pieces: see [`OpaqueCall::with_rest`](crate::OpaqueCall::with_rest).
    /// Default: the leaf's own client; none once [`transport`](Self::transport) is set, which gets whole bodies.
    #[must_use]
    pub fn uploads(mut self, client: HttpClient) -> Self {
        self.settings_mut().uploads = Some(client);
        self
    }

    /// Sets the point at which a caller may see a stream. Default: [`CommitPoint::FirstToken`].
    #[must_use]
    pub fn commit(mut self, point: CommitPoint) -> Self {
        self.settings_mut().commit = point;
        self
    }

    /// Limits the bytes that are read of an answer. Default: [`Limits::default`].
    #[must_use]
    pub fn limits(mut self, limits: Limits) -> Self {
        self.settings_mut().coder.limits = limits;
        self
    }

    /// Sets a header of every request, such as `anthropic-beta` or `OpenAI-Organization`, in place of one of that name.
    /// Default: the headers that the protocol requires.
    #[must_use]
    pub fn header(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.settings_mut().coder.headers.insert(name, value);
        self
    }

    /// Sets the provider's name in errors, responses and metrics. Default: `anthropic`, `openai`, `gemini`, or the name
    /// of a compatible server.
    #[must_use]
    pub fn named(mut self, provider: impl Into<Arc<str>>) -> Self {
        self.settings_mut().coder.provider = provider.into();
        self
    }

    /// Returns the head of a request to another path of the provider's API: the address, the protocol's headers and the
    /// key. It is for calls that are no leaf's, such as those of files. `path` comes after the API's version, and may
    /// have a query: `/files?limit=2`.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::UnsupportedFeature`](crate::ErrorKind::UnsupportedFeature) for a leaf at a cloud, which has other
    /// paths and credentials. [`ErrorKind::InvalidRequest`](crate::ErrorKind::InvalidRequest) if the path fits into no
    /// URL, and [`ErrorKind::Auth`](crate::ErrorKind::Auth) if the key fits into no header.
    pub fn head(&self, method: Method, path: &str) -> Result<Request<()>, LlmError> {
        let settings = &*self.settings;
        #[cfg(feature = "clouds")]
        if settings.door.is_some() {
            let message = format!("{}: this gateway reaches no such path at a cloud", plain(path));
            return Err(LlmError::new(ErrorKind::UnsupportedFeature, message));
        }
        let uri = settings.base.join(path).map_err(|error| {
            let message = format!("{} fits into no URL", plain(path));
            LlmError::new(ErrorKind::InvalidRequest, message).with_source(error)
        })?;
        let mut request = Request::new(());
        (*request.method_mut(), *request.uri_mut()) = (method, uri);
        *request.headers_mut() = settings.coder.with_own_headers(HeaderMap::new())?;
        // The body is the caller's.
        request.headers_mut().remove(CONTENT_TYPE);
        Ok(request)
    }

    pub(crate) fn at(mut self, base: BaseUrl) -> Self {
        self.settings_mut().base = base;
        self.enrolled()
    }

    /// Sets a base URL of the user's own: with the end that the provider's has, or in place of a door's host.
    pub(crate) fn at_base(self, base: BaseUrl, complete: impl FnOnce(BaseUrl) -> BaseUrl) -> Self {
        #[cfg(feature = "clouds")]
        if let Some(door) = self.door().filter(|door| door.is_elsewhere()) {
            let base = door.base(base);
            return self.at(base);
        }
        self.at(complete(base))
    }

    #[cfg(feature = "clouds")]
    pub(super) fn door(&self) -> Option<&Door> {
        self.settings.door.as_deref()
    }

    /// Sets the door.
    #[cfg(feature = "clouds")]
    pub(super) fn through(mut self, door: Option<Door>) -> Self {
        self.settings_mut().door = door.map(Arc::new);
        self.enrolled()
    }

    #[cfg(feature = "clouds")]
    pub(super) fn dialect(&self) -> crate::Dialect {
        self.settings.coder.protocol.dialect()
    }

    #[cfg(feature = "clouds")]
    pub(super) fn own_model(&self) -> Option<&str> {
        self.settings.coder.model.as_deref()
    }

    /// Returns true if the leaf's address is this host.
    #[cfg(feature = "clouds")]
    pub(super) fn is_at(&self, host: &str) -> bool {
        self.settings.base.place() == host
    }

    /// Changes the protocol, and keeps all other settings.
    pub(crate) fn with_protocol<Q: Protocol>(self, protocol: impl FnOnce(&P) -> Q) -> HttpLeaf<Q> {
        let before = Arc::unwrap_or_clone(self.settings);
        let settings = Settings {
            coder: before.coder.with_protocol(protocol),
            base: before.base,
            commit: before.commit,
            #[cfg(feature = "clouds")]
            door: before.door,
            again: before.again,
            uploads: before.uploads,
            worked_keys: before.worked_keys,
            template: OnceLock::new(),
        };
        HttpLeaf { settings: Arc::new(settings), transport: self.transport }.enrolled()
    }

    /// Adopts a change of the account, also in the memory of sealed reasoning.
    fn enrolled(mut self) -> Self {
        let (memory, place) =
            (self.settings.coder.account.as_ref().map(|own| own.memory().clone()), self.settings.place());
        let coder = &mut self.settings_mut().coder;
        coder.set_place(&place);
        if let Some(memory) = memory {
            coder.enroll(&memory, &place);
        }
        self
    }

    pub(crate) fn protocol_mut(&mut self) -> &mut P {
        &mut self.settings_mut().coder.protocol
    }

    fn settings_mut(&mut self) -> &mut Settings<P> {
        let settings = Arc::make_mut(&mut self.settings);
        settings.template = OnceLock::new();
        settings
    }
}

impl<P> Settings<P> {
    /// Returns the place of the leaf's account, for the memory of seals.
    fn place(&self) -> String {
        #[cfg(feature = "clouds")]
        if let Some(door) = &self.door {
            return self.base.place() + &door.account();
        }
        self.base.place()
    }
}

impl<P: Protocol> fmt::Debug for HttpLeaf<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Neither the key nor the headers, which may hold one.
        let mut shown = f.debug_struct("HttpLeaf");
        #[cfg(feature = "clouds")]
        if let Some(door) = &self.settings.door {
            shown.field("door", door);
        }
        shown
            .field("provider", &self.settings.coder.provider)
            .field("model", &self.settings.coder.model)
            .field("base_url", &self.settings.base)
            .field("protocol", &self.settings.coder.protocol)
            .field("commit", &self.settings.commit)
            .field("limits", &self.settings.coder.limits)
            .finish_non_exhaustive()
    }
}

/// Returns a path without its query.
fn plain(path: &str) -> &str {
    path.split('?').next().unwrap_or_default()
}

/// The value of an environment variable.
pub(crate) type Variable = Result<Option<String>, InvalidConfig>;

/// Reads an environment variable; an empty one counts as absent.
pub(crate) fn variable(name: &'static str) -> Variable {
    match std::env::var(name) {
        Ok(value) if value.trim().is_empty() => Ok(None),
        Ok(value) => Ok(Some(value)),
        Err(std::env::VarError::NotPresent) => Ok(None),
        Err(std::env::VarError::NotUnicode(_)) => Err(InvalidConfig::new(name, "it is not UTF-8")),
    }
}
