//! docker's `config.json` and podman's `auth.json` (containers-auth.json(5)), read.

use std::collections::BTreeMap;
use std::io::{ErrorKind, Read as _};
use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use larder_core::reference::DOCKER_HUB;
use serde::Deserialize;
use zeroize::Zeroizing;

use super::error::CredentialError;
use super::secret::Secret;
use super::{Login, Proof};

/// The most bytes that a file may have.
pub(super) const MAX_FILE: u64 = 1 << 20;
/// What else Docker Hub is called.
const DOCKER_HUB_NAMES: [&str; 2] = ["index.docker.io", "registry-1.docker.io"];

/// What a file says; what else it says is not ours.
#[derive(Default, Deserialize)]
#[serde(default)]
pub(super) struct File {
    auths: Option<BTreeMap<String, Option<Entry>>>,
    #[serde(rename = "credHelpers")]
    helpers: Option<BTreeMap<String, String>>,
    #[serde(rename = "credsStore")]
    store: Option<String>,
}

/// One entry of `auths`.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Entry {
    /// `user:password` in base64.
    auth: Option<Secret>,
    username: Option<String>,
    password: Option<Secret>,
    #[serde(rename = "identitytoken")]
    identity_token: Option<Secret>,
    #[serde(rename = "registrytoken")]
    registry_token: Option<Secret>,
}

/// Reads a file's bytes; `None` where there is none.
pub(super) fn read(path: &Path) -> Result<Option<Zeroizing<Vec<u8>>>, CredentialError> {
    let unusable = |why: String| CredentialError::File { path: path.to_owned(), why };
    let in_words = |error: std::io::Error| unusable(error.kind().to_string());
    // Not to wait at a pipe that somebody put there.
    let about = match std::fs::metadata(path) {
        Ok(about) => about,
        Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => return Ok(None),
        Err(error) => return Err(in_words(error)),
    };
    if !about.is_file() {
        return Err(unusable("it is no regular file".into()));
    }
    let file = std::fs::File::open(path).map_err(in_words)?;
    // With room for all of it, so that no part stays behind in memory that was outgrown.
    let room = usize::try_from(about.len().min(MAX_FILE)).unwrap_or_default() + 1;
    let mut bytes = Zeroizing::new(Vec::with_capacity(room));
    file.take(MAX_FILE + 1).read_to_end(&mut bytes).map_err(in_words)?;
    if bytes.len() as u64 > MAX_FILE {
        return Err(unusable("it is longer than 1 MiB".into()));
    }
    Ok(Some(bytes))
}

impl File {
    /// Reads a file; a missing or empty one says nothing.
    pub(super) fn load(path: &Path) -> Result<Self, CredentialError> {
        let Some(bytes) = read(path)? else { return Ok(Self::default()) };
        if bytes.trim_ascii().is_empty() {
            return Ok(Self::default());
        }
        // A list would be taken for the fields in their order.
        if !bytes.trim_ascii().starts_with(b"{") {
            let why = "it is no JSON object".into();
            return Err(CredentialError::File { path: path.to_owned(), why });
        }
        serde_json::from_slice(&bytes).map_err(|error| {
            // The error's own words may quote a value.
            let what = if error.is_data() { "it is not what docker or podman write" } else { "it is no JSON" };
            let why = format!("{what} (line {})", error.line());
            CredentialError::File { path: path.to_owned(), why }
        })
    }

    /// Returns the helper that `credHelpers` names for a registry.
    pub(super) fn helper_of(&self, registry: &str) -> Option<&str> {
        let helpers = self.helpers.as_ref()?;
        let found = helpers.iter().find(|(key, _)| named(key) == registry);
        found.map(|(_, helper)| helper.as_str()).filter(|helper| !helper.is_empty())
    }

    /// Returns the helper that `credsStore` names, for every registry.
    pub(super) fn store(&self) -> Option<&str> {
        self.store.as_deref().filter(|store| !store.is_empty())
    }

    /// Returns the key and login of the entry for exactly this name (`HOST` or `HOST/PREFIX`).
    pub(super) fn entry(&self, path: &Path, name: &str) -> Result<Option<Login>, CredentialError> {
        let all = self.auths.iter().flatten().filter(|(key, _)| named(key) == name);
        let mut filled: Vec<_> = all.filter_map(|(key, entry)| Some((key, entry.as_ref()?))).collect();
        // The very spelling goes first.
        filled.sort_by_key(|(key, _)| key.as_str() != name);
        for (key, entry) in filled {
            let refuse = |why| CredentialError::Entry { path: path.to_owned(), key: key.clone(), why };
            if let Some((username, proof)) = entry.decode().map_err(refuse)? {
                return Ok(Some(Login { username, proof, from: path.display().to_string() }));
            }
        }
        Ok(None)
    }
}

impl Entry {
    /// Returns user and proof; `None` for an empty entry, which docker leaves where a helper has the secret.
    fn decode(&self) -> Result<Option<(String, Proof)>, &'static str> {
        let some = |secret: &Option<Secret>| secret.clone().filter(|secret| !secret.is_empty());
        let (mut username, mut password) = (self.username.clone().unwrap_or_default(), some(&self.password));
        if let Some(auth) = some(&self.auth) {
            let decoded = STANDARD.decode(auth.reveal().trim()).map(Zeroizing::new);
            let decoded = decoded.map_err(|_| "its auth is no base64")?;
            let text = std::str::from_utf8(&decoded).map_err(|_| "its auth is no text")?;
            let (user, secret) = text.split_once(':').ok_or("its auth has no colon between user and password")?;
            username = user.to_owned();
            // As docker and podman do: some tools pad it.
            password = Some(Secret::new(secret.trim_matches('\0').to_owned())).filter(|secret| !secret.is_empty());
        }
        let proof = (some(&self.registry_token).map(Proof::RegistryToken))
            .or_else(|| some(&self.identity_token).map(Proof::IdentityToken))
            .or_else(|| password.map(Proof::Password));
        match proof {
            Some(Proof::Password(_)) if username.is_empty() => Err("it has a password and no user"),
            Some(proof) => Ok(Some((username, proof))),
            None if username.is_empty() => Ok(None),
            None => Err("it has a user and no password"),
        }
    }
}

/// Returns what a key of a file names: `HOST` or `HOST/PREFIX`, the host in lower case, Docker Hub as `docker.io`. A key
/// that is a URL names its host.
pub(super) fn named(key: &str) -> String {
    let rest = key.strip_prefix("https://").or_else(|| key.strip_prefix("http://"));
    let (host, path) = match rest {
        Some(url) => (url.split('/').next().unwrap_or_default(), ""),
        None => key.trim_end_matches('/').split_once('/').unwrap_or_else(|| (key.trim_end_matches('/'), "")),
    };
    let host = host.to_ascii_lowercase();
    let host = if DOCKER_HUB_NAMES.contains(&host.as_str()) { DOCKER_HUB.to_owned() } else { host };
    if path.is_empty() { host } else { format!("{host}/{path}") }
}

/// Returns the names to look for, the longest first: the repository, each part of its path, the registry.
pub(super) fn names(registry: &str, path: &str) -> impl Iterator<Item = String> {
    let whole = if path.is_empty() { registry.to_owned() } else { format!("{registry}/{path}") };
    let ends: Vec<usize> = whole.match_indices('/').map(|(at, _)| at).chain([whole.len()]).collect();
    ends.into_iter().rev().map(move |end| whole.get(..end).unwrap_or_default().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(text: &str, name: &str) -> Result<Option<(String, String)>, CredentialError> {
        let folder = tempfile::tempdir().expect("folder");
        let path = folder.path().join("auth.json");
        std::fs::write(&path, text).expect("write");
        let found = File::load(&path)?.entry(&path, name)?;
        Ok(found.map(|login| {
            let (kind, secret) = match login.proof {
                Proof::Password(secret) => ("password", secret),
                Proof::IdentityToken(secret) => ("identity", secret),
                Proof::RegistryToken(secret) => ("registry", secret),
            };
            (login.username, format!("{kind} {}", secret.reveal()))
        }))
    }

    #[test]
    fn entries_of_every_kind() {
        let auth = STANDARD.encode("robot$x:a:b\0\0");
        for (said, expected) in [
            (format!(r#"{{"auth":"{auth}"}}"#), Some(("robot$x", "password a:b"))),
            (r#"{"username":"u","password":"p"}"#.into(), Some(("u", "password p"))),
            (format!(r#"{{"auth":"{}","identitytoken":"t"}}"#, STANDARD.encode("u:")), Some(("u", "identity t"))),
            (r#"{"registrytoken":"t","identitytoken":"i"}"#.into(), Some(("", "registry t"))),
            (r#"{"email":"a@b"}"#.into(), None),
            ("{}".into(), None),
            ("null".into(), None),
        ] {
            let text = format!(r#"{{"auths":{{"r.io":{said}}},"HttpHeaders":{{}}}}"#);
            let found = entry(&text, "r.io").expect(&text);
            assert_eq!(found, expected.map(|(user, proof)| (user.to_owned(), proof.to_owned())), "{text}");
        }
        assert_eq!(entry("", "r.io").expect("an empty file"), None);
        assert_eq!(entry(r#"{"auths":null,"credHelpers":null}"#, "r.io").expect("nulls"), None);
    }

    #[test]
    fn what_is_broken_is_an_error_that_holds_no_secret() {
        let secret = STANDARD.encode("s3cret-without-a-colon");
        for text in [
            "{",
            "[]",
            "5",
            "s3cret",
            r#"{"auths":5}"#,
            r#"{"auths":{"r.io":"s3cret"}}"#,
            r#"{"auths":{"r.io":{"auth":["s3cret"]}}}"#,
            r#"{"auths":{"r.io":{"auth":"s3cret!"}}}"#,
            r#"{"auths":{"r.io":{"password":"s3cret"}}}"#,
            r#"{"auths":{"r.io":{"username":"s3cret"}}}"#,
            r#"{"auths":{"other.io":{"auth":5}}}"#,
            &format!(r#"{{"auths":{{"r.io":{{"auth":"{secret}"}}}}}}"#),
            &format!(r#"{{"auths":{{"r.io":{{"auth":"{}"}}}}}}"#, STANDARD.encode([0xff, 0xfe])),
            &"[".repeat(100_000),
            &" ".repeat(2 << 20),
        ] {
            let error = entry(text, "r.io").expect_err(&text[..text.len().min(80)]);
            let words = format!("{error} {error:?} {}", error.hint());
            assert!(!words.contains("s3cret") && !words.contains(&secret), "{words}");
            assert!(words.contains("auth.json"), "{words}");
            assert_eq!(error.reason(), "credentials-unusable");
        }
    }

    #[test]
    fn any_bytes_are_an_answer_or_an_error() {
        let whole = r#"{"auths":{"r.io/a":{"auth":"dTpw"},"https://index.docker.io/v1/":{}},"credHelpers":{"x":"y"}}"#;
        for cut in 0..whole.len() {
            let _ = entry(&whole[..cut], "r.io/a");
            for byte in [0_u8, b'"', b'{', b'}', b'9', 0x7f] {
                let mut bytes = whole.as_bytes().to_vec();
                bytes[cut] = byte;
                let _ = entry(&String::from_utf8_lossy(&bytes), "r.io/a");
            }
        }
    }

    #[test]
    fn what_keys_name() {
        for (key, name) in [
            ("quay.io", "quay.io"),
            ("Quay.io/", "quay.io"),
            ("https://quay.io/v2/", "quay.io"),
            ("http://quay.io", "quay.io"),
            ("quay.io/Acme/app", "quay.io/Acme/app"),
            ("https://index.docker.io/v1/", "docker.io"),
            ("docker.io/library", "docker.io/library"),
            ("registry-1.docker.io", "docker.io"),
            ("127.0.0.1:5000", "127.0.0.1:5000"),
            ("", ""),
            ("/", ""),
        ] {
            assert_eq!(named(key), name, "{key}");
        }
        assert_eq!(names("r.io", "a/b").collect::<Vec<_>>(), ["r.io/a/b", "r.io/a", "r.io"]);
        assert_eq!(names("r.io", "").collect::<Vec<_>>(), ["r.io"]);
    }

    #[test]
    fn a_folder_or_a_pipe_is_no_file() {
        let folder = tempfile::tempdir().expect("folder");
        assert!(File::load(folder.path()).is_err());
        assert!(File::load(&folder.path().join("not there")).expect("nothing").auths.is_none());
        let pipe = folder.path().join("pipe");
        rustix::fs::mknodat(rustix::fs::CWD, &pipe, rustix::fs::FileType::Fifo, 0o600.into(), 0).expect("a pipe");
        assert!(File::load(&pipe).is_err());
    }
}
