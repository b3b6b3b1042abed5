//! The verbs, one file each: parse, ask the daemon, show.

mod attach;
mod attach_evidence;
mod attest;
mod cat;
mod clean;
mod completion;
mod copy;
mod daemon;
mod download;
mod explain;
mod inspect;
mod key;
mod key_place;
mod load;
mod log;
mod login;
mod ls;
mod man;
mod pull;
mod push;
mod quickstart;
mod rm;
mod save;
mod sbom;
mod serve;
mod show;
mod sign;
mod status;
mod tag;
mod tree;
mod triangulate;
mod trust;
mod verify;
mod verify_attestation;
pub(crate) mod verify_blob;
mod verify_blob_attestation;
mod watch;

use std::fs::File;
use std::io::Read as _;
use std::path::Path;

use clap::Subcommand;

use crate::error::Error;
use crate::exit::Exit;
use crate::output::Output;

/// What is to be done.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    Pull(pull::Arguments),
    Push(push::Arguments),
    Save(save::Arguments),
    Load(load::Arguments),
    Ls(ls::Arguments),
    Show(show::Arguments),
    Cat(cat::Arguments),
    Tree(tree::Arguments),
    Inspect(inspect::Arguments),
    Tag(tag::Arguments),
    Rm(rm::Arguments),
    Status(status::Arguments),
    Explain(explain::Arguments),
    Verify(Box<verify::Arguments>),
    VerifyAttestation(Box<verify_attestation::Arguments>),
    VerifyBlob(Box<verify_blob::Arguments>),
    VerifyBlobAttestation(Box<verify_blob_attestation::Arguments>),
    Watch(watch::Arguments),
    Log(log::Arguments),
    Trust(trust::Arguments),
    Key(key::Arguments),
    Sign(sign::Arguments),
    Attest(attest::Arguments),
    /// cosign's name for `larder key generate`
    #[command(hide = true)]
    GenerateKeyPair(key::Generate),
    /// cosign's name for `larder key import`
    #[command(hide = true)]
    ImportKeyPair(key::Import),
    /// cosign's name for `larder key public`
    #[command(hide = true)]
    PublicKey(key::Public),
    Copy(copy::Arguments),
    Attach(attach::Arguments),
    Sbom(sbom::Arguments),
    Download(download::Arguments),
    Clean(clean::Arguments),
    Triangulate(triangulate::Arguments),
    Serve(serve::Arguments),
    Login(login::Login),
    Logout(login::Logout),
    Daemon(daemon::Arguments),
    Quickstart(quickstart::Arguments),
    Completion(completion::Arguments),
    Man(man::Arguments),
}

impl Command {
    /// Says whether it has cosign's exit codes.
    pub(crate) fn is_verify(&self) -> bool {
        matches!(
            self,
            Self::Verify(_) | Self::VerifyAttestation(_) | Self::VerifyBlob(_) | Self::VerifyBlobAttestation(_)
        )
    }

    /// Runs it.
    ///
    /// # Errors
    /// Fails with what is to be told.
    pub(crate) async fn run(self, output: &Output) -> Result<Exit, Error> {
        match self {
            Self::Pull(arguments) => pull::run(arguments, output).await,
            Self::Push(arguments) => push::run(arguments, output).await,
            Self::Save(arguments) => save::run(arguments, output).await,
            Self::Load(arguments) => load::run(arguments, output).await,
            Self::Ls(arguments) => ls::run(arguments, output).await,
            Self::Show(arguments) => show::run(arguments, output).await,
            Self::Cat(arguments) => cat::run(arguments, output).await,
            Self::Tree(arguments) => tree::run(arguments, output).await,
            Self::Inspect(arguments) => inspect::run(arguments, output).await,
            Self::Tag(arguments) => tag::run(arguments, output).await,
            Self::Rm(arguments) => rm::run(arguments, output).await,
            Self::Status(arguments) => status::run(arguments, output).await,
            Self::Explain(arguments) => explain::run(arguments, output).await,
            Self::Verify(arguments) => verify::run(*arguments, output).await,
            Self::VerifyAttestation(arguments) => verify_attestation::run(*arguments, output).await,
            Self::VerifyBlob(arguments) => verify_blob::run(&arguments, output),
            Self::VerifyBlobAttestation(arguments) => verify_blob_attestation::run(&arguments, output),
            Self::Watch(arguments) => watch::run(arguments, output).await,
            Self::Log(arguments) => log::run(arguments, output).await,
            Self::Trust(arguments) => trust::run(arguments, output).await,
            Self::Key(arguments) => key::run(arguments, output),
            Self::Sign(arguments) => sign::run(arguments, output).await,
            Self::Attest(arguments) => attest::run(arguments, output).await,
            Self::GenerateKeyPair(arguments) => key::generate(&arguments, output),
            Self::ImportKeyPair(arguments) => key::import(&arguments, output),
            Self::PublicKey(arguments) => key::public(&arguments, output),
            Self::Copy(arguments) => copy::run(arguments, output).await,
            Self::Attach(arguments) => attach::run(arguments, output).await,
            Self::Sbom(arguments) => sbom::run(arguments, output).await,
            Self::Download(arguments) => download::run(arguments, output).await,
            Self::Clean(arguments) => clean::run(arguments, output).await,
            Self::Triangulate(arguments) => triangulate::run(arguments, output).await,
            Self::Serve(arguments) => serve::run(arguments, output).await,
            Self::Login(arguments) => login::login(arguments, output).await,
            Self::Logout(arguments) => login::logout(arguments, output).await,
            Self::Daemon(arguments) => daemon::run(arguments, output).await,
            Self::Quickstart(arguments) => quickstart::run(arguments, output).await,
            Self::Completion(arguments) => completion::run(&arguments, output),
            Self::Man(arguments) => man::run(&arguments, output),
        }
    }
}

/// Reads a small file whole.
///
/// # Errors
/// Fails where it cannot be read, or is larger than `limit`.
fn read_small(path: &Path, limit: u64) -> Result<Vec<u8>, Error> {
    let name = path.display().to_string();
    let mut bytes = Vec::new();
    let read = File::open(path).and_then(|file| file.take(limit + 1).read_to_end(&mut bytes));
    read.map_err(|error| Error::file(&name, &error).and_hint("nothing was changed"))?;
    if bytes.len() as u64 > limit {
        return Err(Error::new("file", format!("{name} is larger than {} KiB: it is no key file", limit >> 10))
            .hint("`larder key generate` makes key files; nothing was changed"));
    }
    Ok(bytes)
}
