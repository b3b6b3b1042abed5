//! The arrows of DESIGN section 3: walks the sources and fails where a room uses what it must not.

use std::fs;
use std::path::{Path, PathBuf};

use harness::binaries::workspace;

/// A room of the daemon and what it must not use: rooms of the daemon, then crates.
const ROOMS: [(&str, &[&str], &[&str]); 10] = [
    ("api", &["registry", "app", "remote", "transfer", "bundle"], &["axum", "sled"]),
    ("registry", &["api", "app", "remote", "transfer", "bundle"], &["tonic", "larder_proto", "sled"]),
    ("ops", &["api", "registry", "app"], &["tonic", "axum", "larder_proto", "sled", "http"]),
    ("transfer", &["api", "registry", "ops", "trust", "app"], &["tonic", "axum", "larder_proto", "sled"]),
    (
        "trust",
        &["api", "registry", "ops", "transfer", "remote", "bundle", "app"],
        &["tonic", "axum", "larder_proto", "sled"],
    ),
    (
        "store",
        &["api", "registry", "ops", "transfer", "trust", "remote", "bundle", "app"],
        &["tonic", "axum", "larder_proto"],
    ),
    (
        "remote",
        &["api", "registry", "ops", "transfer", "trust", "store", "app"],
        &["tonic", "axum", "larder_proto", "sled"],
    ),
    (
        "bundle",
        &["api", "registry", "ops", "transfer", "trust", "store", "remote", "app"],
        &["tonic", "axum", "larder_proto", "sled"],
    ),
    (
        "config",
        &["api", "registry", "ops", "transfer", "trust", "store", "remote", "app"],
        // `larder_proto::place` is the rule for home and socket that client and daemon share.
        &["tonic", "axum", "sled"],
    ),
    (
        "clock",
        &["api", "registry", "ops", "transfer", "trust", "store", "remote", "app", "config"],
        &["tonic", "axum", "larder_proto", "sled"],
    ),
];

/// What `core` must not know: anything of ours, anything that waits or touches the outside.
const NOT_IN_CORE: [&str; 12] = [
    "larderd",
    "larder_proto",
    "tokio",
    "futures_util",
    "tonic",
    "axum",
    "reqwest",
    "hyper",
    "sled",
    "notify",
    "rustix",
    "tracing",
];

/// What reaches outside without being a crate.
const OUTSIDE: [&str; 8] = [
    "std::fs",
    "TcpStream",
    "ToSocketAddrs",
    "std::process",
    "std::env",
    "std::thread",
    "SystemTime::now",
    "Timestamp::now",
];

fn sources(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in
        fs::read_dir(folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display())).filter_map(Result::ok)
    {
        let path = entry.path();
        if path.is_dir() {
            found.extend(sources(&path));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
    found
}

/// Says whether a file is a module that only tests have: one that `#[cfg(test)]` stands before, somewhere up its path.
fn is_test_module(path: &Path) -> bool {
    path.ancestors().take_while(|place| !place.ends_with("src")).any(|place| {
        let (Some(folder), Some(name)) = (place.parent(), place.file_stem().and_then(|stem| stem.to_str())) else {
            return false;
        };
        let beside = folder.with_extension("rs");
        [folder.join("mod.rs"), folder.join("lib.rs"), beside].iter().any(|parent| {
            let text = fs::read_to_string(parent).unwrap_or_default();
            let mut lines = text.lines().map(str::trim);
            while let Some(line) = lines.next() {
                if line == "#[cfg(test)]" {
                    let declared = lines.by_ref().find(|line| !line.starts_with("#["));
                    if declared.is_some_and(|line| line.ends_with(&format!("mod {name};"))) {
                        return true;
                    }
                }
            }
            false
        })
    })
}

/// Reads a source without its comments, and without its tests (which may use what they like).
fn code(path: &Path) -> String {
    if is_test_module(path) {
        return String::new();
    }
    let text = fs::read_to_string(path).expect("a source");
    let text = text.split("#[cfg(test)]").next().unwrap_or_default();
    text.lines().map(|line| line.split("//").next().unwrap_or_default()).collect::<Vec<_>>().join("\n")
}

/// The names that follow a prefix (`crate::`) everywhere in the code, groups in braces included.
fn names_after(code: &str, prefix: &str) -> Vec<String> {
    let mut names = Vec::new();
    for (place, _) in code.match_indices(prefix) {
        let before = code[..place].chars().next_back();
        if before.is_some_and(|letter| letter.is_alphanumeric() || letter == '_' || letter == ':') {
            continue;
        }
        let rest = &code[place + prefix.len()..];
        match rest.strip_prefix('{') {
            Some(group) => names.extend(first_level(group)),
            None => names.push(identifier(rest)),
        }
    }
    names
}

/// The first identifiers in a group `{a::{b, c}, d}`, up to its closing brace.
fn first_level(group: &str) -> Vec<String> {
    let (mut depth, mut fresh, mut names) = (0_usize, true, Vec::new());
    for (place, letter) in group.char_indices() {
        match letter {
            '{' => depth += 1,
            '}' if depth == 0 => break,
            '}' => depth -= 1,
            ',' if depth == 0 => fresh = true,
            _ if letter.is_whitespace() => {}
            _ if fresh && depth == 0 => {
                names.push(identifier(&group[place..]));
                fresh = false;
            }
            _ => {}
        }
    }
    names
}

fn identifier(text: &str) -> String {
    text.chars().take_while(|letter| letter.is_alphanumeric() || *letter == '_').collect()
}

/// How deep below the crate's root the module of a file lies: `api/mod.rs` 1, `api/sync.rs` 2.
fn depth(file: &Path, root: &Path) -> usize {
    let relative = file.strip_prefix(root).expect("below the root");
    let parts = relative.components().count();
    if relative.file_name().is_some_and(|name| name == "mod.rs") { parts - 1 } else { parts }
}

/// The rooms of the crate that a file uses, by `crate::` or by enough of `super::`.
fn rooms_used(file: &Path, root: &Path) -> Vec<String> {
    let code = code(file);
    let mut rooms = names_after(&code, "crate::");
    rooms.extend(names_after(&code, &"super::".repeat(depth(file, root))));
    rooms
}

fn uses_crate(code: &str, name: &str) -> bool {
    code.match_indices(name).any(|(place, _)| {
        let before = code[..place].chars().next_back();
        let after = code[place + name.len()..].chars().next();
        let alone =
            !before.is_some_and(|letter| letter.is_alphanumeric() || letter == '_' || letter == ':' || letter == '.');
        let path = code[place + name.len()..].starts_with("::");
        let imported = code[..place].ends_with("use ") && after == Some(';');
        alone && (path || imported)
    })
}

#[test]
fn the_daemons_rooms() {
    let root = workspace().join("daemon/src");
    let mut wrong = Vec::new();
    for (room, rooms, crates) in ROOMS {
        let folder = root.join(room);
        let single = root.join(format!("{room}.rs"));
        let mut files = if folder.is_dir() { sources(&folder) } else { Vec::new() };
        files.extend(single.is_file().then_some(single));
        assert!(!files.is_empty(), "the room {room} is gone: mend this test");
        for file in files {
            let used = rooms_used(&file, &root);
            let code = code(&file);
            let name = file.strip_prefix(workspace()).expect("ours").display().to_string();
            wrong.extend(
                rooms
                    .iter()
                    .filter(|other| used.iter().any(|one| one == *other))
                    .map(|other| format!("{name} uses {other}")),
            );
            wrong.extend(
                crates.iter().filter(|other| uses_crate(&code, other)).map(|other| format!("{name} uses {other}")),
            );
        }
    }
    assert!(wrong.is_empty(), "wrong arrows:\n{}", wrong.join("\n"));
}

#[test]
fn the_store_verifies_no_signature() {
    let root = workspace().join("daemon/src");
    for file in sources(&root.join("store")) {
        let code = code(&file);
        for word in ["larder_core::judge", "check::check", "judge::", "aws_lc_rs", "p256::"] {
            assert!(!code.contains(word), "{} uses {word}", file.display());
        }
    }
}

#[test]
fn core_is_pure() {
    let root = workspace().join("daemon/core");
    for file in sources(&root.join("src")) {
        let code = code(&file);
        for name in NOT_IN_CORE {
            assert!(!uses_crate(&code, name), "{} uses {name}", file.display());
        }
        for name in OUTSIDE {
            assert!(!code.contains(name), "{} uses {name}", file.display());
        }
        for word in [".await", "async fn", "async move"] {
            assert!(!code.contains(word), "{} waits: {word}", file.display());
        }
    }
    let manifest = fs::read_to_string(root.join("Cargo.toml")).expect("core's Cargo.toml");
    let dependencies = manifest.split("[dev-dependencies]").next().unwrap_or_default();
    for name in ["larderd", "larder-proto", "tokio", "oci-distribution"] {
        assert!(!dependencies.contains(name), "core depends on {name}");
    }
}

#[test]
fn the_client_knows_the_api_and_the_pure_domain() {
    for file in sources(&workspace().join("cli/src")) {
        let code = code(&file);
        for name in ["larderd", "axum", "sled"] {
            assert!(!uses_crate(&code, name), "{} uses {name}", file.display());
        }
    }
    let manifest = fs::read_to_string(workspace().join("cli/Cargo.toml")).expect("the client's Cargo.toml");
    assert!(!manifest.contains("\nlarderd.workspace"), "the client depends on larderd");
}

#[test]
fn one_switch_over_media_types() {
    // The layers of a manifest are listed in one place; elsewhere nobody takes a manifest apart by its JSON.
    for folder in ["daemon/src", "daemon/core/src"] {
        for file in sources(&workspace().join(folder)) {
            let name = file.file_name().and_then(|name| name.to_str()).unwrap_or_default();
            let by_json = code(&file).contains("[\"layers\"]") || code(&file).contains("[\"manifests\"]");
            assert!(!by_json || name == "manifest.rs", "{} reads a manifest's successors by itself", file.display());
        }
    }
}

#[test]
fn this_walk_finds_what_it_looks_for() {
    let code =
        "use crate::{ops::Ctx, store::{Store, record}};\nlet x = crate::trust::Folder::watch();\nuse super::api;\n";
    assert_eq!(names_after(code, "crate::"), ["ops", "store", "trust"]);
    assert_eq!(names_after(code, "super::"), ["api"]);
    assert!(uses_crate("use tonic::Status;", "tonic") && uses_crate("fn f() -> tonic::Status", "tonic"));
    assert!(!uses_crate("use my_tonic::Status; self.tonic", "tonic"));
}
