//! What holds for every trust folder and every history, over thousands of random ones.
//!
//! Everything comes from seeds, so a failure names the one to look at. Each property counts what
//! occurred in its cases, prints it, and fails where a state, a key attribute, a kind of policy or a fault
//! never did: a property over cases that do not happen says nothing.

mod support;
mod world;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use larder_core::facts::{Facts, Told};
use larder_core::judge::{Concern, explain, judge, judge_view, support as support_of};
use larder_core::policy::{TrustFiles, TrustSet, TrustView};
use larder_core::verdict::{Gate, MAX_REASONS, State};
use larder_core::{Digest, Repository};

use world::{Occurred, Random, World};

const CASES: u64 = 3000;

fn subjects(facts: &Facts) -> Vec<(Repository, Digest)> {
    facts.subjects().map(|(repository, digest)| (repository.clone(), digest)).collect()
}

fn is_served(gate: Gate) -> bool {
    matches!(gate, Gate::Serve | Gate::Warn)
}

/// Adding a `.pub` without a `.yaml`, under a name that no policy knows, never turns an acceptance into a rejection.
#[test]
fn another_key_takes_no_acceptance_away() {
    let mut occurred = Occurred::default();
    let mut accepted = 0;
    for seed in 0..CASES {
        let mut random = Random::new(seed);
        let world = World::random(&mut random);
        let mut files = world::folder(&mut random, &mut occurred);
        let settled = TrustSet::read(&files).set;
        let is_faulty = random.one_in(3);
        if is_faulty {
            world::break_something(&mut random, &mut files, &mut occurred);
        }
        let (name, key) = ("fresh", world::some_key(&mut random));
        let mut more = files.clone();
        support::add_key(&mut more, name, &key, None);
        let view = |files: &TrustFiles| {
            let set = TrustSet::read(files).set;
            if is_faulty {
                TrustView::Disturbed { settled: Arc::clone(&settled), readable: set }
            } else {
                TrustView::Settled(set)
            }
        };
        let (before, after) = (view(&files), view(&more));
        for (repository, digest) in subjects(&world.facts) {
            let old = judge_view(&world.facts, &before, &repository, digest, world.now);
            let new = judge_view(&world.facts, &after, &repository, digest, world.now);
            occurred.state(old.state);
            occurred.state(new.state);
            accepted += u64::from(old.state.is_accepted());
            assert!(
                !old.state.is_accepted() || new.state.is_accepted(),
                "seed {seed}: {repository}@{digest} was {old:?} and is {new:?}"
            );
        }
    }
    occurred.finish("another key", accepted);
}

/// An unsettled, faulty or missing folder accepts nothing, and serves nothing, that was not accepted or served before.
#[test]
fn a_disturbed_folder_only_narrows() {
    let mut occurred = Occurred::default();
    let mut narrowed = 0;
    for seed in 0..CASES {
        let mut random = Random::new(1_000_000 + seed);
        let world = World::random(&mut random);
        let files = world::folder(&mut random, &mut occurred);
        let settled = TrustSet::read(&files).set;
        let mut edited = files.clone();
        world::edit(&mut random, &mut edited, &mut occurred);
        if random.one_in(2) {
            world::break_something(&mut random, &mut edited, &mut occurred);
        }
        let readable = TrustSet::read(&edited).set;
        let disturbed = TrustView::Disturbed { settled: Arc::clone(&settled), readable: Arc::clone(&readable) };
        let missing = TrustView::Missing { settled: Arc::clone(&settled) };
        for (repository, digest) in subjects(&world.facts) {
            let under = |view: &TrustView| judge_view(&world.facts, view, &repository, digest, world.now);
            let before = judge(&world.facts, &settled, &repository, digest, world.now);
            let read = judge(&world.facts, &readable, &repository, digest, world.now);
            let during = under(&disturbed);
            let at = || format!("seed {seed}: {repository}@{digest}: {before:?}, {read:?}, {during:?}");
            for verdict in [&before, &read, &during] {
                occurred.state(verdict.state);
                assert!(verdict.reasons.len() <= MAX_REASONS, "{}", at());
            }
            assert!(
                !during.state.is_accepted() || (before.state.is_accepted() && read.state.is_accepted()),
                "{}",
                at()
            );
            assert_eq!(during.state, before.state.min(read.state), "{}", at());
            assert!(!is_served(during.gate) || (is_served(before.gate) && is_served(read.gate)), "{}", at());
            let gone = under(&missing);
            assert!(!gone.state.is_accepted() && gone.gate != Gate::Serve, "{}", at());
            assert!(gone.state == before.state || before.state.is_accepted(), "{}", at());
            let starting = under(&TrustView::Starting).state;
            assert_eq!(starting == State::Corrupt, before.state == State::Corrupt, "{}", at());
            assert!(matches!(starting, State::Corrupt | State::Pending), "{}", at());
            narrowed += u64::from(during.state != before.state);

            let (verdict, tree) = explain(&world.facts, &disturbed, &repository, digest, world.now);
            assert_eq!((&verdict, tree.outcome.as_str()), (&during, during.state.name()), "{}", at());
            let support = support_of(&world.facts, &disturbed, &repository, digest, world.now);
            assert!(support.is_empty() || during.state.is_accepted(), "{}", at());
            assert!(!support.is_empty() || during.state != State::Verified, "{}", at());
        }
    }
    occurred.finish("disturbed", narrowed);
}

/// Where a concern does not cover a subject, its state and gate are the same on both sides.
#[test]
fn a_concern_never_misses() {
    let mut occurred = Occurred::default();
    let (mut differing, mut spared) = (0, 0);
    for seed in 0..CASES {
        let mut random = Random::new(2_000_000 + seed);
        let world = World::random(&mut random);
        let mut files = world::folder(&mut random, &mut occurred);
        let before = world::view(&mut random, &files, &mut occurred);
        // Most edits are small: one file, or only time passes.
        if random.one_in(8) {
            files = world::folder(&mut random, &mut occurred);
        } else if !random.one_in(4) {
            world::edit(&mut random, &mut files, &mut occurred);
        }
        let after = world::view(&mut random, &files, &mut occurred);
        let later = world.now + SignedDuration::from_hours(24 * random.below(90).cast_signed());
        let concern = Concern::between((&before, world.now), (&after, later));
        let covered: BTreeSet<_> =
            concern.subjects(&world.facts).map(|(name, digest)| (name.clone(), digest)).collect();
        for (repository, digest) in subjects(&world.facts) {
            let old = judge_view(&world.facts, &before, &repository, digest, world.now);
            let new = judge_view(&world.facts, &after, &repository, digest, later);
            occurred.state(old.state);
            occurred.state(new.state);
            let covers = concern.covers(&world.facts, &repository, digest);
            assert_eq!(covers, covered.contains(&(repository.clone(), digest)), "seed {seed}: {concern:?}");
            let differs = (old.state, old.gate) != (new.state, new.gate);
            assert!(covers || !differs, "seed {seed}: {repository}@{digest}: {old:?} → {new:?} by {concern:?}");
            differing += u64::from(differs);
            spared += u64::from(!covers);
        }
    }
    println!("{differing} differed, {spared} were spared");
    assert!(differing > CASES / 2, "hardly anything differed");
    occurred.finish("concern", spared);
}

/// What a daemon tells of a history, kept as the watch sees it.
struct History {
    world: World,
    view: TrustView,
    /// Under what, and when, everything was told last.
    told_under: (TrustView, Timestamp),
    /// Everything told, in its order.
    journal: Vec<(Repository, Digest, Option<State>, State)>,
}

impl History {
    /// Judges these subjects and tells those whose state is another one than was told last.
    fn tell(&mut self, subjects: Vec<(Repository, Digest)>, occurred: &mut Occurred) {
        for (repository, digest) in subjects {
            let state = judge_view(&self.world.facts, &self.view, &repository, digest, self.world.now).state;
            occurred.state(state);
            let told = self.world.facts.told(&repository, digest).map(|told| told.state);
            if state == State::Pending || told == Some(state) {
                continue;
            }
            self.journal.push((repository.clone(), digest, told, state));
            let seq = self.journal.len() as u64;
            self.world.facts.set_told(&repository, digest, Told { state, seq });
        }
    }

    /// Sweeps after a change of trust or the passing of time.
    fn sweep(&mut self, occurred: &mut Occurred) {
        let (before, then) = &self.told_under;
        let concern = Concern::between((before, *then), (&self.view, self.world.now));
        let covered =
            concern.subjects(&self.world.facts).map(|(repository, digest)| (repository.clone(), digest)).collect();
        self.tell(covered, occurred);
        self.told_under = (self.view.clone(), self.world.now);
    }

    /// Judges what an operation touched, and what that lists: acceptance goes down.
    fn touched(&mut self, digests: Vec<Digest>, occurred: &mut Occurred) {
        let facts = &self.world.facts;
        let mut affected = BTreeSet::new();
        let mut wave: Vec<(Repository, Digest)> = digests
            .into_iter()
            .flat_map(|digest| facts.repositories_of(digest).into_iter().map(move |repository| (repository, digest)))
            .collect();
        while let Some((repository, digest)) = wave.pop() {
            if affected.insert((repository.clone(), digest)) {
                let children = facts.children_of(&repository, digest);
                wave.extend(children.into_iter().map(|child| (repository.clone(), child)));
            }
        }
        self.tell(affected.into_iter().collect(), occurred);
    }

    /// The told history, replayed, against everything judged from scratch.
    fn compare(&self, seed: u64, occurred: &mut Occurred) -> u64 {
        let mut present: BTreeMap<(&Repository, Digest), State> = BTreeMap::new();
        for (repository, digest, from, to) in &self.journal {
            assert_eq!(present.insert((repository, *digest), *to), *from, "seed {seed}: the history has a gap");
            assert_ne!(*from, Some(*to), "seed {seed}: told twice");
        }
        let mut compared = 0;
        for (repository, digest) in self.world.facts.subjects() {
            let verdict = judge_view(&self.world.facts, &self.view, repository, digest, self.world.now);
            occurred.state(verdict.state);
            if verdict.state != State::Pending {
                let told = present.get(&(repository, digest)).copied();
                assert_eq!(told, Some(verdict.state), "seed {seed}: {repository}@{digest}: {verdict:?}");
                compared += 1;
            }
        }
        compared
    }
}

/// The told history, replayed, gives the present states where none is pending and the folder is settled.
#[test]
fn the_told_history_gives_the_present() {
    let mut occurred = Occurred::default();
    let mut compared = 0;
    for seed in 0..CASES {
        let mut random = Random::new(3_000_000 + seed);
        let world = World::random(&mut random);
        let mut files = world::folder(&mut random, &mut occurred);
        let view = TrustView::Settled(TrustSet::read(&files).set);
        let told_under = (TrustView::Starting, world.now);
        let mut history = History { world, view, told_under, journal: Vec::new() };
        history.sweep(&mut occurred);
        for _ in 0..4 + random.below(4) {
            match random.below(6) {
                0 | 1 => {
                    world::edit(&mut random, &mut files, &mut occurred);
                    let faulty = random.one_in(3).then(|| {
                        let mut broken = files.clone();
                        world::break_something(&mut random, &mut broken, &mut occurred);
                        broken
                    });
                    // A fault that lasts is told; then somebody mends it.
                    if let (Some(broken), TrustView::Settled(settled)) = (faulty, &history.view) {
                        let readable = TrustSet::read(&broken).set;
                        history.view = TrustView::Disturbed { settled: Arc::clone(settled), readable };
                        history.sweep(&mut occurred);
                    }
                    history.view = TrustView::Settled(TrustSet::read(&files).set);
                    history.sweep(&mut occurred);
                }
                2 => {
                    history.world.now += SignedDuration::from_hours(24 * random.below(60).cast_signed());
                    history.sweep(&mut occurred);
                }
                3 => {
                    let touched = history.world.compute_checks(&mut random);
                    history.touched(touched, &mut occurred);
                }
                4 => {
                    // A restart: the table comes back from a snapshot.
                    let bytes = history.world.facts.to_bytes();
                    history.world.facts = Facts::from_bytes(&bytes).expect("a snapshot");
                    assert_eq!(history.world.facts.to_bytes(), bytes, "seed {seed}");
                }
                _ => {
                    let touched = history.world.grow(&mut random);
                    history.touched(touched, &mut occurred);
                }
            }
            compared += history.compare(seed, &mut occurred);
        }
    }
    occurred.finish("history", compared);
}
