"""A trial that takes no time: the score is a paraboloid."""

import os
import sys
import time
from pathlib import Path

import nni

sample = nni.get_next_parameter()
if sample["a"] > float(os.environ.get("TOY_FAILS_ABOVE", "9")):
    sys.exit("ValueError: a is too large")
Path("running").touch()
time.sleep(float(os.environ.get("TOY_SECONDS", "0")))
nni.report_final_result(1 - (sample["a"] - 0.8) ** 2 - (sample["b"] - 0.4) ** 2)
