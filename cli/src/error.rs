//! Errors as people and scripts see them.

use std::io;

use serde_json::{Value, json};
use tonic::{Code, Status};
use tonic_types::StatusExt as _;

use crate::exit::Exit;

/// Why a run ends early.
#[derive(Debug)]
pub(crate) enum Error {
    /// Whoever read stdout went away: there is nobody left to tell.
    ClosedPipe,
    /// Something to tell.
    Told(Box<Told>),
}

/// An error in words.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Told {
    /// Stable, for scripts.
    pub(crate) reason: String,
    /// What happened to what.
    pub(crate) message: String,
    /// What to do about it.
    pub(crate) hint: String,
    /// How the run ends.
    pub(crate) exit: Exit,
}

/// What is not an error yet: it does not say what to do about it.
#[must_use]
#[derive(Debug)]
pub(crate) struct Unhinted {
    reason: String,
    message: String,
    exit: Exit,
}

impl Unhinted {
    /// Says what to do about it. An empty hint, as a daemon may send, becomes a general one.
    pub(crate) fn hint(self, hint: impl Into<String>) -> Error {
        let Self { reason, message, exit } = self;
        let hint = hint_or_general(hint.into(), &reason);
        Error::Told(Box::new(Told { reason, message, hint, exit }))
    }

    /// Sets how the run ends.
    pub(crate) fn exits(self, exit: Exit) -> Self {
        Self { exit, ..self }
    }
}

/// What can be done about anything.
const GENERAL: &str = "`larder daemon status` says how larderd is; larderd.log in its home says what it did";

/// Returns a hint, or in the place of an empty one what helps against most errors of its kind.
pub(crate) fn hint_or_general(hint: String, reason: &str) -> String {
    if !hint.is_empty() {
        return hint;
    }
    match reason {
        STOPPING | "interrupted" | "timeout" => "try again",
        _ if reason.starts_with("invalid-") => "nothing was changed; `--help` ends in examples",
        _ => GENERAL,
    }
    .to_owned()
}

/// Says what to do about an error of the system.
fn remedy_of(kind: io::ErrorKind) -> &'static str {
    match kind {
        io::ErrorKind::NotFound => "check the path, as it is seen from here",
        io::ErrorKind::PermissionDenied => "`ls -ld` shows who may; larder has the rights of whoever runs it",
        io::ErrorKind::IsADirectory => "it is a folder; name a file",
        io::ErrorKind::NotADirectory => "a part of the path is a file; check the path",
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => "free some space there, then try again",
        io::ErrorKind::ReadOnlyFilesystem => "that disk is mounted read-only; name another place",
        io::ErrorKind::InvalidData => "it has to be text in UTF-8; check whether it is the right file",
        _ => "look at it and at the disk that it is on, then try again",
    }
}

impl Error {
    /// Begins an error that ends the run with exit 1.
    #[expect(clippy::new_ret_no_self, reason = "it is an error when it says what to do about it")]
    pub(crate) fn new(reason: &str, message: impl Into<String>) -> Unhinted {
        Unhinted { reason: reason.to_owned(), message: message.into(), exit: Exit::Error }
    }

    /// Begins an error of wrong usage that the argument parser cannot see.
    pub(crate) fn usage(message: impl Into<String>) -> Unhinted {
        Self::new("usage", message).exits(Exit::Usage)
    }

    /// Builds an error of the system about a file, with a hint from its kind.
    pub(crate) fn file(what: &str, source: &io::Error) -> Self {
        let message = format!("{what}: {}", words_of(source));
        Self::new(FILE, message).hint(remedy_of(source.kind()))
    }

    /// Says better what to do about it.
    pub(crate) fn hint(mut self, hint: impl Into<String>) -> Self {
        if let Self::Told(told) = &mut self {
            told.hint = hint_or_general(hint.into(), &told.reason);
        }
        self
    }

    /// Says what else is to be known, behind what to do about it.
    pub(crate) fn and_hint(mut self, more: &str) -> Self {
        if let Self::Told(told) = &mut self {
            told.hint = format!("{}; {more}", told.hint);
        }
        self
    }

    /// Sets how the run ends.
    pub(crate) fn exits(mut self, exit: Exit) -> Self {
        if let Self::Told(told) = &mut self {
            told.exit = exit;
        }
        self
    }

    /// Puts words in front of the message, as the noun that the daemon could not know.
    pub(crate) fn about(mut self, noun: &str) -> Self {
        if let Self::Told(told) = &mut self {
            told.message = format!("{noun}: {}", told.message);
        }
        self
    }

    /// Puts words in front of the message, unless it has them.
    pub(crate) fn about_unless_named(self, noun: &str) -> Self {
        match &self {
            Self::Told(told) if !told.message.contains(noun) => self.about(noun),
            _ => self,
        }
    }

    /// Returns the stable reason.
    pub(crate) fn reason(&self) -> &str {
        match self {
            Self::ClosedPipe => "closed-pipe",
            Self::Told(told) => &told.reason,
        }
    }

    /// Returns how the run ends.
    pub(crate) fn exit(&self) -> Exit {
        match self {
            Self::ClosedPipe => Exit::Done,
            Self::Told(told) => told.exit,
        }
    }

    /// Says whether the daemon went away, and did not answer with an error.
    pub(crate) fn is_disconnected(&self) -> bool {
        matches!(self.reason(), DISCONNECTED | STOPPING | "not-running")
    }
}

/// The reason of what the system says about a file.
pub(crate) const FILE: &str = "file";
/// The reason of a connection that broke.
const DISCONNECTED: &str = "disconnected";
/// The daemon's reason for ending a call because it stops.
const STOPPING: &str = "stopping";

impl Told {
    /// Returns the object that stands on stderr with `--output json`.
    pub(crate) fn to_json(&self) -> Value {
        json!({"error": {"reason": self.reason, "message": self.message, "hint": self.hint}})
    }
}

impl From<Status> for Error {
    fn from(status: Status) -> Self {
        let details = status.get_error_details();
        if let Some(info) = details.error_info().filter(|info| info.domain == larder_proto::ERROR_DOMAIN) {
            let exit = if info.reason == "rebuilding" { Exit::Pending } else { Exit::Error };
            let hint = info.metadata.get("hint").cloned().unwrap_or_default();
            return Self::new(&info.reason, status.message()).exits(exit).hint(hint);
        }
        match status.code() {
            Code::Unimplemented => Self::new("too-old", "larderd does not know this request: it is older than larder")
                .hint("`larder daemon stop`, so that the larderd beside this larder is started"),
            Code::OutOfRange | Code::ResourceExhausted => {
                Self::new("too-large", "larderd's answer is larger than larder takes")
                    .hint("ask for less at once: a repository, or a glob over some")
            }
            // Whatever tonic makes of a connection that broke; the daemon's own errors have a reason.
            _ => Self::new(DISCONNECTED, "larderd went away before it answered")
                .hint("`larder daemon status` says whether it runs; larderd.log in its home says why it ended"),
        }
    }
}

/// Cuts the number that stands behind the system's words.
pub(crate) fn without_number(text: &str) -> &str {
    text.split(" (os error ").next().unwrap_or_default()
}

/// Says what the system said, in words and without its number.
pub(crate) fn words_of(error: &io::Error) -> String {
    let text = error.to_string();
    let words = without_number(&text);
    let mut letters = words.chars();
    match letters.next() {
        Some(first) => first.to_lowercase().chain(letters).collect(),
        None => "the system refused".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use tonic_types::ErrorDetails;

    use super::*;

    fn told(error: Error) -> Told {
        match error {
            Error::Told(told) => *told,
            Error::ClosedPipe => panic!("an error without words"),
        }
    }

    #[test]
    fn a_status_shows_its_reason_and_hint_and_no_code() {
        let hint = HashMap::from([("hint".to_owned(), "`larder pull x`".to_owned())]);
        let details = ErrorDetails::with_error_info("not-held", larder_proto::ERROR_DOMAIN, hint);
        let status = Status::with_error_details(Code::NotFound, "x is not here", details);
        let told = told(status.into());
        assert_eq!((told.reason.as_str(), told.message.as_str()), ("not-held", "x is not here"));
        assert_eq!(told.hint, "`larder pull x`");
        assert_eq!(told.exit, Exit::Error);
        assert_eq!(
            told.to_json().to_string(),
            r#"{"error":{"reason":"not-held","message":"x is not here","hint":"`larder pull x`"}}"#
        );
    }

    #[test]
    fn what_is_rebuilding_is_pending() {
        let details = ErrorDetails::with_error_info("rebuilding", larder_proto::ERROR_DOMAIN, HashMap::new());
        let status = Status::with_error_details(Code::Unavailable, "the index is being rebuilt", details);
        let told = told(status.into());
        assert_eq!((told.exit, told.hint.as_str()), (Exit::Pending, GENERAL), "and an empty hint is none");
    }

    #[test]
    fn a_status_without_reason_is_a_broken_connection() {
        let error = Error::from(Status::unknown("h2 protocol error: BrokenPipe"));
        assert!(error.is_disconnected());
        let message = told(error).message;
        assert!(!message.contains("h2"), "{message}");
    }

    #[test]
    fn the_systems_words_have_no_number() {
        assert_eq!(words_of(&io::Error::from_raw_os_error(2)), "no such file or directory");
        assert_eq!(words_of(&io::Error::other("Odd")), "odd");
    }

    #[test]
    fn an_error_of_a_file_says_what_to_do() {
        let full = told(Error::file("x", &io::Error::from_raw_os_error(28)));
        assert_eq!((full.message.as_str(), full.hint.contains("space")), ("x: no space left on device", true));
        let better = told(Error::file("x", &io::Error::from_raw_os_error(2)).hint("`touch x`"));
        assert_eq!(better.hint, "`touch x`");
        assert_eq!(
            told(Error::Told(Box::new(better)).and_hint("nothing was changed")).hint,
            "`touch x`; nothing was changed"
        );
    }
}
