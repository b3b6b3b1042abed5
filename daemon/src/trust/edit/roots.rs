//! Edits of trusted roots: `roots/<name>.json`, and `roots/<name>.yaml`, which says as of when it was the current one.

use bytes::Bytes;
use jiff::Timestamp;
use larder_core::keyless::TrustedRoot;

use super::{Before, Contents, Edit, EditError, MAX_FILE_BYTES, Step, before, check_name};

/// Whether a root may take the place of another one of its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Replace {
    /// It may not.
    Never,
    /// It may: it is a newer copy.
    Other,
}

impl Edit {
    /// Plans to put a root at `roots/<name>.json`, known to be the current one as of an instant.
    ///
    /// Without one, what the folder says of the same bytes stays, and what it says of other bytes goes with them: then the
    /// root's age counts from the newest thing that it names.
    pub fn add_root(
        contents: &Contents,
        name: &str,
        json: &Bytes,
        as_of: Option<Timestamp>,
        replace: Replace,
        now: Timestamp,
    ) -> Result<Self, EditError> {
        check_name(name)?;
        if json.len() as u64 > MAX_FILE_BYTES {
            return Err(EditError::RootTooLong(json.len()));
        }
        TrustedRoot::parse(json)?;
        if let Some(ahead) = as_of.filter(|as_of| *as_of > now) {
            return Err(EditError::AsOfAhead(ahead));
        }
        let [root_path, settings_path] = paths(name);
        let (root, settings) = (before(contents, &root_path), before(contents, &settings_path));
        let same = root == Before::Holds(json.clone());
        if !same && root != Before::Absent && replace == Replace::Never {
            return Err(EditError::RootTaken { name: name.into() });
        }
        let wanted = as_of.map(settings_yaml);
        let settled = match &wanted {
            Some(wanted) => settings == Before::Holds(wanted.clone()),
            None => same || settings == Before::Absent,
        };
        let mut steps = Vec::new();
        if !settled {
            steps.push(Step { path: settings_path, before: settings, after: wanted });
        }
        if !same {
            steps.push(Step { path: root_path, before: root, after: Some(json.clone()) });
        }
        Ok(Self { name: name.into(), steps })
    }

    /// Plans to remove a root's files, the root first.
    pub fn remove_root(contents: &Contents, name: &str) -> Result<Self, EditError> {
        let steps: Vec<Step> = paths(name)
            .into_iter()
            .map(|path| Step { before: before(contents, &path), path, after: None })
            .filter(|step| step.before != Before::Absent)
            .collect();
        if check_name(name).is_err() || steps.is_empty() {
            const SHOWN: usize = 20;
            let known = contents.files.0.keys().filter_map(|path| path.strip_prefix("roots/")?.strip_suffix(".json"));
            let known = known.take(SHOWN).map(str::to_owned).collect();
            return Err(EditError::NoSuchRoot { name: name.chars().take(80).collect(), known });
        }
        Ok(Self { name: name.into(), steps })
    }
}

fn paths(name: &str) -> [String; 2] {
    [format!("roots/{name}.json"), format!("roots/{name}.yaml")]
}

fn settings_yaml(as_of: Timestamp) -> Bytes {
    format!("# When this root was last known to be the current one: its age counts from then.\nasOf: {as_of}\n").into()
}
