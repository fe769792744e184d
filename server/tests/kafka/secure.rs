//! TLS, and clients that show who they are.

use crate::{java, kcat::Kcat, node::Node, python};
use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Output},
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
