"""The card: everything that serving has to know about one model version, as data.

A card lies beside its weights as ``<repository>/<model>/<version>/card.json``. It is the only thing that the
runtime and the services read; they never look into a network.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PlainSerializer,
    field_validator,
    model_validator,
)

from models.catalog.detection import Detection
from models.catalog.geometry import ImageGeometry, ImagePreprocess, VideoClip
from models.catalog.old_cards import upgrade_output_kind, upgrade_outputs, upgrade_pipeline
from models.catalog.roles import Role

MODEL_NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}")
"""Names of models: no slash, no leading dot, so that a name is always one folder inside the repository."""

VERSION = re.compile(r"[1-9][0-9]{0,8}")
"""A version is a positive number, as Triton's version folders are."""

DataType = Literal[
    "BOOL",
    "UINT8",
    "UINT16",
    "UINT32",
    "UINT64",
    "INT8",
    "INT16",
    "INT32",
    "INT64",
    "FP16",
    "FP32",
    "FP64",
    "BYTES",
]
"""Element types as the Open Inference Protocol spells them."""

Task = Literal[
    "classify",
    "zero-shot-classify",
    "detect",
    "zero-shot-detect",
    "embed-text",
    "embed-image",
    "embed",
    "tensor",
]
"""What a model is for. ``tensor`` models are reachable through ``/v2`` only.

``detect`` finds the classes of its label set, ``zero-shot-detect`` what a request names.
"""


OutputKind = Literal["logits", "softmax", "sigmoid"]
"""What a classifier itself gives: any numbers, shares of one, or a probability a class."""

_IDS = re.compile(r"made by job \S+ for \S+|job job_\w+")
"""What cards of earlier releases said of keys and jobs. A card is for everybody: it is read without."""


def _without_ids(text: str) -> str:
    return "" if _IDS.fullmatch(text) else text


Public = Annotated[str, AfterValidator(_without_ids)]


class _Data(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class TensorSpec(_Data):
    """One input or output: ``shape`` counts the batch axis first; ``-1`` is any size."""

    name: str
    datatype: DataType
    shape: tuple[int, ...]


class TextPreprocess(_Data):
    """Text to ids with ``tokenizers``: ``tokenizer`` is a file of the model's own version folder.

    ``padding`` ``longest`` pads a batch to its longest text; ``max`` pads to ``max_length`` (CLIP towers).
    A text that is too long is cut so that its last token stays the end-of-text token. ``clean`` ``clip`` repairs and
    straightens a text first, as OpenAI's tokenizer does and Hugging Face's does not (models/text/clip_bpe.py).
    """

    tokenizer: str = "tokenizer.json"
    max_length: int = Field(ge=2, le=8192)
    padding: Literal["longest", "max"] = "longest"
    pad_id: int = 0
    ids_input: str = "input_ids"
    mask_input: str | None = "attention_mask"
    lowercase: bool = False
    clean: Literal["none", "clip"] = "none"


class Batching(_Data):
    """How requests are joined: no waiting unless ``max_delay_us`` says so; ``max_queue`` bounds waiting items.

    ``max_elements`` bounds the elements (pixels x channels, tokens) of all inputs of a batch where sizes vary; a single
    item above it is refused.
    """

    max_batch_size: int = Field(default=16, ge=1, le=4096)
    max_delay_us: int = Field(default=0, ge=0, le=1_000_000)
    max_queue: int = Field(default=512, ge=1)
    max_elements: int | None = Field(default=None, ge=1)


class Engine(_Data):
    """Which engine runs the weights, and why that one."""

    name: Literal["onnxruntime", "openvino", "torch"] = "onnxruntime"
    program: str | None = Field(
        default=None,
        pattern=r"^[a-z0-9][a-z0-9-]{0,63}$",
        description="What the torch worker runs with the weights: a name of models.programs",
    )
    intra_op_threads: int = Field(default=0, ge=0, description="0: one per physical core")
    precision: Literal["fp32", "bf16", "fp16", "int8"] = "fp32"
    gpu: Literal["cuda", "tensorrt"] = Field(default="cuda", description="What runs it on a GPU of an inference server")
    instances: int = Field(default=1, ge=1, le=64, description="Copies of it in one inference server")
    reason: str = ""

    @model_validator(mode="after")
    def _torch_runs_a_program(self) -> Engine:
        if (self.name == "torch") != (self.program is not None):
            raise ValueError("program names what engine torch runs: give both or neither")
        return self


class PartName(NamedTuple):
    """A model that a pipeline is made of: ``name@version``. Without a version the newest, once, when it is loaded.

    >>> PartName.parse("unicl-lite2-image@3")
    PartName(name='unicl-lite2-image', version='3')
    """

    name: str
    version: str | None = None

    def __str__(self) -> str:
        return self.name if self.version is None else f"{self.name}@{self.version}"

    @staticmethod
    def parse(value: object) -> PartName:
        """From its text; raises ``ValueError``."""
        if isinstance(value, PartName):
            return value
        name, at, version = str(value).partition("@")
        if not MODEL_NAME.fullmatch(name) or (at and not VERSION.fullmatch(version)):
            raise ValueError(f"{value!r} is no model: write name@version")
        return PartName(name, version or None)


Part = Annotated[PartName, BeforeValidator(PartName.parse), PlainSerializer(str, return_type=str)]


class Pipeline(_Data):
    """A model made of other models and of NumPy: ``kind`` names the code in ``services``, the rest is its data.

    ``parts`` are the models by their role in it (``image``, ``text``), each pinned to a version: they are opened
    together, and served until another version of the pipeline takes over.
    """

    kind: str
    parts: dict[str, Part] = Field(default_factory=dict)
    data: str | None = Field(default=None, description="A safetensors file in the version folder")
    parameters: dict[str, Any] = Field(default_factory=dict)

    @model_validator(mode="before")
    @classmethod
    def _read_old_form(cls, value: object) -> object:
        return upgrade_pipeline(value)

    def part(self, role: str) -> str:
        """The name of the part with this role, empty where it has none."""
        found = self.parts.get(role)
        return "" if found is None else found.name


class Licence(_Data):
    spdx: str
    file: str | None = Field(default=None, description="Licence text in the version folder")
    attribution: str = ""


class Provenance(_Data):
    """Where the weights came from, so that anybody can fetch and check the same bytes."""

    source: str
    member: str | None = None
    sha256: str
    note: Public = ""


class Measurement(_Data):
    """One figure. ``by`` says who measured it: ``sightline`` (with the command) or the publisher (with the source)."""

    dataset: str
    metric: str
    value: float
    n: int | None = None
    error: float | None = Field(default=None, description="Standard error, in the unit of value")
    note: str = ""
    by: str = "sightline"
    source: Public = Field(default="", description="The command or the publication")


class Card(_Data):
    """See the module's docstring. ``files`` maps every file of the version folder (but this one) to its sha256."""

    name: str
    version: str = "1"
    task: Task
    family: str
    title: str
    description: str
    inputs: tuple[TensorSpec, ...] = ()
    outputs: tuple[TensorSpec, ...] = ()
    image: ImageGeometry | None = None
    video: VideoClip | None = None
    text: TextPreprocess | None = None
    label_set: str | None = Field(
        default=None,
        description="A named label set of the catalog, or a text file of the version folder, one a line",
    )
    roles: dict[Role, str] = Field(default_factory=dict, description="Which output has which role, by its name")
    pipeline: Pipeline | None = None
    batching: Batching = Batching()
    engine: Engine = Engine()
    licence: Licence
    provenance: tuple[Provenance, ...] = ()
    measured: tuple[Measurement, ...] = ()
    limits: tuple[str, ...] = ()
    not_for: tuple[str, ...] = ()
    output_kind: OutputKind = Field(
        default="logits",
        description="What a classifier gives of itself; its role logits is the logarithm of a softmax, or the logit of "
        "a sigmoid, so that the model's own scores come back from it",
    )
    detection: Detection | None = Field(default=None, description="How a detector's outputs are read and answered")
    files: dict[str, str] = Field(default_factory=dict)

    @model_validator(mode="before")
    @classmethod
    def _read_old_form(cls, value: object) -> object:
        return upgrade_output_kind(upgrade_outputs(value))

    @model_validator(mode="after")
    def _roles_name_outputs(self) -> Card:
        names = [spec.name for spec in self.outputs]
        for role, output in self.roles.items():
            if output not in names:
                raise ValueError(f"{role!r} is the output {output!r}, but the outputs are {', '.join(names) or 'none'}")
        return self

    @field_validator("name")
    @classmethod
    def _name_is_one_folder(cls, value: str) -> str:
        if not MODEL_NAME.fullmatch(value):
            raise ValueError(f"model name {value!r} must match {MODEL_NAME.pattern}")
        return value

    @field_validator("version")
    @classmethod
    def _version_is_a_number(cls, value: str) -> str:
        if not VERSION.fullmatch(value):
            raise ValueError(f"version {value!r} must be a positive number, as Triton's version folders are")
        return value

    @property
    def square(self) -> ImagePreprocess | None:
        """Its ``image`` where every picture fills a square: what features are kept of and encoders trained with."""
        return self.image if isinstance(self.image, ImagePreprocess) else None

    @property
    def logits(self) -> str | None:
        """Name of the output that holds class logits ``(B, C)``."""
        return self.roles.get("logits")

    @property
    def embedding(self) -> str | None:
        """Name of the output that holds embeddings ``(B, D)``."""
        return self.roles.get("embedding")

    @property
    def modulation(self) -> str | None:
        """Name of the output that tells where the network looked, ``(B, h, w)``."""
        return self.roles.get("modulation")

    @staticmethod
    def read(folder: Path) -> Card:
        """The card of a version folder; raises ``OSError`` or ``pydantic.ValidationError``."""
        return Card.model_validate_json((folder / "card.json").read_bytes())
