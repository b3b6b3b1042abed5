//! Questions at the terminal, and passwords.

use std::env;
use std::io::{self, BufRead as _, IsTerminal as _, Read as _, Write as _};

use rustix::termios::{LocalModes, OptionalActions, Termios, tcgetattr, tcsetattr};
use zeroize::Zeroizing;

use crate::error::Error;

/// Holds the password, as cosign has it; a variable that is set and empty is the empty password.
pub(crate) const PASSWORD_VARIABLE: &str = "COSIGN_PASSWORD";
/// The longest password that is read from a pipe.
const MAX_PASSWORD: u64 = 64 << 10;

/// Whether a password is asked for once, or twice because a new key will depend on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Asked {
    /// Once: a wrong one is noticed.
    Once,
    /// Twice.
    Twice,
}

/// Gets the password of a private key: from `COSIGN_PASSWORD`, else at the terminal without echo, else all of stdin,
/// untouched (a newline at its end is part of it, as with cosign).
///
/// # Errors
/// Fails where it cannot be read, or two differ.
pub(crate) fn password(asked: Asked) -> Result<Zeroizing<Vec<u8>>, Error> {
    if let Some(value) = env::var_os(PASSWORD_VARIABLE) {
        return Ok(Zeroizing::new(value.into_encoded_bytes()));
    }
    let unreadable = |error: io::Error| {
        Error::file("the password cannot be read", &error).hint("COSIGN_PASSWORD may hold it, or stdin")
    };
    if !io::stdin().is_terminal() {
        // With room for all of it, so that no part stays behind in memory that was outgrown.
        let mut bytes = Zeroizing::new(Vec::with_capacity(MAX_PASSWORD as usize + 1));
        io::stdin().lock().take(MAX_PASSWORD + 1).read_to_end(&mut bytes).map_err(unreadable)?;
        if bytes.len() as u64 > MAX_PASSWORD {
            return Err(too_long());
        }
        return Ok(bytes);
    }
    let first = read_hidden("Enter password for private key: ").map_err(unreadable)?;
    if asked == Asked::Twice {
        let second = read_hidden("Enter password for private key again: ").map_err(unreadable)?;
        if *first != *second {
            return Err(Error::new("password", "the two passwords differ").hint("nothing was written; try again"));
        }
    }
    Ok(first)
}

fn too_long() -> Error {
    Error::new("password", "the password on stdin is longer than 64 KiB").hint("is it the right file that is piped in?")
}

/// Reads a secret of one line from a pipe, without the end of the line.
///
/// # Errors
/// Fails where it cannot be read, is no text, or is too long.
pub(crate) fn piped_line() -> Result<Zeroizing<String>, Error> {
    let mut text = Zeroizing::new(String::with_capacity(MAX_PASSWORD as usize + 1));
    let read = io::stdin().lock().take(MAX_PASSWORD + 1).read_to_string(&mut text);
    read.map_err(|error| Error::file("the password on stdin", &error))?;
    if text.len() as u64 > MAX_PASSWORD {
        return Err(too_long());
    }
    let line = text.strip_suffix('\n').unwrap_or(&text);
    let line = line.strip_suffix('\r').unwrap_or(line);
    Ok(Zeroizing::new(line.to_owned()))
}

/// Asks for a secret at the terminal, without echo; `None` where there is no terminal.
///
/// # Errors
/// Fails where it cannot be read, or is no text.
pub(crate) fn hidden_line(question: &str) -> Result<Option<Zeroizing<String>>, Error> {
    if !io::stdin().is_terminal() {
        return Ok(None);
    }
    let bytes = read_hidden(question).map_err(|error| Error::file("the password cannot be read", &error))?;
    let text = std::str::from_utf8(&bytes).map_err(|_| {
        Error::new("password", "the password is no text").hint("registries take passwords in UTF-8; try again")
    })?;
    Ok(Some(Zeroizing::new(text.to_owned())))
}

/// Asks for a line at the terminal; `None` where there is no terminal.
///
/// # Errors
/// Fails where it cannot be read.
pub(crate) fn line(question: &str) -> Result<Option<String>, Error> {
    if !io::stdin().is_terminal() {
        return Ok(None);
    }
    eprint!("{question}");
    let mut answer = String::new();
    let read = io::stdin().lock().take(1024).read_line(&mut answer);
    read.map_err(|error| Error::file("the answer cannot be read", &error))?;
    Ok(Some(answer.trim().to_owned()))
}

/// Asks a question; anything but yes is no.
///
/// # Errors
/// Fails where the terminal cannot be read.
pub(crate) fn confirmed(question: &str) -> Result<bool, Error> {
    eprint!("{question} [y/N] ");
    let mut answer = String::new();
    let read = io::stdin().lock().take(64).read_line(&mut answer);
    read.map_err(|error| Error::file("the answer cannot be read", &error))?;
    Ok(matches!(answer.trim().to_lowercase().as_str(), "y" | "yes"))
}

/// Says whether somebody is there to answer.
pub(crate) fn somebody_answers() -> bool {
    io::stdin().is_terminal() && io::stderr().is_terminal()
}

/// A terminal that shows nothing of what is typed, until this is dropped.
struct Hidden(Termios);

impl Hidden {
    fn new() -> io::Result<Self> {
        let before = tcgetattr(io::stdin())?;
        let mut hidden = before.clone();
        // Ctrl-C comes as a byte, too: a signal would end the process and leave the terminal without echo.
        hidden.local_modes &= !(LocalModes::ECHO | LocalModes::ICANON | LocalModes::ISIG);
        tcsetattr(io::stdin(), OptionalActions::Flush, &hidden)?;
        Ok(Self(before))
    }
}

impl Drop for Hidden {
    fn drop(&mut self) {
        let _ = tcsetattr(io::stdin(), OptionalActions::Flush, &self.0);
        eprintln!();
    }
}

fn read_hidden(prompt: &str) -> io::Result<Zeroizing<Vec<u8>>> {
    const CTRL_C: u8 = 3;
    const CTRL_D: u8 = 4;
    const BACKSPACE: u8 = 8;
    const DELETE: u8 = 127;
    eprint!("{prompt}");
    io::stderr().flush()?;
    let hidden = Hidden::new()?;
    let mut password = Zeroizing::new(Vec::with_capacity(1024));
    let mut stdin = io::stdin().lock();
    loop {
        let mut byte = Zeroizing::new([0]);
        if stdin.read(byte.as_mut_slice())? == 0 {
            break;
        }
        match byte[0] {
            b'\n' | b'\r' | CTRL_D => break,
            CTRL_C => {
                drop(hidden);
                return Err(io::Error::new(io::ErrorKind::Interrupted, "stopped at the terminal"));
            }
            BACKSPACE | DELETE => {
                // A whole character, not its last byte.
                while password.pop().is_some_and(|byte| byte & 0xc0 == 0x80) {}
            }
            _ if password.len() == password.capacity() => {
                return Err(io::Error::new(io::ErrorKind::InvalidInput, "it is longer than 1 KiB"));
            }
            byte => password.push(byte),
        }
    }
    Ok(password)
}
