//! Demands: what evidence must show before a signature counts.

use std::fmt;

use jiff::Timestamp;

use super::ChainForm;
use super::evidence::{CertificateFacts, ChainFacts, Evidence};
use super::identity::{Identity, Mismatch};
use super::log::{Entry, ProvenEntry};
use super::timestamp::ProvenTime;

/// A check, by the name that errors and policies know.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Check {
    /// The signature verifies under its signer's key.
    Signature,
    /// The signature is over this artifact.
    Artifact,
    /// It is by a key, or by a certificate, as asked for.
    Signer,
    /// The certificate can be read.
    Certificate,
    /// The certificate was issued by a trusted authority, and all of the chain was valid then.
    CertificateChain,
    /// A certificate transparency log vouched for the certificate.
    Sct,
    /// A transparency log took the signature in.
    LogEntry,
    /// A timestamp authority saw the signature.
    Timestamp,
    /// Some time is proven at which the certificate can be judged.
    ObservedTime,
    /// The certificate is for who is asked for.
    Identity,
    /// The certificate's holder was vouched for by whom is asked for.
    Issuer,
    /// The certificate says of its workflow what is asked for.
    Workflow,
}

impl Check {
    /// Returns the stable name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Signature => "signature",
            Self::Artifact => "artifact",
            Self::Signer => "signer",
            Self::Certificate => "certificate",
            Self::CertificateChain => "certificate-chain",
            Self::Sct => "sct",
            Self::LogEntry => "log-entry",
            Self::Timestamp => "timestamp",
            Self::ObservedTime => "observed-time",
            Self::Identity => "identity",
            Self::Issuer => "issuer",
            Self::Workflow => "workflow",
        }
    }
}

/// A check that failed, and why.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{words}")]
pub struct Finding {
    /// The check.
    pub check: Check,
    /// Why, in words for people.
    pub words: String,
}

impl Finding {
    /// Makes a finding.
    pub fn new(check: Check, words: impl Into<String>) -> Self {
        Self { check, words: words.into() }
    }

    /// Returns the check's stable name.
    pub fn reason(&self) -> &'static str {
        self.check.name()
    }

    /// Returns what to do about it.
    pub fn hint(&self) -> &'static str {
        match self.check {
            Check::Signature | Check::Artifact => "is this the file, and the signature, that its maker published?",
            Check::Signer => {
                "give --key for what a key signed, and --certificate-identity for what a person or workflow signed"
            }
            Check::Certificate => "the signature's certificate is broken; fetch it again from its source",
            Check::CertificateChain => {
                "does --trusted-root name the authority that issued the certificate, at that time?"
            }
            Check::Sct => {
                "does --trusted-root name the certificate transparency log? --insecure-ignore-sct goes without"
            }
            Check::LogEntry => {
                "does --trusted-root name the log? --insecure-ignore-tlog goes without, if a timestamp tells the time"
            }
            Check::Timestamp => "does --trusted-root name the timestamp authority?",
            Check::ObservedTime => "a signature by a certificate needs a log's or a timestamp authority's time",
            Check::Identity | Check::Issuer | Check::Workflow => {
                "ask for another identity only if you know that it may sign this"
            }
        }
    }
}

/// What evidence must show. [`Demands::keyless`] and [`Demands::key`] are what cosign asks for by default.
#[derive(Clone, Debug)]
pub struct Demands {
    /// Whom the certificate must be for: any one of them. Empty for keys.
    pub identities: Vec<Identity>,
    /// How many logs must have the signature; 0 looks at no entry at all, not even at a false one.
    pub logs: usize,
    /// A timestamp must tell the time. Asked for by itself where entries tell none (Rekor v2).
    pub signed_timestamps: bool,
    /// A certificate transparency log must have vouched for the certificate.
    pub sct: bool,
    /// A bundle v0.3 may bring a chain; and one before must not (cosign's `--allow-certificate-chain`).
    pub certificate_chain: bool,
    /// The time at which a certificate is judged where neither logs nor timestamps are asked for, and a log's key where
    /// nothing tells the time.
    pub now: Timestamp,
}

impl Demands {
    /// Asks for one of these identities, one log and one SCT.
    pub fn keyless(identities: Vec<Identity>, now: Timestamp) -> Self {
        Self { identities, logs: 1, signed_timestamps: false, sct: true, certificate_chain: false, now }
    }

    /// Asks for a key's signature in one log.
    pub fn key(now: Timestamp) -> Self {
        Self { identities: Vec::new(), logs: 1, signed_timestamps: false, sct: false, certificate_chain: false, now }
    }
}

/// What was shown: only checks that ran.
#[derive(Clone, Debug, Default)]
pub struct Accepted {
    /// The logs that have the signature.
    pub entries: Vec<ProvenEntry>,
    /// The timestamps that told the time.
    pub timestamps: Vec<ProvenTime>,
    /// The times at which the certificate was judged.
    pub times: Vec<Timestamp>,
    /// The way to a trusted authority.
    pub chain: Option<ChainFacts>,
    /// The place of the identity among those that were asked for.
    pub identity: Option<usize>,
    /// Who the certificate is for.
    pub subject: Option<String>,
    /// Who vouched for that.
    pub issuer: Option<String>,
    /// An SCT was asked for, and there.
    pub sct: bool,
}

impl Evidence {
    /// Holds the evidence against demands.
    ///
    /// # Errors
    /// Fails with the first check that fails.
    pub fn meets(&self, demands: &Demands) -> Result<Accepted, Finding> {
        self.signature.as_ref().map_err(Clone::clone)?;
        let certificate = match (&self.certificate, self.key) {
            (None, Some(_)) if demands.identities.is_empty() => None,
            (Some(certificate), None) if !demands.identities.is_empty() => Some(certificate),
            _ => return Err(Finding::new(Check::Signer, "it is not by the kind of signer that is asked for")),
        };
        if let Some(certificate) = certificate {
            check_form(certificate, demands)?;
        }
        let by_stamps = demands.signed_timestamps || self.needs_timestamps(certificate, demands);
        let timestamps = if by_stamps { self.proven_times()? } else { Vec::new() };
        let candidates = if demands.logs == 0 { Vec::new() } else { self.entries_unbroken()? };
        let times = self.times(&timestamps, by_stamps, &candidates, certificate, demands)?;
        let entries = within_window(candidates, &times, demands.now);
        if distinct_logs(&entries) < demands.logs {
            return Err(self.too_few_logs(&entries, demands.logs));
        }
        let mut accepted = Accepted { entries, timestamps, times, ..Accepted::default() };
        if let Some(certificate) = certificate {
            accepted.chain = Some(check_chain(certificate, &accepted.times, demands)?);
            accepted.sct = demands.sct;
            accepted.identity = Some(check_identity(certificate, &demands.identities)?);
            accepted.subject.clone_from(&certificate.identity);
            accepted.issuer.clone_from(&certificate.issuer);
        }
        Ok(accepted)
    }

    /// Returns the earliest time at which the signature is proven to have been there: by a log that signed the time, or by a
    /// timestamp. Entries that contradict themselves or each other prove nothing.
    pub fn proven_since(&self) -> Option<Timestamp> {
        let logged = self.entries_unbroken().unwrap_or_default().into_iter().filter_map(|entry| entry.integrated);
        logged.chain(self.timestamps.iter().flatten().map(|stamp| stamp.at)).min()
    }

    /// Says whether only timestamps can tell the time, though nobody asked for them: Rekor v2 tells none.
    fn needs_timestamps(&self, certificate: Option<&CertificateFacts>, demands: &Demands) -> bool {
        certificate.is_some() && demands.logs > 0 && !self.entries.is_empty() && !self.claims_time
    }

    /// Returns the proven times, one for each place; there must be one.
    fn proven_times(&self) -> Result<Vec<ProvenTime>, Finding> {
        let mut proven: Vec<ProvenTime> = Vec::new();
        for time in self.timestamps.iter().flatten() {
            if !proven.iter().any(|other| other.uri == time.uri) {
                proven.push(time.clone());
            }
        }
        if !proven.is_empty() {
            return Ok(proven);
        }
        let fault = self.timestamps.iter().find_map(|time| time.as_ref().err());
        let words = fault.map_or_else(
            || "it has no timestamp, and one is needed".to_owned(),
            |fault| format!("it has no good timestamp: {fault}"),
        );
        Err(Finding::new(Check::Timestamp, words))
    }

    /// Returns the proven entries; none may be broken or there twice.
    fn entries_unbroken(&self) -> Result<Vec<ProvenEntry>, Finding> {
        if self.has_doubles {
            return Err(Finding::new(Check::LogEntry, "a log entry is there twice"));
        }
        let mut proven = Vec::new();
        for entry in &self.entries {
            match entry {
                Entry::Proven(entry) => proven.push(entry.clone()),
                Entry::NotCounted(_) => {}
                Entry::Broken(words) => {
                    return Err(Finding::new(Check::LogEntry, format!("a log entry is broken: {words}")));
                }
            }
        }
        Ok(proven)
    }

    /// Returns the times at which the certificate is to be judged; for a key, those that are known.
    fn times(
        &self,
        timestamps: &[ProvenTime],
        by_stamps: bool,
        entries: &[ProvenEntry],
        certificate: Option<&CertificateFacts>,
        demands: &Demands,
    ) -> Result<Vec<Timestamp>, Finding> {
        if by_stamps {
            return Ok(timestamps.iter().map(|time| time.at).collect());
        }
        if demands.logs == 0 {
            return Ok(certificate.map(|_| demands.now).into_iter().collect());
        }
        let times: Vec<Timestamp> = entries.iter().filter_map(|entry| entry.integrated).collect();
        if times.is_empty() && certificate.is_some() && !entries.is_empty() {
            return Err(Finding::new(Check::ObservedTime, "no log signed the time at which it took the signature in"));
        }
        Ok(times)
    }

    fn too_few_logs(&self, entries: &[ProvenEntry], wanted: usize) -> Finding {
        let not_counted = self.entries.iter().find_map(|entry| match entry {
            Entry::NotCounted(words) => Some(format!("its log entry does not count: {words}")),
            _ => None,
        });
        let words = match (not_counted, self.entries.len()) {
            (_, 0) => "it has no entry of a transparency log".to_owned(),
            (Some(words), _) => words,
            (None, _) if entries.is_empty() => "its log's key was not valid then".to_owned(),
            (None, _) => format!("{} logs have it, and {wanted} are asked for", distinct_logs(entries)),
        };
        Finding::new(Check::LogEntry, words)
    }
}

fn check_form(certificate: &CertificateFacts, demands: &Demands) -> Result<(), Finding> {
    let fault = match (certificate.form, demands.certificate_chain) {
        (ChainForm::NewBundle, false) => {
            "the bundle brings a certificate chain; --allow-certificate-chain takes it".into()
        }
        (ChainForm::OldBundle, true) => "a certificate chain is asked for, and the bundle is older than v0.3".into(),
        _ => match &certificate.more_fault {
            Some(words) => words.clone(),
            None => return Ok(()),
        },
    };
    Err(Finding::new(Check::CertificateChain, fault))
}

/// Keeps the entries whose log's key was valid at every known time; without one, it must be valid now.
fn within_window(entries: Vec<ProvenEntry>, times: &[Timestamp], now: Timestamp) -> Vec<ProvenEntry> {
    let is_valid = |entry: &ProvenEntry| match entry.integrated {
        // Its own time was held against the window where it was proven.
        Some(_) => true,
        None if times.is_empty() => entry.window.contains(now),
        None => times.iter().all(|time| entry.window.contains(*time)),
    };
    entries.into_iter().filter(is_valid).collect()
}

fn distinct_logs(entries: &[ProvenEntry]) -> usize {
    let mut logs: Vec<&[u8]> = entries.iter().map(|entry| entry.log_id.as_slice()).collect();
    logs.sort_unstable();
    logs.dedup();
    logs.len()
}

/// Finds a way to an authority at every time, with an SCT where one is asked for.
fn check_chain(certificate: &CertificateFacts, times: &[Timestamp], demands: &Demands) -> Result<ChainFacts, Finding> {
    let mut found = None;
    for time in times {
        let mut valid = certificate.chains.iter().filter(|chain| chain.window.contains(*time)).peekable();
        if valid.peek().is_none() {
            return Err(Finding::new(Check::CertificateChain, no_chain(certificate, *time)));
        }
        let mut faults = Vec::new();
        found = valid.find(|chain| {
            faults.extend(chain.sct_faults.iter().cloned());
            !demands.sct || !chain.scts.is_empty()
        });
        if found.is_none() {
            let words = format!("no certificate transparency log vouched for the certificate: {}", faults.join("; "));
            return Err(Finding::new(Check::Sct, words));
        }
    }
    found
        .cloned()
        .ok_or_else(|| Finding::new(Check::ObservedTime, "there is no time at which to judge the certificate"))
}

fn no_chain(certificate: &CertificateFacts, time: Timestamp) -> String {
    if !certificate.validity.contains(time) {
        let ends = [certificate.validity.start, certificate.validity.end].map(|end| Shown(end).to_string());
        return format!("the certificate was not valid at {time}: it is from {} to {}", ends[0], ends[1]);
    }
    match (certificate.chains.is_empty(), certificate.chain_faults.first()) {
        (false, _) => format!("the authority that issued the certificate was not valid at {time}"),
        (true, Some(words)) => format!("no trusted authority issued the certificate: it {words}"),
        (true, None) => "no authority is trusted".to_owned(),
    }
}

struct Shown(Option<Timestamp>);

impl fmt::Display for Shown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(time) => time.fmt(f),
            None => f.write_str("ever"),
        }
    }
}

fn check_identity(certificate: &CertificateFacts, identities: &[Identity]) -> Result<usize, Finding> {
    let mut last = None;
    for (place, identity) in identities.iter().enumerate() {
        match identity.check(certificate) {
            Ok(()) => return Ok(place),
            Err(mismatch) => last = Some(mismatch),
        }
    }
    Err(match last {
        Some(Mismatch::Subject(words)) => Finding::new(Check::Identity, words),
        Some(Mismatch::Issuer(words)) => Finding::new(Check::Issuer, words),
        Some(Mismatch::Extension(words)) => Finding::new(Check::Workflow, words),
        None => Finding::new(Check::Identity, "no identity is asked for"),
    })
}
