//! Operations, manifests and tags.

use larder_core::artifact::AttachedKind;
use larder_core::facts::SignatureRow;
use larder_core::signature::{Format, Says, SignatureId};
use prost::Message;

use super::{
    Malformed, Wire, bytes_or_empty, digest, digest_bytes, digest_or_none, forms, hash, number, read_all, repository,
    tag, time, value,
};
use crate::store::record;

#[derive(Clone, PartialEq, Message)]
pub(in crate::store) struct OperationForm {
    #[prost(uint32, tag = "1")]
    kind: u32,
    #[prost(string, tag = "2")]
    reference: String,
    #[prost(message, repeated, tag = "3")]
    manifests: Vec<ManifestForm>,
    #[prost(message, repeated, tag = "4")]
    tags: Vec<TagMovedForm>,
    #[prost(message, repeated, tag = "5")]
    detached: Vec<DetachedForm>,
}

const OPERATIONS: [(record::OperationKind, u32); 10] = [
    (record::OperationKind::Pull, 1),
    (record::OperationKind::Push, 2),
    (record::OperationKind::Receive, 3),
    (record::OperationKind::Sign, 4),
    (record::OperationKind::Tag, 5),
    (record::OperationKind::Untag, 6),
    (record::OperationKind::Save, 7),
    (record::OperationKind::Load, 8),
    (record::OperationKind::Attach, 9),
    (record::OperationKind::Clean, 10),
];

impl Wire for record::Operation {
    type Form = OperationForm;

    fn form(&self) -> OperationForm {
        OperationForm {
            kind: number(&OPERATIONS, self.kind),
            reference: self.reference.clone(),
            manifests: forms(&self.manifests),
            tags: forms(&self.tags),
            detached: forms(&self.detached),
        }
    }

    fn read(form: OperationForm) -> Result<Self, Malformed> {
        Ok(Self {
            kind: value(&OPERATIONS, form.kind, "an operation's kind")?,
            reference: form.reference,
            manifests: read_all(form.manifests)?,
            tags: read_all(form.tags)?,
            detached: read_all(form.detached)?,
        })
    }
}

#[derive(Clone, PartialEq, Message)]
pub(in crate::store) struct ManifestForm {
    #[prost(string, tag = "1")]
    repository: String,
    #[prost(bytes = "vec", tag = "2")]
    digest: Vec<u8>,
    #[prost(string, tag = "3")]
    media_type: String,
    #[prost(string, optional, tag = "4")]
    artifact_type: Option<String>,
    #[prost(uint64, tag = "5")]
    size: u64,
    /// 0 none, 1 root, 2 child.
    #[prost(uint32, tag = "6")]
    role: u32,
    #[prost(message, optional, tag = "7")]
    attached: Option<AttachedForm>,
    #[prost(message, repeated, tag = "8")]
    successors: Vec<SuccessorForm>,
    #[prost(bytes = "vec", repeated, tag = "9")]
    left_out: Vec<Vec<u8>>,
    #[prost(message, repeated, tag = "10")]
    signatures: Vec<SignatureForm>,
    #[prost(uint32, tag = "11")]
    uncounted: u32,
}

const ROLES: [(Option<record::SubjectRole>, u32); 3] =
    [(None, 0), (Some(record::SubjectRole::Root), 1), (Some(record::SubjectRole::Child), 2)];

impl Wire for record::ManifestAdded {
    type Form = ManifestForm;

    fn form(&self) -> ManifestForm {
        ManifestForm {
            repository: self.repository.to_string(),
            digest: digest_bytes(&self.digest),
            media_type: self.media_type.clone(),
            artifact_type: self.artifact_type.clone(),
            size: self.size,
            role: number(&ROLES, self.subject),
            attached: self.attached.as_ref().map(Wire::form),
            successors: forms(&self.successors),
            left_out: self.left_out.iter().map(digest_bytes).collect(),
            signatures: forms(&self.signatures),
            uncounted: self.uncounted,
        }
    }

    fn read(form: ManifestForm) -> Result<Self, Malformed> {
        Ok(Self {
            repository: repository(&form.repository)?,
            digest: digest(&form.digest)?,
            media_type: form.media_type,
            artifact_type: form.artifact_type,
            size: form.size,
            subject: value(&ROLES, form.role, "a subject's role")?,
            attached: form.attached.map(Wire::read).transpose()?,
            successors: read_all(form.successors)?,
            left_out: form.left_out.iter().map(|bytes| digest(bytes)).collect::<Result<_, _>>()?,
            signatures: read_all(form.signatures)?,
            uncounted: form.uncounted,
        })
    }
}

#[derive(Clone, PartialEq, Message)]
pub(in crate::store) struct AttachedForm {
    #[prost(bytes = "vec", tag = "1")]
    subject: Vec<u8>,
    #[prost(uint32, tag = "2")]
    kind: u32,
    #[prost(string, optional, tag = "3")]
    tag: Option<String>,
}

const ATTACHED: [(AttachedKind, u32); 6] = [
    (AttachedKind::Signature, 1),
    (AttachedKind::Attestation, 2),
    (AttachedKind::Bundle, 3),
    (AttachedKind::Notation, 4),
    (AttachedKind::Sbom, 5),
    (AttachedKind::Other, 6),
];

impl Wire for record::AttachedTo {
    type Form = AttachedForm;

    fn form(&self) -> AttachedForm {
        AttachedForm {
            subject: digest_bytes(&self.subject),
            kind: number(&ATTACHED, self.kind),
            tag: self.tag.as_ref().map(ToString::to_string),
        }
    }

    fn read(form: AttachedForm) -> Result<Self, Malformed> {
        Ok(Self {
            subject: digest(&form.subject)?,
            kind: value(&ATTACHED, form.kind, "what is attached")?,
            tag: form.tag.as_deref().map(tag).transpose()?,
        })
    }
}

#[derive(Clone, PartialEq, Message)]
pub(in crate::store) struct SuccessorForm {
    #[prost(bytes = "vec", tag = "1")]
    digest: Vec<u8>,
    #[prost(uint64, tag = "2")]
    size: u64,
    #[prost(bool, tag = "3")]
    manifest: bool,
}

impl Wire for record::Successor {
    type Form = SuccessorForm;

    fn form(&self) -> SuccessorForm {
        SuccessorForm { digest: digest_bytes(&self.digest), size: self.size, manifest: self.manifest }
    }

    fn read(form: SuccessorForm) -> Result<Self, Malformed> {
        Ok(Self { digest: digest(&form.digest)?, size: form.size, manifest: form.manifest })
    }
}

#[derive(Clone, PartialEq, Message)]
pub(in crate::store) struct SignatureForm {
    #[prost(bytes = "vec", tag = "1")]
    id: Vec<u8>,
    #[prost(uint32, tag = "2")]
    format: u32,
    #[prost(bytes = "vec", tag = "3")]
    names: Vec<u8>,
    #[prost(int64, tag = "4")]
    first_seen: i64,
    #[prost(bytes = "vec", tag = "5")]
    manifest: Vec<u8>,
    #[prost(uint32, tag = "6")]
    layer: u32,
    /// The type of the predicate; absent where it signs.
    #[prost(string, optional, tag = "7")]
    predicate_type: Option<String>,
}

const FORMATS: [(Format, u32); 4] =
    [(Format::SimpleSigning, 1), (Format::Bundle, 2), (Format::Attestation, 3), (Format::Notation, 4)];

impl Wire for SignatureRow {
    type Form = SignatureForm;

    fn form(&self) -> SignatureForm {
        SignatureForm {
            id: self.id.0.to_vec(),
            format: number(&FORMATS, self.format),
            names: bytes_or_empty(self.names.as_ref()),
            first_seen: self.first_seen.as_millisecond(),
            manifest: digest_bytes(&self.manifest),
            layer: self.layer,
            predicate_type: self.says.predicate_type().map(str::to_owned),
        }
    }

    fn read(form: SignatureForm) -> Result<Self, Malformed> {
        Ok(Self {
            id: SignatureId(hash(&form.id)?),
            format: value(&FORMATS, form.format, "a signature's format")?,
            names: digest_or_none(&form.names)?,
            first_seen: time(form.first_seen)?,
            manifest: digest(&form.manifest)?,
            layer: form.layer,
            says: form.predicate_type.map_or(Says::Signed, |predicate_type| Says::Attested(predicate_type.into())),
        })
    }
}

#[derive(Clone, PartialEq, Message)]
pub(in crate::store) struct TagMovedForm {
    #[prost(string, tag = "1")]
    repository: String,
    #[prost(string, tag = "2")]
    tag: String,
    #[prost(bytes = "vec", tag = "3")]
    old: Vec<u8>,
    #[prost(bytes = "vec", tag = "4")]
    new: Vec<u8>,
}

impl Wire for record::TagMoved {
    type Form = TagMovedForm;

    fn form(&self) -> TagMovedForm {
        TagMovedForm {
            repository: self.repository.to_string(),
            tag: self.tag.to_string(),
            old: bytes_or_empty(self.old.as_ref()),
            new: bytes_or_empty(self.new.as_ref()),
        }
    }

    fn read(form: TagMovedForm) -> Result<Self, Malformed> {
        Ok(Self {
            repository: repository(&form.repository)?,
            tag: tag(&form.tag)?,
            old: digest_or_none(&form.old)?,
            new: digest_or_none(&form.new)?,
        })
    }
}

#[derive(Clone, PartialEq, Message)]
pub(in crate::store) struct TagRowForm {
    #[prost(bytes = "vec", tag = "1")]
    digest: Vec<u8>,
    #[prost(uint64, tag = "2")]
    seq: u64,
    #[prost(int64, tag = "3")]
    moved: i64,
}

impl Wire for record::TagRow {
    type Form = TagRowForm;

    fn form(&self) -> TagRowForm {
        TagRowForm { digest: digest_bytes(&self.digest), seq: self.seq, moved: self.moved.as_millisecond() }
    }

    fn read(form: TagRowForm) -> Result<Self, Malformed> {
        Ok(Self { digest: digest(&form.digest)?, seq: form.seq, moved: time(form.moved)? })
    }
}

#[derive(Clone, PartialEq, Message)]
pub(in crate::store) struct DetachedForm {
    #[prost(string, tag = "1")]
    repository: String,
    #[prost(bytes = "vec", tag = "2")]
    digest: Vec<u8>,
    #[prost(bytes = "vec", tag = "3")]
    subject: Vec<u8>,
    #[prost(bytes = "vec", repeated, tag = "4")]
    signatures: Vec<Vec<u8>>,
    #[prost(uint32, tag = "5")]
    uncounted: u32,
}

impl Wire for record::Detached {
    type Form = DetachedForm;

    fn form(&self) -> DetachedForm {
        DetachedForm {
            repository: self.repository.to_string(),
            digest: digest_bytes(&self.digest),
            subject: digest_bytes(&self.subject),
            signatures: self.signatures.iter().map(|id| id.0.to_vec()).collect(),
            uncounted: self.uncounted,
        }
    }

    fn read(form: DetachedForm) -> Result<Self, Malformed> {
        let ids = form.signatures.iter().map(|id| Ok(SignatureId(hash(id)?)));
        Ok(Self {
            repository: repository(&form.repository)?,
            digest: digest(&form.digest)?,
            subject: digest(&form.subject)?,
            signatures: ids.collect::<Result<_, Malformed>>()?,
            uncounted: form.uncounted,
        })
    }
}
