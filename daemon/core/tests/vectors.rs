//! The negative vectors of `tests/fixtures/vectors/vectors.json`: each is refused, by the check that it names, and what it was
//! changed from is accepted.

#[path = "vectors/edit.rs"]
mod edit;
mod mint;
#[path = "vectors/run.rs"]
mod run;

use std::collections::{BTreeMap, BTreeSet};

use edit::Edit;
use mint::Plan;
use serde::Deserialize;

/// One vector; `tests/fixtures/vectors/README.md` describes the fields.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
struct Vector {
    name: String,
    format: Format,
    changed: String,
    #[serde(default)]
    mint: Plan,
    #[serde(default)]
    edits: Vec<Edit>,
    #[serde(default)]
    signed_anew: bool,
    /// A key file as it is, in place of all that.
    text: Option<String>,
    #[serde(default)]
    asks: Asks,
    check: String,
    words: Option<String>,
}

/// What is changed, and so how it is verified.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Format {
    KeylessBundle,
    KeyedBundle,
    ClassicSignature,
    ClassicAttestation,
    ClassicKeyless,
    TrustedRoot,
    Manifest,
    PublicKey,
    /// For the client's own test: it alone reads private keys.
    PrivateKey,
}

/// What is asked for beside an identity or a key.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, rename_all = "kebab-case", deny_unknown_fields)]
struct Asks {
    stamps: bool,
    chain: bool,
    logs: Option<usize>,
}

fn vectors() -> Vec<Vector> {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/fixtures/vectors/vectors.json");
    serde_json::from_slice(&std::fs::read(path).expect(path)).expect("vectors")
}

#[test]
fn each_vector_is_refused_by_the_check_that_it_names() {
    let (mut wrong, mut checks) = (Vec::new(), BTreeMap::<String, usize>::new());
    let mut accepted = BTreeSet::new();
    for vector in vectors().iter().filter(|vector| vector.format != Format::PrivateKey) {
        let base = Vector {
            mint: Plan { signs: vector.mint.signs, rekor: vector.mint.rekor.clone(), ..Plan::default() },
            edits: Vec::new(),
            text: None,
            ..vector.clone()
        };
        let same = format!("{:?} {:?} {:?} {:?}", base.format, base.mint.signs, base.mint.rekor, base.asks);
        if accepted.insert(same)
            && let Err(refused) = run::run(&base)
        {
            wrong.push(format!("{}: what it was changed from is refused: {refused}", vector.name));
        }
        match run::run(vector) {
            Ok(()) => wrong.push(format!("{}: ACCEPTED", vector.name)),
            Err(refused) => {
                let has_words = vector.words.as_ref().is_none_or(|words| refused.words.contains(words));
                if refused.check != vector.check || !has_words {
                    wrong.push(format!("{}: {refused}, not {} {:?}", vector.name, vector.check, vector.words));
                }
                *checks.entry(refused.check).or_default() += 1;
            }
        }
    }
    println!("refused by: {checks:?}");
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn the_vectors_are_many_and_of_every_format() {
    let vectors = vectors();
    let names: BTreeSet<&str> = vectors.iter().map(|vector| vector.name.as_str()).collect();
    let formats: BTreeSet<Format> = vectors.iter().map(|vector| vector.format).collect();
    assert_eq!(names.len(), vectors.len(), "a name is there twice");
    assert!(vectors.len() >= 100 && formats.len() == 9, "{} of {formats:?}", vectors.len());
    assert!(vectors.iter().all(|vector| !vector.changed.is_empty()));
}
