"""``python -m reid_edge``, which is the command ``reid-edge``."""

import sys

from reid_edge.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
