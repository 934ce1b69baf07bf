//! An HTTP server that ends when it is told to.

use std::net::SocketAddr;
use std::time::Duration;

use axum::Router;
use axum::serve::ListenerExt;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// How long open connections may hold a shutdown.
pub(crate) const GRACE: Duration = Duration::from_secs(1);

/// A router being served; ends with [`Server::shutdown`] or when dropped.
pub(crate) struct Server {
    address: SocketAddr,
    stop: watch::Sender<bool>,
    task: JoinHandle<()>,
}

/// Listens on loopback, on a free port unless one is given.
pub(crate) async fn listen(port: Option<u16>) -> std::io::Result<TcpListener> {
    TcpListener::bind(("127.0.0.1", port.unwrap_or(0))).await
}

impl Server {
    /// Serves `app` from now on; `name` is for the log.
    pub(crate) fn start(
        name: &'static str,
        listener: TcpListener,
        app: Router,
    ) -> std::io::Result<Self> {
        let address = listener.local_addr()?;
        let (stop, stopped) = watch::channel(false);
        let task = tokio::spawn(async move {
            // Small answers at once: without it a request can wait 40 ms for an acknowledgement.
            let listener = listener.tap_io(|stream| drop(stream.set_nodelay(true)));
            let server = axum::serve(listener, app);
            if let Err(error) = server.with_graceful_shutdown(until_stopped(stopped)).await {
                tracing::error!(%error, name, "a server ended");
            }
        });
        Ok(Self { address, stop, task })
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Lets running requests finish, for a moment.
    pub(crate) async fn shutdown(&mut self) {
        self.stop.send_replace(true);
        end(&mut self.task).await;
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Waits for a task that was told to end, and ends it if it does not.
pub(crate) async fn end(task: &mut JoinHandle<()>) {
    // A handle must not be polled again after it gave its result.
    if !task.is_finished() && tokio::time::timeout(GRACE, &mut *task).await.is_err() {
        task.abort();
    }
}

/// Resolves when `stop` says so, or has no one left to say it.
pub(crate) async fn until_stopped(mut stop: watch::Receiver<bool>) {
    let _ = stop.wait_for(|stopped| *stopped).await;
}
