"""NIfTI volumes: orientation, grids, resampling against functions of place, what cannot be read."""

from __future__ import annotations

import gzip
import itertools
import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from spherometer.data import _nifti
from spherometer.data._nifti import Grid, UnusableVolumeError, covering, look, prepared, read, resampled
from spherometer.errors import InputError
from volume_tree import AFFINE, SIDES, nibabel, save, volume


def turned(values: np.ndarray, affine: np.ndarray, order: tuple[int, ...], flips: tuple[bool, ...]):
    """The same voxels at the same places, stored along other axes."""
    steps = np.zeros((4, 4))
    steps[3, 3] = 1
    for new, old in enumerate(order):
        steps[old, new] = -1 if flips[new] else 1
        steps[old, 3] += values.shape[old] - 1 if flips[new] else 0
    stored = values.transpose(order)
    stored = stored[tuple(slice(None, None, -1 if flip else 1) for flip in flips)]
    return np.ascontiguousarray(stored), affine @ steps


def places(grid: Grid) -> np.ndarray:
    """Centres of the voxels, mm [X, Y, Z, 3]: by definition, voxel by voxel."""
    index = np.stack(np.meshgrid(*map(np.arange, grid.shape), indexing="ij"), axis=-1)
    return index @ grid.affine[:3, :3].T + grid.affine[:3, 3]


def rotation(degrees: float) -> np.ndarray:
    a = math.radians(degrees)
    return np.array([[math.cos(a), -math.sin(a), 0], [math.sin(a), math.cos(a), 0], [0, 0, 1]])


def grid_of(
    sides: tuple[int, int, int], edges: tuple[float, ...], first=(0.0, 0, 0), degrees: float = 0
) -> Grid:
    affine = np.eye(4)
    affine[:3, :3] = rotation(degrees) @ np.diag(edges)
    affine[:3, 3] = first
    return Grid(sides, affine)


def ramp(at: np.ndarray) -> np.ndarray:
    """A linear function of place: what linear interpolation and smoothing leave as it is."""
    return (5 + 0.3 * at[..., 0] - 0.2 * at[..., 1] + 0.1 * at[..., 2]).astype(np.float32)


class TestReading:
    @pytest.mark.parametrize("order", list(itertools.permutations(range(3))))
    @pytest.mark.parametrize("flips", [(False, False, False), (True, False, True), (True, True, True)])
    def test_axes_are_canonical_however_they_are_stored(self, tmp_path, order, flips):
        stored, affine = turned(volume(), AFFINE, order, flips)
        path = save(tmp_path / "x.nii.gz", stored, affine)
        values, grid = read(path)
        np.testing.assert_array_equal(values, volume())
        np.testing.assert_allclose(grid.affine, AFFINE, atol=1e-6)
        header = look(path)
        assert header.shape == grid.shape == SIDES
        np.testing.assert_allclose(header.affine, nibabel.as_closest_canonical(nibabel.load(path)).affine)

    def test_an_oblique_volume_keeps_its_affine(self, tmp_path):
        grid = grid_of((6, 5, 4), (2, 2, 3), (1, 2, 3), degrees=20)
        values, found = read(save(tmp_path / "x.nii", volume(0, (6, 5, 4)), grid.affine))
        np.testing.assert_allclose(found.affine, grid.affine, atol=1e-6)
        assert values.shape == (6, 5, 4)

    @pytest.mark.parametrize("kind", [nibabel.Nifti1Image, nibabel.Nifti2Image])
    @pytest.mark.parametrize("name", ["x.nii", "x.nii.gz"])
    def test_versions_and_compression(self, tmp_path, kind, name):
        values, _ = read(save(tmp_path / name, kind=kind))
        np.testing.assert_array_equal(values, volume())
        assert values.dtype == np.float32
        assert values.flags.c_contiguous

    @pytest.mark.parametrize("dtype", ["uint8", "int16", "float32", "float64"])
    def test_types(self, tmp_path, dtype):
        stored = (volume() * 50).astype(dtype)
        np.testing.assert_array_equal(read(save(tmp_path / "x.nii", stored))[0], stored.astype(np.float32))

    def test_slope_and_intercept_are_applied(self, tmp_path):
        image = nibabel.Nifti1Image(np.arange(24, dtype=np.int16).reshape(2, 3, 4), np.eye(4))
        image.header.set_slope_inter(0.5, 3)
        nibabel.save(image, tmp_path / "x.nii")
        stored = nibabel.load(tmp_path / "x.nii").get_fdata(dtype=np.float32)
        np.testing.assert_array_equal(read(tmp_path / "x.nii")[0], stored)

    def test_big_endian(self, tmp_path):
        image = nibabel.Nifti1Image(volume(), AFFINE, nibabel.Nifti1Header(endianness=">"))
        nibabel.save(image, tmp_path / "x.nii")
        assert (tmp_path / "x.nii").read_bytes()[:4] == b"\0\0\x01\x5c"
        np.testing.assert_array_equal(read(tmp_path / "x.nii")[0], volume())
        assert look(tmp_path / "x.nii").shape == SIDES

    def test_nan_lies_outside_and_a_last_axis_of_one_is_nothing(self, tmp_path):
        values = volume()
        values[2, 2, 2] = np.nan
        read_values, _ = read(save(tmp_path / "x.nii.gz", values[..., None]))
        assert read_values[2, 2, 2] == 0
        assert read_values.shape == SIDES


def reason(path: Path, also_look: bool = True) -> str:
    with pytest.raises(UnusableVolumeError) as error:
        read(path)
    if also_look:
        with pytest.raises(UnusableVolumeError):
            look(path)
    return str(error.value)


class TestUnusable:
    def test_series_and_slices(self, tmp_path):
        assert reason(save(tmp_path / "a.nii", np.zeros((4, 5, 6, 20), np.float32))) == (
            "4-D, 4 x 5 x 6 x 20: no single volume"
        )
        assert (
            reason(save(tmp_path / "b.nii", np.zeros((4, 5), np.float32))) == "2-D, 4 x 5: no single volume"
        )

    @pytest.mark.parametrize("share", [0.5, 0.9, 0.99])
    def test_cut_short(self, tmp_path, share):
        for name in ("x.nii.gz", "y.nii"):
            path = save(tmp_path / name)
            content = path.read_bytes()
            path.write_bytes(content[: int(share * len(content))])
            assert reason(path, also_look=False).startswith("cut short")

    def test_any_changed_byte_of_a_compressed_file_is_noticed(self, tmp_path):
        path = save(tmp_path / "x.nii.gz")
        content = path.read_bytes()
        for at in range(200, len(content) - 8, 97):
            path.write_bytes(content[:at] + bytes([content[at] ^ 0x10]) + content[at + 1 :])
            assert reason(path, also_look=False)

    def test_nothing_and_something_else(self, tmp_path):
        (tmp_path / "a.nii").write_bytes(b"")
        (tmp_path / "b.nii").write_bytes(b"no volume at all" * 40)
        (tmp_path / "c.nii.gz").write_bytes(b"not compressed")
        (tmp_path / "d.nii").mkdir()
        (tmp_path / "e.nii").symlink_to(tmp_path / "annex")
        assert reason(tmp_path / "a.nii") == "an empty file"
        assert reason(tmp_path / "b.nii") == "no NIfTI file"
        assert reason(tmp_path / "c.nii.gz").startswith("Not a gzipped file")
        assert reason(tmp_path / "d.nii") == "no regular file"
        assert reason(tmp_path / "e.nii") == "a link to a file that is not here"

    def test_types_and_numbers(self, tmp_path):
        assert "complex64, not one number each" in reason(
            save(tmp_path / "a.nii", volume().astype(np.complex64))
        )
        values = volume()
        values[1, 1, 1] = np.inf
        assert reason(save(tmp_path / "b.nii", values), also_look=False) == "1 infinite voxels"

    def test_an_affine_that_is_flat(self, tmp_path):
        path = save(tmp_path / "x.nii")
        content = bytearray(path.read_bytes())
        header = nibabel.Nifti1Header(bytes(content[:348]))
        header["srow_x"] = header["srow_y"]
        path.write_bytes(header.binaryblock + bytes(content[348:]))
        assert reason(path) == "an affine that cannot be inverted"

    def test_larger_than_is_read(self, tmp_path, monkeypatch):
        path = save(tmp_path / "x.nii.gz")
        monkeypatch.setattr(_nifti, "MAX_BYTES", 600)
        assert reason(path, also_look=False).startswith("more than")

    def test_a_header_that_promises_too_much_allocates_nothing(self, tmp_path):
        path = save(tmp_path / "x.nii.gz")
        content = gzip.decompress(path.read_bytes())
        header = nibabel.Nifti1Header(content[:348])
        header["dim"][1:4] = 30000
        path.write_bytes(gzip.compress(header.binaryblock + content[348:]))
        assert reason(path, also_look=False).startswith("more than 2 GiB")

    @settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
    @given(
        changes=st.lists(st.tuples(st.integers(0, 351), st.integers(0, 255)), min_size=1, max_size=4),
        length=st.integers(0, 2400),
    )
    def test_whatever_the_bytes_are(self, tmp_path, changes, length):
        content = bytearray(nibabel.Nifti1Image(volume(), AFFINE).to_bytes())
        for at, value in changes:
            content[at] = value
        path = tmp_path / "x.nii"
        path.write_bytes(content[: max(length, 4)] if length % 2 else content)
        for way in (look, read):
            try:
                found, words = way(path), "a volume"
            except UnusableVolumeError as error:
                found, words = None, str(error)
            assert 0 < len(words) <= 110
            if found is not None:
                grid = found if isinstance(found, Grid) else found[1]
                assert np.isfinite(grid.affine).all()
                assert min(grid.shape) >= 1


class TestGrids:
    def test_the_own_grid_is_found_again(self):
        own = Grid(SIDES, AFFINE)
        assert covering([own], voxel_size=3.0).is_at(own)
        assert covering([own], shape=SIDES).is_at(own)

    def test_all_outermost_voxels_are_covered(self):
        grids = [grid_of((6, 5, 4), (2, 2, 3), (-5, 2, 3), 30), grid_of((9, 3, 5), (1, 1.5, 2), (3, -4, 0))]
        corners = np.concatenate([grid.corners() for grid in grids])
        for options in ({"voxel_size": 2.5}, {"shape": (7, 6, 5)}):
            ends = covering(grids, **options).corners()
            assert (ends.min(axis=0) <= corners.min(axis=0) + 1e-9).all()
            assert (ends.max(axis=0) >= corners.max(axis=0) - 1e-9).all()
        assert covering(grids, shape=(7, 6, 5)).shape == (7, 6, 5)
        assert set(covering(grids, voxel_size=2.5).voxel_sizes) == {2.5}

    def test_too_many_voxels(self):
        with pytest.raises(InputError) as error:
            covering([Grid(SIDES, AFFINE)], voxel_size=0.01)
        assert str(error.value) == (
            "open_data: voxel_size must give a grid of at most 2^28 voxels, because every volume is kept on "
            "it. Got 0.01 mm for a box of 27 x 24 x 21 mm that covers all volumes. Pass a larger one."
        )


class TestResampling:
    def check(self, own: Grid, target: Grid, margin: float) -> None:
        """Voxels further than ``margin`` mm inside have the value of the function of place."""
        found = resampled(ramp(places(own)), own, target)
        at = places(target)
        back = np.linalg.inv(own.affine)
        index = at @ back[:3, :3].T + back[:3, 3]
        room = np.minimum(index, np.array(own.shape) - 1 - index) * own.voxel_sizes
        inside = (room >= margin).all(axis=-1)
        assert inside.sum() > 20
        np.testing.assert_allclose(found[inside], ramp(at)[inside], atol=2e-5)

    def test_a_ramp_stays_a_ramp_on_finer_and_shifted_grids(self):
        own = grid_of((14, 13, 12), (2, 2, 2.5), (-13, -11, -12))
        self.check(own, grid_of((10, 9, 8), (2, 2, 2.5), (-10.3, -8.1, -9.9)), 0)
        self.check(own, grid_of((20, 18, 16), (1, 1.2, 1), (-10, -10, -8)), 0)

    def test_a_ramp_stays_a_ramp_from_oblique_axes(self):
        own = grid_of((20, 20, 16), (2, 2, 2), (-10, -25, -15), degrees=33)
        self.check(own, grid_of((12, 12, 12), (2, 2, 2), (-12, -10, -12)), 0)

    def test_a_ramp_stays_a_ramp_on_a_coarser_grid(self):
        own = grid_of((40, 36, 30), (1, 1, 1), (-20, -18, -15))
        self.check(own, grid_of((9, 8, 7), (4, 4, 4), (-16, -14, -12)), 9)

    def test_by_the_definition_of_linear_interpolation(self):
        own = grid_of((5, 6, 4), (2, 1.5, 3), (1, -2, 3), degrees=12)
        target = grid_of((4, 5, 4), (1.2, 1.4, 1.9), (2, 0, 5), degrees=-40)
        values = volume(3, own.shape)
        back = np.linalg.inv(own.affine)
        expected = np.zeros(target.shape)
        padded = np.pad(values.astype(np.float64), 1)  # zeros outside
        for voxel in itertools.product(*map(range, target.shape)):
            place = target.affine[:3, :3] @ voxel + target.affine[:3, 3]
            index = back[:3, :3] @ place + back[:3, 3]
            low = np.floor(index).astype(int)
            for corner in itertools.product((0, 1), repeat=3):
                near = low + corner
                if ((near >= -1) & (near <= own.shape)).all():
                    weight = np.prod(1 - np.abs(index - near))
                    expected[voxel] += weight * padded[tuple(near + 1)]
        np.testing.assert_allclose(resampled(values, own, target), expected, atol=1e-5)

    def test_smoothing_is_a_gaussian_of_the_missing_width(self):
        own = grid_of((65, 9, 9), (1, 1, 1), (-32, -4, -4))
        values = np.zeros(own.shape, dtype=np.float32)
        values[32] = 1
        target = grid_of((17, 3, 3), (4, 1, 1), (-32, -1, -1))
        sigma = math.sqrt(4**2 - 1) / math.sqrt(8 * math.log(2))
        at = places(target)[..., 0]
        density = np.exp(-(at**2) / (2 * sigma**2)) / (sigma * math.sqrt(2 * math.pi))
        np.testing.assert_allclose(resampled(values, own, target), density, atol=2e-3)

    def test_far_away_is_nothing(self):
        own, target = grid_of((4, 4, 4), (1, 1, 1)), grid_of((3, 3, 3), (1, 1, 1), (50, 0, 0))
        assert not resampled(volume(0, (4, 4, 4)), own, target).any()

    @settings(max_examples=20, deadline=None)
    @given(degrees=st.floats(-44, 44), edge=st.floats(1, 3), shift=st.floats(-3, 3), seed=st.integers(0, 99))
    def test_a_constant_stays_constant_inside(self, degrees, edge, shift, seed):
        first = tuple(-rotation(degrees) @ np.full(3, 10.5))  # turned about its centre
        own = grid_of((15, 15, 15), (1.5, 1.5, 1.5), first, degrees)
        target = grid_of((3, 3, 3), (edge, edge, edge), (-edge + shift / 10, -edge, -edge))
        level = 1 + seed / 7
        found = resampled(np.full(own.shape, level, dtype=np.float32), own, target)
        np.testing.assert_allclose(found, level, rtol=1e-5)


class TestScale:
    def test_mean_and_spread_inside_and_zeros_outside(self):
        values = volume(4)
        found = prepared(values)
        inside = values != 0
        assert not found[~inside].any()
        assert found[inside].mean(dtype=np.float64) == pytest.approx(0, abs=1e-6)
        assert found[inside].std(dtype=np.float64) == pytest.approx(1, abs=1e-6)
        expected = (values[inside] - values[inside].mean(dtype=np.float64)) / values[inside].std(
            dtype=np.float64
        )
        np.testing.assert_allclose(found[inside], expected, atol=1e-6)

    @given(scale=st.floats(1e-3, 1e5))
    @settings(max_examples=25, deadline=None)
    def test_the_unit_of_the_voxels_does_not_matter(self, scale):
        np.testing.assert_allclose(prepared(volume() * np.float32(scale)), prepared(volume()), atol=2e-5)

    def test_the_border_of_the_inside_is_where_half_of_a_voxel_is(self):
        own = grid_of((12, 12, 12), (1, 1, 1))
        values = np.zeros(own.shape, dtype=np.float32)
        values[4:8, 4:8, 4:8] = volume(1, (5, 4, 4))[1:]
        found = prepared(values, own, grid_of((12, 12, 12), (1, 1, 1), (0.4, 0, 0)))
        inside = np.argwhere(found != 0)
        assert inside.min(axis=0).tolist() == [4, 4, 4]
        assert inside.max(axis=0).tolist() == [7, 7, 7]
        assert found.mean(where=found != 0, dtype=np.float64) == pytest.approx(0, abs=1e-6)

    def test_the_own_grid_changes_nothing(self):
        own = Grid(SIDES, AFFINE)
        np.testing.assert_array_equal(
            prepared(volume(), own, covering([own], voxel_size=3)), prepared(volume())
        )

    @pytest.mark.parametrize(
        ("values", "words"),
        [
            (np.zeros(SIDES, np.float32), "no voxel other than 0"),
            (np.full(SIDES, 7, np.float32), "the same number in all voxels other than 0"),
        ],
    )
    def test_nothing_to_see(self, values, words):
        with pytest.raises(UnusableVolumeError, match=words):
            prepared(values)
