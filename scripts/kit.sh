# Sourced after daemons.sh by the scripts that run the acceptance kit: runs, shows and counts.
#
# $kit is the folder of the kit, $only the scripts of it that are wanted (none named: all). $native,
# where it is set, is a directory with what the same scripts printed on the backing filesystem: a
# check that fails there, too, is explained by that, and what is skipped here but not there fails.

kit=$(realpath "$kit")
total_passed=0 total_failed=0 total_skipped=0 total_known=0 native=
# How many more than natively pjdfstest may skip, which has a count of skips only.
pjdfs_skips=0

# Lines of FAIL or SKIP that are explained, as regular expressions; scripts add their own.
# What the kernel does to a dying connection, whoever serves it; these pass or fail by chance.
# - After SIGKILL io_uring drops its references to /dev/fuse some milliseconds behind the death of
#   the process (axboe/liburing#1627). Until then a request gets ECONNABORTED, or over the ring
#   ECANCELED, instead of ENOTCONN. fs-memory's own tests wait for the connection's end.
# - A read(2) whose first pages were cached when the connection ended under it is short, not an
#   error (mm/filemap.c, filemap_read); the drill's clients take that for wrong content.
known=(
    '^FAIL (sigkill_gives_enotconn|sigkill_under_load_frees_the_clients): '
    '^FAIL [a-z_]*_under_load_.*content: [0-9]+ bytes, expected 100001'
)

# What must be true besides for a reason to count: a command, by the reason.
declare -A known_if=()

# is_known LINE: whether a line of FAIL or SKIP is explained.
is_known() {
    local reason
    for reason in "${known[@]}"; do
        if [[ $1 =~ $reason ]] && ${known_if[$reason]:-true}; then return 0; fi
    done
    [[ -n $native ]] && grep -qsF -- "${1%%: *}: " "$native/$script"
}

# show FILE: without what is as it should be, and names of 4000 bytes.
show() { grep -vE '^(ok|known|note|seed) ' "$1" | cut -c 1-400; }
wanted() { [[ -z $only || " $only " == *" $1 "* ]]; }

# step NAME SCRIPT COMMAND...: runs, shows and counts.
step() {
    local name=$1 script=$2 last line explained=0 skips=0 status
    shift 2
    wanted "$script" || return 0
    echo "== $name: $script"
    read -r step_began _ </proc/uptime
    "$@" >"$work/out" 2>&1
    status=$?
    show "$work/out"
    while read -r line; do
        if is_known "$line"; then ((explained += 1)); fi
    done < <(grep '^FAIL ' "$work/out")
    last=$(tail -n 1 "$work/out")
    if [[ $last =~ ^([0-9]+)\ passed,\ ([0-9]+)\ failed(,\ ([0-9]+)\ skipped)?$ ]]; then
        ((total_passed += BASH_REMATCH[1], total_failed += BASH_REMATCH[2] - explained))
        ((total_known += explained))
        ((BASH_REMATCH[2] == explained)) || failed=1
        [[ $status == 0 || $explained -gt 0 ]] || failed=1
        ((total_skipped += skips = ${BASH_REMATCH[4]:-0}))
        [[ -z $native || ! -e $native/$script ]] || compare_skips "$name" "$script" "$skips"
    else
        echo "FAIL $name $script: no result"
        failed=1
    fi
}

# on_backing SCRIPT COMMAND...: the bar for the steps that follow. Its failures are not counted.
on_backing() {
    local script=$1
    shift
    wanted "$script" || return 0
    echo "== native: $script"
    "$@" >"$native/$script" 2>&1
    show "$native/$script"
}

# compare_skips NAME SCRIPT COUNT
compare_skips() {
    local line more
    while read -r line; do
        if ! is_known "$line"; then
            echo "FAIL $1 $2: skipped, but not natively: ${line#SKIP }"
            failed=1
            ((total_failed += 1))
        fi
    done < <(grep '^SKIP ' "$work/out")
    [[ $2 == pjdfs ]] || return
    more=$(sed -nE '$s/.* ([0-9]+) skipped$/\1/p' "$native/$2")
    ((more = $3 - ${more:-0}))
    if ((more > pjdfs_skips)); then
        echo "FAIL $1 $2: $more more are skipped than natively"
        failed=1
        ((total_failed += 1))
    fi
}

totals() {
    echo "all: $total_passed passed, $total_failed failed, $total_skipped skipped"
    echo "explained: $total_known"
}
