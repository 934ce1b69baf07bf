//! Findings as commands show them, judged anew from what is there now.

use jiff::SignedDuration;
use serde_json::{Value, json};
use snapkeep_domain::finding::{Finding, Severity};
use snapkeep_domain::function::Function;
use snapkeep_domain::ledger::run::LastRun;
use snapkeep_domain::place::Place;
use snapkeep_domain::prune::{Step, cap_marks, dry_run};

use crate::output;
use crate::when::whole;
use crate::world::{View, World};

/// A finding as commands show it.
#[derive(Clone)]
pub(crate) struct Shown {
    pub(crate) severity: Severity,
    pub(crate) json: Value,
    pub(crate) message: String,
    pub(crate) fix: Option<String>,
}

impl World {
    /// What a person should know, judged from what is there now, the worst first.
    pub(crate) fn findings(&self, views: &[View<'_>]) -> Vec<Shown> {
        let mut all = self.findings_of_prune(views);
        all.extend(self.silent(views));
        worst_first(all)
    }

    /// What `prune` would report if it ran now.
    pub(crate) fn findings_of_prune(&self, views: &[View<'_>]) -> Vec<Shown> {
        let report = &self.survey.report;
        let mut all: Vec<Shown> =
            report.findings.iter().map(|finding| shown(finding, None)).collect();
        // That a single resource could not be asked for is in its plan.
        for failure in report.failures.iter().filter(|failure| failure.resource.is_none()) {
            let place = failure.region.as_deref().unwrap_or_default();
            let message = format!(
                "{place} could not be read: {} failed with {}: {}",
                failure.operation, failure.code, failure.message
            );
            let fix = "check the rights of the caller (lightsail:Get*), and whether the provider is in order";
            let key = ("region-unreachable", "name", place);
            all.push(own(Severity::Error, key, place, message, fix.to_owned()));
        }
        for surveyed in &self.survey.places {
            let place = &surveyed.place;
            let look_alikes = surveyed.facts.listing.findings();
            all.extend(look_alikes.iter().map(|finding| shown(finding, Some(place))));
            let here = || views.iter().filter(|view| view.surveyed.place == *place);
            if self.settings.max_deletes.is_some() || self.settings.dry_run {
                let mut steps: Vec<Step> =
                    here().flat_map(|view| view.plan.steps.clone()).collect();
                let knows = !surveyed.facts.protected.is_empty();
                let finding = match self.settings.dry_run {
                    true => dry_run(place, &steps, knows),
                    false => cap_marks(place, &mut steps, &self.settings),
                };
                all.extend(finding.map(|finding| shown(&finding, Some(place))));
            }
            for view in here() {
                all.extend(view.plan.findings.iter().map(|finding| shown(finding, Some(place))));
            }
        }
        worst_first(all)
    }

    /// The functions of which no run ended for too long, in places with protected instances.
    fn silent(&self, views: &[View<'_>]) -> Vec<Shown> {
        let mut all = Vec::new();
        for surveyed in &self.survey.places {
            if !views.iter().any(|view| view.surveyed.place == surveyed.place && view.is_on()) {
                continue;
            }
            for function in Function::ALL {
                let hours = if function == Function::Prune { 3 } else { 1 };
                let mut runs = self.survey.memory.runs.iter();
                let own_run =
                    runs.find(|run| run.function == function && run.place == surveyed.place);
                let ended = own_run.and_then(LastRun::finished);
                let over = SignedDuration::from_hours(hours);
                if ended.is_some_and(|at| self.now.duration_since(at) <= over) {
                    continue;
                }
                let place = surveyed.place.to_string();
                let message = match (ended, own_run) {
                    (Some(at), _) => {
                        format!("no run of {function} in {place} ended since {}", whole(at))
                    }
                    (None, Some(_)) => format!("no run of {function} in {place} ever ended"),
                    (None, None) => format!("{function} has never run in {place}"),
                };
                let fix = format!("look at the rule, the errors and the throttles of {function}");
                let key = ("silent", "key", function.as_str());
                all.push(own(Severity::Error, key, &place, message, fix));
            }
        }
        all
    }
}

fn worst_first(mut all: Vec<Shown>) -> Vec<Shown> {
    all.sort_by_key(|one| std::cmp::Reverse(one.severity));
    all
}

/// Whether nothing is wrong.
pub(crate) fn is_well(findings: &[Shown]) -> bool {
    findings.iter().all(|finding| finding.severity == Severity::Info)
}

/// Prints findings, each with what to do.
pub(crate) fn print(findings: &[Shown]) {
    for Shown { severity, json, message, fix } in findings {
        let code = json["code"].as_str().unwrap_or_default();
        let word = match severity {
            Severity::Error => output::red("error"),
            Severity::Warning => output::yellow("warning"),
            Severity::Info => "info".to_owned(),
        };
        output::wrapped(&format!("{word} {code}: {message}"), "  ");
        if let Some(fix) = fix {
            output::wrapped(&format!("  to do: {fix}"), "    ");
        }
    }
}

/// A finding of the functions, with its place.
pub(crate) fn shown(finding: &Finding, place: Option<&Place>) -> Shown {
    let mut json = serde_json::to_value(finding).unwrap_or_default();
    let place = finding.place.as_ref().or(place);
    if let (Some(members), Some(place)) = (json.as_object_mut(), place) {
        members.insert("place".to_owned(), json!(place.to_string()));
    }
    let Finding { severity, message, fix, .. } = finding.clone();
    Shown { severity, json, message, fix }
}

/// A finding of the command's own.
fn own(
    severity: Severity,
    (code, member, value): (&str, &str, &str),
    place: &str,
    message: String,
    fix: String,
) -> Shown {
    let mut json =
        json!({"severity": severity, "code": code, "place": place, "message": message, "fix": fix});
    json[member] = json!(value);
    Shown { severity, json, message, fix: Some(fix) }
}
