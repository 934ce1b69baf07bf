//! The alarms: what they watch, what the handbook says of them, and that silence is noticed in time.

use std::collections::BTreeSet;

use serde_json::{Value, json};
use snapkeep_app::metrics::{DIMENSION, METRICS, NAMESPACE};
use snapkeep_domain::function::Function;
use snapkeep_tests::read;

use super::{FUNCTIONS, of_type, properties};

/// The metric of snapkeep that an alarm watches, with its dimensions: its own, or that of its expression.
fn watched(alarm: &Value) -> Option<(&str, &Value)> {
    let metric = match &alarm["Metrics"] {
        Value::Null => alarm,
        metrics => &metrics[1]["MetricStat"]["Metric"],
    };
    let name = metric["MetricName"].as_str().filter(|_| metric["Namespace"] == NAMESPACE)?;
    Some((name, &metric["Dimensions"]))
}

/// The period of an alarm, and how many of them it looks at.
fn periods(alarm: &Value) -> (u64, u64) {
    let period = match &alarm["Metrics"] {
        Value::Null => &alarm["Period"],
        metrics => &metrics[1]["MetricStat"]["Period"],
    };
    (period.as_u64().unwrap(), alarm["EvaluationPeriods"].as_u64().unwrap())
}

#[test]
fn every_alarm_watches_what_is_emitted_and_says_what_to_do() {
    let operations = read("docs/OPERATIONS.md");
    let headings: BTreeSet<&str> = operations
        .lines()
        .filter_map(|line| line.strip_prefix("### "))
        .flat_map(|heading| heading.split(", "))
        .collect();
    let alarms = of_type("AWS::CloudWatch::Alarm");
    assert_eq!(alarms.len(), 14);
    for (id, alarm) in &alarms {
        let says = alarm["AlarmDescription"].as_str().unwrap();
        assert!(says.contains(&format!("See {id} in docs/OPERATIONS.md")), "{id}");
        assert!(headings.contains(id), "{id} has no section");
        for actions in ["AlarmActions", "OKActions"] {
            assert_eq!(alarm[actions], json!([{"Ref": "Alarms"}]), "{id}");
        }
        let Some((name, dimensions)) = watched(alarm) else { continue };
        let metric = METRICS.iter().find(|metric| metric.name == name);
        let metric = metric.unwrap_or_else(|| panic!("{id} watches {name}"));
        // A window shorter than the cadence would ring at every run, and be over in between.
        let (period, count) = periods(alarm);
        let cadence = if metric.of.contains(&Function::Prune) { 3600 } else { 900 };
        assert!(period * count >= cadence, "{id}: {period} s, {count} times");
        let deployment = json!({"Fn::Sub": "${AWS::StackName}-${AWS::Region}-${AWS::AccountId}"});
        assert_eq!(*dimensions, json!([{"Name": DIMENSION, "Value": deployment}]), "{id}");
    }
    let names: BTreeSet<&str> = alarms.values().filter_map(|one| Some(watched(one)?.0)).collect();
    let emitted = METRICS.iter().filter(|metric| metric.alarms).map(|metric| metric.name);
    assert_eq!(emitted.collect::<BTreeSet<_>>(), names);
    // Silence is noticed by a metric that only the silent function emits.
    for function in FUNCTIONS {
        let alarm = alarms[format!("{function}NotRunning").as_str()];
        let (name, _) = watched(alarm).unwrap();
        let metric = METRICS.iter().find(|metric| name == metric.name).unwrap();
        assert_eq!(metric.of, [function.to_lowercase().parse::<Function>().unwrap()]);
        for watched in ["Errors", "Throttled"] {
            let alarm = alarms[format!("{function}{watched}").as_str()];
            let dimension = json!([{"Name": "FunctionName", "Value": {"Ref": function}}]);
            assert_eq!(alarm["Dimensions"], dimension);
        }
    }
    let mail = properties("AlarmMail");
    assert_eq!(mail["TopicArn"], json!({"Ref": "Alarms"}));
}

#[test]
fn the_handbook_says_when_each_alarm_goes_off_at_the_latest() {
    let operations = read("docs/OPERATIONS.md");
    for (id, alarm) in of_type("AWS::CloudWatch::Alarm") {
        let (period, count) = periods(alarm);
        let silence = alarm["Metrics"].is_array();
        // The last run may have finished at the beginning of a period, which then counts as well.
        let minutes = if silence { period * (count + 1) } else { period } / 60;
        let row = operations.lines().find(|line| line.starts_with(&format!("| `{id}` |")));
        let row = row.unwrap_or_else(|| panic!("{id} has no row"));
        let latest = row.trim_end_matches(" |").rsplit(" | ").next().unwrap();
        assert!(latest.starts_with(&format!("{minutes} minutes after ")), "{minutes}: {row}");
    }
}

/// Whether an alarm with this many evaluation periods, all of which must breach, goes off. `points` are those that
/// CloudWatch fetches, the newest last: at least as many as the evaluation periods, and how many more is not
/// documented. The rule is that of "Configuring how CloudWatch alarms treat missing data" in its user guide.
fn goes_off(points: &[Option<bool>], periods: usize, missing_breaches: bool) -> bool {
    let real: Vec<bool> = points.iter().flatten().copied().collect();
    if real.len() >= periods {
        return real[real.len() - periods..].iter().all(|breaches| *breaches);
    }
    // Missing points are filled in, as few as are needed; every real one counts.
    real.iter().all(|breaches| *breaches) && missing_breaches
}

/// A run of `FILL(runs, 0)` below 1 over what a metric shows: whether each period breaches. Whether a series without
/// any point is filled is not documented.
fn filled(runs: &[bool], fills_nothing: bool) -> Vec<Option<bool>> {
    let empty = !runs.contains(&true);
    runs.iter().map(|ran| if empty && !fills_nothing { None } else { Some(!ran) }).collect()
}

#[test]
fn silence_is_noticed_however_far_cloudwatch_looks_back() {
    for function in FUNCTIONS {
        let alarm = properties(&format!("{function}NotRunning"));
        assert_eq!(alarm["Metrics"][0]["Expression"], "FILL(runs, 0)");
        assert_eq!(alarm["TreatMissingData"], "breaching");
        assert_eq!(alarm["ComparisonOperator"], "LessThanThreshold");
        assert_eq!((&alarm["Threshold"], &alarm["DatapointsToAlarm"]), (&json!(1), &Value::Null));
        let (period, count) = periods(alarm);
        let count = usize::try_from(count).unwrap();
        // `prune` runs once an hour, and may be late.
        let every = if function == "Prune" { 3600 / usize::try_from(period).unwrap() } else { 1 };
        for looks_at in count..count + 10 {
            for fills_nothing in [false, true] {
                // It ran as it should, and then no more.
                let runs = |silent: usize| -> Vec<bool> {
                    (0..looks_at)
                        .rev()
                        .map(|ago| ago >= silent && (ago - silent).is_multiple_of(every))
                        .collect()
                };
                let rings = |silent| goes_off(&filled(&runs(silent), fills_nothing), count, true);
                let first = (0..100).find(|silent| rings(*silent)).unwrap();
                assert_eq!(first, count, "{function}, {looks_at} points");
                assert!((count..100).all(rings), "{function}: it goes on ringing");
            }
        }
        // Without FILL, old points in sight would delay it: that is why it is there.
        let plain: Vec<Option<bool>> =
            (0..count + 3).rev().map(|ago| (ago >= count).then_some(false)).collect();
        assert!(!goes_off(&plain, count, true));
    }
}
