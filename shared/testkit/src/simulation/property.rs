//! The promises by name; [`super::properties`] watches them.

/// A promise that must hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Property {
    /// Only snapshots that this deployment made are deleted.
    OnlyOurs,
    /// No snapshot is deleted that the last look, or the listing of its instance, showed as held.
    HoldsHold,
    /// Only snapshots that are available, or in error, are deleted.
    OnlyAvailable,
    /// Our deletions never leave fewer available snapshots of a resource than the floor.
    Floor,
    /// At most one snapshot of a (deployment, resource, slot) is not in error, as long as the
    /// ledger loses nothing.
    OnePerSlot,
    /// Only one snapshot of a resource is made at a time, as long as the ledger loses nothing.
    OneAtATime,
    /// A slot has at most five attempts, 1, 2, 4 and 8 hours apart.
    Backoff,
    /// No snapshot is requested without an intent in the ledger.
    IntentFirst,
    /// Nothing is deleted without a mark in the ledger that is older than the grace.
    Grace,
    /// Nothing is deleted unless both lists of its Region were complete.
    CompleteLists,
    /// Nothing of a living resource is deleted while its newest snapshot is stale, or anything of
    /// it lies in the future.
    Freshness,
    /// A changed policy marks no more than the brake allows, unless its code was given.
    Brake,
    /// No snapshot is deleted that the policy keeps at that moment.
    KeptByPolicy,
    /// Every change of a record is a legal edge.
    LegalEdges,
    /// A tombstone stands only for a snapshot that the provider does not have.
    Tombstones,
    /// A snapshot that we did not delete counts as gone only after two looks, some time apart.
    TwoLooks,
    /// A lane marks no more than `SNAPKEEP_MAX_DELETES`.
    Capped,
    /// A dry run changes nothing.
    DryRun,
    /// Nobody starves: if c of n due requests are let through in each slot, nobody waits more than
    /// ⌈n ÷ c⌉ + 1 slots.
    Fair,
    /// A run with time and capacity left leaves nothing due, except what is under way, in backoff
    /// or in other hands.
    Progress,
    /// Everything that went wrong in a run is in its report.
    Reported,
    /// People are notified of a condition when it begins and when it is resolved.
    Told,
    /// Every slot that passed without a snapshot is counted once.
    MissedSlots,
    /// In a healthy world, nothing is reported.
    Quiet,
    /// In a healthy world, every snapshot of ours is in the ledger.
    Tracked,
    /// In a healthy world, every due slot is served.
    Served,
    /// In a healthy world, the snapshots that stay are those that the rules keep, and nothing is
    /// stuck.
    Converges,
    /// No run panics.
    NoPanic,
}

impl Property {
    /// All promises.
    pub const ALL: &[Property] = &[
        Property::OnlyOurs,
        Property::HoldsHold,
        Property::OnlyAvailable,
        Property::Floor,
        Property::OnePerSlot,
        Property::OneAtATime,
        Property::Backoff,
        Property::IntentFirst,
        Property::Grace,
        Property::CompleteLists,
        Property::Freshness,
        Property::Brake,
        Property::KeptByPolicy,
        Property::LegalEdges,
        Property::Tombstones,
        Property::TwoLooks,
        Property::Capped,
        Property::DryRun,
        Property::Fair,
        Property::Progress,
        Property::Reported,
        Property::Told,
        Property::MissedSlots,
        Property::Quiet,
        Property::Tracked,
        Property::Served,
        Property::Converges,
        Property::NoPanic,
    ];
}

/// A broken promise.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// The promise.
    pub property: Property,
    /// How it was broken.
    pub message: String,
}
