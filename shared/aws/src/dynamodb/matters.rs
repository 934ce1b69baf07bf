//! What people were told, as items of the ledger's table in a partition of their own.

use snapkeep_app::ports::{LedgerError, Matters, Unreadable};
use snapkeep_domain::notice::Matter;

use super::{DynamoLedger, Put, all, codec, if_version, schema, unwritable};

impl Matters for DynamoLedger {
    async fn known(&self) -> Result<(Vec<Matter>, Vec<Unreadable>), LedgerError> {
        let query = self.query(schema::RESOURCE, schema::MATTERS).consistent_read(true);
        all(query, |item| codec::decode_matter(&item)).await
    }

    async fn put(&self, matter: &Matter) -> Result<Option<Matter>, LedgerError> {
        let raised = Matter { version: matter.version.saturating_add(1), ..matter.clone() };
        let item = codec::encode_matter(&raised).map_err(unwritable)?;
        let put = self.put_item(item, if_version(matter.version)).await?;
        Ok(matches!(put, Put::Done).then_some(raised))
    }
}
