//! The ports' meaning, held against the memory and against the real adapters on the embedded cloud.
#![expect(clippy::unwrap_used, reason = "a test may panic")]

use snapkeep_domain::snapshot::Tags;
use snapkeep_testkit::conformance::{self, World};
use snapkeep_testkit::{MemoryLedger, MemoryProvider};
use snapkeep_tests::at;

use jiff::SignedDuration;

struct InMemory(MemoryProvider);

impl World for InMemory {
    fn inventory(&self) -> &MemoryProvider {
        &self.0
    }

    fn creator(&self) -> &MemoryProvider {
        &self.0
    }

    fn deleter(&self) -> &MemoryProvider {
        &self.0
    }

    fn regions(&self) -> [&str; 2] {
        ["eu-west-1", "us-east-1"]
    }

    async fn launch(&self, region: &str, name: &str, tags: &Tags) {
        self.0.launch(region, name, tags.clone());
    }

    async fn terminate(&self, region: &str, name: &str) {
        self.0.terminate(region, name);
    }

    async fn settle(&self) {
        self.0.set_now(self.0.now() + SignedDuration::from_mins(2));
    }
}

#[tokio::test]
async fn the_provider_in_memory_conforms() {
    let provider = MemoryProvider::new(&["eu-west-1", "us-east-1"], at("2026-11-20T03:00:00Z"));
    conformance::provider(&InMemory(provider)).await;
}

#[tokio::test]
async fn the_ledger_in_memory_conforms() {
    conformance::ledger(&MemoryLedger::new()).await;
}
