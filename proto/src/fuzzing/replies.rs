//! Replies of every form, made from plain values, and what the C header says where they go.

use arbitrary::Arbitrary;
use core::time::Duration;
use std::vec::Vec;

use super::oracle::ORACLE;
use crate::abi::IoctlIovec;
use crate::flags::IoctlFlags;
use crate::mode::Mode;
use crate::op::{FileLock, LockKind};
use crate::reply::{Attr, Attributes, Entry, FsStats, Opened, Reply, Statx, StatxAttributes};
use crate::types::Timestamp;

/// Material for a reply.
#[derive(Arbitrary, Debug)]
pub(super) struct Material<'a> {
    form: u8,
    q: [u64; 10],
    d: [u32; 12],
    bytes: &'a [u8],
    ranges: Vec<(u64, u64)>,
}

/// Names of fields with their values; all others are 0.
type Fields = Vec<(&'static str, u64)>;

impl Material<'_> {
    fn time(&self, place: usize) -> (Timestamp, u64, u64) {
        let (seconds, nanoseconds) = (self.q[place], self.d[place]);
        (Timestamp::from_wire(seconds, nanoseconds), seconds, nanoseconds.into())
    }

    fn duration(&self, place: usize) -> (Duration, u64, u64) {
        let (seconds, nanos) = (self.q[place], self.d[place] % 1_000_000_000);
        (Duration::new(seconds, nanos), seconds, nanos.into())
    }

    fn attr(&self) -> (Attr, Fields) {
        let [ino, size, blocks, ..] = self.q;
        let [.., mode, nlink, uid, gid, rdev, blksize, flags] = self.d;
        let (atime, a, an) = self.time(3);
        let (mtime, m, mn) = self.time(4);
        let (ctime, c, cn) = self.time(2);
        let flags_of = flags.into();
        let attr = Attr {
            ino,
            size,
            blocks,
            atime,
            mtime,
            ctime,
            mode: mode.into(),
            nlink,
            uid,
            gid,
            rdev,
            blksize,
            flags: flags_of,
        };
        let words = [mode, nlink, uid, gid, rdev, blksize, flags].map(u64::from);
        let names = [
            "attr.mode",
            "attr.nlink",
            "attr.uid",
            "attr.gid",
            "attr.rdev",
            "attr.blksize",
            "attr.flags",
        ];
        let mut fields: Fields = names.into_iter().zip(words).collect();
        fields.extend([("attr.ino", ino), ("attr.size", size), ("attr.blocks", blocks)]);
        fields.extend([("attr.atime", a), ("attr.mtime", m), ("attr.ctime", c)]);
        fields.extend([("attr.atimensec", an), ("attr.mtimensec", mn), ("attr.ctimensec", cn)]);
        (attr, fields)
    }

    fn entry(&self) -> (Entry, Fields) {
        let (attr, mut fields) = self.attr();
        let [.., nodeid, generation] = self.q;
        let (entry_valid, e, en) = self.duration(6);
        let (attr_valid, a, an) = self.duration(7);
        let (nodeid_of, generation_of) = (nodeid.into(), generation.into());
        fields.extend([("nodeid", nodeid), ("generation", generation)]);
        fields.extend([("entry_valid", e), ("entry_valid_nsec", en)]);
        fields.extend([("attr_valid", a), ("attr_valid_nsec", an)]);
        let (nodeid, generation) = (nodeid_of, generation_of);
        (Entry { nodeid, generation, entry_valid, attr_valid, attr }, fields)
    }

    fn opened(&self) -> (Opened, Fields) {
        let [fh, ..] = self.q;
        let [flags, backing, ..] = self.d;
        let opened =
            Opened { fh: fh.into(), flags: flags.into(), backing_id: backing.cast_signed() };
        let names = ["fh", "open_flags", "backing_id"];
        (opened, names.into_iter().zip([fh, flags.into(), backing.into()]).collect())
    }

    fn statx(&self) -> (StatxAttributes, Fields) {
        let [ino, size, blocks, attributes, attributes_mask, ..] = self.q;
        let [mask, blksize, nlink, uid, gid, rdev_major, rdev_minor, dev_major, dev_minor, ..] =
            self.d;
        let (valid, v, vn) = self.duration(9);
        let (flags, mode) = (self.d[11], self.d[10] as u16);
        let times = [(5, "atime"), (6, "btime"), (7, "ctime"), (8, "mtime")];
        let [atime, btime, ctime, mtime] = times.map(|(place, _)| self.time(place).0);
        let statx = Statx {
            mask: mask.into(),
            blksize,
            attributes,
            nlink,
            uid,
            gid,
            mode: Mode(mode.into()),
            ino,
            size,
            blocks,
            attributes_mask,
            atime,
            btime,
            ctime,
            mtime,
            rdev_major,
            rdev_minor,
            dev_major,
            dev_minor,
        };
        let mut fields: Fields = Vec::new();
        fields.extend([("attr_valid", v), ("attr_valid_nsec", vn), ("flags", flags.into())]);
        let words = [mask, blksize, nlink, uid, gid, mode.into()].map(u64::from);
        let names =
            ["stat.mask", "stat.blksize", "stat.nlink", "stat.uid", "stat.gid", "stat.mode"];
        fields.extend(names.into_iter().zip(words));
        let words = [rdev_major, rdev_minor, dev_major, dev_minor].map(u64::from);
        let names = ["stat.rdev_major", "stat.rdev_minor", "stat.dev_major", "stat.dev_minor"];
        fields.extend(names.into_iter().zip(words));
        let names =
            ["stat.ino", "stat.size", "stat.blocks", "stat.attributes", "stat.attributes_mask"];
        fields.extend(names.into_iter().zip([ino, size, blocks, attributes, attributes_mask]));
        let seconds =
            ["stat.atime.tv_sec", "stat.btime.tv_sec", "stat.ctime.tv_sec", "stat.mtime.tv_sec"];
        let nanos = [
            "stat.atime.tv_nsec",
            "stat.btime.tv_nsec",
            "stat.ctime.tv_nsec",
            "stat.mtime.tv_nsec",
        ];
        fields.extend(seconds.into_iter().zip(times.map(|(place, _)| self.time(place).1)));
        fields.extend(nanos.into_iter().zip(times.map(|(place, _)| self.time(place).2)));
        (StatxAttributes { valid, flags: flags.into(), statx }, fields)
    }

    /// Ranges in the wire form.
    pub(super) fn iovecs(&self) -> Vec<IoctlIovec> {
        self.ranges.iter().map(|&(base, len)| IoctlIovec { base, len }).collect()
    }

    /// A reply, the structs that it consists of with their fields, and what follows them.
    fn make<'b>(
        &'b self,
        iovecs: &'b [IoctlIovec],
    ) -> (Reply<'b>, Vec<(&'static str, Fields)>, Vec<u8>) {
        let [q, ..] = self.q;
        let [d, e, ..] = self.d;
        let one = |reply, name, field, value: u64| {
            (reply, std::vec![(name, std::vec![(field, value)])], Vec::new())
        };
        let whole = |reply, name, fields| (reply, std::vec![(name, fields)], Vec::new());
        match self.form % 16 {
            0 => (Reply::Empty, Vec::new(), Vec::new()),
            1 => {
                let (entry, fields) = self.entry();
                whole(Reply::Entry(entry), "fuse_entry_out", fields)
            }
            2 => {
                let (attr, mut fields) = self.attr();
                let (valid, v, vn) = self.duration(7);
                fields.extend([("attr_valid", v), ("attr_valid_nsec", vn)]);
                whole(Reply::Attributes(Attributes { valid, attr }), "fuse_attr_out", fields)
            }
            3 => {
                let (statx, fields) = self.statx();
                whole(Reply::Statx(statx), "fuse_statx_out", fields)
            }
            4 => {
                let (opened, fields) = self.opened();
                whole(Reply::Opened(opened), "fuse_open_out", fields)
            }
            5 => {
                let ((entry, first), (opened, second)) = (self.entry(), self.opened());
                let structs = std::vec![("fuse_entry_out", first), ("fuse_open_out", second)];
                (Reply::Created(entry, opened), structs, Vec::new())
            }
            6 => one(Reply::Written(d), "fuse_write_out", "size", d.into()),
            7 => {
                let [blocks, bfree, bavail, files, ffree, ..] = self.q;
                let [bsize, namelen, frsize, ..] = self.d;
                let stats = FsStats { blocks, bfree, bavail, files, ffree, bsize, namelen, frsize };
                let names = [
                    "st.blocks",
                    "st.bfree",
                    "st.bavail",
                    "st.files",
                    "st.ffree",
                    "st.bsize",
                    "st.namelen",
                    "st.frsize",
                ];
                let words = [bsize, namelen, frsize].map(u64::from);
                let values = [blocks, bfree, bavail, files, ffree].into_iter().chain(words);
                whole(
                    Reply::FsStats(stats),
                    "fuse_statfs_out",
                    names.into_iter().zip(values).collect(),
                )
            }
            8 => (Reply::Bytes(self.bytes), Vec::new(), self.bytes.to_vec()),
            9 => one(Reply::XattrSize(d), "fuse_getxattr_out", "size", d.into()),
            10 => {
                let [start, end, ..] = self.q;
                let lock = FileLock { start, end, kind: LockKind(d), pid: e };
                let names = ["lk.start", "lk.end", "lk.type", "lk.pid"];
                let values = [start, end, d.into(), e.into()];
                whole(Reply::Lock(lock), "fuse_lk_out", names.into_iter().zip(values).collect())
            }
            11 => one(Reply::BMap(q), "fuse_bmap_out", "block", q),
            12 => {
                let (result, data) = (d.cast_signed(), self.bytes);
                let reply = Reply::Ioctl { result, flags: (e & !4).into(), data };
                let fields = std::vec![("result", d.into()), ("flags", (e & !4).into())];
                (reply, std::vec![("fuse_ioctl_out", fields)], data.to_vec())
            }
            13 => {
                let half = iovecs.len().min(e as usize % 8);
                let (input, output) = iovecs.split_at(half);
                let flags = IoctlFlags::from(d | 4);
                let fields = std::vec![
                    ("flags", u64::from(d | 4)),
                    ("in_iovs", input.len() as u64),
                    ("out_iovs", output.len() as u64),
                ];
                let pairs = self.ranges.iter().flat_map(|it| [it.0, it.1]);
                let bytes = pairs.flat_map(u64::to_ne_bytes).collect();
                let structs = std::vec![("fuse_ioctl_out", fields)];
                (Reply::IoctlRetry { flags, input, output }, structs, bytes)
            }
            14 => one(Reply::Poll(d.into()), "fuse_poll_out", "revents", d.into()),
            _ if d % 2 == 0 => one(Reply::Offset(q), "fuse_lseek_out", "offset", q),
            _ => one(Reply::Copied(q), "fuse_copy_file_range_out", "bytes_copied", q),
        }
    }

    /// Encodes, and compares each byte with the header; gives the reply and its body.
    pub(super) fn encoded<'b>(&'b self, iovecs: &'b [IoctlIovec]) -> (Reply<'b>, Vec<u8>) {
        let (reply, structs, tail) = self.make(iovecs);
        let mut body = std::vec![0xa5; reply.encoded_len()];
        if let Some(short) = body.len().checked_sub(1) {
            let needed = reply.encode(&mut body[..short]).unwrap_err().needed;
            assert_eq!(needed, body.len());
            assert!(body.iter().all(|&byte| byte == 0xa5), "half a reply was written");
        }
        assert_eq!(reply.encode(&mut body), Ok(body.len()));
        let mut rest = body.as_slice();
        for (name, expected) in structs {
            rest = ORACLE.compare(name, rest, &expected);
        }
        assert_eq!(rest, tail);
        (reply, body)
    }
}

/// A request that is answered by replies of this form, and has room for this one.
pub(super) fn question(reply: &Reply<'_>) -> Vec<u8> {
    let len = |bytes: &[u8]| bytes.len() as u64;
    let plain = |name| ORACLE.ask(name, &[]);
    match reply {
        Reply::Empty => plain("FUSE_UNLINK"),
        Reply::Entry(_) => plain("FUSE_LOOKUP"),
        Reply::Attributes(_) => plain("FUSE_SETATTR"),
        Reply::Statx(_) => plain("FUSE_STATX"),
        Reply::Opened(_) => plain("FUSE_OPENDIR"),
        Reply::Created(..) => plain("FUSE_CREATE"),
        Reply::Written(_) => plain("FUSE_COPY_FILE_RANGE"),
        Reply::FsStats(_) => plain("FUSE_STATFS"),
        Reply::Bytes(bytes) => ORACLE.ask("FUSE_READ", &[("size", len(bytes))]),
        Reply::XattrSize(_) => plain("FUSE_GETXATTR"),
        Reply::Lock(_) => plain("FUSE_GETLK"),
        Reply::BMap(_) => plain("FUSE_BMAP"),
        Reply::Ioctl { data, .. } => ORACLE.ask("FUSE_IOCTL", &[("out_size", len(data))]),
        Reply::IoctlRetry { input, output, .. } => {
            let room = 16 * (input.len() + output.len()) as u64;
            ORACLE.ask("FUSE_IOCTL", &[("flags", 2), ("out_size", room)])
        }
        Reply::Poll(_) => plain("FUSE_POLL"),
        Reply::Offset(_) => plain("FUSE_LSEEK"),
        Reply::Copied(_) => plain("FUSE_COPY_FILE_RANGE_64"),
        Reply::Init(_) => plain("FUSE_INIT"),
        Reply::CuseInit(..) => plain("CUSE_INIT"),
    }
}
