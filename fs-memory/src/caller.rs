//! Who asks, where the request does not say.
//!
//! Never known here: nodes. Neighbour: `filesystem`.

use std::fs;

use fusewire::Context;

/// Capabilities that matter here: include/uapi/linux/capability.h.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Capability {
    /// `CAP_FSETID`: changes files without their set-id bits going.
    SetId = 4,
    /// `CAP_SYS_ADMIN`: sees attributes in `trusted.`.
    SysAdmin = 21,
}

/// `/proc/PID/ns/user` of the initial user namespace: include/uapi/linux/nsfs.h,
/// `USER_NS_INIT_INO`.
const INITIAL_NAMESPACE: &str = "user:[4026531837]";

/// Whether the caller has a capability, in the initial user namespace: root of another one may do
/// what it likes with its own files, and these are not.
///
/// With ALLOW_IDMAP agreed, requests that make nothing carry no user (`fs/fuse/dev.c,
/// fuse_get_req`), so the caller's own capabilities are looked up; it waits for the answer and is
/// still there.
pub(crate) fn has(cx: &Context<'_>, capability: Capability) -> bool {
    let effective = || -> Option<u64> {
        let namespace = fs::read_link(format!("/proc/{}/ns/user", cx.pid())).ok()?;
        if namespace.as_os_str() != INITIAL_NAMESPACE {
            return None;
        }
        let status = fs::read_to_string(format!("/proc/{}/status", cx.pid())).ok()?;
        let line = status.lines().find_map(|line| line.strip_prefix("CapEff:"))?;
        u64::from_str_radix(line.trim(), 16).ok()
    };
    cx.pid() != 0 && effective().is_some_and(|set| set >> capability as u32 & 1 == 1)
}
