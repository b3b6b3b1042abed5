//! What can go wrong with credentials; no message holds any.

use std::path::PathBuf;

/// Says why credentials could not be read or kept. Whatever it is, nothing is asked for as nobody instead.
#[derive(Debug, thiserror::Error)]
pub enum CredentialError {
    /// A file is there and cannot be used.
    #[error("{}: {why}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        why: String,
    },
    /// An entry of a file cannot be used.
    #[error("{}: the entry {key:?}: {why}", path.display())]
    Entry {
        /// The file.
        path: PathBuf,
        /// The entry's key.
        key: String,
        /// What is wrong with it.
        why: &'static str,
    },
    /// A credential helper did not do what it should.
    #[error("the credential helper {name:?} (named in {}): {why}", path.display())]
    Helper {
        /// Its name, after `docker-credential-`.
        name: String,
        /// The file that names it.
        path: PathBuf,
        /// What happened.
        why: String,
    },
    /// A file could not be written.
    #[error("{} cannot be written: {why}", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// Why not.
        why: String,
    },
    /// Credentials for a part of a registry were to go where only whole registries have any.
    #[error("{} holds credentials for whole registries only, not for {key}", path.display())]
    WholeRegistriesOnly {
        /// docker's file.
        path: PathBuf,
        /// What was asked for.
        key: String,
    },
    /// The environment names no file that credentials could be written to.
    #[error("no variable says where credentials are kept")]
    NoPlace,
}

impl CredentialError {
    /// Returns a stable reason for machines.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::File { .. } | Self::Entry { .. } => "credentials-unusable",
            Self::Helper { .. } => "credential-helper",
            Self::Write { .. } => "credentials-not-written",
            Self::WholeRegistriesOnly { .. } => "whole-registries-only",
            Self::NoPlace => "no-auth-file",
        }
    }

    /// Returns what to do about it.
    pub fn hint(&self) -> String {
        match self {
            Self::File { path, .. } => {
                format!("mend or remove {}; nothing is asked for as nobody meanwhile", path.display())
            }
            Self::Entry { path, key, .. } => {
                format!("`larder login {key}` writes the entry anew, or remove it from {}", path.display())
            }
            Self::Helper { name, path, .. } => format!(
                "`docker-credential-{name} list` shows whether it works; or take it out of credHelpers or credsStore in {}",
                path.display()
            ),
            Self::Write { .. } => "`--authfile` names another file; nothing was changed".into(),
            Self::WholeRegistriesOnly { .. } => {
                "log in to the registry, or name podman's file with `--authfile`".into()
            }
            Self::NoPlace => "set HOME, or name a file with `--authfile`".into(),
        }
    }
}
