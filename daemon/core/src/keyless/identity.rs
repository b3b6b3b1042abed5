//! Identities that a signer's certificate may have.

use std::collections::BTreeMap;

use regex::{Regex, RegexBuilder};

use super::evidence::CertificateFacts;

/// The most bytes that a compiled expression may take: a policy is read by the daemon.
const MAX_EXPRESSION_BYTES: usize = 1 << 20;

/// An identity that is asked for: who, as whom vouches for it, and out of which workflow.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Identity {
    /// The certificate's subject alternative name.
    pub subject: Pattern,
    /// The OIDC issuer.
    pub issuer: Pattern,
    /// Fulcio's extensions by their last number (facts/sigstore.md 6.4), each as it must be.
    pub extensions: BTreeMap<u8, String>,
}

/// What a text must be; both where both are given. Where neither is, anything is.
#[derive(Clone, Debug, Default)]
pub struct Pattern {
    exact: Option<String>,
    expression: Option<Regex>,
}

/// Says why an expression is none.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{expression:?} is no regular expression: {fault}")]
pub struct PatternError {
    /// The expression.
    pub expression: String,
    /// What is wrong with it.
    pub fault: String,
}

impl PartialEq for Pattern {
    fn eq(&self, other: &Self) -> bool {
        let text = |pattern: &Self| pattern.expression.as_ref().map(Regex::as_str).map(str::to_owned);
        self.exact == other.exact && text(self) == text(other)
    }
}
impl Eq for Pattern {}

impl Pattern {
    /// Makes a pattern. An empty text, or an empty expression, asks for nothing, as with cosign.
    ///
    /// # Errors
    /// Fails where the expression is none that RE2 and Rust's `regex` both read.
    pub fn new(exact: Option<&str>, expression: Option<&str>) -> Result<Self, PatternError> {
        let exact = exact.filter(|text| !text.is_empty()).map(str::to_owned);
        let compile = |text: &str| {
            let built = RegexBuilder::new(&without_quotes(text)).size_limit(MAX_EXPRESSION_BYTES).build();
            built.map_err(|error| {
                let fault = error.to_string();
                let fault = fault.lines().last().unwrap_or_default().trim_start_matches("error: ").to_owned();
                PatternError { expression: text.to_owned(), fault }
            })
        };
        let expression = expression.filter(|text| !text.is_empty()).map(compile).transpose()?;
        Ok(Self { exact, expression })
    }

    /// Says whether it asks for nothing.
    pub fn is_any(&self) -> bool {
        self.exact.is_none() && self.expression.is_none()
    }

    /// Says whether its expression may match in the middle of a longer text: such a one lets strangers in.
    pub fn is_unanchored(&self) -> bool {
        let text = self.expression.as_ref().map(Regex::as_str);
        text.is_some_and(|text| {
            let text = text.strip_prefix("(?i)").unwrap_or(text);
            let starts = text.starts_with('^') || text.starts_with("\\A");
            !starts || !(text.ends_with('$') || text.ends_with("\\z"))
        })
    }

    /// Says whether a text is as it must be; an expression is looked for anywhere, as in Go.
    fn matches(&self, text: &str) -> bool {
        self.exact.as_ref().is_none_or(|exact| exact == text)
            && self.expression.as_ref().is_none_or(|expression| expression.is_match(text))
    }

    fn in_words(&self) -> String {
        match (&self.exact, &self.expression) {
            (Some(exact), None) => format!("{exact:?}"),
            (None, Some(expression)) => format!("what matches {:?}", expression.as_str()),
            (Some(exact), Some(expression)) => format!("{exact:?} and what matches {:?}", expression.as_str()),
            (None, None) => "anything".to_owned(),
        }
    }
}

/// Rewrites Go's `\Q…\E`, which takes everything between as it stands and which Rust does not know.
fn without_quotes(expression: &str) -> String {
    let (mut text, mut rest) = (String::with_capacity(expression.len()), expression);
    while let Some(place) = rest.find('\\') {
        let (before, escape) = rest.split_at(place);
        text.push_str(before);
        if let Some(quoted) = escape.strip_prefix("\\Q") {
            let (inside, after) = quoted.split_once("\\E").unwrap_or((quoted, ""));
            text.push_str(&regex::escape(inside));
            rest = after;
        } else {
            let length = 1 + escape.chars().nth(1).map_or(0, char::len_utf8);
            let (pair, after) = escape.split_at(length);
            text.push_str(pair);
            rest = after;
        }
    }
    text + rest
}

/// What keeps a certificate from having an identity.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Mismatch {
    Subject(String),
    Issuer(String),
    Extension(String),
}

impl Identity {
    /// Holds it against a certificate.
    pub(super) fn check(&self, certificate: &CertificateFacts) -> Result<(), Mismatch> {
        // A certificate without a name is nobody's, whatever is asked for.
        let Some(subject) = &certificate.identity else {
            return Err(Mismatch::Subject("the certificate names nobody".to_owned()));
        };
        if !self.subject.matches(subject) {
            let words = format!("the certificate is for {subject:?}, and {} is asked for", self.subject.in_words());
            return Err(Mismatch::Subject(words));
        }
        let issuer = certificate.issuer.as_deref().unwrap_or_default();
        if !self.issuer.matches(issuer) {
            let words = format!("{issuer:?} vouched for it, and {} is asked for", self.issuer.in_words());
            return Err(Mismatch::Issuer(words));
        }
        for (number, wanted) in self.extensions.iter().filter(|(_, wanted)| !wanted.is_empty()) {
            let found = certificate.extensions.get(number).map_or("", String::as_str);
            if found != wanted {
                let name = extension_name(*number);
                return Err(Mismatch::Extension(format!("its {name} is {found:?}, and {wanted:?} is asked for")));
            }
        }
        Ok(())
    }
}

/// Returns what Fulcio's extension of this number says.
pub fn extension_name(number: u8) -> &'static str {
    match number {
        1 => "issuer (old)",
        2 => "GitHub workflow trigger",
        3 => "GitHub workflow SHA",
        4 => "GitHub workflow name",
        5 => "GitHub workflow repository",
        6 => "GitHub workflow ref",
        7 => "other name",
        8 => "issuer",
        9 => "build signer URI",
        10 => "build signer digest",
        11 => "runner environment",
        12 => "source repository URI",
        13 => "source repository digest",
        14 => "source repository ref",
        15 => "source repository identifier",
        16 => "source repository owner URI",
        17 => "source repository owner identifier",
        18 => "build config URI",
        19 => "build config digest",
        20 => "build trigger",
        21 => "run invocation URI",
        22 => "source repository visibility at signing",
        23 => "deployment environment",
        24 => "token subject",
        _ => "extension",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn expression(text: &str) -> Pattern {
        Pattern::new(None, Some(text)).expect(text)
    }

    #[test]
    fn expressions_are_gos() {
        assert!(expression("lice@ex").matches("alice@example.com"), "anywhere");
        assert!(!expression("^lice@ex").matches("alice@example.com"));
        assert!(expression("(?i)ALICE").matches("alice@example.com"));
        assert!(expression(r"^\Qa.b+c\E$").matches("a.b+c") && !expression(r"^\Qa.b+c\E$").matches("axb+c"));
        assert!(expression(r"a\\Qb").matches(r"a\Qb"), "a quoted backslash begins no quote");
        assert!(Pattern::new(None, Some("alice(")).is_err());
        assert!(Pattern::new(None, Some("(a{1000}){1000}")).is_err(), "too large");
        assert!(expression("^a").is_unanchored() && expression("a$").is_unanchored());
        assert!(!expression("^a$").is_unanchored() && !expression("").is_unanchored());
    }

    #[test]
    fn both_are_asked_for_where_both_are_given() {
        let both = Pattern::new(Some("alice@example.com"), Some("^bob")).expect("a pattern");
        assert!(!both.matches("alice@example.com") && !both.matches("bob"));
        assert!(Pattern::new(Some(""), Some("")).expect("nothing").is_any());
    }
}
