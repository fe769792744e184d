//! What the outside may ask of the control thread: `/metrics`, `/livez`, `/readyz`, `/version`.
//!
//! The node implements [`NodeView`] and calls [`serve`] on the control thread's tokio. Nothing here reaches into a core: a
//! view answers from what the cores sent last. At most [`CONNECTIONS_MAX`] connections are open at a time, and one that
//! is silent for [`SILENCE_MAX`] is closed.
//!
//! Whether a node lives and is ready anybody may ask: those who do, such as balancers, have no certificates. What else there is, is for whoever has shown one where
//! clients have to show who they are ([`Door`]).
#![expect(clippy::disallowed_methods, clippy::disallowed_types, reason = "the control thread runs tokio")]

mod listener;
#[cfg(test)]
mod tests;

use crate::{
    metrics::{self, CoreSnapshot},
    security::PrincipalRules,
};
use axum::{
    Json, Router,
    extract::{ConnectInfo, FromRequestParts, State, connect_info::IntoMakeServiceWithConnectInfo},
    http::{StatusCode, Uri, header, request::Parts},
    response::{IntoResponse, Response},
    routing::get,
};
use listener::{Bounded, Peer};
use millpond_runtime::tls::Tls;
use serde::Serialize;
use serde_json::json;
use std::{future::Future, io, sync::Arc, time::Duration};
use tokio::net::TcpListener;

/// Most connections at a time; the rest wait in the system's backlog.
pub const CONNECTIONS_MAX: usize = 64;
/// A connection that neither sends nor takes a byte for this long is closed.
pub const SILENCE_MAX: Duration = Duration::from_secs(30);

/// Which software and node this is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct About {
    /// Always `millpond`.
    pub name: &'static str,
    /// The software's version.
    pub version: String,
    /// The cluster, as text.
    pub cluster_id: String,
    /// The node.
    pub node_id: u64,
    /// Its cores.
    pub cores: u16,
    /// When it started, in ms since 1970.
    pub started_ms: i64,
}

/// What the node shows of itself. Called for every request, on the control thread: answers at once.
pub trait NodeView: Send + Sync + 'static {
    /// The newest snapshot of every core.
    fn cores(&self) -> Vec<CoreSnapshot>;
    /// Why the process should be restarted: cores that have not reported for long. Empty if it lives.
    fn dead(&self) -> Vec<String>;
    /// Why no traffic should be sent here: recovering, learning what its cluster knows, stopping, disk full. Empty if it is ready.
    fn unready(&self) -> Vec<String>;
    /// Which software and node this is.
    fn about(&self) -> About;
}

/// How connections begin. By default they are in the clear, and nobody has to show who it is.
#[derive(Clone, Debug, Default)]
pub struct Door {
    /// They speak TLS.
    pub tls: Option<Tls>,
    /// Whoever wants to know more than whether the node lives shows the certificate of a node or of a client.
    pub authenticate: bool,
    /// Which user a client's certificate stands for.
    pub principals: PrincipalRules,
}

/// Serves until `stop` is done, then finishes what is under way.
pub async fn serve(
    listener: TcpListener,
    door: Door,
    node: Arc<dyn NodeView>,
    stop: impl Future<Output = ()> + Send + 'static,
) -> io::Result<()> {
    axum::serve(Bounded::new(listener, door, CONNECTIONS_MAX, SILENCE_MAX), routes(node)).with_graceful_shutdown(stop).await
}

fn routes(node: Arc<dyn NodeView>) -> IntoMakeServiceWithConnectInfo<Router, Peer> {
    let routes = Router::new()
        .route("/metrics", get(metrics))
        .route("/livez", get(livez))
        .route("/readyz", get(readyz))
        .route("/version", get(version))
        .fallback(unknown)
        .method_not_allowed_fallback(only_get)
        .with_state(node);
    routes.into_make_service_with_connect_info()
}

/// Whoever asks has shown who it is, where that is wanted.
struct Known;

impl<S: Sync> FromRequestParts<S> for Known {
    type Rejection = Response;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Response> {
        if parts.extensions.get::<ConnectInfo<Peer>>().is_some_and(|ConnectInfo(peer)| peer.is_known) {
            return Ok(Self);
        }
        let body = json!({
            "error": format!("{} is for whoever has shown who it is", parts.uri.path()),
            "hint": "show a certificate that an authority of --tls-client-ca or --tls-node-ca has signed; /livez and /readyz are for everybody",
        });
        Err((StatusCode::FORBIDDEN, Json(body)).into_response())
    }
}

type Node = State<Arc<dyn NodeView>>;

async fn metrics(_: Known, State(node): Node) -> Response {
    let text = metrics::render(&node.about().version, node.unready().is_empty(), node.cores());
    ([(header::CONTENT_TYPE, metrics::CONTENT_TYPE)], text).into_response()
}

async fn livez(State(node): Node) -> Response {
    state("live", node.dead())
}

async fn readyz(State(node): Node) -> Response {
    state("ready", node.unready())
}

async fn version(_: Known, State(node): Node) -> Json<About> {
    Json(node.about())
}

async fn unknown(uri: Uri) -> Response {
    let body = json!({
        "error": format!("there is nothing at {}", uri.path()),
        "hint": "try /metrics, /livez, /readyz or /version; records and documents are served on the node's other ports",
    });
    (StatusCode::NOT_FOUND, Json(body)).into_response()
}

async fn only_get(uri: Uri) -> Response {
    let body = json!({ "error": format!("{} can only be read", uri.path()), "hint": "use GET" });
    (StatusCode::METHOD_NOT_ALLOWED, Json(body)).into_response()
}

/// 200 with `{"live":true}`, or 503 with the reasons.
fn state(what: &str, reasons: Vec<String>) -> Response {
    let code = if reasons.is_empty() { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (code, Json(json!({ what: reasons.is_empty(), "reasons": reasons }))).into_response()
}
