//! Files that the kernel serves itself: no READ and no WRITE comes, and the data are the file's.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use std::fs::File;
use std::io::{Read as _, Write as _};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use fusewire::proto::flags::{FOpenFlags, InitFlags};
use fusewire::proto::op;
use fusewire::proto::{Attr, Attributes, Entry, Errno, Mode, NodeId, Opened, Result};
use fusewire::{Backing, Context, Filesystem, TransportChoice};

use common::{Mounted, on_both};

const VALID: Duration = Duration::from_secs(3600);

struct Through {
    file: Arc<File>,
    backing: Arc<Mutex<Option<Backing>>>,
}

impl Through {
    fn attr(&self, node: NodeId) -> Attr {
        let size = self.file.metadata().unwrap().len();
        let (mode, size) = if node == NodeId::ROOT { (0o040_777, 0) } else { (0o100_666, size) };
        Attr { ino: node.0, mode: Mode(mode), size, nlink: 1, ..Attr::default() }
    }
}

impl Filesystem for Through {
    const WISHES: InitFlags = InitFlags::PASSTHROUGH;

    async fn lookup(&self, _: &Context<'_>, op: op::Lookup<'_>) -> Result<Entry> {
        let nodeid = if op.name.as_bytes() == b"file" { NodeId(2) } else { Err(Errno::ENOENT)? };
        let attr = self.attr(nodeid);
        Ok(Entry { nodeid, attr, entry_valid: VALID, ..Entry::default() })
    }

    async fn getattr(&self, cx: &Context<'_>, _: op::GetAttr) -> Result<Attributes> {
        Ok(Attributes { attr: self.attr(cx.node()), valid: Duration::ZERO })
    }

    async fn open(&self, cx: &Context<'_>, _: op::Open) -> Result<Opened> {
        let mut backing = self.backing.lock().unwrap();
        if backing.is_none() {
            *backing = Some(cx.register_backing(&*self.file)?);
        }
        let backing_id = backing.as_ref().unwrap().id();
        Ok(Opened { flags: FOpenFlags::PASSTHROUGH, backing_id, ..Opened::default() })
    }

    async fn release(&self, cx: &Context<'_>, _: op::Release) -> Result<()> {
        assert_eq!(cx.register_backing(File::open("/").unwrap()).unwrap_err(), Errno::EISDIR);
        Ok(())
    }
}

fn on(transport: TransportChoice, body: fn(Mounted, File)) {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(&[b'x'; 10_000]).unwrap();
    let shared = Arc::new(file.reopen().unwrap());
    let backing = Arc::new(Mutex::new(None));
    let make = move |_| Through { file: Arc::clone(&shared), backing: Arc::clone(&backing) };
    if let Some(mounted) = Mounted::start(transport, make) {
        body(mounted, file.reopen().unwrap());
    }
}

fn the_kernel_serves_it(mounted: Mounted, mut file: File) {
    let run =
        mounted.sh("cat file && printf new | dd of=file conv=notrunc status=none && cat file");
    assert!(run.status.success(), "{run:?}");
    assert_eq!(run.stdout.len(), 20_000);
    assert!(run.stdout.starts_with(b"xxx") && run.stdout[10_000..].starts_with(b"newx"));
    let mut there = Vec::new();
    file.read_to_end(&mut there).unwrap();
    assert!(there == run.stdout[10_000..]);
    let stats = mounted.end();
    let data = stats.opcodes.iter().filter(|(name, _)| ["READ", "WRITE"].contains(name));
    assert_eq!(data.map(|(_, one)| one.requests).sum::<u64>(), 0, "{stats:?}");
    assert_eq!(stats.panics, 0, "what cannot be registered is an error");
}

on_both! {
    on:
    the_kernel_serves_it,
}
