//! The metrics of a run: a closed list that people build alarms on. A function emits all of its
//! metrics at every run, zeros included, so that missing data means that it did not run; or, to
//! save money, only those that the stack's alarms watch.

use snapkeep_domain::function::Function;
use std::time::Duration;

use snapkeep_domain::finding::Severity;
use snapkeep_domain::policy::settings::MetricsLevel;

use crate::report::{Counter, Report};

/// The dimension of all metrics.
pub const DIMENSION: &str = "Deployment";
/// The additional dimension of [`AGE`].
pub const RESOURCE: &str = "Resource";
/// The age of a resource's newest available snapshot, in seconds. It is off by default, because one
/// more metric for each resource costs money every month. The log always has it.
pub const AGE: &str = "Age";
/// The namespace of the metrics.
pub const NAMESPACE: &str = "snapkeep";

/// The unit of a metric, as CloudWatch names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unit {
    /// A number.
    Count,
    /// A time in seconds.
    Seconds,
    /// A time in milliseconds.
    Milliseconds,
}

impl Unit {
    /// The unit's name in CloudWatch.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Unit::Count => "Count",
            Unit::Seconds => "Seconds",
            Unit::Milliseconds => "Milliseconds",
        }
    }
}

/// A metric. Names, units and meanings are stable: people's alarms depend on them.
#[derive(Clone, Copy, Debug)]
pub struct Metric {
    /// Its name.
    pub name: &'static str,
    /// Its unit.
    pub unit: Unit,
    /// The functions that emit it.
    pub of: &'static [Function],
    /// Whether an alarm watches it.
    pub alarms: bool,
    /// What it measures.
    pub meaning: &'static str,
    value: fn(&Report, Duration) -> u64,
}

impl Metric {
    /// The metrics that a function emits at this level.
    pub fn emitted(
        function: Function,
        level: MetricsLevel,
    ) -> impl Iterator<Item = &'static Metric> {
        let asked = move |metric: &&Metric| metric.alarms || level >= MetricsLevel::All;
        METRICS.iter().filter(move |metric| metric.of.contains(&function)).filter(asked)
    }

    /// Its value after a run that took this long.
    #[must_use]
    pub fn value(&self, report: &Report, took: Duration) -> u64 {
        (self.value)(report, took)
    }
}

/// Every metric.
pub const METRICS: &[Metric] = &[
    Metric {
        name: "Taken",
        unit: Unit::Count,
        of: &[Function::Create],
        alarms: false,
        meaning: "snapshots that the provider took the request for, or that were found made already",
        value: |report, _| report.counted(Counter::Requested) + report.counted(Counter::Tracked),
    },
    Metric {
        name: "Protected",
        unit: Unit::Count,
        of: &[Function::Create],
        alarms: true,
        meaning: "resources that are opted in",
        value: |report, _| report.counted(Counter::Protected),
    },
    Metric {
        name: "Unprotected",
        unit: Unit::Count,
        of: &[Function::Create],
        alarms: false,
        meaning: "instances without the opt-in tag, which nothing protects",
        value: |report, _| report.counted(Counter::Unprotected),
    },
    Metric {
        name: "Available",
        unit: Unit::Count,
        of: &[Function::Poll],
        alarms: true,
        meaning: "snapshots that became available",
        value: |report, _| report.counted(Counter::Available),
    },
    Metric {
        name: "Failed",
        unit: Unit::Count,
        of: &[Function::Create, Function::Poll],
        alarms: false,
        meaning: "attempts that came to nothing",
        value: |report, _| report.counted(Counter::AttemptsFailed),
    },
    Metric {
        name: "Missed",
        unit: Unit::Count,
        of: &[Function::Create, Function::Poll],
        alarms: false,
        meaning: "slots that passed without a snapshot",
        value: |report, _| report.counted(Counter::Missed),
    },
    Metric {
        name: "Marked",
        unit: Unit::Count,
        of: &[Function::Prune],
        alarms: false,
        meaning: "deletions announced",
        value: |report, _| report.counted(Counter::Marked),
    },
    Metric {
        name: "Pruned",
        unit: Unit::Count,
        of: &[Function::Prune],
        alarms: false,
        meaning: "deletions that the provider took",
        value: |report, _| report.counted(Counter::Pruned),
    },
    Metric {
        name: "HeldBack",
        unit: Unit::Count,
        of: &[Function::Prune],
        alarms: false,
        meaning: "snapshots that no rule keeps and a guard does, or that no rule was asked about",
        value: |report, _| report.counted(Counter::HeldBack),
    },
    Metric {
        name: "Braked",
        unit: Unit::Count,
        of: &[Function::Prune],
        alarms: true,
        meaning: "resources, or runs, whose marks the brake stopped until somebody confirms them",
        value: |report, _| report.counted(Counter::Braked),
    },
    Metric {
        name: "Overdue",
        unit: Unit::Count,
        of: &[Function::Prune],
        alarms: true,
        meaning: "protected resources whose newest available snapshot is older than promised",
        value: |report, _| report.counted(Counter::Overdue),
    },
    Metric {
        name: "OverdueBy",
        unit: Unit::Seconds,
        of: &[Function::Prune],
        alarms: false,
        meaning: "the greatest age over promise",
        value: |report, _| report.counted(Counter::OverdueSeconds),
    },
    Metric {
        name: "Failures",
        unit: Unit::Count,
        of: &Function::ALL,
        alarms: true,
        meaning: "items or Regions that did not work, and items that there was no time for",
        value: |report, _| (report.failures.len() as u64).saturating_add(report.left),
    },
    Metric {
        name: "Throttles",
        unit: Unit::Count,
        of: &Function::ALL,
        alarms: false,
        meaning: "of the failures, those by throttling, after all tries",
        value: |report, _| {
            report.failures.iter().filter(|failure| failure.throttled).count() as u64
        },
    },
    Metric {
        name: "FindingsError",
        unit: Unit::Count,
        of: &Function::ALL,
        alarms: true,
        meaning: "findings that say that something is wrong",
        value: |report, _| found(report, Severity::Error),
    },
    Metric {
        name: "FindingsWarning",
        unit: Unit::Count,
        of: &Function::ALL,
        alarms: false,
        meaning: "findings that somebody should look at",
        value: |report, _| found(report, Severity::Warning),
    },
    Metric {
        name: "FindingsInfo",
        unit: Unit::Count,
        of: &Function::ALL,
        alarms: false,
        meaning: "findings that are merely information",
        value: |report, _| found(report, Severity::Info),
    },
    Metric {
        name: "Duration",
        unit: Unit::Milliseconds,
        of: &Function::ALL,
        alarms: false,
        meaning: "the time that the run took",
        value: |_, took| u64::try_from(took.as_millis()).unwrap_or(u64::MAX),
    },
];

fn found(report: &Report, severity: Severity) -> u64 {
    report.findings.iter().filter(|finding| finding.severity == severity).count() as u64
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use jiff::Timestamp;
    use snapkeep_domain::finding::{Code, Finding};

    use super::*;
    use crate::ports::{ErrorKind, ProviderError};
    use crate::report::Failure;

    fn emitted(report: &Report) -> Vec<(&'static str, u64)> {
        let took = Duration::from_millis(1500);
        let own = Metric::emitted(report.function, MetricsLevel::All);
        own.map(|metric| (metric.name, metric.value(report, took))).collect()
    }

    #[test]
    fn every_function_emits_all_of_its_metrics_zeros_included() {
        for (function, own) in [(Function::Create, 5), (Function::Poll, 3), (Function::Prune, 6)] {
            let report = Report::new(function, Timestamp::UNIX_EPOCH);
            let emitted = emitted(&report);
            assert_eq!(emitted.len(), own + 6, "{function}");
            assert!(emitted.iter().all(|(name, value)| *value == 0 || *name == "Duration"));
        }
        let names: BTreeSet<&str> = METRICS.iter().map(|metric| metric.name).collect();
        assert_eq!(names.len(), METRICS.len());
    }

    #[test]
    fn values_are_the_reports() {
        let mut report = Report::new(Function::Create, Timestamp::UNIX_EPOCH);
        report.count(Counter::Requested, 3);
        report.count(Counter::Tracked, 1);
        report.left = 2;
        for code in [Code::MissedSlots, Code::BadTag, Code::OptedOut, Code::OptedOut] {
            report.findings.push(Finding::new(code, "x"));
        }
        let expected = [
            ("Taken", 4),
            ("Protected", 0),
            ("Unprotected", 0),
            ("Failed", 0),
            ("Missed", 0),
            ("Failures", 2),
            ("Throttles", 0),
            ("FindingsError", 1),
            ("FindingsWarning", 1),
            ("FindingsInfo", 2),
            ("Duration", 1500),
        ];
        assert_eq!(emitted(&report), expected);
    }

    #[test]
    fn throttles_are_failures_of_that_kind() {
        let mut report = Report::new(Function::Poll, Timestamp::UNIX_EPOCH);
        for kind in [ErrorKind::Throttled, ErrorKind::Denied, ErrorKind::Throttled] {
            let (code, message) = (String::new(), String::new());
            report.failures.push(Failure::from(&ProviderError {
                kind,
                operation: "x",
                code,
                message,
            }));
        }
        let emitted = emitted(&report);
        assert!(emitted.contains(&("Throttles", 2)) && emitted.contains(&("Failures", 3)));
    }

    #[test]
    fn to_save_money_only_what_alarms_watch_is_emitted() {
        let few = |function| -> Vec<&str> {
            Metric::emitted(function, MetricsLevel::Alarms).map(|metric| metric.name).collect()
        };
        assert_eq!(few(Function::Create), ["Protected", "Failures", "FindingsError"]);
        assert_eq!(few(Function::Poll), ["Available", "Failures", "FindingsError"]);
        assert_eq!(few(Function::Prune), ["Braked", "Overdue", "Failures", "FindingsError"]);
    }

    #[test]
    fn units_are_cloudwatchs_words() {
        let words = [Unit::Count, Unit::Seconds, Unit::Milliseconds].map(Unit::as_str);
        assert_eq!(words, ["Count", "Seconds", "Milliseconds"]);
    }
}
