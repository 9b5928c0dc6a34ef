#!/usr/bin/env python3
"""Prints the table of scripts/count-instructions --peers from the summaries that gungraun left.

The first row of fusewire is a request in pieces, as a ring entry holds it, and is to be compared
with polyfuse, which has the header apart; the second is a contiguous message, as the other two get.
"""

import json
import pathlib
import sys

COLUMNS = ["read", "write", "getattr", "lookup_1", "lookup_17", "lookup_255"]
ROWS = {
    "fusewire": "fusewire, pieces",
    "fusewire_split": "fusewire, contiguous",
    "polyfuse_request": "polyfuse, header apart",
    "fuser_session": "fuser, contiguous",
    "fuse_backend_rs": "fuse-backend-rs, contiguous",
}


def instructions(folder):
    summary = json.loads((folder / "summary.json").read_text())
    counted = summary["profiles"][0]["data"]["total"]["metrics"]["Ir"]["values"]["new"]
    return int(counted)


def main():
    base = pathlib.Path(sys.argv[1]) / "fusewire-peers" / "peers" / "decode"
    print("| instructions | " + " | ".join(column.upper() for column in COLUMNS) + " |")
    print("|---|" + "---:|" * len(COLUMNS))
    for row, title in ROWS.items():
        counts = [str(instructions(base / f"{row}.{column}")) for column in COLUMNS]
        print(f"| {title} | " + " | ".join(counts) + " |")


main()
