//! Who is told what after a run, whatever goes wrong in the telling.
#![expect(clippy::unwrap_used, reason = "a test may panic")]

use std::sync::Mutex;

use jiff::{SignedDuration, Timestamp};
use proptest::prelude::*;
use snapkeep_app::notify;
use snapkeep_app::ports::{Deadline, ErrorKind, Invocation, Matters, Notifier, ProviderError};
use snapkeep_app::report::{Failure, Report};
use snapkeep_domain::finding::{Code, Finding};
use snapkeep_domain::notice::{Notice, Topic};
use snapkeep_testkit::MemoryLedger;
use snapkeep_tests::{at, record, web};

/// Time that is up, or not.
#[derive(Clone, Copy)]
struct Up(bool);

impl Deadline for Up {
    fn passed(&self) -> bool {
        self.0
    }
}

/// How the telling goes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Fate {
    #[default]
    Fine,
    /// Nobody can be reached.
    Deaf,
    /// The function dies before they hear of it.
    DiesBefore,
    /// The function dies when they have heard of it, and nobody knows.
    DiesAfter,
}

/// Remembers what it was told; may be out of order, or nobody.
#[derive(Default)]
struct People {
    heard: Mutex<Vec<String>>,
    fate: Mutex<Fate>,
    away: bool,
}

impl Notifier for People {
    fn listens(&self) -> bool {
        !self.away
    }

    async fn publish(&self, notice: &Notice) -> Result<(), ProviderError> {
        let fate = *self.fate.lock().unwrap();
        if fate == Fate::DiesBefore {
            std::future::pending::<()>().await;
        }
        if fate == Fate::Deaf {
            return Err(ProviderError {
                kind: ErrorKind::Denied,
                operation: "Publish",
                code: "AuthorizationError".to_owned(),
                message: "no".to_owned(),
            });
        }
        self.heard.lock().unwrap().push(notice.title());
        if fate == Fate::DiesAfter {
            std::future::pending::<()>().await;
        }
        Ok(())
    }
}

struct World {
    people: People,
    ledger: MemoryLedger,
    now: Timestamp,
}

impl World {
    fn new() -> Self {
        World {
            people: People::default(),
            ledger: MemoryLedger::new(),
            now: at("2026-11-20T03:00:00Z"),
        }
    }

    /// A run that found this; what people heard of it, and what failed.
    async fn run(&mut self, report: Report) -> (Vec<String>, Report) {
        self.run_until(report, Up(false)).await
    }

    async fn run_until(&mut self, mut report: Report, deadline: Up) -> (Vec<String>, Report) {
        self.now += SignedDuration::from_hours(1);
        let invocation = Invocation { now: self.now, deadline };
        notify::run(&self.people, &self.ledger, &mut report, &invocation).await;
        (std::mem::take(&mut self.people.heard.lock().unwrap()), report)
    }
}

fn found(findings: &[Finding]) -> Report {
    let mut report = Report::new("prune", Timestamp::UNIX_EPOCH);
    report.findings = findings.to_vec();
    report
}

fn overdue() -> Finding {
    Finding::new(Code::Overdue, "too old").of(&web(), "web")
}

#[tokio::test]
async fn what_passes_is_told_by_its_run_and_what_lasts_once() {
    let mut world = World::new();
    let mut report = found(&[overdue(), Finding::new(Code::Vanished, "gone").named("web-1")]);
    let available = record("2026-11-20T03:00:00Z".parse().unwrap(), 1, None);
    report.notices.push(Notice::of_record(Topic::Available, &available, "there".to_owned()));
    report.findings.push(Finding::new(Code::KeepsEverything, "fine"));
    let (heard, report) = world.run(report).await;
    let expected = ["Snapshot Available: web", "Snapshot Failed: web-1", "Snapshot Missed: web"];
    assert_eq!((heard.as_slice(), report.failures.len()), (&expected.map(str::to_owned)[..], 0));
    assert!(world.run(found(&[overdue()])).await.0.is_empty());
    assert_eq!(world.run(found(&[])).await.0, ["Snapshot Missed: web (over)"]);
    assert!(world.run(found(&[])).await.0.is_empty());
}

#[tokio::test]
async fn what_could_not_be_told_is_a_failure_and_is_told_later() {
    let mut world = World::new();
    *world.people.fate.get_mut().unwrap() = Fate::Deaf;
    let (heard, report) = world.run(found(&[overdue()])).await;
    assert!(heard.is_empty() && report.fell_short());
    let failure = &report.failures[0];
    assert_eq!((failure.operation.as_str(), failure.name.as_deref()), ("Publish", Some("web")));
    *world.people.fate.get_mut().unwrap() = Fate::Fine;
    assert_eq!(world.run(found(&[overdue()])).await.0, ["Snapshot Missed: web"]);
}

#[tokio::test]
async fn a_run_that_failed_for_a_resource_does_not_say_that_its_matters_are_over() {
    let mut world = World::new();
    world.run(found(&[overdue()])).await;
    let failed = |resource: Option<&str>| {
        let mut report = found(&[]);
        let failure = Failure::from(&ProviderError {
            kind: ErrorKind::Throttled,
            operation: "GetInstances",
            code: String::new(),
            message: String::new(),
        });
        report.failures.push(Failure { resource: resource.map(str::to_owned), ..failure });
        report
    };
    assert!(world.run(failed(None)).await.0.is_empty());
    assert!(world.run(failed(Some(&web().0))).await.0.is_empty());
    let mut report = found(&[]);
    report.left = 1;
    assert!(world.run(report).await.0.is_empty());
    let mut report = found(&[Finding::new(Code::ClaimedElsewhere, "x").of(&web(), "web")]);
    report.failures.clear();
    assert!(world.run(report).await.0.is_empty());
    assert_eq!(world.run(failed(Some("another"))).await.0, ["Snapshot Missed: web (over)"]);
    // A Region that failed says nothing of what another one showed.
    world.run(found(&[overdue()])).await;
    let mut report = failed(None);
    report.seen.insert(web().0);
    assert_eq!(world.run(report).await.0, ["Snapshot Missed: web (over)"]);
}

#[tokio::test]
async fn without_time_it_is_left_and_without_listeners_nothing_is_remembered() {
    let mut world = World::new();
    let gone = Finding::new(Code::Vanished, "gone").named("web-1");
    let (heard, report) = world.run_until(found(&[overdue(), gone]), Up(true)).await;
    assert_eq!((heard.len(), report.left), (0, 1));
    // What no later run tells is said by name.
    assert!(report.failures[0].message.ends_with("Snapshot Failed: web-1: gone"));
    assert_eq!(world.run(found(&[overdue()])).await.0, ["Snapshot Missed: web"]);

    let mut world = World { people: People { away: true, ..People::default() }, ..World::new() };
    let (heard, report) = world.run(found(&[overdue()])).await;
    assert!(heard.is_empty() && report.failures.is_empty());
    assert!(world.ledger.known().await.unwrap().0.is_empty());
}

fn fate() -> impl Strategy<Value = Fate> {
    prop_oneof![
        3 => Just(Fate::Fine),
        1 => Just(Fate::Deaf),
        1 => Just(Fate::DiesBefore),
        1 => Just(Fate::DiesAfter),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    /// Whatever went wrong before, after a run that went well people know how things stand; and while
    /// nothing goes wrong, they hear of each change once.
    #[test]
    fn people_know_how_things_stand(ticks in proptest::collection::vec((any::<bool>(), fate()), 1..12)) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let mut world = World::new();
        let (mut known, mut well) = (None, true);
        for (there, fate) in ticks {
            world.now += SignedDuration::from_hours(1);
            *world.people.fate.get_mut().unwrap() = fate;
            let findings = [overdue()];
            let mut report = found(&findings[..usize::from(there)]);
            let invocation = Invocation { now: world.now, deadline: Up(false) };
            runtime.block_on(async {
                tokio::select! {
                    biased;
                    () = notify::run(&world.people, &world.ledger, &mut report, &invocation) => {}
                    // What has to wait here has died.
                    () = std::future::ready(()) => {}
                }
            });
            let heard = std::mem::take(&mut *world.people.heard.lock().unwrap());
            well &= fate == Fate::Fine;
            if well {
                let changed = known.map_or(there, |known| known != there);
                prop_assert_eq!(heard.len(), usize::from(changed), "{:?}", heard);
            }
            known = heard.last().map(|title| !title.ends_with("(over)")).or(known);
            if fate == Fate::Fine {
                prop_assert_eq!(known.unwrap_or(false), there, "{:?}", heard);
            }
        }
    }
}
