//! Encodes the ledger's values as items, and decodes them: members become attributes, besides the
//! keys of the table and of the index, and the time to live.

use aws_sdk_dynamodb::types::AttributeValue;
use jiff::Timestamp;
use serde_dynamo::aws_sdk_dynamodb_1::{from_item, to_attribute_value, to_item};
use snapkeep_app::ports::Unreadable;
use snapkeep_domain::ledger::protected::{Proof, Protected};
use snapkeep_domain::ledger::record::{Change, FORMAT, Record};
use snapkeep_domain::ledger::run::LastRun;
use snapkeep_domain::notice::Condition;
use snapkeep_domain::poll::FOLLOWED;
use snapkeep_domain::resource::ResourceId;
use snapkeep_domain::time::Slot;

use super::{Item, schema};

/// Encodes a record.
pub(super) fn encode(record: &Record) -> Result<Item, String> {
    let mut item: Item = to_item(record).map_err(|error| error.to_string())?;
    // The sort key, which begins with the record's own `slot`, replaces it.
    item.insert(schema::SLOT.to_owned(), AttributeValue::S(record.sort_key()));
    if let Some(state) = record.live() {
        let group = if FOLLOWED.contains(&state) { schema::OPEN } else { schema::KEPT };
        let live = format!("{group}{}", state.as_str());
        item.insert(schema::PLACE.to_owned(), AttributeValue::S(record.place.to_string()));
        item.insert(schema::LIVE.to_owned(), AttributeValue::S(live));
    }
    if let Some(at) = record.expires_at() {
        expire(&mut item, at);
    }
    Ok(item)
}

/// Encodes a change of state as a list of its own, which is appended to a history.
pub(super) fn changes(change: &Change) -> Result<AttributeValue, String> {
    to_attribute_value([change]).map_err(|error| error.to_string())
}

/// Decodes a record, or says what is wrong with the item.
pub(super) fn decode(item: &Item) -> Result<Record, Unreadable> {
    let sort_key = text(item, schema::SLOT);
    let unreadable = |why: String| Unreadable {
        resource: ResourceId(text(item, schema::RESOURCE)),
        sort_key: sort_key.clone(),
        why,
    };
    readable(item).map_err(unreadable)?;
    let slot = sort_key.split('#').next().unwrap_or_default().to_owned();
    let mut members = item.clone();
    members.insert(schema::SLOT.to_owned(), AttributeValue::S(slot));
    let record: Record = from_item(members).map_err(|error| unreadable(error.to_string()))?;
    if record.sort_key() != sort_key {
        let why = format!("its key should be `{}`", record.sort_key());
        return Err(unreadable(why));
    }
    Ok(record)
}

/// Encodes the result of a drill.
pub(super) fn encode_proof(proof: Proof) -> Result<AttributeValue, String> {
    to_attribute_value(proof).map_err(|error| error.to_string())
}

/// Encodes a protected resource.
pub(super) fn encode_protected(protected: &Protected) -> Result<Item, String> {
    let mut item: Item = to_item(protected).map_err(|error| error.to_string())?;
    for (key, value) in
        [(schema::RESOURCE, schema::PROTECTED), (schema::SLOT, protected.resource.0.as_str())]
    {
        item.insert(key.to_owned(), AttributeValue::S(value.to_owned()));
    }
    if let Some(at) = protected.expires_at() {
        expire(&mut item, at);
    }
    Ok(item)
}

/// Decodes a protected resource, or says what is wrong with the item.
pub(super) fn decode_protected(mut item: Item) -> Result<Protected, Unreadable> {
    let id = text(&item, schema::SLOT);
    let unreadable = |why: String| Unreadable {
        resource: ResourceId(id.clone()),
        sort_key: schema::PROTECTED.to_owned(),
        why,
    };
    readable(&item).map_err(unreadable)?;
    item.insert(schema::RESOURCE.to_owned(), AttributeValue::S(id.clone()));
    from_item(item).map_err(|error| unreadable(error.to_string()))
}

/// The sort key of a run.
pub(super) fn run_key(run: &LastRun) -> String {
    format!("{}#{}", run.function, run.place)
}

/// Encodes a run.
pub(super) fn encode_run(run: &LastRun) -> Result<Item, String> {
    let mut item: Item = to_item(run).map_err(|error| error.to_string())?;
    for (key, value) in [(schema::RESOURCE, schema::RUNS.to_owned()), (schema::SLOT, run_key(run))]
    {
        item.insert(key.to_owned(), AttributeValue::S(value));
    }
    Ok(item)
}

/// Decodes a run, or says what is wrong with the item.
pub(super) fn decode_run(item: Item) -> Result<LastRun, Unreadable> {
    let sort_key = text(&item, schema::SLOT);
    let unreadable = |why: String| Unreadable {
        resource: ResourceId(schema::RUNS.to_owned()),
        sort_key: sort_key.clone(),
        why,
    };
    readable(&item).map_err(unreadable)?;
    from_item(item).map_err(|error| unreadable(error.to_string()))
}

/// Encodes a condition.
pub(super) fn encode_condition(condition: &Condition) -> Result<Item, String> {
    let mut item: Item = to_item(condition).map_err(|error| error.to_string())?;
    for (key, value) in [
        (schema::RESOURCE, schema::CONDITIONS.to_owned()),
        (schema::SLOT, Condition::key(&condition.finding)),
    ] {
        item.insert(key.to_owned(), AttributeValue::S(value));
    }
    // A resolved condition that people were notified of need not be remembered.
    if let Some(at) = condition.resolved.filter(|_| condition.notified) {
        expire(&mut item, at);
    }
    Ok(item)
}

/// Sets the time from which the item may vanish.
fn expire(item: &mut Item, at: Timestamp) {
    let seconds = AttributeValue::N(at.as_second().to_string());
    item.insert(schema::EXPIRES_AT.to_owned(), seconds);
}

/// Decodes a condition, or says what is wrong with the item.
pub(super) fn decode_condition(item: &Item) -> Result<Condition, Unreadable> {
    let unreadable = |why: String| Unreadable {
        resource: ResourceId(text(item, schema::RESOURCE)),
        sort_key: text(item, schema::SLOT),
        why,
    };
    readable(item).map_err(unreadable)?;
    from_item(item.clone()).map_err(|error| unreadable(error.to_string()))
}

/// Checks the format first: in a newer one, even what can be read may mean something else.
fn readable(item: &Item) -> Result<(), String> {
    match number(item, schema::FORMAT) {
        Some(format) if format > FORMAT => {
            Err(format!("its format {format} is newer than {FORMAT}: update snapkeep"))
        }
        Some(_) => Ok(()),
        None => Err("it says no format".to_owned()),
    }
}

/// The slot of an item that is the slot's own; `None` for the residue of a failed attempt.
pub(super) fn slot_itself(item: &Item) -> Option<Slot> {
    text(item, schema::SLOT).parse().ok()
}

/// A text that identifies a key.
pub(super) fn key_text(key: &Item) -> String {
    let attributes = [schema::PLACE, schema::LIVE, schema::RESOURCE, schema::SLOT];
    attributes.map(|attribute| text(key, attribute)).join(" ")
}

fn text(item: &Item, attribute: &str) -> String {
    let value = item.get(attribute).and_then(|value| value.as_s().ok());
    value.cloned().unwrap_or_default()
}

fn number(item: &Item, attribute: &str) -> Option<u32> {
    item.get(attribute)?.as_n().ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use jiff::Timestamp;
    use proptest::prelude::*;
    use snapkeep_domain::ledger::lease::Lease;
    use snapkeep_domain::ledger::record::{Fields, History, Identity, Mark, State, Times};
    use snapkeep_domain::policy::PolicyText;

    use super::*;

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    fn record() -> Record {
        Record::stored(Fields {
            resource: ResourceId("arn:web".to_owned()),
            slot: "2026-11-20T03:00:00Z".parse().unwrap(),
            superseded: false,
            attempt: 2,
            format: FORMAT,
            version: u64::MAX,
            state: State::Expiring,
            times: Times::from([
                (State::Available, at("2026-11-20T03:10:00Z")),
                (State::Expiring, at("2026-11-28T03:10:00.5Z")),
            ]),
            reason: String::new(),
            name: "web-s".to_owned(),
            place: "eu-west-1".parse().unwrap(),
            resource_name: "web".to_owned(),
            policy: PolicyText {
                name: "gold".to_owned(),
                schedule: Some("hourly".to_owned()),
                keep: None,
                timezone: "Europe/Berlin".to_owned(),
            }
            .into(),
            lease: Lease::NONE,
            missed: 3,
            missing_since: Some(at("2026-11-20T03:00:00Z")),
            foreign_since: Some(at("2026-11-20T03:00:00Z")),
            mark: Some(Box::new(Mark {
                at: at("2026-11-28T03:10:00Z"),
                execute_at: at("2026-12-01T03:10:00Z"),
                survivors: 2,
                newest: Some("2026-11-27T03:00:00Z".parse().unwrap()),
                oldest: Some("2026-11-26T03:00:00Z".parse().unwrap()),
                size_gb: Some(20),
            })),
            has_residue: false,
            identity: Identity::default(),
            adopted_untagged: false,
            refused_for_good: false,
            history: History::default(),
        })
    }

    fn s(text: &str) -> AttributeValue {
        AttributeValue::S(text.to_owned())
    }

    #[test]
    fn a_record_comes_back_as_it_was() {
        let mut records = vec![record(), record().superseded()];
        for state in State::ALL {
            for remains in [false, true] {
                let bare = Record::stored(Fields {
                    mark: None,
                    missing_since: None,
                    has_residue: remains,
                    state,
                    ..record().into()
                });
                records.push(bare);
            }
        }
        for record in records {
            assert_eq!(decode(&encode(&record).unwrap()).unwrap(), record);
        }
    }

    #[test]
    fn what_a_record_can_lose_is_known() {
        let mut keys = BTreeSet::new();
        let mut always: Option<BTreeSet<String>> = None;
        for state in State::ALL {
            let full = Fields {
                state,
                times: State::ALL.map(|state| (state, at("2026-11-20T03:00:00Z"))).into(),
                has_residue: true,
                adopted_untagged: true,
                refused_for_good: true,
                lease: Lease::until(at("2026-11-20T03:00:00Z")),
                identity: Identity { id: Some("id".into()), disk: None },
                ..record().into()
            };
            let bare = Fields {
                mark: None,
                missing_since: None,
                foreign_since: None,
                missed: 0,
                has_residue: false,
                ..record().into()
            };
            for fields in [full, Fields { state, ..bare }] {
                let item = encode(&Record::stored(fields)).unwrap();
                let own: BTreeSet<String> = item.into_keys().collect();
                always = Some(match always {
                    Some(always) => &always & &own,
                    None => own.clone(),
                });
                keys.extend(own);
            }
        }
        let lost: Vec<String> = keys.difference(&always.unwrap()).cloned().collect();
        assert_eq!(lost, schema::OPTIONAL);
    }

    #[test]
    fn an_item_can_be_read_by_people_and_found_by_its_keys() {
        let item = encode(&record()).unwrap();
        assert_eq!(item["resource"], s("arn:web"));
        assert_eq!(item["slot"], s("2026-11-20T03:00:00Z"));
        assert_eq!((&item["state"], &item["live"]), (&s("expiring"), &s("kept#expiring")));
        assert_eq!(item["place"], s("eu-west-1"));
        assert_eq!(item["times"].as_m().unwrap()["expiring"], s("2026-11-28T03:10:00.5Z"));
        assert!(!item.contains_key("expires_at") && !item.contains_key("leased_until"));
        assert_eq!(item["missed"], AttributeValue::N("3".to_owned()));
        assert!(!encode(&record().missed_reported()).unwrap().contains_key("missed"));
        let superseded = record().superseded();
        assert_eq!(encode(&superseded).unwrap()["slot"], s("2026-11-20T03:00:00Z#2"));
        let tombstone = record().moved(State::Deleted, at("2026-12-01T03:20:00Z"), "gone");
        let tombstone = encode(&tombstone).unwrap();
        assert!(!tombstone.contains_key("live"));
        assert_eq!(tombstone["expires_at"], AttributeValue::N("1830655200".to_owned()));
    }

    #[test]
    fn the_index_shows_all_of_a_record() {
        let keys = ["resource", "slot", "place", "live"];
        let leased = Record::stored(Fields {
            lease: Lease::until(at("2026-11-20T03:00:00Z")),
            identity: Identity { id: Some("id".into()), disk: Some("disk".into()) },
            adopted_untagged: true,
            refused_for_good: true,
            ..record().into()
        });
        let item = encode(&leased).unwrap();
        assert_eq!(decode(&item).unwrap(), leased);
        let mut members: Vec<&str> = item.keys().map(String::as_str).collect();
        members.retain(|member| !keys.contains(member));
        members.sort_unstable();
        assert_eq!(members, schema::SHOWN);
    }

    #[test]
    fn members_that_came_later_have_defaults() {
        let record = Record::stored(Fields {
            mark: None,
            missing_since: None,
            foreign_since: None,
            ..record().into()
        });
        let mut item = encode(&record).unwrap();
        for later in ["superseded", "has_residue", "missed"] {
            item.remove(later).unwrap();
        }
        item.insert("added_by_somebody".to_owned(), AttributeValue::Bool(true));
        assert_eq!(decode(&item).unwrap(), record.missed_reported());
    }

    #[test]
    fn what_cannot_be_read_is_named() {
        let n = |text: &str| AttributeValue::N(text.to_owned());
        let breakers: [(&str, Option<AttributeValue>, &str); 8] = [
            ("format", Some(n("2")), "newer"),
            ("format", Some(s("1")), "no format"),
            ("format", None, "no format"),
            ("state", Some(s("sleeping")), "sleeping"),
            ("version", None, "version"),
            ("times", Some(s("now")), ""),
            ("slot", Some(s("2026-11-20T03:00:00Z#1")), "key"),
            ("slot", Some(s("noon")), "noon"),
        ];
        for (attribute, value, why) in breakers {
            let mut item = encode(&record()).unwrap();
            item.remove(attribute);
            item.extend(value.map(|value| (attribute.to_owned(), value)));
            let unreadable = decode(&item).unwrap_err();
            assert_eq!(unreadable.resource.0, "arn:web");
            assert_eq!(unreadable.sort_key, text(&item, "slot"));
            assert!(unreadable.why.contains(why), "{unreadable:?}");
        }
        assert!(decode(&Item::new()).is_err());
    }

    #[test]
    fn the_first_versions_words_are_read() {
        let record =
            Record::stored(Fields { superseded: true, has_residue: true, ..record().into() });
        let mut item = encode(&record).unwrap();
        for (old, new) in [("leftover", "superseded"), ("remains", "has_residue")] {
            let value = item.remove(new).unwrap();
            item.insert(old.to_owned(), value);
        }
        assert_eq!(decode(&item).unwrap(), record);
    }

    #[test]
    fn only_the_slots_own_item_ends_a_reading_of_the_newest() {
        let item = |key: &str| Item::from([("slot".to_owned(), s(key))]);
        assert!(slot_itself(&item("2026-11-20T03:00:00Z")).is_some());
        assert!(slot_itself(&item("2026-11-20T03:00:00Z#2")).is_none());
        assert!(slot_itself(&item("noon")).is_none());
    }

    fn value() -> impl Strategy<Value = AttributeValue> {
        let leaf = prop_oneof![
            "\\PC{0,20}".prop_map(AttributeValue::S),
            Just(s("2026-11-20T03:00:00Z")),
            proptest::sample::select(State::ALL.to_vec()).prop_map(|state| s(state.as_str())),
            any::<i64>().prop_map(|number| AttributeValue::N(number.to_string())),
            "\\PC{0,5}".prop_map(AttributeValue::N),
            any::<bool>().prop_map(AttributeValue::Bool),
            any::<bool>().prop_map(AttributeValue::Null),
        ];
        leaf.prop_recursive(2, 8, 4, |inner| {
            prop_oneof![
                proptest::collection::vec(inner.clone(), 0..4).prop_map(AttributeValue::L),
                proptest::collection::hash_map("[a-z_]{1,8}", inner, 0..4)
                    .prop_map(AttributeValue::M),
            ]
        })
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn any_text_in_a_record_comes_back(
            texts in proptest::collection::vec("\\PC{0,40}", 5),
            state in proptest::sample::select(State::ALL.to_vec()),
            (attempt, missed, version) in (any::<u32>(), any::<u32>(), any::<u64>()),
        ) {
            let [resource, name, reason, policy, keep] = texts.try_into().unwrap();
            let policy =
                PolicyText { name: policy, keep: Some(keep), ..(*record().policy).clone() }.into();
            let resource = ResourceId(resource);
            let record = Record::stored(Fields {
                resource, name, reason, policy, state, attempt, missed, version, ..record().into()
            });
            prop_assert_eq!(decode(&encode(&record).unwrap()).unwrap(), record);
        }

        #[test]
        fn any_item_is_a_record_or_named(
            changes in proptest::collection::vec((0usize..20, proptest::option::of(value())), 1..4),
        ) {
            let mut item = encode(&record()).unwrap();
            let mut attributes: Vec<String> = item.keys().cloned().collect();
            attributes.sort();
            for (at, value) in changes {
                let attribute = &attributes[at % attributes.len()];
                item.remove(attribute);
                item.extend(value.map(|value| (attribute.clone(), value)));
            }
            match decode(&item) {
                Ok(record) => prop_assert_eq!(decode(&encode(&record).unwrap()).unwrap(), record),
                Err(unreadable) => {
                    prop_assert_eq!(unreadable.sort_key, text(&item, "slot"));
                    prop_assert!(!unreadable.why.is_empty());
                }
            }
        }
    }
}
