//! The distribution-spec's own conformance suite, whole, with the gate off: what it pushes, nobody signs.

use std::fs;

use harness::Home;

use crate::tools::attempt;

/// What the suite may find to be not offered, and reports as skipped: deleting by digest, and mounting without a source.
const NOT_OFFERED: [&str; 5] =
    ["Blob anonymous mount", "Blob delete", "Blob delete atomic", "Manifest delete", "Manifest delete atomic"];
/// What the suite leaves out unless asked: an upload is cancelled here, the other one is no part of version 1.1.
const NOT_ASKED: [&str; 1] = ["Manifest put with tag params"];

pub(crate) fn the_suite() {
    let home = Home::with_config("gate = \"off\"\n");
    let daemon = home.start();
    let results = home.beside("results");
    let variables = [
        ("OCI_REGISTRY", daemon.endpoint()),
        ("OCI_TLS", "disabled"),
        ("OCI_VERSION", "1.1"),
        ("OCI_RESULTS_DIR", results.to_str().expect("UTF-8")),
        ("OCI_API_BLOBS_UPLOAD_CANCEL", "true"),
        ("OCI_API_BLOBS_DIGEST_HEADER", "true"),
        ("OCI_API_MANIFESTS_DIGEST_HEADER", "true"),
    ];
    let (code, stdout, stderr) = attempt("conformance", [] as [&str; 0], &variables);
    let failures: Vec<_> = stdout.lines().filter(|line| line.contains("FAIL") || line.contains("Error")).collect();
    assert_eq!(code, 0, "{failures:#?}\n{stderr}");
    assert!(fs::read_dir(&results).is_ok_and(|files| files.count() > 0), "the suite wrote no results");
    let (_, summary) = stdout.split_once("API conformance:").expect("a summary");
    let (apis, _) = summary.split_once("Data conformance:").expect("a summary in two parts");
    let mut passed = 0;
    for line in apis.lines().filter_map(|line| line.split_once(": ")) {
        let (name, result) = (line.0.trim().trim_end_matches('.'), line.1.trim());
        match result {
            "Pass" => passed += 1,
            "Skip" => assert!(NOT_OFFERED.contains(&name), "{name}: {result}"),
            "Disabled" => assert!(NOT_ASKED.contains(&name), "{name}: {result}"),
            _ => panic!("{name}: {result}"),
        }
    }
    assert!(passed >= 20, "only {passed} passed:\n{apis}");
    println!("  {passed} parts of the API pass; not offered: {}", NOT_OFFERED.join(", "));
}
