//! System calls that may take for ever, each on a thread of its own, for as long as it takes.
//!
//! The thread is locked in as the shard's that starts it. It ends with its call, and that with a
//! signal to the caller or the end of the session: the request is answered only then, so whoever
//! was told EINTR has nothing coming to them. The engine says how many may wait.
//!
//! Never known here: locks. Neighbours: `sys` ends calls, `locks` makes them.

use std::future::poll_fn;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context as TaskContext, Poll, Waker};
use std::thread::Builder;
use std::time::{Duration, Instant};

use fusewire::proto::{Errno, Result};
use fusewire::{Context, Patience};
use parking_lot::Mutex;

use crate::backing::Backing;
use crate::caller;
use crate::error::Answer;
use crate::sys::Bell;

/// Such a thread does next to nothing.
const STACK: usize = 64 * 1024;

/// Makes a call that can be made again after EINTR. With a limit, less than a second, it answers
/// EAGAIN then, and no signal ends it before.
///
/// # Errors
/// EINTR if the caller got a signal, ENOLCK where too many wait, and what the call says.
pub(crate) async fn wait(
    cx: &Context<'_>,
    backing: &Backing,
    limit: Option<Duration>,
    call: impl Fn() -> rustix::io::Result<()> + Send + 'static,
) -> Result<()> {
    let (patience, full) = match limit {
        None => (Patience::Long, Errno::ENOLCK),
        Some(_) => (Patience::Short, Errno::EAGAIN),
    };
    let _place = cx.linger(patience).ok_or(full)?;
    if limit.is_none() && caller::is_signalled(cx, backing) {
        return Err(Errno::EINTR);
    }
    let waiting = Waiting::start(limit, call).map_err(|_| full)?;
    let mut signal = pin!(cx.interrupted());
    let mut heard = false;
    poll_fn(|task| {
        if limit.is_none() && !heard && signal.as_mut().poll(task).is_ready() {
            heard = true;
            waiting.interrupt();
        }
        waiting.poll(task)
    })
    .await
}

/// A call under way, which ends when this is dropped.
struct Waiting(Arc<Mutex<State>>);

#[derive(Default)]
struct State {
    /// There while the call may be under way.
    bell: Option<Bell>,
    interrupted: bool,
    result: Option<Result<()>>,
    waker: Option<Waker>,
}

impl Waiting {
    fn start(
        limit: Option<Duration>,
        call: impl Fn() -> rustix::io::Result<()> + Send + 'static,
    ) -> Result<Self> {
        let state = Arc::<Mutex<State>>::default();
        let shared = Arc::clone(&state);
        // Without a name, as giving it one is another call that the jail had to allow.
        let work = move || {
            let result = make(&shared, limit, call);
            let mut state = shared.lock();
            state.bell = None;
            state.result = Some(result);
            if let Some(waker) = state.waker.take() {
                waker.wake();
            }
        };
        Builder::new().stack_size(STACK).spawn(work).map_err(|_| Errno::ENOLCK)?;
        Ok(Self(state))
    }

    fn interrupt(&self) {
        let mut state = self.0.lock();
        state.interrupted = true;
        if let Some(bell) = &state.bell {
            bell.ring(Duration::ZERO);
        }
    }

    fn poll(&self, task: &TaskContext<'_>) -> Poll<Result<()>> {
        let mut state = self.0.lock();
        match state.result {
            Some(result) => Poll::Ready(result),
            None => {
                state.waker = Some(task.waker().clone());
                Poll::Pending
            }
        }
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        self.interrupt();
    }
}

/// The bell is there before anybody looks whether it was to be rung, so one of the two is seen.
fn make(
    state: &Mutex<State>,
    limit: Option<Duration>,
    call: impl Fn() -> rustix::io::Result<()>,
) -> Result<()> {
    let bell = Bell::for_this_thread().map_err(|_| Errno::ENOLCK)?;
    if let Some(limit) = limit {
        bell.ring(limit);
    }
    let begun = Instant::now();
    state.lock().bell = Some(bell);
    loop {
        if state.lock().interrupted {
            return Err(Errno::EINTR);
        }
        if limit.is_some_and(|limit| begun.elapsed() >= limit) {
            return Err(Errno::EAGAIN);
        }
        match call() {
            Err(rustix::io::Errno::INTR) => {}
            done => return done.answer(),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::channel;

    use super::*;

    fn outcome(waiting: &Waiting) -> Result<()> {
        loop {
            if let Some(result) = waiting.0.lock().result {
                return result;
            }
            std::thread::yield_now();
        }
    }

    #[test]
    fn a_call_ends_whenever_it_is_interrupted() {
        for begun in [false, true] {
            let (reader, writer) = std::io::pipe().unwrap();
            let (sender, begins) = channel();
            let waiting = Waiting::start(None, move || {
                let _ = sender.send(());
                rustix::io::read(&reader, &mut [0; 1]).map(drop)
            });
            let waiting = waiting.unwrap();
            if begun {
                begins.recv().unwrap();
            }
            waiting.interrupt();
            assert_eq!(outcome(&waiting), Err(Errno::EINTR));
            drop(writer);
        }
    }

    #[test]
    fn what_the_call_says_is_the_outcome() {
        for said in [Ok(()), Err(rustix::io::Errno::NOLCK)] {
            let waiting = Waiting::start(None, move || said).unwrap();
            assert_eq!(outcome(&waiting), said.answer());
        }
    }

    #[test]
    fn a_limit_ends_it() {
        let (reader, _writer) = std::io::pipe().unwrap();
        let call = move || rustix::io::read(&reader, &mut [0; 1]).map(drop);
        let waiting = Waiting::start(Some(Duration::from_millis(5)), call).unwrap();
        assert_eq!(outcome(&waiting), Err(Errno::EAGAIN));
    }

    #[test]
    fn dropped_it_ends() {
        let (reader, _writer) = std::io::pipe().unwrap();
        let (sender, ends) = channel::<()>();
        let call = move || {
            let _ends_with_the_thread = &sender;
            rustix::io::read(&reader, &mut [0; 1]).map(drop)
        };
        drop(Waiting::start(None, call).unwrap());
        assert!(ends.recv().is_err(), "the call and all that it had are gone");
    }
}
