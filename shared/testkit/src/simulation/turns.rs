//! Whose turn it is: every port call waits until the simulator lets it go on, so that the seed decides
//! which of the calls under way comes next, and dropping an invocation is a crash between two calls.

use std::collections::BTreeMap;
use std::pin::Pin;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

/// A running invocation.
pub type InvocationId = u64;

/// The calls that wait for their turn.
#[derive(Debug, Default)]
pub struct Turns {
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    next: u64,
    waiting: BTreeMap<u64, (InvocationId, Waker)>,
}

impl Turns {
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until [`Turns::grant`].
    pub(super) fn wait(&self, invocation: InvocationId) -> Turn<'_> {
        Turn { turns: self, invocation, call: None }
    }

    /// The calls that wait, the oldest first, each with its invocation.
    #[must_use]
    pub fn waiting(&self) -> Vec<(u64, InvocationId)> {
        self.lock().waiting.iter().map(|(call, (invocation, _))| (*call, *invocation)).collect()
    }

    /// Lets a call go on when its invocation is polled next.
    pub fn grant(&self, call: u64) {
        let granted = self.lock().waiting.remove(&call);
        if let Some((_, waker)) = granted {
            waker.wake();
        }
    }

    /// Forgets the calls of an invocation that was dropped.
    pub fn forget(&self, invocation: InvocationId) {
        self.lock().waiting.retain(|_, (of, _)| *of != invocation);
    }
}

/// Waits for a turn.
pub(super) struct Turn<'a> {
    turns: &'a Turns,
    invocation: InvocationId,
    call: Option<u64>,
}

impl Future for Turn<'_> {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        let mut inner = self.turns.lock();
        match self.call {
            Some(call) if !inner.waiting.contains_key(&call) => return Poll::Ready(()),
            Some(_) => return Poll::Pending,
            None => {}
        }
        inner.next += 1;
        let call = inner.next;
        inner.waiting.insert(call, (self.invocation, context.waker().clone()));
        drop(inner);
        self.call = Some(call);
        Poll::Pending
    }
}
