"""The monitor as a callback of the real Trainer of transformers."""

import json
import warnings

import pytest
import torch
from torch import nn

from spherometer import losses
from spherometer._monitor import Monitor
from spherometer.errors import InputError

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # of the library's own imports
    transformers = pytest.importorskip(
        "transformers", reason="transformers is not installed (pip install spherometer[text])"
    )
    from transformers import Trainer, TrainingArguments

    from spherometer.integrations.transformers import STATE_FILE, SphereCallback

pytestmark = [
    # Trainer pins memory in its loader whether there is a GPU or not
    pytest.mark.filterwarnings("ignore:.*pin_memory.*:UserWarning"),
]


@pytest.fixture(autouse=True)
def offline(monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")


def tiny_bert() -> nn.Module:
    config = transformers.BertConfig(
        vocab_size=32, hidden_size=8, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16,
        max_position_embeddings=8, hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0,
    )  # fmt: skip
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return transformers.BertModel(config)


class Pairs(nn.Module):
    """Two texts through one encoder, as a model that Trainer can train."""

    def __init__(self, collapse: bool = False) -> None:
        super().__init__()
        self.encoder, self.collapse = tiny_bert(), collapse

    def forward(self, first, second):
        z1, z2 = (self.encoder(input_ids=ids).pooler_output for ids in (first, second))
        if self.collapse:
            z1, z2 = z1 * 0 + 1, z2 * 0 + 1
        return {"loss": losses.AlignUniformLoss()(z1, z2), "z1": z1, "z2": z2}


def data() -> list[dict[str, torch.Tensor]]:
    tokens = torch.randint(0, 32, (96, 6), generator=torch.Generator().manual_seed(0))
    return [{"first": row, "second": row.roll(1)} for row in tokens]


def fit(folder, callback, *, steps=6, resume=None, collapse=False, **options):
    arguments = TrainingArguments(
        output_dir=str(folder), max_steps=steps, per_device_train_batch_size=32, report_to="none",
        use_cpu=True, save_strategy="steps", save_steps=3, logging_strategy="no", disable_tqdm=True, seed=0,
        **options,
    )  # fmt: skip
    trainer = Trainer(Pairs(collapse), arguments, train_dataset=data(), callbacks=[callback])
    trainer.train(resume_from_checkpoint=resume)
    return trainer


def monitor(**settings) -> Monitor:
    return Monitor(**{"every": 2, "patience": 1, **settings})


def test_logs_readings_and_goes_on_from_a_checkpoint(tmp_path):
    whole = SphereCallback(monitor())
    trainer = fit(tmp_path, whole)
    assert [reading["step"] for reading in whole.monitor.history] == [1, 2, 4, 6]
    logged = [line for line in trainer.state.log_history if "sphere/uniformity" in line]
    assert [line["step"] for line in logged] == [1, 2, 4, 6]
    assert logged[-1]["sphere/uniformity"] == whole.monitor.history[-1]["uniformity"]
    kept = json.loads((tmp_path / "checkpoint-6" / "trainer_state.json").read_text())
    assert any("sphere/effective_rank" in line for line in kept["log_history"])
    assert not trainer.model._forward_hooks

    second = SphereCallback(monitor())
    fit(tmp_path, second, resume=str(tmp_path / "checkpoint-3"))
    assert second.monitor.history == whole.monitor.history

    (tmp_path / "checkpoint-3" / STATE_FILE).unlink()
    with pytest.warns(UserWarning, match="the monitor starts anew at step 3"):
        fit(tmp_path, SphereCallback(monitor()), resume=str(tmp_path / "checkpoint-3"))


def test_gradient_accumulation_gives_the_last_batch(tmp_path):
    callback = SphereCallback(monitor())
    fit(tmp_path, callback, steps=2, gradient_accumulation_steps=2)
    assert [reading["num_rows"] for reading in callback.monitor.history] == [32, 64]


def test_one_name_takes_both_passes_of_a_submodule(tmp_path):
    named, whole = (
        SphereCallback(monitor(), views="pooler_output", module="encoder"),
        SphereCallback(monitor()),
    )
    fit(tmp_path / "named", named, steps=2)
    fit(tmp_path / "whole", whole, steps=2)
    assert named.monitor.history == whole.monitor.history


def test_alarms_warn_and_stop(tmp_path):
    callback = SphereCallback(monitor(warmup=0), stop_on=["complete_collapse"])
    with pytest.warns(UserWarning, match="step 1: complete_collapse: all features lie at nearly one point"):
        trainer = fit(tmp_path, callback, collapse=True)
    assert trainer.state.global_step == 1


def test_refusals(tmp_path):
    with pytest.raises(InputError) as caught:
        fit(tmp_path, SphereCallback(views=("a", "b")), steps=1)
    assert str(caught.value) == (
        "SphereCallback: views must be found in the output under 'a' and 'b', because the monitor reads both "
        "views of each batch there. Got a mapping with loss, z1, z2. Return a dict with both, or pass "
        "views=(name, name) or a function of the output."
    )
    with pytest.raises(InputError) as caught:
        fit(tmp_path, SphereCallback(views="z1"), steps=1)
    assert str(caught.value) == (
        "SphereCallback: views must be found in every step, because the monitor reads both views of each "
        "batch. Got 1 outputs of the model in step 1. Name the module that gives the embeddings; with one "
        "name, it must run once for each view."
    )
