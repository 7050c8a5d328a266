//! The wrapper that every child starts through: it asks the kernel to be killed when the thread
//! that started it ends, then becomes the program. Done here and not between fork and exec,
//! because code in that place would have to be unsafe.

use std::convert::Infallible;
use std::ffi::OsString;
use std::io;
use std::os::unix::process::CommandExt;
use std::process::Command;

/// Becomes `program` with `arguments`; returns only when that fails.
///
/// # Errors
/// When the parent `expected_parent` is gone already, or the program cannot be executed.
pub fn run(
    expected_parent: i32,
    program: &OsString,
    arguments: &[OsString],
) -> io::Result<Infallible> {
    #[cfg(target_os = "linux")]
    nix::sys::prctl::set_pdeathsig(nix::sys::signal::Signal::SIGKILL).map_err(io::Error::from)?;
    // The parent may have died before the request was in place.
    if nix::unistd::getppid().as_raw() != expected_parent {
        return Err(io::Error::other("the parent process is gone"));
    }
    Err(Command::new(program).args(arguments).exec())
}
