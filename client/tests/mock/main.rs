//! The client against a mock server that fails on order.
#![expect(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "the client lives on tokio, and so does the server that it is tested with"
)]

mod admin;
mod consume;
mod produce;
mod replay;
mod server;

use millpond_client::Client;
use server::Mock;
use std::time::Duration;

/// A client that is quick to try again and to give up.
async fn client(mock: &Mock) -> Client {
    Client::builder()
        .bootstrap(&mock.address())
        .client_id("test")
        .backoff(Duration::from_millis(2), Duration::from_millis(20))
        .request_timeout(Duration::from_millis(400))
        .api_timeout(Duration::from_secs(3))
        .connect()
        .await
        .expect("the mock answers")
}
