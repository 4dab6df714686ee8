"""Reads a .tflite into Python objects (the flatbuffer object API of its schema) and writes them back to bytes."""

from pathlib import Path
from typing import Any

from amc_tf.errors import ConversionError

IDENTIFIER = b"TFL3"  # at byte 4 of every .tflite file


def contents(tflite: bytes | str | Path) -> bytes:
    """The bytes of a .tflite.

    Args:
        tflite: its bytes, or its path.

    Raises:
        ConversionError: there is no such file, or it is no .tflite.
    """
    if isinstance(tflite, bytes | bytearray):
        data, name = bytes(tflite), f"What was given ({len(tflite)} bytes)"
    else:
        name = f"The file {str(tflite)!r}"
        try:
            data = Path(tflite).read_bytes()
        except OSError as error:
            raise ConversionError(f"{name} cannot be read ({error.strerror}); give the path of a .tflite.") from error
    if data[4:8] != IDENTIFIER:
        raise ConversionError(
            f"{name} is no .tflite: expected {IDENTIFIER!r} at byte 4, found {data[4:8]!r}; make one with convert()."
        )
    return data


def unpack(tflite: bytes | str | Path) -> Any:
    """Reads a .tflite into the schema's ModelT, whose weights are views of the bytes.

    Raises:
        ConversionError: as `contents`.
    """
    from ai_edge_litert import schema_py_generated as schema

    return schema.ModelT.InitFromPackedBuf(contents(tflite), 0)


def pack(model: Any) -> bytes:
    """Writes a ModelT as a .tflite, with weights aligned to 16 bytes as the schema demands."""
    import flatbuffers

    class Builder(flatbuffers.Builder):
        """Aligns buffers to 16 bytes: the schema says force_align 16, but the generated Python code aligns to 4."""

        def StartVector(self, elemSize, numElems, alignment):
            aligned = 16 if elemSize == 1 and numElems >= 16 else alignment
            return super().StartVector(elemSize, numElems, aligned)

    weights = sum(buffer.data.size for buffer in model.buffers if buffer.data is not None)
    builder = Builder(weights + (1 << 20))  # room for everything, since the builder grows by copying
    builder.Finish(model.Pack(builder), file_identifier=IDENTIFIER)
    return bytes(builder.Output())
