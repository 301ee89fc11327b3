"""Files of embeddings: every format gives the same rows and what belongs to them; faults are one line."""

import os

import numpy as np
import pyarrow as pa
import pyarrow.feather
import pyarrow.parquet as pq
import pytest
import torch

import spherometer as sm
from spherometer import rows, stores
from spherometer.errors import InputError, ShapeError

NUM, DIM = 9000, 6


@pytest.fixture(scope="module")
def x():
    return np.random.default_rng(0).standard_normal((NUM, DIM)).astype(np.float32)


def fixed(values):
    return pa.FixedSizeListArray.from_arrays(pa.array(values.ravel()), values.shape[1])


def everything(values):
    return pa.table(
        {
            "id": [f"r{row}" for row in range(len(values))],
            "emb": fixed(values),
            "half": pa.array(list(values.astype(np.float16))),
            "label": [("a", "b", None)[row % 3] for row in range(len(values))],
            "age": [None if row == 7 else row / 2 for row in range(len(values))],
            "pair": [row // 2 for row in range(len(values))],
        }
    )


def stream(path, table):
    with pa.ipc.new_stream(path, table.schema) as writer:
        writer.write_table(table, max_chunksize=700)


WRITERS = {
    "a.npy": lambda path, x: np.save(path, x),
    "f.npy": lambda path, x: np.save(path, np.asfortranarray(x)),
    "big.npy": lambda path, x: np.save(path, x.astype(">f4")),
    "a.npz": lambda path, x: np.savez(path, features=x, id=np.arange(len(x))),
    "packed.npz": lambda path, x: np.savez_compressed(path, features=x),
    "a.parquet": lambda path, x: pq.write_table(everything(x), path, row_group_size=2500),
    "list.parquet": lambda path, x: pq.write_table(pa.table({"emb": pa.array(list(x))}), path),
    "wide.parquet": lambda path, x: pq.write_table(
        pa.table({**{f"emb_{place}": x[:, place] for place in range(DIM)}, "age": x[:, 0] * 0}), path
    ),
    "a.feather": lambda path, x: pyarrow.feather.write_feather(everything(x), path, chunksize=999),
    "a.arrow": lambda path, x: stream(path, everything(x)),
}


@pytest.mark.parametrize("name", WRITERS)
def test_every_format_gives_the_same_rows_in_any_order(name, x, tmp_path):
    path = tmp_path / name
    WRITERS[name](path, x)
    column = "emb" if name in ("a.parquet", "a.feather", "a.arrow") else None
    found = sm.open(path, column=column)
    assert found.shape == (NUM, DIM)
    assert found.dtype == "float32"
    for budget in (1 << 20, 1 << 30):
        whole = torch.cat([block for _, block in rows.unit_blocks(found, budget)])
        assert (whole.numpy() == x).all()
    for start, stop in ((8000, NUM), (10, 4100), (10, 11), (4000, 4000), (0, 5)):  # back, across, none
        assert (found.read(start, stop).numpy() == x[start:stop]).all()
    found.check()
    assert found.files[0].num_bytes == path.stat().st_size
    assert len(found.digest()[0].sha256) == 64


def test_int8_float16_and_float64(x, tmp_path):
    for kind, wide in (("int8", "float32"), ("float16", "float32"), ("float64", "float64")):
        values = (4 * x).astype(kind)
        np.save(tmp_path / "a.npy", values)
        pq.write_table(pa.table({"emb": fixed(values)}), tmp_path / "a.parquet")
        for name in ("a.npy", "a.parquet"):
            found = sm.open(tmp_path / name)
            assert found.dtype == kind
            assert found.read(0, NUM).numpy().dtype == wide
            assert (found.read(0, NUM).numpy() == values.astype(wide)).all()


def test_shards_follow_each_other_by_their_numbers(x, tmp_path):
    (tmp_path / "shards").mkdir()
    for part in range(12):
        np.save(tmp_path / "shards" / f"part-{part}.npy", x[part * 700 : (part + 1) * 700])
    (tmp_path / "shards" / ".hidden.npy").write_bytes(b"")
    first = [tmp_path / "shards" / f"part-{part}.npy" for part in range(2)]
    for path, num in ((tmp_path / "shards", 8400), (tmp_path / "shards" / "*.npy", 8400), (first, 1400)):
        found = sm.open(path if isinstance(path, list) else str(path))
        assert found.shape == (num, DIM)
        assert (found.read(0, num).numpy() == x[:num]).all()
        assert (found.read(650, 1399).numpy() == x[650:1399]).all()
    np.save(tmp_path / "shards" / "part-3.npy", x[:5, :4])
    with pytest.raises(ShapeError, match="must have the same number of columns and dtype"):
        sm.open(tmp_path / "shards")
    (tmp_path / "shards" / "more.npz").write_bytes(b"")
    with pytest.raises(InputError, match=r"must hold files of one kind .* Got \.npy and \.npz"):
        sm.open(tmp_path / "shards")


def test_a_data_set_that_hugging_face_saved(x, tmp_path):
    import datasets

    datasets.disable_progress_bars()
    made = datasets.Dataset.from_dict({"embedding": x[:300].tolist(), "id": list(range(300))})
    made.save_to_disk(tmp_path / "set", num_shards=3)
    found = sm.open(tmp_path / "set")
    assert found.shape == (300, DIM)
    assert found.ids[299] == "299"
    assert (found.read(0, 300).numpy() == x[:300].astype(np.float64)).all()
    datasets.DatasetDict({"train": made}).save_to_disk(tmp_path / "both")
    with pytest.raises(InputError, match=r"must be one part of a data set.*'train'"):
        sm.open(tmp_path / "both")
    (tmp_path / "set" / "state.json").write_text('{"_data_files": [{"filename": "../elsewhere.arrow"}]}')
    with pytest.raises(InputError, match="names something that is not beside it"):
        sm.open(tmp_path / "set")


def test_what_belongs_to_the_rows(x, tmp_path):
    path = tmp_path / "a.parquet"
    WRITERS["a.parquet"](path, x)
    found = sm.open(path, column="emb", labels="label", metadata=["age", "label"])
    assert found.ids[:2] == ("r0", "r1")
    assert found.labels[:3] == ["a", "b", None]
    assert np.isnan(found.metadata["age"][7])
    assert found.metadata["age"][8] == 4
    assert found.metadata["label"][:3] == ["a", "b", None]
    two = sm.open(path, views=("emb", "half"))
    assert (two.other.read(0, 9).numpy() == x[:9].astype(np.float16)).all()


@pytest.mark.parametrize("budget", [1 << 20, 1 << 30])
def test_rows_that_share_a_value_are_pairs(budget, x, tmp_path, monkeypatch):
    values = np.repeat(x, 8, axis=0)[: 8 * NUM]
    pair = np.arange(len(values)) // 2
    pair[-1] = 10**9
    np.savez(tmp_path / "a.npz", x=values, pair=pair, id=np.arange(len(values)))
    found = sm.open(tmp_path / "a.npz", pair_id="pair", budget=budget)
    assert found.shape == found.other.shape == (len(values) // 2 - 1, DIM)
    assert (found.read(5000, 5010).numpy() == values[10000:10020:2]).all()
    assert (found.other.read(5000, 5010).numpy() == values[10001:10021:2]).all()
    assert found.ids[1] == "2"
    assert found.notes == (f"2 of {len(values)} rows have no partner and are left out.",)
    half = len(values) // 2
    apart = np.random.default_rng(1).permutation(half)
    np.savez(tmp_path / "b.npz", x=values, pair=np.concatenate([np.arange(half), apart]))
    monkeypatch.setattr(stores._picked, "_WIDEST", 2)
    if budget == 1 << 20:  # partners lie far apart, and do not fit
        with pytest.raises(InputError, match="Sort the file by 'pair', or raise the budget"):
            sm.open(tmp_path / "b.npz", pair_id="pair", budget=budget)
    else:
        far = sm.open(tmp_path / "b.npz", pair_id="pair", budget=budget)
        assert (far.other.read(0, 9).numpy() == values[half + np.argsort(apart)[:9]]).all()


def test_a_table_beside_the_rows_is_joined_by_id(x, tmp_path):
    np.savez(tmp_path / "a.npz", x=x[:5], id=np.array(["a", "b", "c", "d", "e"]))
    (tmp_path / "t.csv").write_text(
        "id,age,site\ne,5,north\nd,4,south\nc,n/a,\nb,2,north\na,1,south\nz,9,west\n"
    )
    found = sm.open(tmp_path / "a.npz", table=tmp_path / "t.csv", metadata=["age", "site"], labels="site")
    assert found.metadata["age"][[0, 1, 3, 4]].tolist() == [1, 2, 4, 5]
    assert np.isnan(found.metadata["age"][2])
    assert found.labels == ["south", "north", "", "south", "north"]
    (tmp_path / "t.csv").write_text("id,age\na,1\n")
    with pytest.raises(InputError, match=r"no row for 4 of 5 ids, for instance 'b', 'c', 'd', 'e'"):
        sm.open(tmp_path / "a.npz", table=tmp_path / "t.csv")
    np.save(tmp_path / "b.npy", x[:5])
    (tmp_path / "t.csv").write_text("age\n1\n2\n")
    with pytest.raises(ShapeError, match="Got 2 values of 'age' for 5 rows"):
        sm.open(tmp_path / "b.npy", table=tmp_path / "t.csv", metadata=["age"])


def test_arrays_and_what_is_open_already(x):
    found = sm.open(x)
    assert found.shape == (NUM, DIM)
    assert sm.open(found) is found
    assert sm.open(torch.zeros(3, 2, dtype=torch.bfloat16)).dtype == "bfloat16"


REFUSED = [
    ("ragged", [[1.0, 2.0], [3.0]], r"1 numbers, and row 0 of the file has 2, in row 1 \(row group 0\)"),
    ("missing list", [[1.0, 2.0], None], r"a missing list, in row 1 \(row group 0\)"),
    ("missing number", [[1.0, 2.0], [None, 2.0]], r"a missing number in a list, in row 1"),
    ("text", [["a"], ["b"]], "Got nothing that can be features"),
    ("whole numbers", [[1, 2], [3, 4]], "Got nothing that can be features"),
    ("nested", [[[1.0]], [[2.0]]], "Got nothing that can be features"),
]


@pytest.mark.parametrize(("values", "message"), [each[1:] for each in REFUSED], ids=[r[0] for r in REFUSED])
def test_columns_that_are_no_features(values, message, tmp_path):
    pq.write_table(pa.table({"emb": values}), tmp_path / "a.parquet")
    with pytest.raises(InputError, match=message):
        sm.open(tmp_path / "a.parquet").read(0, 2)


def test_two_columns_of_one_name_no_rows_and_many_row_groups(tmp_path):
    column = fixed(np.ones((3, 2), np.float32))
    pq.write_table(pa.Table.from_arrays([column, column], names=["emb", "emb"]), tmp_path / "a.parquet")
    with pytest.raises(InputError, match="two columns named 'emb'"):
        sm.open(tmp_path / "a.parquet")
    pq.write_table(pa.table({"emb": column[:0]}), tmp_path / "b.parquet")
    with pytest.raises(InputError, match="must hold at least one row"):
        sm.open(tmp_path / "b.parquet")
    many = np.arange(4000, dtype=np.float32).reshape(2000, 2)
    pq.write_table(pa.table({"emb": fixed(many)}), tmp_path / "c.parquet", row_group_size=1)
    assert (sm.open(tmp_path / "c.parquet").read(0, 2000).numpy() == many).all()


def test_page_checksums_find_damage(x, tmp_path):
    path = tmp_path / "a.parquet"
    pq.write_table(pa.table({"emb": fixed(x)}), path, write_page_checksum=True, compression="none")
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    with pytest.raises(InputError, match=r"must be a whole \.parquet file"):
        sm.open(path).read(0, NUM)


def test_names_are_looked_up_and_messages_help(x, tmp_path):
    path = tmp_path / "a.parquet"
    WRITERS["a.parquet"](path, x)
    for options, message in (
        ({}, r"Got 'emb', 'half'|'emb'"),
        ({"column": "enb"}, "Did you mean 'emb'"),
        ({"column": "emb", "labels": "lable"}, r"open: labels must name a column .* Did you mean 'label'"),
        ({"column": "emb", "id": "label"}, "must be a text or a whole number in every row"),
        ({"column": "emb", "id": "pair"}, r"Got 4500 that stand more than once, for instance '0'"),
        ({"column": "emb", "pair_id": "label"}, "with more than two rows"),
        ({"views": ("emb", "half"), "column": "emb"}, "views must be given without column and pair_id"),
        ({"column": 3}, "column must be the name of a column"),
        ({"budget": 10}, "budget must be at least 1048576 bytes"),
    ):
        if not options:
            assert sm.open(path).name == "emb"
            continue
        with pytest.raises(InputError, match=message):
            sm.open(path, **options)
    for place, message in (
        (tmp_path / "none.npy", "no such file"),
        (tmp_path / "*.nothing", "match a file"),
        ([], "be a list of files"),
        ("a\0b", "a text with a zero character"),
    ):
        with pytest.raises(InputError, match=message):
            sm.open(place)
    (tmp_path / "a.bin").write_bytes(b"x")
    with pytest.raises(InputError, match=r"must have an ending that says how to read it.*Got '\.bin'"):
        sm.open(tmp_path / "a.bin")


@pytest.mark.parametrize("name", ["a.npy", "a.npz", "a.parquet", "a.arrow"])
def test_a_file_that_changes_is_noticed(name, x, tmp_path):
    path = tmp_path / name
    WRITERS[name](path, x)
    found = stores.open(path, column="emb" if name in ("a.parquet", "a.arrow") else None)
    found.read(0, 10)
    content = path.read_bytes()
    path.write_bytes(content[:-8] + b"12345678")
    os.utime(path, ns=(1, 1))
    with pytest.raises(InputError, match="must stay as it is while it is read"):
        found.check()
    with pytest.raises(InputError, match="must stay as it is while it is read"):
        found.read(NUM - 4, NUM), found.read(0, 4), found.check()
