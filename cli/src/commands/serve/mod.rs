//! `larder serve`: what other tools need to know to read from the endpoint and to write to it.

mod config;

use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use clap::{Args, Subcommand};
use larder_proto::v1;
use serde_json::json;

use crate::connect::{Place, connect_to_running};
use crate::error::Error;
use crate::exit::Exit;
use crate::output::Output;
use config::{Endpoint, File, Registry, Tool};

/// The most bytes of the file that holds the endpoint's password.
const MAX_TOKEN: u64 = 4096;
/// The user name that stands beside the password; the endpoint takes any.
const USER: &str = "larder";

/// Let podman, docker, containerd and skopeo use the endpoint
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  larder serve print-config podman docker.io
  larder serve print-config containerd docker.io quay.io")]
pub(crate) struct Arguments {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    PrintConfig(PrintConfig),
}

/// Print what to paste into a tool's configuration, and into which file
///
/// With a REGISTRY, the tool takes that registry's images from here, under their own names, and from nowhere else: what the
/// gate refuses does not come by another way. (docker cannot be told that; the output says so.)
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  larder serve print-config podman docker.io > ~/.config/containers/registries.conf.d/larder.conf
  larder serve print-config containerd docker.io
  larder serve print-config docker --with-token     a client that runs as another user")]
struct PrintConfig {
    /// Whose configuration
    #[arg(value_enum)]
    tool: Tool,
    /// Registries whose images the tool takes from here
    #[arg(value_name = "REGISTRY")]
    registries: Vec<String>,
    /// Print the endpoint's password, too: clients of other users than the daemon's and root need it
    #[arg(long)]
    with_token: bool,
}

pub(super) async fn run(arguments: Arguments, output: &Output) -> Result<Exit, Error> {
    let Verb::PrintConfig(arguments) = arguments.verb;
    let registries = arguments.registries.iter().map(|text| Registry::parse(text)).collect::<Result<Vec<_>, _>>()?;
    let client = connect_to_running(&Place::from_environment()?).await?;
    let status = client.daemon().get_status(v1::GetStatusRequest {}).await?.into_inner();
    if status.endpoint == "off" {
        let hint = "give endpoint.address in config.toml or LARDER_ENDPOINT a loopback address, as 127.0.0.1:4470, then \
                    `larder daemon stop` and `larder daemon start`";
        return Err(Error::new("endpoint-off", "the endpoint is off: there is nothing to configure").hint(hint));
    }
    let login = if arguments.with_token { Some(login(Path::new(&status.home))?) } else { None };
    let endpoint = Endpoint { address: status.endpoint, login };
    let files = config::files(arguments.tool, &endpoint, &registries)?;
    if output.is_json() {
        let files: Vec<_> =
            files.iter().map(|file| json!({"path": file.path, "notes": file.notes, "content": file.content})).collect();
        output.document(&json!({"tool": arguments.tool.name(), "endpoint": endpoint.address, "files": files}))?;
    } else {
        output.data(files.iter().map(File::to_text).collect::<Vec<_>>().join("\n").trim_end())?;
    }
    if arguments.with_token {
        output.warn("this holds the endpoint's password: whoever reads it may read and write here");
    }
    Ok(Exit::Done)
}

/// Reads the password and returns it as HTTP Basic authentication has it.
fn login(home: &Path) -> Result<String, Error> {
    let path = home.join("endpoint.token");
    let read = super::read_small(&path, MAX_TOKEN)?;
    let token = String::from_utf8_lossy(&read);
    let token = token.trim();
    if token.is_empty() {
        let message = format!("{} holds no password", path.display());
        return Err(Error::new("file", message).hint("remove it and restart the daemon: it makes a new one"));
    }
    Ok(STANDARD.encode(format!("{USER}:{token}")))
}
