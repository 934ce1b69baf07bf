//! The Python that tests run: a virtual environment that the first test makes.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use crate::{binaries, read};

/// What the environment contains, in a form that pip reads.
const REQUIREMENTS: &str = "tests/python/requirements.txt";

/// The interpreter of an environment with the pinned requirements. It is made once, under the target folder, and
/// again when the requirements change; tests of several processes may want it at once.
///
/// # Panics
/// When it cannot be made.
#[must_use]
pub fn python() -> PathBuf {
    static PYTHON: OnceLock<PathBuf> = OnceLock::new();
    let made = PYTHON.get_or_init(|| {
        let target = binaries::target().unwrap_or_else(|why| panic!("{why}"));
        make(&target).unwrap_or_else(|why| panic!("the tests' Python environment: {why}"))
    });
    made.clone()
}

fn make(target: &Path) -> Result<PathBuf, String> {
    let text = |error: std::io::Error| error.to_string();
    let folder = target.join("python");
    let (interpreter, made_of) = (folder.join("bin/python"), folder.join("requirements.txt"));
    let wanted = read(REQUIREMENTS);
    let lock = File::create(target.join("python.lock")).map_err(text)?;
    // Until this is closed, every other test waits here.
    lock.lock().map_err(text)?;
    if fs::read_to_string(&made_of).is_ok_and(|has| has == wanted) && interpreter.exists() {
        return Ok(interpreter);
    }
    if folder.exists() {
        fs::remove_dir_all(&folder).map_err(text)?;
    }
    eprintln!("installing what the tests need of Python into {}", folder.display());
    let system = "run: sudo apt-get install -y python3 python3-venv";
    run(Command::new("python3").args(["-m", "venv"]).arg(&folder), system)?;
    let mut pip = Command::new(&interpreter);
    pip.args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--requirement"]);
    let network = "Python 3.11 or newer and access to PyPI are needed";
    run(pip.arg(crate::root().join(REQUIREMENTS)), network)?;
    // Written last: an environment without it is begun anew.
    fs::write(&made_of, wanted).map_err(text)?;
    Ok(interpreter)
}

/// Runs a command; if it fails, says what it said, and what helps.
fn run(command: &mut Command, helps: &str) -> Result<(), String> {
    let line = format!("{command:?}");
    let failed = |why: String| format!("{line} failed; {helps}\n{why}");
    let output = command.output().map_err(|error| failed(error.to_string()))?;
    if output.status.success() {
        return Ok(());
    }
    let said = [output.stdout, output.stderr].concat();
    Err(failed(String::from_utf8_lossy(&said).into_owned()))
}
