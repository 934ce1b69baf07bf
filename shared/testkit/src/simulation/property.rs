//! The promises by name: what [`super::properties`] watch.

/// What must hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Property {
    /// Only what this deployment made is deleted.
    OnlyOurs,
    /// Nothing is deleted that the last look, or the listing of its instance, showed as held.
    HoldsHold,
    /// Only what is available, or in error, is deleted.
    OnlyAvailable,
    /// By our hand a resource's available snapshots never fall below the floor.
    Floor,
    /// At most one snapshot of a (deployment, resource, slot) that is not in error, as long as the ledger loses
    /// nothing.
    OnePerSlot,
    /// One snapshot of a resource is made at a time, as long as the ledger loses nothing.
    OneAtATime,
    /// At most five attempts of a slot, 1, 2, 4 and 8 hours apart.
    Backoff,
    /// Nothing is asked for without an intent in the ledger.
    IntentFirst,
    /// Nothing is deleted without a mark in the ledger that is older than the grace.
    Grace,
    /// Nothing is deleted unless both lists of its Region were complete.
    CompleteLists,
    /// Nothing of a living resource is deleted while its newest snapshot is stale, or anything of it lies in the
    /// future.
    Freshness,
    /// A changed policy marks no more than the brake allows, but with its code.
    Brake,
    /// Nothing is deleted that the policy keeps at that moment.
    KeptByPolicy,
    /// Every change of a record is a legal edge.
    LegalEdges,
    /// A tombstone stands only for what the provider does not have.
    Tombstones,
    /// What nobody deleted through us counts as gone only after two looks, some time apart.
    TwoLooks,
    /// A lane marks no more than `SNAPKEEP_MAX_DELETES`.
    Capped,
    /// A dry run changes nothing.
    DryRun,
    /// Nobody starves: with c of n due let through in each slot, nobody waits more than ⌈n ÷ c⌉ + 1 slots.
    Fair,
    /// A run with time and capacity left leaves nothing due but what is under way, in backoff or in other hands.
    Progress,
    /// What went wrong in a run is in its report.
    Reported,
    /// People are told of what lasts, and that it is over.
    Told,
    /// Every slot that passed without a snapshot is counted once.
    MissedSlots,
    /// In a healthy world nothing is reported.
    Quiet,
    /// In a healthy world everything of ours is in the ledger.
    Tracked,
    /// In a healthy world every due slot is served.
    Served,
    /// In a healthy world what stays is what the rules say, and nothing is stuck.
    Converges,
    /// No run panics.
    NoPanic,
}

impl Property {
    /// All of them.
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

/// A promise that was broken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// Which.
    pub property: Property,
    /// How.
    pub message: String,
}
