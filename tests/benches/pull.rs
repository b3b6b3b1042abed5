//! A pull beside `skopeo copy` of the same image from the same registry, turn by turn.
//!
//! `cargo bench -p larder-tests --bench pull [MEBIBYTES A LAYER]`

use std::fs;
use std::process::{Command, Stdio};
use std::time::Instant;

use harness::image::noise;
use harness::{FakeRegistry, Home, Image};

/// The layers, and how many MiB each has unless the command line says otherwise.
const LAYERS: usize = 4;
const MEBIBYTES: usize = 64;
/// How often both take their turn.
const ROUNDS: usize = 3;

fn main() {
    let size = std::env::args().skip(1).find_map(|word| word.parse().ok()).unwrap_or(MEBIBYTES);
    let registry = FakeRegistry::start();
    let image = (0..LAYERS)
        .fold(Image::new("bench"), |image, layer| image.layer(noise(&layer.to_string(), size << 20)))
        .build();
    registry.put("bench/app", "1.0", &image);
    println!("{LAYERS} layers of {size} MiB from a registry in memory on loopback");
    for round in 1..=ROUNDS {
        let home = Home::new();
        let daemon = home.start();
        let begun = Instant::now();
        home.larder(["pull", "--quiet", &registry.reference("bench/app", "1.0")]).exits(0);
        let larder = begun.elapsed();
        let peak = daemon.memory_kib("VmHWM");
        let begun = Instant::now();
        home.larder(["pull", "--quiet", &registry.reference("bench/app", "1.0")]).exits(0);
        let again = begun.elapsed();
        drop(daemon);

        let folder = home.beside("skopeo");
        let begun = Instant::now();
        let status = Command::new("skopeo")
            .args(["--insecure-policy", "copy", "--quiet", "--src-tls-verify=false"])
            .arg(format!("docker://{}", registry.reference("bench/app", "1.0")))
            .arg(format!("dir:{}", folder.display()))
            .stdin(Stdio::null())
            .status();
        let skopeo = begun.elapsed();
        assert!(status.is_ok_and(|status| status.success()), "skopeo copy");
        let _ = fs::remove_dir_all(folder);
        println!(
            "round {round}: larder pull {larder:.2?} (synced to disk, peak {:.1} MiB), again {again:.2?}; skopeo copy to dir {skopeo:.2?} (not synced)",
            peak as f64 / 1024.0
        );
    }
}
