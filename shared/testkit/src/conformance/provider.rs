//! The checks that every provider's adapter passes, by what it can do.

use std::fmt::Debug;

use snapkeep_app::ports::{
    Creator, Deleter, ErrorKind, Inventory, Page, ProviderError, SnapshotRequest,
};
use snapkeep_domain::capabilities::{Capabilities, TagSupport};
use snapkeep_domain::place::Place;
use snapkeep_domain::resource::ResourceId;
use snapkeep_domain::snapshot::{Instance, Snapshot, SnapshotRef, SnapshotState, Tags};

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
    /// Two different places, empty at the beginning.
    fn places(&self) -> [Place; 2];
    /// A reference to a snapshot that there is not, of an instance that there is not.
    fn nothing(&self, place: &Place) -> SnapshotRef;
    /// Launches an instance that can be snapshotted when this returns.
    fn launch(&self, place: &Place, name: &str, tags: &Tags) -> impl Future<Output = ()>;
    /// Deletes an instance.
    fn terminate(&self, place: &Place, name: &str) -> impl Future<Output = ()>;
    /// Lets time pass until no snapshot is pending, or still there though it was deleted.
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

fn capabilities(world: &impl World) -> Capabilities {
    world.inventory().capabilities(&world.places()[0])
}

async fn names_its_regions(world: &impl World) {
    for place in world.places() {
        let named = world.inventory().regions(place.provider()).await.unwrap();
        assert!(named.contains(&place), "{place} is not among {named:?}");
    }
}

async fn finds_nothing_where_nothing_is(world: &impl World) {
    let [place, _] = &world.places();
    let inventory = world.inventory();
    assert_eq!(instances(world, place).await, []);
    assert_eq!(snapshots(world, place).await, []);
    let nothing = world.nothing(place);
    assert_eq!(inventory.instance(place, &nothing.source, "nobody").await.unwrap(), None);
    assert_eq!(inventory.look_up(&nothing).await.unwrap(), []);
    let all_of_it = SnapshotRef { id: None, ..nothing.clone() };
    assert_eq!(inventory.look_up(&all_of_it).await.unwrap(), []);
    let nobody = order(&nothing.source, place, "nobody", "nothing");
    fails(world.creator().create(&nobody).await, ErrorKind::NotFound);
    fails(world.deleter().delete(&nothing).await, ErrorKind::NotFound);
    assert_eq!(snapshots(world, place).await, []);
}

async fn makes_a_snapshot(world: &impl World) {
    let [place, _] = &world.places();
    let can = capabilities(world);
    let wanted = tags(&[("snapkeep", ""), ("snapkeep:keep", "last=3 daily=7"), ("Name", "a b")]);
    world.launch(place, "made", &wanted).await;
    let made = instance(world, place, "made").await;
    assert_eq!((&made.tags, made.name.as_str(), &made.place), (&wanted, "made", place));
    let asked = world.inventory().instance(place, &made.id, "made").await.unwrap();
    assert_eq!(asked.as_ref(), Some(&made));

    let of = take(world, &made, "made-1").await;
    let pending = snapshot(world, &of).await;
    assert_eq!((&pending.state, pending.name.as_str()), (&SnapshotState::Pending, "made-1"));
    assert_eq!(&pending.place, place);
    assert!(is_of(&pending, &made), "{pending:?} {made:?}");
    let order = order(&made.id, place, "made", "made-1");
    if can.tags == TagSupport::Yes || !pending.tags.is_empty() {
        assert_eq!(pending.tags, order.tags);
    }
    assert!(pending.size_gb > 0 && !pending.id.is_empty());
    let all_of_it = SnapshotRef { id: None, ..of.clone() };
    let [by_source] = &world.inventory().look_up(&all_of_it).await.unwrap()[..] else {
        panic!("one snapshot of it")
    };
    assert_eq!((&by_source.id, &by_source.source), (&pending.id, &made.id));
    let listed = listed(world, place, "made-1").await;
    assert_eq!((&listed.id, &listed.tags), (&pending.id, &pending.tags));
    assert!(is_of(&listed, &made));
    if can.unique_names {
        fails(world.creator().create(&order).await, ErrorKind::NameTaken);
    }
    world.settle().await;
    let available = snapshot(world, &of).await;
    let deletable = available.deletable;
    assert!(deletable);
    assert_eq!(available, Snapshot { state: SnapshotState::Available, deletable, ..pending });
    assert_eq!(self::listed(world, place, "made-1").await, available);
    if can.unique_names {
        fails(world.creator().create(&order).await, ErrorKind::NameTaken);
        // An instance's name is not free for a snapshot either.
        let namesake = self::order(&made.id, place, "made", "made");
        fails(world.creator().create(&namesake).await, ErrorKind::NameTaken);
    } else {
        let twin = take(world, &made, "made-1").await;
        assert_ne!(twin.id, of.id, "a second request makes a second snapshot");
        assert_eq!(world.inventory().look_up(&all_of_it).await.unwrap().len(), 2);
        world.settle().await;
        world.deleter().delete(&twin).await.unwrap();
        world.settle().await;
    }
}

async fn deletes_one_snapshot(world: &impl World) {
    let [place, _] = &world.places();
    world.launch(place, "deleted", &Tags::new()).await;
    let of = instance(world, place, "deleted").await;
    let first = take(world, &of, "deleted-1").await;
    world.settle().await;
    let second = take(world, &of, "deleted-2").await;
    world.settle().await;
    let stays = snapshot(world, &second).await;
    world.deleter().delete(&first).await.unwrap();
    if capabilities(world).slow_deletes {
        fails(world.deleter().delete(&first).await, ErrorKind::UnderWay);
        world.settle().await;
    }
    assert_eq!(world.inventory().look_up(&first).await.unwrap(), []);
    let left = snapshots(world, place).await;
    assert!(left.iter().all(|snapshot| snapshot.name != "deleted-1") && left.contains(&stays));
    fails(world.deleter().delete(&first).await, ErrorKind::NotFound);
    instance(world, place, "deleted").await;
}

async fn keeps_regions_apart(world: &impl World) {
    let [here, there] = &world.places();
    let mut taken = Vec::new();
    for place in [here, there] {
        world.launch(place, "apart", &Tags::new()).await;
        taken.push(take(world, &instance(world, place, "apart").await, "apart-1").await);
    }
    world.settle().await;
    assert_ne!(taken[0].source, taken[1].source);
    world.deleter().delete(&taken[1]).await.unwrap();
    world.settle().await;
    assert_eq!(world.inventory().look_up(&taken[1]).await.unwrap(), []);
    assert_eq!(snapshot(world, &taken[0]).await.place, *here);
}

async fn tells_namesakes_apart(world: &impl World) {
    let [place, _] = &world.places();
    world.launch(place, "reused", &Tags::new()).await;
    let first = instance(world, place, "reused").await;
    let of_first = take(world, &first, "reused-1").await;
    world.settle().await;
    world.terminate(place, "reused").await;
    let gone = world.inventory().instance(place, &first.id, "reused").await.unwrap();
    assert_eq!(gone, None);
    assert!(is_of(&snapshot(world, &of_first).await, &first), "it outlives its instance");

    world.launch(place, "reused", &Tags::new()).await;
    let second = instance(world, place, "reused").await;
    assert_ne!(first.id, second.id, "a name used again is another resource");
    let of_second = take(world, &second, "reused-2").await;
    world.settle().await;
    let (old, new) = (snapshot(world, &of_first).await, snapshot(world, &of_second).await);
    assert!(is_of(&old, &first) && is_of(&new, &second));
    assert!(!is_of(&old, &second) && !is_of(&new, &first));
}

async fn lists_many(world: &impl World) {
    let [place, _] = &world.places();
    for number in 0..MANY {
        let name = format!("many-{number}");
        world.launch(place, &name, &tags(&[("number", &number.to_string())])).await;
        let of = instance(world, place, &name).await;
        take(world, &of, &format!("{name}-1")).await;
    }
    world.settle().await;
    let instances = instances(world, place).await;
    let snapshots = snapshots(world, place).await;
    for number in 0..MANY {
        let name = format!("many-{number}");
        let found: Vec<_> = snapshots.iter().filter(|s| s.name == format!("{name}-1")).collect();
        assert_eq!(found.len(), 1, "{name}");
        let of = instances.iter().find(|instance| instance.name == name).unwrap();
        assert!(is_of(found[0], of) && found[0].state == SnapshotState::Available);
    }
    distinct(instances.iter().map(|instance| &instance.id.0));
    distinct(snapshots.iter().map(|snapshot| &snapshot.id));
}

/// Whether the snapshot says that it was taken of this instance, by the instance's id or its disk.
fn is_of(snapshot: &Snapshot, instance: &Instance) -> bool {
    if snapshot.source.0.is_empty() {
        return snapshot.disk.is_some() && snapshot.disk == instance.disk;
    }
    (&snapshot.source, &snapshot.source_name) == (&instance.id, &instance.name)
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

fn order(resource: &ResourceId, place: &Place, instance: &str, name: &str) -> SnapshotRequest {
    let source = "arn:aws:lightsail:eu-west-1:111122223333:Instance/0-1_2";
    let pairs = [
        ("snapkeep:managed-by", "snapkeep"),
        ("snapkeep:slot", "2026-11-20T03:00:00Z"),
        ("snapkeep:source", source),
        ("snapkeep:keep", ""),
        ("snapkeep:timezone", "Europe/Berlin"),
    ];
    SnapshotRequest {
        place: place.clone(),
        resource: resource.clone(),
        instance: instance.to_owned(),
        name: name.to_owned(),
        tags: tags(&pairs),
    }
}

/// Takes a snapshot; returns what it is asked for by.
async fn take(world: &impl World, of: &Instance, name: &str) -> SnapshotRef {
    let order = order(&of.id, &of.place, &of.name, name);
    let id = world.creator().create(&order).await.unwrap();
    assert_eq!(id.is_none(), capabilities(world).unique_names, "{id:?}");
    SnapshotRef { place: of.place.clone(), source: of.id.clone(), name: name.to_owned(), id }
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
            assert!(page.total.is_none_or(|total| total == found.len()), "{:?}", page.total);
            return found;
        }
    }
}

async fn instances(world: &impl World, place: &Place) -> Vec<Instance> {
    all(|token| world.inventory().instances(place, token)).await
}

async fn snapshots(world: &impl World, place: &Place) -> Vec<Snapshot> {
    all(|token| world.inventory().snapshots(place, token)).await
}

async fn instance(world: &impl World, place: &Place, name: &str) -> Instance {
    let found = instances(world, place).await.into_iter().find(|instance| instance.name == name);
    found.unwrap_or_else(|| panic!("no instance {name} in {place}"))
}

async fn snapshot(world: &impl World, of: &SnapshotRef) -> Snapshot {
    let found = world.inventory().look_up(of).await.unwrap();
    assert_eq!(found.len(), 1, "{of:?}");
    found.into_iter().next().unwrap()
}

async fn listed(world: &impl World, place: &Place, name: &str) -> Snapshot {
    let all = snapshots(world, place).await;
    let found = all.into_iter().find(|snapshot| snapshot.name == name);
    found.unwrap_or_else(|| panic!("no snapshot {name} in the list of {place}"))
}
