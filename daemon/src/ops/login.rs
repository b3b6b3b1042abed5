//! Logs in to registries, and out: tries credentials where they are to be used, and keeps them where docker and podman
//! keep theirs.

use larder_core::Repository;
use larder_core::reference::{DOCKER_HUB, LOCAL};

use super::Ctx;
use super::artifacts::RemoteError;
use crate::config::places::AuthFile;
use crate::remote::Asked;
pub use crate::remote::{Secret, Target};

/// The longest user name, in bytes.
const MAX_USERNAME: usize = 1 << 10;
/// The longest password, in bytes.
const MAX_PASSWORD: usize = 64 << 10;

/// A login that was kept.
#[derive(Clone, Debug)]
pub struct LoggedIn {
    /// What one logged in to.
    pub target: Target,
    /// A file or a helper, for people.
    pub kept_in: String,
    /// The registry asked for no credentials.
    pub unproven: bool,
    /// Where what was kept is not what is used.
    pub warnings: Vec<String>,
}

/// Credentials that were forgotten.
#[derive(Clone, Debug)]
pub struct LoggedOut {
    /// Of what; `None` is everything.
    pub target: Option<Target>,
    /// Where there were any.
    pub removed_from: Vec<String>,
    /// Where some stay.
    pub warnings: Vec<String>,
}

/// Says why one is not logged in or out.
#[derive(Debug, thiserror::Error)]
pub enum LoginError {
    /// What one wants to log in to is no registry.
    #[error("{0:?} is no registry")]
    NoRegistry(String),
    /// It is the local store.
    #[error("localhost without a port names local repositories; no registry stands behind them")]
    Local,
    /// The user's name cannot be one.
    #[error("the user name {0}")]
    BadUsername(&'static str),
    /// The password cannot be one.
    #[error("the password {0}")]
    BadPassword(&'static str),
    /// A file was not named by a whole path.
    #[error("{0:?} is no absolute path")]
    BadPath(String),
    /// The registry did not take them, or they could not be kept.
    #[error("{0}")]
    Remote(#[from] RemoteError),
}

impl LoginError {
    /// Returns the stable reason.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::NoRegistry(_) => "invalid-name",
            Self::Local => "local-repository",
            Self::BadUsername(_) | Self::BadPassword(_) | Self::BadPath(_) => "invalid-argument",
            Self::Remote(error) => error.reason(),
        }
    }

    /// Returns what to do about it.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::NoRegistry(_) => Some("write HOST, HOST:PORT or HOST/PREFIX, as in quay.io or quay.io/acme".into()),
            Self::Local => Some("a registry on this machine has a port, as in localhost:5000".into()),
            Self::BadUsername(_) | Self::BadPassword(_) | Self::BadPath(_) => Some("nothing was changed".into()),
            Self::Remote(RemoteError::Unauthorized { .. } | RemoteError::Denied { .. }) => Some(
                "check user and password; many registries want an access token in its place. Nothing was changed"
                    .into(),
            ),
            Self::Remote(error) => error.hint(),
        }
    }
}

/// Reads what one logs in to: `HOST[:PORT][/PREFIX]`, or a URL of the registry as docker takes it; nothing is Docker Hub.
///
/// # Errors
/// Fails where that names no registry.
pub fn target(text: &str) -> Result<Target, LoginError> {
    let no_registry = || LoginError::NoRegistry(text.chars().take(200).collect());
    let url = text.strip_prefix("https://").or_else(|| text.strip_prefix("http://"));
    let (host, prefix) = match url {
        Some(url) => (url.split('/').next().unwrap_or_default(), ""),
        None => text.trim_end_matches('/').split_once('/').unwrap_or_else(|| (text.trim_end_matches('/'), "")),
    };
    let host = if text.is_empty() { DOCKER_HUB } else { host };
    // With more behind it, so that nothing is added to a single name.
    let path = if prefix.is_empty() { "x/y".to_owned() } else { format!("{prefix}/x") };
    let repository = Repository::new(host, &path).map_err(|_| no_registry())?;
    if repository.registry() == LOCAL {
        return Err(LoginError::Local);
    }
    Ok(Target { registry: repository.registry().to_owned(), prefix: prefix.to_owned() })
}

/// Tries credentials, and keeps them if the registry takes them.
///
/// # Errors
/// Fails where the registry does not, or there is no place for them; nothing was changed then.
pub async fn login(
    ctx: &Ctx,
    to: &str,
    username: &str,
    password: &Secret,
    place: Option<AuthFile>,
) -> Result<LoggedIn, LoginError> {
    let target = target(to)?;
    check_username(username)?;
    if password.is_empty() {
        return Err(LoginError::BadPassword("is empty"));
    }
    if password.len() > MAX_PASSWORD {
        return Err(LoginError::BadPassword("is longer than 64 KiB"));
    }
    let place = check_place(place)?;
    let asked = ctx.remotes.try_login(&target, username, password).await?;
    let kept = ctx.remotes.keep_login(&target, username, password, place).await?;
    let mut warnings = Vec::new();
    if ctx.remotes.is_configured(&target.registry) {
        warnings.push(format!(
            "config.toml has username and password_file for {}, which go before what was kept",
            target.registry
        ));
    } else if !kept.is_read {
        warnings
            .push(format!("larderd does not read {}; REGISTRY_AUTH_FILE at its start says what it reads", kept.place));
    }
    Ok(LoggedIn { target, kept_in: kept.place, unproven: asked == Asked::Nothing, warnings })
}

/// Forgets the credentials of a target, or of all.
///
/// # Errors
/// Fails where a place cannot be read or written.
pub async fn logout(ctx: &Ctx, from: Option<&str>, place: Option<AuthFile>) -> Result<LoggedOut, LoginError> {
    let target = from.map(target).transpose()?;
    let removed_from = ctx.remotes.forget_login(target.as_ref(), check_place(place)?).await?;
    let mut warnings = Vec::new();
    if let Some(target) = &target
        && let Some((_, kept_in)) = ctx.remotes.login_of(target).await?
    {
        warnings.push(format!("{target} is still asked for with the credentials in {kept_in}"));
    }
    Ok(LoggedOut { target, removed_from, warnings })
}

/// Returns as whom a target is asked for, and where that is said.
///
/// # Errors
/// Fails where a place cannot be read.
pub async fn who(ctx: &Ctx, at: &str) -> Result<(Target, Option<(String, String)>), LoginError> {
    let target = target(at)?;
    let found = ctx.remotes.login_of(&target).await?;
    Ok((target, found))
}

fn check_username(username: &str) -> Result<(), LoginError> {
    match username {
        "" => Err(LoginError::BadUsername("is empty")),
        // Basic authentication joins user and password by a colon (RFC 7617, section 2).
        _ if username.contains(':') => Err(LoginError::BadUsername("has a colon")),
        _ if username.chars().any(char::is_control) => Err(LoginError::BadUsername("has a control character")),
        _ if username.len() > MAX_USERNAME => Err(LoginError::BadUsername("is longer than 1 KiB")),
        _ => Ok(()),
    }
}

fn check_place(place: Option<AuthFile>) -> Result<Option<AuthFile>, LoginError> {
    match place {
        Some(place) if !place.path.is_absolute() => Err(LoginError::BadPath(place.path.display().to_string())),
        place => Ok(place),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_one_logs_in_to() {
        for (text, registry, prefix) in [
            ("", "docker.io", ""),
            ("docker.io", "docker.io", ""),
            ("https://index.docker.io/v1/", "docker.io", ""),
            ("Quay.io", "quay.io", ""),
            ("quay.io/", "quay.io", ""),
            ("quay.io/acme/team", "quay.io", "acme/team"),
            ("docker.io/library", "docker.io", "library"),
            ("127.0.0.1:5000", "127.0.0.1:5000", ""),
            ("localhost:5000/a", "localhost:5000", "a"),
        ] {
            let expected = Target { registry: registry.into(), prefix: prefix.into() };
            assert_eq!(target(text).expect(text), expected, "{text}");
        }
        for text in ["/", "a b", "quay.io/../x", "quay.io/A", "quay.io/a:b", "quay.io//a", "ftp://x", "\u{1b}[2J"] {
            assert_eq!(target(text).expect_err(text).reason(), "invalid-name", "{text}");
        }
        assert_eq!(target("localhost").expect_err("local").reason(), "local-repository");
    }

    #[test]
    fn who_one_can_be() {
        for good in ["me", "robot$x", "<token>", "00000000-0000-0000-0000-000000000000", "ü"] {
            assert!(check_username(good).is_ok(), "{good}");
        }
        for bad in ["", "a:b", "a\nb", &"x".repeat(2000)] {
            assert!(check_username(bad).is_err(), "{bad:?}");
        }
    }
}
