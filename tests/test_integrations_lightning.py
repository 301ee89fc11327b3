"""The monitor as a callback of the real Lightning."""

import warnings

import pytest
import torch
from torch import nn

from spherometer import losses
from spherometer._monitor import Monitor
from spherometer.errors import InputError, SpherometerError

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # of Lightning's own imports
    pl = pytest.importorskip(
        "lightning.pytorch", reason="lightning is not installed (pip install spherometer[lightning])"
    )
    from spherometer.integrations.lightning import SphereMonitor

pytestmark = [
    # Lightning's advice about the number of workers and about logging intervals: tiny runs are wanted here
    pytest.mark.filterwarnings("ignore:.*does not have many workers.*"),
    pytest.mark.filterwarnings("ignore:.*smaller than the logging interval.*"),
    # Lightning 2.6 with torch 2.13: its own use of a deprecated tree-map class
    pytest.mark.filterwarnings("ignore:.*LeafSpec.*:FutureWarning"),
    pytest.mark.filterwarnings("ignore:.*LeafSpec.*:DeprecationWarning"),
]


class Tiny(pl.LightningModule):
    def __init__(self, collapse: bool = False) -> None:
        super().__init__()
        self.encoder = nn.Linear(8, 4, bias=False)
        self.collapse = collapse
        with torch.no_grad():
            self.encoder.weight.copy_(torch.randn(4, 8, generator=torch.Generator().manual_seed(0)))

    def training_step(self, batch, batch_idx):
        (x,) = batch
        z1, z2 = self.encoder(x), self.encoder(x + 0.1)
        if self.collapse:
            z1, z2 = z1 * 0 + 1, z2 * 0 + 1
        return {"loss": losses.AlignUniformLoss()(z1, z2), "z1": z1, "z2": z2}

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.01)


def fit(folder, callback, *, epochs=2, resume=None, **module):
    data = torch.utils.data.TensorDataset(torch.randn(96, 8, generator=torch.Generator().manual_seed(1)))
    trainer = pl.Trainer(
        max_epochs=epochs, accelerator="cpu", devices=1, log_every_n_steps=1, callbacks=[callback],
        enable_progress_bar=False, enable_model_summary=False, enable_checkpointing=False,
        logger=pl.loggers.CSVLogger(folder),
    )  # fmt: skip
    trainer.fit(Tiny(**module), torch.utils.data.DataLoader(data, batch_size=32), ckpt_path=resume)
    return trainer


def monitor(**settings) -> Monitor:
    return Monitor(**{"every": 2, "patience": 1, **settings})


def test_logs_readings_and_goes_on_from_a_checkpoint(tmp_path):
    whole = SphereMonitor(monitor())
    fit(tmp_path / "whole", whole)
    assert [reading["step"] for reading in whole.monitor.history] == [1, 2, 4, 6]

    first = SphereMonitor(monitor())
    trainer = fit(tmp_path / "first", first, epochs=1)
    logged = trainer.logged_metrics
    assert {"sphere/uniformity", "sphere/alignment", "sphere/effective_rank"} <= set(logged)
    assert float(logged["sphere/uniformity"]) == pytest.approx(first.monitor.history[-1]["uniformity"])
    trainer.save_checkpoint(tmp_path / "c.ckpt")

    second = SphereMonitor(monitor())
    fit(tmp_path / "second", second, resume=tmp_path / "c.ckpt")
    assert second.monitor.history == whole.monitor.history
    header = next((tmp_path / "second").rglob("metrics.csv")).read_text().splitlines()[0]
    assert "sphere/uniformity" in header


def test_alarms_warn_or_stop(tmp_path):
    with pytest.warns(UserWarning, match="complete_collapse: all features lie at nearly one point"):
        fit(tmp_path, SphereMonitor(monitor(warmup=0)), collapse=True)
    stopping = SphereMonitor(monitor(warmup=0), stop_on=["complete_collapse"])
    with (
        pytest.warns(UserWarning, match="complete_collapse"),
        pytest.raises(SpherometerError, match="step 1: "),
    ):
        fit(tmp_path, stopping, collapse=True)


def test_views_by_function_and_refusals(tmp_path):
    callback = SphereMonitor(monitor(), views=lambda outputs: (outputs["z1"], outputs["z1"]))
    fit(tmp_path, callback, epochs=1)
    assert callback.monitor.history[0]["alignment"] == 0
    with pytest.raises(InputError) as caught:
        fit(tmp_path, SphereMonitor(views=("a", "b")), epochs=1)
    assert str(caught.value) == (
        "SphereMonitor: views must be found in the output under 'a' and 'b', because the monitor reads both "
        "views of each batch there. Got a mapping with loss, z1, z2. Return a dict with both, or pass "
        "views=(name, name) or a function of the output."
    )
    with pytest.raises(InputError) as caught:
        SphereMonitor(stop_on=["collapse"])
    assert str(caught.value) == (
        "SphereMonitor: stop_on must be one of 'complete_collapse', 'dimensional_collapse', "
        "'cluster_collapse', 'norm_blow_up', 'misalignment', because nothing else is defined. "
        "Got 'collapse'. Pass stop_on='complete_collapse'."
    )
    with pytest.raises(InputError, match="monitor must be a spherometer"):
        SphereMonitor("z1")
