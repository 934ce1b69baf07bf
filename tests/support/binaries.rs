//! The binaries that tests start: `cargo test` builds only its own package's.
//!
//! With `SNAPKEEP_BUILT` set to what `sam build` left (`.aws-sam/build`), the functions are those very
//! artifacts.

use std::path::PathBuf;
use std::process::Command;
use std::sync::OnceLock;

use crate::root;

/// What `cargo test` sets for a package.
const PACKAGE_VARS: [&str; 5] =
    ["CARGO_PKG_", "CARGO_MANIFEST_", "CARGO_CRATE_", "CARGO_BIN_", "CARGO_PRIMARY_"];
const PACKAGES: [&str; 4] = ["snapkeep-create", "snapkeep-poll", "snapkeep-prune", "snapkeep"];

/// Where a binary is: `create`, `poll`, `prune` or `snapkeep`; all are built at the first call.
///
/// # Panics
/// When they do not build.
#[must_use]
pub fn binary(name: &str) -> PathBuf {
    if let Some(artifact) = artifact(name) {
        return artifact;
    }
    static FOLDER: OnceLock<PathBuf> = OnceLock::new();
    let folder = FOLDER.get_or_init(|| build().unwrap_or_else(|why| panic!("{why}")));
    folder.join(format!("{name}{}", std::env::consts::EXE_SUFFIX))
}

/// Where `sam build` left a function, if the functions are to be those; `SNAPKEEP_COMMAND` is another
/// command than this build's.
fn artifact(name: &str) -> Option<PathBuf> {
    if name == "snapkeep" {
        return std::env::var_os("SNAPKEEP_COMMAND").map(PathBuf::from);
    }
    let built = std::env::var_os("SNAPKEEP_BUILT")?;
    let function = match name {
        "create" => "Create",
        "poll" => "Poll",
        "prune" => "Prune",
        _ => return None,
    };
    let artifact = root().join(built).join(function).join("bootstrap");
    assert!(artifact.exists(), "{} is missing: run sam build", artifact.display());
    Some(artifact)
}

/// The folder of the profile that this test was built with.
fn profile_folder() -> Result<PathBuf, String> {
    // The test itself is target/<profile>/deps/e2e-….
    let me = std::env::current_exe().map_err(|error| error.to_string())?;
    Ok(me.ancestors().nth(2).ok_or("no target folder")?.to_owned())
}

/// The target folder.
#[must_use = "it may have failed"]
pub fn target() -> Result<PathBuf, String> {
    Ok(profile_folder()?.parent().ok_or("no target folder")?.to_owned())
}

fn build() -> Result<PathBuf, String> {
    let (folder, target) = (profile_folder()?, target()?);
    let profile = match folder.file_name().and_then(|name| name.to_str()) {
        Some("debug") | None => "dev",
        Some(other) => other,
    };
    let mut cargo = Command::new(env!("CARGO"));
    // What cargo says to this test about its package would have build scripts run again.
    for (key, _) in std::env::vars_os() {
        if key.to_str().is_some_and(|k| PACKAGE_VARS.iter().any(|p| k.starts_with(p))) {
            cargo.env_remove(key);
        }
    }
    let built = cargo
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .args(["build", "--quiet", "--locked", "--profile", profile, "--target-dir"])
        .arg(target)
        .args(PACKAGES.iter().flat_map(|package| ["-p", package]))
        .status()
        .map_err(|error| error.to_string())?;
    built.success().then_some(folder).ok_or_else(|| "the binaries do not build".to_owned())
}
