//! Edits of the trust folder: planned against what lies there, previewed, then written.
//!
//! A plan says for every file what it was when the plan was made, and is not written where that no longer holds. A `.yaml` is
//! written before its `.pub` and removed after it, so that no key is ever there without what confines it.

use std::collections::BTreeSet;
use std::fs;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};

use bytes::Bytes;
use jiff::Timestamp;
use larder_core::Digest;
use larder_core::glob::{Glob, GlobError};
use larder_core::key::{KeyError, PublicKey};
use larder_core::keyless::RootError;
use larder_core::policy::{KeyFile, TrustFiles};

use super::read::{Contents, MAX_FILE_BYTES, is_stem};
use crate::store::disk::{self, FaultPoint, FaultPoints};

mod roots;

pub use roots::Replace;

/// The greatest length of a name; with its extension and a temporary name's ornaments it fits a file name.
const MAX_NAME: usize = 200;
/// The greatest length of the part of a policy's name that comes from its glob.
const MAX_SLUG: usize = 80;
/// Owner writes, everybody reads: nothing in the trust folder is secret.
const MODE: u32 = 0o644;

/// Says why an edit cannot be made; nothing was changed.
#[derive(Debug, thiserror::Error)]
pub enum EditError {
    /// The name holds another key.
    #[error("keys/{name}.pub holds another key")]
    NameTaken {
        /// The name.
        name: String,
    },
    /// `keys/<name>.yaml` says more than `for`, or cannot be read: it is not overwritten.
    #[error("keys/{name}.yaml is there and says something else: {what}")]
    SettingsThere {
        /// The key's name.
        name: String,
        /// What it says.
        what: String,
    },
    /// No key has this name.
    #[error("there is no key {name:?}")]
    NoSuchKey {
        /// The name.
        name: String,
        /// The names that there are, a few of them.
        known: Vec<String>,
    },
    /// The name holds another root.
    #[error("roots/{name}.json holds another root")]
    RootTaken {
        /// The name.
        name: String,
    },
    /// No root has this name.
    #[error("there is no trusted root {name:?}")]
    NoSuchRoot {
        /// The name.
        name: String,
        /// The names that there are, a few of them.
        known: Vec<String>,
    },
    /// The bytes are no trusted root.
    #[error("this is no trusted root: {0}")]
    BadRoot(#[from] RootError),
    /// The root is longer than the folder's files may be.
    #[error("the root has {0} bytes; {MAX_FILE_BYTES} are the most that are read in the trust folder")]
    RootTooLong(usize),
    /// A root cannot be known to be current on a day that has not come.
    #[error("{0} has not come yet: nobody can know that the root is the current one then")]
    AsOfAhead(Timestamp),
    /// The name is not one that is read.
    #[error("{0:?} cannot be a name in the trust folder")]
    BadName(String),
    /// A glob is none.
    #[error("{glob:?} is not a valid glob")]
    BadGlob {
        /// The text.
        glob: String,
        /// Why.
        source: GlobError,
    },
    /// The bytes are no public key.
    #[error("this is not a public key: {0}")]
    BadKey(#[from] KeyError),
    /// Somebody else changed a file since the edit was planned.
    #[error("{path} was changed by somebody else meanwhile")]
    Changed {
        /// Relative to the folder.
        path: String,
    },
    /// A file could not be written or removed.
    #[error("cannot {what} {}: {}", path.display(), source.kind())]
    Io {
        /// What was to be done.
        what: &'static str,
        /// The file or folder.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The daemon stopped or failed in the middle.
    #[error("the edit was interrupted: {0}")]
    Interrupted(String),
}

impl EditError {
    /// Returns the stable machine reason.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::NameTaken { .. } => "name-taken",
            Self::SettingsThere { .. } => "settings-there",
            Self::NoSuchKey { .. } => "no-such-key",
            Self::RootTaken { .. } => "name-taken",
            Self::NoSuchRoot { .. } => "no-such-root",
            Self::BadRoot(_) | Self::RootTooLong(_) => "invalid-root",
            Self::AsOfAhead(_) => "invalid-argument",
            Self::BadName(_) => "bad-name",
            Self::BadGlob { .. } => "bad-glob",
            Self::BadKey(_) => "bad-key",
            Self::Changed { .. } => "changed-meanwhile",
            Self::Io { .. } => "trust-io",
            Self::Interrupted(_) => "interrupted",
        }
    }

    /// Returns what to do about it.
    pub fn hint(&self) -> Option<String> {
        Some(match self {
            Self::NameTaken { name } => {
                format!("choose another name with `--name`, or first `larder trust remove {name}`")
            }
            Self::SettingsThere { name, .. } => {
                format!("edit or remove keys/{name}.yaml, or choose another name with `--name`")
            }
            Self::NoSuchKey { known, .. } if known.is_empty() => {
                "there are no keys; `larder trust add KEY.pub` adds one".into()
            }
            Self::NoSuchKey { known, .. } => format!("keys that are: {}", known.join(", ")),
            Self::RootTaken { name } => format!(
                "`--replace` puts this one in its place, `--name` gives it another name; `larder trust list` shows {name}"
            ),
            Self::NoSuchRoot { known, .. } if known.is_empty() => {
                "there are no roots; `larder trust add-root FILE` adds one".into()
            }
            Self::NoSuchRoot { known, .. } => format!("roots that are: {}", known.join(", ")),
            Self::BadRoot(_) | Self::RootTooLong(_) => {
                "a trusted root is a trusted_root.json, as `cosign trusted-root create` writes it".into()
            }
            Self::AsOfAhead(_) => "give the day on which you fetched it".into(),
            Self::BadName(_) => format!(
                "names begin with a letter or digit and hold letters, digits, '.', '_' and '-', at most {MAX_NAME}; choose one with `--name`"
            ),
            Self::BadGlob { .. } => {
                "as in 'ghcr.io/team/**'; `*` stays within one part of the name, `**` does not".into()
            }
            Self::BadKey(_) => {
                "a public key is a PEM block, as `larder key generate` or `cosign public-key` write it".into()
            }
            Self::Changed { .. } => "look at the trust folder and try again".into(),
            Self::Io { source, .. } if source.kind() == ErrorKind::NotFound => {
                "the folder is missing: put it back (it may be empty)".into()
            }
            Self::Io { .. } => "the daemon's user must be able to write to the trust folder".into(),
            Self::Interrupted(_) => return None,
        })
    }
}

/// A planned edit: which files it writes and removes, in this order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Edit {
    name: String,
    steps: Vec<Step>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Step {
    /// Relative to the folder.
    path: String,
    before: Before,
    /// `None` removes it.
    after: Option<Bytes>,
}

/// What a file must be for the plan to hold.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Before {
    Absent,
    Holds(Bytes),
    /// It could not be read when the plan was made.
    Unreadable,
}

impl Edit {
    /// Plans to put a key at `keys/<name>.pub`, for these globs only (for all repositories where there are none).
    ///
    /// Without a name the key's id gives one. The same key with the same scope is nothing to do.
    pub fn add_key(contents: &Contents, name: Option<&str>, pem: &[u8], globs: &[String]) -> Result<Self, EditError> {
        let key = PublicKey::from_pem(pem)?;
        let name = name.map_or_else(|| format!("key-{:.12}", key.id().to_string()), str::to_owned);
        check_name(&name)?;
        let scope = parse_globs(globs)?;
        let plan = Plan { contents, name: &name };
        let public = plan.before("pub");
        let settings = plan.before("yaml");
        match &public {
            Before::Absent => {}
            Before::Holds(bytes) if PublicKey::from_pem(bytes).is_ok_and(|there| there.id() == key.id()) => {}
            Before::Holds(_) | Before::Unreadable => return Err(EditError::NameTaken { name }),
        }
        let wanted = (!scope.is_empty()).then(|| scope_yaml(globs));
        let mut steps = Vec::new();
        let there = plan.scope(&public, &settings)?;
        let same = there.as_ref().is_some_and(|there| there.scope == scope);
        if !same && let Some(what) = there.and_then(|there| there.rest) {
            return Err(EditError::SettingsThere { name, what });
        }
        if !same && (wanted.is_some() || settings != Before::Absent) {
            steps.push(Step { path: plan.path("yaml"), before: settings, after: wanted });
        }
        if public == Before::Absent {
            steps.push(Step { path: plan.path("pub"), before: public, after: Some(Bytes::copy_from_slice(pem)) });
        }
        Ok(Self { name, steps })
    }

    /// Plans to remove a key's files, its `.pub` first.
    pub fn remove_key(contents: &Contents, name: &str) -> Result<Self, EditError> {
        let plan = Plan { contents, name };
        if check_name(name).is_err() || plan.before("pub") == Before::Absent {
            const SHOWN: usize = 20;
            let known = contents.files.0.keys().filter_map(|path| path.strip_prefix("keys/")?.strip_suffix(".pub"));
            return Err(EditError::NoSuchKey {
                name: name.into(),
                known: known.take(SHOWN).map(str::to_owned).collect(),
            });
        }
        let steps = ["pub", "yaml"]
            .into_iter()
            .map(|extension| Step { path: plan.path(extension), before: plan.before(extension), after: None })
            .filter(|step| step.before != Before::Absent)
            .collect();
        Ok(Self { name: name.into(), steps })
    }

    /// Plans a policy that accepts what a glob matches, signed or not.
    pub fn allow(contents: &Contents, glob: &str) -> Result<Self, EditError> {
        parse_globs(&[glob.to_owned()])?;
        let plain = format!("allow-{}", slug(glob));
        let hashed = format!("{plain}-{:.8}", Digest::of(glob.as_bytes()).hex());
        // Two globs may give one slug; the second gets a part of its hash.
        for name in [plain, hashed] {
            let path = format!("policies/{name}.yaml");
            let bytes = allow_yaml(&name, glob);
            match before(contents, &path) {
                Before::Absent => {
                    return Ok(Self { name, steps: vec![Step { path, before: Before::Absent, after: Some(bytes) }] });
                }
                Before::Holds(there) if there == bytes => return Ok(Self { name, steps: Vec::new() }),
                Before::Holds(_) | Before::Unreadable => {}
            }
        }
        Err(EditError::Changed { path: format!("policies/allow-{}.yaml", slug(glob)) })
    }

    /// Returns the name of the key or policy, without extension.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Says whether there is nothing to do.
    pub fn is_unchanged(&self) -> bool {
        self.steps.is_empty()
    }

    /// Returns what the files would be after the edit.
    pub fn preview(&self, files: &TrustFiles) -> TrustFiles {
        let mut files = files.clone();
        for step in &self.steps {
            match &step.after {
                Some(bytes) => files.0.insert(step.path.clone(), bytes.clone()),
                None => files.0.remove(&step.path),
            };
        }
        files
    }

    /// Says whether these files have the edit.
    pub fn holds_in(&self, files: &TrustFiles) -> bool {
        self.steps.iter().all(|step| files.0.get(&step.path) == step.after.as_ref())
    }

    /// Writes the edit. Blocking; durable on return.
    pub(super) fn apply(&self, folder: &Path) -> Result<(), EditError> {
        for step in &self.steps {
            step.check(folder)?;
        }
        for step in &self.steps {
            let path = folder.join(&step.path);
            match &step.after {
                Some(bytes) => write(&path, bytes)?,
                None => remove(&path)?,
            }
        }
        Ok(())
    }
}

impl Step {
    /// Refuses to overwrite what somebody else wrote since the plan was made.
    fn check(&self, folder: &Path) -> Result<(), EditError> {
        let path = folder.join(&self.path);
        let holds = match &self.before {
            Before::Unreadable => true,
            Before::Absent => fs::symlink_metadata(&path).is_err_and(|error| error.kind() == ErrorKind::NotFound),
            Before::Holds(bytes) => holds(&path, bytes),
        };
        if holds { Ok(()) } else { Err(EditError::Changed { path: self.path.clone() }) }
    }
}

fn holds(path: &Path, bytes: &Bytes) -> bool {
    let is_small = fs::metadata(path).is_ok_and(|metadata| metadata.is_file() && metadata.len() <= MAX_FILE_BYTES);
    is_small && fs::read(path).is_ok_and(|there| there == *bytes)
}

/// What an edit of one key is planned against.
struct Plan<'a> {
    contents: &'a Contents,
    name: &'a str,
}

/// What a key's `.yaml` says.
struct Settings {
    scope: BTreeSet<Glob>,
    /// What it says beside `for`, in words.
    rest: Option<String>,
}

impl Plan<'_> {
    fn path(&self, extension: &str) -> String {
        format!("keys/{}.{extension}", self.name)
    }

    fn before(&self, extension: &str) -> Before {
        before(self.contents, &self.path(extension))
    }

    /// Reads what confines the key now; `None` where neither file is there.
    fn scope(&self, public: &Before, settings: &Before) -> Result<Option<Settings>, EditError> {
        let path = self.path("yaml");
        let refuse = |what: String| Err(EditError::SettingsThere { name: self.name.into(), what });
        if let Some(fault) = self.contents.faults().into_iter().find(|fault| fault.path == path) {
            return refuse(fault.message);
        }
        match (public, settings) {
            (_, Before::Unreadable) => refuse("it cannot be read".into()),
            (Before::Absent, Before::Absent) => Ok(None),
            // What was left behind, or prepared, may revoke the key; nobody parsed it, for it has no key.
            (Before::Absent, Before::Holds(_)) => refuse("it was there before the key".into()),
            _ => Ok(self.contents.reading.set.keys.get(self.name).map(Settings::of)),
        }
    }
}

impl Settings {
    fn of(key: &KeyFile) -> Self {
        let dates = key.valid_from.is_some() || key.valid_until.is_some();
        let rest = key.revoked.clone().map(|why| format!("revoked or retired ({why})"));
        let rest = rest.or_else(|| dates.then(|| "validFor".to_owned()));
        Self { scope: key.scope.iter().cloned().collect(), rest }
    }
}

fn before(contents: &Contents, path: &str) -> Before {
    match contents.files.0.get(path) {
        Some(bytes) => Before::Holds(bytes.clone()),
        None if contents.unread.iter().any(|fault| fault.path == path) => Before::Unreadable,
        None => Before::Absent,
    }
}

fn check_name(name: &str) -> Result<(), EditError> {
    if is_stem(name) && name.len() <= MAX_NAME {
        Ok(())
    } else {
        Err(EditError::BadName(name.chars().take(80).collect()))
    }
}

fn parse_globs(globs: &[String]) -> Result<BTreeSet<Glob>, EditError> {
    globs
        .iter()
        .map(|glob| {
            glob.parse().map_err(|source| EditError::BadGlob { glob: glob.chars().take(200).collect(), source })
        })
        .collect()
}

/// Proposes a key's name for the file that it comes from: `cosign.pub` gives `cosign`.
pub fn default_name(file: &Path) -> Option<String> {
    let stem = file.file_stem()?.to_str()?;
    let name: String = stem.chars().map(|letter| if is_stem(&format!("a{letter}")) { letter } else { '-' }).collect();
    let name: String = name.trim_start_matches(['.', '_', '-']).chars().take(MAX_NAME).collect();
    (!name.is_empty()).then_some(name)
}

/// Writes `for`. The characters of a valid glob need no escape within double quotes.
fn scope_yaml(globs: &[String]) -> Bytes {
    let lines: String = globs.iter().map(|glob| format!("  - \"{glob}\"\n")).collect();
    format!("# The repositories that this key is for.\nfor:\n{lines}").into()
}

fn allow_yaml(name: &str, glob: &str) -> Bytes {
    format!(
        "# Accepts what this glob matches, signed or not (larder trust allow). Remove this file to undo it.\n\
         apiVersion: policy.sigstore.dev/v1beta1\n\
         kind: ClusterImagePolicy\n\
         metadata:\n  name: {}\n\
         spec:\n  images:\n    - glob: \"{glob}\"\n  \
         authorities:\n    - name: unsigned\n      static:\n        action: pass\n",
        // Kubernetes wants lower case there; the file's name is what Larder goes by.
        name.to_ascii_lowercase().replace('_', "-"),
    )
    .into()
}

/// Makes a part of a file name of a glob: `docker.io/library/**` gives `docker.io-library`.
fn slug(glob: &str) -> String {
    let mut slug = String::new();
    for letter in glob.chars() {
        match letter {
            'a'..='z' | 'A'..='Z' | '0'..='9' | '.' | '_' => slug.push(letter),
            _ if !slug.ends_with('-') => slug.push('-'),
            _ => {}
        }
    }
    slug.truncate(MAX_SLUG);
    let slug = slug.trim_matches(['-', '.']);
    if slug.is_empty() { "everything".into() } else { slug.into() }
}

/// Writes a file so that readers see the old one or the new one, under a temporary name that they do not read.
fn write(path: &Path, bytes: &[u8]) -> Result<(), EditError> {
    disk::write_atomic(path, bytes, MODE, FaultPoints::EDIT).map_err(|source| EditError::Io {
        what: "write",
        path: path.to_owned(),
        source,
    })
}

fn remove(path: &Path) -> Result<(), EditError> {
    let folder = path.parent().unwrap_or_else(|| Path::new("."));
    disk::remove(path, FaultPoint::EditRemove)
        .and_then(|()| disk::sync_folder(folder, FaultPoint::EditFolderSync))
        .map_err(|source| EditError::Io { what: "remove", path: path.to_owned(), source })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_slugs() {
        for (glob, wanted) in [
            ("docker.io/library/**", "docker.io-library"),
            ("**", "everything"),
            ("ghcr.io/Team/app@sha256:*", "ghcr.io-Team-app-sha256"),
            ("..", "everything"),
        ] {
            assert_eq!(slug(glob), wanted);
            assert!(is_stem(&format!("allow-{}", slug(glob))));
        }
        for (file, wanted) in
            [("/x/cosign.pub", Some("cosign")), ("my key.pem", Some("my-key")), (".pub", Some("pub")), ("-.pub", None)]
        {
            assert_eq!(default_name(Path::new(file)).as_deref(), wanted, "{file}");
        }
        assert!(check_name("../x").is_err());
        assert!(check_name(&"x".repeat(MAX_NAME + 1)).is_err());
    }

    #[test]
    fn files_are_replaced_whole_and_left_alone_where_they_changed() {
        let folder = tempfile::tempdir().expect("folder");
        fs::create_dir(folder.path().join("keys")).expect("keys");
        let step = |before, after: Option<&'static str>| Step {
            path: "keys/a.yaml".into(),
            before,
            after: after.map(|text| Bytes::from_static(text.as_bytes())),
        };
        let edit = |step| Edit { name: "a".into(), steps: vec![step] };
        let first = edit(step(Before::Absent, Some("one")));
        first.apply(folder.path()).expect("written");
        assert!(matches!(first.apply(folder.path()), Err(EditError::Changed { .. })), "it is there now");
        let stale = edit(step(Before::Holds(Bytes::from_static(b"other")), None));
        assert!(matches!(stale.apply(folder.path()), Err(EditError::Changed { .. })));
        let names: Vec<_> = fs::read_dir(folder.path().join("keys"))
            .expect("list")
            .map(|entry| entry.expect("entry").file_name())
            .collect();
        assert_eq!(names, ["a.yaml"], "nothing temporary stays");
        edit(step(Before::Holds(Bytes::from_static(b"one")), None)).apply(folder.path()).expect("removed");
        fs::remove_dir(folder.path().join("keys")).expect("keys is empty");
        let error = first.apply(folder.path()).expect_err("no folder");
        assert_eq!(error.reason(), "trust-io");
        assert!(error.hint().expect("hint").contains("put it back"));
    }
}
