# Sourced after daemons.sh by the scripts that need filesystems of their own below a mirror. They
# live in sparse images in $work. Whatever happens, none of these mounts and loop devices is left.

filesystems=()

# filesystem KIND SIZE DIR: mounts an empty ext4, xfs, btrfs or tmpfs on DIR, which it makes.
filesystem() {
    local kind=$1 size=$2 dir=$3
    mkdir "$dir"
    if [[ $kind == tmpfs ]]; then
        mount -t tmpfs -o "size=$size" fusewire "$dir" || return
    else
        truncate -s "$size" "$dir.image"
        case $kind in
            ext4) mkfs.ext4 -qF "$dir.image" ;;
            # Below 300 MB only with this word, of which it warns.
            xfs) mkfs.xfs -q --unsupported "$dir.image" 2>/dev/null ;;
            btrfs) mkfs.btrfs -q --mixed "$dir.image" >/dev/null ;;
            *) echo "no such backing filesystem: $kind" >&2; return 2 ;;
        esac || return
        mount -o loop "$dir.image" "$dir" || return
    fi
    chmod 755 "$dir"
    filesystems+=("$dir")
}

# remove_filesystems: all of them; umount frees their loop devices.
remove_filesystems() {
    local dir
    for dir in "${filesystems[@]}"; do
        umount "$dir" || { echo "FAIL umount $dir"; failed=1; umount -l "$dir"; }
        rmdir "$dir"
        rm -f "$dir.image"
    done
    filesystems=()
}

finish_filesystems() {
    trap - EXIT
    stop_all
    remove_filesystems
    cleanup
}
trap finish_filesystems EXIT
