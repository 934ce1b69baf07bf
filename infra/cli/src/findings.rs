//! Findings as commands show them, judged anew from what is there now.

use std::collections::{BTreeMap, BTreeSet};

use futures_util::{StreamExt, TryStreamExt, stream};
use jiff::SignedDuration;
use serde_json::{Value, json};
use snapkeep_app::ports::Ledger;
use snapkeep_app::report::unprotected;
use snapkeep_domain::create;
use snapkeep_domain::finding::{Code, Finding, Severity};
use snapkeep_domain::function::Function;
use snapkeep_domain::ledger::run::LastRun;
use snapkeep_domain::place::Place;
use snapkeep_domain::policy::tags::OptIn;
use snapkeep_domain::poll::pending_too_long;
use snapkeep_domain::prune::{Judged, Step, cap_marks, dry_run, overdue, takes_part};
use snapkeep_domain::snapshot::Instance;

use crate::BoxError;
use crate::access::advice;
use crate::output;
use crate::when::whole;
use crate::world::{View, World};

/// How many questions the ledger is asked at once.
const AT_ONCE: usize = 16;

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
    pub(crate) async fn findings(&self, views: &[View<'_>]) -> Result<Vec<Shown>, BoxError> {
        let mut all = self.findings_of_prune(views);
        let of_due = stream::iter(views.iter().map(|view| self.findings_of_due(view)));
        let of_due: Vec<Vec<Shown>> = of_due.buffered(AT_ONCE).try_collect().await?;
        all.extend(of_due.into_iter().flatten());
        all.extend(self.silent(views));
        Ok(worst_first(all))
    }

    /// What `create` and `poll` would report of a resource: why its due slot has no snapshot yet, and
    /// what has been pending for too long.
    pub(crate) async fn findings_of_due(&self, view: &View<'_>) -> Result<Vec<Shown>, BoxError> {
        let cx = self.cx(view.surveyed);
        let long = view.records.iter().filter_map(|record| pending_too_long(record, &cx));
        let mut all: Vec<Finding> = long.collect();
        if let Some((instance, protection)) = view.living.as_ref().filter(|_| view.is_on()) {
            let due = create::due_slot(protection, self.now);
            let known = view.records.iter().any(|record| record.slot == due);
            let answered = view.protected.and_then(|item| item.answered);
            // What is settled is not in the index, and there is nothing to settle before an answer.
            let records = match !known && answered.is_some_and(|at| at >= due.timestamp()) {
                true => self.deployment.ledger.recent(&view.id, due).await?.records,
                false => view.records.to_vec(),
            };
            let facts = create::Facts {
                instance: Instance::clone(instance),
                protection: protection.clone(),
                protected_since: view.protected.and_then(|item| item.since),
                records,
                looks: BTreeMap::new(),
            };
            all.extend(create::waiting(&facts, &cx));
        }
        Ok(all.iter().map(|finding| about(view, finding)).collect())
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
            let codes = [Code::RegionNotEnabled, Code::RegionUnreachable].map(Code::as_str);
            let is_told = |one: &Shown| {
                one.json["place"] == *text && codes.iter().any(|code| one.json["code"] == *code)
            };
            let failed = report.failures.iter().any(|one| one.region.as_ref() == Some(&text));
            if failed && !all.iter().any(is_told) {
                let message = format!("{place} cannot be read: {}", self.why_unread(&place));
                let fix = "get the right, or wait until the provider is in order";
                let key = ("region-unreachable", "name", text.as_str());
                all.push(own(Severity::Error, key, &text, message, fix.to_owned()));
            }
            all.extend(self.overdue_unread(&place));
        }
        all.extend(self.regions_unnamed());
        for surveyed in &self.survey.places {
            let look_alikes = surveyed.facts.listing.findings();
            all.extend(look_alikes.iter().map(|finding| {
                let mut shown = shown(finding, Some(&surveyed.place));
                if let Some(members) = shown.json.as_object_mut()
                    && let Some(snapshot) = members.remove("name")
                {
                    members.insert("snapshot".to_owned(), snapshot);
                }
                shown
            }));
        }
        worst_first(all)
    }

    /// What the ledger remembers of a place that cannot be read: whose newest snapshot is too old.
    fn overdue_unread(&self, place: &Place) -> Vec<Shown> {
        let here = self.survey.memory.protected.iter().filter(|item| item.place == *place);
        let ages = here.filter_map(|item| item.age(self.settings.pending_timeout, self.now));
        let all = ages.filter_map(|age| overdue(&age));
        all.map(|finding| shown(&finding, Some(place))).collect()
    }

    /// That the provider does not name its Regions, so that only those are read which the ledger knows.
    fn regions_unnamed(&self) -> Option<Shown> {
        let mut failures = self.survey.report.failures.iter();
        let failure = failures.find(|one| one.region.is_none() && one.resource.is_none())?;
        let message = format!(
            "{} failed with {}: {}; only the places that the ledger knows are shown",
            failure.operation, failure.code, failure.message
        );
        let key = ("region-unreachable", "key", failure.operation.as_str());
        Some(own(Severity::Error, key, "", message, advice(failure)))
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
        let on = views.iter().filter(|view| view.is_on()).map(|view| &view.surveyed.place);
        let unread = self.unread();
        let remembered = self.survey.memory.protected.iter().filter(|item| takes_part(item));
        let remembered = remembered.map(|item| &item.place).filter(|place| unread.contains(place));
        let places: BTreeSet<&Place> = on.chain(remembered).collect();
        for own_place in places {
            for function in Function::ALL {
                let hours = if function == Function::Prune { 3 } else { 1 };
                let mut runs = self.survey.memory.runs.iter();
                let own_run = runs.find(|run| run.function == function && run.place == *own_place);
                let ended = own_run.and_then(LastRun::finished);
                let over = SignedDuration::from_hours(hours);
                if ended.is_some_and(|at| self.now.duration_since(at) <= over) {
                    continue;
                }
                let place = own_place.to_string();
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
            Some(Finding::new(Code::Rescued, message).of(&record.resource, &record.name))
        }
        _ => None,
    });
    view.plan.findings.iter().cloned().chain(rescues).map(|finding| about(view, &finding)).collect()
}

/// A finding about a resource or one of its snapshots, with the names of both.
fn about(view: &View<'_>, finding: &Finding) -> Shown {
    let mut one = shown(finding, Some(&view.surveyed.place));
    one.json["name"] = json!(view.who.name);
    let texts = [&finding.name, &finding.value].into_iter().flatten();
    let snapshot = texts.filter(|text| **text != view.who.name).find_map(|text| {
        let is_it = |judged: &&Judged| judged.name == *text || judged.key == *text;
        view.plan.verdicts.iter().find(is_it)
    });
    if let Some(judged) = snapshot {
        one.json["snapshot"] = json!(judged.name);
    }
    one
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
        let who = match (text("resource"), text("place")) {
            ("", "") => String::new(),
            ("", place) if message.contains(place) => String::new(),
            ("", place) => format!("{place}: "),
            (_, place) => format!("{} ({place}): ", text("name")),
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
    // What is about no resource is about the place that it names.
    let named = finding.name.as_ref().filter(|_| finding.resource.is_none());
    let named = named.and_then(|name| name.parse::<Place>().ok());
    let place = finding.place.as_ref().or(place).or(named.as_ref());
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
    let mut json = json!({"severity": severity, "code": code, "message": message, "fix": fix});
    json[member] = json!(value);
    if !place.is_empty() {
        json["place"] = json!(place);
    }
    Shown { severity, json, message, fix: Some(fix) }
}
