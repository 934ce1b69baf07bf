//! What `snapkeep drill` makes, and every function leaves alone.

use jiff::{SignedDuration, Timestamp};

use crate::snapshot::Instance;
use crate::time::elapsed;

/// Tag on an instance that `snapkeep drill` made; its value is the deployment.
pub const DRILL: &str = "snapkeep:drill";
/// How long an instance of a drill is left alone; afterwards the tag means nothing.
const DRILL_LIFE: SignedDuration = SignedDuration::from_hours(24);

impl Instance {
    /// Whether a drill made it, so that nothing protects or reports it for now.
    #[must_use]
    pub fn is_of_a_drill(&self, now: Timestamp) -> bool {
        let young = |made: Timestamp| elapsed(made, now) < DRILL_LIFE;
        self.tags.contains_key(DRILL) && self.created_at.is_some_and(young)
    }
}
