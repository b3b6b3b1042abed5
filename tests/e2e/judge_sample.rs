//! A sample of the judge cases on a running daemon: real files in the trust folder, real signatures, real pushes.

use std::collections::BTreeSet;
use std::fs;

use harness::{Content, Daemon, Home, Image, Index, Signer, TrustFolder};
use jiff::{SignedDuration, Timestamp};
use larder_core::manifest::OCI_INDEX;
use larder_proto::v1::Gate;
use serde_json::{Map, Value, json};

/// What a case must not have to be played with files alone: missing checks and trusted or old times cannot be staged.
const NOT_BY_FILES: [&str; 4] = ["checked", "proven", "seen", "needs"];

fn cases() -> Vec<Value> {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/fixtures/judge-cases.yaml");
    let document: Value = serde_saphyr::from_str(&fs::read_to_string(path).expect(path)).expect("judge-cases.yaml");
    let now: Timestamp = document["defaults"]["now"].as_str().and_then(|now| now.parse().ok()).expect("now");
    let mut cases = document["cases"].as_array().expect("cases").clone();
    cases.iter_mut().for_each(|case| move_times(case, Timestamp::now().duration_since(now)));
    cases
}

/// Moves the times of `validFor` from the time of the cases to the real one.
fn move_times(value: &mut Value, by: SignedDuration) {
    match value {
        Value::Object(map) => {
            for (name, value) in map {
                match value {
                    Value::Object(times) if name == "validFor" => times.values_mut().for_each(|time| {
                        let text = time.as_str().expect("a time");
                        let is_date = !text.contains('T');
                        let whole = if is_date { format!("{text}T00:00:00Z") } else { text.to_owned() };
                        let moved = whole.parse::<Timestamp>().expect("a time").saturating_add(by).expect("a time");
                        *time = json!(moved.to_string());
                    }),
                    value => move_times(value, by),
                }
            }
        }
        Value::Array(list) => list.iter_mut().for_each(|value| move_times(value, by)),
        _ => {}
    }
}

/// Says whether any map in `value` has the key.
fn mentions(value: &Value, key: &str) -> bool {
    match value {
        Value::Object(map) => map.contains_key(key) || map.values().any(|value| mentions(value, key)),
        Value::Array(list) => list.iter().any(|value| mentions(value, key)),
        _ => false,
    }
}

/// A case that can be played: not mid-edit (that lasts 20 ms), unless a broken file or a missing folder holds it there.
fn is_playable(case: &Value) -> bool {
    let lasts = case.get("readable").is_none() || case.get("broken").is_some() || case["readable"] == "missing";
    lasts && !NOT_BY_FILES.iter().any(|key| mentions(case, key))
}

/// The key pair of a name in a case.
fn signer_of(keys: &Value, name: &str) -> Signer {
    let own = keys[name]["same_as"].as_str().unwrap_or(name);
    Signer::new(&format!("judge {own}"))
}

/// The repository's path at the endpoint.
fn subject_of(case: &Value) -> String {
    case["subject"].as_str().unwrap_or("docker.io/acme/app").to_owned()
}

struct Play<'a> {
    case: &'a Value,
    daemon: &'a Daemon,
}

impl Play<'_> {
    /// Pushes signatures of `content`, as a case lists them, to where they are to be found.
    fn sign(&self, repository: &str, content: &Content, signed: &Value) {
        let other = Image::small("some other image").digest();
        let mut places: Map<String, Value> = Map::new();
        for one in signed.as_array().into_iter().flatten() {
            let place = one["found"].as_str().unwrap_or(repository);
            places.entry(place).or_insert_with(|| json!([])).as_array_mut().expect("a list").push(one.clone());
        }
        let all_keys = self.case.get("keys").or_else(|| self.case.get("settled").map(|settled| &settled["keys"]));
        for (place, list) in places {
            let signatures: Vec<_> = list
                .as_array()
                .into_iter()
                .flatten()
                .map(|one| {
                    let signer = signer_of(all_keys.unwrap_or(&Value::Null), one["by"].as_str().expect("by"));
                    signer.sign(&if one["names"] == "other" { other } else { content.digest() })
                })
                .collect();
            let image = harness::signer::signature_image(&signatures);
            self.daemon.http().push(&place, &content.digest_tag(".sig"), &image);
        }
    }

    /// Pushes what the case is about and returns the subject.
    fn push(&self) -> Content {
        let (case, http, repository) = (self.case, self.daemon.http(), subject_of(self.case));
        let mut subject = Image::small("the subject");
        if let Some(children) = case["children"].as_array() {
            let child = Image::small("a child");
            subject = Index::new().child(&child, "linux", "amd64").build();
            http.push(&repository, "subject", &subject);
            for of in children {
                self.sign(&repository, &child, &of["signed"]);
            }
        } else if case.get("index").is_some() {
            let (mut of, mut inner, mut level) = (&case["index"], subject.clone(), 0);
            while of.is_object() {
                let index = Index::new().child(&inner, "linux", "amd64").build();
                let place = of["repository"].as_str().unwrap_or(&repository);
                http.push(place, &format!("index{level}"), &index);
                self.sign(place, &index, &of["signed"]);
                (of, inner, level) = (&of["index"], index, level + 1);
            }
            http.push(&repository, "subject", &subject);
        } else {
            http.push(&repository, "subject", &subject);
        }
        if let Some(fallback) = case.get("fallback_index") {
            let other = Image::small("what the fallback tag is of");
            http.push(&repository, "other", &other);
            let index = Content::of(
                OCI_INDEX,
                &json!({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": [subject.descriptor()]}),
                Vec::new(),
            );
            http.push(&repository, &other.digest_tag(""), &index);
            self.sign(&repository, &index, &fallback["signed"]);
        }
        for _ in case["attached"].as_array().into_iter().flatten() {
            let sbom = Image::new("sbom").layer("{}").subject(&subject, "application/spdx+json");
            http.push_by_digest(&repository, &sbom.build_with("application/spdx+json"));
        }
        self.sign(&repository, &subject, &case["signed"]);
        subject
    }
}

/// Writes a set of the case into the folder; returns how many keys and policies it has.
fn write_trust(trust: &TrustFolder, case: &Value, set: &Value, subject: &Content) -> (usize, usize) {
    let empty = Map::new();
    let keys = set["keys"].as_object().unwrap_or(&empty);
    for (name, says) in keys {
        let mut says = says.as_object().cloned().unwrap_or_default();
        says.remove("same_as");
        if !says.is_empty() {
            trust.key_scope(name, &Value::Object(says));
        }
        trust.key(name, &signer_of(&set["keys"], name));
    }
    let policies = set["policies"].as_object().unwrap_or(&empty);
    for (name, spec) in policies {
        trust.policy(name, &policy_spec(spec));
    }
    let list = |field: &str| case["deny"][field].as_array().cloned().unwrap_or_default();
    let digest = subject.digest().to_string();
    let digests: Vec<_> = list("digests").iter().map(|_| json!({"digest": digest, "reason": "told"})).collect();
    let denied: Vec<_> = list("keys").iter().map(|name| json!({"key": name, "reason": "told"})).collect();
    if !digests.is_empty() || !denied.is_empty() {
        let mut deny = Map::new();
        if !digests.is_empty() {
            deny.insert("digests".to_owned(), digests.into());
        }
        if !denied.is_empty() {
            deny.insert("keys".to_owned(), denied.into());
        }
        trust.deny(&Value::Object(deny));
    }
    (keys.len(), policies.len())
}

/// Writes out a case's short form of a ClusterImagePolicy.
fn policy_spec(short: &Value) -> Value {
    let mut spec = short.as_object().cloned().expect("a policy");
    let globs = spec["images"].as_array().cloned().unwrap_or_default();
    spec.insert("images".to_owned(), globs.into_iter().map(|glob| json!({"glob": glob})).collect());
    let authorities = spec["authorities"].as_array().cloned().unwrap_or_default();
    let long = authorities.into_iter().enumerate().map(|(place, short)| {
        let mut long = Map::from_iter([("name".to_owned(), json!(format!("authority-{place}")))]);
        for (field, value) in short.as_object().into_iter().flatten() {
            let value = match field.as_str() {
                "key" => json!({"secretRef": {"name": value}}),
                "static" => json!({"action": value}),
                _ => value.clone(),
            };
            long.insert(field.clone(), value);
        }
        Value::Object(long)
    });
    spec.insert("authorities".to_owned(), long.collect());
    Value::Object(spec)
}

/// Plays a case and compares. `trust_first` says which comes first, the trust files or the pushes.
fn play(case: &Value, trust_first: bool) {
    let name = case["name"].as_str().expect("a name");
    let home = Home::with_config("[endpoint]\npush_to = [\"docker.io/**\", \"quay.io/**\"]\n");
    let daemon = home.start();
    let (trust, client) = (home.trust(), daemon.client());
    let stage = Play { case, daemon: &daemon };
    let early = (!trust_first).then(|| stage.push());
    let placeholder = match case.get("children") {
        Some(_) => Index::new().child(&Image::small("a child"), "linux", "amd64").build(),
        None => Image::small("the subject"),
    };
    let set = case.get("settled").unwrap_or(case);
    let (keys, policies) = write_trust(&trust, case, set, &placeholder);
    if keys + policies > 0 {
        client.trust_becomes("settled", keys, policies);
    } else {
        harness::eventually("a settled folder", || (client.trust_condition() == "settled").then_some(()));
    }
    let subject = early.unwrap_or_else(|| stage.push());
    assert_eq!(subject.digest(), placeholder.digest());
    let reference = format!("{}@{}", subject_of(case), subject.digest());
    edit(case, &trust, &client, &subject);
    let expected = case["expect"].as_str().expect("expect");
    harness::eventually(&format!("{name}: {expected}"), || {
        let verdict = client.query(&reference).unwrap_or_else(|error| panic!("{name}: {error:?}"));
        let state = verdict.state().as_str_name().trim_start_matches("STATE_").to_lowercase();
        (state == expected).then_some(())
    });
    let verdict = client.query(&reference).expect("held");
    if let Some(reason) = case["reason"].as_str() {
        assert!(verdict.reasons.iter().any(|one| one.code == reason), "{name}: {:?} lacks {reason}", verdict.reasons);
    }
    if let Some(gate) = case["gate"].as_str() {
        let wanted = match gate {
            "serve" => (Gate::Serve, 200),
            "warn" => (Gate::Warn, 200),
            "refuse" => (Gate::Refuse, 403),
            _ => (Gate::Retry, 503),
        };
        assert_eq!(verdict.gate(), wanted.0, "{name}");
        let answer = daemon.http().blob(&subject_of(case), &Image::small("the subject").top_layer());
        let is_image = case.get("children").is_none();
        assert!(!is_image || answer.status == wanted.1, "{name}: the endpoint answered {}", answer.status);
        assert_eq!(gate == "warn", !answer.header("warning").is_empty(), "{name}: the Warning header");
    }
}

/// Turns a settled folder into what can be read in the case: broken files, removed keys, or no folder.
fn edit(case: &Value, trust: &TrustFolder, client: &harness::Client, subject: &Content) {
    let Some(readable) = case.get("readable") else { return };
    if readable == "missing" {
        fs::remove_dir_all(trust.path()).expect("the folder's removal");
        return;
    }
    for broken in case["broken"].as_array().into_iter().flatten() {
        trust.write(broken.as_str().expect("a name"), "spec: [unclosed");
    }
    harness::eventually("a fault", || (client.trust_condition() == "faulty").then_some(()));
    let wanted: BTreeSet<_> =
        readable["keys"].as_object().into_iter().flatten().map(|(name, _)| name.clone()).collect();
    for path in harness::home::files(&trust.file("keys")) {
        let name = path.file_stem().and_then(|stem| stem.to_str()).unwrap_or_default().to_owned();
        if path.extension().is_some_and(|extension| extension == "pub") && !wanted.contains(&name) {
            trust.remove_key(&name);
        }
    }
    write_trust(trust, case, readable, subject);
}

#[test]
fn cases_that_files_can_bring_about() {
    let cases = cases();
    let sample: Vec<_> = cases.iter().filter(|case| is_playable(case)).collect();
    let mut seen: BTreeSet<String> = BTreeSet::new();
    for (number, case) in sample.iter().enumerate() {
        play(case, number % 2 == 0);
        seen.insert(case["expect"].as_str().unwrap_or_default().to_owned());
    }
    println!("played {} of {} cases; states: {seen:?}", sample.len(), cases.len());
    for state in ["denied", "verified", "allowed", "pending", "revoked", "untrusted", "unsigned"] {
        assert!(seen.contains(state), "no case expects {state}");
    }
}
