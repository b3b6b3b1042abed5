//! TLS: whose certificates are believed, and which one is shown.
//!
//! Beyond the system's roots, a host has what the configuration says for it, or else what lies for it in the folders that
//! docker and podman read (containers-certs.d(5)). It counts for that host alone: for the registry, and for the same host
//! where another registry leads there. A client certificate is shown to the registry itself only.

use std::error::Error;
use std::fmt;
use std::io::Read as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{AlertDescription, CertificateError, RootCertStore};
use zeroize::Zeroizing;

use super::error::{RemoteError, clean};
use crate::config::RegistryConfig;
use crate::config::places::Places;

/// The most bytes of a file with certificates or a key.
const MAX_FILE: u64 = 1 << 20;
/// The most entries of a host's folder that are looked at.
const MAX_ENTRIES: usize = 100;

/// Returns the system's root certificates, or Mozilla's where the system has none.
pub(super) fn system_roots() -> RootCertStore {
    let mut roots = RootCertStore::empty();
    let native = rustls_native_certs::load_native_certs();
    roots.add_parsable_certificates(native.certs);
    if roots.is_empty() {
        roots.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned());
    }
    roots
}

/// What a host's TLS has beyond the system's roots.
#[derive(Default, PartialEq, Eq)]
pub(super) struct Material {
    /// Where it was read, for people.
    pub(super) place: PathBuf,
    authorities: Vec<CertificateDer<'static>>,
    identity: Option<Identity>,
}

/// A client certificate with its key, both PEM.
#[derive(PartialEq, Eq)]
struct Identity {
    certificates: Zeroizing<Vec<u8>>,
    key: Zeroizing<Vec<u8>>,
}

/// Says whether a registry has certificates of its own: then it is spoken to in TLS, wherever it is.
pub(super) fn is_set_up(settings: Option<&RegistryConfig>, places: &Places, host: &str) -> bool {
    settings.is_some_and(is_configured) || folder(places, host).is_some()
}

fn is_configured(settings: &RegistryConfig) -> bool {
    settings.ca_file.is_some() || settings.client_cert_file.is_some()
}

/// Finds the first folder for a host that is there.
fn folder(places: &Places, host: &str) -> Option<PathBuf> {
    // A host's name is checked where references are read; what is no single name is no folder's.
    if host.is_empty() || host.contains('/') || host.starts_with('.') {
        return None;
    }
    places.certificates.iter().map(|folder| folder.join(host)).find(|folder| folder.is_dir())
}

impl Material {
    /// Reads what a host has; `None` where it has nothing. The identity is read for a registry only.
    pub(super) fn read(
        settings: Option<&RegistryConfig>,
        places: &Places,
        host: &str,
        is_registry: bool,
    ) -> Result<Option<Self>, RemoteError> {
        let unusable = |(path, why): (PathBuf, String)| RemoteError::Certificates { host: host.to_owned(), path, why };
        let material = match (settings.filter(|settings| is_configured(settings)), folder(places, host)) {
            (Some(settings), _) => Self::configured(settings),
            (None, Some(folder)) => Self::in_folder(folder),
            (None, None) => return Ok(None),
        };
        let mut material = material.map_err(unusable)?;
        material.identity = material.identity.filter(|_| is_registry);
        let is_empty = material.authorities.is_empty() && material.identity.is_none();
        Ok((!is_empty).then_some(material))
    }

    fn configured(settings: &RegistryConfig) -> Result<Self, (PathBuf, String)> {
        let mut material = Self::default();
        if let Some(path) = &settings.ca_file {
            material.place.clone_from(path);
            material.authorities = certificates(path, &read(path)?)?;
        }
        if let (Some(certificate), Some(key)) = (&settings.client_cert_file, &settings.client_key_file) {
            material.place.clone_from(certificate);
            let mode = std::fs::metadata(key).map_or(0, |about| about.permissions().mode() & 0o777);
            if mode & 0o077 != 0 {
                return Err((key.clone(), format!("others than its owner may use it (mode {mode:03o})")));
            }
            material.identity = Some(Identity { certificates: read(certificate)?, key: read(key)? });
        }
        Ok(material)
    }

    /// Reads `*.crt` as authorities, and `*.cert` with `*.key` as identity.
    fn in_folder(folder: PathBuf) -> Result<Self, (PathBuf, String)> {
        let in_words = |error: std::io::Error| (folder.clone(), error.kind().to_string());
        let entries = std::fs::read_dir(&folder).map_err(in_words)?.take(MAX_ENTRIES);
        let mut paths = entries.map(|entry| Ok(entry?.path())).collect::<Result<Vec<_>, _>>().map_err(in_words)?;
        paths.sort();
        let mut material = Self { place: folder.clone(), ..Self::default() };
        for path in paths {
            match path.extension().and_then(|extension| extension.to_str()) {
                Some("crt") => material.authorities.extend(certificates(&path, &read(&path)?)?),
                Some("cert") if material.identity.is_none() => {
                    let key = path.with_extension("key");
                    material.identity = Some(Identity { certificates: read(&path)?, key: read(&key)? });
                }
                Some("key") if !path.with_extension("cert").exists() => {
                    return Err((path, "there is no .cert beside this .key".into()));
                }
                _ => {}
            }
        }
        Ok(material)
    }

    /// Builds a client's TLS from these roots and what is here.
    pub(super) fn client_config(&self, roots: &RootCertStore) -> Result<rustls::ClientConfig, String> {
        let mut roots = roots.clone();
        for authority in &self.authorities {
            roots.add(authority.clone()).map_err(|error| format!("a certificate cannot be used: {error}"))?;
        }
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let builder = rustls::ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|error| error.to_string())?
            .with_root_certificates(roots);
        let Some(identity) = &self.identity else { return Ok(builder.with_no_client_auth()) };
        let certificates = certificates(&self.place, &identity.certificates).map_err(|(_, why)| why)?;
        let key = PrivateKeyDer::from_pem_slice(&identity.key)
            .map_err(|_| "the client's key is no PEM private key without a password".to_owned())?;
        let built = builder.with_client_auth_cert(certificates, key);
        built.map_err(|error| format!("the client's certificate and key cannot be used: {error}"))
    }
}

fn read(path: &Path) -> Result<Zeroizing<Vec<u8>>, (PathBuf, String)> {
    let in_words = |error: std::io::Error| (path.to_owned(), error.kind().to_string());
    let about = std::fs::metadata(path).map_err(in_words)?;
    if !about.is_file() {
        return Err((path.to_owned(), "it is no regular file".into()));
    }
    let room = usize::try_from(about.len().min(MAX_FILE)).unwrap_or_default() + 1;
    let mut bytes = Zeroizing::new(Vec::with_capacity(room));
    let file = std::fs::File::open(path).map_err(in_words)?;
    file.take(MAX_FILE + 1).read_to_end(&mut bytes).map_err(in_words)?;
    if bytes.len() as u64 > MAX_FILE {
        return Err((path.to_owned(), "it is longer than 1 MiB".into()));
    }
    Ok(bytes)
}

fn certificates(path: &Path, pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, (PathBuf, String)> {
    let refuse = |why: &str| (path.to_owned(), why.to_owned());
    let read: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    match read {
        Ok(certificates) if certificates.is_empty() => Err(refuse("there is no PEM certificate in it")),
        Ok(certificates) => Ok(certificates),
        Err(_) => Err(refuse("its PEM is broken")),
    }
}

/// Says why TLS with a host did not come about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TlsFault {
    /// Nobody that is believed issued its certificate.
    UnknownIssuer,
    /// Its certificate is another host's.
    WrongName,
    /// Its certificate is no longer valid.
    Expired,
    /// Its certificate is not valid yet.
    NotYetValid,
    /// It wants a certificate of ours, or another one than it got.
    ClientCertificate,
    /// What it speaks is no TLS.
    NotTls,
    /// Anything else, in words.
    Other(String),
}

impl TlsFault {
    /// Finds what went wrong with TLS in an error and its causes; `None` where it was something else.
    pub(super) fn of(error: &(dyn Error + 'static)) -> Option<Self> {
        let mut cause = Some(error);
        while let Some(this) = cause {
            if let Some(error) = this.downcast_ref::<rustls::Error>() {
                return Some(Self::from(error));
            }
            // An error of the system does not name what it wraps as its source.
            let wrapped = this.downcast_ref::<std::io::Error>().and_then(std::io::Error::get_ref);
            if let Some(fault) = wrapped.and_then(|wrapped| Self::of(wrapped)) {
                return Some(fault);
            }
            cause = this.source();
        }
        None
    }

    /// Says it of a host.
    pub(super) fn about(&self, host: &str) -> String {
        match self {
            Self::UnknownIssuer => format!("nobody that is believed issued the certificate of {host} (unknown issuer)"),
            Self::WrongName => format!("the certificate that {host} shows is for another name"),
            Self::Expired => format!("the certificate of {host} has expired"),
            Self::NotYetValid => format!("the certificate of {host} is not valid yet"),
            Self::ClientCertificate => format!("{host} wants a client certificate that it accepts"),
            Self::NotTls => format!("{host} does not speak TLS"),
            Self::Other(why) => format!("no TLS connection with {host}: {why}"),
        }
    }

    pub(super) fn reason(&self) -> &'static str {
        match self {
            Self::UnknownIssuer | Self::WrongName | Self::Expired | Self::NotYetValid => "bad-certificate",
            Self::ClientCertificate => "client-certificate",
            Self::NotTls | Self::Other(_) => "tls-failed",
        }
    }

    pub(super) fn hint(&self, host: &str) -> String {
        match self {
            Self::UnknownIssuer => format!(
                "if it is a private CA's: ca_file = \"FILE.pem\" under [registry.{host:?}] in config.toml, or put it at /etc/containers/certs.d/{host}/ca.crt"
            ),
            Self::WrongName => "name the registry as its certificate does".into(),
            Self::Expired | Self::NotYetValid => {
                "check this machine's clock; if it is right, the registry needs a new certificate".into()
            }
            Self::ClientCertificate => format!(
                "client_cert_file and client_key_file under [registry.{host:?}] in config.toml, or client.cert and client.key in /etc/containers/certs.d/{host}"
            ),
            Self::NotTls => {
                format!("in a network that you trust, plain_http = true under [registry.{host:?}] in config.toml")
            }
            Self::Other(_) => "check the network; what is held already stays usable".into(),
        }
    }
}

impl From<&rustls::Error> for TlsFault {
    fn from(error: &rustls::Error) -> Self {
        use CertificateError as Bad;
        match error {
            rustls::Error::InvalidCertificate(bad) => match bad {
                Bad::UnknownIssuer | Bad::BadSignature => Self::UnknownIssuer,
                Bad::NotValidForName | Bad::NotValidForNameContext { .. } => Self::WrongName,
                Bad::Expired | Bad::ExpiredContext { .. } => Self::Expired,
                Bad::NotValidYet | Bad::NotValidYetContext { .. } => Self::NotYetValid,
                other => {
                    let text = other.to_string();
                    // The words of webpki for a CA's certificate in a server's place.
                    if text.contains("CaUsedAsEndEntity") { Self::UnknownIssuer } else { Self::Other(clean(&text)) }
                }
            },
            rustls::Error::AlertReceived(
                AlertDescription::CertificateRequired
                | AlertDescription::BadCertificate
                | AlertDescription::UnknownCA
                | AlertDescription::CertificateUnknown
                | AlertDescription::CertificateExpired
                | AlertDescription::UnsupportedCertificate,
            ) => Self::ClientCertificate,
            rustls::Error::InvalidMessage(_) => Self::NotTls,
            other => Self::Other(clean(&other.to_string())),
        }
    }
}

impl fmt::Display for TlsFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.reason())
    }
}
