//! The environment of the program `tq4`. A program that uses the library has its own, which is left alone.

use std::process::Command;

/// Where it is not set, libwayland, which Mesa's Vulkan layers load, complains of that on stderr.
pub const RUNTIME_DIR: &str = "XDG_RUNTIME_DIR";

/// What the program sets it to then: a directory that nobody but root can make.
pub const NO_RUNTIME_DIR: &str = "/nonexistent/tq4";

/// Gives the program a [`RUNTIME_DIR`] where it has none.
///
/// # Safety
/// No other thread of the process has been started.
pub unsafe fn complete() {
    if std::env::var_os(RUNTIME_DIR).is_none() {
        // SAFETY: no other thread reads or writes the environment, for there is none.
        unsafe { std::env::set_var(RUNTIME_DIR, NO_RUNTIME_DIR) }
    }
}

/// Lets a program that is started see the environment as it was.
pub(crate) fn hand_on(command: &mut Command) {
    if std::env::var_os(RUNTIME_DIR).is_some_and(|value| value == NO_RUNTIME_DIR) {
        command.env_remove(RUNTIME_DIR);
    }
}

/// The operating system with its version and kernel, as it names itself.
pub(crate) fn operating_system() -> Option<String> {
    #[cfg(feature = "cli")]
    {
        let kernel = sysinfo::System::kernel_version();
        let kernel = kernel.map_or_else(String::new, |k| format!(", kernel {k}"));
        Some(sysinfo::System::long_os_version()? + &kernel)
    }
    #[cfg(not(feature = "cli"))]
    None
}
