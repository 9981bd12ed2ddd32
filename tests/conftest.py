"""What all tests share: built models, and one small trained run."""

import fcntl
import gc
import os
import shutil
from contextlib import contextmanager
from pathlib import Path

# Before torch is imported: on two cores the threads of two workers would only wait for each other.
os.environ.setdefault("OMP_NUM_THREADS", "1")

import pytest
from hypothesis import settings
from run_cases import SMALL

from grpo_aflow.run.resources import STARTING

gc.set_threshold(STARTING)  # a worker goes on importing to its last file
settings.register_profile("no_deadline", deadline=None)  # nothing asserts wall-clock time
settings.load_profile("no_deadline")


@contextmanager
def alone(path):
    """One test worker at a time; the others find what the first has made."""
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


@pytest.fixture(scope="session")
def workers_folder(tmp_path_factory, worker_id):
    """A folder that all workers of this test session share."""
    own = tmp_path_factory.getbasetemp()
    return own if worker_id == "master" else own.parent


@pytest.fixture(scope="session")
def model_cache(workers_folder):
    """Models are built once per test session, apart from the user's own cache."""
    if "GRPO_AFLOW_CACHE" not in os.environ:
        os.environ["GRPO_AFLOW_CACHE"] = str(workers_folder / "models")
    return Path(os.environ["GRPO_AFLOW_CACHE"])


@pytest.fixture(scope="session")
def trained_run(model_cache, workers_folder):
    """The folder of a run of three small steps with the hf sampler, everything real."""
    from grpo_aflow.config.composing import compose
    from grpo_aflow.train import train

    root, made = workers_folder / "trained", workers_folder / "trained.made"
    with alone(workers_folder / "trained.lock"):
        if not made.exists():
            shutil.rmtree(root, ignore_errors=True)
            train(compose(*SMALL, f"paths.runs={root}"))
            made.touch()
    [manifest] = root.rglob("manifest.json")
    return manifest.parent


# A worker takes whole files, in this order first, so that no long one is left for the end when the other has none.
LONGEST_FILES = (
    "test_train.py",  # which makes what the others share, beside one that needs nothing of it
    "test_sandbox_attacks.py",
    "test_executor_faults.py",
    "test_warm_start.py",
    "test_ray.py",
    "test_vllm_on_ray.py",
    "test_ray_vllm.py",
    "test_operations.py",
    "test_processes.py",
    "test_automation.py",
    "test_readme.py",
    "test_seed_7b.py",
    "test_executor_mix.py",
    "test_vllm_sampler.py",
    "test_early_ends.py",
    "test_vllm_killed.py",
    "test_real_data.py",
    "test_parsing.py",
    "test_your_own.py",
    "test_tpe.py",
    "test_policies.py",
    "test_disk_full.py",
    "test_budget.py",
    "test_workflow_fuzz.py",
    "test_taken_up.py",
    "test_gpu_engine.py",
    "test_notebooks.py",
    "test_report_page.py",
    "test_plain_loop.py",
    "test_planning.py",
    "test_cli.py",
)


def pytest_collection_modifyitems(items):
    places = {name: place for place, name in enumerate(LONGEST_FILES)}
    items.sort(key=lambda item: places.get(item.path.name, len(places)))
