"""attacks-race.py SECONDS BACKING OUTSIDE MOUNT...: the race of scripts/attacks.

The clients run in a chroot on their MOUNT, so that their own kernel never follows a link out of
it: whatever they read that is not the content of BACKING came from the daemon.
"""
import collections
import ctypes
import json
import os
import random
import signal
import sys
import time

SECONDS, BACKING, OUTSIDE, MOUNTS = float(sys.argv[1]), sys.argv[2], sys.argv[3], sys.argv[4:]
TRICKS = ("root", "secret", "up", "moved", "file")
NAMES = ("f", "sub", "canary", "canary-dir", "etc", "proc", "tmp")
MARK = f"attack-{os.getpid()}-"
EXCHANGE, AT_FDCWD = 2, -100
libc = ctypes.CDLL(None, use_errno=True)


def exchange(a, b):
    if libc.renameat2(AT_FDCWD, os.fsencode(a), AT_FDCWD, os.fsencode(b), EXCHANGE) != 0:
        raise OSError(ctypes.get_errno(), "renameat2")


def write(path, text):
    with open(path, "w") as file:
        file.write(text)


def directory(path):
    os.makedirs(f"{path}/sub/deep")
    for name in ("f", "sub/f", "sub/deep/f"):
        write(f"{path}/{name}", "inside")


def build():
    os.makedirs(f"{OUTSIDE}/secret/canary-dir")
    os.makedirs(f"{OUTSIDE}/secret/sub")
    os.makedirs(f"{OUTSIDE}/exchange")
    for name in ("secret/canary", "secret/f", "secret/sub/f", "secret/canary-dir/f", "exchange/canary"):
        write(f"{OUTSIDE}/{name}", "CANARY")
    for trick in TRICKS:
        directory(f"{BACKING}/top/{trick}")
    os.makedirs(f"{BACKING}/links")
    os.symlink("/", f"{BACKING}/links/root")
    os.symlink(f"{OUTSIDE}/secret", f"{BACKING}/links/secret")
    os.symlink("../../outside/secret", f"{BACKING}/links/up")
    os.symlink(f"{OUTSIDE}/secret/canary", f"{BACKING}/links/file")
    # An old atime shows each read with relatime, too.
    for path in outside():
        os.utime(path, (0, 0))


def outside():
    """What must stay as it is."""
    for path, names, files in os.walk(f"{OUTSIDE}/secret"):
        yield path
        yield from (f"{path}/{name}" for name in files)
    yield f"{OUTSIDE}/exchange/canary"


def manifest():
    """Attributes and listings, of directories without atime, as this walk changes it."""
    found = {}
    for path in outside():
        if os.path.isdir(path):
            names = sorted(os.listdir(path))
            atime = None
        else:
            names, atime = None, os.lstat(path).st_atime_ns
        s = os.lstat(path)
        found[path] = (s.st_mode, s.st_uid, s.st_gid, s.st_size, s.st_nlink, s.st_mtime_ns, s.st_ctime_ns,
                       atime, names, tuple(os.listxattr(path)))
    return found


def attacker(trick):
    """Ends between two swaps, with everything in its place; tells how many there were."""
    there, count = f"{BACKING}/top/{trick}", 0
    end = time.monotonic() + SECONDS
    while time.monotonic() < end:
        count += 1
        if trick == "moved":
            os.rename(there, f"{OUTSIDE}/exchange/moved")
            os.rename(f"{OUTSIDE}/exchange/moved", there)
        elif trick == "file":
            exchange(f"{there}/f", f"{BACKING}/links/file")
            exchange(f"{there}/f", f"{BACKING}/links/file")
        else:
            exchange(there, f"{BACKING}/links/{trick}")
            exchange(there, f"{BACKING}/links/{trick}")
    return {"swaps": count}


class Escape(Exception):
    pass


def read(path):
    with open(path, "rb", buffering=0) as file:
        data = file.read(100)
    if data not in (b"", b"inside", b"made"):
        raise Escape(f"{path} read {data}")


def client(me, mount):
    os.chroot(mount)
    os.chdir("/")
    chance = random.Random(me)
    done = collections.Counter()
    end = time.monotonic() + SECONDS
    while time.monotonic() < end:
        there = f"/top/{chance.choice(TRICKS)}"
        made = f"{there}/{chance.choice(('', 'sub/', 'canary-dir/'))}{MARK}{me}-{chance.randrange(4)}"
        some = f"{there}/{chance.choice(NAMES)}"
        what = chance.choice(("walk", "list", "read", "deep", "stat", "create", "append", "mkdir", "link",
                              "rename", "change", "remove", "held"))
        try:
            if what == "walk":
                for path, names, files in os.walk("/top"):
                    done["walk"] += 1
                    for name in files:
                        try:
                            read(f"{path}/{name}")
                        except OSError:
                            done["refused"] += 1
            elif what == "list":
                names = os.listdir(there)
                if {"etc", "proc", "canary", "canary-dir"} & set(names):
                    raise Escape(f"{there} lists {names}")
            elif what == "read":
                read(some)
            elif what == "deep":
                read(f"{there}/sub/{chance.choice(('f', 'deep/f'))}")
            elif what == "stat":
                os.lstat(some)
                os.listxattr(some, follow_symlinks=False)
            elif what == "create":
                fd = os.open(made, os.O_RDWR | os.O_CREAT, 0o600)
                os.write(fd, b"made")
                os.close(fd)
            elif what == "append":
                fd = os.open(f"{there}/{chance.choice(('canary', 'canary-dir/f'))}", os.O_WRONLY | os.O_APPEND)
                raise Escape(f"canary of {there} opened")
            elif what == "mkdir":
                os.mkdir(f"{made}d")
            elif what == "link":
                os.link(f"{there}/f", f"{made}l", follow_symlinks=False)
            elif what == "rename":
                os.rename(made, f"/top/{chance.choice(TRICKS)}/{MARK}{me}-r")
            elif what == "change":
                path = f"{there}/{chance.choice(('canary', 'canary-dir', MARK + str(me) + '-0'))}"
                os.truncate(path, 0)
                os.chmod(path, 0o600)
                os.utime(path)
                os.setxattr(path, "user.x", b"x")
            elif what == "remove":
                name = chance.choice((made, f"{there}/canary", f"{made}l", f"{there}/{MARK}{me}-r"))
                os.unlink(name)
                if name.endswith("canary"):
                    raise Escape(f"{name} removed")
                os.rmdir(f"{made}d")
            else:  # a directory that is held while it is swapped
                fd = os.open(there, os.O_RDONLY | os.O_DIRECTORY)
                try:
                    for _ in range(10):
                        for name in ("f", "sub/f", "canary"):
                            try:
                                file = os.open(name, os.O_RDONLY, dir_fd=fd)
                            except OSError:
                                continue
                            data = os.read(file, 100)
                            os.close(file)
                            if data != b"inside":
                                raise Escape(f"{there}/{name} read {data}")
                        for up in ("..", "../..", "../../.."):
                            parent = os.open(up, os.O_RDONLY | os.O_DIRECTORY, dir_fd=fd)
                            names = os.listdir(parent)
                            os.close(parent)
                            if {"canary", "etc"} & set(names):
                                raise Escape(f"{up} of {there} lists {names}")
                finally:
                    os.close(fd)
            done[what] += what != "walk"
        except OSError:
            done["refused"] += 1
    return dict(done)


def start(what, *arguments):
    """A process, and the pipe with its result or what went wrong."""
    source, sink = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            answer = json.dumps(what(*arguments))
        except BaseException as error:
            answer = f"FAIL {what.__name__} {arguments}: {error!r}"
        os.write(sink, answer.encode())
        os._exit(0)
    os.close(sink)
    return pid, source


def main():
    build()
    before = manifest()
    at_root = os.listdir("/")
    running = [start(attacker, trick) for trick in TRICKS]
    for number, mount in enumerate(MOUNTS):
        running += [start(client, 2 * number + part, mount) for part in range(2)]
    bad, total = [], collections.Counter()
    for pid, source in running:
        os.waitpid(pid, 0)
        answer = os.read(source, 65536).decode()
        if answer.startswith("FAIL"):
            bad.append(answer)
        else:
            total.update(json.loads(answer))
    after = manifest()
    bad += [f"{path}: {before.get(path)} is now {after.get(path)}"
            for path in before.keys() | after.keys() if before.get(path) != after.get(path)]
    bad += [f"made: /{name}" for name in os.listdir("/") if name not in at_root and MARK in name]
    for path, names, files in os.walk(OUTSIDE):
        bad += [f"made: {path}/{name}" for name in names + files if MARK in name]
    for path in outside():
        if os.path.isfile(path) and open(path).read() != "CANARY":
            bad.append(f"{path} has changed")
    # The race was one: it swapped, and the clients did get something done and were refused, too.
    for what in ("swaps", "walk", "list", "read", "deep", "create", "rename", "held", "refused"):
        if not total[what]:
            bad.append(f"nothing was done of {what}: {dict(total)}")
    print("  ", dict(total))
    print("\n".join(bad))
    return 1 if bad else 0


sys.exit(main())
