# Sourced by the scripts that need daemons: builds $binary, which is fusewire-memory unless it is
# set, starts and stops it.
#
# Gives $work, a directory that is gone at the end, $daemon, and $failed, the exit status: 0 until
# something sets it. Whatever happens, no mount and no process of these is left.

PATH=$PATH:${CARGO_HOME:-$HOME/.cargo}/bin
cargo build --release --bin "${binary:=fusewire-memory}" || exit 1
daemon=$(realpath "${CARGO_TARGET_DIR:-target}")/release/$binary
mountpoint -q /sys/fs/fuse/connections || mount -t fusectl none /sys/fs/fuse/connections
echo Y > /sys/module/fuse/parameters/enable_uring

# Short, as pjdfstest binds sockets below it and a socket's path holds 107 bytes.
work=$(mktemp -d "${TMPDIR:-/tmp}/aXXXXXX")
chmod 755 "$work"
pids=()
failed=0
# start DIR OPTION...: a daemon on a new directory, ready when this returns.
start() {
    local dir=$1 log=$1.log
    shift
    mkdir -m 755 "$dir"
    # Here, not by the child: what an earlier daemon said there is not the new one's.
    : >"$log"
    "$daemon" --allow-other -o dev,suid "$@" "$dir" >"$log" 2>&1 &
    pids+=($!)
    for _ in {1..100}; do
        grep -qs '^mounted ' "$log" && return
        kill -0 "${pids[-1]}" 2>/dev/null || break
        sleep 0.1
    done
    echo "FAIL start: $(cat "$log")"
    return 1
}

stop_all() {
    local pid
    for pid in "${pids[@]}"; do kill -TERM "$pid" 2>/dev/null; done
    for pid in "${pids[@]}"; do
        wait "$pid" || { echo "FAIL the daemon ended with status $?"; failed=1; }
    done
    pids=()
}

cleanup() {
    trap - EXIT
    stop_all
    rm -rf "$work"
    exit "$failed"
}
trap cleanup EXIT
trap 'failed=1; exit' INT TERM HUP
