"""See :mod:`pipeline.search.command`."""

import sys

from pipeline.search.command import main

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
