//! Policies: a schedule, a retention and a zone under a name, and the small language for them.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::finding::Finding;
use crate::policy::keep::{KEEP_FORM, Keep};
use crate::policy::schedule::Schedule;
use crate::time::Zone;

pub mod confirmation;
pub mod keep;
pub mod schedule;
pub mod settings;
pub mod tags;

/// The name of the default policy.
pub const DEFAULT: &str = "default";
/// Words of the opt-in tag that mean the default policy.
pub const ON_WORDS: [&str; 4] = ["on", "true", "yes", "1"];
/// Words of the opt-in tag that mean opted out.
pub const OFF_WORDS: [&str; 4] = ["off", "false", "no", "0"];
/// The variable that holds the named policies.
pub const POLICIES_VARIABLE: &str = "SNAPKEEP_POLICIES";

/// The setting of a retention.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Retention {
    /// It is not set: everything is kept, and a finding says so.
    Unset,
    /// It cannot be read: everything is kept, and a problem says so.
    Unreadable,
    /// It consists of these rules.
    Keep(Keep),
}

impl Retention {
    /// Reads a retention text; a blank one keeps everything.
    ///
    /// # Errors
    /// The accepted form.
    pub fn read(text: &str) -> Result<Self, String> {
        if text.trim().is_empty() {
            return Ok(Retention::Unset);
        }
        text.parse().map(Retention::Keep).map_err(|_| KEEP_FORM.to_owned())
    }

    /// The rules to judge by.
    #[must_use]
    pub fn keep(&self) -> Keep {
        match self {
            Retention::Unset | Retention::Unreadable => Keep::All,
            Retention::Keep(keep) => keep.clone(),
        }
    }

    /// The text in force, for tags and records; `None` if the retention cannot be read.
    #[must_use]
    pub fn text(&self) -> Option<String> {
        (*self != Retention::Unreadable).then(|| self.keep().to_string())
    }
}

/// A policy that always has a schedule: what could not be read has fallen back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Policy {
    /// Its name.
    pub name: String,
    /// When snapshots are due.
    pub schedule: Schedule,
    /// The zone of its civil times.
    pub zone: Zone,
    /// The retention.
    pub retention: Retention,
    /// What could not be read; while there is any problem, nothing is pruned.
    pub problems: Vec<Finding>,
}

impl Policy {
    /// The text for records.
    #[must_use]
    pub fn text(&self) -> PolicyText {
        PolicyText {
            name: self.name.clone(),
            schedule: Some(self.schedule.to_string()),
            keep: self.retention.text(),
            timezone: self.zone.name().to_owned(),
        }
    }
}

/// The policy as it was in force when the record was made.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct PolicyText {
    /// Its name.
    pub name: String,
    /// Its schedule; absent in an adopted record.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub schedule: Option<String>,
    /// Its retention; absent means that everything is kept.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub keep: Option<String>,
    /// Its zone.
    pub timezone: String,
}

/// The meaning of a recorded text today: what can no longer be read keeps everything, and promises
/// nothing.
impl PolicyText {
    /// The rules, and the zone in which they are judged; everything is kept if either is absent or
    /// cannot be read. A hold's day ends in the zone, or else in UTC.
    #[must_use]
    pub fn retention(&self) -> (Keep, Zone) {
        let keep = self.keep.as_deref().and_then(|text| text.parse().ok());
        match (keep, self.timezone.parse()) {
            (Some(keep), Ok(zone)) => (keep, zone),
            (None, Ok(zone)) => (Keep::All, zone),
            (_, Err(_)) => (Keep::All, Zone::utc()),
        }
    }

    /// The schedule and its zone; `None` if either is absent or cannot be read.
    #[must_use]
    pub fn schedule(&self) -> Option<(Schedule, Zone)> {
        Some((self.schedule.as_deref()?.parse().ok()?, self.timezone.parse().ok()?))
    }
}

/// The policy texts so far: most records and snapshots share theirs with many others.
#[derive(Clone, Debug, Default)]
pub struct PolicyTexts(BTreeSet<Arc<PolicyText>>);

impl PolicyTexts {
    /// Returns the same text, held once.
    pub fn shared(&mut self, text: impl Into<Arc<PolicyText>>) -> Arc<PolicyText> {
        let text = text.into();
        if let Some(known) = self.0.get(&text) {
            return Arc::clone(known);
        }
        self.0.insert(Arc::clone(&text));
        text
    }
}

/// The default policy and the named ones.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Policies {
    /// The default policy.
    pub default: Policy,
    /// The other policies, by name.
    pub named: BTreeMap<String, Policy>,
    /// Whether an instance without the opt-in tag takes part, too, with the default policy.
    pub protects_all: bool,
    /// The problems of entries that have no valid name.
    pub problems: Vec<Finding>,
}

const ENTRY_FORM: &str = "entries like `gold: schedule=hourly timezone=Europe/Berlin keep=hourly=24 \
     daily=7`, with `;` or a line end between them and `keep=` last";

/// What is wrong with one entry of `SNAPKEEP_POLICIES`.
fn bad_entry(entry: &str, accepted: &str) -> Finding {
    Finding::bad_variable(POLICIES_VARIABLE, entry, accepted)
        .fix(format!("correct the entry `{entry}` of {POLICIES_VARIABLE}: expected {accepted}"))
}

impl Policies {
    /// Reads `SNAPKEEP_POLICIES`. It never fails: an entry that is invalid does not affect the
    /// others.
    #[must_use]
    pub fn read(default: Policy, text: &str) -> Self {
        let (named, problems) = (BTreeMap::new(), Vec::new());
        let mut policies = Policies { default, named, protects_all: false, problems };
        for entry in text.split([';', '\n']).map(str::trim).filter(|entry| !entry.is_empty()) {
            let problem = |accepted: &str| bad_entry(entry, accepted);
            let Some((name, body)) = entry.split_once(':').map(|(n, b)| (n.trim(), b)) else {
                policies.problems.push(problem(ENTRY_FORM));
                continue;
            };
            let reserved = name == DEFAULT || ON_WORDS.contains(&name) || OFF_WORDS.contains(&name);
            let legal = |c: char| c.is_alphanumeric() || "+-=._/@".contains(c);
            if name.is_empty() || !name.chars().all(legal) || reserved {
                policies.problems.push(problem(
                    "a policy name of letters, digits and + - = . _ / @ that is none of default, on, \
                     true, yes, 1, off, false, no, 0",
                ));
                continue;
            }
            let mut policy = policies.entry(name, entry, body);
            if let Some(first) = policies.named.get(name) {
                policy.problems.extend(first.problems.iter().cloned());
                policy.problems.push(problem("each policy name once"));
            }
            policies.named.insert(name.to_owned(), policy);
        }
        policies
    }

    fn entry(&self, name: &str, entry: &str, body: &str) -> Policy {
        let mut policy =
            Policy { name: name.to_owned(), problems: Vec::new(), ..self.default.clone() };
        let mut problem = |accepted: &str| policy.problems.push(bad_entry(entry, accepted));
        // `keep=` takes the rest, because its own rules contain `=` and spaces.
        let keep_at = body
            .match_indices("keep=")
            .map(|(at, _)| at)
            .find(|at| body[..*at].ends_with(|c: char| c.is_ascii_whitespace()) || *at == 0);
        let (head, keep) = match keep_at {
            Some(at) => (&body[..at], &body[at + "keep=".len()..]),
            None => (body, ""),
        };
        match Retention::read(keep) {
            Ok(retention) => policy.retention = retention,
            Err(form) => {
                policy.retention = Retention::Unreadable;
                problem(&format!("keep={form}"));
            }
        }
        for word in head.split_ascii_whitespace() {
            match word.split_once('=') {
                Some(("schedule", text)) => match text.parse() {
                    Ok(schedule) => policy.schedule = schedule,
                    Err(form) => problem(&format!("schedule={form}")),
                },
                Some(("timezone", text)) => match text.parse() {
                    Ok(zone) => policy.zone = zone,
                    Err(form) => problem(&format!("timezone={form}")),
                },
                _ => problem(ENTRY_FORM),
            }
        }
        policy
    }

    /// The policy of this name.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&Policy> {
        if name == DEFAULT { Some(&self.default) } else { self.named.get(name) }
    }
}

impl Default for Policy {
    fn default() -> Self {
        Policy {
            name: DEFAULT.to_owned(),
            schedule: Schedule::Daily(jiff::civil::Time::constant(3, 0, 0, 0)),
            zone: Zone::utc(),
            retention: Retention::Unset,
            problems: Vec::new(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Policies {
        Policies::read(Policy::default(), text)
    }

    #[test]
    fn the_contracts_example_reads() {
        let policies = read(
            "gold: schedule=hourly timezone=Europe/Berlin keep=hourly=24 daily=7; silver: keep=daily=7\n",
        );
        let gold = &policies.named["gold"];
        assert_eq!(gold.schedule.to_string(), "hourly");
        assert_eq!(gold.zone.name(), "Europe/Berlin");
        assert_eq!(gold.retention.text().unwrap(), "hourly=24 daily=7");
        let silver = &policies.named["silver"];
        assert_eq!(silver.schedule.to_string(), "daily@03:00");
        assert_eq!(silver.retention.text().unwrap(), "daily=7");
        assert!(policies.problems.is_empty() && gold.problems.is_empty());
    }

    #[test]
    fn a_missing_keep_keeps_everything_and_a_bad_part_falls_back() {
        let policies = read("a: schedule=hourly\nb: schedule=never keep=daily=0; c d: keep=all; e");
        assert_eq!(policies.named["a"].retention, Retention::Unset);
        let b = &policies.named["b"];
        assert_eq!((b.problems.len(), b.schedule.to_string().as_str()), (2, "daily@03:00"));
        assert_eq!(b.retention.keep(), Keep::All);
        assert!(b.problems[0].message.contains("SNAPKEEP_POLICIES"));
        assert_eq!(policies.problems.len(), 2);
    }

    #[test]
    fn a_named_policy_has_the_defaults_schedule_and_zone_but_neither_its_retention_nor_its_problems()
     {
        let default = Policy {
            schedule: "hourly".parse().unwrap(),
            zone: "Europe/Berlin".parse().unwrap(),
            retention: Retention::read("daily=3").unwrap(),
            problems: vec![Finding::bad_variable("SNAPKEEP_KEEP", "x", "y")],
            ..Policy::default()
        };
        let policies = Policies::read(default, "a: ;b:keep=daily=7");
        let a = &policies.named["a"];
        assert_eq!((a.schedule.to_string().as_str(), a.zone.name()), ("hourly", "Europe/Berlin"));
        assert_eq!((&a.retention, a.problems.len()), (&Retention::Unset, 0));
        // The same holds without a space before `keep`.
        assert_eq!(policies.named["b"].retention.text().unwrap(), "daily=7");
    }

    #[test]
    fn words_that_tags_use_otherwise_name_no_policy() {
        let policies =
            read("default: keep=all; on: keep=all; off: keep=all; : keep=all; a/b: keep=all");
        assert_eq!((policies.problems.len(), policies.named.len()), (4, 1));
    }

    #[test]
    fn a_name_said_twice_is_a_problem_of_that_policy() {
        assert_eq!(read("a: keep=daily=1; a: keep=daily=9").named["a"].problems.len(), 1);
        // What is wrong with the first entry is said, too.
        assert_eq!(read("a: keep=dayly=1; a: keep=daily=9").named["a"].problems.len(), 2);
    }
}
