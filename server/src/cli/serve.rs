//! `millpond serve`: where its settings come from, and the start of the node.
//!
//! A setting is taken from the command line, else from its environment variable, else from the file of `--config`, else
//! it is the default, with which a server needs no settings at all: loopback, `./data`, all cores.

use super::{
    fail::{Fail, Result},
    units::Size,
};
use crate::{
    node::config::Security,
    security::{PrincipalRules, Rule},
};
use clap::{Args, ValueEnum};
use millpond_runtime::tls::TlsFiles;
use serde::Deserialize;
use std::{
    fs,
    net::SocketAddr,
    path::{Path, PathBuf},
    str::FromStr,
    time::Duration,
};

/// Run a server
#[derive(Args)]
#[command(after_help = "\
Without arguments the server listens on 127.0.0.1:7400 (all cores), on one port per core above it, and on \
127.0.0.1:7480 for HTTP, and keeps its data in ./data. It stops on SIGTERM and SIGINT.

The file of --config is TOML with the same names as the long options, for example:
  data = \"/var/lib/millpond\"
  listen = \"0.0.0.0:7400\"
  advertise = \"node1.example.org\"
  memory = \"4GiB\"")]
pub(super) struct Serve {
    /// Where the data is kept [default: ./data]
    #[arg(long, short = 'd', env = "MILLPOND_DATA", hide_env_values = true, value_name = "DIR")]
    data: Option<PathBuf>,
    /// Where clients connect; core N also listens on this port + 1 + N [default: 127.0.0.1:7400]
    #[arg(long, short = 'l', env = "MILLPOND_LISTEN", hide_env_values = true, value_name = "ADDR:PORT")]
    listen: Option<SocketAddr>,
    /// Host name or address that clients are told to connect to [default: the address of --listen]
    #[arg(long, env = "MILLPOND_ADVERTISE", hide_env_values = true, value_name = "HOST")]
    advertise: Option<String>,
    /// Become a part of a cluster: some of its nodes, with commas between. Asked at the first start; later the data directory knows
    #[arg(long, short = 'j', env = "MILLPOND_JOIN", hide_env_values = true, value_name = "HOST:PORT", value_delimiter = ',')]
    join: Vec<String>,
    /// Join in the place of a node that is lost with its disk: its replicas are made here, and it goes. At the first start only
    #[arg(long, env = "MILLPOND_REPLACE", hide_env_values = true, value_name = "NODE")]
    replace: Option<u64>,
    /// Where this node stands: replicas of a partition are spread over racks
    #[arg(long, env = "MILLPOND_RACK", hide_env_values = true, value_name = "NAME")]
    rack: Option<String>,
    /// Where metrics and health are served, or `off` [default: 127.0.0.1:7480]
    #[arg(long, env = "MILLPOND_HTTP", hide_env_values = true, value_name = "ADDR:PORT")]
    http: Option<Http>,
    /// How many cores, `all`, or which CPUs: `0,2-5` [default: all]
    #[arg(long, short = 'c', env = "MILLPOND_CORES", hide_env_values = true, value_name = "N|CPUS")]
    cores: Option<CoreChoice>,
    /// Leave it to the scheduler on which CPU a core runs
    #[arg(long, env = "MILLPOND_NO_PIN", hide_env_values = true)]
    no_pin: bool,
    /// How long an idle core looks for news before it sleeps, while a disk is at work or a client is likely to come back, and nobody
    /// else wants its CPU: acks come sooner, and CPU is used; at most 10ms, 0s for never [default: 200us, 0s with --no-pin]
    #[arg(long, env = "MILLPOND_IDLE_POLL", hide_env_values = true, value_name = "TIME")]
    idle_poll: Option<Moment>,
    /// Answer what leaders are asked without asking the other nodes for as long as no other can lead by the clock: fewer messages and less waiting for positions
    /// of groups, fetches that must be sure and the catalog, but a leader that has died is missed for longer. Clocks must not run apart by more than a tenth. All nodes must have it;
    /// one that is to be without it must be down for a second
    #[arg(long, env = "MILLPOND_LEASE_READS", hide_env_values = true)]
    lease_reads: bool,
    /// The certificate of this node, PEM, with those between it and its authority behind it: all connections speak TLS. See `millpond certificate`
    #[arg(long, env = "MILLPOND_TLS_CERT", hide_env_values = true, value_name = "FILE")]
    tls_cert: Option<PathBuf>,
    /// The key of that certificate, PEM
    #[arg(long, env = "MILLPOND_TLS_KEY", hide_env_values = true, value_name = "FILE")]
    tls_key: Option<PathBuf>,
    /// The authority of the nodes, PEM: whoever shows a certificate that it has signed is a node of this cluster, so it signs nothing else
    #[arg(long, env = "MILLPOND_TLS_NODE_CA", hide_env_values = true, value_name = "FILE")]
    tls_node_ca: Option<PathBuf>,
    /// The authority of clients, PEM: whoever shows a certificate that it has signed is the user of its name, which is all of its subject, such as
    /// `CN=ann,O=Example`, or what --tls-principal makes of that. See `millpond certificate client`
    #[arg(long, env = "MILLPOND_TLS_CLIENT_CA", hide_env_values = true, value_name = "FILE")]
    tls_client_ca: Option<PathBuf>,
    /// Which user a client's certificate stands for, as Kafka's ssl.principal.mapping.rules: DEFAULT, or RULE:pattern/replacement/ with L or U behind it, such as
    /// `RULE:CN=([^,]*).*/$1/`. Repeat it for several: the first that fits decides
    #[arg(long, env = "MILLPOND_TLS_PRINCIPAL", hide_env_values = true, value_name = "RULE")]
    tls_principal: Vec<Rule>,
    /// Take connections in the clear as well, but not from nodes
    #[arg(long, env = "MILLPOND_TLS_OPTIONAL", hide_env_values = true)]
    tls_optional: bool,
    /// Clients show who they are, by SASL, before anything else is answered: users that `millpond user` or Kafka's tools have made. Nodes, and whoever looks
    /// after them, show a certificate of --tls-node-ca
    #[arg(long, env = "MILLPOND_AUTHENTICATE", hide_env_values = true)]
    authenticate: bool,
    /// Listen beyond loopback although others may read along, or anybody who connects may do anything: without TLS, or without --authenticate
    #[arg(long, env = "MILLPOND_INSECURE", hide_env_values = true)]
    insecure: bool,
    /// Let principals do what ACLs let them, and nothing else; without it everybody may do everything
    #[arg(long, env = "MILLPOND_AUTHORIZE", hide_env_values = true)]
    authorize: bool,
    /// A user who may do everything; repeat it for several, or put a semicolon between them
    #[arg(long, env = "MILLPOND_SUPER_USER", hide_env_values = true, value_name = "NAME", value_delimiter = ';')]
    super_user: Vec<String>,
    /// Memory for tails, caches and requests under way, all cores together [default: a quarter of the machine's]
    #[arg(long, short = 'm', env = "MILLPOND_MEMORY", hide_env_values = true, value_name = "SIZE")]
    memory: Option<Size>,
    /// Writes are refused while the disk has less than this left [default: 256MiB]
    #[arg(long, env = "MILLPOND_DISK_RESERVE", hide_env_values = true, value_name = "SIZE")]
    disk_reserve: Option<Size>,
    /// What is logged: error, warn, info, debug, trace, or a filter such as `millpond=debug` [default: info]
    #[arg(long, env = "MILLPOND_LOG", hide_env_values = true, value_name = "FILTER")]
    log: Option<String>,
    /// How the log is written, to stderr [default: text]
    #[arg(long, env = "MILLPOND_LOG_FORMAT", hide_env_values = true, value_name = "FORMAT")]
    log_format: Option<LogFormat>,
    /// A file with settings
    #[arg(long, env = "MILLPOND_CONFIG", hide_env_values = true, value_name = "FILE")]
    config: Option<PathBuf>,
}

/// How long a pinned core looks for news before it sleeps: Seastar's default.
const IDLE_POLL: Duration = Duration::from_micros(200);
/// The longest that may be asked for.
const IDLE_POLL_MAX: Duration = Duration::from_millis(10);

/// A time of at most [`IDLE_POLL_MAX`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Moment(Duration);

impl FromStr for Moment {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let bad = || format!("give a time such as 200us or 1ms, at most {}", humantime::format_duration(IDLE_POLL_MAX));
        humantime::parse_duration(text).ok().filter(|time| *time <= IDLE_POLL_MAX).map(Self).ok_or_else(bad)
    }
}

/// How the log is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum LogFormat {
    /// A line per event, for people.
    Text,
    /// A JSON object per line, for programs.
    Json,
}

/// Where HTTP is served.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Http {
    At(SocketAddr),
    Off,
}

impl FromStr for Http {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        if text == "off" {
            return Ok(Self::Off);
        }
        text.parse().map(Self::At).map_err(|_| "give an address and a port such as 127.0.0.1:7480, or `off`".into())
    }
}

/// Which cores to use.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum CoreChoice {
    /// All that the process may use.
    All,
    /// The first so many.
    Count(usize),
    /// These CPUs.
    Cpus(Vec<usize>),
}

impl FromStr for CoreChoice {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        const MAX: usize = 1024;
        let bad = || format!("give a number of cores, `all`, or CPUs such as 0,2-5 (below {MAX})");
        if text == "all" {
            return Ok(Self::All);
        }
        if let Ok(count) = text.parse::<usize>() {
            return if (1..=MAX).contains(&count) { Ok(Self::Count(count)) } else { Err(bad()) };
        }
        let mut cpus = Vec::new();
        for part in text.split(',') {
            let (first, last) = part.split_once('-').unwrap_or((part, part));
            let (first, last) = (first.trim().parse::<usize>(), last.trim().parse::<usize>());
            match (first, last) {
                (Ok(first), Ok(last)) if first <= last && last < MAX => cpus.extend(first..=last),
                _ => return Err(bad()),
            }
        }
        let all = cpus.len();
        cpus.sort_unstable();
        cpus.dedup();
        if cpus.len() < all { Err(format!("`{text}` names a CPU twice")) } else { Ok(Self::Cpus(cpus)) }
    }
}

/// The file of `--config`.
#[derive(Debug, Default, Deserialize, PartialEq)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct File {
    data: Option<PathBuf>,
    listen: Option<SocketAddr>,
    advertise: Option<String>,
    join: Option<Vec<String>>,
    replace: Option<u64>,
    rack: Option<String>,
    http: Option<Text<Http>>,
    cores: Option<Text<CoreChoice>>,
    no_pin: Option<bool>,
    idle_poll: Option<Text<Moment>>,
    lease_reads: Option<bool>,
    tls_cert: Option<PathBuf>,
    tls_key: Option<PathBuf>,
    tls_node_ca: Option<PathBuf>,
    tls_client_ca: Option<PathBuf>,
    tls_principal: Option<Vec<Text<Rule>>>,
    tls_optional: Option<bool>,
    authenticate: Option<bool>,
    insecure: Option<bool>,
    authorize: Option<bool>,
    super_user: Option<Vec<String>>,
    memory: Option<Text<Size>>,
    disk_reserve: Option<Text<Size>>,
    log: Option<String>,
    log_format: Option<LogFormat>,
}

/// A value that is written as on the command line: as text, or as a plain number.
#[derive(Clone, Debug, PartialEq)]
struct Text<T>(T);

impl<'de, T: FromStr<Err = String>> Deserialize<'de> for Text<T> {
    fn deserialize<D: serde::Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Raw {
            Number(u64),
            Text(String),
        }
        let text = match Raw::deserialize(d)? {
            Raw::Number(n) => n.to_string(),
            Raw::Text(text) => text,
        };
        text.parse().map(Self).map_err(serde::de::Error::custom)
    }
}

/// All settings, from wherever they came.
#[derive(Debug, PartialEq)]
pub(super) struct Settings {
    pub(super) data: PathBuf,
    pub(super) listen: SocketAddr,
    pub(super) advertise: Option<String>,
    pub(super) join: Vec<String>,
    pub(super) replace: Option<u64>,
    pub(super) rack: String,
    pub(super) http: Option<SocketAddr>,
    pub(super) cores: CoreChoice,
    pub(super) pin: bool,
    pub(super) idle_poll: Duration,
    pub(super) lease_reads: bool,
    pub(super) tls: Option<TlsFiles>,
    pub(super) authenticate: bool,
    pub(super) memory: Option<u64>,
    pub(super) disk_reserve: Option<u64>,
    pub(super) log: String,
    pub(super) log_format: LogFormat,
    pub(super) security: Security,
}

impl Serve {
    pub(super) fn settings(self) -> Result<Settings> {
        let file = self.config.as_deref().map(read).transpose()?.unwrap_or_default();
        let http = self.http.or(file.http.map(|t| t.0));
        let local = |port| SocketAddr::from(([127, 0, 0, 1], port));
        let insecure = self.insecure || file.insecure.unwrap_or(false);
        let optional = self.tls_optional || file.tls_optional.unwrap_or(false);
        let authorities = (self.tls_node_ca.or(file.tls_node_ca), self.tls_client_ca.or(file.tls_client_ca));
        let tls = tls((self.tls_cert.or(file.tls_cert), self.tls_key.or(file.tls_key)), authorities, optional)?;
        let rules = file.tls_principal.unwrap_or_default().into_iter().map(|rule| rule.0);
        let principals = PrincipalRules(if self.tls_principal.is_empty() { rules.collect() } else { self.tls_principal });
        let pin = !(self.no_pin || file.no_pin.unwrap_or(false));
        // A core that runs anywhere would take the CPU from others.
        let idle_poll = if pin { IDLE_POLL } else { Duration::ZERO };
        let super_users = if self.super_user.is_empty() { file.super_user.unwrap_or_default() } else { self.super_user };
        let super_users = super_users.iter().map(|name| format!("User:{name}"));
        let settings = Settings {
            data: self.data.or(file.data).unwrap_or_else(|| "./data".into()),
            listen: self.listen.or(file.listen).unwrap_or(local(7400)),
            advertise: self.advertise.or(file.advertise),
            join: if self.join.is_empty() { file.join.unwrap_or_default() } else { self.join },
            replace: self.replace.or(file.replace),
            rack: self.rack.or(file.rack).unwrap_or_default(),
            http: match http.unwrap_or(Http::At(local(7480))) {
                Http::At(at) => Some(at),
                Http::Off => None,
            },
            cores: self.cores.or(file.cores.map(|t| t.0)).unwrap_or(CoreChoice::All),
            pin,
            idle_poll: self.idle_poll.or(file.idle_poll.map(|t| t.0)).map_or(idle_poll, |moment| moment.0),
            lease_reads: self.lease_reads || file.lease_reads.unwrap_or(false),
            tls,
            authenticate: self.authenticate || file.authenticate.unwrap_or(false),
            memory: self.memory.or(file.memory.map(|t| t.0)).map(|size| size.0),
            disk_reserve: self.disk_reserve.or(file.disk_reserve.map(|t| t.0)).map(|size| size.0),
            log: self.log.or(file.log).unwrap_or_else(|| "info".into()),
            log_format: self.log_format.or(file.log_format).unwrap_or(LogFormat::Text),
            security: Security {
                authorize: self.authorize || file.authorize.unwrap_or(false),
                super_users: super_users.collect(),
                principals,
            },
        };
        if settings.replace.is_some() && settings.join.is_empty() {
            return Err(Fail::usage("there is no cluster to replace a node of", "give --join HOST:PORT as well, some of its nodes"));
        }
        if settings.authenticate && settings.tls.is_none() && !settings.join.is_empty() {
            return Err(Fail::usage(
                "nodes show who they are by certificates, and there are none",
                "give --tls-cert, --tls-key and --tls-node-ca as well, such as `millpond certificate` makes",
            ));
        }
        if !settings.join.is_empty() && settings.tls.as_ref().is_some_and(|tls| tls.node_ca.is_none()) {
            return Err(Fail::usage(
                "nodes of a cluster with TLS know each other by their certificates",
                "give --tls-node-ca FILE as well, the authority that has signed those of all nodes",
            ));
        }
        let open = [Some(settings.listen), settings.http].into_iter().flatten().find(|at| !at.ip().is_loopback());
        let is_safe = settings.tls.as_ref().is_some_and(|tls| !tls.optional) && settings.authenticate;
        if let Some(at) = open.filter(|_| !insecure && !is_safe) {
            return Err(Fail::usage(
                format!("{at} can be reached from other machines, which may read along, or do anything"),
                "give --tls-cert, --tls-key and --authenticate, or --insecure if the network keeps strangers out",
            ));
        }
        Ok(settings)
    }
}

/// The files of a node that speaks TLS, none of one that does not.
fn tls(
    (cert, key): (Option<PathBuf>, Option<PathBuf>),
    (node_ca, client_ca): (Option<PathBuf>, Option<PathBuf>),
    optional: bool,
) -> Result<Option<TlsFiles>> {
    match (cert, key) {
        (Some(cert), Some(key)) => Ok(Some(TlsFiles { cert, key, node_ca, client_ca, optional })),
        (None, None) if node_ca.is_none() && client_ca.is_none() && !optional => Ok(None),
        _ => Err(Fail::usage(
            "TLS needs a certificate and its key",
            "give --tls-cert FILE and --tls-key FILE, such as `millpond certificate` makes",
        )),
    }
}

fn read(path: &Path) -> Result<File> {
    let text = fs::read_to_string(path).map_err(|e| Fail::io(format_args!("read {}", path.display()), &e))?;
    parse(&text).map_err(|e| {
        Fail::usage(format!("{}: {e}", path.display()), "correct it; the names are those of the long options of `millpond serve --help`")
    })
}

fn parse(text: &str) -> Result<File, String> {
    toml::from_str(text).map_err(|e| e.to_string().trim_end().to_owned())
}

pub(super) mod run;
#[cfg(test)]
mod tests;
