//! What the crash tests share: a model of what the log has promised, a workload that makes it promise things, and
//! the run of one seed: lives that end in a crash, and what must hold after each.

pub(crate) mod life;
pub(crate) mod model;
pub(crate) mod run;
pub(crate) mod verify;
