//! Names that nobody has, and certificates that are no good. Each: as in `hostile_registry`.

use harness::pki::Pki;
use harness::{Home, TlsServer};

use crate::hostile_registry::{CONFIG, Victim};

#[test]
fn a_name_that_nobody_has() {
    let mut victim = Victim::start();
    // RFC 6761, section 6.4: there is no such name, and none is asked for one.
    for name in ["registry.invalid", "registry.invalid:5000", "REGISTRY.Invalid"] {
        victim.refuses(&["pull", &format!("{name}/store/app:1.0")], "no such name");
        victim.refuses(&["ls", "--remote", &format!("{name}/store/app")], "no such name");
    }
}

#[test]
fn certificates_out_of_their_time() {
    for (years, fault) in [((2001, 2002), "has expired"), ((3001, 3002), "not valid yet")] {
        let (home, pki) = (Home::new(), Pki::new());
        let server = TlsServer::start(&pki.issue_for_years(&home, "server", &["127.0.0.1"], years));
        let ca = pki.ca(&home, "ca");
        home.configure(&format!("{CONFIG}[registry.\"{}\"]\nca_file = {ca:?}\n", server.host()));
        let mut victim = Victim::in_home(home);
        let reference = format!("{}/store/app:1.0", server.host());
        victim.refuses(&["pull", &reference], fault);
        let error = victim.home.larder(["pull", &reference, "--output", "json"]).exits(1);
        assert!(error.stdout.contains("bad-certificate") || error.stderr.contains("bad-certificate"), "{error:?}");
        assert_eq!(server.requests(), 0, "nothing was said to it");
    }
}
