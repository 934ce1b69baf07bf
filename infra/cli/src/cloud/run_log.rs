//! What the embedded cloud prints of its functions' runs: what they did, and each condition once.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde_json::Value;
use snapkeep_cloud::lambda::Outcome;

/// Counters that say nothing new from run to run.
const QUIET: [&str; 7] =
    ["regions", "instances", "protected", "served", "snapshots", "kept", "foreign"];

/// What was printed and still lasts: by function and what tells conditions apart.
#[derive(Default)]
pub(super) struct RunLog(BTreeMap<(String, Vec<String>), String>);

impl RunLog {
    /// The lines for an invocation: none, if it did and found nothing new. What a run that is not `whole` did not
    /// find may last all the same.
    pub(super) fn lines(
        &mut self,
        at: Timestamp,
        function: &str,
        outcome: &Outcome,
        whole: bool,
    ) -> Vec<String> {
        let report = match outcome {
            Outcome::Success(report) => report,
            other => return vec![format!("{at}  {function:6} {}", failed(other))],
        };
        let mut lines = Vec::new();
        let counts = report["counts"].as_object().into_iter().flatten();
        let did: Vec<String> = counts
            .filter(|(name, _)| !QUIET.contains(&name.as_str()))
            .map(|(name, count)| format!("{name} {count}"))
            .collect();
        if !did.is_empty() {
            lines.push(did.join(", "));
        }
        let mut found = BTreeMap::new();
        let of = |list: &str| report[list].as_array().cloned().unwrap_or_default();
        for finding in of("findings").iter().filter(|finding| finding["severity"] != "info") {
            let key = ["code", "resource", "name", "key"].map(|member| text(finding, member));
            let fix = match text(finding, "fix") {
                fix if fix.is_empty() => fix,
                fix => format!("; {fix}"),
            };
            let said = format!(
                "{}{}: {}{fix}",
                text(finding, "code"),
                about(finding),
                text(finding, "message")
            );
            found.insert(key.to_vec(), said);
        }
        for failure in of("failures") {
            let key = ["operation", "code", "region", "name"].map(|member| text(&failure, member));
            let said = format!(
                "{} failed{}: {}: {}",
                text(&failure, "operation"),
                about(&failure),
                text(&failure, "code"),
                text(&failure, "message")
            );
            found.insert(key.to_vec(), said);
        }
        for (key, said) in &found {
            if !self.0.contains_key(&(function.to_owned(), key.clone())) {
                lines.push(said.clone());
            }
        }
        let is_over = |(of, key): &(String, Vec<String>), _: &mut String| {
            whole && of == function && !found.contains_key(key)
        };
        for ((_, key), _) in self.0.extract_if(.., is_over) {
            let what: Vec<&str> =
                key.iter().map(String::as_str).filter(|part| !part.is_empty()).collect();
            lines.push(format!("no longer: {}", what.join(" ")));
        }
        self.0.extend(found.into_iter().map(|(key, said)| ((function.to_owned(), key), said)));
        lines.iter().map(|line| format!("{at}  {function:6} {line}")).collect()
    }
}

/// The name that a finding or a failure is about, and its Region, as far as they are known.
fn about(item: &Value) -> String {
    let (name, region) = (text(item, "name"), text(item, "region"));
    // A Lightsail id is an ARN; its fourth part is the Region.
    let resource = text(item, "resource");
    let of_id = resource.split(':').nth(3).unwrap_or_default().to_owned();
    let region = if region.is_empty() { of_id } else { region };
    match (name.is_empty(), region.is_empty()) {
        (true, true) => String::new(),
        (false, true) => format!(" {name}"),
        (true, false) => format!(" in {region}"),
        (false, false) => format!(" {name} in {region}"),
    }
}

fn text(item: &Value, member: &str) -> String {
    item[member].as_str().unwrap_or_default().to_owned()
}

/// Why an invocation gave no report.
fn failed(outcome: &Outcome) -> String {
    match outcome {
        Outcome::Success(_) => String::new(),
        Outcome::Error { error_type, message, .. } => {
            format!("failed with {error_type}: {message}")
        }
        Outcome::InitError { message } => format!("does not start: {message}"),
        Outcome::Crashed { status } => format!("crashed: {status}"),
        Outcome::TimedOut => "timed out".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn lines(log: &mut RunLog, report: Value) -> Vec<String> {
        let lines = log.lines(Timestamp::UNIX_EPOCH, "create", &Outcome::Success(report), true);
        let cut = |line: &String| line.split_once("create ").unwrap().1.to_owned();
        lines.iter().map(cut).collect()
    }

    #[test]
    fn a_condition_is_printed_when_it_begins_and_when_it_is_over() {
        let mut log = RunLog::default();
        let found = json!({"counts": {"served": 3}, "failures": [], "findings": [
            {"severity": "info", "code": "opted-out", "message": "off"},
            {"severity": "warning", "code": "bad-tag", "name": "web-1", "key": "snapkeep:keep",
             "resource": "arn:aws:lightsail:eu-west-1:1:Instance/u", "message": "invalid", "fix": "set it"},
        ]});
        assert_eq!(lines(&mut log, found.clone()), ["bad-tag web-1 in eu-west-1: invalid; set it"]);
        assert!(lines(&mut log, found).is_empty());
        let mended = json!({"counts": {"requested": 1}, "findings": [], "failures": [
            {"operation": "GetInstances", "code": "Denied", "message": "no", "region": "us-east-1"}]});
        assert_eq!(
            lines(&mut log, mended),
            [
                "requested 1",
                "GetInstances failed in us-east-1: Denied: no",
                "no longer: bad-tag arn:aws:lightsail:eu-west-1:1:Instance/u web-1 snapkeep:keep",
            ]
        );
    }

    #[test]
    fn a_function_that_gives_no_report_says_why() {
        let mut log = RunLog::default();
        let refused = Outcome::InitError { message: "refusing to start: invalid X".to_owned() };
        let lines = log.lines(Timestamp::UNIX_EPOCH, "poll", &refused, true);
        assert_eq!(
            lines,
            ["1970-01-01T00:00:00Z  poll   does not start: refusing to start: invalid X"]
        );
    }
}
