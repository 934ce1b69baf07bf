//! Standard output. Whoever reads it may close it while a command prints, as `head` does: then the command ends
//! without an error. A full disk is one.

use std::fmt::Arguments;
use std::io::{ErrorKind, Write, stdout};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};

use tokio::sync::Notify;

use crate::CommandResult;

/// The first error of a write, and who waits for it.
static BROKEN: OnceLock<(ErrorKind, String)> = OnceLock::new();
static WAITING: Notify = Notify::const_new();

/// Prints a line, as `println!` does, but without its panic.
macro_rules! say {
    ($($text:tt)*) => { $crate::output::line(format_args!($($text)*)) };
}
pub(crate) use say;

pub(crate) fn line(text: Arguments<'_>) {
    if let Some(lines) = &mut *printed() {
        lines.push(text.to_string());
    }
    let written = writeln!(stdout().lock(), "{text}").and_then(|()| stdout().flush());
    if let Err(error) = written
        && BROKEN.set((error.kind(), error.to_string())).is_ok()
    {
        // Kept for whoever waits later, too.
        WAITING.notify_one();
    }
}

/// What was printed since somebody asked for it to be kept: a cloud may run for days.
static PRINTED: Mutex<Option<Vec<String>>> = Mutex::new(None);

fn printed() -> MutexGuard<'static, Option<Vec<String>>> {
    PRINTED.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Keeps the lines that are printed from now on.
pub(crate) fn keep() {
    *printed() = Some(Vec::new());
}

/// The lines that were kept.
pub(crate) fn kept() -> Vec<String> {
    printed().clone().unwrap_or_default()
}

/// How wide a line is at most.
pub(crate) const WIDTH: usize = 80;

/// Prints a text in lines that fit, those after the first indented.
pub(crate) fn wrapped(text: &str, indent: &str) {
    let options = textwrap::Options::new(WIDTH)
        .subsequent_indent(indent)
        .break_words(false)
        // A hyphen in a name or a date is no place to break it.
        .word_splitter(textwrap::WordSplitter::NoHyphenation)
        .word_separator(textwrap::WordSeparator::AsciiSpace);
    textwrap::wrap(text, options).iter().for_each(|line| say!("{line}"));
}

/// Whether nothing more can be printed.
pub(crate) fn is_broken() -> bool {
    BROKEN.get().is_some()
}

/// Waits until nothing more can be printed.
pub(crate) async fn broken() {
    if !is_broken() {
        WAITING.notified().await;
    }
}

/// What a command ends with, if what it printed did not arrive.
pub(crate) fn checked(result: CommandResult) -> CommandResult {
    match BROKEN.get() {
        Some((kind, error)) if *kind != ErrorKind::BrokenPipe => {
            Err(format!("cannot write to standard output: {error}").into())
        }
        Some(_) => Ok(std::process::ExitCode::SUCCESS),
        None => result,
    }
}
