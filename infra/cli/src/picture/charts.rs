//! The ages of the newest snapshots against their promises.

use std::cmp::Ordering;

use jiff::Timestamp;
use maud::{Markup, html};

use super::Instance;
use super::text::{distance, duration, number, percent, time};
use super::timeline::{anchor, badge};

/// The widest scale: what is older than this many promises ends in an arrow.
const WIDEST: f64 = 2.5;
/// The narrowest scale, so that the promise has room beside it.
const NARROWEST: f64 = 1.25;

/// The age of the newest snapshot of each protected instance, the worst first.
pub(super) fn ages(instances: &[Instance], now: Timestamp) -> Markup {
    let mut rows: Vec<(&Instance, Option<f64>)> = instances
        .iter()
        .filter(|instance| instance.state == "protected")
        .map(|instance| (instance, share(instance)))
        .collect();
    rows.sort_by(worse);
    let most = rows.iter().filter_map(|(_, share)| *share).fold(0.0, f64::max);
    let scale = (most * 1.05).clamp(NARROWEST, WIDEST);
    html! {
        section aria-labelledby="ages" {
            h2 #ages { "Ages against promises" }
            @if rows.is_empty() {
                p { "No instance is protected, so nothing is promised." }
            } @else {
                div.scroll role="region" aria-label="Ages against promises, as a table"
                    tabindex="0" {
                    table.ages {
                        caption {
                            "How old the newest snapshot of each protected instance is, as a share \
                             of the age that it may reach; the worst first."
                        }
                        thead {
                            tr {
                                th scope="col" { "Instance" }
                                th.bar scope="col" {
                                    span.hidden { "Share of the promise" } (ruler(scale))
                                }
                                th.n scope="col" { "Share" }
                                th scope="col" { "Age" }
                                th scope="col" { "Promise" }
                                th scope="col" { "Next slot" }
                            }
                        }
                        tbody {
                            @for (instance, share) in rows { (row(instance, share, scale, now)) }
                        }
                    }
                }
            }
        }
    }
}

/// How much of its promise an instance has used.
fn share(instance: &Instance) -> Option<f64> {
    let (age, promise) = (instance.age_seconds?, instance.promise_seconds?);
    (promise > 0).then(|| age.max(0) as f64 / promise as f64)
}

/// Overdue ones first, then those without an age, then by share.
fn worse(a: &(&Instance, Option<f64>), b: &(&Instance, Option<f64>)) -> Ordering {
    let key = |row: &(&Instance, Option<f64>)| row.1.unwrap_or(f64::INFINITY);
    let overdue = b.0.overdue.cmp(&a.0.overdue);
    overdue.then(key(b).total_cmp(&key(a))).then_with(|| a.0.name.cmp(&b.0.name))
}

/// The scale above the bars.
fn ruler(scale: f64) -> Markup {
    // The name of the promise needs the room beside it where the scale is wide.
    let marks: &[f64] = if scale > 1.5 { &[0.0, 1.0, 2.0] } else { &[0.0, 0.5, 1.0] };
    html! {
        svg height="20" aria-hidden="true" {
            @for mark in marks.iter().copied().filter(|mark| *mark <= scale) {
                @let x = mark / scale;
                @let is_promise = mark == 1.0;
                text class=[is_promise.then_some("promise")]
                    x=(percent(x)) y="14" text-anchor=(anchor(x)) {
                    (format!("{:.0} %", mark * 100.0)) @if is_promise { " = promise" }
                }
            }
        }
    }
}

fn row(instance: &Instance, share: Option<f64>, scale: f64, now: Timestamp) -> Markup {
    html! {
        tr {
            th scope="row" {
                (instance.name) @if instance.overdue { " " (badge(instance)) }
                small { (instance.place) }
            }
            td.bar { (bar(instance.overdue, share, scale)) }
            td.n.t {
                @if let Some(share) = share { (number(format!("{:.0}", share * 100.0))) " %" }
            }
            td.t {
                @match instance.age_seconds {
                    Some(age) => (duration(age)),
                    None => "no snapshot yet",
                }
            }
            td.t {
                @match instance.promise_seconds {
                    Some(promise) => { "at most " (duration(promise)) },
                    None => "no promise",
                }
            }
            td.t {
                @if let Some(next) = instance.next_slot {
                    (time(next)) small { (distance(next, now)) }
                }
            }
        }
    }
}

fn bar(is_overdue: bool, share: Option<f64>, scale: f64) -> Markup {
    let width = share.map(|share| (share / scale).min(1.0));
    let words = match share {
        Some(share) => format!("{:.0} percent of the promise", share * 100.0),
        None => "no age".to_owned(),
    };
    let promise = percent(1.0 / scale);
    html! {
        svg height="22" role="img" aria-label=(words) {
            rect.ground x="0" y="4" width="100%" height="14" rx="2" {}
            @if let Some(width) = width {
                rect x="0" y="4" width=(percent(width)) height="14" rx="2"
                    class=(if is_overdue { "overdue" } else { "age" }) {}
                // Dashes that are as thick as the bar are its stripes.
                @if is_overdue { line.stripes x1="3" x2=(percent(width)) y1="11" y2="11" {} }
            }
            @if share.is_some_and(|share| share > scale) {
                svg x="100%" overflow="visible" {
                    path.cut d="M-14 3H1V19H-14Z" {}
                    path.arrow d="M-11 4 0 11-11 18Z" {}
                }
            }
            line.halo x1=(promise) x2=(promise) y1="0" y2="22" {}
            line.promise x1=(promise) x2=(promise) y1="0" y2="22" {}
        }
    }
}
