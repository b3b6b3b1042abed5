//! `larder completion`.

use clap::{Args, CommandFactory as _};
use clap_complete::{Shell, generate};

use crate::error::Error;
use crate::exit::Exit;
use crate::output::Output;

/// Print a completion script for a shell
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  larder completion bash > ~/.local/share/bash-completion/completions/larder
  larder completion zsh > ~/.zfunc/_larder      # with `fpath+=~/.zfunc` in ~/.zshrc
  larder completion fish > ~/.config/fish/completions/larder.fish")]
pub(crate) struct Arguments {
    /// The shell
    #[arg(value_enum, value_name = "SHELL")]
    shell: Shell,
}

pub(super) fn run(arguments: &Arguments, output: &Output) -> Result<Exit, Error> {
    let mut script = Vec::new();
    generate(arguments.shell, &mut crate::Arguments::command(), "larder", &mut script);
    output.content(&script)?;
    Ok(Exit::Done)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_shell_gets_every_verb() {
        use clap::ValueEnum as _;
        for shell in Shell::value_variants() {
            let mut script = Vec::new();
            generate(*shell, &mut crate::Arguments::command(), "larder", &mut script);
            let script = String::from_utf8(script).expect("a script");
            for verb in ["pull", "quickstart", "completion"] {
                assert!(script.contains(verb), "{shell}: {verb}");
            }
        }
    }
}
