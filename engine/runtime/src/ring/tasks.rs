//! Which tasks are ready: the core's own two queues, and the inbox through which other threads make tasks ready.
//!
//! ```text
//!   a task of this core wakes another  ->  its queue, serve or background
//!   another thread wakes a task        ->  inbox, and the core if it is asleep -> its queue
//! ```
//!
//! Queues are as long as there are tasks at most, since a task lies in at most one of them, once.
//!
//! A core goes to sleep in two steps: it says that it will ([`Inbox::doze`]), and looks into the inbox once more. Whoever puts something in looks
//! whether the core has said so. Both steps are in one order that all threads agree on, so that at least one of the two sees the other.

use crate::Share;
use async_task::Runnable;
use crossbeam::queue::SegQueue;
use std::{
    cell::RefCell,
    collections::VecDeque,
    rc::Rc,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering, fence},
    },
};

/// A task that is ready.
pub(super) type Task = Runnable<Share>;

/// The core's own queues.
#[derive(Default)]
pub(super) struct Ready {
    serve: RefCell<VecDeque<Task>>,
    background: RefCell<VecDeque<Task>>,
}

impl Ready {
    fn of(&self, share: Share) -> &RefCell<VecDeque<Task>> {
        match share {
            Share::First | Share::Serve => &self.serve,
            Share::Background => &self.background,
        }
    }

    /// Puts a task behind all others of its queue. One of [`Share::First`] goes before them, unless it yields to them.
    pub(super) fn push(&self, task: Task, yields: bool) {
        let share = *task.metadata();
        let mut queue = self.of(share).borrow_mut();
        if share == Share::First && !yields {
            queue.push_front(task);
        } else {
            queue.push_back(task);
        }
    }

    pub(super) fn pop(&self, share: Share) -> Option<Task> {
        self.of(share).borrow_mut().pop_front()
    }

    pub(super) fn is_empty(&self, share: Share) -> bool {
        self.of(share).borrow().is_empty()
    }
}

thread_local! {
    /// The inbox and the queues of the core that this thread runs.
    static HERE: RefCell<Option<(Arc<Inbox>, Rc<Ready>)>> = const { RefCell::new(None) };
}

/// Makes this thread the one that runs the tasks of `inbox`, until the guard goes.
pub(super) fn enter(inbox: &Arc<Inbox>, ready: &Rc<Ready>) -> Here {
    let before = HERE.replace(Some((Arc::clone(inbox), Rc::clone(ready))));
    assert!(before.is_none(), "a thread runs one core");
    Here
}

/// See [`enter`].
pub(super) struct Here;

impl Drop for Here {
    fn drop(&mut self) {
        HERE.take();
    }
}

/// What other threads see of a core.
pub(super) struct Inbox {
    tasks: SegQueue<Task>,
    asleep: AtomicBool,
    closed: AtomicBool,
    wake: Box<dyn Fn() + Send + Sync>,
}

impl Inbox {
    /// `wake` has the core come out of its sleep, and may be called by any thread.
    pub(super) fn new(wake: impl Fn() + Send + Sync + 'static) -> Arc<Self> {
        let (asleep, closed) = (AtomicBool::new(false), AtomicBool::new(false));
        Arc::new(Self { tasks: SegQueue::new(), asleep, closed, wake: Box::new(wake) })
    }

    /// Makes a task of the core ready, from whatever thread; `yields` if it has woken itself.
    pub(super) fn schedule(self: &Arc<Self>, task: Task, yields: bool) {
        let mut task = Some(task);
        // It cannot be asked while the thread is on its way out; then this is another thread than the core's.
        let _ = HERE.try_with(|here| {
            if let Some((inbox, ready)) = &*here.borrow()
                && Arc::ptr_eq(inbox, self)
            {
                task.take().into_iter().for_each(|task| ready.push(task, yields));
            }
        });
        if let Some(task) = task {
            self.put(task);
        }
    }

    fn put(&self, task: Task) {
        if self.closed.load(Ordering::Acquire) {
            // A task may be dropped on its own core only, and that has ended.
            return std::mem::forget(task);
        }
        self.tasks.push(task);
        fence(Ordering::SeqCst);
        if self.asleep.load(Ordering::Relaxed) && self.asleep.swap(false, Ordering::Relaxed) {
            (self.wake)();
        }
    }

    /// Whether others have made nothing ready.
    pub(super) fn is_empty(&self) -> bool {
        self.tasks.is_empty()
    }

    /// What others have made ready since.
    pub(super) fn take(&self) -> Option<Task> {
        self.tasks.pop()
    }

    /// Says that the core goes to sleep. False if it must not, since there is something in the inbox.
    pub(super) fn doze(&self) -> bool {
        self.asleep.store(true, Ordering::Relaxed);
        fence(Ordering::SeqCst);
        if self.tasks.is_empty() {
            return true;
        }
        self.awake();
        false
    }

    /// Says that it is awake.
    pub(super) fn awake(&self) {
        self.asleep.store(false, Ordering::Relaxed);
    }

    /// The core has ended: what is woken from here on is forgotten.
    pub(super) fn close(&self) {
        self.closed.store(true, Ordering::Release);
        while let Some(task) = self.tasks.pop() {
            std::mem::forget(task);
        }
    }
}
