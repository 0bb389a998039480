"""The name that somebody meant: by its letters, or by what other programs call the same thing."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping

# Words of torchreid, FastReID, Ultralytics, BoxMOT, Torch-Pruning, NNCF and timm, and of everyday
# use -> what this program calls it. A word may mean several things; the first that is known counts.
MEANINGS: Mapping[str, tuple[str, ...]] = {
    # settings
    **dict.fromkeys(("lr", "lr0", "base_lr", "max_lr"), ("learning_rate",)),
    **dict.fromkeys(("head_lr", "fc_lr", "lr_head"), ("head_learning_rate",)),
    **dict.fromkeys(
        ("batch", "bs", "batch_size", "ims_per_batch", "train_batch_size"),
        ("identities_per_batch", "batch_size"),
    ),
    **dict.fromkeys(("num_instances", "num_instance", "instances"), ("images_per_identity",)),
    **dict.fromkeys(("wd", "decay"), ("weight_decay",)),
    **dict.fromkeys(("epoch", "max_epoch", "max_epochs", "num_epochs", "n_epochs"), ("epochs",)),
    **dict.fromkeys(("optim", "opt"), ("optimizer",)),
    **dict.fromkeys(("scheduler", "lr_scheduler", "sched"), ("schedule",)),
    **dict.fromkeys(("stepsize", "step_size", "steps"), ("milestones", "iterations")),
    **dict.fromkeys(("warmup", "warmup_iters"), ("warmup_epochs",)),
    **dict.fromkeys(("arch", "backbone", "net", "network", "model_name"), ("architecture",)),
    **dict.fromkeys(("feat_dim", "feature_dim", "dim", "dims"), ("embedding_dim", "dims")),
    **dict.fromkeys(("num_workers", "num_worker", "jobs"), ("workers",)),
    **dict.fromkeys(
        ("dataset", "datasets", "path", "dir", "folder", "data_dir", "dataset_dir", "source"),
        ("root", "data", "images"),
    ),
    **dict.fromkeys(("gpu", "gpus", "gpu_ids", "num_gpus", "gpu_devices"), ("devices",)),
    "cuda": ("device",),
    **dict.fromkeys(
        ("ckpt", "checkpoint", "weights", "load_weights", "init_weights", "model"),
        ("pretrained", "weights"),
    ),
    **dict.fromkeys(("label_smooth", "smooth", "smoothing"), ("label_smoothing",)),
    "margin": ("triplet_margin",),
    **dict.fromkeys(("ce", "xent", "softmax", "id_loss"), ("cross_entropy",)),
    **dict.fromkeys(("rea", "random_erase", "random_erasing", "erase"), ("erasing",)),
    **dict.fromkeys(("fliplr", "hflip", "random_flip"), ("flip",)),
    **dict.fromkeys(("amp", "fp16", "half", "bf16"), ("precision",)),
    **dict.fromkeys(
        ("ratio", "sparsity", "prune_ratio", "pruning_ratio", "amount", "channel_sparsity"),
        ("target",),
    ),
    **dict.fromkeys(("importance", "importance_type", "pruner"), ("criterion",)),
    **dict.fromkeys(("iterative_steps", "num_iterations", "rounds_of_pruning"), ("iterations",)),
    **dict.fromkeys(("round_to", "divisor", "align"), ("multiple",)),
    **dict.fromkeys(("ignored_layers", "ignored_scopes", "exclude"), ("untouched", "float_layers")),
    **dict.fromkeys(("kd", "distill", "teacher_model"), ("teacher",)),
    **dict.fromkeys(("calib", "num_calib", "subset_size"), ("calibration_images",)),
    **dict.fromkeys(("format", "formats", "include"), ("files", "format")),
    **dict.fromkeys(("runs", "repeats"), ("rounds",)),
    **dict.fromkeys(("metric", "dist_metric", "test_metric"), ("distance",)),
    # commands and stages
    **dict.fromkeys(("test", "eval", "val", "score"), ("evaluate", "benchmark")),
    "training": ("train", "run"),
    "train": ("run",),
    **dict.fromkeys(("prune", "quantize", "finetune", "pipeline"), ("run",)),
    **dict.fromkeys(("pruning", "slim"), ("prune", "run")),
    "compress": ("run", "prune"),
    **dict.fromkeys(("fine_tune", "fine-tune", "ft", "tune"), ("finetune",)),
    **dict.fromkeys(("quantise", "quantization", "int8", "qat", "ptq"), ("quantize", "onnx_int8")),
    **dict.fromkeys(("bench", "latency", "speed", "profile", "time"), ("benchmark",)),
    **dict.fromkeys(("convert", "deploy"), ("export",)),
    **dict.fromkeys(("register", "enroll", "index", "add"), ("enrol",)),
    **dict.fromkeys(("query", "recognise", "recognize", "lookup"), ("identify",)),
    **dict.fromkeys(("match", "same"), ("verify",)),
    **dict.fromkeys(("download", "synthesize", "synthetic", "unpack"), ("prepare",)),
    **dict.fromkeys(("list", "zoo", "archs"), ("models",)),
    **dict.fromkeys(("inspect", "validate", "lint"), ("check",)),
    # criteria
    **dict.fromkeys(("magnitude", "norm", "l2_norm", "l2norm"), ("l2",)),
    **dict.fromkeys(("l1_norm", "l1norm"), ("l1",)),
    **dict.fromkeys(("bn", "bn_scale", "slimming", "network_slimming"), ("batchnorm_scale",)),
    **dict.fromkeys(("geometric_median", "gm"), ("fpgm",)),
    **dict.fromkeys(("thinet", "lasso", "lstsq"), ("reconstruction",)),
    **dict.fromkeys(("gradient", "hessian"), ("taylor",)),
    # formats and architectures
    **dict.fromkeys(("torch_script", "jit", "ts"), ("torchscript",)),
    **dict.fromkeys(("trt", "engine", "tensorrt"), ("tensorrt_int8",)),
    "ov": ("openvino",),
    "et": ("executorch",),
    "r50": ("resnet50",),
    "r18": ("resnet18",),
    "osnet": ("osnet_x1_0",),
}
# A name is meant if so many of its letters are there in their order.
LIKENESS = 0.6
# One letter of two makes half of a short name.
SHORT, LIKENESS_OF_SHORT = 3, 0.5


def nearest_name(name: str, known: Iterable[str]) -> str | None:
    """Return the known name that is meant by another one, or None.

    Names with dots are settings: a word of another program stands for the last part, and a setting
    of the same section is nearer than the same one of another section.

    Args:
        name: what was given.
        known: what could be.
    """
    names = list(known)
    plain = {_plain(one): one for one in reversed(names)}
    if _plain(name) in plain:
        return plain[_plain(name)]
    section, _, leaf = name.rpartition(".")

    def by_section(one: str) -> float:
        found = one.rpartition(".")[0]
        # The first parts may be left out: qat.epochs is quantize.qat.epochs.
        return 1.0 if section and f".{found}".endswith(f".{section}") else _likeness(section, found)

    # The same word in another section, then what other programs call so, then the same letters.
    for word in (leaf, *MEANINGS.get(_plain(leaf), ())):
        meant = [one for one in names if one.rpartition(".")[2] == word]
        if meant:
            return max(meant, key=by_section)
    alike = {}
    near = []
    for one in names:
        word = one.rpartition(".")[2]
        least = LIKENESS_OF_SHORT if max(len(leaf), len(word)) < SHORT else LIKENESS
        alike[one] = max(_likeness(leaf, word), least if leaf in word.split("_") else 0.0)
        if alike[one] >= least and (not section or by_section(one) >= LIKENESS):
            near.append(one)
    return max(near, key=lambda one: (by_section(one), alike[one]), default=None)


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Return "did you mean 'train'? ", or nothing where no known name is near."""
    near = nearest_name(name, known)
    return f"did you mean {near!r}? " if near else ""


def _likeness(one: str, other: str) -> float:
    return difflib.SequenceMatcher(None, one, other).ratio()


def _plain(name: str) -> str:
    return name.strip("-").lower().replace("-", "_").replace(".", "_")
