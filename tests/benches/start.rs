//! How long a start takes, by the length of the journal: with both views; without the index, when everything is read and
//! verified before the daemon answers; and after a pruning.
//!
//! `cargo bench -p larder-tests --bench start [RECORDS...]`

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use larder_core::manifest::OCI_MANIFEST;
use larderd::clock::Clock;
use larderd::config::Keep;
use larderd::store::Store;
use larderd::store::record::{Actor, Event, ManifestAdded, Operation, OperationKind, SubjectRole, TagMoved};

/// How many records, unless the command line says otherwise.
const RECORDS: [usize; 2] = [10_000, 1_000_000];
/// One image for so many records; the others move its tag.
const MOVES: usize = 100;
/// Records committed at once.
const BATCH: usize = 200;
/// Segments, smaller than usual, so that short journals have some too.
const SEGMENT: u64 = 8 << 20;

fn main() {
    let named: Vec<usize> = std::env::args().skip(1).filter_map(|word| word.parse().ok()).collect();
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    for &records in if named.is_empty() { &RECORDS[..] } else { &named } {
        let folder = tempfile::tempdir().expect("a folder");
        let home = folder.path().join("home");
        runtime.block_on(measure(&home, records));
    }
}

async fn measure(home: &Path, records: usize) {
    let begun = Instant::now();
    let store = open(home).0;
    fill(&store, records).await;
    println!("{records} records, {:.1} MB of journal, written in {:?}", megabytes(home), begun.elapsed());
    let (before, begun) = (store.facts().len(), Instant::now());
    let copy = store.facts().clone();
    println!("  copy of the facts, for which commits wait: {:?} ({before} subjects)", begun.elapsed());
    drop(copy);
    let begun = Instant::now();
    store.close().expect("closed");
    println!("  close, with a snapshot: {:?}", begun.elapsed());

    let (store, took) = open(home);
    let begun = Instant::now();
    store.verified().await.expect("whole");
    println!("  start with both views: {took:?}; everything verified {:?} later", begun.elapsed());
    store.close().expect("closed");

    let index = home.join("index");
    fs::rename(&index, home.join("beside")).expect("the index goes");
    let (store, took) = open(home);
    println!("  start without the index, which reads everything: {took:?}");
    store.close().expect("closed");
    fs::remove_dir_all(&index).expect("what was rebuilt of it");
    fs::rename(home.join("beside"), &index).expect("the index comes back");

    let store = open(home).0;
    store.verified().await.expect("whole");
    let begun = Instant::now();
    let pruned = store.prune(Keep { days: 0, bytes: 0 }, Actor::daemon(), false).await.expect("a pruning");
    println!("  pruning of {} bytes to {}: {:?}", pruned.bytes, pruned.state_bytes, begun.elapsed());
    store.close().expect("closed");
    println!("  start after it: {:?}", open(home).1);
}

fn open(home: &Path) -> (Store, Duration) {
    let begun = Instant::now();
    let (store, _) = Store::open_with(home, Arc::new(Clock::default()), SEGMENT).expect("the store opens");
    (store, begun.elapsed())
}

fn megabytes(home: &Path) -> f64 {
    let entries = fs::read_dir(home.join("journal")).expect("the journal");
    entries.map(|entry| entry.expect("an entry").metadata().expect("a file").len()).sum::<u64>() as f64 / 1e6
}

async fn fill(store: &Store, records: usize) {
    let mut events = Vec::new();
    let mut digest = None;
    for number in 0..records {
        let image = number / MOVES;
        let repository = format!("registry.example.org/team/app{}", image % 100).parse().expect("a repository");
        let mut manifests = Vec::new();
        if number % MOVES == 0 {
            let bytes = Bytes::from(format!("manifest {image}"));
            let size = bytes.len() as u64;
            let manifest = store.put(bytes).await.expect("a manifest");
            digest = Some(manifest);
            manifests.push(ManifestAdded {
                repository: Clone::clone(&repository),
                digest: manifest,
                media_type: OCI_MANIFEST.to_owned(),
                artifact_type: None,
                size,
                subject: Some(SubjectRole::Root),
                attached: None,
                successors: Vec::new(),
                left_out: Vec::new(),
                signatures: Vec::new(),
                uncounted: 0,
            });
        }
        let tag = format!("v{image}").parse().expect("a tag");
        events.push(Event::Operation(Operation {
            kind: OperationKind::Pull,
            reference: format!("{repository}:v{image}"),
            manifests,
            tags: vec![TagMoved { repository, tag, old: None, new: digest }],
            detached: Vec::new(),
        }));
        if events.len() == BATCH || number + 1 == records {
            store.commit(Actor::daemon(), std::mem::take(&mut events)).await.expect("a commit");
        }
    }
}
