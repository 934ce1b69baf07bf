//! docs/COMMANDS.md shows what the commands really print: this test runs its examples, in order, on one
//! deployment. `BLESS=1` writes what they print into the document.
#![expect(clippy::unwrap_used, reason = "a test may panic")]

use std::fmt::Write as _;
use std::path::Path;

use crate::harness::*;

/// How the deployment of the examples is set.
const VARS: [(&str, &str); 3] = [
    ("SNAPKEEP_KEEP", "last=2"),
    ("SNAPKEEP_GRACE", "2d"),
    // A screen that every terminal has.
    ("COLUMNS", "80"),
];

/// Examples that need no deployment are run by tests/semantics.
const OFFLINE: [&str; 2] = ["snapkeep simulate", "snapkeep retention"];

async fn story() -> World {
    let world = World::start(&VARS).await;
    world.launch(&["web-1"], &[("snapkeep", "")]);
    world.launch(&["db"], &[("snapkeep", ""), ("snapkeep:keep", "daily=7 weekly=4")]);
    world.launch(&["dev"], &[]);
    world.quiet_nights(5).await;
    world.launch(&["api"], &[("snapkeep", "glod")]);
    let first = world.snapshots_of("web-1")[0].name.clone();
    world.tag(&first, "snapkeep:hold", "until=2026-03-31");
    world.tick("create").await;
    world.advance(10);
    world.tick("poll").await;
    world
}

#[tokio::test(flavor = "multi_thread")]
async fn the_examples_of_the_handbook_are_what_the_commands_print() {
    let world = story().await;
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/COMMANDS.md");
    let document = std::fs::read_to_string(&file).unwrap();
    let mut written = String::new();
    let mut lines = document.lines();
    let mut examples = 0;
    while let Some(line) = lines.next() {
        writeln!(written, "{line}").unwrap();
        let Some(command) = (line == "```console").then(|| lines.next().unwrap()) else { continue };
        let shown: Vec<&str> = lines.by_ref().take_while(|line| *line != "```").collect();
        let offline = OFFLINE.iter().any(|one| command.contains(one));
        let printed = if offline { shown.join("\n") } else { run(&world, command) };
        writeln!(written, "{command}\n{}\n```", printed.trim_end()).unwrap();
        examples += usize::from(!offline);
    }
    if std::env::var_os("BLESS").is_some() {
        std::fs::write(&file, &written).unwrap();
        return world.end().await;
    }
    assert!(examples >= 10, "{examples}");
    for (shown, printed) in document.lines().zip(written.lines()) {
        assert_eq!(shown, printed, "run this test with BLESS=1 to write what is printed now");
    }
    assert_eq!(document.lines().count(), written.lines().count());
    world.end().await;
}

/// What a command prints, which fits on the screen.
fn run(world: &World, command: &str) -> String {
    let words = shell_words::split(command.strip_prefix("$ snapkeep ").unwrap()).unwrap();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let (code, out, err) = world.command(&words, &VARS);
    assert!(code < 2, "{command}: {err}");
    let free = ["--json", "--csv", "--print", "check"].iter().any(|one| command.contains(one));
    for line in out.lines().filter(|_| !free) {
        assert!(line.chars().count() <= 80, "{command}: {line}");
    }
    out
}
