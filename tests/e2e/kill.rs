//! The process dies at every fault point of the store, during everything that writes; afterwards DESIGN's invariants hold
//! and the interrupted work completes.

use std::collections::BTreeSet;
use std::fs;
use std::io::Write;
use std::process::Command;
use std::time::{Duration, Instant};

use harness::faults::{Kind, points};
use harness::home::files;
use harness::{Content, Daemon, FakeRegistry, Home, Image, Signer};
use larder_proto::v1::State;

use crate::world::APP;

/// So many pushes make a journal of several small segments.
const SOME_HISTORY: usize = 20;

/// What is going on when the process dies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Scene {
    /// The home is created.
    Create,
    /// The first image is pulled into a new home.
    First,
    /// An image and its signature are pulled.
    Pull,
    /// An image is written through the endpoint.
    Receive,
    /// An image is loaded from a layout.
    Load,
    /// An image is saved into a layout.
    Save,
    /// An image is pushed to a registry.
    Push,
    /// What is attached to an image is taken away.
    Clean,
    /// A key is removed.
    Trust,
    /// A key is added and removed by the client.
    Edit,
    /// The daemon stops and writes a snapshot.
    Snapshot,
    /// The index and the snapshot are rebuilt.
    Rebuild,
    /// The index is in doubt, and an unfinished download lies about.
    Doubt,
    /// A torn journal is cut.
    Torn,
    /// Corrupt content is put aside.
    Corrupt,
    /// The oldest part of the journal is pruned.
    Prune,
}

const SCENES: [Scene; 16] = [
    Scene::Create,
    Scene::First,
    Scene::Pull,
    Scene::Receive,
    Scene::Load,
    Scene::Save,
    Scene::Push,
    Scene::Clean,
    Scene::Trust,
    Scene::Edit,
    Scene::Snapshot,
    Scene::Rebuild,
    Scene::Doubt,
    Scene::Torn,
    Scene::Corrupt,
    Scene::Prune,
];

/// What stays the same through all deaths of a scene: upstream, target, and a home that a good daemon left behind.
struct Stage {
    scene: Scene,
    upstream: FakeRegistry,
    target: FakeRegistry,
    template: Home,
    /// A layout with the second image and its signature.
    layout: std::path::PathBuf,
    first: Content,
    second: Content,
}

impl Stage {
    fn set(scene: Scene) -> Self {
        let (upstream, target, template, release) =
            (FakeRegistry::start(), FakeRegistry::start(), Home::new(), Signer::new("release"));
        let (first, second) = (Image::small("first"), Image::small("second"));
        for (tag, image) in [("first", &first), ("second", &second)] {
            upstream.put(APP, tag, image);
            upstream.put_signature(APP, &image.digest(), &release.signature_of(image));
        }
        if scene == Scene::Prune {
            template.configure("[journal]\nsegment_bytes = 4096\n");
        }
        if !matches!(scene, Scene::Create | Scene::First) {
            let daemon = template.start();
            template.trust().key("release", &release);
            daemon.client().trust_becomes("settled", 1, 0);
            template.larder(["pull", &upstream.reference(APP, "first")]).exits(0);
            if scene == Scene::Prune {
                for number in 0..SOME_HISTORY {
                    daemon.http().try_push("team/history", Some(&format!("t{number}")), &first).expect("history");
                }
            }
            assert!(daemon.stop().success());
        }
        let layout = template.beside("layout.tar");
        if scene == Scene::Load {
            let carrier = Home::with_config("gate = \"off\"\n");
            let daemon = carrier.start();
            carrier.larder(["pull", &upstream.reference(APP, "second")]).exits(0);
            carrier.larder(["save", &upstream.reference(APP, "second"), "-o", &layout.display().to_string()]).exits(0);
            assert!(daemon.stop().success());
        }
        Self { scene, upstream, target, template, layout, first, second }
    }

    /// Copies the template and brings about what the scene is about.
    fn home(&self) -> Home {
        let home = Home::new();
        if !matches!(self.scene, Scene::Create | Scene::First) {
            let copied = Command::new("cp").arg("-a").arg(self.template.path()).arg(home.path()).status();
            assert!(copied.is_ok_and(|status| status.success()), "cp -a");
        }
        match self.scene {
            Scene::Rebuild => {
                for folder in ["index", "snapshot"] {
                    let _ = fs::remove_dir_all(home.path().join(folder));
                }
            }
            Scene::Doubt => {
                fs::write(home.path().join("index/conf"), b"not a configuration").expect("a doubt");
                fs::write(home.path().join("ingest/7"), b"half a blob").expect("an unfinished download");
            }
            Scene::Torn => {
                let journal = files(&home.path().join("journal")).pop().expect("a journal");
                let mut file = fs::OpenOptions::new().append(true).open(journal).expect("the journal");
                file.write_all(b"\0\0\x01\0torn").expect("half a frame");
            }
            Scene::Corrupt => {
                let path = home.blob(&self.first.digest());
                let mut bytes = fs::read(&path).expect("the manifest");
                bytes[10] ^= 1;
                fs::remove_file(&path).and_then(|()| fs::write(&path, bytes)).expect("corruption");
            }
            _ => {}
        }
        home
    }

    fn reference(&self, tag: &str) -> String {
        self.upstream.reference(APP, tag)
    }

    /// Does the work; says whether the daemon confirmed it. The daemon may die meanwhile.
    fn act(&self, home: &Home, daemon: &mut Daemon) -> bool {
        match self.scene {
            Scene::Pull | Scene::First | Scene::Snapshot => home.larder(["pull", &self.reference("second")]).code == 0,
            Scene::Load => home.larder(["load", &self.layout.display().to_string()]).code == 0,
            Scene::Save => {
                let place = home.beside("saved").display().to_string();
                let _ = fs::remove_dir_all(&place);
                home.larder(["save", &self.reference("first"), "-o", &place]).code == 0
            }
            Scene::Clean => home.larder(["clean", "--yes", &self.reference("first")]).code == 0,
            Scene::Edit => {
                let key = home.beside("other.pub");
                fs::write(&key, Signer::new("other").public_pem()).expect("a key");
                // A client that finds nobody starts a daemon of its own: where the first died, no second one is asked.
                home.larder(["trust", "add", &key.display().to_string(), "--name", "other"]).code == 0
                    && !daemon.has_ended()
                    && home.larder(["trust", "remove", "other"]).code == 0
            }
            Scene::Prune => home.larder(["daemon", "prune-journal", "--keep-days", "0", "--keep-bytes", "0"]).code == 0,
            Scene::Push => {
                home.larder(["push", &self.reference("first"), &self.target.reference(APP, "copy")]).code == 0
            }
            Scene::Receive => daemon.http().try_push("team/app", Some("second"), &self.second).is_ok(),
            Scene::Trust => {
                let file = home.trust().file("keys/release.pub");
                if file.exists() {
                    fs::remove_file(file).expect("the key's removal");
                }
                let last = harness::eventually("the key's removal to be told, or the end", || {
                    if daemon.has_ended() {
                        return Some(false);
                    }
                    told(daemon, &self.reference("first"), State::Untrusted).then_some(true)
                });
                last && !daemon.has_ended()
            }
            Scene::Corrupt => daemon
                .http()
                .try_send(http::Method::GET, &format!("/v2/{}/manifests/first", self.served()), "", bytes::Bytes::new())
                .is_ok(),
            Scene::Create | Scene::Rebuild | Scene::Doubt | Scene::Torn => {
                harness::eventually("the index, or the end", || {
                    let ready =
                        |daemon: &Daemon| daemon.client().try_status().is_ok_and(|status| status.rebuild.is_none());
                    (daemon.has_ended() || ready(daemon)).then_some(())
                });
                !daemon.has_ended()
            }
        }
    }

    fn served(&self) -> String {
        format!("{}/{APP}", self.upstream.host().replace(':', "_"))
    }

    /// What must hold after a restart, whenever the process died.
    #[track_caller]
    fn assert_invariants(&self, home: &Home, daemon: &Daemon, confirmed: bool, point: &str) {
        let client = daemon.client();
        harness::eventually("the index", || client.status().rebuild.is_none().then_some(()));
        assert_eq!(client.status().read_only, "", "{point}: a crash is no loss");
        if self.scene != Scene::Corrupt {
            home.assert_blobs_are_whole();
        }
        let tags: BTreeSet<_> = client.list().into_iter().map(|artifact| artifact.tag).collect();
        if !matches!(self.scene, Scene::Create | Scene::First) {
            assert!(tags.contains("first"), "{point}: what was there stays: {tags:?}");
        }
        match self.scene {
            Scene::Pull | Scene::First | Scene::Load => {
                self.assert_whole_or_absent(home, &client, &self.reference("second"), confirmed, point);
            }
            Scene::Receive => self.assert_whole_or_absent(home, &client, "localhost/team/app:second", confirmed, point),
            Scene::Trust => {
                // Where it died before the work began, the key is still there.
                let there = home.trust().file("keys/release.pub").exists();
                client.becomes(&self.reference("first"), if there { State::Verified } else { State::Untrusted });
            }
            Scene::Clean => {
                // The tag and the signature go together, or neither does.
                let sig = daemon.http().manifest(&self.served(), &self.first.digest_tag(".sig")).status == 200;
                assert!(!(confirmed && sig), "{point}: confirmed and still there");
                client.becomes(&self.reference("first"), if sig { State::Verified } else { State::Unsigned });
            }
            Scene::Save => {
                let saved = home.beside("saved");
                assert_eq!(
                    saved.join("index.json").exists(),
                    confirmed,
                    "{point}: a layout is there if it was confirmed"
                );
                assert_eq!(saved.exists(), confirmed, "{point}: nothing half is left");
            }
            Scene::Push if confirmed => assert!(self.target.tag(APP, "copy").is_some()),
            Scene::Push
            | Scene::Edit
            | Scene::Snapshot
            | Scene::Rebuild
            | Scene::Doubt
            | Scene::Torn
            | Scene::Prune => {
                client.becomes(&self.reference("first"), State::Verified);
            }
            Scene::Create | Scene::Corrupt => {}
        }
    }

    #[track_caller]
    fn assert_whole_or_absent(
        &self,
        home: &Home,
        client: &harness::Client,
        reference: &str,
        confirmed: bool,
        point: &str,
    ) {
        match client.query(reference) {
            Err(error) => assert!(!confirmed && error.reason == "not-held", "{point}: confirmed and gone: {error:?}"),
            Ok(verdict) => {
                for blob in self.second.blobs() {
                    assert!(home.blob(&larder_core::Digest::of(blob)).exists(), "{point}: visible without a successor");
                }
                if matches!(self.scene, Scene::Pull | Scene::Load) {
                    assert_eq!(verdict.state(), State::Verified, "{point}: the signature came with it");
                }
            }
        }
    }

    /// Dies at one point; says whether it did.
    fn play(&self, point: &str) -> bool {
        let home = self.home();
        let mut confirmed = false;
        let died = match home.launch().fault(point, Kind::Kill).try_start() {
            Err(_) => true,
            Ok(mut daemon) => {
                confirmed = self.act(&home, &mut daemon);
                if self.scene == Scene::Snapshot && !daemon.has_ended() {
                    !daemon.stop().success()
                } else {
                    // Its connections end a moment before the process can be waited for.
                    let patience = Instant::now() + Duration::from_secs(5);
                    while !confirmed && !daemon.has_ended() && Instant::now() < patience {
                        std::thread::sleep(Duration::from_millis(1));
                    }
                    let died = daemon.has_ended();
                    daemon.kill();
                    died
                }
            }
        };
        let mut daemon = home.start();
        self.assert_invariants(&home, &daemon, confirmed, point);
        assert!(self.act(&home, &mut daemon), "{point}: the interrupted work completes ({:?})", self.scene);
        self.assert_invariants(&home, &daemon, true, point);
        daemon.assert_up();
        if self.scene == Scene::Corrupt {
            home.larder(["pull", &self.reference("first")]).exits(0);
            daemon.client().becomes(&self.reference("first"), State::Verified);
            home.assert_blobs_are_whole();
        }
        if self.scene == Scene::Snapshot {
            assert!(daemon.stop().success(), "{point}: the snapshot is written in the end");
            home.start().client().becomes(&self.reference("first"), State::Verified);
        }
        died
    }
}

/// Says whether the last telling about a reference was of this state.
fn told(daemon: &Daemon, reference: &str, state: State) -> bool {
    use larder_proto::v1::HistoryRequest;
    use larder_proto::v1::history_entry::What;
    let Some(client) = harness::Client::connect(daemon.socket()) else { return false };
    let request = HistoryRequest { reference: reference.to_owned(), page_size: 10, before: 0 };
    let Ok(response) = harness::block(client.verification().history(request)) else { return false };
    let mut entries = response.into_inner().entries.into_iter();
    let last = entries.find_map(|entry| match entry.what {
        Some(What::Verdict(change)) => Some(change.to()),
        _ => None,
    });
    last == Some(state)
}

#[test]
fn a_death_at_every_point_during_everything_that_writes() {
    let points = points();
    let reached: Vec<(Scene, BTreeSet<&str>)> = std::thread::scope(|scope| {
        let plays: Vec<_> = SCENES
            .map(|scene| {
                let points = &points;
                scope.spawn(move || {
                    let stage = Stage::set(scene);
                    (scene, points.iter().copied().filter(|point| stage.play(point)).collect())
                })
            })
            .into_iter()
            .collect();
        plays.into_iter().map(|play| play.join().expect("a scene")).collect()
    });
    for (scene, hit) in &reached {
        println!("{scene:?}: died at {hit:?}");
    }
    let all: BTreeSet<_> = reached.iter().flat_map(|(_, hit)| hit.iter().copied()).collect();
    let never: Vec<_> = points.iter().filter(|point| !all.contains(*point)).collect();
    assert!(never.is_empty(), "no scene reached these points: {never:?}");
    let writing = [Scene::Pull, Scene::Load, Scene::Save, Scene::Receive, Scene::Clean, Scene::Trust];
    for scene in writing.into_iter().chain([Scene::Snapshot, Scene::Prune]) {
        assert!(reached.iter().any(|(of, hit)| *of == scene && !hit.is_empty()), "{scene:?} reached no point");
    }
}
