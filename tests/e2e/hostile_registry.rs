//! A registry that means harm. Each: an end within a bound, memory within a bound, a clear error, nothing half-visible.

use std::io::Write as _;
use std::net::TcpStream;
use std::sync::Arc;
use std::time::{Duration, Instant};

use harness::hostile::{Asked, write_answer, write_head};
use harness::image::RawManifest;
use harness::{Daemon, Home, HostileRegistry, Image};
use larder_core::Digest;
use larder_core::manifest::OCI_MANIFEST;
use serde_json::json;

/// The time that a refusal may take: a few of the daemon's own timeouts, tries and pauses, on a slow machine.
const BOUND: Duration = Duration::from_secs(60);
/// The memory that it may take.
const MEMORY_KIB: u64 = 96 << 10;
/// What the daemon is told to wait for a registry that keeps silent.
pub(crate) const CONFIG: &str = "timeout = 2\n";

/// What a hostile registry serves where it is not hostile: an image.
pub(crate) struct Served {
    pub(crate) root: RawManifest,
    pub(crate) blobs: Vec<(Digest, bytes::Bytes)>,
}

impl Served {
    pub(crate) fn image(name: &str) -> Self {
        let image = Image::small(name);
        let blobs = image.blobs().iter().map(|blob| (Digest::of(blob), blob.clone())).collect();
        Self { root: image.root().clone(), blobs }
    }

    /// Answers as a registry should.
    pub(crate) fn answer(&self, asked: &Asked, stream: &mut TcpStream) -> std::io::Result<()> {
        let body = |found: &[u8]| if asked.method == "HEAD" { Vec::new() } else { found.to_vec() };
        let last = asked.path.rsplit('/').next().unwrap_or_default();
        if asked.path.contains("/manifests/") && (last == "1.0" || last == self.root.digest().to_string()) {
            let digest = format!("Docker-Content-Digest: {}", self.root.digest());
            let kind = format!("Content-Type: {}", self.root.media_type);
            if asked.method == "HEAD" {
                let length = format!("Content-Length: {}", self.root.bytes.len());
                return write_head(stream, "200 OK", &[&digest, &kind, &length]);
            }
            return write_answer(stream, "200 OK", &[&digest, &kind], &self.root.bytes);
        }
        match self.blobs.iter().find(|(digest, _)| last == digest.to_string()) {
            Some((_, bytes)) => write_answer(stream, "200 OK", &[], &body(bytes)),
            None => write_answer(stream, "404 Not Found", &[], b"{}"),
        }
    }
}

/// A daemon, and what is asserted of it.
pub(crate) struct Victim {
    pub(crate) daemon: Daemon,
    pub(crate) home: Home,
    /// The most memory that the daemon may have taken, in KiB.
    pub(crate) memory_kib: u64,
}

impl Victim {
    pub(crate) fn start() -> Self {
        Self::in_home(Home::with_config(CONFIG))
    }

    /// Starts the daemon in a home whose configuration has [`CONFIG`].
    pub(crate) fn in_home(home: Home) -> Self {
        let daemon = home.start();
        Self { daemon, home, memory_kib: MEMORY_KIB }
    }

    /// Runs the client against the registry; it must end in time, in a clear error that says `noun`, and change nothing.
    #[track_caller]
    pub(crate) fn refuses(&mut self, arguments: &[&str], noun: &str) {
        let begun = Instant::now();
        let output = self.home.larder(arguments);
        let took = begun.elapsed();
        assert_eq!(output.code, 1, "exit code\n{}{}", output.stdout, output.stderr);
        output.is_a_clear_error(noun);
        assert!(took < BOUND, "it took {took:?}");
        self.is_unharmed();
    }

    #[track_caller]
    pub(crate) fn is_unharmed(&mut self) {
        self.daemon.assert_up();
        let peak = self.daemon.memory_kib("VmHWM");
        println!("at its peak larderd had {} MiB", peak >> 10);
        assert!(peak < self.memory_kib, "{peak} KiB at the peak");
        assert!(self.daemon.client().list().is_empty(), "something became visible");
        assert_eq!(self.daemon.client().status().seq, 0, "something is on record");
        self.home.assert_blobs_are_whole();
    }
}

pub(crate) fn reference(registry: &HostileRegistry) -> String {
    format!("{}/store/app:1.0", registry.host())
}

#[test]
fn names_that_are_paths() {
    let registry = HostileRegistry::start(|_, stream| {
        let tags = json!({"name": "x", "tags": ["../../../etc/passwd", "..", "a/b", "1.0", "\u{1b}[31m", ""]});
        write_answer(stream, "200 OK", &[], tags.to_string().as_bytes())
    });
    let mut victim = Victim::start();
    let list = victim.home.larder(["ls", "--remote", &format!("{}/store/app", registry.host())]).exits(0);
    assert_eq!(list.stdout.trim(), "1.0");
    victim.is_unharmed();
}

#[test]
fn lengths_that_lie() {
    let served = Arc::new(Served::image("lengths"));
    for (kind, delta) in [("manifests", 7_i64), ("manifests", -7), ("blobs", 7), ("blobs", -7)] {
        let image = Arc::clone(&served);
        let registry = HostileRegistry::start(move |asked, stream| {
            if asked.method != "GET" || !asked.path.contains(kind) {
                return image.answer(asked, stream);
            }
            let bytes = image.blobs.iter().find(|(digest, _)| asked.path.ends_with(&digest.to_string()));
            let bytes = bytes.map_or(&image.root.bytes, |(_, bytes)| bytes);
            let length = i64::try_from(bytes.len()).unwrap_or(i64::MAX) + delta;
            let media_type = format!("Content-Type: {}", image.root.media_type);
            write_head(stream, "200 OK", &[&format!("Content-Length: {length}"), &media_type])?;
            stream.write_all(bytes)
        });
        let mut victim = Victim::start();
        victim.refuses(&["pull", &reference(&registry)], if kind == "blobs" { "bytes" } else { "store/app" });
    }
}

#[test]
fn a_body_that_trickles() {
    for kind in ["/manifests/", "/blobs/"] {
        let image = Served::image("trickle");
        let registry = HostileRegistry::start(move |asked, stream| {
            if !asked.path.contains(kind) || asked.method == "HEAD" {
                return image.answer(asked, stream);
            }
            let blob = image.blobs.iter().find(|(digest, _)| asked.path.ends_with(&digest.to_string()));
            let length = blob.map_or(image.root.bytes.len(), |(_, bytes)| bytes.len());
            let media_type = format!("Content-Type: {}", image.root.media_type);
            write_head(stream, "200 OK", &[&format!("Content-Length: {length}"), &media_type])?;
            for _ in 0..length {
                stream.write_all(b"x")?;
                std::thread::sleep(Duration::from_millis(500));
            }
            Ok(())
        });
        let mut victim = Victim::start();
        victim.refuses(&["pull", &reference(&registry)], "slow");
    }
}

#[test]
fn silence() {
    let registry = HostileRegistry::start(|_, _| {
        std::thread::sleep(Duration::from_secs(30));
        Ok(())
    });
    let mut victim = Victim::start();
    victim.refuses(&["pull", &reference(&registry)], "2 s");
}

#[test]
fn compression_that_nobody_asked_for() {
    // A small gzip stream of zeros; as a bomb it would be gigabytes.
    let gzip =
        [31, 139, 8, 0, 0, 0, 0, 0, 0, 3, 99, 96, 24, 5, 163, 96, 20, 12, 119, 0, 0, 46, 175, 181, 239, 0, 4, 0, 0];
    for kind in ["/manifests/", "/blobs/", "/tags/"] {
        let image = Served::image("gzip");
        let registry = HostileRegistry::start(move |asked, stream| {
            if !asked.path.contains(kind) || asked.method == "HEAD" {
                return image.answer(asked, stream);
            }
            let media_type = format!("Content-Type: {}", image.root.media_type);
            write_answer(stream, "200 OK", &["Content-Encoding: gzip", &media_type], &gzip)
        });
        let mut victim = Victim::start();
        if kind == "/tags/" {
            victim.refuses(&["ls", "--remote", &format!("{}/store/app", registry.host())], "store/app");
        } else {
            victim.refuses(&["pull", &reference(&registry)], "store/app");
        }
    }
}

#[test]
fn a_digest_header_that_lies() {
    let (told, given) = (Served::image("told"), Served::image("given"));
    let registry = HostileRegistry::start(move |asked, stream| {
        if asked.path.contains("/manifests/") && asked.method == "GET" {
            let digest = format!("Docker-Content-Digest: {}", told.root.digest());
            return write_answer(
                stream,
                "200 OK",
                &[&digest, &format!("Content-Type: {OCI_MANIFEST}")],
                &given.root.bytes,
            );
        }
        told.answer(asked, stream)
    });
    let mut victim = Victim::start();
    victim.refuses(&["pull", &reference(&registry)], "digest");
}

#[test]
fn more_than_any_disk_holds() {
    let config = b"{}";
    let layer = Digest::of(b"nobody has these bytes");
    let manifest = json!({"schemaVersion": 2, "mediaType": OCI_MANIFEST,
        "config": {"mediaType": "application/vnd.oci.image.config.v1+json", "digest": Digest::of(config).to_string(), "size": 2},
        "layers": [{"mediaType": "application/vnd.oci.image.layer.v1.tar", "digest": layer.to_string(), "size": 1_u64 << 60}]});
    let root = RawManifest { media_type: OCI_MANIFEST.to_owned(), bytes: manifest.to_string().into() };
    let image = Served { root, blobs: vec![(Digest::of(config), bytes::Bytes::from_static(config))] };
    let registry = HostileRegistry::start(move |asked, stream| {
        if asked.path.ends_with(&layer.to_string()) {
            write_head(stream, "200 OK", &[&format!("Content-Length: {}", 1_u64 << 60)])?;
            loop {
                stream.write_all(&[0; 65536])?;
            }
        }
        image.answer(asked, stream)
    });
    let mut victim = Victim::start();
    victim.refuses(&["pull", &reference(&registry)], "free");
    assert!(!registry.asked().iter().any(|line| line.contains(&layer.to_string())), "it was asked for");
}

#[test]
fn a_way_back_to_the_daemon_itself() {
    let mut victim = Victim::start();
    // What a stranger may not read is there for the daemon's own uid.
    let http = victim.daemon.http();
    let own = victim.daemon.endpoint().to_owned();
    for place in [format!("http://{own}/v2/"), format!("http://localhost:{}/v2/", own.rsplit(':').next().unwrap_or(""))]
    {
        let image = Served::image("back");
        let registry = HostileRegistry::start(move |asked, stream| {
            if asked.path.contains("/blobs/") {
                return write_answer(stream, "307 Temporary Redirect", &[&format!("Location: {place}")], b"");
            }
            image.answer(asked, stream)
        });
        victim.refuses(&["pull", &reference(&registry)], "larderd itself");
    }
    victim.refuses(&["pull", &format!("{own}/store/app:1.0")], "larderd itself");
    http.get("/v2/").is(200);
}

#[test]
fn a_token_that_never_satisfies() {
    let registry = HostileRegistry::start(|asked, stream| {
        if asked.path.starts_with("/token") {
            return write_answer(stream, "200 OK", &[], br#"{"token":"t","expires_in":60}"#);
        }
        let realm = "WWW-Authenticate: Bearer realm=\"/token\",service=\"x\"";
        write_answer(stream, "401 Unauthorized", &[realm], b"{}")
    });
    let mut victim = Victim::start();
    victim.refuses(&["pull", &reference(&registry)], "store/app");
    assert!(registry.count() < 20, "{}", registry.count());
}

#[test]
fn a_token_realm_where_none_may_be() {
    for realm in
        ["http://169.254.169.254/token", "http://[fe80::1]/token", "file:///etc/passwd", "http://user:pw@localhost/"]
    {
        let registry = HostileRegistry::start(move |_, stream| {
            let challenge = format!("WWW-Authenticate: Bearer realm=\"{realm}\",service=\"x\"");
            write_answer(stream, "401 Unauthorized", &[&challenge], b"{}")
        });
        let mut victim = Victim::start();
        victim.refuses(&["pull", &reference(&registry)], "store/app");
    }
}

#[test]
fn what_is_no_http() {
    for bytes in
        [&b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"[..], b"SSH-2.0-OpenSSH_9.2\r\n", b"HTTP/1.1 200 OK\r\n", b""]
    {
        let registry = HostileRegistry::start(move |_, stream| stream.write_all(bytes));
        let mut victim = Victim::start();
        victim.refuses(&["pull", &reference(&registry)], "store/app");
    }
    // A head without end.
    let registry = HostileRegistry::start(|_, stream| {
        stream.write_all(b"HTTP/1.1 200 OK\r\n")?;
        loop {
            stream.write_all(&[b'a'; 4096])?;
        }
    });
    let mut victim = Victim::start();
    victim.refuses(&["pull", &reference(&registry)], "store/app");
}
