//! Who asks, where the request does not say.
//!
//! Never known here: nodes. Neighbour: `filesystem`.

use std::fs;

use fusewire::Context;

/// `CAP_SYS_ADMIN`: include/uapi/linux/capability.h.
const SYS_ADMIN: u32 = 21;

/// Whether the caller may see attributes in `trusted.`.
///
/// With ALLOW_IDMAP agreed, requests that make nothing carry no user (`fs/fuse/dev.c,
/// fuse_get_req`), so the caller's own capabilities are looked up; it waits for the answer and is
/// still there.
pub(crate) fn is_privileged(cx: &Context<'_>) -> bool {
    let effective = || -> Option<u64> {
        let status = fs::read_to_string(format!("/proc/{}/status", cx.pid())).ok()?;
        let line = status.lines().find_map(|line| line.strip_prefix("CapEff:"))?;
        u64::from_str_radix(line.trim(), 16).ok()
    };
    cx.pid() != 0 && effective().is_some_and(|set| set >> SYS_ADMIN & 1 == 1)
}
