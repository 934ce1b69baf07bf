//! The table's schema, in one place: the embedded cloud makes its table from it, and a test
//! compares the template with it.

use serde_json::{Value, json};

/// Partition key: the id of the resource.
pub const RESOURCE: &str = "resource";
/// The partition of what people were told: no resource has this id.
pub const MATTERS: &str = "matters";
/// Sort key: the slot, with `#<attempt>` on what a failed attempt left behind.
pub const SLOT: &str = "slot";
/// Optimistic locking.
pub const VERSION: &str = "version";
/// The format of the item.
pub const FORMAT: &str = "format";
/// Which write the item comes from: no two writes have the same.
pub const WRITE: &str = "write";
/// The sparse index of live records, and its partition key: their state.
pub const LIVE: &str = "live";
/// The name of the index by [`LIVE`].
pub const INDEX: &str = "live";
/// When an item may vanish, in epoch seconds: the table's time-to-live attribute.
pub const EXPIRES_AT: &str = "expires_at";

/// The table as DynamoDB's CreateTable takes it. Time to live, recovery and protection are set by
/// calls of their own.
#[must_use]
pub fn create_table_request(table: &str) -> Value {
    let key = |hash: &str| {
        json!([
            {"AttributeName": hash, "KeyType": "HASH"},
            {"AttributeName": SLOT, "KeyType": "RANGE"},
        ])
    };
    json!({
        "TableName": table,
        "BillingMode": "PAY_PER_REQUEST",
        "AttributeDefinitions": [
            {"AttributeName": RESOURCE, "AttributeType": "S"},
            {"AttributeName": SLOT, "AttributeType": "S"},
            {"AttributeName": LIVE, "AttributeType": "S"},
        ],
        "KeySchema": key(RESOURCE),
        "GlobalSecondaryIndexes": [{
            "IndexName": INDEX,
            "KeySchema": key(LIVE),
            "Projection": {"ProjectionType": "ALL"},
        }],
    })
}
