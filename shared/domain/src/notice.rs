//! Notices: what people are notified of. One-off events are sent once, by the run that saw them. A
//! *condition* is sent when it begins and when it is resolved; the ledger remembers it in between.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::finding::{Code, Finding, Notify, Severity, Topic};
use crate::function::Function;
use crate::ledger::lease::Lease;
use crate::ledger::record::{FORMAT, INVOCATION_LIFE, Record};
use crate::place::Place;
use crate::time::{Slot, after};

/// What notices in one mail have in common: the topic, whether they are resolved, and the finding's
/// cause; or the one snapshot that they are about.
pub type Cause = (Topic, bool, Option<(Code, String)>, Option<String>);

/// What people are notified of. Members that do not apply are absent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Notice {
    /// The topic.
    #[serde(skip)]
    pub topic: Topic,
    /// Whether the condition is resolved.
    #[serde(rename = "over")]
    pub resolved: bool,
    /// When the condition began; absent for one-off events.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub since: Option<Timestamp>,
    /// The snapshot's name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub snapshot: Option<String>,
    /// The snapshot's slot.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub slot: Option<Slot>,
    /// The severity.
    pub severity: Severity,
    /// The finding's code, if the notice is about one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub code: Option<Code>,
    /// The resource's id.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub resource: Option<String>,
    /// The name of the resource, or of what else the notice is about.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// The tag's key or the variable.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
    /// The value in question.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub value: Option<String>,
    /// What happened, and why.
    pub message: String,
    /// What to do about it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fix: Option<String>,
    /// The cause of the finding, if the notice is about one.
    #[serde(skip)]
    pub of: Option<(Code, String)>,
}

impl Notice {
    /// Creates a notice about a record's snapshot.
    #[must_use]
    pub fn of_record(topic: Topic, record: &Record, message: String) -> Self {
        Notice {
            topic,
            resolved: false,
            since: None,
            snapshot: Some(record.name.clone()),
            slot: Some(record.slot),
            severity: Severity::Info,
            code: None,
            resource: Some(record.resource.0.clone()),
            name: Some(record.resource_name.clone()),
            key: None,
            value: None,
            message,
            fix: None,
            of: None,
        }
    }

    /// Creates a notice about a finding.
    #[must_use]
    pub fn of_finding(topic: Topic, finding: &Finding) -> Self {
        let (finding, of) = (finding.clone(), Some(finding.cause()));
        let code = finding.code.as_str();
        let look_it_up = || format!("see {code} in docs/OPERATIONS.md");
        Notice {
            topic,
            resolved: false,
            since: None,
            snapshot: None,
            slot: None,
            severity: finding.severity,
            code: Some(finding.code),
            resource: finding.resource,
            name: finding.name,
            key: finding.key,
            value: finding.value,
            message: finding.message,
            fix: Some(finding.fix.unwrap_or_else(look_it_up)),
            of,
        }
    }

    /// Creates the notices of the findings that are one-off events.
    #[must_use]
    pub fn passing(findings: &[Finding]) -> Vec<Notice> {
        let once = |finding: &Finding| match finding.code.notify() {
            Notify::OnEvent(topic) => Some(Notice::of_finding(topic, finding)),
            Notify::Never | Notify::WhileActive(_) => None,
        };
        findings.iter().filter_map(once).collect()
    }

    /// What several notices may have in common, so that they go into one mail.
    #[must_use]
    pub fn cause(&self) -> Cause {
        match &self.of {
            Some(cause) => (self.topic, self.resolved, Some(cause.clone()), None),
            // A notice about a snapshot shares its cause only with those about the same snapshot.
            None => (self.topic, self.resolved, None, self.snapshot.clone()),
        }
    }

    /// Combines notices with one cause into one, with their number and the first ten names.
    #[must_use]
    pub fn together(same: &[&Notice]) -> Option<Notice> {
        const NAMES_SHOWN_MAX: usize = 10;
        let first = (*same.first()?).clone();
        let names: BTreeSet<&str> =
            same.iter().filter_map(|notice| notice.name.as_deref()).collect();
        if same.len() == 1 || names.len() < 2 {
            return Some(first);
        }
        let shown: Vec<&str> = names.iter().copied().take(NAMES_SHOWN_MAX).collect();
        let more = names.len() - shown.len();
        let more = if more == 0 { String::new() } else { format!(" and {more} more") };
        let name = format!("{} of them: {}{more}", names.len(), shown.join(", "));
        let message = format!("{}, for example: {}", name, first.message);
        Some(Notice { resource: None, name: Some(name), message, ..first })
    }

    /// Whether it goes to people, and not only to programs.
    #[must_use]
    pub fn wants_a_person(&self) -> bool {
        self.severity > Severity::Info
    }

    /// The title, on one line.
    #[must_use]
    pub fn title(&self) -> String {
        let name = self.name.as_deref().or(self.key.as_deref()).map(|name| format!(": {name}"));
        let resolved = if self.resolved { " (resolved)" } else { "" };
        format!("{}{}{resolved}", self.topic.as_str(), name.unwrap_or_default())
    }
}

/// An ongoing condition, as the ledger remembers it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Condition {
    /// The finding, as it was when the condition began.
    pub finding: Finding,
    /// The function that found it, and that knows when it is resolved.
    pub function: Function,
    /// The place in which it was found.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub place: Option<Place>,
    /// When it began.
    pub since: Timestamp,
    /// When it was resolved.
    #[serde(default, alias = "over", skip_serializing_if = "Option::is_none")]
    pub resolved: Option<Timestamp>,
    /// Whether people were notified of its current state.
    #[serde(alias = "told")]
    pub notified: bool,
    /// The time until which a run is notifying people of it.
    #[serde(default, rename = "leased_until", skip_serializing_if = "Lease::is_none")]
    pub lease: Lease,
    /// The format of the item.
    pub format: u32,
    /// The version, for optimistic locking; 0 means not written yet.
    pub version: u64,
}

impl Condition {
    /// The key of a condition: a new confirming code makes a new condition, an older snapshot does
    /// not.
    #[must_use]
    pub fn key(finding: &Finding) -> String {
        let which = match finding.code {
            Code::Brake | Code::PendingTooLong => finding.value.as_deref(),
            _ => None,
        };
        let (resource, name) = (finding.resource.as_deref(), finding.name.as_deref());
        let parts = [resource, name, finding.key.as_deref(), which];
        let parts = parts.map(Option::unwrap_or_default).join("#");
        format!("{}#{parts}", finding.code.as_str())
    }

    /// The notice about its current state.
    #[must_use]
    pub fn notice(&self) -> Option<Notice> {
        let Notify::WhileActive(topic) = self.finding.code.notify() else { return None };
        let resolved = self.resolved.is_some();
        let mut notice = Notice::of_finding(topic, &self.finding);
        (notice.resolved, notice.since) = (resolved, Some(self.since));
        if resolved {
            notice.message = format!("no longer the case: {}", notice.message);
            notice.fix = None;
        }
        Some(notice)
    }

    /// The condition after people were notified, or could not be.
    #[must_use]
    pub fn settled(self, notified: bool) -> Self {
        Condition { notified, lease: Lease::NONE, ..self }
    }

    fn untold(self, now: Timestamp) -> Self {
        let lease = Lease::until(after(now, INVOCATION_LIFE));
        Condition { notified: false, lease, ..self }
    }
}

/// The conditions to write before people are notified, from what a run of `function` found and what
/// the ledger remembers. If `in_doubt`, a missing finding does not mean that its condition is
/// resolved.
#[must_use]
pub fn plan(
    function: Function,
    findings: &[Finding],
    known: &[Condition],
    in_doubt: impl Fn(&Condition) -> bool,
    now: Timestamp,
) -> Vec<Condition> {
    // Only prune sees all records: one that the others no longer meet may still exist.
    let whole = |code: Code| code != Code::UnreadableRecord || function == Function::Prune;
    let lasting = |finding: &&Finding| {
        matches!(finding.code.notify(), Notify::WhileActive(_)) && whole(finding.code)
    };
    let found: BTreeMap<String, &Finding> =
        findings.iter().filter(lasting).map(|finding| (Condition::key(finding), finding)).collect();
    let known: BTreeMap<String, &Condition> =
        known.iter().map(|condition| (Condition::key(&condition.finding), condition)).collect();

    let begun = found.iter().filter_map(|(key, finding)| {
        let begins = |version| Condition {
            finding: (*finding).clone(),
            function,
            place: finding.place.clone(),
            since: now,
            resolved: None,
            notified: false,
            lease: Lease::NONE,
            format: FORMAT,
            version,
        };
        match known.get(key) {
            None => Some(begins(0).untold(now)),
            Some(old) if old.resolved.is_some() => Some(begins(old.version).untold(now)),
            Some(old) if !old.notified && old.lease.is_free(now) => {
                Some((*old).clone().untold(now))
            }
            Some(_) => None,
        }
    });
    let resolved = known.iter().filter_map(|(key, old)| {
        let gone = old.function == function && !found.contains_key(key) && !in_doubt(old);
        let untold = !old.notified && old.lease.is_free(now);
        match old.resolved {
            // A condition that is found again begins again.
            Some(_) if untold && !found.contains_key(key) => Some((*old).clone().untold(now)),
            None if gone && (old.notified || untold) => {
                Some(Condition { resolved: Some(now), ..(*old).clone() }.untold(now))
            }
            _ => None,
        }
    });
    // New conditions come first, because they matter more.
    begun.chain(resolved).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use jiff::SignedDuration;

    const NOW: Timestamp = Timestamp::UNIX_EPOCH;

    fn later(minutes: i64) -> Timestamp {
        after(NOW, SignedDuration::from_mins(minutes))
    }

    fn overdue(name: &str) -> Finding {
        Finding::new(Code::Overdue, format!("{name} is overdue")).named(name).fix("look")
    }

    /// Plans a run with these findings; `reached` is whether people could be notified. Returns the
    /// titles.
    fn run(
        known: &mut BTreeMap<String, Condition>,
        function: Function,
        findings: &[Finding],
        now: Timestamp,
        reached: bool,
    ) -> Vec<String> {
        let remembered: Vec<Condition> = known.values().cloned().collect();
        let planned = plan(function, findings, &remembered, |_| false, now);
        let mut told = Vec::new();
        for condition in planned {
            told.extend(condition.notice().map(|notice| notice.title()));
            let condition = condition.settled(reached);
            known.insert(Condition::key(&condition.finding), condition);
        }
        told
    }

    #[test]
    fn a_condition_is_told_once_and_again_when_it_is_over() {
        let mut known = BTreeMap::new();
        let found = [overdue("web")];
        assert_eq!(run(&mut known, Function::Prune, &found, NOW, true), ["Snapshot Missed: web"]);
        for minutes in [60, 120, 180] {
            assert!(run(&mut known, Function::Prune, &found, later(minutes), true).is_empty());
        }
        let told = run(&mut known, Function::Prune, &[], later(240), true);
        assert_eq!(told, ["Snapshot Missed: web (resolved)"]);
        assert!(run(&mut known, Function::Prune, &[], later(300), true).is_empty());
        assert_eq!(
            run(&mut known, Function::Prune, &found, later(360), true),
            ["Snapshot Missed: web"]
        );
        assert_eq!(known.len(), 1);
    }

    #[test]
    fn two_functions_that_find_the_same_tell_it_once() {
        let mut known = BTreeMap::new();
        let found = [Finding::new(Code::BadTag, "x").named("web").key("snapkeep:keep")];
        assert_eq!(run(&mut known, Function::Create, &found, NOW, true).len(), 1);
        assert!(run(&mut known, Function::Prune, &found, NOW, true).is_empty());
        // That prune does not find it means nothing, because create found it.
        assert!(run(&mut known, Function::Prune, &[], NOW, true).is_empty());
        assert_eq!(run(&mut known, Function::Create, &[], NOW, true).len(), 1);
    }

    #[test]
    fn what_could_not_be_told_is_told_by_the_next_run() {
        let mut known = BTreeMap::new();
        let found = [overdue("web")];
        for _ in 0..3 {
            assert_eq!(run(&mut known, Function::Prune, &found, NOW, false).len(), 1);
        }
        assert_eq!(run(&mut known, Function::Prune, &found, NOW, true).len(), 1);
        for _ in 0..2 {
            let told = run(&mut known, Function::Prune, &[], NOW, false);
            assert_eq!(told, ["Snapshot Missed: web (resolved)"]);
        }
    }

    #[test]
    fn while_somebody_tells_it_nobody_else_does_and_after_an_invocations_life_somebody_may() {
        let found = [overdue("web")];
        let claimed = plan(Function::Prune, &found, &[], |_| false, NOW);
        assert!(!claimed[0].notified);
        assert!(plan(Function::Prune, &found, &claimed, |_| false, later(14)).is_empty());
        assert!(plan(Function::Prune, &[], &claimed, |_| false, later(14)).is_empty());
        let again = plan(Function::Prune, &found, &claimed, |_| false, later(15));
        assert_eq!((again.len(), again[0].since, again[0].version), (1, NOW, 0));
    }

    #[test]
    fn in_doubt_nothing_is_over() {
        let known = plan(Function::Prune, &[overdue("web")], &[], |_| false, NOW);
        let known: Vec<Condition> =
            known.into_iter().map(|condition| condition.settled(true)).collect();
        assert!(plan(Function::Prune, &[], &known, |_| true, later(60)).is_empty());
        assert_eq!(plan(Function::Prune, &[], &known, |_| false, later(60)).len(), 1);
    }

    #[test]
    fn another_confirming_code_is_another_condition_and_another_age_is_not() {
        let brake = |code: &str| Finding::new(Code::Brake, "x").named("web").value(code);
        assert_ne!(Condition::key(&brake("a")), Condition::key(&brake("b")));
        let missed = |value: &str| overdue("web").value(value);
        assert_eq!(Condition::key(&missed("1h")), Condition::key(&missed("2h")));
        assert_ne!(Condition::key(&overdue("web")), Condition::key(&overdue("db")));
        let held = |snapshot: &str| {
            let web = crate::resource::ResourceId("arn:web".to_owned());
            Condition::key(&Finding::new(Code::BadHold, "x").of(&web, snapshot))
        };
        assert_ne!(held("web-1"), held("web-2"));
    }

    #[test]
    fn what_is_found_again_before_anybody_heard_that_it_was_over_begins_again_only() {
        let known = plan(Function::Prune, &[overdue("web")], &[], |_| false, NOW);
        let known: Vec<Condition> =
            known.into_iter().map(|condition| condition.settled(true)).collect();
        let resolved =
            plan(Function::Prune, &[], &known, |_| false, later(60)).remove(0).settled(false);
        let again = plan(Function::Prune, &[overdue("web")], &[resolved], |_| false, later(120));
        assert_eq!((again.len(), again[0].resolved), (1, None));
    }

    #[test]
    fn only_prune_tells_of_records() {
        let found = [Finding::new(Code::UnreadableRecord, "x").named("slot")];
        assert!(plan(Function::Create, &found, &[], |_| false, NOW).is_empty());
        assert_eq!(plan(Function::Prune, &found, &[], |_| false, NOW).len(), 1);
    }

    #[test]
    fn every_notice_of_a_finding_says_what_to_do() {
        for code in Code::ALL {
            let notice = Notice::of_finding(Topic::Failed, &Finding::new(*code, "x"));
            assert!(notice.fix.is_some_and(|fix| fix.contains(code.as_str())));
        }
    }

    #[test]
    fn a_notice_says_what_is_over_without_what_to_do() {
        let mut condition = plan(Function::Prune, &[overdue("web")], &[], |_| false, NOW).remove(0);
        assert_eq!(condition.notice().and_then(|notice| notice.fix).as_deref(), Some("look"));
        condition.resolved = Some(later(60));
        let notice = condition.notice().map(|notice| (notice.message, notice.fix, notice.resolved));
        assert_eq!(notice, Some(("no longer the case: web is overdue".to_owned(), None, true)));
    }

    #[test]
    fn what_is_merely_information_is_told_nobody_and_what_is_not_is_told() {
        for code in Code::ALL {
            let never = code.notify() == Notify::Never;
            assert_eq!(never, code.severity() == Severity::Info, "{}", code.as_str());
            let told = Notice::passing(&[Finding::new(*code, "x")]);
            assert_eq!(told.len(), usize::from(matches!(code.notify(), Notify::OnEvent(_))));
        }
    }
}
