"""``spherometer train``: what it writes, how it goes on, and what it refuses."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from spherometer.cli import main
from spherometer.training import encode, load_encoder
from spherometer.training._learner import Learner
from spherometer.training._logging import RunLog

RECIPE = """
[encoder]
norm = "none"
dim = 4
width = 4
hidden = 8
[run]
steps = 4
batch_size = 64
[log]
every = 1
[monitor]
every = 2
[checkpoints]
every_steps = 2
"""


@pytest.fixture
def recipe(tmp_path: Path, monkeypatch) -> str:
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "recipe.toml"
    path.write_text(RECIPE)
    return str(path)


def train(recipe: str, *more: str, out: str = "out") -> int:
    return main(["train", "--recipe", recipe, "--device", "cpu", "--out", out, *more])


def complaint(capsys) -> str:
    out, err = capsys.readouterr()
    assert out == ""
    assert err.count("\n") == 1
    return err.rstrip("\n")


def lines(out: str = "out") -> list[dict]:
    return [json.loads(line) for line in Path(out, "log.jsonl").read_text().splitlines()]


def test_what_a_run_writes(recipe, capsys):
    assert train(recipe, "--json") == 0
    results = json.loads(capsys.readouterr().out)
    assert results == json.loads(Path("out/results.json").read_text())
    assert results["schema"] == "spherometer.train/1"
    assert (results["steps"], results["processes"], results["device"]) == (4, 1, "cpu")
    assert results["recipe"]["run"] == {
        "batch_size": 64, "precision": "no", "seed": 0, "steps": 4, "workers": 0
    }  # fmt: skip
    assert [line["step"] for line in lines()] == [1, 2, 3, 4]
    assert results["curve"] == [[line["step"], line["loss"]] for line in lines()]
    assert "effective_rank" in lines()[1]["monitor"]
    assert set(lines()[0]["terms"]) == {"alignment", "uniformity"}
    assert results["metrics"]["part"] == "test"
    assert set(results["metrics"]["values"]) >= {"alignment", "uniformity", "effective_rank"}
    assert sorted(path.name for path in Path("out/checkpoints").glob("step_*")) == [
        "step_00000000",
        "step_00000002",
        "step_00000004",
    ]
    encoder, notes = load_encoder("out/encoder.safetensors")
    assert notes["steps"] == 4
    assert encode(encoder, torch.zeros(2, 1, 8, 8)).output.shape == (2, 4)
    written = main(["train", "--recipe", "out/recipe.toml", "--device", "cpu", "--out", "again"])
    assert written == 0
    assert Path("again/recipe.toml").read_bytes() == Path("out/recipe.toml").read_bytes()
    assert [line["loss"] for line in lines("again")] == [line["loss"] for line in lines()]


def test_a_finished_run_says_so_and_other_settings_are_refused(recipe, capsys):
    assert train(recipe) == 0
    before = Path("out/results.json").read_bytes()
    capsys.readouterr()
    assert train(recipe) == 0
    assert "train: the run in out is finished: 4 steps" in capsys.readouterr().err
    assert Path("out/results.json").read_bytes() == before
    assert train(recipe, "--seed", "1") == 2
    assert complaint(capsys) == (
        "spherometer: train: out must hold the same run, or nothing, because a run goes on exactly or not at "
        "all. Got 'out', where run.seed was 0 and is 1. Use the same settings, or another."
    )
    Path("out/results.json").unlink()
    assert train(recipe, "--loss", "nt_xent") == 2
    assert "where method.name was 'align_uniform' and is 'nt_xent'." in capsys.readouterr().err
    assert train(recipe) == 0  # from the last checkpoint: nothing left to train
    assert "train: going on after step 4" in capsys.readouterr().err


def test_probes_are_added_to_a_finished_run(recipe, capsys):
    assert train(recipe) == 0
    assert train(recipe, "--probe") == 0
    probes = json.loads(Path("out/results.json").read_text())["probes"]
    assert set(probes) == {"trained", "untrained", "raw_pixels"}
    assert set(probes["trained"]["features"]) == {"output", "penultimate"}
    low, high = probes["trained"]["features"]["output"]["linear"]["interval"]
    assert low < probes["trained"]["features"]["output"]["linear"]["accuracy"] < high
    assert "raw_pixels" in capsys.readouterr().out


def test_a_loss_that_is_not_finite_ends_with_one_and_keeps_the_checkpoint(recipe, capsys, monkeypatch):
    original = Learner.update

    def update(self, batch, rate):
        if self.steps == 3:
            batch.x.fill_(float("nan"))
        return original(self, batch, rate)

    monkeypatch.setattr(Learner, "update", update)
    assert train(recipe) == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert err.splitlines()[-1] == (
        "train: the loss must stay finite, because the weights follow it. Got nan in step 4 (alignment nan, "
        "uniformity nan); the checkpoint of step 2 is kept. Lower the learning rate, or clip the gradient."
    )
    assert not Path("out/results.json").exists()
    monkeypatch.undo()


@pytest.mark.parametrize("workers", ["0", "1"])
def test_minutes_bound_a_run(recipe, workers, capsys):
    Path(recipe).write_text(RECIPE.replace("steps = 4", ""))
    assert train(recipe, "--minutes", "0.01", "--workers", workers) == 0
    results = json.loads(Path("out/results.json").read_text())
    assert results["recipe"]["run"]["minutes"] == 0.01
    assert "epochs" not in results["recipe"]["run"]
    assert results["steps"] >= 1


def test_options_replace_the_length_of_the_file(recipe):
    assert train(recipe, "--epochs", "0") == 0
    results = json.loads(Path("out/results.json").read_text())
    assert (results["steps"], results["recipe"]["run"]["epochs"]) == (0, 0)
    assert "steps" not in results["recipe"]["run"]


@pytest.mark.parametrize(
    ("more", "words"),
    [
        (["--loss", "nt_xnet"], "Recipe: method.name must be one of"),
        (["--queue", "8"], "Recipe: method.queue must go with method.momentum"),
        (["--data", "nothing-like-it"], "open_data: data must be"),
        (["--encoder", "resnet81"], "build_encoder: name must be"),
        (["--device", "gpu"], "train: device must be a device of this machine"),
        (["--tracker", "tensorbored"], "train: tracker must be one of"),
        (["--tracker", "wandb"], "train: tracker must be installed"),
        (["--epochs", "1", "--steps", "1"], "Recipe: run.steps must be left out"),
        (["--precision", "fp8"], "Invalid value for '--precision'"),
        (["--recipe", "none.toml"], "train: recipe must be a readable TOML file"),
    ],
)  # fmt: skip
def test_bad_usage(recipe, capsys, more, words):
    assert train(recipe, *more) == 2
    assert complaint(capsys).startswith(f"spherometer: {words}")
    assert not Path("out/results.json").exists()


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of tensorboard's own imports
def test_tensorboard_gets_the_numbers(recipe):
    assert train(recipe, "--tracker", "tensorboard") == 0
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    (events,) = Path("out/trackers/spherometer").glob("events.out.tfevents.*")  # settings are below it
    read = EventAccumulator(str(events))
    read.Reload()
    assert {"loss", "rate", "alignment", "uniformity", "effective_rank"} <= set(read.Tags()["scalars"])
    assert [(event.step, event.value) for event in read.Scalars("loss")] == [
        (line["step"], pytest.approx(line["loss"], rel=1e-6)) for line in lines()
    ]


def test_bf16_trains_and_leaves_the_encoder_as_it_was_made(recipe):
    assert train(recipe, "--precision", "bf16") == 0
    assert train(recipe, out="full") == 0
    half, full = lines(), lines("full")
    assert half[-1]["loss"] != full[-1]["loss"]
    assert half[-1]["loss"] == pytest.approx(full[-1]["loss"], abs=0.05)
    encoder, _ = load_encoder("out/encoder.safetensors")
    assert {weights.dtype for weights in encoder.parameters()} == {torch.float32}


def test_the_log_is_cut_to_the_step_that_a_run_goes_on_from(tmp_path):
    path = tmp_path / "log.jsonl"
    path.write_bytes(b'{"step": 1}\n{"step": 2}\nnonsense\n{"step": 3}\n{"step": 4, "lo')
    log = RunLog(path, 2)
    log.write({"step": 3, "loss": 0.5})
    assert path.read_bytes() == b'{"step": 1}\n{"step": 2}\n{"step": 3, "loss": 0.5}\n'
    assert [line["step"] for line in log.lines] == [1, 2, 3]


def test_help_does_not_load_torch():
    probe = (
        "import sys\nfrom spherometer.cli import main\nmain(['train', '--help'])\n"
        "print('loaded', {'torch', 'accelerate'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", probe], capture_output=True, text=True, check=True)
    assert "loaded set()" in done.stdout
    assert "--cached-batch" in done.stdout


def test_as_a_module():
    done = subprocess.run([sys.executable, "-m", "spherometer", "--version"], capture_output=True, text=True)
    assert (done.returncode, done.stdout.split()[0]) == (0, "spherometer")
