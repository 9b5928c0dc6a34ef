//! The wire structs, constants and enums are those of the C header, all of them.
//!
//! The oracle is a description of include/uapi/linux/fuse.h, 7.45, made by a C compiler. A copy
//! lies beside this test; where the project's shared folder is at hand, the two are compared.
//! What the oracle has and this crate lacks fails the test, and the other way round.

#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

use std::collections::{BTreeMap, BTreeSet};
use std::mem::offset_of;
use std::path::Path;
use std::sync::LazyLock;

use fusewire_proto::abi::{self, NotifyCode, UringCmd};
use fusewire_proto::flags::*;
use fusewire_proto::{NodeId, Opcode, Unique};
use serde_json::Value;

#[derive(Debug, PartialEq, Eq)]
struct Layout {
    size: u64,
    align: u64,
    /// Name, offset, size.
    fields: Vec<(String, u64, u64)>,
}

const fn field_size<S, F>(_: fn(&S) -> &F) -> usize {
    size_of::<F>()
}

macro_rules! layouts {
    ($($c_name:literal => $rust:ty { $($field:ident),* };)*) => {
        fn ours() -> BTreeMap<String, Layout> {
            BTreeMap::from([$((
                $c_name.to_owned(),
                Layout {
                    size: size_of::<$rust>() as u64,
                    align: align_of::<$rust>() as u64,
                    fields: vec![$((
                        stringify!($field).to_owned(),
                        offset_of!($rust, $field) as u64,
                        field_size::<$rust, _>(|it| &it.$field) as u64,
                    )),*],
                },
            )),*])
        }
    };
}

macro_rules! constants {
    ($($c_name:literal => $value:expr;)*) => {
        fn constants() -> BTreeMap<String, u64> {
            BTreeMap::from([$(($c_name.to_owned(), u64::try_from($value).unwrap())),*])
        }
    };
}

layouts! {
    "fuse_attr" => abi::Attr {
        ino, size, blocks, atime, mtime, ctime, atimensec, mtimensec, ctimensec, mode, nlink, uid,
        gid, rdev, blksize, flags
    };
    "fuse_sx_time" => abi::SxTime { tv_sec, tv_nsec, reserved };
    "fuse_statx" => abi::Statx {
        mask, blksize, attributes, nlink, uid, gid, mode, spare0, ino, size, blocks,
        attributes_mask, atime, btime, ctime, mtime, rdev_major, rdev_minor, dev_major, dev_minor,
        spare2
    };
    "fuse_kstatfs" => abi::Kstatfs {
        blocks, bfree, bavail, files, ffree, bsize, namelen, frsize, padding, spare
    };
    "fuse_file_lock" => abi::FileLock { start, end, kind, pid };
    "fuse_entry_out" => abi::EntryOut {
        nodeid, generation, entry_valid, attr_valid, entry_valid_nsec, attr_valid_nsec, attr
    };
    "fuse_forget_in" => abi::ForgetIn { nlookup };
    "fuse_forget_one" => abi::ForgetOne { nodeid, nlookup };
    "fuse_batch_forget_in" => abi::BatchForgetIn { count, dummy };
    "fuse_getattr_in" => abi::GetattrIn { getattr_flags, dummy, fh };
    "fuse_attr_out" => abi::AttrOut { attr_valid, attr_valid_nsec, dummy, attr };
    "fuse_statx_in" => abi::StatxIn { getattr_flags, reserved, fh, sx_flags, sx_mask };
    "fuse_statx_out" => abi::StatxOut { attr_valid, attr_valid_nsec, flags, spare, stat };
    "fuse_mknod_in" => abi::MknodIn { mode, rdev, umask, padding };
    "fuse_mkdir_in" => abi::MkdirIn { mode, umask };
    "fuse_rename_in" => abi::RenameIn { newdir };
    "fuse_rename2_in" => abi::Rename2In { newdir, flags, padding };
    "fuse_link_in" => abi::LinkIn { oldnodeid };
    "fuse_setattr_in" => abi::SetattrIn {
        valid, padding, fh, size, lock_owner, atime, mtime, ctime, atimensec, mtimensec, ctimensec,
        mode, unused4, uid, gid, unused5
    };
    "fuse_open_in" => abi::OpenIn { flags, open_flags };
    "fuse_create_in" => abi::CreateIn { flags, mode, umask, open_flags };
    "fuse_open_out" => abi::OpenOut { fh, open_flags, backing_id };
    "fuse_release_in" => abi::ReleaseIn { fh, flags, release_flags, lock_owner };
    "fuse_flush_in" => abi::FlushIn { fh, unused, padding, lock_owner };
    "fuse_read_in" => abi::ReadIn { fh, offset, size, read_flags, lock_owner, flags, padding };
    "fuse_write_in" => abi::WriteIn { fh, offset, size, write_flags, lock_owner, flags, padding };
    "fuse_write_out" => abi::WriteOut { size, padding };
    "fuse_statfs_out" => abi::StatfsOut { st };
    "fuse_fsync_in" => abi::FsyncIn { fh, fsync_flags, padding };
    "fuse_setxattr_in" => abi::SetxattrIn { size, flags, setxattr_flags, padding };
    "fuse_getxattr_in" => abi::GetxattrIn { size, padding };
    "fuse_getxattr_out" => abi::GetxattrOut { size, padding };
    "fuse_lk_in" => abi::LkIn { fh, owner, lk, lk_flags, padding };
    "fuse_lk_out" => abi::LkOut { lk };
    "fuse_access_in" => abi::AccessIn { mask, padding };
    "fuse_init_in" => abi::InitIn { major, minor, max_readahead, flags, flags2, unused };
    "fuse_init_out" => abi::InitOut {
        major, minor, max_readahead, flags, max_background, congestion_threshold, max_write,
        time_gran, max_pages, map_alignment, flags2, max_stack_depth, request_timeout, unused
    };
    "cuse_init_in" => abi::CuseInitIn { major, minor, unused, flags };
    "cuse_init_out" => abi::CuseInitOut {
        major, minor, unused, flags, max_read, max_write, dev_major, dev_minor, spare
    };
    "fuse_interrupt_in" => abi::InterruptIn { unique };
    "fuse_bmap_in" => abi::BmapIn { block, blocksize, padding };
    "fuse_bmap_out" => abi::BmapOut { block };
    "fuse_ioctl_in" => abi::IoctlIn { fh, flags, cmd, arg, in_size, out_size };
    "fuse_ioctl_iovec" => abi::IoctlIovec { base, len };
    "fuse_ioctl_out" => abi::IoctlOut { result, flags, in_iovs, out_iovs };
    "fuse_poll_in" => abi::PollIn { fh, kh, flags, events };
    "fuse_poll_out" => abi::PollOut { revents, padding };
    "fuse_notify_poll_wakeup_out" => abi::NotifyPollWakeupOut { kh };
    "fuse_fallocate_in" => abi::FallocateIn { fh, offset, length, mode, padding };
    "fuse_in_header" => abi::InHeader {
        len, opcode, unique, nodeid, uid, gid, pid, total_extlen, padding
    };
    "fuse_out_header" => abi::OutHeader { len, error, unique };
    "fuse_dirent" => abi::Dirent { ino, off, namelen, kind };
    "fuse_direntplus" => abi::Direntplus { entry_out, dirent };
    "fuse_notify_inval_inode_out" => abi::NotifyInvalInodeOut { ino, off, len };
    "fuse_notify_inval_entry_out" => abi::NotifyInvalEntryOut { parent, namelen, flags };
    "fuse_notify_delete_out" => abi::NotifyDeleteOut { parent, child, namelen, padding };
    "fuse_notify_store_out" => abi::NotifyStoreOut { nodeid, offset, size, padding };
    "fuse_notify_retrieve_out" => abi::NotifyRetrieveOut {
        notify_unique, nodeid, offset, size, padding
    };
    "fuse_notify_retrieve_in" => abi::NotifyRetrieveIn {
        dummy1, offset, size, dummy2, dummy3, dummy4
    };
    "fuse_notify_prune_out" => abi::NotifyPruneOut { count, padding, spare };
    "fuse_backing_map" => abi::BackingMap { fd, flags, padding };
    "fuse_lseek_in" => abi::LseekIn { fh, offset, whence, padding };
    "fuse_lseek_out" => abi::LseekOut { offset };
    "fuse_copy_file_range_in" => abi::CopyFileRangeIn {
        fh_in, off_in, nodeid_out, fh_out, off_out, len, flags
    };
    "fuse_copy_file_range_out" => abi::CopyFileRangeOut { bytes_copied };
    "fuse_setupmapping_in" => abi::SetupmappingIn { fh, foffset, len, flags, moffset };
    "fuse_removemapping_in" => abi::RemovemappingIn { count };
    "fuse_removemapping_one" => abi::RemovemappingOne { moffset, len };
    "fuse_syncfs_in" => abi::SyncfsIn { padding };
    "fuse_secctx" => abi::Secctx { size, padding };
    "fuse_secctx_header" => abi::SecctxHeader { size, nr_secctx };
    "fuse_ext_header" => abi::ExtHeader { size, kind };
    "fuse_supp_groups" => abi::SuppGroups { nr_groups };
    "fuse_uring_ent_in_out" => abi::UringEntInOut {
        flags, commit_id, payload_sz, padding, reserved
    };
    "fuse_uring_req_header" => abi::UringReqHeader { in_out, op_in, ring_ent_in_out };
    "fuse_uring_cmd_req" => abi::UringCmdReq { flags, commit_id, qid, padding };
}

constants! {
    "FUSE_KERNEL_VERSION" => abi::KERNEL_VERSION;
    "FUSE_KERNEL_MINOR_VERSION" => abi::KERNEL_MINOR_VERSION;
    "FUSE_ROOT_ID" => NodeId::ROOT.0;
    "FATTR_MODE" => SetAttrValid::MODE.bits();
    "FATTR_UID" => SetAttrValid::UID.bits();
    "FATTR_GID" => SetAttrValid::GID.bits();
    "FATTR_SIZE" => SetAttrValid::SIZE.bits();
    "FATTR_ATIME" => SetAttrValid::ATIME.bits();
    "FATTR_MTIME" => SetAttrValid::MTIME.bits();
    "FATTR_FH" => SetAttrValid::FH.bits();
    "FATTR_ATIME_NOW" => SetAttrValid::ATIME_NOW.bits();
    "FATTR_MTIME_NOW" => SetAttrValid::MTIME_NOW.bits();
    "FATTR_LOCKOWNER" => SetAttrValid::LOCKOWNER.bits();
    "FATTR_CTIME" => SetAttrValid::CTIME.bits();
    "FATTR_KILL_SUIDGID" => SetAttrValid::KILL_SUIDGID.bits();
    "FOPEN_DIRECT_IO" => FOpenFlags::DIRECT_IO.bits();
    "FOPEN_KEEP_CACHE" => FOpenFlags::KEEP_CACHE.bits();
    "FOPEN_NONSEEKABLE" => FOpenFlags::NONSEEKABLE.bits();
    "FOPEN_CACHE_DIR" => FOpenFlags::CACHE_DIR.bits();
    "FOPEN_STREAM" => FOpenFlags::STREAM.bits();
    "FOPEN_NOFLUSH" => FOpenFlags::NOFLUSH.bits();
    "FOPEN_PARALLEL_DIRECT_WRITES" => FOpenFlags::PARALLEL_DIRECT_WRITES.bits();
    "FOPEN_PASSTHROUGH" => FOpenFlags::PASSTHROUGH.bits();
    "FUSE_ASYNC_READ" => InitFlags::ASYNC_READ.bits();
    "FUSE_POSIX_LOCKS" => InitFlags::POSIX_LOCKS.bits();
    "FUSE_FILE_OPS" => InitFlags::FILE_OPS.bits();
    "FUSE_ATOMIC_O_TRUNC" => InitFlags::ATOMIC_O_TRUNC.bits();
    "FUSE_EXPORT_SUPPORT" => InitFlags::EXPORT_SUPPORT.bits();
    "FUSE_BIG_WRITES" => InitFlags::BIG_WRITES.bits();
    "FUSE_DONT_MASK" => InitFlags::DONT_MASK.bits();
    "FUSE_SPLICE_WRITE" => InitFlags::SPLICE_WRITE.bits();
    "FUSE_SPLICE_MOVE" => InitFlags::SPLICE_MOVE.bits();
    "FUSE_SPLICE_READ" => InitFlags::SPLICE_READ.bits();
    "FUSE_FLOCK_LOCKS" => InitFlags::FLOCK_LOCKS.bits();
    "FUSE_HAS_IOCTL_DIR" => InitFlags::HAS_IOCTL_DIR.bits();
    "FUSE_AUTO_INVAL_DATA" => InitFlags::AUTO_INVAL_DATA.bits();
    "FUSE_DO_READDIRPLUS" => InitFlags::DO_READDIRPLUS.bits();
    "FUSE_READDIRPLUS_AUTO" => InitFlags::READDIRPLUS_AUTO.bits();
    "FUSE_ASYNC_DIO" => InitFlags::ASYNC_DIO.bits();
    "FUSE_WRITEBACK_CACHE" => InitFlags::WRITEBACK_CACHE.bits();
    "FUSE_NO_OPEN_SUPPORT" => InitFlags::NO_OPEN_SUPPORT.bits();
    "FUSE_PARALLEL_DIROPS" => InitFlags::PARALLEL_DIROPS.bits();
    "FUSE_HANDLE_KILLPRIV" => InitFlags::HANDLE_KILLPRIV.bits();
    "FUSE_POSIX_ACL" => InitFlags::POSIX_ACL.bits();
    "FUSE_ABORT_ERROR" => InitFlags::ABORT_ERROR.bits();
    "FUSE_MAX_PAGES" => InitFlags::MAX_PAGES.bits();
    "FUSE_CACHE_SYMLINKS" => InitFlags::CACHE_SYMLINKS.bits();
    "FUSE_NO_OPENDIR_SUPPORT" => InitFlags::NO_OPENDIR_SUPPORT.bits();
    "FUSE_EXPLICIT_INVAL_DATA" => InitFlags::EXPLICIT_INVAL_DATA.bits();
    "FUSE_MAP_ALIGNMENT" => InitFlags::MAP_ALIGNMENT.bits();
    "FUSE_SUBMOUNTS" => InitFlags::SUBMOUNTS.bits();
    "FUSE_HANDLE_KILLPRIV_V2" => InitFlags::HANDLE_KILLPRIV_V2.bits();
    "FUSE_SETXATTR_EXT" => InitFlags::SETXATTR_EXT.bits();
    "FUSE_INIT_EXT" => InitFlags::INIT_EXT.bits();
    "FUSE_INIT_RESERVED" => InitFlags::INIT_RESERVED.bits();
    "FUSE_SECURITY_CTX" => InitFlags::SECURITY_CTX.bits();
    "FUSE_HAS_INODE_DAX" => InitFlags::HAS_INODE_DAX.bits();
    "FUSE_CREATE_SUPP_GROUP" => InitFlags::CREATE_SUPP_GROUP.bits();
    "FUSE_HAS_EXPIRE_ONLY" => InitFlags::HAS_EXPIRE_ONLY.bits();
    "FUSE_DIRECT_IO_ALLOW_MMAP" => InitFlags::DIRECT_IO_ALLOW_MMAP.bits();
    "FUSE_PASSTHROUGH" => InitFlags::PASSTHROUGH.bits();
    "FUSE_NO_EXPORT_SUPPORT" => InitFlags::NO_EXPORT_SUPPORT.bits();
    "FUSE_HAS_RESEND" => InitFlags::HAS_RESEND.bits();
    "FUSE_DIRECT_IO_RELAX" => InitFlags::DIRECT_IO_RELAX.bits();
    "FUSE_ALLOW_IDMAP" => InitFlags::ALLOW_IDMAP.bits();
    "FUSE_OVER_IO_URING" => InitFlags::OVER_IO_URING.bits();
    "FUSE_REQUEST_TIMEOUT" => InitFlags::REQUEST_TIMEOUT.bits();
    "CUSE_UNRESTRICTED_IOCTL" => CuseFlags::UNRESTRICTED_IOCTL.bits();
    "FUSE_RELEASE_FLUSH" => ReleaseFlags::FLUSH.bits();
    "FUSE_RELEASE_FLOCK_UNLOCK" => ReleaseFlags::FLOCK_UNLOCK.bits();
    "FUSE_GETATTR_FH" => GetAttrFlags::FH.bits();
    "FUSE_LK_FLOCK" => LkFlags::FLOCK.bits();
    "FUSE_WRITE_CACHE" => WriteFlags::WRITE_CACHE.bits();
    "FUSE_WRITE_LOCKOWNER" => WriteFlags::WRITE_LOCKOWNER.bits();
    "FUSE_WRITE_KILL_SUIDGID" => WriteFlags::WRITE_KILL_SUIDGID.bits();
    "FUSE_WRITE_KILL_PRIV" => WriteFlags::WRITE_KILL_PRIV.bits();
    "FUSE_READ_LOCKOWNER" => ReadFlags::LOCKOWNER.bits();
    "FUSE_IOCTL_COMPAT" => IoctlFlags::COMPAT.bits();
    "FUSE_IOCTL_UNRESTRICTED" => IoctlFlags::UNRESTRICTED.bits();
    "FUSE_IOCTL_RETRY" => IoctlFlags::RETRY.bits();
    "FUSE_IOCTL_32BIT" => IoctlFlags::IS_32BIT.bits();
    "FUSE_IOCTL_DIR" => IoctlFlags::DIR.bits();
    "FUSE_IOCTL_COMPAT_X32" => IoctlFlags::COMPAT_X32.bits();
    "FUSE_IOCTL_MAX_IOV" => abi::IOCTL_MAX_IOV;
    "FUSE_POLL_SCHEDULE_NOTIFY" => PollFlags::SCHEDULE_NOTIFY.bits();
    "FUSE_FSYNC_FDATASYNC" => FSyncFlags::FDATASYNC.bits();
    "FUSE_ATTR_SUBMOUNT" => AttrFlags::SUBMOUNT.bits();
    "FUSE_ATTR_DAX" => AttrFlags::DAX.bits();
    "FUSE_OPEN_KILL_SUIDGID" => OpenInFlags::KILL_SUIDGID.bits();
    "FUSE_SETXATTR_ACL_KILL_SGID" => SetXattrFlags::ACL_KILL_SGID.bits();
    "FUSE_EXPIRE_ONLY" => InvalEntryFlags::EXPIRE_ONLY.bits();
    "FUSE_MIN_READ_BUFFER" => abi::MIN_READ_BUFFER;
    "FUSE_COMPAT_ENTRY_OUT_SIZE" => abi::COMPAT_ENTRY_OUT_SIZE;
    "FUSE_COMPAT_ATTR_OUT_SIZE" => abi::COMPAT_ATTR_OUT_SIZE;
    "FUSE_COMPAT_MKNOD_IN_SIZE" => abi::COMPAT_MKNOD_IN_SIZE;
    "FUSE_COMPAT_WRITE_IN_SIZE" => abi::COMPAT_WRITE_IN_SIZE;
    "FUSE_COMPAT_STATFS_SIZE" => abi::COMPAT_STATFS_SIZE;
    "FUSE_COMPAT_SETXATTR_IN_SIZE" => abi::COMPAT_SETXATTR_IN_SIZE;
    "FUSE_COMPAT_INIT_OUT_SIZE" => abi::COMPAT_INIT_OUT_SIZE;
    "FUSE_COMPAT_22_INIT_OUT_SIZE" => abi::COMPAT_22_INIT_OUT_SIZE;
    "CUSE_INIT_INFO_MAX" => abi::CUSE_INIT_INFO_MAX;
    "FUSE_UNIQUE_RESEND" => Unique::RESEND_BIT;
    "FUSE_INVALID_UIDGID" => abi::INVALID_UIDGID;
    "FUSE_NAME_OFFSET" => abi::NAME_OFFSET;
    "FUSE_NAME_OFFSET_DIRENTPLUS" => abi::NAME_OFFSET_DIRENTPLUS;
    "FUSE_DEV_IOC_MAGIC" => abi::DEV_IOC_MAGIC;
    "FUSE_DEV_IOC_CLONE" => abi::DEV_IOC_CLONE;
    "FUSE_DEV_IOC_BACKING_OPEN" => abi::DEV_IOC_BACKING_OPEN;
    "FUSE_DEV_IOC_BACKING_CLOSE" => abi::DEV_IOC_BACKING_CLOSE;
    "FUSE_DEV_IOC_SYNC_INIT" => abi::DEV_IOC_SYNC_INIT;
    "FUSE_SETUPMAPPING_FLAG_WRITE" => SetupMappingFlags::WRITE.bits();
    "FUSE_SETUPMAPPING_FLAG_READ" => SetupMappingFlags::READ.bits();
    "FUSE_URING_IN_OUT_HEADER_SZ" => abi::URING_IN_OUT_HEADER_SZ;
    "FUSE_URING_OP_IN_OUT_SZ" => abi::URING_OP_IN_OUT_SZ;
}

/// The oracle, read once.
static ORACLE: LazyLock<Value> = LazyLock::new(|| {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let text = std::fs::read_to_string(root.join("tests/abi/fuse-7.45.json")).unwrap();
    let shared = root.join("../../shared/abi/fuse-7.45.json");
    if let Ok(original) = std::fs::read_to_string(shared) {
        assert!(text == original, "the copy of the oracle differs from the shared one");
    }
    serde_json::from_str(&text).unwrap()
});

fn number(value: &Value) -> u64 {
    value.as_u64().unwrap_or_else(|| panic!("{value} is not a number"))
}

fn numbers(map: &Value) -> BTreeMap<String, u64> {
    map.as_object().unwrap().iter().map(|(name, value)| (name.clone(), number(value))).collect()
}

/// How a field of the C struct is called here.
fn rust_field(c_name: &str) -> &str {
    match c_name {
        "type" => "kind",
        other => other.trim_start_matches('_'),
    }
}

/// The oracle's layout; a flexible array is no field, but must begin where the struct ends.
fn theirs(description: &Value) -> Layout {
    let size = number(&description["size"]);
    let mut fields = Vec::new();
    for field in description["fields"].as_array().unwrap() {
        let (offset, field_size) = (number(&field["offset"]), number(&field["size"]));
        if field["type"].as_str().unwrap().ends_with("[]") {
            assert_eq!((offset, field_size), (size, 0), "{field}");
            continue;
        }
        let name = rust_field(field["name"].as_str().unwrap()).to_owned();
        fields.push((name, offset, field_size));
    }
    // The header was read on a host where 8-byte integers are aligned to 8; i386 has 4, in C too.
    let align = number(&description["align"]).min(align_of::<u64>() as u64);
    Layout { size, align, fields }
}

#[test]
fn every_struct_has_the_layout_of_its_c_twin() {
    let structs = ORACLE["structs"].as_object().unwrap();
    assert_eq!(structs.len(), 76);
    let ours = ours();
    let names: BTreeSet<&String> = structs.keys().collect();
    assert_eq!(ours.keys().collect::<BTreeSet<_>>(), names);
    for (name, description) in structs {
        assert_eq!(ours[name], theirs(description), "{name}");
    }
}

#[test]
fn every_constant_has_its_value() {
    let theirs = numbers(&ORACLE["constants"]);
    assert_eq!(theirs.len(), 114);
    assert_eq!(constants(), theirs);
}

#[test]
fn every_opcode_has_its_row() {
    let rows = ORACLE["opcodes"].as_array().unwrap();
    assert_eq!(rows.len(), Opcode::COUNT);
    for (row, opcode) in rows.iter().zip(Opcode::ALL) {
        let name = row["name"].as_str().unwrap();
        assert_eq!(opcode.name(), name.trim_start_matches("FUSE_"));
        assert_eq!(u64::from(opcode.raw()), number(&row["number"]), "{name}");
        assert_eq!(u64::from(opcode.since_minor()), number(&row["since_minor"]), "{name}");
        assert_eq!(opcode.argument_len() as u64, number(&row["argument_len"]), "{name}");
        assert_eq!(Some(opcode.is_answered()), row["answered"].as_bool(), "{name}");
    }
}

#[test]
fn every_enum_has_its_values() {
    let enums = ORACLE["enums"].as_object().unwrap();
    let known = ["fuse_ext_type", "fuse_notify_code", "fuse_opcode", "fuse_uring_cmd"];
    assert_eq!(
        enums.keys().collect::<BTreeSet<_>>(),
        BTreeSet::from(known.map(String::from).each_ref())
    );

    let mut opcodes: BTreeMap<String, u64> = Opcode::ALL
        .iter()
        .map(|opcode| {
            let prefix = if *opcode == Opcode::CuseInit { "" } else { "FUSE_" };
            (format!("{prefix}{}", opcode.name()), u64::from(opcode.raw()))
        })
        .collect();
    opcodes.insert("FUSE_INIT_BSWAP_RESERVED".into(), Opcode::INIT_BYTE_SWAPPED.into());
    opcodes.insert("CUSE_INIT_BSWAP_RESERVED".into(), Opcode::CUSE_INIT_BYTE_SWAPPED.into());
    assert_eq!(opcodes, numbers(&enums["fuse_opcode"]));

    let codes = [
        ("FUSE_NOTIFY_POLL", NotifyCode::Poll),
        ("FUSE_NOTIFY_INVAL_INODE", NotifyCode::InvalInode),
        ("FUSE_NOTIFY_INVAL_ENTRY", NotifyCode::InvalEntry),
        ("FUSE_NOTIFY_STORE", NotifyCode::Store),
        ("FUSE_NOTIFY_RETRIEVE", NotifyCode::Retrieve),
        ("FUSE_NOTIFY_DELETE", NotifyCode::Delete),
        ("FUSE_NOTIFY_RESEND", NotifyCode::Resend),
        ("FUSE_NOTIFY_INC_EPOCH", NotifyCode::IncEpoch),
        ("FUSE_NOTIFY_PRUNE", NotifyCode::Prune),
    ];
    let codes = codes.map(|(name, code)| (name.to_owned(), u64::try_from(code.raw()).unwrap()));
    assert_eq!(BTreeMap::from(codes), numbers(&enums["fuse_notify_code"]));

    let commands = [
        ("FUSE_IO_URING_CMD_INVALID", UringCmd::Invalid),
        ("FUSE_IO_URING_CMD_REGISTER", UringCmd::Register),
        ("FUSE_IO_URING_CMD_COMMIT_AND_FETCH", UringCmd::CommitAndFetch),
    ];
    let commands = commands.map(|(name, command)| (name.to_owned(), u64::from(command.raw())));
    assert_eq!(BTreeMap::from(commands), numbers(&enums["fuse_uring_cmd"]));

    let types = [
        ("FUSE_MAX_NR_SECCTX".to_owned(), u64::from(abi::MAX_NR_SECCTX)),
        ("FUSE_EXT_GROUPS".to_owned(), u64::from(abi::EXT_GROUPS)),
    ];
    assert_eq!(BTreeMap::from(types), numbers(&enums["fuse_ext_type"]));
}
