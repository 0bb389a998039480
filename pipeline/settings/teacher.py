"""Section ``teacher``: another model than the full-width one to learn from."""

from pydantic import Field

from pipeline.settings.section import ArchitectureName, FilePath, Settings


class TeacherSettings(Settings):
    """The model that compact models learn from, and without identities are compared with."""

    file: FilePath | None = Field(
        None,
        description="a model file of any kind (a checkpoint of another architecture, ONNX, "
        "TorchScript), or a table of embeddings (`.npy`, with the names of the images line by line "
        "in a `.txt` beside it); none: the full-width model",
    )
    architecture: ArchitectureName | None = Field(
        None, description="of a checkpoint that does not say what it is; none: as the file says"
    )
    cached: bool = Field(
        False,
        description="embed every training image once, as it is, and learn from these "
        "embeddings in all epochs, instead of those of the augmented images; without hints and "
        "class probabilities",
    )
