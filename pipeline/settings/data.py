"""Section ``data``: images and how they are read."""

from pydantic import Field

from pipeline.settings.section import FilePath, Settings
from reid_edge.data.readers import READERS
from reid_edge.data.schema import Labels


class SyntheticImages(Settings):
    """The images that the program draws itself when ``data.root`` is not given."""

    train_identities: int = Field(96, ge=2, description="identities to train on")
    test_identities: int = Field(64, ge=2, description="identities in query and gallery")
    cameras: int = Field(4, ge=2, description="cameras")
    images_per_camera: int = Field(4, ge=2, description="images of each identity on each camera")
    seed: int = Field(0, ge=0, description="seed of all images")


class TrainingSource(Settings):
    """One more data set to train on."""

    format: str = Field("market1501", description="its layout, as in data.format")
    root: FilePath = Field(description="its folder")
    options: dict[str, bool | int | str] = Field(
        {}, description="options of its reader, as in data.options"
    )


class DataSettings(Settings):
    """Images and how they are read."""

    root: FilePath | None = Field(
        None, description="folder of the data set; none: synthetic pedestrians"
    )
    format: str = Field(
        "market1501",
        description=f"layout of the data set: {', '.join(READERS)}",
    )
    options: dict[str, bool | int | str] = Field(
        {},
        description="options of the layout's reader: train_all (msmt17, folders, cuhk01) and split "
        "(cuhk01, cuhk03-classic)",
    )
    also_train_on: tuple[TrainingSource, ...] = Field(
        (), description="more data sets ({format, root, options}) whose training images are added"
    )
    test_share: float = Field(
        0.2,
        gt=0,
        lt=1,
        description="share of identities for query and gallery, if the data set has none; of a set "
        "without identities, share of the images, at most 5,000, that models are measured on",
    )
    validation_share: float = Field(
        0.0,
        ge=0,
        lt=1,
        description="share of the training identities that every training is validated on, to keep "
        "the epoch with the best mAP; 0: no validation, the last epoch is kept",
    )
    synthetic: SyntheticImages = SyntheticImages()
    height: int = Field(256, ge=16, description="input height in pixels")
    width: int = Field(128, ge=16, description="input width in pixels")
    workers: int = Field(2, ge=0, description="processes that load images")
    cache: bool = Field(
        False,
        description="decode each training image once into a file in the run's folder (height x "
        "width x 3 bytes an image), which all epochs and stages but quantize read; results stay "
        "the same",
    )
    evaluation_batch: int = Field(64, ge=1, description="images in a batch of the evaluation")

    @property
    def labels(self) -> Labels:
        """Return what the layout says of who is in an image.

        Raises:
            DataError: the layout is not known.
        """
        return READERS.load(self.format).labels
