//! What cosign and Larder make of each other's work, cell by cell: {sign, attest, attach sbom, sign sbom} × {cosign → larder,
//! larder → cosign} × {legacy, bundle} × {every kind of key that cosign makes or imports} × {a registry with the referrers API,
//! one without, a layout}.
//!
//! Every cell is run and printed. Good work is accepted, and refused under another key. Where cosign does not verify what it
//! made itself, that is shown by letting it try, and the cell is marked `*`; docs/signing.md lists those, and the cells that
//! cosign has no way for (`-`).

use std::collections::BTreeMap;
use std::fmt;
use std::fs;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use harness::{Content, Home, Index, Output};

use crate::tools::{Ran, Registry, Stage, greeting};

/// Kinds of keys: what they are called, their files, and whether cosign 2 and cosign 3 verify what they themselves sign with
/// them without being told a hash.
const KEYS: [(&str, &str, [bool; 2]); 7] = [
    ("P-256", "p256", [true, true]),
    ("P-384", "imp-ec-P-384", [false, false]),
    ("P-521", "imp-ec-P-521", [false, false]),
    ("RSA-2048", "imp-rsa2048", [true, true]),
    ("RSA-3072", "rsa3072", [true, true]),
    ("RSA-4096", "imp-rsa4096", [true, true]),
    ("Ed25519", "imp-ed25519", [false, false]),
];
/// How many keys are gone through at a time; each has a daemon of its own.
const WORKERS: usize = 3;

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Way {
    CosignToLarder,
    LarderToCosign,
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Format {
    Legacy,
    Bundle,
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Place {
    Referrers,
    Plain,
    Layout,
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Deed {
    Sign,
    Attest,
    AttachSbom,
    SignSbom,
}

/// What came of a cell.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Outcome {
    Passed,
    /// Larder accepts it, and cosign, which made it, does not.
    CosignsFault,
    /// cosign has no way to do it.
    NoWay,
}

/// One cell: way, format, place, deed, key; and what came of it, or what went wrong.
type Cell = ((Way, Format, Place, Deed), &'static str, Result<Outcome, String>);

/// What all workers use.
struct World {
    stage: Stage,
    referrers: Registry,
    plain: Registry,
    sbom: String,
}

/// A worker's own: the key it goes through, and a daemon that trusts it.
struct Bench<'a> {
    world: &'a World,
    home: &'a Home,
    name: &'static str,
    /// The key's files without their ending.
    key: String,
    own: [bool; 2],
}

pub(crate) fn every_cell() {
    let mut stage = Stage::new();
    stage.set("COSIGN_PASSWORD", "larder");
    fs::write(stage.file("predicate.json"), "{\"a\": 1}").expect("a file");
    // cosign 2 asks for one, also where nothing in it is needed.
    let root = "{\"mediaType\":\"application/vnd.dev.sigstore.trustedroot+json;version=0.1\"}";
    fs::write(stage.file("empty-root.json"), root).expect("a file");
    stage.run("cosign-v3 signing-config create --out config.json").succeeds();
    stage.run("openssl genrsa -out rsa3072.pem 3072").succeeds();
    stage.run("cosign import-key-pair --key rsa3072.pem --output-key-prefix rsa3072").succeeds();
    let sbom = harness::fixtures::cosign().join("sbom/spdx.txt").display().to_string();
    let world = World { stage, referrers: Registry::with_referrers(), plain: Registry::docker(), sbom };

    let next = AtomicUsize::new(0);
    let worker = || {
        let mut cells = Vec::new();
        while let Some((name, file, own)) = KEYS.get(next.fetch_add(1, Ordering::Relaxed)) {
            cells.extend(with_key(&world, name, file, *own));
        }
        cells
    };
    let cells: Vec<Cell> = thread::scope(|scope| {
        let workers: Vec<_> = (0..WORKERS).map(|_| scope.spawn(worker)).collect();
        workers.into_iter().flat_map(|worker| worker.join().expect("a worker")).collect()
    });
    print(&cells);
    let wrong: Vec<String> = cells
        .iter()
        .filter_map(|((way, format, place, deed), key, outcome)| {
            let words = outcome.as_ref().err()?;
            Some(format!("{way} {format} {place} {deed} {key}: {words}"))
        })
        .collect();
    assert!(wrong.is_empty(), "{} cells are wrong:\n{}", wrong.len(), wrong.join("\n"));
    // 2 ways × 2 formats × 3 places × 4 deeds × 7 keys
    assert_eq!(cells.len(), 336, "a cell was left out");
    recursive_bundles(&world);
}

fn with_key(world: &World, name: &'static str, file: &str, own: [bool; 2]) -> Vec<Cell> {
    let made = world.stage.file(file);
    let key = match made.with_extension("pub").exists() {
        true => made.display().to_string(),
        false => harness::fixtures::cosign().join("keys").join(file).display().to_string(),
    };
    let home = Home::new();
    let daemon = home.start();
    let public = fs::read_to_string(format!("{key}.pub")).expect("a public key");
    home.trust().write("keys/signer.pub", &public);
    daemon.client().trust_becomes("settled", 1, 0);
    let bench = Bench { world, home: &home, name, key, own };
    let mut cells = Vec::new();
    for format in [Format::Legacy, Format::Bundle] {
        for place in [Place::Referrers, Place::Plain, Place::Layout] {
            cells.extend(bench.by_cosign(format, place));
            cells.extend(bench.by_larder(format, place));
        }
    }
    cells
}

impl Bench<'_> {
    /// Puts an image of its own into a registry: `HOST/NAME@DIGEST`.
    fn image(&self, way: Way, format: Format, place: Place) -> String {
        let registry = if place == Place::Referrers { &self.world.referrers } else { &self.world.plain };
        let made = if way == Way::CosignToLarder { "cosign" } else { "larder" };
        let name = format!("{made}/{format}/{place}/{}", self.name).to_lowercase();
        let image = greeting(&name);
        registry.http().push(&name, "1", &image);
        format!("{}/{name}@{}", registry.host(), image.digest())
    }

    fn cosign(&self, words: &str) -> Result<String, String> {
        succeeded(words, self.world.stage.run(words))
    }

    /// Runs `larder`, and expects it to exit with this code.
    fn larder(&self, words: &str, code: i32) -> Result<Output, String> {
        let split: Vec<&str> = words.split_whitespace().collect();
        let output = self.home.invoke(split).env("COSIGN_PASSWORD", "larder").run();
        match output.code == code {
            true => Ok(output),
            false => Err(format!("larder {words}: {} in place of {code}: {}", output.code, output.stderr)),
        }
    }

    /// Lets cosign sign, attest, attach an SBOM and sign that; Larder verifies each.
    fn by_cosign(&self, format: Format, place: Place) -> Vec<Cell> {
        let target = self.image(Way::CosignToLarder, format, place);
        let (cosign, without_log) = match format {
            Format::Legacy => ("cosign", "--tlog-upload=false"),
            Format::Bundle => ("cosign-v3", "--signing-config config.json"),
        };
        let with = format!("--yes {without_log} --key {}.key", self.key);
        let made = [
            (Deed::Sign, format!("{cosign} sign {with} -a env=prod {target}")),
            (Deed::Attest, format!("{cosign} attest {with} --type custom --predicate predicate.json {target}")),
            (Deed::AttachSbom, format!("{cosign} attach sbom --sbom {} {target}", self.world.sbom)),
            (Deed::SignSbom, format!("{cosign} sign {with} --attachment sbom {target}")),
        ]
        .map(|(deed, words)| (deed, self.cosign(&words)));
        let saved = match place {
            Place::Layout => Some(self.saved_by_cosign(cosign, format, &target)),
            Place::Referrers | Place::Plain => None,
        };
        let cells = made.map(|(deed, made)| {
            let outcome = made.and_then(|_| match &saved {
                None => self.accepted_by_larder(deed, &target).map(|()| Outcome::Passed),
                Some(Err(words)) => Err(words.clone()),
                Some(Ok(folder)) => self.accepted_in_layout(deed, folder),
            });
            let outcome = outcome.and_then(|outcome| self.compared_with_cosigns(cosign, deed, &target, outcome));
            ((Way::CosignToLarder, format, place, deed), self.name, outcome)
        });
        cells.into()
    }

    /// Larder verifies what is at a registry, and refuses it under another key.
    fn accepted_by_larder(&self, deed: Deed, target: &str) -> Result<(), String> {
        let (own, other) = (format!("--key {}.pub", self.key), format!("--key {}", other_key()));
        match deed {
            Deed::Sign => {
                self.larder(&format!("verify {own} -a env=prod {target}"), 0)?;
                self.larder(&format!("verify {own} -a env=test {target}"), 12)?;
                self.larder(&format!("verify {other} {target}"), 12)?;
            }
            Deed::Attest => {
                self.larder(&format!("verify-attestation {own} --type custom {target}"), 0)?;
                self.larder(&format!("verify-attestation {own} --type spdxjson {target}"), 12)?;
                self.larder(&format!("verify-attestation {other} --type custom {target}"), 12)?;
            }
            Deed::AttachSbom => {
                self.larder(&format!("pull {target}"), 0)?;
                let shown = self.larder(&format!("download sbom {target}"), 0)?.stdout;
                self.is_the_sbom(&shown)?;
                // And the image counts under the trust folder, too, by whatever its registry offers.
                self.larder(&format!("verify {target}"), 0)?;
            }
            Deed::SignSbom => {
                self.larder(&format!("verify {own} --attachment sbom {target}"), 0)?;
                self.larder(&format!("verify {other} --attachment sbom {target}"), 12)?;
            }
        }
        Ok(())
    }

    fn is_the_sbom(&self, text: &str) -> Result<(), String> {
        match fs::read_to_string(&self.world.sbom).expect("the SBOM") == text {
            true => Ok(()),
            false => Err("the SBOM is another one".to_owned()),
        }
    }

    fn saved_by_cosign(&self, cosign: &str, format: Format, target: &str) -> Result<String, String> {
        let folder = format!("saved-{format}-{}", self.name);
        self.cosign(&format!("{cosign} save --dir {folder} {target}"))?;
        Ok(self.world.stage.file(&folder).display().to_string())
    }

    /// Larder verifies what `cosign save` wrote, where it lies and when it is loaded. SBOMs are left behind by that.
    fn accepted_in_layout(&self, deed: Deed, folder: &str) -> Result<Outcome, String> {
        let (own, other) = (format!("--key {}.pub", self.key), format!("--key {}", other_key()));
        let verb = match deed {
            Deed::Sign => "verify",
            Deed::Attest => "verify-attestation --type custom",
            Deed::AttachSbom | Deed::SignSbom => return Ok(Outcome::NoWay),
        };
        self.larder(&format!("{verb} {own} --local-image {folder}"), 0)?;
        self.larder(&format!("{verb} {other} --local-image {folder}"), 12)?;
        let name = format!("localhost/loaded/{}:1", folder.rsplit('/').next().unwrap_or_default().to_lowercase());
        self.larder(&format!("load {folder} --as {name}"), 0)?;
        self.larder(&format!("{verb} {own} {name}"), 0)?;
        self.larder(&format!("{verb} {other} {name}"), 12)?;
        Ok(Outcome::Passed)
    }

    /// Lets cosign verify what it has made itself, and holds that against what is known of it.
    fn compared_with_cosigns(
        &self,
        cosign: &str,
        deed: Deed,
        target: &str,
        outcome: Outcome,
    ) -> Result<Outcome, String> {
        let verb = match deed {
            Deed::Sign => "verify",
            Deed::Attest => "verify-attestation --type custom",
            Deed::SignSbom if outcome == Outcome::Passed => "verify --attachment sbom",
            Deed::AttachSbom | Deed::SignSbom => return Ok(outcome),
        };
        let words = format!("{cosign} {verb} --insecure-ignore-tlog --key {}.pub {target}", self.key);
        let verified = self.world.stage.run(&words).code == 0;
        let known = self.own[usize::from(cosign == "cosign-v3")];
        match (verified == known, verified) {
            (false, _) => Err(format!("{cosign} verifies its own: {verified}, and docs/signing.md says otherwise")),
            (true, true) => Ok(outcome),
            (true, false) => Ok(Outcome::CosignsFault),
        }
    }

    /// Signs, attests, attaches an SBOM and signs that with Larder; cosign verifies each.
    fn by_larder(&self, format: Format, place: Place) -> Vec<Cell> {
        let target = self.image(Way::LarderToCosign, format, place);
        let with = format!("--key {}.key --format {format}", self.key);
        let predicate = self.world.stage.file("predicate.json").display().to_string();
        let made = [
            (Deed::Sign, format!("sign {with} -a env=prod {target}")),
            (Deed::Attest, format!("attest {with} --type custom --predicate {predicate} {target}")),
            (Deed::AttachSbom, format!("attach sbom --sbom {} {target}", self.world.sbom)),
            (Deed::SignSbom, format!("sign {with} --attachment sbom {target}")),
        ];
        let pulled = self.larder(&format!("pull {target}"), 0).map(drop);
        let made = made.map(|(deed, words)| (deed, pulled.clone().and_then(|()| self.larder(&words, 0).map(drop))));
        let carried = match place {
            Place::Layout => self.saved_by_larder(format, &target),
            Place::Referrers | Place::Plain => self.larder(&format!("push {target}"), 0).map(|_| target.clone()),
        };
        let cells = made.map(|(deed, made)| {
            let outcome = made.and_then(|()| carried.clone()).and_then(|at| match place {
                Place::Layout => self.layout_accepted_by_cosign(deed, format, &at),
                Place::Referrers | Place::Plain => self.accepted_by_cosign(deed, format, &at),
            });
            ((Way::LarderToCosign, format, place, deed), self.name, outcome.map(|()| Outcome::Passed))
        });
        cells.into()
    }

    fn saved_by_larder(&self, format: Format, target: &str) -> Result<String, String> {
        let folder = self.world.stage.file(&format!("layout-{format}-{}", self.name)).display().to_string();
        self.larder(&format!("save {target} --dir {folder}"), 0)?;
        Ok(folder)
    }

    /// cosign verifies what is at a registry: both versions a classic signature, and bundles where they look for them.
    fn accepted_by_cosign(&self, deed: Deed, format: Format, target: &str) -> Result<(), String> {
        let verify = |cosign: &str, how: &str, key: &str| {
            let words = format!("{cosign} {how} --insecure-ignore-tlog --key {key} {target}");
            let ran = self.world.stage.run(&words);
            (words, ran)
        };
        let own = format!("{}.pub", self.key);
        let accepts = |cosign: &str, how: &str| {
            let (words, ran) = verify(cosign, how, &own);
            succeeded(&words, ran)
        };
        let refuses = |cosign: &str, how: &str, key: &str| match verify(cosign, how, key) {
            (words, ran) if ran.code == 0 => Err(format!("{words} succeeded")),
            _ => Ok(()),
        };
        let versions: &[&str] = if format == Format::Legacy { &["cosign", "cosign-v3"] } else { &["cosign-v3"] };
        for cosign in versions {
            match deed {
                Deed::Sign => {
                    accepts(cosign, "verify -a env=prod")?;
                    refuses(cosign, "verify -a env=test", &own)?;
                    refuses(cosign, "verify", &other_key())?;
                }
                Deed::Attest => {
                    accepts(cosign, "verify-attestation --type custom")?;
                    refuses(cosign, "verify-attestation --type spdxjson", &own)?;
                }
                Deed::AttachSbom => self.is_the_sbom(&self.cosign(&format!("{cosign} download sbom {target}"))?)?,
                Deed::SignSbom => {
                    accepts(cosign, "verify --attachment sbom")?;
                    refuses(cosign, "verify --attachment sbom", &other_key())?;
                }
            }
        }
        if (deed, format) == (Deed::Sign, Format::Bundle) {
            accepts("cosign", "verify --new-bundle-format --trusted-root empty-root.json")?;
            refuses("cosign", "verify", &own)?;
        }
        Ok(())
    }

    /// cosign verifies what `larder save` wrote: where it lies, or, what it cannot name there, when it was loaded again and
    /// pushed to another repository.
    fn layout_accepted_by_cosign(&self, deed: Deed, format: Format, folder: &str) -> Result<(), String> {
        let versions: &[&str] = if format == Format::Legacy { &["cosign", "cosign-v3"] } else { &["cosign-v3"] };
        let verb = match deed {
            Deed::Sign => "verify",
            Deed::Attest => "verify-attestation --type custom",
            Deed::AttachSbom | Deed::SignSbom => {
                let name = format!("{}/again/{format}/{}", self.world.plain.host(), self.name.to_lowercase());
                let name = format!("{name}:{}", if deed == Deed::SignSbom { "signed" } else { "attached" });
                self.larder(&format!("load {folder} --as {name}"), 0)?;
                self.larder(&format!("push {name}"), 0)?;
                return self.accepted_by_cosign(deed, format, &name);
            }
        };
        for cosign in versions {
            let verify = format!("{cosign} {verb} --insecure-ignore-tlog --local-image --key");
            self.cosign(&format!("{verify} {}.pub {folder}", self.key))?;
            let words = format!("{verify} {} {folder}", other_key());
            if self.world.stage.run(&words).code == 0 {
                return Err(format!("{words} succeeded"));
            }
        }
        Ok(())
    }
}

/// Whole indexes in bundles, both ways: every manifest that is listed is signed.
fn recursive_bundles(world: &World) {
    let home = Home::new();
    let _daemon = home.start();
    let key = harness::fixtures::cosign().join("keys/p256").display().to_string();
    let mut verified = 0;
    for registry in [&world.referrers, &world.plain] {
        for maker in ["cosign-v3", "larder"] {
            let (one, two) = (greeting(&format!("{maker} one")), greeting(&format!("{maker} two")));
            let index = Index::new().child(&one, "linux", "amd64").child(&two, "linux", "arm64").build();
            registry.http().push(maker, "1", &index);
            let at = |content: &Content| format!("{}/{maker}@{}", registry.host(), content.digest());
            if maker == "larder" {
                let reference = format!("{}/{maker}:1", registry.host());
                home.larder(["pull", "--platform", "all", &reference]).exits(0);
                let sign = ["sign", "--key", &format!("{key}.key"), "--recursive", "--format", "bundle", "--push"];
                let sign = home.invoke(sign.into_iter().chain([reference.as_str()]));
                sign.env("COSIGN_PASSWORD", "larder").run().exits(0);
            } else {
                let with = format!("--yes --signing-config config.json --recursive --key {key}.key");
                world.stage.run(&format!("cosign-v3 sign {with} {}", at(&index))).succeeds();
            }
            for content in [&index, &one, &two] {
                let words = format!("--insecure-ignore-tlog --key {key}.pub {}", at(content));
                world.stage.run(&format!("cosign-v3 verify {words}")).succeeds();
                home.larder(["verify"].into_iter().chain(words.split_whitespace())).exits(0);
                verified += 1;
            }
        }
    }
    println!("  {verified} manifests of indexes that were signed recursively in bundles, verified by both");
}

fn other_key() -> String {
    harness::fixtures::cosign().join("keys/other.pub").display().to_string()
}

fn succeeded(words: &str, ran: Ran) -> Result<String, String> {
    match ran.code {
        0 => Ok(ran.stdout),
        code => Err(format!("{words}: {code}: {}", ran.stderr.trim())),
    }
}

/// Prints the table, and what there is of each outcome.
fn print(cells: &[Cell]) {
    let mut rows: BTreeMap<(Way, Format, Place, Deed), BTreeMap<&str, &str>> = BTreeMap::new();
    for (row, key, outcome) in cells {
        let mark = match outcome {
            Ok(Outcome::Passed) => "ok",
            Ok(Outcome::CosignsFault) => "ok*",
            Ok(Outcome::NoWay) => "-",
            Err(_) => "WRONG",
        };
        rows.entry(*row).or_default().insert(*key, mark);
    }
    let head: Vec<String> = KEYS.iter().map(|(key, ..)| format!("{key:<8}")).collect();
    println!("  {:<17}{:<8}{:<11}{:<12}{}", "", "format", "place", "deed", head.join(" "));
    for ((way, format, place, deed), marks) in &rows {
        let marks: Vec<String> =
            KEYS.iter().map(|(key, ..)| format!("{:<8}", marks.get(key).unwrap_or(&"?"))).collect();
        println!("  {way:<17}{format:<8}{place:<11}{deed:<12}{}", marks.join(" ").trim_end());
    }
    let count = |wanted: Outcome| cells.iter().filter(|(.., outcome)| *outcome == Ok(wanted)).count();
    println!(
        "  {} cells: {} pass, {} pass and cosign fails its own (*), {} that cosign has no way for (-), {} wrong",
        cells.len(),
        count(Outcome::Passed),
        count(Outcome::CosignsFault),
        count(Outcome::NoWay),
        cells.iter().filter(|(.., outcome)| outcome.is_err()).count(),
    );
}

/// Writes a name, in the width that is asked for.
macro_rules! named {
    ($($type:ty { $($value:ident = $name:literal),+ $(,)? })+) => {$(
        impl fmt::Display for $type {
            fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.pad(match self { $(Self::$value => $name),+ })
            }
        }
    )+};
}

named! {
    Way { CosignToLarder = "cosign → larder", LarderToCosign = "larder → cosign" }
    Format { Legacy = "legacy", Bundle = "bundle" }
    Place { Referrers = "referrers", Plain = "plain", Layout = "layout" }
    Deed { Sign = "sign", Attest = "attest", AttachSbom = "attach sbom", SignSbom = "sign sbom" }
}
