//! One clear error when a mapped file becomes shorter: the system then raises SIGBUS at the first byte
//! past its new end, which would end the program without a word.

use std::path::Path;

#[cfg(unix)]
pub(super) use unix::Watch;
#[cfg(unix)]
pub use unix::report_shrunk_files;

#[cfg(unix)]
mod unix {
    use super::Path;
    use std::ffi::{c_int, c_void};
    use std::sync::atomic::{AtomicPtr, AtomicUsize, Ordering};

    /// A mapped range. Nodes are leaked, since a signal may come while the list is walked; there is one
    /// for each shard that is ever opened.
    #[derive(Debug)]
    struct Node {
        start: usize,
        // Zero once the map is gone: no address lies before it.
        end: AtomicUsize,
        error: Vec<u8>,
        next: *const Node,
    }

    // SAFETY: a node changes only in `end`, which is atomic; the nodes it points to live for ever.
    unsafe impl Sync for Node {}

    static FIRST: AtomicPtr<Node> = AtomicPtr::new(std::ptr::null_mut());

    /// Keeps a mapped range on the list.
    #[derive(Debug)]
    pub(in crate::checkpoint) struct Watch(&'static Node);

    impl Watch {
        pub(in crate::checkpoint) fn new(map: &[u8], path: &Path) -> Self {
            let error = crate::Error::input(
                "the file became shorter while it was read",
                path.display().to_string(),
                "leave a model alone while it is read, and run again",
            );
            let range = map.as_ptr_range();
            let node = Box::leak(Box::new(Node {
                start: range.start as usize,
                end: AtomicUsize::new(range.end as usize),
                error: format!("error: {error}\n").into_bytes(),
                next: std::ptr::null(),
            }));
            let mut first = FIRST.load(Ordering::Acquire);
            loop {
                node.next = first;
                match FIRST.compare_exchange(first, node, Ordering::Release, Ordering::Acquire) {
                    Ok(_) => return Self(node),
                    Err(other) => first = other,
                }
            }
        }
    }

    impl Drop for Watch {
        fn drop(&mut self) {
            self.0.end.store(0, Ordering::Release);
        }
    }

    /// From now on, a mapped checkpoint that becomes shorter while it is read ends this process with an
    /// error on stderr and exit code 2. Meant for programs; a library's user has signals of its own.
    pub fn report_shrunk_files() {
        // SAFETY: the action is zeroed and then filled in as sigaction(2) wants it; the handler calls
        // nothing but what signal-safety(7) lists.
        unsafe {
            let mut action: libc::sigaction = std::mem::zeroed();
            action.sa_sigaction = on_bus_error as *const () as usize;
            action.sa_flags = libc::SA_SIGINFO | libc::SA_ONSTACK;
            libc::sigaction(libc::SIGBUS, &action, std::ptr::null_mut());
        }
    }

    extern "C" fn on_bus_error(_: c_int, info: *mut libc::siginfo_t, _: *mut c_void) {
        // SAFETY: the system passes the signal's information, and nodes live for ever.
        unsafe {
            let at = (*info).si_addr() as usize;
            let mut node = FIRST.load(Ordering::Acquire).cast_const();
            while let Some(n) = node.as_ref() {
                if n.start <= at && at < n.end.load(Ordering::Acquire) {
                    libc::write(2, n.error.as_ptr().cast(), n.error.len());
                    libc::_exit(2);
                }
                node = n.next;
            }
            // Not one of ours: the default action, when the instruction runs again.
            libc::signal(libc::SIGBUS, libc::SIG_DFL);
        }
    }
}

/// Elsewhere a mapped file cannot become shorter.
#[cfg(not(unix))]
pub fn report_shrunk_files() {}

#[cfg(not(unix))]
#[derive(Debug)]
pub(super) struct Watch;

#[cfg(not(unix))]
impl Watch {
    pub(super) fn new(_: &[u8], _: &Path) -> Self {
        Self
    }
}
