//! Turning pages by hand, so that a list is complete or an error.

use std::collections::BTreeSet;

use snapkeep_app::ports::ProviderError;

use super::distrust;

/// More pages than any account has; without a bound, a service gone mad would hold us forever.
const PAGES_MAX: usize = 10_000;

/// All elements of all pages; `fetch` gets one page and the token of the next.
pub(super) async fn all<T, F, P>(
    operation: &'static str,
    mut fetch: F,
) -> Result<Vec<T>, ProviderError>
where
    F: FnMut(Option<String>) -> P,
    P: Future<Output = Result<(Vec<T>, Option<String>), ProviderError>>,
{
    let mut found = Vec::new();
    let mut used = BTreeSet::new();
    let mut token = None;
    for _ in 0..PAGES_MAX {
        let (mut page, next) = fetch(token).await?;
        found.append(&mut page);
        // An empty token ends the list like a missing one.
        let Some(next) = next.filter(|next| !next.is_empty()) else { return Ok(found) };
        // Going round in a circle would show some elements twice and perhaps others never.
        if !used.insert(next.clone()) {
            return Err(distrust(operation, "RepeatedToken", format!("`{next}` came twice")));
        }
        token = Some(next);
    }
    Err(distrust(operation, "TooManyPages", format!("no end after {PAGES_MAX} pages")))
}

#[cfg(test)]
mod tests {
    use snapkeep_app::ports::ErrorKind;

    use super::*;

    type Page = Result<(Vec<u32>, Option<String>), ProviderError>;

    fn turn(pages: impl Fn(Option<&str>) -> Page + Send) -> Result<Vec<u32>, ProviderError> {
        let fetch = |token: Option<String>| std::future::ready(pages(token.as_deref()));
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(all("List", fetch))
    }

    fn page(elements: &[u32], next: Option<&str>) -> Page {
        Ok((elements.to_vec(), next.map(str::to_owned)))
    }

    #[test]
    fn pages_are_turned_to_the_end() {
        for end in [None, Some("")] {
            let all = turn(|token| match token {
                None => page(&[1, 2], Some("a")),
                Some("a") => page(&[], Some("b")),
                _ => page(&[3], end),
            });
            assert_eq!(all.unwrap(), [1, 2, 3]);
        }
    }

    #[test]
    fn a_circle_or_an_endless_list_is_an_error() {
        let circle = turn(|token| match token {
            None => page(&[1], Some("a")),
            Some("a") => page(&[2], Some("b")),
            _ => page(&[3], Some("a")),
        });
        let error = circle.unwrap_err();
        assert_eq!((error.kind, error.code.as_str()), (ErrorKind::Indeterminate, "RepeatedToken"));
        let endless = turn(|token| page(&[1], Some(&format!("{}x", token.unwrap_or("")))));
        assert_eq!(endless.unwrap_err().code, "TooManyPages");
    }

    #[test]
    fn a_page_that_fails_fails_the_list() {
        let failed = turn(|token| match token {
            None => page(&[1], Some("a")),
            _ => Err(distrust("List", "NoAnswer", String::new())),
        });
        assert_eq!(failed.unwrap_err().code, "NoAnswer");
    }
}
