//! A registry on loopback whose answers a test writes itself.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::extract::Request;
use bytes::Bytes;
use futures_util::stream;
use http::{HeaderMap, Method, Response};
use larder_core::Repository;
use larder_core::manifest::{Manifest, OCI_MANIFEST};

use crate::config::{RegistriesConfig, RegistryConfig};
use crate::remote::{Access, RemoteRepository, Remotes};

/// A request as it came.
#[derive(Clone, Debug)]
pub(super) struct Seen {
    pub(super) method: Method,
    pub(super) path: String,
    pub(super) query: String,
    pub(super) headers: HeaderMap,
    pub(super) body: Bytes,
}

impl Seen {
    pub(super) fn header(&self, name: &str) -> &str {
        self.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
    }

    /// `GET /v2/…`, with the path after the repository `a/b`.
    pub(super) fn line(&self) -> String {
        format!("{} {}", self.method, self.path.trim_start_matches("/v2/a/b/"))
    }
}

/// The registry; it ends with the test's runtime.
pub(super) struct Upstream {
    pub(super) address: SocketAddr,
    seen: Arc<Mutex<Vec<Seen>>>,
}

impl Upstream {
    /// Starts a registry that answers by `answer`, which is told how many requests came before this one.
    pub(super) async fn start<F>(answer: F) -> Self
    where
        F: Fn(&Seen, usize) -> Response<Body> + Send + Sync + 'static,
    {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("bind");
        let address = listener.local_addr().expect("address");
        let seen: Arc<Mutex<Vec<Seen>>> = Arc::default();
        let (answer, log) = (Arc::new(answer), Arc::clone(&seen));
        let app = Router::new().fallback(async move |request: Request| {
            let (parts, body) = request.into_parts();
            let request = Seen {
                method: parts.method,
                path: parts.uri.path().into(),
                query: parts.uri.query().unwrap_or_default().into(),
                headers: parts.headers,
                body: to_bytes(body, 64 << 20).await.unwrap_or_default(),
            };
            let before = {
                let mut log = log.lock().expect("log");
                log.push(request.clone());
                log.len() - 1
            };
            answer(&request, before)
        });
        tokio::spawn(async move { axum::serve(listener, app).await });
        Self { address, seen }
    }

    /// What came so far.
    pub(super) fn seen(&self) -> Vec<Seen> {
        self.seen.lock().expect("log").clone()
    }

    /// What came so far, as lines.
    pub(super) fn lines(&self) -> Vec<String> {
        self.seen().iter().map(Seen::line).collect()
    }

    /// Its repository `a/b`, to be read.
    pub(super) fn repository(&self) -> RemoteRepository {
        self.repository_as(Access::Pull, RegistryConfig::default())
    }

    /// Its repository `a/b`, to be read, as the configuration says.
    pub(super) fn repository_by(&self, config: RegistriesConfig) -> RemoteRepository {
        let remotes = Remotes::new(config).expect("remotes");
        let name = Repository::new(&self.address.to_string(), "a/b").expect("name");
        remotes.repository(&name, Access::Pull).expect("repository")
    }

    /// Its repository `a/b`.
    pub(super) fn repository_as(&self, access: Access, config: RegistryConfig) -> RemoteRepository {
        let host = self.address.to_string();
        let registries = [(host.clone(), config)].into();
        let remotes = Remotes::new(RegistriesConfig { registries, concurrency: 2, ..RegistriesConfig::default() })
            .expect("remotes");
        remotes.repository(&Repository::new(&host, "a/b").expect("name"), access).expect("repository")
    }
}

/// An answer.
pub(super) fn answer(status: u16, headers: &[(&str, &str)], body: impl Into<Body>) -> Response<Body> {
    let mut response = Response::builder().status(status);
    for (name, value) in headers {
        response = response.header(*name, *value);
    }
    response.body(body.into()).expect("answer")
}

/// An answer that announces `length` bytes, sends `sent` and closes.
pub(super) fn broken(status: u16, headers: &[(&str, &str)], length: usize, sent: Bytes) -> Response<Body> {
    let mut headers = headers.to_vec();
    let length = length.to_string();
    headers.push(("content-length", &length));
    let pieces = stream::unfold(Some(sent), async |sent| match sent {
        Some(sent) if !sent.is_empty() => Some((Ok(sent), Some(Bytes::new()))),
        Some(_) => {
            // What was sent must have left before the connection is closed.
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
            Some((Err(std::io::Error::other("closed")), None))
        }
        None => None,
    });
    answer(status, &headers, Body::from_stream(pieces))
}

/// A manifest that the answers speak of.
pub(super) fn manifest(extra: &str) -> Manifest {
    let digest = larder_core::Digest::of(b"{}");
    let text = format!(
        r#"{{"schemaVersion":2,"mediaType":"{OCI_MANIFEST}","config":{{"mediaType":"application/vnd.oci.empty.v1+json","digest":"{digest}","size":2}},"layers":[]{extra}}}"#
    );
    Manifest::parse(text.into(), None).expect("manifest")
}
