//! Describes a manifest for the journal: its successors, and the signatures that it holds.

use larder_core::manifest::Manifest;
use larder_core::{Digest, Repository};

use super::Ctx;
use crate::store::StoreError;
use crate::store::record::{AttachedTo, ManifestAdded, SubjectRole};

/// Describes a manifest whose blobs are in the store. Reads the payloads of signature layers and counts signatures against the limit.
pub async fn describe(
    _ctx: &Ctx,
    _repository: &Repository,
    _manifest: &Manifest,
    _subject: Option<SubjectRole>,
    _attached: Option<AttachedTo>,
    _left_out: Vec<Digest>,
) -> Result<ManifestAdded, StoreError> {
    unimplemented!()
}
