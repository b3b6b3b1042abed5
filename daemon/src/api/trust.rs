//! `larder.v1.Trust`.

use std::sync::Arc;

use jiff::Timestamp;
use larder_core::policy::{AuthorityKind, KeyFile, Mode as PolicyMode, Policy, TrustSet};
use larder_proto::v1;
use larder_proto::v1::trust_server::Trust;
use tonic::{Request, Response, Status};

use super::convert;
use super::status::ApiError;
use crate::ops::Ctx;
use crate::ops::status::Process;
use crate::ops::trust_edit::{self, Consent, Edited, Effect, Listed, Mode, NewRoot};
use crate::trust::edit::Replace;

pub(super) struct Service {
    pub(super) ctx: Ctx,
    pub(super) process: Arc<Process>,
}

#[tonic::async_trait]
impl Trust for Service {
    async fn list_trust(
        &self,
        _request: Request<v1::ListTrustRequest>,
    ) -> Result<Response<v1::ListTrustResponse>, Status> {
        let listed = trust_edit::list(&self.ctx).await;
        Ok(Response::new(v1::ListTrustResponse {
            keys: listed.set.keys.iter().map(|(name, file)| key(&listed, name, file)).collect(),
            policies: listed.set.policies.iter().map(|(name, is)| policy(&listed, name, is)).collect(),
            denials: denials(&listed.set),
            roots: convert::roots(&listed.set, self.ctx.clock.now()),
            health: Some(convert::trust_health(&listed.published, &self.process.trust_folder, self.ctx.clock.now())),
        }))
    }

    async fn add_key(&self, request: Request<v1::AddKeyRequest>) -> Result<Response<v1::AddKeyResponse>, Status> {
        let request = request.into_inner();
        let name = Some(request.name.as_str()).filter(|name| !name.is_empty());
        let mode = mode(request.dry_run);
        let added = trust_edit::add_key(&self.ctx, name, &request.public_key, &request.r#for, mode);
        let added = added.await.map_err(ApiError::from)?;
        let listed = trust_edit::list(&self.ctx).await;
        Ok(Response::new(v1::AddKeyResponse {
            key: listed.set.keys.get(&added.name).map(|file| key(&listed, &added.name, file)),
            name: added.name.clone(),
            unchanged: added.unchanged,
            effect: Some(effect(&added.effect)),
            warnings: added.warnings,
        }))
    }

    async fn remove_key(
        &self,
        request: Request<v1::RemoveKeyRequest>,
    ) -> Result<Response<v1::RemoveKeyResponse>, Status> {
        let request = request.into_inner();
        let removed = trust_edit::remove_key(&self.ctx, &request.name, mode(request.dry_run));
        let Edited { effect: changed, warnings, .. } = removed.await.map_err(ApiError::from)?;
        Ok(Response::new(v1::RemoveKeyResponse { effect: Some(effect(&changed)), warnings }))
    }

    async fn add_root(&self, request: Request<v1::AddRootRequest>) -> Result<Response<v1::AddRootResponse>, Status> {
        let request = request.into_inner();
        let as_of = request.as_of.map(|time| Timestamp::new(time.seconds, time.nanos)).transpose();
        let as_of = as_of.map_err(|_| ApiError::invalid("invalid-argument", "`as_of` is no time"))?;
        let replace = if request.replace { Replace::Other } else { Replace::Never };
        let root = NewRoot { json: request.trusted_root, as_of, replace };
        let added = trust_edit::add_root(&self.ctx, &request.name, &root, mode(request.dry_run));
        let added = added.await.map_err(ApiError::from)?;
        let listed = trust_edit::list(&self.ctx).await;
        let roots = convert::roots(&listed.set, self.ctx.clock.now());
        Ok(Response::new(v1::AddRootResponse {
            root: roots.into_iter().find(|root| root.name == added.name),
            unchanged: added.unchanged,
            effect: Some(effect(&added.effect)),
            warnings: added.warnings,
        }))
    }

    async fn remove_root(
        &self,
        request: Request<v1::RemoveRootRequest>,
    ) -> Result<Response<v1::RemoveRootResponse>, Status> {
        let request = request.into_inner();
        let removed = trust_edit::remove_root(&self.ctx, &request.name, mode(request.dry_run));
        let Edited { effect: changed, warnings, .. } = removed.await.map_err(ApiError::from)?;
        Ok(Response::new(v1::RemoveRootResponse { effect: Some(effect(&changed)), warnings }))
    }

    async fn allow(&self, request: Request<v1::AllowRequest>) -> Result<Response<v1::AllowResponse>, Status> {
        let request = request.into_inner();
        let consent = if request.consent { Consent::Given } else { Consent::Missing };
        let allowed = trust_edit::allow(&self.ctx, &request.glob, mode(request.dry_run), consent);
        let Edited { name, effect: changed, warnings, .. } = allowed.await.map_err(ApiError::from)?;
        Ok(Response::new(v1::AllowResponse { policy: name, effect: Some(effect(&changed)), warnings }))
    }
}

fn mode(dry_run: bool) -> Mode {
    if dry_run { Mode::DryRun } else { Mode::Apply }
}

fn key(listed: &Listed, name: &str, file: &KeyFile) -> v1::Key {
    let id = file.key.id();
    v1::Key {
        name: name.to_owned(),
        id: id.to_string(),
        algorithm: file.key.algorithm().to_string(),
        r#for: file.scope.iter().map(|glob| glob.as_str().to_owned()).collect(),
        valid_from: file.valid_from.map(convert::timestamp),
        valid_until: file.valid_until.map(convert::timestamp),
        revoked: file.revoked.clone().unwrap_or_default(),
        policies: listed.set.policies_naming(name),
        signatures: listed.signatures.get(&id).copied().unwrap_or_default(),
    }
}

fn policy(listed: &Listed, name: &str, policy: &Policy) -> v1::Policy {
    let path = format!("policies/{name}.yaml");
    let about = listed.warnings.iter().filter(|(of, _)| *of == path).map(|(_, message)| message.clone());
    v1::Policy {
        name: name.to_owned(),
        globs: policy.globs.iter().map(|glob| glob.as_str().to_owned()).collect(),
        mode: match policy.mode {
            PolicyMode::Enforce => "enforce".to_owned(),
            PolicyMode::Warn => "warn".to_owned(),
        },
        authorities: policy
            .authorities
            .iter()
            .map(|authority| {
                let what = match &authority.kind {
                    AuthorityKind::KeyFile { name, .. } => format!("key {name}"),
                    AuthorityKind::KeyData { key, .. } => format!("key {}", key.id()),
                    AuthorityKind::Keyless(keyless) => match keyless.identities.len() {
                        1 => "1 identity".to_owned(),
                        count => format!("{count} identities"),
                    },
                    AuthorityKind::StaticPass => "static pass".to_owned(),
                    AuthorityKind::StaticFail { .. } => "static fail".to_owned(),
                    AuthorityKind::Other => "not evaluated".to_owned(),
                };
                format!("{}: {what}", authority.name)
            })
            .collect(),
        warnings: about.collect(),
    }
}

fn denials(set: &TrustSet) -> Vec<v1::Denial> {
    let denial =
        |kind: &str, what: String, reason: &str| v1::Denial { kind: kind.to_owned(), what, reason: reason.to_owned() };
    let digests = set.deny.digests.iter().map(|(digest, reason)| denial("digest", digest.to_string(), reason));
    let keys = set.deny.keys.iter().map(|(name, reason)| denial("key", name.clone(), reason));
    let identities = set
        .deny
        .identities
        .iter()
        .map(|(issuer, subject, reason)| denial("identity", format!("{subject} of {issuer}"), reason));
    digests.chain(keys).chain(identities).collect()
}

fn effect(effect: &Effect) -> v1::Effect {
    v1::Effect {
        subjects: effect.subjects,
        changed: effect.changed,
        transitions: effect
            .transitions
            .iter()
            .map(|((from, to), count)| v1::Transition {
                from: convert::state(*from).into(),
                to: convert::state(*to).into(),
                count: *count,
            })
            .collect(),
        changes: effect
            .changes
            .iter()
            .map(|change| v1::SubjectChange {
                repository: change.repository.to_string(),
                tags: convert::names(&change.tags),
                digest: change.digest.to_string(),
                from: convert::state(change.from).into(),
                to: convert::state(change.to).into(),
                reasons: convert::reasons(&change.reasons),
            })
            .collect(),
        applied: effect.applied,
    }
}
