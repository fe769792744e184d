//! What is done to names of files and directories, by calls that block, on the pool: the same for every production backend.
#![expect(clippy::disallowed_methods, clippy::disallowed_types, reason = "this is the door: here names are touched")]

use crate::{IoError, Result, Space, pool::Pool, sys};
use std::{
    fs, io,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
};

/// A blocking call on a path; an error names it.
pub(crate) async fn call<T: Send + 'static>(
    pool: &Pool,
    doing: &'static str,
    path: &Path,
    call: impl FnOnce(&Path) -> io::Result<T> + Send + 'static,
) -> Result<T> {
    let (named, path) = (path.to_path_buf(), PathBuf::from(path));
    pool.call(doing, move || call(&path)).await?.map_err(|source| IoError::Disk { doing, path: named, source })
}

/// See [`crate::Rt::rename`].
pub(crate) async fn rename(pool: &Pool, from: &Path, to: &Path) -> Result<()> {
    let to = to.to_path_buf();
    call(pool, "rename", from, move |from| fs::rename(from, to)).await
}

/// See [`crate::Rt::remove`].
pub(crate) async fn remove(pool: &Pool, path: &Path) -> Result<()> {
    call(pool, "remove", path, |path| fs::remove_file(path)).await
}

/// See [`crate::Rt::links`].
pub(crate) async fn links(pool: &Pool, path: &Path) -> Result<u64> {
    call(pool, "look at", path, |path| fs::symlink_metadata(path).map(|found| found.nlink())).await
}

/// See [`crate::Rt::create_dir_all`].
pub(crate) async fn create_dir_all(pool: &Pool, dir: &Path) -> Result<()> {
    call(pool, "create", dir, |dir| fs::create_dir_all(dir)).await
}

/// See [`crate::Rt::remove_dir`].
pub(crate) async fn remove_dir(pool: &Pool, dir: &Path) -> Result<()> {
    call(pool, "remove", dir, |dir| fs::remove_dir(dir)).await
}

/// See [`crate::Rt::list`].
pub(crate) async fn list(pool: &Pool, dir: &Path) -> Result<Vec<String>> {
    let names = |dir: &Path| {
        let mut names = Vec::new();
        for entry in fs::read_dir(dir)? {
            names.push(entry?.file_name().to_string_lossy().into_owned());
        }
        names.sort();
        Ok(names)
    };
    call(pool, "list", dir, names).await
}

/// See [`crate::Rt::sync_dir`].
pub(crate) async fn sync_dir(pool: &Pool, dir: &Path) -> Result<()> {
    call(pool, "sync", dir, |dir| fs::File::open(dir)?.sync_all()).await
}

/// See [`crate::Rt::space`].
pub(crate) async fn space(pool: &Pool, dir: &Path) -> Result<Space> {
    call(pool, "measure", dir, sys::space).await
}
