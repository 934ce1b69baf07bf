//! What a provider can and cannot do in a place: data that the planners read. They know no
//! provider.

/// Whether snapshots show the tags that they were made with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TagSupport {
    /// They do: a snapshot without our tags is not ours.
    Yes,
    /// No snapshot of the place has shown any tag so far: name, origin and the ledger decide.
    Unproven,
}

/// What the provider can do in a place. The default is everything that planners can use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Capabilities {
    /// How many characters of the instance's name fit into a snapshot's name.
    pub stem_chars: usize,
    /// Whether a name identifies a snapshot. Then a request can be repeated under the same name.
    /// Otherwise only the provider's id identifies a snapshot, and a repeated request would make
    /// another one.
    pub unique_names: bool,
    /// Whether snapshots show tags.
    pub tags: TagSupport,
    /// Whether a deletion is only accepted at first, and carried out later.
    pub slow_deletes: bool,
    /// Whether the provider tells how many snapshots a place may have.
    pub tells_quota: bool,
}

impl Default for Capabilities {
    fn default() -> Self {
        Capabilities {
            // A name has 255 characters, 26 of which are slot and hash.
            stem_chars: 228,
            unique_names: true,
            tags: TagSupport::Yes,
            slow_deletes: false,
            tells_quota: false,
        }
    }
}
