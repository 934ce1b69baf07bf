//! The table's schema: the embedded cloud creates its table from it, and a test compares the
//! template with it.

use serde_json::{Value, json};

/// The partition key: the id of the resource.
pub const RESOURCE: &str = "resource";
/// The partition of the conditions; no resource has this id.
pub const CONDITIONS: &str = "conditions";
/// The partition of what is remembered of resources; its sort key is the resource's id.
pub const PROTECTED: &str = "protected";
/// The partition of each function's last run in each place; its sort key is `<function>#<place>`.
pub const RUNS: &str = "runs";
/// The sort key: the slot, with `#<attempt>` for the residue of a failed attempt.
pub const SLOT: &str = "slot";
/// The version, for optimistic locking.
pub const VERSION: &str = "version";
/// The format of the item.
pub const FORMAT: &str = "format";
/// The write that the item comes from; no two writes have the same value.
pub const WRITE: &str = "write";
/// The partition key of the sparse index: the place of a live record.
pub const PLACE: &str = "place";
/// The sort key of the sparse index: `open#<state>` while `poll` follows the record, `kept#<state>`
/// otherwise. Only live records have it.
pub const LIVE: &str = "live";
/// The beginning of [`LIVE`] while `poll` follows the record.
pub const OPEN: &str = "open#";
/// The beginning of [`LIVE`] otherwise.
pub const KEPT: &str = "kept#";
/// The members of a record that the index contains: all that a run needs, and no history.
pub const SHOWN: [&str; 20] = [
    "adopted_untagged",
    "attempt",
    "foreign_since",
    "format",
    "has_residue",
    "identity",
    "leased_until",
    "mark",
    "missed",
    "missing_since",
    "name",
    "policy",
    "reason",
    "refused_for_good",
    "region",
    "resource_name",
    "state",
    "superseded",
    "times",
    "version",
];
/// The last changes of a record's state, which only the table itself has.
pub const HISTORY: &str = "history";
/// The attributes of a record that it can lose.
pub const OPTIONAL: [&str; 11] = [
    "adopted_untagged",
    EXPIRES_AT,
    "foreign_since",
    "identity",
    "leased_until",
    LIVE,
    "mark",
    "missed",
    "missing_since",
    PLACE,
    "refused_for_good",
];
/// The name of the index by [`PLACE`] and [`LIVE`].
pub const INDEX: &str = "live";
/// When an item may vanish, in epoch seconds: the table's time-to-live attribute.
pub const EXPIRES_AT: &str = "expires_at";

/// The request of DynamoDB's CreateTable for the table. Time to live, recovery and protection are
/// set by separate calls.
#[must_use]
pub fn create_table_request(table: &str) -> Value {
    let key = |hash: &str, range: &str| {
        json!([
            {"AttributeName": hash, "KeyType": "HASH"},
            {"AttributeName": range, "KeyType": "RANGE"},
        ])
    };
    json!({
        "TableName": table,
        "BillingMode": "PAY_PER_REQUEST",
        "AttributeDefinitions": [
            {"AttributeName": RESOURCE, "AttributeType": "S"},
            {"AttributeName": SLOT, "AttributeType": "S"},
            {"AttributeName": PLACE, "AttributeType": "S"},
            {"AttributeName": LIVE, "AttributeType": "S"},
        ],
        "KeySchema": key(RESOURCE, SLOT),
        "GlobalSecondaryIndexes": [{
            "IndexName": INDEX,
            "KeySchema": key(PLACE, LIVE),
            "Projection": {"ProjectionType": "INCLUDE", "NonKeyAttributes": SHOWN},
        }],
    })
}
