"""Files that should not be trusted: whole ones of every format, and every way of damaging them.

A corpus is a function of (format, number, seed): crafted files first, then damage of whole ones.
"""

from __future__ import annotations

import io
import json
import struct
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import torch

NUM, DIM = 12, 4


@dataclass(frozen=True)
class Case:
    """A file: what it is, its ending, its bytes, and whether reading it would be a mistake."""

    what: str
    ending: str
    content: bytes
    must_refuse: bool = False


def rows(rng: np.random.Generator, dtype: str = "float32") -> np.ndarray:
    return rng.normal(size=(NUM, DIM)).astype(dtype)


def npy(array: np.ndarray) -> bytes:
    file = io.BytesIO()
    np.lib.format.write_array(file, array, allow_pickle=array.dtype.hasobject)
    return file.getvalue()


def npz(rng: np.random.Generator) -> bytes:
    file = io.BytesIO()
    save = np.savez_compressed if rng.integers(2) else np.savez
    save(file, x=rows(rng), y=rows(rng), labels=np.arange(NUM) % 3)
    return file.getvalue()


def safetensors(rng: np.random.Generator) -> bytes:
    from safetensors.torch import save

    z = torch.from_numpy(rows(rng))
    kind = (torch.float16, torch.bfloat16, torch.float32, torch.float64, torch.int8)[rng.integers(5)]
    return save({"features": z.to(kind), "labels": torch.arange(NUM)}, {"made": "here"})


def saved(value: object) -> bytes:
    file = io.BytesIO()
    torch.save(value, file)
    return file.getvalue()


def pt(rng: np.random.Generator) -> bytes:
    z = torch.from_numpy(rows(rng))
    ids = [f"r{i}" for i in range(NUM)]
    return saved(z if rng.integers(2) else {"features": z.half(), "ids": ids, "labels": torch.arange(NUM)})


def faiss(rng: np.random.Generator) -> bytes:
    import faiss as library

    index = (library.IndexFlatL2, library.IndexFlatIP)[rng.integers(2)](DIM)
    if rng.integers(2):
        index = library.IndexIDMap2(index)
        index.add_with_ids(rows(rng), np.arange(NUM) + 7)
    else:
        index.add(rows(rng))
    return library.serialize_index(index).tobytes()


def csv(rng: np.random.Generator, apart: str = ",") -> bytes:
    lines = [["id", *(f"emb_{k}" for k in range(DIM)), "label"]]
    lines += [[f"r{i}", *map(str, row), str(i % 3)] for i, row in enumerate(rows(rng))]
    return "".join(apart.join(cells) + "\n" for cells in lines).encode()


def jsonl(rng: np.random.Generator) -> bytes:
    z = rows(rng).tolist()
    lines = [json.dumps({"id": f"r{i}", "embedding": row, "label": i % 3}) for i, row in enumerate(z)]
    return ("\n".join(lines) + "\n").encode()


def table(rng: np.random.Generator):
    import pyarrow as pa

    z = rows(rng)
    columns = {"id": [f"r{i}" for i in range(NUM)], "label": list(range(NUM))}
    if rng.integers(3) == 0:
        return pa.table(columns | {f"emb_{k}": z[:, k] for k in range(DIM)})
    flat = pa.array(z.reshape(-1))
    if rng.integers(2):
        return pa.table(columns | {"embedding": pa.FixedSizeListArray.from_arrays(flat, DIM)})
    places = pa.array(np.arange(0, NUM * DIM + 1, DIM, dtype=np.int32))
    return pa.table(columns | {"embedding": pa.ListArray.from_arrays(places, flat)})


def parquet_of(table, **options) -> bytes:
    import pyarrow.parquet as pq

    file = io.BytesIO()
    pq.write_table(table, file, **({"write_page_checksum": True} | options))
    return file.getvalue()


def parquet(rng: np.random.Generator) -> bytes:
    return parquet_of(table(rng), row_group_size=int(rng.integers(3, 20)))


def arrow_of(table, stream: bool = False) -> bytes:
    import pyarrow as pa

    file = io.BytesIO()
    with (pa.ipc.new_stream if stream else pa.ipc.new_file)(file, table.schema) as writer:
        writer.write_table(table, max_chunksize=5)
    return file.getvalue()


def arrow(rng: np.random.Generator) -> bytes:
    return arrow_of(table(rng), bool(rng.integers(2)))


WHOLE: dict[str, Callable[[np.random.Generator], bytes]] = {
    ".npy": lambda rng: npy(rows(rng, ("float16", "float32", "float64")[rng.integers(3)])),
    ".npz": npz,
    ".safetensors": safetensors,
    ".pt": pt,
    ".faiss": faiss,
    ".csv": csv,
    ".tsv": lambda rng: csv(rng, "\t"),
    ".jsonl": jsonl,
    ".parquet": parquet,
    ".arrow": arrow,
}
TEXT = (".csv", ".tsv", ".jsonl")


def structure(ending: str, content: bytes) -> list[int]:
    """Offsets where something begins or ends."""
    marks = {0, 1, 2, 3, 4, 6, 7, 8, 9, 10, 12, 16, 32, 64, 128}
    size = len(content)
    marks |= {size - back for back in (1, 2, 4, 8, 12, 16, 22, 46)} | {size // 2}
    for mark in (b"PK\x03\x04", b"PK\x01\x02", b"PK\x05\x06", b"}", b"\n", b"PAR1", b"ARROW1", b"IxF"):
        at = content.find(mark)
        while at >= 0 and len(marks) < 200:
            marks |= {at, at + 1, at + len(mark)}
            at = content.find(mark, at + 1)
    return sorted(mark for mark in marks if 0 <= mark < size)


def damaged(ending: str, num: int, rng: np.random.Generator) -> Iterator[Case]:
    """``num`` whole files, each damaged in one way."""
    whole = [WHOLE[ending](rng) for _ in range(16)]
    for i in range(num):
        content = bytearray(whole[i % len(whole)])
        size, kind = len(content), i % 10
        strict = ending not in TEXT
        if kind == 0:
            marks = structure(ending, bytes(content))
            cut = marks[i // 10 % len(marks)]
            yield Case(f"cut at its structure, byte {cut} of {size}", ending, bytes(content[:cut]), strict)
        elif kind in (1, 2):
            cut = int(rng.integers(size))
            yield Case(f"cut at byte {cut} of {size}", ending, bytes(content[:cut]), strict)
        elif kind in (3, 4, 5):
            bits = rng.integers(8 * size, size=int(rng.integers(1, 9)))
            for bit in bits:
                content[bit // 8] ^= 1 << bit % 8
            yield Case(f"bits {bits.tolist()} flipped", ending, bytes(content))
        elif kind == 6:
            stop = min(size, 400)
            start = int(rng.integers(stop))
            content[start:stop] = rng.bytes(stop - start)
            yield Case(f"random bytes {start} to {stop}", ending, bytes(content))
        elif kind == 7:
            start = max(0, size - 400) + int(rng.integers(min(size, 400)))
            content[start:] = rng.bytes(size - start)
            yield Case(f"random bytes from {start} on", ending, bytes(content))
        elif kind == 8:
            more = rng.bytes(int(rng.integers(1, 50))) if i % 20 == 8 else bytes(content[: 1 + i % 64])
            refused = strict and ending in (".npy", ".safetensors", ".faiss")
            yield Case(f"{len(more)} bytes too many", ending, bytes(content) + more, refused)
        else:
            start, stop = sorted(rng.integers(size, size=2).tolist())
            other = whole[(i + 1) % len(whole)]
            pieces = (b"", bytes(stop - start), b"\xff" * (stop - start), other[start:stop], rng.bytes(500))
            content[start:stop] = pieces[i // 10 % len(pieces)]
            yield Case(f"bytes {start} to {stop} replaced", ending, bytes(content))


def crafted_safetensors(rng: np.random.Generator) -> Iterator[tuple[str, bytes]]:
    data = rows(rng).tobytes()

    def made(header: object, content: bytes = data) -> bytes:
        text = header if isinstance(header, bytes) else json.dumps(header).encode()
        return struct.pack("<Q", len(text)) + text + content

    one = {"dtype": "F32", "shape": [NUM, DIM], "data_offsets": [0, len(data)]}
    text = json.dumps(one)
    yield "two tensors of one name", made(f'{{"z": {text}, "z": {text}}}'.encode())
    yield "overlapping tensors", made({"a": one, "b": one})
    yield "a hole", made({"z": one | {"data_offsets": [8, 8 + len(data)]}}, data + bytes(8))
    yield "header of 2^63 bytes", struct.pack("<Q", 1 << 63) + b"{}"
    yield "header of 99 999 999 bytes", struct.pack("<Q", 99_999_999) + b"{}"
    yield "NaN in the header", made(b'{"z": {"dtype": "F32", "shape": [NaN, 4], "data_offsets": [0, 192]}}')
    yield "a shape of 2^62 rows", made({"z": one | {"shape": [1 << 62, 4]}})
    yield "a negative shape", made({"z": one | {"shape": [-12, -4]}})
    yield "a shape of 1 000 000 numbers", made({"z": one | {"shape": [2] * 1_000_000}})
    yield "a true for a number", made({"z": one | {"shape": [True, 48]}})
    yield "an unknown dtype", made({"z": one | {"dtype": "F32x"}})
    yield "a dtype that is a list", made({"z": one | {"dtype": ["F32"]}})
    yield "a key too many", made({"z": one | {"extra": 1}})
    yield "a header that is a list", made([one])
    yield "a deep header", made(b'{"z":' + b"[" * 100_000)
    yield "metadata that is no text", made({"__metadata__": {"a": 1}, "z": one})
    yield "many names", made({f"k{i}": one | {"data_offsets": [0, 0]} for i in range(20_000)})
    yield "a number of 5000 digits", made(b'{"z": {"dtype": "F32", "shape": [' + b"9" * 5000 + b"]}}")
    yield "tensors, none a matrix", made({"z": one | {"shape": [len(data) // 4]}})
    yield "no tensors", made({}, b"")


def crafted_npy(rng: np.random.Generator) -> Iterator[tuple[str, bytes]]:
    def made(header: str, data: bytes = b"", version: bytes = b"\1\0") -> bytes:
        text = header.encode("latin-1") + b"\n"
        length = struct.pack("<H" if version == b"\1\0" else "<I", len(text))
        return b"\x93NUMPY" + version + length + text + data

    def of(descr: str, shape: str, fortran: str = "False") -> str:
        return f"{{'descr': {descr}, 'fortran_order': {fortran}, 'shape': {shape}}}"

    data = rows(rng).tobytes()
    for shape in ("(1000000000000, 1024)", "(-12, -4)", f"({1 << 63}, 4)", "(12.0, 4)", "(True, 48)", "12"):
        yield f"shape {shape}", made(of("'<f4'", shape), data)
    yield "a header of 20 000 letters", made(of("'<f4'", "(12, 4)") + " " * 20_000, data)
    yield "version 9.0", made(of("'<f4'", "(12, 4)"), data, b"\x09\0")
    for descr in (
        "'|O'",
        "[('a', '<f4')]",
        "('<f4', (4,))",
        "'<c8'",
        "'<i8'",
        "'|b1'",
        "'<M8[s]'",
        "'>f4x'",
        "''",
    ):
        yield f"dtype {descr}", made(of(descr, "(12, 4)"), data)
    yield "fortran_order that is a number", made(of("'<f4'", "(12, 4)", "1"), data)
    yield "a header that calls", made("__import__('os').system('true')", data)
    yield "a deep header", made("(" * 5000)
    yield "an object array", npy(np.array([{"a": 1}], dtype=object))
    yield "a vector", npy(np.arange(5.0))
    yield "three dimensions", npy(np.zeros((2, 3, 4)))
    yield "no numbers", npy(np.zeros((0, 4), dtype="float32"))
    yield "no dimensions", npy(np.zeros((4, 0), dtype="float32"))
    yield "texts", npy(np.array([["a", "b"]]))


def crafted_npz(rng: np.random.Generator) -> Iterator[tuple[str, bytes]]:
    def made(members: list[tuple[str, bytes]], method: int = zipfile.ZIP_STORED) -> bytes:
        file = io.BytesIO()
        with zipfile.ZipFile(file, "w", method) as archive:
            for name, content in members:
                info = zipfile.ZipInfo(name)
                info.compress_type = method
                archive.writestr(info, content)
        return file.getvalue()

    good = npy(rows(rng))
    yield "a bomb", made([("x.npy", npy(np.zeros((4_000_000, 4), dtype="float32")))], zipfile.ZIP_DEFLATED)
    yield "an array twice", made([("x.npy", good), ("x", good)])
    yield "no arrays", made([])
    yield "an object array", made([("x.npy", npy(np.array([{}], dtype=object)))])
    yield "an archive in an archive", made([("x.npy", made([("x.npy", good)]))])
    for what, header in crafted_npy(rng):
        yield f"a member with {what}", made([("x.npy", header)])
    locked = bytearray(made([("x.npy", good)]))
    locked[6] |= 1
    locked[locked.find(b"PK\x01\x02") + 8] |= 1
    yield "an encrypted array", bytes(locked)
    wrong = bytearray(made([("x.npy", good)]))
    wrong[150] ^= 1
    yield "a wrong checksum", bytes(wrong)
    huge = bytearray(made([("x.npy", good)]))
    at = huge.find(b"PK\x01\x02")
    huge[at + 20 : at + 28] = b"\xff" * 8
    yield "sizes of 4 GiB", bytes(huge)


def crafted_text(ending: str) -> Iterator[tuple[str, bytes]]:
    yield "nothing", b""
    yield "a line break", b"\n"
    yield "a NUL", b"\0" * 50
    yield "UTF-16", "id,emb_0,emb_1\n1,2,3\n".encode("utf-16")
    yield "Latin-1", "id,emb_0,emb_1\n\xe9,2,3\n".encode("latin-1")
    yield "a line of 17 MiB", b"1" * (17 << 20)
    yield "a line that never ends in brackets", b"[" * (1 << 20)
    if ending == ".jsonl":
        for line in (
            b"3", b"[]", b"{}", b"null", b'{"id": 1}', b'{"a": [1], "b": [2]}', b'{"embedding": {}}',
            b'{"embedding": [1, 2], "embedding": [3, 4]}', b'{"embedding": ["1"]}', b'{"embedding": []}',
            b'{"embedding": [true, 1]}', b'{"embedding": [[1, 2], [3, 4]]}', b'{"embedding": [1, 2}',
            b'{"embedding": [1e999, 1]}', b'{"embedding": [' + b"9" * 400 + b", 1]}",
            b'{"embedding": [' + b"9" * 5000 + b", 1]}", b'{"embedding": ' + b"[" * 50_000,
        ):  # fmt: skip
            yield f"a record {line[:40]!r}", line + b"\n"
        yield "rows of different lengths", b'{"embedding": [1, 2]}\n{"embedding": [1, 2, 3]}\n'
        yield "a row without its list", b'{"embedding": [1, 2]}\n{"other": [1, 2]}\n'
        yield "a row of texts", b'{"embedding": [1, 2]}\n{"embedding": "1, 2"}\n'
        return
    a = "," if ending == ".csv" else "\t"
    for what, text in {
        "names alone": "id,emb_0,emb_1\n", "a cell too few": "emb_0,emb_1\n1,2\n1\n",
        "a column twice": "e_0,e_0\n1,2\n", "a cell too many": "emb_0,emb_1\n1,2\n1,2,3\n",
        "an open quote": 'emb_0,emb_1\n1,"2\n1,2\n', "texts": "emb_0,emb_1\na,b\n",
        "an empty cell": "emb_0,emb_1\n1,\n", "underscores": "emb_0,emb_1\n1_0,2\n",
        "no features": "id,label\n1,2\n", "a formula": "emb_0,emb_1\n=1+1,2\n",
        "a hex number": "emb_0,emb_1\n0x10,2\n", "a quote inside": 'emb_0,emb_1\n1"2,3\n',
        "a gap in the numbers": "emb_0,emb_2\n1,2\n",
        "lists of two lengths": 'embedding\n"[1,2]"\n"[1,2,3]"\n',
    }.items():  # fmt: skip
        yield what, (text if "lists" in what else text.replace(",", a)).encode()
