//! A second pull of images that are held and unchanged, beside `oras backup` onto its own output, turn by turn, from
//! Debian's `docker-registry` on loopback. Larder looks for new signatures, too; oras does not.
//!
//! `cargo bench -p larder-tests --bench second [IMAGES]`; `ORAS` names the program, `oras` unless set.

mod support;

use std::fs;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use harness::image::noise;
use harness::{Home, Http, Image};

use support::Registry;

/// How many images there are unless the command line says otherwise, and how long the layer of each is.
const IMAGES: usize = 500;
const LAYER_BYTES: usize = 160 << 10;
/// How often both take their turn.
const ROUNDS: usize = 5;
/// Clock ticks a second in `/proc` (USER_HZ), which is 100 on every Linux that Rust runs on.
const TICKS: f64 = 100.0;
/// The repository.
const REPOSITORY: &str = "bench/second";

fn main() {
    let images = std::env::args().skip(1).find_map(|word| word.parse().ok()).unwrap_or(IMAGES);
    let folder = Home::new();
    let registry = Registry::start(&folder);
    let tags: Vec<String> = (0..images).map(|number| format!("v{number:04}")).collect();
    let http = Http::new(&registry.host);
    for tag in &tags {
        http.push(REPOSITORY, tag, &Image::new(tag).layer(noise(tag, LAYER_BYTES)).build());
    }
    let list: String = tags.iter().map(|tag| format!("{}/{REPOSITORY}:{tag}\n", registry.host)).collect();
    let list = folder.write_beside("images.txt", list);
    let home = Home::new();
    let daemon = home.start();
    let oras = Oras::new(&folder, &registry.host, &tags);

    println!("{images} images of {} KiB, docker-registry on loopback", LAYER_BYTES >> 10);
    let pull = || drop(home.larder(["pull", "--quiet", "--from", list.to_str().expect("a path")]).exits(0));
    measure(&registry, "larder pull, first", || cpu_of(daemon.pid()), pull);
    measure(&registry, "oras backup, first", cpu_of_children, || oras.run());
    let (mut ours, mut theirs) = (Duration::MAX, Duration::MAX);
    for _ in 0..ROUNDS {
        ours = ours.min(measure(&registry, "larder pull, again", || cpu_of(daemon.pid()), pull));
        theirs = theirs.min(measure(&registry, "oras backup, again", cpu_of_children, || oras.run()));
    }
    let ratio = ours.as_secs_f64() / theirs.as_secs_f64();
    println!("best of {ROUNDS}: larder {ours:.2?}, oras {theirs:.2?}, ratio {ratio:.2} (at most 1 is the aim)");
    println!("larderd: peak {:.1} MiB", daemon.memory_kib("VmHWM") as f64 / 1024.0);
}

/// Runs something, and prints how long it took, the processor time of whom it concerns, and what was asked for.
fn measure(registry: &Registry, what: &str, cpu: impl Fn() -> f64, run: impl FnOnce()) -> Duration {
    let (cpu_before, before) = (cpu(), registry.requests());
    let begun = Instant::now();
    run();
    let elapsed = begun.elapsed();
    let (requests, bytes) = registry.requests();
    println!(
        "{what}: {:.2} s, {:.2} s of processor, {} requests, {} KiB",
        elapsed.as_secs_f64(),
        cpu() - cpu_before,
        requests - before.0,
        (bytes - before.1) >> 10
    );
    elapsed
}

/// `oras backup` into a folder of its own.
struct Oras {
    program: String,
    output: PathBuf,
    source: String,
}

impl Oras {
    fn new(folder: &Home, host: &str, tags: &[String]) -> Self {
        let program = std::env::var("ORAS").unwrap_or_else(|_| "oras".to_owned());
        Self { program, output: folder.beside("backup"), source: format!("{host}/{REPOSITORY}:{}", tags.join(",")) }
    }

    fn run(&self) {
        let status = Command::new(&self.program)
            .args(["backup", "--plain-http", "--output"])
            .args([self.output.as_os_str(), self.source.as_ref()])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .status();
        assert!(status.is_ok_and(|status| status.success()), "{} backup", self.program);
    }
}

/// Seconds of processor that a process has had.
fn cpu_of(pid: u32) -> f64 {
    ticks(&format!("/proc/{pid}/stat"), 11)
}

/// Seconds of processor that this process's children have had that have ended.
fn cpu_of_children() -> f64 {
    ticks("/proc/self/stat", 13)
}

/// Sums two fields of a `stat` file, counted from behind the name in parentheses (proc_pid_stat(5)).
fn ticks(path: &str, first: usize) -> f64 {
    let text = fs::read_to_string(path).unwrap_or_default();
    let fields = text.rsplit_once(") ").map_or("", |(_, fields)| fields);
    fields.split(' ').skip(first).take(2).filter_map(|field| field.parse::<f64>().ok()).sum::<f64>() / TICKS
}
