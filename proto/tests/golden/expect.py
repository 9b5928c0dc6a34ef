#!/usr/bin/env python3
"""Writes requests.txt: what each recorded request says, read by the description of the C header;
and ring/requests.txt, for those of ring entries.

Nothing of the crate is used. Run it after recording, read the difference, and keep it.
"""

import json
import pathlib
import struct

here = pathlib.Path(__file__).parent
abi = json.loads((here / "../abi/fuse-7.45.json").read_text())
opcodes = {row["number"]: row for row in abi["opcodes"]}
NOTIFY_REPLY = "FUSE_NOTIFY_REPLY"
SIZES = {1: "B", 2: "H", 4: "I", 8: "Q"}


def quoted(raw):
    return '"' + "".join(chr(c) if 32 < c < 127 and c not in b'"\\' else f"\\x{c:02x}"
                         for c in raw) + '"'


def fields(name, raw, prefix=""):
    for field in abi["structs"][name]["fields"]:
        if field["type"].startswith("struct "):
            inner = raw[field["offset"]:]
            yield from fields(field["type"][7:], inner, prefix + field["name"] + ".")
        elif field["size"] in SIZES and field["offset"] + field["size"] <= len(raw):
            value, = struct.unpack_from("=" + SIZES[field["size"]], raw, field["offset"])
            yield f"{prefix}{field['name']}={value:#x}"


def extensions(raw):
    while raw:
        size, kind = struct.unpack_from("=II", raw)
        body = raw[8:size]
        if kind == 32:
            count, = struct.unpack_from("=I", body)
            yield from (f"group={gid:#x}" for gid in struct.unpack_from(f"={count}I", body, 4))
        elif kind < 32:
            for _ in range(kind):
                length, = struct.unpack_from("=I", body)
                name, _, rest = body[8:].partition(b"\0")
                yield f"label={quoted(name)}:{rest[:length].hex()}"
                body = body[-(-(9 + len(name) + length) // 8) * 8:]
        raw = raw[-(-size // 8) * 8:]


def whole(entry):
    """A ring entry in one piece: the header, the struct if there is one, the payload."""
    header = abi["structs"]["fuse_uring_req_header"]
    op_in, ring = (header["fields"][index]["offset"] for index in (1, 2))
    flags, commit_id, payload_size, padding, reserved = struct.unpack_from("=QQIIQ", entry, ring)
    number, unique = struct.unpack_from("=IQ", entry, 4)
    payload = entry[header["size"]:]
    assert (flags, padding, reserved, commit_id) == (0, 0, 0, unique)
    assert payload_size == len(payload)
    # The length of the whole tells how much of op_in was written; all of it else is filler.
    argument_size = struct.unpack_from("=I", entry)[0] - 40 - payload_size
    used, rest = entry[op_in:op_in + argument_size], entry[op_in + argument_size:ring]
    assert set(entry[40:op_in] + rest) == {0xee}
    row = opcodes[number]
    assert (argument_size > 0) == (row["argument"] is not None and row["name"] != NOTIFY_REPLY)
    return entry[:40] + used + payload


def describe(path):
    raw = path.read_bytes()
    if path.parent.parent.name == "ring":
        raw = whole(raw)
    length, number, unique, nodeid, uid, gid, pid, extlen, _ = struct.unpack_from("=IIQQIIIHH", raw)
    assert length == len(raw), path
    row = opcodes[number]
    raw, ext = raw[:len(raw) - 8 * extlen], raw[len(raw) - 8 * extlen:]
    size = row["argument_len"]
    if number == 21 and path.name.startswith("setxattr-short"):
        size = 8
    words = [path.stem + ":", row["name"].removeprefix("FUSE_"), f"unique={unique:#x}",
             f"nodeid={nodeid:#x}", f"uid={uid:#x}", f"gid={gid:#x}", f"pid={pid:#x}"]
    if row["argument"]:
        words += fields(row["argument"], raw[40:40 + size])
    rest = raw[40 + size:]
    for part in row["after"]:
        if part.endswith("\\0"):
            string, nul, rest = rest.partition(b"\0")
            assert nul, path
            words.append(quoted(string))
        elif part != "extensions?":
            words.append("tail=" + rest.hex())
            rest = b""
    assert not rest, path
    return " ".join(words + list(extensions(ext)))


if __name__ == "__main__":
    for folder in (here, here / "ring"):
        lines = map(describe, sorted((folder / "requests").glob("*.bin")))
        (folder / "requests.txt").write_text("\n".join(lines) + "\n")
