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
    pub(crate) hint: Option<String>,
    /// How the run ends.
    pub(crate) exit: Exit,
}

impl Error {
    /// Builds an error that ends the run with exit 1.
    pub(crate) fn new(reason: &str, message: impl Into<String>) -> Self {
        Self::Told(Box::new(Told { reason: reason.to_owned(), message: message.into(), hint: None, exit: Exit::Error }))
    }

    /// Builds an error of wrong usage that the argument parser cannot see.
    pub(crate) fn usage(message: impl Into<String>) -> Self {
        Self::new("usage", message).exits(Exit::Usage)
    }

    /// Builds an error of the system about a file.
    pub(crate) fn file(what: &str, source: &io::Error) -> Self {
        Self::new("file", format!("{what}: {}", words_of(source)))
    }

    /// Adds what to do about it; an empty hint is none.
    pub(crate) fn hint(mut self, hint: impl Into<String>) -> Self {
        if let Self::Told(told) = &mut self {
            told.hint = Some(hint.into()).filter(|hint| !hint.is_empty());
        }
        self
    }

    /// Adds what to do about it, where nothing better is known.
    pub(crate) fn or_hint(mut self, hint: &str) -> Self {
        if let Self::Told(told) = &mut self {
            told.hint.get_or_insert_with(|| hint.to_owned());
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
            return Self::new(&info.reason, status.message()).hint(hint).exits(exit);
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

/// Says what the system said, in words and without its number.
pub(crate) fn words_of(error: &io::Error) -> String {
    let text = error.to_string();
    let words = text.split(" (os error").next().unwrap_or_default();
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
        assert_eq!(told.hint.as_deref(), Some("`larder pull x`"));
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
        assert_eq!(Error::from(status).exit(), Exit::Pending);
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
}
