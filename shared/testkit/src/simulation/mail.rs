//! Notifies people in the simulated world, and stores the conditions that they are notified of.

use snapkeep_app::ports::{
    ConditionStore, ErrorKind, LedgerError, Notifier, ProviderError, Unreadable,
};
use snapkeep_domain::notice::{Condition, Notice};

use super::ports::{Fault, Ports, refusal};
use super::sabotage::Sabotage;

impl Notifier for Ports {
    fn listens(&self) -> bool {
        true
    }

    async fn events(&self, notices: &[Notice]) -> Result<(), ProviderError> {
        if notices.is_empty() {
            return Ok(());
        }
        let fault = self.turn("events", "").await;
        if let Some(Fault::Before(kind)) = fault {
            return Err(refusal("events", kind));
        }
        if !self.sabotaged(Sabotage::TellsNobody) {
            self.world.heard(self.of, notices);
        }
        match fault {
            Some(_) => Err(refusal("events", ErrorKind::Indeterminate)),
            None => Ok(()),
        }
    }

    async fn mail(&self, notice: &Notice) -> Result<bool, ProviderError> {
        match self.turn("mail", &notice.title()).await {
            Some(Fault::Before(kind)) => Err(refusal("mail", kind)),
            fault => {
                if !self.sabotaged(Sabotage::TellsNobody) {
                    self.world.heard(self.of, std::slice::from_ref(notice));
                }
                match fault {
                    Some(_) => Err(refusal("mail", ErrorKind::Indeterminate)),
                    None => Ok(true),
                }
            }
        }
    }
}

impl ConditionStore for Ports {
    async fn known(&self) -> Result<(Vec<Condition>, Vec<Unreadable>), LedgerError> {
        self.remembering("known", "", self.ledger().known()).await
    }

    async fn put(&self, condition: &Condition) -> Result<Option<Condition>, LedgerError> {
        let key = Condition::key(&condition.finding);
        self.remembering("put", &key, self.ledger().put(condition)).await
    }
}
