"""attacks-users.py FILES MOUNT BACKING: two users create in parallel; see scripts/attacks."""
import os
import stat
import sys

FILES, MOUNT, BACKING = int(sys.argv[1]), sys.argv[2], sys.argv[3]
USERS, SHARED = ((1001, 2001), (1002, 2002)), 3000


def expect(s, uid, gid, what):
    if (s.st_uid, s.st_gid) != (uid, gid):
        raise AssertionError(f"{what}: {s.st_uid}:{s.st_gid}, expected {uid}:{gid}")


def user(uid, gid, count):
    os.setgroups([SHARED])
    os.setresgid(gid, gid, gid)
    os.setresuid(uid, uid, uid)
    os.umask(0o022)
    for number in range(count):
        # One file of two stands where the group comes from the directory.
        group = SHARED if number % 2 else gid
        path = f"{MOUNT}/{'group' if number % 2 else 'all'}/{uid}-{number}"
        kind = number // 2 % 10
        if kind == 0:
            os.mkdir(path)
            s = os.lstat(path)
            if bool(s.st_mode & stat.S_ISGID) != (group == SHARED):
                raise AssertionError(f"{path}: mode {s.st_mode:o}")
        elif kind == 1:
            os.symlink("nowhere", path)
            s = os.lstat(path)
        elif kind == 2:
            os.mkfifo(path)
            s = os.lstat(path)
        else:
            fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644)
            s = os.fstat(fd)
            os.close(fd)
        expect(s, uid, group, path)


def main():
    for name, mode in (("all", 0o777), ("group", 0o2770)):
        os.mkdir(f"{BACKING}/{name}")
        os.chown(f"{BACKING}/{name}", 0, SHARED)
        os.chmod(f"{BACKING}/{name}", mode)
    children = []
    for uid, gid in USERS:
        pid = os.fork()
        if pid == 0:
            status = 1
            try:
                user(uid, gid, FILES // 2)
                status = 0
            except BaseException as error:
                print(f"user {uid}: {error!r}", flush=True)
            os._exit(status)
        children.append(pid)
    if any([os.waitpid(pid, 0)[1] for pid in children]):
        return 1
    count = 0
    for name in ("all", "group"):
        for entry in os.scandir(f"{BACKING}/{name}"):
            uid = int(entry.name.split("-")[0])
            gid = SHARED if name == "group" else dict(USERS)[uid]
            expect(entry.stat(follow_symlinks=False), uid, gid, entry.path)
            count += 1
    print(f"   {count} in the backing directory")
    return 0 if count == FILES // 2 * 2 else 1


sys.exit(main())
