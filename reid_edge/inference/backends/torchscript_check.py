"""What a TorchScript file would run, read before anything of it is run.

Loading a TorchScript file runs code: ``__setstate__`` of its classes. That code calls any operator
of PyTorch, and some write files. Here the code is parsed, never run, and every name that it
uses has to be of an operator that is allowed (`torchscript_operators`). Records are read by
PyTorch's own reader, so that what is checked is what it loads.
"""

from __future__ import annotations

import ast
import pickletools
import re
from collections.abc import Iterable
from pathlib import Path

from reid_edge.core.errors import CheckpointError
from reid_edge.inference.backends.torchscript_operators import CLASSES, GLOBALS, is_allowed

# The code and the pickled structure of a model of 100 million weights take a few megabytes.
LARGEST_RECORD = 64 * 2**20
# Names that stand for something else than a variable of the code.
_ROOTS = frozenset(("torch", "ops", "__torch__"))
_FORBIDDEN = frozenset(("print", "fork", "awaitable"))
# PyTorch reads it as code; to Python it is a comment.
_TYPE_COMMENT = re.compile(r"#\s*type:")
_OPERATOR = re.compile(r"(\w+)::(\w+)")
# What the number of rounds of a loop may be computed with.
_ARITHMETIC = frozenset(("add", "sub", "floordiv", "min", "max"))
MOST_ROUNDS = 10_000


class _NotAllowedError(Exception):
    """Its message is what the file uses and may not."""


def check_torchscript(path: Path) -> bool:
    """Check that loading and running a TorchScript file computes, and does nothing else.

    Time and memory have no limit. Operators of torchvision that the file uses are known to PyTorch
    afterwards: torchvision is imported for them, and only for them, since that takes seconds.

    Args:
        path: a ZIP archive of ``torch.jit.save`` or ``_save_for_lite_interpreter``.

    Returns:
        Whether it may run for ever: it has a loop that is counted neither by a list nor by a small
        number, or one within another.

    Raises:
        CheckpointError: its code uses an operator that is not allowed or cannot be parsed,
            or it is of a PyTorch before 1.4.
    """
    import torch

    may_be_endless = False
    try:
        reader = torch._C.PyTorchFileReader(str(path))
        names = reader.get_all_records()
        if "model.json" in names:
            raise CheckpointError(f"{path}: is of a PyTorch before 1.4; export the model again")
        for name in names:
            # PyTorch does not tell small letters from capitals.
            if not name.lower().endswith((".py", "pkl")):
                continue
            if reader.get_record_size(name) > LARGEST_RECORD:
                raise _NotAllowedError(f"{name} of more than {LARGEST_RECORD >> 20} MiB")
            may_be_endless |= _check_record(name.lower(), reader.get_record(name))
    except _NotAllowedError as error:
        raise CheckpointError(
            f"{path}: not loaded, it uses {error}, which no model needs and which may do more than "
            "compute; export the model again without it, or give its checkpoint"
        ) from error
    except (RuntimeError, ValueError, SyntaxError, MemoryError, IndexError) as error:
        if isinstance(error, CheckpointError):
            raise
        raise CheckpointError(
            f"{path}: not a readable TorchScript file (damaged, or of a newer PyTorch)"
        ) from error
    return may_be_endless


def _check_record(name: str, content: bytes) -> bool:
    """Check one record; return whether its code has a loop without a count."""
    if name.endswith(".py"):
        text = content.decode()
        if _TYPE_COMMENT.search(text):
            raise _NotAllowedError("a comment with a type")
        code = _Code()
        code.visit(ast.parse(text))
        return code.may_be_endless
    if name.endswith(".debug_pkl"):  # where each line is from: no objects
        if b"torch.classes" in content:
            raise _NotAllowedError("an object among line numbers")
    else:
        _check_pickle(content, has_operators=name == "bytecode.pkl")
    return False


def _check_pickle(content: bytes, *, has_operators: bool) -> None:
    for opcode, argument, _ in pickletools.genops(content):
        if opcode.name in ("STACK_GLOBAL", "INST", "EXT1", "EXT2", "EXT4"):
            raise _NotAllowedError(f"the pickle operation {opcode.name}")
        if opcode.name == "GLOBAL":
            # Text without a space where a module and a name should be is no global either.
            module, _, attribute = str(argument).partition(" ")
            names = f"{module}.{attribute}".split(".")
            if names[0] == "__torch__":
                _check_own_class(names[1:])
            elif ".".join(names) not in GLOBALS:
                raise _NotAllowedError(".".join(names))
        elif has_operators and isinstance(argument, str):
            found = _OPERATOR.fullmatch(argument)
            if found:
                _check_operator(found[1], found[2])


def _check_operator(namespace: str, name: str) -> None:
    if not is_allowed(namespace, name):
        raise _NotAllowedError(f"{namespace}::{name}")
    if namespace == "torchvision":
        import torchvision  # noqa: F401 - registers its operators


def _check_own_class(names: list[str]) -> None:
    """Check what follows ``__torch__``: a class of the file, or one of PyTorch's in C++."""
    if names[:1] == ["torch"] and (len(names) == 1 or names[1] == "classes"):
        used = ".".join(names[2:4])
        if used not in CLASSES:
            raise _NotAllowedError(f"the class {used or 'torch'}")


class _Code(ast.NodeVisitor):
    """Goes through the code of a file, and stops at the first name that is not allowed."""

    def __init__(self) -> None:
        self.may_be_endless = False
        self._lists: frozenset[str] = frozenset()

    def visit_FunctionDef(self, node: ast.FunctionDef) -> None:
        self._lists = frozenset(
            argument.arg
            for argument in node.args.args
            if isinstance(argument.annotation, ast.Subscript)
            and isinstance(argument.annotation.value, ast.Name)
            and argument.annotation.value.id == "List"
        )
        self.generic_visit(node)

    def visit_While(self, node: ast.While) -> None:
        self.may_be_endless = True
        self.generic_visit(node)

    def visit_For(self, node: ast.For) -> None:
        match node.iter:
            case ast.Call(func=ast.Name("range"), args=bounds):
                self.may_be_endless |= not all(self._is_small(bound) for bound in bounds)
        inner = [part for statement in node.body for part in ast.walk(statement)]
        # A function of the file may have a loop of its own.
        self.may_be_endless |= any(
            isinstance(part, ast.For) or (isinstance(part, ast.Call) and not _is_operator(part))
            for part in inner
        )
        self.generic_visit(node)

    def visit_Attribute(self, node: ast.Attribute) -> None:
        inner: ast.expr = node
        names: list[str] = []
        while isinstance(inner, ast.Attribute):
            names.insert(0, inner.attr)
            inner = inner.value
        root = inner.id if isinstance(inner, ast.Name) else ""
        if root == "__torch__":
            _check_own_class(names)
            return
        if root == "torch":
            names.insert(0, "aten")
        elif root != "ops":
            self._check_members(names)
            self.visit(inner)
            return
        if len(names) < 2:
            raise _NotAllowedError("::".join(names))
        _check_operator(names[0], names[1])
        self._check_members(names[2:])

    def visit_Name(self, node: ast.Name) -> None:
        # Alone, a root could get another name, under which what follows it would not be seen.
        if node.id in _ROOTS | _FORBIDDEN:
            raise _NotAllowedError(node.id)

    def visit_Call(self, node: ast.Call) -> None:
        if isinstance(node.func, ast.Name) and node.func.id in ("getattr", "hasattr"):
            match node.args:
                case [_, ast.Constant(str(name)), *_]:
                    self._check_members([name])
                case _:
                    raise _NotAllowedError(f"{node.func.id} of a computed name")
        self.generic_visit(node)

    def _check_members(self, names: Iterable[str]) -> None:
        """Check attributes of a value: where it has none of that name, it is an operator's."""
        import torch

        for name in names:
            if not is_allowed("aten", name) and torch._C._jit_get_schemas_for_operator(
                f"aten::{name}"
            ):
                raise _NotAllowedError(f"aten::{name}")

    def _is_small(self, bound: ast.expr) -> bool:
        """Return whether a number of rounds is small, or the length of a list that is in memory.

        Sizes of tensors are not: an expanded one has any size.
        """
        match bound:
            case ast.Constant(int(number)):
                return number <= MOST_ROUNDS
            case ast.Call(func=ast.Attribute(ast.Name("torch"), "len"), args=[ast.List()]):
                return True
            case ast.Call(func=ast.Attribute(ast.Name("torch"), "len"), args=[ast.Name(name)]):
                return name in self._lists
            case ast.Call(func=ast.Attribute(ast.Name("torch"), "dim")):
                return True
            case ast.Call(func=ast.Attribute(ast.Name("torch"), name), args=parts):
                return name in _ARITHMETIC and all(map(self._is_small, parts))
        return False


def _is_operator(call: ast.Call) -> bool:
    """Return whether a call is of an operator or a conversion, not of a function of the file."""
    function: ast.expr = call.func
    if isinstance(function, ast.Name):
        return True
    while isinstance(function, ast.Attribute):
        function = function.value
    return isinstance(function, ast.Name) and function.id in ("torch", "ops")
