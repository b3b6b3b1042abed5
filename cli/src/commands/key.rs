//! `larder key`, and cosign's names for it.

use std::fs::{self, File};
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use serde_json::json;
use zeroize::Zeroizing;

use super::key_place;
use crate::error::Error;
use crate::exit::Exit;
use crate::key_file::pair::{self, Existing, NewFile};
use crate::key_file::{self, EncryptedKey, KeyFileError, MAX_FILE, PrivateKey};
use crate::output::{Output, text};
use crate::prompt::{self, Asked};

/// Make keys to sign with
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  larder key generate
  larder key import --key openssl.pem --output-key-prefix release
  larder key public --key release.key")]
pub(crate) struct Arguments {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    Generate(Generate),
    Import(Import),
    Public(Public),
}

/// Make a key pair, in cosign's files: PREFIX.key, encrypted, and PREFIX.pub
///
/// The password comes from COSIGN_PASSWORD, else from the terminal, else from stdin.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  larder key generate
  larder key generate --output-key-prefix release
  COSIGN_PASSWORD= larder key generate --output-key-prefix ci")]
pub(crate) struct Generate {
    /// What the files are called, before `.key` and `.pub`
    #[arg(long, value_name = "PREFIX", default_value = "cosign")]
    output_key_prefix: String,
    /// Overwrite key files that are there, without asking
    #[arg(short, long)]
    yes: bool,
}

/// Encrypt a private key that another tool made, into cosign's files
///
/// PKCS#8, PKCS#1 and SEC1 in PEM are read: ECDSA P-256, P-384, P-521, RSA (2048, 3072 or 4096 bits) and Ed25519. The
/// password is a new one: from COSIGN_PASSWORD, else from the terminal, else from stdin.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  larder key import --key openssl.pem
  larder key import --key openssl.pem --output-key-prefix release")]
pub(crate) struct Import {
    /// The private key, not encrypted
    #[arg(short, long, value_name = "FILE")]
    key: PathBuf,
    /// What the files are called, before `.key` and `.pub`
    #[arg(long, value_name = "PREFIX", default_value = "import-cosign")]
    output_key_prefix: String,
    /// Overwrite key files that are there, without asking
    #[arg(short, long)]
    yes: bool,
}

/// Print the public key of a private one
///
/// The password comes from COSIGN_PASSWORD, else from the terminal, else from stdin.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  larder key public --key cosign.key
  larder key public --key cosign.key --outfile cosign.pub")]
pub(crate) struct Public {
    /// cosign's encrypted private key file
    #[arg(long, value_name = "FILE")]
    key: PathBuf,
    /// Write it to a file
    #[arg(long, value_name = "FILE")]
    outfile: Option<PathBuf>,
    /// Overwrite the file if it is there, without asking
    #[arg(short, long)]
    yes: bool,
}

pub(super) fn run(arguments: Arguments, output: &Output) -> Result<Exit, Error> {
    match arguments.verb {
        Verb::Generate(arguments) => generate(&arguments, output),
        Verb::Import(arguments) => import(&arguments, output),
        Verb::Public(arguments) => public(&arguments, output),
    }
}

/// Makes a key pair.
///
/// # Errors
/// Fails where a file is there, or cannot be written; no half of a pair stays.
pub(super) fn generate(arguments: &Generate, output: &Output) -> Result<Exit, Error> {
    let files = Files::of(&arguments.output_key_prefix);
    let existing = consent(&[&files.private, &files.public], arguments.yes, output)?;
    let password = prompt::password(Asked::Twice)?;
    let key = PrivateKey::generate().map_err(|error| of_key(&files.private, error))?;
    files.write(&key, &password, existing, output)
}

/// Imports a private key.
///
/// # Errors
/// As [`generate`] does, and where the key cannot be read.
pub(super) fn import(arguments: &Import, output: &Output) -> Result<Exit, Error> {
    let text = read_secret(&arguments.key)?;
    let key = key_file::import(&text).map_err(|error| of_key(&arguments.key, error))?;
    drop(text);
    let files = Files::of(&arguments.output_key_prefix);
    let existing = consent(&[&files.private, &files.public], arguments.yes, output)?;
    files.write(&key, &prompt::password(Asked::Twice)?, existing, output)
}

/// Prints a public key, or writes it to a file.
///
/// # Errors
/// Fails where the key cannot be decrypted, or the file is there or cannot be written.
pub(super) fn public(arguments: &Public, output: &Output) -> Result<Exit, Error> {
    let existing = match &arguments.outfile {
        Some(path) => consent(&[path], arguments.yes, output)?,
        None => Existing::Stay,
    };
    let key = unlock(&arguments.key)?;
    let pem = key.public_pem();
    if let Some(path) = &arguments.outfile {
        pair::write(&[NewFile { path, bytes: pem.as_bytes(), mode: 0o644 }], existing).map_err(not_written)?;
        output.say(&format!("Public key written to {} ({})", path.display(), text::short(&key.id())));
    }
    if output.is_json() {
        output.document(&json!({"public_key": pem, "id": key.id(), "public": arguments.outfile}))?;
    } else if arguments.outfile.is_none() {
        output.data(pem.trim_end())?;
    }
    Ok(Exit::Done)
}

/// The two files of a pair.
struct Files {
    private: PathBuf,
    public: PathBuf,
}

impl Files {
    fn of(prefix: &str) -> Self {
        Self { private: format!("{prefix}.key").into(), public: format!("{prefix}.pub").into() }
    }

    fn write(&self, key: &PrivateKey, password: &[u8], existing: Existing, output: &Output) -> Result<Exit, Error> {
        let (encrypted, pem) = (key.encrypt(password).map_err(|error| of_key(&self.private, error))?, key.public_pem());
        let files = [
            NewFile { path: &self.private, bytes: encrypted.as_bytes(), mode: 0o600 },
            NewFile { path: &self.public, bytes: pem.as_bytes(), mode: 0o644 },
        ];
        pair::write(&files, existing).map_err(not_written)?;
        if output.is_json() {
            output.document(&json!({"private": self.private, "public": self.public, "id": key.id()}))?;
            return Ok(Exit::Done);
        }
        output.say(&format!("Private key written to {}", self.private.display()));
        output.say(&format!("Public key written to {} ({})", self.public.display(), text::short(&key.id())));
        Ok(Exit::Done)
    }
}

/// Says what is to happen to files that are there: who is at a terminal is asked, and nobody else's are overwritten
/// without `--yes`.
fn consent(paths: &[&Path], yes: bool, output: &Output) -> Result<Existing, Error> {
    if yes {
        return Ok(Existing::Go);
    }
    let mut existing = Existing::Stay;
    for path in paths.iter().filter(|path| fs::symlink_metadata(path).is_ok()) {
        if !prompt::somebody_answers() || output.is_json() {
            return Err(is_there(path));
        }
        if !prompt::confirmed(&format!("{} is there already. Overwrite it?", path.display()))? {
            return Err(is_there(path));
        }
        existing = Existing::Go;
    }
    Ok(existing)
}

fn is_there(path: &Path) -> Error {
    Error::new("file", format!("{} is there already, and is not overwritten", path.display()))
        .hint("another name keeps both, `--yes` overwrites it; nothing was written")
}

fn not_written((path, error): (PathBuf, io::Error)) -> Error {
    match error.kind() {
        io::ErrorKind::AlreadyExists => is_there(&path),
        _ => Error::file(&path.display().to_string(), &error)
            .hint("another name may lie in a folder that can be written; nothing was written"),
    }
}

/// Decrypts a key file of cosign's with the password that is asked for.
///
/// # Errors
/// Fails where the file is none, or the password is wrong.
pub(super) fn unlock(path: &Path) -> Result<PrivateKey, Error> {
    let file = key_place::read(path, MAX_FILE)?;
    let failed = |error| of_key(path, error);
    let encrypted = EncryptedKey::parse(&file).map_err(failed)?;
    encrypted.decrypt(&prompt::password(Asked::Once)?).map_err(failed)
}

/// Says what is wrong with a key file.
pub(super) fn of_key(path: &Path, error: KeyFileError) -> Error {
    Error::new("key", format!("{} {error}", path.display())).hint(error.hint())
}

/// Reads a file with a plain private key into memory that is wiped, and never outgrown.
fn read_secret(path: &Path) -> Result<Zeroizing<Vec<u8>>, Error> {
    let name = path.display().to_string();
    let mut bytes = Zeroizing::new(Vec::with_capacity(MAX_FILE as usize + 1));
    let read = File::open(path).and_then(|file| file.take(MAX_FILE + 1).read_to_end(&mut bytes));
    read.map_err(|error| Error::file(&name, &error).and_hint("nothing was written"))?;
    if bytes.len() as u64 > MAX_FILE {
        return Err(Error::new("file", format!("{name} is larger than {} KiB: it is no key file", MAX_FILE >> 10))
            .hint("is it the right file? nothing was written"));
    }
    Ok(bytes)
}
