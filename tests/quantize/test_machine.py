import json

import torch

from quantize.machine import machine_description


def test_what_is_told_about_the_machine() -> None:
    machine = machine_description()
    assert machine["torch"] == torch.__version__
    assert machine["engine"] == torch.backends.quantized.engine
    assert machine["cpu"]
    assert isinstance(machine["flags"], list)
    assert isinstance(machine["cores"], int)
    assert machine["cores"] >= 1
    assert json.loads(json.dumps(machine)) == machine
