//! Images carried by file: saved as OCI image layouts, loaded from there.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;

use harness::binaries::binaries;
use harness::faults::Kind;
use harness::fixtures::{self, Layout};
use harness::image::{host_architecture, noise};
use harness::{Daemon, Home, Image, Index, Signer};
use larder_core::Digest;
use larder_proto::v1;
use larder_proto::v1::State;
use larder_proto::v1::load_request::Request;
use serde_json::Value;
use tonic_types::StatusExt as _;

use crate::world::World;

fn text(path: &Path) -> String {
    path.to_str().expect("UTF-8").to_owned()
}

/// A world that holds `1.0`, signed by a key that is trusted, and its layout in a folder.
fn saved() -> (World, PathBuf) {
    let (world, release) = (World::start(), Signer::new("release"));
    world.home.trust().key("release", &release);
    world.daemon.client().trust_becomes("settled", 1, 0);
    world.upstream("1.0", &[&release]);
    world.pull("1.0");
    let layout = world.home.beside("layout");
    world.home.larder(["save", &world.reference("1.0"), "--output", &text(&layout)]).exits(0);
    (world, layout)
}

/// A home that trusts `release`, and accepts nothing else.
fn site() -> (Home, Daemon) {
    let home = Home::new();
    let daemon = home.start();
    home.trust().key("release", &Signer::new("release"));
    daemon.client().trust_becomes("settled", 1, 0);
    (home, daemon)
}

/// All digests in a tree, as JSON has it.
fn digests(value: &Value, found: &mut BTreeSet<String>) {
    match value {
        Value::String(text) if text.starts_with("sha256:") && text.len() == 71 => {
            found.insert(text.clone());
        }
        Value::Array(values) => values.iter().for_each(|value| digests(value, found)),
        Value::Object(values) => values.values().for_each(|value| digests(value, found)),
        _ => {}
    }
}

/// What is held: names, digests, states, and all that hangs on them.
fn held(home: &Home, daemon: &Daemon) -> Vec<(String, String, State, BTreeSet<String>)> {
    let mut held = Vec::new();
    for artifact in daemon.client().list() {
        let reference = format!("{}:{}", artifact.repository, artifact.tag);
        let mut found = BTreeSet::new();
        digests(&home.larder(["tree", &reference, "--output", "json"]).exits(0).json(), &mut found);
        held.push((reference.clone(), artifact.digest, daemon.client().state(&reference), found));
    }
    held
}

#[test]
fn everything_that_cosign_made_is_carried_whole() {
    let (ours, theirs) = (Home::new(), Home::new());
    let (from, to) = (ours.start(), theirs.start());
    for home in [&ours, &theirs] {
        home.trust().write("keys/p256.pub", fixtures::public_key("p256.pub"));
        home.trust().policy_static("all", "**", "pass");
    }
    for daemon in [&from, &to] {
        daemon.client().trust_becomes("settled", 1, 1);
    }
    let mut references = Vec::new();
    for repository in fixtures::repositories() {
        let (layout, name) =
            (fixtures::cosign().join("layouts").join(&repository), format!("example.test/pantry/{repository}"));
        ours.larder(["load", &text(&layout), "--as", &name]).exits(0);
        references.extend(Layout::open(&repository).subjects().into_iter().map(|tag| format!("{name}:{tag}")));
    }
    let before = held(&ours, &from);
    assert_eq!(before.len(), references.len(), "every tag of the fixtures is an image here");
    assert!(before.iter().any(|(_, _, state, _)| *state == State::Verified), "signatures came along");

    // In one tar, and in one folder that is added to.
    let (tar, folder) = (ours.beside("all.tar"), ours.beside("all"));
    let with = |place: &Path, references: &[String]| {
        let mut words = vec!["save".to_owned(), "-o".to_owned(), text(place)];
        words.extend(references.iter().cloned());
        ours.larder(words).exits(0);
    };
    with(&tar, &references);
    for reference in &references {
        with(&folder, std::slice::from_ref(reference));
    }
    for place in [&tar, &folder] {
        let again = Home::new();
        let daemon = again.start();
        again.trust().write("keys/p256.pub", fixtures::public_key("p256.pub"));
        again.trust().policy_static("all", "**", "pass");
        daemon.client().trust_becomes("settled", 1, 1);
        again.larder(["load", &text(place)]).exits(0);
        assert_eq!(held(&again, &daemon), before, "{}", place.display());
        again.assert_blobs_are_whole();
    }
    // A second load moves nothing and changes nothing.
    theirs.larder(["load", &text(&tar)]).exits(0);
    let seq = to.client().status().seq;
    theirs.larder(["load", &text(&tar)]).exits(0).says(&["nothing had to move"]);
    assert_eq!(to.client().status().seq, seq);
}

#[test]
fn through_a_pipe() {
    let (world, _) = saved();
    let (home, daemon) = site();
    let larder = |at: &Home, words: &str| {
        format!("LARDER_HOME={} LARDER_ENDPOINT=off {} {words}", at.path().display(), binaries().larder.display())
    };
    for (pack, number) in [("cat", 1), ("gzip", 2)] {
        let save = larder(&world.home, &format!("save {} -o -", world.reference("1.0")));
        let load = larder(&home, &format!("load - --as localhost/carried:{number}"));
        let script = format!("set -o pipefail; {save} | {pack} | {load}");
        let ran = Command::new("bash").args(["-c", &script]).env_clear().env("PATH", "/usr/bin:/bin").output();
        let ran = ran.expect("bash");
        assert!(ran.status.success(), "{}", String::from_utf8_lossy(&ran.stderr));
        assert_eq!(daemon.client().state(&format!("localhost/carried:{number}")), State::Verified);
    }
}

#[test]
fn what_is_not_accepted_is_not_saved() {
    let world = World::start();
    world.upstream("1.0", &[]);
    world.pull("1.0");
    for place in ["layout", "layout.tar"] {
        let path = world.home.beside(place);
        let refused = world.home.larder(["save", &world.reference("1.0"), "-o", &text(&path)]).exits(3);
        refused.is_a_clear_error("unsigned").says(&["larder trust allow", "nothing was saved"]);
        assert!(!path.exists(), "nothing is left of {place}");
    }
    world.home.larder(["save", "localhost/nothing:1", "-o", "x"]).exits(1).is_a_clear_error("localhost/nothing:1");
    // A stranger's referrer that brings no evidence stays behind, as at the endpoint.
    world.home.trust().policy_static("all", "**", "pass");
    world.daemon.client().becomes(&world.reference("1.0"), State::Allowed);
    let referrer =
        Image::new("odd").layer("anything").subject(&Image::small("1.0"), "application/vnd.acme.odd").build();
    world.daemon.http().push_by_digest(&world.served(), &referrer);
    let path = world.home.beside("layout");
    world.home.larder(["save", &world.reference("1.0"), "-o", &text(&path)]).exits(0).says(&["left out", "held back"]);
    assert!(!path.join("blobs/sha256").join(referrer.digest().hex()).exists());
    for (gate, says) in [("warn", "unsigned"), ("off", "saved to")] {
        let world = World::with_config(&format!("gate = \"{gate}\"\n"));
        world.upstream("1.0", &[]);
        world.pull("1.0");
        let path = text(&world.home.beside("layout"));
        world.home.larder(["save", &world.reference("1.0"), "-o", &path]).exits(0).says(&[says]);
    }
}

#[test]
fn an_index_without_its_children_is_not_saved() {
    let world = World::with_config("gate = \"off\"\n");
    let foreign = if host_architecture() == "arm64" { "amd64" } else { "arm64" };
    let index = Index::new()
        .child(&Image::new("ours").architecture(host_architecture()).layer("a").build(), "linux", host_architecture())
        .child(&Image::new("theirs").architecture(foreign).layer("b").build(), "linux", foreign)
        .build();
    world.registry.put("store/app", "1.0", &index);
    world.pull("1.0");
    let path = world.home.beside("layout");
    let words = ["save", &world.reference("1.0"), "-o", &text(&path)];
    world.home.larder(words).exits(1).is_a_clear_error("1.0").says(&["--platform all"]);
    assert!(!path.exists());
    world.home.larder(["pull", "--platform", "all", &world.reference("1.0")]).exits(0);
    world.home.larder(words).exits(0);
    // A layout that lacks a child is loaded without it, and that is said.
    let lacking = index.manifests().iter().find(|one| one.digest() != index.digest()).expect("a child").digest();
    fs::remove_file(path.join("blobs/sha256").join(lacking.hex())).expect("a child's manifest");
    let (home, daemon) = site();
    home.larder(["load", &text(&path), "--as", "localhost/app"]).exits(0).says(&["1 manifest left out"]);
    assert_eq!(daemon.client().query("localhost/app:1.0").expect("held").digest, index.digest().to_string());
}

#[test]
fn a_dry_run_judges_and_keeps_nothing() {
    let (world, layout) = saved();
    let (home, daemon) = site();
    let (seq, blobs) = (daemon.client().status().seq, home.assert_blobs_are_whole());
    home.larder(["load", "--dry-run", &text(&layout)]).exits(0).says(&[
        "verified",
        "by release",
        "nothing was changed",
    ]);
    assert!(daemon.client().list().is_empty());
    assert_eq!(daemon.client().status().seq, seq);
    assert_eq!(home.assert_blobs_are_whole(), blobs, "no bytes were taken in");
    // Under another site's trust it is another verdict.
    let stranger = Home::new();
    let _daemon = stranger.start();
    stranger.larder(["load", "--dry-run", &text(&layout)]).exits(3).says(&["untrusted"]);
    drop(world);
}

#[test]
fn names_are_shown_and_can_be_said() {
    let (world, layout) = saved();
    let (home, daemon) = site();
    home.larder(["load", &text(&layout)]).exits(0).says(&[&world.reference("1.0")]);
    home.larder(["load", &text(&layout), "--as", "localhost/app"]).exits(0);
    home.larder(["load", &text(&layout), "--ref", "1.0", "--as", "localhost/app:2"]).exits(0);
    home.larder(["load", "--dir", &text(&layout), "localhost/app:3"]).exits(0);
    let names: BTreeSet<String> =
        daemon.client().list().into_iter().map(|one| format!("{}:{}", one.repository, one.tag)).collect();
    for name in [&world.reference("1.0"), "localhost/app:1.0", "localhost/app:2", "localhost/app:3"] {
        assert!(names.contains(name), "{name} of {names:?}");
        assert_eq!(daemon.client().state(name), State::Verified, "{name}");
    }
    // By digest it has no tag, here and there.
    let by_digest = format!("{}@{}", world.reference("1.0").trim_end_matches(":1.0"), Image::small("1.0").digest());
    let bare = world.home.beside("bare");
    world.home.larder(["save", &by_digest, "-o", &text(&bare)]).exits(0);
    let elsewhere = Home::new();
    let there = elsewhere.start();
    elsewhere.larder(["load", &text(&bare)]).exits(0);
    assert_eq!(there.client().query(&by_digest).expect("held").tags, Vec::<String>::new());
    home.larder(["load", &text(&layout), "--ref", "none"])
        .exits(1)
        .is_a_clear_error("none")
        .says(&["1.0", "--dry-run"]);
    home.larder(["load", &text(&layout), "--as", "Not A Name"]).exits(1).is_a_clear_error("Not A Name").hints();

    // A layout as other tools write it has tags alone, or no names at all; a tag that moves is told.
    let path = layout.join("index.json");
    let index = fs::read_to_string(&path).expect("the index");
    let plain = index.replace("io.containerd.image.name", "x");
    fs::write(&path, &plain).expect("the index");
    home.larder(["load", &text(&layout)]).exits(1).is_a_clear_error("1.0").says(&["--as"]);
    fs::write(&path, plain.replace("\"1.0\"", "\"\"")).expect("the index");
    home.larder(["load", &text(&layout), "--as", "localhost/nameless"]).exits(0);
    let other = world.upstream("1.1", &[&Signer::new("release")]);
    world.pull("1.1");
    let second = world.home.beside("second");
    world.home.larder(["save", &world.reference("1.1"), "-o", &text(&second)]).exits(0);
    let moved = home.larder(["load", &text(&second), "--as", "localhost/app:2"]).exits(0);
    moved.says(&["2 named", "before"]);
    assert_eq!(daemon.client().query("localhost/app:2").expect("held").digest, other.digest().to_string());
}

#[test]
fn two_images_of_one_tag_in_one_layout() {
    let world = World::with_config("gate = \"off\"\n");
    let images = ["one", "two"].map(|name| (name, Image::small(name)));
    let mut words = vec!["save".to_owned()];
    for (name, image) in &images {
        world.daemon.http().push(&format!("team/{name}"), "1.0", image);
        words.push(format!("localhost/team/{name}:1.0"));
    }
    let layout = world.home.beside("layout");
    words.extend(["-o".to_owned(), text(&layout)]);
    world.home.larder(words).exits(0).says(&["called localhost/team/two:1.0 in the layout"]);
    let (home, daemon) = site();
    home.larder(["load", &text(&layout), "--as", "localhost/both"])
        .exits(1)
        .is_a_clear_error("localhost/both:1.0")
        .says(&["--ref"]);
    home.larder(["load", &text(&layout)]).exits(0);
    for (name, image) in &images {
        let there = daemon.client().query(&format!("localhost/team/{name}:1.0")).expect("held");
        assert_eq!(there.digest, image.digest().to_string());
    }
}

#[test]
fn signatures_of_two_carriers_are_united() {
    let (one, two) = (Signer::new("one"), Signer::new("two"));
    let layouts = [&one, &two].map(|signer| {
        let world = World::with_config("gate = \"off\"\n");
        let image = Image::small("1.0");
        world.registry.put("store/app", "1.0", &image);
        world.sign_upstream(&image, &[signer]);
        world.pull("1.0");
        let layout = world.home.beside("layout.tar");
        world.home.larder(["save", &world.reference("1.0"), "-o", &text(&layout)]).exits(0);
        (world, layout)
    });
    let home = Home::new();
    let daemon = home.start();
    for (_, layout) in &layouts {
        home.larder(["load", &text(layout), "--as", "localhost/app"]).exits(0);
    }
    let tag = Image::small("1.0").digest_tag(".sig");
    let raw = daemon.http().get(&format!("/v2/app/manifests/{tag}"));
    let manifest: Value = serde_json::from_slice(&raw.body).expect("a manifest");
    assert_eq!(manifest["layers"].as_array().map(Vec::len), Some(2), "the tag has both signatures: {manifest}");
    // What is there already is not lost to an older carrier.
    home.larder(["load", &text(&layouts[0].1), "--as", "localhost/app"]).exits(0);
    assert_eq!(daemon.http().get(&format!("/v2/app/manifests/{tag}")).body, raw.body);
    home.trust().key("two", &two);
    daemon.client().becomes("localhost/app:1.0", State::Verified);
}

/// Asserts that nothing of a layout came in.
#[track_caller]
fn assert_refused(home: &Home, daemon: &Daemon, path: &Path, noun: &str) {
    home.larder(["load", &text(path)]).exits(1).is_a_clear_error(noun).hints();
    assert!(daemon.client().list().is_empty(), "nothing is visible");
    home.assert_blobs_are_whole();
}

#[test]
fn layouts_that_are_not_as_they_should_be() {
    let (world, layout) = saved();
    let (home, daemon) = site();
    let image = Image::small("1.0");
    let (layer, root) = (image.top_layer(), image.digest());
    let damaged = |damage: &dyn Fn(&Path)| {
        let copy = world.home.beside("damaged");
        let _ = fs::remove_dir_all(&copy);
        let copied = Command::new("cp").arg("-a").args([&layout, &copy]).status();
        assert!(copied.is_ok_and(|status| status.success()), "cp -a");
        damage(&copy);
        copy
    };
    let blob = |folder: &Path, digest: &Digest| folder.join("blobs/sha256").join(digest.hex());
    let rewrite = |path: &Path, change: &dyn Fn(&mut Vec<u8>)| {
        let mut bytes = fs::read(path).expect("a file");
        change(&mut bytes);
        fs::write(path, bytes).expect("a file");
    };
    for digest in [&layer, &root] {
        // Other bytes, fewer, none, and none at all.
        type Change<'a> = (&'a dyn Fn(&mut Vec<u8>), &'a str);
        let changes: [Change<'_>; 3] =
            [(&|bytes| bytes[20] ^= 1, "other bytes"), (&|bytes| bytes.truncate(9), "cut"), (&Vec::clear, "emptied")];
        for (change, what) in changes {
            let copy = damaged(&|folder| rewrite(&blob(folder, digest), change));
            println!("{what}");
            assert_refused(&home, &daemon, &copy, &digest.hex());
        }
        let gone = damaged(&|folder| fs::remove_file(blob(folder, digest)).expect("a blob"));
        assert_refused(&home, &daemon, &gone, &digest.hex());
        let linked = damaged(&|folder| {
            fs::remove_file(blob(folder, digest)).expect("a blob");
            symlink("/etc/hostname", blob(folder, digest)).expect("a link");
        });
        assert_refused(&home, &daemon, &linked, &digest.hex());
    }
    for (file, bytes) in [
        ("index.json", &b"{"[..]),
        ("index.json", b"[]"),
        ("oci-layout", b"{}"),
        ("oci-layout", b"{\"imageLayoutVersion\":\"9\"}"),
    ] {
        let copy = damaged(&|folder| fs::write(folder.join(file), bytes).expect("a file"));
        assert_refused(&home, &daemon, &copy, file);
    }
    let huge = damaged(&|folder| {
        let file = fs::File::options().write(true).open(folder.join("index.json")).expect("the index");
        file.set_len(1 << 30).expect("a hole");
    });
    assert_refused(&home, &daemon, &huge, "index.json");
    let own = damaged(&|folder| {
        rewrite(&folder.join("index.json"), &|bytes| {
            let said = format!("\"size\":{}", image.root().bytes.len());
            let index = String::from_utf8_lossy(bytes).replace(&said, "\"size\":1");
            *bytes = index.into_bytes();
        });
    });
    assert_refused(&home, &daemon, &own, &root.hex());
    assert_refused(
        &home,
        &daemon,
        &damaged(&|folder| fs::remove_file(folder.join("index.json")).expect("it")),
        "index.json",
    );

    // The same, in tars that are cut short.
    let tar = world.home.beside("whole.tar");
    world.home.larder(["save", &world.reference("1.0"), "-o", &text(&tar)]).exits(0);
    let whole = fs::read(&tar).expect("a tar");
    for length in [0, 100, 512, whole.len() / 2, whole.len() - 1024] {
        let cut = world.home.write_beside("cut.tar", &whole[..length]);
        assert_refused(&home, &daemon, &cut, "cut.tar");
    }
    home.larder(["load", &text(&tar)]).exits(0);
}

#[test]
fn indexes_nested_without_end() {
    let (home, daemon) = site();
    let mut content = Image::small("innermost");
    for _ in 0..12 {
        content = Index::new().child(&content, "linux", "amd64").build();
    }
    let folder = home.beside("nested");
    fs::create_dir_all(folder.join("blobs/sha256")).expect("a folder");
    fs::write(folder.join("oci-layout"), r#"{"imageLayoutVersion":"1.0.0"}"#).expect("a file");
    for bytes in content.manifests().iter().map(|manifest| &manifest.bytes).chain(content.blobs()) {
        fs::write(folder.join("blobs/sha256").join(Digest::of(bytes).hex()), bytes).expect("a blob");
    }
    let mut entry = content.descriptor();
    entry["annotations"] = serde_json::json!({"org.opencontainers.image.ref.name": "localhost/nested:1"});
    let index = serde_json::json!({"schemaVersion": 2, "manifests": [entry]});
    fs::write(folder.join("index.json"), index.to_string()).expect("a file");
    assert_refused(&home, &daemon, &folder, "8 levels");
}

#[test]
fn a_full_disk_loads_nothing_and_breaks_nothing() {
    let (_world, layout) = saved();
    for point in ["blob-write", "blob-sync", "blob-rename", "journal-write"] {
        let home = Home::new();
        let mut daemon = home.launch().fault(point, Kind::Full).try_start().expect("it starts");
        home.larder(["load", &text(&layout), "--as", "localhost/app"]).exits(1).is_a_clear_error("full");
        daemon.assert_up();
        assert!(daemon.client().list().is_empty(), "{point}");
        daemon.kill();
        let daemon = home.start();
        home.larder(["load", &text(&layout), "--as", "localhost/app"]).exits(0);
        assert_eq!(daemon.client().list().len(), 1, "{point}");
        home.assert_blobs_are_whole();
    }
}

#[test]
fn a_save_that_ends_early_leaves_no_layout() {
    let (world, layout) = saved();
    let before = fs::read(layout.join("index.json")).expect("the index");
    let World { registry, home, daemon } = world;
    drop(daemon);
    // The daemon dies when all is written but the record.
    for point in ["journal-write", "journal-sync"] {
        for place in ["new", "new.tar", "layout"] {
            let daemon = home.launch().fault(point, Kind::Kill).try_start().expect("it starts");
            let words = ["save", &registry.reference("store/app", "1.0"), "-o", &text(&home.beside(place))];
            home.larder(words).exits(1);
            daemon.ended();
        }
        for place in ["new", "new.tar"] {
            assert!(!home.beside(place).exists(), "{point}: {place}");
        }
        let after = fs::read(layout.join("index.json")).expect("the index");
        assert_eq!(after, before, "{point}: the older layout is as it was");
        let folder = fs::read_dir(home.beside(".")).expect("a folder");
        let left: Vec<_> = folder.filter_map(Result::ok).map(|entry| entry.file_name()).collect();
        assert!(!left.iter().any(|name| name.to_string_lossy().ends_with(".tmp")), "{point}: {left:?}");
    }
    let _daemon = home.start();
    home.larder(["save", &registry.reference("store/app", "1.0"), "-o", &text(&home.beside("new"))]).exits(0);
}

#[test]
fn memory_does_not_grow_with_a_blob() {
    let world = World::with_config("gate = \"off\"\n");
    let image = Image::new("large").layer(noise("large", 200 << 20)).build();
    world.daemon.http().push("team/large", "1", &image);
    let reference = "localhost/team/large:1";
    let before = world.daemon.memory_kib("VmHWM");
    let tar = world.home.beside("large.tar");
    world.home.larder(["save", reference, "-o", &text(&tar)]).exits(0);
    let (home, daemon) = site();
    home.larder(["load", &text(&tar)]).exits(0);
    assert!(world.daemon.memory_kib("VmHWM") < before + (60 << 10), "saving takes pieces");
    assert!(daemon.memory_kib("VmHWM") < 180 << 10, "loading takes pieces: {} KiB", daemon.memory_kib("VmHWM"));
    home.assert_blobs_are_whole();
}

/// Loads with these requests, sent in one go; the reason of the error that ends it.
fn load_by_hand(daemon: &Daemon, requests: Vec<Request>) -> String {
    let sent =
        futures_util::stream::iter(requests.into_iter().map(|request| v1::LoadRequest { request: Some(request) }));
    let client = daemon.client();
    let ended = harness::block(async {
        let mut events = client.layouts().load(sent).await?.into_inner();
        while events.message().await?.is_some() {}
        Ok::<_, tonic::Status>(())
    });
    let status = ended.expect_err("nobody can load that");
    let reason = status.get_error_details().error_info().map(|info| info.reason.clone());
    reason.unwrap_or_else(|| panic!("no reason: {status:?}"))
}

#[test]
fn a_client_that_lies() {
    let (home, mut daemon) = site();
    let begin = || Request::Begin(v1::LoadBegin { place: "nowhere".to_owned(), ..v1::LoadBegin::default() });
    let files = |files: &[(&str, u64)], last| {
        let files = files.iter().map(|(name, size)| v1::LayoutFile { name: (*name).to_owned(), size: *size }).collect();
        Request::Files(v1::LayoutFiles { files, last })
    };
    let data = |number, data: &[u8], last| {
        Request::Data(v1::LayoutData { number, data: data.to_vec().into(), last, error: String::new() })
    };
    let marker = br#"{"imageLayoutVersion":"1.0.0"}"#;
    let layout = || files(&[("oci-layout", marker.len() as u64), ("index.json", 10)], true);
    let cut = Request::Data(v1::LayoutData { number: 1, error: "the disk is gone".to_owned(), ..Default::default() });
    for (requests, reason) in [
        (vec![], "interrupted"),
        (vec![layout()], "invalid-argument"),
        (vec![begin()], "interrupted"),
        (vec![begin(), begin()], "invalid-argument"),
        (vec![begin(), files(&[], true)], "invalid-layout"),
        (vec![begin(), files(&[("../../etc/passwd", 1)], true)], "invalid-layout"),
        (vec![begin(), files(&[("a", 1)], false), files(&[("a", 1)], true)], "invalid-layout"),
        (vec![begin(), layout()], "interrupted"),
        (vec![begin(), layout(), begin()], "invalid-argument"),
        (vec![begin(), layout(), data(7, marker, true)], "interrupted"),
        (vec![begin(), layout(), data(1, &marker[..5], true)], "invalid-layout"),
        (vec![begin(), layout(), data(1, &[b' '; 1000], true)], "invalid-layout"),
        (vec![begin(), layout(), data(1, marker, true), data(2, b"          ", true)], "invalid-layout"),
        (vec![begin(), layout(), cut], "unreadable-file"),
    ] {
        let shown = format!("{requests:?}");
        assert_eq!(load_by_hand(&daemon, requests), reason, "{shown}");
    }
    daemon.assert_up();
    assert!(daemon.client().list().is_empty());
    drop(home);
}
