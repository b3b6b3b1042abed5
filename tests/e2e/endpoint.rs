use std::fs;

use base64::Engine;
use bytes::Bytes;
use harness::signer::SIMPLE_SIGNING;
use harness::{Content, Image, Index, Signer};
use http::Method;
use larder_core::Digest;
use larder_core::manifest::OCI_MANIFEST;
use larder_proto::v1::State;
use serde_json::json;

use crate::world::World;

#[test]
fn an_accepted_image_is_read_out_with_its_bytes_unchanged() {
    let (world, release) = (World::start(), Signer::new("release"));
    let image = world.upstream("1.0", &[&release]);
    world.home.trust().key("release", &release);
    world.daemon.client().trust_becomes("settled", 1, 0);
    world.pull("1.0");
    let (http, served) = (world.daemon.http(), world.served());
    http.get("/v2/").is(200);
    let manifest = http.manifest(&served, "1.0").is(200);
    assert_eq!(manifest.body, image.root().bytes);
    assert_eq!(manifest.header("content-type"), OCI_MANIFEST);
    assert_eq!(manifest.header("docker-content-digest"), image.digest().to_string());
    for blob in image.blobs() {
        assert_eq!(http.blob(&served, &Digest::of(blob)).is(200).body, *blob);
    }
    let head = http.head(&format!("/v2/{served}/blobs/{}", image.top_layer())).is(200);
    assert_eq!(head.header("content-length"), image.blobs().last().expect("a layer").len().to_string());
    let range = http.clone().with("range", "bytes=10-19").blob(&served, &image.top_layer());
    assert!(matches!(range.status, 200 | 206), "{}", range.status);
    if range.status == 206 {
        assert_eq!(range.body, image.blobs().last().expect("a layer").slice(10..20));
    }
    let tags = http.get(&format!("/v2/{served}/tags/list")).is(200).text();
    assert!(tags.contains("\"1.0\""), "{tags}");
    http.manifest(&served, "2.0").is(404);
    http.blob(&served, &Digest::of(b"nothing")).is(404);
}

#[test]
fn the_gate_holds_back_what_is_not_accepted() {
    let (world, stranger) = (World::start(), Signer::new("stranger"));
    let image = world.upstream("1.0", &[&stranger]);
    world.pull("1.0");
    let (http, served) = (world.daemon.http(), world.served());
    let refused = http.blob(&served, &image.top_layer()).is(403);
    assert!(refused.text().contains("larder trust"), "ends in the remedy: {}", refused.text());
    http.head(&format!("/v2/{served}/blobs/{}", image.top_layer())).is(404);
    http.manifest(&served, "1.0").is(200);
    world.home.trust().key("stranger", &stranger);
    world.daemon.client().becomes(&world.reference("1.0"), State::Verified);
    http.blob(&served, &image.top_layer()).is(200);
    world.home.trust().remove_key("stranger");
    world.daemon.client().becomes(&world.reference("1.0"), State::Untrusted);
    http.blob(&served, &image.top_layer()).is(403);
}

#[test]
fn the_gate_may_warn_or_be_off() {
    for (gate, warns) in [("warn", true), ("off", false)] {
        let world = World::with_config(&format!("gate = \"{gate}\"\n"));
        let image = world.upstream("1.0", &[]);
        world.pull("1.0");
        let answer = world.daemon.http().blob(&world.served(), &image.top_layer()).is(200);
        assert_eq!(!answer.header("warning").is_empty(), warns, "gate {gate}");
    }
}

#[test]
fn a_policy_in_warn_mode_serves_with_a_warning() {
    let world = World::start();
    let image = world.upstream("1.0", &[]);
    world.home.trust().key("release", &Signer::new("release"));
    world.home.trust().policy(
        "p",
        &json!({"images": [{"glob": "**"}], "mode": "warn",
        "authorities": [{"name": "a", "key": {"secretRef": {"name": "release"}}}]}),
    );
    world.daemon.client().trust_becomes("settled", 1, 1);
    world.pull("1.0");
    let answer = world.daemon.http().blob(&world.served(), &image.top_layer()).is(200);
    assert!(!answer.header("warning").is_empty());
}

#[test]
fn a_blob_is_open_only_in_the_repository_that_serves_it() {
    let (world, release) = (World::start(), Signer::new("release"));
    let image = world.upstream("1.0", &[&release]);
    world.home.trust().key("release", &release);
    world.daemon.client().trust_becomes("settled", 1, 0);
    world.pull("1.0");
    let http = world.daemon.http();
    http.blob(&world.served(), &image.top_layer()).is(200);
    let elsewhere = http.blob(&world.served_as("other/app"), &image.top_layer());
    assert!(matches!(elsewhere.status, 403 | 404), "{}", elsewhere.status);
}

#[test]
fn local_repositories_take_pushes_under_both_their_names() {
    let (world, release) = (World::start(), Signer::new("release"));
    let image = Image::small("local");
    let http = world.daemon.http();
    http.push("team/app", "1.0", &image);
    let client = world.daemon.client();
    assert_eq!(client.state("localhost/team/app:1.0"), State::Unsigned);
    http.manifest("localhost/team/app", "1.0").is(200);
    http.push("team/app", &image.digest_tag(".sig"), &release.signature_of(&image));
    world.home.trust().key("release", &release);
    client.becomes("localhost/team/app:1.0", State::Verified);
    assert_eq!(http.blob("localhost/team/app", &image.top_layer()).is(200).body, image.blobs()[2]);
    assert!(client.query("docker.io/team/app:1.0").is_err(), "never Docker Hub");
}

#[test]
fn under_a_registrys_name_only_attached_things_may_be_pushed() {
    let (world, release) = (World::start(), Signer::new("release"));
    let image = world.upstream("1.0", &[]);
    world.pull("1.0");
    world.home.trust().key("release", &release);
    world.daemon.client().trust_becomes("settled", 1, 0);
    let (http, served) = (world.daemon.http(), world.served());
    http.push(&served, &image.digest_tag(".sig"), &release.signature_of(&image));
    world.daemon.client().becomes(&world.reference("1.0"), State::Verified);
    let intruder = Image::small("intruder");
    for blob in intruder.blobs() {
        http.put_blob(&served, &Digest::of(blob), blob.clone());
    }
    let refused = http.put_manifest(&served, "1.0", OCI_MANIFEST, intruder.root().bytes.clone());
    assert_eq!(refused.status, 403, "{}", refused.text());
    assert!(refused.text().contains("push_to"), "names the remedy: {}", refused.text());
    http.put_manifest(&served, &intruder.digest().to_string(), OCI_MANIFEST, intruder.root().bytes.clone()).is(403);
    assert_eq!(world.daemon.client().query(&world.reference("1.0")).expect("held").digest, image.digest().to_string());
}

#[test]
fn push_to_opens_a_registrys_name() {
    let world = World::with_config("[endpoint]\npush_to = [\"registry.example.org/**\"]\n");
    let image = Image::small("mirrored");
    world.daemon.http().push("registry.example.org/team/app", "1.0", &image);
    assert_eq!(world.daemon.client().state("registry.example.org/team/app:1.0"), State::Unsigned);
}

#[test]
fn an_image_pushed_under_a_sig_tag_does_not_pass_the_gate() {
    let world = World::start();
    let (image, carrier) = (Image::small("rejected"), Image::small("carrier"));
    let http = world.daemon.http();
    http.push("team/app", "1.0", &image);
    http.push("team/app", &carrier.digest_tag(".sig"), &image);
    assert!(matches!(http.blob("team/app", &image.top_layer()).status, 403 | 404));
    let names: Vec<_> = world.daemon.client().list().into_iter().map(|artifact| artifact.tag).collect();
    assert_eq!(names, ["1.0"], "a signature tag makes no subject");
    // Nor does an image that is nothing else than that.
    let hidden = Image::small("hidden");
    http.push("team/app", &carrier.digest_tag(".sig"), &hidden);
    assert!(matches!(http.blob("team/app", &hidden.top_layer()).status, 403 | 404));
}

#[test]
fn an_attached_manifest_that_lists_a_rejected_images_layers_opens_none() {
    let world = World::start();
    let (image, good) = (Image::small("rejected"), Image::small("some subject"));
    let http = world.daemon.http();
    http.push("team/app", "1.0", &image);
    http.push("team/app", "2.0", &good);
    let layer = image.blobs().last().expect("a layer").clone();
    let config = Bytes::from_static(b"{}");
    for media_type in [SIMPLE_SIGNING, "application/spdx+json", "application/vnd.in-toto+json"] {
        let manifest = json!({"schemaVersion": 2, "mediaType": OCI_MANIFEST, "artifactType": media_type,
            "config": harness::image::describe("application/vnd.oci.empty.v1+json", &config),
            "layers": [harness::image::describe(media_type, &layer)], "subject": good.descriptor()});
        let referrer = Content::of(OCI_MANIFEST, &manifest, vec![config.clone(), layer.clone()]);
        http.push_by_digest("team/app", &referrer);
        http.blob("team/app", &image.top_layer()).is(403);
    }
}

#[test]
fn an_sbom_of_a_rejected_image_can_be_read() {
    let world = World::start();
    let image = Image::small("rejected");
    let sbom = Image::new("sbom")
        .layer("{\"spdx\": 1}")
        .subject(&image, "application/spdx+json")
        .build_with("application/spdx+json");
    let http = world.daemon.http();
    http.push("team/app", "1.0", &image);
    http.push_by_digest("team/app", &sbom);
    http.blob("team/app", &image.top_layer()).is(403);
    http.blob("team/app", &sbom.top_layer()).is(200);
    let referrers = http.get(&format!("/v2/team/app/referrers/{}", image.digest())).is(200);
    assert!(referrers.text().contains(&sbom.digest().to_string()), "{}", referrers.text());
    let none = http.get(&format!("/v2/team/app/referrers/{}?artifactType=application/none", image.digest())).is(200);
    assert!(!none.text().contains(&sbom.digest().to_string()));
}

#[test]
fn a_manifest_with_inline_data_is_held_back() {
    let world = World::start();
    let inline = b"layer bytes in the manifest".to_vec();
    let config = Bytes::from_static(b"{}");
    let mut layer = harness::image::describe(harness::image::OCI_LAYER, &inline);
    layer["data"] = json!(base64::engine::general_purpose::STANDARD.encode(&inline));
    let manifest = json!({"schemaVersion": 2, "mediaType": OCI_MANIFEST,
        "config": harness::image::describe(harness::image::OCI_CONFIG, &config), "layers": [layer]});
    let content = Content::of(OCI_MANIFEST, &manifest, vec![config, inline.into()]);
    world.daemon.http().push("team/app", "1.0", &content);
    world.daemon.http().manifest("team/app", "1.0").is(403);
}

#[test]
fn a_denied_blob_is_not_read_by_way_of_an_accepted_manifest_that_embeds_it() {
    let world = World::start();
    let denied = b"bytes that deny.yaml names".to_vec();
    let config = Bytes::from_static(b"{\"c\":1}");
    let mut layer = harness::image::describe(harness::image::OCI_LAYER, &denied);
    layer["data"] = json!(base64::engine::general_purpose::STANDARD.encode(&denied));
    let manifest = json!({"schemaVersion": 2, "mediaType": OCI_MANIFEST,
        "config": harness::image::describe(harness::image::OCI_CONFIG, &config), "layers": [layer]});
    let content = Content::of(OCI_MANIFEST, &manifest, vec![config, denied.clone().into()]);
    let (http, client) = (world.daemon.http(), world.daemon.client());
    http.push("team/app", "1.0", &content);
    world.home.trust().policy_static("p", "localhost/**", "pass");
    client.becomes("localhost/team/app:1.0", State::Allowed);
    http.manifest("team/app", "1.0").is(200);
    let digest = Digest::of(&denied);
    world.home.trust().deny(&json!({"digests": [{"digest": digest.to_string()}]}));
    harness::eventually("the denial", || (http.blob("team/app", &digest).status == 403).then_some(()));
    let refused = http.manifest("team/app", "1.0").is(403);
    assert!(refused.text().contains(&digest.to_string()), "names what is denied: {}", refused.text());
}

#[test]
fn evidence_that_embeds_a_rejected_layer_is_held_back_whatever_digest_it_names() {
    let world = World::start();
    let (image, good) = (Image::small("rejected"), Image::small("some subject"));
    let http = world.daemon.http();
    http.push("team/app", "1.0", &image);
    http.push("team/app", "2.0", &good);
    let layer = image.blobs().last().expect("a layer").clone();
    let decoy = Bytes::from(vec![b'x'; layer.len()]);
    let config = Bytes::from_static(b"{}");
    let kind = "application/spdx+json";
    for (listed, embedded, status) in [(&layer, &layer, 403), (&decoy, &layer, 403), (&decoy, &decoy, 200)] {
        let mut described = harness::image::describe(kind, listed);
        described["data"] = json!(base64::engine::general_purpose::STANDARD.encode(embedded));
        let manifest = json!({"schemaVersion": 2, "mediaType": OCI_MANIFEST, "artifactType": kind,
            "config": harness::image::describe("application/vnd.oci.empty.v1+json", &config),
            "layers": [described], "subject": good.descriptor()});
        let referrer = Content::of(OCI_MANIFEST, &manifest, vec![config.clone(), listed.clone()]);
        http.push_by_digest("team/app", &referrer);
        http.manifest("team/app", &referrer.digest().to_string()).is(status);
    }
}

#[test]
fn a_referrer_that_is_damaged_or_gone_hides_no_other() {
    let world = World::start();
    let image = Image::small("subject");
    let http = world.daemon.http();
    http.push("team/app", "1.0", &image);
    let sboms = ["damaged", "gone", "whole"].map(|name| {
        let text = format!("{{\"spdx\": \"{name}\"}}");
        let sbom = Image::new(name).layer(text).subject(&image, "application/spdx+json");
        sbom.build_with("application/spdx+json")
    });
    for sbom in &sboms {
        http.push_by_digest("team/app", sbom);
    }
    let [damaged, gone, whole] = sboms.map(|sbom| sbom.digest());
    let file = world.home.blob(&damaged);
    fs::remove_file(&file).expect("removed");
    fs::write(&file, b"other bytes").expect("damaged");
    fs::remove_file(world.home.blob(&gone)).expect("removed");
    // The first reading finds the damage, the second one knows of it.
    for _ in 0..2 {
        let listed = http.get(&format!("/v2/team/app/referrers/{}", image.digest())).is(200).text();
        assert!(listed.contains(&whole.to_string()), "{listed}");
        assert!(!listed.contains(&damaged.to_string()) && !listed.contains(&gone.to_string()), "{listed}");
    }
    http.manifest("team/app", &damaged.to_string()).is(404);
}

#[test]
fn an_index_that_is_accepted_serves_its_children() {
    let (world, release) = (World::start(), Signer::new("release"));
    let child = Image::new("child").layer("child layer").build();
    let index = Index::new().child(&child, "linux", "amd64").build();
    let http = world.daemon.http();
    http.push("team/app", "1.0", &index);
    http.blob("team/app", &child.top_layer()).is(403);
    http.push("team/app", &index.digest_tag(".sig"), &release.signature_of(&index));
    world.home.trust().key("release", &release);
    world.daemon.client().becomes("localhost/team/app:1.0", State::Verified);
    http.blob("team/app", &child.top_layer()).is(200);
}

#[test]
fn foreign_hosts_and_origins_are_refused() {
    let world = World::start();
    let http = world.daemon.http();
    http.clone().with("host", "evil.example").get("/v2/").is(403);
    http.clone().with("origin", "http://localhost").get("/v2/").is(403);
    http.clone().with("host", "localhost:5000").get("/v2/").is(200);
    let configured = World::with_config("[endpoint]\nhosts = [\"larder.example\"]\n");
    configured.daemon.http().with("host", "larder.example").get("/v2/").is(200);
}

#[test]
fn uploads_are_checked_and_broken_ones_leave_nothing() {
    let world = World::start();
    let http = world.daemon.http();
    let (bytes, other) = (Bytes::from_static(b"some bytes"), Digest::of(b"other bytes"));
    let wrong = http.put_blob("team/app", &other, bytes.clone());
    assert_eq!(wrong.status, 400, "{}", wrong.text());
    assert!(wrong.text().contains("DIGEST_INVALID"), "{}", wrong.text());
    assert!(!world.home.blob(&other).exists() && !world.home.blob(&Digest::of(&bytes)).exists());
    // In chunks.
    let begun = http.send(Method::POST, "/v2/team/app/blobs/uploads/", "", Bytes::new()).is(202);
    let mut place = begun.header("location").to_owned();
    for chunk in ["some ", "bytes"] {
        place =
            http.send(Method::PATCH, &place, "application/octet-stream", chunk).is(202).header("location").to_owned();
    }
    let joint = if place.contains('?') { '&' } else { '?' };
    http.send(Method::PUT, &format!("{place}{joint}digest={}", Digest::of(&bytes)), "", Bytes::new()).is(201);
    // At once.
    let whole = Bytes::from_static(b"whole");
    let path = format!("/v2/team/app/blobs/uploads/?digest={}", Digest::of(&whole));
    let answer = http.send(Method::POST, &path, "application/octet-stream", whole);
    assert!(matches!(answer.status, 201 | 202), "{}", answer.status);
    // A manifest whose blobs are not here.
    let image = Image::small("not uploaded");
    let refused = http.put_manifest("team/app", "1.0", OCI_MANIFEST, image.root().bytes.clone());
    assert!(refused.status == 404 || refused.status == 400, "{}", refused.status);
    assert!(refused.text().contains("BLOB_UNKNOWN"), "{}", refused.text());
    http.manifest("team/app", "1.0").is(404);
    world.home.assert_blobs_are_whole();
}

#[test]
fn names_and_digests_that_are_none() {
    let mut world = World::start();
    let http = world.daemon.http();
    for path in [
        "/v2/UPPER/manifests/1.0",
        "/v2/team/app/manifests/.bad",
        "/v2/team/app/blobs/sha256:abc",
        "/v2/team/../app/manifests/1.0",
        "/v2/team//app/manifests/1.0",
        "/v2/team/app/blobs/md5:d41d8cd98f00b204e9800998ecf8427e",
        "/v2/%2e%2e/%2e%2e/manifests/1.0",
    ] {
        let status = http.get(path).status;
        assert!((400..500).contains(&status), "{path}: {status}");
    }
    world.daemon.assert_up();
}

/// Runs bash as nobody; `None` where this test does not run as root and so cannot be another uid.
fn as_nobody(script: &str) -> Option<std::process::Output> {
    use std::os::unix::process::CommandExt;
    if !rustix::process::geteuid().is_root() {
        eprintln!("not root: the part that needs a client of another uid did not run");
        return None;
    }
    let mut command = std::process::Command::new("bash");
    command.args(["-c", script]).uid(65534).gid(65534).env_clear().env("PATH", "/usr/bin:/bin").current_dir("/");
    Some(command.output().expect("bash as nobody"))
}

#[test]
fn another_uid_needs_the_token() {
    let world = World::start();
    let (host, port) = world.daemon.endpoint().rsplit_once(':').expect("HOST:PORT");
    let ask = |header: &str| {
        let request = format!("GET /v2/ HTTP/1.1\\r\\nHost: localhost\\r\\nConnection: close\\r\\n{header}\\r\\n");
        as_nobody(&format!("exec 3<>/dev/tcp/{host}/{port}; printf '{request}' >&3; cat <&3"))
            .map(|output| String::from_utf8_lossy(&output.stdout).into_owned())
    };
    let Some(answer) = ask("") else { return };
    assert!(
        answer.starts_with("HTTP/1.1 401") && answer.to_lowercase().contains("www-authenticate: basic"),
        "{answer}"
    );
    let token = fs::read_to_string(world.home.path().join("endpoint.token")).expect("the token");
    let basic = |password: &str| base64::engine::general_purpose::STANDARD.encode(format!("any:{}", password.trim()));
    let answer = ask(&format!("Authorization: Basic {}\\r\\n", basic(&token))).unwrap_or_default();
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    let answer = ask(&format!("Authorization: Basic {}\\r\\n", basic("wrong"))).unwrap_or_default();
    assert!(answer.starts_with("HTTP/1.1 401"), "{answer}");
}

#[test]
fn a_client_of_another_uid_that_closes_before_the_answer_gets_nothing_done() {
    let mut world = World::start();
    let image = Image::small("local");
    world.daemon.http().push("team/app", "1.0", &image);
    let (host, port) = world.daemon.endpoint().rsplit_once(':').expect("HOST:PORT");
    let manifest = String::from_utf8_lossy(&image.root().bytes).into_owned();
    let request = format!(
        "PUT /v2/team/app/manifests/stolen HTTP/1.1\r\nHost: localhost\r\nContent-Type: {OCI_MANIFEST}\r\nContent-Length: {}\r\n\r\n{manifest}",
        manifest.len()
    );
    let script = format!(
        "for i in $(seq 50); do exec 3<>/dev/tcp/{host}/{port}; cat >&3 <<'END'\n{request}\nEND\nexec 3>&-; done"
    );
    if as_nobody(&script).is_none() {
        return;
    }
    world.daemon.assert_up();
    world.daemon.http().manifest("team/app", "stolen").is(404);
}

#[test]
fn the_socket_admits_its_owner_only() {
    use std::os::unix::fs::PermissionsExt;
    let world = World::start();
    let mode = fs::metadata(world.daemon.socket()).expect("the socket").permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let mode = fs::metadata(world.home.path()).expect("the home").permissions().mode();
    assert_eq!(mode & 0o777, 0o700);
    let mode = fs::metadata(world.home.path().join("endpoint.token")).expect("the token").permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
}

#[test]
fn the_endpoint_can_be_off() {
    let home = harness::Home::new();
    let daemon = home.launch().env("LARDER_ENDPOINT", "off").start();
    assert_eq!(daemon.endpoint(), "off");
}
