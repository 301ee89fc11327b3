"""Settings of the whole suite: hypothesis repeats itself exactly, and never measures time."""

import os

import torch
from hypothesis import HealthCheck, settings

settings.register_profile(
    "daily",
    derandomize=True,
    deadline=None,
    max_examples=30,
    database=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
settings.register_profile("nightly", settings.get_profile("daily"), max_examples=1000)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "daily"))

if "PYTEST_XDIST_WORKER" in os.environ:  # one thread for each worker: they share the cores
    torch.set_num_threads(1)
    os.environ.setdefault("OMP_NUM_THREADS", "1")  # of the processes that tests start


def pytest_terminal_summary(terminalreporter):
    """SPHEROMETER_NO_SKIPS=1 (continuous integration): whatever is skipped counts as failed."""
    skipped = terminalreporter.stats.get("skipped", [])
    if skipped and os.environ.get("SPHEROMETER_NO_SKIPS"):
        terminalreporter.write_line(f"{len(skipped)} skipped, but nothing may be skipped here", red=True)
        terminalreporter._session.exitstatus = 1
