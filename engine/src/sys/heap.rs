//! The C library's heap: giving back what it keeps.
//!
//! Never known here: who allocates. For filesystems that hold data in memory.

/// Gives memory that was freed back to the system.
///
/// glibc keeps freed blocks below 128 KiB for later, and without this for ever: a filesystem in
/// memory would stay as large as it ever was. Takes as long as unmapping the pages does, and who
/// allocates meanwhile may wait for it. Does nothing on other C libraries.
pub fn trim_heap() {
    #[cfg(target_env = "gnu")]
    {
        // SAFETY: malloc_trim(3) takes the heap's own locks, touches free blocks only, and may be
        // called from any thread.
        unsafe { libc::malloc_trim(0) };
    }
}
