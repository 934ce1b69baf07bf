//! `snapkeep retention`: what a policy would keep of these times, and why. Offline, with the very rules
//! that `prune` applies.

use std::io::{IsTerminal, Read};
use std::path::PathBuf;
use std::process::ExitCode;

use jiff::Timestamp;
use serde::Serialize;
use snapkeep_domain::policy::Retention;
use snapkeep_domain::policy::keep::{Keep, MinKeep};
use snapkeep_domain::time::Zone;

use crate::CommandResult;
use crate::output::say;

/// Reads RFC 3339 timestamps, one a line, and says which are kept and which deleted.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// The file with the timestamps; standard input without it, or with `-`.
    file: Option<PathBuf>,
    /// The retention, such as "last=3 daily=7 weekly=4"; without it everything is kept.
    #[arg(long, default_value = "", value_parser = |text: &str| Retention::read(text).map(|r| r.keep()))]
    keep: Keep,
    /// The zone of its civil times.
    #[arg(long, default_value = "UTC", value_parser = |text: &str| text.parse::<Zone>())]
    timezone: Zone,
    /// What remains in any case: a number, or rules like those of --keep.
    #[arg(long, default_value = "1", value_parser = |text: &str| text.parse::<MinKeep>())]
    min_keep: MinKeep,
    /// Print a JSON array of {"time", "keep", "reasons"}, the newest first.
    #[arg(long)]
    json: bool,
}

#[derive(Debug, PartialEq, Serialize)]
struct Line {
    time: String,
    keep: bool,
    reasons: Vec<String>,
}

pub(crate) fn run(arguments: &Arguments) -> CommandResult {
    let text = match arguments.file.as_deref().filter(|file| *file != "-") {
        Some(file) => std::fs::read_to_string(file)
            .map_err(|error| format!("cannot read {}: {error}", file.display()))?,
        None => {
            if std::io::stdin().is_terminal() {
                eprintln!("Reading timestamps, one a line; Ctrl-D ends them.");
            }
            let mut text = String::new();
            std::io::stdin().read_to_string(&mut text)?;
            text
        }
    };
    let lines = judge(&text, &arguments.keep, &arguments.timezone, &arguments.min_keep)?;
    if arguments.json {
        say!("{}", serde_json::to_string_pretty(&lines)?);
    } else {
        for line in lines {
            let verdict = if line.keep { "keep  " } else { "delete" };
            say!("{verdict} {}  {}", line.time, line.reasons.join(", "));
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn judge(text: &str, keep: &Keep, zone: &Zone, min_keep: &MinKeep) -> Result<Vec<Line>, String> {
    let mut times: Vec<(Timestamp, &str)> = Vec::new();
    for (at, line) in text.lines().enumerate() {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let time = line.parse().map_err(|_| {
            format!(
                "line {}: `{line}` is not an RFC 3339 time such as 2026-11-20T03:00:00Z",
                at + 1
            )
        })?;
        times.push((time, line));
    }
    times.sort_by_key(|(time, _)| std::cmp::Reverse(*time));
    let newest_first: Vec<Timestamp> = times.iter().map(|(time, _)| *time).collect();
    let mut kept = keep.judge(&newest_first, zone);
    min_keep.protect(&mut kept, &newest_first, zone, |_| false, |_| false);
    let line = |((_, text), reasons): (&(Timestamp, &str), Vec<_>)| Line {
        time: (*text).to_owned(),
        keep: !reasons.is_empty(),
        reasons: if reasons.is_empty() {
            vec!["no rule keeps it".to_owned()]
        } else {
            reasons.iter().map(ToString::to_string).collect()
        },
    };
    Ok(times.iter().zip(kept).map(line).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, keep: &str, min_keep: &str) -> Result<Vec<Line>, String> {
        judge(text, &keep.parse().unwrap(), &Zone::utc(), &min_keep.parse().unwrap())
    }

    #[test]
    fn newest_first_with_reasons_and_the_readers_own_spelling() {
        let text = "2026-01-01T03:00:00Z\n\n# a comment\n2026-01-02T04:00:00+01:00\r\n2026-01-02T01:00:00Z";
        let lines = check(text, "daily=1", "1").unwrap();
        let shown: Vec<_> = lines.iter().map(|l| (l.time.as_str(), l.keep)).collect();
        assert_eq!(
            shown,
            [
                ("2026-01-02T04:00:00+01:00", true),
                ("2026-01-02T01:00:00Z", false),
                ("2026-01-01T03:00:00Z", false)
            ]
        );
        assert_eq!(check(text, "daily=1", "3").unwrap()[2].reasons, ["minimum"]);
    }

    #[test]
    fn a_bad_line_is_named() {
        let error = check("2026-01-01T03:00:00Z\nyesterday", "all", "1").unwrap_err();
        assert!(error.contains("line 2") && error.contains("yesterday"), "{error}");
    }
}
