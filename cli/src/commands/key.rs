//! `larder key`.

use std::fs::{self, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use serde_json::json;

use crate::error::Error;
use crate::exit::Exit;
use crate::key_file::{KeyFileError, PrivateKey};
use crate::output::{Output, text};
use crate::prompt::{self, Asked};

/// Make keys to sign with
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  larder key generate
  COSIGN_PASSWORD= larder key generate --output-key-prefix ci")]
pub(crate) struct Arguments {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    Generate(Generate),
}

/// Make a key pair, in cosign's files: PREFIX.key, encrypted, and PREFIX.pub
///
/// The password comes from COSIGN_PASSWORD, else from the terminal, else from stdin.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  larder key generate
  larder key generate --output-key-prefix release")]
struct Generate {
    /// What the files are called, before `.key` and `.pub`
    #[arg(long, value_name = "PREFIX", default_value = "cosign")]
    output_key_prefix: String,
}

pub(super) fn run(arguments: Arguments, output: &Output) -> Result<Exit, Error> {
    let Verb::Generate(arguments) = arguments.verb;
    let [private, public] =
        ["key", "pub"].map(|ending| PathBuf::from(format!("{}.{ending}", arguments.output_key_prefix)));
    for path in [&private, &public] {
        if fs::symlink_metadata(path).is_ok() {
            return Err(is_there(path));
        }
    }
    let id = generate(&private, &public, &prompt::password(Asked::Twice)?)?;
    if output.is_json() {
        output.document(&json!({"private": private, "public": public, "id": id}))?;
        return Ok(Exit::Done);
    }
    output.say(&format!("Private key written to {}", private.display()));
    output.say(&format!("Public key written to {} ({})", public.display(), text::short(&id)));
    Ok(Exit::Done)
}

fn is_there(path: &Path) -> Error {
    Error::new("file", format!("{} is there already, and is not overwritten", path.display()))
        .hint("`--output-key-prefix` names another; nothing was written")
}

/// Makes a key pair in two files that are not there yet. Returns the key's id.
///
/// # Errors
/// Fails where a file cannot be written; no half of a pair stays.
pub(super) fn generate(private: &Path, public: &Path, password: &[u8]) -> Result<String, Error> {
    let failed = |error: KeyFileError| Error::new("key", format!("{} {error}", private.display())).hint(error.hint());
    let key = PrivateKey::generate().map_err(failed)?;
    let (encrypted, pem, id) =
        (key.encrypt(password).map_err(failed)?, key.public_pem().map_err(failed)?, key.id().map_err(failed)?);
    write_new(private, encrypted.as_bytes(), 0o600)?;
    if let Err(error) = write_new(public, pem.as_bytes(), 0o644) {
        // A private key without its public one is of no use to anybody.
        let _ = fs::remove_file(private);
        return Err(error);
    }
    Ok(id)
}

fn write_new(path: &Path, bytes: &[u8], mode: u32) -> Result<(), Error> {
    let written = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(mode)
        .open(path)
        .and_then(|mut file| file.write_all(bytes).and_then(|()| file.sync_all()));
    written.map_err(|error| match error.kind() {
        io::ErrorKind::AlreadyExists => is_there(path),
        _ => Error::file(&path.display().to_string(), &error).hint("`--output-key-prefix` may name another folder"),
    })
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;
    use crate::key_file::EncryptedKey;

    #[test]
    fn a_pair_is_whole_or_not_there() {
        let folder = tempfile::tempdir().expect("a folder");
        let [private, public] = ["a.key", "a.pub"].map(|name| folder.path().join(name));
        let id = generate(&private, &public, b"x").map_err(|error| error.reason().to_owned()).expect("a pair");
        let file = fs::read(&private).expect("the private key");
        let key = EncryptedKey::parse(&file).and_then(|key| key.decrypt(b"x")).map_err(|error| error.to_string());
        let key = key.expect("the key");
        assert_eq!(key.id(), Ok(id));
        assert_eq!(key.public_pem().expect("PEM"), fs::read_to_string(&public).expect("the public key"));
        assert_eq!(fs::metadata(&private).expect("metadata").permissions().mode() & 0o077, 0);

        let other = folder.path().join("b.key");
        assert_eq!(generate(&other, &public, b"x").expect_err("a.pub is there").reason(), "file");
        assert!(!other.exists());
        assert_eq!(
            generate(&private, &folder.path().join("c.pub"), b"x").expect_err("a.key is there").reason(),
            "file"
        );
        assert_eq!(fs::read(&private).expect("as it was"), file);
    }
}
