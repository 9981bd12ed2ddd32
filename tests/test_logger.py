import pytest

from grpo_aflow.config import compose
from grpo_aflow.logger import WandB
from grpo_aflow.types import InfrastructureError


@pytest.mark.slow
def test_wandb_works_offline_without_a_key(tmp_path, monkeypatch):
    pytest.importorskip("wandb")
    monkeypatch.delenv("WANDB_API_KEY", raising=False)
    monkeypatch.delenv("WANDB_MODE", raising=False)
    log = compose("logger=wandb").logger.start(tmp_path, {"seed": 0})
    log.log(1, {"reward/mean": 0.5})
    log.close()
    assert list(tmp_path.glob("wandb/offline-run-*/*.wandb"))


@pytest.mark.slow
def test_wandb_that_cannot_be_reached_is_one_line(tmp_path, monkeypatch):
    pytest.importorskip("wandb")
    monkeypatch.setenv("WANDB_API_KEY", "0" * 40)
    monkeypatch.setenv("WANDB_BASE_URL", "http://127.0.0.1:9")
    monkeypatch.setenv("WANDB_MODE", "online")
    logger = WandB(project="p", entity=None, group=None, init_timeout_s=3.0)
    with pytest.raises(InfrastructureError, match=r"W&B cannot be used .*logger=none"):
        logger.start(tmp_path, {})
