//! How much one request may ask for. A frame holds more elements than what they become has room for, and a few bytes may ask for the same large
//! thing again and again; so what is decoded and what is told are bounded by what the core has for requests, not by the frame.

use super::super::{
    Front,
    requests::{DECODED, REQUEST_BYTES},
};
use crate::kafka::wire::{Request, WireError, guard};
use millpond_runtime::Rt;

/// What an element takes that is decoded, looked at and answered, in bytes, what it asks for not counted.
const ELEMENT_BYTES: usize = 512;
/// Elements of one request beside each KiB that the core has for requests: they may take twice that, for as long as others wait.
const ELEMENTS_PER_KIB: usize = 4;

/// The most elements that a request to this core may have.
fn elements_max<R: Rt>(front: &Front<R>) -> usize {
    (front.core.plan.requests / 1024 * ELEMENTS_PER_KIB).min(guard::ELEMENTS_MAX)
}

/// Refuses a request whose lengths are not sound, or that has more elements than there is room for.
pub(super) fn check<R: Rt>(front: &Front<R>, request: &Request) -> Result<(), WireError> {
    let limit = elements_max(front);
    let elements = guard::check(request.api.key, request.header.version, &request.body)?;
    if elements > limit { Err(WireError::Elements { what: request.api.name, limit }) } else { Ok(()) }
}

/// What a request takes that is carried out, in bytes, what it asks for not counted. What is not sound is refused later.
pub(super) fn weigh(request: &Request) -> usize {
    let elements = guard::check(request.api.key, request.header.version, &request.body).unwrap_or(0);
    REQUEST_BYTES + (request.body.len() * DECODED).max(elements * ELEMENT_BYTES)
}

/// Room for what is told in one answer.
#[derive(Debug)]
pub(super) struct Room {
    left: usize,
    first: bool,
}

impl Room {
    /// As much as the core has for requests.
    pub(super) fn of<R: Rt>(front: &Front<R>) -> Self {
        Self::new(front.core.plan.requests)
    }

    fn new(bytes: usize) -> Self {
        Self { left: bytes, first: true }
    }

    /// Whether one more thing of so many bytes may be told. The first may always, or it could not be asked for at all.
    #[must_use]
    pub(super) fn take(&mut self, bytes: usize) -> bool {
        let fits = bytes <= self.left || std::mem::take(&mut self.first);
        if fits {
            self.first = false;
            self.left = self.left.saturating_sub(bytes);
        }
        fits
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_is_told_however_large_it_is_and_others_as_long_as_there_is_room() {
        let mut room = Room::new(10);
        assert!(room.take(11) && !room.take(1) && room.take(0));
        let mut room = Room::new(10);
        assert!(room.take(4) && room.take(6) && !room.take(7) && !room.take(1));
    }
}
