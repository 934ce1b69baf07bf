//! The timeline: a row for each instance, a mark for each snapshot.

use std::collections::BTreeMap;

use maud::{Markup, html};

use super::axis::{Axis, Tick};
use super::shapes::{self, Kind};
use super::text::{count, percent, time};
use super::{Action, FEW, Instance, Picture, Snapshot};

/// Texts that are nearer than this to each other overlap.
const TOO_NEAR: f64 = 0.07;

/// A row with more marks than this has small ones.
const DENSE: usize = 60;

/// The actions of an instance, by its name and place.
type Actions<'a> = BTreeMap<(&'a str, &'a str), Vec<&'a Action>>;

pub(super) fn section(picture: &Picture, axis: &Axis) -> Markup {
    let mut actions = Actions::new();
    for action in &picture.actions {
        actions.entry((&action.name, &action.place)).or_default().push(action);
    }
    let is_older = |snapshot: &&Snapshot| axis.is_before(snapshot.slot);
    let all = picture.instances.iter().flat_map(|instance| &instance.snapshots);
    let older = all.filter(is_older).count();
    let drawn = |instance: &Instance| {
        instance.snapshots.iter().filter(|snapshot| axis.place(snapshot.slot).is_some()).count()
    };
    let is_dense = picture.instances.iter().any(|instance| drawn(instance) > DENSE);
    html! {
        section aria-labelledby="timeline" {
            h2 #timeline { "Timeline" }
            @if picture.instances.is_empty() {
                p { "There are no instances." }
            } @else {
                (shapes::legend())
                div.timeline.few[picture.instances.len() <= FEW].dense[is_dense] role="region"
                    aria-label="Timeline of the snapshots" tabindex="0" {
                    div.plot {
                        (head(axis))
                        (grid(axis))
                        ul.rows {
                            @for (index, instance) in picture.instances.iter().enumerate() {
                                (row(index, instance, axis, &actions))
                            }
                        }
                    }
                }
                p.note {
                    "Each mark is a snapshot at its slot. Point at a mark to see its details; the \
                     table "
                    a href="#snapshots" { "Every snapshot" } " has all of them."
                    @if older > 0 {
                        " " (count(older, "snapshot is", "snapshots are"))
                        " older than the left edge and not drawn."
                    }
                }
            }
        }
    }
}

/// The names of the times, above the rows.
fn head(axis: &Axis) -> Markup {
    html! {
        div.head aria-hidden="true" {
            svg height="44" {
                @for tick in axis.ticks() {
                    @let (x, anchor) = (percent(tick.x), anchor(tick.x));
                    @if let Some(context) = context(&tick, axis) {
                        text.context x=(x) y="14" text-anchor=(anchor) { (context) }
                    }
                    text x=(x) y="34" text-anchor=(anchor) { (tick.name) }
                }
                (now_name(axis, "14"))
            }
        }
    }
}

/// The name of the line that is now, and of what is right of it.
pub(super) fn now_name(axis: &Axis, y: &str) -> Markup {
    let now = axis.now();
    html! {
        @if let Some(now) = now {
            text.now x=(percent(now)) y=(y) text-anchor=(anchor(now)) { "now" }
        }
        // It has room only where the forecast is wide.
        @if axis.forecast() < 1.0 - 1.7 * TOO_NEAR {
            text.context x="100%" y=(y) text-anchor="end" { "forecast" }
        }
    }
}

/// A tick's context, if there is room for it beside the name of now.
fn context<'a>(tick: &'a Tick, axis: &Axis) -> Option<&'a str> {
    let is_near = |x: f64| (x - tick.x).abs() < TOO_NEAR;
    let is_hidden = axis.now().is_some_and(is_near) || is_near(1.0);
    tick.context.as_deref().filter(|_| !is_hidden)
}

/// How a text is aligned, so that it does not leave the picture.
pub(super) fn anchor(x: f64) -> &'static str {
    match x {
        x if x < 0.03 => "start",
        x if x > 0.97 => "end",
        _ => "middle",
    }
}

/// The lines behind the rows.
fn grid(axis: &Axis) -> Markup {
    html! {
        svg.grid aria-hidden="true" {
            (forecast(axis))
            (lines(axis))
            @if let Some(now) = axis.now() {
                @let x = percent(now);
                line.now x1=(x) x2=(x) y1="0" y2="100%" {}
            }
        }
    }
}

/// The ground of what is right of now.
pub(super) fn forecast(axis: &Axis) -> Markup {
    let begin = axis.forecast();
    html! {
        @if begin < 1.0 {
            rect.forecast x=(percent(begin)) y="0" width=(percent(1.0 - begin)) height="100%" {}
        }
    }
}

/// The lines of the times.
pub(super) fn lines(axis: &Axis) -> Markup {
    let line = |x: f64, class: &str| {
        let x = percent(x);
        html! { line class=(class) x1=(x) x2=(x) y1="0" y2="100%" {} }
    };
    html! {
        @for x in axis.lines() { (line(x, "minor")) }
        @for tick in axis.ticks() { (line(tick.x, "major")) }
    }
}

fn row(index: usize, instance: &Instance, axis: &Axis, actions: &Actions<'_>) -> Markup {
    let mut marks: Vec<(Kind, f64, &Snapshot)> = instance
        .snapshots
        .iter()
        .filter_map(|snapshot| Some((Kind::of(snapshot), axis.place(snapshot.slot)?, snapshot)))
        .collect();
    marks.sort_by_key(|(kind, ..)| *kind);
    let key = (instance.name.as_str(), instance.place.as_str());
    let expected = actions.get(&key).map(Vec::as_slice).unwrap_or_default();
    html! {
        li {
            div.label title={ (instance.name) ", " (instance.place) } {
                a href={ "#i" (index) } { (instance.name) }
                span.place { (instance.place) }
                (badge(instance))
            }
            svg role="img" aria-label=(summary(instance)) {
                @for action in expected { (expectation(action, axis)) }
                @for (kind, x, snapshot) in marks {
                    use href=(kind.reference()) x=(percent(x)) { title { (details(snapshot)) } }
                }
            }
        }
    }
}

/// What must be noticed about an instance, in a word.
pub(super) fn badge(instance: &Instance) -> Markup {
    html! {
        @if instance.overdue {
            span.badge.overdue { "overdue" }
        } @else if instance.state == "unprotected" {
            span.badge.unprotected { "unprotected" }
        } @else if instance.state != "protected" {
            span.badge { (instance.state) }
        }
    }
}

/// A row in words.
fn summary(instance: &Instance) -> String {
    let of = |kind: Kind| {
        instance.snapshots.iter().filter(|snapshot| Kind::of(snapshot) == kind).count()
    };
    let words = [
        (Kind::Kept, "kept"),
        (Kind::Marked, "marked"),
        (Kind::Held, "held"),
        (Kind::Pending, "pending"),
        (Kind::Failed, "failed"),
        (Kind::Deleted, "deleted"),
    ];
    let counts: Vec<String> = words
        .iter()
        .map(|(kind, word)| (of(*kind), word))
        .filter(|(n, _)| *n > 0)
        .map(|(n, word)| format!("{n} {word}"))
        .collect();
    let counts = if counts.is_empty() { "no snapshots".to_owned() } else { counts.join(", ") };
    format!("{} in {}: {counts}", instance.name, instance.place)
}

/// A take or a deletion that is expected. A mark changes no snapshot that the row shows.
fn expectation(action: &Action, axis: &Axis) -> Markup {
    let reference = match action.action.as_str() {
        "take" => shapes::TAKE,
        "delete" => shapes::DELETE,
        _ => return html! {},
    };
    let Some(x) = axis.place(action.at) else { return html! {} };
    let mut text = format!("{}\nexpected: {} {}", action.snapshot, action.action, time(action.at));
    if !action.reasons.is_empty() {
        text.push_str("\nwhy: ");
        text.push_str(&action.reasons.join(", "));
    }
    html! { use href=(reference) x=(percent(x)) { title { (text) } } }
}

/// What a mark says when somebody points at it.
fn details(snapshot: &Snapshot) -> String {
    let mut text = format!("{}\nslot {}, {}", snapshot.name, time(snapshot.slot), snapshot.state);
    let mut add = |part: &str, value: &str| {
        text.push_str(part);
        text.push_str(value);
    };
    if !snapshot.reasons.is_empty() {
        add("\nwhy: ", &snapshot.reasons.join(", "));
    }
    if let Some(at) = snapshot.marked_at {
        add("\nmarked ", &time(at));
    }
    if let Some(at) = snapshot.execute_at {
        add("\ndeleted after ", &time(at));
    }
    if let Some(until) = super::tables::hold(snapshot) {
        add("\n", &until);
    }
    if let Some(at) = snapshot.gone_at {
        add("\ndeleted ", &time(at));
    }
    text
}
