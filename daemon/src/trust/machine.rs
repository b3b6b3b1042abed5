//! What follows from events and readings as time passes. Pure: the present is an argument.
//!
//! An event begins an unsettled time; every reading that differs from the one before prolongs it. It ends with a reading that began
//! 20 ms or more after the last difference and showed none. Only then, and only without fault, is a reading offered to the owner,
//! and only the owner puts it in force. Until then the answer is the worse of two verdicts, so that whatever narrows acts with the
//! first reading that shows it, and nothing else acts before its time.

use std::sync::Arc;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use larder_core::Digest;
use larder_core::policy::{TrustFiles, TrustSet, TrustView};

use super::read::Contents;
use super::{Condition, Published, Settled};

/// For how long nothing may change before the folder counts as settled.
pub(super) const QUIET: Duration = Duration::from_millis(20);
/// For how long a fault may last before it is called one: files are written in pieces.
pub(super) const FAULT_LASTS: Duration = Duration::from_millis(250);

/// The set in force.
#[derive(Clone, Debug)]
pub(super) struct InForce {
    pub(super) files: TrustFiles,
    pub(super) set: Arc<TrustSet>,
    pub(super) digest: Digest,
    pub(super) since: Timestamp,
}

/// A reading and the instant at which it began.
#[derive(Debug)]
struct Seen {
    began: Instant,
    contents: Arc<Contents>,
}

/// The state of the watched folder.
#[derive(Debug)]
pub(super) struct Machine {
    in_force: Option<InForce>,
    latest: Option<Seen>,
    /// When the first event came or the last difference was seen; `None` while settled.
    unsettled: Option<Instant>,
    /// Since when every reading had a fault.
    faulty_since: Option<Instant>,
    /// The fault has lasted.
    faulty: bool,
    /// What was offered to the owner and is neither in force nor overtaken.
    offered: Option<TrustFiles>,
    stopped: bool,
}

impl Machine {
    /// Begins with the set last in force. Beginning is an event: the folder may have changed since.
    pub(super) fn new(last: Option<InForce>, now: Instant) -> Self {
        Self {
            in_force: last,
            latest: None,
            unsettled: Some(now),
            faulty_since: None,
            faulty: false,
            offered: None,
            stopped: false,
        }
    }

    /// Something may have changed.
    pub(super) fn event(&mut self, now: Instant) {
        // While unsettled only differences prolong: somebody who touches a file for ever must not hold trust up for ever.
        self.unsettled.get_or_insert(now);
    }

    /// Takes in a reading that began and ended at these instants.
    pub(super) fn reading(&mut self, began: Instant, ended: Instant, contents: Arc<Contents>) {
        let differs = self.latest.as_ref().is_none_or(|latest| !latest.contents.same_as(&contents));
        if differs {
            self.unsettled = Some(ended);
            self.offered = None;
        } else if self.unsettled.is_some_and(|since| began >= since + QUIET) {
            self.unsettled = None;
        }
        if contents.is_faulty() {
            self.faulty_since.get_or_insert(ended);
        } else {
            self.faulty_since = None;
            self.faulty = false;
        }
        self.latest = Some(Seen { began, contents });
    }

    /// The owner has made a set durable.
    pub(super) fn put_in_force(&mut self, in_force: InForce) {
        if self.offered.as_ref() == Some(&in_force.files) {
            self.offered = None;
        }
        self.in_force = Some(in_force);
    }

    /// Lets time pass; returns what the owner has to journal, once.
    pub(super) fn step(&mut self, now: Instant) -> Option<Settled> {
        self.faulty = self.faulty_since.is_some_and(|since| now >= since + FAULT_LASTS);
        let contents = Arc::clone(&self.latest.as_ref()?.contents);
        if self.unsettled.is_some() || contents.is_faulty() || self.is_missing() {
            return None;
        }
        if self.in_force.as_ref().is_some_and(|in_force| in_force.files == contents.files) {
            self.offered = None;
            return None;
        }
        if self.offered.as_ref() == Some(&contents.files) {
            return None;
        }
        self.offered = Some(contents.files.clone());
        Some(Settled {
            files: contents.files.clone(),
            reading: Arc::clone(&contents.reading),
            changes: changes(self.in_force.as_ref().map(|in_force| &in_force.files), &contents.files),
        })
    }

    /// Says whether an offer that has not been handed over yet still holds.
    pub(super) fn still_offers(&self, files: &TrustFiles) -> bool {
        self.offered.as_ref() == Some(files)
    }

    /// Returns when to read again without an event: to see that it is quiet, or that a fault has lasted.
    pub(super) fn deadline(&self) -> Option<Instant> {
        let quiet = self.unsettled.map(|since| since + QUIET);
        let fault = self.faulty_since.filter(|_| !self.faulty).map(|since| since + FAULT_LASTS);
        [quiet, fault].into_iter().flatten().min()
    }

    /// Returns what is to be published.
    pub(super) fn published(&self) -> Published {
        let (mut faults, mut warnings) = (Vec::new(), Vec::new());
        if let Some(Seen { contents, .. }) = &self.latest {
            faults = contents.unexcused(self.in_force.as_ref().map(|in_force| &in_force.files));
            faults.extend(contents.faults());
            warnings.extend(contents.overlooked.iter().chain(&contents.reading.warnings).cloned());
        }
        Published {
            view: self.view(),
            condition: self.condition(),
            faults,
            warnings,
            in_force: self.in_force.as_ref().map(|in_force| (in_force.digest, in_force.since)),
        }
    }

    fn view(&self) -> TrustView {
        let Some(in_force) = &self.in_force else { return TrustView::Starting };
        let settled = Arc::clone(&in_force.set);
        match &self.latest {
            // After a restart, until the folder was read: what was accepted may have been revoked meanwhile.
            None => TrustView::Missing { settled },
            Some(_) if self.is_missing() => TrustView::Missing { settled },
            Some(Seen { contents, .. }) if !contents.is_faulty() && contents.files == in_force.files => {
                TrustView::Settled(settled)
            }
            Some(Seen { contents, .. }) => {
                TrustView::Disturbed { settled, readable: Arc::clone(&contents.reading.set) }
            }
        }
    }

    fn condition(&self) -> Condition {
        let Some(Seen { contents, .. }) = &self.latest else { return Condition::Starting };
        if self.is_missing() {
            return Condition::Missing;
        }
        if self.faulty {
            return Condition::Faulty;
        }
        match &self.in_force {
            None => Condition::Starting,
            Some(in_force) if self.unsettled.is_none() && !contents.is_faulty() && in_force.files == contents.files => {
                Condition::Settled
            }
            Some(_) => Condition::Unsettled,
        }
    }

    fn is_missing(&self) -> bool {
        let in_force = self.in_force.as_ref().map(|in_force| &in_force.files);
        self.latest.as_ref().is_some_and(|latest| !latest.contents.unexcused(in_force).is_empty())
    }

    /// Returns the set in force.
    pub(super) fn in_force(&self) -> Option<&InForce> {
        self.in_force.as_ref()
    }

    /// Returns what was read last.
    pub(super) fn latest(&self) -> Option<Arc<Contents>> {
        self.latest.as_ref().map(|latest| Arc::clone(&latest.contents))
    }

    /// Returns when the last reading began.
    pub(super) fn last_read(&self) -> Option<Instant> {
        self.latest.as_ref().map(|latest| latest.began)
    }

    /// Nothing is read any more.
    pub(super) fn stop(&mut self) {
        self.stopped = true;
    }

    /// Says whether nothing is read any more.
    pub(super) fn stopped(&self) -> bool {
        self.stopped
    }
}

/// Says whether two published values are the same to everybody who watches.
pub(super) fn same(a: &Published, b: &Published) -> bool {
    let same_view = match (&a.view, &b.view) {
        (TrustView::Starting, TrustView::Starting) => true,
        (TrustView::Settled(a), TrustView::Settled(b))
        | (TrustView::Missing { settled: a }, TrustView::Missing { settled: b }) => Arc::ptr_eq(a, b),
        (TrustView::Disturbed { settled: a, readable: c }, TrustView::Disturbed { settled: b, readable: d }) => {
            Arc::ptr_eq(a, b) && Arc::ptr_eq(c, d)
        }
        _ => false,
    };
    same_view
        && a.condition == b.condition
        && a.faults == b.faults
        && a.warnings == b.warnings
        && a.in_force == b.in_force
}

/// Says what differs, file by file.
fn changes(old: Option<&TrustFiles>, new: &TrustFiles) -> Vec<String> {
    let nothing = TrustFiles::default();
    let old = old.unwrap_or(&nothing);
    let removed = old.0.keys().filter(|path| !new.0.contains_key(*path)).map(|path| format!("{path} removed"));
    let rest = new.0.iter().filter_map(|(path, bytes)| match old.0.get(path) {
        None => Some(format!("{path} added")),
        Some(before) if before != bytes => Some(format!("{path} changed")),
        Some(_) => None,
    });
    removed.chain(rest).collect()
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use larder_core::policy::{Fault, Reading};

    use super::*;
    use crate::trust::read::MissingFolder;

    /// Fake time in milliseconds.
    struct Time(Instant);

    impl Time {
        fn at(&self, milliseconds: u64) -> Instant {
            self.0 + Duration::from_millis(milliseconds)
        }
    }

    fn contents(files: &[(&str, &str)]) -> Arc<Contents> {
        let files = files.iter().map(|(path, text)| ((*path).to_owned(), Bytes::copy_from_slice(text.as_bytes())));
        let reading = Reading { set: Arc::default(), faults: Vec::new(), warnings: Vec::new() };
        Arc::new(Contents {
            files: TrustFiles(files.collect()),
            unread: Vec::new(),
            missing: Vec::new(),
            overlooked: Vec::new(),
            reading: Arc::new(reading),
        })
    }

    fn faulty(files: &[(&str, &str)]) -> Arc<Contents> {
        let fault = Fault { path: "keys/bad.pub".into(), message: "no key".into() };
        Arc::new(Contents { unread: vec![fault], ..(*contents(files)).clone() })
    }

    fn without_keys() -> Arc<Contents> {
        let missing = vec![MissingFolder { folder: "keys", absent: true, message: "is not there".into() }];
        Arc::new(Contents { missing, ..(*contents(&[])).clone() })
    }

    fn in_force(contents: &Contents) -> InForce {
        InForce {
            files: contents.files.clone(),
            set: Arc::clone(&contents.reading.set),
            digest: Digest::of(b"set"),
            since: Timestamp::UNIX_EPOCH,
        }
    }

    /// A machine that is settled on `contents` at 100 ms.
    fn settled(contents: &Arc<Contents>) -> (Machine, Time) {
        let time = Time(Instant::now());
        let mut machine = Machine::new(Some(in_force(contents)), time.at(0));
        machine.reading(time.at(1), time.at(2), Arc::clone(contents));
        machine.reading(time.at(100), time.at(100), Arc::clone(contents));
        assert!(machine.step(time.at(100)).is_none());
        assert_eq!(machine.published().condition, Condition::Settled);
        assert_eq!(machine.deadline(), None);
        (machine, time)
    }

    #[test]
    fn nothing_is_judged_before_the_first_settled_set() {
        let time = Time(Instant::now());
        let mut machine = Machine::new(None, time.at(0));
        let key = contents(&[("keys/a.pub", "a")]);
        machine.reading(time.at(1), time.at(2), Arc::clone(&key));
        assert!(machine.step(time.at(2)).is_none());
        assert_eq!(machine.deadline(), Some(time.at(22)));
        assert!(matches!(machine.published().view, TrustView::Starting));
        machine.reading(time.at(22), time.at(23), Arc::clone(&key));
        let offer = machine.step(time.at(23)).expect("quiet for 20 ms");
        assert_eq!(offer.changes, ["keys/a.pub added"]);
        assert!(matches!(machine.published().view, TrustView::Starting), "the record is not durable yet");
        assert_eq!(machine.published().condition, Condition::Starting);
        assert!(machine.step(time.at(24)).is_none(), "offered once");
        machine.put_in_force(in_force(&key));
        assert!(machine.step(time.at(25)).is_none());
        assert_eq!(machine.published().condition, Condition::Settled);
        assert!(matches!(machine.published().view, TrustView::Settled(_)));
    }

    #[test]
    fn a_restart_holds_everything_until_the_folder_was_read() {
        let time = Time(Instant::now());
        let key = contents(&[("keys/a.pub", "a")]);
        let mut machine = Machine::new(Some(in_force(&key)), time.at(0));
        assert!(matches!(machine.published().view, TrustView::Missing { .. }));
        assert_eq!(machine.published().condition, Condition::Starting);
        machine.reading(time.at(1), time.at(2), contents(&[]));
        assert!(matches!(machine.published().view, TrustView::Disturbed { .. }), "the removal acts at once");
        machine.reading(time.at(22), time.at(22), contents(&[]));
        assert_eq!(machine.step(time.at(22)).expect("settled").changes, ["keys/a.pub removed"]);
    }

    #[test]
    fn a_difference_prolongs_and_an_equal_reading_does_not() {
        let (mut machine, time) = settled(&contents(&[("keys/a.pub", "a")]));
        machine.event(time.at(200));
        assert_eq!(machine.published().condition, Condition::Unsettled);
        assert_eq!(machine.deadline(), Some(time.at(220)));
        let two = contents(&[("keys/a.pub", "a"), ("keys/b.pub", "b")]);
        machine.reading(time.at(200), time.at(201), Arc::clone(&two));
        assert_eq!(machine.deadline(), Some(time.at(221)));
        // The .yaml that revokes b arrives within the 20 ms: b alone is never offered.
        let revoked = contents(&[("keys/a.pub", "a"), ("keys/b.pub", "b"), ("keys/b.yaml", "revoked")]);
        machine.event(time.at(219));
        machine.reading(time.at(219), time.at(220), Arc::clone(&revoked));
        for at in [225, 230, 235] {
            machine.event(time.at(at));
            machine.reading(time.at(at), time.at(at), Arc::clone(&revoked));
            assert!(machine.step(time.at(at)).is_none());
            assert_eq!(machine.deadline(), Some(time.at(240)), "equal bytes prolong nothing");
        }
        machine.reading(time.at(240), time.at(241), Arc::clone(&revoked));
        let offer = machine.step(time.at(241)).expect("quiet");
        assert_eq!(offer.changes, ["keys/b.pub added", "keys/b.yaml added"]);
    }

    #[test]
    fn a_reading_that_began_too_early_settles_nothing() {
        let (mut machine, time) = settled(&contents(&[]));
        let key = contents(&[("keys/a.pub", "a")]);
        machine.event(time.at(200));
        machine.reading(time.at(200), time.at(201), Arc::clone(&key));
        machine.reading(time.at(210), time.at(230), Arc::clone(&key));
        assert!(machine.step(time.at(230)).is_none(), "it may have missed what was written since 210");
    }

    #[test]
    fn a_fault_is_called_one_when_it_has_lasted_and_is_never_put_in_force() {
        let (mut machine, time) = settled(&contents(&[("keys/a.pub", "a")]));
        machine.event(time.at(200));
        machine.reading(time.at(200), time.at(200), faulty(&[]));
        assert!(matches!(machine.published().view, TrustView::Disturbed { .. }), "what was removed is gone at once");
        assert_eq!(machine.published().faults.len(), 1);
        machine.reading(time.at(220), time.at(220), faulty(&[]));
        assert!(machine.step(time.at(220)).is_none());
        assert_eq!(machine.published().condition, Condition::Unsettled);
        assert_eq!(machine.deadline(), Some(time.at(450)));
        machine.reading(time.at(450), time.at(450), faulty(&[]));
        assert!(machine.step(time.at(450)).is_none());
        assert_eq!(machine.published().condition, Condition::Faulty);
        assert_eq!(machine.deadline(), None);
        // Another change in a folder that is faulty since long ago: still faulty.
        machine.event(time.at(500));
        machine.reading(time.at(500), time.at(500), faulty(&[("keys/c.pub", "c")]));
        assert!(machine.step(time.at(500)).is_none());
        assert_eq!(machine.published().condition, Condition::Faulty);
        // Mended.
        machine.reading(time.at(600), time.at(600), contents(&[("keys/c.pub", "c")]));
        assert!(machine.step(time.at(600)).is_none());
        assert_eq!(machine.published().condition, Condition::Unsettled);
        machine.reading(time.at(620), time.at(620), contents(&[("keys/c.pub", "c")]));
        assert_eq!(machine.step(time.at(620)).expect("settled").changes, ["keys/a.pub removed", "keys/c.pub added"]);
    }

    #[test]
    fn a_half_written_file_is_no_fault() {
        let (mut machine, time) = settled(&contents(&[]));
        machine.event(time.at(200));
        machine.reading(time.at(200), time.at(200), faulty(&[]));
        machine.reading(time.at(400), time.at(400), contents(&[("keys/a.pub", "whole")]));
        assert!(machine.step(time.at(600)).is_none());
        assert_eq!(machine.published().condition, Condition::Unsettled, "never called faulty");
    }

    #[test]
    fn a_missing_folder_holds_what_was_accepted() {
        let key = contents(&[("keys/a.pub", "a")]);
        let (mut machine, time) = settled(&key);
        machine.event(time.at(200));
        machine.reading(time.at(200), time.at(200), without_keys());
        assert!(matches!(machine.published().view, TrustView::Missing { .. }));
        assert_eq!(machine.published().condition, Condition::Missing);
        machine.reading(time.at(300), time.at(300), without_keys());
        assert!(machine.step(time.at(300)).is_none(), "a missing folder is not an empty one");
        machine.reading(time.at(400), time.at(400), Arc::clone(&key));
        assert!(machine.step(time.at(400)).is_none());
        machine.reading(time.at(420), time.at(420), key);
        assert!(machine.step(time.at(420)).is_none(), "as it was: nothing to record");
        assert_eq!(machine.published().condition, Condition::Settled);
        // From which the set in force has no file, it may be missing.
        let (mut machine, time) = settled(&contents(&[("policies/p.yaml", "p")]));
        let missing = without_keys().missing.clone();
        let policies_only = Arc::new(Contents { missing, ..(*contents(&[("policies/p.yaml", "p")])).clone() });
        machine.reading(time.at(200), time.at(200), policies_only);
        assert!(matches!(machine.published().view, TrustView::Settled(_)));
    }

    #[test]
    fn a_set_that_is_overtaken_while_it_is_journaled() {
        let first = contents(&[("keys/a.pub", "a")]);
        let second = contents(&[("keys/b.pub", "b")]);
        let (mut machine, time) = settled(&first);
        machine.event(time.at(200));
        machine.reading(time.at(200), time.at(200), Arc::clone(&second));
        machine.reading(time.at(220), time.at(220), Arc::clone(&second));
        assert!(machine.step(time.at(220)).is_some());
        // Put back before the owner is done.
        machine.event(time.at(230));
        machine.reading(time.at(230), time.at(230), Arc::clone(&first));
        assert!(!machine.still_offers(&second.files));
        machine.reading(time.at(250), time.at(250), Arc::clone(&first));
        assert!(machine.step(time.at(250)).is_none());
        machine.put_in_force(in_force(&second));
        assert!(matches!(machine.published().view, TrustView::Disturbed { .. }));
        let offer = machine.step(time.at(260)).expect("what lies there is not what is in force");
        assert_eq!(offer.files, first.files);
    }
}
