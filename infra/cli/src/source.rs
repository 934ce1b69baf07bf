//! From which snapshot `restore` and `drill` launch, and with which bundle and where.

use jiff::Timestamp;
use snapkeep_aws::lightsail::operator::Machine;
use snapkeep_domain::ledger::protected::Protected;
use snapkeep_domain::ledger::record::State;
use snapkeep_domain::place::Place;
use snapkeep_domain::prune::Judged;
use snapkeep_domain::snapshot::SnapshotState;
use snapkeep_domain::time::Slot;

use crate::BoxError;
use crate::operate::{Operator, trouble};
use crate::when::{When, whole};
use crate::who::{self, BearerState, Who};
use crate::world::{View, World};

/// A snapshot to launch from.
pub(crate) struct Source {
    pub(crate) who: Who,
    pub(crate) place: Place,
    pub(crate) snapshot: String,
    pub(crate) slot: Slot,
    pub(crate) created_at: Timestamp,
    pub(crate) size_gb: u32,
    pub(crate) held: bool,
    /// Whether the instance that it was taken of lives.
    pub(crate) lives: bool,
    /// What the ledger remembers of that instance.
    pub(crate) remembered: Option<Protected>,
}

/// The newest available snapshot of what is asked for that was made by then.
pub(crate) fn source(world: &World, text: &str, as_of: Option<When>) -> Result<Source, BoxError> {
    let at = as_of.map(|at| at.from(world.now)).transpose()?;
    if let Some(at) = at.filter(|at| *at > world.now) {
        return Err(format!("--as-of {at} is after now, {}", world.now).into());
    }
    let bearers = world.all_of(text)?;
    if let Some(unread) = bearers.iter().find(|one| one.state == BearerState::Unread) {
        return Err(world.cannot_read(&unread.place, &unread.who.name).into());
    }
    let views = world.views();
    let mut all: Vec<Source> = Vec::new();
    for view in &views {
        let by_name = bearers.iter().any(|one| one.id == view.id);
        let same = |one: &Source| by_name || (bearers.is_empty() && one.snapshot == *text);
        all.extend(sources(view).into_iter().filter(same));
    }
    if bearers.is_empty() && at.is_some() && !all.is_empty() {
        return Err(format!(
            "--as-of chooses among the snapshots of an instance; {text} is a snapshot"
        )
        .into());
    }
    if bearers.is_empty() && all.windows(2).any(|pair| pair[0].place != pair[1].place) {
        return Err(who::several_snapshots(text, all.iter().map(|one| &one.who)));
    }
    if all.is_empty() {
        return Err(nothing(world, &views, text, bearers.is_empty()).into());
    }
    let oldest = all.iter().map(|one| (one.created_at, one.snapshot.clone())).min();
    let in_time = |one: &Source| at.is_none_or(|at| one.created_at <= at);
    let found = all.into_iter().filter(in_time).max_by_key(|one| (one.created_at, one.slot));
    found.ok_or_else(|| {
        let at = at.map(|at| at.to_string()).unwrap_or_default();
        let oldest = oldest.map(|(at, name)| format!("{name}, made at {at}")).unwrap_or_default();
        format!("--as-of {at}: there is no snapshot of {text} that old; the oldest is {oldest}")
            .into()
    })
}

/// Why there is nothing to restore.
fn nothing(world: &World, views: &[View<'_>], text: &str, is_unknown: bool) -> String {
    if !is_unknown {
        return format!("there is no available snapshot of {text} to restore");
    }
    let mut entries = views.iter().flat_map(View::entries);
    if let Some(entry) = entries.find(|entry| entry.snapshot == text) {
        return match entry.state {
            "error" | "failed" => format!("{text} failed, so nothing can be restored from it"),
            state => format!("{text} is {state}, and not available: wait until it is"),
        };
    }
    world.unknown(text)
}

/// The available snapshots of a resource. One whose deletion was begun may be gone at any time.
pub(crate) fn sources(view: &View<'_>) -> Vec<Source> {
    let one = |judged: &Judged| {
        let seen =
            view.seen.get(&*judged.key).filter(|seen| seen.state == SnapshotState::Available)?;
        let record = view.record(&judged.key, seen);
        if record.is_some_and(|record| record.state == State::Deleting) {
            return None;
        }
        Some(Source {
            who: view.who.clone(),
            place: view.surveyed.place.clone(),
            snapshot: judged.name.clone(),
            slot: judged.slot,
            created_at: whole(seen.created_at),
            size_gb: seen.size_gb,
            held: judged.held,
            lives: view.living.is_some(),
            remembered: view.protected.cloned(),
        })
    };
    view.plan.verdicts.iter().filter_map(one).collect()
}

/// What an instance from a snapshot gets.
pub(crate) struct Fitting {
    pub(crate) bundle: String,
    pub(crate) zone: String,
    /// The instance that the snapshot was taken of, if it lives.
    pub(crate) old: Option<Machine>,
    /// The attached disks that are in the snapshot.
    pub(crate) disks: Vec<String>,
}

/// Looks up what an instance from this snapshot gets: the bundle and the zone of the old one while it
/// lives.
pub(crate) async fn fitting(operator: &Operator, source: &Source) -> Result<Fitting, BoxError> {
    let old = match source.lives {
        true => operator.instance(&source.who.name).await.map_err(|error| trouble(&error))?,
        false => None,
    };
    let old = old.filter(|old| old.id == source.who.resource);
    let image = operator.snapshot(&source.snapshot).await.map_err(|error| trouble(&error))?;
    let image = image.ok_or_else(|| format!("{} does not exist any more", source.snapshot))?;
    let own = old.as_ref().map(|old| old.bundle.clone()).filter(|bundle| !bundle.is_empty());
    let bundle = own.or(image.bundle).ok_or_else(|| {
        format!("{} does not say its bundle, so nothing can be launched from it", source.snapshot)
    })?;
    let zone = match &old {
        Some(old) => Some(old.zone.clone()),
        None => operator
            .patiently(async || operator.api.zone().await)
            .await
            .map_err(|error| trouble(&error))?,
    };
    let zone = zone
        .ok_or_else(|| format!("{} names no availability zone that is available", source.place))?;
    Ok(Fitting { bundle, zone, old, disks: image.disks })
}
