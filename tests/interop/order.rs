//! One pull under strace shows DESIGN's order: data sync, rename, folder sync, frame sync, answer.

use std::collections::HashMap;
use std::fs;

use harness::{FakeRegistry, Home, Image};

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

pub(crate) fn sync_rename_sync_frame_answer() {
    let (registry, home) = (FakeRegistry::start(), Home::new());
    let image = Image::new("traced").layer(harness::image::noise("traced", 9 << 20)).build();
    registry.put("store/app", "1.0", &image);
    let file = home.beside("trace");
    let path = file.to_str().expect("UTF-8");
    let traced = "trace=fsync,fdatasync,syncfs,rename,renameat,renameat2,link,linkat,write,writev,sendto,sendmsg";
    let daemon = home.launch().under("strace", &["-f", "-y", "-s", "16", "-e", traced, "-o", path]).start();
    let before = fs::read_to_string(&file).expect("the trace").lines().count();
    home.larder(["pull", &registry.reference("store/app", "1.0")]).exits(0);
    let whole = fs::read_to_string(&file).expect("the trace");
    home.larder(["daemon", "stop"]).exits(0);
    daemon.ended();
    let trace: String = whole.lines().skip(before).flat_map(|line| [line, "\n"]).collect();
    let calls = calls(&trace);

    let is_sync = |call: &&Call| matches!(call.name.as_str(), "fsync" | "fdatasync" | "syncfs");
    let layer = image.top_layer().hex();
    let rename = calls
        .iter()
        .find(|call| (call.name.starts_with("rename") || call.name.starts_with("link")) && call.text.contains(&layer))
        .unwrap_or_else(|| panic!("no rename of the layer into blobs/:\n{trace}"));
    let data = calls
        .iter()
        .filter(is_sync)
        .find(|call| (call.text.contains("/ingest/") || call.name == "syncfs") && call.ended < rename.began)
        .unwrap_or_else(|| panic!("no data sync before the rename:\n{trace}"));
    let folder = calls
        .iter()
        .filter(is_sync)
        .find(|call| call.began > rename.ended && call.text.contains("/blobs/sha256>"))
        .unwrap_or_else(|| panic!("no sync of the folder after the rename:\n{trace}"));
    let frame = calls
        .iter()
        .filter(is_sync)
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
