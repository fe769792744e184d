//! Calls between cores: bounded queues of owned messages, one per core.
//!
//! A call runs as a task of its own on the core that is called, to its end, whether or not somebody still waits for it:
//! changes of state are never abandoned half way. Batches to append are no such tasks: they are appended in the order in which they
//! came (see [`super::produce`]).

use super::{core::Core, produce::Hop};
use millpond_runtime::{CoreId, Rt, Share, mailbox::Receiver};
use millpond_wire::messages::{Code, Failure};
use std::{future::Future, pin::Pin, rc::Rc};
use tokio::sync::oneshot;

/// Calls that wait for a core at most; callers wait for room.
pub const DEPTH: usize = 1024;
/// Calls taken in one turn.
const TURN: usize = 64;

type Job<R> = Box<dyn FnOnce(Rc<Core<R>>) -> Pin<Box<dyn Future<Output = ()>>> + Send>;

/// What one core asks of another.
pub enum Call<R: Rt> {
    /// Run this next to what the core owns.
    Run(Job<R>),
    /// Append a batch.
    Append(Hop),
}

/// The other core did not answer: the node is stopping.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the node stopped while the request was under way")]
pub struct Lost;

impl From<Lost> for Failure {
    fn from(lost: Lost) -> Self {
        Self::new(Code::MaybeDone, lost.to_string(), "retry after the restart; idempotent producers do so by themselves").retry_after(500)
    }
}

impl<R: Rt> Core<R> {
    /// Runs `call` on a core, this one included, and waits for its answer. It runs to its end even if the waiting is given up.
    pub async fn at<T, F>(self: &Rc<Self>, core: CoreId, call: impl FnOnce(Rc<Self>) -> F + Send + 'static) -> Result<T, Lost>
    where
        T: Send + 'static,
        F: Future<Output = T> + 'static,
    {
        let (answer, answered) = oneshot::channel();
        let job = move |core| async move {
            // Whoever asked may have gone.
            let _ = answer.send(call(core).await);
        };
        self.send(core, job).await?;
        answered.await.map_err(|_| Lost)
    }

    /// The same for a call that only waits and looks: it ends early when nobody waits for it any more.
    pub async fn watch_at<T, F>(self: &Rc<Self>, core: CoreId, call: impl FnOnce(Rc<Self>) -> F + Send + 'static) -> Result<T, Lost>
    where
        T: Send + 'static,
        F: Future<Output = T> + 'static,
    {
        let (mut answer, answered) = oneshot::channel();
        let job = move |core| async move {
            let outcome = futures_lite::future::or(async { Some(call(core).await) }, async {
                answer.closed().await;
                None
            })
            .await;
            if let Some(outcome) = outcome {
                let _ = answer.send(outcome);
            }
        };
        self.send(core, job).await?;
        answered.await.map_err(|_| Lost)
    }

    async fn send<F>(self: &Rc<Self>, core: CoreId, job: impl FnOnce(Rc<Self>) -> F + Send + 'static) -> Result<(), Lost>
    where
        F: Future<Output = ()> + 'static,
    {
        if core == self.id() {
            self.rt.spawn("call", Share::Serve, job(Rc::clone(self)));
            return Ok(());
        }
        let call = Call::Run(Box::new(move |core| Box::pin(job(core))));
        self.mesh[usize::from(core.0)].send(call).await.map_err(|_| Lost)
    }

    /// Answers what other cores ask for, for as long as there are any.
    pub fn answer_calls(self: &Rc<Self>, mut calls: Receiver<Call<R>>) {
        let core = Rc::clone(self);
        self.rt.spawn("mesh", Share::Serve, async move {
            let mut turn = Vec::with_capacity(TURN);
            while calls.recv_many(&mut turn, TURN).await > 0 {
                for call in turn.drain(..) {
                    match call {
                        Call::Run(job) => core.rt.spawn("call", Share::Serve, job(Rc::clone(&core))),
                        Call::Append(hop) => core.landed(hop),
                    }
                }
                core.rt.yield_if_needed().await;
            }
        });
    }
}
