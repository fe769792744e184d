//! The machine under a measurement: what it is ([`facts`]), what its disk did ([`device`]), what processes used ([`usage`]).

pub mod device;
pub mod facts;
pub mod usage;
