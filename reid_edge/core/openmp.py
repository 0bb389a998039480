"""How the threads of PyTorch wait for each other."""

import os

# A thread that waits at a barrier looks this often before it sleeps. libgomp, which PyTorch's
# wheels contain, looks 300,000 times where there are no more threads than cores: a thread that
# waits for one without a core then uses up the time that the other needs. A step on a busy machine
# takes a hundred times as long (docs/results/latency.md).
SPIN_COUNT = "1000"


def limit_spinning() -> None:
    """Let threads of PyTorch that wait sleep early, unless the user chose how they wait.

    It works only before PyTorch is imported, so commands call it first. Programs that import the
    library set ``GOMP_SPINCOUNT`` themselves.
    """
    if "OMP_WAIT_POLICY" not in os.environ:
        os.environ.setdefault("GOMP_SPINCOUNT", SPIN_COUNT)
