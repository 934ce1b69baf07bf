//! The marks of the timeline. Shape and colour both say what a mark is, so that one of them is
//! enough.

use maud::{Markup, html};

use super::Snapshot;

/// What a mark says about a snapshot.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Kind {
    // What is declared later is drawn later, over the others.
    /// It is gone.
    Deleted,
    /// It is available, and stays.
    Kept,
    /// It is being taken.
    Pending,
    /// Its deletion is announced.
    Marked,
    /// A hold protects it.
    Held,
    /// It failed.
    Failed,
}

impl Kind {
    pub(super) fn of(snapshot: &Snapshot) -> Self {
        match snapshot.state.as_str() {
            "failed" | "error" => Self::Failed,
            "deleted" => Self::Deleted,
            _ if snapshot.gone_at.is_some() => Self::Deleted,
            _ if snapshot.held => Self::Held,
            "available" => Self::Kept,
            "expiring" | "deleting" => Self::Marked,
            _ => Self::Pending,
        }
    }

    /// Whether there is a snapshot that takes storage.
    pub(super) fn exists(self) -> bool {
        matches!(self, Self::Kept | Self::Marked | Self::Held)
    }

    /// The shape's reference. It is short, because a page may have 30,000.
    pub(super) fn reference(self) -> &'static str {
        match self {
            Self::Deleted => "#d",
            Self::Kept => "#k",
            Self::Pending => "#p",
            Self::Marked => "#m",
            Self::Held => "#h",
            Self::Failed => "#f",
        }
    }
}

/// The reference of a snapshot that is expected.
pub(super) const TAKE: &str = "#t";
/// The reference of a deletion that is expected.
pub(super) const DELETE: &str = "#x";

const LEGEND: [(&str, &str); 8] = [
    ("#k", "kept"),
    ("#m", "marked for deletion"),
    ("#h", "held"),
    ("#p", "pending"),
    ("#f", "failed"),
    ("#d", "deleted"),
    (TAKE, "expected snapshot"),
    (DELETE, "expected deletion"),
];

/// The shapes, which the marks refer to.
pub(super) fn definitions() -> Markup {
    html! {
        svg.definitions width="0" height="0" aria-hidden="true" focusable="false" {
            defs {
                circle #k r="5" {}
                g #m { circle r="5" {} path d="M-8 0H8" {} }
                g #h { path d="M0-4.5 4.5 0 0 4.5-4.5 0Z" {} circle r="7.5" {} }
                path #p d="M0-5.5 5.5 4.5H-5.5Z" {}
                path #f d="M-4.5-4.5 4.5 4.5M-4.5 4.5 4.5-4.5" {}
                circle #d r="2.25" {}
                circle #t r="4.5" {}
                path #x d="M0-6V6M-3.5 2.5 0 6 3.5 2.5" {}
            }
        }
    }
}

/// What the shapes mean.
pub(super) fn legend() -> Markup {
    html! {
        ul.legend aria-label="Legend" {
            @for (reference, meaning) in LEGEND {
                li { (shape(reference)) (meaning) }
            }
            li { svg.shape aria-hidden="true" { path.now d="M10 0V20" {} } "now" }
        }
    }
}

/// One shape, beside a text that says what it means.
fn shape(reference: &str) -> Markup {
    html! { svg.shape aria-hidden="true" { use href=(reference) x="10" y="10" {} } }
}

/// The sign that all is well, beside a text that says so.
pub(super) fn tick() -> Markup {
    html! { svg.shape.ok aria-hidden="true" { path d="M4 10.5 8.5 15 16.5 5.5" {} } }
}
