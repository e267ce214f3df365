"""Tensors to Triton's messages and back.

Rows of several requests are written one after another into one message: that copy is the only one made here.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from tritonclient.grpc import service_pb2
from tritonclient.utils import deserialize_bytes_tensor, serialize_byte_tensor

from models.catalog.card import Card, TensorSpec
from services.runtime.problems import engine_failed
from services.runtime.protocol import Tensor
from services.runtime.tensors import DTYPES, Signature


class Wire:
    """The messages of one version of a model."""

    def __init__(self, card: Card, signature: Signature) -> None:
        self._card = card
        self._batched = signature.batched
        self._inputs = [(spec.name, spec, self._flat(spec)) for spec in card.inputs]
        self._outputs = {spec.name: spec for spec in card.outputs}

    def request(self, outputs: Sequence[str]) -> Any:
        """A request without inputs. It names the version: what was prepared for one must not be run by another."""
        request = service_pb2.ModelInferRequest(model_name=self._card.name, model_version=self._card.version)
        for name in outputs:
            request.outputs.add(name=name)
        return request

    def sizes(self, parts: Sequence[Mapping[str, Tensor]]) -> int:
        """Bytes of all inputs together; 0 when there are texts among them, which have no fixed size."""
        if any(spec.datatype == "BYTES" for _, spec, _ in self._inputs):
            return 0
        return sum(array.nbytes for part in parts for array in part.values())

    def put(self, request: Any, parts: Sequence[Mapping[str, Tensor]]) -> None:
        """Put the rows of ``parts``, all of one shape but for the first axis, into the message itself."""
        for name, spec, flat in self._inputs:
            arrays = [part[name] for part in parts]
            self._describe(request, spec, arrays, flat)
            request.raw_input_contents.append(_bytes(spec, arrays))

    def share(self, request: Any, parts: Sequence[Mapping[str, Tensor]], region: str, memory: memoryview) -> None:
        """Write the rows into shared memory, and only say in the message where they are."""
        offset = 0
        for name, spec, flat in self._inputs:
            arrays = [part[name] for part in parts]
            described = self._describe(request, spec, arrays, flat)
            size = sum(array.nbytes for array in arrays)
            target = np.frombuffer(memory, arrays[0].dtype, size // arrays[0].itemsize, offset)
            np.concatenate([array.reshape(-1) for array in arrays], out=target)
            described.parameters["shared_memory_region"].string_param = region
            described.parameters["shared_memory_byte_size"].int64_param = size
            described.parameters["shared_memory_offset"].int64_param = offset
            offset += -(-size // 64) * 64

    def outputs(self, response: Any, names: Sequence[str]) -> dict[str, Tensor]:
        """The arrays of an answer, which are the caller's to write to. Raises ``engine-failed``."""
        found: dict[str, Tensor] = {}
        for described, raw in zip(response.outputs, response.raw_output_contents, strict=True):
            spec = self._outputs.get(described.name)
            if spec is None or spec.datatype != described.datatype:
                raise engine_failed(
                    f"{self._card.name}: Triton answers {described.name!r} as {described.datatype}, "
                    "which its card does not have."
                )
            if spec.datatype == "BYTES":
                array = deserialize_bytes_tensor(raw)
            else:
                array = np.frombuffer(bytearray(raw), DTYPES[spec.datatype])
            shape = tuple(described.shape)
            found[described.name] = array.reshape(shape[:1] if self._flat(spec) else shape)

        missing = [name for name in names if name not in found]
        if missing:
            raise engine_failed(f"{self._card.name}: Triton's answer lacks {missing[0]!r}.")

        return {name: found[name] for name in names}

    def _flat(self, spec: TensorSpec) -> bool:
        """Whether a row is one number: Triton wants an axis of its own for it (``reshape`` in its configuration)."""
        return self._batched and len(spec.shape) == 1

    @staticmethod
    def _describe(request: Any, spec: TensorSpec, arrays: Sequence[Tensor], flat: bool) -> Any:
        shape = arrays[0].shape
        if len(arrays) > 1:
            shape = (sum(len(array) for array in arrays), *shape[1:])
        return request.inputs.add(name=spec.name, datatype=spec.datatype, shape=(*shape, 1) if flat else shape)


def _bytes(spec: TensorSpec, arrays: Sequence[Tensor]) -> bytes:
    if spec.datatype == "BYTES":
        joined = arrays[0] if len(arrays) == 1 else np.concatenate(arrays)
        return bytes(serialize_byte_tensor(joined).item()) if joined.size else b""
    if len(arrays) == 1:
        return arrays[0].tobytes()
    return b"".join([array.reshape(-1).view(np.uint8).data for array in arrays])


@dataclass(frozen=True, slots=True, eq=False)
class Wanted:
    """A version that is to be served on every server."""

    card: Card
    wire: Wire
