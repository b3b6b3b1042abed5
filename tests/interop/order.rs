//! One pull under strace shows DESIGN's order: data sync, rename, folder sync, frame sync, answer.

use std::collections::HashMap;
use std::fs;

use harness::{Content, FakeRegistry, Home, Image};

/// A system call that succeeded: where in the trace it began and ended, and its text.
#[derive(Debug)]
struct Call {
    began: usize,
    ended: usize,
    name: String,
    text: String,
}

/// Reads `strace -f -y`, joining calls that were cut by other threads' calls.
fn calls(trace: &str) -> Vec<Call> {
    let mut open: HashMap<&str, (usize, String)> = HashMap::new();
    let mut calls = Vec::new();
    for (place, line) in trace.lines().enumerate() {
        let Some((thread, rest)) = line.split_once(' ') else { continue };
        let rest = rest.trim_start();
        if let Some(head) = rest.strip_suffix("<unfinished ...>") {
            open.insert(thread, (place, head.to_owned()));
            continue;
        }
        let (began, text) = match rest.strip_prefix("<... ").and_then(|rest| rest.split_once("resumed>")) {
            Some((_, tail)) => match open.remove(thread) {
                Some((began, head)) => (began, format!("{head}{tail}")),
                None => continue,
            },
            None => (place, rest.to_owned()),
        };
        let succeeded = text.rsplit_once(" = ").is_some_and(|(_, result)| !result.starts_with('-'));
        let Some((name, _)) = text.split_once('(') else { continue };
        if succeeded {
            calls.push(Call { began, ended: place, name: name.to_owned(), text });
        }
    }
    calls
}

/// Pulls an image into an empty home under strace; returns what was called while it was pulled.
fn pulled_under_strace(image: &Content) -> String {
    let (registry, home) = (FakeRegistry::start(), Home::new());
    registry.put("store/app", "1.0", image);
    let file = home.beside("trace");
    let path = file.to_str().expect("UTF-8");
    let traced = "trace=fsync,fdatasync,syncfs,rename,renameat,renameat2,link,linkat,write,writev,sendto,sendmsg";
    let daemon = home.launch().under("strace", &["-f", "-y", "-s", "16", "-e", traced, "-o", path]).start();
    let before = fs::read_to_string(&file).expect("the trace").lines().count();
    home.larder(["pull", &registry.reference("store/app", "1.0")]).exits(0);
    let whole = fs::read_to_string(&file).expect("the trace");
    home.larder(["daemon", "stop"]).exits(0);
    daemon.ended();
    whole.lines().skip(before).flat_map(|line| [line, "\n"]).collect()
}

fn is_sync(call: &Call) -> bool {
    matches!(call.name.as_str(), "fsync" | "fdatasync" | "syncfs")
}

/// Small blobs cost one sync of their bytes each, share those of the folder, and have one frame together; what is told of the
/// verdict has another.
pub(crate) fn small_blobs_share_their_syncs() {
    let layers = (0..24_u8).map(|number| vec![number; 4096]);
    let image = layers.fold(Image::new("small blobs"), Image::layer).build();
    let trace = pulled_under_strace(&image);
    let syncs: Vec<Call> = calls(&trace).into_iter().filter(is_sync).collect();
    let count = |part: &str| syncs.iter().filter(|call| call.text.contains(part)).count();
    // The blobs, and the manifest that comes after them.
    let all = image.blobs().len() + 1;
    let (bytes, folder, frames) = (count("/ingest/"), count("/blobs/sha256>"), count("/journal/"));
    println!("  {all} small files: {bytes} syncs of bytes, {folder} of the folder, {frames} of the journal");
    assert!(bytes <= all && folder <= all && frames <= 2, "{all} files:\n{trace}");
}

pub(crate) fn sync_rename_sync_frame_answer() {
    let image = Image::new("traced").layer(harness::image::noise("traced", 9 << 20)).build();
    let trace = pulled_under_strace(&image);
    let calls = calls(&trace);

    let layer = image.top_layer().hex();
    let rename = calls
        .iter()
        .find(|call| (call.name.starts_with("rename") || call.name.starts_with("link")) && call.text.contains(&layer))
        .unwrap_or_else(|| panic!("no rename of the layer into blobs/:\n{trace}"));
    let data = calls
        .iter()
        .filter(|call| is_sync(call))
        .find(|call| (call.text.contains("/ingest/") || call.name == "syncfs") && call.ended < rename.began)
        .unwrap_or_else(|| panic!("no data sync before the rename:\n{trace}"));
    let folder = calls
        .iter()
        .filter(|call| is_sync(call))
        .find(|call| call.began > rename.ended && call.text.contains("/blobs/sha256>"))
        .unwrap_or_else(|| panic!("no sync of the folder after the rename:\n{trace}"));
    let frame = calls
        .iter()
        .filter(|call| is_sync(call))
        .find(|call| call.began > folder.ended && call.text.contains("/journal/"))
        .unwrap_or_else(|| panic!("no sync of the frame after the folder's:\n{trace}"));
    let last_rename = calls
        .iter()
        .filter(|call| call.name.starts_with("rename") && call.text.contains("/blobs/"))
        .map(|call| call.ended)
        .max();
    assert!(last_rename.is_some_and(|last| last < frame.began), "every blob is in place before the frame:\n{trace}");
    let answer = calls
        .iter()
        .rfind(|call| {
            matches!(call.name.as_str(), "write" | "writev" | "sendto" | "sendmsg")
                && (call.text.contains("<UNIX") || call.text.contains("<socket:"))
        })
        .unwrap_or_else(|| panic!("no answer on the socket:\n{trace}"));
    assert!(answer.began > frame.ended, "the answer comes after the frame's sync:\n{trace}");
    for call in [data, rename, folder, frame, answer] {
        println!("  {}", call.text);
    }
}
