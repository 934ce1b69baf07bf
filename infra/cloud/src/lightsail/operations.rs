//! Operations: what the service answers to a change, and can be asked about later.

use jiff::Timestamp;
use serde_json::{Value, json};

use super::paging::{Paging, list, page};
use super::shapes::epoch;
use super::{ApiError, Call, Lightsail};

#[derive(Clone, Debug)]
pub(super) struct Operation {
    id: String,
    resource: String,
    resource_type: &'static str,
    created_at: Timestamp,
    zone: String,
    region: String,
    details: String,
    kind: &'static str,
    /// When it is done; at once for most.
    done_at: Timestamp,
    failed: bool,
}

/// What an operation is about.
pub(super) struct About<'a> {
    pub(super) kind: &'static str,
    pub(super) resource: &'a str,
    pub(super) resource_type: &'static str,
    pub(super) zone: &'a str,
    pub(super) details: &'a str,
    pub(super) done_at: Timestamp,
    pub(super) failed: bool,
}

impl Lightsail {
    pub(super) fn operation(&mut self, call: &Call<'_>, about: &About<'_>) -> Value {
        let operation = Operation {
            id: self.uuid(),
            resource: about.resource.to_owned(),
            resource_type: about.resource_type,
            created_at: call.now,
            zone: about.zone.to_owned(),
            region: call.region.to_owned(),
            details: about.details.to_owned(),
            kind: about.kind,
            done_at: about.done_at,
            failed: about.failed,
        };
        let shown = operation.show(call.now);
        let operations = &mut self.at(call.region).operations;
        operations.push(operation);
        // The service forgets too; a cloud that runs for weeks must not grow without end.
        if operations.len() > 2000 {
            operations.drain(..1000);
        }
        shown
    }

    pub(super) fn get_operation(&mut self, call: &Call<'_>) -> Result<Value, ApiError> {
        let id = call.required("operationId")?;
        let found = self.at(call.region).operations.iter().find(|operation| operation.id == id);
        let found = found.ok_or_else(|| ApiError::missing("Operation", id))?;
        Ok(json!({ "operation": found.show(call.now) }))
    }

    pub(super) fn get_operations_for_resource(
        &mut self,
        call: &Call<'_>,
    ) -> Result<Value, ApiError> {
        let name = call.required("resourceName")?.to_owned();
        self.get_operations(call, Some(&name))
    }

    pub(super) fn get_operations(
        &mut self,
        call: &Call<'_>,
        resource: Option<&str>,
    ) -> Result<Value, ApiError> {
        let paging = Paging::new(&self.knobs).of_size(200);
        let operations = &self.at(call.region).operations;
        let of = |o: &&Operation| resource.is_none_or(|name| o.resource == name);
        let items = operations.iter().filter(of);
        let items = items.map(|o| (o.created_at, o.id.as_str(), o.show(call.now))).collect();
        let (items, token) = page(items, call, &paging)?;
        Ok(list("operations", items, token))
    }
}

impl Operation {
    fn show(&self, now: Timestamp) -> Value {
        let done = now >= self.done_at;
        let status = match (done, self.failed) {
            (false, _) => "Started",
            (true, true) => "Failed",
            (true, false) => "Succeeded",
        };
        let changed = if done { self.done_at } else { self.created_at };
        json!({
            "id": self.id,
            "resourceName": self.resource,
            "resourceType": self.resource_type,
            "createdAt": epoch(self.created_at),
            "location": {"availabilityZone": self.zone, "regionName": self.region},
            "isTerminal": done,
            "operationDetails": self.details,
            "operationType": self.kind,
            "status": status,
            "statusChangedAt": epoch(changed),
        })
    }
}
