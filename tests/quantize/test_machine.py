import torch
from pydantic import TypeAdapter

from quantize.machine import machine_description
from quantize.measurements import Machine


def test_the_description_of_the_machine() -> None:
    machine = machine_description()
    assert machine.torch == torch.__version__
    assert machine.engine == torch.backends.quantized.engine
    assert machine.cpu
    assert isinstance(machine.flags, tuple)
    assert isinstance(machine.cores, int)
    assert machine.cores >= 1
    content = TypeAdapter(Machine)
    assert content.validate_json(content.dump_json(machine)) == machine
