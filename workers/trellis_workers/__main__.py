"""`python -m trellis_workers`: the parent of the worker processes. It imports nothing that they need."""

from __future__ import annotations

import sys

from trellis.errors import TrellisError
from trellis.settings import load
from trellis.telemetry import configure
from trellis_workers.parent import Parent


def main() -> int:
    """Run until SIGTERM. Exit code 0 after a drain, 2 when the workers cannot start."""
    try:
        settings = load()
    except TrellisError as error:
        print(f"trellis worker: {error}", file=sys.stderr)
        return 2
    configure(settings)
    return Parent(settings).run()


if __name__ == "__main__":
    sys.exit(main())
