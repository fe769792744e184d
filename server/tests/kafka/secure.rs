//! TLS, and clients that show who they are.

use crate::{java, kcat::Kcat, node::Node, python};
use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Output},
    time::{Duration, Instant},
};

/// An authority for nodes, and the certificate of one.
pub(crate) struct Certificates(tempfile::TempDir);

impl Certificates {
    pub(crate) fn new() -> Self {
        let made = Self(tempfile::tempdir().expect("a directory"));
        for args in [&["authority", "-o"][..], &["node", "127.0.0.1", "--ca"]] {
            let done = Command::new(env!("CARGO_BIN_EXE_millpond")).arg("certificate").args(args).arg(made.0.path()).output();
            succeeded(&done.expect("it was built"));
        }
        made
    }

    fn file(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    pub(crate) fn authority(&self) -> String {
        self.file("ca.pem").display().to_string()
    }

    /// What a node is started with.
    fn of_node(&self) -> Vec<String> {
        let [cert, key] = ["127.0.0.1.pem", "127.0.0.1.key.pem"].map(|name| self.file(name).display().to_string());
        ["--tls-cert", &cert, "--tls-key", &key, "--tls-node-ca", &self.authority()].map(String::from).into()
    }

    /// A node that shows them, and what more it is started with.
    pub(crate) fn serve(&self, seed: Option<&Node>, more: &[&str]) -> Node {
        let mut node = Node::new(seed.map(Node::address), None);
        node.more = self.of_node();
        node.more.extend(more.iter().map(|arg| (*arg).to_owned()));
        node.serve();
        node
    }

    /// The command, as whoever looks after the cluster runs it.
    pub(crate) fn command(&self, node: &Node, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_millpond"));
        let identity = format!("{},{}", self.file("127.0.0.1.pem").display(), self.file("127.0.0.1.key.pem").display());
        command.args(args).args(["--server", &node.address(), "--tls-ca", &self.authority(), "--tls-identity", &identity]);
        command
    }

    /// The command, as a user runs it.
    fn as_user(&self, node: &Node, user: &str, password: &Path, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_millpond"));
        command.args(args).args(["--server", &node.address(), "--tls-ca", &self.authority(), "--username", user]);
        command.arg("--login-password-file").arg(password);
        command
    }

    /// What comes of the command, run by whoever shows this certificate, and trusts this authority.
    fn shown_by(&self, name: &str, authority: &str, args: &[&str]) -> Output {
        let [cert, key] = [".pem", ".key.pem"].map(|end| self.file(&format!("{name}{end}")).display().to_string());
        let mut command = Command::new(env!("CARGO_BIN_EXE_millpond"));
        command.args(args).args(["--tls-ca", authority, "--tls-identity", &format!("{cert},{key}")]);
        command.output().expect("it was built")
    }

    /// What kcat is to know.
    fn for_kcat(&self) -> Vec<String> {
        vec!["-X".into(), "security.protocol=ssl".into(), "-X".into(), format!("ssl.ca.location={}", self.authority())]
    }
}

fn succeeded(done: &Output) -> String {
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    String::from_utf8_lossy(&done.stdout).into_owned()
}

fn refused(done: &Output) -> String {
    assert!(!done.status.success(), "{}", String::from_utf8_lossy(&done.stdout));
    String::from_utf8_lossy(&done.stderr).into_owned()
}

/// A file of settings for clients in Java.
fn settings(dir: &Path, lines: &[String]) -> String {
    let path = dir.join("client.properties");
    fs::write(&path, lines.join("\n")).expect("written");
    path.display().to_string()
}

/// What a client in Java needs for TLS.
fn java_tls(protocol: &str, certificates: &Certificates) -> Vec<String> {
    vec![
        format!("security.protocol={protocol}"),
        "ssl.truststore.type=PEM".into(),
        format!("ssl.truststore.location={}", certificates.authority()),
    ]
}

/// Three nodes that know each other by their certificates, and clients of all sorts; who speaks no TLS, or shows a certificate of somebody else, is let in by nobody.
pub(crate) fn all_clients_speak_tls() {
    let ours = Certificates::new();
    let first = ours.serve(None, &[]);
    let _others = [ours.serve(Some(&first), &[]), ours.serve(Some(&first), &[])];
    let dir = tempfile::tempdir().expect("a directory");
    java::CLIENT.run("Secure", &[&first.address(), &settings(dir.path(), &java_tls("SSL", &ours)), "by-java"]);
    succeeded(
        &ours.command(&first, &["topic", "create", "by-all", "--partitions", "6", "--replication", "3"]).output().expect("it was built"),
    );
    python::run("secure.py", &[&first.address(), "by-all", &ours.authority()]);
    let kcat = Kcat::new(&first.address());
    let tls = ours.for_kcat();
    let tls: Vec<&str> = tls.iter().map(String::as_str).collect();
    kcat.produce(&[&tls[..], &["-t", "by-all"]].concat(), "by kcat\n");
    let read = kcat.consume(&[&tls[..], &["-t", "by-all"]].concat());
    assert!(read.lines().count() == 301 && read.lines().any(|line| line == "by kcat"), "{read}");

    let clear = Command::new(env!("CARGO_BIN_EXE_millpond")).args(["topic", "list", "--server", &first.address()]).output();
    assert!(refused(&clear.expect("it was built")).contains("does it want TLS?"));
    let theirs = Certificates::new();
    let strange = theirs.command(&first, &["topic", "list"]).output().expect("it was built");
    assert!(refused(&strange).contains("TLS"));
    let mut stranger = Node::new(Some(first.address()), None);
    stranger.more = theirs.of_node();
    let said = stranger.launch();
    assert_eq!(said.recv().expect("its end is seen"), "", "it is no part of the cluster, and says so");
    assert!(fs::read_to_string(stranger.log()).expect("its log").contains("cannot join the cluster"));
}

/// What a client in Java needs for showing that it is this user.
fn java_login(certificates: &Certificates, user: &str, password: &str) -> Vec<String> {
    let mut lines = java_tls("SASL_SSL", certificates);
    lines.push("sasl.mechanism=SCRAM-SHA-512".into());
    let module = "org.apache.kafka.common.security.scram.ScramLoginModule";
    lines.push(format!("sasl.jaas.config={module} required username=\"{user}\" password=\"{password}\";"));
    lines
}

/// Three nodes that know their users: one of them may do everything, another one what she is let do.
pub(crate) fn users_have_rights() {
    let certificates = Certificates::new();
    let more = ["--authenticate", "--authorize", "--super-user", "root"];
    let first = certificates.serve(None, &more);
    let _others = [certificates.serve(Some(&first), &more), certificates.serve(Some(&first), &more)];
    let (dir, hers) = (tempfile::tempdir().expect("a directory"), tempfile::tempdir().expect("a directory"));
    for (user, dir) in [("root", &dir), ("alice", &hers)] {
        let password = dir.path().join("password");
        fs::write(&password, format!("of {user}\n")).expect("written");
        let create = ["user", "create", user, "--password-file", &password.display().to_string()];
        succeeded(&certificates.command(&first, &create).output().expect("it was built"));
    }
    let [root, alice] =
        [("root", &dir), ("alice", &hers)].map(|(user, dir)| settings(dir.path(), &java_login(&certificates, user, &format!("of {user}"))));
    java::CLIENT.run("Rights", &[&first.address(), &root, &alice]);
    // Our own clients log in, too. No rule is left.
    let topics = |user: &str, dir: &Path| {
        let listed = certificates.as_user(&first, user, &dir.join("password"), &["topic", "list"]).output();
        succeeded(&listed.expect("it was built"))
    };
    assert!(topics("root", dir.path()).contains("secret"));
    assert!(!topics("alice", hers.path()).contains("granted"));
    let delete = certificates.as_user(&first, "alice", &hers.path().join("password"), &["topic", "delete", "granted", "--yes"]).output();
    assert!(refused(&delete.expect("it was built")).contains("may not do"));
}

/// Users are made, show who they are by SCRAM, or by PLAIN where nobody reads along, and are refused with another password; nothing is answered before.
pub(crate) fn clients_show_who_they_are() {
    let certificates = Certificates::new();
    let node = certificates.serve(None, &["--authenticate"]);
    let dir = tempfile::tempdir().expect("a directory");
    let password = dir.path().join("password");
    fs::write(&password, "s3cret, with a comma\n").expect("written");
    let create = ["user", "create", "alice", "--password-file", &password.display().to_string()];
    succeeded(&certificates.command(&node, &create).output().expect("it was built"));
    succeeded(&certificates.command(&node, &["topic", "create", "known", "--partitions", "6"]).output().expect("it was built"));
    let (address, ca) = (node.address(), certificates.authority());
    let alice = settings(dir.path(), &java_login(&certificates, "alice", "s3cret, with a comma"));
    java::CLIENT.run("Secure", &[&address, &alice, "by-java"]);
    for mechanism in ["SCRAM-SHA-256", "SCRAM-SHA-512", "PLAIN"] {
        let topic = format!("by-{}", mechanism.to_lowercase());
        succeeded(&certificates.command(&node, &["topic", "create", &topic]).output().expect("it was built"));
        python::run("secure.py", &[&address, &topic, &ca, mechanism, "alice", "s3cret, with a comma"]);
    }
    // librdkafka 2.0.2 says what it is refused with.
    let kcat = |mechanism: &str, user: &str, password: &str| {
        let mut command = Command::new("timeout");
        command.args(["30", "kcat", "-b", &address, "-L", "-m", "4", "-X", "security.protocol=sasl_ssl"]);
        command.args(["-X", &format!("ssl.ca.location={ca}"), "-X", &format!("sasl.mechanism={mechanism}")]);
        command.args(["-X", &format!("sasl.username={user}"), "-X", &format!("sasl.password={password}")]);
        command.output().expect("timeout is there")
    };
    drop(Kcat::new(&address));
    assert!(succeeded(&kcat("SCRAM-SHA-256", "alice", "s3cret, with a comma")).contains("topic \"known\""));
    for (mechanism, user, password) in [
        ("SCRAM-SHA-256", "alice", "secret"),
        ("SCRAM-SHA-512", "bob", "s3cret, with a comma"),
        ("PLAIN", "alice", "secret"),
        ("PLAIN", "bob", "secret"),
    ] {
        let said = refused(&kcat(mechanism, user, password));
        assert!(said.contains("the name or the password is wrong"), "{mechanism} {user}: {said}");
    }
    // Nobody is served who has not said who it is, and no password is taken in the clear.
    let stranger = Command::new("timeout")
        .args(["30", "kcat", "-b", &address, "-L", "-m", "5", "-X", "security.protocol=ssl"])
        .args(["-X", &format!("ssl.ca.location={ca}")])
        .output();
    refused(&stranger.expect("timeout is there"));
    let native = Command::new(env!("CARGO_BIN_EXE_millpond")).args(["topic", "list", "--server", &address, "--tls-ca", &ca]).output();
    assert!(refused(&native.expect("it was built")).contains("has not shown who it is"));
    // Our own clients are known by their users, too; whoever is refused is told so at once.
    let ours =
        |user: &str, password: &Path, args: &[&str]| certificates.as_user(&node, user, password, args).output().expect("it was built");
    assert!(succeeded(&ours("alice", &password, &["topic", "list"])).contains("known"));
    let wrong = dir.path().join("wrong");
    fs::write(&wrong, "secret").expect("written");
    for (user, password) in [("alice", &wrong), ("bob", &password)] {
        let said = refused(&ours(user, password, &["topic", "list"]));
        assert!(said.contains("the name or the password is wrong"), "{said}");
    }
    let read = succeeded(&ours("alice", &password, &["consume", "by-plain", "--from-beginning", "-n", "10"]));
    assert_eq!(read.lines().count(), 10, "{read}");
    succeeded(&certificates.command(&node, &["user", "delete", "alice"]).output().expect("it was built"));
    assert!(
        refused(&kcat("SCRAM-SHA-256", "alice", "s3cret, with a comma")).contains("the name or the password is wrong"),
        "she is no user any more"
    );
}

/// The name of a client, with what is to be written in other ways in a distinguished name.
const NAME: &str = "Mill, \"pond\" #1";

/// Clients whose certificates say who they are may do what their users may, and their names are those that Java reads; who shows none is not let in. A certificate
/// that is renewed while the node serves is shown from then on.
pub(crate) fn certificates_say_who_clients_are() {
    let certificates = Certificates::new();
    let dir = certificates.0.path().display().to_string();
    let make = |args: &[&str]| {
        let done = Command::new(env!("CARGO_BIN_EXE_millpond")).arg("certificate").args(args).output();
        succeeded(&done.expect("it was built"))
    };
    make(&["authority", "--clients", "-o", &dir]);
    make(&["client", "boss", "--ca", &dir]);
    make(&["client", NAME, "--ca", &dir]);
    let clients = certificates.file("clients.pem").display().to_string();
    let node = certificates.serve(None, &["--authenticate", "--authorize", "--tls-client-ca", &clients, "--super-user", "CN=boss"]);
    for end in ["pem", "key.pem"] {
        fs::rename(certificates.file(&format!("{NAME}.{end}")), certificates.file(&format!("hers.{end}"))).expect("made");
    }
    // Java wants the key and the certificate in one file.
    let of_java = |name: &str| {
        let both =
            [format!("{name}.key.pem"), format!("{name}.pem")].map(|name| fs::read_to_string(certificates.file(&name)).expect("made"));
        let (dir, at) = (tempfile::tempdir().expect("a directory"), certificates.file(&format!("{name}.both.pem")));
        fs::write(&at, both.concat()).expect("written");
        let mut lines = java_tls("SSL", &certificates);
        lines.extend(["ssl.keystore.type=PEM".into(), format!("ssl.keystore.location={}", at.display())]);
        (settings(dir.path(), &lines), dir)
    };
    let (boss, hers) = (of_java("boss"), of_java("hers"));
    java::CLIENT.run("Certified", &[&node.address(), &boss.0, &hers.0, &certificates.file("hers.pem").display().to_string()]);

    let kcat = |more: &[&str]| {
        let mut command = Command::new("timeout");
        command.args(["30", "kcat", "-b", &node.address(), "-C", "-t", "hers", "-e", "-q", "-X", "security.protocol=ssl"]);
        command.args(["-X", &format!("ssl.ca.location={}", certificates.authority())]).args(more);
        command.output().expect("timeout is there")
    };
    drop(Kcat::new(&node.address()));
    let [cert, key] = ["boss.pem", "boss.key.pem"].map(|name| certificates.file(name).display().to_string());
    let shown = [format!("ssl.certificate.location={cert}"), format!("ssl.key.location={key}")];
    assert_eq!(succeeded(&kcat(&["-X", &shown[0], "-X", &shown[1]])), "certified\n");
    refused(&kcat(&[]));
    // Whoever shows a client's certificate is no node.
    let as_node = certificates.shown_by("hers", &certificates.authority(), &["cluster", "status", "--server", &node.address()]);
    assert!(refused(&as_node).contains("may not do"));

    renewed_certificates_are_shown(&certificates, &node);
}

/// The certificate of a running node is replaced by one of another authority.
fn renewed_certificates_are_shown(certificates: &Certificates, node: &Node) {
    let theirs = Certificates::new();
    let list = || certificates.shown_by("boss", &theirs.authority(), &["topic", "list", "--server", &node.address()]);
    assert!(refused(&list()).contains("invalid peer certificate"));
    let renew = |name: &str| {
        fs::copy(theirs.file(name), certificates.file(name)).expect("copied");
        let child = node.child.as_ref().expect("it runs").id().to_string();
        assert!(Command::new("kill").args(["-HUP", &child]).status().expect("kill is there").success());
    };
    let says = |what: &str| {
        let end = Instant::now() + Duration::from_secs(30);
        while !fs::read_to_string(node.log()).expect("its log").contains(what) {
            assert!(Instant::now() < end, "it does not say that {what}");
            std::thread::sleep(Duration::from_millis(20));
        }
    };
    // A certificate without its key is not taken.
    renew("127.0.0.1.pem");
    says("the files of TLS are not as they should be");
    assert!(refused(&list()).contains("invalid peer certificate"));
    renew("127.0.0.1.key.pem");
    says("the files of TLS are new");
    assert!(succeeded(&list()).contains("hers"));
}
