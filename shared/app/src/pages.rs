//! Turning the pages of a list: throttled and lost pages are asked for again, a token that is too old begins
//! the list anew, and a list that goes round in circles is an error.

use std::collections::BTreeSet;
use std::time::Duration;

use crate::pace::STALLED_AFTER;
use crate::ports::{Deadline, ErrorKind, Page, ProviderError};

/// More pages than any account has; without a bound, a service gone mad would hold us forever.
const PAGES_MAX: usize = 10_000;
/// How often a list is begun anew when its tokens expire.
const BEGUN_MAX: u32 = 3;
/// The first pause before a page is asked for again; it doubles.
const PAUSE: Duration = Duration::from_millis(250);
const PAUSE_MAX: Duration = Duration::from_secs(4);

/// What turning brings.
pub(crate) enum Turned<T> {
    /// A page.
    Page(Vec<T>),
    /// The list begins anew: what it showed so far may come again.
    Anew,
}

/// Turns all pages; `each` takes them one by one, and may take its time.
pub(crate) async fn turn<T, F>(
    deadline: &impl Deadline,
    operation: &'static str,
    fetch: impl Fn(Option<String>) -> F,
    mut each: impl AsyncFnMut(Turned<T>),
) -> Result<(), ProviderError>
where
    F: Future<Output = Result<Page<T>, ProviderError>>,
{
    let mut begun = 1;
    let mut broken = None;
    let mut used = BTreeSet::new();
    let mut token: Option<String> = None;
    let (mut progress, mut tries) = (deadline.elapsed(), 0_u32);
    for _ in 0..PAGES_MAX {
        let error = match fetch(token.clone()).await {
            Ok(page) => {
                each(Turned::Page(page.elements)).await;
                broken = broken.or(page.broken.into_iter().next());
                // An empty token ends the list like a missing one.
                let Some(next) = page.next.filter(|next| !next.is_empty()) else {
                    return broken.map_or(Ok(()), Err);
                };
                // Going round in a circle would show some elements twice and perhaps others never.
                if !used.insert(next.clone()) {
                    return Err(distrust(operation, "RepeatedToken", format!("`{next}` came twice")));
                }
                token = Some(next);
                (progress, tries) = (deadline.elapsed(), 0);
                if deadline.elapsed() >= deadline.stop() {
                    let message = "there was no time for the rest of the list".to_owned();
                    return Err(distrust(operation, "NoTime", message));
                }
                continue;
            }
            Err(error) => error,
        };
        if error.kind == ErrorKind::BadPageToken && token.is_some() && begun < BEGUN_MAX {
            begun += 1;
            token = None;
            used.clear();
            each(Turned::Anew).await;
            continue;
        }
        let now = deadline.elapsed();
        let stalled = tries > 0 && now.saturating_sub(progress) >= STALLED_AFTER;
        if !error.kind.transient() || stalled || now >= deadline.stop() {
            return Err(error);
        }
        let pause = PAUSE.saturating_mul(1 << tries.min(5)).min(PAUSE_MAX);
        deadline.sleep(pause.min(deadline.stop().saturating_sub(now))).await;
        tries += 1;
    }
    Err(distrust(operation, "TooManyPages", format!("no end after {PAGES_MAX} pages")))
}

/// An answer that cannot be trusted: asking again may help, believing it may not.
fn distrust(operation: &'static str, code: &str, message: String) -> ProviderError {
    ProviderError { kind: ErrorKind::Indeterminate, operation, code: code.to_owned(), message }
}
