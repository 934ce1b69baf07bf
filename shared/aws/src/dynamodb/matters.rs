//! What people were told, as items of the ledger's table in a partition of their own.

use aws_sdk_dynamodb::types::AttributeValue;
use serde_dynamo::aws_sdk_dynamodb_1::to_item;
use snapkeep_app::ports::{LedgerError, Matters, Unreadable};
use snapkeep_domain::notice::Matter;
use snapkeep_domain::record::FORMAT;

use super::{DynamoLedger, Item, codec, items, schema};
use crate::sdk::Failure;

impl Matters for DynamoLedger {
    async fn known(&self) -> Result<(Vec<Matter>, Vec<Unreadable>), LedgerError> {
        let query = self.query(schema::RESOURCE, schema::MATTERS).consistent_read(true);
        let (mut known, mut unreadable) = (Vec::new(), Vec::new());
        for item in items(query, |_| false).await? {
            match codec::decode_matter(&item) {
                Ok(matter) => known.push(matter),
                Err(why) => unreadable.push(why),
            }
        }
        Ok((known, unreadable))
    }

    async fn put(&self, matter: &Matter) -> Result<Option<Matter>, LedgerError> {
        const OPERATION: &str = "PutItem";
        let raised = Matter { version: matter.version.saturating_add(1), ..matter.clone() };
        let item = encode(&raised).map_err(|message| LedgerError {
            operation: OPERATION,
            code: "Unwritable".to_owned(),
            message,
        })?;
        let put = self.client.put_item().table_name(&self.table).set_item(Some(item));
        let put = if matter.version == 0 {
            put.condition_expression("attribute_not_exists(#resource)")
                .expression_attribute_names("#resource", schema::RESOURCE)
        } else {
            put.condition_expression("#version = :version AND #format <= :format")
                .expression_attribute_names("#version", schema::VERSION)
                .expression_attribute_values(":version", number(matter.version))
                .expression_attribute_names("#format", schema::FORMAT)
                .expression_attribute_values(":format", number(u64::from(FORMAT)))
        };
        match put.send().await {
            Ok(_) => Ok(Some(raised)),
            // Perhaps it is our own write, whose answer was lost: then its lease ends, and a later run
            // tells people.
            Err(error)
                if error
                    .as_service_error()
                    .is_some_and(|error| error.is_conditional_check_failed_exception()) =>
            {
                Ok(None)
            }
            Err(error) => {
                let failure = Failure::of(&error);
                let (code, message) = (failure.word(), failure.message);
                Err(LedgerError { operation: OPERATION, code, message })
            }
        }
    }
}

fn number(number: u64) -> AttributeValue {
    AttributeValue::N(number.to_string())
}

fn encode(matter: &Matter) -> Result<Item, String> {
    let mut item: Item = to_item(matter).map_err(|error| error.to_string())?;
    let text = |text: String| AttributeValue::S(text);
    item.insert(schema::RESOURCE.to_owned(), text(schema::MATTERS.to_owned()));
    item.insert(schema::SLOT.to_owned(), text(Matter::key(&matter.finding)));
    // What is over, and was told, need not be remembered.
    if let Some(over) = matter.over.filter(|_| matter.told) {
        let seconds = AttributeValue::N(over.as_second().to_string());
        item.insert(schema::EXPIRES_AT.to_owned(), seconds);
    }
    Ok(item)
}
