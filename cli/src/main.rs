//! `larder`: parse, run, exit.

mod archive;
mod commands;
mod connect;
mod error;
mod exit;
mod habits;
mod key_file;
mod launch;
mod output;
mod progress;
mod prompt;
mod sigstore;
mod upload;

use std::ffi::OsString;
use std::process::ExitCode;

use clap::builder::{EnumValueParser, TypedValueParser as _};
use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{CommandFactory as _, Parser};

use commands::Command;
use error::{Error, Told};
use exit::Exit;
use output::{Format, Output, OutputArgument, Talk};

/// Keeps offline, verified copies of container images, their signatures and their SBOMs, and knows at every moment
/// which of them are still trusted.
#[derive(Debug, Parser)]
#[command(
    name = "larder",
    version,
    max_term_width = 100,
    after_help = "Examples:
  larder quickstart                            see it work, on real parts in a throw-away home
  larder pull docker.io/library/alpine:3.22
  larder status"
)]
struct Arguments {
    /// How results are written: for people, or for scripts [default: text]
    #[arg(short, long, global = true, value_name = "FORMAT",
          value_parser = EnumValueParser::<Format>::new().map(OutputArgument::Format))]
    output: Option<OutputArgument>,
    /// Print only results
    #[arg(short, long, global = true, conflicts_with = "verbose")]
    quiet: bool,
    /// Print what was asked of whom, too
    #[arg(short, long, short_alias = 'd', global = true)]
    verbose: bool,
    /// cosign's, which has no meaning here: each step has a limit of its own
    #[arg(short, long, global = true, hide = true, value_name = "DURATION")]
    timeout: Option<String>,
    #[command(flatten)]
    remote: connect::remote::RemoteArguments,
    #[command(subcommand)]
    command: Command,
}

fn main() -> ExitCode {
    let arguments = habits::translated(std::env::args_os().collect());
    let exit = match Arguments::try_parse_from(&arguments) {
        Ok(parsed) => run(parsed),
        Err(error) => explain_usage(&error, &arguments),
    };
    ExitCode::from(exit.code())
}

fn run(arguments: Arguments) -> Exit {
    let talk = match (arguments.quiet, arguments.verbose) {
        (true, _) => Talk::Quiet,
        (_, true) => Talk::Verbose,
        _ => Talk::Normal,
    };
    let output = Output::new(arguments.output.as_ref().and_then(OutputArgument::format), talk);
    let is_verify = arguments.command.is_verify();
    let Arguments { command, remote, .. } = arguments;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let ended = match runtime {
        Ok(runtime) => remote.choose().and_then(|()| runtime.block_on(command.run(&output))),
        Err(error) => Err(Error::file("larder cannot be set up", &error)),
    };
    let exit = match ended {
        Ok(exit) => exit,
        Err(error) => {
            if let Error::Told(told) = &error {
                output.error(told);
            }
            error.exit()
        }
    };
    // cosign's codes know neither usage nor pending.
    if is_verify && matches!(exit, Exit::Usage | Exit::Pending | Exit::NotAccepted) { Exit::Error } else { exit }
}

/// Prints what the parser says: help and version are no errors.
fn explain_usage(error: &clap::Error, arguments: &[OsString]) -> Exit {
    match refused(error) {
        Some(told) => Output::new(None, Talk::Normal).error(&told),
        // Whoever closed the stream cannot be told.
        None => drop(error.print()),
    }
    match error.kind() {
        ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => Exit::Done,
        _ if asks_for_verify(arguments) => Exit::Error,
        _ => Exit::Usage,
    }
}

/// Says why a flag of cosign's is not taken, where that is what does not parse.
fn refused(error: &clap::Error) -> Option<Box<Told>> {
    let Some(ContextValue::String(flag)) = error.get(ContextKind::InvalidArg) else { return None };
    match habits::explain(flag).filter(|_| error.kind() == ErrorKind::UnknownArgument)? {
        Error::Told(told) => Some(told),
        Error::ClosedPipe => None,
    }
}

/// Says whether a command line that does not parse was meant for `verify`, or for one of its kind.
fn asks_for_verify(arguments: &[OsString]) -> bool {
    let parsed = Arguments::command().ignore_errors(true).try_get_matches_from(arguments);
    parsed.is_ok_and(|matches| {
        matches!(
            matches.subcommand_name(),
            Some("verify" | "verify-attestation" | "verify-blob" | "verify-blob-attestation")
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn usage(words: &[&str]) -> Exit {
        let words: Vec<OsString> = words.iter().map(OsString::from).collect();
        match Arguments::try_parse_from(&words) {
            Ok(_) => Exit::Done,
            Err(error) if matches!(error.kind(), ErrorKind::DisplayHelp | ErrorKind::DisplayVersion) => Exit::Done,
            Err(_) if asks_for_verify(&words) => Exit::Error,
            Err(_) => Exit::Usage,
        }
    }

    #[test]
    fn the_command_line_is_sound() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn wrong_usage_is_2_and_for_verify_1() {
        assert_eq!(usage(&["larder", "pull"]), Exit::Usage);
        assert_eq!(usage(&["larder", "frobnicate"]), Exit::Usage);
        assert_eq!(usage(&["larder"]), Exit::Usage);
        assert_eq!(usage(&["larder", "verify"]), Exit::Error);
        assert_eq!(usage(&["larder", "verify", "--no-such-flag", "x"]), Exit::Error);
        assert_eq!(usage(&["larder", "--output", "json", "verify", "x", "--key"]), Exit::Error);
        assert_eq!(usage(&["larder", "pull", "--frobnicate", "verify"]), Exit::Usage);
        assert_eq!(usage(&["larder", "verify", "x", "--output", "json"]), Exit::Done);
    }

    #[test]
    fn every_verb_ends_its_help_in_examples() {
        fn check(command: &clap::Command, path: &str) {
            for verb in command.get_subcommands().filter(|verb| !verb.is_hide_set() && verb.get_name() != "help") {
                let path = format!("{path} {}", verb.get_name());
                let after = verb.get_after_help().map(ToString::to_string).unwrap_or_default();
                let examples = after.lines().filter(|line| line.contains("larder")).count();
                assert!(examples >= 1, "{path} has no examples");
                assert!(verb.get_about().is_some(), "{path} does not say what it is for");
                check(verb, &path);
            }
        }
        check(&Arguments::command(), "larder");
    }
}
