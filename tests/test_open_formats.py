"""Readers of safetensors, .pt, faiss and text against the libraries that write them."""

import json
import zlib

import faiss
import numpy as np
import pytest
import safetensors
import safetensors.torch
import torch

import malformed
import malicious
import spherometer as sm
from spherometer import rows, stores
from spherometer.cli import main
from spherometer.errors import InputError
from spherometer.stores._regular import RegularFile
from spherometer.stores._verified import Part, VerifiedFile

KINDS = (torch.float16, torch.bfloat16, torch.float32, torch.float64, torch.int8)


def features(kind: torch.dtype, num: int = 5000) -> torch.Tensor:
    values = torch.randn(num, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    return (values * 10).to(kind)


def read_all(opened) -> torch.Tensor:
    return torch.cat([block for _, block in rows.unit_blocks(opened.rows, 1 << 20)])


@pytest.mark.parametrize("kind", KINDS, ids=str)
@pytest.mark.parametrize("ending", [".safetensors", ".pt"])
def test_tensors_of_every_dtype_come_back_to_the_bit(ending, kind, tmp_path):
    z, labels, path = features(kind), torch.arange(5000), tmp_path / f"z{ending}"
    if ending == ".pt":
        torch.save({"features": z, "labels": labels}, path)
    else:
        safetensors.torch.save_file({"features": z, "labels": labels}, path)
    opened = stores.open(path, labels="labels")
    assert opened.dtype == str(kind).removeprefix("torch.")
    wide = torch.float64 if kind == torch.float64 else torch.float32
    assert torch.equal(read_all(opened), z.to(wide))
    assert torch.equal(opened.read(4090, 4100), z[4090:4100].to(wide))
    assert list(opened.labels) == list(range(5000))


def test_a_pt_file_of_one_tensor_a_view_and_a_parameter(tmp_path):
    z = features(torch.float32, 20)
    for value in (z, z[5:], torch.nn.Parameter(z)):
        torch.save(value, tmp_path / "z.pt")
        assert torch.equal(stores.open(tmp_path / "z.pt").read(0, 20), value.detach())


def flipped(path, tensor):
    """Flip one bit of the numbers of ``tensor`` in the file."""
    content = bytearray(path.read_bytes())
    numbers = tensor.numpy().tobytes()
    place = content.find(numbers) + len(numbers) // 2
    content[place] ^= 4
    path.write_bytes(content)


def test_a_flipped_bit_of_a_pt_file_is_noticed_in_what_was_read(tmp_path, capsys):
    z, y, labels, path = (
        features(torch.float32),
        features(torch.float32) + 1,
        torch.arange(5000),
        tmp_path / "z.pt",
    )
    why = (
        f"open: file {str(path)!r} must be a whole .pt file, because a damaged one has no trustworthy "
        "numbers. Got the checksum of 'z/data/0' is wrong. Write it again, or copy it again."
    )
    torch.save({"z": z, "y": y, "labels": labels}, path)
    flipped(path, z)
    opened = stores.open(path, column="z")
    with pytest.raises(InputError) as caught:
        read_all(opened)  # in order: by the last read
    assert str(caught.value) == why
    opened = stores.open(path, column="z")
    opened.read(4000, 5000)
    opened.read(0, 100)
    for _ in range(2):  # in any other order: by check, and again
        with pytest.raises(InputError) as caught:
            opened.check()
        assert str(caught.value) == why
    for call in (sm.measure, lambda each: sm.compare(each, path)):
        with pytest.raises(InputError, match="the checksum of 'z/data/0' is wrong"):
            call(path)
    assert main(["measure", str(path), "--column", "z"]) == 2
    assert capsys.readouterr().err == f"spherometer: {why}\n"
    opened = stores.open(path, column="y", labels="labels")  # of the others nothing is wrong
    assert torch.equal(read_all(opened), y)
    opened.check()
    views = stores.open(path, views=("y", "z"))
    views.other.read(0, 10)
    with pytest.raises(InputError, match="the checksum of 'z/data/0' is wrong"):
        views.check()


def test_a_flipped_bit_in_the_labels_or_the_description_of_a_pt_file(tmp_path):
    z, labels, path = features(torch.float32, 40), torch.arange(40), tmp_path / "z.pt"
    torch.save({"z": z, "labels": labels}, path)
    whole = path.read_bytes()
    flipped(path, labels)
    assert stores.open(path).shape == (40, 3)
    with pytest.raises(InputError, match="the checksum of 'z/data/1' is wrong"):
        stores.open(path, labels="labels")
    path.write_bytes(whole.replace(b"labels", b"lavels", 1))
    with pytest.raises(InputError, match=r"Bad CRC-32 for file 'z/data\.pkl'"):
        stores.open(path)
    torch.save(z[30:], path)  # a part of its storage: the rest is looked at by check
    flipped(path, z[:30])
    opened = stores.open(path)
    assert torch.equal(opened.read(0, 10), z[30:])
    with pytest.raises(InputError, match="the checksum of 'z/data/0' is wrong"):
        opened.check()


def test_a_pt_file_without_checksums_is_refused(tmp_path):
    path = tmp_path / "z.pt"
    torch.serialization.set_crc32_options(False)
    try:
        torch.save(features(torch.float32, 20), path)
    finally:
        torch.serialization.set_crc32_options(True)
    with pytest.raises(InputError) as caught:
        stores.open(path)
    assert str(caught.value) == (
        f"open: file {str(path)!r} must have checksums, because a damaged one has no trustworthy numbers. "
        "Got an archive without any. Save it after torch.serialization.set_crc32_options(True)."
    )


def test_parts_are_compared_in_any_order_of_reads(tmp_path):
    content = np.random.default_rng(0).integers(0, 256, 5000, dtype=np.uint8).tobytes()
    path = tmp_path / "bytes"
    path.write_bytes(content)
    spans = [(0, 1000), (1000, 1001), (1200, 5000)]
    generator = np.random.default_rng(1)
    for _ in range(200):
        wrong = int(generator.integers(0, 4))
        file = VerifiedFile(path)
        file.expect(
            Part(f"part {i}", a, b, zlib.crc32(content[a:b]) ^ (i == wrong)) for i, (a, b) in enumerate(spans)
        )
        touched, said = False, ""
        try:
            for _ in range(int(generator.integers(1, 6))):
                first, last = sorted(generator.integers(0, 5001, 2).tolist())
                a, b = spans[wrong] if wrong < 3 else (0, 0)
                touched |= max(first, a) < min(last, b)
                assert file.read(first, last - first) == content[first:last]
            file.check()
        except InputError as error:
            said = str(error)
        assert (f"the checksum of 'part {wrong}' is wrong" in said) == bool(said) == touched
    assert VerifiedFile(path).digest().sha256 == RegularFile(path).digest().sha256


def test_safetensors_is_never_taken_where_the_library_refuses(tmp_path):
    path, num = tmp_path / "z.safetensors", 0
    for case in malicious.corpus(".safetensors", 300, seed=3):
        path.write_bytes(case.content)
        try:
            z = stores.open(path)
        except InputError:
            continue
        with safetensors.safe_open(path, "pt") as theirs:
            name = "features" if "features" in theirs.keys() else z.name  # noqa: SIM118
            known = theirs.get_tensor(name).float().nan_to_num()
            assert torch.equal(known, z.read(0, len(z)).float().nan_to_num())
        num += 1
    assert num > 20


def indexes():
    z = features(torch.float32, 50).numpy()
    for make in (faiss.IndexFlatL2, faiss.IndexFlatIP, lambda d: faiss.IndexFlat(d, faiss.METRIC_L1)):
        index = make(3)
        index.add(z)
        yield index, None
    for wrap in (faiss.IndexIDMap, faiss.IndexIDMap2):
        index = wrap(faiss.IndexFlatIP(3))
        index.add_with_ids(z, np.arange(50) * 3 + 1)
        yield index, np.arange(50) * 3 + 1


@pytest.mark.parametrize("number", range(5))
def test_flat_indexes_of_faiss_come_back_with_their_ids(number, tmp_path):
    index, ids = list(indexes())[number]
    faiss.write_index(index, str(tmp_path / "z.faiss"))
    opened = stores.open(tmp_path / "z.faiss")
    flat = index if ids is None else faiss.downcast_index(index.index)
    assert np.array_equal(opened.read(0, 50).numpy(), flat.reconstruct_n(0, 50))
    assert (opened.ids is None) == (ids is None)
    assert ids is None or list(opened.ids) == [str(each) for each in ids]


def test_other_indexes_of_faiss_are_refused_by_name(tmp_path):
    index = faiss.IndexHNSWFlat(4, 4)
    path = tmp_path / "z.faiss"
    faiss.write_index(index, str(path))
    with pytest.raises(InputError) as caught:
        stores.open(path)
    assert str(caught.value) == (
        f"open: file {str(path)!r} must hold a flat faiss index (IndexFlat, or IndexIDMap of one), because "
        "other kinds keep rounded vectors, or keep them in another order. Got an index of kind 'IHNf'. "
        "Save its vectors with np.save(path, index.reconstruct_n(0, index.ntotal))."
    )


def write_text(path, z: torch.Tensor, *, texts: bool) -> None:
    lines = [] if path.suffix == ".jsonl" else ["id,note,emb_0,emb_1,emb_2".replace(",", "\t")]
    for i, row in enumerate(z.numpy()):
        if path.suffix == ".jsonl":
            lines.append(json.dumps({"id": f"r{i}", "embedding": row.tolist()}))
        else:
            lines.append("\t".join([f"r{i}", '"two\nlines, ""q"""', *map(str, row)]))
    text = "\n".join(lines) + "\n"
    if path.suffix == ".csv":
        text = text.replace("lines,", "lines;").replace("\t", ",")
    path.write_text(text)


@pytest.mark.parametrize("kind", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("ending", [".csv", ".tsv", ".jsonl"])
def test_numbers_of_text_come_back_to_the_bit_with_their_precision(ending, kind, tmp_path):
    z, path = features(kind), tmp_path / f"z{ending}"
    write_text(path, z, texts=True)
    opened = stores.open(path)
    assert opened.dtype == str(kind).removeprefix("torch.")
    assert torch.equal(read_all(opened), z)
    for start, stop in ((4095, 4098), (0, 1), (4999, 5000), (10, 10)):
        assert torch.equal(opened.read(start, stop), z[start:stop])
    assert list(opened.ids) == [f"r{i}" for i in range(5000)]


def test_messages_of_text_name_the_row(tmp_path):
    path = tmp_path / "z.csv"
    path.write_text("emb_0,emb_1\n1,2\n1,x\n")
    with pytest.raises(InputError) as caught:
        stores.open(path)
    assert str(caught.value) == (
        f"open: file {str(path)!r} must hold numbers, equally many in every row of 'emb_', because each "
        "row is one point. Got could not convert string to float: 'x' in row 1. "
        "Correct that row, or leave it out."
    )


def test_every_whole_file_of_the_corpus_is_read(tmp_path):
    rng = np.random.default_rng(5)
    for ending, whole in malformed.WHOLE.items():
        for _ in range(5):
            path = tmp_path / f"z{ending}"
            path.write_bytes(whole(rng))
            assert stores.open(path).read(0, 99).shape == (malformed.NUM, malformed.DIM)
