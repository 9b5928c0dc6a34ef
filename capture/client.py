"""Provokes every operation that a mount can provoke. Arguments: name of the run, mount point.

A line `! COMMAND` asks the server for a notification; the answer comes on standard input.
"""

import ctypes
import fcntl
import mmap
import os
import select
import signal
import struct
import subprocess
import sys
import threading
import time

RUN, ROOT = sys.argv[1:3]
libc = ctypes.CDLL(None, use_errno=True)
AT_FDCWD = -100


def at(name):
    return os.path.join(ROOT, name)


def command(text):
    print("! " + text, flush=True)
    return sys.stdin.readline().strip()


def step(function):
    """Runs a step; a failure is told and does not end the others."""
    try:
        function()
    except Exception as error:  # any failure is worth telling
        print(f"{function.__name__}: {type(error).__name__}: {error}", flush=True)


def call(name, *args):
    result = getattr(libc, name)(*args)
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    return result


def create(name, data=b"hello", flags=0):
    fd = os.open(at(name), os.O_RDWR | os.O_CREAT | flags, 0o644)
    os.write(fd, data)
    os.close(fd)


def names():
    os.umask(0o027)
    create("a")
    os.mkdir(at("dir"), 0o750)
    os.symlink("a", at("link"))
    os.readlink(at("link"))
    os.mknod(at("fifo"), 0o600 | 0o010000)
    os.mknod(at("null"), 0o600 | 0o020000, os.makedev(1, 3))
    os.mknod(at("plain"), 0o600 | 0o100000)
    os.link(at("a"), at("b"))
    os.rename(at("b"), at("c"))
    for flags, old, new in ((1, "c", "d"), (2, "d", "plain")):
        call("renameat2", AT_FDCWD, at(old).encode(), AT_FDCWD, at(new).encode(), flags)
    os.mkdir(at("gone"))
    os.rmdir(at("gone"))
    create("gone")
    os.unlink(at("gone"))
    call("renameat2", AT_FDCWD, at("d").encode(), AT_FDCWD, at("e").encode(), 4)


def missing():
    for path in ("missing", "dir/missing"):
        try:
            os.stat(at(path))
        except FileNotFoundError:
            pass


def attributes():
    create("attr")
    os.chmod(at("attr"), 0o4755)
    os.chown(at("attr"), 1000, 1000)
    os.utime(at("attr"))
    os.utime(at("attr"), ns=(1, 2_000_000_001))
    os.utime(at("attr"), ns=(-1_500_000_000, -1))
    os.truncate(at("attr"), 3)
    fd = os.open(at("attr"), os.O_RDWR)
    os.ftruncate(fd, 100)
    os.fchmod(fd, 0o600)
    os.fstat(fd)
    time.sleep(1.1)
    os.fstat(fd)
    os.close(fd)
    os.open(at("attr"), os.O_RDWR | os.O_TRUNC)
    os.statvfs(ROOT)
    subprocess.run(["stat", at("a")], stdout=subprocess.DEVNULL, check=False)
    os.access(at("a"), os.R_OK | os.W_OK)
    os.chdir(at("dir"))
    os.chdir("/")


def files():
    fd = os.open(at("a"), os.O_RDWR)
    os.pread(fd, 10, 0)
    os.pwrite(fd, b"written", 2)
    os.fdatasync(fd)
    os.pwrite(fd, b"again", 2)
    os.fsync(fd)
    os.lseek(fd, 1, os.SEEK_DATA)
    os.lseek(fd, 1, os.SEEK_HOLE)
    os.posix_fallocate(fd, 0, 100)
    for mode in (1, 3, 0x10, 0x11):
        call("fallocate", fd, mode, ctypes.c_long(0), ctypes.c_long(50))
    other = os.open(at("copy"), os.O_RDWR | os.O_CREAT, 0o600)
    os.copy_file_range(fd, other, 5, 0, 1)
    os.close(os.dup(other))
    os.close(other)
    os.close(fd)
    for flags in (os.O_RDONLY, os.O_WRONLY | os.O_APPEND, os.O_RDWR | os.O_SYNC):
        fd = os.open(at("a"), flags)
        if flags & os.O_ACCMODE:
            os.write(fd, b"more")
        else:
            os.read(fd, 5)
        os.close(fd)
    fd = os.open(at("a"), os.O_RDWR | os.O_DIRECT)
    page = mmap.mmap(-1, 4096)
    os.readv(fd, [memoryview(page)[:512]])
    os.pwritev(fd, [memoryview(page)[:512]], 0)
    os.close(fd)
    fd = os.open(at("a"), os.O_RDWR | os.O_NONBLOCK)
    os.read(fd, 5)
    os.write(fd, b"direct")
    os.close(fd)


def mapped():
    create("mapped", b"m" * 100)
    fd = os.open(at("mapped"), os.O_RDWR)
    with mmap.mmap(fd, 100) as pages:
        pages[0] = 65
        pages.flush()
    os.close(fd)


def temporary():
    fd = os.open(ROOT, os.O_TMPFILE | os.O_RDWR, 0o600)
    os.write(fd, b"nameless")
    call("linkat", AT_FDCWD, f"/proc/self/fd/{fd}".encode(), AT_FDCWD, at("named").encode(), 0x400)
    os.close(fd)


def directories():
    for count in range(3):
        create(f"dir/{count}")
    create("dir/refused")
    os.listdir(at("dir"))
    os.stat(at("dir/1"))
    fd = os.open(at("dir"), os.O_RDONLY | os.O_DIRECTORY)
    os.listdir(fd)
    os.fsync(fd)
    os.fdatasync(fd)
    os.close(fd)


def xattrs():
    path = at("a")
    os.setxattr(path, "user.x", b"value")
    os.setxattr(path, "user.y", b"", os.XATTR_CREATE)
    os.setxattr(path, "user.x", b"other", os.XATTR_REPLACE)
    os.getxattr(path, "user.x")
    call("getxattr", path.encode(), b"user.x", None, 0)
    call("listxattr", path.encode(), None, 0)
    os.listxattr(path)
    os.removexattr(path, "user.x")
    os.setxattr(at("dir"), "trusted.a/b", b"slash")


def locks():
    fd = os.open(at("a"), os.O_RDWR)
    lock = struct.pack("hhqqi4x", fcntl.F_WRLCK, 0, 10, 20, 0)
    fcntl.fcntl(fd, fcntl.F_GETLK, lock)
    fcntl.fcntl(fd, fcntl.F_SETLK, lock)
    fcntl.fcntl(fd, fcntl.F_SETLKW, struct.pack("hhqqi4x", fcntl.F_RDLCK, 0, 0, 0, 0))
    fcntl.fcntl(fd, fcntl.F_SETLK, struct.pack("hhqqi4x", fcntl.F_UNLCK, 0, 0, 0, 0))
    fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
    fcntl.flock(fd, fcntl.LOCK_EX)
    fcntl.flock(fd, fcntl.LOCK_UN)
    fcntl.flock(fd, fcntl.LOCK_EX)
    os.close(fd)


def ioctls():
    def number(direction, size):
        return direction << 30 | size << 16 | ord("W") << 8 | 1

    for path in ("a", "dir"):
        fd = os.open(at(path), os.O_RDONLY)
        for direction, size in ((0, 0), (1, 4), (2, 8), (3, 12)):
            fcntl.ioctl(fd, number(direction, size), bytearray(max(size, 4)))
        fcntl.ioctl(fd, 0x80086601, bytearray(8))
        fcntl.ioctl(fd, 0x801C581F, bytearray(28))
        fcntl.ioctl(fd, 0x40086602, bytearray(8))
        os.close(fd)


def polls():
    fd = os.open(at("a"), os.O_RDWR)
    poll = select.poll()
    poll.register(fd, select.POLLIN)
    poll.poll(0)
    waiting = threading.Thread(target=poll.poll, args=(3000,))
    waiting.start()
    time.sleep(0.2)
    command("poll")
    waiting.join()
    os.close(fd)


def interrupted():
    class Alarm(Exception):
        pass

    def alarm(*_):
        raise Alarm

    create("slow")
    signal.signal(signal.SIGALRM, alarm)
    fd = os.open(at("slow"), os.O_RDWR | os.O_NONBLOCK)
    for wait in (lambda: os.read(fd, 5), lambda: fcntl.flock(fd, fcntl.LOCK_EX)):
        signal.setitimer(signal.ITIMER_REAL, 0.2)
        try:
            wait()
        except (Alarm, OSError):
            pass
    os.close(fd)


def notifications():
    create("cached", b"c" * 30)
    with open(at("cached"), "rb") as file:
        file.read()
        command("store cached stored-bytes")
        command("retrieve cached")
        command("inval-inode cached")
        command("retrieve cached")
        time.sleep(0.1)
    create("deleted")
    command("expire-entry cached")
    command("inval-entry cached")
    command("delete deleted")
    command("resend")
    command("inc-epoch")


def forgets():
    some = [f"forget{count}" for count in range(4)]
    for name in some + ["alone"]:
        create(name)
    command("inval-entry alone")
    time.sleep(0.1)
    for name in some:
        os.stat(at(name))
    try:
        os.stat(at("pause"))
    except FileNotFoundError:
        pass
    command("prune " + " ".join(some))
    for name in some:
        command("inval-entry " + name)
    time.sleep(0.5)


def by_handle():
    """Opens a file by its handle after the kernel forgot it."""
    os.mkdir(at("exported"))
    for name in ("exported",):
        handle = (ctypes.c_char * 136)()
        struct.pack_into("I", handle, 0, 128)
        mount = ctypes.c_int()
        call("name_to_handle_at", AT_FDCWD, at(name).encode(), handle, ctypes.byref(mount), 0)
        command("inval-entry " + name)
        time.sleep(0.1)
        root = os.open(ROOT, os.O_RDONLY)
        fd = call("open_by_handle_at", root, handle, os.O_RDONLY)
        os.close(fd)
        os.close(root)


def as_another():
    """As a member of the directory's group, without its group id; and a write that strips suid."""
    os.mkdir(at("shared"), 0o777)
    os.chmod(at("shared"), 0o2777)
    os.chown(at("shared"), 0, 500)
    create("suid")
    os.chmod(at("suid"), 0o4777)
    pid = os.fork()
    if pid == 0:
        os.setgroups([500])
        os.setgid(1000)
        os.setuid(1000)
        os.umask(0o027)

        def inside():
            create("shared/file")
            os.mkdir(at("shared/dir"))
            os.symlink("target", at("shared/link"))
            os.mknod(at("shared/fifo"), 0o010600)
            os.close(os.open(at("shared"), os.O_TMPFILE | os.O_RDWR, 0o600))

        def strips():
            for flags in (0, os.O_NONBLOCK):
                fd = os.open(at("suid"), os.O_RDWR | flags)
                os.write(fd, b"strip")
                os.close(fd)
            os.truncate(at("suid"), 2)

        step(inside)
        step(strips)
        os._exit(0)
    os.waitpid(pid, 0)


def block():
    fd = os.open(at("a"), os.O_RDWR)
    fcntl.ioctl(fd, 1, bytearray(struct.pack("i", 3)))
    call("syncfs", fd)
    os.close(fd)


STEPS = [names, missing, attributes, files, mapped, temporary, directories, xattrs, locks, ioctls,
         polls, interrupted, notifications, by_handle, as_another, forgets]
for one in [names, missing, files, block] if RUN == "block" else STEPS:
    step(one)
