//! Saving and loading an image of 1 GB, every byte verified and durable, beside `skopeo copy` and `oras copy` (neither
//! syncs) between layouts on the same disk, turn by turn.
//!
//! `cargo bench -p larder-tests --bench layouts [ROUNDS]`

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use harness::image::noise;
use harness::{Home, Image};
use larder_core::Digest;

/// How often all take their turn unless the command line says otherwise.
const ROUNDS: usize = 3;
/// How many layers, and how long each is.
const LAYERS: usize = 4;
const LAYER: usize = 256 << 20;

fn main() {
    let rounds = std::env::args().skip(1).find_map(|word| word.parse().ok()).unwrap_or(ROUNDS);
    let folder = Home::new();
    let source = layout(&folder);
    let bytes = (LAYERS * LAYER) as f64;
    println!(
        "one image of {LAYERS} layers, {:.2} GB, {rounds} rounds, the best of each; layouts in the page cache",
        bytes / 1e9
    );
    let holder = Home::with_config("gate = \"off\"\n");
    let _daemon = holder.start();
    let reference = "localhost/bench/large:1";
    holder.larder(["load", &text(&source)]).exits(0);

    let mut best: Vec<(&str, Duration)> = Vec::new();
    for _ in 0..rounds {
        for (name, place) in [("larder save, a folder", "saved"), ("larder save, a tar", "saved.tar")] {
            let place = fresh(&folder, place);
            keep(&mut best, name, timed(|| drop(holder.larder(["save", reference, "-o", &text(&place)]).exits(0))));
        }
        for (name, place) in
            [("larder load, a folder", text(&source)), ("larder load, a tar", text(&folder.beside("saved.tar")))]
        {
            let home = Home::new();
            let _daemon = home.start();
            keep(&mut best, name, timed(|| drop(home.larder(["load", &place]).exits(0))));
        }
        let source = text(&source);
        for (name, program, words) in [
            (
                "skopeo copy, to a folder",
                "skopeo",
                format!("copy --quiet oci:{source}:1 oci:{}:1", text(&fresh(&folder, "skopeo"))),
            ),
            (
                "skopeo copy, to a tar",
                "skopeo",
                format!("copy --quiet oci:{source}:1 oci-archive:{}:1", text(&fresh(&folder, "skopeo.tar"))),
            ),
            (
                "skopeo copy, from a tar",
                "skopeo",
                format!(
                    "copy --quiet oci-archive:{}:1 oci:{}:1",
                    text(&folder.beside("skopeo.tar")),
                    text(&fresh(&folder, "unpacked"))
                ),
            ),
            (
                "oras copy, to a folder",
                "oras",
                format!("copy --from-oci-layout --to-oci-layout {source}:1 {}:1", text(&fresh(&folder, "oras"))),
            ),
        ] {
            keep(&mut best, name, timed(|| run(program, &words)));
        }
    }
    for (name, elapsed) in best {
        println!("{name:<26} {:>6.2} s  {:>5.2} GB/s", elapsed.as_secs_f64(), bytes / 1e9 / elapsed.as_secs_f64());
    }
}

fn text(path: &Path) -> String {
    path.to_str().expect("UTF-8").to_owned()
}

/// Returns a place where nothing is.
fn fresh(folder: &Home, name: &str) -> PathBuf {
    let place = folder.beside(name);
    let _ = fs::remove_dir_all(&place).or_else(|_| fs::remove_file(&place));
    place
}

/// Writes the layout that all copy.
fn layout(folder: &Home) -> PathBuf {
    let mut image = Image::new("large");
    for number in 0..LAYERS {
        image = image.layer(noise(&number.to_string(), LAYER));
    }
    let image = image.build();
    let place = folder.beside("source");
    let blobs = place.join("blobs/sha256");
    fs::create_dir_all(&blobs).expect("a folder");
    for bytes in image.blobs().iter().chain([&image.root().bytes]) {
        fs::write(blobs.join(Digest::of(bytes).hex()), bytes).expect("a blob");
    }
    let mut entry = image.descriptor();
    entry["annotations"] = serde_json::json!({
        "org.opencontainers.image.ref.name": "1",
        "io.containerd.image.name": "localhost/bench/large:1",
    });
    let index = serde_json::json!({"schemaVersion": 2, "manifests": [entry]});
    fs::write(place.join("index.json"), index.to_string()).expect("the index");
    fs::write(place.join("oci-layout"), r#"{"imageLayoutVersion":"1.0.0"}"#).expect("the marker");
    place
}

fn run(program: &str, words: &str) {
    let status = Command::new(program).args(words.split(' ')).stdin(Stdio::null()).stdout(Stdio::null()).status();
    assert!(status.is_ok_and(|status| status.success()), "{program} {words}");
}

fn timed(work: impl FnOnce()) -> Duration {
    let begun = Instant::now();
    work();
    begun.elapsed()
}

fn keep<'a>(best: &mut Vec<(&'a str, Duration)>, name: &'a str, elapsed: Duration) {
    match best.iter_mut().find(|(there, _)| *there == name) {
        Some((_, least)) => *least = elapsed.min(*least),
        None => best.push((name, elapsed)),
    }
}
