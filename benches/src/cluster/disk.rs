//! A small disk that can be filled: a file with a file system of its own, mounted where a node keeps its data.

use anyhow::{Context, Result, bail};
use std::{
    fs::{self, File},
    path::{Path, PathBuf},
    process::Command,
};

/// Its size. Only what is written takes room.
const BYTES: u64 = 3 << 30;

/// See the module. Unmounted with this; the file stays, as data should if something went wrong.
#[derive(Debug)]
pub(crate) struct SmallDisk {
    at: PathBuf,
}

impl SmallDisk {
    /// Makes one beside `at`, which is made too, and mounts it there.
    pub(crate) fn new(at: &Path) -> Result<Self> {
        let image = at.with_extension("disk");
        let doing = || format!("making a small disk at {}; that needs root and loop devices", at.display());
        let file = File::create_new(&image).with_context(doing)?;
        file.set_len(BYTES).with_context(doing)?;
        run("mkfs.ext4", &[Path::new("-q"), Path::new("-F"), &image]).with_context(doing)?;
        fs::create_dir_all(at).with_context(doing)?;
        run("mount", &[Path::new("-o"), Path::new("loop"), &image, at]).with_context(doing)?;
        Ok(Self { at: at.to_owned() })
    }

    fn filler(&self) -> PathBuf {
        self.at.join("filler")
    }

    /// Takes all the room that is left.
    pub(crate) fn fill(&self) -> Result<()> {
        let path = self.filler();
        let mut file = File::create(&path).with_context(|| format!("making {}", path.display()))?;
        let mut bytes = BYTES;
        // In ever smaller pieces, so that next to nothing is left.
        let mut length = 0;
        while bytes >= 4096 {
            match crate::sys::allocate(&mut file, length, bytes) {
                Ok(()) => length += bytes,
                Err(error) if error.kind() == std::io::ErrorKind::StorageFull => bytes /= 2,
                Err(error) => return Err(error).context("filling a disk"),
            }
        }
        Ok(())
    }

    /// Gives the room back.
    pub(crate) fn empty(&self) -> Result<()> {
        fs::remove_file(self.filler()).context("giving back the room on a disk")
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        if let Err(error) = run("umount", &[&self.at]) {
            tracing::warn!(%error, "a disk is left mounted");
        }
    }
}

fn run(program: &str, words: &[&Path]) -> Result<()> {
    let out = Command::new(program).args(words).output().with_context(|| format!("running `{program}`"))?;
    if !out.status.success() {
        bail!("`{program}`: {}", String::from_utf8_lossy(&out.stderr).trim());
    }
    Ok(())
}
