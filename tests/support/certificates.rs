//! The certificates of `tls/` and `tls_names/`, and servers that show them.

use std::path::PathBuf;
use std::sync::Arc;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::TlsAcceptor;

/// A file of this folder: `tls/authority.pem`.
pub fn file(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/support").join(name)
}

fn certificates(name: &str) -> Vec<CertificateDer<'static>> {
    CertificateDer::pem_file_iter(file(name)).unwrap().map(Result::unwrap).collect()
}

/// A server with the certificate of 127.0.0.1, or with that of the name `vault.test`, which asks for ours.
pub fn acceptor(named: bool) -> TlsAcceptor {
    let folder = if named { "tls_names" } else { "tls" };
    let builder = rustls::ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap();
    let builder = if named {
        let mut roots = rustls::RootCertStore::empty();
        roots.add(certificates("tls_names/authority.pem").remove(0)).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let verifier =
            rustls::server::WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider).build().unwrap();
        builder.with_client_cert_verifier(verifier)
    } else {
        builder.with_no_client_auth()
    };
    let key = PrivateKeyDer::from_pem_file(file(&format!("{folder}/server.key.pem"))).unwrap();
    let config = builder.with_single_cert(certificates(&format!("{folder}/server.pem")), key).unwrap();
    Arc::new(config).into()
}
