//! The turns of calls: every port call waits until the simulator lets it go on, so that the seed
//! decides which of the calls under way comes next, and dropping an invocation is a crash between
//! two calls.

use std::collections::BTreeMap;
use std::pin::Pin;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use jiff::Timestamp;

/// A running invocation.
pub type InvocationId = u64;

/// The operation of a call, and its subject.
pub type Call = (&'static str, String);

/// The calls that wait for their turn.
#[derive(Debug, Default)]
pub struct Turns {
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    next: u64,
    waiting: BTreeMap<u64, (InvocationId, Waker, Call)>,
    /// The invocations that sleep, by the time at which they wake up.
    naps: BTreeMap<(Timestamp, u64), (InvocationId, Waker)>,
}

impl Turns {
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until [`Turns::grant`] lets the call go on.
    pub(super) fn wait(&self, invocation: InvocationId, what: Call) -> Turn<'_> {
        Turn { turns: self, invocation, what, call: None }
    }

    /// Sleeps until this time.
    pub(super) fn nap(&self, invocation: InvocationId, until: Timestamp) -> Nap<'_> {
        Nap { turns: self, invocation, until, key: None }
    }

    /// When the first sleeping invocation wakes up: this one, or any.
    #[must_use]
    pub fn next_nap(&self, of: Option<InvocationId>) -> Option<Timestamp> {
        let inner = self.lock();
        let own = |id: InvocationId| of.is_none_or(|of| of == id);
        inner.naps.iter().find(|(_, (id, _))| own(*id)).map(|((at, _), _)| *at)
    }

    /// Wakes an invocation whose sleep is over at `now`; the caller must poll it.
    pub fn wake(&self, now: Timestamp) -> Option<InvocationId> {
        let mut inner = self.lock();
        let entry = inner.naps.first_entry().filter(|entry| entry.key().0 <= now)?;
        let (invocation, waker) = entry.remove();
        drop(inner);
        waker.wake();
        Some(invocation)
    }

    /// The calls that wait, the oldest first, each with its invocation.
    #[must_use]
    pub fn waiting(&self) -> Vec<(u64, InvocationId)> {
        self.lock().waiting.iter().map(|(call, (invocation, ..))| (*call, *invocation)).collect()
    }

    /// The first waiting call of an invocation.
    #[must_use]
    pub fn first(&self, of: InvocationId) -> Option<Call> {
        let inner = self.lock();
        inner.waiting.values().find(|(id, ..)| *id == of).map(|(_, _, what)| what.clone())
    }

    /// Lets a call go on when its invocation is polled next.
    pub fn grant(&self, call: u64) {
        let granted = self.lock().waiting.remove(&call);
        if let Some((_, waker, _)) = granted {
            waker.wake();
        }
    }

    /// Forgets the calls of an invocation that was dropped.
    pub fn forget(&self, invocation: InvocationId) {
        let mut inner = self.lock();
        inner.waiting.retain(|_, (of, ..)| *of != invocation);
        inner.naps.retain(|_, (of, _)| *of != invocation);
    }
}

/// Sleeps until a time of the simulated clock.
pub(super) struct Nap<'a> {
    turns: &'a Turns,
    invocation: InvocationId,
    until: Timestamp,
    key: Option<(Timestamp, u64)>,
}

impl Future for Nap<'_> {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        let mut inner = self.turns.lock();
        match self.key {
            Some(key) => match inner.naps.get_mut(&key) {
                None => return Poll::Ready(()),
                Some((_, waker)) => waker.clone_from(context.waker()),
            },
            None => {
                inner.next += 1;
                let key = (self.until, inner.next);
                inner.naps.insert(key, (self.invocation, context.waker().clone()));
                drop(inner);
                self.key = Some(key);
            }
        }
        Poll::Pending
    }
}

impl Drop for Nap<'_> {
    fn drop(&mut self) {
        if let Some(key) = self.key {
            self.turns.lock().naps.remove(&key);
        }
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        // A call that is given up waits for nothing any more.
        if let Some(call) = self.call {
            self.turns.lock().waiting.remove(&call);
        }
    }
}

/// Waits for the turn of a call.
pub(super) struct Turn<'a> {
    turns: &'a Turns,
    invocation: InvocationId,
    what: Call,
    call: Option<u64>,
}

impl Future for Turn<'_> {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        let mut inner = self.turns.lock();
        match self.call {
            Some(call) if !inner.waiting.contains_key(&call) => return Poll::Ready(()),
            Some(call) => {
                if let Some((_, waker, _)) = inner.waiting.get_mut(&call) {
                    waker.clone_from(context.waker());
                }
                return Poll::Pending;
            }
            None => {}
        }
        inner.next += 1;
        let call = inner.next;
        let what = self.what.clone();
        inner.waiting.insert(call, (self.invocation, context.waker().clone(), what));
        drop(inner);
        self.call = Some(call);
        Poll::Pending
    }
}
