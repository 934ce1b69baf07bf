//! Files that commands write: the whole file under its name at once, so that nobody reads half of it.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;

/// Writes a file by renaming, readable for all.
pub(crate) fn replace(file: &Path, text: &str) -> std::io::Result<()> {
    let mut name = file
        .file_name()
        .ok_or_else(|| std::io::Error::other("it is no name of a file"))?
        .to_owned();
    name.push(format!(".{}", std::process::id()));
    let beside = file.with_file_name(name);
    let written = std::fs::write(&beside, text)
        .and_then(|()| std::fs::set_permissions(&beside, PermissionsExt::from_mode(0o644)))
        .and_then(|()| std::fs::rename(&beside, file));
    if written.is_err() {
        // The error that counts is that of the write.
        let _ = std::fs::remove_file(&beside);
    }
    written
}
