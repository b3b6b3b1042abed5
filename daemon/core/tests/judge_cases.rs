//! What "verified" means, by example: every case of `judge-cases.yaml` that this version is to meet.

mod support;

use std::collections::BTreeSet;

use jiff::Timestamp;
use larder_core::check::SignedHash;
use larder_core::facts::Facts;
use larder_core::judge::{Mark, explain, judge_view, support as support_of};
use larder_core::key::{AnchorId, PublicKey};
use larder_core::policy::{CheckAnchor, TrustFiles, TrustSet, TrustView};
use larder_core::signature::{Format, SignatureId};
use larder_core::verdict::{Code, State};
use larder_core::{Digest, Repository};
use serde_json::{Map, Value, json};

const CASES: &str = include_str!("../../../tests/fixtures/judge-cases.yaml");
/// What cases may need, all of which is there; any other need is a mistake in the file.
const THERE: &str = "trust-under-change";
/// Proves times, where a case has any.
const ROOT: &str = include_str!("../../../tests/fixtures/sigstore-go/trusted-root-public-good.json");

/// A case, and the world that it describes.
struct World<'a> {
    case: &'a Map<String, Value>,
    facts: Facts,
    /// Every key that a file holds or a signature was made with.
    keys: Vec<PublicKey>,
    signatures: usize,
    /// Each signature with its key, and when it is proven to have been there.
    proofs: Vec<(SignatureId, AnchorId, Option<Timestamp>)>,
    now: Timestamp,
}

#[test]
fn every_case_is_met() {
    let document: Value = serde_saphyr::from_str(CASES).expect("the cases");
    let cases = document["cases"].as_array().expect("a list of cases");
    let (mut met, mut failed) = (0, Vec::new());
    for case in cases {
        let case = case.as_object().expect("a case");
        match case.get("needs").and_then(Value::as_str) {
            Some(other) if other != THERE => panic!("{}: nobody brings {other}", name_of(case)),
            Some(_) | None => match check(case, &document["defaults"]) {
                Ok(()) => met += 1,
                Err(error) => failed.push(format!("{}: {error}", name_of(case))),
            },
        }
    }
    println!("{met} cases met, {} failed", failed.len());
    assert!(failed.is_empty(), "{}", failed.join("\n"));
    assert_eq!(met, cases.len());
    assert!(met >= 75, "cases went missing: {met}");
}

fn name_of(case: &Map<String, Value>) -> &str {
    case["name"].as_str().expect("a name")
}

fn check(case: &Map<String, Value>, defaults: &Value) -> Result<(), String> {
    const KNOWN: [&str; 19] = [
        "name",
        "subject",
        "keys",
        "policies",
        "deny",
        "signed",
        "expect",
        "reason",
        "gate",
        "needs",
        "index",
        "children",
        "attached",
        "fallback_index",
        "settled",
        "readable",
        "broken",
        "repository",
        "now",
    ];
    // A name with a comma in it reads as a field without value.
    if let Some((unknown, _)) = case.iter().find(|(key, value)| !KNOWN.contains(&key.as_str()) && !value.is_null()) {
        panic!("{}: nothing reads {unknown}", name_of(case));
    }
    let text = |key: &str| case.get(key).or_else(|| defaults.get(key)).and_then(Value::as_str);
    let repository: Repository = text("subject").expect("subject").parse().expect("a repository");
    let now = text("now").expect("now").parse().expect("a time");
    let mut world = World { case, facts: Facts::default(), keys: Vec::new(), signatures: 0, proofs: Vec::new(), now };
    let this = Digest::of(b"this");
    world.subject(&repository, this, case);
    if let Some(children) = case.get("children").and_then(Value::as_array) {
        for (place, child) in children.iter().enumerate() {
            let digest = Digest::of(format!("child {place}").as_bytes());
            world.facts.add_parent(&repository, digest, this);
            world.subject(&repository, digest, child.as_object().expect("a child"));
        }
    }
    if let Some(fallback) = case.get("fallback_index").and_then(Value::as_object) {
        // It lists the subject, signed or not, and is none itself.
        let digest = Digest::of(b"fallback");
        world.facts.add_parent(&repository, this, digest);
        world.signed(&repository, digest, fallback);
    }
    let view = world.view(this);
    world.record_checks();
    world.record_proofs(&view);

    let verdict = judge_view(&world.facts, &view, &repository, this, now);
    let expected = case["expect"].as_str().expect("a state");
    let expected = State::from_name(expected).unwrap_or_else(|| panic!("{expected} is no state"));
    let shown: Vec<String> = verdict.reasons.iter().map(ToString::to_string).collect();
    if verdict.state != expected {
        return Err(format!("{} ({}), not {expected}", verdict.state, shown.join("; ")));
    }
    if let Some(reason) = case.get("reason").and_then(Value::as_str) {
        let code = Code::from_name(reason).ok_or_else(|| format!("{reason} is no code"))?;
        if !verdict.reasons.iter().any(|reason| reason.code == code) {
            return Err(format!("the reasons are {}, without {reason}", shown.join("; ")));
        }
    }
    if let Some(gate) = case.get("gate").and_then(Value::as_str)
        && verdict.gate.name() != gate
    {
        return Err(format!("the gate would {}, not {gate}", verdict.gate.name()));
    }
    if verdict.reasons.is_empty() && !matches!(verdict.state, State::Denied) {
        return Err("there is no reason".to_owned());
    }
    world.explained(&view, &repository, this, expected)
}

impl World<'_> {
    /// Adds a subject with its signatures and the indexes above it.
    fn subject(&mut self, repository: &Repository, digest: Digest, what: &Map<String, Value>) {
        self.facts.add_subject(repository, digest, self.now);
        self.signed(repository, digest, what);
        if let Some(index) = what.get("index").and_then(Value::as_object) {
            let home = index.get("repository").and_then(Value::as_str).map(|name| name.parse().expect("repository"));
            let home = home.unwrap_or_else(|| repository.clone());
            let above = Digest::of(format!("index of {digest}").as_bytes());
            self.facts.add_parent(&home, digest, above);
            self.subject(&home, above, index);
        }
    }

    fn signed(&mut self, repository: &Repository, digest: Digest, what: &Map<String, Value>) {
        for signed in what.get("signed").and_then(Value::as_array).into_iter().flatten() {
            let names = match signed.get("names").and_then(Value::as_str) {
                None => digest,
                Some("other") => Digest::of(b"other"),
                Some(other) => panic!("{}: names {other}?", name_of(self.case)),
            };
            let found = signed.get("found").and_then(Value::as_str).map(|name| name.parse().expect("repository"));
            let seen = signed.get("seen").and_then(Value::as_str).map_or(self.now, date);
            let row = support::signature(self.signatures, Format::SimpleSigning, Some(names), seen);
            self.signatures += 1;
            let by = self.identity(signed["by"].as_str().expect("by"));
            self.keys.push(by.clone());
            let id = row.id;
            self.facts.add_signature(row, found.as_ref().unwrap_or(repository), digest);
            self.proofs.push((id, by.id(), signed.get("proven").and_then(Value::as_str).map(date)));
            if signed.get("checked") != Some(&Value::Bool(false)) {
                self.facts.record_check(id, by.id(), Some(SignedHash::Sha256));
            }
        }
    }

    /// Records that every signature that was checked at all was made by nobody else.
    fn record_checks(&mut self) {
        let ids: BTreeSet<_> = self.keys.iter().map(PublicKey::id).collect();
        let ids: Vec<_> = ids.into_iter().collect();
        let missing = self.facts.missing_checks(&ids, None);
        let untried = |id| missing.iter().filter(|(signature, _)| *signature == id).count() == ids.len();
        for (signature, anchor) in &missing {
            if !untried(*signature) {
                self.facts.record_check(*signature, *anchor, None);
            }
        }
    }

    /// Records what the folder's root proves of each signature.
    fn record_proofs(&mut self, view: &TrustView) {
        let roots: BTreeSet<AnchorId> = view.sets().flat_map(|set| set.roots.values()).map(|root| root.id).collect();
        for root in roots {
            for (id, key, proven) in &self.proofs {
                self.facts.record_dated(*id, CheckAnchor::dated(key, &root), *proven);
            }
        }
    }

    /// The key behind a name: `same_as` says that two files hold one.
    fn identity(&self, name: &str) -> PublicKey {
        let same_as = self.case.get("keys").and_then(|keys| keys.get(name)?.get("same_as")?.as_str());
        support::key(same_as.unwrap_or(name))
    }

    fn view(&mut self, this: Digest) -> TrustView {
        let Some(settled) = self.case.get("settled") else {
            let whole = Value::Object(self.case.clone());
            return TrustView::Settled(self.read(&whole, this, &[]));
        };
        let settled = self.read(settled, this, &[]);
        match &self.case["readable"] {
            Value::String(missing) if missing == "missing" => TrustView::Missing { settled },
            readable => {
                let broken = self.case.get("broken").and_then(Value::as_array).cloned().unwrap_or_default();
                TrustView::Disturbed { settled, readable: self.read(readable, this, &broken) }
            }
        }
    }

    /// Writes the files that a folder is described to have, and reads them.
    fn read(&mut self, folder: &Value, this: Digest, broken: &[Value]) -> std::sync::Arc<TrustSet> {
        let mut files = TrustFiles::default();
        for (name, settings) in folder.get("keys").and_then(Value::as_object).into_iter().flatten() {
            let mut settings = settings.as_object().expect("settings").clone();
            settings.remove("same_as");
            let key = self.identity(name);
            let settings = (!settings.is_empty()).then_some(Value::Object(settings));
            support::add_key(&mut files, name, &key, settings.as_ref());
            self.keys.push(key);
        }
        for (name, spec) in folder.get("policies").and_then(Value::as_object).into_iter().flatten() {
            files.0.insert(format!("policies/{name}.yaml"), support::file(&support::policy(&long(spec))));
        }
        if let Some(deny) = folder.get("deny").and_then(Value::as_object).filter(|deny| !deny.is_empty()) {
            let list = |what: &str| deny.get(what).and_then(Value::as_array).cloned().unwrap_or_default();
            let digests: Vec<Value> = list("digests")
                .iter()
                .map(|digest| {
                    assert_eq!(digest, "this");
                    json!({"digest": this, "reason": "bad"})
                })
                .collect();
            let keys: Vec<Value> = list("keys").iter().map(|key| json!({"key": key, "reason": "bad"})).collect();
            files.0.insert("deny.yaml".to_owned(), support::file(&json!({"digests": digests, "keys": keys})));
        }
        files.0.insert("roots/public.json".to_owned(), ROOT.into());
        for path in broken {
            files.0.insert(path.as_str().expect("a path").to_owned(), "spec: [".into());
        }
        let reading = TrustSet::read(&files);
        let faulty: Vec<&str> = reading.faults.iter().map(|fault| fault.path.as_str()).collect();
        assert_eq!(faulty, broken, "{}: {:?}", name_of(self.case), reading.faults);
        reading.set
    }

    /// The tree and the support tell the same story as the verdict.
    fn explained(&self, view: &TrustView, repository: &Repository, digest: Digest, state: State) -> Result<(), String> {
        let (verdict, node) = explain(&self.facts, view, repository, digest, self.now);
        let mark = match state {
            State::Pending => Mark::Pending,
            state if state.is_accepted() => Mark::Good,
            _ => Mark::Bad,
        };
        if (verdict.state, node.mark, node.outcome.as_str()) != (state, mark, state.name()) {
            return Err(format!("explained as {verdict:?}: {node:?}"));
        }
        let support = support_of(&self.facts, view, repository, digest, self.now);
        // What is allowed may rest on a signature, too: by another policy.
        let wrong = if support.is_empty() { state == State::Verified } else { !state.is_accepted() };
        if wrong {
            return Err(format!("it rests on {support:?}"));
        }
        Ok(())
    }
}

/// Writes the short form of a policy's spec as the format has it.
fn long(spec: &Value) -> Value {
    let mut spec = spec.as_object().expect("a spec").clone();
    let globs = spec["images"].as_array().expect("images").iter().map(|glob| json!({"glob": glob})).collect();
    spec.insert("images".to_owned(), Value::Array(globs));
    for authority in spec["authorities"].as_array_mut().expect("authorities") {
        let authority = authority.as_object_mut().expect("an authority");
        if let Some(name) = authority.get("key").cloned() {
            authority.insert("key".to_owned(), json!({"secretRef": {"name": name}}));
        }
        if let Some(action) = authority.get("static").cloned() {
            authority.insert("static".to_owned(), json!({"action": action}));
        }
    }
    Value::Object(spec)
}

fn date(text: &str) -> Timestamp {
    format!("{text}T00:00:00Z").parse().expect("a date")
}
