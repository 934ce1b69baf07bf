//! The folder of `--state`, which keeps the embedded cloud over restarts.

use std::fs::{File, TryLockError};
use std::path::{Path, PathBuf};
use std::time::Duration;

use snapkeep_cloud::embedded::{Cloud, Saved};

use super::write_whole;

/// How often the state is written while the cloud runs: one that is killed loses no more than this.
const EVERY: Duration = Duration::from_secs(10);

/// A folder that belongs to one cloud as long as it runs.
pub(super) struct StateFolder {
    file: PathBuf,
    /// Held until the process ends, however it ends.
    _lock: File,
}

impl StateFolder {
    /// Opens the folder, and makes it if there is none.
    pub(super) fn open(folder: &Path) -> Result<Self, String> {
        let failed = |error| format!("cannot use {}: {error}", folder.display());
        std::fs::create_dir_all(folder).map_err(failed)?;
        let lock = File::create(folder.join("lock")).map_err(failed)?;
        match lock.try_lock() {
            Ok(()) => Ok(StateFolder { file: folder.join("state.json"), _lock: lock }),
            Err(TryLockError::WouldBlock) => Err(format!(
                "{} belongs to an embedded cloud that is running: stop that one, or name another folder",
                folder.display()
            )),
            Err(TryLockError::Error(error)) => Err(failed(error)),
        }
    }

    /// What the last cloud left; `None` in a new folder.
    pub(super) fn read(&self) -> Result<Option<Saved>, String> {
        let text = match std::fs::read(&self.file) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(format!("cannot read {}: {error}", self.file.display())),
        };
        let unreadable = |error| {
            format!(
                "{} is not the state of an embedded cloud of this version ({error}): move it away to begin anew",
                self.file.display()
            )
        };
        serde_json::from_slice(&text).map(Some).map_err(unreadable)
    }

    /// Writes the state of the cloud as it is now.
    pub(super) fn write(&self, cloud: &Cloud) -> Result<(), String> {
        let state = cloud.save().map_err(|error| format!("cannot save the state: {error}"))?;
        write_whole(&self.file, &state.to_string())
    }

    /// Writes the state again and again; returns the error that ends it.
    pub(super) async fn keep(&self, cloud: &Cloud) -> String {
        loop {
            tokio::time::sleep(EVERY).await;
            if let Err(error) = self.write(cloud) {
                return error;
            }
        }
    }
}
