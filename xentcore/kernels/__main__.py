"""``python -m xentcore.kernels build``: compile the passes for this machine."""

import argparse
import os
import sys
import time
from pathlib import Path

from xentcore.kernels.build import build
from xentcore.kernels.cache import default_root, folder


def main() -> int:
    """Run the command; see ``--help``."""
    parser = argparse.ArgumentParser(prog="python -m xentcore.kernels", description=main.__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    for name, words in (("build", "compile what is missing"), ("where", "print the folder")):
        command = commands.add_parser(name, help=words, description=words)
        command.add_argument(
            "--root",
            type=Path,
            default=default_root(),
            help="folder of all versions (XENT_KERNELS_DIR, or in the user's cache)",
        )
        if name == "build":
            command.add_argument("--processes", type=int, default=2, help="at the same time (2)")
            command.add_argument("--nice", type=int, default=0, help="lower the priority (0)")
    asked = parser.parse_args()
    if asked.command == "where":
        sys.stdout.write(f"{folder(asked.root)}\n")
        return 0
    os.nice(asked.nice)
    begun = time.monotonic()
    for name in build(asked.root, asked.processes):
        sys.stdout.write(f"{time.monotonic() - begun:6.1f} s  {name}\n")
        sys.stdout.flush()
    sys.stdout.write(f"all compiled passes are in {folder(asked.root)}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
