//! Who we are at registries: found where docker and podman keep it, when it is needed.
//!
//! In comes a registry and a repository's path, out comes a login or nothing. Files are read anew each time and never
//! copied; what cannot be read is an error, for to go on as nobody would turn "you may not" into "there is nothing".
//! The configuration's own entry goes first, then file after file; the first that knows the repository decides.

mod configured;
mod edit;
mod error;
mod file;
mod helper;
mod secret;

use std::fmt;
use std::path::Path;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::header::HeaderValue;
use larder_core::reference::DOCKER_HUB;
use zeroize::Zeroizing;

use super::error::RemoteError;
use crate::config::places::{AuthFile, AuthFormat, Places};
pub(super) use configured::PasswordFile;
pub use error::CredentialError;
use file::File;
use helper::Helper;
pub use secret::Secret;

/// What docker calls Docker Hub, in its file and before its helpers.
const DOCKER_HUB_URL: &str = "https://index.docker.io/v1/";

/// Somebody at a registry, with what proves it.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Login {
    /// The user's name; empty for most tokens.
    pub(super) username: String,
    /// What proves it.
    pub(super) proof: Proof,
    /// Where it was found, for people.
    pub(super) from: String,
}

/// What proves who somebody is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Proof {
    /// A password, sent as it is to the registry or to its token service.
    Password(Secret),
    /// A refresh token, which the token service exchanges for the tokens of requests.
    IdentityToken(Secret),
    /// A token that goes to the registry itself.
    RegistryToken(Secret),
}

impl fmt::Display for Login {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = if self.username.is_empty() { "the token" } else { &self.username };
        write!(f, "{name} from {}", self.from)
    }
}

impl fmt::Debug for Login {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Login({self})")
    }
}

impl Login {
    /// Returns the value of an `Authorization` header with user and password; `None` for tokens, and for what no header
    /// can carry.
    pub(super) fn basic(&self) -> Option<HeaderValue> {
        let Proof::Password(password) = &self.proof else { return None };
        let pair = Zeroizing::new(format!("{}:{}", self.username, password.reveal()));
        sensitive(&Zeroizing::new(format!("Basic {}", STANDARD.encode(pair.as_bytes()))))
    }

    /// Returns the value of an `Authorization` header with a token for the registry itself.
    pub(super) fn registry_token(&self) -> Option<HeaderValue> {
        let Proof::RegistryToken(token) = &self.proof else { return None };
        sensitive(&Zeroizing::new(format!("Bearer {}", token.reveal())))
    }
}

fn sensitive(text: &str) -> Option<HeaderValue> {
    let mut value = HeaderValue::from_str(text).ok()?;
    value.set_sensitive(true);
    Some(value)
}

/// Where a registry's logins come from.
#[derive(Clone)]
pub(super) enum Credentials {
    /// From the configuration.
    Configured(PasswordFile),
    /// From the files of docker and podman.
    Found(Arc<Places>),
    /// From somebody who tries them.
    Given(Login),
}

impl Credentials {
    /// Finds the login for a repository's path at a registry; `None` where nobody knows it.
    pub(super) async fn find(&self, registry: &str, path: &str) -> Result<Option<Login>, RemoteError> {
        match self {
            Self::Configured(configured) => configured.login(registry).await.map(Some),
            Self::Given(login) => Ok(Some(login.clone())),
            Self::Found(places) => {
                let found = find(places, registry, path).await.map_err(|error| unusable(registry, error))?;
                Ok(found.map(|(login, _)| login))
            }
        }
    }
}

pub(super) fn unusable(registry: &str, source: CredentialError) -> RemoteError {
    RemoteError::Credentials { registry: registry.to_owned(), source: Box::new(source) }
}

/// Finds a login in the files, and the file that knows it.
async fn find(places: &Places, registry: &str, path: &str) -> Result<Option<(Login, AuthFile)>, CredentialError> {
    for place in &places.auth_files {
        let file = load(&place.path).await?;
        if let Some(login) = in_file(places, &file, &place.path, registry, path).await? {
            return Ok(Some((login, place.clone())));
        }
    }
    Ok(None)
}

async fn load(path: &Path) -> Result<File, CredentialError> {
    let (owned, interrupted) = (path.to_owned(), path.to_owned());
    let loaded = tokio::task::spawn_blocking(move || File::load(&owned)).await;
    loaded.map_err(|_| CredentialError::File { path: interrupted, why: "reading it was interrupted".into() })?
}

/// Asks one file: its helper for the registry, which then decides alone; entries for parts of the registry, the longest
/// first; its helper for all registries; the registry's entry.
async fn in_file(
    places: &Places,
    file: &File,
    at: &Path,
    registry: &str,
    path: &str,
) -> Result<Option<Login>, CredentialError> {
    if let Some(name) = file.helper_of(registry) {
        return ask(&Helper::find(name, at, &places.programs)?, registry).await;
    }
    for name in file::names(registry, path).filter(|name| name != registry) {
        if let Some(login) = file.entry(at, &name)? {
            return Ok(Some(login));
        }
    }
    if let Some(name) = file.store()
        && let Some(login) = ask(&Helper::find(name, at, &places.programs)?, registry).await?
    {
        return Ok(Some(login));
    }
    file.entry(at, registry)
}

/// Asks a helper by the registry's name; for Docker Hub first by docker's, then by podman's.
async fn ask(helper: &Helper, registry: &str) -> Result<Option<Login>, CredentialError> {
    if registry == DOCKER_HUB
        && let Some(login) = helper.get(DOCKER_HUB_URL).await?
    {
        return Ok(Some(login));
    }
    helper.get(registry).await
}

/// What one logs in to: a registry, or a part of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// The host with its port, as references name it.
    pub registry: String,
    /// The first components of repositories' paths; empty for the whole registry.
    pub prefix: String,
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.registry)?;
        if self.prefix.is_empty() { Ok(()) } else { write!(f, "/{}", self.prefix) }
    }
}

impl Target {
    /// Returns the key under which a file of this format has it.
    fn key(&self, format: AuthFormat) -> String {
        match format {
            AuthFormat::Docker if self.registry == DOCKER_HUB && self.prefix.is_empty() => DOCKER_HUB_URL.to_owned(),
            _ => self.to_string(),
        }
    }

    /// Returns what helpers are told; they know whole registries only.
    fn server(&self) -> Option<&str> {
        match self.prefix.is_empty() {
            true if self.registry == DOCKER_HUB => Some(DOCKER_HUB_URL),
            true => Some(&self.registry),
            false => None,
        }
    }
}

/// Where credentials were written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Kept {
    /// A file, or a helper; for people.
    pub place: String,
    /// It is one of those that are read.
    pub is_read: bool,
}

/// Finds who one is, and where that is known.
pub(super) async fn who(places: &Places, target: &Target) -> Result<Option<(String, String)>, CredentialError> {
    let found = find(places, &target.registry, &target.prefix).await?;
    Ok(found.map(|(login, _)| (login.username, login.from)))
}

/// Keeps a login: in the file that is named; else in the file that has one for this target; else in docker's, where it
/// is there and the target is a whole registry; else in podman's. A helper that the file names takes it in the file's place.
pub(super) async fn keep(
    places: &Places,
    target: &Target,
    username: &str,
    password: &Secret,
    named: Option<AuthFile>,
) -> Result<Kept, CredentialError> {
    let place = match named {
        Some(named) => named,
        None => default_place(places, target).await?,
    };
    if place.format == AuthFormat::Docker && !target.prefix.is_empty() {
        return Err(CredentialError::WholeRegistriesOnly { path: place.path, key: target.to_string() });
    }
    let is_read = places.reads(&place.path);
    let file = load(&place.path).await?;
    if let Some(server) = target.server()
        && let Some(name) = file.helper_of(&target.registry).or_else(|| file.store())
    {
        let helper = Helper::find(name, &place.path, &places.programs)?;
        helper.store(server, username, password).await?;
        return Ok(Kept { place: helper.title(), is_read });
    }
    let pair = Zeroizing::new(format!("{username}:{}", password.reveal()));
    let auth = Secret::new(STANDARD.encode(pair.as_bytes()));
    let kept = Kept { place: place.path.display().to_string(), is_read };
    edit::apply(place.path, edit::Change::Put { key: target.key(place.format), auth }).await?;
    Ok(kept)
}

async fn default_place(places: &Places, target: &Target) -> Result<AuthFile, CredentialError> {
    // One that cannot be read is in the way whichever file is written: nothing behind it would be found.
    if let Some((_, place)) = find(places, &target.registry, &target.prefix).await? {
        let fits = place.format == AuthFormat::Podman || target.prefix.is_empty();
        if fits {
            return Ok(place);
        }
    }
    let docker = places.auth_files.iter().find(|place| place.format == AuthFormat::Docker && place.path.exists());
    let docker = docker.filter(|_| target.prefix.is_empty());
    let mut podmans = places.auth_files.iter().filter(|place| place.format == AuthFormat::Podman);
    // Where none can be written, the last says why.
    let podman = || podmans.clone().find(|place| edit::may_hold(&place.path)).or_else(|| podmans.next_back());
    docker.or_else(podman).cloned().ok_or(CredentialError::NoPlace)
}

/// Forgets the logins of a target, or of all: in the file that is named, else in every file and its helpers. Returns where
/// there were any.
pub(super) async fn forget(
    places: &Places,
    target: Option<&Target>,
    named: Option<AuthFile>,
) -> Result<Vec<String>, CredentialError> {
    let mut gone = Vec::new();
    for place in named.map_or_else(|| places.auth_files.clone(), |named| vec![named]) {
        let file = load(&place.path).await?;
        if let Some(target) = target
            && let Some(server) = target.server()
            && let Some(name) = file.helper_of(&target.registry).or_else(|| file.store())
        {
            let helper = Helper::find(name, &place.path, &places.programs)?;
            if helper.get(server).await?.is_some() {
                helper.erase(server).await?;
                gone.push(helper.title());
            }
        }
        let change = match target {
            Some(target) => edit::Change::Remove { name: target.to_string() },
            None => edit::Change::RemoveAll,
        };
        let title = place.path.display().to_string();
        if edit::apply(place.path, change).await? {
            gone.push(title);
        }
    }
    Ok(gone)
}

#[cfg(test)]
mod tests;
