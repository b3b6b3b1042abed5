//! `larder copy`: a pull and a push.

use clap::Args;
use larder_core::Reference;
use larder_proto::v1;

use super::{inspect, pull, push};
use crate::connect::{Client, connect};
use crate::error::Error;
use crate::exit::Exit;
use crate::habits::Registry;
use crate::output::Output;

/// Copy an image with all that is attached to it, as `cosign copy` does
///
/// A pull and a push: what was copied is held here afterwards, and judged like everything else. What is attached goes along,
/// classic signatures, attestations, SBOMs and referrers; signatures that are there already stay.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  larder copy registry.example.org/store/app:1.4 mirror.example.org/store/app:1.4
  larder copy --force registry.example.org/store/app:1.4 mirror.example.org/store/app:latest
  larder copy --platform linux/arm64 docker.io/library/alpine:3.22 registry.example.org/base/alpine:arm64")]
pub(crate) struct Arguments {
    /// What to copy; a local repository's image is taken as it is held
    #[arg(value_name = "SRC")]
    source: String,
    /// Where to
    #[arg(value_name = "DST")]
    destination: String,
    /// Overwrite another image that is there
    #[arg(short, long)]
    force: bool,
    /// Of an index, copy this image alone [default: all of it]
    #[arg(long, value_name = "OS/ARCH")]
    platform: Option<String>,
    #[command(flatten)]
    registry: Registry,
}

pub(super) async fn run(arguments: Arguments, output: &Output) -> Result<Exit, Error> {
    let Arguments { source, destination, force, platform, registry } = arguments;
    registry.tell(output);
    let is_local = |name: &str| name.parse::<Reference>().is_ok_and(|parsed| parsed.repository.is_local());
    if is_local(&destination) {
        return Err(Error::usage(format!("{destination} is no place at a registry"))
            .hint(format!("`larder tag {source} {destination}` names what is held here")));
    }
    if !is_local(&source) {
        let wanted = platform.clone().unwrap_or_else(|| "all".to_owned());
        let pulled = pull::run(pull::Arguments::one(source.clone(), wanted), output).await?;
        if pulled != Exit::Done {
            return Ok(pulled);
        }
    }
    let client = connect(output).await?;
    let source = inspect::image_of(&client, &source, platform.as_deref()).await?;
    if !force {
        check_free(&client, &source, &destination).await?;
    }
    push::run(push::Arguments::of(source, destination), output).await
}

/// Makes sure that nothing else is at the destination, for nobody said that it may be overwritten.
async fn check_free(client: &Client, source: &str, destination: &str) -> Result<(), Error> {
    let request = v1::ResolveReferenceRequest { reference: source.to_owned() };
    let held = client.artifacts().resolve_reference(request).await?.into_inner();
    let request = v1::ResolveRemoteRequest { reference: destination.to_owned() };
    let there = match client.artifacts().resolve_remote(request).await.map_err(Error::from) {
        Ok(there) => there.into_inner(),
        Err(error) if error.reason() == "not-found" => return Ok(()),
        Err(error) => return Err(error),
    };
    if there.digest == held.digest {
        return Ok(());
    }
    Err(Error::new("occupied", format!("{destination} is there already, and is another image ({})", there.digest))
        .hint("`--force` overwrites it; nothing was pushed"))
}
