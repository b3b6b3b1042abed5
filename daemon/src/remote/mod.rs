//! The OCI distribution client: one HTTP client for everything that leaves this machine.
//!
//! In comes a repository's name, out come verified manifests, streams of blobs, lists, and errors that name what was
//! asked for. Everything that a registry says is untrusted: bodies are bounded, digests and lengths are checked, pages
//! and redirects end, and where a registry leads is checked by address. "Not there" is a value, and
//! only a 404 says it; every other failure is an error, so that nothing is ever missing by accident.
//!
//! `connection` sends, as whom `credentials` says; `auth`, `tls`, `redirect`, `retry` and `address` are its rules; `manifests`, `blobs`, `tags`,
//! `referrers` and `upload` are what can be asked; a `look` is what one operation remembers of the answers.

use std::collections::HashMap;
use std::fmt;
use std::net::SocketAddr;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use futures_util::stream::BoxStream;
use http::header::{ACCEPT, HeaderMap, HeaderName, HeaderValue};
use http::{Method, StatusCode};
use larder_core::reference::DOCKER_HUB;
use larder_core::{Digest, Repository};
use reqwest::{Response, Url};
use tokio::sync::Semaphore;

use crate::config::places::Places;
use crate::config::{DEFAULT_CONCURRENCY, RegistriesConfig};

mod address;
mod auth;
mod blobs;
mod connection;
mod credentials;
mod error;
mod login;
mod look;
mod manifests;
mod paging;
mod redirect;
mod referrers;
mod retry;
mod tags;
#[cfg(test)]
mod tests;
mod tls;
mod transport;
mod upload;

use auth::{Accepted, Scope};
use connection::{Call, Connection, PlainList};
use credentials::{Credentials, PasswordFile};
use transport::Clients;

pub use address::RefusedAddress;
pub use credentials::{CredentialError, Kept, Secret, Target};
pub use error::{Answer, At, RemoteError};
pub use login::Asked;
pub use look::Look;
pub use manifests::Resolved;
pub use referrers::{Referrer, Referrers};
pub use tags::Tags;
pub use tls::TlsFault;
pub use upload::Upload;

/// The host that serves Docker Hub's repositories.
const DOCKER_HUB_HOST: &str = "registry-1.docker.io";
/// The most registries whose tokens and limits are remembered.
const MAX_REGISTRIES: usize = 1024;
/// How registries name the digest of what they send.
const DOCKER_CONTENT_DIGEST: HeaderName = HeaderName::from_static("docker-content-digest");

/// A blob's bytes as they arrive; the digest is the taker's to verify (`Store::ingest` does).
///
/// The stream ends with an error where there come more or fewer bytes than the descriptor says; a broken connection is
/// taken up again where it broke, a few times.
pub type BlobStream = BoxStream<'static, Result<Bytes, RemoteError>>;

/// What one wants of a repository; decides the token's scope.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Access {
    /// Read.
    Pull,
    /// Read and write.
    Push,
}

/// How many requests were sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Requests {
    /// All of them, redirected and repeated ones included.
    pub sent: u64,
    /// Those that got no answer.
    pub failed: u64,
}

/// Every registry that can be reached, with its credentials, tokens and limits. Cheap to clone.
#[derive(Clone)]
pub struct Remotes {
    shared: Arc<Shared>,
}

struct Shared {
    config: RegistriesConfig,
    clients: Arc<Clients>,
    plain: Arc<PlainList>,
    places: Arc<Places>,
    /// By the registry's name; held only to look up or to insert.
    connections: Mutex<HashMap<String, Arc<Connection>>>,
}

impl Remotes {
    /// Builds the clients; connects to nothing.
    ///
    /// # Errors
    /// Fails where TLS cannot be set up.
    pub fn new(config: RegistriesConfig) -> Result<Self, RemoteError> {
        let plain = config.registries.iter().filter(|(_, registry)| registry.plain_http == Some(true));
        let plain = plain.filter_map(|(host, _)| Url::parse(&format!("http://{host}/")).ok());
        let plain = Arc::new(PlainList(plain.map(|url| redirect::authority(&url)).collect()));
        let clients = Arc::new(Clients::new(&config)?);
        let places = Arc::new(config.places.clone());
        Ok(Self { shared: Arc::new(Shared { config, clients, plain, places, connections: Mutex::default() }) })
    }

    /// Says where this very daemon's endpoint is: nothing is fetched from there, and no registry may lead there.
    pub fn set_own(&self, endpoint: SocketAddr) {
        self.shared.clients.set_own(endpoint);
    }

    /// Says how many requests were sent so far.
    pub fn requests(&self) -> Requests {
        let Clients { sent, failed, .. } = &*self.shared.clients;
        Requests { sent: sent.load(Ordering::Relaxed), failed: failed.load(Ordering::Relaxed) }
    }

    /// Returns a repository at its registry.
    ///
    /// # Errors
    /// Fails for local repositories, which have no registry, and for hosts that no URL can name.
    pub fn repository(&self, repository: &Repository, access: Access) -> Result<RemoteRepository, RemoteError> {
        if repository.is_local() {
            return Err(RemoteError::LocalRepository(repository.clone()));
        }
        let scope = Scope { path: repository.path().to_owned(), access };
        let mut connections = self.shared.connections.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(connection) = connections.get(repository.registry()) {
            return Ok(RemoteRepository { connection: Arc::clone(connection), scope });
        }
        let credentials = self.credentials(repository.registry());
        let connection = Arc::new(self.connection(repository, credentials)?);
        if connections.len() >= MAX_REGISTRIES {
            connections.clear();
        }
        connections.insert(connection.host.clone(), Arc::clone(&connection));
        Ok(RemoteRepository { connection, scope })
    }

    /// Says where a registry's logins come from: its entry in the configuration, else docker's and podman's files.
    fn credentials(&self, registry: &str) -> Credentials {
        let configured = self.shared.config.registries.get(registry).and_then(|settings| {
            let (username, password_file) = (settings.username.clone()?, settings.password_file.clone()?);
            Some(Credentials::Configured(PasswordFile { username, password_file }))
        });
        configured.unwrap_or_else(|| Credentials::Found(Arc::clone(&self.shared.places)))
    }

    fn connection(&self, repository: &Repository, credentials: Credentials) -> Result<Connection, RemoteError> {
        let Shared { config, clients, plain, .. } = &*self.shared;
        let host = repository.registry().to_owned();
        let served_by = if host == DOCKER_HUB { DOCKER_HUB_HOST } else { &host };
        let no_host = |why: String| RemoteError::Unreachable {
            at: At { registry: host.clone(), what: repository.path().to_owned() },
            why,
        };
        let mut origin = Url::parse(&format!("https://{served_by}/")).map_err(|error| no_host(error.to_string()))?;
        let settings = config.registries.get(&host);
        let is_loopback = origin.host_str().is_some_and(address::is_loopback_host);
        let plain_http = settings.and_then(|settings| settings.plain_http);
        if plain_http.unwrap_or_else(|| is_loopback && !tls::is_set_up(settings, &config.places, &host)) {
            origin = Url::parse(&format!("http://{served_by}/")).map_err(|error| no_host(error.to_string()))?;
        }
        let concurrency = if config.concurrency == 0 { DEFAULT_CONCURRENCY } else { config.concurrency };
        Ok(Connection {
            origin,
            credentials,
            plain: Arc::clone(plain),
            clients: Arc::clone(clients),
            accepted: Accepted::default(),
            asking: tokio::sync::Mutex::default(),
            fallback: tokio::sync::Mutex::default(),
            reads: Arc::new(Semaphore::new(concurrency)),
            writes: Arc::new(Semaphore::new(concurrency)),
            host,
        })
    }
}

/// A repository at its registry. Cheap to clone.
#[derive(Clone)]
pub struct RemoteRepository {
    connection: Arc<Connection>,
    scope: Scope,
}

impl fmt::Display for RemoteRepository {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.connection.host, self.scope.path)
    }
}

impl RemoteRepository {
    /// Returns the registry as references name it.
    pub fn host(&self) -> &str {
        &self.connection.host
    }

    /// Names something in this repository, for messages; `thing` follows the path directly.
    fn at(&self, thing: &str) -> At {
        At { registry: self.connection.host.clone(), what: format!("{}{thing}", self.scope.path) }
    }

    /// Prepares a request for `tail`, which follows `/v2/<path>/`.
    fn call(&self, method: Method, at: At, tail: &str) -> Result<Call, RemoteError> {
        let url = self.connection.origin.join(&format!("v2/{}/{tail}", self.scope.path));
        let url = url.map_err(|error| RemoteError::Unreachable { at: at.clone(), why: error.to_string() })?;
        Ok(Call { at, scope: self.scope.clone(), method, url, headers: HeaderMap::new(), body: Bytes::new() })
    }

    /// Turns an answer that is no success into an error.
    async fn failure(&self, at: &At, response: Response, kind: &'static str) -> RemoteError {
        let user = self.connection.accepted.user(&self.scope);
        transport::failure(at, user.as_deref(), response, kind).await
    }

    /// Asks by HEAD whether something is there.
    async fn is_there(&self, at: At, tail: &str, accept: &[&str], kind: &'static str) -> Result<bool, RemoteError> {
        let mut call = self.call(Method::HEAD, at, tail)?;
        set_accept(&mut call.headers, accept);
        let _permit = self.connection.admit(&call.at, &call.method).await?;
        let response = self.connection.call(&call).await?;
        match response.status() {
            StatusCode::OK => Ok(true),
            StatusCode::NOT_FOUND => Ok(false),
            _ => Err(self.failure(&call.at, response, kind).await),
        }
    }
}

/// Says which media types are read.
fn set_accept(headers: &mut HeaderMap, types: &[&str]) {
    if let Ok(value) = HeaderValue::from_str(&types.join(", ")) {
        headers.insert(ACCEPT, value);
    }
}

/// Returns the digest that an answer names; `None` where there is none, or one of another kind than we know.
fn named_digest(headers: &HeaderMap) -> Option<Digest> {
    headers.get(DOCKER_CONTENT_DIGEST)?.to_str().ok()?.parse().ok()
}

/// Fails where an answer to an upload names another digest, of the same algorithm, than what was sent.
fn confirm_digest(at: &At, headers: &HeaderMap, expected: Digest) -> Result<(), RemoteError> {
    match named_digest(headers) {
        Some(actual) if actual.algorithm() == expected.algorithm() && actual != expected => {
            Err(RemoteError::digest_mismatch(at.clone(), expected, actual))
        }
        _ => Ok(()),
    }
}
