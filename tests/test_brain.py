"""Made brains: what each effect does, that a subject depends on its number alone, and the tree on disk."""

import json
import sys
from dataclasses import fields, replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from spherometer.data import BrainRecipe, make_brains, open_data
from spherometer.data._brain import NOTICE
from spherometer.data._brain_template import load_brain_template
from spherometer.errors import InputError, MissingExtraError

NOTHING = BrainRecipe(
    **{each.name: 0.0 for each in fields(BrainRecipe) if each.name not in ("voxel_size", "ages")}
)
GRID = (26, 30, 25)


@pytest.fixture(autouse=True)
def _one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def brains():
    return make_brains(24)


def correlation(a, b):
    return float(np.corrcoef(np.asarray(a, dtype=float), np.asarray(b, dtype=float))[0, 1])


def mean_inside(volumes):
    return volumes.flatten(1).sum(1) / (volumes != 0).flatten(1).sum(1)


class TestTemplate:
    def test_shares_of_tissues_and_their_sum_is_t1(self):
        template = load_brain_template(8)
        shares = template.maps[:3]
        assert template.maps.shape == (4, 52, 60, 50)
        assert template.voxel == 4.0
        assert float(shares.min()) >= 0
        assert float(shares.sum(0).max()) <= 1.01
        grey, white, fluid = template.means.tolist()
        assert white == 1.0
        assert fluid < grey < white  # as T1 shows them
        inside = shares.sum(0) > 0.99
        assert abs(float(template.maps[3][inside].mean())) < 0.05

    def test_its_affine_is_that_of_the_file(self):
        nibabel = pytest.importorskip("nibabel", reason="nibabel is in the development install")
        from nilearn.datasets import load_mni152_template

        image = load_mni152_template()
        data = np.asarray(image.dataobj)
        places = np.argwhere(data > 0) @ image.affine[:3, :3].T + image.affine[:3, 3]
        weights = data[data > 0].astype(float)
        centre = (places * weights[:, None]).sum(0) / weights.sum()
        t1 = load_brain_template(8).t1.double().numpy()
        index = np.stack(np.indices(t1.shape), axis=-1).reshape(-1, 3)
        ours = nibabel.affines.apply_affine(load_brain_template(8).affine, index)
        assert np.allclose((ours * t1.reshape(-1, 1)).sum(0) / t1.sum(), centre, atol=0.01)


class TestMaking:
    def test_without_effects_the_template_comes_back(self):
        made = make_brains(2, recipe=NOTHING)
        template = F.avg_pool3d(load_brain_template(8).t1[None, None], 2)
        inside = made.volumes != 0
        assert torch.equal(inside[0], inside[1])
        assert torch.allclose(made.volumes[inside], template.expand(2, -1, -1, -1, -1)[inside], atol=1e-5)
        assert 3500 < int(inside[0].sum()) < 4500  # about 1.9 l, with fluid: voxels of 0.512 ml
        assert float(template[~inside[:1]].max()) < 0.3

    def test_shape_kind_and_metadata(self, brains):
        assert len(brains) == 24
        assert brains.volumes.shape == (24, 1, *GRID)
        assert brains.volumes.dtype == torch.float32
        assert float(brains.volumes.min()) == 0
        assert bool(torch.isfinite(brains.volumes).all())
        assert brains.age.dtype == torch.float64
        assert bool(((brains.age >= 20) & (brains.age <= 80)).all())
        assert set(brains.sex) == {"F", "M"}
        assert brains.metadata == {"age": brains.age.tolist(), "sex": list(brains.sex)}
        assert brains.groups[0] == "sub-00001"
        assert len(set(brains.groups)) == 24

    def test_the_affine_puts_the_brain_where_it_was(self):
        made = make_brains(1, recipe=NOTHING)
        assert made.affine[:3, :3].tolist() == (8 * np.eye(3)).tolist()
        volume = made.volumes[0, 0].double().numpy()
        template = load_brain_template(8)
        fine = template.t1.double().numpy()

        def centre(values, affine):
            index = np.stack(np.indices(values.shape), axis=-1).reshape(-1, 3)
            places = index @ affine[:3, :3].T + affine[:3, 3]
            return (places * values.reshape(-1, 1)).sum(0) / values.sum()

        assert np.allclose(centre(volume, made.affine), centre(fine, template.affine), atol=0.5)

    def test_the_same_again_and_no_global_generator_is_touched(self, brains):
        before = torch.random.get_rng_state()
        again = make_brains(24)
        assert torch.equal(again.volumes, brains.volumes)
        assert again.metadata == brains.metadata
        assert torch.equal(torch.random.get_rng_state(), before)
        assert again.fingerprint() == brains.fingerprint()

    def test_a_subject_depends_on_its_number_and_the_seed_alone(self, brains):
        later = make_brains(5, first=17)
        assert torch.equal(later.volumes, brains.volumes[17:22])
        assert later.groups == brains.groups[17:22]
        assert later.metadata["age"] == brains.metadata["age"][17:22]
        other = make_brains(5, first=17, seed=1)
        assert not torch.equal(other.volumes, later.volumes)
        assert other.metadata != later.metadata

    def test_fingerprints_separate_what_makes_other_volumes(self, brains):
        prints = {
            brains.fingerprint(),
            make_brains(2).fingerprint(),
            make_brains(2, first=1).fingerprint(),
            make_brains(2, seed=1).fingerprint(),
            make_brains(2, recipe=NOTHING).fingerprint(),
        }
        assert len(prints) == 5

    def test_subjects_differ(self, brains):
        rows = brains.standardized.flatten(1)
        likeness = torch.corrcoef(rows)
        others = likeness[~torch.eye(24, dtype=torch.bool)]
        assert float(others.min()) > 0.1  # all are brains
        assert float(others.max()) < 0.98

    def test_standardized_inside_the_brain(self, brains):
        inside = brains.volumes != 0
        scaled = brains.standardized
        assert bool((scaled[~inside] == 0).all())
        for row in range(3):
            values = scaled[row][inside[row]].double()
            assert float(values.mean()) == pytest.approx(0, abs=1e-5)
            assert float(values.var(unbiased=False)) == pytest.approx(1, abs=1e-4)

    def test_finer_voxels_show_the_same_brain(self, brains):
        fine = make_brains(2, recipe=BrainRecipe(voxel_size=4, noise=0.0))
        coarse = make_brains(2, recipe=BrainRecipe(noise=0.0))
        assert fine.volumes.shape == (2, 1, 52, 60, 50)
        assert fine.metadata == coarse.metadata
        averaged = F.avg_pool3d(fine.volumes, 2)
        inside = coarse.volumes != 0
        assert correlation(averaged[inside], coarse.volumes[inside]) > 0.95


class TestEffects:
    """Each alone: with all other sizes at 0, what it changes follows what it should follow."""

    def test_thinning_darkens_grey_matter_with_age(self):
        made = make_brains(16, recipe=replace(NOTHING, thinning=0.3))
        assert (
            correlation(mean_inside(made.volumes), made.age) < -0.97
        )  # the young gain only where there is fluid to replace
        inside = (made.volumes != 0).flatten(1).sum(1)
        assert len(set(inside.tolist())) == 1  # nothing moves

    def test_ventricles_grow_with_age(self):
        made = make_brains(16, recipe=replace(NOTHING, ventricles=0.5))
        centre = (np.linalg.inv(made.affine) @ [0.0, -12.0, 16.0, 1.0])[:3].round().astype(int)
        x, y, z = centre.tolist()
        near = made.volumes[:, 0, x - 2 : x + 3, y - 3 : y + 4, z - 1 : z + 2].mean((1, 2, 3))
        assert correlation(near, made.age) < -0.95
        far = made.volumes[:, 0, :, :4]
        assert float(far.std(0).max()) < 0.02

    def test_individuality_loosens_both(self):
        tight = make_brains(16, recipe=replace(NOTHING, thinning=0.3))
        loose = make_brains(16, recipe=replace(NOTHING, thinning=0.3, individuality=0.3))
        assert abs(correlation(mean_inside(loose.volumes), loose.age)) < 0.95
        assert abs(correlation(mean_inside(tight.volumes), tight.age)) > 0.97

    @pytest.mark.parametrize(("effect", "sign"), [("dimorphism", 1), ("grey_share", -1)])
    def test_sexes_differ_in_size_and_in_grey_matter(self, effect, sign):
        made = make_brains(12, recipe=replace(NOTHING, **{effect: 0.1}))
        male = torch.tensor([sex == "M" for sex in made.sex])
        size = (made.volumes != 0).flatten(1).sum(1).double()
        value = size if effect == "dimorphism" else mean_inside(made.volumes).double()
        assert sign * float(value[male].min() - value[~male].max()) > 0
        if effect == "dimorphism":
            ratio = float(size[male].mean() / size[~male].mean())
            assert ratio == pytest.approx(np.exp(0.3), rel=0.05)  # 10 % along each axis

    @pytest.mark.parametrize(
        "nuisance",
        ["head_size", "warp", "fine_warp", "turn", "shift", "regions", "contrast", "shade", "noise"],
    )
    def test_what_hides_age_does_not_know_it(self, nuisance):
        made = make_brains(16, recipe=replace(NOTHING, **{nuisance: getattr(BrainRecipe, nuisance)}))
        assert float(made.volumes.std(0).max()) > 1e-3
        assert abs(correlation(mean_inside(made.volumes), made.age)) < 0.7

    def test_noise_has_its_size(self):
        made = make_brains(20, recipe=replace(NOTHING, noise=0.03))
        deep = (F.avg_pool3d(load_brain_template(8).t1[None, None], 2)[0] > 0.5).expand(20, -1, -1, -1, -1)
        spread = made.volumes.std(0)[deep[0]].mean()
        assert float(spread) == pytest.approx(0.03, rel=0.03)


class TestTree:
    def test_what_is_written_is_read_back(self, brains, tmp_path):
        nibabel = pytest.importorskip("nibabel", reason="nibabel is in the development install")
        place = brains.write_bids(tmp_path / "tree")
        assert place == tmp_path / "tree"
        rows = [line.split("\t") for line in (place / "participants.tsv").read_text().splitlines()]
        assert rows[0] == ["participant_id", "age", "sex"]
        assert [row[0] for row in rows[1:]] == brains.groups
        assert [float(row[1]) for row in rows[1:]] == brains.metadata["age"]
        assert [row[2] for row in rows[1:]] == list(brains.sex)
        for row in (0, 23):
            subject = brains.groups[row]
            image = nibabel.load(place / subject / "anat" / f"{subject}_T1w.nii.gz")
            assert np.array_equal(np.asarray(image.dataobj), brains.volumes[row, 0].numpy())
            assert np.array_equal(image.affine, brains.affine)
            assert nibabel.aff2axcodes(image.affine) == ("R", "A", "S")
        assert len(list(place.rglob("*.nii.gz"))) == 24
        described = json.loads((place / "dataset_description.json").read_text())
        assert described["DatasetType"] == "raw"
        assert "not patient data" in described["Name"]
        assert set(json.loads((place / "participants.json").read_text())) == {"age", "sex"}

    def test_it_says_what_it_is(self, brains, tmp_path):
        told = (brains.write_bids(tmp_path / "tree") / "README").read_text()
        assert told.startswith(NOTICE)
        assert "not patient data" in NOTICE
        assert "chosen by the authors" in NOTICE
        assert "MNI152" in told
        assert '"thinning": ' in told

    def test_written_twice_is_the_same_and_replaces(self, brains, tmp_path):
        few = make_brains(2)
        place = few.write_bids(tmp_path / "tree")
        name = "sub-00002/anat/sub-00002_T1w.nii.gz"
        first = (place / name).read_bytes()
        brains.write_bids(place)
        assert len(list(place.rglob("*.nii.gz"))) == 24
        few.write_bids(place)
        assert (place / name).read_bytes() == first
        assert len(list(place.rglob("*.nii.gz"))) == 2
        assert [each.name for each in tmp_path.iterdir()] == ["tree"]

    def test_training_data_are_opened_from_it(self, brains, tmp_path):
        place = brains.write_bids(tmp_path / "tree")
        cache = tmp_path / "cache"
        opened = open_data(f"bids:{place}", part="all", metadata=("age", "sex"), cache_dir=cache)
        assert opened.metadata == brains.metadata
        assert [f"sub-{name.removeprefix('sub-')}" for name in opened.groups] == brains.groups
        kept = opened.images.images(torch.arange(24))
        assert torch.allclose(kept, brains.standardized, atol=1e-4)


class TestBadInput:
    @pytest.mark.parametrize(
        ("name", "value", "message"),
        [
            (
                "thinning", -0.1,
                "BrainRecipe: thinning must be a number of at least 0, because it is the size of an effect. "
                "Got -0.1. Pass for instance thinning=0.3.",
            ),
            (
                "noise", float("nan"),
                "BrainRecipe: noise must be a number of at least 0, because it is the size of an effect. "
                "Got nan. Pass for instance noise=0.03.",
            ),
            (
                "ages", (80.0, 20.0),
                "BrainRecipe: ages must be (youngest, oldest) with 0 <= youngest < oldest, because ages are "
                "drawn between them. Got (80.0, 20.0). Pass for instance ages=(20.0, 80.0).",
            ),
        ],
    )  # fmt: skip
    def test_recipes(self, name, value, message):
        with pytest.raises(InputError) as error:
            BrainRecipe(**{name: value})
        assert str(error.value) == message

    def test_voxels_that_do_not_divide_the_grid(self):
        with pytest.raises(InputError, match="BrainRecipe: voxel_size must be"):
            BrainRecipe(voxel_size=7)

    @pytest.mark.parametrize("arguments", [{"num": 0}, {"num": 2, "seed": -1}, {"num": 2, "first": -1}])
    def test_numbers(self, arguments):
        name = [*arguments][-1]
        with pytest.raises(InputError, match=f"make_brains: {name} must be"):
            make_brains(**arguments)

    def test_without_nilearn_the_message_says_how_to_get_it(self, monkeypatch):
        monkeypatch.setitem(sys.modules, "nilearn.datasets", None)
        load = load_brain_template.__wrapped__
        with pytest.raises(MissingExtraError, match=r"pip install 'spherometer\[neuro\]'"):
            load(8)
