//! The tables: what happens next, and every snapshot.

use std::borrow::Cow;
use std::cmp::Reverse;

use jiff::Timestamp;
use maud::{Markup, html};

use super::shapes::Kind;
use super::text::{count, distance, dollars, duration, number, time};
use super::timeline::badge;
use super::{Action, Instance, Snapshot};

/// What happens next.
pub(super) fn actions(actions: &[Action], now: Timestamp) -> Markup {
    html! {
        section aria-labelledby="next" {
            h2 #next { "What happens next" }
            @if actions.is_empty() {
                p { "Nothing is planned." }
            } @else {
                div.scroll role="region" aria-label="What happens next, as a table" tabindex="0" {
                    table {
                        caption { (count(actions.len(), "action is", "actions are")) " planned." }
                        thead {
                            tr {
                                th scope="col" { "Time" }
                                th scope="col" { "Action" }
                                th scope="col" { "Instance" }
                                th scope="col" { "Snapshot" }
                                th scope="col" { "Why" }
                                th scope="col" { "Deleted after" }
                                th.n scope="col" { "GB" }
                            }
                        }
                        tbody { @for action in actions { (action_row(action, now)) } }
                    }
                }
            }
        }
    }
}

fn action_row(action: &Action, now: Timestamp) -> Markup {
    html! {
        tr {
            td.t {
                time datetime=(action.at) { (time(action.at)) }
                small { (distance(action.at, now)) }
            }
            td { b { (action.action) } }
            td { (action.name) small { (action.place) } }
            th scope="row" { (action.snapshot) }
            td { (action.reasons.join(", ")) }
            td.t { @if let Some(at) = action.execute_at { (time(at)) } }
            td.n { (number(action.size_gb)) }
        }
    }
}

/// Every snapshot of every instance.
pub(super) fn snapshots(instances: &[Instance], are_open: bool) -> Markup {
    html! {
        section aria-labelledby="snapshots" {
            h2 #snapshots { "Every snapshot" }
            @if instances.is_empty() {
                p { "There are no snapshots." }
            }
            @for (index, instance) in instances.iter().enumerate() {
                (instance_details(index, instance, are_open))
            }
        }
    }
}

fn instance_details(index: usize, instance: &Instance, is_open: bool) -> Markup {
    let exist = |snapshot: &&Snapshot| Kind::of(snapshot).exists();
    let existing = instance.snapshots.iter().filter(exist).count();
    html! {
        details.instance open[is_open] {
            summary {
                h3 { (instance.name) }
                span.place { (instance.place) }
                (badge(instance))
                span.sum {
                    (count(existing, "snapshot", "snapshots")) ", "
                    (number(instance.size_gb)) " GB"
                }
            }
            // A link to what is inside opens the details.
            div id={ "i" (index) } {
                (facts(instance))
                @if instance.snapshots.is_empty() {
                    p { "There are no snapshots of this instance." }
                } @else {
                    (snapshot_table(instance))
                }
            }
        }
    }
}

/// What is known about an instance.
fn facts(instance: &Instance) -> Markup {
    let at = |at: Option<Timestamp>| at.map(time).map(Cow::from);
    let text = |text: &'_ Option<String>| text.clone().map(Cow::from);
    let facts: [(&str, Option<Cow<'_, str>>); 12] = [
        ("State", Some(instance.state.as_str().into())),
        ("Policy", text(&instance.policy)),
        ("Schedule", text(&instance.schedule)),
        ("Keeps", text(&instance.keep)),
        ("Newest slot", at(instance.newest)),
        ("Age of the newest", instance.age_seconds.map(duration).map(Cow::from)),
        (
            "Promise",
            instance.promise_seconds.map(|most| format!("at most {}", duration(most)).into()),
        ),
        ("Next slot", at(instance.next_slot)),
        ("Cost at most", Some(format!("{} a month", dollars(instance.cost_usd_month)).into())),
        ("Restore proven", text(&instance.proven)),
        ("Note", text(&instance.note)),
        ("Resource", Some(instance.resource.as_str().into())),
    ];
    html! {
        dl {
            @for (name, fact) in facts {
                @if let Some(fact) = fact { div { dt { (name) } dd { (fact) } } }
            }
        }
    }
}

fn snapshot_table(instance: &Instance) -> Markup {
    let name = format!("Snapshots of {} in {}", instance.name, instance.place);
    let mut sorted: Vec<&Snapshot> = instance.snapshots.iter().collect();
    sorted.sort_by_key(|snapshot| Reverse(snapshot.slot));
    html! {
        div.scroll role="region" aria-label=(name) tabindex="0" {
            table {
                caption { (name) ", the newest first" }
                thead {
                    tr {
                        th scope="col" { "Snapshot" }
                        th scope="col" { "Slot" }
                        th scope="col" { "State" }
                        th scope="col" { "Why" }
                        th scope="col" { "Deleted after" }
                        th scope="col" { "Hold" }
                        th.n scope="col" { "GB" }
                    }
                }
                tbody { @for snapshot in sorted { (snapshot_row(snapshot)) } }
            }
        }
    }
}

/// A row of the largest tables. A page may have 30,000 of them, so its cells have no classes: the
/// style counts them.
fn snapshot_row(snapshot: &Snapshot) -> Markup {
    let class = match Kind::of(snapshot) {
        Kind::Failed => Some("bad"),
        Kind::Deleted => Some("gone"),
        _ => None,
    };
    html! {
        tr class=[class] {
            th scope="row" { (snapshot.name) }
            td { (snapshot.slot) }
            td {
                (snapshot.state)
                @if let Some(at) = snapshot.gone_at { small { "on " (time(at)) } }
                @else if let Some(at) = snapshot.marked_at { small { "marked " (time(at)) } }
            }
            td { (snapshot.reasons.join(", ")) }
            td { @if let Some(at) = snapshot.execute_at { (at) } }
            td { @if let Some(hold) = hold(snapshot) { (hold) } }
            td { (number(snapshot.size_gb)) }
        }
    }
}

/// How long a hold protects a snapshot.
pub(super) fn hold(snapshot: &Snapshot) -> Option<String> {
    let until = snapshot.held_until.as_ref();
    snapshot.held.then(|| until.map_or("held".to_owned(), |until| format!("held until {until}")))
}
