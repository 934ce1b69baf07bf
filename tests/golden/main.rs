//! What well-known policies keep of one history, named by their text. Read the files in `snapshots/`:
//! they are what a user gets. `cargo insta review` shows a change of them.

#![expect(clippy::unwrap_used, reason = "a golden that cannot be made fails there")]

use std::fmt::Write as _;

use jiff::{SignedDuration, Timestamp};
use snapkeep_domain::policy::keep::Keep;
use snapkeep_domain::policy::schedule::Schedule;
use snapkeep_domain::time::{Slot, Zone};
use snapkeep_tests::at;

/// Hourly for two days, daily for ten weeks, monthly for three years: the newest at the end of the night
/// in which Berlin's and Lord Howe's clocks have changed not long ago.
fn history(zone: &Zone) -> Vec<Timestamp> {
    let now = at("2026-10-26T04:10:00Z");
    let reach = [("hourly", 2), ("daily@03:00", 70), ("monthly@1-03:00", 1100)];
    let mut times: Vec<Timestamp> = reach
        .iter()
        .flat_map(|(schedule, days)| {
            let schedule: Schedule = schedule.parse().unwrap();
            let oldest = now - SignedDuration::from_hours(24 * days);
            let slots = schedule.slots_back(zone, now).map(Slot::timestamp);
            slots.take_while(|time| *time >= oldest).collect::<Vec<_>>()
        })
        .collect();
    times.sort_unstable_by(|a, b| b.cmp(a));
    times.dedup();
    times
}

#[test]
fn what_policies_keep() {
    let policies = [
        ("last=3", "UTC"),
        ("within=36h", "UTC"),
        ("within=1y6m", "Europe/Berlin"),
        ("hourly=30", "Europe/Berlin"),
        ("hourly=30", "Australia/Lord_Howe"),
        ("daily=7", "America/New_York"),
        ("daily=7 weekly=4 monthly=12 yearly=2", "Europe/Berlin"),
        ("last=3 hourly=24 daily=7 weekly=4 monthly=12 yearly=2 within=30d", "UTC"),
        ("yearly=10", "UTC"),
        ("all", "UTC"),
    ];
    for (policy, zone) in policies {
        let zone: Zone = zone.parse().unwrap();
        let keep: Keep = policy.parse().unwrap();
        let times = history(&zone);
        let judged = keep.judge(&times, &zone);
        let mut shown = String::new();
        let mut deleted = 0;
        for (time, reasons) in times.iter().zip(&judged) {
            if reasons.is_empty() {
                deleted += 1;
                continue;
            }
            if deleted > 0 {
                writeln!(shown, "  ({deleted} deleted)").unwrap();
                deleted = 0;
            }
            let civil = time.to_zoned(zone.rules().clone());
            let reasons: Vec<String> = reasons.iter().map(ToString::to_string).collect();
            writeln!(shown, "{time}  {}  {}", civil.strftime("%a %F %H:%M"), reasons.join(", "))
                .unwrap();
        }
        if deleted > 0 {
            writeln!(shown, "  ({deleted} deleted)").unwrap();
        }
        let name = format!("{policy} in {}", zone.name()).replace([' ', '/'], "_");
        insta::with_settings!({ description => format!("keep {policy} in {}", zone.name()), omit_expression => true }, {
            insta::assert_snapshot!(name, shown);
        });
    }
}
