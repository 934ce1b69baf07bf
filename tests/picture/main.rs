//! The pictures, as people see them: axe looks at them in a headless Chromium, in light and dark, on a
//! screen and on a telephone.

use std::process::Command;

use snapkeep_tests::binaries::{binary, target};
use snapkeep_tests::root;

/// Runs a program, which must succeed.
fn run(mut command: Command) {
    let name = command.get_program().to_string_lossy().into_owned();
    let output = command.output().unwrap_or_else(|error| panic!("{name}: {error}"));
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    assert!(output.status.success(), "{name}: {}{}", text(&output.stdout), text(&output.stderr));
}

#[test]
#[ignore = "needs Node, npm and Chromium; CI runs it"]
fn the_picture_of_the_demo_is_accessible() {
    let folder = target().unwrap_or_else(|why| panic!("{why}")).join("picture");
    std::fs::create_dir_all(&folder).unwrap_or_else(|why| panic!("{why}"));
    for file in ["package.json", "package-lock.json", "check.mjs"] {
        let from = root().join("tests/picture").join(file);
        std::fs::copy(from, folder.join(file)).unwrap_or_else(|why| panic!("{file}: {why}"));
    }
    let mut npm = Command::new("npm");
    npm.args(["ci", "--no-audit", "--no-fund"]).current_dir(&folder);
    run(npm);
    let mut demo = Command::new(binary("snapkeep"));
    demo.args(["demo", "--days", "40", "--html"]).arg(folder.join("demo.html"));
    run(demo);
    let mut check = Command::new("node");
    check.args(["check.mjs", "--shots", "shots", "demo.html"]).current_dir(&folder);
    run(check);
}
