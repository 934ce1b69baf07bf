//! Logs: JSON lines on standard output, by tracing-subscriber.

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
