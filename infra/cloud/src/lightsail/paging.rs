//! Lists, page by page.

use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

use super::{ApiError, Call};
use crate::knobs::{Knobs, PageTokens};

/// How a list is cut into pages.
pub(super) struct Paging {
    size: usize,
    tokens: PageTokens,
    /// After this, a token is refused.
    life: Option<SignedDuration>,
}

impl Paging {
    pub(super) fn new(knobs: &Knobs) -> Self {
        let life = knobs.page_token_seconds.map(|life| SignedDuration::from_secs(life.into()));
        Paging { size: knobs.page_size.max(1), tokens: knobs.page_tokens, life }
    }

    pub(super) fn of_size(self, size: usize) -> Self {
        Paging { size, ..self }
    }
}

/// Where a page begins. As text: when the token was made, then the offset, or time and name of the last
/// element given.
enum Token {
    After(Timestamp, String),
    Offset(usize),
}

impl Token {
    fn read(text: &str) -> Option<(Timestamp, Token)> {
        let time = |text: &str| Timestamp::from_nanosecond(text.parse().ok()?).ok();
        let parts: Vec<&str> = text.splitn(3, '~').collect();
        let token = match parts[..] {
            [_, offset] => Token::Offset(offset.parse().ok()?),
            [_, at, name] => Token::After(time(at)?, name.to_owned()),
            _ => return None,
        };
        Some((time(parts[0])?, token))
    }

    fn write(&self, now: Timestamp) -> String {
        let now = now.as_nanosecond();
        match self {
            Token::After(at, name) => format!("{now}~{}~{name}", at.as_nanosecond()),
            Token::Offset(offset) => format!("{now}~{offset}"),
        }
    }
}

/// One page of a list, newest first, and the token of the next. Only the page is sorted: a list may have a
/// hundred thousand elements, and each of its pages comes through here.
pub(super) fn page<T>(
    mut items: Vec<(Timestamp, &str, T)>,
    call: &Call<'_>,
    paging: &Paging,
) -> Result<(Vec<T>, Option<String>), ApiError> {
    let newest_first =
        |a: &(Timestamp, &str, T), b: &(Timestamp, &str, T)| (b.0, a.1).cmp(&(a.0, b.1));
    let mut skip = 0;
    if let Some(text) = call.optional("pageToken")? {
        let bad = || ApiError::invalid(format!("The page token {text} is not valid"));
        let (made_at, token) = Token::read(text).ok_or_else(bad)?;
        if paging.life.is_some_and(|life| call.now.duration_since(made_at) > life) {
            return Err(ApiError::invalid(format!("The page token {text} has expired")));
        }
        match token {
            Token::Offset(offset) => skip = offset.min(items.len()),
            Token::After(at, after) => {
                items.retain(|(time, name, _)| (at, *name) > (*time, after.as_str()));
            }
        }
    }
    let end = items.len().min(skip.saturating_add(paging.size));
    if skip > 0 && skip < items.len() {
        items.select_nth_unstable_by(skip, newest_first);
    }
    let mut rest = items.split_off(skip);
    let more = rest.len() > end - skip;
    if more {
        rest.select_nth_unstable_by(end - skip, newest_first);
    }
    rest.truncate(end - skip);
    rest.sort_unstable_by(newest_first);
    let token = more.then(|| match (paging.tokens, rest.last()) {
        (PageTokens::Stable, Some((at, name, _))) => Token::After(*at, (*name).to_owned()),
        _ => Token::Offset(end),
    });
    let shown = rest.into_iter().map(|(_, _, item)| item).collect();
    Ok((shown, token.map(|token| token.write(call.now))))
}

/// A response with one list, and its token if there is more.
pub(super) fn list(name: &str, items: Vec<Value>, token: Option<String>) -> Value {
    let mut answer = json!({ name: items });
    if let Some(token) = token {
        answer["nextPageToken"] = token.into();
    }
    answer
}
