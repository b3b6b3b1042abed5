//! Downloads that break, and go on where they broke, across restarts.

use std::fs;
use std::io::Write as _;
use std::net::TcpStream;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use harness::hostile::{Asked, write_answer, write_head};
use harness::image::noise;
use harness::{Content, Daemon, Home, HostileRegistry, Image};
use larder_core::Digest;

/// How long the layer is, and how much of it comes before the registry breaks.
const WHOLE: usize = 8 << 20;
const PART: usize = 5 << 20;

/// What the registry does when it is asked for the layer.
#[derive(Clone, Copy)]
#[repr(u8)]
enum Mood {
    /// It breaks after a part, and then always.
    Breaks,
    /// It answers a range with a range.
    Good,
    /// It answers a range with the whole.
    KnowsNoRanges,
    /// It answers a range with 416.
    RefusesRanges,
}

struct Scene {
    registry: HostileRegistry,
    mood: Arc<AtomicU8>,
    /// Where each request for the layer began.
    asked: Arc<Mutex<Vec<Option<u64>>>>,
    image: Content,
    home: Home,
    daemon: Daemon,
}

impl Scene {
    /// Has a pull broken, and the daemon killed and started anew.
    fn broken() -> Self {
        let image = Image::new("resumed").layer(noise("resumed", WHOLE)).build();
        let (mood, asked) = (Arc::new(AtomicU8::new(Mood::Breaks as u8)), Arc::new(Mutex::new(Vec::new())));
        let (served, in_mood, log) = (image.clone(), Arc::clone(&mood), Arc::clone(&asked));
        let registry = HostileRegistry::start(move |request, stream| {
            answer(&served, in_mood.load(Ordering::SeqCst), &log, request, stream)
        });
        let home = Home::new();
        let daemon = home.start();
        let scene = Self { registry, mood, asked, image, home, daemon };
        scene.home.larder(["pull", &scene.reference()]).exits(1);
        scene.is_invisible();
        let Self { registry, mood, asked, image, home, daemon } = scene;
        harness::eventually("a beginning of some length", || {
            let parts = parts(&home);
            (parts.len() == 1 && fs::metadata(&parts[0]).is_ok_and(|part| part.len() == PART as u64)).then_some(())
        });
        daemon.kill();
        let daemon = home.start();
        asked.lock().expect("the log").clear();
        Self { registry, mood, asked, image, home, daemon }
    }

    fn reference(&self) -> String {
        format!("{}/store/app:1.0", self.registry.host())
    }

    fn is_invisible(&self) {
        assert!(!self.home.blob(&self.image.top_layer()).exists());
        assert!(self.daemon.client().list().is_empty());
        let path = format!("{}/store/app", self.registry.host().replace(':', "_"));
        self.daemon.http().blob(&path, &self.image.top_layer()).is(404);
    }

    /// Pulls once more; returns where the requests for the layer began.
    #[track_caller]
    fn goes_on(&self, mood: Mood) -> Vec<Option<u64>> {
        self.is_invisible();
        self.mood.store(mood as u8, Ordering::SeqCst);
        self.home.larder(["pull", &self.reference()]).exits(0);
        let layer = fs::read(self.home.blob(&self.image.top_layer())).expect("the layer");
        assert_eq!(Digest::of(&layer), self.image.top_layer());
        assert!(parts(&self.home).is_empty(), "the beginning became the blob, or is gone");
        self.home.assert_blobs_are_whole();
        self.asked.lock().expect("the log").clone()
    }
}

fn parts(home: &Home) -> Vec<PathBuf> {
    let files = harness::home::files(&home.path().join("ingest"));
    files.into_iter().filter(|path| path.extension().is_some_and(|extension| extension == "part")).collect()
}

fn answer(
    image: &Content,
    mood: u8,
    log: &Mutex<Vec<Option<u64>>>,
    asked: &Asked,
    stream: &mut TcpStream,
) -> std::io::Result<()> {
    let last = asked.path.rsplit('/').next().unwrap_or_default();
    let root = image.root();
    if asked.path.contains("/manifests/") && (last == "1.0" || last == root.digest().to_string()) {
        let digest = format!("Docker-Content-Digest: {}", root.digest());
        let kind = format!("Content-Type: {}", root.media_type);
        return match asked.method.as_str() {
            "HEAD" => write_head(stream, "200 OK", &[&digest, &kind, &format!("Content-Length: {}", root.bytes.len())]),
            _ => write_answer(stream, "200 OK", &[&digest, &kind], &root.bytes),
        };
    }
    let Some(bytes) = image.blobs().iter().find(|blob| Digest::of(blob).to_string() == last) else {
        return write_answer(stream, "404 Not Found", &[], b"{}");
    };
    if last != image.top_layer().to_string() {
        return write_answer(stream, "200 OK", &[], bytes);
    }
    log.lock().expect("the log").push(asked.from);
    layer(bytes, mood, asked.from, stream)
}

fn layer(bytes: &Bytes, mood: u8, from: Option<u64>, stream: &mut TcpStream) -> std::io::Result<()> {
    let rest = usize::try_from(from.unwrap_or_default()).unwrap_or_default().min(bytes.len());
    let length = format!("Content-Length: {}", bytes.len() - rest);
    let range = format!("Content-Range: bytes {rest}-{}/{}", bytes.len() - 1, bytes.len());
    let is = |one: Mood| mood == one as u8;
    match from {
        None if is(Mood::Breaks) => {
            write_head(stream, "200 OK", &[&length])?;
            stream.write_all(&bytes[..PART])
        }
        Some(_) if is(Mood::Breaks) => write_head(stream, "206 Partial Content", &[&length, &range]),
        Some(_) if is(Mood::RefusesRanges) => write_answer(stream, "416 Range Not Satisfiable", &[], b"{}"),
        Some(_) if is(Mood::Good) => {
            write_head(stream, "206 Partial Content", &[&length, &range])?;
            stream.write_all(&bytes[rest..])
        }
        _ => write_answer(stream, "200 OK", &[], bytes),
    }
}

#[test]
fn a_download_goes_on_by_byte_after_a_kill() {
    let scene = Scene::broken();
    assert_eq!(scene.goes_on(Mood::Good), [Some(PART as u64)]);
}

#[test]
fn a_registry_without_ranges_is_read_from_the_beginning() {
    let scene = Scene::broken();
    assert_eq!(scene.goes_on(Mood::KnowsNoRanges), [Some(PART as u64)]);
}

#[test]
fn a_range_that_is_refused_is_no_end() {
    let scene = Scene::broken();
    assert_eq!(scene.goes_on(Mood::RefusesRanges), [Some(PART as u64), None]);
}

#[test]
fn a_beginning_that_was_tampered_with_harms_nothing() {
    let scene = Scene::broken();
    let part = parts(&scene.home).pop().expect("the beginning");
    let mut bytes = fs::read(&part).expect("its bytes");
    bytes[PART / 2] ^= 1;
    fs::write(&part, bytes).expect("other bytes");
    assert_eq!(scene.goes_on(Mood::Good), [Some(PART as u64), None]);
}

#[test]
fn a_beginning_that_is_too_long_or_a_link_is_not_followed() {
    let scene = Scene::broken();
    let part = parts(&scene.home).pop().expect("the beginning");
    fs::write(&part, vec![0; WHOLE + 1]).expect("a long file");
    assert_eq!(scene.goes_on(Mood::Good), [None]);

    let scene = Scene::broken();
    let part = parts(&scene.home).pop().expect("the beginning");
    let elsewhere = scene.home.write_beside("elsewhere", vec![7; PART]);
    fs::remove_file(&part).expect("the beginning removed");
    std::os::unix::fs::symlink(&elsewhere, &part).expect("a link in its place");
    assert_eq!(scene.goes_on(Mood::Good), [None]);
    assert_eq!(fs::read(elsewhere).expect("what the link names"), vec![7; PART]);
}
