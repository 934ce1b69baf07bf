//! The places that a run works in: those that the ledger knows, and those that the configuration or
//! the providers name.

use std::collections::BTreeSet;
use std::pin::pin;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures_util::future::{join, join_all, select};
use snapkeep_domain::finding::{Code, Finding};
use snapkeep_domain::function::Function;
use snapkeep_domain::place::Place;
use snapkeep_domain::policy::settings::{Provider, Regions};

use super::{Lane, Run, lock};
use crate::ports::{Deadline, Inventory, ProviderError, Remember, Tick};
use crate::report::{Failure, TickError};

/// How often one run asks for the Regions at most.
const REGIONS_TRIES: u32 = 3;

impl<I: Inventory, L: Remember, D: Deadline> Run<'_, I, L, D> {
    /// The places in which the ledger knows an active resource.
    pub(crate) fn known(&self) -> BTreeSet<Place> {
        let active = self.memory.protected.iter().filter(|item| item.idle_since.is_none());
        active.map(|item| item.place.clone()).collect()
    }

    /// Whether the configuration includes the place.
    fn is_configured(&self, place: &Place) -> bool {
        let region = place.at_home();
        let named = match self.settings.provider_of(place).map(|provider| &provider.regions) {
            None => false,
            Some(Regions::All) => true,
            Some(Regions::Only(names)) => names.contains(&region),
        };
        named && self.inventory.places(vec![region]).contains(place)
    }

    /// Works in every place that is looked after, all at once: places that the ledger knows do not
    /// wait for the list of Regions. Returns when the time is over, whatever is still under way.
    pub(crate) async fn everywhere(&self, work: impl AsyncFn(&Lane)) -> Result<(), TickError> {
        let (known, left_out): (Vec<Place>, Vec<Place>) =
            self.known().into_iter().partition(|place| self.is_configured(place));
        if self.function == Function::Prune && self.tick.is_none() {
            left_out.iter().for_each(|place| self.is_left_out(place));
        }
        let known: BTreeSet<Place> = known.into_iter().collect();
        let wanted = |place: &Place| self.tick.is_none_or(|tick| tick.place == *place);
        let in_all = async |places: Vec<Place>| {
            let lanes: Vec<Arc<Lane>> = places.iter().map(|place| self.lane(place)).collect();
            join_all(lanes.iter().map(async |lane| {
                work(lane).await;
                lane.ended.store(true, Ordering::Relaxed);
            }))
            .await;
        };
        let here: Vec<Place> = known.iter().filter(|place| wanted(place)).cloned().collect();
        let is_known = self.tick.is_some() && !here.is_empty();
        let failed = Mutex::new(Vec::new());
        // A provider that does not name its Regions costs the others nothing.
        let others = self.settings.providers.iter().map(async |provider| {
            match self.named(provider, &known).await {
                Ok(places) => {
                    let others = places.into_iter().filter(|place| !known.contains(place));
                    in_all(others.filter(wanted).collect()).await;
                }
                Err(error) => lock(&failed).push(error),
            }
        });
        let all = join(in_all(here), async {
            if is_known {
                return;
            }
            join_all(others).await;
            // A provider that did not answer may well have the place.
            let nowhere = lock(&self.lanes).is_empty() && lock(&failed).is_empty();
            if let (Some(tick), true) = (self.tick, nowhere) {
                self.knows_not(tick);
            }
        });
        self.within(self.deadline.end(), all).await;
        let mut failed = std::mem::take(&mut *lock(&failed));
        let none_served = known.is_empty() && failed.len() == self.settings.providers.len();
        match failed.pop() {
            Some(error) if none_served => Err(error.into()),
            last => {
                let failures = failed.iter().chain(&last).map(Failure::from);
                lock(&self.report).failures.extend(failures);
                Ok(())
            }
        }
    }

    /// Works in every place that the ledger knows, all at once, whatever the configuration says.
    ///
    /// # Errors
    /// The ledger's error, if it answers for no place.
    pub(crate) async fn where_known(
        &self,
        work: impl AsyncFn(&Lane) -> Result<(), TickError>,
    ) -> Result<(), TickError> {
        let wanted = |place: &Place| self.tick.is_none_or(|tick| tick.place == *place);
        let places: Vec<Place> = self.known().into_iter().filter(wanted).collect();
        if let (Some(tick), true) = (self.tick, places.is_empty()) {
            self.knows_not(tick);
        }
        let lanes: Vec<Arc<Lane>> = places.iter().map(|place| self.lane(place)).collect();
        let results = Mutex::new(Vec::new());
        let all = join_all(lanes.iter().map(|lane| async {
            let result = work(lane).await;
            lane.ended.store(true, Ordering::Relaxed);
            if let Err(error) = &result {
                lane.fail(error.into());
            }
            lock(&results).push(result);
        }));
        self.within(self.deadline.end(), all).await;
        let mut results = std::mem::take(&mut *lock(&results));
        let all_failed =
            !lanes.is_empty() && results.len() == lanes.len() && results.iter().all(Result::is_err);
        if all_failed { results.swap_remove(0) } else { Ok(()) }
    }

    /// Reports a Tick event for a place that is not looked after.
    fn knows_not(&self, tick: &Tick) {
        let place = &tick.place;
        let message = format!("a Tick event names the place `{place}`, which is not looked after");
        let fix = "do nothing unless it happens again; then find out who sends the event";
        let finding = Finding::new(Code::BadTick, message).named(place).fix(fix);
        lock(&self.report).findings.push(finding);
    }

    /// The places of a provider that the configuration or the provider itself names.
    async fn named(
        &self,
        provider: &Provider,
        known: &BTreeSet<Place>,
    ) -> Result<Vec<Place>, ProviderError> {
        if let Regions::Only(names) = &provider.regions {
            return Ok(self.inventory.places(names.clone()));
        }
        let mut tries = 0;
        let mut names = loop {
            tries += 1;
            match self.inventory.regions(provider.name).await {
                Ok(names) => break names,
                Err(error) if tries >= REGIONS_TRIES || !error.kind.transient() => {
                    return Err(error);
                }
                Err(_) => self.deadline.sleep(Duration::from_millis(500)).await,
            }
        };
        names.sort();
        names.dedup();
        let places = self.inventory.places(names);
        let of_it = known.iter().filter(|place| place.provider() == provider.name);
        for place in of_it.filter(|place| !places.contains(place)) {
            let message = format!(
                "the provider no longer names {place}, where there are snapshots of ours; it is looked after \
                 all the same"
            );
            let fix =
                "check whether the Region is enabled for the account, or is about to be closed";
            let finding = Finding::new(Code::RegionUnnamed, message).named(place).fix(fix);
            lock(&self.report).findings.push(finding);
        }
        Ok(places)
    }

    fn is_left_out(&self, place: &Place) {
        let count = self.protected(place).filter(|item| item.idle_since.is_none()).count();
        let region = place.region();
        let resources = if count == 1 { "resource" } else { "resources" };
        let message = format!(
            "the configuration leaves out {place}, where the ledger knows {count} {resources}: nothing is \
             taken or pruned there"
        );
        let fix = match (self.settings.provider_of(place), place.account()) {
            (None, _) => {
                let provider = place.provider().unwrap_or("its provider");
                format!("add {provider} to SNAPKEEP_PROVIDERS")
            }
            (Some(provider), None) => format!("add {region} to {}", provider.regions_variable),
            (Some(provider), Some(account)) => format!(
                "add {region} to {}, and the role of account {account} to SNAPKEEP_ROLE_ARNS",
                provider.regions_variable
            ),
        };
        let finding = Finding::new(Code::PlaceLeftOut, message).named(place);
        lock(&self.report).findings.push(finding.value(count.to_string()).fix(fix));
    }

    /// Waits for `work`, at most until the time `until`.
    pub(crate) async fn within(&self, until: Duration, work: impl Future<Output = impl Sized>) {
        let left = until.saturating_sub(self.deadline.elapsed());
        select(pin!(work), pin!(self.deadline.sleep(left))).await;
    }
}
