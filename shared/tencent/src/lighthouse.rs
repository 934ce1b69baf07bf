//! Lighthouse behind the core's ports: three clients, split as rights are.
//!
//! Names do not identify snapshots there, and a request has no token: what the core does instead
//! follows from [`capabilities`].

use serde_json::{Value, json};
use snapkeep_app::ports::{
    Creator, Deleter, ErrorKind, Inventory, Page, ProviderError, Quota, SnapshotRequest,
};
use snapkeep_domain::capabilities::{Capabilities, TagSupport};
use snapkeep_domain::place::Place;
use snapkeep_domain::resource::ResourceId;
use snapkeep_domain::snapshot::{Instance, Snapshot, SnapshotRef};

use crate::PROVIDER;
use crate::client::{Client, Operation};
use crate::error::{Effect, distrust};
use crate::{mapping, shapes};

/// How many elements a page has at most.
const PAGE: usize = 100;
/// The Region that is asked for the Regions: each knows all.
const HOME: &str = "ap-guangzhou";

const REGIONS: Operation = reads("DescribeRegions");
const INSTANCES: Operation = reads("DescribeInstances");
const SNAPSHOTS: Operation = reads("DescribeSnapshots");
const QUOTAS: Operation = reads("DescribeGeneralResourceQuotas");
const CREATE: Operation = Operation { name: "CreateInstanceSnapshot", effect: Effect::Creates };
const DELETE: Operation = Operation { name: "DeleteSnapshots", effect: Effect::Deletes };

const fn reads(name: &'static str) -> Operation {
    Operation { name, effect: Effect::None }
}

/// What Lighthouse can do.
#[must_use]
pub fn capabilities() -> Capabilities {
    Capabilities {
        // A name has 60 characters, 26 of which are slot and hash.
        stem_chars: 34,
        unique_names: false,
        tags: TagSupport::Unproven,
        slow_deletes: true,
        tells_quota: true,
    }
}

/// Reads what exists at Lighthouse.
#[derive(Clone, Debug)]
pub struct LighthouseInventory(Client);

/// Creates snapshots.
#[derive(Clone, Debug)]
pub struct LighthouseCreator(Client);

/// Deletes snapshots.
#[derive(Clone, Debug)]
pub struct LighthouseDeleter(Client);

impl LighthouseInventory {
    /// The inventory of this client.
    #[must_use]
    pub fn new(client: Client) -> Self {
        Self(client)
    }

    /// A page of a list: from an offset, which is the token.
    async fn page<S: serde::de::DeserializeOwned, T>(
        &self,
        operation: Operation,
        place: &Place,
        (token, filters): (Option<String>, Value),
        list: impl Fn(S) -> (usize, Vec<Value>),
        read: impl Fn(&Value) -> Result<T, ProviderError>,
    ) -> Result<Page<T>, ProviderError> {
        let offset: usize = match token {
            None => 0,
            Some(token) => token.parse().map_err(|_| {
                distrust(operation.name, "BadToken", format!("`{token}` is no offset"))
            })?,
        };
        let mut body = filters;
        body["Offset"] = offset.into();
        body["Limit"] = PAGE.into();
        let (total, found) = list(self.0.call(operation, place.region(), &body).await?);
        // A short page is not the end: the list ends at its total, or where nothing comes any more.
        let reached = offset.saturating_add(found.len());
        let more = reached < total && !found.is_empty();
        let mut page = Page {
            elements: Vec::new(),
            broken: Vec::new(),
            next: more.then(|| reached.to_string()),
            total: Some(total),
        };
        for shape in &found {
            match read(shape) {
                Ok(element) => page.elements.push(element),
                Err(error) => page.broken.push(error),
            }
        }
        Ok(page)
    }

    async fn snapshot_page(
        &self,
        place: &Place,
        token: Option<String>,
        filters: Value,
    ) -> Result<Page<Snapshot>, ProviderError> {
        let list = |found: shapes::Snapshots| (found.total_count, found.snapshot_set);
        let read = |shape: &Value| mapping::snapshot(SNAPSHOTS.name, place, shape);
        self.page(SNAPSHOTS, place, (token, filters), list, read).await
    }

    /// All snapshots of an instance: that they come for its id is their origin.
    async fn snapshots_of(
        &self,
        place: &Place,
        source: &ResourceId,
        instance_id: &str,
    ) -> Result<Vec<Snapshot>, ProviderError> {
        let filters = json!({"Filters": [{"Name": "instance-id", "Values": [instance_id]}]});
        let (mut found, mut token) = (Vec::new(), None);
        loop {
            let page = match self.snapshot_page(place, token, filters.clone()).await {
                Err(error) if error.kind == ErrorKind::NotFound => return Ok(found),
                page => page?,
            };
            if let Some(error) = page.broken.into_iter().next() {
                return Err(error);
            }
            let own = |one: Snapshot| Snapshot { source: source.clone(), ..one };
            found.extend(page.elements.into_iter().map(own));
            token = page.next;
            if token.is_none() {
                return Ok(found);
            }
        }
    }
}

impl LighthouseCreator {
    /// The creator of this client.
    #[must_use]
    pub fn new(client: Client) -> Self {
        Self(client)
    }
}

impl LighthouseDeleter {
    /// The deleter of this client.
    #[must_use]
    pub fn new(client: Client) -> Self {
        Self(client)
    }
}

impl Inventory for LighthouseInventory {
    async fn regions(&self, _provider: Option<&str>) -> Result<Vec<Place>, ProviderError> {
        let answer: shapes::Regions = self.0.call(REGIONS, HOME, &json!({})).await?;
        let available = |region: &&shapes::Region| {
            region.region_state.as_deref().is_none_or(|state| state == "AVAILABLE")
        };
        let place = |region: &shapes::Region| {
            Place::of_provider(PROVIDER, &region.region).ok_or_else(|| {
                let message = format!("`{}` is no name of a Region", region.region);
                distrust(REGIONS.name, "IncompleteAnswer", message)
            })
        };
        answer.region_set.iter().filter(available).map(place).collect()
    }

    fn capabilities(&self, _place: &Place) -> Capabilities {
        capabilities()
    }

    async fn instances(
        &self,
        place: &Place,
        token: Option<String>,
    ) -> Result<Page<Instance>, ProviderError> {
        let list = |found: shapes::Instances| (found.total_count, found.instance_set);
        let read = |shape: &Value| mapping::instance(INSTANCES.name, place, shape);
        self.page(INSTANCES, place, (token, json!({})), list, read).await
    }

    async fn instance(
        &self,
        place: &Place,
        id: &ResourceId,
        _name: &str,
    ) -> Result<Option<Instance>, ProviderError> {
        let Some(instance_id) = mapping::instance_id(place, id) else { return Ok(None) };
        let body = json!({"InstanceIds": [instance_id]});
        let answer: Result<shapes::Instances, _> =
            self.0.call(INSTANCES, place.region(), &body).await;
        let found = match answer {
            Err(error) if error.kind == ErrorKind::NotFound => return Ok(None),
            answer => answer?.instance_set,
        };
        let Some(shape) = found.first() else { return Ok(None) };
        let found = mapping::instance(INSTANCES.name, place, shape)?;
        if found.id == *id {
            return Ok(Some(found));
        }
        let message = format!("asked for {}, got {}", id.0, found.id.0);
        Err(distrust(INSTANCES.name, "WrongAnswer", message))
    }

    async fn snapshots(
        &self,
        place: &Place,
        token: Option<String>,
    ) -> Result<Page<Snapshot>, ProviderError> {
        self.snapshot_page(place, token, json!({})).await
    }

    async fn look_up(&self, of: &SnapshotRef) -> Result<Vec<Snapshot>, ProviderError> {
        let SnapshotRef { place, source, id, .. } = of;
        let Some(id) = id else {
            return match mapping::instance_id(place, source) {
                Some(instance_id) => self.snapshots_of(place, source, instance_id).await,
                None => Ok(Vec::new()),
            };
        };
        let body = json!({"SnapshotIds": [id]});
        let answer: Result<shapes::Snapshots, _> =
            self.0.call(SNAPSHOTS, place.region(), &body).await;
        let found = match answer {
            Err(error) if error.kind == ErrorKind::NotFound => return Ok(Vec::new()),
            answer => answer?.snapshot_set,
        };
        let read = |shape: &Value| mapping::snapshot(SNAPSHOTS.name, place, shape);
        let found: Vec<Snapshot> = found.iter().map(read).collect::<Result<_, _>>()?;
        match found.iter().find(|one| *one.id != **id) {
            None => Ok(found),
            Some(other) => {
                let message = format!("asked for {id}, got {}", other.id);
                Err(distrust(SNAPSHOTS.name, "WrongAnswer", message))
            }
        }
    }

    async fn quota(&self, place: &Place) -> Result<Option<Quota>, ProviderError> {
        let body = json!({"ResourceNames": ["SNAPSHOT"]});
        let answer: shapes::Quotas = self.0.call(QUOTAS, place.region(), &body).await?;
        let named = |quota: &&shapes::Quota| {
            quota.resource_name.as_deref().is_none_or(|name| name == "SNAPSHOT")
        };
        let quota = answer.general_resource_quota_set.iter().find(named).ok_or_else(|| {
            distrust(QUOTAS.name, "IncompleteAnswer", "no quota for SNAPSHOT".to_owned())
        })?;
        Ok(Some(Quota {
            total: quota.resource_quota_total,
            available: quota.resource_quota_available,
        }))
    }
}

impl Creator for LighthouseCreator {
    async fn create(&self, order: &SnapshotRequest) -> Result<Option<Box<str>>, ProviderError> {
        let SnapshotRequest { place, resource, name, tags, .. } = order;
        let Some(instance_id) = mapping::instance_id(place, resource) else {
            let message = format!("{} is no instance of {place}", resource.0);
            let (operation, code) = (CREATE.name, "NotSent".to_owned());
            return Err(ProviderError { kind: ErrorKind::Refused, operation, code, message });
        };
        let bare = json!({"InstanceId": instance_id, "SnapshotName": name});
        let pairs = tags.iter().map(|(key, value)| json!({"Key": key, "Value": value}));
        let mut body = bare.clone();
        body["Tags"] = pairs.collect();
        let answer: Result<shapes::Created, _> = self.0.call(CREATE, place.region(), &body).await;
        // The service of some sites has no tags on snapshots yet.
        let created = match answer {
            Err(error) if knows_no_tags(&error) => {
                self.0.call::<shapes::Created>(CREATE, place.region(), &bare).await?
            }
            answer => answer?,
        };
        Ok(Some(created.snapshot_id.into()))
    }
}

/// Whether the parameter itself was refused, so that nothing was made.
fn knows_no_tags(error: &ProviderError) -> bool {
    let class = error.code.split('.').next().unwrap_or_default();
    let names_tags = error.message.contains("Tag") || error.code.contains("Tag");
    class == "UnknownParameter" || (class.starts_with("InvalidParameter") && names_tags)
}

impl Deleter for LighthouseDeleter {
    async fn delete(&self, snapshot: &SnapshotRef) -> Result<(), ProviderError> {
        // One id a call: a batch is refused whole for one bad id.
        let Some(id) = &snapshot.id else {
            let message = format!("the id of {} is not known", snapshot.name);
            let (operation, code) = (DELETE.name, "NotSent".to_owned());
            return Err(ProviderError { kind: ErrorKind::Refused, operation, code, message });
        };
        let body = json!({"SnapshotIds": [id]});
        let answer = self.0.call(DELETE, snapshot.place.region(), &body).await;
        answer.map(|shapes::Nothing {}| ())
    }
}
