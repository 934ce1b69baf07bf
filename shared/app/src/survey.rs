//! Reads the world as `prune` does, and changes nothing: what commands answer from.

use std::sync::{Mutex, PoisonError};

use snapkeep_domain::capabilities::Capabilities;
use snapkeep_domain::function::Function;
use snapkeep_domain::place::Place;
use snapkeep_domain::policy::settings::Settings;
use snapkeep_domain::prune::Facts;

use crate::gather::Gather;
use crate::lane::{Lane, Run};
use crate::ports::{
    Deadline, Inventory, Invocation, Ledger, Memory, ProviderError, Relay, Remember, Tick,
};
use crate::report::{Report, TickError};

/// A place, and everything that it is judged by.
#[derive(Clone, Debug)]
pub struct Surveyed {
    /// The place.
    pub place: Place,
    /// What the provider can do there.
    pub capabilities: Capabilities,
    /// What exists there, and what the ledger says of it.
    pub facts: Facts,
}

/// The world at one time.
#[derive(Clone, Debug)]
pub struct Survey {
    /// What the ledger remembers.
    pub memory: Memory,
    /// The places that could be read, by name.
    pub places: Vec<Surveyed>,
    /// What could not be read, and why.
    pub report: Report,
}

/// Reads every place that is looked after.
///
/// # Errors
/// If the ledger cannot be read, or no place answers.
pub async fn read(
    inventory: &impl Inventory,
    ledger: &(impl Ledger + Remember),
    settings: &Settings,
    invocation: &Invocation<impl Deadline>,
) -> Result<Survey, TickError> {
    let run = Run::begin(Function::Prune, inventory, ledger, settings, invocation).await?;
    let found = Mutex::new(Vec::new());
    let work = async |lane: &Lane| {
        let gather = Gather { run: &run, lane };
        let Some(mut facts) = gather.lists().await else { return };
        gather.ask(&mut facts).await;
        let capabilities = run.cx(lane).capabilities;
        let surveyed = Surveyed { place: lane.place.clone(), capabilities, facts };
        found.lock().unwrap_or_else(PoisonError::into_inner).push(surveyed);
    };
    Box::pin(run.everywhere(work)).await?;
    let memory = run.memory.clone();
    let report = run.finish(&Nobody).await?;
    let mut places = found.into_inner().unwrap_or_else(PoisonError::into_inner);
    places.sort_by(|a: &Surveyed, b| a.place.cmp(&b.place));
    Ok(Survey { memory, places, report })
}

/// A survey sends nothing: what it could not read, it reports.
struct Nobody;

impl Relay for Nobody {
    async fn go_on(&self, _: Function, _: &Tick) -> Result<bool, ProviderError> {
        Ok(false)
    }
}
