//! A registry in memory that does as it is told, misbehaviour included.

mod routes;

use std::collections::{BTreeMap, HashMap};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::extract::{Request, State as Shared};
use axum::response::Response;
use bytes::Bytes;
use futures_util::StreamExt;
use http::HeaderValue;
use http::header::{AUTHORIZATION, CONTENT_LENGTH, CONTENT_TYPE, LOCATION};
use larder_core::Digest;

use crate::image::{Content, digest_tag};
use crate::{block, runtime};
use routes::{error, respond, with};

/// The largest body that is taken.
const BODY: usize = 64 << 20;
/// The token that the bearer mode gives to who knows the password.
const TOKEN: &str = "a-token-of-the-fake-registry";

/// How requests are to be authorised.
#[derive(Clone, Debug, Default)]
pub enum Auth {
    /// Not at all.
    #[default]
    Anonymous,
    /// By user and password.
    Basic(String, String),
    /// By a token that `/token` gives for user and password.
    Bearer(String, String),
}

/// What goes wrong with a request.
#[derive(Clone, Debug)]
pub enum Fault {
    /// This status, with an error envelope.
    Status(u16),
    /// Announces the whole, sends so many bytes, and closes.
    CloseAfter(usize),
    /// Other bytes, under the right headers (but the length).
    Bytes(Bytes),
    /// 307 to this place.
    Redirect(String),
    /// Another media type.
    ContentType(String),
    /// No answer until [`FakeRegistry::release`].
    Hold,
}

/// A request that came.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seen {
    /// GET, HEAD, PUT, …
    pub method: String,
    /// Path and query.
    pub path: String,
    /// The `Authorization` header.
    pub authorization: Option<String>,
}

#[derive(Debug, Default)]
struct Repository {
    manifests: HashMap<String, (String, Bytes)>,
    blobs: HashMap<String, Bytes>,
    tags: BTreeMap<String, String>,
}

#[derive(Debug)]
struct Rule {
    method: String,
    part: String,
    fault: Fault,
    left: usize,
}

#[derive(Debug, Default)]
struct Inner {
    repositories: HashMap<String, Repository>,
    rules: Vec<Rule>,
    seen: Vec<Seen>,
    auth: Auth,
    referrers: bool,
    uploads: HashMap<String, Vec<u8>>,
    next_upload: u64,
    /// The most tags of a page; 0 is 2.
    page: usize,
}

#[derive(Debug)]
struct World {
    inner: Mutex<Inner>,
    release: tokio::sync::watch::Sender<u64>,
    address: SocketAddr,
}

impl World {
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The registry; it listens until it is dropped.
#[derive(Debug)]
pub struct FakeRegistry {
    world: Arc<World>,
    task: tokio::task::JoinHandle<()>,
}

impl FakeRegistry {
    /// Starts one without the referrers API, as Debian's is.
    pub fn start() -> Self {
        Self::start_with(false)
    }

    /// Starts one with the referrers API.
    pub fn start_with_referrers() -> Self {
        Self::start_with(true)
    }

    fn start_with(referrers: bool) -> Self {
        let listener = block(tokio::net::TcpListener::bind("127.0.0.1:0")).expect("a port of loopback");
        let address = listener.local_addr().expect("its address");
        let inner = Mutex::new(Inner { referrers, ..Inner::default() });
        let world = Arc::new(World { inner, release: tokio::sync::watch::channel(0).0, address });
        let router = Router::new().fallback(answer).with_state(Arc::clone(&world));
        let task = runtime().spawn(async move {
            let _ = axum::serve(listener, router).await;
        });
        Self { world, task }
    }

    /// Returns `127.0.0.1:PORT`.
    pub fn host(&self) -> String {
        self.world.address.to_string()
    }

    /// Returns `127.0.0.1:PORT/REPOSITORY:TAG`.
    pub fn reference(&self, repository: &str, tag: &str) -> String {
        format!("{}/{repository}:{tag}", self.host())
    }

    /// Returns `127.0.0.1:PORT/REPOSITORY@DIGEST`.
    pub fn at(&self, repository: &str, digest: &Digest) -> String {
        format!("{}/{repository}@{digest}", self.host())
    }

    /// Asks for authorisation from now on.
    pub fn require(&self, auth: Auth) {
        self.world.lock().auth = auth;
    }

    /// Lists so many tags a page from now on, and no longer two.
    pub fn pages_of(&self, tags: usize) {
        self.world.lock().page = tags;
    }

    /// Puts content and tags its root.
    pub fn put(&self, repository: &str, tag: &str, content: &Content) {
        self.put_untagged(repository, content);
        let root = content.root();
        self.put_manifest(repository, Some(tag), &root.media_type, root.bytes.clone());
    }

    /// Puts content under its digests only.
    pub fn put_untagged(&self, repository: &str, content: &Content) {
        for blob in content.blobs() {
            self.put_blob(repository, &Digest::of(blob).to_string(), blob.clone());
        }
        for manifest in content.manifests() {
            self.put_manifest(repository, None, &manifest.media_type, manifest.bytes.clone());
        }
    }

    /// Puts a signature image at the `.sig` tag of a digest.
    pub fn put_signature(&self, repository: &str, digest: &Digest, signature: &Content) {
        self.put(repository, &digest_tag(digest, ".sig"), signature);
    }

    /// Puts one blob under a digest, the right one or not.
    pub fn put_blob(&self, repository: &str, digest: &str, bytes: Bytes) {
        let mut inner = self.world.lock();
        inner.repositories.entry(repository.to_owned()).or_default().blobs.insert(digest.to_owned(), bytes);
    }

    /// Puts one manifest, and a tag on it.
    pub fn put_manifest(&self, repository: &str, tag: Option<&str>, media_type: &str, bytes: Bytes) {
        self.put_manifest_as(repository, tag, &Digest::of(&bytes).to_string(), media_type, bytes);
    }

    /// Puts one manifest under a digest, the right one or not.
    pub fn put_manifest_as(&self, repository: &str, tag: Option<&str>, digest: &str, media_type: &str, bytes: Bytes) {
        let mut inner = self.world.lock();
        let held = inner.repositories.entry(repository.to_owned()).or_default();
        held.manifests.insert(digest.to_owned(), (media_type.to_owned(), bytes));
        if let Some(tag) = tag {
            held.tags.insert(tag.to_owned(), digest.to_owned());
        }
    }

    /// Returns the digest that a tag names.
    pub fn tag(&self, repository: &str, tag: &str) -> Option<String> {
        self.world.lock().repositories.get(repository)?.tags.get(tag).cloned()
    }

    /// Says whether a manifest or blob is there.
    pub fn holds(&self, repository: &str, digest: &Digest) -> bool {
        let digest = digest.to_string();
        let inner = self.world.lock();
        let held = inner.repositories.get(repository);
        held.is_some_and(|held| held.manifests.contains_key(&digest) || held.blobs.contains_key(&digest))
    }

    /// Lets the next `times` requests of a method (`*` for any) whose path contains `part` go wrong.
    pub fn fault(&self, method: &str, part: &str, fault: Fault, times: usize) {
        let rule = Rule { method: method.to_owned(), part: part.to_owned(), fault, left: times };
        self.world.lock().rules.push(rule);
    }

    /// Lets all go well again.
    pub fn mend(&self) {
        self.world.lock().rules.clear();
        self.release();
    }

    /// Answers what is held.
    pub fn release(&self) {
        self.world.release.send_modify(|count| *count += 1);
    }

    /// Returns the requests since the last time, and forgets them.
    pub fn take_seen(&self) -> Vec<Seen> {
        std::mem::take(&mut self.world.lock().seen)
    }

    /// Returns the requests so far.
    pub fn seen(&self) -> Vec<Seen> {
        self.world.lock().seen.clone()
    }
}

impl Drop for FakeRegistry {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn answer(Shared(world): Shared<Arc<World>>, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    let path = parts.uri.path_and_query().map(ToString::to_string).unwrap_or_default();
    let authorization = parts.headers.get(AUTHORIZATION).and_then(|value| value.to_str().ok()).map(str::to_owned);
    let kind = parts.headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default().to_owned();
    let (fault, mut released) = {
        let mut inner = world.lock();
        inner.seen.push(Seen {
            method: parts.method.to_string(),
            path: path.clone(),
            authorization: authorization.clone(),
        });
        // Subscribed while nothing can be released: what is held from here on is released by the next release.
        (inner.take_fault(parts.method.as_str(), &path), world.release.subscribe())
    };
    let body = to_bytes(Body::new(body), BODY).await.unwrap_or_default();
    match fault {
        Some(Fault::Status(status)) => return error(status, "TOLD", "as the test told"),
        Some(Fault::Redirect(place)) => return with(respond(307, "", Bytes::new()), LOCATION.as_str(), &place),
        Some(Fault::Hold) => {
            let _ = released.changed().await;
        }
        _ => {}
    }
    let response = world.lock().route(&world.address, &parts.method, &path, authorization.as_deref(), &kind, body);
    match fault {
        Some(Fault::CloseAfter(count)) => cut(response, count).await,
        Some(Fault::Bytes(bytes)) => {
            let (mut parts, _) = response.into_parts();
            parts.headers.insert(CONTENT_LENGTH, HeaderValue::from(bytes.len()));
            Response::from_parts(parts, Body::from(bytes))
        }
        Some(Fault::ContentType(kind)) => with(response, CONTENT_TYPE.as_str(), &kind),
        _ => response,
    }
}

/// Sends the announced length, fewer bytes, and an error that makes the server close.
async fn cut(response: Response, count: usize) -> Response {
    let (mut parts, body) = response.into_parts();
    let bytes = to_bytes(body, BODY).await.unwrap_or_default();
    parts.headers.insert(CONTENT_LENGTH, HeaderValue::from(bytes.len()));
    let first = Ok(bytes.slice(..count.min(bytes.len())));
    let then = Err(std::io::Error::other("closed, as the test told"));
    let stream = futures_util::stream::iter([first, then]).then(|chunk| async {
        tokio::task::yield_now().await;
        chunk
    });
    Response::from_parts(parts, Body::from_stream(stream))
}

impl Inner {
    fn take_fault(&mut self, method: &str, path: &str) -> Option<Fault> {
        let matches = |rule: &&mut Rule| {
            rule.left > 0 && (rule.method == "*" || rule.method == method) && path.contains(&rule.part)
        };
        let rule = self.rules.iter_mut().find(matches)?;
        rule.left -= 1;
        Some(rule.fault.clone())
    }
}

#[cfg(test)]
mod tests {
    use base64::Engine;
    use base64::engine::general_purpose::STANDARD;

    use http::Method;

    use super::routes::basic;
    use super::*;
    use crate::http::Http;
    use crate::image::Image;
    use crate::signer::Signer;

    #[test]
    fn what_is_pushed_is_read_and_paged() {
        let registry = FakeRegistry::start();
        let (http, image) = (Http::new(&registry.host()), Image::small("self"));
        for tag in ["a", "b", "c"] {
            http.push("x/y", tag, &image);
        }
        assert_eq!(http.manifest("x/y", "b").is(200).body, image.root().bytes);
        assert_eq!(http.blob("x/y", &image.top_layer()).is(200).body, image.blobs()[2]);
        let page = http.get("/v2/x/y/tags/list").is(200);
        assert!(page.text().contains("[\"a\",\"b\"]") && page.header("link").contains("last=b"), "{}", page.text());
        assert!(http.get("/v2/x/y/tags/list?last=b").is(200).text().contains("[\"c\"]"));
        http.manifest("x/y", "none").is(404);
        http.get(&format!("/v2/x/y/referrers/{}", image.digest())).is(404);
        http.put_blob("x/y", &Digest::of(b"other"), Bytes::from_static(b"bytes")).is(400);
    }

    #[test]
    fn faults_come_as_often_as_told() {
        let registry = FakeRegistry::start();
        let (http, image) = (Http::new(&registry.host()), Image::small("self"));
        registry.put("x/y", "a", &image);
        registry.fault("GET", "/manifests/a", Fault::Status(429), 2);
        let statuses: Vec<_> = (0..3).map(|_| http.manifest("x/y", "a").status).collect();
        assert_eq!(statuses, [429, 429, 200]);
        let path = format!("/v2/x/y/blobs/{}", image.top_layer());
        registry.fault("GET", "/blobs/", Fault::CloseAfter(100), 1);
        http.try_send(Method::GET, &path, "", Bytes::new()).expect_err("cut off");
        registry.fault("GET", "/blobs/", Fault::Bytes(Bytes::from_static(b"wrong")), 1);
        assert_eq!(http.get(&path).is(200).body, "wrong");
        assert_eq!(http.get(&path).is(200).body, image.blobs()[2]);
        registry.require(Auth::Basic("a".to_owned(), "b".to_owned()));
        http.get(&path).is(401);
        http.with("authorization", &basic("a", "b")).get(&path).is(200);
    }

    #[test]
    fn referrers_of_a_subject() {
        let registry = FakeRegistry::start_with_referrers();
        let (http, image) = (Http::new(&registry.host()), Image::small("self"));
        let sbom = Image::new("sbom").layer("{}").subject(&image, "application/spdx+json").build();
        http.push("x/y", "a", &image);
        http.push_by_digest("x/y", &sbom);
        let found = http.get(&format!("/v2/x/y/referrers/{}", image.digest())).is(200).text();
        assert!(found.contains(&sbom.digest().to_string()) && found.contains("application/spdx+json"), "{found}");
    }

    #[test]
    fn signatures_are_openssls_too() {
        let (signer, folder) = (Signer::new("self"), tempfile::tempdir().expect("a folder"));
        let signature = signer.sign(&Digest::of(b"an image"));
        let raw = STANDARD.decode(&signature.base64).expect("base64");
        let file = |name: &str, bytes: &[u8]| {
            let path = folder.path().join(name);
            std::fs::write(&path, bytes).expect("a file");
            path
        };
        let (key, sig) = (file("key", signer.public_pem().as_bytes()), file("sig", &raw));
        let payload = file("payload", &signature.payload);
        let verified = std::process::Command::new("openssl")
            .args(["dgst", "-sha256", "-verify"])
            .arg(key)
            .arg("-signature")
            .args([sig, payload])
            .output();
        // Where there is no openssl, cosign judges the same in `tests/interop`.
        if let Ok(output) = verified {
            assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
        }
    }
}
