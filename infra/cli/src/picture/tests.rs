use super::*;

fn at(text: &str) -> Timestamp {
    text.parse().unwrap()
}

fn snapshot(name: &str, slot: &str, state: &str) -> Snapshot {
    Snapshot {
        name: name.to_owned(),
        slot: at(slot),
        state: state.to_owned(),
        reasons: vec!["daily".to_owned()],
        marked_at: None,
        execute_at: None,
        held: false,
        held_until: None,
        size_gb: 20,
        gone_at: None,
    }
}

fn instance(name: &str, snapshots: Vec<Snapshot>) -> Instance {
    Instance {
        resource: format!("arn:aws:lightsail:eu-central-1:1:Instance/{name}"),
        name: name.to_owned(),
        place: "eu-central-1".to_owned(),
        state: "protected".to_owned(),
        policy: Some("default".to_owned()),
        schedule: Some("daily@03:00".to_owned()),
        keep: Some("daily=7".to_owned()),
        newest: Some(at("2026-11-01T03:00:00Z")),
        age_seconds: Some(36_000),
        promise_seconds: Some(93_600),
        overdue: false,
        next_slot: Some(at("2026-11-02T03:00:00Z")),
        size_gb: 40,
        cost_usd_month: 2.0,
        proven: None,
        note: None,
        snapshots,
    }
}

fn empty() -> Picture {
    Picture {
        title: "Status".to_owned(),
        deployment: "production".to_owned(),
        now: at("2026-11-01T13:00:00Z"),
        from: at("2026-10-01T00:00:00Z"),
        to: at("2026-11-08T00:00:00Z"),
        findings: Vec::new(),
        instances: Vec::new(),
        storage: Vec::new(),
        actions: Vec::new(),
    }
}

fn point(time: &str, size_gb: u64, cost_usd_month: f64) -> Point {
    Point { at: at(time), size_gb, cost_usd_month }
}

/// A picture that has something of everything.
fn full() -> Picture {
    let states = "available expiring deleting pending requested intended failed deleted error";
    let mut snapshots: Vec<Snapshot> = states
        .split(' ')
        .map(|state| snapshot(&format!("web-{state}"), "2026-10-20T03:00:00Z", state))
        .collect();
    snapshots.push(Snapshot {
        held: true,
        held_until: Some("2027-01-01".to_owned()),
        ..snapshot("web-held", "2026-09-01T03:00:00Z", "available")
    });
    Picture {
        findings: vec![
            finding("info", "a note"),
            finding("error", "a break"),
            finding("warning", "a risk"),
        ],
        instances: vec![
            instance("web", snapshots),
            Instance { age_seconds: Some(i64::MAX), overdue: true, ..instance("db", Vec::new()) },
            Instance { state: "unprotected".to_owned(), ..instance("spare", Vec::new()) },
        ],
        storage: vec![
            point("2026-09-01T00:00:00Z", 100, 5.0),
            point("2026-10-15T00:00:00Z", 200, 10.0),
            point("2026-11-05T00:00:00Z", 150, 7.5),
        ],
        actions: vec![Action {
            at: at("2026-11-02T03:00:00Z"),
            action: "take".to_owned(),
            name: "web".to_owned(),
            place: "eu-central-1".to_owned(),
            snapshot: "web-next".to_owned(),
            reasons: vec!["daily".to_owned()],
            execute_at: None,
            size_gb: 20,
        }],
        ..empty()
    }
}

fn finding(severity: &str, message: &str) -> Finding {
    Finding {
        severity: severity.to_owned(),
        code: "stale".to_owned(),
        name: "web".to_owned(),
        place: "eu-central-1".to_owned(),
        message: message.to_owned(),
        fix: Some("Do nothing.".to_owned()),
    }
}

#[test]
fn an_empty_picture_says_that_nothing_is_there() {
    let page = html(&empty());
    assert!(page.contains("There are no instances."));
    assert!(page.contains("Nothing is wrong."));
    assert!(page.contains("Nothing is planned."));
}

#[test]
fn text_is_escaped_wherever_it_stands() {
    let evil = r#"<script>alert("1")</script>&'"#;
    let mut picture = full();
    picture.title = evil.to_owned();
    picture.deployment = evil.to_owned();
    for finding in &mut picture.findings {
        for text in [&mut finding.severity, &mut finding.code, &mut finding.message] {
            evil.clone_into(text);
        }
    }
    for instance in &mut picture.instances {
        for text in [&mut instance.name, &mut instance.place, &mut instance.resource] {
            evil.clone_into(text);
        }
        for snapshot in &mut instance.snapshots {
            evil.clone_into(&mut snapshot.name);
            evil.clone_into(&mut snapshot.state);
            snapshot.reasons = vec![evil.to_owned()];
        }
    }
    let page = html(&picture);
    assert!(!page.contains("<script"));
    assert!(page.contains("&lt;script&gt;alert(&quot;1&quot;)&lt;/script&gt;&amp;'"));
}

#[test]
fn every_name_is_in_the_page() {
    let picture = full();
    let page = html(&picture);
    for instance in &picture.instances {
        assert!(page.contains(&format!("<h3>{}</h3>", instance.name)), "{}", instance.name);
        for snapshot in &instance.snapshots {
            let cell = format!("<th scope=\"row\">{}</th>", snapshot.name);
            assert!(page.contains(&cell), "{}", snapshot.name);
        }
    }
}

#[test]
fn the_page_refers_to_nothing_outside() {
    let page = html(&full());
    for reference in ["http:", "https:", "src=", "<link", "@import", "url(", "<script", "xmlns"] {
        assert!(!page.contains(reference), "{reference}");
    }
    let all = page.matches("href=").count();
    assert_eq!(page.matches("href=\"#").count(), all);
}

#[test]
fn every_reference_has_its_target_and_every_id_is_unique() {
    let page = html(&full());
    let values = |key: &str| -> Vec<String> {
        let value = |part: &str| part.split('"').next().unwrap().to_owned();
        page.split(key).skip(1).map(value).collect()
    };
    let ids = values(" id=\"");
    for target in values("href=\"#").iter().chain(&values("aria-labelledby=\"")) {
        assert_eq!(ids.iter().filter(|id| *id == target).count(), 1, "{target}");
    }
}

#[test]
fn errors_come_before_warnings_and_notes() {
    let page = html(&full());
    let place = |text: &str| page.find(text).unwrap();
    assert!(place("a break") < place("a risk"));
    assert!(place("a risk") < place("a note"));
}

#[test]
fn one_sentence_says_how_all_stands() {
    let text = standing(&full().instances).into_string();
    let text = text.replace("<strong>", "").replace("</strong>", "");
    let text = text.replace("<strong class=\"bad\">", "");
    assert_eq!(
        text,
        "Of 3 instances, 2 are protected, 1 is unprotected and 1 is overdue; their 4 snapshots \
         hold 120 GB and cost at most $6.00 a month."
    );
}

#[test]
fn odd_times_and_numbers_do_not_break_the_page() {
    let pages = [
        Picture { to: at("2026-10-01T00:00:00Z"), ..full() },
        Picture { from: at("2027-10-01T00:00:00Z"), ..full() },
        Picture { from: Timestamp::MIN, to: Timestamp::MAX, ..full() },
        Picture { from: Timestamp::MAX, to: Timestamp::MAX, now: Timestamp::MIN, ..full() },
        Picture { storage: vec![point("2026-11-01T13:00:00Z", 0, 0.0)], ..full() },
        Picture { storage: vec![point("2026-10-20T00:00:00Z", u64::MAX, f64::NAN)], ..full() },
        Picture { storage: vec![point("2027-10-20T00:00:00Z", 7, f64::INFINITY)], ..full() },
    ];
    for picture in pages {
        let page = html(&picture);
        assert!(page.ends_with("</html>"));
        assert!(!page.contains("NaN%") && !page.contains("inf%"));
        let numbers = page.split(" d=\"").skip(1).filter_map(|part| part.split('"').next());
        for path in numbers {
            assert!(!path.contains("NaN") && !path.contains("inf"), "{path}");
        }
    }
}

#[test]
fn an_axis_names_few_times() {
    let from = at("2026-09-28T05:00:00Z");
    for hours in [1, 5, 24, 70, 24 * 8, 24 * 31, 24 * 90, 24 * 365, 24 * 3650, 24 * 365_000] {
        let to = from + jiff::SignedDuration::from_hours(hours);
        let names = Axis::new(from, to, from).ticks().len();
        assert!((1..=14).contains(&names), "{hours} hours have {names} names");
    }
}

#[test]
fn weeks_begin_on_mondays_and_years_are_named_when_they_change() {
    let axis = Axis::new(
        at("2026-12-01T00:00:00Z"),
        at("2027-01-20T00:00:00Z"),
        at("2026-12-24T00:00:00Z"),
    );
    let names: Vec<String> = axis
        .ticks()
        .into_iter()
        .map(|tick| {
            [Some(tick.name), tick.context].into_iter().flatten().collect::<Vec<_>>().join(" ")
        })
        .collect();
    assert_eq!(
        names,
        ["7 Dec 2026", "14 Dec", "21 Dec", "28 Dec", "4 Jan 2027", "11 Jan", "18 Jan"]
    );
}

#[test]
fn durations_have_their_two_largest_units() {
    let cases = [
        (0, "0 seconds"),
        (59, "59 seconds"),
        (60, "1 minute"),
        (3 * 60 + 5, "3 minutes 5 seconds"),
        (45 * 60 + 5, "45 minutes"),
        (9 * 3600 + 12 * 60, "9 hours 12 minutes"),
        (86_400, "1 day"),
        (86_400 + 60, "1 day"),
        (2 * 86_400 + 3600, "2 days 1 hour"),
        (4000 * 86_400 + 3600, "4,000 days"),
        (-5, "0 seconds"),
    ];
    for (seconds, words) in cases {
        assert_eq!(text::duration(seconds), words);
    }
}

#[test]
fn storage_before_the_axis_is_one_level_at_its_edge() {
    let picture = Picture {
        storage: vec![
            point("2026-08-01T00:00:00Z", 900, 45.0),
            point("2026-09-01T00:00:00Z", 100, 5.0),
            point("2026-10-20T00:00:00Z", 200, 10.0),
        ],
        ..empty()
    };
    let page = html(&picture);
    let path = page.split("class=\"line\" d=\"").nth(1).unwrap();
    assert!(path.starts_with("M0.0 198.0H"), "{}", &path[..20]);
}

#[test]
fn marks_have_the_shape_of_their_state() {
    let page = html(&full());
    let marks = |shape: &str| page.matches(&format!("href=\"#{shape}\" x=\"5")).count();
    // The held one is older than the axis. Each legend's mark is elsewhere.
    let found = ["k", "m", "h", "p", "f", "d"].map(marks);
    assert_eq!(found, [1, 2, 0, 3, 2, 1]);
    assert!(page.contains("1 snapshot is older than the left edge and not drawn."));
}
