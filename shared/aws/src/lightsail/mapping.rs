//! Converts Lightsail's shapes to the core's values, and back. An incomplete shape is an error, and
//! is not skipped.

use aws_sdk_lightsail::types;
use jiff::Timestamp;
use snapkeep_app::ports::ProviderError;
use snapkeep_domain::place::Place;
use snapkeep_domain::resource::ResourceId;
use snapkeep_domain::snapshot::{Instance, Snapshot, SnapshotState, Tags};

use super::distrust;

pub(super) fn incomplete(operation: &'static str, what: &str) -> ProviderError {
    distrust(operation, "IncompleteAnswer", format!("the answer contains {what}"))
}

/// Returns what a successful answer must contain.
pub(super) fn answered<T>(operation: &'static str, found: Option<T>) -> Result<T, ProviderError> {
    found.ok_or_else(|| incomplete(operation, "nothing, neither a resource nor an error"))
}

pub(super) fn same_name(
    operation: &'static str,
    asked: &str,
    found: &str,
) -> Result<(), ProviderError> {
    if asked == found {
        return Ok(());
    }
    Err(distrust(operation, "WrongAnswer", format!("asked for `{asked}`, got `{found}`")))
}

pub(super) fn instance(
    operation: &'static str,
    place: &Place,
    shape: &types::Instance,
) -> Result<Instance, ProviderError> {
    let (id, name) = identity(operation, shape.arn(), shape.name())?;
    let tags = tags(operation, shape.tags())?;
    let (id, place) = (ResourceId(id), place.clone());
    let disks = shape.hardware().map(types::InstanceHardware::disks).unwrap_or_default();
    let sizes = disks.iter().filter_map(types::Disk::size_in_gb);
    let size_gb = sizes.filter_map(|gb| u32::try_from(gb).ok()).reduce(u32::saturating_add);
    let created_at = shape.created_at().and_then(time);
    Ok(Instance { id, name, place, tags, disk: None, unready: None, size_gb, created_at })
}

pub(super) fn snapshot(
    operation: &'static str,
    place: &Place,
    shape: &types::InstanceSnapshot,
) -> Result<Snapshot, ProviderError> {
    let (id, name) = identity(operation, shape.arn(), shape.name())?;
    let created_at = shape
        .created_at()
        .and_then(time)
        .ok_or_else(|| incomplete(operation, &format!("no time of creation for `{name}`")))?;
    let state = match shape.state().map(types::InstanceSnapshotState::as_str) {
        Some("pending") => SnapshotState::Pending,
        Some("available") => SnapshotState::Available,
        Some("error") => SnapshotState::Error,
        other => SnapshotState::Other(other.unwrap_or_default().to_owned()),
    };
    let text = |text: Option<&str>| text.unwrap_or_default().to_owned();
    Ok(Snapshot {
        id,
        name,
        place: place.clone(),
        source: ResourceId(text(shape.from_instance_arn())),
        source_name: text(shape.from_instance_name()),
        source_place: place_of(operation, shape.from_instance_arn(), place)?,
        disk: None,
        deletable: true,
        created_at,
        state,
        tags: tags(operation, shape.tags())?,
        size_gb: size_gb(shape),
    })
}

fn time(at: &aws_sdk_lightsail::primitives::DateTime) -> Option<Timestamp> {
    Timestamp::new(at.secs(), i32::try_from(at.subsec_nanos()).ok()?).ok()
}

/// The size of the instance's own disk and of the disks that were attached to it; the snapshot has all of them.
/// The size is only for people: one that makes no sense must not fail the list.
fn size_gb(shape: &types::InstanceSnapshot) -> u32 {
    let attached = shape.from_attached_disks().iter();
    let attached = attached.filter(|disk| disk.is_system_disk() != Some(true));
    let sizes = attached.map(types::Disk::size_in_gb).chain([shape.size_in_gb()]);
    sizes.flatten().filter_map(|gb| u32::try_from(gb).ok()).fold(0, u32::saturating_add)
}

/// The place of a resource according to its ARN: this place, or another Region.
fn place_of(
    operation: &'static str,
    arn: Option<&str>,
    place: &Place,
) -> Result<Option<Place>, ProviderError> {
    let region = arn.and_then(|arn| arn.split(':').nth(3)).filter(|region| !region.is_empty());
    match region {
        None => Ok(None),
        Some(region) if region == place.region() => Ok(Some(place.clone())),
        Some(region) => {
            let elsewhere = region.parse();
            elsewhere.map(Some).map_err(|why: String| incomplete(operation, &why))
        }
    }
}

fn identity(
    operation: &'static str,
    arn: Option<&str>,
    name: Option<&str>,
) -> Result<(String, String), ProviderError> {
    match (arn.filter(|arn| !arn.is_empty()), name.filter(|name| !name.is_empty())) {
        (Some(arn), Some(name)) => Ok((arn.to_owned(), name.to_owned())),
        (_, Some(name)) => Err(incomplete(operation, &format!("no ARN for `{name}`"))),
        _ => Err(incomplete(operation, "a resource without a name")),
    }
}

fn tags(operation: &'static str, tags: &[types::Tag]) -> Result<Tags, ProviderError> {
    let pair = |tag: &types::Tag| {
        let key = tag.key().ok_or_else(|| incomplete(operation, "a tag without a key"))?;
        Ok((key.to_owned(), tag.value().unwrap_or_default().to_owned()))
    };
    tags.iter().map(pair).collect()
}

/// The tags of a request. An empty value is sent as a key-only tag, which is what it means.
pub(super) fn tags_for(tags: &Tags) -> Vec<types::Tag> {
    let tag = |(key, value): (&String, &String)| {
        let value = Some(value.clone()).filter(|value| !value.is_empty());
        types::Tag::builder().key(key).set_value(value).build()
    };
    tags.iter().map(tag).collect()
}

#[cfg(test)]
mod tests {
    use aws_sdk_lightsail::primitives::DateTime;
    use aws_sdk_lightsail::types::{InstanceSnapshot, Tag};

    use super::*;

    fn shape() -> aws_sdk_lightsail::types::builders::InstanceSnapshotBuilder {
        InstanceSnapshot::builder()
            .name("web-s")
            .arn("arn:aws:lightsail:eu-west-1:1:InstanceSnapshot/u")
            .created_at(DateTime::from_millis(1_569_866_438_480))
            .state(types::InstanceSnapshotState::Available)
            .from_instance_arn("arn:aws:lightsail:eu-west-1:1:Instance/u")
            .from_instance_name("web")
            .size_in_gb(20)
            .tags(Tag::builder().key("only").build())
            .tags(Tag::builder().key("k").value("v").build())
    }

    fn place(name: &str) -> Place {
        name.parse().unwrap()
    }

    #[test]
    fn a_snapshot_is_read_whole() {
        let read = snapshot("Get", &place("eu-west-1"), &shape().build()).unwrap();
        assert_eq!(read.created_at.to_string(), "2019-09-30T18:00:38.48Z");
        assert_eq!(read.state, SnapshotState::Available);
        let tags = [("k", "v"), ("only", "")].map(|(k, v)| (k.to_owned(), v.to_owned()));
        assert_eq!(read.tags, Tags::from(tags));
        assert_eq!((&*read.place, read.size_gb), ("eu-west-1", 20));
        assert_eq!(read.source_name, "web");
        assert_eq!(tags_for(&read.tags)[1], Tag::builder().key("only").build());
    }

    #[test]
    fn what_may_be_missing_has_a_careful_default() {
        let bare = shape()
            .set_from_instance_arn(None)
            .set_from_instance_name(None)
            .set_size_in_gb(None)
            .state(types::InstanceSnapshotState::from("copying"))
            .is_from_auto_snapshot(true);
        let read = snapshot("Get", &place("r"), &bare.build()).unwrap();
        assert_eq!((read.source, read.size_gb), (ResourceId(String::new()), 0));
        assert_eq!(read.state, SnapshotState::Other("copying".to_owned()));
        let read = snapshot("Get", &place("r"), &shape().set_state(None).build()).unwrap();
        assert_eq!(read.state, SnapshotState::Other(String::new()));
    }

    #[test]
    fn attached_disks_count_and_the_system_disk_only_once() {
        let disk = |gb: i32, system: Option<bool>| {
            types::Disk::builder().size_in_gb(gb).set_is_system_disk(system).build()
        };
        let shape = shape().from_attached_disks(disk(20, Some(true)));
        let shape = shape.from_attached_disks(disk(64, None)).from_attached_disks(disk(-1, None));
        let read = snapshot("Get", &place("eu-west-1"), &shape.build()).unwrap();
        assert_eq!(read.size_gb, 84);
    }

    #[test]
    fn an_incomplete_element_is_an_error() {
        let broken = [
            shape().set_name(None),
            shape().name(""),
            shape().set_arn(None),
            shape().set_created_at(None),
            shape().tags(Tag::builder().value("v").build()),
        ];
        for broken in broken {
            let error = snapshot("Get", &place("r"), &broken.build()).unwrap_err();
            assert_eq!(error.code, "IncompleteAnswer");
        }
        let nameless = types::Instance::builder().arn("a").build();
        assert!(instance("Get", &place("r"), &nameless).is_err());
        assert!(answered::<u8>("Get", None).is_err());
        assert!(same_name("Get", "a", "b").is_err() && same_name("Get", "a", "a").is_ok());
    }
}
