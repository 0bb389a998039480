"""See :mod:`pipeline.search.search_command`."""

import sys

from pipeline.search.search_command import main

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
