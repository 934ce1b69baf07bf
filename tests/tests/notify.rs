//! Who is told what after a run, whatever goes wrong in the telling.
#![expect(clippy::unwrap_used, reason = "a test may panic")]

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

use jiff::{SignedDuration, Timestamp};
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

/// Remembers what it was told; may be out of order, or nobody.
#[derive(Default)]
struct People {
    heard: Mutex<Vec<String>>,
    deaf: AtomicBool,
    away: bool,
}

impl Notifier for People {
    fn listens(&self) -> bool {
        !self.away
    }

    async fn publish(&self, notice: &Notice) -> Result<(), ProviderError> {
        if self.deaf.load(Ordering::Relaxed) {
            return Err(ProviderError {
                kind: ErrorKind::Denied,
                operation: "Publish",
                code: "AuthorizationError".to_owned(),
                message: "no".to_owned(),
            });
        }
        self.heard.lock().unwrap().push(notice.title());
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
    world.people.deaf.store(true, Ordering::Relaxed);
    let (heard, report) = world.run(found(&[overdue()])).await;
    assert!(heard.is_empty() && report.fell_short());
    let failure = &report.failures[0];
    assert_eq!((failure.operation.as_str(), failure.name.as_deref()), ("Publish", Some("web")));
    world.people.deaf.store(false, Ordering::Relaxed);
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
    assert_eq!(world.run(failed(Some("another"))).await.0, ["Snapshot Missed: web (over)"]);
}

#[tokio::test]
async fn without_time_it_is_left_and_without_listeners_nothing_is_remembered() {
    let mut world = World::new();
    let (heard, report) = world.run_until(found(&[overdue()]), Up(true)).await;
    assert_eq!((heard.len(), report.left), (0, 1));
    assert_eq!(world.run(found(&[overdue()])).await.0, ["Snapshot Missed: web"]);

    let mut world = World { people: People { away: true, ..People::default() }, ..World::new() };
    let (heard, report) = world.run(found(&[overdue()])).await;
    assert!(heard.is_empty() && report.failures.is_empty());
    assert!(world.ledger.known().await.unwrap().is_empty());
}
