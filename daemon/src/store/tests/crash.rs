//! The process dies, or the disk fails, at every point; a child process plays it, this one looks at what is left.

use std::collections::BTreeSet;
use std::fs;
use std::process::{Command, ExitStatus};

use super::*;
use crate::store::disk::FaultPoint;

const HOME: &str = "LARDER_TEST_STORE_HOME";

/// Points that other rooms than the store pass.
fn is_elsewhere(point: FaultPoint) -> bool {
    point.name().starts_with("edit-")
}

/// The child's part: does everything that the store does, and prints what was confirmed.
#[tokio::test]
async fn child() {
    let Some(home) = std::env::var_os(HOME) else { return };
    let home = Path::new(&home);
    // Small segments, so that there is something to prune.
    let Ok((store, _)) = Store::open_with(home, Arc::new(Clock::default()), 100) else { return };
    for number in 0..3 {
        match work(&store, number).await {
            Ok(()) => println!("confirmed {number}"),
            Err(error) => println!("refused {number} {} {error}", error.reason()),
        }
    }
    for path in fs::read_dir(home.join("blobs/sha256")).expect("blobs").take(1) {
        // Something rots, and is put aside.
        let path = path.expect("a blob").path();
        let name = path.file_name().expect("a name").to_string_lossy().into_owned();
        if fs::rename(&path, home.join("rotten")).and_then(|()| fs::write(&path, b"rot")).is_ok() {
            let digest = format!("sha256:{name}").parse().expect("a digest");
            assert!(store.read(&digest, 99).await.is_err());
            let _ = fs::rename(home.join("rotten"), &path);
        }
    }
    let pruned = store.prune(Keep { days: 0, bytes: 0 }, actor(), false).await;
    println!("pruned {pruned:?}");
    println!("closed {}", store.close().is_ok());
}

/// One pull: blobs by both ways, and the commit.
async fn work(store: &Store, number: u32) -> Result<(), StoreError> {
    let layer = Bytes::from(format!("layer {number}"));
    let digest = Digest::of(&layer);
    let mut ingest = store.ingest(Some((digest, Some(layer.len() as u64)))).await?;
    ingest.write(layer.clone()).await?;
    ingest.commit(None).await?;
    let manifest = store.put(Bytes::from(format!("manifest {number}"))).await?;
    let added = ManifestAdded {
        repository: repository("quay.io/team/app"),
        digest: manifest,
        media_type: OCI_MANIFEST.into(),
        artifact_type: None,
        size: 10,
        subject: Some(SubjectRole::Root),
        attached: None,
        successors: vec![Successor { digest, size: layer.len() as u64, manifest: false }],
        left_out: Vec::new(),
        signatures: Vec::new(),
        uncounted: 0,
    };
    store.commit(actor(), vec![pull(vec![added], &[(&format!("t{number}"), Some(manifest))])]).await.map(|_| ())
}

fn play(home: &Path, fault: &str) -> (ExitStatus, String) {
    let output = Command::new(std::env::current_exe().expect("this program"))
        .args(["--exact", "store::tests::crash::child", "--nocapture", "--test-threads=1"])
        .env(HOME, home)
        .env("LARDER_FAULT", fault)
        .output()
        .expect("a child");
    (output.status, String::from_utf8_lossy(&output.stdout).into_owned())
}

/// A home with a torn journal, unfinished downloads and no views, so that every repair is made.
async fn worn_home(folder: &Path) -> std::path::PathBuf {
    let home = folder.join("home");
    let store = open(&home);
    work(&store, 9).await.expect("some content");
    store.close().expect("closed");
    let segment = fs::read_dir(home.join("journal")).expect("journal").next().expect("one").expect("it").path();
    let mut bytes = fs::read(&segment).expect("the journal");
    bytes.extend_from_slice(b"LJF1 torn");
    fs::write(segment, bytes).expect("a torn journal");
    for view in ["index", "snapshot"] {
        fs::remove_dir_all(home.join(view)).expect(view);
    }
    home
}

async fn assert_whole(home: &Path, output: &str, fault: &str) {
    let (store, mended) = Store::open(home, Arc::new(Clock::default())).expect("it opens again");
    while store.rebuilding().is_some() {
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
    assert_eq!(*store.read_only().borrow(), None, "{fault}: {mended:?}");
    for entry in fs::read_dir(home.join("blobs/sha256")).expect("blobs") {
        let path = entry.expect("a blob").path();
        let name = path.file_name().expect("a name").to_string_lossy().into_owned();
        let rotten = fs::read(&path).expect("a blob") == b"rot";
        assert!(rotten || Digest::of(&fs::read(&path).expect("a blob")).hex() == name, "{fault}: {name}");
    }
    let app = repository("quay.io/team/app");
    for number in 0..3 {
        let row = store.tag(&app, &tag(&format!("t{number}"))).await.expect("a look-up");
        let confirmed = output.contains(&format!("confirmed {number}"));
        assert!(row.is_some() || !confirmed, "{fault}: {number} was confirmed and is gone");
        if let Some(row) = row {
            assert!(store.facts().contains(&app, row.digest), "{fault}: facts and index differ");
            assert!(store.manifest_row(&app, row.digest).await.expect("a look-up").is_some(), "{fault}");
        }
        work(&store, number).await.unwrap_or_else(|error| panic!("{fault}: the work completes: {error}"));
    }
    store.close().expect("closed");
    drop(open(home));
}

#[tokio::test]
async fn a_death_at_every_point_loses_nothing() {
    let mut never: BTreeSet<&str> =
        FaultPoint::ALL.iter().filter(|point| !is_elsewhere(**point)).map(|point| point.name()).collect();
    for &point in FaultPoint::ALL.iter().filter(|point| !is_elsewhere(**point)) {
        for moment in ["", ":after"] {
            for worn in [false, true] {
                let folder = tempfile::tempdir().expect("a folder");
                let home = if worn { worn_home(folder.path()).await } else { folder.path().join("home") };
                let fault = format!("{}{moment}", point.name());
                let (status, output) = play(&home, &fault);
                if !status.success() {
                    never.remove(point.name());
                }
                assert_whole(&home, &output, &format!("{fault} worn {worn}")).await;
            }
        }
    }
    assert!(never.is_empty(), "never reached: {never:?}");
}

#[tokio::test]
async fn a_full_disk_is_said_and_passes() {
    for point in ["blob-write", "blob-sync", "blob-rename", "blob-folder-sync", "journal-write"] {
        let folder = tempfile::tempdir().expect("a folder");
        let home = folder.path().join("home");
        drop(open(&home));
        // Opening syncs the blobs' folders twice; it is the third time that counts.
        let nth = if point == "blob-folder-sync" { ":3" } else { "" };
        let (status, output) = play(&home, &format!("{point}{nth}=enospc"));
        assert!(status.success() && output.contains("refused 0 store-full"), "{point}: {output}");
        assert!(output.contains("confirmed 1") && output.contains("confirmed 2"), "{point}: {output}");
        assert_whole(&home, &output, point).await;
        // For good: nothing goes, nothing is lost.
        let (status, output) = play(&home, &format!("{point}{nth}=full"));
        assert!(status.success(), "{point}: {output}");
        assert_whole(&home, &output, point).await;
    }
}

#[tokio::test]
async fn a_failed_sync_of_the_journal_makes_read_only() {
    let folder = tempfile::tempdir().expect("a folder");
    let home = folder.path().join("home");
    let (status, output) = play(&home, "journal-sync:2=io");
    assert!(status.success(), "{output}");
    for line in ["confirmed 0", "refused 1 read-only", "refused 2 read-only"] {
        assert!(output.contains(line), "{line}: {output}");
    }
    assert_whole(&home, &output, "journal-sync").await;
}

#[tokio::test]
async fn an_index_that_cannot_be_written_costs_no_commit() {
    for fault in ["index-apply:3=full", "index-flush:3=full", "index-apply:3=io", "index-remove=io"] {
        let folder = tempfile::tempdir().expect("a folder");
        let home = folder.path().join("home");
        drop(open(&home));
        let (status, output) = play(&home, fault);
        assert!(status.success(), "{fault}: {output}");
        assert!(output.contains("confirmed 0") && output.contains("confirmed 1"), "{fault}: {output}");
        assert_whole(&home, &output, fault).await;
    }
}
