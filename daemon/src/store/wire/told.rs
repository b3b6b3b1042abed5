//! Trust sets, verdicts told, corruption, pruning.

use larder_core::verdict::{Code, Reason, State};
use prost::Message;

use super::{Malformed, Wire, digest, digest_bytes, forms, malformed, read_all, repository, tag};
use crate::store::record;

#[derive(Clone, PartialEq, Message)]
pub(in crate::store) struct TrustForm {
    #[prost(string, repeated, tag = "1")]
    changes: Vec<String>,
    #[prost(bytes = "vec", tag = "2")]
    set: Vec<u8>,
}

impl Wire for record::TrustChanged {
    type Form = TrustForm;

    fn form(&self) -> TrustForm {
        TrustForm { changes: self.changes.clone(), set: digest_bytes(&self.set) }
    }

    fn read(form: TrustForm) -> Result<Self, Malformed> {
        Ok(Self { changes: form.changes, set: digest(&form.set)? })
    }
}

#[derive(Clone, PartialEq, Message)]
pub(in crate::store) struct ToldForm {
    #[prost(string, tag = "1")]
    code: String,
    #[prost(string, tag = "2")]
    detail: String,
    #[prost(message, repeated, tag = "3")]
    changes: Vec<VerdictForm>,
}

impl Wire for record::VerdictsTold {
    type Form = ToldForm;

    fn form(&self) -> ToldForm {
        ToldForm { code: self.cause.code.clone(), detail: self.cause.detail.clone(), changes: forms(&self.changes) }
    }

    fn read(form: ToldForm) -> Result<Self, Malformed> {
        Ok(Self { cause: record::Cause { code: form.code, detail: form.detail }, changes: read_all(form.changes)? })
    }
}

#[derive(Clone, PartialEq, Message)]
pub(in crate::store) struct VerdictForm {
    #[prost(string, tag = "1")]
    repository: String,
    #[prost(bytes = "vec", tag = "2")]
    digest: Vec<u8>,
    #[prost(string, repeated, tag = "3")]
    tags: Vec<String>,
    /// Names of states; `from` is empty at a first telling.
    #[prost(string, tag = "4")]
    from: String,
    #[prost(string, tag = "5")]
    to: String,
    #[prost(message, repeated, tag = "6")]
    reasons: Vec<ReasonForm>,
    #[prost(uint64, tag = "7")]
    previous: u64,
}

#[derive(Clone, PartialEq, Message)]
pub(in crate::store) struct ReasonForm {
    #[prost(string, tag = "1")]
    code: String,
    #[prost(string, optional, tag = "2")]
    detail: Option<String>,
}

impl Wire for Reason {
    type Form = ReasonForm;

    fn form(&self) -> ReasonForm {
        ReasonForm { code: self.code.name().to_owned(), detail: self.detail.clone() }
    }

    fn read(form: ReasonForm) -> Result<Self, Malformed> {
        let code = Code::from_name(&form.code).ok_or_else(|| malformed("a reason's code"))?;
        Ok(Self { code, detail: form.detail })
    }
}

fn state(name: &str) -> Result<State, Malformed> {
    State::from_name(name).ok_or_else(|| malformed("a state"))
}

impl Wire for record::VerdictTold {
    type Form = VerdictForm;

    fn form(&self) -> VerdictForm {
        VerdictForm {
            repository: self.repository.to_string(),
            digest: digest_bytes(&self.digest),
            tags: self.tags.iter().map(ToString::to_string).collect(),
            from: self.from.map_or("", State::name).to_owned(),
            to: self.to.name().to_owned(),
            reasons: forms(&self.reasons),
            previous: self.previous,
        }
    }

    fn read(form: VerdictForm) -> Result<Self, Malformed> {
        Ok(Self {
            repository: repository(&form.repository)?,
            digest: digest(&form.digest)?,
            tags: form.tags.iter().map(|text| tag(text)).collect::<Result<_, _>>()?,
            from: if form.from.is_empty() { None } else { Some(state(&form.from)?) },
            to: state(&form.to)?,
            reasons: read_all(form.reasons)?,
            previous: form.previous,
        })
    }
}

#[derive(Clone, PartialEq, Message)]
pub(in crate::store) struct CorruptionForm {
    #[prost(bytes = "vec", tag = "1")]
    digest: Vec<u8>,
    #[prost(bool, tag = "2")]
    corrupt: bool,
}

impl Wire for record::Corruption {
    type Form = CorruptionForm;

    fn form(&self) -> CorruptionForm {
        CorruptionForm { digest: digest_bytes(&self.digest), corrupt: self.corrupt }
    }

    fn read(form: CorruptionForm) -> Result<Self, Malformed> {
        Ok(Self { digest: digest(&form.digest)?, corrupt: form.corrupt })
    }
}

#[derive(Clone, PartialEq, Message)]
pub(in crate::store) struct PrunedForm {
    #[prost(uint64, tag = "1")]
    until: u64,
    #[prost(bytes = "vec", tag = "2")]
    state: Vec<u8>,
}

impl Wire for record::Pruned {
    type Form = PrunedForm;

    fn form(&self) -> PrunedForm {
        PrunedForm { until: self.until, state: digest_bytes(&self.state) }
    }

    fn read(form: PrunedForm) -> Result<Self, Malformed> {
        Ok(Self { until: form.until, state: digest(&form.state)? })
    }
}
