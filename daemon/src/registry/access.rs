//! Who may speak to the endpoint (DESIGN section 8): the endpoint must not undo the socket's 0600.

use std::fs::OpenOptions;
use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use http::header::{AUTHORIZATION, HOST, ORIGIN};
use http::{HeaderMap, HeaderName, Uri};
use larder_core::Digest;

use super::peer;

/// The name of the file that holds the endpoint's password, in the daemon's home.
pub const TOKEN_FILE: &str = "endpoint.token";
/// How many random bytes a new token has.
const TOKEN_BYTES: usize = 32;
/// The fewest characters that a token may have.
const MIN_TOKEN: usize = 32;
/// The most characters that a token may have.
const MAX_TOKEN: u64 = 1024;

/// What browsers tell of a request that no page can change (Fetch Metadata); `none` is what a person typed.
const FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");

/// The rules of admission.
#[derive(Clone, Debug)]
pub struct Access {
    uid: u32,
    token: Token,
    hosts: Vec<String>,
}

/// Says why the token cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum AccessError {
    /// The file cannot be created, opened or read.
    #[error("cannot read or create {path}: {source}")]
    Io {
        /// The file.
        path: PathBuf,
        /// What failed.
        source: std::io::Error,
    },
    /// Others could read the password.
    #[error(
        "{0} is a password and others have access to it; make it yours and private (chmod 600), or remove it and start again"
    )]
    Exposed(PathBuf),
    /// It holds no usable password.
    #[error(
        "{0} holds no password of {MIN_TOKEN} to {MAX_TOKEN} printable characters; remove it and a new one is made"
    )]
    Malformed(PathBuf),
}

/// The password; only its hash is kept, which also makes lengths equal for the comparison.
#[derive(Clone)]
struct Token([u8; 32]);

impl std::fmt::Debug for Token {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Token")
    }
}

/// Who is at the other end of a connection, as far as the kernel knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Peer {
    /// A process of this uid on this machine.
    Owner(u32),
    /// Not known; a password must say.
    Unknown,
}

/// Why a request is not admitted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rejection {
    /// The `Host` is neither loopback nor configured: a page in a browser may have had its name
    /// resolved to this machine (DNS rebinding).
    Host,
    /// There is an `Origin`, or a `Sec-Fetch-Site`: a page in a browser asks.
    Origin,
    /// Neither the owner of the connection nor a password admits it.
    Unauthorized,
}

impl Access {
    /// Reads the password from `home`, or makes one, and admits the daemon's own uid and root.
    ///
    /// `hosts` are the names, beside loopback's, by which the endpoint may be called (`HOST` or `HOST:PORT`).
    ///
    /// # Errors
    /// Fails where the file cannot be used as a password that only its owner knows.
    pub fn open(home: &Path, hosts: &[String]) -> Result<Self, AccessError> {
        let uid = rustix::process::geteuid().as_raw();
        let hosts = hosts.iter().map(|host| host.to_ascii_lowercase()).collect();
        Ok(Self { uid, token: Token::open(&home.join(TOKEN_FILE), uid)?, hosts })
    }

    /// Asks the kernel once who owns a connection.
    pub fn peer(&self, peer: SocketAddr, local: SocketAddr) -> Peer {
        peer::owner(peer, local).map_or(Peer::Unknown, Peer::Owner)
    }

    /// Says whether a peer is the daemon's own user or root, who need no password.
    pub fn knows(&self, peer: Peer) -> bool {
        matches!(peer, Peer::Owner(uid) if uid == self.uid || uid == 0)
    }

    /// Decides whether a request is admitted. The uid that acts is returned, if it is known.
    ///
    /// # Errors
    /// Fails with the first rule that it breaks.
    pub fn admit(&self, peer: Peer, uri: &Uri, headers: &HeaderMap) -> Result<Option<u32>, Rejection> {
        // Images, scripts and links of a page come without `Origin`; browsers say where they come from all the same.
        let from_a_page = headers.get_all(FETCH_SITE).iter().any(|site| site != "none");
        if headers.contains_key(ORIGIN) || from_a_page {
            return Err(Rejection::Origin);
        }
        let mut named = headers.get_all(HOST).iter();
        let host = match (named.next(), named.next()) {
            (Some(host), None) => host.to_str().map_err(|_| Rejection::Host)?,
            _ => return Err(Rejection::Host),
        };
        let authority = uri.authority().map(http::uri::Authority::as_str);
        if !self.knows_host(host) || !authority.is_none_or(|authority| self.knows_host(authority)) {
            return Err(Rejection::Host);
        }
        match peer {
            Peer::Owner(uid) if self.knows(peer) => Ok(Some(uid)),
            Peer::Owner(_) | Peer::Unknown if self.token.opens(headers) => Ok(match peer {
                Peer::Owner(uid) => Some(uid),
                Peer::Unknown => None,
            }),
            Peer::Owner(_) | Peer::Unknown => Err(Rejection::Unauthorized),
        }
    }

    fn knows_host(&self, text: &str) -> bool {
        let text = text.to_ascii_lowercase();
        let name = match text.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
            Some((address, port)) if port.is_empty() || is_port(port) => address,
            Some(_) => return false,
            None => match text.split_once(':') {
                Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => name,
                Some(_) => return false,
                None => &text,
            },
        };
        name == "localhost"
            || name.parse::<IpAddr>().is_ok_and(|address| address.to_canonical().is_loopback())
            || self.hosts.iter().any(|host| *host == text || host == name)
    }
}

fn is_port(text: &str) -> bool {
    text.strip_prefix(':').is_some_and(|port| port.bytes().all(|byte| byte.is_ascii_digit()))
}

impl Token {
    fn open(path: &Path, uid: u32) -> Result<Self, AccessError> {
        let io = |source| AccessError::Io { path: path.to_owned(), source };
        let nofollow = i32::try_from(rustix::fs::OFlags::NOFOLLOW.bits()).unwrap_or_default();
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .custom_flags(nofollow)
            .open(path)
            .map_err(io)?;
        let metadata = file.metadata().map_err(io)?;
        if metadata.uid() != uid || metadata.mode() & 0o077 != 0 {
            return Err(AccessError::Exposed(path.to_owned()));
        }
        let mut text = String::new();
        if (&file).take(MAX_TOKEN + 2).read_to_string(&mut text).is_err() {
            return Err(AccessError::Malformed(path.to_owned()));
        }
        if text.is_empty() {
            let mut random = [0; TOKEN_BYTES];
            getrandom::fill(&mut random).map_err(|error| io(std::io::Error::other(error.to_string())))?;
            text = URL_SAFE_NO_PAD.encode(random);
            file.write_all(format!("{text}\n").as_bytes()).map_err(io)?;
        }
        let token = text.trim_end_matches(['\r', '\n']);
        let good = token.len() >= MIN_TOKEN
            && token.len() as u64 <= MAX_TOKEN
            && token.bytes().all(|byte| byte.is_ascii_graphic());
        if good { Ok(Self(hash(token.as_bytes()))) } else { Err(AccessError::Malformed(path.to_owned())) }
    }

    /// Says whether `Authorization` carries this password, whoever the user is (RFC 7617).
    fn opens(&self, headers: &HeaderMap) -> bool {
        let given = || {
            let text = headers.get(AUTHORIZATION)?.to_str().ok()?;
            let (scheme, value) = text.split_once(' ')?;
            let value = scheme.eq_ignore_ascii_case("basic").then(|| value.trim())?;
            let pair = STANDARD.decode(value).ok()?;
            let colon = pair.iter().position(|&byte| byte == b':')?;
            pair.get(colon + 1..).map(hash)
        };
        given().is_some_and(|given| same(&given, &self.0))
    }
}

fn hash(bytes: &[u8]) -> [u8; 32] {
    match Digest::of(bytes) {
        Digest::Sha256(hash) => hash,
        Digest::Sha512(_) => unreachable!("Digest::of is SHA-256"),
    }
}

/// Compares without stopping at the first difference, so that its time tells nothing.
fn same(left: &[u8; 32], right: &[u8; 32]) -> bool {
    std::hint::black_box(left.iter().zip(right).fold(0, |differences, (left, right)| differences | (left ^ right))) == 0
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use http::HeaderValue;

    use super::*;

    fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in pairs {
            headers.append(*name, HeaderValue::from_str(value).expect("value"));
        }
        headers
    }

    fn access(hosts: &[&str]) -> (tempfile::TempDir, Access, String) {
        let home = tempfile::tempdir().expect("home");
        let hosts: Vec<String> = hosts.iter().map(|host| (*host).to_owned()).collect();
        let access = Access::open(home.path(), &hosts).expect("access");
        let token = std::fs::read_to_string(home.path().join(TOKEN_FILE)).expect("token");
        (home, access, token.trim_end().to_owned())
    }

    #[test]
    fn the_hosts_that_may_be_named() {
        let (_home, access, _) = access(&["larder.example:5000", "Build"]);
        let admitted =
            |host: &str| access.admit(Peer::Owner(0), &Uri::from_static("/v2/"), &headers(&[("host", host)])).is_ok();
        for host in ["localhost", "LOCALHOST:5000", "127.0.0.1:5000", "127.9.9.9", "[::1]", "[::1]:80", "build:1"] {
            assert!(admitted(host), "{host}");
        }
        assert!(admitted("larder.example:5000"));
        for host in
            ["", "evil.example", "localhost.evil.example", "10.0.0.1", "larder.example", "[::2]:1", "[::1", "a:b"]
        {
            assert!(!admitted(host), "{host}");
        }
    }

    #[test]
    fn browsers_and_doubled_hosts_are_rejected() {
        let (_home, access, _) = access(&[]);
        let admit = |uri: &'static str, pairs: &[(&'static str, &str)]| {
            access.admit(Peer::Owner(0), &Uri::from_static(uri), &headers(pairs))
        };
        assert_eq!(admit("/v2/", &[("host", "localhost"), ("origin", "null")]), Err(Rejection::Origin));
        for site in ["cross-site", "same-site", "same-origin"] {
            let page = [("host", "localhost"), ("sec-fetch-site", site)];
            assert_eq!(admit("/v2/", &page), Err(Rejection::Origin), "{site}");
        }
        assert_eq!(admit("/v2/", &[("host", "localhost"), ("sec-fetch-site", "none")]), Ok(Some(0)));
        assert_eq!(admit("/v2/", &[("host", "localhost"), ("host", "localhost")]), Err(Rejection::Host));
        assert_eq!(admit("/v2/", &[]), Err(Rejection::Host));
        assert_eq!(admit("http://evil.example/v2/", &[("host", "localhost")]), Err(Rejection::Host));
        assert_eq!(admit("/v2/", &[("host", "localhost")]), Ok(Some(0)));
    }

    #[test]
    fn strangers_need_the_password() {
        let (_home, access, token) = access(&[]);
        let uri = Uri::from_static("/v2/");
        let admit = |peer, user_and_password: &str| {
            let basic = format!("Basic {}", STANDARD.encode(user_and_password));
            access.admit(peer, &uri, &headers(&[("host", "localhost"), ("authorization", &basic)]))
        };
        let stranger = Peer::Owner(access.uid.wrapping_add(1).max(1));
        let Peer::Owner(uid) = stranger else { unreachable!() };
        assert_eq!(admit(stranger, &format!("any:{token}")), Ok(Some(uid)));
        assert_eq!(admit(Peer::Unknown, &format!(":{token}")), Ok(None));
        assert_eq!(admit(Peer::Unknown, &format!("any:{token}x")), Err(Rejection::Unauthorized));
        assert_eq!(admit(Peer::Unknown, &token), Err(Rejection::Unauthorized));
        assert_eq!(access.admit(stranger, &uri, &headers(&[("host", "localhost")])), Err(Rejection::Unauthorized));
        let own = Peer::Owner(access.uid);
        assert_eq!(access.admit(own, &uri, &headers(&[("host", "localhost")])), Ok(Some(access.uid)));
    }

    #[test]
    fn the_token_is_made_once_and_is_private() {
        let (home, _, token) = access(&[]);
        let path = home.path().join(TOKEN_FILE);
        assert_eq!(token.len(), 43);
        assert_eq!(path.metadata().expect("file").mode() & 0o777, 0o600);
        Access::open(home.path(), &[]).expect("again");
        assert_eq!(std::fs::read_to_string(&path).expect("token").trim_end(), token);

        std::fs::write(&path, "short").expect("write");
        assert!(matches!(Access::open(home.path(), &[]), Err(AccessError::Malformed(_))));
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o640)).expect("chmod");
        assert!(matches!(Access::open(home.path(), &[]), Err(AccessError::Exposed(_))));
    }
}
