//! A device that is lost: why, and how nothing panics over it.
//!
//! wgpu panics where it learns of a loss while it waits, and says nothing where it learns of it elsewhere:
//! its callback alone is told each time.

use crate::error::{Error, Result};
use crate::lane::broke;
use crate::record::LaneName;
use ::wgpu;
use std::any::Any;
use std::cell::Cell;
use std::panic::{self, AssertUnwindSafe};
use std::sync::{Arc, Mutex, Once, PoisonError};
use std::time::Duration;

/// What helps where memory is wanting.
pub(super) const SMALLER: &str = "take smaller strips";

/// Why a device is gone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Why {
    /// It found no memory where wgpu gives the device up for that: staging, a wait, a submission.
    Memory,
    /// It has not answered for so long.
    Silent(Duration),
    /// What its driver says.
    Lost(String),
}

impl Why {
    fn of(message: &str) -> Self {
        use wgpu::hal::DeviceError::{Lost, OutOfMemory};
        match message {
            m if m == OutOfMemory.to_string() => Self::Memory,
            m if m == Lost.to_string() => Self::Lost("its driver gives no reason".into()),
            "" => Self::Lost("it was destroyed".into()),
            m => Self::Lost(m.to_owned()),
        }
    }

    /// Of an error or a panic that came without the callback's word; a panic leaves the device unusable.
    pub(super) fn told(text: &str) -> Self {
        let lower = text.to_lowercase().replace(['_', ' '], "");
        let memory = [
            "outofmemory",
            "outofhostmemory",
            "outofdevicememory",
            "notenoughmemory",
        ];
        if memory.iter().any(|m| lower.contains(m)) {
            return Self::Memory;
        }
        Self::Lost(text.to_owned())
    }

    /// What it means to the user.
    pub(super) fn error(&self, lane: &LaneName) -> Error {
        match self {
            Self::Memory => broke(
                lane,
                "the device is out of memory: it was lost over that",
                SMALLER,
            ),
            Self::Silent(limit) => broke(
                lane,
                format!("the device has not answered for {} s", limit.as_secs_f32()),
                "it hangs: see the driver's log, and reset it or restart the machine",
            ),
            Self::Lost(reason) => broke(
                lane,
                format!("device lost: {reason}"),
                "see the driver's log: a reset, a driver's update, heat or power",
            ),
        }
    }
}

/// The first loss of a device.
#[derive(Clone, Default)]
pub(super) struct Loss(Arc<Mutex<Option<Why>>>);

impl Loss {
    /// Is told of the losses of `device`.
    pub(super) fn watch(&self, device: &wgpu::Device) {
        let loss = self.clone();
        device.set_device_lost_callback(move |_, message| loss.set(Why::of(&message)));
    }

    pub(super) fn set(&self, why: Why) {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        known.get_or_insert(why);
    }

    pub(super) fn why(&self) -> Option<Why> {
        let known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        known.clone()
    }

    /// Drops what belongs to the device; wgpu may panic at that too.
    pub(super) fn discard<T>(&self, what: T) {
        if let Some(Why::Silent(_)) = self.why() {
            // wgpu waits in its drop for work that a hanging device never ends.
            std::mem::forget(what);
        } else {
            // Nothing is left to tell the panic to.
            let _ = quietly(|| drop(what));
        }
    }

    /// An error where there was a loss.
    pub(super) fn check(&self, lane: &LaneName) -> Result<()> {
        self.why().map_or(Ok(()), |why| Err(why.error(lane)))
    }
}

thread_local! {
    /// Whether a panic of this thread prints nothing.
    static QUIET: Cell<bool> = const { Cell::new(false) };
}

/// Does `work`, which calls wgpu; a panic of it prints nothing and is its message.
pub(super) fn quietly<T>(work: impl FnOnce() -> T) -> std::result::Result<T, String> {
    static HOOK: Once = Once::new();
    HOOK.call_once(|| {
        let before = panic::take_hook();
        panic::set_hook(Box::new(move |info| {
            if !QUIET.get() {
                before(info);
            }
        }));
    });
    let outer = QUIET.replace(true);
    // What a panic leaves half done is the device's, which counts as lost: it is not used again.
    let done = panic::catch_unwind(AssertUnwindSafe(work));
    QUIET.set(outer);
    done.map_err(|payload| message(&*payload))
}

fn message(payload: &(dyn Any + Send)) -> String {
    let text = payload.downcast_ref::<String>().map(String::as_str);
    let text = text.or_else(|| payload.downcast_ref::<&str>().copied());
    let words = text.unwrap_or("a panic without words").split_whitespace();
    words.collect::<Vec<_>>().join(" ")
}

/// The loss that a panic of wgpu is.
pub(super) fn gave_up(text: &str) -> Why {
    Why::told(&format!("wgpu gave up: {text}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_is_its_message_and_other_panics_are_not_quiet() {
        let text = quietly(|| panic!("first\n\n  second {}", 3)).unwrap_err();
        assert_eq!(text, "first second 3");
        assert_eq!(quietly(|| quietly(|| 1).unwrap() + 1), Ok(2));
        assert!(!QUIET.get());
        // A region inside another does not end it.
        quietly(|| {
            quietly(|| ()).unwrap();
            assert!(QUIET.get());
        })
        .unwrap();
        Loss::default().discard(PanicsAtDrop);
    }

    struct PanicsAtDrop;

    impl Drop for PanicsAtDrop {
        fn drop(&mut self) {
            panic!("at drop");
        }
    }

    #[test]
    fn the_first_reason_is_kept_and_memory_is_told_from_a_loss() {
        let loss = Loss::default();
        assert_eq!(loss.why(), None);
        loss.set(Why::of("Out of memory"));
        loss.set(Why::of("Device is lost"));
        let text = |why: &Why| why.error(&LaneName::Wgpu).to_string();
        let memory = text(&loss.why().unwrap());
        assert!(memory.contains("out of memory") && memory.contains(SMALLER));
        for (message, reason) in [
            ("Device is lost", "device lost: its driver gives no reason"),
            ("", "device lost: it was destroyed"),
            ("a page fault", "device lost: a page fault"),
        ] {
            assert!(text(&Why::of(message)).starts_with(reason));
        }
        for memory in [
            "Err(OutOfMemory)",
            "ERROR_OUT_OF_HOST_MEMORY",
            "Not enough memory left.",
        ] {
            assert_eq!(gave_up(memory), Why::Memory);
        }
        assert!(text(&gave_up("a lock")).starts_with("device lost: wgpu gave up: a lock\n"));
        let silent = text(&Why::Silent(Duration::from_secs(60)));
        assert!(silent.starts_with("the device has not answered for 60 s\n"));
    }
}
