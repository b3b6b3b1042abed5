//! `larderd`: parse, build, run.

use std::process::ExitCode;
use std::time::Duration;

use clap::{Parser, Subcommand};
use larderd::app::App;
use larderd::check_config;
use larderd::config::Config;
use larderd::telemetry::log::{self, LogFormat, LogLevel};

/// How long a blocking call that is under way may take when everything else has ended.
const LAST_CALLS: Duration = Duration::from_secs(2);

/// Keeps offline, verified copies of container images, their signatures and their SBOMs.
///
/// Where everything lives is said by LARDER_HOME, LARDER_SOCKET and LARDER_ENDPOINT and by
/// config.toml in the home. `larder` starts larderd by itself.
#[derive(Parser)]
#[command(
    version,
    max_term_width = 100,
    after_help = "Examples:\n  LARDER_HOME=/srv/larder larderd --log-format json\n  LARDER_HOME=/srv/larder larderd check-config"
)]
struct Arguments {
    /// How much is logged: off, error, warn, info, debug, trace, or filters as larderd::remote=debug
    #[arg(long, env = "LARDER_LOG", value_name = "LEVEL", global = true)]
    log_level: Option<LogLevel>,
    /// How lines of the log are written
    #[arg(long, env = "LARDER_LOG_FORMAT", value_enum, value_name = "FORMAT", global = true)]
    log_format: Option<LogFormat>,
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Subcommand)]
enum Command {
    /// Reads config.toml and the trust folder, says what would hold, and starts nothing
    #[command(after_help = "Example:\n  LARDER_HOME=/srv/larder larderd check-config")]
    CheckConfig,
}

fn main() -> ExitCode {
    match run(Arguments::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: Arguments) -> anyhow::Result<()> {
    let config = Config::from_environment(|name| std::env::var_os(name))?;
    if let Some(Command::CheckConfig) = arguments.command {
        return check_config::check(&config);
    }
    log::begin(
        &arguments.log_level.unwrap_or_else(|| config.log.level.clone()),
        arguments.log_format.unwrap_or(config.log.format),
    );
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().thread_name("larderd").build()?;
    let ran = runtime.block_on(async { App::build(config).await?.run().await });
    // A disk or a name server that hangs must not keep the process.
    runtime.shutdown_timeout(LAST_CALLS);
    ran
}
