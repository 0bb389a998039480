"""``python -m tests.fuzz``: run drawn inputs of every kind, and print a table."""

import argparse
import sys

from tests.fuzz.harness import Tally, fuzz, table
from tests.fuzz.targets import TARGETS


def main() -> int:
    """Run the command; return 1 if any input ended otherwise than it may."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=main.__doc__)
    parser.add_argument(
        "--inputs", type=int, default=5000, help="drawn inputs of all kinds together"
    )
    parser.add_argument("--kind", action="append", choices=sorted(TARGETS), help="only this kind")
    parser.add_argument("--seed", type=int, default=0, help="decides the draws")
    options = parser.parse_args()
    names = options.kind or list(TARGETS)
    tallies: list[tuple[str, Tally]] = []
    for name in names:
        tallies.append(
            (name, fuzz(TARGETS[name], -(-options.inputs // len(names)), seed_=options.seed))
        )
        print(table(tallies).splitlines()[-1], flush=True)  # noqa: T201
        for failure, (value, text) in tallies[-1][1].failures.items():
            print(f"  {failure}\n  input: {value!r:.500}\n{text}", flush=True)  # noqa: T201
    print(table(tallies))  # noqa: T201
    return int(any(tally.failures for _, tally in tallies))


if __name__ == "__main__":
    sys.exit(main())
