"""Volumes with label maps: pairs by name, one grid, nearest voxels, everything that is wrong with them."""

import numpy as np
import pytest
import torch

from spherometer.data import SegmentedPart, VolumePart, VolumeViews, segmented_volumes
from spherometer.data._volume_views import VolumeChanges
from spherometer.errors import InputError
from spherometer.probes import SegmentationProbe
from volume_tree import AFFINE, SIDES, save, volume


def labels(seed=0, sides=SIDES, numbers=(0, 2, 7)):
    return np.random.default_rng(seed).choice(numbers, sides).astype(np.int16)


def refused(call, message):
    with pytest.raises(InputError) as error:
        call()
    assert str(error.value) == message


def folder(root):
    for number in (1, 2, 3):
        here = root / f"sub-{number}"
        save(here / f"sub-{number}_T1w.nii.gz", volume(number))
        save(here / f"sub-{number}_dseg.nii.gz", labels(number))
    return root


def test_pairs_by_name_and_numbers_in_their_order(tmp_path):
    found = segmented_volumes(folder(tmp_path))
    assert found.shape == (1, *SIDES)
    assert (found.num_classes, found.class_names) == (3, ("0", "2", "7"))
    for row in range(3):
        expected = np.searchsorted([0, 2, 7], labels(row + 1))
        assert np.array_equal(found.masks(torch.tensor([row]))[0].numpy(), expected)
        voxels = found.pixels(torch.tensor([row]))[0, 0].numpy()
        inside = volume(row + 1) != 0
        assert voxels[inside].mean() == pytest.approx(0, abs=1e-5)
        np.testing.assert_allclose(np.corrcoef(voxels[inside], volume(row + 1)[inside])[0, 1], 1, rtol=1e-5)
    part = SegmentedPart(found)
    assert part.masks(torch.arange(3)).shape == (3, *SIDES)
    assert part.image_labels(torch.arange(3)).tolist() == [[1, 1]] * 3
    views = VolumeViews(VolumePart(found.images), VolumeChanges("all"))
    assert views(0, torch.arange(2))[0].shape == (2, 1, *SIDES)
    assert segmented_volumes(tmp_path).fingerprint() == found.fingerprint()
    named = segmented_volumes(tmp_path, class_names=("outside", "left", "right"))
    assert named.class_names == ("outside", "left", "right")


def test_label_and_plain_names_beside_each_other(tmp_path):
    save(tmp_path / "a.nii", volume(1))
    save(tmp_path / "a_label.nii", labels(1))
    save(tmp_path / "b_T1w.nii", volume(2))
    save(tmp_path / "b_T2w.nii", volume(3))
    save(tmp_path / "b_label.nii.gz", labels(2))
    refused(
        lambda: segmented_volumes(tmp_path),
        f"segmented_volumes: label map {str(tmp_path / 'b_label.nii.gz')!r} must lie beside one volume, "
        f"because it "
        "says what that shows. Got b_T1w.nii, b_T2w.nii. Pass suffix, such as 'T1w'.",
    )
    (tmp_path / "a_label.nii").unlink()
    found = segmented_volumes(tmp_path, suffix="T2w")
    assert found.images.names == ["b_T2w.nii"]


def test_maps_come_to_the_grid_of_the_volumes_by_the_nearest_voxel(tmp_path):
    save(tmp_path / "a_T1w.nii.gz", volume(1))
    coarse = AFFINE @ np.diag([2.0, 2, 2, 1])
    coarse[:3, 3] += 1.5  # a voxel of the map is 2 x 2 x 2 of the volume: centres lie between them
    save(tmp_path / "a_dseg.nii.gz", labels(5, (4, 4, 3)), coarse)
    found = segmented_volumes(tmp_path).masks(torch.tensor([0]))[0].numpy()
    expected = np.zeros(SIDES, dtype=int)
    fine = np.kron(np.searchsorted([0, 2, 7], labels(5, (4, 4, 3))), np.ones((2, 2, 2), dtype=int))
    expected[:8, :8, :6] = fine
    assert np.array_equal(found, expected)


def test_one_grid_for_all_volumes(tmp_path):
    folder(tmp_path)
    save(tmp_path / "x_T1w.nii.gz", volume(9, (12, 8, 7)))
    save(tmp_path / "x_dseg.nii.gz", labels(9, (12, 8, 7)))
    refused(
        lambda: segmented_volumes(tmp_path),
        "segmented_volumes: voxel_size or shape must be given for these volumes, because a batch needs "
        "volumes of "
        "one grid. Got 9 x 8 x 7 in 'sub-1_T1w.nii.gz' and 12 x 8 x 7 in 'x_T1w.nii.gz'. Pass for instance "
        "voxel_size=2: all come to one grid.",
    )
    found = segmented_volumes(tmp_path, voxel_size=3)
    assert found.shape == (1, 12, 8, 7)
    assert np.array_equal(
        found.masks(torch.tensor([3]))[0].numpy(), np.searchsorted([0, 2, 7], labels(9, (12, 8, 7)))
    )
    first = found.masks(torch.tensor([0]))[0].numpy()
    assert np.array_equal(first[:9], np.searchsorted([0, 2, 7], labels(1)))
    assert not first[9:].any()
    smaller = segmented_volumes(tmp_path, shape=(6, 4, 4))
    assert smaller.shape == (1, 6, 4, 4)
    assert set(smaller.masks(torch.arange(4)).unique().tolist()) <= {0, 1, 2}


def test_a_probe_of_volumes(tmp_path):
    found = segmented_volumes(folder(tmp_path))
    index = torch.arange(3)
    maps = torch.nn.functional.one_hot(found.masks(index), 3).movedim(-1, 1).float()
    assert (
        SegmentationProbe(strength=100, upsample=1)
        .fit(maps, found.masks(index))
        .score(maps, found.masks(index))
        == 1
    )


def test_what_is_wrong(tmp_path):
    refused(
        lambda: segmented_volumes(tmp_path / "nothing"),
        f"segmented_volumes: folder {str(tmp_path / 'nothing')!r} must be a folder, because volumes lie in "
        f"it. Got "
        "nothing there. Check the path.",
    )
    save(tmp_path / "a_T1w.nii", volume(1))
    refused(
        lambda: segmented_volumes(tmp_path),
        f"segmented_volumes: folder {str(tmp_path)!r} must hold label maps that end in _dseg or _label, "
        f"because "
        "volumes without one have no classes. Got 1 other NIfTI files. Rename them.",
    )
    path = save(tmp_path / "a_dseg.nii", volume(1))
    first = float(volume(1)[1, 0, 0])
    refused(
        lambda: segmented_volumes(tmp_path),
        f"segmented_volumes: label map {str(path)!r} must hold whole numbers from 0, because each is a "
        f"class. Got "
        f"{first:g}. Threshold or round it first.",
    )
    save(path, labels(1))
    path.write_bytes(path.read_bytes()[:-5])
    with pytest.raises(
        InputError, match=r"^segmented_volumes: file '.*a_dseg\.nii' must be a usable volume, because "
    ):
        segmented_volumes(tmp_path)
    save(path, labels(1))
    refused(
        lambda: segmented_volumes(tmp_path, class_names=("a", "b")),
        "segmented_volumes: class_names must name 3 classes, because label maps hold 0, 2, 7. Got 2 "
        "names. Name "
        "each, that of 0 first.",
    )
    refused(
        lambda: segmented_volumes(tmp_path, shape=(4, 4, 4), voxel_size=2),
        "segmented_volumes: shape must have three numbers, and go without voxel_size, because either of "
        "them says "
        "what the grid is. Got shape (4, 4, 4), voxel_size 2. Pass one of the two.",
    )
