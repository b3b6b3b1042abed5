//! `larderd`: parse, build, run.

use std::process::ExitCode;

use clap::Parser;
use larderd::app::App;
use larderd::config::Config;
use tracing_subscriber::EnvFilter;

/// Keeps offline, verified copies of container images, their signatures and their SBOMs.
///
/// Where everything lives is said by LARDER_HOME, LARDER_SOCKET and LARDER_ENDPOINT and by
/// config.toml in the home. `larder` starts larderd by itself.
#[derive(Parser)]
#[command(version, after_help = "Example:\n  LARDER_HOME=/srv/larder larderd")]
struct Arguments {}

fn main() -> ExitCode {
    let Arguments {} = Arguments::parse();
    let filter = EnvFilter::try_from_env("LARDER_LOG").unwrap_or_else(|_| EnvFilter::new("warn,larderd=info"));
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).with_ansi(false).init();
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> anyhow::Result<()> {
    let config = Config::from_environment(|name| std::env::var_os(name))?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().thread_name("larderd").build()?;
    runtime.block_on(async { App::build(config).await?.run().await })
}
