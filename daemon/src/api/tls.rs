//! TCP, by mutual TLS only: who connects shows a certificate of a CA that the operator named, and is what
//! `[[grpc.client]]` says of it. Certificates are read once; a change needs a restart.

use std::fs::File;
use std::io;
use std::net::SocketAddr;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use futures_util::Stream;
use larder_core::Digest;
use rustls::pki_types::pem::{self, PemObject as _};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{NoServerSessionStorage, WebPkiClientVerifier};
use rustls::{RootCertStore, ServerConfig};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::connections::{Connection, MAX_CONNECTIONS};
use crate::config::{CertificateName, GrpcClient, GrpcConfig, Role};

/// How long a handshake may take.
const HANDSHAKE: Duration = Duration::from_secs(10);
/// How long to wait where no connection can be accepted (no file descriptors), which would else spin.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// The most characters of a name that is shown and recorded.
const MAX_NAME: usize = 200;
/// The permission bits of group and others.
const OTHERS: u32 = 0o077;

/// Says why the API cannot be had over TCP.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file cannot be read, or holds no such thing.
    #[error("{}: {source}", path.display())]
    Pem {
        /// The file.
        path: PathBuf,
        /// Why.
        source: pem::Error,
    },
    /// A file has no certificate in it.
    #[error("{}: no certificate is in it", .0.display())]
    Empty(PathBuf),
    /// Others than its owner may read the private key.
    #[error("{} can be read by others than its owner; chmod 600 makes it private", .0.display())]
    Exposed(PathBuf),
    /// The certificates are of no use.
    #[error("the certificates under [grpc] cannot be used: {0}")]
    Unusable(String),
    /// The address cannot be had.
    #[error("the API cannot listen on {address}: {source}")]
    Bind {
        /// The address.
        address: SocketAddr,
        /// Why.
        source: io::Error,
    },
}

/// Who called over TCP; tonic puts it into the extensions of every request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Identity {
    /// The certificate's name: the one that the role was given by, or else the first that it has.
    pub(super) name: Arc<str>,
    /// What it may do; `None` where nobody said so, and it may do nothing.
    pub(super) role: Option<Role>,
}

/// A listening address.
pub struct Listener {
    listener: TcpListener,
    acceptor: TlsAcceptor,
    clients: Arc<[GrpcClient]>,
}

impl Listener {
    /// Reads the certificates and listens.
    ///
    /// # Errors
    /// Fails where a file cannot be read or used, the key is not private, or the address is taken.
    pub async fn bind(config: GrpcConfig) -> Result<Self, TlsError> {
        let acceptor = TlsAcceptor::from(Arc::new(server_config(&config)?));
        let address = config.address;
        let listener = TcpListener::bind(address).await.map_err(|source| TlsError::Bind { address, source })?;
        Ok(Self { listener, acceptor, clients: config.clients.into() })
    }

    /// Returns where it listens.
    ///
    /// # Errors
    /// Fails where the system does not say.
    pub fn address(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// Accepts until it is cancelled. Handshakes go on beside each other; one that fails is logged.
    pub(super) fn incoming(
        self,
        cancel: CancellationToken,
        tasks: &TaskTracker,
    ) -> impl Stream<Item = io::Result<Connection<TlsStream<TcpStream>, Identity>>> + Send + use<> {
        let (ready, connections) = mpsc::channel(1);
        let room = Arc::new(Semaphore::new(MAX_CONNECTIONS));
        let handshakes = tasks.clone();
        tasks.spawn(async move {
            let this = Arc::new(self);
            loop {
                // Taken before accepting, so that clients queue in the kernel.
                let accepted = async {
                    let place = Arc::clone(&room).acquire_owned().await.ok()?;
                    this.accept().await.map(|(stream, peer)| (stream, peer, place))
                };
                let accepted = tokio::select! {
                    () = cancel.cancelled() => break,
                    accepted = accepted => accepted,
                };
                let Some((stream, peer, place)) = accepted else { continue };
                let (this, ready, cancel) = (Arc::clone(&this), ready.clone(), cancel.clone());
                handshakes.spawn(async move {
                    tokio::select! {
                        () = cancel.cancelled() => {}
                        () = async {
                            if let Some(connection) = this.greet(stream, peer, place).await {
                                // The server that reads them has gone: so does the connection.
                                let _ = ready.send(Ok(connection)).await;
                            }
                        } => {}
                    }
                });
            }
        });
        ReceiverStream::new(connections)
    }

    async fn accept(&self) -> Option<(TcpStream, SocketAddr)> {
        match self.listener.accept().await {
            Ok(accepted) => Some(accepted),
            Err(error) => {
                tracing::warn!(%error, "the API cannot accept a connection");
                tokio::time::sleep(ACCEPT_PAUSE).await;
                None
            }
        }
    }

    async fn greet(
        &self,
        stream: TcpStream,
        peer: SocketAddr,
        place: OwnedSemaphorePermit,
    ) -> Option<Connection<TlsStream<TcpStream>, Identity>> {
        // Answers are small; they gain nothing from waiting for more.
        let _ = stream.set_nodelay(true);
        let stream = match tokio::time::timeout(HANDSHAKE, self.acceptor.accept(stream)).await {
            Ok(Ok(stream)) => stream,
            Ok(Err(error)) => {
                tracing::warn!(%peer, %error, "a TLS handshake failed");
                return None;
            }
            Err(_) => {
                tracing::debug!(%peer, "a TLS handshake took too long");
                return None;
            }
        };
        let identity = identity(stream.get_ref().1.peer_certificates()?.first()?, &self.clients);
        tracing::debug!(%peer, name = %identity.name, role = ?identity.role, "a client connected");
        Some(Connection::new(stream, identity, place))
    }
}

fn server_config(config: &GrpcConfig) -> Result<ServerConfig, TlsError> {
    let unusable = |error: &dyn std::fmt::Display| TlsError::Unusable(error.to_string());
    let mut roots = RootCertStore::empty();
    for certificate in certificates(&config.client_ca_file)? {
        roots.add(certificate).map_err(|error| unusable(&error))?;
    }
    let chain = certificates(&config.cert_file)?;
    let key = private_key(&config.key_file)?;
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider))
        .build()
        .map_err(|error| unusable(&error))?;
    let mut server = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(|error| unusable(&error))?
        .with_client_cert_verifier(verifier)
        .with_single_cert(chain, key)
        .map_err(|error| unusable(&error))?;
    server.alpn_protocols = vec![b"h2".to_vec()];
    // A session that is taken up again would outlive its certificate.
    server.session_storage = Arc::new(NoServerSessionStorage {});
    server.send_tls13_tickets = 0;
    Ok(server)
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let failed = |source| TlsError::Pem { path: path.to_owned(), source };
    let read: Result<Vec<_>, _> = CertificateDer::pem_file_iter(path).map_err(failed)?.collect();
    let read = read.map_err(failed)?;
    if read.is_empty() { Err(TlsError::Empty(path.to_owned())) } else { Ok(read) }
}

fn private_key(path: &Path) -> Result<PrivateKeyDer<'static>, TlsError> {
    let failed = |source| TlsError::Pem { path: path.to_owned(), source };
    let file = File::open(path).map_err(|error| failed(pem::Error::Io(error)))?;
    let mode = file.metadata().map_err(|error| failed(pem::Error::Io(error)))?.mode();
    if mode & OTHERS != 0 {
        return Err(TlsError::Exposed(path.to_owned()));
    }
    PrivateKeyDer::from_pem_reader(file).map_err(failed)
}

/// Says who a certificate is that the handshake verified: the first client in the configuration that it matches.
fn identity(certificate: &CertificateDer<'_>, clients: &[GrpcClient]) -> Identity {
    let Ok(parsed) = webpki::EndEntityCert::try_from(certificate) else {
        return Identity { name: "an unreadable certificate".into(), role: None };
    };
    let key = Digest::of(&parsed.subject_public_key_info()).hex();
    let uris: Vec<&str> = parsed.valid_uri_names().collect();
    let names: Vec<String> = parsed.valid_dns_names().map(str::to_ascii_lowercase).collect();
    let is = |client: &&GrpcClient| match &client.name {
        CertificateName::Uri(uri) => uris.contains(&uri.as_str()),
        CertificateName::Dns(name) => names.contains(name),
        CertificateName::Key(id) => *id == key,
    };
    if let Some(client) = clients.iter().find(is) {
        let name = match &client.name {
            CertificateName::Uri(name) | CertificateName::Dns(name) => shown(name),
            CertificateName::Key(id) => format!("key {id}"),
        };
        return Identity { name: name.into(), role: Some(client.role) };
    }
    let name = uris.first().copied().or_else(|| names.first().map(String::as_str)).map(shown);
    Identity { name: name.unwrap_or_else(|| format!("key {key}")).into(), role: None }
}

/// A name as it is shown and recorded: no longer than a line, nothing that steers a terminal.
fn shown(name: &str) -> String {
    name.chars().take(MAX_NAME).map(|letter| if letter.is_ascii_graphic() { letter } else { '?' }).collect()
}
