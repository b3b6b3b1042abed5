//! Globs over repositories, as ClusterImagePolicy has them (facts/sigstore.md 8.2).
//!
//! `*` matches within a component (it does not cross `/`), `**` across them; `:` and `@` are ordinary characters.
//! What is matched is `REPO` and `REPO@DIGEST`, Docker Hub under both of its names. A glob is completed where
//! a name would be: `acme/*` is `docker.io/acme/*`, `alpine` is `docker.io/library/alpine`.

use crate::digest::{Algorithm, Digest};
use crate::reference::{DOCKER_HUB, LOCAL, Repository};

/// The most characters that a glob may have.
pub const MAX_GLOB: usize = 1024;
/// Docker Hub's other name, the one that cosign and policy-controller write.
const DOCKER_HUB_INDEX: &str = "index.docker.io";
/// The host behind Docker Hub's API; names have it only where somebody copied it out of a log.
const DOCKER_HUB_API: &str = "registry-1.docker.io";

/// A valid, normalised glob.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Glob {
    written: Box<str>,
    /// The glob, completed.
    pattern: Box<[Token]>,
}

/// A piece of a pattern.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
enum Token {
    /// This byte.
    Byte(u8),
    /// Any bytes but `/`.
    Star,
    /// Any bytes.
    DoubleStar,
}

/// A piece of a text to match.
#[derive(Clone, Copy)]
enum Symbol {
    /// This byte.
    Byte(u8),
    /// Some lower-case hex digit, whichever fits.
    SomeHex,
}

/// Says why a text is no glob.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct GlobError(pub String);

impl std::str::FromStr for Glob {
    type Err = GlobError;

    /// Reads a glob: 1 to 1024 letters, digits and `- _ : / * . @`.
    fn from_str(text: &str) -> Result<Self, GlobError> {
        if text.is_empty() {
            return Err(GlobError("the glob is empty; ** matches every repository".into()));
        }
        let shown = || text.chars().take(80).collect::<String>();
        if text.len() > MAX_GLOB {
            return Err(GlobError(format!("the glob {:?}… is too long: at most {MAX_GLOB} characters", shown())));
        }
        let is_good = |byte: u8| byte.is_ascii_alphanumeric() || b"-_:/*.@".contains(&byte);
        if let Some(bad) = text.chars().find(|&character| !u8::try_from(character).is_ok_and(is_good)) {
            let text = shown();
            return Err(GlobError(format!(
                "{text:?} is not a glob: {bad:?} is not allowed; it takes letters, digits, - _ : / . @, * within a component and ** across them"
            )));
        }
        Ok(Self { written: text.into(), pattern: tokens(&complete(text)) })
    }
}

impl std::fmt::Display for Glob {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.written)
    }
}

impl Glob {
    /// Returns the glob as it was written.
    pub fn as_str(&self) -> &str {
        &self.written
    }

    /// Says whether it matches `REPO` or `REPO@DIGEST`, Docker Hub tried by both of its names.
    pub fn matches(&self, repository: &Repository, digest: &Digest) -> bool {
        self.any_name(repository, |states| {
            states.step_all(digest.algorithm().name());
            states.step(Symbol::Byte(b':'));
            for byte in digest.as_bytes() {
                for nibble in [byte >> 4, byte & 15] {
                    states.step(Symbol::Byte(if nibble < 10 { b'0' + nibble } else { b'a' - 10 + nibble }));
                }
            }
        })
    }

    /// Says whether it could match some digest of the repository.
    pub fn may_match(&self, repository: &Repository) -> bool {
        Algorithm::ALL.iter().any(|algorithm| {
            self.any_name(repository, |states| {
                states.step_all(algorithm.name());
                states.step(Symbol::Byte(b':'));
                for _ in 0..hex_digits(*algorithm) {
                    states.step(Symbol::SomeHex);
                }
            })
        })
    }

    /// Says whether it has a `:tag`, which never matches, for what is matched has no tag.
    ///
    /// (Save by accident: a `*` before the colon may swallow the `@sha256` of a digest.)
    pub fn has_tag(&self) -> bool {
        let component = self.written.rsplit('/').next().unwrap_or_default();
        component.split('@').next().unwrap_or_default().contains(':')
    }

    /// Says whether one of the repository's names matches, or one followed by `@` and what `digest` steps over.
    fn any_name(&self, repository: &Repository, digest: impl Fn(&mut States<'_>)) -> bool {
        let index = (repository.registry() == DOCKER_HUB).then_some(DOCKER_HUB_INDEX);
        [Some(repository.registry()), index].into_iter().flatten().any(|registry| {
            if let Some(answer) = self.matches_at_once(registry, repository.path()) {
                return answer;
            }
            let mut states = States::new(&self.pattern);
            states.step_all(registry);
            states.step(Symbol::Byte(b'/'));
            states.step_all(repository.path());
            if states.is_accepting() {
                return true;
            }
            states.step(Symbol::Byte(b'@'));
            digest(&mut states);
            states.is_accepting()
        })
    }

    /// Answers where no wildcard, or only a last `**`, has a part in it: most globs and most names, and a
    /// trust change asks this of every subject.
    fn matches_at_once(&self, registry: &str, path: &str) -> Option<bool> {
        let mut tokens = self.pattern.iter();
        for byte in registry.bytes().chain([b'/']).chain(path.bytes()) {
            match tokens.next() {
                Some(Token::Byte(expected)) if *expected == byte => {}
                Some(Token::Byte(_)) | None => return Some(false),
                Some(Token::DoubleStar) if tokens.len() == 0 => return Some(true),
                Some(Token::Star | Token::DoubleStar) => return None,
            }
        }
        match tokens.next() {
            None => Some(true),
            Some(Token::Byte(b'@') | Token::Star | Token::DoubleStar) => None,
            Some(Token::Byte(_)) => Some(false),
        }
    }
}

fn hex_digits(algorithm: Algorithm) -> usize {
    match algorithm {
        Algorithm::Sha256 => 64,
        Algorithm::Sha512 => 128,
    }
}

/// Completes a glob as a name would be completed.
fn complete(text: &str) -> String {
    match text.split_once('/') {
        // No registry has a name without a slash behind it, so this is an official image of Docker Hub.
        // Only `**` reaches across the slash by itself.
        None if text.contains("**") => text.to_owned(),
        None => format!("{DOCKER_HUB}/library/{text}"),
        Some(("*", "*")) => format!("{DOCKER_HUB}/*/*"),
        Some((first, rest)) => {
            let host = first.to_ascii_lowercase();
            let is_hub = matches!(host.as_str(), DOCKER_HUB | DOCKER_HUB_INDEX | DOCKER_HUB_API);
            let host = if host == DOCKER_HUB_API { DOCKER_HUB } else { &host };
            if is_hub && !rest.contains(['/', '*']) {
                format!("{host}/library/{rest}")
            } else if first.contains(['.', ':', '*', '@']) || host == LOCAL {
                format!("{host}/{rest}")
            } else {
                format!("{DOCKER_HUB}/{text}")
            }
        }
    }
}

/// Takes a pattern apart; wildcards side by side become one.
fn tokens(pattern: &str) -> Box<[Token]> {
    let mut tokens: Vec<Token> = Vec::with_capacity(pattern.len());
    let mut bytes = pattern.bytes().peekable();
    while let Some(byte) = bytes.next() {
        let token = match byte {
            b'*' if bytes.next_if_eq(&b'*').is_some() => Token::DoubleStar,
            b'*' => Token::Star,
            byte => Token::Byte(byte),
        };
        match (tokens.last_mut(), token) {
            (Some(last @ (Token::Star | Token::DoubleStar)), Token::Star | Token::DoubleStar) => {
                *last = Token::DoubleStar;
            }
            _ => tokens.push(token),
        }
    }
    tokens.into()
}

/// The places in a pattern that the text so far can have led to.
///
/// All at once, so that a step costs at most the pattern's length: there is no backtracking that a
/// hostile pattern could drive.
struct States<'a> {
    pattern: &'a [Token],
    /// Whether place `n` is reached: before token `n`, or behind them all.
    reached: Vec<bool>,
    /// The range of places that can be reached; all others are not.
    first: usize,
    last: usize,
}

impl<'a> States<'a> {
    fn new(pattern: &'a [Token]) -> Self {
        let mut reached = vec![false; pattern.len() + 1];
        reached[0] = true;
        let mut states = Self { pattern, reached, first: 0, last: 0 };
        states.pass_wildcards();
        states
    }

    fn is_accepting(&self) -> bool {
        self.reached.last() == Some(&true)
    }

    fn step_all(&mut self, text: &str) {
        text.bytes().for_each(|byte| self.step(Symbol::Byte(byte)));
    }

    /// Takes one more symbol of the text.
    fn step(&mut self, symbol: Symbol) {
        // Backwards, so that no place moves twice.
        for place in (self.first..=self.last).rev() {
            if !std::mem::take(&mut self.reached[place]) {
                continue;
            }
            match self.pattern.get(place) {
                Some(Token::Byte(byte)) if symbol.can_be(*byte) => self.reached[place + 1] = true,
                Some(Token::Star) if !symbol.can_be(b'/') => self.reached[place] = true,
                Some(Token::DoubleStar) => self.reached[place] = true,
                Some(Token::Byte(_) | Token::Star) | None => {}
            }
        }
        self.pass_wildcards();
    }

    /// Lets wildcards match nothing, and narrows the range.
    ///
    /// A step moves a place by one and a wildcard by one more; two wildcards never stand side by side.
    fn pass_wildcards(&mut self) {
        let (start, end) = (self.first, (self.last + 2).min(self.pattern.len()));
        (self.first, self.last) = (end, start);
        for place in start..=end {
            if self.reached[place] {
                self.first = self.first.min(place);
                self.last = place;
                if let Some(Token::Star | Token::DoubleStar) = self.pattern.get(place) {
                    self.reached[place + 1] = true;
                }
            }
        }
    }
}

impl Symbol {
    fn can_be(self, byte: u8) -> bool {
        match self {
            Self::Byte(own) => own == byte,
            Self::SomeHex => matches!(byte, b'0'..=b'9' | b'a'..=b'f'),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::collections::HashSet;

    use proptest::prelude::*;
    use proptest::test_runner::TestRunner;

    use super::*;

    fn glob(text: &str) -> Glob {
        text.parse().expect(text)
    }

    fn matches(pattern: &str, repository: &str) -> bool {
        glob(pattern).matches(&repository.parse().expect(repository), &Digest::of(b"x"))
    }

    #[test]
    fn stars_and_names() {
        for (pattern, repository, expected) in [
            ("**", "quay.io/a/b/c", true),
            ("**", "alpine", true),
            ("*", "alpine", true),
            ("*", "acme/app", false),
            ("*/*", "acme/app", true),
            ("*/*", "alpine", true),
            ("*/*", "quay.io/app", false),
            ("*/*/*", "quay.io/acme/app", true),
            ("alpine", "docker.io/library/alpine", true),
            ("alpine", "alpine", true),
            ("alp*", "alpine", true),
            ("docker.io/alpine", "alpine", true),
            ("index.docker.io/alpine", "alpine", true),
            ("index.docker.io/library/alpine", "alpine", true),
            ("registry-1.docker.io/acme/*", "acme/app", true),
            ("alpine", "acme/alpine", false),
            ("acme/**", "docker.io/acme/team/app", true),
            ("acme/*", "docker.io/acme/team/app", false),
            ("docker.io/acme/*", "acme/app", true),
            ("index.docker.io/acme/**", "acme/app", true),
            ("Docker.IO/acme/**", "acme/app", true),
            ("docker.io/*", "acme/app", false),
            ("docker.io/**", "acme/app", true),
            ("docker.io**", "acme/app", true),
            ("index.docker.io/**", "quay.io/acme/app", false),
            ("quay.io/acme/app", "quay.io/acme/app", true),
            ("Quay.io/acme/app", "quay.io/acme/app", true),
            ("quay.io/acme/ap", "quay.io/acme/app", false),
            ("quay.io/acme/apps", "quay.io/acme/app", false),
            ("quayxio/acme/app", "quay.io/acme/app", false),
            ("*.io/acme/app", "quay.io/acme/app", true),
            ("**/app", "quay.io/acme/team/app", true),
            ("**/app", "quay.io/acme/team/apps", false),
            ("quay.io/**/app", "quay.io/acme/team/app", true),
            ("quay.io/*/app", "quay.io/acme/team/app", false),
            ("quay.io/a*e/*p", "quay.io/acme/app", true),
            ("quay.io/***", "quay.io/acme/app", true),
            ("localhost/x/*", "localhost/x/y", true),
            ("localhost:5000/x", "localhost:5000/x", true),
            ("localhost:*/x", "localhost:5000/x", true),
            ("127.0.0.1:5000/**", "127.0.0.1:5000/pantry/single", true),
            ("x/y", "localhost/x/y", false),
            ("quay.io/acme/app@*", "quay.io/acme/app", true),
            ("quay.io/acme/app@sha256:*", "quay.io/acme/app", true),
            ("quay.io/acme/app@sha512:*", "quay.io/acme/app", false),
            ("quay.io/acme/app*", "quay.io/acme/app", true),
            ("alpine@*", "alpine", true),
            ("quay.io/acme/app:latest", "quay.io/acme/app", false),
            ("quay.io/acme/app:*", "quay.io/acme/app", false),
        ] {
            assert_eq!(matches(pattern, repository), expected, "{pattern} on {repository}");
        }
    }

    #[test]
    fn a_digest_in_the_glob() {
        let digest = Digest::of(b"x");
        let app: Repository = "quay.io/acme/app".parse().expect("app");
        let exact = glob(&format!("quay.io/acme/app@{digest}"));
        assert!(exact.matches(&app, &digest));
        assert!(!exact.matches(&app, &Digest::of(b"y")));
        assert!(exact.may_match(&app));
        assert!(!exact.may_match(&"quay.io/acme/other".parse().expect("other")));
        let sha512 = Digest::with(Algorithm::Sha512, b"x");
        assert!(glob(&format!("**@{sha512}")).matches(&app, &sha512));
        for (pattern, expected) in [
            ("quay.io/acme/app@sha256:12*", true),
            ("quay.io/acme/app@sha512:*ff", true),
            ("quay.io/acme/app@sha256:12", false),
            ("quay.io/acme/app@sha256:xy*", false),
            ("quay.io/acme/app@md5:*", false),
            ("quay.io/acme/app@*/x", false),
        ] {
            assert_eq!(glob(pattern).may_match(&app), expected, "{pattern}");
        }
    }

    #[test]
    fn tags_are_seen() {
        for (pattern, expected) in [
            ("quay.io/a/b:v1", true),
            ("quay.io/a/b:*", true),
            ("alpine:3", true),
            ("**:v1", true),
            ("quay.io/a/b:v1@sha256:*", true),
            ("localhost:5000/a", false),
            ("quay.io/a/b@sha256:*", false),
            ("**", false),
        ] {
            assert_eq!(glob(pattern).has_tag(), expected, "{pattern}");
        }
    }

    #[test]
    fn refuses_what_policy_controller_refuses() {
        for text in ["", "a b", "a?", "[a]", "a#b", "é", "a\n", "a,b", "a\0", &"a".repeat(MAX_GLOB + 1)] {
            assert!(text.parse::<Glob>().is_err(), "{text:?}");
        }
        assert!("a".repeat(MAX_GLOB).parse::<Glob>().is_ok());
        assert_eq!(glob("Acme/*").as_str(), "Acme/*");
    }

    #[test]
    fn a_hostile_glob_ends() {
        let repository: Repository = format!("quay.io/{}", "a".repeat(200)).parse().expect("name");
        for wildcard in ["*a", "**a"] {
            let hostile = glob(&format!("{}b", wildcard.repeat(340)));
            // With backtracking this would outlast everybody.
            assert!(!hostile.matches(&repository, &Digest::of(b"x")));
        }
    }

    /// The rules of policy-controller, word by word: slow, and plainly right. What failed once is remembered.
    fn naive(pattern: &[u8], text: &[u8], failed: &mut HashSet<(usize, usize)>) -> bool {
        if failed.contains(&(pattern.len(), text.len())) {
            return false;
        }
        let matches = match pattern {
            [] => text.is_empty(),
            [b'*', b'*', rest @ ..] => (0..=text.len()).any(|at| naive(rest, &text[at..], failed)),
            [b'*', rest @ ..] => (0..=text.len())
                .take_while(|&at| !text[..at].contains(&b'/'))
                .any(|at| naive(rest, &text[at..], failed)),
            [byte, rest @ ..] => {
                text.split_first().is_some_and(|(first, text)| first == byte && naive(rest, text, failed))
            }
        };
        if !matches {
            failed.insert((pattern.len(), text.len()));
        }
        matches
    }

    #[test]
    fn equals_the_rules() {
        // The first component has a dot or a wildcard, so that nothing is completed.
        let inputs = ("(a\\.b|\\*|\\*\\*)/([ab/*@]|\\*\\*){0,6}", "[ab]{1,3}(/[ab]{1,3}){0,2}");
        let (matched, only_by_digest) = (Cell::new(0), Cell::new(0));
        let mut runner = TestRunner::new(ProptestConfig::with_cases(6000));
        let result = runner.run(&inputs, |(pattern, path)| {
            prop_assume!(pattern != "*/*");
            let repository: Repository = format!("a.b/{path}").parse().expect("name");
            let digest = Digest::of(path.as_bytes());
            let naive = |text: String| naive(pattern.as_bytes(), text.as_bytes(), &mut HashSet::new());
            let (by_name, by_digest) = (naive(repository.to_string()), naive(format!("{repository}@{digest}")));
            let glob = glob(&pattern);
            prop_assert_eq!(glob.matches(&repository, &digest), by_name || by_digest);
            prop_assert!(glob.may_match(&repository) || !glob.matches(&repository, &digest));
            matched.set(matched.get() + u32::from(by_name));
            only_by_digest.set(only_by_digest.get() + u32::from(by_digest && !by_name));
            Ok(())
        });
        result.expect("equal");
        assert!(matched.get() > 300 && only_by_digest.get() > 20, "{matched:?} {only_by_digest:?}");
    }
}
