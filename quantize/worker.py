"""A separate process for one model; it runs the model on request and measures the call.

Engines, thread pools and memory belong to a process, so models that are timed in one process
influence each other.
"""

import multiprocessing
import os
import signal
import tempfile
import threading
import time
from collections.abc import Callable, Collection, Sequence
from contextlib import suppress
from dataclasses import dataclass
from importlib import import_module
from multiprocessing import forkserver
from multiprocessing.connection import Connection
from types import TracebackType
from typing import Self

import torch
from torch import Tensor

from quantize.machine import forget_peak, memory
from reid_edge.core.errors import QuantizeError, ReidError
from reid_edge.core.library_warnings import logger
from reid_edge.core.native_output import native_output_silenced

Call = Callable[[Tensor], object]
Open = Callable[[], Call]

# The runtimes of models. They are loaded before memory is measured, and only once: the processes
# of the models are forked from a process that has loaded them and has not run anything. What loads
# a file with operators of torchvision imports it, which takes as long as all of these.
_ALWAYS = ["torch", "onnxruntime"]
_LIBRARIES = [*_ALWAYS, "openvino", "executorch.runtime", "ncnn"]
# Those that print something when they are loaded.
_TALKATIVE = ["MNN", "ai_edge_litert.interpreter"]
_PATIENCE_S = 1.0


@dataclass(frozen=True)
class Elapsed:
    """The time of one call.

    Attributes:
        wall_ms: milliseconds on the clock.
        cpu_ms: milliseconds of processor time of all threads together; other processes hardly
            influence it.
    """

    wall_ms: float
    cpu_ms: float


class Worker:
    """A model in a separate process; a context manager that ends the process.

    Args:
        name: of the model, for messages.
        open_model: loads the model; called in the process, after the number of threads is set. A
            function of a module, or a ``functools.partial`` of one.
        shape: (3, H, W) of an image.
        packages: of the runtimes that are loaded before, beside PyTorch's and ONNX Runtime; None:
            all of those that are installed, which takes seconds.
    """

    def __init__(
        self,
        name: str,
        open_model: Open,
        shape: tuple[int, int, int],
        packages: Collection[str] | None = None,
    ) -> None:
        self._name = name
        context = multiprocessing.get_context("forkserver")
        # With what opens the models, which is mostly the same for all.
        opens: str = getattr(open_model, "func", open_model).__module__
        context.set_forkserver_preload([*_wanted(_LIBRARIES, packages), __name__, opens])
        # The processes ignore Ctrl-C. Only the main thread can set signal handlers.
        is_main = threading.current_thread() is threading.main_thread()
        former = signal.signal(signal.SIGINT, signal.SIG_IGN) if is_main else None
        try:
            forkserver.ensure_running()
        finally:
            if is_main:
                signal.signal(signal.SIGINT, former)
        self._connection, theirs = context.Pipe()
        self._process = context.Process(
            target=_serve,
            args=(theirs, open_model, shape, _wanted([*_LIBRARIES, *_TALKATIVE], packages)),
            daemon=True,
        )
        self._process.start()
        theirs.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._connection.close()
        self._process.join(_PATIENCE_S)
        if self._process.is_alive():
            self._process.kill()
            self._process.join()

    def open(self, threads: int) -> None:
        """Load the model (again, if it is loaded) and set its number of threads.

        Raises:
            QuantizeError: it cannot be loaded.
        """
        self._ask("open", threads)

    def run(self, batch: int) -> Elapsed:
        """Call the model twice on images (batch, 3, H, W) and time the second call.

        The first call loads the weights into the caches again, which other models have used.

        Raises:
            QuantizeError: it fails on them.
        """
        elapsed = self._ask("run", batch)
        assert isinstance(elapsed, Elapsed)
        return elapsed

    def peak_bytes(self) -> int | None:
        """Return the peak memory since the libraries were loaded, without the libraries.

        None if the system does not report it (Linux does).
        """
        peak = self._ask("peak", 0)
        assert peak is None or isinstance(peak, int)
        return peak

    def _ask(self, request: str, number: int) -> object:
        try:
            self._connection.send((request, number))
            succeeded, answer, printed = self._connection.recv()
        except (EOFError, OSError) as error:
            self._process.join(_PATIENCE_S)
            raise QuantizeError(
                f"{self._name}: its process ended with exit code {self._process.exitcode}, "
                "most likely out of memory"
            ) from error
        for line in printed:
            logger.debug("%s: %s", self._name, line)
        if not succeeded:
            reason = str(answer)
            raise QuantizeError(reason if self._name in reason else f"{self._name}: {reason}")
        return answer


def _wanted(libraries: Sequence[str], packages: Collection[str] | None) -> list[str]:
    """Return those of some libraries that are always loaded, and those of packages."""
    return [
        name
        for name in libraries
        if packages is None or name in _ALWAYS or name.partition(".")[0] in packages
    ]


def _serve(
    connection: Connection,
    open_model: Open,
    shape: tuple[int, int, int],
    libraries: Sequence[str],
) -> None:
    """Answer requests until the other side hangs up: whether it went well, an answer, and lines.

    The lines are what the runtime of the model has printed meanwhile. Ctrl-C reaches all processes
    of a terminal. Only the other side handles it; this process ends when the other side does.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    for library in libraries:
        with suppress(ImportError), native_output_silenced():
            import_module(library)
    printed = _Printed()
    served = _Served(open_model, shape)
    answers: dict[str, Callable[[int], object]] = {
        "open": served.open,
        "run": served.run,
        "peak": served.peak,
    }
    while True:
        try:
            request, number = connection.recv()
        except (EOFError, OSError):
            return
        try:
            answer: tuple[bool, object] = (True, answers[request](number))
        except Exception as error:  # the other side reports it
            # Only those of libraries need their kind to be understood.
            kind = "" if isinstance(error, ReidError) else f"{type(error).__name__}: "
            answer = (False, f"{kind}{' '.join(str(error).split())}")
        try:
            connection.send((*answer, printed.lines()))
        except OSError:
            return


class _Printed:
    """What this process prints from now on, to either stream: it goes to a file."""

    def __init__(self) -> None:
        # Without a name, it goes with the process.
        self._file = tempfile.TemporaryFile()  # noqa: SIM115 - as long as the process
        self._read = 0
        for stream in (1, 2):
            os.dup2(self._file.fileno(), stream)

    def lines(self) -> list[str]:
        """Return the lines since the last call."""
        size = os.fstat(self._file.fileno()).st_size
        # The streams share the place in the file, so that it is read without moving it.
        new = os.pread(self._file.fileno(), size - self._read, self._read)
        self._read = size
        return [line for line in new.decode(errors="replace").splitlines() if line.strip()]


class _Served:
    """The model, in its process."""

    def __init__(self, open_model: Open, shape: tuple[int, int, int]) -> None:
        self._open_model = open_model
        self._shape = shape
        self._call: Call | None = None
        # The peak starts at the present memory, without the peak of loading the libraries.
        forget_peak()
        self._resident = memory("VmRSS")

    def open(self, threads: int) -> None:
        torch.set_num_threads(threads)
        self._call = None
        self._call = self._open_model()

    @torch.inference_mode()
    def run(self, batch: int) -> Elapsed:
        assert self._call is not None, "open comes first"
        images = torch.randn(batch, *self._shape, generator=torch.Generator().manual_seed(0))
        self._call(images)
        cpu, wall = time.process_time_ns(), time.perf_counter_ns()
        self._call(images)
        wall, cpu = time.perf_counter_ns() - wall, time.process_time_ns() - cpu
        return Elapsed(wall / 1e6, cpu / 1e6)

    def peak(self, _: int) -> int | None:
        peak = memory("VmHWM")
        return None if peak is None or self._resident is None else peak - self._resident
