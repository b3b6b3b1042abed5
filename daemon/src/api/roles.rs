//! Who may call what, and how long a call may take: one table for every method that is served.

use std::time::Duration;

pub(super) use crate::config::Role;

/// How long a call may take that is answered from what is held.
pub(super) const QUICK: Duration = Duration::from_secs(60);
/// How long a call may take that asks a registry, or waits for the trust folder to settle or a disk to sync.
pub(super) const SLOW: Duration = Duration::from_secs(600);

/// The rule for a method.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Rule {
    /// What a certificate must be good for; the socket's peers may call everything.
    pub(super) role: Role,
    /// Until when an answer, or the first of a stream, must have begun.
    pub(super) within: Duration,
}

const ASK: Rule = Rule { role: Role::Reader, within: QUICK };
const CHANGE: Rule = Rule { role: Role::Operator, within: SLOW };

/// Every method of every service, in the order of their names. A reader asks about what is here; whatever changes
/// something, asks a registry in the daemon's name, or says what is here but listed by nobody, is for operators.
const METHODS: &[(&str, Rule)] = &[
    ("/grpc.health.v1.Health/Check", ASK),
    ("/grpc.health.v1.Health/Watch", ASK),
    ("/grpc.reflection.v1.ServerReflection/ServerReflectionInfo", ASK),
    ("/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo", ASK),
    ("/larder.v1.Artifacts/GetArtifact", ASK),
    ("/larder.v1.Artifacts/GetTree", ASK),
    ("/larder.v1.Artifacts/ListArtifacts", ASK),
    ("/larder.v1.Artifacts/ListRemoteTags", CHANGE),
    ("/larder.v1.Artifacts/RemoveTags", CHANGE),
    ("/larder.v1.Artifacts/ResolveReference", ASK),
    ("/larder.v1.Artifacts/ResolveRemote", CHANGE),
    ("/larder.v1.Artifacts/SetTag", CHANGE),
    ("/larder.v1.Attachments/AttachEvidence", CHANGE),
    ("/larder.v1.Attachments/AttachSbom", CHANGE),
    ("/larder.v1.Attachments/Clean", CHANGE),
    ("/larder.v1.Attachments/ListSboms", ASK),
    ("/larder.v1.Attachments/ReadSbom", ASK),
    ("/larder.v1.Content/FindMissing", CHANGE),
    ("/larder.v1.Content/PutManifest", CHANGE),
    // Past the gate for operators only: the service itself looks.
    ("/larder.v1.Content/Read", ASK),
    ("/larder.v1.Content/Write", CHANGE),
    ("/larder.v1.Daemon/GetStatus", ASK),
    ("/larder.v1.Daemon/PruneJournal", CHANGE),
    ("/larder.v1.Daemon/Stop", CHANGE),
    ("/larder.v1.Layouts/Load", CHANGE),
    ("/larder.v1.Layouts/Save", CHANGE),
    ("/larder.v1.Registries/GetLogin", CHANGE),
    ("/larder.v1.Registries/Login", CHANGE),
    ("/larder.v1.Registries/Logout", CHANGE),
    ("/larder.v1.Signatures/AttachSignature", CHANGE),
    ("/larder.v1.Signatures/ListSignable", ASK),
    ("/larder.v1.Signatures/PrepareSignature", CHANGE),
    ("/larder.v1.Sync/Pull", CHANGE),
    ("/larder.v1.Sync/Push", CHANGE),
    ("/larder.v1.Trust/AddKey", CHANGE),
    ("/larder.v1.Trust/AddRoot", CHANGE),
    ("/larder.v1.Trust/Allow", CHANGE),
    ("/larder.v1.Trust/ListTrust", ASK),
    ("/larder.v1.Trust/RemoveKey", CHANGE),
    ("/larder.v1.Trust/RemoveRoot", CHANGE),
    ("/larder.v1.Verification/Explain", ASK),
    ("/larder.v1.Verification/History", ASK),
    ("/larder.v1.Verification/Query", ASK),
    ("/larder.v1.Verification/Summarize", ASK),
    ("/larder.v1.Verification/Verify", CHANGE),
    ("/larder.v1.Verification/VerifySignatures", CHANGE),
    ("/larder.v1.Verification/Watch", ASK),
];

/// Returns the rule for a path; what is not in the table is for operators, and will be UNIMPLEMENTED.
pub(super) fn rule(path: &str) -> Rule {
    METHODS.iter().find(|(method, _)| *method == path).map_or(CHANGE, |(_, rule)| *rule)
}

#[cfg(test)]
mod tests {
    use prost::Message as _;
    use prost_types::FileDescriptorSet;

    use super::*;

    /// Lists the methods in these descriptors.
    fn methods(encoded: &[u8]) -> Vec<String> {
        let set = FileDescriptorSet::decode(encoded).expect("descriptors");
        let services = set.file.iter().flat_map(|file| file.service.iter().map(|service| (file.package(), service)));
        let methods = services.flat_map(|(package, service)| {
            service.method.iter().map(move |method| format!("/{package}.{}/{}", service.name(), method.name()))
        });
        methods.collect()
    }

    #[test]
    fn every_method_has_its_rule_and_no_other_has() {
        let sets = [
            larder_proto::DESCRIPTORS,
            tonic_health::pb::FILE_DESCRIPTOR_SET,
            tonic_reflection::pb::v1::FILE_DESCRIPTOR_SET,
            tonic_reflection::pb::v1alpha::FILE_DESCRIPTOR_SET,
        ];
        let mut served: Vec<String> = sets.into_iter().flat_map(methods).collect();
        served.sort();
        let ruled: Vec<&str> = METHODS.iter().map(|(method, _)| *method).collect();
        assert_eq!(ruled, served, "a method was added or removed: decide in METHODS who may call it");
    }

    #[test]
    fn a_reader_changes_nothing() {
        for verb in ["Add", "Remove", "Allow", "Put", "Write", "Pull", "Push", "Attach", "Stop", "Set", "Delete", "Tag"]
        {
            for &(method, rule) in METHODS {
                let name = method.rsplit('/').next().unwrap_or_default();
                assert!(!name.starts_with(verb) || rule.role == Role::Operator, "{method}");
            }
        }
        assert_eq!(rule("/larder.v1.Nothing/Known").role, Role::Operator);
    }
}
