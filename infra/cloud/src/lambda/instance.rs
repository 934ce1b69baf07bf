//! One instance of a function: a process, its Runtime API, and what it prints.

use std::future::pending;
use std::pin::pin;
use std::process::{ExitStatus, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde_json::Value;
use tokio::io::{AsyncBufReadExt, AsyncRead, BufReader};
use tokio::net::TcpListener;
use tokio::process::{Child, Command};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;

use super::api::{self, Delivery, Said};
use super::{FunctionConfig, LineSink, Outcome};

/// How long the rest of a dead process's output is waited for: a grandchild may hold the pipe.
const DRAIN: Duration = Duration::from_millis(500);

/// How many lines of its output go into the message about a process that did not get ready.
const TAIL: usize = 10;

pub(super) struct Instance {
    child: Child,
    said: mpsc::UnboundedReceiver<Said>,
    deliveries: mpsc::UnboundedSender<Delivery>,
    output: Arc<Mutex<Vec<String>>>,
    readers: Vec<JoinHandle<()>>,
    server: JoinHandle<()>,
}

/// An event served, and what it means for the instance.
pub(super) struct Served {
    pub(super) outcome: Outcome,
    pub(super) log: String,
    pub(super) reusable: bool,
}

/// Why the process is not waited for any longer.
enum End {
    Said(Said),
    Exited(String),
    TimeOver,
    Killed,
}

impl Instance {
    /// Starts a process and waits until it asks for its first event; otherwise says why not, and
    /// what it printed.
    pub(super) async fn start(
        config: &FunctionConfig,
        number: u64,
        sink: Option<LineSink>,
        timeout: Duration,
        stop: &mut watch::Receiver<bool>,
    ) -> Result<Self, (String, String)> {
        let mut instance = match Self::spawn(config, number, sink).await {
            Ok(instance) => instance,
            Err(error) => {
                let message = format!("cannot start {}: {error}", config.command.display());
                return Err((message, String::new()));
            }
        };
        let reason = match instance.wait(timeout, pending(), stop).await {
            End::Said(Said::AskedNext) => return Ok(instance),
            End::Said(Said::InitError { error_type, body }) => {
                let (error_type, message, _) = read_error(error_type, &body);
                format!("{error_type}: {message}")
            }
            End::Said(Said::Response(_) | Said::Error { .. }) => {
                "it answered before it was asked".to_owned()
            }
            End::Exited(status) => format!("it ended before it asked for an event ({status})"),
            End::TimeOver => format!("it did not ask for an event within {timeout:?}"),
            End::Killed => "the cloud is shutting down".to_owned(),
        };
        instance.kill().await;
        let log = instance.take_log();
        let lines: Vec<_> = log.lines().collect();
        let tail = lines[lines.len().saturating_sub(TAIL)..].join("\n");
        Err((format!("{}: {reason}\n{tail}", config.name).trim_end().to_owned(), log))
    }

    async fn spawn(
        config: &FunctionConfig,
        number: u64,
        sink: Option<LineSink>,
    ) -> std::io::Result<Self> {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
        let address = listener.local_addr()?.to_string();
        let mut child = command(config, number, &address).spawn()?;
        let output = Arc::new(Mutex::new(Vec::new()));
        let name: Arc<str> = config.name.as_str().into();
        let mut readers = Vec::new();
        if let Some(stdout) = child.stdout.take() {
            readers.push(read_lines(stdout, &name, &output, sink.clone()));
        }
        if let Some(stderr) = child.stderr.take() {
            readers.push(read_lines(stderr, &name, &output, sink));
        }
        let (say, said) = mpsc::unbounded_channel();
        let (deliveries, delivered) = mpsc::unbounded_channel();
        let app = api::router(say, delivered);
        let server = tokio::spawn(async move {
            if let Err(error) = axum::serve(listener, app).await {
                tracing::error!(%error, "a Lambda Runtime API ended");
            }
        });
        Ok(Self { child, said, deliveries, output, readers, server })
    }

    /// Hands the process an event and sees it through.
    pub(super) async fn serve(
        &mut self,
        config: &FunctionConfig,
        request_id: &str,
        event: &Value,
        kill: impl Future<Output = ()>,
        stop: &mut watch::Receiver<bool>,
    ) -> Served {
        let deadline = SystemTime::now() + config.timeout;
        let deadline_ms = deadline.duration_since(UNIX_EPOCH).unwrap_or_default().as_millis();
        let until = tokio::time::Instant::now() + config.timeout;
        let _ = self.deliveries.send(Delivery {
            request_id: request_id.to_owned(),
            // The deadline is real time even where the function's "now" is simulated.
            deadline_ms: u64::try_from(deadline_ms).unwrap_or(u64::MAX),
            arn: config.arn(),
            event: event.to_string(),
        });
        let mut kill = pin!(kill);
        let outcome = loop {
            let left = until.saturating_duration_since(tokio::time::Instant::now());
            match self.wait(left, &mut kill, stop).await {
                // A second request for an event without an answer; it gets none, and the
                // timeout ends it.
                End::Said(Said::AskedNext) => {}
                End::Said(Said::Response(body)) => break Outcome::Success(read_json(&body)),
                End::Said(
                    Said::Error { error_type, body } | Said::InitError { error_type, body },
                ) => {
                    let (error_type, message, payload) = read_error(error_type, &body);
                    break Outcome::Error { error_type, message, payload };
                }
                End::Exited(status) => break Outcome::Crashed { status },
                End::TimeOver => {
                    self.kill().await;
                    break Outcome::TimedOut;
                }
                End::Killed => {
                    let status = self.kill().await;
                    break Outcome::Crashed { status };
                }
            }
        };
        let answered = matches!(outcome, Outcome::Success(_) | Outcome::Error { .. });
        let reusable = answered && self.settle(until, stop).await;
        if !reusable {
            self.kill().await;
        }
        Served { outcome, log: self.take_log(), reusable }
    }

    /// After an answer: waits until the process asks for the next event, as Lambda does, so that
    /// what it printed by then belongs to this invocation.
    async fn settle(
        &mut self,
        until: tokio::time::Instant,
        stop: &mut watch::Receiver<bool>,
    ) -> bool {
        let left = until.saturating_duration_since(tokio::time::Instant::now());
        let ready = matches!(self.wait(left, pending(), stop).await, End::Said(Said::AskedNext));
        // What it printed before it asked is in the pipes already; let the readers have a turn.
        for _ in 0..4 {
            tokio::task::yield_now().await;
        }
        ready
    }

    /// Waits for the first thing to happen to the process. What it said counts before what became
    /// of it.
    async fn wait(
        &mut self,
        timeout: Duration,
        kill: impl Future<Output = ()>,
        stop: &mut watch::Receiver<bool>,
    ) -> End {
        let stopped = async {
            if stop.wait_for(|stop| *stop).await.is_err() {
                pending::<()>().await;
            }
        };
        tokio::select! {
            biased;
            Some(said) = self.said.recv() => End::Said(said),
            status = self.child.wait() => {
                self.drain().await;
                End::Exited(in_words(status))
            }
            () = kill => End::Killed,
            () = stopped => End::Killed,
            () = tokio::time::sleep(timeout) => End::TimeOver,
        }
    }

    pub(super) fn is_alive(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }

    /// Ends the process and waits until it is gone.
    pub(super) async fn end(mut self) {
        self.kill().await;
    }

    async fn kill(&mut self) -> String {
        // An error here means that it is gone already.
        let _ = self.child.start_kill();
        let status = in_words(self.child.wait().await);
        self.drain().await;
        status
    }

    /// Reads what a dead process left in its pipes.
    async fn drain(&mut self) {
        let until = tokio::time::Instant::now() + DRAIN;
        for reader in std::mem::take(&mut self.readers) {
            let abort = reader.abort_handle();
            if tokio::time::timeout_at(until, reader).await.is_err() {
                abort.abort();
            }
        }
    }

    fn take_log(&self) -> String {
        let mut output = self.output.lock().unwrap_or_else(PoisonError::into_inner);
        let mut log = String::new();
        for line in output.drain(..) {
            log.push_str(&line);
            log.push('\n');
        }
        log
    }
}

impl Drop for Instance {
    fn drop(&mut self) {
        // The child itself is killed on drop.
        self.server.abort();
        for reader in &self.readers {
            reader.abort();
        }
    }
}

fn command(config: &FunctionConfig, number: u64, address: &str) -> Command {
    let mut command = Command::new(&config.command);
    command
        .args(&config.args)
        .env_clear()
        .envs(std::env::var_os("PATH").map(|path| ("PATH", path)))
        .env("LANG", "en_US.UTF-8")
        .env("TZ", ":UTC")
        .env("AWS_REGION", config.region())
        .env("AWS_DEFAULT_REGION", config.region())
        .envs(&config.env)
        .env("_HANDLER", "bootstrap")
        .env("AWS_EXECUTION_ENV", "AWS_Lambda_provided.al2023")
        .env("AWS_LAMBDA_FUNCTION_NAME", &config.name)
        .env("AWS_LAMBDA_FUNCTION_VERSION", "$LATEST")
        .env("AWS_LAMBDA_FUNCTION_MEMORY_SIZE", "128")
        .env("AWS_LAMBDA_INITIALIZATION_TYPE", "on-demand")
        .env("AWS_LAMBDA_LOG_GROUP_NAME", format!("/aws/lambda/{}", config.name))
        .env("AWS_LAMBDA_LOG_STREAM_NAME", format!("embedded/[$LATEST]{number}"))
        .env("AWS_LAMBDA_RUNTIME_API", address)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true);
    // Ctrl-C goes to the cloud, which ends its processes in order; not to them at the same time.
    #[cfg(unix)]
    command.process_group(0);
    command
}

fn read_lines(
    stream: impl AsyncRead + Unpin + Send + 'static,
    name: &Arc<str>,
    output: &Arc<Mutex<Vec<String>>>,
    sink: Option<LineSink>,
) -> JoinHandle<()> {
    let (name, output) = (Arc::clone(name), Arc::clone(output));
    tokio::spawn(async move {
        let (mut stream, mut line) = (BufReader::new(stream), Vec::new());
        // By bytes: what a process prints need not be UTF-8.
        while matches!(stream.read_until(b'\n', &mut line).await, Ok(read) if read > 0) {
            let text = String::from_utf8_lossy(&line);
            let text = text.trim_end_matches(['\n', '\r']);
            if let Some(sink) = &sink {
                sink(&name, text);
            }
            output.lock().unwrap_or_else(PoisonError::into_inner).push(text.to_owned());
            line.clear();
        }
    })
}

fn in_words(status: std::io::Result<ExitStatus>) -> String {
    match status {
        Ok(status) => status.to_string(),
        Err(error) => format!("unknown: {error}"),
    }
}

/// The body as JSON, or as a JSON string if it is none.
fn read_json(body: &[u8]) -> Value {
    serde_json::from_slice(body)
        .unwrap_or_else(|_| Value::String(String::from_utf8_lossy(body).into_owned()))
}

/// The type, message and whole of a reported error; the body's type wins over the header's.
fn read_error(header: Option<String>, body: &[u8]) -> (String, String, Value) {
    let payload = read_json(body);
    let text = |key: &str| payload.get(key).and_then(Value::as_str).map(str::to_owned);
    let error_type = text("errorType").or(header).unwrap_or_else(|| "Unknown".to_owned());
    let message = text("errorMessage").unwrap_or_default();
    (error_type, message, payload)
}
