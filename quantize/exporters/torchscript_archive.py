"""A TorchScript archive as a function of its model.

``torch.jit.save`` writes more than the model. Class names have a counter of the process in them,
and call stacks with the paths of the machine go with each line. `canonical` writes the archive
again: classes are numbered by their place in the model, classes with the same code are one, call
stacks are left out. Tensors and code stay as they are, and so does every bit of an embedding.
"""

from __future__ import annotations

import ast
import io
import itertools
import pickletools
import re
import struct
from collections.abc import Mapping

from reid_edge.core.errors import QuantizeError

_CODE = "code/"
# Written anew by the writer of the archive.
_OF_WRITER = ("version", ".data/serialization_id")
_NAME = re.compile(r"__torch__(?:\.\w+)+")
_DEFINITION = re.compile(r"^(?:class|def) (\w+)", re.MULTILINE)
_COUNTER = re.compile(r"\.___torch_mangle_\d+(?=\.)")
# Stands for the class that is being renamed; no code has it in it.
_SELF = "__this_class__"


def canonical(archive: bytes) -> bytes:
    """Return an archive of ``torch.jit.save`` with the same model, and nothing else in it.

    Records are aligned to 64 bytes and stored without compression, as PyTorch maps them.

    Args:
        archive: the content of a file.

    Raises:
        QuantizeError: its code is not as PyTorch prints it.
    """
    import torch

    reader = torch._C.PyTorchFileReader(io.BytesIO(archive))
    records = {
        name: reader.get_record(name)
        for name in reader.get_all_records()
        if not name.endswith(".debug_pkl")
    }
    code = {name: records.pop(name).decode() for name in list(records) if name.endswith(".py")}
    classes = _Classes(code)
    for name in ("data.pkl", "constants.pkl"):
        records[name] = _renamed_globals(records[name], classes)
    records |= {name: text.encode() for name, text in sorted(classes.files.items())}
    content = io.BytesIO()
    writer = torch._C.PyTorchFileWriter(content)
    writer.set_min_version(int(records["version"]))
    for name, record in records.items():
        if name not in _OF_WRITER:
            writer.write_record(name, record, len(record))
    writer.write_end_of_file()
    return content.getvalue()


class _Classes:
    """The classes of an archive and their new names, which depend on their code alone.

    Attributes:
        files: code by the name of its record, of the classes that were asked for.
    """

    def __init__(self, code: Mapping[str, str]) -> None:
        self.files: dict[str, str] = {}
        self._definitions: dict[str, str] = {}
        for name, text in code.items():
            qualifier = name.removeprefix(_CODE).removesuffix(".py").replace("/", ".")
            starts = [found.start() for found in _DEFINITION.finditer(text)]
            if text[: starts[0] if starts else None].strip():
                raise QuantizeError(
                    f"{name} of the TorchScript archive does not begin with a class"
                )
            for start, end in zip(starts, [*starts, None][1:], strict=True):
                part = text[start:end]
                found = _DEFINITION.match(part)
                if found:
                    self._definitions[f"{qualifier}.{found[1]}"] = part.rstrip("\n") + "\n"
        self._names: dict[str, str] = {}
        self._known: dict[tuple[str, str], str] = {}

    def rename(self, text: str) -> str:
        """Return text with the new names of all classes in it."""
        return _NAME.sub(lambda found: self._new_name(found[0]), text)

    def _new_name(self, name: str) -> str:
        former, rest = name, ""
        while former not in self._definitions:  # what follows a class is a member of it
            former, _, last = former.rpartition(".")
            rest = f".{last}{rest}"
            if not former:  # a class of PyTorch's own
                return name
        if former not in self._names:
            # A class may name itself; all that it is made of gets its name before.
            self._names[former] = former
            plain = _COUNTER.sub("", former)
            text = re.sub(re.escape(former) + r"(?!\w)", _SELF, self._definitions[former])
            text = _renumbered(self.rename(text))
            new = self._known.get((plain, text))
            if new is None:
                qualifier, _, own = plain.rpartition(".")
                new = f"{qualifier}.___torch_mangle_{len(self._known)}.{own}"
                self._known[plain, text] = new
                file = new.rpartition(".")[0].replace(".", "/")
                self.files[f"{_CODE}{file}.py"] = text.replace(_SELF, new)
            self._names[former] = new
        return self._names[former] + rest


def _renumbered(text: str) -> str:
    """Number the variables of each function by where they are first used; they are counted by file.

    Their names without the number stay, and so do those of arguments.
    """
    lines = [line.encode() for line in text.splitlines()]
    try:
        tree = ast.parse(text)
    except SyntaxError as error:
        raise QuantizeError(
            f"TorchScript for the model has the line {(error.text or '').strip()!r}: name no "
            "module or attribute by a keyword of Python"
        ) from error
    # A function by itself, or the methods of a class.
    parts = [part for whole in tree.body for part in (whole, *getattr(whole, "body", ()))]
    for function in parts:
        if not isinstance(function, ast.FunctionDef):
            continue
        found = [node for node in ast.walk(function) if isinstance(node, ast.Name)]
        found.sort(key=lambda node: (node.lineno, node.col_offset))
        assigned = {node.id for node in found if isinstance(node.ctx, ast.Store)}
        assigned -= {argument.arg for argument in function.args.args}
        taken = {node.id for node in found} - assigned
        names: dict[str, str] = {}
        for node in found:
            if node.id in assigned and node.id not in names:
                base = node.id.rstrip("0123456789")
                free = (f"{base}{n}" for n in itertools.count() if f"{base}{n}" not in taken)
                names[node.id] = next(free)
                taken.add(names[node.id])
        # From the end of a line to its beginning, so that places stay valid.
        for node in reversed(found):
            if node.id in names:
                line, start = lines[node.lineno - 1], node.col_offset
                end = start + len(node.id.encode())
                lines[node.lineno - 1] = line[:start] + names[node.id].encode() + line[end:]
    return "".join(f"{line.decode()}\n" for line in lines)


def _renamed_globals(content: bytes, classes: _Classes) -> bytes:
    """Return a pickle with the new names of classes, where it names one."""
    parts, copied = [], 0
    operations = [*pickletools.genops(content)]
    ends = [position or 0 for _, _, position in operations[1:]] + [len(content)]
    for (opcode, argument, start), end in zip(operations, ends, strict=True):
        if opcode.name == "GLOBAL":
            name = classes.rename(str(argument).replace(" ", "."))
            module, _, attribute = name.rpartition(".")
            new = f"c{module}\n{attribute}\n".encode()
        elif opcode.name == "BINUNICODE" and "__torch__" in str(argument):
            text = classes.rename(str(argument)).encode()
            new = b"X" + struct.pack("<I", len(text)) + text
        else:
            continue
        parts += [content[copied:start], new]
        copied = end
    return b"".join([*parts, content[copied:]])
