//! A picture of a deployment: one HTML page that needs nothing but itself. It has no script and no
//! reference to another file, so it opens anywhere, now and in ten years.

use std::cmp::Reverse;

use jiff::Timestamp;
use maud::{DOCTYPE, Markup, PreEscaped, html as markup};

use axis::Axis;
use text::{count, dollars, number};

mod axis;
mod charts;
mod shapes;
mod storage;
mod tables;
#[cfg(test)]
mod tests;
mod text;
mod timeline;

const STYLE: &str = include_str!("picture/style.css");

/// Up to this many instances, their snapshots are shown without a click.
const FEW: usize = 3;

/// What the page shows.
pub(crate) struct Picture {
    /// The heading, such as "Status" or "Report for 2026-10".
    pub(crate) title: String,
    /// The name of the deployment.
    pub(crate) deployment: String,
    /// When the picture is taken.
    pub(crate) now: Timestamp,
    /// The left edge of the time axis.
    pub(crate) from: Timestamp,
    /// The right edge of the time axis. What is after `now` is forecast.
    pub(crate) to: Timestamp,
    /// What is wrong.
    pub(crate) findings: Vec<Finding>,
    /// The instances, in the order in which they are shown.
    pub(crate) instances: Vec<Instance>,
    /// The storage over time, by time. It may go beyond `now`.
    pub(crate) storage: Vec<Point>,
    /// What happens next, by time.
    pub(crate) actions: Vec<Action>,
}

/// Something that is wrong.
pub(crate) struct Finding {
    /// error, warning or info.
    pub(crate) severity: String,
    /// The finding's kind, such as `stale`.
    pub(crate) code: String,
    /// What it is about: the name of an instance or of a snapshot.
    pub(crate) name: String,
    /// Where that is.
    pub(crate) place: String,
    /// What happened, to what, and why.
    pub(crate) message: String,
    /// What to do.
    pub(crate) fix: Option<String>,
}

/// An instance and its snapshots.
pub(crate) struct Instance {
    /// Its ARN.
    pub(crate) resource: String,
    /// Its name.
    pub(crate) name: String,
    /// Its region or zone.
    pub(crate) place: String,
    /// protected, off, unprotected or deleted.
    pub(crate) state: String,
    /// The name of its policy.
    pub(crate) policy: Option<String>,
    /// Its schedule, such as daily@03:00.
    pub(crate) schedule: Option<String>,
    /// Its retention, such as "daily=7 weekly=4".
    pub(crate) keep: Option<String>,
    /// The slot of its newest snapshot.
    pub(crate) newest: Option<Timestamp>,
    /// The age of its newest snapshot.
    pub(crate) age_seconds: Option<i64>,
    /// The age that its newest snapshot may reach.
    pub(crate) promise_seconds: Option<i64>,
    /// Whether the promise is broken.
    pub(crate) overdue: bool,
    /// When its next snapshot is due.
    pub(crate) next_slot: Option<Timestamp>,
    /// The size of all its snapshots.
    pub(crate) size_gb: u64,
    /// What its snapshots cost at most.
    pub(crate) cost_usd_month: f64,
    /// When a restore last proved a snapshot, such as "2026-11-01, in 141 s".
    pub(crate) proven: Option<String>,
    /// A remark, such as "30 of 31 slots served".
    pub(crate) note: Option<String>,
    /// Its snapshots, those that are gone too.
    pub(crate) snapshots: Vec<Snapshot>,
}

/// A snapshot that exists, existed, or was to exist.
pub(crate) struct Snapshot {
    /// Its name.
    pub(crate) name: String,
    /// The time for which it was taken.
    pub(crate) slot: Timestamp,
    /// available, expiring, deleting, pending, requested, intended, failed, deleted or error.
    pub(crate) state: String,
    /// Why it stays or goes: "daily", "no rule keeps it".
    pub(crate) reasons: Vec<String>,
    /// When its deletion was announced.
    pub(crate) marked_at: Option<Timestamp>,
    /// When it is deleted at the earliest.
    pub(crate) execute_at: Option<Timestamp>,
    /// Whether a hold protects it.
    pub(crate) held: bool,
    /// How long the hold lasts.
    pub(crate) held_until: Option<String>,
    /// Its size.
    pub(crate) size_gb: u32,
    /// When it was deleted.
    pub(crate) gone_at: Option<Timestamp>,
}

/// The storage at a time, until the next point.
pub(crate) struct Point {
    /// From when on.
    pub(crate) at: Timestamp,
    /// The size of all snapshots.
    pub(crate) size_gb: u64,
    /// What they cost at most.
    pub(crate) cost_usd_month: f64,
}

/// Something that happens next.
pub(crate) struct Action {
    /// When.
    pub(crate) at: Timestamp,
    /// take, mark, delete or rescue.
    pub(crate) action: String,
    /// The instance.
    pub(crate) name: String,
    /// Where the instance is.
    pub(crate) place: String,
    /// The snapshot.
    pub(crate) snapshot: String,
    /// Why.
    pub(crate) reasons: Vec<String>,
    /// For a mark: when the snapshot is deleted at the earliest.
    pub(crate) execute_at: Option<Timestamp>,
    /// The size of the snapshot.
    pub(crate) size_gb: u32,
}

/// The page.
pub(crate) fn html(picture: &Picture) -> String {
    let axis = Axis::new(picture.from, picture.to, picture.now);
    let page = markup! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta name="color-scheme" content="light dark";
                meta name="generator" content="snapkeep";
                title { (picture.title) " – " (picture.deployment) " – snapkeep" }
                style { (PreEscaped(STYLE)) }
            }
            body {
                (shapes::definitions())
                (header(picture))
                main {
                    (findings(&picture.findings))
                    (timeline::section(picture, &axis))
                    (charts::ages(&picture.instances, picture.now))
                    (storage::section(&picture.storage, &axis))
                    (tables::actions(&picture.actions, picture.now))
                    (tables::snapshots(&picture.instances, picture.instances.len() <= FEW))
                }
                footer {
                    "snapkeep made this page. All times are UTC. The provider bills only what \
                     changed between snapshots, so what they cost is at most what this page says."
                }
            }
        }
    };
    page.into_string()
}

fn header(picture: &Picture) -> Markup {
    let sections = [
        ("wrong", "What is wrong"),
        ("timeline", "Timeline"),
        ("ages", "Ages"),
        ("storage", "Storage and cost"),
        ("next", "What happens next"),
        ("snapshots", "Every snapshot"),
    ];
    markup! {
        header {
            p.brand { span { (picture.deployment) }
                time datetime=(picture.now) { (text::time(picture.now)) " UTC" } }
            h1 { (picture.title) }
            p.lead { (standing(&picture.instances)) }
            nav aria-label="On this page" {
                ul { @for (id, name) in sections { li { a href={ "#" (id) } { (name) } } } }
            }
        }
    }
}

/// One sentence that says how all stands.
fn standing(instances: &[Instance]) -> Markup {
    if instances.is_empty() {
        return markup! { "There are no instances." };
    }
    let of = |state: &str| instances.iter().filter(|instance| instance.state == state).count();
    let overdue = instances.iter().filter(|instance| instance.overdue).count();
    let parts = [
        (of("protected"), "protected", true, false),
        (of("off"), "off", false, false),
        (of("deleted"), "deleted", false, false),
        (of("unprotected"), "unprotected", true, true),
        (overdue, "overdue", true, true),
    ];
    let parts: Vec<_> = parts.into_iter().filter(|(n, _, always, _)| *always || *n > 0).collect();
    let last = parts.len().saturating_sub(1);
    let existing = |instance: &Instance| {
        instance.snapshots.iter().filter(|snapshot| shapes::Kind::of(snapshot).exists()).count()
    };
    let snapshots: usize = instances.iter().map(existing).sum();
    let size: u64 = instances.iter().map(|i| i.size_gb).fold(0, u64::saturating_add);
    let cost: f64 = instances.iter().map(|instance| instance.cost_usd_month).sum();
    markup! {
        "Of " strong { (count(instances.len(), "instance", "instances")) } ", "
        @for (index, (n, word, _, bad)) in parts.iter().enumerate() {
            @if index == last { " and " } @else if index > 0 { ", " }
            strong class=[(*bad && *n > 0).then_some("bad")] {
                (number(*n)) @if *n == 1 { " is " } @else { " are " } (word)
            }
        }
        @if instances.len() == 1 { "; its " } @else { "; their " }
        strong { (count(snapshots, "snapshot", "snapshots")) }
        @if snapshots == 1 { " holds " } @else { " hold " } strong { (number(size)) " GB" }
        @if snapshots == 1 { " and costs at most " } @else { " and cost at most " }
        strong { (dollars(cost)) " a month" } "."
    }
}

/// What is wrong, errors first.
fn findings(findings: &[Finding]) -> Markup {
    let mut sorted: Vec<&Finding> = findings.iter().collect();
    sorted.sort_by_key(|finding| Reverse(weight(&finding.severity)));
    let class = |finding: &Finding| match weight(&finding.severity) {
        3 => "error",
        2 => "warning",
        _ => "info",
    };
    markup! {
        section aria-labelledby="wrong" {
            h2 #wrong { "What is wrong" }
            @if sorted.is_empty() {
                p.fine { (shapes::tick()) "Nothing is wrong." }
            } @else {
                ul.findings {
                    @for finding in sorted {
                        li class=(class(finding)) {
                            p.what {
                                span.badge { (finding.severity) }
                                b { (finding.name) } span.place { (finding.place) }
                                code { (finding.code) }
                            }
                            p { (finding.message) }
                            @if let Some(fix) = &finding.fix {
                                p.fix { b { "What to do: " } (fix) }
                            }
                        }
                    }
                }
            }
        }
    }
}

/// How grave a severity is.
fn weight(severity: &str) -> u8 {
    match severity {
        "error" => 3,
        "warning" => 2,
        "info" => 1,
        _ => 0,
    }
}
