//! SaslHandshake and SaslAuthenticate (KIP-43, KIP-152): who a client is ([`login`]), as Kafka's protocol asks for it.

use super::{
    super::{
        Front,
        conn::Conn,
        login::{self, Failed, Way},
    },
    answered, codes, decoded,
};
use crate::kafka::wire::{Request, StrBytes, WireError, versions};
use bytes::Bytes;
use kafka_protocol::messages::{SaslAuthenticateRequest, SaslAuthenticateResponse, SaslHandshakeRequest, SaslHandshakeResponse};
use millpond_runtime::Rt;
use std::rc::Rc;

/// Whether a client that has not shown who it is may ask for this.
pub(super) fn is_login(request: &Request) -> bool {
    [versions::SASL_HANDSHAKE.key, versions::SASL_AUTHENTICATE.key].contains(&request.api.key)
}

/// A client chooses how to show who it is.
pub(super) fn handshake<R: Rt>(conn: &Conn<R>, request: &Request) -> Result<Vec<Bytes>, WireError> {
    let asked: SaslHandshakeRequest = decoded(request)?;
    let error_code = if login::choose(conn, &asked.mechanism) { codes::NONE } else { codes::UNSUPPORTED_SASL_MECHANISM };
    let names = Way::all(conn).map(|way| StrBytes::from_static_str(way.name())).collect();
    answered(request, &SaslHandshakeResponse::default().with_error_code(error_code).with_mechanisms(names))
}

/// A client says something of who it is.
pub(super) async fn authenticate<R: Rt>(front: &Rc<Front<R>>, conn: &Conn<R>, request: &Request) -> Result<Vec<Bytes>, WireError> {
    let asked: SaslAuthenticateRequest = decoded(request)?;
    let response = SaslAuthenticateResponse::default();
    let response = match login::say(front, conn, &asked.auth_bytes).await {
        Ok(said) => response.with_auth_bytes(said.into()),
        Err(Failed::OutOfTurn) => {
            let why = StrBytes::from_static_str("SaslAuthenticate comes after SaslHandshake, once");
            response.with_error_code(codes::ILLEGAL_SASL_STATE).with_error_message(Some(why))
        }
        Err(Failed::Refused(refused)) => {
            let why = StrBytes::from_string(format!("authentication failed: {refused}"));
            response.with_error_code(codes::SASL_AUTHENTICATION_FAILED).with_error_message(Some(why))
        }
    };
    answered(request, &response)
}
