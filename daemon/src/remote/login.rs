//! Logging in: credentials are tried at the registry, and kept where docker and podman keep theirs.

use std::sync::PoisonError;

use http::{Method, StatusCode};
use larder_core::Repository;

use super::credentials::{self, Credentials, Kept, Login, Proof, Secret, Target, unusable};
use super::{Access, At, RemoteError, RemoteRepository, Remotes, Scope};
use crate::config::places::AuthFile;

/// What a registry made of credentials that it did not refuse.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Asked {
    /// It asked for them and took them.
    Accepted,
    /// It asked for none, so nobody knows whether they are right.
    Nothing,
}

impl Remotes {
    /// Tries credentials at a registry's `/v2/`.
    ///
    /// # Errors
    /// Fails where the registry, or its token service, does not take them or cannot be asked.
    pub async fn try_login(&self, target: &Target, username: &str, password: &Secret) -> Result<Asked, RemoteError> {
        let given = Login {
            username: username.to_owned(),
            proof: Proof::Password(password.clone()),
            from: "the command line".into(),
        };
        let repository = Repository::new(&target.registry, "any/repository").map_err(|error| {
            let at = At { registry: target.registry.clone(), what: String::new() };
            RemoteError::Unreachable { at, why: error.to_string() }
        })?;
        let connection = std::sync::Arc::new(self.connection(&repository, Credentials::Given(given))?);
        // A token for nothing in particular: it proves who one is, not what one may do.
        let scope = Scope { path: String::new(), access: Access::Pull };
        let registry = RemoteRepository { connection, scope };
        let at = At { registry: target.registry.clone(), what: "v2/".into() };
        let mut call = registry.call(Method::GET, at, "")?;
        call.url = registry.connection.origin.join("v2/").unwrap_or(call.url);
        let response = registry.connection.call(&call).await?;
        match response.status() {
            StatusCode::OK if registry.connection.accepted.user(&registry.scope).is_some() => Ok(Asked::Accepted),
            StatusCode::OK => Ok(Asked::Nothing),
            _ => Err(registry.failure(&call.at, response, "registry").await),
        }
    }

    /// Keeps credentials in the file that is named, or where they belong, and forgets what was accepted before.
    ///
    /// # Errors
    /// Fails where no place can be read or written; nothing was changed then.
    pub async fn keep_login(
        &self,
        target: &Target,
        username: &str,
        password: &Secret,
        place: Option<AuthFile>,
    ) -> Result<Kept, RemoteError> {
        let kept = credentials::keep(&self.shared.places, target, username, password, place).await;
        let kept = kept.map_err(|error| unusable(&target.registry, error))?;
        self.start_anew(Some(&target.registry));
        Ok(kept)
    }

    /// Forgets the credentials of a target, or of all (helpers keep theirs then). Returns where there were any.
    ///
    /// # Errors
    /// Fails where a place cannot be read or written; what comes before it was changed.
    pub async fn forget_login(
        &self,
        target: Option<&Target>,
        place: Option<AuthFile>,
    ) -> Result<Vec<String>, RemoteError> {
        let registry = target.map(|target| target.registry.as_str());
        let gone = credentials::forget(&self.shared.places, target, place).await;
        self.start_anew(registry);
        gone.map_err(|error| unusable(registry.unwrap_or("all registries"), error))
    }

    /// Returns as whom a target is asked for, and where that is said; `None` is nobody.
    ///
    /// # Errors
    /// Fails where a place cannot be read.
    pub async fn login_of(&self, target: &Target) -> Result<Option<(String, String)>, RemoteError> {
        let login = match self.credentials(&target.registry) {
            Credentials::Found(places) => credentials::who(&places, target).await,
            configured => {
                let login = configured.find(&target.registry, &target.prefix).await?;
                Ok(login.map(|login| (login.username, login.from)))
            }
        };
        login.map_err(|error| unusable(&target.registry, error))
    }

    /// Says whether the configuration has an entry with credentials for a registry, which goes before all files.
    pub fn is_configured(&self, registry: &str) -> bool {
        matches!(self.credentials(registry), Credentials::Configured(_))
    }

    /// Forgets the tokens of a registry, or of all; what is under way keeps its own.
    fn start_anew(&self, registry: Option<&str>) {
        let mut connections = self.shared.connections.lock().unwrap_or_else(PoisonError::into_inner);
        match registry {
            Some(registry) => drop(connections.remove(registry)),
            None => connections.clear(),
        }
    }
}
