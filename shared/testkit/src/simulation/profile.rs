//! What the simulated provider can do.

use snapkeep_domain::capabilities::{Capabilities, TagSupport};

/// What the provider of a history can do. Every history runs under each profile.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Profile {
    /// A name identifies a snapshot.
    #[default]
    ByName,
    /// Only an id does: names are short, and may be given twice; snapshots may show no tags; deletions
    /// take time; there is a quota.
    ById,
}

impl Profile {
    /// Both.
    pub const ALL: [Profile; 2] = [Profile::ByName, Profile::ById];

    pub(super) fn capabilities(self) -> Capabilities {
        match self {
            Profile::ByName => Capabilities::default(),
            Profile::ById => Capabilities {
                stem_chars: 34,
                unique_names: false,
                tags: TagSupport::Unproven,
                slow_deletes: true,
                tells_quota: true,
            },
        }
    }
}
