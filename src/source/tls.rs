//! TLS settings to a client's.

use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Once;

use reqwest::{Certificate, ClientBuilder, Identity};
use zeroize::Zeroizing;

use super::settings::{Authorities, ClientCertificate, Tls};
use super::{ServiceKind, SourceError};

/// Longest certificate or key file, 4 MiB: bundles of all public authorities have 250 KiB.
const PEM_LEN_BYTES_MAX: usize = 4 << 20;

/// Gives a client its TLS settings. Without any, the system's authorities count.
pub(super) fn apply(mut builder: ClientBuilder, tls: &Tls, service: ServiceKind) -> Result<ClientBuilder, SourceError> {
    install_provider();
    builder = match &tls.authorities {
        Authorities::System => builder,
        Authorities::File(path) => builder.tls_certs_only(certificates(path, service)?),
        Authorities::Folder(path) => builder.tls_certs_only(all_certificates(path, service)?),
        Authorities::Pem(pem) => {
            let found = parsed(pem.as_bytes()).map_err(|reason| setting(service, "the CA certificate", reason))?;
            builder.tls_certs_only(found)
        }
    };
    if let Some(client) = &tls.client {
        builder = builder.identity(identity(client, service)?);
    }
    Ok(builder.tls_danger_accept_invalid_certs(tls.skip_verify))
}

/// reqwest is built without a provider of its own.
pub(crate) fn install_provider() {
    static ONCE: Once = Once::new();
    // An error says that one is installed already.
    ONCE.call_once(|| drop(rustls::crypto::ring::default_provider().install_default()));
}

fn setting(service: ServiceKind, name: &str, reason: impl Into<String>) -> SourceError {
    SourceError::Setting { service, name: name.into(), reason: reason.into() }
}

fn read(path: &Path, what: &'static str, service: ServiceKind) -> Result<Zeroizing<Vec<u8>>, SourceError> {
    let failed = |source| SourceError::File { service, what, path: path.to_owned(), source };
    let mut bytes = Zeroizing::new(Vec::new());
    let file = std::fs::File::open(path).map_err(failed)?;
    file.take(PEM_LEN_BYTES_MAX as u64 + 1).read_to_end(&mut bytes).map_err(failed)?;
    if bytes.len() > PEM_LEN_BYTES_MAX {
        return Err(setting(service, &format!("the {what} {}", path.display()), "it is longer than 4 MiB"));
    }
    Ok(bytes)
}

fn parsed(pem: &[u8]) -> Result<Vec<Certificate>, String> {
    match Certificate::from_pem_bundle(pem) {
        Err(error) => Err(super::http::root_cause(&error)),
        Ok(found) if found.is_empty() => Err("there is no PEM certificate in it".into()),
        Ok(found) => Ok(found),
    }
}

fn certificates(path: &Path, service: ServiceKind) -> Result<Vec<Certificate>, SourceError> {
    let pem = read(path, "CA file", service)?;
    parsed(&pem).map_err(|reason| setting(service, &format!("the CA file {}", path.display()), reason))
}

/// Every certificate in the files of a folder. Other files in it are passed over.
fn all_certificates(folder: &Path, service: ServiceKind) -> Result<Vec<Certificate>, SourceError> {
    let failed = |source| SourceError::File { service, what: "CA folder", path: folder.to_owned(), source };
    let entries = std::fs::read_dir(folder).map_err(failed)?;
    let mut files: Vec<PathBuf> =
        entries.filter_map(|entry| Some(entry.ok()?.path())).filter(|path| path.is_file()).collect();
    files.sort();
    let mut found = Vec::new();
    for file in files {
        found.extend(parsed(&read(&file, "CA file", service)?).unwrap_or_default());
    }
    if found.is_empty() {
        let name = format!("the CA folder {}", folder.display());
        return Err(setting(service, &name, "no file in it holds a PEM certificate"));
    }
    Ok(found)
}

fn identity(client: &ClientCertificate, service: ServiceKind) -> Result<Identity, SourceError> {
    let mut pem = read(&client.certificate, "client certificate", service)?;
    pem.push(b'\n');
    pem.extend_from_slice(&read(&client.key, "client key", service)?);
    let name = format!("the client certificate {} with its key", client.certificate.display());
    Identity::from_pem(&pem).map_err(|error| setting(service, &name, super::http::root_cause(&error)))
}
