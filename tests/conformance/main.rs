//! The ports' meaning, held against the memory and against the real adapters on the embedded cloud.
#![expect(clippy::unwrap_used, reason = "a test may panic")]

use std::sync::Arc;

use aws_config::{BehaviorVersion, Region, SdkConfig};
use aws_sdk_dynamodb::config::Credentials;
use aws_sdk_dynamodb::types::AttributeValue;
use aws_sdk_lightsail::types::Tag;
use jiff::SignedDuration;
use serde_json::{Value, json};
use snapkeep_app::ports::{
    Creator, Deleter, ErrorKind, Inventory, Ledger, Remember, SnapshotRequest, Write,
};
use snapkeep_aws::dynamodb::{DynamoLedger, schema};
use snapkeep_aws::lightsail::{Accounts, LightsailCreator, LightsailDeleter, LightsailInventory};
use snapkeep_cloud::clock::Clock;
use snapkeep_cloud::dynamodb::DynamoDb;
use snapkeep_cloud::embedded::{Cloud, CloudConfig};
use snapkeep_cloud::knobs::{self, ErrorForm, FaultKind, Knobs};
use snapkeep_cloud::lighthouse::knobs::{LighthouseKnobs, SECRET_ID, SECRET_KEY, SnapshotTags};
use snapkeep_domain::capabilities::Capabilities;
use snapkeep_domain::place::Place;
use snapkeep_domain::resource::ResourceId;
use snapkeep_domain::snapshot::{SnapshotRef, Tags};
use snapkeep_domain::time::Slot;
use snapkeep_tencent::client::Client;
use snapkeep_tencent::keys::Keys;
use snapkeep_tencent::{LighthouseCreator, LighthouseDeleter, LighthouseInventory};
use snapkeep_testkit::conformance::{self, World};
use snapkeep_testkit::{MemoryLedger, MemoryProvider, named};
use snapkeep_tests::{REGION, at, place, record, web};

const REGIONS: [&str; 2] = ["eu-west-1", "us-east-1"];
const START: &str = "2026-11-20T03:00:00Z";

struct InMemory(MemoryProvider);

impl World for InMemory {
    fn inventory(&self) -> &impl Inventory {
        &self.0
    }

    fn creator(&self) -> &impl Creator {
        &self.0
    }

    fn deleter(&self) -> &impl Deleter {
        &self.0
    }

    fn places(&self) -> [Place; 2] {
        REGIONS.map(place)
    }

    fn nothing(&self, place: &Place) -> SnapshotRef {
        named(place, "nothing")
    }

    async fn launch(&self, region: &Place, name: &str, tags: &Tags) {
        self.0.launch(region, name, tags.clone());
    }

    async fn terminate(&self, region: &Place, name: &str) {
        self.0.terminate(region, name);
    }

    async fn settle(&self) {
        self.0.set_now(self.0.now() + SignedDuration::from_mins(2));
    }
}

#[tokio::test]
async fn the_provider_in_memory_conforms() {
    conformance::provider(&InMemory(MemoryProvider::new(&REGIONS, at(START)))).await;
}

#[tokio::test]
async fn a_provider_in_memory_without_unique_names_conforms() {
    let can = Capabilities { unique_names: false, slow_deletes: true, ..Capabilities::default() };
    let provider = MemoryProvider::new(&REGIONS, at(START));
    conformance::provider(&InMemory(provider.with_capabilities(can))).await;
}

#[tokio::test]
async fn the_ledger_in_memory_conforms() {
    conformance::ledger(&MemoryLedger::new()).await;
}

/// The real adapters on the embedded Lightsail over HTTP; people use the SDK past our ports.
struct Embedded {
    cloud: Cloud,
    sdk: SdkConfig,
    inventory: LightsailInventory,
    creator: LightsailCreator,
    deleter: LightsailDeleter,
}

impl Embedded {
    async fn start(knobs: Knobs) -> Self {
        let table = schema::create_table_request("ledger");
        let config = CloudConfig { knobs, ..CloudConfig::new(Clock::stepped(at(START)), table) };
        let cloud = Cloud::start(config).await.unwrap();
        let sdk = sdk(&cloud.endpoints().lightsail).await;
        Embedded {
            inventory: LightsailInventory::new(&sdk, &Accounts::default()),
            creator: LightsailCreator::new(&sdk, &Accounts::default()),
            deleter: LightsailDeleter::new(&sdk, &Accounts::default()),
            cloud,
            sdk,
        }
    }

    fn client(&self, region: &str) -> aws_sdk_lightsail::Client {
        let region = aws_sdk_lightsail::config::Region::new(region.to_owned());
        let config = aws_sdk_lightsail::config::Builder::from(&self.sdk).region(region);
        aws_sdk_lightsail::Client::from_conf(config.build())
    }
}

impl World for Embedded {
    fn inventory(&self) -> &impl Inventory {
        &self.inventory
    }

    fn creator(&self) -> &impl Creator {
        &self.creator
    }

    fn deleter(&self) -> &impl Deleter {
        &self.deleter
    }

    fn places(&self) -> [Place; 2] {
        REGIONS.map(place)
    }

    fn nothing(&self, place: &Place) -> SnapshotRef {
        named(place, "nothing")
    }

    async fn launch(&self, region: &Place, name: &str, tags: &Tags) {
        let tag = |(key, value): (&String, &String)| Tag::builder().key(key).value(value).build();
        let call = self
            .client(region)
            .create_instances()
            .instance_names(name)
            .availability_zone(format!("{region}a"))
            .blueprint_id("debian_12")
            .bundle_id("nano_3_0")
            .set_tags(Some(tags.iter().map(tag).collect()));
        call.send().await.unwrap();
        // It starts for a while, and cannot be snapshotted meanwhile.
        self.cloud.clock().advance(SignedDuration::from_mins(1));
    }

    async fn terminate(&self, region: &Place, name: &str) {
        self.client(region).delete_instance().instance_name(name).send().await.unwrap();
    }

    async fn settle(&self) {
        self.cloud.clock().advance(SignedDuration::from_mins(10));
    }
}

/// The adapters of Lighthouse on the embedded one, over HTTP.
struct EmbeddedLighthouse {
    cloud: Cloud,
    inventory: LighthouseInventory,
    creator: LighthouseCreator,
    deleter: LighthouseDeleter,
}

impl EmbeddedLighthouse {
    async fn start(knobs: LighthouseKnobs) -> Self {
        let table = schema::create_table_request("ledger");
        let config = CloudConfig::new(Clock::stepped(at(START)), table);
        let config = CloudConfig { lighthouse_knobs: knobs, ..config };
        let cloud = Cloud::start(config).await.unwrap();
        let keys = Keys {
            secret_id: SECRET_ID.to_owned(),
            secret_key: SECRET_KEY.to_owned(),
            token: None,
        };
        let endpoint = cloud.endpoints().lighthouse.parse().unwrap();
        let client = Client::new(endpoint, Arc::new(keys), snapkeep_aws::clock::system);
        EmbeddedLighthouse {
            inventory: LighthouseInventory::new(client.clone()),
            creator: LighthouseCreator::new(client.clone()),
            deleter: LighthouseDeleter::new(client),
            cloud,
        }
    }

    /// Calls Lighthouse as a person would.
    fn ask(&self, place: &Place, operation: &str, body: &Value) {
        let (now, body) = (self.cloud.clock().now(), body.as_object().unwrap());
        let answer =
            self.cloud.lighthouse().lock().unwrap().call(now, place.region(), operation, body);
        assert!(answer.is_ok(), "{operation}: {answer:?}");
    }
}

impl World for EmbeddedLighthouse {
    fn inventory(&self) -> &impl Inventory {
        &self.inventory
    }

    fn creator(&self) -> &impl Creator {
        &self.creator
    }

    fn deleter(&self) -> &impl Deleter {
        &self.deleter
    }

    fn places(&self) -> [Place; 2] {
        ["lighthouse:ap-guangzhou", "lighthouse:ap-tokyo"].map(place)
    }

    fn nothing(&self, place: &Place) -> SnapshotRef {
        SnapshotRef {
            source: ResourceId(format!("{place}:lhins-00000000")),
            id: Some("lhsnap-00000000".into()),
            ..named(place, "nothing")
        }
    }

    async fn launch(&self, place: &Place, name: &str, tags: &Tags) {
        let tags: Value =
            tags.iter().map(|(key, value)| json!({"Key": key, "Value": value})).collect();
        let body = json!({"BundleId": "bundle_starter_nmc_lin_med2_01", "BlueprintId": "lhbp-f1lkcd41",
            "InstanceName": name, "Tags": tags});
        self.ask(place, "CreateInstances", &body);
        self.cloud.clock().advance(SignedDuration::from_mins(1));
    }

    async fn terminate(&self, place: &Place, name: &str) {
        let id = {
            let lighthouse = self.cloud.lighthouse().lock().unwrap();
            let all = lighthouse.instances(place.region());
            all.into_iter().find(|instance| instance.name == name).unwrap().id.clone()
        };
        // It is about to be reclaimed after the first call, and gone after the second.
        for _ in 0..2 {
            self.ask(place, "TerminateInstances", &json!({"InstanceIds": [id]}));
        }
    }

    async fn settle(&self) {
        self.cloud.clock().advance(SignedDuration::from_mins(10));
    }
}

/// Whatever it does with tags, and however short its pages are.
#[tokio::test]
async fn the_provider_on_lighthouse_conforms() {
    for snapshot_tags in [SnapshotTags::Kept, SnapshotTags::Dropped, SnapshotTags::Refused] {
        let page_size = if snapshot_tags == SnapshotTags::Kept { 7 } else { 100 };
        let knobs = LighthouseKnobs { snapshot_tags, page_size, ..LighthouseKnobs::default() };
        let world = EmbeddedLighthouse::start(knobs).await;
        conformance::provider(&world).await;
        world.cloud.shutdown().await;
    }
}

/// In every form that its errors may have: which one is real is not known for all of them.
#[tokio::test]
async fn the_provider_on_lightsail_conforms() {
    for error_form in [ErrorForm::TypeAndCode, ErrorForm::TypeOnly, ErrorForm::Header] {
        let not_found_status = if error_form == ErrorForm::Header { 404 } else { 400 };
        let knobs = Knobs { error_form, not_found_status, ..Knobs::default() };
        let world = Embedded::start(knobs).await;
        conformance::provider(&world).await;
        world.cloud.shutdown().await;
    }
}

#[tokio::test]
async fn lightsails_refusals_are_what_they_are() {
    let knobs = Knobs { refuse_delete_pending: true, ..Knobs::default() };
    let world = Embedded::start(knobs).await;
    let region = &place(REGIONS[0]);
    world.launch(region, "web", &Tags::new()).await;
    let order = |name: &str| SnapshotRequest {
        place: region.clone(),
        resource: ResourceId(String::new()),
        instance: "web".to_owned(),
        name: name.to_owned(),
        tags: Tags::new(),
    };
    world.creator.create(&order("web-1")).await.unwrap();
    let turn = |change: &dyn Fn(&mut Knobs)| {
        let mut lightsail = world.cloud.lightsail().lock().unwrap();
        lightsail.knobs = Knobs::default();
        change(&mut lightsail.knobs);
    };
    let refusal = async |name: &str| world.creator.create(&order(name)).await.unwrap_err();
    let pending = world.deleter.delete(&named(region, "web-1")).await.unwrap_err();
    assert_eq!(pending.kind, ErrorKind::Busy, "{pending:?}");
    turn(&|knobs| knobs.refuse_concurrent_snapshots = true);
    assert_eq!(refusal("web-2").await.kind, ErrorKind::Busy);
    turn(&|knobs| knobs.snapshot_quota = Some(1));
    assert_eq!(refusal("web-2").await.kind, ErrorKind::Quota);
    turn(&|_| ());
    assert_eq!(refusal("-").await.kind, ErrorKind::Refused);
    turn(&|knobs| knobs.disabled_regions = vec![region.to_string()]);
    assert_eq!(refusal("web-2").await.kind, ErrorKind::RegionNotEnabled);
    for (kind, expected) in [
        (FaultKind::Throttle, ErrorKind::Throttled),
        (FaultKind::ServerError, ErrorKind::Indeterminate),
        (FaultKind::Denied, ErrorKind::Denied),
        (FaultKind::Dropped, ErrorKind::Indeterminate),
    ] {
        turn(&|knobs| knobs.faults = vec![knobs::Fault::on("*", kind)]);
        let error = refusal("web-2").await;
        assert_eq!(error.kind, expected, "{kind:?} {error:?}");
        assert_eq!(
            world.inventory.snapshots(region, None).await.unwrap_err().kind,
            expected,
            "{kind:?}"
        );
    }
    turn(&|_| ());
    assert_eq!(world.inventory.look_up(&named(region, "web-2")).await.unwrap(), []);
    // Lost for good: whether the SDK's own second attempt says so or not, the snapshot is there.
    turn(&|knobs| knobs.faults = vec![knobs::Fault::on("*", FaultKind::LostResponse)]);
    let lost = refusal("web-2").await.kind;
    assert!([ErrorKind::Indeterminate, ErrorKind::NameTaken].contains(&lost), "{lost:?}");
    turn(&|_| ());
    assert!(!world.inventory.look_up(&named(region, "web-2")).await.unwrap().is_empty());
}

/// The real SDK's configuration, but for the environment.
async fn sdk(endpoint: &str) -> SdkConfig {
    let key = Credentials::new("embedded", "embedded", None, None, "test");
    aws_config::defaults(BehaviorVersion::latest())
        .empty_test_environment()
        .http_client(snapkeep_aws::sdk::http_client())
        .region(Region::new(REGIONS[0]))
        .credentials_provider(key)
        .endpoint_url(endpoint)
        .load()
        .await
}

/// The embedded DynamoDB over HTTP, and the real ledger on it.
async fn dynamodb() -> (DynamoDb, DynamoLedger) {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let server = DynamoDb::start(listener, Clock::stepped(at(START))).await.unwrap();
    let request = schema::create_table_request("ledger");
    let table = server.create_table(request, Some(schema::EXPIRES_AT)).unwrap();
    let client = aws_sdk_dynamodb::Client::new(&sdk(&server.url()).await);
    (server, DynamoLedger::new(client, table))
}

#[tokio::test]
async fn the_ledger_on_dynamodb_conforms() {
    let (server, ledger) = dynamodb().await;
    conformance::ledger(&ledger).await;
    let asked = server.requests();
    assert!(
        asked
            .keys()
            .all(|operation| ["PutItem", "UpdateItem", "Query"].contains(&operation.as_str()))
    );
}

#[tokio::test]
async fn an_idle_look_is_one_round_of_queries() {
    let (server, ledger) = dynamodb().await;
    // What is remembered, of resources and of runs; then what is under way in each place.
    assert!(ledger.memory().await.unwrap().protected.is_empty());
    assert!(ledger.open(&place(REGION)).await.unwrap().records.is_empty());
    assert_eq!(server.requests(), [("Query".to_owned(), 3)].into());
}

#[tokio::test]
async fn a_write_whose_answer_is_lost_is_known_as_our_own() {
    let (server, ledger) = dynamodb().await;
    let first = record(Slot::at(at(START)), 1, None);
    server.lose_next_response(1, Some("PutItem"));
    let Write::Done(claimed) = ledger.claim(&first).await.unwrap() else {
        panic!("taken for somebody else's");
    };
    server.lose_next_response(1, Some("UpdateItem"));
    let Write::Done(advanced) = ledger.advance(&claimed).await.unwrap() else {
        panic!("taken for somebody else's");
    };
    let asked = server.requests();
    assert_eq!((advanced.version, asked["PutItem"], asked["UpdateItem"]), (2, 2, 2));
    assert_eq!(ledger.recent(&web(), first.slot).await.unwrap().records, [*advanced]);
    assert!(matches!(ledger.claim(&first).await.unwrap(), Write::Conflict(Some(_))));
}

#[tokio::test]
async fn a_ledger_that_does_not_answer_is_an_error() {
    let (server, ledger) = dynamodb().await;
    server.throttle_next(9, None);
    let error = ledger.live(&place(REGION)).await.unwrap_err();
    assert_eq!(error.code, "ProvisionedThroughputExceededException");
    assert!(!error.message.is_empty());
    server.clear_faults();
    server.fail_next(9, None);
    let error = ledger.claim(&record(Slot::at(at(START)), 1, None)).await.unwrap_err();
    assert_eq!((error.operation, error.code.as_str()), ("PutItem", "InternalServerError"));
    server.clear_faults();
    assert!(ledger.live(&place(REGION)).await.unwrap().records.is_empty());
}

#[tokio::test]
async fn an_item_of_a_newer_format_is_named_and_left_alone() {
    let (server, ledger) = dynamodb().await;
    let first = record(Slot::at(at(START)), 1, None);
    let Write::Done(first) = ledger.claim(&first).await.unwrap() else { panic!("not free") };
    let client = aws_sdk_dynamodb::Client::new(&sdk(&server.url()).await);
    let key = |text: &str| AttributeValue::S(text.to_owned());
    let raise = client
        .update_item()
        .table_name("ledger")
        .key(schema::RESOURCE, key(&web().0))
        .key(schema::SLOT, key(START))
        .update_expression("SET #format = :format")
        .expression_attribute_names("#format", schema::FORMAT)
        .expression_attribute_values(":format", AttributeValue::N("99".to_owned()));
    raise.send().await.unwrap();

    assert_eq!(ledger.claim(&first).await.unwrap(), Write::Conflict(None));
    assert_eq!(ledger.advance(&first).await.unwrap(), Write::Conflict(None));
    let found = ledger.recent(&web(), first.slot).await.unwrap();
    assert!(found.records.is_empty());
    assert_eq!(
        (&found.unreadable[0].resource, found.unreadable[0].sort_key.as_str()),
        (&web(), START)
    );
    assert!(found.unreadable[0].why.contains("99"), "{:?}", found.unreadable);
    assert_eq!(ledger.live(&place(REGION)).await.unwrap().unreadable, found.unreadable);
}
