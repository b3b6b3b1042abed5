//! Interop with foreign tools. `tests/interop/run` prepares and calls this; arguments choose parts by name.

mod access;
mod clients;
mod conformance;
mod cosign;
mod evidence;
mod flags;
mod full_disk;
mod grpc;
mod keyless;
mod layouts;
mod matrix;
mod memory;
mod order;
mod registries;
mod runtimes;
mod signing;
mod tools;
mod walkthrough;

use std::time::Instant;

/// A part and its name.
type Part = (&'static str, fn());

const PARTS: [Part; 36] = [
    ("logins", access::logins_of_other_tools_and_for_them),
    ("private-ca", access::certificates_of_a_private_authority),
    ("client-certificate", access::client_certificates),
    ("wrong-certificate", access::certificates_that_are_wrong),
    ("docker-registry", registries::fixtures_from_a_registry_without_referrers),
    ("referrers", registries::a_registry_with_referrers),
    ("nothing-twice", registries::a_second_pull_moves_nothing),
    ("skopeo", registries::skopeo_reads_and_writes),
    ("cosign-signs", cosign::signs_into_the_endpoint),
    ("cosign-verifies", cosign::verifies_what_larder_signed),
    ("larder-signs-more", signing::cosign_verifies_sboms_indexes_and_imported_keys),
    ("larder-signs-keyless", keyless::signing_as_somebody),
    ("matrix", matrix::every_cell),
    ("flags", flags::every_flag_of_cosigns),
    ("cosign-2", cosign::version_2_at_the_endpoint),
    ("cosign-3", cosign::version_3_at_the_endpoint),
    ("sboms", evidence::sboms_to_and_fro),
    ("evidence", evidence::places_and_downloads),
    ("walk-through", walkthrough::the_classic_one),
    ("skopeo-client", clients::skopeo),
    ("crane", clients::crane),
    ("oras", clients::oras),
    ("regctl", clients::regctl),
    ("another-user", clients::another_user),
    ("podman", runtimes::podman),
    ("containerd", runtimes::containerd),
    ("conformance", conformance::the_suite),
    ("layouts-cosign", layouts::cosign_reads_and_writes),
    ("layouts", layouts::skopeo_oras_and_crane),
    ("layouts-podman", layouts::archives_of_docker_and_podman),
    ("grpcurl", grpc::grpcurl_on_the_socket_and_over_tls),
    ("python", grpc::the_example_client_in_python),
    ("order", order::sync_rename_sync_frame_answer),
    ("syncs", order::small_blobs_share_their_syncs),
    ("full-disk", full_disk::a_small_tmpfs),
    ("memory", memory::two_gibibytes_in_and_out),
];

fn main() {
    let wanted: Vec<String> = std::env::args().skip(1).collect();
    for name in &wanted {
        assert!(PARTS.iter().any(|(part, _)| part == name), "there is no part {name:?}");
    }
    harness::binaries();
    for (name, part) in PARTS {
        if wanted.is_empty() || wanted.iter().any(|one| one == name) {
            println!("interop {name}");
            let begun = Instant::now();
            part();
            println!("interop {name}: ok, {:.1} s", begun.elapsed().as_secs_f32());
        }
    }
}
