//! Findings as commands show them, judged anew from what is there now.

use jiff::SignedDuration;
use serde_json::{Value, json};
use snapkeep_app::report::unprotected;
use snapkeep_domain::finding::{Code, Finding, Severity};
use snapkeep_domain::function::Function;
use snapkeep_domain::ledger::run::LastRun;
use snapkeep_domain::place::Place;
use snapkeep_domain::policy::tags::OptIn;
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
        let mut all = self.findings_of_places();
        for surveyed in &self.survey.places {
            let place = &surveyed.place;
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
            all.extend(self.unprotected(here()).map(|finding| shown(&finding, Some(place))));
            here().for_each(|view| all.extend(of_view(view)));
        }
        worst_first(all)
    }

    /// What is to be said of whole places: those that cannot be read, too.
    pub(crate) fn findings_of_places(&self) -> Vec<Shown> {
        let report = &self.survey.report;
        // Who is unprotected is said of each place.
        let told = report.findings.iter().filter(|finding| finding.code != Code::Unprotected);
        let mut all: Vec<Shown> = self.bad_variables.clone();
        all.extend(told.map(|finding| shown(finding, None)));
        for place in self.unread() {
            let text = place.to_string();
            // A Region that is not enabled is reported already.
            let is_told = |one: &Shown| one.json["name"] == *text;
            let failed = report.failures.iter().any(|one| one.region.as_ref() == Some(&text));
            if failed && !all.iter().any(is_told) {
                let message = format!("{place} cannot be read: {}", self.why_unread(&place));
                let fix = "get the right, or wait until the provider is in order";
                let key = ("region-unreachable", "name", text.as_str());
                all.push(own(Severity::Error, key, &text, message, fix.to_owned()));
            }
        }
        for surveyed in &self.survey.places {
            let look_alikes = surveyed.facts.listing.findings();
            all.extend(look_alikes.iter().map(|finding| {
                let mut shown = shown(finding, Some(&surveyed.place));
                shown.json["snapshot"] = shown.json["name"].clone();
                shown
            }));
        }
        worst_first(all)
    }

    /// The finding about the instances of a place that nothing protects.
    fn unprotected<'a>(&self, views: impl Iterator<Item = &'a View<'a>>) -> Option<Finding> {
        let untagged = |view: &&View<'_>| {
            let living = view.living.as_ref();
            living.is_some_and(|(_, protection)| protection.opt_in == OptIn::Untagged)
        };
        let names: Vec<String> = views.filter(untagged).map(|view| view.who.name.clone()).collect();
        (!names.is_empty()).then(|| unprotected(&names, &self.settings.tag))
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

/// What `prune` would report of one resource. A finding about a snapshot names its instance, too.
pub(crate) fn of_view(view: &View<'_>) -> Vec<Shown> {
    let rescues = view.plan.steps.iter().filter_map(|step| match step {
        Step::Rescue(record) => {
            let message = format!("{}: {}", record.name, record.reason);
            Some(Finding::new(Code::Rescued, message).of(&record.resource, &record.resource_name))
        }
        _ => None,
    });
    let mut all = Vec::new();
    for finding in view.plan.findings.iter().cloned().chain(rescues) {
        let mut one = shown(&finding, Some(&view.surveyed.place));
        let name = finding.name.unwrap_or_default();
        if name != view.who.name && view.plan.verdicts.iter().any(|judged| judged.name == name) {
            one.json["snapshot"] = json!(name);
            one.json["name"] = json!(view.who.name);
        }
        all.push(one);
    }
    all
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
        let text = |member: &str| json[member].as_str().unwrap_or_default();
        // Messages about tags do not say whose they are.
        let who = match (text("name"), text("place")) {
            ("", _) => String::new(),
            (name, _) if message.contains(name) => String::new(),
            (name, place) => format!("{name} ({place}): "),
        };
        output::wrapped(&format!("{word} {code}: {who}{message}"), "  ");
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
