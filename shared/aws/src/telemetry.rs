//! Logs: JSON lines on standard output, by tracing-subscriber.

use std::io::Write;
use std::time::Duration;

use serde_json::{Value, json};
use snapkeep_app::metrics::{AGE, DIMENSION, Metric, NAMESPACE, RESOURCE, Unit};
use snapkeep_app::report::Report;
use snapkeep_domain::policy::settings::{MetricsLevel, Settings};
use tracing_subscriber::EnvFilter;

/// Sets the log up. `AWS_LAMBDA_LOG_LEVEL`, then `RUST_LOG`, then `info` say how much.
pub fn init() {
    let filter = EnvFilter::try_from_env("AWS_LAMBDA_LOG_LEVEL")
        .or_else(|_| EnvFilter::try_from_default_env())
        .unwrap_or_else(|_| EnvFilter::new("info"));
    // A second start in one process keeps the first one's log.
    let _ = tracing_subscriber::fmt()
        .json()
        .flatten_event(true)
        .with_current_span(false)
        .with_target(false)
        // Lambda stamps every line itself.
        .without_time()
        .with_env_filter(filter)
        .try_init();
}

/// One wide line for an invocation, and one for each thing a person should know.
pub fn report(report: &Report, trigger: &crate::event::Trigger) {
    for finding in &report.findings {
        tracing::info!(
            function = report.function.as_str(),
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
            function = report.function.as_str(),
            operation = failure.operation,
            code = failure.code,
            region = failure.region,
            resource = failure.resource,
            name = failure.name,
            "{}",
            failure.message
        );
    }
    for age in &report.ages {
        tracing::info!(
            resource = age.resource.0,
            name = age.name,
            newest = age.newest.map(|slot| slot.to_string()),
            age_seconds = age.age.as_secs(),
            promised_seconds = age.max_age.as_secs(),
            "age"
        );
    }
    let counts: std::collections::BTreeMap<&str, u64> =
        report.counts.iter().map(|(counter, count)| (counter.as_str(), *count)).collect();
    tracing::info!(
        function = report.function.as_str(),
        now = %report.now,
        trigger = trigger.source,
        event_time = trigger.time,
        counts = serde_json::to_string(&counts).unwrap_or_default(),
        failures = report.failures.len(),
        findings = report.findings.len(),
        left = report.left,
        fell_short = report.fell_short(),
        "{} finished", report.function
    );
}

/// Prints the run's metrics as lines in CloudWatch's embedded metric format, whatever the log level is.
pub fn metrics(report: &Report, settings: &Settings, took: Duration) {
    // Without standard output there is nobody to tell.
    let mut out = std::io::stdout().lock();
    for line in embedded(report, settings, took) {
        let _ = writeln!(out, "{line}");
    }
}

/// One line for the deployment, and if asked for one for each resource.
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

/// The embedded metric format: <https://docs.aws.amazon.com/AmazonCloudWatch/latest/monitoring/CloudWatch_Embedded_Metric_Format_Specification.html>.
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
        // A metric without a member at the top would be dropped.
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
