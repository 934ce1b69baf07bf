//! Turns the pages of a list: pages that were throttled or lost are asked for again, an expired
//! token begins the list anew, and a list that goes round in circles is an error.

use std::collections::BTreeSet;
use std::time::Duration;

use crate::pace::STALLED_AFTER;
use crate::ports::{Deadline, ErrorKind, Page, ProviderError};

/// More pages than any account has; without a bound, a faulty service would hold the run forever.
const PAGES_MAX: usize = 10_000;
/// How often a list is begun at most; it begins anew when its tokens expire.
const BEGUN_MAX: u32 = 3;
/// How often a list is read again at most, because it is not as long as the provider says.
const READ_AGAIN_MAX: u32 = 3;
/// The first pause before a page is asked for again; it doubles up to `PAUSE_MAX`.
const PAUSE: Duration = Duration::from_millis(250);
const PAUSE_MAX: Duration = Duration::from_secs(4);

const MOVING: &str = "its length and its elements did not agree";

/// What `turn` hands over.
pub(crate) enum Turned<T> {
    /// The elements of a page.
    Page(Vec<T>),
    /// The list begins anew: elements that it has shown may come again.
    Anew,
}

/// Turns all pages; `each` takes them one by one, and may take its time. `key` tells elements apart,
/// where the provider says how many there are.
pub(crate) async fn turn<T, K: Ord, F>(
    deadline: &impl Deadline,
    operation: &'static str,
    fetch: impl Fn(Option<String>) -> F,
    key: impl Fn(&T) -> K,
    mut each: impl AsyncFnMut(Turned<T>),
) -> Result<(), ProviderError>
where
    F: Future<Output = Result<Page<T>, ProviderError>>,
{
    let (mut begun, mut read_again, mut count) = (1, 0, Count::new());
    let mut broken = None;
    let mut used = BTreeSet::new();
    let mut token: Option<String> = None;
    let (mut progress, mut tries) = (deadline.elapsed(), 0_u32);
    for _ in 0..PAGES_MAX {
        let error = match fetch(token.clone()).await {
            Ok(page) => {
                let steady = count.add(&page, &key);
                each(Turned::Page(page.elements)).await;
                broken = broken.or(page.broken.into_iter().next());
                // An empty token ends the list, like a missing one.
                let next = page.next.filter(|next| !next.is_empty());
                if !steady || (next.is_none() && !count.is_whole()) {
                    read_again += 1;
                    if read_again > READ_AGAIN_MAX {
                        return Err(distrust(operation, "MovingList", MOVING.to_owned()));
                    }
                    (token, broken, count) = (None, None, Count::new());
                    used.clear();
                    each(Turned::Anew).await;
                    continue;
                }
                let Some(next) = next else { return broken.map_or(Ok(()), Err) };
                // A circle would show some elements twice, and others perhaps never.
                if !used.insert(next.clone()) {
                    return Err(distrust(
                        operation,
                        "RepeatedToken",
                        format!("`{next}` came twice"),
                    ));
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
            (token, count) = (None, Count::new());
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

/// How many different elements a list showed, and how many the provider says it has. A list that
/// moves while its pages are turned by offsets may show an element twice, and another never.
struct Count<K> {
    total: Option<usize>,
    seen: BTreeSet<K>,
    broken: usize,
}

impl<K: Ord> Count<K> {
    fn new() -> Self {
        Count { total: None, seen: BTreeSet::new(), broken: 0 }
    }

    /// Adds a page; `false` if the total has changed.
    fn add<T>(&mut self, page: &Page<T>, key: impl Fn(&T) -> K) -> bool {
        let Some(total) = page.total else { return true };
        self.seen.extend(page.elements.iter().map(key));
        self.broken += page.broken.len();
        *self.total.get_or_insert(total) == total
    }

    fn is_whole(&self) -> bool {
        self.total.is_none_or(|total| total == self.seen.len() + self.broken)
    }
}

/// Returns all elements of a list, for callers that have time and keep no pace.
///
/// # Errors
/// When a page fails, an element cannot be read, or the list goes round in circles.
pub async fn all<T, F>(
    operation: &'static str,
    fetch: impl Fn(Option<String>) -> F,
) -> Result<Vec<T>, ProviderError>
where
    F: Future<Output = Result<Page<T>, ProviderError>>,
{
    let mut found = Vec::new();
    let mut used = BTreeSet::new();
    let mut token = None;
    loop {
        let page = fetch(token).await?;
        found.extend(page.elements);
        if let Some(error) = page.broken.into_iter().next() {
            return Err(error);
        }
        match page.next.filter(|next| !next.is_empty()) {
            None => return Ok(found),
            Some(next) if used.insert(next.clone()) => token = Some(next),
            Some(next) => {
                return Err(distrust(operation, "RepeatedToken", format!("`{next}` came twice")));
            }
        }
    }
}

/// The error for an answer that cannot be trusted; asking again may help.
fn distrust(operation: &'static str, code: &str, message: String) -> ProviderError {
    ProviderError { kind: ErrorKind::Indeterminate, operation, code: code.to_owned(), message }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use futures_util::FutureExt;

    use super::*;

    /// A clock that advances by a second each time it is read.
    struct Ticking(Mutex<Duration>);

    impl Deadline for Ticking {
        fn elapsed(&self) -> Duration {
            let mut now = self.0.lock().unwrap();
            *now += Duration::from_secs(1);
            *now
        }

        fn stop(&self) -> Duration {
            Duration::from_secs(60)
        }

        fn end(&self) -> Duration {
            self.stop()
        }

        fn last(&self) -> Duration {
            self.stop()
        }

        async fn sleep(&self, time: Duration) {
            *self.0.lock().unwrap() += time;
        }
    }

    type Answer = Result<Page<u32>, ProviderError>;

    /// Turns pages that depend on the number of the call and its token.
    fn turned(
        pages: impl Fn(u32, Option<&str>) -> Answer,
    ) -> (Vec<u32>, Result<(), ProviderError>, u32) {
        let calls = Mutex::new(0);
        let mut found = Vec::new();
        let clock = Ticking(Mutex::default());
        let fetch = |token: Option<String>| {
            let mut calls = calls.lock().unwrap();
            *calls += 1;
            std::future::ready(pages(*calls, token.as_deref()))
        };
        let each = async |turned| match turned {
            Turned::Page(page) => found.extend::<Vec<u32>>(page),
            Turned::Anew => found.clear(),
        };
        // No future here waits.
        let result = turn(&clock, "List", fetch, |number| *number, each).now_or_never().unwrap();
        let calls = *calls.lock().unwrap();
        (found, result, calls)
    }

    fn page(elements: &[u32], next: Option<&str>) -> Answer {
        let next = next.map(str::to_owned);
        Ok(Page { elements: elements.to_vec(), broken: Vec::new(), next, total: None })
    }

    fn error(kind: ErrorKind) -> ProviderError {
        let (code, message) = (format!("{kind:?}"), String::new());
        ProviderError { kind, operation: "List", code, message }
    }

    #[test]
    fn pages_are_turned_to_the_end() {
        for end in [None, Some("")] {
            let (found, result, _) = turned(|_, token| match token {
                None => page(&[1, 2], Some("a")),
                Some("a") => page(&[], Some("b")),
                _ => page(&[3], end),
            });
            assert_eq!((found, result), (vec![1, 2, 3], Ok(())));
        }
    }

    #[test]
    fn a_circle_or_an_endless_list_is_an_error() {
        let (_, circle, _) = turned(|_, token| match token {
            None => page(&[1], Some("a")),
            Some("a") => page(&[2], Some("b")),
            _ => page(&[3], Some("a")),
        });
        assert_eq!(circle.unwrap_err().code, "RepeatedToken");
        let (_, endless, _) =
            turned(|_, token| page(&[1], Some(&format!("{}x", token.unwrap_or("")))));
        assert_eq!(endless.unwrap_err().code, "NoTime");
    }

    #[test]
    fn a_page_is_asked_for_again_until_nothing_comes_for_a_while() {
        let (found, result, calls) = turned(|call, token| match (call, token) {
            (2, _) => Err(error(ErrorKind::Throttled)),
            (3, _) => Err(error(ErrorKind::Indeterminate)),
            (_, None) => page(&[1], Some("a")),
            _ => page(&[2], None),
        });
        assert_eq!((found, result, calls), (vec![1, 2], Ok(()), 4));
        let (found, result, calls) = turned(|_, token| match token {
            None => page(&[1], Some("a")),
            _ => Err(error(ErrorKind::Indeterminate)),
        });
        assert_eq!((found, result.unwrap_err().kind), (vec![1], ErrorKind::Indeterminate));
        assert!((3..8).contains(&calls), "{calls}");
        let (_, denied, calls) = turned(|_, _| Err(error(ErrorKind::Denied)));
        assert_eq!((denied.unwrap_err().kind, calls), (ErrorKind::Denied, 1));
    }

    #[test]
    fn a_list_that_moves_is_read_again_until_it_is_whole() {
        let counted = |elements: &[u32], total: usize, next: Option<&str>| {
            page(elements, next).map(|page| Page { total: Some(total), ..page })
        };
        // One goes from the first page while the second is asked for: the third is never shown.
        let (found, result, _) = turned(|call, token| match (call, token) {
            (1, _) => counted(&[1, 2], 4, Some("2")),
            (2, _) => counted(&[4], 3, None),
            (_, None) => counted(&[2, 3], 3, Some("2")),
            _ => counted(&[4], 3, None),
        });
        assert_eq!((found, result), (vec![2, 3, 4], Ok(())));
        // Another took its place, so that only the elements show it.
        let (found, result, _) = turned(|call, token| match (call, token) {
            (1, _) => counted(&[1, 2], 3, Some("2")),
            (2, _) => counted(&[2], 3, None),
            (_, None) => counted(&[0, 1], 3, Some("2")),
            _ => counted(&[2], 3, None),
        });
        assert_eq!((found, result), (vec![0, 1, 2], Ok(())));
        let (_, never, calls) = turned(|_, _| counted(&[1], 2, None));
        assert_eq!((never.unwrap_err().code.as_str(), calls), ("MovingList", 4));
    }

    #[test]
    fn a_token_that_is_too_old_begins_the_list_anew() {
        let (found, result, _) = turned(|call, token| match (call, token) {
            (2, _) => Err(error(ErrorKind::BadPageToken)),
            (_, None) => page(&[call], Some("a")),
            _ => page(&[9], None),
        });
        assert_eq!((found, result), (vec![3, 9], Ok(())));
        let (_, never, _) = turned(|_, token| match token {
            None => page(&[1], Some("a")),
            _ => Err(error(ErrorKind::BadPageToken)),
        });
        assert_eq!(never.unwrap_err().kind, ErrorKind::BadPageToken);
    }

    #[test]
    fn a_broken_element_fails_the_list_and_costs_the_others_nothing() {
        let (found, result, _) = turned(|_, token| match token {
            None => Ok(Page {
                elements: vec![1],
                broken: vec![error(ErrorKind::Indeterminate)],
                next: Some("a".to_owned()),
                total: None,
            }),
            _ => page(&[2], None),
        });
        assert_eq!((found, result.unwrap_err().kind), (vec![1, 2], ErrorKind::Indeterminate));
    }
}
