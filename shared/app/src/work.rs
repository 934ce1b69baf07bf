//! A lane's queue: works on as many items at once as the pace allows, within the time. Items that
//! were throttled or busy go back into it.

use std::collections::BTreeMap;
use std::future::poll_fn;
use std::pin::pin;
use std::task::Poll;
use std::time::Duration;

use futures_util::stream::{FuturesUnordered, Stream, StreamExt};

use crate::pace::{Go, Heard, Pace};
use crate::ports::{Deadline, ErrorKind, ProviderError};

/// The result of one try of an item.
pub(crate) enum Turn<T> {
    /// The item is done; if a call was made, with what its answer says about the pace.
    Done(Option<Heard>),
    /// The item goes back into the queue for this time.
    Again(T, Heard, Duration),
}

/// Items that arrive over time, each with its rank: the lowest rank goes first.
pub(crate) struct Queue<K, T> {
    ready: BTreeMap<(K, u64), T>,
    /// Items that are tried again, by the time of the next try.
    again: BTreeMap<(Duration, u64), T>,
    number: u64,
}

impl<K: Ord, T> Queue<K, T> {
    pub(crate) fn new(items: impl IntoIterator<Item = (K, T)>) -> Self {
        let mut queue = Queue { ready: BTreeMap::new(), again: BTreeMap::new(), number: 0 };
        queue.extend(items);
        queue
    }

    fn extend(&mut self, items: impl IntoIterator<Item = (K, T)>) {
        for (rank, item) in items {
            self.number += 1;
            self.ready.insert((rank, self.number), item);
        }
    }

    fn put_back(&mut self, at: Duration, item: T) {
        self.number += 1;
        self.again.insert((at, self.number), item);
    }

    /// Takes the item that goes next at this time; one that waited for another try goes first.
    fn pop(&mut self, at: Duration) -> Option<T> {
        if let Some(entry) = self.again.first_entry().filter(|entry| entry.key().0 <= at) {
            return Some(entry.remove());
        }
        self.ready.pop_first().map(|(_, item)| item)
    }

    fn is_empty(&self) -> bool {
        self.ready.is_empty() && self.again.is_empty()
    }

    fn into_items(self) -> impl Iterator<Item = T> {
        self.again.into_values().chain(self.ready.into_values())
    }
}

/// Sleeps for this time, or forever.
async fn sleep(deadline: &impl Deadline, time: Option<Duration>) {
    match time {
        Some(time) => deadline.sleep(time).await,
        None => std::future::pending().await,
    }
}

/// What to do next.
enum Next<T> {
    Begin(T),
    /// There is more to do after this time.
    In(Duration),
    /// There is nothing to do before another answer or another item arrives.
    AfterAnswer,
}

fn next<K: Ord, T>(queue: &mut Queue<K, T>, pace: &mut Pace, now: Duration) -> Next<T> {
    if queue.ready.is_empty() {
        match queue.again.first_key_value() {
            None => return Next::AfterAnswer,
            Some(((at, _), _)) if *at > now => return Next::In(at.saturating_sub(now)),
            Some(_) => {}
        }
    }
    match pace.go(now) {
        Go::Now => queue.pop(now).map_or(Next::AfterAnswer, Next::Begin),
        Go::In(wait) => Next::In(wait),
        Go::AfterAnswer => Next::AfterAnswer,
    }
}

/// Works on the items of the queue, and on those that `source` still brings, until they are done,
/// the time is over, or nothing gets through any more. Returns the items that are left. Before
/// `opens` it only collects what `source` brings, so that the ranks are known.
pub(crate) async fn drain<K, T, F>(
    deadline: &impl Deadline,
    mut pace: Pace,
    mut queue: Queue<K, T>,
    mut source: impl Stream<Item = Vec<(K, T)>> + Unpin,
    opens: Duration,
    work: impl Fn(T) -> F,
) -> Vec<T>
where
    K: Ord,
    F: Future<Output = Turn<T>>,
{
    let timed = |item| {
        // Boxed: as one nested future, a lane is too deep a type for the compiler.
        let turn = Box::pin(work(item));
        async {
            let sent = deadline.elapsed();
            (sent, turn.await)
        }
    };
    let mut under_way = FuturesUnordered::new();
    let mut more = true;
    loop {
        let now = deadline.elapsed();
        let over = now >= deadline.stop() || pace.stalled(now);
        // Begins every item that may begin now; `wake` is when the next one may, if that is known.
        let mut wake = (more && now < opens).then(|| opens.saturating_sub(now));
        while !over && wake.is_none() {
            match next(&mut queue, &mut pace, now) {
                Next::Begin(item) => under_way.push(timed(item)),
                Next::In(time) => wake = Some(time),
                Next::AfterAnswer => break,
            }
        }
        if under_way.is_empty() && (over || (!more && queue.is_empty())) {
            return queue.into_items().collect();
        }
        // Wakes up by `stop` at the latest, when no item may be begun any more.
        let to_stop = deadline.stop().saturating_sub(now);
        let nap = if over { None } else { Some(wake.unwrap_or(to_stop).min(to_stop)) };
        let mut sleep = pin!(sleep(deadline, nap));
        let answered = poll_fn(|context| {
            if let Poll::Ready(Some(answered)) = under_way.poll_next_unpin(context) {
                return Poll::Ready(Some(answered));
            }
            if more
                && !over
                && let Poll::Ready(items) = source.poll_next_unpin(context)
            {
                more = items.is_some();
                queue.extend(items.unwrap_or_default());
                return Poll::Ready(None);
            }
            sleep.as_mut().poll(context).map(|()| None)
        });
        let Some((sent, turn)) = answered.await else { continue };
        let now = deadline.elapsed();
        match turn {
            Turn::Done(Some(heard)) => pace.heard(sent, now, heard),
            Turn::Done(None) => pace.unsent(),
            Turn::Again(item, heard, after) => {
                pace.heard(sent, now, heard);
                queue.put_back(now.saturating_add(after), item);
            }
        }
    }
}

/// Runs all futures, a bounded number at once, and returns their results in no particular order.
pub(crate) async fn bounded<T>(
    futures: impl IntoIterator<Item = impl Future<Output = T>>,
) -> Vec<T> {
    /// This is enough to hide latency, and few enough not to be throttled.
    const AT_ONCE: usize = 16;
    futures_util::stream::iter(futures).buffer_unordered(AT_ONCE).collect().await
}

/// What an error says about the pace.
pub(crate) fn heard(error: &ProviderError) -> Heard {
    match error.kind {
        ErrorKind::Throttled => Heard::Throttled,
        ErrorKind::Busy => Heard::Busy,
        ErrorKind::Indeterminate => Heard::Nothing,
        _ => Heard::Through,
    }
}

/// How long an item waits before its next try; for a throttled one, the pace provides the delay.
pub(crate) fn pause(kind: ErrorKind, tries: u32) -> Duration {
    let doubled =
        |first: u64| Duration::from_millis(first << tries.min(5)).min(Duration::from_secs(15));
    match kind {
        ErrorKind::Throttled => Duration::ZERO,
        ErrorKind::Busy => doubled(1000),
        _ => doubled(250),
    }
}
