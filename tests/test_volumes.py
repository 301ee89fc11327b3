"""Trees and arrays of volumes: which are found, what is known of them, the cache, parts, refusals."""

from __future__ import annotations

import gzip
import json
import os
import pickle
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch

from spherometer.data import (
    DamagedCacheWarning,
    VolumesLeftOutWarning,
    VolumeViews,
    _volume_open,
    open_data,
    open_parts,
)
from spherometer.data._nifti import look, prepared, read
from spherometer.errors import InputError, MissingExtraError
from volume_tree import AFFINE, SIDES, people, save, scan, table, tree, volume


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch) -> Path:
    """The user's cache."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.delenv("SPHEROMETER_DATA", raising=False)
    return tmp_path / "cache" / "spherometer" / "volumes"


@pytest.fixture
def root(tmp_path) -> Path:
    return tree(tmp_path / "study")


def everything(root: Path, **options):
    """All volumes of a tree."""
    return open_data(f"bids:{root}", part="all", **options)


def seen(views) -> np.ndarray:
    return views.load(torch.arange(len(views))).numpy()


def refused(call, message: str) -> None:
    with pytest.raises(InputError) as error:
        call()
    assert str(error.value) == message


def complaint(call) -> str:
    with pytest.raises(InputError) as error:
        call()
    return str(error.value)


class TestTrees:
    def test_volumes_metadata_and_subjects(self, root):
        views = everything(root, metadata=("age", "sex"))
        assert isinstance(views, VolumeViews)
        assert views.metadata == {"age": [20.5 + n for n in range(1, 7)], "sex": list("MFMFMF")}
        assert views.groups == [f"sub-{n:02d}" for n in range(1, 7)]
        assert views.images.names[0] == "sub-01/anat/sub-01_T1w.nii.gz"
        assert views.labels is None
        assert (views.name, views.source) == ("study", f"BIDS tree {str(root)!r}")
        found = seen(views)
        assert (found.shape, found.dtype) == ((6, 1, *SIDES), np.float32)
        for row in range(6):
            np.testing.assert_array_equal(found[row, 0], prepared(volume(row + 1)))
        assert views.images.shape == (1, *SIDES)

    def test_without_metadata_no_table_is_needed(self, root):
        (root / "participants.tsv").unlink()
        views = everything(root)
        assert views.metadata is None
        assert len(views.groups) == 6

    def test_views_are_a_function_of_seed_epoch_and_row(self, root):
        views = everything(root, seed=3)
        x, y = views(1, torch.tensor([4, 2]))
        assert x.shape == y.shape == (2, 1, *SIDES)
        again = open_data(f"bids:{root}", part="all", seed=3)(1, torch.tensor([2]))
        torch.testing.assert_close(again[0][0], x[1], rtol=0, atol=0)
        assert not torch.equal(x, y)
        still = views.still(views.load(torch.arange(2)))
        torch.testing.assert_close(still, views.load(torch.arange(2)), rtol=0, atol=0)

    def test_sessions(self, tmp_path):
        for session in ("a", "b"):
            scan(tmp_path, "1", session, values=volume(ord(session)))
        scan(tmp_path, "2", "a", values=volume(7))
        table(
            tmp_path / "participants.tsv",
            {"participant_id": ["sub-1", "2"], "age": [30, 40], "sex": ["F", "M"]},
        )
        table(tmp_path / "sub-1" / "sub-1_sessions.tsv", {"session_id": ["ses-a", "b"], "age": ["n/a", 33.5]})
        views = everything(tmp_path, metadata=("age", "sex"))
        assert views.groups == ["sub-1", "sub-1", "sub-2"]
        assert views.metadata == {"age": [30.0, 33.5, 40.0], "sex": ["F", "F", "M"]}

    def test_a_table_of_sessions_of_all(self, tmp_path):
        for subject, session in (("1", "a"), ("1", "b"), ("2", "a")):
            scan(tmp_path, subject, session, values=volume(ord(session)))
        columns = {"participant_id": ["sub-1", "sub-1", "sub-2"], "session_id": ["ses-a", "ses-b", "ses-a"]}
        table(tmp_path / "sessions.tsv", columns | {"dose": [1, 2, "n/a"]})
        assert everything(tmp_path, metadata=("dose",)).metadata == {"dose": [1.0, 2.0, None]}
        (tmp_path / "sessions.tsv").rename(tmp_path / "participants.tsv")
        assert everything(tmp_path, metadata=("dose",)).metadata == {"dose": [1.0, 2.0, None]}

    def test_numbers_that_are_names(self, root):
        people(root, site=[1, 1, 2, 2, 3, 3])
        assert everything(root, metadata=("site",)).metadata == {"site": [1.0, 1.0, 2.0, 2.0, 3.0, 3.0]}
        described = {"site": {"Levels": {"1": "Paris", "2": "Rome", "3": "Bern"}}, "age": {"Units": "year"}}
        (root / "participants.json").write_text(json.dumps(described))
        found = everything(root, metadata=("site", "age")).metadata
        assert found["site"] == list("112233")
        assert found["age"][0] == 21.5

    def test_missing_values_are_none(self, root):
        people(root, age=["n/a", "NaN", "", 30, 31, 32], sex=["F", "n/a", "M", "F", "M", "F"])
        found = everything(root, metadata=("age", "sex")).metadata
        assert found["age"] == [None, None, None, 30.0, 31.0, 32.0]
        assert found["sex"] == ["F", None, "M", "F", "M", "F"]

    def test_suffix_derivatives_and_space(self, root):
        below = root / "derivatives" / "prep"
        for number in range(1, 7):
            scan(root, f"{number:02d}", suffix="T2w", values=volume(100 + number))
            subject = f"{number:02d}"
            scan(below, subject, suffix="space-MNI_desc-preproc_T1w", values=volume(200 + number))
            scan(below, subject, suffix="desc-preproc_T1w", values=volume(300 + number))
            scan(below, subject, suffix="space-MNI_desc-smooth_T1w", values=volume(400 + number))
        for options, first in (
            ({}, 0),
            ({"suffix": "T2w"}, 100),
            ({"derivatives": "prep"}, 300),
            ({"derivatives": "prep", "space": "MNI", "suffix": "desc-preproc_T1w"}, 200),
            ({"derivatives": "prep", "space": "MNI", "suffix": "desc-smooth_T1w"}, 400),
        ):
            views = everything(root, metadata=("age",), **options)
            np.testing.assert_array_equal(
                seen(views)[:, 0], [prepared(volume(first + n)) for n in range(1, 7)]
            )
            assert views.metadata["age"][5] == 26.5
        assert complaint(lambda: everything(root, derivatives="prep", space="MNI")) == (
            f"open_data: suffix must choose one version of the T1w volumes of {str(below)!r}, because "
            "one scan "
            "would count several times. Got the versions desc-preproc, desc-smooth. Pass for instance "
            "suffix='desc-smooth_T1w'."
        )

    def test_a_new_fingerprint_for_anything_that_changes(self, root):
        options = {"metadata": ("age", "sex")}
        first = everything(root, **options).fingerprint()
        assert everything(root, **options).fingerprint() == first
        found = {
            first,
            everything(root, **options, seed=1).fingerprint(),
            everything(root, **options, views="none").fingerprint(),
            everything(root, metadata=("age",)).fingerprint(),
            everything(root, **options, voxel_size=6.0).fingerprint(),
            open_data(f"bids:{root}", **options).fingerprint(),
        }
        people(root, age=range(6))
        found.add(everything(root, **options).fingerprint())
        people(root)
        scan(root, "03", values=volume(50))
        found.add(everything(root, **options).fingerprint())
        assert len(found) == 8


class TestGrids:
    def test_one_grid_for_all_by_their_affines(self, tmp_path):
        other = AFFINE.copy()
        other[:3, 3] += (3, -3, 0)
        scan(tmp_path, "1", values=volume(1))
        scan(tmp_path, "2", values=volume(2, (8, 9, 7)), affine=other)
        found = seen(everything(tmp_path, voxel_size=3.0))
        assert found.shape == (2, 1, 9, 9, 7)
        # the box is that of both: x from sub-01, y from sub-02; voxels lie where they lay
        np.testing.assert_allclose(found[0, 0, :, 1:], prepared(volume(1)), atol=1e-5)
        np.testing.assert_allclose(found[1, 0, 1:], prepared(volume(2, (8, 9, 7))), atol=1e-5)

    def test_a_shape(self, root):
        views = everything(root, shape=(5, 4, 6))
        assert seen(views).shape == (6, 1, 5, 4, 6)
        assert views.images.shape == (1, 5, 4, 6)

    def test_volumes_of_different_shapes_ask_for_a_grid(self, root):
        scan(root, "03", values=volume(3, (9, 9, 7)))
        refused(
            lambda: everything(root),
            "open_data: voxel_size or shape must be given for these volumes, because a batch needs "
            "volumes of "
            "one grid. Got 9 x 8 x 7 voxels of 3 x 3 x 3 mm in 'sub-01/anat/sub-01_T1w.nii.gz' and 9 x 9 x 7 "
            "voxels of 3 x 3 x 3 mm in 'sub-03/anat/sub-03_T1w.nii.gz'. Pass for instance voxel_size=3: all "
            "are resampled to one grid.",
        )
        assert everything(root, voxel_size=3).images.shape == (1, 9, 9, 7)

    def test_so_do_volumes_of_different_voxels(self, root):
        scan(root, "03", values=volume(3), affine=np.diag([3, 3, 3.5, 1]))
        assert "voxels of 3 x 3 x 3.5 mm" in complaint(lambda: everything(root))

    def test_both_or_nonsense(self, root):
        assert complaint(lambda: everything(root, voxel_size=2.0, shape=(4, 4, 4))) == (
            "open_data: shape must have three numbers, and go without voxel_size, because either of "
            "them says "
            "what the grid is. Got shape (4, 4, 4), voxel_size 2.0. Pass one of the two."
        )
        assert "voxel_size must be a finite number greater than 0" in complaint(
            lambda: everything(root, voxel_size=0.0)
        )
        for shape in ((4, 4), 4):
            assert "shape must have three numbers" in complaint(
                lambda shape=shape: everything(root, shape=shape)
            )


def entries(cache: Path) -> list[Path]:
    return sorted(cache.glob("*/*.npy"))


class TestCache:
    def test_it_is_read_instead_of_the_files(self, root, cache, monkeypatch):
        first = seen(everything(root))
        assert len(entries(cache)) == 6
        monkeypatch.setattr(_volume_open, "read", None)  # would not run
        np.testing.assert_array_equal(seen(everything(root)), first)

    def test_cache_dir(self, root, cache, tmp_path):
        everything(root, cache_dir=tmp_path / "mine")
        assert len(entries(tmp_path / "mine")) == 6
        assert not cache.exists()
        everything(root, data_dir=tmp_path / "data")
        assert len(entries(tmp_path / "data" / "volumes")) == 6

    def test_a_changed_file_is_read_again(self, root):
        everything(root)
        scan(root, "02", values=volume(22))
        np.testing.assert_array_equal(seen(everything(root))[1, 0], prepared(volume(22)))

    def test_each_grid_has_its_own(self, root, cache):
        for options in ({}, {"voxel_size": 3.0}, {"voxel_size": 6.0}, {"shape": (4, 4, 4)}):
            everything(root, **options)
        assert len(list(cache.iterdir())) == 4

    @pytest.mark.parametrize("what", ["a bit", "cut", "gone", "other numbers"])
    def test_damage_is_noticed_and_mended_with_one_warning(self, root, cache, what):
        first = everything(root)
        for path in entries(cache)[1:3]:
            content = bytearray(path.read_bytes())
            if what == "a bit":
                content[-5] ^= 1
            elif what == "cut":
                content = content[: len(content) // 2]
            elif what == "other numbers":
                np.save(path, np.zeros(SIDES, np.float32))
                content = bytearray(path.read_bytes())
            path.write_bytes(content)
            if what == "gone":
                path.unlink()
        with pytest.warns(DamagedCacheWarning) as told:
            second = everything(root)
        assert len(told) == 1
        assert str(told[0].message).startswith("open_data: 2 files of the cache '")
        assert "damaged and made again, the first is 'sub-0" in str(told[0].message)
        np.testing.assert_array_equal(seen(first), seen(second))
        assert first.fingerprint() == second.fingerprint()
        everything(root)  # and it is whole again: no warning

    @pytest.mark.parametrize("content", [b"", b"{}", b"no JSON", b"[1]", None])
    def test_a_damaged_manifest(self, root, cache, content):
        first = everything(root)
        (manifest,) = cache.glob("*/manifest.json")
        if content is None:  # one digit of one SHA-256
            text = manifest.read_text()
            at = text.index('"sha256": "', text.index("entries")) + 12
            content = (text[:at] + ("0" if text[at] != "0" else "1") + text[at + 1 :]).encode()
        manifest.write_bytes(content)
        with pytest.warns(
            DamagedCacheWarning, match="1 file of the cache .* the first is 'manifest.json'"
        ) as told:
            second = everything(root)
        assert len(told) == 1
        assert first.fingerprint() == second.fingerprint()
        everything(root)

    def test_what_does_not_fit_is_read_when_it_is_used_and_checked_then(self, root, cache, monkeypatch):
        expected = seen(everything(root))
        monkeypatch.setattr(_volume_open, "KEPT_BYTES", 100)
        views = everything(root)
        assert views.images.of.kept is None
        np.testing.assert_array_equal(seen(views), expected)
        path = entries(cache)[0]
        path.write_bytes(path.read_bytes()[:-1] + b"x")
        with pytest.warns(DamagedCacheWarning) as told:
            np.testing.assert_array_equal(seen(views), expected)
        assert len(told) == 1
        np.testing.assert_array_equal(seen(views), expected)

    def test_damaged_and_the_file_too(self, root, cache, monkeypatch):
        monkeypatch.setattr(_volume_open, "KEPT_BYTES", 100)
        views = everything(root)
        for path in entries(cache):
            path.write_bytes(b"x")
        (root / "sub-01" / "anat" / "sub-01_T1w.nii.gz").write_bytes(b"")
        refused(
            lambda: seen(views),
            "open_data: the volume 'sub-01/anat/sub-01_T1w.nii.gz' must stay readable, because its "
            "copy in the "
            "cache is damaged and must be made again. Got an empty file. Mend or remove it, and start again.",
        )

    def test_a_place_that_is_a_file(self, root, tmp_path):
        (tmp_path / "file").write_text("")
        assert complaint(lambda: everything(root, cache_dir=tmp_path / "file")) == (
            "open_data: cache_dir must be a directory that can be written to, because preprocessed "
            "volumes are "
            f"kept there. Got '{tmp_path / 'file'}' (not a directory). Pass another one as cache_dir."
        )


class TestParts:
    def test_nobody_is_on_both_sides(self, tmp_path):
        for number in range(1, 11):
            for session in ("a", "b")[: 1 + number % 2]:
                scan(tmp_path, f"{number:02d}", session, values=volume(number))
        people(tmp_path, 10)
        parts = open_parts(f"bids:{tmp_path}", metadata=("age", "sex"))
        train, test = set(parts.train.groups), set(parts.test.groups)
        assert not train & test
        assert (len(train), len(test)) == (8, 2)
        assert len(parts.train) + len(parts.test) == 15
        views = open_data(f"bids:{tmp_path}", metadata=("age", "sex"), seed=17)
        assert views.groups == parts.train.groups  # whatever the seed of the views
        assert views.metadata == parts.train.metadata
        assert open_data(f"bids:{tmp_path}", part="test").groups == parts.test.groups
        assert set(everything(tmp_path).groups) == train | test
        for row, name in enumerate(parts.test.names):
            path = tmp_path / name
            np.testing.assert_array_equal(
                parts.test.images(torch.tensor([row]))[0, 0].numpy(), prepared(*read(path)[:1])
            )
        other = [open_parts(f"bids:{tmp_path}", split_seed=seed).test.groups for seed in range(5)]
        assert len({tuple(groups) for groups in other}) > 1

    def test_what_is_left_out_moves_nobody(self, root):
        whole = open_parts(f"bids:{root}")
        path = root / "sub-02" / "anat" / "sub-02_T1w.nii.gz"
        path.write_bytes(path.read_bytes()[:300])
        with pytest.warns(VolumesLeftOutWarning):
            fewer = open_parts(f"bids:{root}", skip_bad=1)
        assert set(fewer.train.groups) <= set(whole.train.groups)
        assert set(fewer.test.groups) <= set(whole.test.groups)
        assert len(fewer.train) + len(fewer.test) == 5

    def test_rows_and_still(self, root):
        part = open_parts(f"bids:{root}", metadata=("age",), views="all").train
        some = part.subset(torch.tensor([1, 0]))
        assert some.groups == part.groups[1::-1]
        assert some.metadata["age"] == part.metadata["age"][1::-1]
        assert some.fingerprint() != part.fingerprint()
        torch.testing.assert_close(part.images(torch.arange(2)), part.pixels(torch.arange(2)), rtol=0, atol=0)
        with pytest.raises(InputError, match=r"study: index must lie between 0 and 1"):
            some.images(torch.tensor([2]))

    def test_a_single_subject(self, tmp_path):
        scan(tmp_path, "1")
        assert complaint(lambda: open_data(f"bids:{tmp_path}")) == (
            f"open_data: data 'bids:{tmp_path}' must hold at least 2 subjects, because those who are "
            "tested are "
            'not trained on. Got 1. Pass part="all".'
        )
        assert len(everything(tmp_path)) == 1
        assert "part must be one of 'auto', 'train', 'test', 'all'" in complaint(
            lambda: open_data(f"bids:{tmp_path}", part="validation")
        )


class TestRefusals:
    def test_files_without_subjects_and_subjects_without_files(self, root):
        people(root, participant_id=[f"sub-{n:02d}" for n in (1, 2, 7, 8, 9, 10)])
        refused(
            lambda: everything(root, metadata=("age",)),
            f"open_data: files and subjects of BIDS tree {str(root)!r} must match, because a volume without "
            "meta-data, or meta-data without a volume, is no sample. Got 4 of 6 files without a row in "
            "participants.tsv (sub-03/anat/sub-03_T1w.nii.gz, sub-04/anat/sub-04_T1w.nii.gz, "
            "sub-05/anat/sub-05_T1w.nii.gz, sub-06/anat/sub-06_T1w.nii.gz) and 4 subjects in "
            "participants.tsv "
            "without a file (sub-07, sub-08, sub-09, sub-10). Complete the table or the files, or pass "
            "skip_bad=8 (--skip-bad 8).",
        )
        with pytest.warns(VolumesLeftOutWarning) as told:
            views = everything(root, metadata=("age",), skip_bad=8)
        assert views.groups == ["sub-01", "sub-02"]
        assert len(told) == 1
        everything(root)  # without meta-data nobody asks

    def test_the_first_five_are_named(self, root):
        (root / "participants.tsv").unlink()
        table(root / "participants.tsv", {"participant_id": ["sub-99", "sub-98"], "age": [1, 2]})
        words = complaint(lambda: everything(root, metadata=("age",)))
        assert "sub-05/anat/sub-05_T1w.nii.gz, ...)" in words
        assert "sub-06/" not in words
        assert "2 subjects in participants.tsv without a file (sub-99, sub-98)" in words

    def test_unknown_columns(self, root):
        refused(
            lambda: everything(root, metadata=("agee",)),
            "open_data: metadata 'agee' must name a column of participants.tsv, because it is read "
            "from there. "
            "Got a table with the columns 'age', 'sex'. The nearest is 'age'.",
        )
        assert complaint(lambda: everything(root, metadata="age")).endswith(
            "Got 'age'. Pass metadata=('age',)."
        )

    def test_slips_among_numbers(self, root):
        people(root, age=[20, 21, "twenty", 23, 24, 25])
        assert complaint(lambda: everything(root, metadata=("age",))) == (
            "read_table: column 'age' of participants.tsv must hold numbers alone, or names alone, because "
            "numbers are compared by their differences, names for equality. Got 1 of 6 cells that are no "
            "numbers, the first is 'twenty'. Correct them, write n/a where a value is missing, or give the "
            "column a categorical kernel."
        )

    def test_tables(self, root):
        (root / "participants.tsv").unlink()
        assert complaint(lambda: everything(root, metadata=("age",))) == (
            f"open_data: BIDS tree {str(root)!r} must hold participants.tsv, because meta-data are read from "
            "there. Got neither that nor sessions.tsv. Add it, or leave metadata out."
        )
        table(root / "participants.tsv", {"who": ["sub-01"], "age": [1]})
        assert "must have a column participant_id, because it says whose each row is" in complaint(
            lambda: everything(root, metadata=("age",))
        )
        table(root / "participants.tsv", {"participant_id": ["sub-01", "01"], "age": [1, 2]})
        assert "Got two rows of sub-01." in complaint(lambda: everything(root, metadata=("age",)))
        people(root)
        (root / "participants.json").write_text("{")
        assert "must be JSON" in complaint(lambda: everything(root, metadata=("age",)))

    @pytest.mark.parametrize(
        ("harm", "reason"),
        [
            ("cut", "cut short"),
            ("series", "4-D, 9 x 8 x 7 x 3: no single volume"),
            ("zeros", "no voxel other than 0"),
            ("annex", "a link to a file that is not here"),
        ],
    )
    def test_a_volume_that_cannot_be_used(self, root, harm, reason):
        path = root / "sub-04" / "anat" / "sub-04_T1w.nii.gz"
        if harm == "cut":
            path.write_bytes(path.read_bytes()[:900])
        elif harm == "series":
            save(path, np.stack([volume(n) for n in range(3)], axis=-1))
        elif harm == "zeros":
            save(path, np.zeros(SIDES, np.float32))
        else:
            path.unlink()
            path.symlink_to(root / ".git" / "annex" / "x")
        refused(
            lambda: everything(root, metadata=("age",)),
            f"open_data: all volumes of BIDS tree {str(root)!r} must be usable, because each is a "
            "sample. Got 1 "
            f"of 6 that are not, the first is 'sub-04/anat/sub-04_T1w.nii.gz' ({reason}). Mend or "
            "remove them, "
            "or pass skip_bad=1 (--skip-bad 1).",
        )
        with pytest.warns(VolumesLeftOutWarning) as told:
            views = everything(root, metadata=("age",), skip_bad=1)
        assert len(told) == 1
        assert str(told[0].message) == (
            f"open_data: BIDS tree {str(root)!r}: 1 of 6 volumes left out because they cannot be used, the "
            f"first is 'sub-04/anat/sub-04_T1w.nii.gz' ({reason})"
        )
        assert "sub-04" not in views.groups
        assert views.metadata == {"age": [21.5, 22.5, 23.5, 25.5, 26.5]}
        np.testing.assert_array_equal(seen(views)[3, 0], prepared(volume(5)))

    def test_what_is_not_there(self, root, tmp_path):
        assert complaint(lambda: everything(tmp_path / "nowhere")) == (
            f"open_data: BIDS tree '{tmp_path / 'nowhere'}' must be a folder, because it holds "
            "sub-... folders. "
            "Got nothing there. Check the path."
        )
        assert "must hold folders named sub-..." in complaint(lambda: everything(tmp_path))
        assert complaint(lambda: everything(root, suffix="T1")) == (
            f"open_data: suffix must name volumes of {str(root)!r}, because files are chosen by the end of "
            "their names. Got 'T1', while there are T1w. The nearest is 'T1w'."
        )
        assert complaint(lambda: everything(root, space="MNI")) == (
            f"open_data: space must name a space of the T1w volumes of {str(root)!r}, because their "
            "names say "
            "it. Got 'MNI', while there are none, and volumes without a space. Leave it out."
        )
        (root / "derivatives" / "fmriprep").mkdir(parents=True)
        assert complaint(lambda: everything(root, derivatives="fmri-prep")) == (
            f"open_data: derivatives must name a folder of '{root / 'derivatives'}', because volumes "
            "are read "
            "from there. Got 'fmri-prep', while there are fmriprep. The nearest is 'fmriprep'."
        )
        assert "name a path behind bids:" in complaint(lambda: open_data("bids:"))

    def test_options_of_other_data(self, root):
        for option in ({"size": 32}, {"image": "x"}, {"label": "x"}, {"left": "a"}):
            assert "be left out for volumes" in complaint(lambda option=option: everything(root, **option))
        for option in ({"metadata": ("age",)}, {"voxel_size": 2.0}, {"cache_dir": "x"}, {"space": "MNI"}):
            words = complaint(lambda option=option: open_data("digits", **option))
            assert f"open_data: {next(iter(option))} must be left out for data that are no volumes" in words
            assert "be left out" in complaint(lambda option=option: open_parts("digits", **option))


class TestArrays:
    def array(self, folder: Path, num: int = 6, name: str = "volumes", first: int = 0, **columns) -> Path:
        folder.mkdir(parents=True, exist_ok=True)
        np.save(folder / f"{name}.npy", np.stack([volume(first + n) for n in range(num)])[:, None])
        usual = {"age": [30 + n for n in range(num)], "sex": ["FM"[n % 2] for n in range(num)]}
        table(folder / f"{name}.csv", usual | columns, ",")
        return folder

    def test_rows_and_a_table(self, tmp_path):
        folder = self.array(tmp_path / "set")
        for place in (folder, folder / "volumes.npy"):
            views = open_data(f"volumes:{place}", part="all", metadata=("age", "sex"))
            np.testing.assert_array_equal(seen(views)[:, 0], [prepared(volume(n)) for n in range(6)])
            assert views.metadata == {"age": [30.0 + n for n in range(6)], "sex": list("FMFMFM")}
            assert views.groups == [f"volumes {n}" for n in range(6)]
            assert views.name == "volumes"

    def test_subjects_are_kept_apart(self, tmp_path):
        who = ["s1", "s1", "s2", "s2", "s3", "s4"]
        folder = self.array(tmp_path / "set", participant_id=who)
        parts = open_parts(f"volumes:{folder}", metadata=("age",))
        assert not set(parts.train.groups) & set(parts.test.groups)
        assert sorted(parts.train.groups + parts.test.groups) == who
        self.array(tmp_path / "set", participant_id=["s1", "", "n/a", "s2", "s3", "s4"])
        assert "2 missing, the first in row 1" in complaint(lambda: open_parts(f"volumes:{folder}"))

    def test_two_files_are_two_parts(self, tmp_path):
        folder = self.array(tmp_path / "set", 6, "train", participant_id=list("abcdef"))
        self.array(folder, 3, "val", first=50, participant_id=list("xyz"))
        parts = open_parts(f"volumes:{folder}", metadata=("age",))
        assert (len(parts.train), len(parts.test)) == (6, 3)
        np.testing.assert_array_equal(parts.test.images(torch.tensor([1]))[0, 0], prepared(volume(51)))
        assert open_data(f"volumes:{folder}").groups == list("abcdef")
        assert "be opened by parts" in complaint(lambda: open_data(f"volumes:{folder}", part="all"))
        self.array(folder, 3, "val", first=50, participant_id=list("xyc"))
        assert "1 in both, the first is 'c'" in complaint(lambda: open_parts(f"volumes:{folder}"))

    @pytest.mark.parametrize("dtype", ["uint8", "int16", "float16", "float64", ">f4"])
    @pytest.mark.parametrize("order", ["C", "F"])
    def test_types_and_order(self, tmp_path, dtype, order):
        values = np.stack([volume(n) * 50 for n in range(3)]).astype(dtype)
        np.save(tmp_path / "x.npy", np.asarray(values, order=order))
        views = open_data(f"volumes:{tmp_path / 'x.npy'}", part="all")
        expected = [prepared(each.astype(np.float32)) for each in values]
        np.testing.assert_array_equal(seen(views)[:, 0], expected)

    def test_a_shape_is_cached(self, tmp_path, cache):
        folder = self.array(tmp_path / "set")
        views = open_data(f"volumes:{folder}", part="all", shape=(5, 4, 4))
        assert seen(views).shape == (6, 1, 5, 4, 4)
        assert len(entries(cache)) == 6
        open_data(f"volumes:{folder}", part="all", shape=SIDES)
        assert len(entries(cache)) == 6  # they have that shape: nothing to keep
        assert "they do not say how large" in complaint(
            lambda: open_data(f"volumes:{folder}", voxel_size=2.0)
        )

    def test_rows_that_cannot_be_used(self, tmp_path, monkeypatch):
        values = np.stack([volume(n) for n in range(4)])
        values[2] = 0
        np.save(tmp_path / "x.npy", values)
        path = f"volumes:{tmp_path / 'x.npy'}"
        table(tmp_path / "x.tsv", {"age": range(4)})
        assert "the first is 'x 2' (no voxel other than 0)" in complaint(lambda: open_data(path, part="all"))
        for options in ({}, {"shape": (4, 4, 4)}):
            with pytest.warns(VolumesLeftOutWarning, match="1 of 4 volumes left out"):
                views = open_data(path, part="all", skip_bad=1, metadata=("age",), **options)
            assert views.metadata == {"age": [0.0, 1.0, 3.0]}
            assert views.groups == ["x 0", "x 1", "x 3"]
        monkeypatch.setattr(_volume_open, "KEPT_BYTES", 100)
        late = open_data(path, part="all")
        np.testing.assert_array_equal(late.load(torch.tensor([3]))[0, 0], prepared(values[3]))
        assert "the volume of x 2 must be usable" in complaint(lambda: seen(late))

    def test_a_changed_file_is_another_set(self, tmp_path):
        folder = self.array(tmp_path / "set")
        first = open_data(f"volumes:{folder}", part="all").fingerprint()
        assert open_data(f"volumes:{folder}", part="all").fingerprint() == first
        values = np.load(folder / "volumes.npy")
        values[5, 0, 3, 3, 3] += 1
        np.save(folder / "volumes.npy", values)
        assert open_data(f"volumes:{folder}", part="all").fingerprint() != first

    def test_refusals(self, tmp_path):
        folder = self.array(tmp_path / "set")
        table(folder / "volumes.csv", {"age": range(5)}, ",")
        assert complaint(lambda: open_data(f"volumes:{folder}", metadata=("age",))) == (
            f"open_data: table '{folder / 'volumes.csv'}' must have one row for each volume, because "
            "row i is "
            "about volume i. Got 5 rows for 6 volumes. Correct the table."
        )
        (folder / "volumes.csv").unlink()
        assert "must have a table beside them" in complaint(
            lambda: open_data(f"volumes:{folder}", metadata=("age",))
        )
        assert "suffix must be left out for arrays" in complaint(
            lambda: open_data(f"volumes:{folder}", suffix="T1w")
        )
        np.save(tmp_path / "flat.npy", np.zeros((5, 4)))
        assert "must have shape [N, X, Y, Z]" in complaint(
            lambda: open_data(f"volumes:{tmp_path / 'flat.npy'}")
        )
        content = (folder / "volumes.npy").read_bytes()
        (folder / "volumes.npy").write_bytes(content[:-4])
        assert "must be exactly as long as its header says" in complaint(
            lambda: open_data(f"volumes:{folder}")
        )
        (folder / "volumes.npy").rename(folder / "other.txt")
        assert "hold one .npy file, or train.npy and test.npy" in complaint(
            lambda: open_data(f"volumes:{folder}")
        )
        assert "be a .npy file or a folder of one" in complaint(lambda: open_data("volumes:nowhere"))


def test_a_header_says_where_it_lies_without_reading_the_voxels(tmp_path):
    path = save(tmp_path / "x.nii.gz", np.random.default_rng(0).random((40, 40, 40)).astype(np.float32))
    path.write_bytes(path.read_bytes()[:5000])
    assert look(path).shape == (40, 40, 40)
    with gzip.open(path) as file, pytest.raises(EOFError):
        file.read()


def test_other_processes_can_read_them(root, tmp_path, monkeypatch):
    monkeypatch.setattr(_volume_open, "KEPT_BYTES", 100)
    np.save(tmp_path / "x.npy", np.stack([volume(n) for n in range(4)]))
    for views in (everything(root), open_data(f"volumes:{tmp_path / 'x.npy'}", part="all")):
        other = pickle.loads(pickle.dumps(views))  # as workers get them that are started anew
        np.testing.assert_array_equal(seen(other), seen(views))
        assert other.fingerprint() == views.fingerprint()


def test_readers_say_nothing_on_their_own(root, capfd):
    path = root / "sub-02" / "anat" / "sub-02_T1w.nii.gz"
    content = bytearray(gzip.decompress(path.read_bytes()))
    content[70:72] = b"\x77\x77"  # a type that does not exist
    path.write_bytes(gzip.compress(bytes(content)))
    assert "data code" in complaint(lambda: everything(root))
    content[70:72] = b"\x10\0"
    content[76:80] = b"\0\0\0\0"  # qfac 0, which is taken for 1
    path.write_bytes(gzip.compress(bytes(content)))
    np.testing.assert_array_equal(seen(everything(root))[1, 0], prepared(volume(2)))
    assert capfd.readouterr() == ("", "")


def test_a_folder_that_cannot_be_read(root, monkeypatch):
    listed = os.scandir

    def scandir(path):
        if "sub-03" in str(path):
            raise PermissionError(13, "Permission denied")
        return listed(path)

    monkeypatch.setattr(os, "scandir", scandir)
    assert "must be readable, because its volumes are data. Got permission denied." in complaint(
        lambda: everything(root)
    )


def test_without_nibabel(root, monkeypatch):
    monkeypatch.setitem(sys.modules, "nibabel", None)
    with pytest.raises(MissingExtraError) as error:
        everything(root)
    assert str(error.value) == (
        "reading NIfTI files: nibabel must be installed, because reading NIfTI files uses it. Got no such "
        "module. Install it with: pip install 'spherometer[neuro]'."
    )


def test_nothing_is_warned_about_when_all_is_well(root):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        everything(root, metadata=("age", "sex"), voxel_size=4.0)
