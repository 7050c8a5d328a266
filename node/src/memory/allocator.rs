//! Tells the C library's allocator to give back what is freed. It reads that from its environment
//! before `main`, so the program starts itself once more, as the same process. May not allocate
//! for anybody.
//!
//! By itself the allocator has a heap for each thread, keeps what was freed in it, and keeps the
//! more the larger the pieces are that it has seen: of a budget of 64 MiB, a third more was taken
//! than all of it, and so told three quarters (`node/tests/heap.rs` shows the bound).

use std::env;
use std::fs;
use std::io;
use std::os::unix::process::CommandExt;
use std::process::Command;

/// Heaps, whole pieces from this size on, and free bytes at a heap's end, above which they are
/// given back.
const SETTINGS: [(&str, &str); 3] = [
    ("MALLOC_ARENA_MAX", "2"),
    ("MALLOC_MMAP_THRESHOLD_", "131072"),
    ("MALLOC_TRIM_THRESHOLD_", "262144"),
];

/// Starts the program once more, unless somebody has told the allocator something already.
///
/// # Errors
/// It cannot be started; it may go on as it is, with an allocator that keeps more.
pub fn tell() -> io::Result<()> {
    if SETTINGS.iter().any(|(name, _)| env::var_os(name).is_some()) {
        // What the system calls a process that was started by the path below says nothing. That is
        // for people, who can do without.
        fs::write("/proc/self/comm", env!("CARGO_PKG_NAME")).ok();
        return Ok(());
    }
    let mut arguments = env::args_os();
    let mut program = Command::new("/proc/self/exe");
    if let Some(name) = arguments.next() {
        program.arg0(name);
    }
    // Returns only if it fails.
    Err(program.args(arguments).envs(SETTINGS).exec())
}
