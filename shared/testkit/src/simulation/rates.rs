//! The faults of one history, and how often they occur: drawn from the seed. Each history gets only
//! some of the faults, so that the common ones do not drown rare combinations.

use fastrand::Rng;
use jiff::SignedDuration;
use snapkeep_app::ports::ErrorKind;

use super::operators::Action;
use super::ports::Fault;
use super::service::{Capacity, Limit};

/// No answer of a service is older than this.
pub const STALE_MAX: SignedDuration = SignedDuration::from_mins(5);
/// The largest step of the clock.
pub const STEP_MAX: SignedDuration = SignedDuration::from_hours(6);

/// The operations that change something.
pub(super) const WRITES: [&str; 11] = [
    "delete", "create", "claim", "advance", "remember", "note", "put_run", "go_on", "put", "mail",
    "events",
];

/// Chances in ten thousand, and other properties of the service.
#[derive(Clone, Debug, Default)]
pub struct Rates {
    /// A call is refused.
    pub refused: u32,
    /// A write is carried out, and its answer lost.
    pub lost: u32,
    /// A list, an index or a look answers from the past.
    pub stale: u32,
    /// A list comes back empty.
    pub empty: u32,
    /// A list shows something twice.
    pub doubled: u32,
    /// The token of a page is too old.
    pub expired: u32,
    /// How many elements a page has.
    pub page_size: usize,
    /// The one operation that fails half of the time.
    pub focus: Option<&'static str>,
    /// An invocation dies at a call.
    pub crash: u32,
    /// A call takes minutes.
    pub slow: u32,
    /// An invocation has little time.
    pub short: u32,
    /// An event never comes.
    pub missing: u32,
    /// An event comes twice.
    pub twice: u32,
    /// An event comes late, by hours.
    pub late: u32,
    /// An invocation's clock is wrong by minutes.
    pub skewed: u32,
    /// A new snapshot turns to error, stays pending, is slow, or vanishes.
    pub ill_fated: u32,
    /// What is read page by page changes between the pages.
    pub torn: u32,
    /// Tags or source of a new snapshot are shown late.
    pub shown_late: u32,
    /// The rate of calls that the service accepts.
    pub limit: Option<Limit>,
    /// How many requests for snapshots the service lets through.
    pub capacity: Option<Capacity>,
    /// Snapshots show no tags.
    pub drops_tags: bool,
    /// How many snapshots a place may have.
    pub quota: Option<u64>,
    /// The actions of people and services.
    pub actions: Vec<Action>,
    /// The approximate time between two actions, in hours.
    pub hours_between_actions: u32,
}

impl Rates {
    /// Draws the rates.
    pub fn draw(rng: &mut Rng) -> Self {
        let mut some = |highest: u32| if rng.bool() { 0 } else { rng.u32(1..=highest) };
        let mut rates = Rates {
            refused: some(600),
            lost: some(600),
            stale: some(2000),
            empty: some(500),
            doubled: some(1000),
            expired: some(1000),
            crash: some(400),
            slow: some(300),
            short: some(1000),
            missing: some(2000),
            twice: some(4000),
            late: some(2000),
            skewed: some(5000),
            ill_fated: some(2500),
            torn: some(2000),
            shown_late: some(4000),
            ..Rates::default()
        };
        let focuses = ["delete", "delete", "create", "claim", "advance", "snapshots", "snapshot"];
        rates.focus = (rng.u8(0..4) == 0).then(|| focuses[rng.usize(0..focuses.len())]);
        rates.page_size = [2, 5, 20][rng.usize(0..3)];
        rates.limit = (rng.u8(0..4) == 0)
            .then(|| Limit { per_minute: rng.u32(1..20), burst: rng.u32(1..10) });
        let actions = Action::ALL.iter().copied().filter(|_| rng.u8(0..3) == 0);
        rates.actions = actions.collect();
        rates.hours_between_actions = rng.u32(1..=12);
        rates
    }

    /// Draws what can go wrong only where names do not identify snapshots; returns how long deletions
    /// take.
    pub(super) fn draw_by_id(&mut self, rng: &mut Rng) -> SignedDuration {
        self.drops_tags = rng.u8(0..3) == 0;
        self.quota = (self.capacity.is_none() && rng.u8(0..4) == 0).then(|| rng.u64(4..20));
        if self.capacity.is_none() {
            let more = Action::BY_ID.iter().copied().filter(|_| rng.u8(0..3) == 0);
            self.actions.extend(more);
        }
        if self.drops_tags {
            // Without tags there is none to set, and a name is all that a forger needs.
            let tags = [Action::HoldSnapshot, Action::StripTags, Action::TakeTheNextName];
            self.actions.retain(|action| !tags.contains(action));
        }
        SignedDuration::from_secs([5, 60, 1200][rng.usize(0..3)])
    }

    /// Whether an event of this chance happens now.
    pub fn strikes(rng: &mut Rng, chance: u32) -> bool {
        chance > 0 && rng.u32(0..10_000) < chance
    }

    /// Draws the fault of a call.
    pub(super) fn fault(&self, rng: &mut Rng, operation: &str) -> Option<Fault> {
        let writes = WRITES.contains(&operation);
        let focused = self.focus == Some(operation) && rng.bool();
        if focused || Self::strikes(rng, self.refused) {
            let kinds = [
                ErrorKind::Throttled,
                ErrorKind::Indeterminate,
                ErrorKind::Denied,
                ErrorKind::Refused,
                ErrorKind::Busy,
                ErrorKind::Quota,
            ];
            return Some(Fault::Before(kinds[rng.usize(0..kinds.len())]));
        }
        if writes && Self::strikes(rng, self.lost) {
            return Some(Fault::After);
        }
        let lists = matches!(operation, "instances" | "snapshots");
        let indexed = matches!(operation, "live" | "open");
        if indexed && Self::strikes(rng, self.torn) {
            return Some(Fault::Torn);
        }
        if (lists || indexed || operation == "snapshot") && Self::strikes(rng, self.stale) {
            return Some(Fault::Stale);
        }
        if lists && Self::strikes(rng, self.empty) {
            return Some(Fault::Empty);
        }
        if lists && Self::strikes(rng, self.expired) {
            return Some(Fault::Expired);
        }
        (lists && Self::strikes(rng, self.doubled)).then_some(Fault::Doubled)
    }
}
