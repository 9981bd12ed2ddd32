"""Weights & Biases, offline: what reaches it, read back from its own file."""

import json
import struct

import pytest

from grpo_aflow.config.composing import compose
from grpo_aflow.run.folder import RunDirectory
from grpo_aflow.run.loggers import WANDB_RUN, WandB
from grpo_aflow.types import BudgetReached, InfrastructureError, UserError

wandb = pytest.importorskip("wandb")


@pytest.fixture
def run(tmp_path, monkeypatch):
    monkeypatch.delenv("WANDB_API_KEY", raising=False)
    monkeypatch.delenv("WANDB_MODE", raising=False)
    run = RunDirectory.create(tmp_path, "test", {"seed": 0})
    yield run
    run.close("done")


def log_records(content):
    """The records of a LevelDB log, which is what a .wandb file is behind its own header of 7 bytes."""
    at, parts = 7, b""
    while at + 7 <= len(content):
        left = 32768 - at % 32768
        if left < 7:
            at += left
            continue
        length, kind = struct.unpack_from("<HB", content, at + 4)
        parts += content[at + 7 : at + 7 + length]
        at += 7 + length
        if kind in (1, 4):  # whole, or the last part
            yield parts
            parts = b""


def values(items):
    return {item.key or "/".join(item.nested_key): json.loads(item.value_json) for item in items}


def records(run):
    """What W&B's files hold: run ids, history rows, exit codes, summary."""
    from wandb.proto import wandb_internal_pb2

    wandb.teardown()  # its own process writes the files
    ids, history, exits, summary = [], [], [], {}
    for file in sorted(run.path.glob("wandb/offline-run-*/*.wandb")):
        for data in log_records(file.read_bytes()):
            record = wandb_internal_pb2.Record()
            record.ParseFromString(data)
            match record.WhichOneof("record_type"):
                case "run":
                    ids.append(record.run.run_id)
                case "history":
                    history.append(values(record.history.item))
                case "exit":
                    exits.append(record.exit.exit_code)
                case "summary":
                    summary |= values(record.summary.update)
    return ids, history, exits, summary


@pytest.mark.slow
def test_a_resumed_run_goes_on_with_the_same_wandb_run(run):
    settings = compose("logger=wandb").logger
    for step in (1, 2):
        log = settings.start(run, {"seed": 0})
        log.log({"step": step, "reward/mean": 0.5})
        log.close(None)
    ids, history, exits, _ = records(run)
    assert set(ids) == {run.manifest()[WANDB_RUN]}
    assert sorted(row["step"] for row in history) == [1, 2]
    assert exits == [0, 0]


@pytest.mark.slow
def test_a_run_that_ended_badly_says_so(run):
    log = compose("logger=wandb").logger.start(run, {"seed": 0})
    log.close(BudgetReached("executor.max_usd=1 is reached"))
    _, _, exits, summary = records(run)
    assert exits == [1]
    assert summary["status"] == "executor.max_usd=1 is reached"


@pytest.mark.slow
def test_wandb_that_cannot_be_reached_is_one_line(run, monkeypatch):
    monkeypatch.setenv("WANDB_API_KEY", "0" * 40)
    monkeypatch.setenv("WANDB_BASE_URL", "http://127.0.0.1:9")
    monkeypatch.setenv("WANDB_MODE", "online")
    logger = WandB(project="p", entity=None, group=None, init_timeout_s=3.0)
    with pytest.raises(InfrastructureError, match=r"W&B cannot be used .*logger=none"):
        logger.start(run, {})


def test_a_mode_that_wandb_does_not_know(run, monkeypatch):
    monkeypatch.setenv("WANDB_MODE", "nope")
    with pytest.raises(UserError, match="WANDB_MODE=nope: must be one of online, offline"):
        compose("logger=wandb").logger.start(run, {})
