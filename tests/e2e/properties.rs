//! A random walk over the trust folder of a running daemon, with real files and real signatures. After every step:
//!
//! * a key file added under a new name, without a `.yaml`, turned no acceptance into a rejection;
//! * while the folder is faulty or missing, nothing is accepted that was not accepted before;
//! * the told history replayed gives the present states.
//!
//! `LARDER_TEST_SEED` takes another walk.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fs;

use harness::signer::signature_image;
use harness::{Client, Daemon, Home, Image, Index, Signer, TrustFolder};
use larder_proto::v1::history_entry::What;
use larder_proto::v1::query_result::Result as Outcome;
use larder_proto::v1::{HistoryRequest, QueryRequest, State};
use serde_json::json;

/// The keys that may be trusted; a last one signed nothing.
const KEYS: [&str; 5] = ["a", "b", "c", "d", "idle"];
/// The repositories of the subjects.
const REPOSITORIES: [&str; 3] = ["team/one", "team/two", "other/three"];
/// How many images each repository has; half as many indexes come on top.
const IMAGES: usize = 16;
/// The steps of the walk.
const STEPS: usize = 220;

/// xorshift64: the walk must be the same for the same seed, nothing more.
struct Dice(u64);

impl Dice {
    fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 % limit as u64).unwrap_or_default()
    }

    fn pick<'a, T: ?Sized>(&mut self, from: &[&'a T]) -> &'a T {
        from[self.below(from.len())]
    }
}

/// The daemon, its trust folder, what it holds, and what was told of it.
struct Walk<'a> {
    client: Client,
    trust: TrustFolder,
    away: &'a std::path::Path,
    references: Vec<String>,
    digests: Vec<String>,
    dice: Dice,
    told: HashMap<(String, String), State>,
    seq: u64,
    counts: BTreeMap<String, usize>,
}

impl Walk<'_> {
    fn count(&mut self, what: impl Into<String>) {
        *self.counts.entry(what.into()).or_default() += 1;
    }

    /// Asks for all verdicts at once.
    fn present(&self) -> Vec<((String, String), State)> {
        let request = QueryRequest { references: self.references.clone() };
        let response = harness::block(self.client.verification().query(request)).expect("Query").into_inner();
        let verdict = |result| match result {
            Some(Outcome::Verdict(verdict)) => ((verdict.repository.clone(), verdict.digest.clone()), verdict.state()),
            other => panic!("no verdict: {other:?}"),
        };
        response.results.into_iter().map(|result| verdict(result.result)).collect()
    }

    fn accepted(&self) -> BTreeSet<(String, String)> {
        let is_accepted = |state: &State| matches!(state, State::Verified | State::Allowed);
        self.present().into_iter().filter(|(_, state)| is_accepted(state)).map(|(subject, _)| subject).collect()
    }

    fn set(&self) -> String {
        self.client.trust_list().health.map(|health| health.set).unwrap_or_default()
    }

    fn wait(&self, condition: &str) {
        harness::eventually(&format!("a {condition} folder"), || {
            (self.client.trust_condition() == condition).then_some(())
        });
    }

    fn wait_for_another_set(&self, before: &str) {
        harness::eventually("the edit to be in force", || {
            let health = self.client.trust_list().health?;
            (health.condition == "settled" && health.set != before).then_some(())
        });
    }

    /// Takes in what was told since the last time.
    fn replay(&mut self) {
        let request = HistoryRequest { reference: String::new(), page_size: 1000, before: 0 };
        let entries =
            harness::block(self.client.verification().history(request)).expect("History").into_inner().entries;
        let last = self.seq;
        for entry in entries.into_iter().rev().filter(|entry| entry.seq > last) {
            self.seq = entry.seq;
            let Some(What::Verdict(change)) = entry.what else { continue };
            let (from, to) = (change.from(), change.to());
            let before = self.told.insert((change.repository, change.digest), to);
            assert_eq!(before.unwrap_or(State::Unspecified), from, "a change goes from what was told before");
            assert_ne!(from, to, "a change is a change");
        }
    }

    fn assert_history_gives_the_present(&mut self) {
        let present: HashMap<_, _> = self.present().into_iter().collect();
        for state in present.values() {
            *self.counts.entry(format!("state {}", state.as_str_name())).or_default() += 1;
        }
        assert!(present.values().all(|state| *state != State::Pending), "nothing is pending in a settled folder");
        harness::eventually("the told history to give the present states", || {
            self.replay();
            (self.told == present).then_some(())
        });
    }

    /// Changes one thing; returns what, and whether it was a key file added under a name that nothing else names.
    fn edit(&mut self) -> (String, bool) {
        let name = self.dice.pick(&KEYS).to_owned();
        let (public, scope) = (format!("keys/{name}.pub"), format!("keys/{name}.yaml"));
        let signer = Signer::new(&format!("walk {name}"));
        match self.dice.below(8) {
            0..=2 if self.trust.file(&public).exists() => {
                self.trust.remove(&public);
                ("key removed".to_owned(), false)
            }
            0..=2 => {
                let fresh = !self.trust.file(&scope).exists() && !self.is_named(&name);
                self.trust.key(&name, &signer);
                ("key added".to_owned(), fresh)
            }
            3 if self.trust.file(&scope).exists() => {
                self.trust.remove(&scope);
                ("key attribute removed".to_owned(), false)
            }
            3 => {
                let (what, says) = match self.dice.below(5) {
                    0 => ("for", json!({"for": ["localhost/team/**"]})),
                    1 => ("validFor over", json!({"validFor": {"end": "2020-01-01T00:00:00Z"}})),
                    2 => ("validFor now", json!({"validFor": {"start": "2020-01-01T00:00:00Z"}})),
                    3 => ("retired", json!({"retired": {"at": "2020-01-01T00:00:00Z"}})),
                    _ => ("revoked", json!({"revoked": {"reason": "told"}})),
                };
                self.trust.key_scope(&name, &says);
                (format!("key attribute {what}"), false)
            }
            4..=5 => (self.edit_policy(&name), false),
            6 => (self.edit_deny(&name), false),
            _ => {
                // A second file of the same key.
                let twin = format!("keys/{name}-twin.pub");
                if self.trust.file(&twin).exists() {
                    self.trust.remove(&twin);
                    ("twin removed".to_owned(), false)
                } else {
                    self.trust.write(&twin, signer.public_pem());
                    ("twin added".to_owned(), true)
                }
            }
        }
    }

    /// Says whether a policy or `deny.yaml` names a key file.
    fn is_named(&self, key: &str) -> bool {
        let (by_policy, by_denial) = (format!("\"name\":\"{key}\"}}}}"), format!("\"key\":\"{key}\""));
        let files =
            harness::home::files(&self.trust.file("policies")).into_iter().chain([self.trust.file("deny.yaml")]);
        let mut texts = files.filter_map(|path| fs::read_to_string(path).ok());
        texts.any(|text| text.contains(&by_policy) || text.contains(&by_denial))
    }

    /// Says whether the folder has any file that counts.
    fn has_files(&self) -> bool {
        let named =
            |path: &std::path::PathBuf| !path.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(b"."));
        ["", "keys", "policies"].iter().any(|folder| harness::home::files(&self.trust.file(folder)).iter().any(named))
    }

    fn edit_policy(&mut self, key: &str) -> String {
        let name = self.dice.pick(&["p", "q", "r"]).to_owned();
        if self.trust.file(&format!("policies/{name}.yaml")).exists() {
            self.trust.remove(&format!("policies/{name}.yaml"));
            return "policy removed".to_owned();
        }
        let glob = self.dice.pick(&["**", "localhost/team/*", "localhost/other/**"]);
        let of_key = json!({"name": "k", "key": {"secretRef": {"name": key}}});
        let statically = |action: &str| json!({"name": "s", "static": {"action": action}});
        let (what, mode, authorities) = match self.dice.below(6) {
            0 => ("static pass", "enforce", vec![statically("pass")]),
            1 => ("static fail", "enforce", vec![statically("fail")]),
            2 => ("warn", "warn", vec![of_key]),
            3 => ("key or static", "enforce", vec![of_key, statically("fail")]),
            4 => (
                "unsupported",
                "enforce",
                vec![json!({"name": "k", "frobnicate": 1, "key": {"secretRef": {"name": key}}})],
            ),
            _ => ("key", "enforce", vec![of_key]),
        };
        self.trust.policy(&name, &json!({"images": [{"glob": glob}], "mode": mode, "authorities": authorities}));
        format!("policy {what}")
    }

    fn edit_deny(&mut self, key: &str) -> String {
        if self.trust.file("deny.yaml").exists() {
            self.trust.remove("deny.yaml");
            return "deny removed".to_owned();
        }
        if self.dice.below(2) == 0 {
            self.trust.deny(&json!({"keys": [{"key": key, "reason": "told"}]}));
            return "deny key".to_owned();
        }
        let digest = &self.digests[self.dice.below(self.digests.len())];
        self.trust.deny(&json!({"digests": [{"digest": digest, "reason": "told"}]}));
        "deny digest".to_owned()
    }

    /// A step in a settled folder.
    fn settled_step(&mut self) {
        let (before, set) = (self.accepted(), self.set());
        let (what, adds_a_key) = self.edit();
        self.wait_for_another_set(&set);
        if adds_a_key {
            let lost: Vec<_> = before.difference(&self.accepted()).cloned().collect();
            assert!(lost.is_empty(), "{what} turned acceptances into rejections: {lost:?}");
        }
        self.count(what);
        self.assert_history_gives_the_present();
    }

    /// A fault, an edit while it lasts, and its end.
    fn faulty_step(&mut self) {
        let (before, set) = (self.accepted(), self.set());
        let (what, file, text) = match self.dice.below(3) {
            0 => ("fault: broken key", "keys/fault.pub", "no key"),
            1 => ("fault: broken policy", "policies/fault.yaml", "spec: [unclosed"),
            _ => ("fault: unknown field", "keys/fault.yaml", "frobnicate: 1"),
        };
        self.trust.write(file, text);
        self.wait("faulty");
        let (edited, _) = self.edit();
        // The edit may be seen at any time; what is asserted holds at all of them.
        for _ in 0..20 {
            let new: Vec<_> = self.accepted().difference(&before).cloned().collect();
            assert!(new.is_empty(), "{what}, {edited}: newly accepted while it lasts: {new:?}");
        }
        assert_eq!(self.set(), set, "no set is put in force while a fault lasts");
        self.trust.remove(file);
        self.wait_for_another_set(&set);
        self.count(what);
        self.count(edited);
        self.assert_history_gives_the_present();
    }

    /// The folder goes away and comes back.
    fn missing_step(&mut self) {
        let before = self.accepted();
        fs::rename(self.trust.path(), self.away).expect("a rename");
        self.wait("missing");
        assert!(self.accepted().is_empty(), "a missing folder accepts nothing");
        for (subject, state) in self.present() {
            assert_eq!(before.contains(&subject), state == State::Pending, "{subject:?} is {}", state.as_str_name());
        }
        fs::rename(self.away, self.trust.path()).expect("a rename back");
        self.wait("settled");
        assert_eq!(self.accepted(), before);
        self.count("fault: folder missing");
        self.assert_history_gives_the_present();
    }
}

/// Pushes images and indexes, signed by random keys; returns the references and digests of all subjects.
fn fill(daemon: &Daemon, dice: &mut Dice) -> (Vec<String>, Vec<String>) {
    let http = daemon.http();
    let (mut references, mut digests) = (Vec::new(), Vec::new());
    for repository in REPOSITORIES {
        for number in 0..IMAGES {
            let image = Image::new(&format!("{repository} {number}")).layer(format!("{repository} {number}")).build();
            let mut subjects = vec![image.clone()];
            if number % 2 == 0 {
                subjects.push(Index::new().child(&image, "linux", "amd64").build());
            }
            for subject in subjects {
                http.push_by_digest(repository, &subject);
                let signers: Vec<_> = KEYS[..4].iter().filter(|_| dice.below(4) == 0).collect();
                let sign = |name: &&&str| Signer::new(&format!("walk {name}")).sign(&subject.digest());
                let signatures: Vec<_> = signers.iter().map(sign).collect();
                if !signatures.is_empty() {
                    http.push(repository, &subject.digest_tag(".sig"), &signature_image(&signatures));
                }
                references.push(format!("localhost/{repository}@{}", subject.digest()));
                digests.push(subject.digest().to_string());
            }
        }
    }
    (references, digests)
}

#[test]
fn a_random_walk_over_the_trust_folder() {
    let seed =
        std::env::var("LARDER_TEST_SEED").ok().and_then(|text| text.parse().ok()).unwrap_or(0x1a2d_e7c0_ffee_u64);
    println!("LARDER_TEST_SEED={seed}");
    let home = Home::new();
    let away = home.beside("away");
    let daemon = home.start();
    let mut dice = Dice(seed);
    let (references, digests) = fill(&daemon, &mut dice);
    let mut walk = Walk {
        client: daemon.client(),
        trust: home.trust(),
        away: &away,
        references,
        digests,
        dice,
        told: HashMap::new(),
        seq: 0,
        counts: BTreeMap::new(),
    };
    walk.wait("settled");
    walk.assert_history_gives_the_present();
    for _ in 0..STEPS {
        match walk.dice.below(10) {
            0 => walk.faulty_step(),
            // Where nothing was trusted, nothing is missing.
            1 if walk.has_files() => walk.missing_step(),
            _ => walk.settled_step(),
        }
    }
    println!("{} subjects, {STEPS} steps:", walk.references.len());
    for (what, count) in &walk.counts {
        println!("{count:8}  {what}");
    }
    for what in [
        "state STATE_VERIFIED",
        "state STATE_ALLOWED",
        "state STATE_UNSIGNED",
        "state STATE_UNTRUSTED",
        "state STATE_REVOKED",
        "state STATE_DENIED",
        "key added",
        "key removed",
        "twin added",
        "key attribute for",
        "key attribute validFor over",
        "key attribute validFor now",
        "key attribute retired",
        "key attribute revoked",
        "policy static pass",
        "policy static fail",
        "policy warn",
        "policy key or static",
        "policy unsupported",
        "policy key",
        "deny key",
        "deny digest",
        "fault: broken key",
        "fault: broken policy",
        "fault: unknown field",
        "fault: folder missing",
    ] {
        assert!(walk.counts.contains_key(what), "this never occurred: {what}");
    }
}
