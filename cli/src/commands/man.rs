//! `larder man`.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use clap::{Args, Command, CommandFactory as _};
use clap_mangen::Man;
use serde_json::json;

use crate::error::Error;
use crate::exit::Exit;
use crate::output::{Output, text};

/// Write the manual's pages into a folder
///
/// One page a verb, in section 1: larder.1, larder-pull.1, larder-trust-add.1 and so on. Files of these names are replaced.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  larder man ~/.local/share/man/man1 && man larder-pull
  sudo larder man /usr/local/share/man/man1")]
pub(crate) struct Arguments {
    /// The folder; it is made where it is not there
    #[arg(value_name = "DIR")]
    folder: PathBuf,
}

pub(super) fn run(arguments: &Arguments, output: &Output) -> Result<Exit, Error> {
    let folder = &arguments.folder;
    let pages = write(folder).map_err(|(path, error)| {
        Error::file(&path.display().to_string(), &error).hint("name a folder that you may write to")
    })?;
    if output.is_json() {
        output.document(&json!({"folder": folder, "pages": pages}))?;
        return Ok(Exit::Done);
    }
    let count = text::count(pages.len() as u64, "page");
    output.say(&format!(
        "{count} written to {}; `man {}` reads the first",
        folder.display(),
        folder.join("larder.1").display()
    ));
    Ok(Exit::Done)
}

/// Writes all pages and returns their names, in order; the error is about the path beside it.
fn write(folder: &Path) -> Result<Vec<String>, (PathBuf, io::Error)> {
    fs::create_dir_all(folder).map_err(|error| (folder.to_owned(), error))?;
    let mut command = crate::Arguments::command().disable_help_subcommand(true);
    // Names, usage and global options reach the verbs only when it is built.
    command.build();
    let mut pages = Vec::new();
    collect(&command, "larder", &mut pages);
    let mut names = Vec::new();
    for (name, page) in pages {
        let name = format!("{name}.1");
        let path = folder.join(&name);
        fs::write(&path, page).map_err(|error| (path, error))?;
        names.push(name);
    }
    Ok(names)
}

fn collect(command: &Command, name: &str, pages: &mut Vec<(String, String)>) {
    let mut page = Vec::new();
    // Into memory nothing fails to be written.
    let page_of = Man::new(command.clone()).manual("Larder").source(concat!("larder ", env!("CARGO_PKG_VERSION")));
    if page_of.render(&mut page).is_ok() {
        // The generator's name for exit codes and examples says nothing.
        let page = String::from_utf8_lossy(&page).replace(".SH EXTRA\n", ".SH NOTES\n");
        pages.push((name.to_owned(), page));
    }
    for verb in command.get_subcommands().filter(|verb| !verb.is_hide_set()) {
        collect(verb, &format!("{name}-{}", verb.get_name()), pages);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_verb_has_a_page_that_says_what_it_is_for() {
        let folder = tempfile::tempdir().expect("a folder");
        let names = write(&folder.path().join("man1")).expect("pages");
        assert_eq!(names.first().map(String::as_str), Some("larder.1"));
        for name in ["larder-pull.1", "larder-trust-add.1", "larder-daemon-status.1"] {
            assert!(names.iter().any(|one| one == name), "{name} in {names:?}");
        }
        assert!(!names.iter().any(|name| name.contains("detached") || name.contains("help")), "{names:?}");
        let page = fs::read_to_string(folder.path().join("man1/larder-pull.1")).expect("a page");
        for words in ["NAME", "larder\\-pull", ".SH NOTES", "Examples", "\\-\\-platform"] {
            assert!(page.contains(words), "{words}: {page}");
        }
    }
}
