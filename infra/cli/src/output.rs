//! Standard output. Whoever reads it may close it while a command prints, as `head` does: then the command ends
//! without an error. A full disk is one.

use std::fmt::Arguments;
use std::io::{ErrorKind, IsTerminal, Write, stderr, stdout};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};

use comfy_table::presets::NOTHING;
use comfy_table::{CellAlignment, ColumnConstraint, Table, Width};
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

/// The narrowest screen that is reckoned with.
const NARROWEST: usize = 20;

/// How wide a line may be: `COLUMNS`, or else the terminal's width, or else any width.
pub(crate) fn width() -> usize {
    let columns = std::env::var("COLUMNS").ok().and_then(|text| text.trim().parse().ok());
    let columns = columns.filter(|columns| *columns > 0);
    let terminal = || Some(usize::from(console::Term::stdout().size_checked()?.1));
    columns.or_else(terminal).map_or(ANY_WIDTH, |width| width.max(NARROWEST))
}

/// Wider than any line.
const ANY_WIDTH: usize = 1 << 20;

/// How a text is broken into lines.
fn wrapping(indent: &str) -> textwrap::Options<'_> {
    textwrap::Options::new(width())
        .subsequent_indent(indent)
        // A long name is broken rather than cut, if the screen is narrower.
        .break_words(true)
        .wrap_algorithm(textwrap::WrapAlgorithm::FirstFit)
        // A hyphen in a name or a date is no place to break it.
        .word_splitter(textwrap::WordSplitter::NoHyphenation)
        .word_separator(textwrap::WordSeparator::AsciiSpace)
}

/// Prints a text in lines that fit, those after the first indented.
pub(crate) fn wrapped(text: &str, indent: &str) {
    textwrap::wrap(text, wrapping(indent)).iter().for_each(|line| say!("{line}"));
}

/// Prints a message on stderr, in lines that fit.
pub(crate) fn complain(text: &str) {
    for line in text.lines() {
        for line in textwrap::wrap(line, wrapping("  ")) {
            // A message that cannot be written changes nothing about what is done.
            let _ = writeln!(stderr().lock(), "{line}");
        }
    }
}

/// Ends the command as clap does: help and version on stdout, an error on stderr, in lines that fit.
pub(crate) fn refused(error: &clap::Error) -> ! {
    if !error.use_stderr() {
        // The library would end well even if nothing could be written.
        let written = error.print().and_then(|()| stdout().flush());
        let failed = written.is_err_and(|error| error.kind() != ErrorKind::BrokenPipe);
        std::process::exit(if failed { 2 } else { 0 });
    }
    let text = error.render();
    let text = match is_coloured(stderr().is_terminal()) {
        true => text.ansi().to_string(),
        false => text.to_string(),
    };
    complain(text.trim_end());
    std::process::exit(error.exit_code());
}

/// A word in red, on a terminal without `NO_COLOR`.
pub(crate) fn red(word: &str) -> String {
    coloured(word, console::Color::Red)
}

/// A word in yellow, on a terminal without `NO_COLOR`.
pub(crate) fn yellow(word: &str) -> String {
    coloured(word, console::Color::Yellow)
}

fn coloured(word: &str, color: console::Color) -> String {
    let coloured = is_coloured(stdout().is_terminal());
    console::style(word).fg(color).force_styling(coloured).to_string()
}

/// Whether a stream has colours: on a terminal, without `NO_COLOR`.
fn is_coloured(is_terminal: bool) -> bool {
    is_terminal && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
}

/// A table of rows under these headers; the columns of these numbers are aligned to the right. On a
/// narrow screen each row becomes a list.
pub(crate) fn table<const N: usize>(headers: [&str; N], rows: Vec<[String; N]>, right: &[usize]) {
    let width = width();
    let longest = |column: usize| {
        let cells = rows.iter().filter_map(|row| row.get(column)).map(String::as_str);
        let header = headers.get(column).copied();
        cells.chain(header).map(textwrap::core::display_width).max().unwrap_or_default()
    };
    let widths: Vec<usize> = (0..N).map(longest).collect();
    // The first column is a name, which may be wrapped; the others are words and numbers.
    let first = widths.first().copied().unwrap_or_default();
    let needed: usize = widths.iter().skip(1).sum::<usize>() + 2 * N.saturating_sub(1);
    if needed + first.min(12) > width {
        list(headers, &rows);
        return;
    }
    let mut table = Table::new();
    table.load_style(NOTHING).set_header(headers);
    table.add_rows(rows);
    for (at, column) in table.column_iter_mut().enumerate() {
        column.set_padding((0, if at + 1 == N { 0 } else { 2 }));
        let width = if at == 0 { Some(first.min(width - needed)) } else { None };
        let width = width.and_then(|width| u16::try_from(width + 2).ok());
        column.set_constraint(match width {
            Some(width) => ColumnConstraint::Absolute(Width::Fixed(width)),
            None => ColumnConstraint::ContentWidth,
        });
        if right.contains(&at) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    table.lines().for_each(|line| say!("{}", line.trim_end()));
}

fn list<const N: usize>(headers: [&str; N], rows: &[[String; N]]) {
    for row in rows {
        for (at, (header, cell)) in headers.iter().zip(row).enumerate() {
            let indent = if at == 0 { "" } else { "  " };
            wrapped(&format!("{indent}{header}: {cell}"), "    ");
        }
    }
}

/// A number of seconds, as people read it.
pub(crate) fn span(seconds: i64) -> String {
    snapkeep_domain::time::format_duration(jiff::SignedDuration::from_secs(seconds))
}

/// Shows on a terminal that something takes its time.
pub(crate) fn progress(what: impl Into<std::borrow::Cow<'static, str>>) -> indicatif::ProgressBar {
    let bar = indicatif::ProgressBar::new_spinner();
    bar.set_message(what);
    bar.enable_steady_tick(std::time::Duration::from_secs(1));
    bar
}

/// Clears the screen, if there is one.
pub(crate) fn clear() {
    let term = console::Term::stdout();
    if term.is_term() {
        // A screen that is not cleared shows more, which is no error.
        let _ = term.clear_screen();
    }
}

/// Prints one JSON document.
pub(crate) fn json(document: &impl serde::Serialize) -> Result<(), crate::BoxError> {
    say!("{}", serde_json::to_string_pretty(document)?);
    Ok(())
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
        _ => result,
    }
}
