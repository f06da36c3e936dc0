"""Writes safetensors files whose bytes depend on nothing but their content (the library's metadata order does not)."""

import json

import numpy as np

DTYPES = {"float32": "F32", "int32": "I32"}


def save(tensors, path, metadata):
    header, offset, data = {"__metadata__": dict(sorted(metadata.items()))}, 0, []
    for name, value in tensors.items():
        value = np.ascontiguousarray(value)
        header[name] = {"dtype": DTYPES[str(value.dtype)], "shape": list(value.shape),
                        "data_offsets": [offset, offset + value.nbytes]}
        offset += value.nbytes
        data.append(value.tobytes())
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    with open(path, "wb") as f:
        f.write(len(text).to_bytes(8, "little") + text + b"".join(data))
