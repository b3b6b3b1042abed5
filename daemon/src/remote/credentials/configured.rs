//! A user and password file from the configuration.

use std::io::Read as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;

use zeroize::Zeroizing;

use super::secret::Secret;
use super::{Login, Proof};
use crate::remote::error::RemoteError;

/// The most bytes that a password file may have.
const MAX_PASSWORD: u64 = 64 << 10;

/// A user and where the password is. The file is read when it is needed, so that a new password takes no restart.
#[derive(Clone, PartialEq, Eq)]
pub(in crate::remote) struct PasswordFile {
    /// The user's name.
    pub(in crate::remote) username: String,
    /// The file with the password.
    pub(in crate::remote) password_file: PathBuf,
}

impl PasswordFile {
    /// Reads the password.
    pub(super) async fn login(&self, registry: &str) -> Result<Login, RemoteError> {
        let (this, file) = (self.clone(), self.password_file.clone());
        let unusable = |why: String| RemoteError::Password { registry: registry.to_owned(), path: file.clone(), why };
        let password = tokio::task::spawn_blocking(move || this.password())
            .await
            .map_err(|_| unusable("reading it was interrupted".into()))?
            .map_err(&unusable)?;
        let login =
            Login { username: self.username.clone(), proof: Proof::Password(password), from: "config.toml".into() };
        if login.basic().is_none() { Err(unusable("it cannot be sent".into())) } else { Ok(login) }
    }

    fn password(&self) -> Result<Secret, String> {
        let file = std::fs::File::open(&self.password_file).map_err(|error| error.to_string())?;
        let about = file.metadata().map_err(|error| error.to_string())?;
        if !about.is_file() {
            return Err("it is no regular file".into());
        }
        let mode = about.permissions().mode() & 0o777;
        if mode & 0o077 != 0 {
            return Err(format!("others than its owner may use it (mode {mode:03o})"));
        }
        let mut password = Zeroizing::new(String::with_capacity(1024));
        file.take(MAX_PASSWORD + 1).read_to_string(&mut password).map_err(|error| error.to_string())?;
        if password.len() as u64 > MAX_PASSWORD {
            return Err(format!("it is longer than {MAX_PASSWORD} bytes"));
        }
        let password = password.strip_suffix('\n').unwrap_or(&password);
        let password = password.strip_suffix('\r').unwrap_or(password);
        if password.is_empty() {
            return Err("it is empty".into());
        }
        Ok(Secret::new(password.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use base64::Engine as _;
    use base64::engine::general_purpose::STANDARD;

    use super::*;

    #[tokio::test]
    async fn a_password_that_others_may_read_is_refused() {
        let folder = tempfile::tempdir().expect("folder");
        let file = folder.path().join("password");
        let credentials = PasswordFile { username: "robot".into(), password_file: file.clone() };
        let set = |text: &str, mode: u32| {
            std::fs::write(&file, text).expect("write");
            std::fs::set_permissions(&file, std::fs::Permissions::from_mode(mode)).expect("mode");
        };
        assert!(matches!(credentials.login("r").await, Err(RemoteError::Password { .. })));
        set("s3cret: ü\n", 0o600);
        let expected = format!("Basic {}", STANDARD.encode("robot:s3cret: ü"));
        assert_eq!(credentials.login("r").await.expect("good").basic().expect("a header"), expected);
        for (text, mode) in [("x\n", 0o640), ("x\n", 0o604), ("\n", 0o600), ("", 0o400)] {
            set(text, mode);
            assert!(matches!(credentials.login("r").await, Err(RemoteError::Password { .. })), "{text:?} {mode:o}");
        }
    }
}
