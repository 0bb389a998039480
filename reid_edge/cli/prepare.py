"""``reid-edge prepare``: a checked data set in the Market-1501 layout, or crops of a video."""

import argparse
from pathlib import Path

from rich.console import Console

from reid_edge.cli.progress_bars import progress_bars
from reid_edge.core.errors import DataError
from reid_edge.data.readers import READERS

HELP = (
    "download or unpack a data set, check its counts, write it in the Market-1501 layout; or cut "
    "the persons out of a video"
)
# Drawn, not read: walking pedestrians in the MOTChallenge layout.
SEQUENCES = "synthetic-mot"
DRAWN = ("seed", "cameras", "persons", "frames")
# For crops of a video.
CUT = ("boxes", "camera", "every")
READ = ("source", "max_ids", "split", "train_all", "allow_other_counts")
SPELLED = {"source": "from"}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    parser.add_argument(
        "name",
        nargs="?",
        help=f"data set: {', '.join(READERS)}; or {SEQUENCES}: draw pedestrians who walk past "
        "cameras, in the MOTChallenge layout",
    )
    parser.add_argument(
        "--from", dest="source", type=Path, metavar="PATH",
        help="local archive or folder (default: download from Kaggle, if the set is there)",
    )  # fmt: skip
    parser.add_argument(
        "--to",
        dest="target",
        type=Path,
        metavar="FOLDER",
        help="folder to write (default: data/NAME, of a video its name)",
    )
    parser.add_argument(
        "--max-ids", type=int, metavar="N", help="keep the first N identities of train and of test"
    )
    parser.add_argument(
        "--split",
        type=int,
        metavar="N",
        help="which of the 20 splits of CUHK01 or of CUHK03's classic protocol, 0 to 19",
    )
    parser.add_argument(
        "--train-all",
        action="store_true",
        help="also train on the validation images, if there are any; of CUHK01 on all people",
    )
    parser.add_argument(
        "--allow-other-counts", action="store_true",
        help="only warn if the counts are not the published ones",
    )  # fmt: skip
    cut = parser.add_argument_group(
        "crops of a video, for data.format=tracklets or unlabelled (docs/guide/without-labels.md)"
    )
    cut.add_argument(
        "--video", type=Path, metavar="PATH",
        help="a video, or a folder of frames such as 000001.jpg, in the place of NAME",
    )  # fmt: skip
    cut.add_argument(
        "--boxes", type=Path, metavar="FILE",
        help="boxes of persons in the MOTChallenge layout: frame,id,left,top,width,height,"
        "confidence; an id of -1 means that there are no tracks",
    )  # fmt: skip
    cut.add_argument("--camera", type=int, metavar="N", help="number of the camera (default: 1)")
    cut.add_argument(
        "--every", type=int, metavar="N",
        help="take every Nth box of a track, without tracks of every Nth frame (default: 1)",
    )  # fmt: skip
    drawn = parser.add_argument_group(SEQUENCES)
    for name, what in (
        ("seed", "of all that is drawn (default: 0)"),
        ("cameras", "each gives a sequence (default: 2)"),
        ("persons", "who walk past all cameras (default: 14)"),
        ("frames", "of a sequence, 10 a second (default: 300)"),
    ):
        drawn.add_argument(f"--{name}", type=int, metavar="N", help=what)


def run(options: argparse.Namespace) -> int:
    """Prepare the data set and say where it is.

    Returns:
        0.

    Raises:
        DataError: the data set cannot be had, or is not what was published. Or a video or its
            boxes cannot be read.
    """
    if options.video is not None:
        return _cut(options)
    for name in CUT:
        if getattr(options, name) is not None:
            raise DataError(f"--{name} is for --video")
    if options.name is None:
        raise DataError("give the name of a data set, or a video with --video and --boxes")
    target = options.target or Path("data") / options.name
    draws = options.name == SEQUENCES
    for name in READ if draws else DRAWN:
        given = getattr(options, name)
        if given is not None and given is not False:
            other = f"is not for {SEQUENCES}" if draws else f"is for {SEQUENCES}"
            raise DataError(f"--{SPELLED.get(name, name).replace('_', '-')} {other}")
    if draws:
        return _draw(options, target)
    from reid_edge.data.prepare import prepare
    from reid_edge.data.schema import Counts

    reader_options: dict[str, object] = {}
    if options.split is not None:
        reader_options["split"] = options.split
    if options.train_all:
        reader_options["train_all"] = True
    with progress_bars() as start:
        data = prepare(
            options.name,
            options.source,
            target,
            max_ids=options.max_ids,
            allow_other_counts=options.allow_other_counts,
            options=reader_options,
            progress=start,
        )
    console = Console(soft_wrap=True, highlight=False)
    console.print(f"{target}: {Counts.of(data)}", markup=False)
    return 0


def _cut(options: argparse.Namespace) -> int:
    """Cut crops out of a video."""
    from reid_edge.data.prepare.video_crops import prepare_crops

    for name in ("name", *READ, *DRAWN):
        given = getattr(options, name)
        if given is not None and given is not False:
            shown = given if name == "name" else f"--{SPELLED.get(name, name).replace('_', '-')}"
            raise DataError(f"{shown} does not go with --video")
    if options.boxes is None:
        raise DataError(
            f"--video {options.video} needs --boxes FILE: the persons are cut out by the boxes of "
            "a tracker or detector, which this program has none of; write them in the MOTChallenge "
            "layout (frame,id,left,top,width,height,confidence)"
        )
    given = {name: value for name in CUT[1:] if (value := getattr(options, name)) is not None}
    target = options.target or Path("data") / options.video.stem
    with progress_bars() as start:
        made = prepare_crops(
            options.video, options.boxes, target, **given, progress=start("cutting out")
        )
    if made is None:
        return 0
    console = Console(soft_wrap=True, highlight=False)
    tracks = f" of {made.tracks:,} tracks" if made.tracks else ""
    left_out = f"; {made.left_out:,} boxes left out, hardly in a frame" if made.left_out else ""
    console.print(
        f"{target}: {made.crops:,} images{tracks}, for data.format={made.data_format}{left_out}",
        markup=False,
    )
    return 0


def _draw(options: argparse.Namespace, target: Path) -> int:
    from reid_edge.data.synthetic import MotSettings, write_synthetic_mot

    given = {name: value for name in DRAWN if (value := getattr(options, name)) is not None}
    settings = MotSettings(**given)
    with progress_bars() as start:
        write_synthetic_mot(target, settings, start("drawing"))
    console = Console(soft_wrap=True, highlight=False)
    console.print(
        f"{target}: {settings.cameras} sequences of {settings.frames} frames, "
        f"{settings.persons} persons",
        markup=False,
    )
    return 0
