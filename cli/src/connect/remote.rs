//! The way to a daemon on another machine: TCP, by mutual TLS and in no other way.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use clap::Args;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use super::{CONNECT_TIMEOUT, Client, over};
use crate::error::{Error, words_of};

/// Set once by `main`, and read wherever a connection is made: which daemon is meant is one decision of a run.
static REMOTE: OnceLock<Remote> = OnceLock::new();

/// Which daemon, if not this machine's
#[derive(Debug, Default, Args)]
#[command(next_help_heading = "A daemon on another machine")]
pub(crate) struct RemoteArguments {
    /// Where it listens; the other three are needed with it
    #[arg(long, global = true, env = "LARDER_ADDRESS", value_name = "HOST:PORT", hide_env_values = true)]
    address: Option<String>,
    /// Your certificate
    #[arg(long, global = true, env = "LARDER_TLS_CERT", value_name = "PEM", hide_env_values = true)]
    tls_cert: Option<PathBuf>,
    /// Its private key
    #[arg(long, global = true, env = "LARDER_TLS_KEY", value_name = "PEM", hide_env_values = true)]
    tls_key: Option<PathBuf>,
    /// The CA that the daemon's certificate is from
    #[arg(long, global = true, env = "LARDER_TLS_CA", value_name = "PEM", hide_env_values = true)]
    tls_ca: Option<PathBuf>,
}

impl RemoteArguments {
    /// Makes this the daemon that every connection of this run goes to; nothing, where no address is named.
    ///
    /// # Errors
    /// Fails where the address is none, or a certificate is not named.
    pub(crate) fn choose(self) -> Result<(), Error> {
        let Some(address) = self.address.filter(|address| !address.is_empty()) else { return Ok(()) };
        let missing = || {
            Error::usage(format!("--address {address} needs --tls-cert, --tls-key and --tls-ca"))
                .hint("LARDER_TLS_CERT, LARDER_TLS_KEY and LARDER_TLS_CA name them too")
        };
        let (Some(cert), Some(key), Some(ca)) = (self.tls_cert, self.tls_key, self.tls_ca) else {
            return Err(missing());
        };
        let host = address.rsplit_once(':').map(|(host, _)| host.trim_start_matches('[').trim_end_matches(']'));
        let name = host.and_then(|host| ServerName::try_from(host.to_owned()).ok());
        let name = name.ok_or_else(|| {
            Error::usage(format!("{address:?} is no address")).hint("write HOST:PORT, as in larder.example.org:7443")
        })?;
        // Nobody else sets it: a run parses its arguments once.
        let _ = REMOTE.set(Remote { address, name, cert, key, ca });
        Ok(())
    }
}

/// A daemon on another machine.
#[derive(Debug)]
pub(crate) struct Remote {
    address: String,
    /// Whose name the daemon's certificate must have.
    name: ServerName<'static>,
    cert: PathBuf,
    key: PathBuf,
    ca: PathBuf,
}

impl Remote {
    /// Returns the one that this run speaks to, if it is not this machine's.
    pub(crate) fn chosen() -> Option<&'static Self> {
        REMOTE.get()
    }

    /// Returns where it listens, as it was named.
    pub(crate) fn address(&self) -> &str {
        &self.address
    }

    /// Connects and shows certificates.
    ///
    /// # Errors
    /// Fails where it cannot be reached, or its certificate is not what it should be.
    pub(crate) async fn connect(&self) -> Result<Client, Error> {
        let connector = TlsConnector::from(Arc::new(self.config()?));
        let connected = async {
            let stream = TcpStream::connect(&self.address).await?;
            // Requests are small; they gain nothing from waiting for more.
            let _ = stream.set_nodelay(true);
            connector.connect(self.name.clone(), stream).await
        };
        let failed = |why: String| {
            Error::new("no-connection", format!("cannot connect to larderd at {}: {why}", self.address))
                .hint("[grpc] in the daemon's config.toml says where it listens and whose certificates it takes")
        };
        let stream = match tokio::time::timeout(CONNECT_TIMEOUT, connected).await {
            Ok(Ok(stream)) => stream,
            Ok(Err(error)) if error.kind() == ErrorKind::InvalidData => {
                return Err(failed(format!("its certificate is not accepted ({error})")));
            }
            Ok(Err(error)) => return Err(failed(words_of(&error))),
            Err(_) => return Err(failed(format!("no answer within {} s", CONNECT_TIMEOUT.as_secs()))),
        };
        let channel = over(stream).await.map_err(|_| failed("it does not speak HTTP/2".to_owned()))?;
        Ok(Client { channel, pid: None })
    }

    fn config(&self) -> Result<ClientConfig, Error> {
        let unusable = |error: rustls::Error| {
            Error::new("bad-certificate", format!("the certificates: {error}"))
                .hint("--tls-cert and --tls-key belong together, and --tls-ca signed the daemon's certificate")
        };
        let mut roots = RootCertStore::empty();
        for certificate in certificates(&self.ca)? {
            roots.add(certificate).map_err(unusable)?;
        }
        let key = PrivateKeyDer::from_pem_file(&self.key).map_err(|error| not_pem(&self.key, &error))?;
        let mut config = ClientConfig::builder_with_provider(Arc::new(rustls::crypto::aws_lc_rs::default_provider()))
            .with_protocol_versions(&[&rustls::version::TLS13])
            .map_err(unusable)?
            .with_root_certificates(roots)
            .with_client_auth_cert(certificates(&self.cert)?, key)
            .map_err(unusable)?;
        config.alpn_protocols = vec![b"h2".to_vec()];
        Ok(config)
    }
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, Error> {
    let read: Result<Vec<_>, _> = CertificateDer::pem_file_iter(path).and_then(Iterator::collect);
    let read = read.map_err(|error| not_pem(path, &error))?;
    if read.is_empty() {
        return Err(unusable(path, "no certificate is in it"));
    }
    Ok(read)
}

fn unusable(path: &Path, why: &str) -> Error {
    Error::new("bad-certificate", format!("{}: {why}", path.display())).hint(
        "--tls-cert and --tls-ca take PEM blocks of certificates, --tls-key that of a private key without password",
    )
}

fn not_pem(path: &Path, error: &rustls::pki_types::pem::Error) -> Error {
    let why = match error {
        rustls::pki_types::pem::Error::Io(error) => words_of(error),
        rustls::pki_types::pem::Error::NoItemsFound => "nothing of that kind is in it".to_owned(),
        error => error.to_string(),
    };
    unusable(path, &why)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_needs_its_certificates() {
        assert!(RemoteArguments::default().choose().is_ok(), "none is this machine's daemon");
        let alone = RemoteArguments { address: Some("larder.site:4471".to_owned()), ..Default::default() };
        assert_eq!(alone.choose().expect_err("no certificates").reason(), "usage");
        let file = || Some(PathBuf::from("x.pem"));
        let no_port = RemoteArguments {
            address: Some("larder.site".to_owned()),
            tls_cert: file(),
            tls_key: file(),
            tls_ca: file(),
        };
        assert_eq!(no_port.choose().expect_err("no port").reason(), "usage");
        assert!(Remote::chosen().is_none(), "nothing was chosen");
    }
}
