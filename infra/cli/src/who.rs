//! Who is meant: an instance by its name or its id, a snapshot by its name. A name that several
//! resources have is refused with the list of them, because commands must not guess.

use std::collections::BTreeSet;

use serde::Serialize;
use snapkeep_domain::place::Place;
use snapkeep_domain::prune::Facts;
use snapkeep_domain::resource::ResourceId;

use crate::BoxError;
use crate::output::complain;
use crate::world::World;

/// How many letters a name may be off, to be suggested.
const NEAR: usize = 2;
/// How many names are suggested.
const SUGGESTED_MAX: usize = 3;

/// What stands in everything that is about an instance or a snapshot.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub(crate) struct Who {
    pub(crate) resource: String,
    pub(crate) name: String,
    pub(crate) place: String,
    pub(crate) region: String,
}

/// A resource that has a name or had it.
#[derive(Clone, Debug)]
pub(crate) struct Bearer {
    pub(crate) who: Who,
    pub(crate) id: ResourceId,
    pub(crate) place: Place,
    pub(crate) state: BearerState,
    /// Every name that it is known to have had.
    names: BTreeSet<String>,
}

/// What is known of a resource.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum BearerState {
    Living,
    Gone,
    /// Its place cannot be read, so nobody knows.
    Unread,
}

impl BearerState {
    fn as_str(self) -> &'static str {
        match self {
            BearerState::Living => "living",
            BearerState::Gone => "gone",
            BearerState::Unread => "unknown: its place cannot be read",
        }
    }
}

impl Who {
    pub(crate) fn new(id: &ResourceId, name: &str, place: &Place) -> Self {
        Who {
            resource: id.0.clone(),
            name: name.to_owned(),
            place: place.to_string(),
            region: place.region().to_owned(),
        }
    }

    /// The resource of these facts, by its present or its last name.
    pub(crate) fn of(facts: &Facts, id: &ResourceId) -> Self {
        let living = facts.instances.get(id).map(|instance| instance.name.as_str());
        let remembered = || facts.protected.get(id).map(|item| item.name.as_str());
        let recorded = || {
            let newest = facts.records.get(id)?.iter().max_by_key(|record| record.slot)?;
            Some(newest.resource_name.as_str())
        };
        let listed = || facts.listing.of(id).map(|(name, _)| name);
        let name = living.or_else(remembered).or_else(listed).or_else(recorded);
        Who::new(id, name.unwrap_or_default(), &facts.place)
    }
}

impl World {
    /// Everything that has or had a name.
    pub(crate) fn bearers(&self) -> Vec<Bearer> {
        let mut all: Vec<Bearer> = Vec::new();
        for surveyed in &self.survey.places {
            let facts = &surveyed.facts;
            for id in facts.resources() {
                let who = Who::of(facts, &id);
                let mut names = BTreeSet::from([who.name.clone()]);
                names.extend(facts.protected.get(&id).map(|item| item.name.clone()));
                names.extend(facts.listing.of(&id).map(|(name, _)| name.to_owned()));
                let records = facts.records.get(&id).into_iter().flatten();
                names.extend(records.map(|record| record.resource_name.clone()));
                let state = match facts.instances.contains_key(&id) {
                    true => BearerState::Living,
                    false => BearerState::Gone,
                };
                all.push(Bearer { who, id, place: surveyed.place.clone(), state, names });
            }
        }
        // A place that cannot be read has no facts, but the ledger remembers what was there.
        for item in &self.survey.memory.protected {
            if all.iter().all(|one| one.id != item.resource) {
                let who = Who::new(&item.resource, &item.name, &item.place);
                let (id, place) = (item.resource.clone(), item.place.clone());
                let names = BTreeSet::from([item.name.clone()]);
                let state = match self.surveyed(&place) {
                    Some(_) => BearerState::Gone,
                    None => BearerState::Unread,
                };
                all.push(Bearer { who, id, place, state, names });
            }
        }
        all
    }

    /// The resource that a name or an id means, in a place that can be read.
    pub(crate) fn instance(&self, text: &str) -> Result<Bearer, BoxError> {
        let found = self.find_instance(text)?.ok_or_else(|| {
            let all = self.bearers();
            let near = nearest(text, all.iter().map(|one| one.who.name.as_str()));
            format!("there is no instance `{text}`{}{near}{}", self.within(), self.unread_too())
        })?;
        match found.state {
            BearerState::Unread => Err(self.cannot_read(&found.place, &found.who.name).into()),
            _ => Ok(found),
        }
    }

    /// That nothing can be said of an instance, because its place cannot be read.
    pub(crate) fn cannot_read(&self, place: &Place, name: &str) -> String {
        format!("{name} is in {place}, which cannot be read: {}", self.why_unread(place))
    }

    /// Why a name is neither an instance's nor that of a snapshot of ours.
    pub(crate) fn unknown(&self, text: &str) -> String {
        for surveyed in &self.survey.places {
            let mut others = surveyed.facts.listing.others();
            if let Some((_, other)) =
                others.find(|(key, other)| other.name.as_deref().unwrap_or(key) == text)
            {
                let why = match other.look_alike {
                    Some(why) => format!("it carries this deployment's tag, but {why}"),
                    None if other.unknown => {
                        "the provider does not say what it was taken of".to_owned()
                    }
                    None => "this deployment did not make it".to_owned(),
                };
                let place = &surveyed.place;
                return format!(
                    "the snapshot {text} in {place} is not ours: {why}; nothing prunes it"
                );
            }
        }
        let (bearers, views) = (self.bearers(), self.views());
        let names = bearers.iter().map(|one| one.who.name.as_str());
        let snapshots = views.iter().flat_map(|view| &view.plan.verdicts);
        let near = nearest(text, names.chain(snapshots.map(|judged| judged.name.as_str())));
        let (within, unread) = (self.within(), self.unread_too());
        format!(
            "there is no instance and no snapshot of ours called `{text}`{within}{near}{unread}"
        )
    }

    /// Where something was looked for, if not everywhere.
    fn within(&self) -> String {
        self.region.as_ref().map(|region| format!(" in {region}")).unwrap_or_default()
    }

    /// The end of a message about something that is not there: it may be where nobody can look.
    pub(crate) fn unread_too(&self) -> String {
        let unread: Vec<String> = self.unread().iter().map(ToString::to_string).collect();
        match unread.is_empty() {
            true => String::new(),
            false => format!("; {} cannot be read, and may have it", unread.join(", ")),
        }
    }

    /// The resource that a name or an id means, if there is one.
    pub(crate) fn find_instance(&self, text: &str) -> Result<Option<Bearer>, BoxError> {
        let all = self.bearers();
        if let Some(found) = all.iter().find(|one| one.id.0 == text) {
            return Ok(Some(found.clone()));
        }
        let mut named: Vec<Bearer> =
            all.iter().filter(|one| one.who.name == text).cloned().collect();
        if named.is_empty() {
            named = all.into_iter().filter(|one| one.names.contains(text)).collect();
        }
        let lives = |one: &&Bearer| one.state == BearerState::Living;
        let mut living = named.iter().filter(lives);
        let one_place = are_in_one_place(&named);
        match (named.as_slice(), living.next(), living.next()) {
            ([], ..) => Ok(None),
            ([only], ..) => Ok(Some(only.clone())),
            (several, Some(one), None) if one_place => {
                for gone in several.iter().filter(|one| !lives(one)) {
                    complain(&format!(
                        "snapkeep: `{text}` means the living instance; a deleted one had the name, too: {}",
                        gone.id.0
                    ));
                }
                Ok(Some(one.clone()))
            }
            (several, ..) => Err(ambiguous(text, several).into()),
        }
    }

    /// Everything in one place that has or had a name, or has this id.
    pub(crate) fn all_of(&self, text: &str) -> Result<Vec<Bearer>, BoxError> {
        let all = self.bearers();
        if let Some(found) = all.iter().find(|one| one.id.0 == text) {
            return Ok(vec![found.clone()]);
        }
        let named: Vec<Bearer> = all.into_iter().filter(|one| one.names.contains(text)).collect();
        if are_in_one_place(&named) {
            return Ok(named);
        }
        Err(ambiguous(text, &named).into())
    }
}

fn are_in_one_place(bearers: &[Bearer]) -> bool {
    bearers.windows(2).all(|pair| pair[0].place == pair[1].place)
}

/// The message about a name that several resources have.
fn ambiguous(text: &str, several: &[Bearer]) -> String {
    let how = if are_in_one_place(several) { "by its id" } else { "by its id or by --region" };
    let mut message = format!("several instances have or had the name `{text}`; choose one {how}:");
    for Bearer { who, state, .. } in several {
        let state = state.as_str();
        message += &format!("\n  {}  {}  {}  {state}", who.name, who.place, who.resource);
    }
    message
}

/// The message about a name that snapshots of several resources have.
pub(crate) fn several_snapshots<'a>(text: &str, of: impl IntoIterator<Item = &'a Who>) -> BoxError {
    let mut message = format!(
        "several snapshots are called `{text}`; choose one by --region, or name the instance by its id:"
    );
    for Who { name, place, resource, .. } in of {
        message += &format!("\n  {name}  {place}  {resource}");
    }
    message.into()
}

/// The names that are near to what was written, as the end of a sentence.
pub(crate) fn nearest<'a>(text: &str, names: impl Iterator<Item = &'a str>) -> String {
    let begins = |name: &str| {
        !text.is_empty() && !name.is_empty() && (name.starts_with(text) || text.starts_with(name))
    };
    let far = |name: &str| match begins(name) {
        true => 0,
        false => strsim::osa_distance(&text.to_lowercase(), &name.to_lowercase()),
    };
    let named = names.filter(|name| !name.is_empty());
    let mut near: Vec<(usize, &str)> = named.map(|name| (far(name), name)).collect();
    near.sort_unstable();
    near.dedup();
    near.truncate(SUGGESTED_MAX);
    let names: Vec<String> = near.into_iter().map(|(_, name)| format!("`{name}`")).collect();
    if names.is_empty() { String::new() } else { format!("; did you mean {}?", names.join(" or ")) }
}

/// The one of these that is one or two letters, or only case, away from a text that is none of them.
pub(crate) fn meant<'a>(text: &str, known: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let low = text.to_lowercase();
    let far = |one: &str| strsim::osa_distance(&low, &one.to_lowercase());
    let near = known.map(|one| (far(one), one)).filter(|(far, one)| {
        // Two letters are most of a short word.
        let most = match one.chars().count() {
            0 | 1 => 0,
            2 | 3 => 1,
            _ => NEAR,
        };
        *far <= most && *one != text
    });
    near.min().map(|(_, one)| one)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn near_names_are_suggested() {
        let names = ["web-1", "web-2", "db"];
        let near = "; did you mean `web-1` or `web-2` or `db`?";
        assert_eq!(nearest("web1", names.into_iter()), near);
        assert_eq!(nearest("web", names.into_iter()), near);
        assert_eq!(nearest("x", [].into_iter()), "");
    }

    #[test]
    fn what_was_meant_is_two_letters_or_only_case_away() {
        let keys = ["schedule", "keep", "timezone"];
        for (text, means) in [
            ("shedule", Some("schedule")),
            ("Keep", Some("keep")),
            ("kep", Some("keep")),
            ("scedulle", Some("schedule")),
            ("snapshot", None),
            ("keep", None),
            ("k", None),
            ("kepe", Some("keep")),
        ] {
            assert_eq!(meant(text, keys.into_iter()), means, "{text}");
        }
    }
}
