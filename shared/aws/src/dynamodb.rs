//! The ledger on DynamoDB: conditional writes, one query for the records of a place, and no scan.

use std::collections::{BTreeSet, HashMap};
use std::error::Error;
use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use aws_sdk_dynamodb::Client;
use aws_sdk_dynamodb::operation::put_item::PutItemError;
use aws_sdk_dynamodb::operation::put_item::builders::PutItemFluentBuilder;
use aws_sdk_dynamodb::operation::query::builders::QueryFluentBuilder;
use aws_sdk_dynamodb::types::{AttributeValue, ReturnValuesOnConditionCheckFailure};
use aws_smithy_runtime_api::client::orchestrator::HttpResponse;
use aws_smithy_runtime_api::client::result::SdkError;
use aws_smithy_types::error::metadata::ProvideErrorMetadata;
use snapkeep_app::ports::{Ledger, LedgerError, Records, Unreadable, Write};
use snapkeep_domain::ledger::record::{FORMAT, Record};
use snapkeep_domain::place::Place;
use snapkeep_domain::policy::PolicyTexts;
use snapkeep_domain::resource::ResourceId;
use snapkeep_domain::time::Slot;

use crate::sdk::Failure;

mod codec;
mod conditions;
mod memory;
pub mod schema;

/// An item as DynamoDB represents it.
type Item = HashMap<String, AttributeValue>;

const PUT_ITEM: &str = "PutItem";

/// More pages than any ledger has; without a bound, a faulty service would hold the run forever.
const PAGES_MAX: usize = 10_000;

/// How many records of a resource are read at a time: usually the newest two or three decide.
const RECENT_PAGE: i32 = 8;

/// The ledger in one DynamoDB table; [`schema`] describes its layout.
#[derive(Clone, Debug)]
pub struct DynamoLedger {
    client: Client,
    table: String,
    /// No other process has the same number, so that a write can be recognised as our own.
    writer: u64,
    writes: Arc<AtomicU64>,
}

impl DynamoLedger {
    /// Creates the ledger; nothing is called yet.
    #[must_use]
    pub fn new(client: Client, table: impl Into<String>) -> Self {
        // The operating system provides the seed.
        let writer = RandomState::new().hash_one(0);
        Self { client, table: table.into(), writer, writes: Arc::default() }
    }

    /// Puts `record` on a condition, which is all our locking.
    async fn put(
        &self,
        record: Record,
        condition: impl FnOnce(PutItemFluentBuilder) -> PutItemFluentBuilder,
    ) -> Result<Write, LedgerError> {
        let item = codec::encode(&record).map_err(unwritable)?;
        Ok(match self.put_item(item, condition).await? {
            Put::Done => Write::Done(Box::new(record)),
            Put::Conflict(standing) => {
                let standing = standing.and_then(|item| codec::decode(&item).ok());
                Write::Conflict(standing.map(Box::new))
            }
        })
    }

    /// Puts an item on a condition.
    async fn put_item(
        &self,
        mut item: Item,
        condition: impl FnOnce(PutItemFluentBuilder) -> PutItemFluentBuilder,
    ) -> Result<Put, LedgerError> {
        let number = self.writes.fetch_add(1, Ordering::Relaxed);
        let write = AttributeValue::S(format!("{:016x}-{number}", self.writer));
        item.insert(schema::WRITE.to_owned(), write.clone());
        let call = self
            .client
            .put_item()
            .table_name(&self.table)
            .set_item(Some(item))
            .return_values_on_condition_check_failure(ReturnValuesOnConditionCheckFailure::AllOld);
        let Err(error) = condition(call).send().await else { return Ok(Put::Done) };
        let Some(PutItemError::ConditionalCheckFailedException(conflict)) =
            error.as_service_error()
        else {
            return Err(failed(PUT_ITEM, &error));
        };
        // After a lost response the SDK repeats the call, and then this very write stands in its
        // way: if it were taken for another run's, the slot would wait for an intent that nobody
        // works on.
        if conflict.item().and_then(|item| item.get(schema::WRITE)) == Some(&write) {
            return Ok(Put::Done);
        }
        Ok(Put::Conflict(conflict.item().cloned()))
    }

    /// The records of a query, up to and including the first item for which `last` holds. Each item
    /// is decoded at once, because a raw page is many times as large.
    async fn records(
        &self,
        query: QueryFluentBuilder,
        last: impl Fn(&Item) -> bool,
    ) -> Result<Records, LedgerError> {
        let mut records = Records::default();
        let mut policies = PolicyTexts::default();
        items(query, |item| {
            match codec::decode(&item) {
                Ok(record) => records.records.push(record.sharing(&mut policies)),
                Err(unreadable) => records.unreadable.push(unreadable),
            }
            !last(&item)
        })
        .await?;
        Ok(records)
    }

    fn query(&self, key: &'static str, value: &str) -> QueryFluentBuilder {
        self.client
            .query()
            .table_name(&self.table)
            .key_condition_expression("#key = :key")
            .expression_attribute_names("#key", key)
            .expression_attribute_values(":key", AttributeValue::S(value.to_owned()))
    }
}

/// The result of a conditional put.
enum Put {
    /// The item was written.
    Done,
    /// Another item stands there.
    Conflict(Option<Item>),
}

/// Adds the condition that no item stands there.
fn if_free(put: PutItemFluentBuilder) -> PutItemFluentBuilder {
    put.condition_expression("attribute_not_exists(#resource)")
        .expression_attribute_names("#resource", schema::RESOURCE)
}

/// Adds the condition that this version still stands; an item of a newer format stays as it is.
fn if_still(put: PutItemFluentBuilder, version: u64) -> PutItemFluentBuilder {
    put.condition_expression("#version = :version AND #format <= :format")
        .expression_attribute_names("#version", schema::VERSION)
        .expression_attribute_values(":version", number(version))
        .expression_attribute_names("#format", schema::FORMAT)
        .expression_attribute_values(":format", number(u64::from(FORMAT)))
}

/// Adds the condition that the version that was read still stands; 0 means that there was no item.
fn if_version(version: u64) -> impl FnOnce(PutItemFluentBuilder) -> PutItemFluentBuilder {
    move |put| if version == 0 { if_free(put) } else { if_still(put, version) }
}

fn number(number: u64) -> AttributeValue {
    AttributeValue::N(number.to_string())
}

/// Converts the failure of a call.
fn failed<E>(operation: &'static str, error: &SdkError<E, HttpResponse>) -> LedgerError
where
    E: ProvideErrorMetadata + Error + 'static,
{
    let failure = Failure::of(error);
    LedgerError { operation, code: failure.word(), message: failure.message }
}

/// The error for a value that cannot be put into an item.
fn unwritable(why: String) -> LedgerError {
    LedgerError { operation: PUT_ITEM, code: "Unwritable".to_owned(), message: why }
}

/// Passes each item of a query to `each`, page by page, until there are no more or it returns
/// `false`.
async fn items(
    query: QueryFluentBuilder,
    mut each: impl FnMut(Item) -> bool,
) -> Result<(), LedgerError> {
    const OPERATION: &str = "Query";
    let error = |code: String, message: String| LedgerError { operation: OPERATION, code, message };
    let mut used = BTreeSet::new();
    let mut from = None;
    for _ in 0..PAGES_MAX {
        let answer = query.clone().set_exclusive_start_key(from).send().await;
        let answer = answer.map_err(|error| failed(OPERATION, &error))?;
        for item in answer.items.unwrap_or_default() {
            if !each(item) {
                return Ok(());
            }
        }
        // An empty page is not necessarily the last.
        let Some(next) = answer.last_evaluated_key.filter(|key| !key.is_empty()) else {
            return Ok(());
        };
        // A circle would show some items twice, and others perhaps never.
        if !used.insert(codec::key_text(&next)) {
            return Err(error("RepeatedKey".to_owned(), codec::key_text(&next)));
        }
        from = Some(next);
    }
    Err(error("TooManyPages".to_owned(), format!("no end after {PAGES_MAX} pages")))
}

/// Decodes every item of a query; returns the values, and the items that cannot be read.
async fn all<T>(
    query: QueryFluentBuilder,
    decode: impl Fn(Item) -> Result<T, Unreadable>,
) -> Result<(Vec<T>, Vec<Unreadable>), LedgerError> {
    let (mut found, mut unreadable) = (Vec::new(), Vec::new());
    items(query, |item| {
        match decode(item) {
            Ok(one) => found.push(one),
            Err(why) => unreadable.push(why),
        }
        true
    })
    .await?;
    Ok((found, unreadable))
}

impl Ledger for DynamoLedger {
    async fn claim(&self, record: &Record) -> Result<Write, LedgerError> {
        let record = record.at_version(1);
        self.put(record, if_free).await
    }

    async fn advance(&self, record: &Record) -> Result<Write, LedgerError> {
        let before = record.version;
        let record = record.at_version(before.saturating_add(1));
        self.put(record, |put| if_still(put, before)).await
    }

    async fn open(&self, place: &Place) -> Result<Records, LedgerError> {
        let query = self
            .query(schema::PLACE, place)
            .index_name(schema::INDEX)
            .key_condition_expression("#key = :key AND begins_with(#live, :open)")
            .expression_attribute_names("#live", schema::LIVE)
            .expression_attribute_values(":open", AttributeValue::S(schema::OPEN.to_owned()));
        self.records(query, |_| false).await
    }

    async fn live(&self, place: &Place) -> Result<Records, LedgerError> {
        let query = self.query(schema::PLACE, place).index_name(schema::INDEX);
        self.records(query, |_| false).await
    }

    async fn recent(&self, resource: &ResourceId, from: Slot) -> Result<Records, LedgerError> {
        let query = self
            .query(schema::RESOURCE, &resource.0)
            // An invocation must see what the previous one wrote.
            .consistent_read(true)
            .scan_index_forward(false)
            .limit(RECENT_PAGE);
        // `<slot>#<attempt>` sorts after `<slot>`, so in descending order the slot's own item comes
        // last.
        let before = |item: &Item| codec::slot_itself(item).is_some_and(|slot| slot < from);
        self.records(query, before).await
    }
}
