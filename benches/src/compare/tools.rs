//! What the comparison needs and does not bring: Java, jars, a client for Python, a server in Go. What is fetched stays in a cache; it is
//! there as a whole or not at all.

use crate::process::Process;
use anyhow::{Context, Result, bail, ensure};
use std::{
    env,
    ffi::OsStr,
    fs,
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};
use tokio::{io::AsyncReadExt, process::Command, time::timeout};

/// Fetching takes no longer.
const FETCH_TIMEOUT: Duration = Duration::from_secs(900);
/// A tool says its version within this time.
const VERSION_TIMEOUT: Duration = Duration::from_secs(30);
/// Kafka 4's broker needs this Java at least.
const JAVA_MIN: u32 = 17;
/// librdkafka, within Confluent's client for Python.
const PYTHON_CLIENT: &str = "confluent-kafka==2.16.1";
/// The server of NATS, as Go knows it.
const NATS_SERVER: &str = "github.com/nats-io/nats-server/v2";
/// What Maven is to fetch: a name, and what it is made of, with a version that is said then.
pub(super) struct Artifacts(&'static str, &'static str);

/// Broker and client of Kafka.
pub(super) const KAFKA: Artifacts = Artifacts("kafka", include_str!("clients/kafka.xml"));
/// The client of NATS.
pub(super) const NATS: Artifacts = Artifacts("nats", include_str!("clients/nats.xml"));

/// Where what is fetched is kept, if nobody says otherwise.
///
/// # Errors
/// If the user has no home.
pub(super) fn cache_dir() -> Result<PathBuf> {
    let named = |name: &str| env::var_os(name).filter(|dir| !dir.is_empty()).map(PathBuf::from);
    let cache = named("XDG_CACHE_HOME").or_else(|| named("HOME").map(|home| home.join(".cache")));
    Ok(cache.context("there is neither HOME nor XDG_CACHE_HOME: name a directory with --cache")?.join("millpond"))
}

/// Jars, and the Java that runs them.
#[derive(Clone, Debug)]
pub(super) struct Jars {
    pub(super) dir: PathBuf,
    /// Of what is in them.
    pub(super) version: String,
    /// The version of Java.
    pub(super) java: String,
}

impl Jars {
    /// Those of this version, fetched if they are not there.
    pub(super) async fn of(what: &Artifacts, version: &str, cache: &Path) -> Result<Self> {
        let Artifacts(name, pom) = what;
        check(version)?;
        let install = "install a JDK, 17 or newer (Debian: default-jdk-headless)";
        let java = version_of(&says("javac", &["-version"], install).await?).context(install)?;
        ensure!(java.1 >= JAVA_MIN, "Java {JAVA_MIN} or newer is needed, and this is {}: {install}", java.0);
        says("java", &["-version"], install).await?;
        let dir = cache.join(format!("{name}-{version}"));
        if !dir.exists() {
            says("mvn", &["-version"], "install Maven (Debian: maven)").await?;
            fetched(&dir, async |part: &Path| {
                let path = part.join("pom.xml");
                fs::write(&path, pom).with_context(|| format!("writing {}", path.display()))?;
                let mut maven = Command::new("mvn");
                maven.args(["-q", "-B", "-f"]).arg(&path).arg(format!("-D{name}.version={version}"));
                maven.args(["dependency:copy-dependencies", "-DincludeScope=runtime"]);
                maven.arg(format!("-DoutputDirectory={}", part.display()));
                run(maven).await.with_context(|| format!("fetching {name} {version} with Maven"))
            })
            .await?;
        }
        Ok(Self { dir, version: version.to_owned(), java: java.0 })
    }

    /// As Java takes it: all of them.
    pub(super) fn class_path(&self) -> PathBuf {
        self.dir.join("*")
    }
}

/// A version that is no path and no option.
fn check(version: &str) -> Result<()> {
    let is_one =
        version.starts_with(|c: char| c.is_ascii_digit()) && version.chars().all(|c| c.is_ascii_alphanumeric() || ".-".contains(c));
    ensure!(is_one, "`{version}` is no version");
    Ok(())
}

/// The server of NATS; fetched and built if it is not there.
pub(super) async fn nats_server(version: &str, cache: &Path) -> Result<PathBuf> {
    check(version)?;
    let dir = cache.join(format!("nats-server-{version}"));
    if !dir.exists() {
        says("go", &["version"], "install Go (https://go.dev, or Debian: golang)").await?;
        fetched(&dir, async |part: &Path| {
            let mut go = Command::new("go");
            go.env("GOBIN", part).args(["install", &format!("{NATS_SERVER}@v{version}")]);
            run(go).await.with_context(|| format!("building nats-server {version} with Go"))
        })
        .await?;
    }
    Ok(dir.join("nats-server"))
}

/// A Python with Confluent's client; fetched if it is not there.
pub(super) async fn python(cache: &Path) -> Result<PathBuf> {
    let dir = cache.join(PYTHON_CLIENT.replace("==", "-"));
    // What is in such an environment names the directory it was made in: it cannot be made elsewhere and moved.
    let complete = dir.join("complete");
    if !complete.exists() {
        let install = "install Python 3 with venv (Debian: python3-venv), or leave librdkafka out: --clients java";
        says("python3", &["--version"], install).await?;
        let done = async {
            let mut venv = Command::new("python3");
            venv.args(["-m", "venv", "--clear"]).arg(&dir);
            run(venv).await.context(install)?;
            let mut pip = Command::new(dir.join("bin/python"));
            pip.args(["-m", "pip", "install", "-q", "--disable-pip-version-check", PYTHON_CLIENT]);
            run(pip).await.with_context(|| format!("fetching {PYTHON_CLIENT} with pip"))
        };
        let unmade = Unmade::new(&dir)?;
        done.await?;
        fs::write(&complete, "").with_context(|| format!("writing {}", complete.display()))?;
        unmade.done();
    }
    Ok(dir.join("bin/python"))
}

/// Fills a directory beside the one in question, and gives it the right name once it is full.
async fn fetched(dir: &Path, fill: impl AsyncFnOnce(&Path) -> Result<()>) -> Result<()> {
    let part = dir.with_extension(format!("part-{}", std::process::id()));
    let unmade = Unmade::new(&part)?;
    fill(&part).await?;
    fs::rename(&part, dir).with_context(|| format!("naming {}", dir.display()))?;
    unmade.done();
    Ok(())
}

/// A directory that goes with this unless it is done.
struct Unmade<'a>(Option<&'a Path>);

impl<'a> Unmade<'a> {
    fn new(dir: &'a Path) -> Result<Self> {
        fs::create_dir_all(dir).with_context(|| format!("making {}", dir.display()))?;
        Ok(Self(Some(dir)))
    }

    fn done(mut self) {
        self.0 = None;
    }
}

impl Drop for Unmade<'_> {
    fn drop(&mut self) {
        if let Some(dir) = self.0
            && let Err(error) = fs::remove_dir_all(dir)
        {
            tracing::warn!(path = %dir.display(), %error, "a directory that is not complete is left behind");
        }
    }
}

/// Runs a program to its end, and says what it said if it fails.
pub(super) async fn run(mut command: Command) -> Result<()> {
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::inherit());
    let name = command.as_std().get_program().to_string_lossy().into_owned();
    let mut process = Process::spawn(command, &[]).with_context(|| format!("starting {name}"))?;
    let said = said(&mut process, FETCH_TIMEOUT).await.with_context(|| format!("waiting for {name}"))?;
    let status = process.wait(VERSION_TIMEOUT).await?;
    ensure!(status.success(), "{name} ended with {status}: {}", said.trim());
    Ok(())
}

/// What a program says about itself, on either of its outputs; with the advice where it is not there.
async fn says(program: &str, args: &[&str], advice: &str) -> Result<String> {
    // A shell joins both outputs: some tools use the one, some the other.
    let mut command = Command::new("sh");
    command.args(["-c", "exec \"$@\" 2>&1", "sh", program]).args(args.iter().map(OsStr::new));
    command.stdin(Stdio::null()).stdout(Stdio::piped());
    let mut process = Process::spawn(command, &[]).context("starting sh")?;
    let said = said(&mut process, VERSION_TIMEOUT).await.with_context(|| format!("asking {program} for its version"))?;
    let status = process.wait(VERSION_TIMEOUT).await?;
    if !status.success() {
        bail!("`{program}` is missing or does not work ({}): {advice}", said.trim());
    }
    Ok(said)
}

async fn said(process: &mut Process, at_most: Duration) -> Result<String> {
    let mut out = process.stdout().context("its output was to be a pipe")?;
    let mut said = Vec::new();
    timeout(at_most, out.read_to_end(&mut said)).await.with_context(|| format!("it is not done after {at_most:?}"))??;
    Ok(String::from_utf8_lossy(&said).into_owned())
}

/// The version that `javac` tells, and the first number of it.
fn version_of(said: &str) -> Result<(String, u32)> {
    let version = said.lines().find_map(|line| line.strip_prefix("javac ")).with_context(|| format!("javac says: {}", said.trim()))?;
    let digits = version.split(|c: char| !c.is_ascii_digit()).next().unwrap_or_default();
    Ok((version.trim().to_owned(), digits.parse().with_context(|| format!("`{version}` is no version of Java"))?))
}

#[cfg(test)]
mod tests;
