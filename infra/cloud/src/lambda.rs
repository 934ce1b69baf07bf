//! A Lambda service of one machine: starts function binaries and hands them events.
//!
//! The binaries are the ones that are deployed: they speak to the Lambda Runtime API and do not
//! notice the difference. As on AWS, an instance is one process that serves one event at a time
//! and is reused while it is warm; concurrent events start more instances; one that crashed or ran
//! out of time is replaced at the next event.

mod api;
mod instance;
pub(crate) mod service;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::fmt;
use std::hash::{BuildHasher, RandomState};
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use serde_json::Value;
use tokio::sync::watch;

use self::instance::Instance;

/// The account number in the ARNs of the embedded cloud, as AWS documentation writes it.
pub const ACCOUNT: &str = "123456789012";

/// How long a fresh instance may take to ask for its first event, as on AWS, unless the function's
/// own timeout is longer.
const INIT_TIMEOUT: Duration = Duration::from_secs(10);

/// Receives each line a function prints, with the function's name: `(name, line)`.
pub type LineSink = Arc<dyn Fn(&str, &str) + Send + Sync>;

/// What a function is made of.
#[derive(Clone, Debug)]
pub struct FunctionConfig {
    /// The function's name.
    pub name: String,
    /// The binary to run; looked for on the `PATH` if it has no slash.
    pub command: PathBuf,
    /// Its arguments.
    pub args: Vec<String>,
    /// Its environment, besides the variables that Lambda itself sets.
    pub env: BTreeMap<String, String>,
    /// How long one event may take, in real time.
    pub timeout: Duration,
}

impl FunctionConfig {
    /// A function with no arguments, no environment and a timeout of 5 minutes.
    pub fn new(name: impl Into<String>, command: impl Into<PathBuf>) -> Self {
        Self {
            name: name.into(),
            command: command.into(),
            args: Vec::new(),
            env: BTreeMap::new(),
            timeout: Duration::from_secs(300),
        }
    }

    pub(crate) fn region(&self) -> &str {
        self.env.get("AWS_REGION").map_or("us-east-1", String::as_str)
    }

    fn arn(&self) -> String {
        format!("arn:aws:lambda:{}:{ACCOUNT}:function:{}", self.region(), self.name)
    }
}

/// How an invocation ended.
#[derive(Clone, Debug, PartialEq)]
pub enum Outcome {
    /// The function answered.
    Success(Value),
    /// The function reported an error.
    Error {
        /// The type of the error, as the function names it.
        error_type: String,
        /// The message of the error.
        message: String,
        /// The whole error as it was reported.
        payload: Value,
    },
    /// No process, or one that ended, failed or dawdled before it asked for its first event.
    InitError {
        /// What is known about it, with the last lines the process printed.
        message: String,
    },
    /// The process ended in the middle of the invocation.
    Crashed {
        /// The exit status or signal, in words.
        status: String,
    },
    /// The process was killed because its time was over.
    TimedOut,
}

impl Outcome {
    /// The function's answer, if it gave one.
    #[must_use]
    pub fn success(&self) -> Option<&Value> {
        match self {
            Self::Success(value) => Some(value),
            _ => None,
        }
    }

    /// Whether Lambda would try the event again if it was sent asynchronously.
    #[must_use]
    pub fn is_failure(&self) -> bool {
        self.success().is_none()
    }
}

/// One event, handled.
#[derive(Clone, Debug)]
pub struct Invocation {
    /// The request id that the function saw.
    pub request_id: String,
    /// How it ended.
    pub outcome: Outcome,
    /// Real time from the event to the answer, a cold start included.
    pub duration: Duration,
    /// The lines that this instance printed, on either stream, since its last invocation.
    pub log: String,
}

/// A function that can be invoked; clones share its instances.
///
/// The processes end with [`Function::shutdown`], or when the last clone is dropped.
#[derive(Clone)]
pub struct Function {
    shared: Arc<Shared>,
}

struct Shared {
    config: FunctionConfig,
    sink: Option<LineSink>,
    idle: Mutex<Vec<Instance>>,
    started: AtomicU64,
    stop: watch::Sender<bool>,
}

impl Function {
    /// Makes the function known; nothing is started before the first event.
    #[must_use]
    pub fn new(config: FunctionConfig) -> Self {
        Self::with(config, None)
    }

    /// The same, with someone who listens to what the processes print.
    #[must_use]
    pub fn with_sink(config: FunctionConfig, sink: LineSink) -> Self {
        Self::with(config, Some(sink))
    }

    fn with(config: FunctionConfig, sink: Option<LineSink>) -> Self {
        let (stop, _) = watch::channel(false);
        let (idle, started) = (Mutex::default(), AtomicU64::new(0));
        Self { shared: Arc::new(Shared { config, sink, idle, started, stop }) }
    }

    /// The function's name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.shared.config.name
    }

    fn arn(&self) -> String {
        self.shared.config.arn()
    }

    /// How many processes were started for it so far.
    #[must_use]
    pub fn instances_started(&self) -> u64 {
        self.shared.started.load(Ordering::Relaxed)
    }

    /// Hands the function an event and waits for the end of it.
    pub async fn invoke(&self, event: Value) -> Invocation {
        self.invoke_as(new_request_id(), event).await
    }

    /// [`Function::invoke`] with a given request id, as Lambda's own retries of an asynchronous
    /// event have it.
    pub async fn invoke_as(&self, request_id: String, event: Value) -> Invocation {
        self.run(request_id, event, std::future::pending()).await
    }

    /// [`Function::invoke`], but the process is killed (SIGKILL) when `kill` resolves before the
    /// answer.
    pub async fn invoke_and_kill_when(
        &self,
        event: Value,
        kill: impl Future<Output = ()>,
    ) -> Invocation {
        self.run(new_request_id(), event, kill).await
    }

    async fn run(
        &self,
        request_id: String,
        event: Value,
        kill: impl Future<Output = ()>,
    ) -> Invocation {
        let began = Instant::now();
        let shared = &*self.shared;
        let mut stop = shared.stop.subscribe();
        let mut instance = match self.take_idle() {
            Some(instance) => instance,
            None => match self.start(&mut stop).await {
                Ok(instance) => instance,
                Err((message, log)) => {
                    let outcome = Outcome::InitError { message };
                    return Invocation { request_id, outcome, duration: began.elapsed(), log };
                }
            },
        };
        let served = instance.serve(&shared.config, &request_id, &event, kill, &mut stop).await;
        let invocation = Invocation {
            request_id,
            outcome: served.outcome,
            duration: began.elapsed(),
            log: served.log,
        };
        // Not reusable means that the process is gone; dropping the rest closes its listener.
        // Looked at under the lock that `shutdown` takes next, or it could miss this instance.
        let mut idle = self.idle();
        if served.reusable && !*shared.stop.borrow() {
            idle.push(instance);
        }
        drop(idle);
        invocation
    }

    async fn start(&self, stop: &mut watch::Receiver<bool>) -> Result<Instance, (String, String)> {
        let shared = &*self.shared;
        let number = shared.started.fetch_add(1, Ordering::Relaxed) + 1;
        let timeout = shared.config.timeout.max(INIT_TIMEOUT);
        Instance::start(&shared.config, number, shared.sink.clone(), timeout, stop).await
    }

    /// The instance that was used last, as its caches are the warmest.
    fn take_idle(&self) -> Option<Instance> {
        let mut idle = self.idle();
        while let Some(mut instance) = idle.pop() {
            if instance.is_alive() {
                return Some(instance);
            }
        }
        None
    }

    /// Ends the instances that wait for an event, so that the next one is a cold start.
    pub async fn retire_idle(&self) {
        let idle = std::mem::take(&mut *self.idle());
        for instance in idle {
            instance.end().await;
        }
    }

    /// Kills every process of the function; what is being handled ends as [`Outcome::Crashed`],
    /// and later events fail.
    pub async fn shutdown(&self) {
        self.shared.stop.send_replace(true);
        self.retire_idle().await;
    }

    fn idle(&self) -> MutexGuard<'_, Vec<Instance>> {
        self.shared.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Function {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Function").field("config", &self.shared.config).finish_non_exhaustive()
    }
}

/// A request id of Lambda's form (a version 4 UUID), unique in this process and most likely
/// beyond.
pub(crate) fn new_request_id() -> String {
    static COUNTER: AtomicU64 = AtomicU64::new(0);
    let count = COUNTER.fetch_add(1, Ordering::Relaxed);
    let random = RandomState::new();
    uuid(random.hash_one((count, 0_u8)), random.hash_one((count, 1_u8)))
}

/// Writes 128 bits as a version 4 UUID.
pub(crate) fn uuid(high: u64, low: u64) -> String {
    format!(
        "{:08x}-{:04x}-4{:03x}-{:04x}-{:012x}",
        high >> 32,
        (high >> 16) & 0xffff,
        high & 0x0fff,
        0x8000 | ((low >> 48) & 0x3fff),
        low & 0xffff_ffff_ffff,
    )
}
