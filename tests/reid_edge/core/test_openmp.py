import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]
COMMAND = """
import os, sys
from reid_edge.cli.guard import Guard
def action():
    assert "torch" not in sys.modules
    print(os.environ.get("GOMP_SPINCOUNT"), os.environ.get("OMP_WAIT_POLICY"))
sys.exit(Guard().run(action))
"""


@pytest.mark.parametrize(
    ("chosen", "expected"),
    [
        ({}, "1000 None"),
        ({"GOMP_SPINCOUNT": "7"}, "7 None"),
        ({"OMP_WAIT_POLICY": "active"}, "None active"),
    ],
)
def test_threads_wait_as_the_user_says_or_sleep_early(
    chosen: dict[str, str], expected: str
) -> None:
    names = ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY")
    kept = {name: value for name, value in os.environ.items() if name not in names}
    ended = subprocess.run(
        [sys.executable, "-c", COMMAND],
        cwd=ROOT,
        env=kept | chosen,
        capture_output=True,
        text=True,
        check=True,
    )
    assert ended.stdout.strip() == expected
