"""Readers of safetensors, .pt, faiss and text against the libraries that write them."""

import json

import faiss
import numpy as np
import pytest
import safetensors
import safetensors.torch
import torch

import malformed
import malicious
from spherometer import rows, stores
from spherometer.errors import InputError

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
