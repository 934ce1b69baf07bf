//! `snapkeep hold`, `release` and `confirm`: set or remove one tag, and nothing else.

use std::process::ExitCode;

use jiff::civil::Date;
use serde_json::json;
use snapkeep_app::ports::{ErrorKind, ProviderError};
use snapkeep_domain::place::Place;
use snapkeep_domain::policy::confirmation::ConfirmationCode;
use snapkeep_domain::policy::tags::{OptIn, Protection};
use snapkeep_domain::prune::Judged;
use snapkeep_domain::snapshot::{HOLD, Hold};
use snapkeep_domain::time::Zone;

use crate::operate::{Operator, trouble};
use crate::output;
use crate::when;
use crate::who::{self, BearerState, Who};
use crate::world::{Reading, View, World};
use crate::{BoxError, CommandResult};

/// The longest value of a tag.
const VALUE_MAX: usize = 256;

/// Holds a snapshot, or all snapshots of an instance: nothing prunes them.
#[derive(clap::Args)]
pub(crate) struct HoldArguments {
    /// A snapshot's name, or an instance's name or id.
    #[arg(value_name = "SNAPSHOT or INSTANCE")]
    what: String,
    /// The last day on which it holds, in the policy's zone: 2027-01-31.
    #[arg(long, value_name = "DATE", value_parser = day)]
    until: Option<Date>,
    #[command(flatten)]
    reading: Reading,
    /// Print one JSON document.
    #[arg(long)]
    json: bool,
}

/// Removes the hold of a snapshot or an instance.
#[derive(clap::Args)]
pub(crate) struct ReleaseArguments {
    /// A snapshot's name, or an instance's name or id.
    #[arg(value_name = "SNAPSHOT or INSTANCE")]
    what: String,
    #[command(flatten)]
    reading: Reading,
    /// Print one JSON document.
    #[arg(long)]
    json: bool,
}

/// Confirms a stricter retention that the brake stopped, by the code that it printed.
#[derive(clap::Args)]
pub(crate) struct ConfirmArguments {
    /// The instance's name or id.
    instance: String,
    /// The code of the finding.
    #[arg(value_parser = code)]
    code: ConfirmationCode,
    #[command(flatten)]
    reading: Reading,
    /// Print one JSON document.
    #[arg(long)]
    json: bool,
}

/// Reads a code as a finding prints it.
fn code(text: &str) -> Result<ConfirmationCode, String> {
    let printed = text.len() == 8 && text.chars().all(|c| c.is_ascii_hexdigit());
    let code = text.to_lowercase().parse().ok().filter(|_| printed);
    code.ok_or_else(|| "expected the 8 letters and digits that the finding prints".to_owned())
}

fn day(text: &str) -> Result<Date, String> {
    when::date(text).ok_or_else(|| "expected a date such as 2027-01-31".to_owned())
}

/// Something of ours that can be held.
struct Subject {
    who: Who,
    place: Place,
    /// The snapshot, or else the instance is meant.
    snapshot: Option<String>,
    /// The hold's tag, as it stands there or would stand.
    key: String,
    /// Its hold.
    hold: Option<Hold>,
    zone: Zone,
    /// What holds, too, after its own hold is gone.
    also: Vec<String>,
    /// Why nothing is pruned even without the hold.
    unpruned: Option<String>,
}

impl Subject {
    /// What the tag is on.
    fn name(&self) -> &str {
        self.snapshot.as_deref().unwrap_or(&self.who.name)
    }

    /// Ends a command whose effect failed. Without the right, nothing was changed.
    fn failed(&self, error: &ProviderError, how: &str, json: bool) -> CommandResult {
        let message = format!("{}: {how}: {}", self.name(), trouble(error));
        if error.kind == ErrorKind::Denied {
            return Err(message.into());
        }
        if json {
            let Who { resource, name, place, region } = &self.who;
            output::json(&json!({
                "resource": resource, "name": name, "place": place, "region": region, "key": self.key,
                "snapshot": self.snapshot, "changed": null, "message": message,
            }))?;
        }
        output::complain(&format!("snapkeep: {message}"));
        Ok(ExitCode::FAILURE)
    }

    /// Says what was done to the tag, or that there was nothing to do.
    fn tell(&self, did: Option<&str>, value: Option<&str>, json: bool) -> Result<(), BoxError> {
        let Subject { who, key, snapshot, .. } = self;
        let name = self.name();
        if json {
            let mut document = json!({
                "resource": who.resource, "name": who.name, "place": who.place, "region": who.region,
                "key": key, "value": value, "changed": did.is_some(), "also_held_by": self.also,
            });
            if let Some(snapshot) = snapshot {
                document["snapshot"] = json!(snapshot);
            }
            return output::json(&document);
        }
        let tag = match value {
            None => format!("the tag {key}"),
            Some("") => format!("the tag {key} (no value)"),
            Some(value) => format!("the tag {key}={value}"),
        };
        let of = match snapshot {
            Some(_) => format!("{name} of {} ({}) in {}", who.name, who.resource, who.place),
            None => format!("{name} ({}) in {}", who.resource, who.place),
        };
        output::wrapped(
            &match did {
                Some(did) => format!("{of}: {did} {tag}."),
                None if value.is_none() => format!("{of}: nothing to do, it has no hold."),
                None => format!("{of}: nothing to do, {tag} is there."),
            },
            "  ",
        );
        for also in &self.also {
            output::wrapped(&format!("Still held: {also}."), "  ");
        }
        Ok(())
    }
}

pub(crate) async fn hold(arguments: HoldArguments) -> CommandResult {
    let world = arguments.reading.read().await?;
    let subject = subject(&world, &arguments.what)?;
    let value = match arguments.until {
        None => String::new(),
        Some(day) => {
            let today = world.now.to_zoned(subject.zone.rules().clone()).date();
            if day < today {
                let zone = subject.zone.name();
                return Err(format!("--until {day}: that day is over in {zone}").into());
            }
            format!("until={day}")
        }
    };
    let is_so = subject.hold.as_ref().is_some_and(|hold| hold.text() == value);
    if !is_so {
        let operator = Operator::new(&world.deployment.sdk, &subject.place)?;
        let tagged = operator.tag(subject.name(), &subject.key, &value).await;
        if let Err(error) = tagged {
            return subject.failed(&error, "it is not known to be held", arguments.json);
        }
    }
    let subject = Subject { also: Vec::new(), ..subject };
    subject.tell((!is_so).then_some("set"), Some(&value), arguments.json)?;
    if let Some(why) = &subject.unpruned {
        output::complain(&format!("snapkeep: {why}"));
    }
    Ok(ExitCode::SUCCESS)
}

pub(crate) async fn release(arguments: ReleaseArguments) -> CommandResult {
    let world = arguments.reading.read().await?;
    let mut subject = subject(&world, &arguments.what)?;
    if let Some(Hold::Unreadable { key, .. }) = &subject.hold {
        subject.key.clone_from(key);
    }
    let held = subject.hold.is_some();
    if held {
        let operator = Operator::new(&world.deployment.sdk, &subject.place)?;
        let untagged = operator.untag(subject.name(), &subject.key).await;
        if let Err(error) = untagged {
            return subject.failed(&error, "it may still be held", arguments.json);
        }
    }
    subject.tell(held.then_some("removed"), None, arguments.json)?;
    Ok(ExitCode::SUCCESS)
}

pub(crate) async fn confirm(arguments: ConfirmArguments) -> CommandResult {
    let world = arguments.reading.read().await?;
    let bearer = world.instance(&arguments.instance)?;
    let view = world.view(&bearer.place, &bearer.id);
    let view = view.as_ref();
    let living = view.and_then(|view| view.living.as_ref());
    let Some((instance, _)) = living else { return Err(gone(&bearer.who, "confirm").into()) };
    let key = format!("{}:confirm", world.settings.tag);
    let code = arguments.code.to_string();
    let standing = instance.tags.get(&key).map(|text| text.trim()).unwrap_or_default();
    let is_so =
        standing.split_ascii_whitespace().any(|word| word.parse() == Ok(arguments.code.clone()));
    let value = match (is_so, standing) {
        (true, standing) => standing.to_owned(),
        (false, "") => code.clone(),
        (false, standing) => format!("{standing} {code}"),
    };
    if value.len() > VALUE_MAX {
        return Err(format!(
            "{key} of {} would be longer than {VALUE_MAX} characters: remove codes that are no longer needed first",
            instance.name
        )
        .into());
    }
    let findings = view.map(|view| view.plan.findings.as_slice()).unwrap_or_default();
    let asked = findings.iter().any(|one| one.value.as_ref() == Some(&code));
    if !asked && !is_so {
        output::complain(&format!(
            "snapkeep: no brake of {} asks for {code} at the moment",
            instance.name
        ));
    }
    let subject = Subject {
        who: bearer.who,
        place: bearer.place,
        snapshot: None,
        key,
        hold: None,
        zone: Zone::utc(),
        also: Vec::new(),
        unpruned: None,
    };
    if !is_so {
        let operator = Operator::new(&world.deployment.sdk, &subject.place)?;
        let tagged = operator.tag(subject.name(), &subject.key, &value).await;
        if let Err(error) = tagged {
            return subject.failed(&error, "it is not confirmed", arguments.json);
        }
    }
    subject.tell((!is_so).then_some("set"), Some(&value), arguments.json)?;
    Ok(ExitCode::SUCCESS)
}

/// Why nothing can be done to an instance that is gone.
fn gone(who: &Who, what: &str) -> String {
    let how = match what {
        "confirm" => "add the code to SNAPKEEP_CONFIRM",
        _ => "name its snapshots instead",
    };
    format!(
        "{} ({}) in {} is deleted, so it has no tags any more: {how}",
        who.name, who.resource, who.place
    )
}

/// The instance or the snapshot of ours that is meant.
fn subject(world: &World, text: &str) -> Result<Subject, BoxError> {
    if let Some(bearer) = world.find_instance(text)? {
        if bearer.state == BearerState::Unread {
            return Err(world.cannot_read(&bearer.place, &bearer.who.name).into());
        }
        let view = world.view(&bearer.place, &bearer.id);
        let Some((view, (_, protection))) =
            view.as_ref().and_then(|view| Some((view, view.living.as_ref()?)))
        else {
            return Err(gone(&bearer.who, "hold").into());
        };
        let held = view.seen.iter().filter(|(_, seen)| seen.hold.is_some());
        let held: Vec<&str> = held.map(|(key, seen)| seen.name(key)).collect();
        let also = match held.len() {
            0 => Vec::new(),
            _ => vec![format!("its snapshots with holds of their own, {}", held.join(", "))],
        };
        return Ok(Subject {
            who: bearer.who,
            place: bearer.place,
            snapshot: None,
            key: format!("{}:hold", world.settings.tag),
            hold: protection.hold.clone(),
            zone: protection.policy.zone.clone(),
            also,
            unpruned: unpruned(&view.who.name, protection),
        });
    }
    let views = world.views();
    let named = |view: &&View<'_>| view.plan.verdicts.iter().any(|judged| judged.name == text);
    let owners: Vec<&View<'_>> = views.iter().filter(named).collect();
    match owners.as_slice() {
        [view] => snapshot(view, text),
        [] => Err(world.unknown(text).into()),
        several => Err(who::several_snapshots(text, several.iter().map(|view| &view.who))),
    }
}

/// Why nothing of an instance is pruned anyway.
fn unpruned(name: &str, protection: &Protection) -> Option<String> {
    match protection.opt_in {
        OptIn::On => None,
        OptIn::Off => Some(format!("{name} is off: until it is on, nothing is taken or pruned")),
        _ => {
            Some(format!("nothing protects {name}: until it is tagged, nothing is taken or pruned"))
        }
    }
}

fn snapshot(view: &View<'_>, name: &str) -> Result<Subject, BoxError> {
    let mut judged = view.plan.verdicts.iter();
    let found = judged.find(|judged: &&Judged| judged.name == name);
    let seen = found.and_then(|judged| view.seen.get(&*judged.key));
    let seen = seen.ok_or_else(|| format!("{name} does not exist any more"))?;
    let also = view.hold().map(|_| {
        let instance = &view.who.name;
        match view.living {
            Some(_) => format!("by the hold of the instance {instance}; release {instance} to end that"),
            None => format!(
                "{instance} is gone and was held when it was last seen; add the code that status prints to \
                 SNAPKEEP_CONFIRM to end that"
            ),
        }
    });
    let zone = match &view.living {
        Some((_, protection)) => protection.policy.zone.clone(),
        None => seen.policy.retention().1,
    };
    Ok(Subject {
        who: view.who.clone(),
        place: view.surveyed.place.clone(),
        snapshot: Some(name.to_owned()),
        key: HOLD.to_owned(),
        hold: seen.hold.as_deref().cloned(),
        zone,
        also: also.into_iter().collect(),
        unpruned: view
            .living
            .as_ref()
            .and_then(|(_, protection)| unpruned(&view.who.name, protection)),
    })
}
