//! Connections that speak TLS, on real sockets.
#![expect(clippy::disallowed_methods, reason = "files of certificates are read by the control thread, before there are cores")]

use super::{Secure, Tls, TlsError, TlsFiles};
use crate::{Conn, ConnRead, ConnWrite, IoError, Listener, Rt, Share, Shown, backend_tests::run, ring::RingRt};
use bytes::{Bytes, BytesMut};
use futures_lite::future::zip;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};
use std::{fs, net::SocketAddr, path::Path, sync::Arc};

/// An authority, and nodes that it has signed.
struct Authority(CertifiedIssuer<'static, KeyPair>);

impl Authority {
    fn new() -> Self {
        let mut params = CertificateParams::new([]).expect("no names");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        Self(CertifiedIssuer::self_signed(params, KeyPair::generate().expect("a key")).expect("signed by itself"))
    }

    /// Files of a node that this authority has signed, and that knows nodes by `nodes`.
    fn node(&self, dir: &Path, name: &str, nodes: Option<&Self>, optional: bool) -> TlsFiles {
        let key = KeyPair::generate().expect("a key");
        let mut params = CertificateParams::new(["localhost".to_owned()]).expect("a name");
        params.distinguished_name.push(DnType::CommonName, name);
        let cert = params.signed_by(&key, &self.0).expect("signed");
        let put = |what: &str, text: String| {
            let path = dir.join(format!("{name}.{what}.pem"));
            fs::write(&path, text).expect("write");
            path
        };
        let node_ca = nodes.map(|ca| put("ca", ca.0.pem()));
        TlsFiles { cert: put("cert", cert.pem()), key: put("key", key.serialize_pem()), node_ca, client_ca: None, optional }
    }
}

fn secure(rt: &RingRt, files: &TlsFiles) -> Secure<RingRt> {
    Secure::new(rt.clone(), Some(Tls::read(files).expect("good files")))
}

fn loopback() -> SocketAddr {
    "127.0.0.1:0".parse().expect("an address")
}

#[test]
fn nodes_know_each_other_and_megabytes_go_both_ways() {
    const BYTES: usize = 8 * 1024 * 1024;
    run(1, |rt: RingRt, dir| async move {
        let authority = Authority::new();
        let (a, b) = (authority.node(&dir, "a", Some(&authority), false), authority.node(&dir, "b", Some(&authority), false));
        let (a, b) = (secure(&rt, &a), secure(&rt, &b));
        let listener = a.listen(loopback()).await.expect("listen");
        let at = listener.local();
        let (accepted, dialled) = zip(async { listener.accept().await.expect("accept").open().await }, b.dial(at)).await;
        let (done, mut finished) = tokio::sync::mpsc::unbounded_channel();
        for conn in [accepted.expect("opened"), dialled.expect("dialled")] {
            assert_eq!(conn.shown(), Shown::Node);
            let (mut reader, mut writer) = conn.split();
            let done = done.clone();
            rt.spawn("writer", Share::Serve, async move {
                let piece = Bytes::from((0..300_007_u32).map(|n| n as u8).collect::<Vec<_>>());
                let mut left = BYTES;
                while left > 0 {
                    let n = left.min(piece.len());
                    writer.send(&[piece.slice(..n / 3), Bytes::new(), piece.slice(n / 3..n), Bytes::new()]).await.expect("send");
                    left -= n;
                }
            });
            rt.spawn("reader", Share::Serve, async move {
                let (mut got, mut buf) = (0_usize, BytesMut::with_capacity(7_001));
                while got < BYTES {
                    assert!(reader.recv(&mut buf).await.expect("receive") > 0, "the stream ended after {got} bytes");
                    assert!(buf.iter().enumerate().all(|(n, b)| *b == ((got + n) % 300_007) as u8), "behind {got}");
                    got += buf.len();
                    buf.clear();
                }
                done.send(()).expect("the test waits");
            });
        }
        finished.recv().await;
        finished.recv().await;
    });
}

#[test]
fn whoever_another_authority_has_signed_is_no_node() {
    run(1, |rt: RingRt, dir| async move {
        let (ours, theirs) = (Authority::new(), Authority::new());
        let node = secure(&rt, &ours.node(&dir, "ours", Some(&ours), false));
        let listener = node.listen(loopback()).await.expect("listen");
        // It would take us for a node, but shows what we do not know; then it does not know us; then it speaks no TLS.
        let strange = secure(&rt, &theirs.node(&dir, "theirs", Some(&ours), false));
        let wary = secure(&rt, &ours.node(&dir, "wary", Some(&theirs), false));
        let clear = Secure::new(rt.clone(), None);
        for dialling in [strange, wary, clear] {
            let at = listener.local();
            let (opened, ()) = zip(async { listener.accept().await.expect("accept").open().await.map(drop) }, async {
                let Ok(conn) = dialling.dial(at).await else { return };
                let (mut read, mut write) = conn.split();
                let mut buf = BytesMut::with_capacity(100);
                // Whether it is told by an alert or by an end is the other side's affair.
                let _ = write.send(&[Bytes::from_static(b"\0\0\0\x0ahello")]).await;
                let _ = read.recv(&mut buf).await;
            })
            .await;
            assert!(matches!(&opened, Err(IoError::Net { .. })), "{opened:?}");
        }
    });
}

/// The certificate of a client says who it is, and makes no node of it; what an authority has signed that is not known here, is not taken.
#[test]
fn clients_are_known_by_their_names() {
    run(1, |rt: RingRt, dir| async move {
        let (nodes, clients) = (Authority::new(), Authority::new());
        let files = nodes.node(&dir, "node", Some(&nodes), false);
        let client_ca = clients.node(&dir, "of-clients", Some(&clients), false).node_ca;
        let node = secure(&rt, &TlsFiles { client_ca, ..files.clone() });
        let listener = node.listen(loopback()).await.expect("listen");
        let at = listener.local();
        let ann = secure(&rt, &clients.node(&dir, "ann", Some(&nodes), false));
        let shown = async |dialling: &Secure<RingRt>| {
            let opened = zip(async { listener.accept().await.expect("accept").open().await }, dialling.dial(at)).await.0;
            opened.map(|conn| (conn.shown(), conn.name().map(|name| name.to_string()))).ok()
        };
        assert_eq!(shown(&ann).await, Some((Shown::Encrypted, Some("CN=ann".into()))));
        assert_eq!(shown(&node).await, Some((Shown::Node, None)));
        assert_eq!(shown(&secure(&rt, &Authority::new().node(&dir, "strange", Some(&nodes), false))).await, None);
        let both = Tls::read(&TlsFiles { client_ca: files.node_ca.clone(), ..files });
        assert!(matches!(both, Err(TlsError::File { .. })), "each client would be a node: {both:?}");
    });
}

/// What is renewed is shown from then on, and what is wrong changes nothing.
#[test]
fn files_are_read_again() {
    run(1, |_: RingRt, dir| async move {
        let (first, second) = (Authority::new(), Authority::new());
        let files = first.node(&dir, "node", None, false);
        let other = second.node(&dir, "other", None, false);
        let tls = Tls::read(&files).expect("good files");
        let shown = || Arc::as_ptr(&tls.server());
        let (clone, before) = (tls.clone(), shown());
        assert!(!tls.read_again().expect("as they were"));
        fs::copy(&other.cert, &files.cert).expect("copied");
        assert!(matches!(tls.read_again(), Err(TlsError::Setup(_))), "the key is another one's");
        fs::remove_file(&files.key).expect("removed");
        assert!(matches!(tls.read_again(), Err(TlsError::File { .. })));
        assert_eq!(shown(), before);
        fs::copy(&other.key, &files.key).expect("copied");
        assert!(tls.read_again().expect("both"));
        assert_ne!(shown(), before);
        assert_eq!(Arc::as_ptr(&clone.server()), shown(), "all clones");
    });
}

#[test]
fn where_tls_is_optional_both_are_taken() {
    run(1, |rt: RingRt, dir| async move {
        let authority = Authority::new();
        let node = secure(&rt, &authority.node(&dir, "node", Some(&authority), true));
        let listener = node.listen(loopback()).await.expect("listen");
        let at = listener.local();
        // The last one begins as a handshake does, but for the third byte.
        for (dialling, said, shown) in [
            (Secure::new(rt.clone(), None), &b"hello"[..], Shown::Plain),
            (node.clone(), b"hello", Shown::Node),
            (Secure::new(rt.clone(), None), b"\x16\x03\0hello", Shown::Plain),
        ] {
            let (heard, ()) = zip(
                async {
                    let conn = listener.accept().await.expect("accept").open().await.expect("opened");
                    assert_eq!(conn.shown(), shown);
                    let (mut read, mut heard) = (conn.split().0, BytesMut::with_capacity(3));
                    while heard.len() < said.len() {
                        heard.reserve(1);
                        assert!(read.recv(&mut heard).await.expect("receive") > 0, "{heard:?}");
                    }
                    heard
                },
                async {
                    let (read, mut write) = dialling.dial(at).await.expect("dialled").split();
                    for byte in said.chunks(1) {
                        write.send(&[Bytes::copy_from_slice(byte)]).await.expect("send");
                    }
                    drop(read);
                },
            )
            .await;
            assert_eq!(&heard[..], said);
        }
    });
}

#[test]
fn files_that_are_wrong_are_named() {
    run(1, |_: RingRt, dir| async move {
        let authority = Authority::new();
        let good = authority.node(&dir, "good", Some(&authority), false);
        let other = authority.node(&dir, "other", None, false);
        let missing = dir.join("missing.pem");
        let why = |files: TlsFiles| Tls::read(&files).map(drop).expect_err("wrong").to_string();
        assert!(why(TlsFiles { cert: missing.clone(), ..good.clone() }).contains("missing.pem"));
        assert!(why(TlsFiles { key: missing.clone(), ..good.clone() }).contains("missing.pem"));
        assert!(why(TlsFiles { node_ca: Some(missing), ..good.clone() }).contains("missing.pem"));
        assert!(why(TlsFiles { cert: good.key.clone(), ..good.clone() }).contains("no certificate"));
        assert!(why(TlsFiles { key: good.cert.clone(), ..good.clone() }).contains("no private key"));
        let swapped = Tls::read(&TlsFiles { key: other.key, ..good });
        assert!(matches!(swapped, Err(TlsError::Setup(_))), "{swapped:?}");
    });
}
