"""Files made to run code, to fill the memory or to mislead: pickles, archives of torch, tables, indexes.

No pickle is ever made by pickling: the programs are written down as they would lie in a file.
"""

from __future__ import annotations

import decimal
import io
import struct
import zipfile
from collections.abc import Iterator

import numpy as np
import pyarrow as pa
import torch

import malformed


def programs(canary: str) -> list[tuple[str, bytes]]:
    """Twenty pickles that make the file ``canary`` when run, by (what, program)."""
    text = f"S'touch {canary}'\n".encode()
    python = f"S'open({canary!r}, \"w\").close()'\n".encode()
    path = f"S'{canary}'\n".encode()
    unicode = f"touch {canary}".encode()

    def call(function: bytes, argument: bytes) -> bytes:
        return b"c" + function + b"\n(" + argument + b"tR."

    binary = b"\x80\x04\x8c\x02os\x8c\x06system\x93" + b"\x8c" + bytes([len(unicode)]) + unicode
    return [
        ("os.system", call(b"os\nsystem", text)),
        ("posix.system", call(b"posix\nsystem", text)),
        ("os.popen", call(b"os\npopen", text)),
        ("eval", call(b"builtins\neval", python)),
        ("exec", call(b"builtins\nexec", python)),
        ("the old name of builtins", call(b"__builtin__\neval", python)),
        ("open", call(b"builtins\nopen", path + b"S'w'\n")),
        ("io.open", call(b"io\nopen", path + b"S'w'\n")),
        ("pathlib", b"cpathlib\nPath.touch\n(cpathlib\nPosixPath\n(" + path + b"tRtR."),
        ("subprocess", call(b"subprocess\ngetoutput", text)),
        ("getattr", b"cbuiltins\ngetattr\n(cos\nsystem\nS'__call__'\ntR(" + text + b"tR."),
        ("functools.partial", b"cfunctools\npartial\n(cos\nsystem\n" + text + b"tR(tR."),
        ("map", b"cbuiltins\nlist\n(cbuiltins\nmap\n(cos\nsystem\n(" + text + b"ltRtR."),
        ("INST", b"(" + text + b"ios\nsystem\n."),
        ("OBJ", b"(cos\nsystem\n" + text + b"o."),
        ("NEWOBJ", b"\x80\x02cos\nsystem\n(" + text + b"t\x81."),
        ("STACK_GLOBAL", binary + b"\x85R."),
        (
            "BUILD on a class",
            b"ccollections\nOrderedDict\n(tR(dS'__setstate__'\ncos\nsystem\nsb" + text + b"b.",
        ),
        ("runpy", call(b"runpy\nrun_path", path)),
        ("torch", call(b"torch.utils._config_module\nexec", python)),
        ("torch.jit", call(b"torch.jit._script\neval", python)),
        ("importlib", b"cimportlib\nimport_module\n(S'os'\ntR0cos\nsystem\n(" + text + b"tR."),
    ]


def carried(program: bytes, ending: str) -> Iterator[tuple[str, bytes]]:
    """The program as a plain pickle, as an array of objects, and in an archive of torch or NumPy."""
    yield "plain", program
    header = b"{'descr': '|O', 'fortran_order': False, 'shape': (1,)}\n"
    array = b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header + program
    yield "an array of objects", array
    for name, member in (("x.npy", array), ("x/data.pkl", program), ("data.pkl", program)):
        file = io.BytesIO()
        with zipfile.ZipFile(file, "w") as archive:
            archive.writestr(name, member)
            archive.writestr("x/version", b"3\n")
        yield f"an archive with {name}", file.getvalue()
    if ending == ".pt":
        yield "after a legacy magic number", b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19." + program


def repacked(content: bytes, change: dict[str, bytes | None], method: int = zipfile.ZIP_STORED) -> bytes:
    """An archive with members replaced (their last name -> content) or left out (None)."""
    file = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(content)) as old, zipfile.ZipFile(file, "w", method) as new:
        for member in old.infolist():
            tail = member.filename.rpartition("/")[2]
            replaced = change.get(tail, old.read(member))
            if replaced is not None:
                new.writestr(member.filename, replaced, method)
    return file.getvalue()


def crafted_pt(rng: np.random.Generator) -> Iterator[tuple[str, bytes]]:
    z = torch.from_numpy(malformed.rows(rng))
    good = malformed.saved(z)
    with zipfile.ZipFile(io.BytesIO(good)) as archive:
        name = next(each for each in archive.namelist() if each.endswith("data.pkl"))
        description = archive.read(name)
    for what, value in {
        "a number": 3,
        "a nested mapping": {"a": {"b": z}},
        "a list of tensors": [z, z],
        "a module": torch.nn.Linear(2, 2),
        "a transposed tensor": z.t(),
        "an expanded tensor": z[:1].expand(1 << 40, 4),
        "a sparse tensor": z.to_sparse(),
        "a vector": z[0],
        "three dimensions": z[None],
        "whole numbers": z.long(),
        "complex numbers": z.to(torch.complex64),
        "nothing": {},
        "keys that are numbers": {1: z},
        "texts": {"x": ["a"]},
        "a meta tensor": z.to("meta"),
        "a strided view": torch.arange(96.0).reshape(12, 8)[:, ::2],
    }.items():
        yield what, malformed.saved(value)
    yield "a compressed archive", repacked(good, {}, zipfile.ZIP_DEFLATED)
    yield "a bomb", repacked(good, {"0": bytes(50 << 20)}, zipfile.ZIP_DEFLATED)
    yield "data cut short", repacked(good, {"0": z.numpy().tobytes()[:-4]})
    yield "no data", repacked(good, {"0": None})
    yield "no description", repacked(good, {"data.pkl": None})
    yield "big-endian", repacked(good, {"byteorder": b"big"})
    yield "a TorchScript program", repacked(good, {"version": b"3\n"}).replace(b"byteorder", b"constants")
    for old, new in (
        (b"K0", b"J\xff\xff\xff\x7f"),
        (b"K\x30", b"J\xff\xff\xff\x7f"),
        (b"K\x0c", b"J\0\0\0\x7f"),
        (b"K\x04", b"J\xff\xff\xff\xff"),
    ):
        yield (
            f"{old!r} of the description made {new!r}",
            repacked(good, {"data.pkl": description.replace(old, new)}),
        )
    file = io.BytesIO()
    torch.save(z, file, _use_new_zipfile_serialization=False)
    yield "the format before torch 1.6", file.getvalue()


def crafted_faiss(rng: np.random.Generator) -> Iterator[tuple[str, bytes]]:
    import faiss

    z = malformed.rows(rng)
    flat = faiss.IndexFlatL2(4)
    flat.add(z)
    good = faiss.serialize_index(flat).tobytes()
    for at, form, number in (
        (4, "<i", -1),
        (4, "<i", 0),
        (4, "<i", 1 << 30),
        (8, "<q", -1),
        (8, "<q", 1 << 62),
        (8, "<q", 11),
        (32, "<B", 7),
        (33, "<i", -3),
        (33, "<i", 9),
        (37, "<Q", 1 << 63),
        (37, "<Q", 0),
        (37, "<Q", 47),
    ):
        content = bytearray(good)
        struct.pack_into(form, content, at, number)
        yield f"{number} at byte {at}", bytes(content)
    for other in (
        faiss.IndexHNSWFlat(4, 4),
        faiss.IndexIVFFlat(faiss.IndexFlatL2(4), 4, 2),
        faiss.IndexPQ(4, 2, 2),
        faiss.IndexLSH(4, 8),
        faiss.IndexScalarQuantizer(4, faiss.ScalarQuantizer.QT_8bit),
        faiss.IndexRefineFlat(faiss.IndexFlatL2(4)),
        faiss.IndexPreTransform(faiss.IndexFlatL2(4)),
        faiss.IndexIDMap(faiss.IndexHNSWFlat(4, 4)),
    ):
        yield type(other).__name__, faiss.serialize_index(other).tobytes()
    yield "ids of ids", b"IxMp" + good[4:37] + b"IxMp" + good[4:37] + good
    yield "ids that are missing", b"IxMp" + good[4:37] + good


def crafted_tables() -> Iterator[tuple[str, pa.Table]]:
    lists = [[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]]
    yield "ragged rows", pa.table({"embedding": [[1.0, 2.0], [3.0]]})
    yield "a row that is null", pa.table({"embedding": [[1.0, 2.0], None]})
    yield "a number that is null", pa.table({"embedding": [[1.0, None], [3.0, 4.0]]})
    yield "empty lists", pa.table({"embedding": pa.array([[], []], pa.list_(pa.float32()))})
    yield "nested lists", pa.table({"embedding": [[[1.0]], [[2.0]]]})
    yield "structs", pa.table({"embedding": [{"a": 1.0}, {"a": 2.0}]})
    yield "maps", pa.table({"embedding": pa.array([[("a", 1.0)]], pa.map_(pa.string(), pa.float64()))})
    yield "dictionaries of floats", pa.table({"embedding": pa.array([1.0, 2.0]).dictionary_encode()})
    yield "lists of texts", pa.table({"embedding": [["a", "b"]]})
    yield "lists of whole numbers", pa.table({"embedding": [[1, 2], [3, 4]]})
    yield "lists of bools", pa.table({"embedding": [[True, False]]})
    ten = [[decimal.Decimal("1.50"), decimal.Decimal("2.50")]]
    yield "decimals", pa.table({"embedding": pa.array(ten, pa.list_(pa.decimal128(5, 2)))})
    yield (
        "two columns of one name",
        pa.table([pa.array(lists), pa.array(lists)], names=["embedding", "embedding"]),
    )
    yield "no rows", pa.table({"embedding": pa.array([], pa.list_(pa.float32()))})
    yield "no columns", pa.table({})
    yield "texts alone", pa.table({"id": ["a", "b"]})
    yield "times", pa.table({"embedding": pa.array([1, 2], pa.timestamp("s"))})
    yield "bytes", pa.table({"embedding": [b"1234", b"5678"]})
    yield "a null column", pa.table({"embedding": pa.nulls(3)})
    yield "numbered columns with a null", pa.table({"emb_0": [1.0, None], "emb_1": [1.0, 2.0]})
    yield "numbered columns of two kinds", pa.table({"emb_0": [1.0, 2.0], "emb_1": ["a", "b"]})
    yield "a fixed size of 0", pa.table({"embedding": pa.array([[], []], pa.list_(pa.float32(), 0))})
    yield "large lists", pa.table({"embedding": pa.array(lists, pa.large_list(pa.float64()))})
    yield "a list view", pa.table({"embedding": pa.array(lists, pa.list_view(pa.float32()))})
    yield "a name of line breaks", pa.table({"embedding\nTraceback": lists, "b": lists})


def crafted_parquet(rng: np.random.Generator) -> Iterator[tuple[str, bytes]]:
    for what, table in crafted_tables():
        try:
            yield what, malformed.parquet_of(table)
        except (pa.ArrowException, NotImplementedError):
            continue  # this kind cannot be written as parquet
    good = malformed.table(rng)
    many = pa.table({"embedding": pa.array([[1.0, 2.0]] * 10_000, pa.list_(pa.float32(), 2))})
    yield "10 000 row groups", malformed.parquet_of(many, row_group_size=1)
    zeros = pa.table({"embedding": pa.array(np.zeros(4_000_000, dtype="float32"))})
    yield "a bomb of zeros", malformed.parquet_of(zeros, compression="zstd")
    content = bytearray(malformed.parquet_of(good))
    for length in (0, 1, 0xFFFFFFFF, len(content), 7):
        content[-8:-4] = struct.pack("<I", length)
        yield f"a footer of {length} bytes", bytes(content)
    yield "an encrypted one's ending", bytes(content[:-4]) + b"PARE"
    yield "the two marks alone", b"PAR1PAR1"


def crafted_arrow(rng: np.random.Generator) -> Iterator[tuple[str, bytes]]:
    for what, table in crafted_tables():
        yield what, malformed.arrow_of(table)
        yield f"{what}, as a stream", malformed.arrow_of(table, True)
    good = bytearray(malformed.arrow_of(malformed.table(rng)))
    for length in (0, 1, 0x7FFFFFFF, 0xFFFFFFFF, len(good)):
        good[-10:-6] = struct.pack("<I", length)
        yield f"a footer of {length} bytes", bytes(good)
    for length in (0x7FFFFFF0, 0xFFFFFFFF, 8, 0):
        yield (
            f"a stream that begins with {length}",
            b"\xff\xff\xff\xff" + struct.pack("<I", length) + bytes(64),
        )


CRAFTED = {
    ".npy": malformed.crafted_npy,
    ".npz": malformed.crafted_npz,
    ".safetensors": malformed.crafted_safetensors,
    ".pt": crafted_pt,
    ".faiss": crafted_faiss,
    ".csv": lambda rng: malformed.crafted_text(".csv"),
    ".tsv": lambda rng: malformed.crafted_text(".tsv"),
    ".jsonl": lambda rng: malformed.crafted_text(".jsonl"),
    ".parquet": crafted_parquet,
    ".arrow": crafted_arrow,
}


def corpus(ending: str, num: int, seed: int = 0) -> Iterator[malformed.Case]:
    """At least ``num`` files of one ending: crafted ones, all other formats under this ending, damage."""
    rng = np.random.default_rng([seed, *ending.encode()])
    made = 0
    for what, content in CRAFTED[ending](rng):
        yield malformed.Case(what, ending, content)
        made += 1
    for other, whole in malformed.WHOLE.items():
        if other != ending:
            yield malformed.Case(f"a {other} file", ending, whole(rng), {other, ending} != {".csv", ".tsv"})
            made += 1
    for what, program in programs("/nowhere/canary")[:10]:
        yield malformed.Case(f"a pickle: {what}", ending, program, True)
        made += 1
    yield from malformed.damaged(ending, max(0, num - made), rng)
