//! A child of ours that is there to be killed. It is gone when this goes, however that comes about.

use crate::{server::STOP_TIMEOUT, sys};
use anyhow::{Context, Result, ensure};
use std::{
    fs,
    process::ExitStatus,
    time::{Duration, Instant},
};
use tokio::{
    process::{Child, ChildStdout, Command},
    runtime::Handle,
    time::timeout,
};

/// A process that was killed is gone within this time.
const REAP_TIMEOUT: Duration = Duration::from_secs(10);

/// See the module.
#[derive(Debug)]
pub(crate) struct Process(Child);

impl Process {
    /// Starts one in a group of its own: Ctrl-C is for us, and we end it. It may run on these CPUs only, if any are named; it inherits
    /// that from the thread that starts it. To be called within a runtime.
    pub(crate) fn spawn(mut command: Command, cpus: &[usize]) -> std::io::Result<Self> {
        command.kill_on_drop(true).process_group(0);
        if cpus.is_empty() {
            return command.spawn().map(Self);
        }
        let (runtime, cpus) = (Handle::current(), cpus.to_vec());
        let start = move || {
            let _within = runtime.enter();
            sys::pin_thread(&cpus)?;
            command.spawn().map(Self)
        };
        std::thread::spawn(start).join().unwrap_or_else(|_| Err(std::io::Error::other("the thread that starts it panicked")))
    }

    /// Its process.
    pub(crate) fn pid(&self) -> Result<u32> {
        self.0.id().context("the process has ended by itself")
    }

    /// What it says, if that was to be a pipe; once.
    pub(crate) fn stdout(&mut self) -> Option<ChildStdout> {
        self.0.stdout.take()
    }

    /// Whether it ended by itself, and how.
    pub(crate) fn ended(&mut self) -> std::io::Result<Option<ExitStatus>> {
        self.0.try_wait()
    }

    /// Waits until it has ended, so long at most.
    pub(crate) async fn wait(&mut self, at_most: Duration) -> Result<ExitStatus> {
        let ended = timeout(at_most, self.0.wait()).await;
        ended.with_context(|| format!("it does not end within {at_most:?}"))?.context("waiting for a process")
    }

    /// Asks it to stop (SIGTERM), and waits until it has.
    pub(crate) async fn stop(mut self) -> Result<ExitStatus> {
        sys::ask_to_stop(self.pid()?).context("asking it to stop")?;
        self.wait(STOP_TIMEOUT).await
    }

    /// Each thread, what it is doing (R runs, S waits, D waits for a disk) and where in the kernel: for one that hangs.
    pub(crate) fn threads(&self) -> String {
        let Some(pid) = self.0.id() else { return "gone".into() };
        let tasks = fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
        let line = |task: fs::DirEntry| {
            let read = |name| fs::read_to_string(task.path().join(name)).unwrap_or_default().trim().to_owned();
            let stat = read("stat");
            let state = stat.rsplit(") ").next().and_then(|rest| rest.chars().next()).unwrap_or('?');
            format!("{} {state} {}", read("comm"), read("wchan"))
        };
        tasks.map(line).collect::<Vec<_>>().join(", ")
    }

    /// Ends it as a crash would (SIGKILL), and waits until it is gone.
    pub(crate) fn kill(&mut self) -> Result<()> {
        if self.0.try_wait().context("looking at a process")?.is_none() {
            self.0.start_kill().context("killing a process")?;
        }
        let until = Instant::now() + REAP_TIMEOUT;
        // Its files and ports are free once it is gone, which takes the kernel well below a millisecond, mostly.
        while self.0.try_wait().context("waiting for a process")?.is_none() {
            ensure!(Instant::now() < until, "a process was killed and is still there");
            std::thread::sleep(Duration::from_micros(200));
        }
        Ok(())
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if let Err(error) = self.kill() {
            tracing::warn!(%error, "a process may be left behind");
        }
    }
}

#[cfg(test)]
mod tests;
