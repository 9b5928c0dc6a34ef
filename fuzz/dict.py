#!/usr/bin/env python3
"""Writes fuse.dict from the description of the C header: opcodes, flags, notification codes."""

import json
import pathlib
import struct

here = pathlib.Path(__file__).parent
abi = json.loads((here / "../proto/tests/abi/fuse-7.45.json").read_text())


def token(name, packed):
    return f'{name}="' + "".join(f"\\x{byte:02x}" for byte in packed) + '"'


def word(name, value):
    value %= 1 << 64
    return token(name, struct.pack("<I" if value < 1 << 32 else "<Q", value))


lines = ["# Made by dict.py for little-endian machines."]
for kind in ("fuse_opcode", "fuse_notify_code", "fuse_ext_type"):
    lines += [word(name, value) for name, value in abi["enums"].get(kind, {}).items()]
lines += [word(name, value) for name, value in abi["constants"].items()]
for name in ("security.selinux", "user.x", "..", "DEVNAME=x"):
    lines.append(token("text_" + "".join(c if c.isalnum() else "_" for c in name),
                       name.encode() + b"\0"))
for value in (-1, 0x7FFFFFFFFFFFFFFF, 0x8000000000000000):
    lines.append(word(f"limit_{value % (1 << 64):x}", value))
(here / "fuse.dict").write_text("\n".join(lines) + "\n")
