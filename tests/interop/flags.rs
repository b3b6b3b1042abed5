//! Every flag that cosign prints is taken by the same verb here, or is refused with the reason, which the manual lists too.

use std::collections::BTreeSet;
use std::fs;

use harness::binaries::workspace;

use crate::tools::Stage;

/// The verbs that Larder has of cosign's.
const VERBS: [&str; 21] = [
    "verify",
    "verify-attestation",
    "verify-blob",
    "verify-blob-attestation",
    "sign",
    "attest",
    "attach sbom",
    "attach signature",
    "attach attestation",
    "save",
    "load",
    "copy",
    "tree",
    "triangulate",
    "download sbom",
    "download signature",
    "download attestation",
    "import-key-pair",
    "generate-key-pair",
    "public-key",
    "login",
];
/// A flag that no verb has: whatever stands in front of it is looked at first.
const NO_FLAG: &str = "--no-such-flag";

/// Lists the flags in what `cosign VERB --help` prints, short ones too.
fn flags(help: &str) -> BTreeSet<String> {
    let mut flags = BTreeSet::new();
    for line in help.lines().map(str::trim_start) {
        let (short, long) = match line.split_once(", --") {
            Some((short, rest)) if short.len() == 2 && short.starts_with('-') => (Some(short), Some(rest)),
            _ => (None, line.strip_prefix("--")),
        };
        let Some(long) = long else { continue };
        let end = long
            .find(|character: char| !character.is_ascii_lowercase() && !character.is_ascii_digit() && character != '-');
        let name = &long[..end.unwrap_or(long.len())];
        if name != "help" {
            flags.extend(short.filter(|short| *short != "-h").map(str::to_owned));
            flags.insert(format!("--{name}"));
        }
    }
    flags
}

pub(crate) fn every_flag_of_cosigns() {
    let stage = Stage::new();
    let manual = fs::read_to_string(workspace().join("docs/cosign.md")).expect("docs/cosign.md");
    let (mut taken, mut refused, mut wrong) = (0, BTreeSet::new(), Vec::new());
    for verb in VERBS {
        let mut all = BTreeSet::new();
        for cosign in ["cosign", "cosign-v3"] {
            let help = stage.run(&format!("{cosign} {verb} --help")).succeeds();
            let flags = flags(&help);
            assert!(flags.len() > 3, "{cosign} {verb} --help is read wrongly: {flags:?}");
            all.extend(flags);
        }
        for flag in all {
            let words: Vec<&str> = verb.split_whitespace().chain([flag.as_str(), NO_FLAG]).collect();
            let output = stage.home.larder(&words);
            assert_ne!(output.code, 0, "{words:?} was done");
            if output.stderr.contains(&format!("{flag} is not taken: ")) {
                if !manual.contains(&format!("`{flag}`")) {
                    wrong.push(format!("docs/cosign.md does not tell of {flag} ({verb})"));
                }
                refused.insert(flag);
            } else if output.stderr.contains(&format!("unexpected argument '{flag}'")) {
                wrong.push(format!("larder {verb} does not know {flag}"));
            } else {
                taken += 1;
            }
        }
    }
    println!("  {taken} flags of {} verbs are taken; with a reason refused: {refused:?}", VERBS.len());
    assert!(wrong.is_empty(), "{} flags:\n{}", wrong.len(), wrong.join("\n"));
}
