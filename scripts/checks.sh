# Sourced after daemons.sh by scripts with checks of their own: counts them.

passed=0 failures=0
# check NAME COMMAND...: passes if the command does, and shows what it says if not; its status.
check() {
    local name=$1 status=0
    shift
    "$@" </dev/null >"$work/check" 2>&1 || status=$?
    if ((status == 0)); then
        ((passed += 1))
        echo "ok $name"
    else
        ((failures += 1))
        failed=1
        echo "FAIL $name: status $status: $(tail -n 8 "$work/check")"
    fi
    return "$status"
}

# nothing_left: no mount and no loop device below $work.
nothing_left() {
    ! grep -F " $work/" /proc/mounts && ! losetup --list --noheadings | grep -F "$work/"
}

verdict() { echo "$passed passed, $failures failed"; }

# kinds: prints "TRANSPORT IO WRITEBACK" for each way to run: --io kernel has no write-back.
kinds() {
    local transport io writeback
    for transport in $transports; do for io in $ios; do for writeback in $writebacks; do
        [[ $io-$writeback == kernel-on ]] || echo "$transport $io $writeback"
    done; done; done
}
