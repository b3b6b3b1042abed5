//! A hostile client on this machine. Each: bounded memory and time, a clear error, nothing half-visible, and the
//! daemon's user is served as before.

use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

use bytes::Bytes;
use harness::image::noise;
use harness::{Bounded, Daemon, Home, Image, Raw};
use http::Method;
use larder_core::Digest;
use larder_core::manifest::OCI_MANIFEST;
use serde_json::json;

use crate::second_uid::Stranger;
use crate::world::World;

/// How many bytes a body that never ends has sent when a test gives up.
const ENDLESS: usize = 256 << 20;

/// Sends bytes on a connection of their own: the status of the answer, and 0 where the connection is closed without one.
#[track_caller]
fn status_of(daemon: &Daemon, bytes: impl AsRef<[u8]>) -> u16 {
    let mut connection = Raw::connect(daemon.endpoint());
    connection.send(bytes);
    connection.head().map_or(0, |head| head.status)
}

#[test]
fn a_web_page_gets_nothing_and_changes_nothing() {
    let mut world = World::start();
    let image = Image::small("kept");
    world.daemon.http().push("team/app", "1.0", &image);
    let bounded = Bounded::begin(&world.daemon);
    let port = world.daemon.endpoint().rsplit_once(':').expect("HOST:PORT").1;
    let request = |line: &str, headers: &str| format!("{line} HTTP/1.1\r\n{headers}Content-Length: 0\r\n\r\n");
    let mut heads = Vec::new();
    for host in [
        format!("evil.example:{port}"),
        "127.0.0.1.evil.example".to_owned(),
        format!("localhost.evil.example:{port}"),
        format!("127.0.0.1:{port}@evil.example"),
        format!("evil.example@127.0.0.1:{port}"),
        "[::1].evil.example".to_owned(),
        "[::1]evil.example:1".to_owned(),
        "localhost:80:evil.example".to_owned(),
        "localhost, evil.example".to_owned(),
        "0.0.0.0".to_owned(),
        "10.0.0.1".to_owned(),
        "[::ffff:10.0.0.1]".to_owned(),
        "localhost%00.evil.example".to_owned(),
        "xn--localhost-.example".to_owned(),
        String::new(),
    ] {
        heads.push(format!("Host: {host}\r\n"));
    }
    for own in [
        "Host: localhost\r\nOrigin: http://evil.example\r\n",
        "Host: localhost\r\nOrigin: null\r\n",
        "Host: localhost\r\nOrigin: http://localhost\r\n",
        "Host: localhost\r\nSec-Fetch-Site: cross-site\r\n",
        "Host: localhost\r\nSec-Fetch-Site: none\r\nSec-Fetch-Site: same-site\r\n",
        "Host: localhost\r\nHost: evil.example\r\n",
        "Host: evil.example\r\nHost: localhost\r\n",
        "",
    ] {
        heads.push(own.to_owned());
    }
    for head in &heads {
        for line in [
            "GET /v2/team/app/manifests/1.0",
            "HEAD /v2/team/app/manifests/1.0",
            "POST /v2/team/app/blobs/uploads/",
            "PUT /v2/team/app/manifests/2.0",
            "OPTIONS /v2/team/app/manifests/1.0",
        ] {
            let mut connection = Raw::connect(world.daemon.endpoint());
            connection.send(request(line, head));
            let answer = connection.head().expect("an answer");
            assert!(matches!(answer.status, 400 | 403), "{line} {head:?}: {}", answer.status);
            assert!(!answer.text.contains("access-control"), "{}", answer.text);
        }
    }
    // The target may name a host as well, and may not name another.
    for (target, status) in [
        ("http://evil.example/v2/", 403),
        ("http://127.0.0.1.evil.example/v2/", 403),
        ("http://localhost@evil.example/v2/", 403),
        ("http://evil.example@localhost/v2/", 403),
        ("http://localhost/v2/", 200),
    ] {
        let got = status_of(&world.daemon, request(&format!("GET {target}"), "Host: localhost\r\n"));
        assert!(got == status || (status == 403 && got == 400), "{target}: {got}");
    }
    assert!(matches!(status_of(&world.daemon, "GET /v2/ HTTP/1.0\r\n\r\n"), 0 | 400 | 403));
    let connect = status_of(&world.daemon, "CONNECT evil.example:80 HTTP/1.1\r\nHost: localhost\r\n\r\n");
    assert!((400..500).contains(&connect), "{connect}");
    world.daemon.http().manifest("team/app", "2.0").is(404);
    let refused = world.daemon.http().with("origin", "http://evil.example").get("/v2/").is(403);
    assert!(refused.text().contains("DENIED"), "{}", refused.text());
    assert_eq!(refused.header("x-content-type-options"), "nosniff");
    bounded.end("a web page");
    world.daemon.assert_up();
}

#[test]
fn requests_that_are_none() {
    let mut world = World::start();
    let bounded = Bounded::begin(&world.daemon);
    let many = (0..400).map(|number| format!("X-{number}: x\r\n")).collect::<String>();
    let long = format!("X-Long: {}\r\n", "x".repeat(200_000));
    let get = "GET /v2/ HTTP/1.1\r\nHost: localhost\r\n";
    let post = "POST /v2/team/app/blobs/uploads/ HTTP/1.1\r\nHost: localhost\r\n";
    for (what, bytes) in [
        ("many headers", format!("{get}{many}\r\n").into_bytes()),
        ("a long header", format!("{get}{long}\r\n").into_bytes()),
        ("a long target", format!("GET /v2/{} HTTP/1.1\r\nHost: localhost\r\n\r\n", "a/".repeat(60_000)).into_bytes()),
        (
            "a longish target",
            format!("GET /v2/{} HTTP/1.1\r\nHost: localhost\r\n\r\n", "a/".repeat(8_000)).into_bytes(),
        ),
        ("not UTF-8", b"GET /v2/\xff\xfe/manifests/1 HTTP/1.1\r\nHost: localhost\r\n\r\n".to_vec()),
        ("NUL", b"GET /v2/a\0b/manifests/1 HTTP/1.1\r\nHost: localhost\r\n\r\n".to_vec()),
        ("NUL in a header", format!("{get}X: a\0b\r\n\r\n").into_bytes()),
        ("a host that is no text", b"GET /v2/ HTTP/1.1\r\nHost: \xff\xfe\r\n\r\n".to_vec()),
        ("a space before the colon", format!("{get}X : y\r\n\r\n").into_bytes()),
        ("TLS", b"\x16\x03\x01\x02\0\x01\0\x01\xfc\x03\x03\r\n\r\n".to_vec()),
        ("HTTP/2", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec()),
        ("noise", noise("noise", 70_000).to_vec()),
        ("two lengths", format!("{post}Content-Length: 3\r\nContent-Length: 4\r\n\r\nabc").into_bytes()),
        ("a negative length", format!("{post}Content-Length: -1\r\n\r\n").into_bytes()),
        ("a length that overflows", format!("{post}Content-Length: 99999999999999999999999\r\n\r\n").into_bytes()),
        ("gzip as framing", format!("{post}Transfer-Encoding: gzip\r\n\r\n").into_bytes()),
        ("an unknown version", b"GET /v2/ HTTP/9.9\r\nHost: localhost\r\n\r\n".to_vec()),
    ] {
        let status = status_of(&world.daemon, bytes);
        assert!(status == 0 || (400..500).contains(&status), "{what}: {status}");
    }
    // Chunks that are none, in a body that is read.
    let digest = Digest::of(b"never");
    let whole = format!("POST /v2/team/app/blobs/uploads/?digest={digest} HTTP/1.1\r\nHost: localhost\r\n");
    for (what, body) in [
        ("a chunk that overflows", "FFFFFFFFFFFFFFFFFF\r\nx".to_owned()),
        ("no number", "zz\r\nx\r\n".to_owned()),
        ("a long extension", format!("1;{}\r\nx\r\n0\r\n\r\n", "x".repeat(100_000))),
        ("a chunk without its end", "1\r\nxx0\r\n\r\n".to_owned()),
    ] {
        let status = status_of(&world.daemon, format!("{whole}Transfer-Encoding: chunked\r\n\r\n{body}"));
        assert!(status == 0 || (400..500).contains(&status), "{what}: {status}");
    }
    assert!(!world.home.blob(&digest).exists());
    bounded.end("requests that are none");
    world.daemon.assert_up();
}

#[test]
fn two_ways_to_end_a_body_are_never_two_requests() {
    let world = World::start();
    let image = Image::small("kept");
    world.daemon.http().push("team/app", "1.0", &image);
    let bounded = Bounded::begin(&world.daemon);
    let hidden = "DELETE /v2/team/app/manifests/1.0 HTTP/1.1\r\nHost: evil.example\r\n\r\n";
    for framing in [
        format!("Content-Length: {}\r\nTransfer-Encoding: chunked\r\n", hidden.len() + 5),
        format!("Transfer-Encoding: chunked\r\nContent-Length: {}\r\n", hidden.len() + 5),
        "Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n".to_owned(),
        "Transfer-Encoding: xchunked\r\n".to_owned(),
    ] {
        let mut connection = Raw::connect(world.daemon.endpoint());
        let head = format!("PATCH /v2/team/app/blobs/uploads/none HTTP/1.1\r\nHost: localhost\r\n{framing}\r\n");
        connection.send(format!("{head}0\r\n\r\n{hidden}"));
        // Whoever reads it first, nothing is taken from what follows that was not a request of this client's.
        let mut statuses = Vec::new();
        while let Some((head, _)) = connection.answer() {
            statuses.push(head.status);
            if statuses.len() == 2 {
                break;
            }
        }
        assert!(statuses.iter().all(|status| (400..500).contains(status)), "{framing}: {statuses:?}");
        assert!(statuses.len() < 2 || statuses[1] == 403, "{framing}: {statuses:?}");
    }
    world.daemon.http().manifest("team/app", "1.0").is(200);
    bounded.end("two ways to end a body");
}

#[test]
fn paths_that_lead_elsewhere() {
    let mut world = World::start();
    let token = fs::read_to_string(world.home.path().join("endpoint.token")).expect("the token");
    let digest = Digest::of(b"x");
    // Uploads may begin; nothing else comes into being.
    let written = || {
        let folders = ["", "home", "home/blobs/sha256", "home/quarantine", "home/trust/keys", "home/trust/policies"];
        folders.map(|folder| harness::home::files(&world.home.beside(folder)))
    };
    let before = written();
    let bounded = Bounded::begin(&world.daemon);
    let long = "a".repeat(300);
    for target in [
        "/v2/../../endpoint.token",
        "/v2/%2e%2e/%2e%2e/manifests/1.0",
        "/v2/team/..%2f..%2fapp/manifests/1.0",
        "/v2/team//app/manifests/1.0",
        "//v2/team/app/manifests/1.0",
        "/v2/team/app/manifests/..",
        "/v2/team/app/manifests/../../../trust/keys",
        "/v2/team/app/blobs/sha256:..%2f..%2fendpoint.token",
        "/v2/team/app/blobs/sha256:../../endpoint.token",
        "/v2/team/app/blobs/uploads/..%2f..%2fendpoint.token",
        "/v2/team/app/blobs/uploads/../../endpoint.token",
        "/v2/team%00/app/manifests/1.0",
        "/v2/team/app/manifests/1.0%00",
        "/v2/t\u{e9}am/app/manifests/1.0",
        "/v2/team\\app/manifests/1.0",
        "/v2/./app/manifests/1.0",
        "/v2/team/app/referrers/../../../x",
        &format!("/v2/{long}/manifests/1.0"),
        &format!("/v2/team/app/manifests/{long}"),
        "*",
        "v2/",
        "",
    ] {
        for method in ["GET", "PUT", "PATCH", "HEAD"] {
            let request = format!("{method} {target} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\n\r\n");
            let mut connection = Raw::connect(world.daemon.endpoint());
            connection.send(request);
            let Some(head) = connection.head() else { continue };
            assert!((400..500).contains(&head.status), "{method} {target}: {}", head.status);
            let length = head.header("content-length").parse().unwrap_or(0);
            let body = if method == "HEAD" { Vec::new() } else { connection.take(length) };
            assert!(!String::from_utf8_lossy(&body).contains(token.trim()), "{target}");
        }
    }
    for query in ["mount=../../endpoint.token&from=team/app", &format!("mount={digest}&from=../../x"), "digest=..%2f.."]
    {
        let path = format!("/v2/team/app/blobs/uploads/?{query}");
        let answer = world.daemon.http().send(Method::POST, &path, "", Bytes::new());
        assert!(matches!(answer.status, 202 | 400), "{query}: {}", answer.status);
    }
    assert_eq!(written(), before, "something was written, or is gone");
    world.home.assert_blobs_are_whole();
    bounded.end("paths that lead elsewhere");
    world.daemon.assert_up();
}

#[test]
fn requests_that_do_not_wait_for_answers() {
    let world = World::start();
    let image = Image::small("kept");
    world.daemon.http().push("team/app", "1.0", &image);
    let bounded = Bounded::begin(&world.daemon);
    let mut connection = Raw::connect(world.daemon.endpoint());
    let request = "GET /v2/team/app/manifests/1.0 HTTP/1.1\r\nHost: localhost\r\n\r\n";
    connection.send(request.repeat(1000));
    for number in 0..1000 {
        let (head, body) = connection.answer().unwrap_or_else(|| panic!("answer {number}"));
        assert_eq!((head.status, body == image.root().bytes), (200, true), "answer {number}");
    }
    // Nor do they pile up where nobody reads them: the client blocks, or is cut off.
    let mut silent = Raw::connect(world.daemon.endpoint());
    let _ = silent.stream().set_write_timeout(Some(Duration::from_secs(2)));
    let took_all = (0..200).all(|_| silent.send(request.repeat(1000)));
    assert!(!took_all, "14 MB of requests without a reader of the answers were taken");
    bounded.end("requests that do not wait for answers");
}

/// Sends chunks for ever; returns the answer's status (0 where the connection breaks before one) and how much was sent.
fn endless(daemon: &Daemon, line: &str, kind: &str, most: usize) -> (u16, usize) {
    let mut connection = Raw::connect(daemon.endpoint());
    connection.send(format!(
        "{line} HTTP/1.1\r\nHost: localhost\r\nContent-Type: {kind}\r\nTransfer-Encoding: chunked\r\n\r\n"
    ));
    let mut chunk = b"100000\r\n".to_vec();
    chunk.extend_from_slice(&noise("endless", 1 << 20));
    chunk.extend_from_slice(b"\r\n");
    let mut sent = 0;
    while sent < most && connection.send(&chunk) {
        sent += 1 << 20;
    }
    // A connection of which no more is read is broken off here, as a client that goes away does.
    let status = if sent < most { connection.head().map_or(0, |head| head.status) } else { 0 };
    (status, sent)
}

#[test]
fn bodies_that_never_end() {
    let world = World::start();
    let http = world.daemon.http();
    let bounded = Bounded::begin(&world.daemon);
    let (status, sent) = endless(&world.daemon, "PUT /v2/team/app/manifests/endless", OCI_MANIFEST, ENDLESS);
    assert!(matches!(status, 0 | 413) && sent < ENDLESS, "a manifest: {status} after {sent} bytes");
    http.manifest("team/app", "endless").is(404);

    let digest = Digest::of(b"never");
    let place = |answer: harness::http::Answer| answer.header("location").to_owned();
    let upload = place(http.send(Method::POST, "/v2/team/app/blobs/uploads/", "", Bytes::new()).is(202));
    let joint = if upload.contains('?') { '&' } else { '?' };
    for line in
        [format!("POST /v2/team/app/blobs/uploads/?digest={digest}"), format!("PUT {upload}{joint}digest={digest}")]
    {
        let (status, sent) = endless(&world.daemon, &line, "application/octet-stream", ENDLESS);
        println!("{line}: {status} after {} MiB", sent >> 20);
    }
    let patched = place(http.send(Method::POST, "/v2/team/app/blobs/uploads/", "", Bytes::new()).is(202));
    let patch = format!("PATCH {patched}");
    let (status, sent) = endless(&world.daemon, &patch, "application/octet-stream", ENDLESS);
    println!("{patch}: {status} after {} MiB", sent >> 20);
    // Up to what the disk has room for, an upload may be long; what it began to send is there to be gone on with.
    assert!(sent == ENDLESS || matches!(status, 0 | 507), "{status} after {sent} bytes");
    assert!(!world.home.blob(&digest).exists(), "nothing half-visible");
    world.home.assert_blobs_are_whole();
    // What was in one request is gone with it; an upload stays until it is cancelled, or nobody wrote to it for long.
    harness::eventually("the uploads to be let go", || {
        let cancelled = [&upload, &patched]
            .map(|place| http.send(Method::DELETE, place, "", Bytes::new()).status)
            .iter()
            .all(|status| matches!(status, 204 | 404));
        cancelled.then_some(())
    });
    harness::eventually("ingest/ to be empty", || {
        harness::home::files(&world.home.path().join("ingest")).is_empty().then_some(())
    });
    bounded.end("bodies that never end");
}

/// A small disk; `None` (and a loud word) where this test may not make one.
fn small_disk(size: &str) -> Option<(Home, PathBuf)> {
    let folder = Home::new();
    let place = folder.beside("small");
    fs::create_dir(&place).expect("a folder");
    let options = format!("size={size},mode=0700");
    let mounted = Command::new("mount").args(["-t", "tmpfs", "-o", &options, "tmpfs"]).arg(&place).status();
    if mounted.is_ok_and(|status| status.success()) {
        return Some((folder, place));
    }
    harness::not_tested("a small disk cannot be mounted here; run the tests as root");
    None
}

#[test]
fn a_body_that_never_ends_leaves_room_on_the_disk() {
    let Some((folder, place)) = small_disk("128m") else { return };
    let home = Home::inside(&place);
    let mut daemon = home.start();
    let bounded = Bounded::begin(&daemon);
    let whole = format!("POST /v2/team/app/blobs/uploads/?digest={}", Digest::of(b"never"));
    let (status, sent) = endless(&daemon, &whole, "application/octet-stream", ENDLESS);
    assert!(matches!(status, 0 | 507) && sent < ENDLESS, "{status} after {sent} bytes");
    // One that announces more than there is room for is refused at once.
    let announced = format!("{whole} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 107374182400\r\n\r\nx");
    let mut connection = Raw::connect(daemon.endpoint());
    connection.send(announced);
    connection.send(vec![b'x'; 1 << 20]);
    let (head, body) = connection.answer().expect("an answer");
    assert_eq!(head.status, 507, "{}", String::from_utf8_lossy(&body));
    harness::eventually("ingest/ to be empty", || {
        harness::home::files(&home.path().join("ingest")).is_empty().then_some(())
    });
    // Meanwhile, with uploads that take what they can, the daemon's own records find room.
    let http = daemon.http();
    let held = http.send(Method::POST, "/v2/team/app/blobs/uploads/", "", Bytes::new()).is(202);
    let patch = format!("PATCH {}", held.header("location"));
    endless(&daemon, &patch, "application/octet-stream", ENDLESS);
    http.push("team/app", "1.0", &Image::small("after"));
    http.manifest("team/app", "1.0").is(200);
    bounded.end("a body that fills the disk");
    daemon.assert_up();
    drop(daemon);
    drop(home);
    let _ = Command::new("umount").arg("-l").arg(&place).status();
    drop(folder);
}

#[test]
fn ten_thousand_half_open_uploads() {
    let mut world = World::start();
    let http = world.daemon.http();
    http.push("team/app", "1.0", &Image::small("kept"));
    world.upstream("1.0", &[]);
    let bounded = Bounded::begin(&world.daemon);
    let begun = Instant::now();
    let (mut places, mut refused) = (Vec::new(), 0);
    let mut connection = Raw::connect(world.daemon.endpoint());
    for _ in 0..10_000 {
        connection.ask("POST /v2/team/app/blobs/uploads/", "Content-Length: 0\r\n");
        let (head, body) = connection.answer().expect("an answer");
        match head.status {
            202 => places.push(head.header("location").to_owned()),
            status => {
                let body = String::from_utf8_lossy(&body).into_owned();
                assert_eq!(status, 429, "{body}");
                assert!(body.contains("TOOMANYREQUESTS") && !head.header("retry-after").is_empty(), "{body}");
                refused += 1;
            }
        }
    }
    println!("{} open, {refused} refused in {:?}", places.len(), begun.elapsed());
    assert!(places.len() <= 256 && refused >= 9_700, "{} open, {refused} refused", places.len());
    // Everything else goes on: reads, manifests, pulls.
    http.manifest("team/app", "1.0").is(200);
    http.put_manifest("team/app", "2.0", OCI_MANIFEST, http.manifest("team/app", "1.0").body).is(201);
    world.pull("1.0");
    assert!(world.daemon.memory_kib("Threads") < 600, "{} threads", world.daemon.memory_kib("Threads"));
    for place in &places {
        http.send(Method::DELETE, place, "", Bytes::new()).is(204);
    }
    http.push("team/app", "3.0", &Image::small("after"));
    bounded.end("ten thousand half-open uploads");
    world.daemon.assert_up();
}

#[test]
fn manifests_that_are_too_long() {
    let world = World::start();
    let pad = "x".repeat(5 << 20);
    let manifest = json!({"schemaVersion": 2, "mediaType": OCI_MANIFEST, "config": {}, "layers": [], "pad": pad});
    let bytes = Bytes::from(manifest.to_string());
    let bounded = Bounded::begin(&world.daemon);
    std::thread::scope(|scope| {
        for number in 0..20 {
            let (http, bytes) = (world.daemon.http(), bytes.clone());
            scope.spawn(move || {
                let answer = http.put_manifest("team/app", &format!("t{number}"), OCI_MANIFEST, bytes).is(413);
                assert!(answer.text().contains("MANIFEST_INVALID") && answer.text().contains("4 MiB"));
                http.manifest("team/app", &format!("t{number}")).is(404);
            });
        }
    });
    bounded.end("twenty manifests of 5 MiB at once");
}

#[test]
fn a_chunk_out_of_order_and_a_push_under_a_registrys_name() {
    let world = World::start();
    let http = world.daemon.http();
    let kind = "application/octet-stream";
    let bounded = Bounded::begin(&world.daemon);
    let begun = http.send(Method::POST, "/v2/team/app/blobs/uploads/", "", Bytes::new()).is(202);
    let place = begun.header("location").to_owned();
    let chunk = |range: &str, bytes: &'static str| {
        http.clone().with("content-range", range).send(
            Method::PATCH,
            &place,
            kind,
            Bytes::from_static(bytes.as_bytes()),
        )
    };
    chunk("0-4", "first").is(202);
    for (range, bytes) in [("0-4", "first"), ("6-10", "third"), ("18446744073709551611-18446744073709551615", "third")]
    {
        let refused = chunk(range, bytes);
        assert_eq!(refused.status, 416, "{range}: {}", refused.text());
        assert_eq!(refused.header("range"), "0-4", "where to go on");
        assert!(refused.text().contains("BLOB_UPLOAD_INVALID"), "{}", refused.text());
    }
    for (range, bytes) in [("5-9", "toolong"), ("9-5", "third"), ("x", "third")] {
        assert!(matches!(chunk(range, bytes).status, 400 | 416), "{range}");
    }
    chunk("5-10", "second").is(202);
    let digest = Digest::of(b"firstsecond");
    let joint = if place.contains('?') { '&' } else { '?' };
    http.send(Method::PUT, &format!("{place}{joint}digest={digest}"), kind, Bytes::new()).is(201);
    assert_eq!(fs::read(world.home.blob(&digest)).expect("a blob"), b"firstsecond");

    let intruder = Image::small("intruder");
    for blob in intruder.blobs() {
        http.put_blob("docker.io/library/alpine", &Digest::of(blob), blob.clone()).is(201);
    }
    let root = intruder.root().bytes.clone();
    for reference in ["latest".to_owned(), intruder.digest().to_string()] {
        let refused = http.put_manifest("docker.io/library/alpine", &reference, OCI_MANIFEST, root.clone()).is(403);
        let text = refused.text();
        assert!(text.contains("DENIED") && text.contains("push_to"), "says what to do: {text}");
        http.manifest("docker.io/library/alpine", &reference).is(404);
    }
    bounded.end("a chunk out of order, a push under a registry's name");
}

#[test]
fn a_stranger_that_hoards_connections_keeps_nobody_out() {
    let mut world = World::start();
    let bounded = Bounded::begin(&world.daemon);
    for stranger in Stranger::all() {
        let endpoint = world.daemon.endpoint().to_owned();
        std::thread::scope(|scope| {
            let hoard = scope.spawn(|| {
                let half = "GET /v2/ HTTP/1.1\r\nHost: localhost\r\nX-Slow: ";
                stranger.does(&[
                    json!({"hoard": endpoint, "count": 900, "head": ""}),
                    json!({"hoard": endpoint, "count": 900, "head": half}),
                ])
            });
            // Before, while and after: the daemon's user is served.
            let mut served = 0;
            while !hoard.is_finished() {
                world.daemon.http().get("/v2/").is(200);
                served += 1;
                std::thread::sleep(Duration::from_millis(50));
            }
            for report in hoard.join().expect("the stranger") {
                println!("uid {}: {report}, served {served} times meanwhile", stranger.uid);
                assert_eq!(report["held"], report["closed"], "all were let go");
            }
        });
    }
    bounded.end("hoarded connections");
    world.daemon.assert_up();
}

#[test]
fn idle_connections_of_the_owner_are_let_go() {
    let world = World::start();
    let bounded = Bounded::begin(&world.daemon);
    let mut idle: Vec<_> = (0..600).map(|_| Raw::connect(world.daemon.endpoint())).collect();
    for connection in &mut idle {
        connection.send("GET /v2/ HTTP/1.1\r\n");
    }
    // More than there are places for: this one is served when the first of them are let go.
    let mut late = Raw::connect(world.daemon.endpoint());
    let _ = late.stream().set_read_timeout(Some(2 * harness::PATIENCE));
    late.ask("GET /v2/", "");
    assert_eq!(late.answer().expect("an answer").0.status, 200);
    assert!(idle.iter_mut().take(100).all(|connection| connection.closes_within(harness::PATIENCE)));
    bounded.end("six hundred idle connections");
}
