//! A cold pull of many images, every byte durable, beside `crane pull --format=oci`, `oras backup` (neither syncs) and
//! `skopeo sync`, from Debian's `docker-registry` on loopback, turn by turn.
//!
//! `cargo bench -p larder-tests --bench cold [large|small] [ROUNDS]`

mod support;

use std::collections::HashSet;
use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use harness::image::noise;
use harness::{Content, Home, Http, Image};
use larder_core::Digest;

use support::Registry;

/// The repository.
const REPOSITORY: &str = "bench/cold";
/// How often all take their turn unless the command line says otherwise; skopeo, which takes long, only once.
const ROUNDS: usize = 3;
/// How often a process is asked for its memory.
const GLANCE: Duration = Duration::from_millis(20);

/// What is pulled.
struct Load {
    name: &'static str,
    images: usize,
    /// Layers that images share: how many, how many of them each image has, and how long each is.
    shared: (usize, usize, usize),
    /// How long the layer is that an image has of its own.
    own: usize,
}

const LARGE: Load = Load { name: "large", images: 40, shared: (8, 3, 60 << 20), own: 30 << 20 };
const SMALL: Load = Load { name: "small", images: 500, shared: (0, 0, 0), own: 160 << 10 };

/// One turn of one program.
struct Turn {
    elapsed: Duration,
    requests: usize,
    bytes: u64,
    peak_kib: u64,
}

fn main() {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let rounds = words.iter().find_map(|word| word.parse().ok()).unwrap_or(ROUNDS);
    for load in [LARGE, SMALL] {
        let others =
            [LARGE.name, SMALL.name].iter().any(|name| *name != load.name && words.iter().any(|word| word == name));
        if words.iter().any(|word| word == load.name) || !others {
            run(&load, rounds);
        }
    }
}

fn run(load: &Load, rounds: usize) {
    let folder = Home::new();
    let registry = Registry::start(&folder);
    let (tags, unique) = fill(&registry, load);
    println!(
        "{}: {} images, {:.2} GB of unique blobs, docker-registry on loopback, {rounds} rounds",
        load.name,
        load.images,
        unique as f64 / 1e9
    );
    let list: String = tags.iter().map(|tag| format!("{}/{REPOSITORY}:{tag}\n", registry.host)).collect();
    let list = folder.write_beside("images.txt", list);
    let names: Vec<String> = tags.iter().map(|tag| format!("{}/{REPOSITORY}:{tag}", registry.host)).collect();
    let source = format!("{}/{REPOSITORY}:{}", registry.host, tags.join(","));
    let repository = format!("{}/{REPOSITORY}", registry.host);

    let mut best: Vec<(&str, Turn)> = Vec::new();
    for round in 0..rounds {
        keep(&mut best, "larder pull", larder(&registry, &list, load.images));
        let out = folder.beside("crane");
        let crane: Vec<&str> =
            ["pull", "--insecure", "--format=oci"].into_iter().chain(names.iter().map(String::as_str)).collect();
        keep(&mut best, "crane pull", peer(&registry, "crane", &crane, &out));
        let out = folder.beside("oras");
        keep(&mut best, "oras backup", peer(&registry, "oras", &["backup", "--plain-http", &source, "--output"], &out));
        if round == 0 {
            let out = folder.beside("skopeo");
            let skopeo = [
                "--insecure-policy",
                "sync",
                "--src",
                "docker",
                "--dest",
                "dir",
                "--src-tls-verify=false",
                &repository,
            ];
            keep(&mut best, "skopeo sync", peer(&registry, "skopeo", &skopeo, &out));
        }
    }
    let ours = best.first().map_or(1.0, |(_, turn)| turn.elapsed.as_secs_f64());
    println!(
        "{:<12} {:>8} {:>9} {:>9} {:>9} {:>14}",
        "best of", "seconds", "requests", "MB", "peak MiB", "of larder's"
    );
    for (name, turn) in &best {
        println!(
            "{name:<12} {:>8.2} {:>9} {:>9.0} {:>9.1} {:>14.2}",
            turn.elapsed.as_secs_f64(),
            turn.requests,
            turn.bytes as f64 / 1e6,
            turn.peak_kib as f64 / 1024.0,
            turn.elapsed.as_secs_f64() / ours
        );
    }
}

/// Fills the registry, each blob once. Returns the tags, and the bytes of the blobs.
fn fill(registry: &Registry, load: &Load) -> (Vec<String>, u64) {
    let http = Http::new(&registry.host);
    let (pool, each, length) = load.shared;
    let shared: Vec<_> = (0..pool).map(|layer| noise(&format!("shared {layer}"), length)).collect();
    let mut there: HashSet<Digest> = HashSet::new();
    let (mut tags, mut unique) = (Vec::new(), 0);
    for number in 0..load.images {
        let tag = format!("v{number:04}");
        let mut image = Image::new(&tag);
        for layer in 0..each {
            image = image.layer(shared[(number + layer * 2) % pool].clone());
        }
        let content: Content = image.layer(noise(&tag, load.own)).build();
        for blob in content.blobs() {
            let digest = Digest::of(blob);
            if there.insert(digest) {
                http.put_blob(REPOSITORY, &digest, blob.clone()).is(201);
                unique += blob.len() as u64;
            }
        }
        let root = content.root();
        http.put_manifest(REPOSITORY, &tag, &root.media_type, root.bytes.clone()).is(201);
        tags.push(tag);
    }
    (tags, unique)
}

/// Keeps the faster of two turns.
fn keep(best: &mut Vec<(&'static str, Turn)>, name: &'static str, turn: Turn) {
    println!("  {name}: {:.2} s", turn.elapsed.as_secs_f64());
    match best.iter_mut().find(|(one, _)| *one == name) {
        Some((_, before)) if before.elapsed <= turn.elapsed => {}
        Some((_, before)) => *before = turn,
        None => best.push((name, turn)),
    }
}

fn larder(registry: &Registry, list: &Path, images: usize) -> Turn {
    let home = Home::new();
    let daemon = home.start();
    rustix::fs::sync();
    let before = registry.requests();
    let begun = Instant::now();
    home.larder(["pull", "--quiet", "--from", list.to_str().expect("a path")]).exits(0);
    let elapsed = begun.elapsed();
    let after = registry.requests();
    assert!(daemon.client().status().subjects >= images as u64, "all is held");
    let peak_kib = daemon.memory_kib("VmHWM");
    Turn { elapsed, requests: after.0 - before.0, bytes: after.1 - before.1, peak_kib }
}

/// Runs a peer into a new folder, its last argument.
fn peer(registry: &Registry, program: &str, arguments: &[&str], out: &Path) -> Turn {
    rustix::fs::sync();
    let before = registry.requests();
    let begun = Instant::now();
    let mut child = Command::new(program)
        .args(arguments)
        .arg(out)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .spawn()
        .unwrap_or_else(|error| panic!("{program}: {error}"));
    let mut peak_kib = 0;
    let status = loop {
        if let Some(status) = child.try_wait().expect("the state of a peer") {
            break status;
        }
        let told = fs::read_to_string(format!("/proc/{}/status", child.id())).unwrap_or_default();
        let line = told.lines().find_map(|line| line.strip_prefix("VmHWM:"));
        peak_kib = line.and_then(|line| line.trim().split(' ').next()?.parse().ok()).unwrap_or(peak_kib);
        std::thread::sleep(GLANCE);
    };
    let elapsed = begun.elapsed();
    assert!(status.success(), "{program}");
    let after = registry.requests();
    let _ = fs::remove_dir_all(out);
    Turn { elapsed, requests: after.0 - before.0, bytes: after.1 - before.1, peak_kib }
}
