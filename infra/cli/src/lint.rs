//! `snapkeep lint`: what is wrong with variables, policies and tags, and what was meant.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use serde_json::{Value, json};
use snapkeep_aws::clock::Clock;
use snapkeep_aws::providers::{read_settings, variables};
use snapkeep_domain::finding::{Code, Finding, Severity};
use snapkeep_domain::function::Function;
use snapkeep_domain::place::Place;
use snapkeep_domain::policy::keep::Keep;
use snapkeep_domain::policy::schedule::Schedule;
use snapkeep_domain::policy::settings::{BadSettings, Settings, VARIABLES};
use snapkeep_domain::policy::{OFF_WORDS, ON_WORDS, POLICIES_VARIABLE, Policies};
use snapkeep_domain::snapshot::{HOLD, Hold, Instance};
use snapkeep_domain::time::{Zone, parse_duration};

use crate::deployed::{TABLE, Variables};
use crate::findings::{self, Shown};
use crate::operate;
use crate::output::{self, say};
use crate::who::meant;
use crate::world::{Reading, World};
use crate::{BoxError, CommandResult};

/// The variable that only the embedded cloud sets.
const CLOCK: &str = "SNAPKEEP_CLOCK_URL";

/// Finds what is wrong with variables, policies, tags and holds, and says what was meant.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    #[command(flatten)]
    reading: Reading,
    /// Take the variables from this file: KEY=VALUE lines, and # comments.
    #[arg(long, value_name = "FILE")]
    env_file: Option<PathBuf>,
    /// Look at variables and policies only, and ask for no tags.
    #[arg(long)]
    offline: bool,
    /// Print one JSON document.
    #[arg(long)]
    json: bool,
}

pub(crate) async fn run(arguments: Arguments) -> CommandResult {
    let own = snapkeep_aws::environment::vars();
    let [create, all] = match &arguments.env_file {
        Some(file) => {
            let vars = env_file(file)?;
            [vars.clone(), vars]
        }
        None if arguments.offline => [own.clone(), own],
        None => {
            let sdk = operate::sdk().await?;
            arguments.reading.variables(&sdk).await?
        }
    };
    let Checked { settings, mut found, readable } = check(&create, &all);
    let table = |vars: &Variables| vars.get(TABLE).is_some_and(|table| !table.trim().is_empty());
    // The stack sets the table: a file of parameters does not have it.
    found.retain(|one| !arguments.offline || table(&all) || one.json["key"] != TABLE);
    let is_bad = found.iter().any(|one| one.json["key"] == TABLE);
    match (arguments.offline, table(&all) && !is_bad) {
        (true, _) => {}
        // Tags are read with what is left of the variables.
        (false, true) => found.extend(of_tags(&arguments.reading.read_with(readable).await?)),
        (false, false) => {
            output::complain(&format!("snapkeep: without {TABLE}, no tags are looked at"))
        }
    }
    found.sort_by_key(|one| std::cmp::Reverse(one.severity));
    let found: Vec<Shown> = found.into_iter().map(|one| explained(one, &settings)).collect();
    let ok = findings::is_well(&found);
    if arguments.json {
        let findings: Vec<&Value> = found.iter().map(|one| &one.json).collect();
        output::json(&json!({"ok": ok, "findings": findings}))?;
    } else {
        if found.is_empty() {
            say!("Nothing is wrong.");
        }
        findings::print(&found);
    }
    Ok(if ok { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Reads `KEY=VALUE` lines.
fn env_file(file: &Path) -> Result<Variables, BoxError> {
    let text = std::fs::read_to_string(file)
        .map_err(|error| format!("--env-file {}: {error}", file.display()))?;
    let mut vars = Variables::new();
    for (at, line) in text.lines().enumerate() {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let line = line.strip_prefix("export ").unwrap_or(line);
        let (key, value) = line.split_once('=').ok_or_else(|| {
            // The line may be a secret.
            format!("--env-file {}, line {}: expected KEY=VALUE", file.display(), at + 1)
        })?;
        let value = value.trim();
        let quoted = |quote| value.strip_prefix(quote).and_then(|rest| rest.strip_suffix(quote));
        let value = quoted('"').or_else(|| quoted('\'')).unwrap_or(value);
        vars.insert(key.trim().to_owned(), value.to_owned());
    }
    Ok(vars)
}

/// What is wrong with variables.
pub(crate) struct Checked {
    settings: Option<Settings>,
    pub(crate) found: Vec<Shown>,
    /// The variables without those that stop a function.
    pub(crate) readable: [Variables; 2],
}

/// Checks the variables of `create`, and those of the other functions.
pub(crate) fn check(create: &Variables, all: &Variables) -> Checked {
    let mut found = Vec::new();
    let (mut create, mut all) = (create.clone(), all.clone());
    drop(read(&mut create, Function::Create, &mut found));
    let settings = read(&mut all, Function::Prune, &mut found);
    found.extend(in_wrong_case(&all).map(|problem| findings::shown(&problem, None)));
    let filled = |key: &str| all.get(key).filter(|text| !text.trim().is_empty()).cloned();
    if let Err(BadSettings(bad)) = Clock::from_vars(filled, None) {
        for problem in bad {
            all.remove(CLOCK);
            create.remove(CLOCK);
            let problem = Finding { severity: Severity::Error, ..problem };
            found.push(findings::shown(&problem, None));
        }
    }
    let policies = settings.iter().flat_map(|one| one.policies.named.values());
    let problems = policies.flat_map(|policy| {
        let named = |problem: &Finding| Finding {
            message: format!("policy `{}`: {}", policy.name, problem.message),
            ..problem.clone()
        };
        policy.problems.iter().map(named).collect::<Vec<_>>()
    });
    found.extend(problems.map(|problem| findings::shown(&problem, None)));
    // The same mistake may be made in the variables of several functions.
    let mut seen = BTreeSet::new();
    found.retain(|one| seen.insert(one.json.to_string()));
    Checked { settings, found, readable: [create, all] }
}

/// The variables that would be snapkeep's in capital letters.
fn in_wrong_case(vars: &Variables) -> impl Iterator<Item = Finding> {
    let known: Vec<&str> = VARIABLES.into_iter().chain(variables()).collect();
    let wrong = move |key: &str| {
        let upper = key.to_uppercase();
        (key != upper && known.contains(&upper.as_str())).then_some(upper)
    };
    vars.iter().filter_map(move |(key, value)| {
        let right = wrong(key)?;
        let message = format!("{key} does nothing: the variable is {right}");
        let finding = Finding::new(Code::BadVariable, message).key(key).value(value);
        Some(finding.fix(format!("rename {key} to {right}")))
    })
}

/// Reads the variables as a function does. What stops the function is an error; the rest is read
/// again without it.
fn read(vars: &mut Variables, function: Function, found: &mut Vec<Shown>) -> Option<Settings> {
    loop {
        let bad = match read_settings(vars, function) {
            Ok((settings, _)) => {
                let problems = settings.problems.iter();
                // The other function may find these worse.
                let milder =
                    |one: &Shown| !found.iter().any(|known| known.json["key"] == one.json["key"]);
                let noted: Vec<Shown> =
                    problems.map(|one| findings::shown(one, None)).filter(milder).collect();
                found.extend(noted);
                return Some(settings);
            }
            Err(BadSettings(bad)) => bad,
        };
        let before = vars.clone();
        for problem in bad {
            let key = problem.key.clone().unwrap_or_default();
            found.retain(|known| known.json["key"] != *key || known.severity == Severity::Error);
            vars.remove(&key);
            if key == TABLE {
                vars.insert(key, "unknown".to_owned());
            }
            let problem = Finding { severity: Severity::Error, ..problem };
            found.push(findings::shown(&problem, None));
        }
        if *vars == before {
            return None;
        }
    }
}

/// What is wrong with the tags of instances, and with holds.
fn of_tags(world: &World) -> Vec<Shown> {
    let mut found = Vec::new();
    for view in world.views() {
        let place = Some(&view.surveyed.place);
        if let Some((instance, protection)) = &view.living {
            let problems = protection.problems(instance).filter(|one| one.code == Code::BadTag);
            found.extend(problems.map(|one| findings::shown(&one, place)));
            found.extend(near_misses(instance, &world.settings.tag, place));
        }
        let holds = findings::of_view(&view).into_iter();
        found.extend(holds.filter(|one| one.json["code"] == "bad-hold"));
    }
    let places = world.findings_of_places().into_iter();
    found.extend(places.filter(|one| one.json["code"] == "region-unreachable"));
    found
}

/// Keys that look as if they were meant to be the opt-in tag, or one that begins with it.
fn near_misses(instance: &Instance, tag: &str, place: Option<&Place>) -> Vec<Shown> {
    let mut found = Vec::new();
    for (key, value) in &instance.tags {
        let (head, rest) = key.split_once(':').map_or((key.as_str(), None), |(h, r)| (h, Some(r)));
        let exact = head.eq_ignore_ascii_case(tag);
        let Some(right) = meant(head, [tag].into_iter()).filter(|_| !exact) else { continue };
        let right = rest.map_or(right.to_owned(), |rest| format!("{right}:{rest}"));
        let message = format!("the tag {key} does nothing; the tag of snapkeep is {right}");
        let finding = Finding::new(Code::BadTag, message).of(&instance.id, &instance.name);
        let finding = finding.key(key).value(value).fix(format!("rename the tag {key} to {right}"));
        let mut shown = findings::shown(&finding, place);
        shown.json["meant"] = json!(right);
        found.push(shown);
    }
    found
}

/// Adds what was meant, where that is one or two letters, or only case, away.
fn explained(mut one: Shown, settings: &Option<Settings>) -> Shown {
    let text = |member: &str| one.json[member].as_str().unwrap_or_default().to_owned();
    let (key, value) = (text("key"), text("value"));
    if one.json.get("meant").is_none()
        && let Some(meant) = match text("code").as_str() {
            // The key of a hold on a snapshot has no other prefix.
            "bad-hold" if key != HOLD => Some(HOLD.to_owned()),
            "bad-hold" => of_value("hold", &value),
            _ => meant_by(&key, &value, settings.as_ref()),
        }
    {
        one.message = format!("{}; did you mean `{meant}`?", one.message);
        one.json["message"] = json!(one.message);
        let fix = match key_is_wrong(&key, &meant) {
            true => format!("rename {key} to {meant}"),
            // The value is one entry of several.
            false if key == POLICIES_VARIABLE => {
                format!("write `{meant}` instead of `{value}` in {key}")
            }
            false => format!("set {key} to {meant}"),
        };
        one.json["fix"] = json!(fix);
        one.fix = Some(fix);
        one.json["meant"] = json!(meant);
    }
    one
}

/// Whether what was meant is a key.
fn key_is_wrong(key: &str, meant: &str) -> bool {
    let head = |text: &str| text.to_lowercase().chars().take(4).collect::<String>();
    key != meant && head(key) == head(meant) && !meant.contains(['=', ' '])
}

/// What a key or its value was meant to be.
fn meant_by(key: &str, value: &str, settings: Option<&Settings>) -> Option<String> {
    let tag = settings.map_or("snapkeep", |settings| settings.tag.as_str());
    if key.to_uppercase().starts_with("SNAPKEEP_") {
        let mut known: Vec<&str> = VARIABLES.to_vec();
        known.extend(variables());
        return match known.contains(&key) {
            false => meant(key, known.into_iter()).map(str::to_owned),
            true => of_value(key.trim_start_matches("SNAPKEEP_"), value)
                .filter(|text| key != POLICIES_VARIABLE || is_policy(text, settings)),
        };
    }
    if let Some((head, part)) = key.split_once(':') {
        let parts = ["schedule", "keep", "timezone", "confirm", "hold"];
        if let Some(right) = meant(part, parts.into_iter()) {
            return Some(format!("{tag}:{right}"));
        }
        return if head == tag { of_value(part, value) } else { Some(format!("{tag}:{part}")) };
    }
    if key != tag {
        return key.eq_ignore_ascii_case(tag).then(|| tag.to_owned());
    }
    let policies = settings.into_iter().flat_map(|one| one.policies.named.keys());
    let words = ON_WORDS.iter().chain(&OFF_WORDS).copied();
    meant(value, policies.map(String::as_str).chain(words)).map(str::to_owned)
}

/// Whether a text is one entry of the named policies, and nothing is wrong with it.
fn is_policy(text: &str, settings: Option<&Settings>) -> bool {
    let read = settings.map(|one| Policies::read(one.policies.default.clone(), text));
    let good = |one: &Policies| one.named.values().all(|policy| policy.problems.is_empty());
    read.is_some_and(|read| read.problems.is_empty() && read.named.len() == 1 && good(&read))
}

/// What a value was meant to be, by what it is of.
fn of_value(part: &str, value: &str) -> Option<String> {
    match part.to_lowercase().as_str() {
        "schedule" => schedule(value),
        "grace" | "orphan_keep" | "pending_timeout" => {
            Some(value.to_lowercase()).filter(|low| low != value && parse_duration(low).is_ok())
        }
        "keep" | "min_keep" => rules(value),
        "timezone" => {
            let zones: Vec<String> =
                jiff::tz::db().available().map(|name| name.to_string()).collect();
            let found = meant(value, zones.iter().map(String::as_str))?;
            found.parse::<Zone>().ok().map(|zone| zone.name().to_owned())
        }
        "hold" => words(value, &["until"], &['='])
            .filter(|text| !matches!(Hold::read(text), Hold::Unreadable { .. })),
        "policies" => {
            let parts: Vec<String> = value.split(' ').map(policy_word).collect();
            Some(parts.join(" ")).filter(|text| text != value)
        }
        "metrics" => meant(value, ["alarms", "all", "resources"].into_iter()).map(str::to_owned),
        "protect" => meant(value, ["tagged", "all"].into_iter()).map(str::to_owned),
        "providers" => meant(value, ["lightsail", "lighthouse"].into_iter()).map(str::to_owned),
        "dry_run" => meant(value, ON_WORDS.iter().chain(&OFF_WORDS).copied()).map(str::to_owned),
        _ => None,
    }
}

/// A schedule whose first word has one or two wrong letters, in lower case, with two digits for the hour.
fn schedule(value: &str) -> Option<String> {
    let known = ["hourly", "every", "daily", "weekly", "monthly"];
    let low = value.to_lowercase();
    let named = words(&low, &known, &['@', '-']).unwrap_or(low);
    let mut padded = named.clone();
    if let Some(at) = named.find(':').and_then(|colon| colon.checked_sub(1)) {
        let is_one_digit = |text: &str| !text.ends_with(|c: char| c.is_ascii_digit());
        if named.get(..at).is_some_and(is_one_digit) {
            padded.insert(at, '0');
        }
    }
    let good = |text: &String| text != value && text.parse::<Schedule>().is_ok();
    [named, padded].into_iter().find(good)
}

/// A word of a named policy, such as `schedule=hourly` or `keep=daily=7`, as it was meant.
fn policy_word(word: &str) -> String {
    let known = ["schedule", "timezone", "keep"];
    let own = || word.to_owned();
    match word.split_once('=') {
        Some((part, value)) if known.contains(&part) => {
            of_value(part, value).map_or_else(own, |value| format!("{part}={value}"))
        }
        _ => words(word, &known, &['=']).or_else(|| rules(word)).unwrap_or_else(own),
    }
}

/// A value whose first word is one of these, but for one or two letters.
fn words(value: &str, known: &[&str], ends: &[char]) -> Option<String> {
    let (word, rest) = value.split_at(value.find(ends).unwrap_or(value.len()));
    meant(word, known.iter().copied()).map(|right| format!("{right}{rest}"))
}

/// A retention whose rules are written with one or two wrong letters.
fn rules(value: &str) -> Option<String> {
    let known = ["last", "hourly", "daily", "weekly", "monthly", "yearly", "within", "all"];
    let right = |word: &str| words(word, &known, &['=']).unwrap_or_else(|| word.to_owned());
    let text = value.split_ascii_whitespace().map(right).collect::<Vec<_>>().join(" ");
    (text != value && text.parse::<Keep>().is_ok()).then_some(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn vars(all: &[(&str, &str)]) -> Variables {
        all.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
    }

    #[test]
    fn what_was_meant_by_keys_values_and_policies() {
        let vars = vars(&[(TABLE, "ledger"), ("SNAPKEEP_POLICIES", "gold: schedule=hourly")]);
        let Checked { settings, .. } = check(&vars, &vars);
        for (key, value, means) in [
            ("SNAPKEEP_KEP", "all", Some("SNAPKEEP_KEEP")),
            ("snapkeep_keep", "all", Some("SNAPKEEP_KEEP")),
            ("SNAPKEEP_DRY_RUN", "onn", Some("on")),
            (
                "SNAPKEEP_POLICIES",
                "gold: schedule=hourli keep=dayly=7",
                Some("gold: schedule=hourly keep=daily=7"),
            ),
            ("SNAPKEEP_KEEP", "dayly=7 last=2", Some("daily=7 last=2")),
            ("SNAPKEEP_TIMEZONE", "Europe/Berln", Some("Europe/Berlin")),
            ("SNAPKEEP_PROTECT", "tagges", Some("tagged")),
            ("snapkeep:shedule", "daily@03:00", Some("snapkeep:schedule")),
            ("snapkeep:Keep", "all", Some("snapkeep:keep")),
            ("Snapkeep", "", Some("snapkeep")),
            ("Snapkeep:keep", "all", Some("snapkeep:keep")),
            ("snapkeep", "glod", Some("gold")),
            ("snapkeep", "Off", Some("off")),
            ("snapkeep:schedule", "dialy@03:00", Some("daily@03:00")),
            ("snapkeep:schedule", "daily@3:00", Some("daily@03:00")),
            ("snapkeep:schedule", "weekly@Sun-03:00", Some("weekly@sun-03:00")),
            ("SNAPKEEP_GRACE", "3D", Some("3d")),
            ("SNAPKEEP_POLICIES", "silver: schedule=hourli keep=last=0", None),
            ("snapkeep:schedule", "sometimes", None),
            ("snapkeep:hold", "untill=2027-01-31", Some("until=2027-01-31")),
            ("snapkeep:timezone", "europe/berlin", Some("Europe/Berlin")),
        ] {
            let meant = meant_by(key, value, settings.as_ref());
            assert_eq!(meant.as_deref(), means, "{key}={value}");
        }
    }

    #[test]
    fn every_bad_variable_is_found_once_even_if_several_stop_the_functions() {
        let vars = vars(&[
            ("SNAPKEEP_SCHEDULE", "dayly"),
            ("SNAPKEEP_KEEP", "daily=x"),
            ("SNAPKEEP_KEP", "all"),
            ("SNAPKEEP_POLICIES", "gold: shedule=hourly; silver keep=all"),
        ]);
        let Checked { found, .. } = check(&vars, &vars);
        let told: Vec<(&str, Severity)> =
            found.iter().map(|one| (one.json["key"].as_str().unwrap(), one.severity)).collect();
        let (error, warning) = (Severity::Error, Severity::Warning);
        let mut sorted = told.clone();
        sorted.sort();
        assert_eq!(
            sorted,
            [
                ("SNAPKEEP_KEEP", error),
                ("SNAPKEEP_KEP", warning),
                (TABLE, error),
                ("SNAPKEEP_POLICIES", warning),
                ("SNAPKEEP_POLICIES", warning),
                ("SNAPKEEP_SCHEDULE", error),
            ]
        );
        assert!(found.iter().any(|one| one.message.contains("policy `gold`")));
    }

    #[test]
    fn a_key_near_the_opt_in_tag_is_found_and_one_that_begins_alike_is_not() {
        let tags =
            [("snapkep", ""), ("snapshot", "x"), ("snapkeep:keep", "all"), ("snapkep:keep", "")];
        let instance = Instance {
            id: snapkeep_domain::resource::ResourceId("arn:web".to_owned()),
            name: "web".to_owned(),
            place: "eu-west-1".parse().unwrap(),
            tags: tags.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect(),
            disk: None,
            unready: None,
            size_gb: None,
            created_at: None,
        };
        let found = near_misses(&instance, "snapkeep", None);
        let meant: Vec<&str> =
            found.iter().map(|one| one.json["meant"].as_str().unwrap()).collect();
        assert_eq!(meant, ["snapkeep", "snapkeep:keep"]);
    }
}
