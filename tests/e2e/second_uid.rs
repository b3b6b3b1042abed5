//! Another account on the same machine, with a real second uid: without the token it can neither read nor write.
//!
//! The stranger is this test binary, executed again under another uid ([`as_a_stranger`]), and `larder` itself.

use std::fs::{self, Permissions};
use std::io::{ErrorKind, Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use harness::{Bounded, Home, Image, PATIENCE, Raw, binaries};
use larder_core::Digest;
use larder_core::manifest::OCI_MANIFEST;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::gate;
use crate::world::World;

/// An ordinary user's uid, and nobody's, which the kernel also shows for those that have none in a namespace.
const UIDS: [u32; 2] = [54_321, 65_534];
/// What the lines of a stranger's report begin with, to tell them from those of the test runner.
const REPORT: &str = "REPORT ";

/// Somebody else, with copies of the programs where that account can execute them.
pub(crate) struct Stranger {
    pub(crate) uid: u32,
    folder: TempDir,
}

impl Stranger {
    /// Both strangers; none, and a loud word, where this test does not run as root and cannot be somebody else.
    pub(crate) fn all() -> Vec<Self> {
        if !rustix::process::geteuid().is_root() {
            harness::not_tested("only root can be another uid; run the tests as root to test strangers");
            return Vec::new();
        }
        UIDS.map(Self::new).into()
    }

    fn new(uid: u32) -> Self {
        let folder = tempfile::Builder::new().prefix("stranger-").tempdir().expect("a folder");
        fs::set_permissions(folder.path(), Permissions::from_mode(0o755)).expect("a mode");
        for (name, program) in
            [("larder", binaries().larder.clone()), ("e2e", std::env::current_exe().expect("this program"))]
        {
            fs::copy(program, folder.path().join(name)).expect("a copy");
        }
        Self { uid, folder }
    }

    fn command(&self, program: &str) -> Command {
        let mut command = Command::new(self.folder.path().join(program));
        // Setting a uid also drops the supplementary groups where root does it.
        command.uid(self.uid).gid(self.uid).env_clear().env("PATH", "/usr/bin:/bin").current_dir("/");
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    /// Does things as the stranger; one report each.
    #[track_caller]
    pub(crate) fn does(&self, deeds: &[Value]) -> Vec<Value> {
        let mut command = self.command("e2e");
        command.args(["--exact", "second_uid::as_a_stranger", "--ignored", "--nocapture", "--test-threads", "1"]);
        let mut child = command.spawn().expect("this program again");
        let bytes = Value::from(deeds.to_vec()).to_string();
        child.stdin.take().expect("a pipe").write_all(bytes.as_bytes()).expect("its deeds");
        let output = child.wait_with_output().expect("its end");
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let reports: Vec<_> = text
            .lines()
            .filter_map(|line| line.split_once(REPORT))
            .map(|(_, report)| serde_json::from_str(report).expect("a report"))
            .collect();
        let talk = String::from_utf8_lossy(&output.stderr);
        assert_eq!(reports.len(), deeds.len(), "uid {}: {text}{talk}", self.uid);
        reports
    }

    /// Runs the client as the stranger.
    fn larder(&self, home: &Path, socket: Option<&Path>, arguments: &[&str]) -> Output {
        let mut command = self.command("larder");
        command.args(arguments).env("LARDER_HOME", home).env("LARDER_ENDPOINT", "off").stdin(Stdio::null());
        if let Some(socket) = socket {
            command.env("LARDER_SOCKET", socket);
        }
        command.output().expect("larder can be run")
    }
}

fn request(endpoint: &str, line: &str, headers: &str, body: &[u8]) -> Value {
    json!({"http": endpoint, "line": line, "headers": headers, "body": STANDARD.encode(body)})
}

#[test]
#[ignore = "what the other tests here execute under another uid; by itself it has nothing to do"]
fn as_a_stranger() {
    let mut deeds = String::new();
    std::io::stdin().read_to_string(&mut deeds).expect("deeds");
    let deeds: Vec<Value> = serde_json::from_str(&deeds).expect("deeds as JSON, by the tests that execute this one");
    for deed in deeds {
        let report = if let Some(endpoint) = deed["http"].as_str() {
            send(endpoint, &deed)
        } else if let Some(endpoint) = deed["hoard"].as_str() {
            hoard(endpoint, deed["count"].as_u64().unwrap_or_default(), deed["head"].as_str().unwrap_or_default())
        } else if let Some(path) = deed["read"].as_str() {
            let list = || fs::read_dir(path).map(|entries| entries.count()).map_err(|error| error.kind());
            json!(match fs::read(path) {
                Err(error) if error.kind() == ErrorKind::IsADirectory => format!("{:?}", list()),
                read => format!("{:?}", read.map(|bytes| bytes.len()).map_err(|error| error.kind())),
            })
        } else {
            json!(speak(deed["socket"].as_str().expect("a socket")))
        };
        println!("\n{REPORT}{report}");
    }
}

fn send(endpoint: &str, deed: &Value) -> Value {
    let text = |name: &str| deed[name].as_str().unwrap_or_default().to_owned();
    let body = STANDARD.decode(text("body")).expect("base64");
    let head_only = text("line").starts_with("HEAD");
    let mut connection = Raw::connect(endpoint);
    let head = format!(
        "{} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {}\r\n{}\r\n",
        text("line"),
        body.len(),
        text("headers")
    );
    connection.send(head);
    connection.send(body);
    // To HEAD there is an answer without the body whose length it tells.
    let answer = if head_only { connection.head().map(|head| (head, Vec::new())) } else { connection.answer() };
    match answer {
        Some((head, body)) => json!({"status": head.status, "location": head.header("location"),
            "body": String::from_utf8_lossy(&body)}),
        None => json!({"status": 0}),
    }
}

/// Opens connections, sends the same half of a head on each, and holds them until the other side closes.
fn hoard(endpoint: &str, count: u64, head: &str) -> Value {
    let begun = Instant::now();
    let mut held: Vec<_> = (0..count).filter_map(|_| Raw::try_connect(endpoint).ok()).collect();
    for connection in &mut held {
        connection.send(head);
    }
    let closed = held.iter_mut().filter_map(|connection| connection.closes_within(PATIENCE).then_some(())).count();
    json!({"held": held.len(), "closed": closed, "seconds": begun.elapsed().as_secs()})
}

/// Begins to speak HTTP/2 at a socket and says what comes back.
fn speak(socket: &str) -> String {
    let mut stream = match UnixStream::connect(socket) {
        Ok(stream) => stream,
        Err(error) => return format!("not connected: {:?}", error.kind()),
    };
    let _ = stream.set_read_timeout(Some(Duration::from_secs(20)));
    let _ = stream.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0");
    let mut answer = Vec::new();
    match stream.read_to_end(&mut answer) {
        Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
            format!("it stays open after {} bytes", answer.len())
        }
        _ => format!("closed after {} bytes", answer.len()),
    }
}

#[test]
fn without_the_token_a_stranger_neither_reads_nor_writes_at_the_endpoint() {
    let strangers = Stranger::all();
    let mut world = World::start();
    gate::edit(&world.daemon.client(), || world.home.trust().policy_static("all", "**", "pass"));
    let (image, intruder) = (Image::small("kept"), Image::small("intruder"));
    world.daemon.http().push("team/app", "1.0", &image);
    let token = fs::read_to_string(world.home.path().join("endpoint.token")).expect("the token");
    for stranger in strangers {
        let bounded = Bounded::begin(&world.daemon);
        let endpoint = world.daemon.endpoint();
        let blob = format!("/v2/team/app/blobs/{}", image.top_layer());
        let basic = |password: &str| format!("Authorization: Basic {}\r\n", STANDARD.encode(format!("x:{password}")));
        let manifest = format!("Content-Type: {OCI_MANIFEST}\r\n");
        let root = &intruder.root().bytes;
        let whole = format!("POST /v2/team/app/blobs/uploads/?digest={}", Digest::of(b"stranger"));
        let deeds = |authorization: &str| {
            let put = format!("{manifest}{authorization}");
            [
                request(endpoint, "GET /v2/", authorization, b""),
                request(endpoint, "GET /v2/team/app/manifests/1.0", authorization, b""),
                request(endpoint, &format!("GET {blob}"), authorization, b""),
                request(endpoint, &format!("HEAD {blob}"), authorization, b""),
                request(endpoint, "GET /v2/team/app/tags/list", authorization, b""),
                request(endpoint, &format!("GET /v2/team/app/referrers/{}", image.digest()), authorization, b""),
                request(endpoint, "POST /v2/team/app/blobs/uploads/", authorization, b""),
                request(endpoint, &whole, authorization, b"stranger"),
                request(endpoint, "PUT /v2/team/app/manifests/2.0", &put, root),
                request(endpoint, "PATCH /v2/team/app/blobs/uploads/0123456789abcdef", authorization, b"x"),
            ]
        };
        let wrong = [
            String::new(),
            basic("wrong"),
            basic(""),
            format!("Authorization: Bearer {}\r\n", token.trim()),
            // Two of them: which would count?
            format!("{}{}", basic("wrong"), basic(token.trim())),
        ];
        for authorization in &wrong {
            for (deed, report) in deeds(authorization).iter().zip(stranger.does(&deeds(authorization))) {
                assert_eq!(report["status"], 401, "uid {}: {deed}: {report}", stranger.uid);
                assert!(!report["body"].as_str().unwrap_or_default().contains("digest\":"), "{report}");
            }
        }
        assert!(!world.home.blob(&Digest::of(b"stranger")).exists(), "nothing was written");
        world.daemon.http().manifest("team/app", "2.0").is(404);

        // With the token it is as any client.
        let reports = stranger.does(&deeds(&basic(token.trim())));
        let statuses: Vec<_> = reports.iter().map(|report| report["status"].as_u64().unwrap_or_default()).collect();
        assert_eq!(statuses, [200, 200, 200, 200, 200, 200, 202, 201, 404, 404], "{reports:?}");
        let body = reports[1]["body"].as_str().expect("a manifest").as_bytes();
        assert_eq!(body, &image.root().bytes[..]);
        let written = world.home.blob(&Digest::of(b"stranger"));
        assert!(written.exists());
        fs::remove_file(written).expect("for the next stranger");
        bounded.end("a stranger at the endpoint");
        world.daemon.assert_up();
    }
}

#[test]
fn a_stranger_reads_nothing_of_the_home_and_does_not_reach_the_socket_in_it() {
    let strangers = Stranger::all();
    let world = World::start();
    let image = Image::small("kept");
    world.daemon.http().push("team/app", "1.0", &image);
    // The folder above is no protection of ours.
    let above = world.home.path().parent().map(PathBuf::from).expect("a folder above");
    fs::set_permissions(above, Permissions::from_mode(0o755)).expect("a mode");
    for stranger in strangers {
        let bounded = Bounded::begin(&world.daemon);
        let home = world.home.path();
        let files = ["", "endpoint.token", "config.toml", "trust", "blobs/sha256", "journal", "index", "ingest"];
        let mut deeds: Vec<_> = files.iter().map(|name| json!({"read": home.join(name)})).collect();
        deeds.push(json!({"read": world.home.blob(&image.top_layer())}));
        for (deed, report) in deeds.iter().zip(stranger.does(&deeds)) {
            assert_eq!(report, "Err(PermissionDenied)", "uid {}: {deed}", stranger.uid);
        }
        let report = stranger.does(&[json!({"socket": world.daemon.socket()})]);
        assert_eq!(report[0], "not connected: PermissionDenied", "uid {}", stranger.uid);
        for arguments in [&["status"][..], &["ls"], &["trust", "list"], &["log"], &["daemon", "stop"]] {
            let output = stranger.larder(&home, None, arguments);
            let talk = String::from_utf8_lossy(&output.stderr);
            assert!(!output.status.success() && output.stdout.is_empty(), "uid {}: {arguments:?}", stranger.uid);
            assert!(talk.contains("error:"), "uid {}: {arguments:?}: {talk}", stranger.uid);
        }
        bounded.end("a stranger at the home");
    }
    assert_eq!(world.daemon.client().status().pid, world.daemon.pid(), "the same daemon runs on");
}

#[test]
fn a_socket_in_a_shared_folder_refuses_strangers_by_their_credentials() {
    let strangers = Stranger::all();
    let home = Home::new();
    let shared = tempfile::Builder::new().prefix("shared-").tempdir().expect("a folder");
    fs::set_permissions(shared.path(), Permissions::from_mode(0o1777)).expect("a mode");
    let socket = shared.path().join("larder.sock");
    let mut daemon = home.launch().env("LARDER_SOCKET", socket.to_str().expect("a path")).start();
    let image = Image::small("kept");
    daemon.http().push("team/app", "1.0", &image);
    for stranger in strangers {
        let bounded = Bounded::begin(&daemon);
        // By its mode at first, and by the peer's credentials where somebody loosened it.
        for (mode, expected) in [(0o600, "not connected: PermissionDenied"), (0o666, "closed after 0 bytes")] {
            fs::set_permissions(&socket, Permissions::from_mode(mode)).expect("a mode");
            let report = stranger.does(&[json!({"socket": socket})]);
            assert_eq!(report[0], expected, "uid {}, mode {mode:o}", stranger.uid);
            let own = tempfile::Builder::new().prefix("own-").tempdir().expect("a folder");
            std::os::unix::fs::chown(own.path(), Some(stranger.uid), Some(stranger.uid)).expect("a folder of its own");
            for arguments in [&["status"][..], &["ls"], &["trust", "list"], &["daemon", "stop"]] {
                let output = stranger.larder(&own.path().join("home"), Some(&socket), arguments);
                let text = String::from_utf8_lossy(&output.stdout).into_owned();
                // To `daemon stop`, nobody who answers is a daemon that does not run; whether ours runs is asked below.
                let says_stopped = arguments == ["daemon", "stop"];
                assert!(
                    says_stopped || !output.status.success(),
                    "uid {}, mode {mode:o}: {arguments:?}: {text}",
                    stranger.uid
                );
                assert!(!text.contains("team/app"), "uid {}, mode {mode:o}: {text}", stranger.uid);
            }
        }
        bounded.end("a stranger at the socket");
        assert!(daemon.log().contains(&format!("uid {} is neither", stranger.uid)), "{}", daemon.log());
        daemon.assert_up();
    }
}
