//! Where a daemon lives: its home and its socket, by the same rule for the daemon and its clients.
//!
//! Pure over a look-up of environment variables; nothing here touches the disk.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

/// Names the folder that everything lives in.
pub const HOME_VARIABLE: &str = "LARDER_HOME";
/// Names the socket.
pub const SOCKET_VARIABLE: &str = "LARDER_SOCKET";
/// The most bytes that a Unix socket's path may have: `sun_path` has 108, one of which is the final NUL (unix(7)).
pub const MAX_SOCKET_PATH: usize = 107;
/// The socket's name in the home.
const SOCKET_NAME: &str = "larder.sock";

/// Says why there is no place.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PlaceError {
    /// No variable says where the home is.
    #[error("there is no place for Larder's home: none of {HOME_VARIABLE}, XDG_DATA_HOME and HOME is set")]
    NoHome,
    /// A relative path was given, and the present folder is not known.
    #[error("{variable} is the relative path {path:?}, and the present folder cannot be read; give an absolute path")]
    Relative {
        /// The variable.
        variable: &'static str,
        /// What it holds.
        path: PathBuf,
    },
    /// The socket's path is longer than the system can take.
    #[error(
        "the socket's path {0:?} is longer than {MAX_SOCKET_PATH} bytes; set {SOCKET_VARIABLE} to a shorter one (or XDG_RUNTIME_DIR, under which a short one is made up)"
    )]
    SocketTooLong(PathBuf),
}

/// Returns the home: `LARDER_HOME`, else the folder `larder` in the XDG data folder.
///
/// `variable` looks up an environment variable; an empty one counts as not set. A relative `LARDER_HOME` is taken
/// from the present folder.
///
/// # Errors
/// Fails where no variable says where the home is.
pub fn home(variable: impl Fn(&str) -> Option<OsString>) -> Result<PathBuf, PlaceError> {
    let path = |name: &str| variable(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    if let Some(home) = path(HOME_VARIABLE) {
        return absolute(HOME_VARIABLE, &home);
    }
    // The XDG base directory specification has relative paths ignored.
    if let Some(data) = path("XDG_DATA_HOME").filter(|data| data.is_absolute()) {
        return Ok(tidy(&data.join("larder")));
    }
    match path("HOME").filter(|home| home.is_absolute()) {
        Some(home) => Ok(tidy(&home.join(".local/share/larder"))),
        None => Err(PlaceError::NoHome),
    }
}

/// Returns the socket of the daemon whose home is `home` (as [`home`] returned it): `LARDER_SOCKET`, else
/// `larder.sock` in the home, else, where that path is too long for a socket, a name under `XDG_RUNTIME_DIR` that is
/// made from a hash of the home.
///
/// # Errors
/// Fails where every such path would be too long.
pub fn socket(home: &Path, variable: impl Fn(&str) -> Option<OsString>) -> Result<PathBuf, PlaceError> {
    let path = |name: &str| variable(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let fits = |socket: &Path| socket.as_os_str().len() <= MAX_SOCKET_PATH;
    if let Some(socket) = path(SOCKET_VARIABLE) {
        let socket = absolute(SOCKET_VARIABLE, &socket)?;
        return if fits(&socket) { Ok(socket) } else { Err(PlaceError::SocketTooLong(socket)) };
    }
    let inside = home.join(SOCKET_NAME);
    if fits(&inside) {
        return Ok(inside);
    }
    let elsewhere = path("XDG_RUNTIME_DIR")
        .filter(|folder| folder.is_absolute())
        .map(|folder| folder.join(format!("larder-{}.sock", hash(home))))
        .filter(|socket| fits(socket));
    elsewhere.ok_or(PlaceError::SocketTooLong(inside))
}

/// Writes the first eight bytes of the home's SHA-256 in hex: enough to tell one user's homes apart.
fn hash(home: &Path) -> String {
    let hash = Sha256::digest(home.as_os_str().as_encoded_bytes());
    hash.iter().take(8).map(|byte| format!("{byte:02x}")).collect()
}

fn absolute(variable: &'static str, path: &Path) -> Result<PathBuf, PlaceError> {
    match std::path::absolute(path) {
        Ok(absolute) => Ok(tidy(&absolute)),
        Err(_) => Err(PlaceError::Relative { variable, path: path.to_owned() }),
    }
}

/// Drops trailing and doubled slashes, so that one folder has one spelling, and so one hash.
fn tidy(path: &Path) -> PathBuf {
    path.components().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn variables<'a>(set: &'a [(&'a str, &'a str)]) -> impl Fn(&str) -> Option<OsString> + 'a {
        |name| set.iter().find(|(set, _)| *set == name).map(|(_, value)| OsString::from(value))
    }

    #[test]
    fn the_home_is_the_first_that_is_set() {
        for (set, expected) in [
            (&[("LARDER_HOME", "/a/b//"), ("HOME", "/h")][..], Ok("/a/b")),
            (&[("LARDER_HOME", ""), ("XDG_DATA_HOME", "/data"), ("HOME", "/h")], Ok("/data/larder")),
            (&[("XDG_DATA_HOME", "relative"), ("HOME", "/h")], Ok("/h/.local/share/larder")),
            (&[("HOME", "")], Err(PlaceError::NoHome)),
            (&[], Err(PlaceError::NoHome)),
        ] {
            assert_eq!(home(variables(set)), expected.map(PathBuf::from), "{set:?}");
        }
    }

    #[test]
    fn a_relative_home_is_taken_from_the_present_folder() {
        let here = std::env::current_dir().expect("present folder");
        assert_eq!(home(variables(&[("LARDER_HOME", "x/y")])), Ok(here.join("x/y")));
    }

    #[test]
    fn the_socket_is_in_the_home_where_it_fits() {
        let longest = format!("/{}", "h".repeat(MAX_SOCKET_PATH - 1 - "/larder.sock".len()));
        let inside = socket(Path::new(&longest), variables(&[("XDG_RUNTIME_DIR", "/run/user/1")])).expect("fits");
        assert_eq!(inside, Path::new(&longest).join("larder.sock"));
        assert_eq!(inside.as_os_str().len(), MAX_SOCKET_PATH);
    }

    #[test]
    fn a_long_home_has_its_socket_under_the_runtime_folder() {
        let [one, other] = ["a", "b"].map(|letter| PathBuf::from(format!("/{}", letter.repeat(120))));
        let runtime = [("XDG_RUNTIME_DIR", "/run/user/1000")];
        let first = socket(&one, variables(&runtime)).expect("short");
        assert!(first.starts_with("/run/user/1000"), "{first:?}");
        assert_eq!(socket(&one, variables(&runtime)), Ok(first.clone()));
        assert_ne!(socket(&other, variables(&runtime)), Ok(first));
        assert!(matches!(socket(&one, variables(&[])), Err(PlaceError::SocketTooLong(_))));
        let long = "/r".repeat(60);
        assert!(socket(&one, variables(&[("XDG_RUNTIME_DIR", &long)])).is_err());
    }

    #[test]
    fn the_socket_variable_decides() {
        let set = [("LARDER_SOCKET", "/tmp/s")];
        assert_eq!(socket(Path::new("/h"), variables(&set)), Ok("/tmp/s".into()));
        let long = "/s".repeat(54);
        assert!(socket(Path::new("/h"), variables(&[("LARDER_SOCKET", &long)])).is_err());
    }
}
