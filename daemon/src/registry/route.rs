//! What a request asks for: its method, path and query, parsed once.

use http::Method;
use larder_core::digest::DigestError;
use larder_core::reference::ReferenceError;
use larder_core::{Digest, Repository, Tag};

use crate::ops::serve::Named;

/// The most bytes that a path with its query may have.
const MAX_URI: usize = 8 * 1024;

/// A parsed request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Route {
    /// What is asked for.
    pub(super) call: Call,
    /// The parameters that came with it.
    pub(super) query: Query,
}

/// What is asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Call {
    /// `GET /v2/`
    Version,
    /// `GET /v2/_catalog`
    Catalog,
    /// Something in a repository.
    In {
        /// The repository.
        repository: Repository,
        /// The path that is its name here; locations repeat it.
        name: String,
        /// What in it.
        what: What,
    },
}

/// Something in a repository, with what is to be done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum What {
    /// `GET`, `HEAD …/manifests/REFERENCE`
    ReadManifest(Named),
    /// `PUT …/manifests/REFERENCE`
    WriteManifest(Named),
    /// `DELETE …/manifests/TAG`
    RemoveTag(Tag),
    /// `GET`, `HEAD …/blobs/DIGEST`
    ReadBlob(Digest),
    /// `GET …/tags/list`
    Tags,
    /// `GET …/referrers/DIGEST`
    Referrers(Digest),
    /// `POST …/blobs/uploads/`
    BeginUpload,
    /// `GET …/blobs/uploads/ID`
    UploadStatus(String),
    /// `PATCH …/blobs/uploads/ID`
    Append(String),
    /// `PUT …/blobs/uploads/ID?digest=`
    Finish(String),
    /// `DELETE …/blobs/uploads/ID`
    CancelUpload(String),
}

/// Why a request has no meaning here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum RouteError {
    /// No such path in the distribution-spec.
    NoSuchPath,
    /// The path is there, the method is not served: deleting, mostly.
    Unsupported(&'static str),
    /// The path is there and takes other methods.
    Method(&'static str),
    /// The repository's name.
    Name(ReferenceError),
    /// A tag.
    Tag(ReferenceError),
    /// A digest.
    Digest(DigestError),
    /// The registry of a mirror's request: in front of `/v2/`, or in `ns`.
    Namespace(ReferenceError),
    /// A mirror's request names two registries.
    Namespaces,
    /// The path is too long.
    TooLong,
}

impl Route {
    /// Parses a request line.
    pub(super) fn parse(method: &Method, path: &str, query: Option<&str>) -> Result<Self, RouteError> {
        if path.len() + query.map_or(0, str::len) > MAX_URI {
            return Err(RouteError::TooLong);
        }
        let mut query = Query::parse(query.unwrap_or_default());
        let (prefix, rest) = prefix(path)?;
        query.mirrored(prefix)?;
        if rest.is_empty() || rest == "/" {
            return match *method {
                Method::GET | Method::HEAD => Ok(Self { call: Call::Version, query }),
                _ => Err(RouteError::Method("GET, HEAD")),
            };
        }
        let rest = rest.strip_prefix('/').ok_or(RouteError::NoSuchPath)?;
        if rest == "_catalog" && query.registry.is_none() {
            return match *method {
                Method::GET => Ok(Self { call: Call::Catalog, query }),
                _ => Err(RouteError::Method("GET")),
            };
        }
        let (name, what) = what(method, rest)?;
        let repository = query.repository(name).map_err(RouteError::Name)?;
        // Where the path alone does not say which registry's name it is, what follows is sent by the path that does.
        let name = if query.registry.is_some() { repository.endpoint_path() } else { name.to_owned() };
        Ok(Self { call: Call::In { repository, name, what }, query })
    }
}

/// Cuts a path at `/v2`: what stands in front of it, if anything, and what follows.
fn prefix(path: &str) -> Result<(Option<&str>, &str), RouteError> {
    let path = path.strip_prefix('/').ok_or(RouteError::NoSuchPath)?;
    let (first, rest) = path.split_once('/').map_or((path, ""), |(first, _)| (first, &path[first.len()..]));
    if first == "v2" {
        return Ok((None, rest));
    }
    match rest.strip_prefix("/v2") {
        Some(rest) if rest.is_empty() || rest.starts_with('/') => Ok((Some(first), rest)),
        _ => Err(RouteError::NoSuchPath),
    }
}

/// Cuts a path into the repository's name and the thing in it, from the end, for names have slashes.
fn what<'a>(method: &Method, path: &'a str) -> Result<(&'a str, What), RouteError> {
    let (rest, last) = path.rsplit_once('/').ok_or(RouteError::NoSuchPath)?;
    let read = matches!(*method, Method::GET | Method::HEAD);
    if let Some(name) = rest.strip_suffix("/blobs/uploads") {
        let id = || last.to_owned();
        let what = match *method {
            Method::POST if last.is_empty() => What::BeginUpload,
            _ if last.is_empty() => return Err(RouteError::Method("POST")),
            Method::GET => What::UploadStatus(id()),
            Method::PATCH => What::Append(id()),
            Method::PUT => What::Finish(id()),
            Method::DELETE => What::CancelUpload(id()),
            _ => return Err(RouteError::Method("GET, PATCH, PUT, DELETE")),
        };
        return Ok((name, what));
    }
    if let Some(name) = rest.strip_suffix("/manifests") {
        let named = || named(last);
        let what = match *method {
            Method::PUT => What::WriteManifest(named()?),
            Method::DELETE => match named()? {
                Named::Tag(tag) => What::RemoveTag(tag),
                Named::Digest(_) => return Err(RouteError::Unsupported("manifests")),
            },
            _ if read => What::ReadManifest(named()?),
            _ => return Err(RouteError::Method("GET, HEAD, PUT, DELETE")),
        };
        return Ok((name, what));
    }
    let (name, kind) = rest.rsplit_once('/').ok_or(RouteError::NoSuchPath)?;
    let digest = || last.parse::<Digest>().map_err(RouteError::Digest);
    let what = match (kind, last) {
        // Docker's clients also write the upload path without its last slash.
        ("blobs", "uploads") if *method == Method::POST => What::BeginUpload,
        ("blobs", _) if *method == Method::DELETE => return Err(RouteError::Unsupported("blobs")),
        ("blobs", _) if read => What::ReadBlob(digest()?),
        ("tags", "list") if *method == Method::GET => What::Tags,
        ("referrers", _) if *method == Method::GET => What::Referrers(digest()?),
        ("blobs", _) => return Err(RouteError::Method("GET, HEAD")),
        ("tags", "list") | ("referrers", _) => return Err(RouteError::Method("GET")),
        _ => return Err(RouteError::NoSuchPath),
    };
    Ok((name, what))
}

fn named(text: &str) -> Result<Named, RouteError> {
    if text.contains(':') {
        text.parse().map(Named::Digest).map_err(RouteError::Digest)
    } else {
        text.parse::<Tag>().map(Named::Tag).map_err(RouteError::Tag)
    }
}

/// The parameters of a query, decoded; of a repeated one the first counts.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Query {
    values: Vec<(String, String)>,
    /// The registry in whose place the client asks here; without one, names say their registry themselves.
    registry: Option<String>,
}

impl Query {
    /// Takes note of the registry in whose place the client asks: containerd says it by `?ns=`, docker can say it in front
    /// of `/v2/`.
    fn mirrored(&mut self, prefix: Option<&str>) -> Result<(), RouteError> {
        // Any path will do to parse a registry with; a prefix that is none leads nowhere.
        let prefix = match prefix.map(|prefix| Repository::from_endpoint_path(&format!("{prefix}/x/x"))) {
            Some(Ok(repository)) if !repository.is_local() => Some(repository.registry().to_owned()),
            Some(_) => return Err(RouteError::NoSuchPath),
            None => None,
        };
        let ns = self.value("ns").filter(|ns| !ns.is_empty()).map(|ns| Repository::new(ns, "x/x")).transpose();
        let ns = ns.map_err(RouteError::Namespace)?.map(|repository| repository.registry().to_owned());
        self.registry = match (prefix, ns) {
            (Some(prefix), Some(ns)) if prefix != ns => return Err(RouteError::Namespaces),
            (prefix, ns) => prefix.or(ns),
        };
        Ok(())
    }

    /// Returns the repository that a name in this request means.
    pub(super) fn repository(&self, name: &str) -> Result<Repository, ReferenceError> {
        match &self.registry {
            Some(registry) => Repository::new(registry, name),
            None => Repository::from_endpoint_path(name),
        }
    }

    fn parse(text: &str) -> Self {
        let pair = |part: &str| {
            let (key, value) = part.split_once('=').unwrap_or((part, ""));
            Some((decode(key)?, decode(value)?))
        };
        let values = text.split('&').filter(|part| !part.is_empty()).filter_map(pair).collect();
        Self { values, registry: None }
    }

    /// Returns a parameter.
    pub(super) fn value(&self, key: &str) -> Option<&str> {
        self.values.iter().find(|(name, _)| name == key).map(|(_, value)| value.as_str())
    }
}

/// Decodes a form's percent encoding; `+` stays, for media types have it and clients forget to encode it.
fn decode(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        if byte != b'%' {
            bytes.push(byte);
            continue;
        }
        let mut nibble = || char::from(rest.next()?).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
        let (high, low) = (nibble()?, nibble()?);
        bytes.push(high << 4 | low);
    }
    String::from_utf8(bytes).ok()
}

/// Encodes what goes into a query of ours.
pub(super) fn encode(text: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte);
    text.bytes().map(|byte| if plain(byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(method: Method, path: &str) -> Result<(String, What), RouteError> {
        match Route::parse(&method, path, None)?.call {
            Call::In { repository, what, .. } => Ok((repository.to_string(), what)),
            Call::Version | Call::Catalog => Ok((String::new(), What::Tags)),
        }
    }

    #[test]
    fn names_are_registries_or_local() {
        let tag = |text: &str| What::ReadManifest(Named::Tag(text.parse().expect("tag")));
        for (path, repository) in [
            ("/v2/x/manifests/1", "localhost/x"),
            ("/v2/x/y/manifests/1", "localhost/x/y"),
            ("/v2/localhost/x/y/manifests/1", "localhost/x/y"),
            ("/v2/docker.io/library/alpine/manifests/1", "docker.io/library/alpine"),
            ("/v2/127.0.0.1_5000/a/b/manifests/1", "127.0.0.1:5000/a/b"),
            ("/v2/manifests/manifests/1", "localhost/manifests"),
            ("/v2/blobs/uploads/manifests/1", "localhost/blobs/uploads"),
        ] {
            assert_eq!(parse(Method::GET, path), Ok((repository.to_owned(), tag("1"))), "{path}");
        }
        for path in ["/v2/X/manifests/1", "/v2/../x/manifests/1", "/v2/a//b/manifests/1", "/v2//manifests/1"] {
            assert!(matches!(parse(Method::GET, path), Err(RouteError::Name(_))), "{path}");
        }
    }

    #[test]
    fn methods_and_things() {
        let digest = Digest::of(b"x");
        let blob = format!("/v2/x/blobs/{digest}");
        assert_eq!(parse(Method::HEAD, &blob), Ok(("localhost/x".into(), What::ReadBlob(digest))));
        assert_eq!(parse(Method::DELETE, &blob), Err(RouteError::Unsupported("blobs")));
        let tag = What::RemoveTag("1".parse().expect("tag"));
        assert_eq!(parse(Method::DELETE, "/v2/x/manifests/1"), Ok(("localhost/x".into(), tag)));
        let manifest = format!("/v2/x/manifests/{digest}");
        assert_eq!(parse(Method::DELETE, &manifest), Err(RouteError::Unsupported("manifests")));
        assert_eq!(parse(Method::POST, "/v2/x/blobs/uploads/"), Ok(("localhost/x".into(), What::BeginUpload)));
        assert_eq!(parse(Method::POST, "/v2/x/blobs/uploads"), Ok(("localhost/x".into(), What::BeginUpload)));
        assert_eq!(parse(Method::PATCH, "/v2/x/blobs/uploads/7"), Ok(("localhost/x".into(), What::Append("7".into()))));
        assert!(matches!(parse(Method::GET, "/v2/x/blobs/sha256:0"), Err(RouteError::Digest(_))));
        assert!(matches!(parse(Method::PUT, "/v2/x/manifests/.1"), Err(RouteError::Tag(_))));
        assert_eq!(Route::parse(&Method::GET, "/v2/_catalog", None).map(|route| route.call), Ok(Call::Catalog));
        for path in ["/", "/v2x", "/v2/x", "/v2/_catalog/", "/v1/x/manifests/1", "/v2/x/tags/other"] {
            assert_eq!(parse(Method::GET, path), Err(RouteError::NoSuchPath), "{path}");
        }
        assert_eq!(parse(Method::POST, "/v2/"), Err(RouteError::Method("GET, HEAD")));
        let long = format!("/v2/{}/manifests/1", "a".repeat(MAX_URI));
        assert_eq!(parse(Method::GET, &long), Err(RouteError::TooLong));
    }

    #[test]
    fn a_mirrors_names_are_its_registrys() {
        let ask = |path: &str, query: &str| match Route::parse(&Method::GET, path, Some(query))?.call {
            Call::In { repository, name, .. } => Ok((repository.to_string(), name)),
            Call::Version => Ok(("version".to_owned(), String::new())),
            Call::Catalog => Ok(("catalog".to_owned(), String::new())),
        };
        for (path, query, repository, name) in [
            ("/v2/library/alpine/manifests/1", "ns=docker.io", "docker.io/library/alpine", "docker.io/library/alpine"),
            ("/v2/alpine/manifests/1", "ns=docker.io", "docker.io/library/alpine", "docker.io/library/alpine"),
            ("/v2/a/b/manifests/1", "ns=registry-1.docker.io", "docker.io/a/b", "docker.io/a/b"),
            ("/v2/a/b/manifests/1", "ns=127.0.0.1%3A5000", "127.0.0.1:5000/a/b", "127.0.0.1_5000/a/b"),
            ("/v2/a/b/manifests/1", "ns=LOCALHOST", "localhost/a/b", "a/b"),
            ("/v2/a/b/manifests/1", "ns=", "localhost/a/b", "a/b"),
            ("/v2/a/b/manifests/1", "ns=quay.io&ns=docker.io", "quay.io/a/b", "quay.io/a/b"),
            // A registry in the path is a part of the name, as it is at the registry that is mirrored.
            (
                "/v2/docker.io/a/manifests/1",
                "ns=mirror.example",
                "mirror.example/docker.io/a",
                "mirror.example/docker.io/a",
            ),
            ("/docker.io/v2/a/b/manifests/1", "", "docker.io/a/b", "docker.io/a/b"),
            ("/docker.io/v2/a/b/manifests/1", "ns=docker.io", "docker.io/a/b", "docker.io/a/b"),
            ("/127.0.0.1_5000/v2/v2/manifests/1", "", "127.0.0.1:5000/v2", "127.0.0.1_5000/v2"),
            ("/v2/v2/manifests/1", "", "localhost/v2", "v2"),
            ("/docker.io/v2/", "", "version", ""),
            ("/v2/", "ns=docker.io", "version", ""),
            ("/v2/_catalog", "n=1", "catalog", ""),
        ] {
            assert_eq!(ask(path, query), Ok((repository.to_owned(), name.to_owned())), "{path}?{query}");
        }
        for ns in ["a/b", "..", "a b", "-x.io", "x:99999", "%00", "[::1", "a@b.io"] {
            let answer = ask("/v2/a/b/manifests/1", &format!("ns={ns}"));
            assert!(matches!(answer, Err(RouteError::Namespace(_))), "{ns}: {answer:?}");
        }
        assert_eq!(ask("/quay.io/v2/a/manifests/1", "ns=docker.io"), Err(RouteError::Namespaces));
        for path in [
            "/team/v2/a/manifests/1",
            "/localhost/v2/a/manifests/1",
            "/a/docker.io/v2/a/manifests/1",
            "//v2/a/manifests/1",
        ] {
            assert_eq!(ask(path, "").expect_err("no such path"), RouteError::NoSuchPath, "{path}");
        }
        assert_eq!(ask("/v2/_catalog", "ns=docker.io"), Err(RouteError::NoSuchPath));
    }

    #[test]
    fn queries() {
        let query = Query::parse("digest=sha256%3Aab&artifactType=application/spdx+json&empty&digest=2&bad=%zz&cut=%4");
        assert_eq!(query.value("digest"), Some("sha256:ab"));
        assert_eq!(query.value("artifactType"), Some("application/spdx+json"));
        assert_eq!(query.value("empty"), Some(""));
        assert_eq!(query.value("bad"), None);
        assert_eq!(query.value("cut"), None);
        assert_eq!(decode(&encode("a b+c/é")).as_deref(), Some("a b+c/é"));
    }
}
