//! The checks that every provider's adapter passes.

use std::fmt::Debug;

use snapkeep_app::ports::{
    Creator, Deleter, ErrorKind, Inventory, Page, ProviderError, SnapshotRequest,
};
use snapkeep_domain::place::Place;
use snapkeep_domain::resource::ResourceId;
use snapkeep_domain::snapshot::{Instance, Snapshot, SnapshotState, Tags};

use crate::named;

/// This many elements make more than three pages of twenty.
const MANY: usize = 65;

/// A provider to check, and what people do to it without our ports.
pub trait World {
    /// The adapter that reads.
    fn inventory(&self) -> &impl Inventory;
    /// The adapter that creates.
    fn creator(&self) -> &impl Creator;
    /// The adapter that deletes.
    fn deleter(&self) -> &impl Deleter;
    /// Two different Regions, empty at the beginning.
    fn regions(&self) -> [&str; 2];
    /// Launches an instance that can be snapshotted when this returns.
    fn launch(&self, region: &str, name: &str, tags: &Tags) -> impl Future<Output = ()>;
    /// Deletes an instance.
    fn terminate(&self, region: &str, name: &str) -> impl Future<Output = ()>;
    /// Lets time pass until no snapshot is pending.
    fn settle(&self) -> impl Future<Output = ()>;
}

/// Runs all checks on a provider that is empty at the beginning.
pub async fn provider(world: &impl World) {
    names_its_regions(world).await;
    finds_nothing_where_nothing_is(world).await;
    makes_a_snapshot(world).await;
    deletes_one_snapshot(world).await;
    keeps_regions_apart(world).await;
    tells_namesakes_apart(world).await;
    lists_many(world).await;
}

async fn names_its_regions(world: &impl World) {
    let named = world.inventory().regions(None).await.unwrap();
    for region in places(world) {
        assert!(named.contains(&region), "{region} is not among {named:?}");
    }
}

async fn finds_nothing_where_nothing_is(world: &impl World) {
    let [region, _] = &places(world);
    let inventory = world.inventory();
    assert_eq!(instances(world, region).await, []);
    assert_eq!(snapshots(world, region).await, []);
    assert_eq!(
        inventory.instance(region, &ResourceId(String::new()), "nobody").await.unwrap(),
        None
    );
    assert_eq!(inventory.look_up(&named(region, "nothing")).await.unwrap(), []);
    let order = order(region, "nobody", "nothing");
    fails(world.creator().create(&order).await, ErrorKind::NotFound);
    fails(world.deleter().delete(&named(region, "nothing")).await, ErrorKind::NotFound);
    assert_eq!(snapshots(world, region).await, []);
}

async fn makes_a_snapshot(world: &impl World) {
    let [region, _] = &places(world);
    let wanted = tags(&[("snapkeep", ""), ("snapkeep:keep", "last=3 daily=7"), ("Name", "a b")]);
    world.launch(region, "made", &wanted).await;
    let instance = instance(world, region, "made").await;
    assert_eq!(instance.tags, wanted);
    assert_eq!((instance.name.as_str(), &instance.place), ("made", region));
    assert!(instances(world, region).await.contains(&instance));

    let order = order(region, "made", "made-1");
    world.creator().create(&order).await.unwrap();
    let pending = snapshot(world, region, "made-1").await;
    assert_eq!(pending.state, SnapshotState::Pending);
    assert_eq!((pending.name.as_str(), &pending.place), ("made-1", region));
    assert_eq!((&pending.source, pending.source_name.as_str()), (&instance.id, "made"));
    assert_eq!(pending.tags, order.tags);
    assert!(pending.size_gb > 0 && !pending.id.is_empty());
    let listed = listed(world, region, "made-1").await;
    assert_eq!((&listed.id, &listed.tags, listed.source), (&pending.id, &order.tags, instance.id));

    fails(world.creator().create(&order).await, ErrorKind::NameTaken);
    world.settle().await;
    let available = snapshot(world, region, "made-1").await;
    assert_eq!(available, Snapshot { state: SnapshotState::Available, ..pending });
    assert_eq!(self::listed(world, region, "made-1").await, available);
    fails(world.creator().create(&order).await, ErrorKind::NameTaken);
    // An instance's name is not free for a snapshot either.
    let namesake = self::order(region, "made", "made");
    fails(world.creator().create(&namesake).await, ErrorKind::NameTaken);
}

async fn deletes_one_snapshot(world: &impl World) {
    let [region, _] = &places(world);
    world.launch(region, "deleted", &Tags::new()).await;
    for name in ["deleted-1", "deleted-2"] {
        world.creator().create(&order(region, "deleted", name)).await.unwrap();
        world.settle().await;
    }
    let stays = snapshot(world, region, "deleted-2").await;
    world.deleter().delete(&named(region, "deleted-1")).await.unwrap();
    assert_eq!(world.inventory().look_up(&named(region, "deleted-1")).await.unwrap(), []);
    let left = snapshots(world, region).await;
    assert!(left.iter().all(|snapshot| snapshot.name != "deleted-1") && left.contains(&stays));
    fails(world.deleter().delete(&named(region, "deleted-1")).await, ErrorKind::NotFound);
    instance(world, region, "deleted").await;
}

async fn keeps_regions_apart(world: &impl World) {
    let [here, there] = &places(world);
    for region in [here, there] {
        world.launch(region, "apart", &Tags::new()).await;
        world.creator().create(&order(region, "apart", "apart-1")).await.unwrap();
    }
    world.settle().await;
    assert_ne!(instance(world, here, "apart").await.id, instance(world, there, "apart").await.id);
    world.deleter().delete(&named(there, "apart-1")).await.unwrap();
    assert_eq!(world.inventory().look_up(&named(there, "apart-1")).await.unwrap(), []);
    assert_eq!(snapshot(world, here, "apart-1").await.place, *here);
}

async fn tells_namesakes_apart(world: &impl World) {
    let [region, _] = &places(world);
    world.launch(region, "reused", &Tags::new()).await;
    let first = instance(world, region, "reused").await;
    world.creator().create(&order(region, "reused", "reused-1")).await.unwrap();
    world.settle().await;
    world.terminate(region, "reused").await;
    assert_eq!(
        world.inventory().instance(region, &ResourceId(String::new()), "reused").await.unwrap(),
        None
    );
    let survivor = snapshot(world, region, "reused-1").await;
    assert_eq!((&survivor.source, survivor.source_name.as_str()), (&first.id, "reused"));

    world.launch(region, "reused", &Tags::new()).await;
    let second = instance(world, region, "reused").await;
    assert_ne!(first.id, second.id, "a name used again is another resource");
    world.creator().create(&order(region, "reused", "reused-2")).await.unwrap();
    world.settle().await;
    assert_eq!(snapshot(world, region, "reused-1").await.source, first.id);
    assert_eq!(snapshot(world, region, "reused-2").await.source, second.id);
}

async fn lists_many(world: &impl World) {
    let [region, _] = &places(world);
    for number in 0..MANY {
        let name = format!("many-{number}");
        world.launch(region, &name, &tags(&[("number", &number.to_string())])).await;
        let snapshot = format!("{name}-1");
        world.creator().create(&order(region, &name, &snapshot)).await.unwrap();
    }
    world.settle().await;
    let instances = instances(world, region).await;
    let snapshots = snapshots(world, region).await;
    let source = |name: &str| -> Option<&ResourceId> {
        instances.iter().find(|instance| instance.name == name).map(|instance| &instance.id)
    };
    for number in 0..MANY {
        let name = format!("many-{number}");
        let found: Vec<_> = snapshots.iter().filter(|s| s.name == format!("{name}-1")).collect();
        assert_eq!(found.len(), 1, "{name}");
        assert_eq!(Some(&found[0].source), source(&name));
        assert_eq!(found[0].state, SnapshotState::Available);
    }
    distinct(instances.iter().map(|instance| &instance.id.0));
    distinct(snapshots.iter().map(|snapshot| &snapshot.id));
}

fn distinct<'a>(ids: impl Iterator<Item = &'a String>) {
    let mut ids: Vec<_> = ids.collect();
    let all = ids.len();
    ids.sort_unstable();
    ids.dedup();
    assert_eq!(ids.len(), all, "something is listed twice");
}

fn tags(pairs: &[(&str, &str)]) -> Tags {
    pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
}

/// The two Regions of a world.
fn places(world: &impl World) -> [Place; 2] {
    world.regions().map(|region| region.parse().unwrap())
}

fn order(region: &Place, instance: &str, name: &str) -> SnapshotRequest {
    let source = "arn:aws:lightsail:eu-west-1:111122223333:Instance/0-1_2";
    let pairs = [
        ("snapkeep:managed-by", "snapkeep"),
        ("snapkeep:slot", "2026-11-20T03:00:00Z"),
        ("snapkeep:source", source),
        ("snapkeep:keep", ""),
        ("snapkeep:timezone", "Europe/Berlin"),
    ];
    SnapshotRequest {
        place: region.clone(),
        resource: ResourceId(String::new()),
        instance: instance.to_owned(),
        name: name.to_owned(),
        tags: tags(&pairs),
    }
}

fn fails<T: Debug>(answer: Result<T, ProviderError>, kind: ErrorKind) {
    let error = answer.unwrap_err();
    assert_eq!(error.kind, kind, "{error}");
    assert!(!error.code.is_empty() && !error.message.is_empty(), "{error:?}");
}

/// All pages of a list.
async fn all<T, F>(fetch: impl Fn(Option<String>) -> F) -> Vec<T>
where
    F: Future<Output = Result<Page<T>, ProviderError>>,
{
    let (mut found, mut token) = (Vec::new(), None);
    loop {
        let page = fetch(token).await.unwrap();
        found.extend(page.elements);
        token = page.next;
        if token.is_none() {
            return found;
        }
    }
}

async fn instances(world: &impl World, region: &Place) -> Vec<Instance> {
    all(|token| world.inventory().instances(region, token)).await
}

async fn snapshots(world: &impl World, region: &Place) -> Vec<Snapshot> {
    all(|token| world.inventory().snapshots(region, token)).await
}

async fn instance(world: &impl World, region: &Place, name: &str) -> Instance {
    let found = world.inventory().instance(region, &ResourceId(String::new()), name).await.unwrap();
    found.unwrap_or_else(|| panic!("no instance {name} in {region}"))
}

async fn snapshot(world: &impl World, region: &Place, name: &str) -> Snapshot {
    let found = world.inventory().look_up(&named(region, name)).await.unwrap();
    found.into_iter().next().unwrap_or_else(|| panic!("no snapshot {name} in {region}"))
}

async fn listed(world: &impl World, region: &Place, name: &str) -> Snapshot {
    let all = snapshots(world, region).await;
    let found = all.into_iter().find(|snapshot| snapshot.name == name);
    found.unwrap_or_else(|| panic!("no snapshot {name} in the list of {region}"))
}
