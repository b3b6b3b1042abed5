//! Where a registry may lead: redirects, upload locations, token realms and next pages.

use reqwest::Url;

use super::address::is_loopback_host;

/// How many redirects are followed in a row.
pub(super) const MAX_REDIRECTS: usize = 5;
/// The most bytes that a URL of a registry's choice may have; storage services sign lengthy ones.
const MAX_URL: usize = 8 << 10;

/// Says why a registry's word is not followed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Misled {
    /// It is no URL, has a user in it, or is of another scheme than http and https.
    Unusable(String),
    /// It leads from https to http.
    Downgrade(String),
    /// It leads to plain HTTP at this host, which may not be spoken to so.
    PlainHttp(String),
}

/// Which hosts may be spoken to in plain HTTP.
pub(super) trait PlainHosts {
    /// Says whether the configuration names `host` (with its port).
    fn is_configured(&self, host: &str) -> bool;
}

/// Resolves what an answer from `from` says (`Location`, a link, a realm) to where it leads.
///
/// Addresses are checked when they are connected to, by the [`Reach`](super::address::Reach).
pub(super) fn target(from: &Url, location: &str, plain: &impl PlainHosts) -> Result<Url, Misled> {
    if location.len() > MAX_URL {
        return Err(Misled::Unusable(format!("a URL of {} bytes", location.len())));
    }
    let mut url = from.join(location).map_err(|error| Misled::Unusable(error.to_string()))?;
    if !url.username().is_empty() || url.password().is_some() {
        return Err(Misled::Unusable("a URL with a user in it".into()));
    }
    url.set_fragment(None);
    match (from.scheme(), url.scheme()) {
        (_, "https") => Ok(url),
        ("https", "http") => Err(Misled::Downgrade(authority(&url))),
        (_, "http") if may_be_plain(&url, plain) => Ok(url),
        (_, "http") => Err(Misled::PlainHttp(authority(&url))),
        (_, scheme) => Err(Misled::Unusable(format!("a URL of the scheme {scheme:?}"))),
    }
}

fn may_be_plain(url: &Url, plain: &impl PlainHosts) -> bool {
    url.host_str().is_some_and(is_loopback_host) || plain.is_configured(&authority(url))
}

/// Returns the host with its port, where that is not the scheme's own.
pub(super) fn authority(url: &Url) -> String {
    let host = url.host_str().unwrap_or_default();
    url.port().map_or_else(|| host.to_owned(), |port| format!("{host}:{port}"))
}

/// Says whether two URLs are of one origin: scheme, host and port.
pub(super) fn same_origin(one: &Url, other: &Url) -> bool {
    one.origin() == other.origin()
}

/// Finds the target of `rel="next"` in a `Link` header (RFC 8288).
pub(super) fn next_link(value: &str) -> Option<&str> {
    let mut rest = value;
    loop {
        let (target, after) = rest.split_once('<')?.1.split_once('>')?;
        // The parameters of this link end where the next one's target begins.
        let end = after.find('<').unwrap_or(after.len());
        let (parameters, next) = after.split_at(end);
        let is_next = parameters.split([';', ',']).any(|parameter| {
            parameter.split_once('=').is_some_and(|(name, value)| {
                name.trim().eq_ignore_ascii_case("rel")
                    && value
                        .trim()
                        .trim_matches('"')
                        .split_ascii_whitespace()
                        .any(|rel| rel.eq_ignore_ascii_case("next"))
            })
        });
        if is_next {
            return Some(target);
        }
        rest = next;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Plain(&'static [&'static str]);

    impl PlainHosts for Plain {
        fn is_configured(&self, host: &str) -> bool {
            self.0.contains(&host)
        }
    }

    #[test]
    fn where_a_registry_may_lead() {
        let unusable = |result: Result<Url, Misled>| matches!(result, Err(Misled::Unusable(_)));
        let lead = |from: &str, location: &str| {
            target(&Url::parse(from).expect(from), location, &Plain(&["store.lan:9000"])).map(String::from)
        };
        let (secure, plain) = ("https://r.io/v2/a", "http://127.0.0.1:5000/v2/a");
        assert_eq!(lead(secure, "/x?y=1#z"), Ok("https://r.io/x?y=1".into()));
        assert_eq!(lead(secure, "b"), Ok("https://r.io/v2/b".into()));
        assert_eq!(lead(secure, "//cdn.io/x"), Ok("https://cdn.io/x".into()));
        assert_eq!(lead(plain, "https://cdn.io/x"), Ok("https://cdn.io/x".into()));
        assert_eq!(lead(plain, "http://localhost:9/x"), Ok("http://localhost:9/x".into()));
        assert_eq!(lead(plain, "http://store.lan:9000/x"), Ok("http://store.lan:9000/x".into()));
        assert_eq!(lead(plain, "http://store.lan/x"), Err(Misled::PlainHttp("store.lan".into())));
        assert_eq!(lead(secure, "http://r.io/x"), Err(Misled::Downgrade("r.io".into())));
        assert_eq!(lead(secure, "http://127.0.0.1:1/x"), Err(Misled::Downgrade("127.0.0.1:1".into())));
        assert_eq!(lead(secure, "http://store.lan:9000/x"), Err(Misled::Downgrade("store.lan:9000".into())));
        for location in
            ["ftp://r.io/x", "file:///etc/passwd", "https://u:p@r.io/", "https://u@r.io/", "https://", "data:,x"]
        {
            let url = target(&Url::parse(secure).expect("url"), location, &Plain(&[]));
            assert!(unusable(url.clone()), "{location}: {url:?}");
        }
        assert!(unusable(target(&Url::parse(secure).expect("url"), &"x".repeat(9000), &Plain(&[]))));
    }

    #[test]
    fn links() {
        for (value, expected) in [
            (r#"</v2/a/tags/list?n=2&last=b>; rel="next""#, Some("/v2/a/tags/list?n=2&last=b")),
            ("<x>; rel=next", Some("x")),
            (r#"<x>; title="a"; Rel="prev Next""#, Some("x")),
            (r#"<a>; rel="prev", <b>; rel="next""#, Some("b")),
            (r#"<a>; rel="prev""#, None),
            ("x; rel=next", None),
            ("<x", None),
            ("", None),
        ] {
            assert_eq!(next_link(value), expected, "{value}");
        }
    }
}
