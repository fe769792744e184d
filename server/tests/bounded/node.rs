//! A `millpond serve` process that is watched: its memory, its time.

#[path = "../ports/mod.rs"]
mod ports;

use ports::free_ports;
use std::{
    fmt,
    fs::{self, File},
    io::{BufRead, BufReader},
    path::PathBuf,
    process::{Child, Command, Stdio},
    sync::{RwLock, RwLockReadGuard, RwLockWriteGuard, mpsc},
    time::{Duration, Instant},
};

pub(crate) const CORES: u16 = 2;
/// The least that a server of two cores takes for its budget.
pub(crate) const MEMORY: Bytes = Bytes::mib(128);
/// How long anything may take that depends on the machine more than on us.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// Lines of the server's log that are shown when a test fails.
const LOG_LINES: usize = 60;

/// Tests that measure time of the CPU run alone.
static MACHINE: RwLock<()> = RwLock::new(());

/// A number of bytes, shown in MiB.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Bytes(pub(crate) u64);

impl Bytes {
    pub(crate) const fn mib(n: u64) -> Self {
        Self(n << 20)
    }
}

impl fmt::Display for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:.1} MiB", self.0 as f64 / (1 << 20) as f64)
    }
}

enum Turn {
    Shared { _held: RwLockReadGuard<'static, ()> },
    Alone { _held: RwLockWriteGuard<'static, ()> },
}

/// Killed, and its data removed, when dropped.
pub(crate) struct Node {
    child: Option<Child>,
    data: tempfile::TempDir,
    port: u16,
    memory: Bytes,
    more: Vec<String>,
    /// What the process took right after its start.
    base: Bytes,
    _turn: Turn,
}

impl Drop for Node {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let log = self.log();
            let last: Vec<&str> = log.lines().rev().take(LOG_LINES).collect();
            eprintln!("the end of the server's log:");
            last.iter().rev().for_each(|line| eprintln!("{line}"));
        }
        self.kill();
    }
}

impl Node {
    /// One with the smallest budget, that serves.
    pub(crate) fn start() -> Self {
        Self::with(MEMORY, &[])
    }

    /// One with this budget and more options.
    pub(crate) fn with(memory: Bytes, more: &[&str]) -> Self {
        // A test that failed has poisoned it, which is no reason for others to fail.
        let held = MACHINE.read().unwrap_or_else(std::sync::PoisonError::into_inner);
        Self::begin(memory, more, Turn::Shared { _held: held })
    }

    /// The same, while no other test of this target runs.
    pub(crate) fn alone() -> Self {
        let held = MACHINE.write().unwrap_or_else(std::sync::PoisonError::into_inner);
        Self::begin(MEMORY, &[], Turn::Alone { _held: held })
    }

    fn begin(memory: Bytes, more: &[&str], turn: Turn) -> Self {
        // On a real disk: memory file systems know no O_DIRECT.
        let data = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a directory for data");
        let more = more.iter().map(|&option| option.to_owned()).collect();
        let mut node = Self { child: None, data, port: free_ports(CORES + 1), memory, more, base: Bytes(0), _turn: turn };
        node.serve();
        node
    }

    /// Starts it where it was.
    pub(crate) fn serve(&mut self) {
        let log = File::options().create(true).append(true).open(self.log_path()).expect("a log file");
        let mut child = Command::new(env!("CARGO_BIN_EXE_millpond"))
            .args(["serve", "--http", "off", "--no-pin", "--json", "--memory", &self.memory.0.to_string()])
            .args(["--cores", &CORES.to_string(), "--listen", &self.address()])
            .args(&self.more)
            .arg("--data")
            .arg(self.data.path().join("data"))
            .stdout(Stdio::piped())
            .stderr(log)
            .spawn()
            .expect("the program was built");
        let stdout = child.stdout.take().expect("piped");
        self.child = Some(child);
        let (say, said) = mpsc::channel();
        std::thread::spawn(move || {
            let mut line = String::new();
            // A line that cannot be read is one that does not say that it listens.
            let _ = BufReader::new(stdout).read_line(&mut line);
            let _ = say.send(line);
        });
        let line = said.recv_timeout(PATIENCE).unwrap_or_else(|_| "nothing in time".into());
        assert!(line.contains("listen"), "it did not start, and said: {line}\n{}", self.log());
        self.base = self.resident();
    }

    /// Ends it as a crash of the process would.
    pub(crate) fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.kill().expect("it is ours");
            child.wait().expect("it was started");
        }
    }

    /// The options beside the usual ones, from the next start on.
    pub(crate) fn set_options(&mut self, more: &[&str]) {
        self.more = more.iter().map(|&option| option.to_owned()).collect();
    }

    /// Where all cores listen.
    pub(crate) fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// Where one core listens.
    pub(crate) fn core(&self, core: u16) -> String {
        format!("127.0.0.1:{}", self.port + 1 + core)
    }

    pub(crate) fn data(&self) -> PathBuf {
        self.data.path().into()
    }

    fn log_path(&self) -> PathBuf {
        self.data.path().join("log")
    }

    /// What the server has logged.
    pub(crate) fn log(&self) -> String {
        fs::read_to_string(self.log_path()).unwrap_or_default()
    }

    fn proc(&self, file: &str) -> String {
        let pid = self.child.as_ref().expect("it runs").id();
        let path = format!("/proc/{pid}/{file}");
        fs::read_to_string(&path).unwrap_or_else(|e| panic!("{path}: {e}\n{}", self.log()))
    }

    fn status(&self, field: &str) -> Bytes {
        let status = self.proc("status");
        let line = status.lines().find_map(|line| line.strip_prefix(field));
        let kib = line.and_then(|rest| rest.trim_start_matches(':').trim().strip_suffix("kB")?.trim().parse::<u64>().ok());
        // A process that has died has no memory to tell of.
        Bytes(kib.unwrap_or_else(|| panic!("no {field} of the server: has it died?\n{}", self.log())) * 1024)
    }

    /// Memory that it has now.
    pub(crate) fn resident(&self) -> Bytes {
        self.status("VmRSS")
    }

    /// The most that it ever had.
    pub(crate) fn peak(&self) -> Bytes {
        self.status("VmHWM")
    }

    /// What the process took right after its start.
    pub(crate) fn base(&self) -> Bytes {
        self.base
    }

    /// The budget, and what the process took before it served anybody.
    pub(crate) fn bound(&self) -> Bytes {
        Bytes(self.memory.0 + self.base.0)
    }

    /// Time of a CPU that it has used, user and system.
    pub(crate) fn cpu(&self) -> Duration {
        let stat = self.proc("stat");
        // Behind the name, which may hold anything: state is the third field, times are the 14th and 15th.
        let rest = stat.rsplit_once(')').expect("a name in parentheses").1;
        let ticks: u64 = rest.split_whitespace().skip(11).take(2).map(|n| n.parse::<u64>().expect("a number")).sum();
        // USER_HZ is 100 on every architecture that we run on.
        Duration::from_millis(ticks * 10)
    }

    /// Panics if it ever had more memory than it may.
    pub(crate) fn check_memory(&self) {
        let (peak, bound) = (self.peak(), self.bound());
        println!("memory: at most {peak} of {} and {} before serving", self.memory, self.base);
        assert!(peak <= bound, "it took {peak}, {} may be used, and it began with {}", self.memory, self.base);
    }
}

/// Looks again and again until `done`; panics if that takes too long.
pub(crate) fn eventually(what: &str, mut done: impl FnMut() -> bool) {
    let until = Instant::now() + PATIENCE;
    while !done() {
        assert!(Instant::now() < until, "{what}: not in time");
        std::thread::sleep(Duration::from_millis(10));
    }
}
