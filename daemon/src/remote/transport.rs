//! The HTTP client: connections to checked addresses only, and bounded reading of answers.
//!
//! It follows no redirect, knows no proxy, decompresses nothing. The resolver drops the addresses that its reach does
//! not permit, so the address that was checked is the one that is connected to: a name that changes its address
//! between the check and the connection gains nothing.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use http::StatusCode;
use http::header::{ACCEPT_ENCODING, CONTENT_TYPE, HeaderMap, HeaderValue};
use oci_distribution::errors::OciEnvelope;
use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use reqwest::{Client, Request, Response, Url};

use super::address::{Reach, RefusedAddress, is_loopback_host, literal};
use crate::config::DEFAULT_TIMEOUT;

use super::error::{Answer, At, RemoteError, clean};
use super::redirect::authority;
use super::tls::{Material, TlsFault, system_roots};
use crate::config::RegistriesConfig;

/// How long a connection may take to come about, name look-up and TLS included.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// How many idle times in a row an upload is given: a registry may move gigabytes before it answers.
const UPLOAD_PATIENCE: u32 = 5;
/// How many times that a small body (a manifest, a page, a token) may take in all.
const SMALL_BODY_PATIENCE: u32 = 2;
/// The fewest bytes a second of a blob: one that trickles would keep its place for ever.
const SLOWEST: u64 = 1 << 10;
/// How long an unused connection is kept.
const POOL_IDLE: Duration = Duration::from_secs(30);
/// The most bytes that are read of an answer that reports an error.
const MAX_ERROR_BODY: u64 = 16 << 10;
/// How long certificates are used before their files are read again.
const FRESH: Duration = Duration::from_secs(60);
/// The most hosts whose certificates are remembered.
const MAX_HOSTS: usize = 1024;
/// How requests introduce themselves.
const USER_AGENT: &str = concat!("larder/", env!("CARGO_PKG_VERSION"));

/// Clients by reach, and by what a host needs beyond the system's certificates. They share nothing, so that a connection made
/// under a wide reach, or under one host's certificates, is never used again for anything else.
pub(super) struct Clients {
    roots: rustls::RootCertStore,
    public: Client,
    private: Client,
    anywhere: Client,
    config: RegistriesConfig,
    /// Held only to look up or to insert.
    by_host: Mutex<HashMap<(String, Reach, bool), Kept>>,
    /// How long to wait for the head of an answer, for the next bytes of a body, or for an upload to move.
    patience: Patience,
    /// The endpoint of this very daemon.
    own: OnceLock<SocketAddr>,
    /// Requests that were sent.
    pub sent: AtomicU64,
    /// Those that got no answer.
    pub failed: AtomicU64,
}

/// How long a registry may keep silent. An answer carries it along.
#[derive(Clone, Copy, Debug)]
struct Patience(Duration);

impl Patience {
    fn of(response: &Response) -> Self {
        response.extensions().get().copied().unwrap_or(Self(DEFAULT_TIMEOUT))
    }
}

/// A host's client.
struct Kept {
    client: Client,
    /// What it was built with; `None` is the system's certificates.
    material: Option<Arc<Material>>,
    /// When the files were read.
    read: Instant,
}

/// Whose host a request goes to.
#[derive(Clone, Copy, Debug)]
pub(super) enum Whose<'a> {
    /// The registry's own, by the name that references have for it: it sees our client certificate.
    Registry(&'a str),
    /// One that a registry led to: it has the certificates that are set up for that host itself, and sees none of ours.
    Other,
}

impl Clients {
    /// Builds the clients with the system's root certificates, or Mozilla's where the system has none.
    pub(super) fn new(config: &RegistriesConfig) -> Result<Self, RemoteError> {
        let roots = system_roots();
        let plain = |reach| build(reach, Material::default().client_config(&roots).map_err(RemoteError::Setup)?);
        let (public, private, anywhere) = (plain(Reach::Public)?, plain(Reach::Private)?, plain(Reach::Anywhere)?);
        Ok(Self {
            roots,
            public,
            private,
            anywhere,
            config: config.clone(),
            by_host: Mutex::default(),
            patience: Patience(config.timeout),
            own: OnceLock::new(),
            sent: AtomicU64::new(0),
            failed: AtomicU64::new(0),
        })
    }

    /// Returns how long a registry may keep silent.
    pub(super) fn patience(&self) -> Duration {
        self.patience.0
    }

    /// Returns the client for a request.
    async fn client(&self, reach: Reach, whose: Whose<'_>, url: &Url) -> Result<Client, RemoteError> {
        let plain = match reach {
            Reach::Public => &self.public,
            Reach::Private => &self.private,
            Reach::Anywhere => &self.anywhere,
        };
        if url.scheme() != "https" {
            return Ok(plain.clone());
        }
        let (host, is_registry) = match whose {
            Whose::Registry(host) => (host.to_owned(), true),
            Whose::Other => (authority(url), false),
        };
        let key = (host, reach, is_registry);
        let known = {
            let by_host = self.by_host.lock().unwrap_or_else(PoisonError::into_inner);
            by_host.get(&key).map(|kept| (kept.client.clone(), kept.material.clone(), kept.read.elapsed() < FRESH))
        };
        if let Some((client, _, true)) = &known {
            return Ok(client.clone());
        }
        let material = self.material(&key.0, is_registry).await?.map(Arc::new);
        let client = match (known, &material) {
            (Some((client, before, _)), now) if before == *now => client,
            (_, None) => plain.clone(),
            (_, Some(material)) => {
                let (host, path) = (key.0.clone(), material.place.clone());
                let unusable = |why| RemoteError::Certificates { host, path, why };
                build(reach, material.client_config(&self.roots).map_err(unusable)?)?
            }
        };
        let mut by_host = self.by_host.lock().unwrap_or_else(PoisonError::into_inner);
        if by_host.len() >= MAX_HOSTS {
            by_host.clear();
        }
        by_host.insert(key, Kept { client: client.clone(), material, read: Instant::now() });
        Ok(client)
    }

    async fn material(&self, host: &str, is_registry: bool) -> Result<Option<Material>, RemoteError> {
        let (settings, places) = (self.config.registries.get(host).cloned(), self.config.places.clone());
        let (name, host) = (host.to_owned(), host.to_owned());
        let read = tokio::task::spawn_blocking(move || Material::read(settings.as_ref(), &places, &name, is_registry));
        read.await.unwrap_or_else(|_| {
            let why = "reading them was interrupted".into();
            Err(RemoteError::Certificates { host, path: std::path::PathBuf::new(), why })
        })
    }

    /// Sends one request and waits for the head of the answer; `sent` counts the bytes of the body that were taken, so
    /// that a slow upload is not taken for a dead one.
    pub(super) async fn exchange(
        &self,
        at: &At,
        reach: Reach,
        whose: Whose<'_>,
        request: Request,
        sent: &AtomicU64,
    ) -> Result<Response, RemoteError> {
        let (method, url) = (request.method().clone(), request.url().clone());
        check_literal(at, reach, &url)?;
        self.check_own(at, &url)?;
        let client = self.client(reach, whose, &url).await?;
        let answer = client.execute(request);
        tokio::pin!(answer);
        let Patience(patience) = self.patience;
        let (mut before, mut idle) = (0, 0);
        let mut result = loop {
            match tokio::time::timeout(patience, &mut answer).await {
                Ok(result) => break result.map_err(|error| broken(at, &url, error)),
                Err(_) => {
                    let now = sent.load(Ordering::Relaxed);
                    idle = if now == before { idle + 1 } else { 0 };
                    before = now;
                    if idle >= if now == 0 { 1 } else { UPLOAD_PATIENCE } {
                        break Err(RemoteError::Stalled { at: at.clone(), waited: patience * idle });
                    }
                }
            }
        };
        // Without the query: it holds signatures of storage services.
        let (host, path) = (url.authority(), url.path());
        self.sent.fetch_add(1, Ordering::Relaxed);
        if result.is_err() {
            self.failed.fetch_add(1, Ordering::Relaxed);
        }
        if let Ok(response) = &mut result {
            response.extensions_mut().insert(self.patience);
        }
        match &result {
            Ok(response) => tracing::debug!("{method} {host}{path} → {}", response.status().as_u16()),
            Err(error) => tracing::debug!("{method} {host}{path} → {error}"),
        }
        result
    }
}

impl Clients {
    /// Says where this very daemon's endpoint is, once it is known.
    pub(super) fn set_own(&self, own: SocketAddr) {
        // It is bound once.
        let _ = self.own.set(own);
    }

    /// Refuses the daemon's own endpoint, which would take the request for its owner's. Names beside `localhost` need no
    /// look: the endpoint answers to no other `Host`, unless it is configured.
    fn check_own(&self, at: &At, url: &Url) -> Result<(), RemoteError> {
        let Some(own) = self.own.get().filter(|own| url.port_or_known_default() == Some(own.port())) else {
            return Ok(());
        };
        let host = url.host_str().unwrap_or_default();
        let is_own = match literal(host) {
            Some(address) => address.to_canonical() == own.ip(),
            None => is_loopback_host(host),
        };
        if is_own { Err(RemoteError::Itself { at: at.clone() }) } else { Ok(()) }
    }
}

/// Watches over how fast a body comes.
#[derive(Debug, Default)]
pub(super) struct Pace {
    /// The time spent waiting for the registry; what its taker does with the bytes does not count.
    waited: Duration,
    /// What came in that time.
    received: u64,
}

impl Pace {
    /// Returns the next bytes of a body; `None` at its end.
    ///
    /// # Errors
    /// Fails as [`next_chunk`] does, and where less than a kibibyte a second came while the registry had as long as it
    /// may keep silent.
    pub(super) async fn next_chunk(&mut self, at: &At, response: &mut Response) -> Result<Option<Bytes>, RemoteError> {
        let Patience(patience) = Patience::of(response);
        let begun = Instant::now();
        let chunk = next_chunk(at, response).await?;
        self.waited += begun.elapsed();
        self.received = self.received.saturating_add(chunk.as_ref().map_or(0, |chunk| chunk.len() as u64));
        if self.waited >= patience && chunk.is_some() {
            let Self { waited, received } = std::mem::take(self);
            if received < SLOWEST.saturating_mul(patience.as_secs()) {
                return Err(RemoteError::TooSlow { at: at.clone(), received, waited });
            }
        }
        Ok(chunk)
    }
}

fn build(reach: Reach, tls: rustls::ClientConfig) -> Result<Client, RemoteError> {
    let mut headers = HeaderMap::new();
    // Digests are over what is sent; a server that compresses would change it.
    headers.insert(ACCEPT_ENCODING, HeaderValue::from_static("identity"));
    Client::builder()
        .tls_backend_preconfigured(tls)
        .dns_resolver(Arc::new(Resolver { reach }))
        .redirect(reqwest::redirect::Policy::none())
        .retry(reqwest::retry::never())
        .no_proxy()
        .referer(false)
        .connect_timeout(CONNECT_TIMEOUT)
        .pool_idle_timeout(POOL_IDLE)
        .user_agent(USER_AGENT)
        .default_headers(headers)
        .build()
        .map_err(|error| RemoteError::Setup(root(&error)))
}

/// Refuses an address that is written as one, which no resolver sees.
fn check_literal(at: &At, reach: Reach, url: &Url) -> Result<(), RemoteError> {
    let host = url.host_str().unwrap_or_default();
    match literal(host) {
        Some(address) if !reach.permits(address) => {
            let refused = RefusedAddress { host: address.to_string(), address };
            Err(RemoteError::RefusedAddress { at: at.clone(), refused })
        }
        _ => Ok(()),
    }
}

/// Looks names up, and passes on the addresses that the reach permits.
struct Resolver {
    reach: Reach,
}

impl Resolve for Resolver {
    fn resolve(&self, name: Name) -> Resolving {
        let reach = self.reach;
        Box::pin(async move {
            let addresses = look_up(name.as_str()).await?;
            let permitted = permitted(reach, name.as_str(), addresses)?;
            let addresses: Addrs = Box::new(permitted.into_iter().map(|address| SocketAddr::new(address, 0)));
            Ok(addresses)
        })
    }
}

/// Keeps the addresses that the reach permits; an error where that is none of several.
fn permitted(reach: Reach, host: &str, addresses: Vec<IpAddr>) -> Result<Vec<IpAddr>, RefusedAddress> {
    let refused = addresses.iter().find(|address| !reach.permits(**address)).copied();
    let permitted: Vec<IpAddr> = addresses.into_iter().filter(|address| reach.permits(*address)).collect();
    match refused {
        Some(address) if permitted.is_empty() => Err(RefusedAddress { host: host.to_owned(), address }),
        _ => Ok(permitted),
    }
}

/// Looks up a host's addresses. `localhost` is this machine whatever a name server says, and what ends in `invalid` is nowhere
/// and is not asked about (RFC 6761, sections 6.3 and 6.4).
async fn look_up(host: &str) -> std::io::Result<Vec<IpAddr>> {
    if let Some(address) = literal(host) {
        return Ok(vec![address]);
    }
    let name = host.trim_end_matches('.').to_ascii_lowercase();
    if name == "invalid" || name.ends_with(".invalid") {
        return Err(std::io::Error::new(std::io::ErrorKind::NotFound, "there is no such name"));
    }
    if name == "localhost" {
        return Ok(vec![Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()]);
    }
    Ok(tokio::net::lookup_host((host, 0)).await?.map(|address| address.ip()).collect())
}

/// Returns the next bytes of a body; `None` at its end.
pub(super) async fn next_chunk(at: &At, response: &mut Response) -> Result<Option<Bytes>, RemoteError> {
    let Patience(patience) = Patience::of(response);
    match tokio::time::timeout(patience, response.chunk()).await {
        Ok(result) => result.map_err(|error| broken(at, response.url(), error)),
        Err(_) => Err(RemoteError::Stalled { at: at.clone(), waited: patience }),
    }
}

/// Writes a limit as people read it: limits are round.
pub(super) fn in_words(limit: u64) -> String {
    match limit {
        _ if limit >= 1 << 20 && limit.is_multiple_of(1 << 20) => format!("{} MiB", limit >> 20),
        _ if limit >= 1 << 10 && limit.is_multiple_of(1 << 10) => format!("{} KiB", limit >> 10),
        _ => format!("{limit} bytes"),
    }
}

/// Reads a whole body of at most `limit` bytes.
pub(super) async fn read_all(at: &At, response: Response, limit: u64) -> Result<Bytes, RemoteError> {
    let too_large = || RemoteError::TooLarge { at: at.clone(), limit: in_words(limit) };
    if response.content_length().is_some_and(|length| length > limit) {
        return Err(too_large());
    }
    let (body, whole) = read_up_to(at, response, limit).await?;
    if whole { Ok(body) } else { Err(too_large()) }
}

/// Reads a body up to `limit` bytes, and says whether that was all of it.
async fn read_up_to(at: &At, mut response: Response, limit: u64) -> Result<(Bytes, bool), RemoteError> {
    let whole = Patience::of(&response).0 * SMALL_BODY_PATIENCE;
    let received = AtomicU64::new(0);
    // A body that has to grow is there twice at times.
    let announced = response.content_length().unwrap_or_default().min(limit);
    let read = async {
        let mut body = BytesMut::with_capacity(usize::try_from(announced).unwrap_or_default());
        while let Some(chunk) = next_chunk(at, &mut response).await? {
            received.fetch_add(chunk.len() as u64, Ordering::Relaxed);
            let room = usize::try_from(limit).unwrap_or(usize::MAX).saturating_sub(body.len());
            body.extend_from_slice(chunk.get(..room).unwrap_or(&chunk));
            if chunk.len() > room {
                return Ok((body.freeze(), false));
            }
        }
        Ok((body.freeze(), true))
    };
    match tokio::time::timeout(whole, read).await {
        Ok(result) => result,
        Err(_) => Err(RemoteError::TooSlow { at: at.clone(), received: received.into_inner(), waited: whole }),
    }
}

/// Turns an answer that is no success into an error; `kind` is what a 404 says is not there.
pub(super) async fn failure(at: &At, user: Option<&str>, response: Response, kind: &'static str) -> RemoteError {
    let status = response.status();
    let retry_after = super::retry::retry_after(response.headers());
    let media_type = response.headers().get(CONTENT_TYPE).and_then(|value| value.to_str().ok());
    let is_text = media_type.is_some_and(|media_type| media_type.starts_with("text/plain"));
    // What the registry says is for people only; where it cannot be read the status must do.
    let body = read_up_to(at, response, MAX_ERROR_BODY).await.map(|(body, _)| body).unwrap_or_default();
    let (at, user, answer) = (at.clone(), user.map(str::to_owned), answer(&body, is_text));
    match status {
        StatusCode::UNAUTHORIZED => RemoteError::Unauthorized { at, user, answer },
        StatusCode::FORBIDDEN => RemoteError::Denied { at, user, answer },
        StatusCode::NOT_FOUND => RemoteError::NotFound { at, kind },
        StatusCode::TOO_MANY_REQUESTS => RemoteError::RateLimited { at, retry_after, answer },
        status if status.is_server_error() => RemoteError::Server { at, status: status.as_u16(), answer },
        status => RemoteError::Unexpected { at, status: status.as_u16(), answer },
    }
}

/// Reads the registry's own words from an error's body (distribution-spec, "Error Codes"); what stands before the
/// registry, or serves TLS where plain HTTP was spoken, says them in a line of text.
fn answer(body: &[u8], is_text: bool) -> Answer {
    let Ok(envelope) = serde_json::from_slice::<OciEnvelope>(body) else {
        let text = String::from_utf8_lossy(if is_text { body } else { &[] });
        return Answer(clean(text.lines().next().unwrap_or_default()));
    };
    let first = envelope.errors.into_iter().next();
    Answer(first.map_or_else(String::new, |error| {
        let code = serde_json::to_value(&error.code).ok();
        let code = code.as_ref().and_then(|code| code.as_str()).unwrap_or_default();
        clean(format!("{code}: {}", error.message).trim_matches([':', ' ']))
    }))
}

/// Translates an error of the HTTP client; an address that was refused comes out as such, and so does TLS that failed.
fn broken(at: &At, url: &Url, error: reqwest::Error) -> RemoteError {
    let at = at.clone();
    if let Some(fault) = TlsFault::of(&error) {
        return RemoteError::Tls { at, host: authority(url), fault };
    }
    // The URL may hold a storage service's signature.
    let error = error.without_url();
    let mut cause: Option<&(dyn std::error::Error + 'static)> = Some(&error);
    while let Some(this) = cause {
        if let Some(refused) = this.downcast_ref::<RefusedAddress>() {
            return RemoteError::RefusedAddress { at, refused: refused.clone() };
        }
        cause = this.source();
    }
    let (why, host) = (root(&error), authority(url));
    // What a registry led to has another name than the registry.
    let why = if at.registry == host { why } else { format!("{host}: {why}") };
    RemoteError::Unreachable { at, why }
}

/// Returns the innermost cause of an error, which says what happened; the outer ones say which layer noticed.
fn root(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(this) = cause {
        text = this.to_string();
        cause = this.source();
    }
    let words = text.split_once(" (os error ").map_or(text.as_str(), |(words, _)| words);
    clean(words)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_permitted_addresses_are_passed_on() {
        let [public, near]: [IpAddr; 2] = ["8.8.8.8", "127.0.0.1"].map(|text| text.parse().expect(text));
        assert_eq!(permitted(Reach::Public, "x", vec![public, near]), Ok(vec![public]));
        assert_eq!(permitted(Reach::Anywhere, "x", vec![public, near]), Ok(vec![public, near]));
        assert_eq!(permitted(Reach::Public, "x", vec![]), Ok(vec![]));
        let refused = RefusedAddress { host: "x".into(), address: near };
        assert_eq!(permitted(Reach::Private, "x", vec![near]), Err(refused));
    }

    #[tokio::test]
    async fn a_refused_name_is_told_from_one_that_is_not_there() {
        let clients = Clients::new(&RegistriesConfig::default()).expect("clients");
        let at = At { registry: "r".into(), what: "w".into() };
        for text in ["https://localhost:1/", "https://127.0.0.1:1/", "https://0x7f.1:1/", "https://[::ffff:7f00:1]:1/"]
        {
            let request = Request::new(http::Method::GET, Url::parse(text).expect(text));
            let result = clients.exchange(&at, Reach::Private, Whose::Other, request, &AtomicU64::new(0)).await;
            assert!(matches!(result, Err(RemoteError::RefusedAddress { .. })), "{text}: {result:?}");
        }
        // The discard port: nobody listens there.
        let request = Request::new(http::Method::GET, Url::parse("http://localhost:9/").expect("url"));
        let result = clients.exchange(&at, Reach::Anywhere, Whose::Other, request, &AtomicU64::new(0)).await;
        assert!(matches!(result, Err(RemoteError::Unreachable { .. })), "{result:?}");
    }

    #[test]
    fn answers_in_words() {
        let body = br#"{"errors":[{"code":"DENIED","message":"no\u001b"},{"code":"X"}]}"#;
        assert_eq!(answer(body, false).to_string(), ": DENIED: no");
        assert_eq!(answer(br#"{"errors":[{"code":"ODD_CODE"}]}"#, true).to_string(), ": ODD_CODE");
        for body in ["", "{", "[]", r#"{"errors":[]}"#, "<html>"] {
            assert_eq!(answer(body.as_bytes(), false).to_string(), "", "{body}");
        }
        assert_eq!(answer(b"page not found\n<more>", true).to_string(), ": page not found");
    }
}
