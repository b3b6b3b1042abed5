//! Memory does not grow with the size of a blob.

use std::path::Path;

use bytes::Bytes;
use harness::image::{OCI_CONFIG, OCI_LAYER, describe, noise};
use harness::{Home, Http};
use larder_core::Digest;
use larder_core::digest::{Algorithm, Hasher};
use larder_core::manifest::OCI_MANIFEST;
use serde_json::json;

use crate::tools::Registry;

/// The blob's size: 2 GiB.
const SIZE: u64 = 2 << 30;
/// The size of the chunks that it is made of.
const CHUNK: u64 = 1 << 20;
/// What must be free on the disk: the blob at a registry and here, each once more while it arrives.
const NEEDED: u64 = 4 * SIZE + (1 << 30);
/// What the daemon may use, in KiB.
const LIMIT_KIB: u64 = 64 << 10;

/// The blob's chunks: each another, and none compressible.
fn chunks() -> impl Iterator<Item = Bytes> + Send + Sync + 'static {
    let base = noise("two gibibytes", CHUNK as usize);
    (0..SIZE / CHUNK).map(move |number| {
        let mut chunk = base.to_vec();
        chunk[..8].copy_from_slice(&number.to_le_bytes());
        chunk.into()
    })
}

fn free_bytes(folder: &Path) -> u64 {
    let disk = rustix::fs::statvfs(folder).expect("the disk of temporary files");
    disk.f_bavail * disk.f_frsize
}

/// Pushes an image of that one layer.
fn push(http: &Http, repository: &str, digest: &Digest) {
    let config = br#"{"architecture":"amd64","os":"linux","rootfs":{"type":"layers","diff_ids":[]}}"#;
    http.stream_blob(repository, digest, SIZE, chunks()).is(201);
    http.put_blob(repository, &Digest::of(config), Bytes::from_static(config)).is(201);
    let manifest = json!({"schemaVersion": 2, "mediaType": OCI_MANIFEST, "config": describe(OCI_CONFIG, config),
        "layers": [{"mediaType": OCI_LAYER, "digest": digest.to_string(), "size": SIZE}]});
    http.put_manifest(repository, "large", OCI_MANIFEST, manifest.to_string().into()).is(201);
}

pub(crate) fn two_gibibytes_in_and_out() {
    let free = free_bytes(&std::env::temp_dir());
    assert!(
        free >= NEEDED,
        "{} GiB are free in the folder of temporary files; this part needs {}",
        free >> 30,
        NEEDED >> 30
    );
    let mut hasher = Hasher::new(Algorithm::Sha256);
    chunks().for_each(|chunk| hasher.update(&chunk));
    let digest = hasher.finish();
    let registry = Registry::docker();
    push(&registry.http(), "store/large", &digest);

    let home = Home::with_config("gate = \"off\"\n");
    let daemon = home.start();
    let report = |what: &str, daemon: &harness::Daemon| {
        let peak = daemon.memory_kib("VmHWM");
        println!("  {what}: peak {:.1} MiB of {} MiB", peak as f64 / 1024.0, LIMIT_KIB >> 10);
        assert!(peak < LIMIT_KIB, "{what}: {peak} KiB");
    };
    report("at rest", &daemon);
    let begun = std::time::Instant::now();
    home.larder(["pull", &format!("{}/store/large:large", registry.host())]).exits(0);
    println!("  pulled in {:.1} s", begun.elapsed().as_secs_f32());
    report("2 GiB pulled", &daemon);
    let served = format!("{}/store/large", registry.host().replace(':', "_"));
    let read = daemon.http().drain(&format!("/v2/{served}/blobs/{digest}"));
    assert_eq!(read, (200, SIZE, digest));
    report("2 GiB read out at the endpoint", &daemon);
    daemon.kill();
    drop(registry);

    let (home, target) = (Home::with_config("gate = \"off\"\n"), Registry::docker());
    let daemon = home.start();
    push(&daemon.http(), "team/large", &digest);
    report("2 GiB written in at the endpoint", &daemon);
    home.larder(["push", "localhost/team/large:large", &format!("{}/team/large:large", target.host())]).exits(0);
    report("2 GiB pushed", &daemon);
}
