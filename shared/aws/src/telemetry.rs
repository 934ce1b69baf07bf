//! Logs: JSON lines on standard output, by tracing-subscriber.

use std::io::Write;
use std::time::Duration;

use serde_json::{Map, Value, json};
use snapkeep_app::metrics::{DIMENSION, METRICS, NAMESPACE};
use snapkeep_app::report::Report;
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
            function = report.function,
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
            function = report.function,
            operation = failure.operation,
            code = failure.code,
            region = failure.region,
            resource = failure.resource,
            name = failure.name,
            "{}",
            failure.message
        );
    }
    let counts: std::collections::BTreeMap<&str, u64> =
        report.counts.iter().map(|(counter, count)| (counter.as_str(), *count)).collect();
    tracing::info!(
        function = report.function,
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

/// Prints the run's metrics as a line in CloudWatch's embedded metric format, whatever the log level is.
pub fn metrics(report: &Report, deployment: &str, took: Duration) {
    let line = embedded(report, deployment, took).to_string();
    // Without standard output there is nobody to tell.
    let _ = writeln!(std::io::stdout().lock(), "{line}");
}

/// The embedded metric format: <https://docs.aws.amazon.com/AmazonCloudWatch/latest/monitoring/CloudWatch_Embedded_Metric_Format_Specification.html>.
fn embedded(report: &Report, deployment: &str, took: Duration) -> Value {
    let own = METRICS.iter().filter(|metric| metric.of.contains(&report.function));
    let (definitions, values): (Vec<Value>, Map<String, Value>) = own
        .map(|metric| {
            let definition = json!({"Name": metric.name, "Unit": metric.unit.as_str()});
            (definition, (metric.name.to_owned(), metric.value(report, took).into()))
        })
        .unzip();
    let mut line = json!({
        "_aws": {
            "Timestamp": report.now.as_millisecond(),
            "CloudWatchMetrics": [{
                "Namespace": NAMESPACE,
                "Dimensions": [[DIMENSION]],
                "Metrics": definitions,
            }],
        },
        DIMENSION: deployment,
        "Function": report.function,
    });
    if let Some(members) = line.as_object_mut() {
        members.extend(values);
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn metrics_are_a_line_that_cloudwatch_reads() {
        let now = "2026-11-20T03:00:00Z".parse().unwrap_or_default();
        let report = Report::new("poll", now);
        let line = embedded(&report, "dep", Duration::from_millis(7));
        let metrics = &line["_aws"]["CloudWatchMetrics"][0];
        assert_eq!(line["_aws"]["Timestamp"], 1_795_143_600_000_u64);
        assert_eq!(metrics["Namespace"], "snapkeep");
        assert_eq!(metrics["Dimensions"], json!([["Deployment"]]));
        assert_eq!((&line["Deployment"], &line["Function"]), (&json!("dep"), &json!("poll")));
        let defined = metrics["Metrics"].as_array().map(Vec::as_slice).unwrap_or_default();
        assert!(defined.contains(&json!({"Name": "Available", "Unit": "Count"})));
        // A metric without a member at the top would be dropped.
        for metric in defined {
            assert!(line[metric["Name"].as_str().unwrap_or_default()].is_u64(), "{metric}");
        }
        assert_eq!(line["Duration"], 7);
        assert!(line.get("Taken").is_none());
    }
}
