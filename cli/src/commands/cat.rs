//! `larder cat`.

use std::io::{self, ErrorKind, IsTerminal as _, Write as _};

use clap::Args;
use futures_util::{Stream, StreamExt as _};
use larder_proto::v1;
use sha2::{Digest as _, Sha256, Sha512};
use tonic::Status;

use crate::connect::{Client, connect};
use crate::error::Error;
use crate::exit::Exit;
use crate::output::Output;

/// The most bytes that are put on a terminal, all of which are looked at before.
const MAX_ON_TERMINAL: u64 = 4 << 20;

/// Write a manifest or a blob to stdout, byte for byte
///
/// What is not accepted is held back, as at the endpoint. Bytes are checked against their digest as they pass: where
/// they differ, the run ends with an error, and what was written must not be used.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  larder cat docker.io/library/alpine:3.22 | jq .manifests
  larder cat registry.example.org/store/app:1.4 --blob sha256:6f1c… > layer.tar.gz")]
pub(crate) struct Arguments {
    /// Something that is held here, as REPOSITORY:TAG or REPOSITORY@DIGEST
    #[arg(value_name = "REF")]
    reference: String,
    /// A blob of the reference's repository, and not the manifest
    #[arg(long, value_name = "DIGEST")]
    blob: Option<String>,
    /// Past the gate: content in any state but corrupt, for a look at what was rejected
    #[arg(long)]
    unverified: bool,
    /// Write to a terminal what may steer it
    #[arg(long)]
    force: bool,
}

pub(super) async fn run(arguments: Arguments, output: &Output) -> Result<Exit, Error> {
    let client = connect(output).await?;
    let (repository, digest) = named(&client, &arguments).await?;
    let mode = if arguments.unverified { v1::ReadMode::AnyState } else { v1::ReadMode::Unspecified };
    // A wrong digest is told before anything is asked for.
    Hash::of(&digest)?;
    let request = v1::ReadRequest { repository, digest: digest.clone(), mode: mode.into(), ..Default::default() };
    let mut content = client.content().read(request).await?.into_inner();
    let first = content.message().await?.unwrap_or_default();
    if !first.warning.is_empty() {
        output.warn(&first.warning);
    }
    write_out(first, content, Some(&digest), &digest, arguments.force).await?;
    io::stdout().flush().map_err(cannot_write)?;
    Ok(Exit::Done)
}

/// Writes pieces to stdout, the first of which has come. They are checked against `digest`, where they have one; `name` is
/// what they are called in an error. To a terminal goes nothing that may steer it, unless it is forced.
///
/// # Errors
/// Fails where they break off, have another digest, or are not for a terminal.
pub(super) async fn write_out(
    first: v1::ReadResponse,
    mut rest: impl Stream<Item = Result<v1::ReadResponse, Status>> + Unpin,
    digest: Option<&str>,
    name: &str,
    force: bool,
) -> Result<(), Error> {
    let mut hash = digest.map(Hash::of).transpose()?;
    if io::stdout().is_terminal() && !force {
        return on_terminal(first, &mut rest, hash, name).await;
    }
    copy(first, &mut rest, hash.as_mut()).await?;
    hash.map_or(Ok(()), |mut hash| hash.check(name))
}

/// Says what is to be read: the repository, and the digest in it.
async fn named(client: &Client, arguments: &Arguments) -> Result<(String, String), Error> {
    let (name, digest) = match arguments.reference.split_once('@') {
        Some((name, digest)) => (name, Some(digest)),
        None => (arguments.reference.as_str(), None),
    };
    if let Some(digest) = arguments.blob.as_deref().or(digest) {
        return Ok((without_tag(name).to_owned(), digest.to_owned()));
    }
    let request = v1::ResolveReferenceRequest { reference: arguments.reference.clone() };
    let resolved = client.artifacts().resolve_reference(request).await?.into_inner();
    Ok((resolved.repository, resolved.digest))
}

/// Returns a reference's repository: a colon behind the last slash begins a tag.
fn without_tag(name: &str) -> &str {
    let path = name.rfind('/').map_or(0, |slash| slash + 1);
    match name.get(path..).and_then(|last| last.find(':')) {
        Some(colon) if path > 0 => name.get(..path + colon).unwrap_or(name),
        _ => name,
    }
}

async fn copy(
    mut piece: v1::ReadResponse,
    content: &mut (impl Stream<Item = Result<v1::ReadResponse, Status>> + Unpin),
    mut hash: Option<&mut Hash>,
) -> Result<(), Error> {
    loop {
        if let Some(hash) = &mut hash {
            hash.update(&piece.data);
        }
        io::stdout().lock().write_all(&piece.data).map_err(cannot_write)?;
        match content.next().await.transpose()? {
            Some(next) => piece = next,
            None => return Ok(()),
        }
    }
}

/// Shows text on a terminal, once all of it was looked at.
async fn on_terminal(
    first: v1::ReadResponse,
    content: &mut (impl Stream<Item = Result<v1::ReadResponse, Status>> + Unpin),
    hash: Option<Hash>,
    name: &str,
) -> Result<(), Error> {
    let refused = |why: &str| {
        Error::new("binary", format!("{name} {why}; it is not written to a terminal"))
            .hint("redirect it into a file or a pipe; --force writes it all the same")
    };
    if first.size > MAX_ON_TERMINAL {
        return Err(refused(&format!("has {} bytes", first.size)));
    }
    let mut bytes = first.data.to_vec();
    while let Some(piece) = content.next().await.transpose()? {
        bytes.extend_from_slice(&piece.data);
        if bytes.len() as u64 > MAX_ON_TERMINAL {
            return Err(refused("is longer than was announced"));
        }
    }
    if let Some(mut hash) = hash {
        hash.update(&bytes);
        hash.check(name)?;
    }
    if !is_plain(&bytes) {
        return Err(refused("is no plain text"));
    }
    io::stdout().lock().write_all(&bytes).map_err(cannot_write)
}

/// Says whether bytes are text that steers no terminal.
fn is_plain(bytes: &[u8]) -> bool {
    let turns =
        |letter: char| matches!(letter, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    let fits = |letter: char| matches!(letter, '\n' | '\t') || !(letter.is_control() || turns(letter));
    std::str::from_utf8(bytes).is_ok_and(|text| text.chars().all(fits))
}

/// The digest of what passed.
pub(super) enum Hash {
    Sha256(Sha256),
    Sha512(Sha512),
}

impl Hash {
    /// Begins the hash that a digest is of.
    ///
    /// # Errors
    /// Fails where it is no digest.
    pub(super) fn of(digest: &str) -> Result<Self, Error> {
        match digest.split_once(':') {
            Some(("sha256", _)) => Ok(Self::Sha256(Sha256::new())),
            Some(("sha512", _)) => Ok(Self::Sha512(Sha512::new())),
            _ => Err(Error::usage(format!("{digest:?} is no digest")).hint("write sha256:HEX or sha512:HEX")),
        }
    }

    /// Adds bytes.
    pub(super) fn update(&mut self, bytes: &[u8]) {
        match self {
            Self::Sha256(hash) => hash.update(bytes),
            Self::Sha512(hash) => hash.update(bytes),
        }
    }

    /// Compares what passed with what it should be.
    ///
    /// # Errors
    /// Fails where it is something else.
    pub(super) fn check(&mut self, digest: &str) -> Result<(), Error> {
        let hex = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
        let actual = match self {
            Self::Sha256(hash) => format!("sha256:{}", hex(&hash.finalize_reset())),
            Self::Sha512(hash) => format!("sha512:{}", hex(&hash.finalize_reset())),
        };
        if actual == digest.to_ascii_lowercase() {
            return Ok(());
        }
        Err(Error::new("digest-mismatch", format!("what came has the digest {actual}, not {digest}"))
            .hint("what was written must not be used; `larder pull` brings it again"))
    }
}

pub(super) fn cannot_write(error: io::Error) -> Error {
    if error.kind() == ErrorKind::BrokenPipe {
        return Error::ClosedPipe;
    }
    Error::file("the content cannot be written to stdout", &error).hint("what came out is not whole: do not use it")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tag_is_behind_the_last_slash() {
        assert_eq!(without_tag("127.0.0.1:5000/store/app:1.4"), "127.0.0.1:5000/store/app");
        assert_eq!(without_tag("127.0.0.1:5000/store/app"), "127.0.0.1:5000/store/app");
        assert_eq!(without_tag("docker.io/library/alpine:3"), "docker.io/library/alpine");
    }

    #[test]
    fn only_plain_text_goes_to_a_terminal() {
        assert!(is_plain("{\n\t\"a\": \"é ✔\"}".as_bytes()));
        for steers in [&b"\x1b[2J"[..], b"\x7f", b"\xff\xfe", b"a\rb", "\u{202e}".as_bytes(), "\u{9b}1m".as_bytes()] {
            assert!(!is_plain(steers), "{steers:?}");
        }
    }

    #[test]
    fn what_passed_is_checked() {
        let empty = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
        Hash::of(empty).expect("known").check(empty).expect("nothing is empty");
        let mut other = Hash::of(empty).expect("known");
        other.update(b"x");
        assert_eq!(other.check(empty).expect_err("other bytes").reason(), "digest-mismatch");
        assert!(Hash::of("md5:00").is_err());
    }
}
