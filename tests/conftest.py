"""What all tests share: built models, and one small trained run."""

import os
from pathlib import Path

# Before torch is imported: on two cores the threads of two workers would only wait for each other.
os.environ.setdefault("OMP_NUM_THREADS", "1")

import pytest
from run_cases import SMALL


@pytest.fixture(scope="session")
def model_cache(tmp_path_factory):
    """Models are built once per test session, apart from the user's own cache."""
    if "GRPO_AFLOW_CACHE" not in os.environ:
        os.environ["GRPO_AFLOW_CACHE"] = str(tmp_path_factory.mktemp("models"))
    return Path(os.environ["GRPO_AFLOW_CACHE"])


@pytest.fixture(scope="session")
def trained_run(model_cache, tmp_path_factory):
    """The folder of a run of three small steps with the hf sampler, everything real."""
    from grpo_aflow.config import compose
    from grpo_aflow.train import train

    root = tmp_path_factory.mktemp("trained")
    train(compose(*SMALL, f"paths.runs={root}"))
    [manifest] = root.rglob("manifest.json")
    return manifest.parent


# Whole files that are left out of `make test-fast`: they start servers, interpreters or compose the config many times.
SLOW_FILES = {
    "test_budget.py",
    "test_cli.py",
    "test_config.py",
    "test_escapes.py",
    "test_executor_client.py",
    "test_grade_properties.py",
    "test_hub.py",
    "test_math_grading.py",
    "test_measure.py",
    "test_normalisation.py",
    "test_real_data.py",
    "test_sandbox_attacks.py",
    "test_sandbox_lifecycle.py",
    "test_sandbox_probes.py",
    "test_sandbox_settings.py",
    "test_warmstart.py",
}


def pytest_collection_modifyitems(items):
    for item in items:
        if item.path.name in SLOW_FILES:
            item.add_marker(pytest.mark.slow)
