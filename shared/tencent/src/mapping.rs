//! Converts Lighthouse's shapes to the core's values. An incomplete shape is an error, and is not
//! skipped.

use serde::de::DeserializeOwned;
use serde_json::Value;
use snapkeep_app::ports::ProviderError;
use snapkeep_domain::place::Place;
use snapkeep_domain::resource::ResourceId;
use snapkeep_domain::snapshot::{Instance, Snapshot, SnapshotState, Tags};

use crate::error::distrust;
use crate::shapes;

/// The id of an instance: `lighthouse:<region>:<InstanceId>`.
pub(crate) fn resource_id(place: &Place, instance_id: &str) -> ResourceId {
    ResourceId(format!("{}:{instance_id}", place.at_home()))
}

/// The InstanceId of a resource of this place.
pub(crate) fn instance_id<'a>(place: &Place, id: &'a ResourceId) -> Option<&'a str> {
    let rest = id.0.strip_prefix(&*place.at_home())?.strip_prefix(':')?;
    Some(rest).filter(|rest| !rest.is_empty())
}

pub(crate) fn instance(
    operation: &'static str,
    place: &Place,
    shape: &Value,
) -> Result<Instance, ProviderError> {
    let shape: shapes::Instance = read(operation, shape)?;
    let id = shape.instance_id;
    let unready = (shape.instance_state.as_deref() == Some("SHUTDOWN"))
        .then(|| "the instance is about to be reclaimed (SHUTDOWN)".to_owned());
    let size_gb = shape.system_disk.as_ref().and_then(|disk| disk.disk_size);
    Ok(Instance {
        id: resource_id(place, &id),
        name: shape.instance_name.map(printable).filter(|name| !name.is_empty()).unwrap_or(id),
        place: place.clone(),
        tags: tags(shape.tags),
        disk: shape.system_disk.and_then(|disk| disk.disk_id).filter(|id| !id.is_empty()),
        unready,
        size_gb,
        created_at: shape.created_time.and_then(|time| time.parse().ok()),
    })
}

pub(crate) fn snapshot(
    operation: &'static str,
    place: &Place,
    shape: &Value,
) -> Result<Snapshot, ProviderError> {
    let shape: shapes::Snapshot = read(operation, shape)?;
    let created_at = shape.created_time.parse().map_err(|error| {
        let (id, time) = (&shape.snapshot_id, &shape.created_time);
        distrust(operation, "IncompleteAnswer", format!("CreatedTime `{time}` of {id}: {error}"))
    })?;
    let word = shape.snapshot_state.unwrap_or_default();
    let failed = shape.latest_operation_state.as_deref() == Some("FAILED")
        && shape.latest_operation.as_deref() == Some("CreateInstanceSnapshot");
    let state = match word.as_str() {
        _ if failed => SnapshotState::Error,
        "CREATING" => SnapshotState::Pending,
        "NORMAL" => SnapshotState::Available,
        other => SnapshotState::Other(other.to_owned()),
    };
    Ok(Snapshot {
        id: shape.snapshot_id,
        name: shape.snapshot_name.map(printable).unwrap_or_default(),
        place: place.clone(),
        source: ResourceId(String::new()),
        disk: shape.disk_id.filter(|id| !id.is_empty()),
        source_name: String::new(),
        source_place: None,
        created_at,
        state,
        // Others are refused with UnsupportedOperation.InvalidSnapshotState.
        deletable: word == "NORMAL",
        tags: tags(shape.tags),
        size_gb: shape.disk_size.unwrap_or_default(),
    })
}

fn tags(tags: Option<Vec<shapes::Tag>>) -> Tags {
    let pair = |tag: shapes::Tag| (tag.key, tag.value.unwrap_or_default());
    tags.into_iter().flatten().map(pair).collect()
}

fn read<T: DeserializeOwned>(operation: &'static str, shape: &Value) -> Result<T, ProviderError> {
    serde_json::from_value(shape.clone())
        .map_err(|error| distrust(operation, "IncompleteAnswer", format!("{error} in {shape}")))
}

/// A name without control characters, because it reaches logs, mails and terminals.
fn printable(name: String) -> String {
    name.replace(char::is_control, "\u{fffd}")
}
