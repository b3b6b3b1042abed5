//! What clients rely on at the endpoint, request by request; `tests/interop` drives the real ones.

use std::io::{Read, Write};
use std::net::TcpStream;

use bytes::Bytes;
use harness::http::Answer;
use harness::image::noise;
use harness::{Content, Home, Http, Image};
use http::Method;
use larder_core::Digest;
use larder_core::digest::{Algorithm, Hasher};
use larder_core::manifest::OCI_MANIFEST;
use larder_proto::v1::State;
use serde_json::{Value, json};

use crate::world::World;

const OCTETS: &str = "application/octet-stream";

/// A world whose endpoint takes images under Docker Hub's name.
fn hub() -> World {
    World::with_config("[endpoint]\npush_to = [\"docker.io/**\"]\n")
}

fn begin(http: &Http, repository: &str) -> String {
    let begun = http.send(Method::POST, &format!("/v2/{repository}/blobs/uploads/"), "", Bytes::new()).is(202);
    assert_eq!(begun.header("range"), "0-0");
    begun.header("location").to_owned()
}

fn json_of(answer: &Answer) -> Value {
    serde_json::from_slice(&answer.body).expect("JSON")
}

fn sha512(bytes: &[u8]) -> Digest {
    let mut hasher = Hasher::new(Algorithm::Sha512);
    hasher.update(bytes);
    hasher.finish()
}

fn allow(world: &World, reference: &str) {
    world.home.trust().policy_static("p", "**", "pass");
    world.daemon.client().becomes(reference, State::Allowed);
}

/// Reads an image as a mirror's client asks for it: what stands in front of `/v2/`, and the query behind.
fn reads_as_a_mirror(http: &Http, front: &str, query: &str, image: &Content) {
    http.get(&format!("{front}/v2/{query}")).is(200);
    let manifest = http.get(&format!("{front}/v2/library/app/manifests/1.0{query}")).is(200);
    assert_eq!(manifest.body, image.root().bytes);
    let head = http.head(&format!("{front}/v2/library/app/manifests/{}{query}", image.digest())).is(200);
    assert_eq!(head.header("docker-content-digest"), image.digest().to_string());
    for blob in image.blobs() {
        let path = format!("{front}/v2/library/app/blobs/{}{query}", Digest::of(blob));
        assert_eq!(http.get(&path).is(200).body, *blob);
    }
}

#[test]
fn a_mirrors_client_reads_by_the_registrys_own_names() {
    let world = hub();
    let (http, image, local) = (world.daemon.http(), Image::small("hub"), Image::small("local"));
    http.push("docker.io/library/app", "1.0", &image);
    // containerd says `ns=`, docker has the registry in front of `/v2/`; both are judged under the registry's name.
    let refused = http.get(&format!("/v2/library/app/blobs/{}?ns=docker.io", image.top_layer())).is(403);
    assert!(refused.text().contains("docker.io/library/app@"), "{}", refused.text());
    http.get(&format!("/docker.io/v2/library/app/blobs/{}", image.top_layer())).is(403);
    allow(&world, "docker.io/library/app:1.0");
    reads_as_a_mirror(&http, "", "?ns=docker.io", &image);
    reads_as_a_mirror(&http, "/docker.io", "", &image);
    reads_as_a_mirror(&http, "/docker.io", "?ns=docker.io", &image);
    // Without either, the same path is a local repository, and never Docker Hub's.
    http.manifest("library/app", "1.0").is(404);
    http.push("team/app", "1.0", &local);
    http.get("/v2/team/app/manifests/1.0?ns=docker.io").is(404);
    http.get("/docker.io/v2/team/app/manifests/1.0").is(404);
    for path in
        ["/v2/library/app/manifests/1.0?ns=..", "/v2/x/manifests/1?ns=a/b", "/quay.io/v2/x/manifests/1?ns=docker.io"]
    {
        assert!(http.get(path).is(400).text().contains("NAME_INVALID"), "{path}");
    }
    http.get("/team/v2/app/manifests/1.0").is(404);
}

#[test]
fn a_mirrors_client_writes_where_it_reads() {
    let world = hub();
    let (http, image) = (world.daemon.http(), Image::small("pushed by ns"));
    for blob in image.blobs() {
        let begun = http.send(Method::POST, "/v2/library/app/blobs/uploads/?ns=docker.io", "", Bytes::new()).is(202);
        // The location says by itself whose upload it is.
        let place = format!("{}?digest={}", begun.header("location"), Digest::of(blob));
        assert!(place.starts_with("/v2/docker.io/library/app/"), "{place}");
        http.send(Method::PUT, &place, OCTETS, blob.clone()).is(201);
    }
    let path = "/v2/library/app/manifests/1.0?ns=docker.io";
    let put = http.send(Method::PUT, path, OCI_MANIFEST, image.root().bytes.clone()).is(201);
    assert!(put.header("location").starts_with("/v2/docker.io/library/app/manifests/sha256:"));
    assert_eq!(world.daemon.client().state("docker.io/library/app:1.0"), State::Unsigned);
    // A registry that `push_to` does not list stays closed by this way, too.
    let refused = http.send(Method::PUT, "/v2/a/b/manifests/1?ns=quay.io", OCI_MANIFEST, image.root().bytes.clone());
    assert!(matches!(refused.status, 403 | 404), "{}", refused.status);
}

#[test]
fn uploads_in_chunks_say_where_to_go_on() {
    let world = World::start();
    let http = world.daemon.http();
    let bytes = noise("chunks", 30);
    let place = begin(&http, "team/app");
    let chunk = |range: &str, from: usize, to: usize| {
        let http = http.clone().with("content-range", range);
        http.send(Method::PATCH, &place, OCTETS, bytes.slice(from..to))
    };
    assert_eq!(chunk("0-9", 0, 10).is(202).header("range"), "0-9");
    for (range, from, to) in [("0-9", 0, 10), ("20-29", 20, 30), ("11-20", 11, 21)] {
        let answer = chunk(range, from, to).is(416);
        assert_eq!((answer.header("range"), answer.header("location")), ("0-9", place.as_str()), "{range}");
        assert!(answer.text().contains("BLOB_UPLOAD_INVALID"), "{}", answer.text());
    }
    chunk("10-20", 10, 20).is(400);
    chunk("20-10", 10, 20).is(400);
    // What was refused changed nothing; a client that lost track asks.
    let status = http.get(&place).is(204);
    assert_eq!((status.header("range"), status.header("location")), ("0-9", place.as_str()));
    assert_eq!(chunk("bytes 10-19/30", 10, 20).is(202).header("range"), "0-19");
    let finish = format!("{place}?digest={}", Digest::of(&bytes));
    let wrong = http.clone().with("content-range", "21-29");
    wrong.send(Method::PUT, &finish, OCTETS, bytes.slice(21..)).is(416);
    let right = http.clone().with("content-range", "20-29");
    right.send(Method::PUT, &finish, OCTETS, bytes.slice(20..)).is(201);
    assert_eq!(std::fs::read(world.home.blob(&Digest::of(&bytes))).expect("the blob"), bytes);
    http.get(&place).is(404);
    // Cancelled.
    let place = begin(&http, "team/app");
    http.send(Method::DELETE, &place, "", Bytes::new()).is(204);
    http.send(Method::PATCH, &place, OCTETS, Bytes::from_static(b"x")).is(404);
}

#[test]
fn an_uploaded_blob_is_read_back_where_it_was_written_unless_the_gate_enforces() {
    for (gate, status) in [("enforce", 403), ("warn", 206), ("off", 206)] {
        let world = World::with_config(&format!("gate = \"{gate}\"\n"));
        let http = world.daemon.http();
        let bytes = noise("alone", 50);
        let digest = Digest::of(&bytes);
        http.put_blob("team/app", &digest, bytes.clone()).is(201);
        // Nothing judges it yet.
        let head = http.head(&format!("/v2/team/app/blobs/{digest}"));
        assert_eq!(head.status, if status == 403 { 404 } else { 200 }, "gate {gate}");
        let part = http.clone().with("range", "bytes=10-19").blob("team/app", &digest).is(status);
        if status == 403 {
            assert!(part.text().contains("push that manifest"), "{}", part.text());
        } else {
            assert_eq!((part.header("content-range"), &part.body[..]), ("bytes 10-19/50", &bytes[10..20]));
            assert_eq!(part.header("warning").is_empty(), gate == "off");
            assert_eq!(
                http.clone().with("range", "bytes=-5").blob("team/app", &digest).is(206).body,
                bytes.slice(45..)
            );
            let beyond = http.clone().with("range", "bytes=50-").blob("team/app", &digest).is(416);
            assert_eq!(beyond.header("content-range"), "bytes */50");
        }
        http.blob("team/other", &digest).is(404);
    }
}

#[test]
fn uploading_a_rejected_layer_again_opens_nothing() {
    let world = World::start();
    let http = world.daemon.http();
    let digest = Digest::of(b"denied");
    http.put_blob("team/app", &digest, Bytes::from_static(b"denied")).is(201);
    // It is the rejected image's, whoever uploads it, whenever.
    let image = Image::small("rejected");
    let layer = image.blobs().last().expect("a layer").clone();
    http.put_blob("team/other", &image.top_layer(), layer.clone()).is(201);
    http.blob("team/other", &image.top_layer()).is(403);
    http.push("team/app", "1.0", &image);
    http.put_blob("team/third", &image.top_layer(), layer).is(201);
    for repository in ["team/other", "team/third"] {
        http.blob(repository, &image.top_layer()).is(404);
        let mount = format!("/v2/team/mine/blobs/uploads/?mount={}&from={repository}", image.top_layer());
        http.send(Method::POST, &mount, "", Bytes::new()).is(202);
    }
    http.blob("team/app", &image.top_layer()).is(403);
    // Nor is what is denied.
    world.home.trust().deny(&json!({"digests": [{"digest": digest.to_string()}]}));
    harness::eventually("the denial", || (http.blob("team/app", &digest).status == 404).then_some(()));
}

#[test]
fn blobs_are_mounted_from_where_they_can_be_read() {
    let world = World::start();
    let http = world.daemon.http();
    let image = Image::small("source");
    http.push("team/app", "1.0", &image);
    let mount = |query: &str| {
        let path = format!("/v2/team/copy/blobs/uploads/?mount={}{query}", image.top_layer());
        http.send(Method::POST, &path, "", Bytes::new())
    };
    // Held back, not there, not said, not a name: the client uploads it.
    for query in ["&from=team/app", "&from=team/none", "", "&from=", "&from=../x"] {
        let answer = mount(query).is(202);
        assert!(answer.header("location").starts_with("/v2/team/copy/blobs/uploads/"), "{query}");
    }
    http.send(Method::POST, "/v2/team/copy/blobs/uploads/?mount=sha256:0&from=team/app", "", Bytes::new()).is(400);
    allow(&world, "localhost/team/app:1.0");
    let mounted = mount("&from=team/app").is(201);
    assert_eq!(mounted.header("location"), format!("/v2/team/copy/blobs/{}", image.top_layer()));
    assert_eq!(mounted.header("docker-content-digest"), image.top_layer().to_string());
}

#[test]
fn sha512_blobs_and_manifests_keep_their_digests() {
    let world = World::start();
    let http = world.daemon.http();
    let (layer, config) = (noise("sha512", 40), Bytes::from_static(b"{\"os\":\"linux\"}"));
    for bytes in [&layer, &config] {
        http.put_blob("team/app", &sha512(bytes), bytes.clone()).is(201);
    }
    let place = begin(&http, "team/app");
    http.send(Method::PATCH, &place, OCTETS, layer.slice(..10)).is(202);
    http.send(Method::PUT, &format!("{place}?digest={}", sha512(&layer)), OCTETS, layer.slice(10..)).is(201);
    let describe = |kind: &str, bytes: &Bytes| json!({"mediaType": kind, "digest": sha512(bytes), "size": bytes.len()});
    let manifest = json!({"schemaVersion": 2, "mediaType": OCI_MANIFEST,
        "config": describe(harness::image::OCI_CONFIG, &config),
        "layers": [describe(harness::image::OCI_LAYER, &layer)]});
    let bytes = Bytes::from(manifest.to_string());
    let digest = sha512(&bytes);
    let put = http.put_manifest("team/app", &digest.to_string(), OCI_MANIFEST, bytes.clone()).is(201);
    assert_eq!(put.header("docker-content-digest"), digest.to_string());
    let read = http.manifest("team/app", &digest.to_string()).is(200);
    assert_eq!((read.header("docker-content-digest"), &read.body), (digest.to_string().as_str(), &bytes));
    allow(&world, &format!("localhost/team/app@{digest}"));
    assert_eq!(http.blob("team/app", &sha512(&layer)).is(200).body, layer);
}

#[test]
fn tags_are_listed_in_pages_and_can_be_removed() {
    let world = World::start();
    let http = world.daemon.http();
    let image = Image::small("tagged");
    http.get("/v2/team/app/tags/list").is(404);
    http.push_by_digest("team/app", &image);
    // It has manifests, and no tag.
    let none = json_of(&http.get("/v2/team/app/tags/list").is(200));
    assert_eq!(none, json!({"name": "team/app", "tags": []}));
    for tag in ["b", "a", "c"] {
        http.put_manifest("team/app", tag, OCI_MANIFEST, image.root().bytes.clone()).is(201);
    }
    let first = http.get("/v2/team/app/tags/list?n=2").is(200);
    assert_eq!(json_of(&first)["tags"], json!(["a", "b"]));
    let link = first.header("link");
    assert_eq!(link, "</v2/team/app/tags/list?n=2&last=b>; rel=\"next\"");
    let next = http.get("/v2/team/app/tags/list?n=2&last=b").is(200);
    assert_eq!((json_of(&next)["tags"].clone(), next.header("link")), (json!(["c"]), ""));
    assert_eq!(json_of(&http.get("/v2/team/app/tags/list?last=aa").is(200))["tags"], json!(["b", "c"]));
    assert_eq!(json_of(&http.get("/v2/team/app/tags/list?n=0").is(200))["tags"], json!([]));
    http.get("/v2/team/app/tags/list?n=-1").is(400);
    let delete = |path: &str| http.send(Method::DELETE, path, "", Bytes::new());
    delete("/v2/team/app/manifests/b").is(202);
    delete("/v2/team/app/manifests/b").is(404);
    http.manifest("team/app", "b").is(404);
    http.manifest("team/app", &image.digest().to_string()).is(200);
    assert_eq!(json_of(&http.get("/v2/team/app/tags/list").is(200))["tags"], json!(["a", "c"]));
    delete(&format!("/v2/team/app/manifests/{}", image.digest())).is(405);
    delete(&format!("/v2/team/app/blobs/{}", image.top_layer())).is(405);
}

#[test]
fn tags_of_signatures_and_of_registries_are_not_removed() {
    let (world, release) = (World::start(), harness::Signer::new("release"));
    let image = world.upstream("1.0", &[&release]);
    world.pull("1.0");
    let http = world.daemon.http();
    let delete = |path: &str| http.send(Method::DELETE, path, "", Bytes::new());
    let served = world.served();
    delete(&format!("/v2/{served}/manifests/1.0")).is(403);
    http.manifest(&served, "1.0").is(200);
    http.push("team/app", "1.0", &image);
    http.push("team/app", &image.digest_tag(".sig"), &release.signature_of(&image));
    delete(&format!("/v2/team/app/manifests/{}", image.digest_tag(".sig"))).is(405);
    http.manifest("team/app", &image.digest_tag(".sig")).is(200);
}

#[test]
fn the_catalog_lists_every_repository_once_in_pages() {
    let world = hub();
    let http = world.daemon.http();
    assert_eq!(json_of(&http.get("/v2/_catalog").is(200)), json!({"repositories": []}));
    let image = Image::small("listed");
    for name in ["team/b", "team/a", "docker.io/library/app", "team/a/deeper", "team/a-b"] {
        for tag in ["1.0", "2.0"] {
            http.push(name, tag, &image);
        }
    }
    let all = ["docker.io/library/app", "team/a", "team/a-b", "team/a/deeper", "team/b"];
    assert_eq!(json_of(&http.get("/v2/_catalog").is(200))["repositories"], json!(all));
    let (mut listed, mut path) = (Vec::new(), "/v2/_catalog?n=2".to_owned());
    loop {
        let page = http.get(&path).is(200);
        listed.extend(json_of(&page)["repositories"].as_array().cloned().unwrap_or_default());
        let Some(next) = page.header("link").strip_prefix('<').and_then(|link| link.split_once('>')) else { break };
        next.0.clone_into(&mut path);
    }
    assert_eq!(listed, all);
    http.get("/v2/_catalog?n=x").is(400);
    http.get("/v2/_catalog?last=UPPER").is(400);
    http.send(Method::POST, "/v2/_catalog", "", Bytes::new()).is(405);
}

#[test]
fn referrers_are_filtered_and_say_so() {
    let world = World::start();
    let http = world.daemon.http();
    let image = Image::small("subject");
    let kinds = ["application/spdx+json", "application/vnd.in-toto+json"];
    http.push("team/app", "1.0", &image);
    for kind in kinds {
        http.push_by_digest("team/app", &Image::new(kind).layer("{}").subject(&image, kind).build_with(kind));
    }
    let path = format!("/v2/team/app/referrers/{}", image.digest());
    let all = http.get(&path).is(200);
    assert_eq!((json_of(&all)["manifests"].as_array().map(Vec::len), all.header("oci-filters-applied")), (Some(2), ""));
    let filtered = http.get(&format!("{path}?artifactType={}", kinds[0])).is(200);
    assert_eq!(filtered.header("oci-filters-applied"), "artifactType");
    let listed = json_of(&filtered);
    assert_eq!(listed["manifests"].as_array().map(Vec::len), Some(1));
    assert_eq!(listed["manifests"][0]["artifactType"], kinds[0]);
    let none = http.get(&format!("/v2/team/app/referrers/{}", Digest::of(b"nothing"))).is(200);
    assert_eq!(json_of(&none)["manifests"], json!([]));
}

#[test]
fn one_connection_takes_many_requests_and_a_body_waits_for_its_leave() {
    let world = World::start();
    let place = begin(&world.daemon.http(), "team/app");
    let bytes = noise("expected", 20);
    let mut stream = TcpStream::connect(world.daemon.endpoint()).expect("a connection");
    stream.set_read_timeout(Some(harness::PATIENCE)).expect("a timeout");
    let until = |stream: &mut TcpStream, end: &str| {
        let (mut seen, mut byte) = (Vec::new(), [0]);
        while !seen.ends_with(end.as_bytes()) {
            stream.read_exact(&mut byte).expect("an answer");
            seen.push(byte[0]);
        }
        String::from_utf8_lossy(&seen).to_lowercase()
    };
    for _ in 0..3 {
        stream.write_all(b"HEAD /v2/ HTTP/1.1\r\nHost: localhost\r\n\r\n").expect("written");
        let answer = until(&mut stream, "\r\n\r\n");
        assert!(answer.starts_with("http/1.1 200") && !answer.contains("connection: close"), "{answer}");
        assert!(answer.contains("docker-distribution-api-version: registry/2.0"), "{answer}");
    }
    let digest = Digest::of(&bytes);
    let head = format!(
        "PUT {place}?digest={digest} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 20\r\nExpect: 100-continue\r\n\r\n"
    );
    stream.write_all(head.as_bytes()).expect("written");
    assert!(until(&mut stream, "\r\n\r\n").starts_with("http/1.1 100"));
    stream.write_all(&bytes).expect("written");
    assert!(until(&mut stream, "\r\n\r\n").starts_with("http/1.1 201"));
}

#[test]
fn print_config_says_where_the_endpoint_is() {
    let world = World::start();
    let address = world.daemon.endpoint();
    let podman = world.home.larder(["serve", "print-config", "podman", "docker.io", "127.0.0.1:5000"]).exits(0);
    assert_eq!(
        podman.stdout,
        format!(
            "# ~/.config/containers/registries.conf.d/larder.conf\n\
             # or /etc/containers/registries.conf.d/larder.conf, for all users; insecure: loopback needs no TLS\n\
             [[registry]]\nlocation = \"{address}\"\ninsecure = true\n\n\
             [[registry]]\nprefix = \"docker.io\"\nlocation = \"{address}/docker.io\"\ninsecure = true\n\n\
             [[registry]]\nprefix = \"127.0.0.1:5000\"\nlocation = \"{address}/127.0.0.1_5000\"\ninsecure = true\n"
        )
    );
    let token = std::fs::read_to_string(world.home.path().join("endpoint.token")).expect("the password");
    for tool in ["podman", "docker", "containerd", "skopeo"] {
        let without = world.home.larder(["serve", "print-config", tool]).exits(0);
        assert!(!without.stdout.to_lowercase().contains("auth"), "{tool}: {}", without.stdout);
        let with = world.home.larder(["serve", "print-config", tool, "--with-token", "--output", "json"]).exits(0);
        let printed = with.json().to_string();
        let login =
            base64::Engine::encode(&base64::engine::general_purpose::STANDARD, format!("larder:{}", token.trim()));
        assert!(printed.contains(&login), "{tool}: {printed}");
        assert!(with.stderr.contains("password"), "{}", with.stderr);
    }
    world.home.larder(["serve", "print-config", "docker", "quay.io"]).exits(1).is_a_clear_error("quay.io").hints();
    world.home.larder(["serve", "print-config", "podman", "a/b"]).exits(2).is_a_clear_error("a/b").hints();
}

#[test]
fn print_config_of_an_endpoint_that_is_off_says_what_to_do() {
    let home = Home::new();
    home.larder(["serve", "print-config", "podman"]).exits(1).is_a_clear_error("not running").hints();
    let _daemon = home.launch().env("LARDER_ENDPOINT", "off").start();
    home.larder(["serve", "print-config", "podman"]).exits(1).is_a_clear_error("off").says(&["LARDER_ENDPOINT"]);
}
