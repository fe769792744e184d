//! `millpond certificate`: an authority for the nodes of a cluster, one for its clients, and certificates that they sign.
//!
//! The first signs for nodes alone: whoever shows such a certificate is taken for one (`millpond serve --tls-node-ca`). Clients trust the same authority to know
//! whom they talk to. The other one signs for clients (`--tls-client-ca`), and has files of other names, so that a client does not become a node by a slip.

use super::{
    fail::{Fail, Result},
    out::Out,
};
use clap::{Args, Subcommand};
use jiff::{ToSpan, Zoned};
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose,
    date_time_ymd,
};
use serde_json::json;
use std::{
    fs,
    io::Write,
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
};

/// What an authority calls itself, and its files. Two of the same name are told apart by their keys.
struct Kind {
    name: &'static str,
    file: &'static str,
    /// Makes one.
    command: &'static str,
}

const NODES: Kind = Kind { name: "Millpond cluster authority", file: "ca", command: "millpond certificate authority" };
const CLIENTS: Kind = Kind { name: "Millpond client authority", file: "clients", command: "millpond certificate authority --clients" };

/// Make certificates for TLS: an authority, and nodes or clients that it signs
#[derive(Subcommand)]
pub(super) enum Certificate {
    Authority(Authority),
    Node(Node),
    Client(Client),
}

/// Make an authority: ca.pem, which everybody may have, and ca.key.pem, which signs and is to be kept where no server runs
#[derive(Args)]
pub(super) struct Authority {
    /// Make one for clients instead: clients.pem, for `millpond serve --tls-client-ca`, and clients.key.pem
    #[arg(long)]
    clients: bool,
    /// Where the files go
    #[arg(long, short = 'o', value_name = "DIR", default_value = "certificates")]
    out: PathBuf,
    /// How long it is good for, in days
    #[arg(long, value_name = "DAYS", default_value_t = 3650, value_parser = clap::value_parser!(i64).range(1..=36_500))]
    days: i64,
}

/// Make a node's certificate: NAME.pem and NAME.key.pem, for `millpond serve --tls-cert` and `--tls-key`
#[derive(Args)]
pub(super) struct Node {
    /// Names and addresses that clients connect to; the files are called by the first one
    #[arg(required = true, value_name = "HOST")]
    hosts: Vec<String>,
    /// Where the authority's files are
    #[arg(long, value_name = "DIR", default_value = "certificates")]
    ca: PathBuf,
    /// Where the files go [default: where the authority's are]
    #[arg(long, short = 'o', value_name = "DIR")]
    out: Option<PathBuf>,
    /// How long it is good for, in days
    #[arg(long, value_name = "DAYS", default_value_t = 825, value_parser = clap::value_parser!(i64).range(1..=36_500))]
    days: i64,
}

/// Make a client's certificate: NAME.pem and NAME.key.pem; it is the user `CN=NAME`, if `millpond serve --tls-principal` says nothing else
#[derive(Args)]
pub(super) struct Client {
    /// Its name
    #[arg(value_name = "NAME")]
    name: String,
    /// Where the files of the clients' authority are
    #[arg(long, value_name = "DIR", default_value = "certificates")]
    ca: PathBuf,
    /// Where the files go [default: where the authority's are]
    #[arg(long, short = 'o', value_name = "DIR")]
    out: Option<PathBuf>,
    /// How long it is good for, in days
    #[arg(long, value_name = "DAYS", default_value_t = 365, value_parser = clap::value_parser!(i64).range(1..=36_500))]
    days: i64,
}

impl Certificate {
    pub(super) fn run(self, out: &mut Out) -> Result {
        match self {
            Self::Authority(args) => args.run(out),
            Self::Node(args) => args.run(out),
            Self::Client(args) => args.run(out),
        }
    }
}

impl Authority {
    fn run(self, out: &mut Out) -> Result {
        let key = new_key()?;
        let kind = if self.clients { CLIENTS } else { NODES };
        let mut params = kind.params();
        valid_for(&mut params, self.days)?;
        let cert = params.self_signed(&key).map_err(|e| failed("sign the authority", &e))?;
        let (cert_at, key_at) = put(&self.out, kind.file, &cert.pem(), &key)?;
        let text = format!("{} is the authority; {} signs for it: keep it safe", cert_at.display(), key_at.display());
        out.either(&json!({ "certificate": cert_at, "key": key_at }), text)
    }
}

impl Node {
    fn run(self, out: &mut Out) -> Result {
        let mut params = CertificateParams::new(self.hosts.clone())
            .map_err(|e| Fail::usage(format!("`{}`: {e}", self.hosts.join(" ")), "give host names and IP addresses"))?;
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        let (cert_at, key_at, ca) = NODES.sign(params, &self.hosts[0], (&self.ca, self.out.as_deref()), self.days)?;
        let text = format!("millpond serve --tls-cert {} --tls-key {} --tls-node-ca {}", cert_at.display(), key_at.display(), ca.display());
        out.either(&json!({ "certificate": cert_at, "key": key_at, "authority": ca }), text)
    }
}

impl Client {
    fn run(self, out: &mut Out) -> Result {
        let mut params = CertificateParams::default();
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        let (cert_at, key_at, ca) = CLIENTS.sign(params, &self.name, (&self.ca, self.out.as_deref()), self.days)?;
        let text = format!(
            "{} and {} are those of the user CN={}, where nodes are started with --tls-client-ca {}",
            cert_at.display(),
            key_at.display(),
            self.name,
            ca.display()
        );
        out.either(&json!({ "certificate": cert_at, "key": key_at, "authority": ca }), text)
    }
}

impl Kind {
    /// What every certificate of the authority says of it.
    fn params(&self) -> CertificateParams {
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, self.name);
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        params
    }

    /// Signs for whoever is called this. Where the certificate is, its key, and the authority's certificate.
    fn sign(
        &self,
        mut params: CertificateParams,
        name: &str,
        (ca, out): (&Path, Option<&Path>),
        days: i64,
    ) -> Result<(PathBuf, PathBuf, PathBuf)> {
        let at = ca.join(format!("{}.key.pem", self.file));
        let text = fs::read_to_string(&at).map_err(|e| {
            Fail::new(
                format!("read {}: {e}", at.display()),
                format!("make an authority by `{}`, or say where it is with --ca DIR", self.command),
            )
        })?;
        let signer = KeyPair::from_pem(&text).map_err(|e| failed(&format!("read {}", at.display()), &e))?;
        params.distinguished_name = DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, name);
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.use_authority_key_identifier_extension = true;
        valid_for(&mut params, days)?;
        let key = new_key()?;
        let cert = params.signed_by(&key, &Issuer::new(self.params(), signer)).map_err(|e| failed("sign the certificate", &e))?;
        let (cert_at, key_at) = put(out.unwrap_or(ca), name, &cert.pem(), &key)?;
        Ok((cert_at, key_at, ca.join(format!("{}.pem", self.file))))
    }
}

fn new_key() -> Result<KeyPair> {
    KeyPair::generate().map_err(|e| failed("make a key", &e))
}

fn failed(doing: &str, error: &rcgen::Error) -> Fail {
    Fail::new(format!("cannot {doing}: {error}"), "")
}

/// Good from yesterday on, since clocks differ.
fn valid_for(params: &mut CertificateParams, days: i64) -> Result {
    let today = Zoned::now();
    let day = |days: i64| -> Result<_> {
        let day = today.checked_add(days.days()).map_err(|e| Fail::usage(format!("{days} days: {e}"), "give fewer days"))?;
        let part = |n: i8| u8::try_from(n).unwrap_or(1);
        Ok(date_time_ymd(i32::from(day.year()), part(day.month()), part(day.day())))
    };
    (params.not_before, params.not_after) = (day(-1)?, day(days)?);
    Ok(())
}

/// Writes a certificate and its key, which only its owner may read. Never over another one.
fn put(dir: &Path, name: &str, cert: &str, key: &KeyPair) -> Result<(PathBuf, PathBuf)> {
    fs::create_dir_all(dir).map_err(|e| Fail::io(format_args!("make {}", dir.display()), &e))?;
    // Colons and slashes are not for names of files.
    let name = name.replace(['/', ':', '*'], "_");
    let (cert_at, key_at) = (dir.join(format!("{name}.pem")), dir.join(format!("{name}.key.pem")));
    for (at, text, mode) in [(&key_at, key.serialize_pem(), 0o600), (&cert_at, cert.to_owned(), 0o644)] {
        let written =
            fs::File::options().write(true).create_new(true).mode(mode).open(at).and_then(|mut file| file.write_all(text.as_bytes()));
        written.map_err(|e| {
            Fail::new(format!("write {}: {e}", at.display()), "remove it first if it is of no use any more, or choose another --out")
        })?;
    }
    Ok((cert_at, key_at))
}
