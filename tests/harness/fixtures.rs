//! OCI layouts on disk, as the fixtures of real tools have them.

use std::collections::HashSet;
use std::fs;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use larder_core::manifest::is_manifest;
use serde_json::Value;

use crate::http::Http;
use crate::registry::FakeRegistry;

/// Returns the folder of the fixtures that cosign made.
pub fn cosign() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/cosign")
}

/// Returns a public key of the fixtures by its file name.
#[track_caller]
pub fn public_key(name: &str) -> String {
    let path = cosign().join("keys").join(name);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// Lists the repositories of the fixtures.
#[track_caller]
pub fn repositories() -> Vec<String> {
    let folder = cosign().join("layouts");
    let entries = fs::read_dir(&folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    let mut names: Vec<_> =
        entries.filter_map(Result::ok).filter_map(|entry| entry.file_name().into_string().ok()).collect();
    names.sort();
    names
}

/// A layout.
#[derive(Debug)]
pub struct Layout {
    folder: PathBuf,
    entries: Vec<Value>,
}

impl Layout {
    /// Opens a repository's layout.
    #[track_caller]
    pub fn open(repository: &str) -> Self {
        Self::at(cosign().join("layouts").join(repository))
    }

    /// Opens the layout in a folder.
    #[track_caller]
    pub fn at(folder: PathBuf) -> Self {
        let path = folder.join("index.json");
        let text = fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        let mut index: Value = serde_json::from_str(&text).expect("index.json");
        let entries = index["manifests"].take().as_array().cloned().unwrap_or_default();
        Self { folder, entries }
    }

    /// Lists (tag, descriptor) of all entries.
    pub fn tags(&self) -> Vec<(String, Value)> {
        let name =
            |entry: &Value| entry["annotations"]["org.opencontainers.image.ref.name"].as_str().map(str::to_owned);
        self.entries.iter().filter_map(|entry| Some((name(entry)?, entry.clone()))).collect()
    }

    /// Lists the tags that name subjects.
    pub fn subjects(&self) -> Vec<String> {
        self.tags().into_iter().map(|(tag, _)| tag).filter(|tag| !tag.starts_with("sha256-")).collect()
    }

    /// Puts everything into a registry in memory.
    pub fn load_into(&self, registry: &FakeRegistry, repository: &str) {
        let mut seen = HashSet::new();
        for (tag, entry) in self.tags() {
            self.walk(&entry, &mut seen, &mut |media_type, digest, bytes| {
                if is_manifest(media_type) {
                    registry.put_manifest(repository, None, media_type, bytes);
                } else {
                    registry.put_blob(repository, digest, bytes);
                }
            });
            let bytes = self.read(entry["digest"].as_str().unwrap_or_default());
            registry.put_manifest(repository, Some(&tag), entry["mediaType"].as_str().unwrap_or_default(), bytes);
        }
    }

    /// Pushes everything to a registry.
    #[track_caller]
    pub fn push_to(&self, http: &Http, repository: &str) {
        let mut seen = HashSet::new();
        for (tag, entry) in self.tags() {
            self.walk(&entry, &mut seen, &mut |media_type, digest, bytes| {
                if is_manifest(media_type) {
                    http.put_manifest(repository, digest, media_type, bytes).is(201);
                } else if http.head(&format!("/v2/{repository}/blobs/{digest}")).status != 200 {
                    http.put_blob(repository, &digest.parse().expect("a digest"), bytes).is(201);
                }
            });
            let bytes = self.read(entry["digest"].as_str().unwrap_or_default());
            http.put_manifest(repository, &tag, entry["mediaType"].as_str().unwrap_or_default(), bytes).is(201);
        }
    }

    /// Visits a descriptor's successors and then itself, each once.
    fn walk(&self, descriptor: &Value, seen: &mut HashSet<String>, visit: &mut dyn FnMut(&str, &str, Bytes)) {
        let digest = descriptor["digest"].as_str().expect("a digest").to_owned();
        let media_type = descriptor["mediaType"].as_str().expect("a media type").to_owned();
        if !seen.insert(digest.clone()) {
            return;
        }
        let bytes = self.read(&digest);
        if is_manifest(&media_type) {
            let manifest: Value = serde_json::from_slice(&bytes).expect("a manifest");
            let lists = ["layers", "manifests"].iter().filter_map(|field| manifest[*field].as_array()).flatten();
            for successor in manifest.get("config").into_iter().chain(lists) {
                self.walk(successor, seen, visit);
            }
        }
        visit(&media_type, &digest, bytes);
    }

    fn read(&self, digest: &str) -> Bytes {
        let path = self.folder.join("blobs").join(digest.replace(':', "/"));
        fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display())).into()
    }
}
