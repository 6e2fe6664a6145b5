use std::{
    path::Path,
    sync::{Arc, OnceLock},
};

use rustls::{ClientConfig, RootCertStore, crypto::ring};
use rustls_pki_types::{CertificateDer, pem::PemObject};

use super::error::InvalidTransport;

/// The trusted certificates, and the configurations made of them.
#[derive(Clone)]
pub(crate) struct Tls {
    roots: Arc<RootCertStore>,
    /// For a provider: offers HTTP/2 and HTTP/1.1.
    pub(super) provider: Arc<ClientConfig>,
    /// For a provider whose HTTP/2 is of no use: offers HTTP/1.1.
    pub(super) http1: Arc<ClientConfig>,
    /// For a peer of one protocol only: a proxy, which speaks HTTP/1.1, or a store.
    pub(crate) proxy: Arc<ClientConfig>,
}

/// Reads the system's certificates, once a process.
pub(crate) fn from_system() -> Tls {
    static SYSTEM: OnceLock<Tls> = OnceLock::new();
    SYSTEM
        .get_or_init(|| {
            let mut roots = RootCertStore::empty();
            // Stores with a few unusable certificates are common; the others count.
            roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
            if roots.is_empty() {
                roots.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned());
            }
            Tls::new(roots)
        })
        .clone()
}

impl Tls {
    fn new(roots: RootCertStore) -> Self {
        let roots = Arc::new(roots);
        // Named, not the process default: that one panics if the user's other crates bring a second provider.
        let mut config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .expect("ring has the cipher suites of TLS 1.2 and 1.3")
            .with_root_certificates(roots.clone())
            .with_no_client_auth();
        let proxy = Arc::new(config.clone());
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        let http1 = Arc::new(config.clone());
        config.alpn_protocols.insert(0, b"h2".to_vec());
        Self { roots, provider: Arc::new(config), http1, proxy }
    }

    pub(super) fn with_ca_file(&self, path: &Path) -> Result<Self, InvalidTransport> {
        let unusable = |cause: Box<dyn std::error::Error + Send + Sync>| InvalidTransport::ca_file(path, cause);
        let mut roots = RootCertStore::clone(&self.roots);
        let before = roots.len();
        for certificate in CertificateDer::pem_file_iter(path).map_err(|e| unusable(e.into()))? {
            let certificate = certificate.map_err(|e| unusable(e.into()))?;
            roots.add(certificate).map_err(|e| unusable(e.into()))?;
        }
        if roots.len() == before {
            return Err(unusable("it holds no PEM certificate".into()));
        }
        Ok(Self::new(roots))
    }
}
