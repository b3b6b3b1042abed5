//! What a person sees at a terminal: colours, widths, passwords, questions.

use harness::terminal::without_colours;
use harness::{Signer, Terminal};

use crate::world::World;

/// A world with two images under a long name, the first signed by a key that is trusted, the second by a stranger.
fn furnished() -> (World, String) {
    let (world, release) = (World::start(), Signer::new("release"));
    let repository = "store/a-rather-long-path/that-goes-on/application";
    for (tag, signer) in [("2026.11.23-rc1", &release), ("2026.11.23-rc2", &Signer::new("stranger"))] {
        let image = harness::Image::small(tag);
        world.registry.put(repository, tag, &image);
        world.registry.put_signature(repository, &image.digest(), &signer.signature_of(&image));
        world.home.larder(["pull", &world.registry.reference(repository, tag)]).exits(0);
    }
    let key = world.home.write_beside("release.pub", release.public_pem());
    world.home.larder(["trust", "add", key.to_str().expect("UTF-8")]).exits(0);
    let reference = world.registry.reference(repository, "2026.11.23-rc2");
    (world, reference)
}

#[test]
fn lines_fit_the_terminal_and_pipes_get_them_whole() {
    let (world, reference) = furnished();
    let verbs: [&[&str]; 12] = [
        &["ls"],
        &["status"],
        &["status", &reference],
        &["show", &reference],
        &["tree", &reference],
        &["explain", &reference],
        &["log"],
        &["log", &reference],
        &["trust", "list"],
        &["trust", "remove", "release", "--dry-run"],
        &["daemon", "status"],
        &["rm", "--dry-run", &reference],
    ];
    for columns in [80, 40] {
        for words in verbs {
            let (_, shown) = Terminal::run(world.home.invoke(words), columns).ends();
            for line in without_colours(&shown).lines() {
                let width = line.chars().count();
                // A word that is wider by itself stays whole, so that it can be copied.
                let word = line.trim_start_matches(['│', '├', '└', '─', ' ']);
                let is_a_word = !word.trim_end().contains(' ');
                assert!(width <= usize::from(columns) || is_a_word, "{words:?} at {columns}: {line:?}\n{shown}");
            }
        }
    }
    let piped = world.home.larder(["ls"]).exits(0).stdout;
    assert!(piped.lines().all(|line| line.contains("store/a-rather-long-path") && line.contains("KiB")), "{piped}");
    let named = Terminal::run(world.home.invoke(["ls"]).env("COLUMNS", "200"), 40).ends().1;
    assert!(without_colours(&named).lines().any(|line| line.chars().count() > 80), "COLUMNS decides: {named}");
}

#[test]
fn help_fits_the_terminal() {
    let home = harness::Home::new();
    for verb in [
        "",
        "ls",
        "push",
        "show",
        "tree",
        "inspect",
        "tag",
        "rm",
        "status",
        "explain",
        "verify",
        "watch",
        "log",
        "trust",
        "key",
        "sign",
        "attach",
        "sbom",
        "download",
        "triangulate",
        "clean",
        "daemon",
        "quickstart",
        "completion",
        "man",
    ] {
        let words: Vec<&str> = verb.split_whitespace().chain(["--help"]).collect();
        let (code, shown) = Terminal::run(home.invoke(words), 80).ends();
        assert_eq!(code, 0);
        for line in without_colours(&shown).lines() {
            assert!(line.chars().count() <= 80, "{verb}: {line:?}");
        }
    }
}

#[test]
fn colours_are_for_terminals_that_want_them() {
    let (world, reference) = furnished();
    let status = |variable: Option<(&str, &str)>| {
        let invocation = world.home.invoke(["status", &reference]);
        let invocation = match variable {
            Some((name, value)) => invocation.env(name, value),
            None => invocation,
        };
        Terminal::run(invocation, 120).ends()
    };
    let (code, coloured) = status(None);
    assert_eq!(code, 3);
    assert!(coloured.contains("\u{1b}[31m✘ untrusted"), "{coloured:?}");
    let (_, plain) = status(Some(("NO_COLOR", "1")));
    assert!(!plain.contains('\u{1b}') && plain.contains("✘ untrusted"), "the mark stays: {plain:?}");
    let piped = world.home.larder(["status", &reference]).exits(3);
    assert!(!piped.stdout.contains('\u{1b}') && !piped.stdout.contains('✘'), "{}", piped.stdout);
    let forced = world.home.invoke(["status"]).env("CLICOLOR_FORCE", "1").run().exits(3);
    assert!(forced.stdout.contains("\u{1b}[31m"), "{}", forced.stdout);
}

#[test]
fn passwords_are_not_shown() {
    let home = harness::Home::new();
    let mut terminal = Terminal::run(home.invoke(["key", "generate"]), 80);
    terminal.shows("Enter password for private key: ");
    terminal.hides_what_is_typed();
    // A slip is taken back, letter by letter.
    terminal.types("s3cröx\u{7f}\u{7f}et\r");
    terminal.shows("Enter password for private key again: ");
    terminal.hides_what_is_typed();
    terminal.types("s3cret\r");
    terminal.shows("Public key written");
    let echoes = terminal.echoes();
    let (code, shown) = terminal.ends();
    assert!(echoes, "the terminal is as it was");
    assert_eq!(code, 0, "{shown}");
    assert!(!shown.contains("s3cr"), "{shown}");

    let mut terminal = Terminal::run(home.invoke(["key", "generate", "--output-key-prefix", "other"]), 80);
    terminal.shows("Enter password for private key: ");
    terminal.hides_what_is_typed();
    terminal.types("s3cret\r");
    terminal.shows("again: ");
    terminal.hides_what_is_typed();
    terminal.types("another\r");
    let (code, shown) = terminal.ends();
    assert_eq!(code, 1, "{shown}");
    assert!(shown.contains("the two passwords differ") && !home.beside("other.key").exists(), "{shown}");

    let mut terminal = Terminal::run(home.invoke(["key", "generate", "--output-key-prefix", "other"]), 80);
    terminal.shows("Enter password for private key: ");
    terminal.hides_what_is_typed();
    terminal.types("s3\u{3}");
    terminal.shows("stopped at the terminal");
    let echoes = terminal.echoes();
    assert_eq!(terminal.ends().0, 1);
    assert!(echoes, "Ctrl-C leaves a terminal that shows what is typed");
}

#[test]
fn accepting_what_is_untrusted_is_asked() {
    let (world, reference) = furnished();
    let repository = reference.trim_end_matches(":2026.11.23-rc2").to_owned();
    let question = "Something that is revoked or untrusted would become accepted. Do it? [y/N]";
    for (answer, code, state) in [("n\r", 1, 3), ("\r", 1, 3), ("y\r", 0, 0)] {
        let mut terminal = Terminal::run(world.home.invoke(["trust", "allow", &repository]), 120);
        terminal.shows(question);
        terminal.types(answer);
        let (ended, shown) = terminal.ends();
        assert_eq!(ended, code, "{answer:?}: {shown}");
        let shown = without_colours(&shown);
        assert!(shown.contains("untrusted → allowed"), "what would change is shown before: {shown}");
        world.home.larder(["status", &reference]).exits(state);
    }
}

#[test]
fn overwriting_a_key_pair_is_asked() {
    let home = harness::Home::new();
    let generate = || home.invoke(["key", "generate"]).env("COSIGN_PASSWORD", "s3cret");
    generate().run().exits(0);
    let read = || std::fs::read(home.beside("cosign.key")).expect("the key");
    let before = read();
    for (answer, code) in [("n\r", 1), ("\r", 1), ("y\r", 0)] {
        let mut terminal = Terminal::run(generate(), 120);
        terminal.shows("cosign.key is there already. Overwrite it? [y/N]");
        terminal.types(answer);
        if code == 0 {
            terminal.shows("cosign.pub is there already. Overwrite it? [y/N]");
            terminal.types(answer);
        }
        let (ended, shown) = terminal.ends();
        assert_eq!(ended, code, "{answer:?}: {shown}");
        assert_eq!(read() == before, code == 1, "{answer:?}: {shown}");
    }
}
