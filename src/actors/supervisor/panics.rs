//! Catching panics with what they said and where.
//!
//! The place of a panic is known to the panic hook only. The hook installed here writes it down for supervised code,
//! which reports it itself, and leaves every other panic to the hook that was there before.

use std::cell::{Cell, RefCell};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Once;

thread_local! {
    static SUPERVISED: Cell<bool> = const { Cell::new(false) };
    static REPORT: RefCell<Option<String>> = const { RefCell::new(None) };
}

/// Keeps a status line readable, whatever a panic message contains.
const LONGEST_MESSAGE: usize = 500;

pub(super) fn install_hook() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let previous = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            if !SUPERVISED.get() {
                return previous(info);
            }
            let said: String =
                info.payload_as_str().unwrap_or("panicked without a text").chars().take(LONGEST_MESSAGE).collect();
            let report = match info.location() {
                Some(place) => format!("{said} ({}:{})", place.file(), place.line()),
                None => said,
            };
            REPORT.set(Some(report));
        }));
    });
}

/// Runs `work`; a panic becomes `message (file:line)`. Whoever calls it discards all state that `work` may have left
/// half-written.
pub(in crate::actors) fn catch<T>(work: impl FnOnce() -> T) -> Result<T, String> {
    let outer = SUPERVISED.replace(true);
    let outcome = catch_unwind(AssertUnwindSafe(work));
    SUPERVISED.set(outer);
    outcome.map_err(|_| REPORT.take().unwrap_or_else(|| "panicked".to_owned()))
}
