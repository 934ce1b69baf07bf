//! Stores conditions as items of the ledger's table, in a partition of their own.

use snapkeep_app::ports::{ConditionStore, LedgerError, Unreadable};
use snapkeep_domain::notice::Condition;

use super::{DynamoLedger, Put, all, codec, if_version, schema, unwritable};

impl ConditionStore for DynamoLedger {
    async fn known(&self) -> Result<(Vec<Condition>, Vec<Unreadable>), LedgerError> {
        let query = self.query(schema::RESOURCE, schema::CONDITIONS).consistent_read(true);
        all(query, |item| codec::decode_condition(&item)).await
    }

    async fn put(&self, condition: &Condition) -> Result<Option<Condition>, LedgerError> {
        let raised =
            Condition { version: condition.version.saturating_add(1), ..condition.clone() };
        let item = codec::encode_condition(&raised).map_err(unwritable)?;
        let put = self.put_item(item, if_version(condition.version)).await?;
        Ok(matches!(put, Put::Done).then_some(raised))
    }
}
