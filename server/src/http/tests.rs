use super::*;
use crate::metrics::CoreSnapshot;
use std::{net::SocketAddr, sync::Mutex};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    sync::oneshot,
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

async fn start(node: Arc<Pretend>) -> (SocketAddr, oneshot::Sender<()>, tokio::task::JoinHandle<io::Result<()>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("loopback");
    let at = listener.local_addr().expect("bound");
    let (stop, stopped) = oneshot::channel();
    let server = tokio::spawn(serve(listener, node, async {
        stopped.await.ok();
    }));
    (at, stop, server)
}

/// Sends one request as bytes and returns status, head and body.
async fn ask(at: SocketAddr, line: &str) -> (u16, String, String) {
    let mut conn = TcpStream::connect(at).await.expect("it listens");
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
    let (at, stop, server) = start(node.clone()).await;

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
    let bounded = Bounded::new(listener, 1, silence);
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
