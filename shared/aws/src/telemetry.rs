//! Writes logs, by tracing-subscriber, and metrics to standard output as JSON lines.

use std::collections::BTreeMap;
use std::io::Write;
use std::time::Duration;

use serde_json::{Value, json};
use snapkeep_app::metrics::{AGE, DIMENSION, Metric, NAMESPACE, RESOURCE, Unit};
use snapkeep_app::report::Report;
use snapkeep_domain::finding::Severity;
use snapkeep_domain::policy::settings::{MetricsLevel, Settings};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::time::{FormatTime, SystemTime};

/// Sets up the log. Its level is that of `AWS_LAMBDA_LOG_LEVEL`, else of `RUST_LOG`, else `info`.
pub fn init() {
    let filter = EnvFilter::try_from_env("AWS_LAMBDA_LOG_LEVEL")
        .or_else(|_| EnvFilter::try_from_default_env())
        .unwrap_or_else(|_| EnvFilter::new("info"));
    // A second start in one process keeps the log of the first.
    let _ = tracing_subscriber::fmt()
        .json()
        .flatten_event(true)
        .with_current_span(false)
        .with_target(false)
        .with_env_filter(filter)
        .try_init();
}

/// Logs at a level that is known only at run time; a call of tracing's own macros has one level.
macro_rules! log_at {
    ($level:expr, $($event:tt)+) => {
        match $level {
            Severity::Info => tracing::info!($($event)+),
            Severity::Warning => tracing::warn!($($event)+),
            Severity::Error => tracing::error!($($event)+),
        }
    };
}

/// Logs one line for each finding, failure, change of a snapshot and age, and one for the invocation.
pub fn report(report: &Report, trigger: &crate::event::Trigger) {
    let function = report.function.as_str();
    for finding in &report.findings {
        log_at!(
            finding.severity,
            function,
            severity = ?finding.severity,
            code = finding.code.as_str(),
            resource = finding.resource,
            name = finding.name,
            key = finding.key,
            value = finding.value,
            fix = finding.fix,
            "{}", finding.message
        );
    }
    for failure in &report.failures {
        tracing::warn!(
            function,
            operation = failure.operation,
            code = failure.code,
            region = failure.region,
            resource = failure.resource,
            name = failure.name,
            "{}",
            failure.message
        );
    }
    for notice in &report.notices {
        log_at!(
            notice.severity,
            function,
            event = notice.topic.as_str(),
            resource = notice.resource,
            name = notice.name,
            snapshot = notice.snapshot,
            slot = notice.slot.map(|slot| slot.to_string()),
            "{}",
            notice.message
        );
    }
    for age in &report.ages {
        tracing::info!(
            function,
            resource = age.resource.0,
            name = age.name,
            newest = age.newest.map(|slot| slot.to_string()),
            age_seconds = age.age.as_secs(),
            promised_seconds = age.max_age.as_secs(),
            "the age of the newest available snapshot of {}",
            age.name
        );
    }
    if tracing::enabled!(tracing::Level::INFO) {
        print(&[finished(report, trigger)]);
    }
}

/// The line of the invocation. It is not tracing's: there a number that is a member of another could not be filtered.
fn finished(report: &Report, trigger: &crate::event::Trigger) -> Value {
    let mut timestamp = String::new();
    // Writing to a string does not fail.
    let _ = SystemTime.format_time(&mut Writer::new(&mut timestamp));
    let counts: BTreeMap<&str, u64> =
        report.counts.iter().map(|(counter, count)| (counter.as_str(), *count)).collect();
    json!({
        "timestamp": timestamp,
        "level": "INFO",
        "message": format!("{} finished", report.function),
        "function": report.function,
        "now": report.now,
        "trigger": trigger.source,
        "event_time": trigger.time,
        "counts": counts,
        "failures": report.failures.len(),
        "findings": report.findings.len(),
        "left": report.left,
        "fell_short": report.fell_short(),
    })
}

/// Prints the run's metrics as lines in CloudWatch's embedded metric format, whatever the log level
/// is.
pub fn metrics(report: &Report, settings: &Settings, took: Duration) {
    print(&embedded(report, settings, took));
}

fn print(lines: &[Value]) {
    let mut out = std::io::stdout().lock();
    for line in lines {
        // Without standard output, there is nobody to inform.
        let _ = writeln!(out, "{line}");
    }
}

/// One line for the deployment and, if the metrics level asks for them, one for each resource.
fn embedded(report: &Report, settings: &Settings, took: Duration) -> Vec<Value> {
    let own = Metric::emitted(report.function, settings.metrics);
    let values: Vec<(&str, Unit, u64)> =
        own.map(|metric| (metric.name, metric.unit, metric.value(report, took))).collect();
    let whole = [(DIMENSION, &*settings.deployment)];
    let mut lines = vec![line(report, &whole, &values)];
    if settings.metrics == MetricsLevel::Resources {
        lines.extend(report.ages.iter().map(|age| {
            let one = [whole[0], (RESOURCE, age.resource.0.as_str())];
            let seconds = u64::try_from(age.age.as_secs()).unwrap_or_default();
            line(report, &one, &[(AGE, Unit::Seconds, seconds)])
        }));
    }
    lines
}

/// A line in the embedded metric format. The page of CloudWatch's documentation is
/// `CloudWatch_Embedded_Metric_Format_Specification.html`.
fn line(report: &Report, dimensions: &[(&str, &str)], metrics: &[(&str, Unit, u64)]) -> Value {
    let names: Vec<&str> = dimensions.iter().map(|(name, _)| *name).collect();
    let define = |(name, unit, _): &(&str, Unit, u64)| json!({"Name": name, "Unit": unit.as_str()});
    let definitions: Vec<Value> = metrics.iter().map(define).collect();
    let mut line = json!({
        "_aws": {
            "Timestamp": report.now.as_millisecond(),
            "CloudWatchMetrics": [{
                "Namespace": NAMESPACE,
                "Dimensions": [names],
                "Metrics": definitions,
            }],
        },
        "Function": report.function,
    });
    for (name, value) in dimensions {
        line[*name] = (*value).into();
    }
    for (name, _, value) in metrics {
        line[*name] = (*value).into();
    }
    line
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use jiff::SignedDuration;
    use snapkeep_domain::function::Function;
    use snapkeep_domain::ledger::protected::Age;
    use snapkeep_domain::resource::ResourceId;

    use super::*;

    fn settings(metrics: &str) -> Settings {
        let vars = [
            ("SNAPKEEP_LEDGER_TABLE", "ledger"),
            ("SNAPKEEP_DEPLOYMENT", "dep"),
            ("SNAPKEEP_METRICS", metrics),
        ];
        let vars: BTreeMap<String, String> =
            vars.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
        Settings::read(&vars, Function::Prune).unwrap()
    }

    #[test]
    fn metrics_are_a_line_that_cloudwatch_reads() {
        let report = Report::new(Function::Poll, "2026-11-20T03:00:00Z".parse().unwrap());
        let lines = embedded(&report, &settings("all"), Duration::from_millis(7));
        assert_eq!(lines.len(), 1);
        let line = &lines[0];
        let metrics = &line["_aws"]["CloudWatchMetrics"][0];
        assert_eq!(line["_aws"]["Timestamp"], 1_795_143_600_000_u64);
        assert_eq!(metrics["Namespace"], "snapkeep");
        assert_eq!(metrics["Dimensions"], json!([["Deployment"]]));
        assert_eq!((&line["Deployment"], &line["Function"]), (&json!("dep"), &json!("poll")));
        let defined = metrics["Metrics"].as_array().unwrap();
        assert!(defined.contains(&json!({"Name": "Available", "Unit": "Count"})));
        // CloudWatch would drop a metric that has no member at the top level.
        for metric in defined {
            assert!(line[metric["Name"].as_str().unwrap()].is_u64(), "{metric}");
        }
        assert_eq!(line["Duration"], 7);
        assert!(line.get("Taken").is_none());
        let few = embedded(&report, &settings("alarms"), Duration::ZERO);
        assert_eq!(few[0]["_aws"]["CloudWatchMetrics"][0]["Metrics"].as_array().unwrap().len(), 3);
    }

    #[test]
    fn an_age_for_each_resource_is_a_metric_if_asked_for() {
        let mut report = Report::new(Function::Prune, "2026-11-20T03:00:00Z".parse().unwrap());
        report.ages.push(Age {
            resource: ResourceId("arn:web".to_owned()),
            name: "web".to_owned(),
            newest: None,
            age: SignedDuration::from_hours(2),
            max_age: SignedDuration::from_hours(30),
        });
        let lines = embedded(&report, &settings("resources"), Duration::ZERO);
        assert_eq!(lines.len(), 2);
        assert_eq!(
            lines[1]["_aws"]["CloudWatchMetrics"],
            json!([{
                "Namespace": "snapkeep",
                "Dimensions": [["Deployment", "Resource"]],
                "Metrics": [{"Name": "Age", "Unit": "Seconds"}],
            }])
        );
        assert_eq!((&lines[1]["Resource"], &lines[1]["Age"]), (&json!("arn:web"), &json!(7200)));
        assert_eq!(embedded(&report, &settings("all"), Duration::ZERO).len(), 1);
    }
}
