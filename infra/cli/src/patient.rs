//! Bounds how long anybody waits for a provider that cannot be reached: a place that twice in a row
//! gives no answer is not asked again. An answer that refuses or throttles is one.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use snapkeep_app::ports::{ErrorKind, Inventory, Page, ProviderError, Quota};
use snapkeep_domain::capabilities::Capabilities;
use snapkeep_domain::place::Place;
use snapkeep_domain::resource::ResourceId;
use snapkeep_domain::snapshot::{Instance, Snapshot, SnapshotRef};

/// How often in a row a place may give no answer.
const SILENT_MAX: u32 = 2;
/// For how long no place at all may give an answer.
const SILENCE_MAX: Duration = Duration::from_secs(40);

/// An inventory that gives up.
pub(crate) struct Patient<I> {
    inventory: I,
    silent: Mutex<Silence>,
}

struct Silence {
    /// How often in a row each place gave no answer.
    places: BTreeMap<Place, u32>,
    /// How often in a row no place gave an answer, and since when.
    unanswered: u32,
    answered: Instant,
}

impl<I: Inventory> Patient<I> {
    pub(crate) fn new(inventory: I) -> Self {
        let (places, answered) = (BTreeMap::new(), Instant::now());
        let silence = Silence { places, unanswered: 0, answered };
        Patient { inventory, silent: Mutex::new(silence) }
    }

    async fn ask<T>(
        &self,
        place: &Place,
        operation: &'static str,
        call: impl Future<Output = Result<T, ProviderError>>,
    ) -> Result<T, ProviderError> {
        let lock = || self.silent.lock().unwrap_or_else(PoisonError::into_inner);
        let gives_up = {
            let silence = lock();
            let times = silence.places.get(place).copied().unwrap_or_default();
            let nobody = silence.unanswered > 0 && silence.answered.elapsed() > SILENCE_MAX;
            times >= SILENT_MAX || nobody
        };
        if gives_up {
            let message = format!("{place} gave no answer, and is not asked again");
            let (kind, code) = (ErrorKind::Denied, "NoAnswer".to_owned());
            return Err(ProviderError { kind, operation, code, message });
        }
        let answer = call.await;
        let mut silence = lock();
        match &answer {
            Err(error) if error.code == "NoAnswer" => {
                *silence.places.entry(place.clone()).or_default() += 1;
                silence.unanswered += 1;
            }
            _ => {
                silence.places.remove(place);
                silence.unanswered = 0;
                silence.answered = Instant::now();
            }
        }
        answer
    }
}

impl<I: Inventory> Inventory for Patient<I> {
    async fn regions(&self, provider: Option<&str>) -> Result<Vec<Place>, ProviderError> {
        self.inventory.regions(provider).await
    }

    fn places(&self, regions: Vec<Place>) -> Vec<Place> {
        self.inventory.places(regions)
    }

    fn capabilities(&self, place: &Place) -> Capabilities {
        self.inventory.capabilities(place)
    }

    async fn instances(
        &self,
        place: &Place,
        token: Option<String>,
    ) -> Result<Page<Instance>, ProviderError> {
        self.ask(place, "GetInstances", self.inventory.instances(place, token)).await
    }

    async fn instance(
        &self,
        place: &Place,
        id: &ResourceId,
        name: &str,
    ) -> Result<Option<Instance>, ProviderError> {
        self.ask(place, "GetInstance", self.inventory.instance(place, id, name)).await
    }

    async fn snapshots(
        &self,
        place: &Place,
        token: Option<String>,
    ) -> Result<Page<Snapshot>, ProviderError> {
        self.ask(place, "GetInstanceSnapshots", self.inventory.snapshots(place, token)).await
    }

    async fn look_up(&self, of: &SnapshotRef) -> Result<Vec<Snapshot>, ProviderError> {
        self.ask(&of.place, "GetInstanceSnapshot", self.inventory.look_up(of)).await
    }

    async fn quota(&self, place: &Place) -> Result<Option<Quota>, ProviderError> {
        self.inventory.quota(place).await
    }
}
