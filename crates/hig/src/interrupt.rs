//! Ctrl-C: the first one asks for an orderly end, the second one ends the program. Inside another program it is that
//! one's to say.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::failure::Failure;

static ASKED: AtomicBool = AtomicBool::new(false);

/// Sees how far a run is, 0 to 1, and a line on it, about ten times a second; whether the run is to end in order.
pub(crate) type Host = dyn Fn(f64, &str) -> bool;

thread_local! {
    static HOST: RefCell<Option<Rc<Host>>> = const { RefCell::new(None) };
    static HOST_ASKED: Cell<bool> = const { Cell::new(false) };
}

/// Runs on behalf of a host.
pub(crate) fn within<R>(host: Rc<Host>, run: impl FnOnce() -> R) -> R {
    HOST.set(Some(host));
    HOST_ASKED.set(false);
    let result = run();
    HOST.set(None);
    result
}

/// Listens from now on.
pub(crate) fn listen() -> Result<(), Failure> {
    if show(0.0, "") {
        return Ok(());
    }
    ctrlc::set_handler(|| {
        if ASKED.swap(true, Ordering::Relaxed) {
            std::process::exit(130);
        }
    })
    .map_err(|error| Failure::new(format!("cannot listen for Ctrl-C: {error}")))
}

/// Shows the host how far a run is; false where there is none.
pub(crate) fn show(done: f64, line: &str) -> bool {
    let host = HOST.with_borrow(Clone::clone);
    if let Some(host) = &host
        && host(done, line)
    {
        HOST_ASKED.set(true);
    }
    host.is_some()
}

/// Whether an end was asked for.
pub(crate) fn asked() -> bool {
    HOST_ASKED.get() || ASKED.load(Ordering::Relaxed)
}
