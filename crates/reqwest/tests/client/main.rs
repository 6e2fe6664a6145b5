//! reqwest's own client over sockets: as a transport, as a service, and with the middleware.

#[cfg(feature = "middleware")]
mod middleware;
mod server;
mod transport;
