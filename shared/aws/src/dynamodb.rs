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
use aws_sdk_dynamodb::operation::update_item::UpdateItemError;
use aws_sdk_dynamodb::types::{AttributeValue, ReturnValue, ReturnValuesOnConditionCheckFailure};
use aws_smithy_runtime_api::client::orchestrator::HttpResponse;
use aws_smithy_runtime_api::client::result::SdkError;
use aws_smithy_types::error::metadata::ProvideErrorMetadata;
use snapkeep_app::ports::{Ledger, LedgerError, Records, Unreadable, Write};
use snapkeep_domain::function::Function;
use snapkeep_domain::ledger::record::{FORMAT, HISTORY_MAX, Record};
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
    /// The function that writes, for the histories of the records.
    function: Option<Function>,
}

impl DynamoLedger {
    /// Creates the ledger; nothing is called yet.
    #[must_use]
    pub fn new(client: Client, table: impl Into<String>) -> Self {
        // The operating system provides the seed.
        let writer = RandomState::new().hash_one(0);
        Self { client, table: table.into(), writer, writes: Arc::default(), function: None }
    }

    /// The same ledger, written by this function.
    #[must_use]
    pub fn of(self, function: Function) -> Self {
        Self { function: Some(function), ..self }
    }

    /// The change of state that a write adds to the record's history, as a list.
    fn new_history(&self, record: &Record) -> Result<Option<AttributeValue>, LedgerError> {
        let record = match self.function {
            Some(function) => record.clone().by(function),
            None => record.clone(),
        };
        record.history.next.as_deref().map(codec::changes).transpose().map_err(unwritable)
    }

    /// A value that no other write has.
    fn write_id(&self) -> AttributeValue {
        let number = self.writes.fetch_add(1, Ordering::Relaxed);
        AttributeValue::S(format!("{:016x}-{number}", self.writer))
    }

    /// Replaces all of a record but its history, to which the change of its state is added. The
    /// history is not read before, so that a writer need not know it.
    async fn replace(&self, record: &Record) -> Result<Write, LedgerError> {
        const OPERATION: &str = "UpdateItem";
        let next = record.at_version(record.version.saturating_add(1));
        let mut item = codec::encode(&next).map_err(unwritable)?;
        let key = [schema::RESOURCE, schema::SLOT].map(|key| (key.to_owned(), item.remove(key)));
        let write = self.write_id();
        item.insert(schema::WRITE.to_owned(), write.clone());
        let mut update = self
            .client
            .update_item()
            .table_name(&self.table)
            .set_key(Some(key.into_iter().filter_map(|(k, v)| Some((k, v?))).collect()))
            .condition_expression("#version = :standing AND #format <= :known")
            .expression_attribute_values(":standing", number(record.version))
            .expression_attribute_values(":known", number(u64::from(FORMAT)))
            .return_values(ReturnValue::UpdatedNew)
            .return_values_on_condition_check_failure(ReturnValuesOnConditionCheckFailure::AllOld);
        let mut lost = Vec::new();
        for key in schema::OPTIONAL.iter().filter(|key| !item.contains_key(**key)) {
            update = update.expression_attribute_names(format!("#{key}"), *key);
            lost.push(format!("#{key}"));
        }
        let mut set: Vec<String> = item.keys().map(|key| format!("#{key} = :{key}")).collect();
        for (key, value) in item {
            update = update
                .expression_attribute_names(format!("#{key}"), &key)
                .expression_attribute_values(format!(":{key}"), value);
        }
        if let Some(change) = self.new_history(record)? {
            set.push("#history = list_append(if_not_exists(#history, :none), :change)".to_owned());
            update = update
                .expression_attribute_names("#history", schema::HISTORY)
                .expression_attribute_values(":none", AttributeValue::L(Vec::new()))
                .expression_attribute_values(":change", change);
        }
        let remove = if lost.is_empty() { "" } else { &format!(" REMOVE {}", lost.join(", ")) };
        update = update.update_expression(format!("SET {}{remove}", set.join(", ")));
        let answer = match update.send().await {
            Ok(answer) => answer,
            Err(error) => {
                let Some(UpdateItemError::ConditionalCheckFailedException(conflict)) =
                    error.as_service_error()
                else {
                    return Err(failed(OPERATION, &error));
                };
                // After a lost response the SDK repeats the call, as in `put_item`.
                if conflict.item().and_then(|item| item.get(schema::WRITE)) == Some(&write) {
                    return Ok(Write::Done(Box::new(next)));
                }
                return Ok(stands(conflict.item()));
            }
        };
        let history = answer.attributes().and_then(|all| all.get(schema::HISTORY));
        let length = history.and_then(|list| list.as_l().ok()).map_or(0, Vec::len);
        if length > HISTORY_MAX {
            self.forget(&next, length - HISTORY_MAX).await?;
        }
        Ok(Write::Done(Box::new(next)))
    }

    /// Removes the oldest changes of a record's history. If another writer is faster, it does so.
    async fn forget(&self, record: &Record, count: usize) -> Result<(), LedgerError> {
        let oldest: Vec<String> = (0..count).map(|at| format!("#history[{at}]")).collect();
        let answer = self
            .client
            .update_item()
            .table_name(&self.table)
            .key(schema::RESOURCE, AttributeValue::S(record.resource.0.clone()))
            .key(schema::SLOT, AttributeValue::S(record.sort_key()))
            .condition_expression("#version = :version")
            .update_expression(format!("REMOVE {}", oldest.join(", ")))
            .expression_attribute_names("#history", schema::HISTORY)
            .expression_attribute_names("#version", schema::VERSION)
            .expression_attribute_values(":version", number(record.version))
            .send()
            .await;
        match answer {
            Err(error)
                if !matches!(
                    error.as_service_error(),
                    Some(UpdateItemError::ConditionalCheckFailedException(_))
                ) =>
            {
                Err(failed("UpdateItem", &error))
            }
            _ => Ok(()),
        }
    }

    /// Puts an item on a condition.
    async fn put_item(
        &self,
        mut item: Item,
        condition: impl FnOnce(PutItemFluentBuilder) -> PutItemFluentBuilder,
    ) -> Result<Put, LedgerError> {
        let write = self.write_id();
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

/// Another writer's item stands in the way of a write.
fn stands(item: Option<&Item>) -> Write {
    Write::Conflict(item.and_then(|item| codec::decode(item).ok()).map(Box::new))
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
        let new = record.at_version(1);
        let mut item = codec::encode(&new).map_err(unwritable)?;
        if let Some(change) = self.new_history(record)? {
            item.insert(schema::HISTORY.to_owned(), change);
        }
        Ok(match self.put_item(item, if_free).await? {
            Put::Done => Write::Done(Box::new(new)),
            Put::Conflict(standing) => stands(standing.as_ref()),
        })
    }

    async fn advance(&self, record: &Record) -> Result<Write, LedgerError> {
        self.replace(record).await
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
