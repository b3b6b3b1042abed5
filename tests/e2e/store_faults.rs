//! What disks do: they fill up, lose power, and come back with other bytes.

use std::fs;
use std::io::Write;
use std::path::PathBuf;

use harness::faults::{Kind, points};
use harness::home::files;
use harness::{Home, Image, Signer};
use larder_proto::v1::State;

use crate::world::World;

/// A stopped home that holds one image, verified by `release`, and its upstream.
#[track_caller]
fn stopped() -> (harness::FakeRegistry, Home, String) {
    let (world, release) = (World::start(), Signer::new("release"));
    world.home.trust().key("release", &release);
    world.daemon.client().trust_becomes("settled", 1, 0);
    world.upstream("1.0", &[&release]);
    world.pull("1.0");
    let reference = world.reference("1.0");
    let World { registry, home, daemon } = world;
    assert!(daemon.stop().success());
    (registry, home, reference)
}

fn journal(home: &Home) -> PathBuf {
    files(&home.path().join("journal")).pop().expect("a journal")
}

fn remove_views(home: &Home) {
    for folder in ["index", "snapshot"] {
        let _ = fs::remove_dir_all(home.path().join(folder));
    }
}

#[test]
fn a_full_disk_at_every_point_loses_nothing() {
    let mut refused = 0;
    for point in points() {
        let (world, release) = (World::start(), Signer::new("release"));
        world.home.trust().key("release", &release);
        world.daemon.client().trust_becomes("settled", 1, 0);
        world.upstream("first", &[&release]);
        world.pull("first");
        let World { registry, home, daemon } = world;
        assert!(daemon.stop().success());
        let Ok(daemon) = home.launch().fault(point, Kind::Full).try_start() else {
            // It said so and ended; nothing is lost.
            refused += 1;
            let daemon = home.start();
            daemon.client().becomes(&registry.reference("store/app", "first"), State::Verified);
            continue;
        };
        let mut world = World { registry, home, daemon };
        let image = world.upstream("second", &[&release]);
        let output = world.home.larder(["pull", &world.reference("second")]);
        world.daemon.assert_up();
        if output.code != 0 {
            refused += 1;
            output.is_a_clear_error("full");
            assert!(world.daemon.client().query(&world.reference("second")).is_err(), "{point}: nothing half-visible");
        }
        assert_eq!(world.daemon.client().state(&world.reference("first")), State::Verified, "{point}: nothing is lost");
        world.home.assert_blobs_are_whole();
        // A change that narrows takes effect although it cannot be written down.
        world.home.trust().remove_key("release");
        world.daemon.client().becomes(&world.reference("first"), State::Untrusted);
        let world = world.restart();
        assert_eq!(world.daemon.client().status().read_only, "", "{point}");
        world.daemon.client().becomes(&world.reference("first"), State::Untrusted);
        world.pull("second");
        assert!(world.home.blob(&image.digest()).exists());
    }
    println!("a full disk was met at {refused} of {} points", points().len());
    assert!(refused > 0, "no point ever met a full disk");
}

#[test]
fn a_torn_journal_is_cut_kept_and_reported() {
    let (registry, home, reference) = stopped();
    let mut file = fs::OpenOptions::new().append(true).open(journal(&home)).expect("the journal");
    file.write_all(&[0, 0, 1, 0, 7, 7, 7]).expect("half a frame");
    drop(file);
    let daemon = home.start();
    let status = daemon.client().status();
    assert!(!status.recovered.is_empty(), "it is reported");
    assert_eq!(status.read_only, "");
    assert!(!files(&home.path().join("quarantine")).is_empty(), "the tail is kept");
    daemon.client().becomes(&reference, State::Verified);
    home.larder(["pull", &reference]).exits(0);
    drop(registry);
}

#[test]
fn a_journal_that_is_shorter_than_the_snapshot_is_loss() {
    let (_registry, home, reference) = stopped();
    let path = journal(&home);
    let length = fs::metadata(&path).expect("the journal").len();
    fs::OpenOptions::new().write(true).open(&path).and_then(|file| file.set_len(length - 5)).expect("a cut");
    assert_read_only(&home, &reference);
}

#[test]
fn a_tampered_journal_is_loss_with_and_without_the_views() {
    for without_views in [false, true] {
        let (_registry, home, reference) = stopped();
        let path = journal(&home);
        let mut bytes = fs::read(&path).expect("the journal");
        let place = bytes.len() / 3;
        bytes[place] ^= 0x20;
        fs::write(&path, bytes).expect("tampering");
        if without_views {
            remove_views(&home);
        }
        assert_read_only(&home, &reference);
    }
}

/// Starts on a journal with a loss: it answers, says so, and writes nothing.
#[track_caller]
fn assert_read_only(home: &Home, reference: &str) {
    let before: Vec<_> =
        files(&home.path().join("journal")).iter().map(|path| fs::read(path).expect("a journal")).collect();
    let daemon = home.start();
    let status = daemon.client().status();
    assert!(!status.read_only.is_empty(), "it says that it is read-only");
    home.larder(["pull", reference]).exits(1).is_a_clear_error("read-only");
    home.larder(["daemon", "status"]).exits(0);
    assert!(daemon.stop().success());
    let after: Vec<_> =
        files(&home.path().join("journal")).iter().map(|path| fs::read(path).expect("a journal")).collect();
    assert_eq!(before, after, "never a silent repair");
}

#[test]
fn a_home_that_another_daemon_holds_is_refused() {
    let home = Home::new();
    let mut daemon = home.start();
    let ended = home.launch().try_start().expect_err("the home is held");
    assert!(!ended.status.success());
    assert!(ended.log.contains("in use"), "{}", ended.log);
    daemon.assert_up();
}

#[test]
fn a_home_of_a_newer_format_is_refused_and_not_damaged() {
    let (_registry, home, reference) = stopped();
    let path = home.path().join("format.json");
    let good = fs::read_to_string(&path).expect("format.json");
    let mut format: serde_json::Value = serde_json::from_str(&good).expect("JSON");
    assert!(format["version"].is_u64(), "{format}");
    format["version"] = 999.into();
    fs::write(&path, format.to_string()).expect("a newer format");
    let ended = home.launch().try_start().expect_err("a newer format");
    assert!(ended.log.contains("999"), "{}", ended.log);
    fs::write(&path, good).expect("as before");
    home.start().client().becomes(&reference, State::Verified);
}

#[test]
fn a_folder_that_is_no_home_is_refused() {
    let home = Home::new();
    fs::create_dir_all(home.path().join("blobs")).expect("a folder");
    fs::write(home.path().join("format.json"), "{\"some\": \"other program\"}").expect("a file");
    let ended = home.launch().try_start().expect_err("not ours");
    assert!(ended.log.contains("format.json"), "{}", ended.log);
}

#[test]
fn unknown_configuration_is_refused_with_its_line() {
    let home = Home::with_config("gate = \"enforce\"\nconcurency = 4\n");
    let ended = home.launch().try_start().expect_err("a typing error");
    assert!(ended.log.contains("concurency") && ended.log.contains('2'), "{}", ended.log);
}

#[test]
fn corrupt_views_are_moved_aside_and_rebuilt() {
    for (folder, what) in
        [("index", &b"garbage"[..]), ("snapshot", &b"garbage"[..]), ("index", &b""[..]), ("snapshot", &b""[..])]
    {
        let (_registry, home, reference) = stopped();
        for path in files(&home.path().join(folder)) {
            fs::write(path, what).expect("a corrupt file");
        }
        let daemon = home.start();
        harness::eventually("the index", || daemon.client().status().rebuild.is_none().then_some(()));
        daemon.client().becomes(&reference, State::Verified);
        assert_eq!(daemon.client().list().len(), 1);
    }
}

#[test]
fn corrupt_content_is_never_served() {
    let (world, release) = (World::start(), Signer::new("release"));
    world.home.trust().key("release", &release);
    world.daemon.client().trust_becomes("settled", 1, 0);
    let image = world.upstream("1.0", &[&release]);
    world.pull("1.0");
    let path = world.home.blob(&image.digest());
    let mut bytes = fs::read(&path).expect("the manifest");
    bytes[10] ^= 1;
    // As a bad disk would: in place, whatever the mode says.
    fs::remove_file(&path).and_then(|()| fs::write(&path, bytes)).expect("corruption");
    let answer = world.daemon.http().manifest(&world.served(), "1.0");
    assert_ne!(answer.status, 200, "bytes that fail their digest");
    world.daemon.client().becomes(&world.reference("1.0"), State::Corrupt);
    assert!(!files(&world.home.path().join("quarantine")).is_empty(), "kept for inspection");
    world.home.larder(["status", &world.reference("1.0")]).exits(3);
    // Pulling again heals it.
    world.pull("1.0");
    world.daemon.client().becomes(&world.reference("1.0"), State::Verified);
    world.home.assert_blobs_are_whole();
}

#[test]
fn unfinished_downloads_are_invisible() {
    let world = World::start();
    let image = Image::new("big").layer(harness::image::noise("big", 2 << 20)).build();
    world.registry.put("store/app", "1.0", &image);
    let path = format!("/blobs/{}", image.top_layer());
    world.registry.fault("GET", &path, harness::registry::Fault::CloseAfter(1 << 20), usize::MAX);
    world.home.larder(["pull", &world.reference("1.0")]).exits(1);
    assert!(!world.home.blob(&image.top_layer()).exists());
    assert!(!world.home.blob(&image.digest()).exists() || world.daemon.client().list().is_empty());
    let world = world.restart();
    world.registry.mend();
    world.pull("1.0");
    assert!(world.home.blob(&image.top_layer()).exists());
}
