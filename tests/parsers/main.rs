//! Everything that parses: any text is read or refused with an error that helps, never a panic; what
//! is written is read back. (Ledger items: `shared/aws/src/dynamodb/codec.rs`.)

use std::collections::BTreeMap;

use proptest::prelude::*;
use serde_json::{Map, Value};
use snapkeep_aws::event;
use snapkeep_cloud::knobs::Knobs;
use snapkeep_cloud::lightsail::Lightsail;
use snapkeep_domain::function::Function;
use snapkeep_domain::policy::Policies;
use snapkeep_domain::policy::schedule::Schedule;
use snapkeep_domain::policy::settings::{Settings, VARIABLES};
use snapkeep_domain::policy::tags::{OptIn, Protection};
use snapkeep_domain::resource::ResourceId;
use snapkeep_domain::snapshot::{HOLD, Hold, Tags, snapshot_name};
use snapkeep_domain::time::{Slot, Zone, parse_duration};
use snapkeep_tests::at;

/// Any text, or one that is nearly right.
fn text() -> impl Strategy<Value = String> {
    let nearly = "(every-|daily@|weekly@|monthly@|keep=|daily=|within=|until=|on|off|all|;|:|=|[0-9]{1,3}|h|d|mon-|,| |é|-){0,8}";
    prop_oneof!["\\PC{0,40}", nearly]
}

fn schedule() -> impl Strategy<Value = String> {
    let days = proptest::sample::select(vec!["mon", "tue", "wed", "thu", "fri", "sat", "sun"]);
    let hours = proptest::sample::select(vec![1, 2, 3, 4, 6, 8, 12, 24]);
    prop_oneof![
        Just("hourly".to_owned()),
        hours.prop_map(|hours| format!("every-{hours}h")),
        (0..24, 0..60).prop_map(|(h, m)| format!("daily@{h:02}:{m:02}")),
        (days, 0..24, 0..60).prop_map(|(day, h, m)| format!("weekly@{day}-{h:02}:{m:02}")),
        (1..32, 0..24, 0..60).prop_map(|(day, h, m)| format!("monthly@{day}-{h:02}:{m:02}")),
    ]
}

/// Any JSON, often with the members that the code looks for.
fn json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        text().prop_map(Value::from),
        Just(Value::from("2026-11-20T03:00:00Z")),
    ];
    let key = prop_oneof![
        "\\PC{0,10}",
        proptest::sample::select(vec![
            "source",
            "detail-type",
            "detail",
            "time",
            "scheduledTime",
            "resources",
            "instanceName",
            "instanceNames",
            "instanceSnapshotName",
            "pageToken",
            "tags",
            "tagKeys",
            "resourceName",
            "key",
            "value",
            "availabilityZone",
            "blueprintId",
            "bundleId",
            "addOns",
            "operationId",
        ])
        .prop_map(str::to_owned),
    ];
    leaf.prop_recursive(3, 24, 6, move |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..5).prop_map(Value::from),
            proptest::collection::vec((key.clone(), inner), 0..6)
                .prop_map(|members| Value::Object(members.into_iter().collect::<Map<_, _>>())),
        ]
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1024, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_schedule_is_written_as_it_is_read(text in schedule()) {
        let schedule: Schedule = text.parse().unwrap();
        prop_assert_eq!(schedule.to_string().parse::<Schedule>().unwrap(), schedule);
        // Whatever is accepted has a latest slot.
        let now = at("2026-11-20T03:00:00Z");
        prop_assert!(schedule.latest(&Zone::utc(), now).timestamp() <= now);
    }

    #[test]
    fn a_refused_schedule_says_what_is_accepted(text in text()) {
        match text.parse::<Schedule>() {
            Ok(schedule) => prop_assert_eq!(schedule.to_string().parse::<Schedule>(), Ok(schedule)),
            Err(error) => prop_assert!(error.to_string().contains("daily@03:00"), "{}", error),
        }
    }

    #[test]
    fn a_duration_is_whole_and_positive_or_refused(text in text()) {
        if let Ok(span) = parse_duration(&text) {
            prop_assert!(span.as_hours() > 0 || text.trim().starts_with('0'), "{text}");
        }
    }

    #[test]
    fn a_slot_is_written_as_it_is_read(text in text(), seconds in 0i64..4_000_000_000) {
        let slot = Slot::at(jiff::Timestamp::from_second(seconds).unwrap());
        prop_assert_eq!(slot.to_string().parse::<Slot>().unwrap(), slot);
        if let Ok(slot) = text.parse::<Slot>() {
            prop_assert_eq!(slot.to_string(), text);
        }
    }

    #[test]
    fn bad_tags_are_problems_that_name_key_and_value(
        values in proptest::collection::vec((0usize..6, text()), 0..5),
        other in ("snapkeep:?[a-z]{0,9}", text()),
        policies in text(),
    ) {
        let keys = ["", ":schedule", ":keep", ":timezone", ":confirm", ":hold"];
        let mut tags: Tags =
            values.iter().map(|(at, value)| (format!("snapkeep{}", keys[*at]), value.clone())).collect();
        tags.insert(other.0, other.1);
        let policies = Policies::read(Default::default(), &policies);
        let protection = Protection::read(&tags, "snapkeep", &policies);
        prop_assert_eq!(protection.opt_in == OptIn::Untagged, !tags.contains_key("snapkeep"));
        for finding in &protection.policy.problems {
            prop_assert!(finding.key.is_some() && finding.value.is_some() && finding.fix.is_some());
            prop_assert!(finding.message.contains(finding.key.as_deref().unwrap_or_default()));
        }
    }

    #[test]
    fn a_hold_that_cannot_be_read_holds(text in text()) {
        let hold = Hold::find(&[(HOLD.to_owned(), text.clone())].into(), HOLD).unwrap();
        let until = text.trim().starts_with("until=");
        let later = at("2500-01-01T00:00:00Z");
        prop_assert!(until || hold.holds(later, &Zone::utc()), "{}", text);
    }

    #[test]
    fn bad_variables_are_errors_that_name_variable_and_value(
        values in proptest::collection::vec((0..VARIABLES.len(), text()), 1..4),
        function in proptest::sample::select(vec![Function::Create, Function::Poll, Function::Prune]),
    ) {
        let mut vars: BTreeMap<String, String> =
            values.into_iter().map(|(at, value)| (VARIABLES[at].to_owned(), value)).collect();
        vars.entry("SNAPKEEP_LEDGER_TABLE".to_owned()).or_insert_with(|| "ledger".to_owned());
        if let Err(error) = Settings::read(&vars, function) {
            let message = error.to_string();
            let named = vars.iter().any(|(key, value)| message.contains(key) && message.contains(value.trim()));
            prop_assert!(named, "{message}");
        }
    }

    #[test]
    fn any_event_is_read_or_refused_in_few_words(event in json()) {
        match event::read(&event) {
            Ok(_) => prop_assert!(event.is_object()),
            Err(error) => {
                let message = error.to_string();
                prop_assert!(message.contains("expected an event of an EventBridge rule"), "{message}");
                prop_assert!(message.chars().count() < 2000, "{message}");
            }
        }
    }

    #[test]
    fn a_snapshots_name_is_legal_and_its_own(name in "\\PC{0,300}", id in text(), seconds in 0i64..4_000_000_000) {
        let slot = Slot::at(jiff::Timestamp::from_second(seconds).unwrap());
        let of = |attempt| snapshot_name("snapkeep", &ResourceId(id.clone()), &name, slot, attempt);
        let first = of(1);
        prop_assert!(first.starts_with(|c: char| c.is_ascii_alphanumeric()), "{first}");
        prop_assert!(first.chars().all(|c| c.is_ascii_alphanumeric() || "._-".contains(c)), "{first}");
        prop_assert!((2..=255).contains(&first.len()), "{first}");
        prop_assert!(first.contains(&slot.compact()));
        prop_assert_ne!(first, of(2));
    }

    #[test]
    fn the_embedded_cloud_answers_any_body(
        bodies in proptest::collection::vec((0usize..12, json()), 1..6),
    ) {
        let operations = [
            "CreateInstances", "GetInstances", "GetInstance", "DeleteInstance", "CreateInstanceSnapshot",
            "GetInstanceSnapshot", "GetInstanceSnapshots", "DeleteInstanceSnapshot", "TagResource",
            "UntagResource", "GetAutoSnapshots", "GetOperation",
        ];
        let mut cloud = Lightsail::new(Knobs::default());
        let now = at("2026-11-20T03:00:00Z");
        for (operation, body) in bodies {
            if let Err(error) = cloud.call(now, "eu-west-1", operations[operation], &body) {
                prop_assert!(error.kind.ends_with("Exception") && !error.message.is_empty(), "{error:?}");
                prop_assert_ne!(error.kind, "ServiceException");
            }
        }
    }
}
