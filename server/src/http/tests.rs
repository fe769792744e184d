use super::*;
use crate::metrics::CoreSnapshot;
use millpond_runtime::tls::TlsFiles;
use rcgen::{BasicConstraints, Certificate, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};
use std::{net::SocketAddr, path::Path, sync::Mutex};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::TcpStream,
    sync::oneshot,
};
use tokio_rustls::{
    TlsConnector,
    client::TlsStream,
    rustls::{ClientConfig, RootCertStore, crypto::ring, pki_types::PrivatePkcs8KeyDer},
};

#[derive(Default)]
struct Pretend {
    unready: Mutex<Vec<String>>,
    dead: Mutex<Vec<String>>,
}

impl NodeView for Pretend {
    fn cores(&self) -> Vec<CoreSnapshot> {
        vec![CoreSnapshot { bytes_in: 7, ..CoreSnapshot::new(3) }]
    }
    fn dead(&self) -> Vec<String> {
        self.dead.lock().expect("no test panics with it").clone()
    }
    fn unready(&self) -> Vec<String> {
        self.unready.lock().expect("no test panics with it").clone()
    }
    fn about(&self) -> About {
        About { name: "millpond", version: "9.9.9".into(), cluster_id: "c".into(), node_id: 1, cores: 2, started_ms: 5 }
    }
}

type Server = (SocketAddr, oneshot::Sender<()>, tokio::task::JoinHandle<io::Result<()>>);

async fn start(node: Arc<Pretend>, door: Door) -> Server {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("loopback");
    let at = listener.local_addr().expect("bound");
    let (stop, stopped) = oneshot::channel();
    let server = tokio::spawn(serve(listener, door, node, async {
        stopped.await.ok();
    }));
    (at, stop, server)
}

/// Sends one request as bytes and returns status, head and body.
async fn ask(at: SocketAddr, line: &str) -> (u16, String, String) {
    said(TcpStream::connect(at).await.expect("it listens"), line).await
}

/// The same on a connection.
async fn said(mut conn: impl AsyncRead + AsyncWrite + Unpin, line: &str) -> (u16, String, String) {
    let request = format!("{line} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n");
    conn.write_all(request.as_bytes()).await.expect("sent");
    let mut reply = String::new();
    conn.read_to_string(&mut reply).await.expect("answered");
    let (head, body) = reply.split_once("\r\n\r\n").expect("a head and a body");
    let status = head.split(' ').nth(1).and_then(|s| s.parse().ok()).expect("a status");
    (status, head.to_owned(), body.to_owned())
}

fn parsed(body: &str) -> serde_json::Value {
    serde_json::from_str(body).expect("json")
}

#[tokio::test]
async fn each_page_answers() {
    let node = Arc::new(Pretend::default());
    let (at, stop, server) = start(node.clone(), Door::default()).await;

    let (status, head, body) = ask(at, "GET /metrics").await;
    assert_eq!(status, 200);
    assert!(head.contains(metrics::CONTENT_TYPE), "{head}");
    assert!(body.contains("millpond_received_bytes_total{core=\"3\"} 7") && body.ends_with("# EOF\n"));

    assert_eq!(parsed(&ask(at, "GET /version").await.2)["version"], "9.9.9");
    let (status, _, body) = ask(at, "GET /readyz").await;
    assert_eq!((status, parsed(&body)["ready"].as_bool()), (200, Some(true)));

    node.unready.lock().expect("ours").push("disk full".into());
    let (status, _, body) = ask(at, "GET /readyz").await;
    assert_eq!((status, parsed(&body)["reasons"][0].as_str()), (503, Some("disk full")));
    assert!(ask(at, "GET /metrics").await.2.contains("\nmillpond_ready 0\n"));
    assert_eq!(ask(at, "GET /livez").await.0, 200, "not ready is not dead");
    node.dead.lock().expect("ours").push("core 1 is silent".into());
    assert_eq!(ask(at, "GET /livez").await.0, 503);

    let (status, _, body) = ask(at, "GET /metric").await;
    assert_eq!(status, 404);
    assert!(parsed(&body)["hint"].as_str().is_some_and(|h| h.contains("/metrics")));
    let (status, _, body) = ask(at, "POST /metrics").await;
    assert_eq!((status, parsed(&body)["hint"].as_str()), (405, Some("use GET")));
    assert_eq!(ask(at, "nonsense").await.0, 400);

    stop.send(()).expect("it runs");
    server.await.expect("no panic").expect("no error");
}

#[tokio::test]
async fn connections_past_the_limit_wait_and_silent_ones_are_closed() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("loopback");
    let at = listener.local_addr().expect("bound");
    let silence = Duration::from_millis(200);
    let bounded = Bounded::new(listener, Door::default(), 1, silence);
    let server = tokio::spawn(axum::serve(bounded, routes(Arc::new(Pretend::default()))).into_future());

    let begun = std::time::Instant::now();
    let mut silent = TcpStream::connect(at).await.expect("it listens");
    silent.write_all(b"GET /livez HT").await.expect("half a request");
    let (status, ..) = ask(at, "GET /livez").await;
    assert_eq!(status, 200);
    assert!(begun.elapsed() >= silence, "the second had to wait until the first was closed");
    let mut rest = Vec::new();
    silent.read_to_end(&mut rest).await.ok();
    assert!(!String::from_utf8_lossy(&rest).contains("200 OK"));
    server.abort();
}

/// An authority, and files of whom it signs for.
struct Authority(CertifiedIssuer<'static, KeyPair>);

impl Authority {
    fn new() -> Self {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        Self(CertifiedIssuer::self_signed(params, KeyPair::generate().expect("a key")).expect("signed by itself"))
    }

    fn sign(&self, name: &str) -> (Certificate, KeyPair) {
        let mut params = CertificateParams::new(["localhost".to_owned()]).expect("a name");
        params.distinguished_name.push(DnType::CommonName, name);
        let key = KeyPair::generate().expect("a key");
        (params.signed_by(&key, &self.0).expect("signed"), key)
    }

    /// Files of a node that it has signed, and that knows clients by the other one.
    fn node(&self, dir: &Path, clients: Option<&Self>) -> TlsFiles {
        let put = |name: &str, text: String| {
            let path = dir.join(name);
            std::fs::write(&path, text).expect("written");
            path
        };
        let (cert, key) = self.sign("node");
        TlsFiles {
            cert: put("cert", cert.pem()),
            key: put("key", key.serialize_pem()),
            node_ca: Some(put("nodes", self.0.pem())),
            client_ca: clients.map(|clients| put("clients", clients.0.pem())),
            optional: false,
        }
    }

    /// How somebody connects who trusts this authority, and shows this certificate, if any.
    fn trusting(&self, shown: Option<(Certificate, KeyPair)>) -> TlsConnector {
        let mut roots = RootCertStore::empty();
        roots.add(self.0.der().clone()).expect("an authority");
        let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider())).with_safe_default_protocol_versions();
        let config = config.expect("its versions").with_root_certificates(roots);
        let config = match shown {
            None => config.with_no_client_auth(),
            Some((cert, key)) => config
                .with_client_auth_cert(vec![cert.der().clone()], PrivatePkcs8KeyDer::from(key.serialize_der()).into())
                .expect("a pair"),
        };
        TlsConnector::from(Arc::new(config))
    }
}

async fn connect(how: &TlsConnector, at: SocketAddr) -> io::Result<TlsStream<TcpStream>> {
    how.connect("localhost".try_into().expect("a name"), TcpStream::connect(at).await?).await
}

/// With TLS whoever shows a certificate of a node, or of a client whom a rule makes a user, is told all, others whether the node lives; who speaks no TLS is told nothing.
#[tokio::test]
async fn who_wants_to_know_more_shows_a_certificate() {
    let (nodes, clients, dir) = (Authority::new(), Authority::new(), tempfile::tempdir().expect("a directory"));
    let files = nodes.node(dir.path(), Some(&clients));
    let door = |optional| Door {
        tls: Some(Tls::read(&TlsFiles { optional, ..files.clone() }).expect("good files")),
        authenticate: true,
        principals: PrincipalRules(vec!["RULE:CN=(ann)/$1/".parse().expect("a rule")]),
    };
    let (at, stop, server) = start(Arc::default(), door(false)).await;
    for (shown, status) in [(None, 403), (Some(nodes.sign("any")), 200), (Some(clients.sign("ann")), 200), (Some(clients.sign("bob")), 403)]
    {
        let how = nodes.trusting(shown);
        for (page, status) in [("/livez", 200), ("/readyz", 200), ("/metrics", status), ("/version", status)] {
            assert_eq!(said(connect(&how, at).await.expect("it is let in"), &format!("GET {page}")).await.0, status, "{page}");
        }
    }
    let mut strange = connect(&nodes.trusting(Some(Authority::new().sign("ann"))), at).await.expect("its side is done");
    assert!(strange.read(&mut [0; 1]).await.is_err(), "it is not let in");
    let mut clear = TcpStream::connect(at).await.expect("it listens");
    clear.write_all(b"GET /livez HTTP/1.1\r\nhost: x\r\n\r\n").await.expect("sent");
    let mut heard = Vec::new();
    clear.read_to_end(&mut heard).await.ok();
    assert!(!heard.starts_with(b"HTTP"), "an alert at the most");
    stop.send(()).expect("it runs");
    server.await.expect("no panic").expect("no error");

    let (at, _stop, _server) = start(Arc::default(), door(true)).await;
    assert_eq!((ask(at, "GET /livez").await.0, ask(at, "GET /metrics").await.0), (200, 403));
    assert_eq!(said(connect(&nodes.trusting(Some(clients.sign("ann"))), at).await.expect("let in"), "GET /metrics").await.0, 200);
}

/// A handshake that does not get on takes the place of a connection for as long as one that is silent may.
#[tokio::test]
async fn handshakes_that_are_silent_are_closed() {
    let (nodes, dir) = (Authority::new(), tempfile::tempdir().expect("a directory"));
    let tls = Tls::read(&nodes.node(dir.path(), None)).expect("good files");
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("loopback");
    let (at, silence) = (listener.local_addr().expect("bound"), Duration::from_millis(200));
    let bounded = Bounded::new(listener, Door { tls: Some(tls), ..Door::default() }, 1, silence);
    let server = tokio::spawn(axum::serve(bounded, routes(Arc::new(Pretend::default()))).into_future());
    let begun = std::time::Instant::now();
    let mut silent = TcpStream::connect(at).await.expect("it listens");
    silent.write_all(&[0x16]).await.expect("a byte of a handshake");
    let conn = connect(&nodes.trusting(None), at).await.expect("there is room in the end");
    assert_eq!(said(conn, "GET /metrics").await.0, 200);
    assert!(begun.elapsed() >= silence, "the second had to wait until the first was closed");
    assert_eq!(silent.read(&mut [0; 1]).await.unwrap_or(0), 0);
    server.abort();
}
