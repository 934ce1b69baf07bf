//! Who is told what after a run, whatever goes wrong in the telling.
#![expect(clippy::unwrap_used, reason = "a test may panic")]

use std::sync::Mutex;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use proptest::prelude::*;
use snapkeep_app::notify;
use snapkeep_app::ports::{
    ConditionStore, Deadline, ErrorKind, Invocation, Notifier, ProviderError,
};
use snapkeep_app::report::{Failure, Report};
use snapkeep_domain::finding::{Code, Finding, Topic};
use snapkeep_domain::function::Function;
use snapkeep_domain::ledger::lease::Lease;
use snapkeep_domain::notice::Notice;
use snapkeep_domain::resource::ResourceId;
use snapkeep_testkit::MemoryLedger;
use snapkeep_tests::{REGION, at, place, record, web};

/// Time that is up, or not.
#[derive(Clone, Copy)]
struct Up(bool);

impl Deadline for Up {
    fn elapsed(&self) -> Duration {
        if self.0 { Duration::from_secs(60) } else { Duration::ZERO }
    }

    fn stop(&self) -> Duration {
        Duration::from_secs(40)
    }

    fn end(&self) -> Duration {
        Duration::from_secs(50)
    }

    fn last(&self) -> Duration {
        Duration::from_secs(60)
    }

    async fn sleep(&self, _: Duration) {
        std::future::pending().await
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
    /// What programs were told.
    seen: Mutex<Vec<String>>,
    fate: Mutex<Fate>,
    away: bool,
    broken_bus: bool,
}

impl Notifier for People {
    fn listens(&self) -> bool {
        !self.away
    }

    async fn events(&self, notices: &[Notice]) -> Result<(), ProviderError> {
        let deaf = self.broken_bus || *self.fate.lock().unwrap() == Fate::Deaf;
        self.seen.lock().unwrap().extend(notices.iter().map(Notice::title));
        if deaf && !notices.is_empty() { Err(refused("PutEvents")) } else { Ok(()) }
    }

    async fn mail(&self, notice: &Notice) -> Result<bool, ProviderError> {
        let fate = *self.fate.lock().unwrap();
        if fate == Fate::DiesBefore {
            std::future::pending::<()>().await;
        }
        if fate == Fate::Deaf {
            return Err(refused("Publish"));
        }
        self.heard.lock().unwrap().push(notice.title());
        if fate == Fate::DiesAfter {
            std::future::pending::<()>().await;
        }
        Ok(true)
    }
}

fn refused(operation: &'static str) -> ProviderError {
    let (code, message) = ("AuthorizationError".to_owned(), "no".to_owned());
    ProviderError { kind: ErrorKind::Denied, operation, code, message }
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
        let invocation = invocation(self.now, deadline);
        notify::run(&self.people, &self.ledger, &mut report, &invocation).await;
        (std::mem::take(&mut self.people.heard.lock().unwrap()), report)
    }
}

fn invocation(now: Timestamp, deadline: Up) -> Invocation<Up> {
    Invocation { now, lease: Lease::until(now), tick: None, deadline }
}

/// A run that did all that it should in the place, and found this.
fn found(findings: &[Finding]) -> Report {
    let mut report = Report::new(Function::Prune, Timestamp::UNIX_EPOCH);
    report.findings = findings.to_vec();
    report.covered.insert(place(REGION));
    report
}

fn overdue() -> Finding {
    of("web")
}

fn of(name: &str) -> Finding {
    let id = ResourceId(format!("{}-{name}", web().0));
    let finding = Finding::new(Code::Overdue, format!("{name} is too old")).of(&id, name);
    Finding { place: Some(place(REGION)), ..finding }
}

#[tokio::test]
async fn what_passes_is_told_by_its_run_and_what_lasts_once() {
    let mut world = World::new();
    let mut report = found(&[overdue(), Finding::new(Code::Vanished, "gone").named("web-1")]);
    let available = record("2026-11-20T03:00:00Z".parse().unwrap(), 1, None);
    report.notices.push(Notice::of_record(Topic::Available, &available, "there".to_owned()));
    report.findings.push(Finding::new(Code::KeepsEverything, "fine"));
    let (heard, report) = world.run(report).await;
    // That one is available is told to programs only.
    let expected = ["Snapshot Failed: web-1", "Snapshot Missed: web"];
    assert_eq!((heard.as_slice(), report.failures.len()), (&expected.map(str::to_owned)[..], 0));
    let seen = std::mem::take(&mut *world.people.seen.lock().unwrap());
    assert_eq!(seen, ["Snapshot Available: web", expected[0], expected[1]]);
    assert!(world.run(found(&[overdue()])).await.0.is_empty());
    assert_eq!(world.run(found(&[])).await.0, ["Snapshot Missed: web (resolved)"]);
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
async fn a_run_that_failed_for_a_resource_does_not_say_that_its_conditions_are_over() {
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
    assert!(world.run(failed(overdue().resource.as_deref())).await.0.is_empty());
    // Its place was not done with, or another run is at work there.
    let mut report = found(&[]);
    report.covered.clear();
    assert!(world.run(report).await.0.is_empty());
    let id = ResourceId(overdue().resource.unwrap());
    let elsewhere = Finding::new(Code::ClaimedElsewhere, "x").of(&id, "web");
    assert!(world.run(found(&[elsewhere])).await.0.is_empty());
    assert_eq!(world.run(failed(Some("another"))).await.0, ["Snapshot Missed: web (resolved)"]);
    // A place that failed says nothing of what another one showed: nor of a resource that is gone.
    world.run(found(&[overdue()])).await;
    assert_eq!(world.run(failed(None)).await.0, ["Snapshot Missed: web (resolved)"]);
}

#[tokio::test]
async fn many_with_one_cause_are_one_mail_and_an_event_each() {
    let mut world = World::new();
    let names: Vec<String> = (0..1000).map(|number| format!("web-{number:04}")).collect();
    let findings: Vec<Finding> = names.iter().map(|name| of(name)).collect();
    let (heard, report) = world.run(found(&findings)).await;
    assert!(report.failures.is_empty());
    let [mail] = &heard[..] else { panic!("{} mails", heard.len()) };
    assert!(mail.starts_with("Snapshot Missed: 1000 of them: web-0000, web-0001"), "{mail}");
    assert!(mail.ends_with("web-0009 and 990 more"), "{mail}");
    assert_eq!(std::mem::take(&mut *world.people.seen.lock().unwrap()).len(), 1000);
    let (over, _) = world.run(found(&findings[..2])).await;
    assert_eq!(over.len(), 1);
    assert!(over[0].contains("998 of them") && over[0].ends_with("(resolved)"), "{}", over[0]);
}

#[tokio::test]
async fn a_broken_bus_repeats_no_mail() {
    let mut world = World::new();
    world.people.broken_bus = true;
    assert_eq!(world.run(found(&[overdue()])).await.0.len(), 1);
    assert!(world.run(found(&[overdue()])).await.0.is_empty());
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

/// While these people hear that something is resolved, another run finds it again and tells them.
struct Overtaken<'a> {
    people: &'a People,
    ledger: &'a MemoryLedger,
    now: Timestamp,
}

impl Notifier for Overtaken<'_> {
    fn listens(&self) -> bool {
        true
    }

    async fn events(&self, notices: &[Notice]) -> Result<(), ProviderError> {
        self.people.events(notices).await
    }

    async fn mail(&self, notice: &Notice) -> Result<bool, ProviderError> {
        let other_run = || {
            let mut other = found(&[overdue()]);
            let invocation = invocation(self.now, Up(false));
            let telling = notify::run(self.people, self.ledger, &mut other, &invocation);
            tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(telling);
            assert!(other.failures.is_empty());
        };
        // A runtime within a runtime needs a thread of its own.
        std::thread::scope(|scope| scope.spawn(other_run).join().unwrap());
        self.people.mail(notice).await
    }
}

#[tokio::test]
async fn of_two_runs_that_tell_the_opposite_the_next_tells_how_it_is() {
    let mut world = World::new();
    assert_eq!(world.run(found(&[overdue()])).await.0, ["Snapshot Missed: web"]);
    world.now += SignedDuration::from_hours(1);
    let World { people, ledger, now } = &world;
    let overtaken = Overtaken { people, ledger, now: *now };
    notify::run(&overtaken, ledger, &mut found(&[]), &invocation(*now, Up(false))).await;
    let heard = std::mem::take(&mut *people.heard.lock().unwrap());
    assert_eq!(heard, ["Snapshot Missed: web", "Snapshot Missed: web (resolved)"]);
    assert_eq!(world.run(found(&[overdue()])).await.0, ["Snapshot Missed: web"]);
    assert!(world.run(found(&[overdue()])).await.0.is_empty());
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
            let invocation = invocation(world.now, Up(false));
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
            known = heard.last().map(|title| !title.ends_with("(resolved)")).or(known);
            if fate == Fate::Fine {
                prop_assert_eq!(known.unwrap_or(false), there, "{:?}", heard);
            }
        }
    }
}
