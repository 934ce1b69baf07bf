//! Stores what the ledger remembers of resources and runs as items of its table, in partitions of
//! their own.

use std::error::Error;

use aws_sdk_dynamodb::operation::update_item::UpdateItemError;
use aws_sdk_dynamodb::operation::update_item::builders::UpdateItemFluentBuilder;
use aws_sdk_dynamodb::types::AttributeValue;
use aws_smithy_runtime_api::client::orchestrator::HttpResponse;
use aws_smithy_runtime_api::client::result::SdkError;
use aws_smithy_types::error::metadata::ProvideErrorMetadata;
use futures_util::future::try_join;
use snapkeep_app::ports::{LedgerError, Memory, Note, Remember};
use snapkeep_domain::ledger::protected::Protected;
use snapkeep_domain::ledger::record::FORMAT;
use snapkeep_domain::ledger::run::LastRun;
use snapkeep_domain::resource::ResourceId;

use super::{
    DynamoLedger, Put, all, codec, failed, if_free, if_version, number, schema, unwritable,
};

const UPDATE_ITEM: &str = "UpdateItem";

/// The members of a protected resource that hold what its tags say; an absent member is removed.
const TAGS_SAY: [&str; 10] = [
    "name",
    "place",
    "standing",
    "since",
    "hold",
    "disk",
    "policy",
    "idle_since",
    schema::FORMAT,
    schema::EXPIRES_AT,
];

/// Whether a conditional write won its race; any other failure than a lost race is an error.
fn won<T, E>(
    operation: &'static str,
    answer: Result<T, SdkError<E, HttpResponse>>,
) -> Result<bool, LedgerError>
where
    E: ProvideErrorMetadata + Error + 'static,
{
    match answer {
        Ok(_) => Ok(true),
        Err(error) if error.code() == Some("ConditionalCheckFailedException") => Ok(false),
        Err(error) => Err(failed(operation, &error)),
    }
}

impl DynamoLedger {
    fn update(&self, resource: &ResourceId) -> UpdateItemFluentBuilder {
        self.client
            .update_item()
            .table_name(&self.table)
            .key(schema::RESOURCE, AttributeValue::S(schema::PROTECTED.to_owned()))
            .key(schema::SLOT, AttributeValue::S(resource.0.clone()))
    }

    /// Writes what the tags say, member by member, if the item still has this version.
    async fn change(&self, item: &Protected) -> Result<bool, LedgerError> {
        let mut members = codec::encode_protected(item).map_err(unwritable)?;
        let (mut set, mut remove) = (vec!["#version = :next".to_owned()], Vec::new());
        let mut update = self
            .update(&item.resource)
            .expression_attribute_names("#version", schema::VERSION)
            .expression_attribute_values(":version", number(item.version))
            .expression_attribute_values(":next", number(item.version.saturating_add(1)))
            .expression_attribute_names("#format", schema::FORMAT)
            .expression_attribute_values(":known", number(u64::from(FORMAT)))
            .condition_expression("#version = :version AND #format <= :known");
        for member in TAGS_SAY {
            update = update.expression_attribute_names(format!("#{member}"), member);
            match members.remove(member) {
                Some(value) => {
                    set.push(format!("#{member} = :{member}"));
                    update = update.expression_attribute_values(format!(":{member}"), value);
                }
                None => remove.push(format!("#{member}")),
            }
        }
        let mut expression = format!("SET {}", set.join(", "));
        if !remove.is_empty() {
            expression = format!("{expression} REMOVE {}", remove.join(", "));
        }
        won(UPDATE_ITEM, update.update_expression(expression).send().await)
    }
}

impl Remember for DynamoLedger {
    async fn memory(&self) -> Result<Memory, LedgerError> {
        let of_resources =
            all(self.query(schema::RESOURCE, schema::PROTECTED), codec::decode_protected);
        // The runs contain leases, which must be the latest.
        let query = self.query(schema::RESOURCE, schema::RUNS).consistent_read(true);
        let of_runs = all(query, codec::decode_run);
        let ((protected, mut unreadable), (runs, bad)) = try_join(of_resources, of_runs).await?;
        unreadable.extend(bad);
        Ok(Memory { protected, runs, unreadable })
    }

    async fn remember(&self, item: &Protected) -> Result<bool, LedgerError> {
        if item.version > 0 {
            return self.change(item).await;
        }
        let first = Protected { version: 1, ..item.clone() };
        let item = codec::encode_protected(&first).map_err(unwritable)?;
        Ok(matches!(self.put_item(item, if_free).await?, Put::Done))
    }

    async fn note(&self, resource: &ResourceId, note: Note) -> Result<(), LedgerError> {
        let exists = "attribute_exists(#resource)";
        let update =
            self.update(resource).expression_attribute_names("#resource", schema::RESOURCE);
        let slot = |update: UpdateItemFluentBuilder, slot: String| {
            update
                .expression_attribute_names("#newest", "newest")
                .expression_attribute_values(":slot", AttributeValue::S(slot))
                .update_expression("SET #newest = :slot")
        };
        let update = match note {
            Note::Answered(at) => update
                .expression_attribute_names("#answered", "answered")
                .expression_attribute_values(":at", AttributeValue::S(at.to_string()))
                .update_expression("SET #answered = :at")
                .condition_expression(exists),
            // Slots are compared as texts.
            Note::Available(newest) => slot(update, newest.to_string()).condition_expression(
                format!("{exists} AND (attribute_not_exists(#newest) OR #newest < :slot)"),
            ),
            Note::Proven(proof) => {
                let proof = codec::encode_proof(proof).map_err(unwritable)?;
                update
                    .expression_attribute_names("#proven", "proven")
                    .expression_attribute_values(":proof", proof)
                    .update_expression("SET #proven = :proof")
                    .condition_expression(exists)
            }
            Note::Newest(Some(newest)) => {
                slot(update, newest.to_string()).condition_expression(exists)
            }
            Note::Newest(None) => update
                .expression_attribute_names("#newest", "newest")
                .update_expression("REMOVE #newest")
                .condition_expression(exists),
        };
        let answer: Result<_, SdkError<UpdateItemError, HttpResponse>> = update.send().await;
        won(UPDATE_ITEM, answer).map(drop)
    }

    async fn put_run(&self, run: &LastRun) -> Result<Option<LastRun>, LedgerError> {
        let raised = LastRun { version: run.version.saturating_add(1), ..run.clone() };
        let item = codec::encode_run(&raised).map_err(unwritable)?;
        let put = self.put_item(item, if_version(run.version)).await?;
        Ok(matches!(put, Put::Done).then_some(raised))
    }
}
