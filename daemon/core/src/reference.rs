//! Names of artifacts: registry, repository, tag, digest.
//!
//! One spelling of each: Docker Hub is `docker.io` however it was written, its official images
//! have `library/`, host names are lower case. A repository of the registry `localhost` (without a
//! port) is *local*: it was pushed to this daemon and came from nowhere else.

use std::fmt;
use std::str::FromStr;

use crate::digest::{Digest, DigestError};

/// Docker Hub's name as Larder writes it.
pub const DOCKER_HUB: &str = "docker.io";
/// The registry name of local repositories.
pub const LOCAL: &str = "localhost";
/// The most characters that registry and repository may have together, as many clients limit it
/// (distribution-spec, "Pulling manifests").
const MAX_NAME: usize = 255;

/// A repository: a registry's host and a path in it.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Repository {
    /// `host[:port]/path`; the host ends at the first slash.
    name: Box<str>,
}

impl Repository {
    /// Builds a repository from a registry's host (with its port) and a path.
    ///
    /// # Errors
    /// Fails as [`Reference`] parsing does.
    pub fn new(registry: &str, path: &str) -> Result<Self, ReferenceError> {
        let shown = format!("{registry}/{path}");
        let registry = registry.to_ascii_lowercase();
        if !is_host(&registry) {
            return Err(ReferenceError::Registry { text: cut(&shown), registry: cut(&registry) });
        }
        let registry = match registry.as_str() {
            "index.docker.io" | "registry-1.docker.io" => DOCKER_HUB,
            other => other,
        };
        let library = if registry == DOCKER_HUB && !path.contains('/') { "library/" } else { "" };
        if !is_path(path) {
            return Err(ReferenceError::Repository { text: cut(&shown), path: cut(path) });
        }
        let name = format!("{registry}/{library}{path}");
        if name.len() > MAX_NAME {
            return Err(ReferenceError::TooLong(cut(&shown)));
        }
        Ok(Self { name: name.into() })
    }

    /// Returns the registry: a host, with its port if it has one.
    pub fn registry(&self) -> &str {
        self.name.split_once('/').map_or(&*self.name, |(registry, _)| registry)
    }

    /// Returns the path in the registry.
    pub fn path(&self) -> &str {
        self.name.split_once('/').map_or("", |(_, path)| path)
    }

    /// Returns `registry/path`.
    pub fn as_str(&self) -> &str {
        &self.name
    }

    /// Says whether this is a local repository, which no registry stands behind.
    pub fn is_local(&self) -> bool {
        self.registry() == LOCAL
    }

    /// Returns the name as cosign writes it: Docker Hub is `index.docker.io`.
    pub fn cosign_name(&self) -> String {
        match self.registry() {
            DOCKER_HUB => format!("index.{}", self.name),
            _ => self.name.to_string(),
        }
    }

    /// Returns the path under which the endpoint serves this repository (DESIGN section 8).
    ///
    /// A local repository is served by its path alone; another one by its registry too, with `_`
    /// for the colon before the port.
    pub fn endpoint_path(&self) -> String {
        if self.is_local() { self.path().to_owned() } else { self.name.replacen(':', "_", 1) }
    }

    /// Reads a repository from a path of the endpoint, the inverse of [`Self::endpoint_path`].
    ///
    /// The first component is a registry if it has a dot or ends in `_` and digits; anything else
    /// is a local repository, and `localhost/x/y` is `x/y`.
    ///
    /// # Errors
    /// Fails where the path is no valid repository name.
    pub fn from_endpoint_path(path: &str) -> Result<Self, ReferenceError> {
        let Some((first, rest)) = path.split_once('/') else {
            return Self::new(LOCAL, path);
        };
        if first == LOCAL {
            return Self::new(LOCAL, rest);
        }
        if let Some((host, port)) = first.rsplit_once('_')
            && is_port(port)
            && !host.is_empty()
        {
            return Self::new(&format!("{host}:{port}"), rest);
        }
        if first.contains('.') { Self::new(first, rest) } else { Self::new(LOCAL, path) }
    }
}

impl FromStr for Repository {
    type Err = ReferenceError;

    /// Reads `[registry/]path`; a name without a registry is Docker Hub's.
    fn from_str(text: &str) -> Result<Self, ReferenceError> {
        match text.split_once('/') {
            Some((first, rest)) if names_registry(first) => Self::new(first, rest),
            _ => Self::new(DOCKER_HUB, text),
        }
    }
}

impl fmt::Display for Repository {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)
    }
}

impl fmt::Debug for Repository {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)
    }
}

/// A tag: 1 to 128 characters of `[A-Za-z0-9_.-]`, the first no `.` or `-`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Tag(Box<str>);

impl Tag {
    /// Returns the tag's text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Returns the tag `latest`.
    pub fn latest() -> Self {
        Self("latest".into())
    }
}

impl FromStr for Tag {
    type Err = ReferenceError;

    fn from_str(text: &str) -> Result<Self, ReferenceError> {
        let word = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
        let bytes = text.as_bytes();
        let good = bytes.len() <= 128
            && bytes.first().copied().is_some_and(word)
            && bytes.iter().all(|&byte| word(byte) || byte == b'.' || byte == b'-');
        if good { Ok(Self(text.into())) } else { Err(ReferenceError::Tag(cut(text))) }
    }
}

impl fmt::Display for Tag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Tag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A reference: `[registry/]repository[:tag][@digest]`.
///
/// A bare digest (`sha256:…`) is not a reference, for it names no repository.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Reference {
    /// The repository.
    pub repository: Repository,
    /// The tag, if one was named.
    pub tag: Option<Tag>,
    /// The digest, if one was named; it decides where both are there.
    pub digest: Option<Digest>,
}

impl Reference {
    /// Returns the reference to `digest` in `repository`.
    pub fn by_digest(repository: Repository, digest: Digest) -> Self {
        Self { repository, tag: None, digest: Some(digest) }
    }

    /// Returns the reference to `tag` in `repository`.
    pub fn by_tag(repository: Repository, tag: Tag) -> Self {
        Self { repository, tag: Some(tag), digest: None }
    }

    /// Returns the tag to resolve: the named one, or `latest` where neither tag nor digest is named.
    pub fn tag_or_latest(&self) -> Option<Tag> {
        match (&self.tag, &self.digest) {
            (Some(tag), _) => Some(tag.clone()),
            (None, None) => Some(Tag::latest()),
            (None, Some(_)) => None,
        }
    }
}

impl FromStr for Reference {
    type Err = ReferenceError;

    fn from_str(text: &str) -> Result<Self, ReferenceError> {
        if text.is_empty() {
            return Err(ReferenceError::Empty);
        }
        let (rest, digest) = match text.split_once('@') {
            Some((rest, digest)) => {
                let digest = digest.parse().map_err(|source| ReferenceError::Digest { text: cut(text), source })?;
                (rest, Some(digest))
            }
            None => (text, None),
        };
        let path_starts = rest.rfind('/').map_or(0, |slash| slash + 1);
        let (name, tag) = match rest[path_starts..].find(':') {
            Some(colon) => (&rest[..path_starts + colon], Some(rest[path_starts + colon + 1..].parse()?)),
            None => (rest, None),
        };
        Ok(Self { repository: name.parse()?, tag, digest })
    }
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.repository)?;
        if let Some(tag) = &self.tag {
            write!(f, ":{tag}")?;
        }
        if let Some(digest) = &self.digest {
            write!(f, "@{digest}")?;
        }
        Ok(())
    }
}

/// Says why a text is no reference.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReferenceError {
    /// There is no text.
    #[error("the reference is empty; write it as registry/repository:tag or registry/repository@sha256:…")]
    Empty,
    /// The registry is no host name or address with an optional port.
    #[error("{text:?} is not a reference: {registry:?} is no registry host")]
    Registry {
        /// The text as given.
        text: String,
        /// The part at fault.
        registry: String,
    },
    /// The repository's path does not have the form that registries accept.
    #[error(
        "{text:?} is not a reference: the repository {path:?} may have lower-case letters, digits and single separators (. _ __ -) between them, in components divided by /"
    )]
    Repository {
        /// The text as given.
        text: String,
        /// The part at fault.
        path: String,
    },
    /// The tag does not have the form that registries accept.
    #[error("{0:?} is not a tag: it takes 1 to 128 letters, digits, _ . and -, and begins with none of . and -")]
    Tag(String),
    /// What follows the @ is no digest.
    #[error("{text:?} is not a reference: {source}")]
    Digest {
        /// The text as given.
        text: String,
        /// What is wrong with the digest.
        source: DigestError,
    },
    /// Registry and repository have more than 255 characters together.
    #[error("{0:?} is not a reference: registry and repository may have 255 characters together")]
    TooLong(String),
}

impl ReferenceError {
    /// Returns what to do about it.
    pub fn hint(&self) -> &'static str {
        match self {
            Self::Registry { text, .. } if text.contains("//") => {
                "a reference is no URL: leave away what stands before the host's name"
            }
            Self::Empty | Self::Registry { .. } | Self::Repository { .. } | Self::TooLong(_) => {
                "as in alpine:3.22, registry.example.org:5000/store/app:1.4 or localhost/team/app:dev"
            }
            Self::Tag(text) if text.contains(':') => "a digest stands behind an @, as in store/app@sha256:…",
            Self::Tag(_) => "as in 1.4, v2-alpine or latest",
            Self::Digest { .. } => "`larder ls --output json` has digests whole; people see their first 12 digits",
        }
    }
}

fn cut(text: &str) -> String {
    text.chars().take(160).collect()
}

fn is_port(text: &str) -> bool {
    !text.is_empty() && text.len() <= 5 && text.bytes().all(|byte| byte.is_ascii_digit()) && text.parse::<u16>().is_ok()
}

/// Says whether the first component of a name is a registry rather than a part of a path.
fn names_registry(first: &str) -> bool {
    first.contains(['.', ':']) || first.eq_ignore_ascii_case(LOCAL)
}

fn is_host(text: &str) -> bool {
    if let Some(rest) = text.strip_prefix('[') {
        let Some((address, port)) = rest.split_once(']') else { return false };
        let port_is_good = port.is_empty() || port.strip_prefix(':').is_some_and(is_port);
        return address.parse::<std::net::Ipv6Addr>().is_ok() && port_is_good;
    }
    let (host, port) = text.split_once(':').map_or((text, None), |(host, port)| (host, Some(port)));
    let label = |label: &str| {
        !label.is_empty()
            && label.len() <= 63
            && !label.starts_with('-')
            && !label.ends_with('-')
            && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
    };
    port.is_none_or(is_port) && host.split('.').all(label)
}

/// Checks a path against `[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*(\/…)*` (distribution-spec).
fn is_path(path: &str) -> bool {
    path.split('/').all(|component| {
        let alphanumeric = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
        let bytes = component.as_bytes();
        let mut at = 0;
        loop {
            let word = bytes[at..].iter().take_while(|&&byte| alphanumeric(byte)).count();
            if word == 0 {
                return false;
            }
            at += word;
            if at == bytes.len() {
                return true;
            }
            let separator = bytes[at..].iter().take_while(|&&byte| !alphanumeric(byte)).count();
            let good = match &bytes[at..at + separator] {
                b"." | b"_" | b"__" => true,
                dashes => dashes.iter().all(|&byte| byte == b'-'),
            };
            if !good {
                return false;
            }
            at += separator;
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn normal(text: &str) -> String {
        text.parse::<Reference>().map_or_else(|error| format!("error: {error}"), |reference| reference.to_string())
    }

    #[test]
    fn hints_say_what_a_message_does_not() {
        let hint = |text: &str| text.parse::<Reference>().expect_err(text).hint();
        assert!(hint("https://registry.example.org/app").contains("no URL"));
        assert!(hint("r.io/app:sha256:4bcf").contains("behind an @"));
        assert!(hint("r.io/app@sha256:4bcf").contains("whole"));
        assert!(hint("r.io/App").starts_with("as in alpine"));
        assert!(hint("r.io/app:.x").starts_with("as in 1.4"));
    }

    #[test]
    fn short_names_are_docker_hubs() {
        for (text, expected) in [
            ("alpine", "docker.io/library/alpine"),
            ("alpine:3.22", "docker.io/library/alpine:3.22"),
            ("acme/app", "docker.io/acme/app"),
            ("index.docker.io/alpine", "docker.io/library/alpine"),
            ("Docker.IO/acme/app:X", "docker.io/acme/app:X"),
            ("localhost/x/y:1", "localhost/x/y:1"),
            ("localhost:5000/x", "localhost:5000/x"),
            ("[::1]:5000/a:t", "[::1]:5000/a:t"),
            ("Quay.io/a/b", "quay.io/a/b"),
        ] {
            assert_eq!(normal(text), expected);
        }
    }

    #[test]
    fn refuses_malformed_references() {
        let digest = format!("sha256:{}", "0".repeat(64));
        for text in [
            "",
            ":",
            "@",
            "Alpine",
            "a//b",
            "a/",
            "/a",
            "a:",
            "a:b c",
            "a:.x",
            "../a",
            "a/../b",
            "quay.io/..",
            "quay.io/a:tag:tag",
            "a@sha256:12",
            "a@md5:00",
            "a___b",
            "a..b",
            "host:99999/a",
            "host:/a",
            "-a.io/b",
            "[::1/a",
            "a\0b",
            &format!("a@{digest}@{digest}"),
            &"a/".repeat(200),
            &format!("quay.io/{}", "a".repeat(260)),
        ] {
            assert!(text.parse::<Reference>().is_err(), "{text:?}");
        }
    }

    #[test]
    fn endpoint_paths_and_back() {
        for (name, path) in [
            ("docker.io/library/alpine", "docker.io/library/alpine"),
            ("127.0.0.1:5000/a/b", "127.0.0.1_5000/a/b"),
            ("localhost:5000/a", "localhost_5000/a"),
            ("localhost/x/y", "x/y"),
            ("localhost/x", "x"),
        ] {
            let repository: Repository = name.parse().expect(name);
            assert_eq!(repository.endpoint_path(), path);
            assert_eq!(Repository::from_endpoint_path(path), Ok(repository));
        }
        let local: Repository = "localhost/x/y".parse().expect("local");
        assert_eq!(Repository::from_endpoint_path("localhost/x/y"), Ok(local.clone()));
        assert_eq!(Repository::from_endpoint_path("x/y"), Ok(local));
    }

    #[test]
    fn cosign_calls_docker_hub_by_its_other_name() {
        let repository: Repository = "alpine".parse().expect("alpine");
        assert_eq!(repository.cosign_name(), "index.docker.io/library/alpine");
    }
}
