"""Plan the memory of planes: each is kept from the layer that writes it to its last reader."""

from __future__ import annotations

from collections.abc import Sequence

from quantize.c_engine.engine_layers import ALIGNMENT, Layer, Plane

# Kernels may read whole blocks of pixels behind a plane's end, and never use what is there.
SLACK = 4096
SLACK_PIXELS = 32


def plan_arena(layers: Sequence[Layer], image: Plane) -> tuple[int, int]:
    """Give each plane its offset; planes that are needed at the same time do not overlap.

    Args:
        layers: in order; the offsets of their planes are set.
        image: the plane that is written before the first layer.

    Returns:
        The bytes of the arena, and the offset of the scratch memory behind all planes.
    """
    first, last = {image: 0}, {image: 0}
    for place, layer in enumerate(layers):
        for plane in (layer.y, layer.sums):
            if plane is not None:
                first.setdefault(plane, place)
        for plane in (layer.y, layer.sums, *layer.inputs, *layer.gates):
            if plane is not None:
                last[plane] = place
    placed: list[Plane] = []
    # The largest come first: the small ones fit into the gaps between them.
    for plane in sorted(first, key=lambda each: -each.bytes):
        busy = sorted(
            (other.offset, other.offset + _room(other))
            for other in placed
            if first[plane] <= last[other] and first[other] <= last[plane]
        )
        offset = 0
        for start, end in busy:
            if offset + _room(plane) <= start:
                break
            offset = max(offset, end)
        plane.offset = offset
        placed.append(plane)
    scratch = max(plane.offset + _room(plane) for plane in placed)
    behind = max(SLACK, SLACK_PIXELS * max(plane.channels for plane in placed))
    return scratch + _aligned(max(layer.scratch for layer in layers)) + behind, scratch


def _room(plane: Plane) -> int:
    return _aligned(plane.bytes) + ALIGNMENT


def _aligned(size: int) -> int:
    return -(-size // ALIGNMENT) * ALIGNMENT
