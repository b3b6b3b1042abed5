//! What is told of single signatures.

use super::super::bench::{Bench, Demand, Held, Signer, Subject};
use super::super::proof::{Proven, Timely};
use super::super::reasons;
use super::{Mark, Node};
use crate::facts::{Holding, Tried};
use crate::key::AnchorId;
use crate::policy::{Anchor, AttestationDemand, Keyless};
use crate::signature::{Format, Says};
use crate::verdict::Code;

impl<'a> Bench<'a> {
    /// Says what the demand makes of one attestation, and whether what it says is what the entry asks for.
    pub(super) fn attested_node(&self, attestation: u32, entry: &AttestationDemand, demand: &Demand<'a>) -> Node {
        let node = self.signature_node(attestation, demand);
        match self.holding(attestation, entry) {
            Holding::No if node.mark == Mark::Good => {
                let outcome = format!("{}, and the policy's condition does not hold for what it says", node.outcome);
                Node { mark: Mark::Bad, outcome, ..node }.code(Code::ConditionFailed)
            }
            Holding::NotTried if node.mark == Mark::Good => {
                Node { mark: Mark::Pending, outcome: "its condition is not checked yet".to_owned(), ..node }
                    .code(Code::CheckMissing)
            }
            Holding::Yes | Holding::No | Holding::NotTried => node,
        }
    }

    pub(super) fn signature_node(&self, signature: u32, demand: &Demand<'a>) -> Node {
        let label = self.signature_label(signature);
        let node = match &demand.signer {
            Signer::Key { id, anchor, .. } => self.key_node(label, signature, (id, anchor), demand),
            Signer::Identity { keyless, roots } => self.identity_node(label, signature, keyless, roots),
        };
        Node { signature: self.facts.signature_row(signature).map(|row| row.id), ..node }
    }

    /// Says what one key makes of one signature.
    fn key_node(&self, label: String, signature: u32, (id, anchor): (&AnchorId, &Anchor), demand: &Demand<'a>) -> Node {
        let number = self.facts.anchor_number(id);
        match self.facts.tried(signature, number) {
            Tried::Valid(_) if demand.authority.is_some_and(|authority| !self.fits(signature, authority)) => {
                let outcome = "valid, and not in the format or from the source asked for";
                Node::new("signature", label, Mark::Bad, outcome).code(Code::NotAsAsked)
            }
            Tried::Valid(hash) if demand.takes(hash) => self.valid_node(label, signature, (id, anchor), demand),
            Tried::Valid(hash) => {
                let outcome = format!("valid, over {} and not the hash asked for", reasons::hash_name(hash));
                Node::new("signature", label, Mark::Bad, outcome).code(Code::WrongHash)
            }
            Tried::Not => Node::new("signature", label, Mark::Pending, "not checked yet").code(Code::CheckMissing),
            Tried::Invalid => {
                let others = self.facts.valid_anchors(signature).filter_map(|(id, _)| self.trust.anchor(id));
                match others.map(Anchor::display_name).next() {
                    Some(other) => {
                        let outcome = format!("does not verify: made by key {other}");
                        Node::new("signature", label, Mark::Bad, outcome).code(Code::OtherKey)
                    }
                    None => {
                        let outcome = "does not verify: made by another key";
                        Node::new("signature", label, Mark::Bad, outcome).code(Code::UnknownKey)
                    }
                }
            }
        }
    }

    /// Says whether what proves a good signature is there, and whether it was made in time.
    fn valid_node(
        &self,
        label: String,
        signature: u32,
        (id, anchor): (&AnchorId, &Anchor),
        demand: &Demand<'a>,
    ) -> Node {
        let pending = |label| {
            Node::new("signature", label, Mark::Pending, "valid, and what proves its time is not checked")
                .code(Code::CheckMissing)
        };
        if let Signer::Key { proof: Some(proof), .. } = &demand.signer {
            match self.proven(signature, id, proof) {
                Proven::Yes => {}
                Proven::No(finding) => {
                    let outcome =
                        format!("valid, and not proven as asked for: {}: {}", finding.reason(), finding.words);
                    return Node::new("signature", label, Mark::Bad, outcome).code(Code::ProofMissing);
                }
                Proven::NotTried => return pending(label),
            }
        }
        match self.timely(signature, id, anchor) {
            Timely::Yes => Node::new("signature", label, Mark::Good, "valid").code(Code::SignedBy),
            Timely::FirstSeen => {
                let outcome = "valid, and first seen here before its key was retired";
                Node::new("signature", label, Mark::Good, outcome).code(Code::FirstSeen)
            }
            Timely::NotTried => pending(label),
            Timely::No => {
                let words = anchor.life.revoked.as_deref().unwrap_or("retired");
                let outcome = format!("valid, and nothing shows that it was made before its key was {words}");
                Node::new("signature", label, Mark::Bad, outcome).code(Code::KeyRevoked)
            }
        }
    }

    /// Says what identities make of one signature.
    fn identity_node(&self, label: String, signature: u32, keyless: &Keyless, roots: &[AnchorId]) -> Node {
        let mut refused = None;
        for root in roots {
            match self.identity(signature, root, keyless) {
                Held::By { who, denied: None } => {
                    return Node::new("signature", label, Mark::Good, format!("by {who}")).code(Code::SignedBy);
                }
                Held::By { who, denied: Some(reason) } => {
                    let outcome = format!("by {who}, who is denied: {reason}");
                    return Node::new("signature", label, Mark::Bad, outcome).code(Code::KeyRevoked);
                }
                Held::NotTried => {
                    let node = Node::new("signature", label, Mark::Pending, "not checked yet");
                    return node.code(Code::CheckMissing);
                }
                Held::Refused(finding) => refused = refused.or(finding),
            }
        }
        match refused {
            Some(finding) => {
                let outcome = format!("{}: {}", finding.reason(), finding.words);
                Node::new("signature", label, Mark::Bad, outcome).code(Code::IdentityRefused)
            }
            None => {
                let outcome = "not by a certificate's holder";
                Node::new("signature", label, Mark::Bad, outcome).code(Code::UnknownKey)
            }
        }
    }

    /// Names a signature and where it was found.
    pub(super) fn signature_label(&self, signature: u32) -> String {
        let Some(row) = self.facts.signature_row(signature) else { return "signature".to_owned() };
        let format = match (row.format, row.says.predicate_type()) {
            (Format::SimpleSigning, _) => "classic signature".to_owned(),
            (Format::Bundle, None) => "bundle".to_owned(),
            (Format::Bundle, Some(predicate_type)) => format!("bundle with {predicate_type}"),
            (Format::Attestation, Some(predicate_type)) => format!("attestation of {predicate_type}"),
            (Format::Attestation, None) => "attestation".to_owned(),
            (Format::Notation, _) => "Notation signature".to_owned(),
        };
        let id: String = row.id.to_string().chars().take(12).collect();
        let found = self.facts.found_at(row.id);
        let from = found.first().map(|(repository, at)| format!(", found at {repository}@{}", at.short()));
        let more = match found.len() {
            0 | 1 => String::new(),
            count => format!(" and {} more", count - 1),
        };
        format!("{format} {id}…{}{more}", from.unwrap_or_default())
    }

    /// Lists what was found at the subject and cannot count for it.
    pub(super) fn other_signatures(&self, subject: &Subject<'a>) -> Vec<Node> {
        let numbers = self.facts.in_order(self.facts.found_numbers(subject.digest).collect());
        let mut nodes = Vec::new();
        for number in numbers {
            let Some(row) = self.facts.signature_row(number) else { continue };
            let label = self.signature_label(number);
            let before = nodes.len();
            match row.names {
                _ if !row.format.is_checked() => {
                    let outcome = "this version does not check this format";
                    nodes.push(Node::new("signature", label, Mark::Bad, outcome).code(Code::Unsupported));
                }
                Some(names) if names != subject.digest => {
                    let outcome = format!("names another digest: {}", names.short());
                    nodes.push(Node::new("signature", label, Mark::Bad, outcome).code(Code::NamesAnotherDigest));
                }
                Some(_) if row.says != Says::Signed => {
                    let by = self.facts.valid_anchors(number).find_map(|(id, _)| self.trust.anchor(id));
                    let outcome = match by {
                        Some(anchor) => format!("an attestation by key {}; it is no signature", anchor.display_name()),
                        None => "an attestation by no key that is known here".to_owned(),
                    };
                    nodes.push(Node::new("signature", label, Mark::None, outcome));
                }
                Some(_) => {}
                None => {
                    let outcome = "its payload cannot be read";
                    nodes.push(Node::new("signature", label, Mark::Bad, outcome).code(Code::UnreadablePayload));
                }
            }
            nodes.iter_mut().skip(before).for_each(|node| node.signature = Some(row.id));
        }
        match self.facts.uncounted(subject.digest) {
            0 => {}
            beyond => {
                let label = format!("{beyond} signatures beyond the limit");
                nodes.push(Node::new("note", label, Mark::None, "not counted").code(Code::TooManySignatures));
            }
        }
        if nodes.is_empty() {
            return nodes;
        }
        vec![Node::new("note", "found at it, and no signature of it", Mark::None, "").with(nodes)]
    }
}
