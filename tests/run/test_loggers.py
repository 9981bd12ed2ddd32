"""What reaches a logger, read back from its own files (W&B's offline); and that none of them holds a run up."""

import json
import struct
import threading

import pytest
from installed import NEEDS_WANDB

from grpo_aflow.config.composing import compose, plain_compose, with_defaults
from grpo_aflow.run.background import Log, Logs
from grpo_aflow.run.folder import RunDirectory
from grpo_aflow.run.loggers import COLUMNS, REPORT, WANDB_RUN
from grpo_aflow.types import BudgetReached, UserError

pytestmark = NEEDS_WANDB


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


def all_records(run):
    import wandb
    from wandb.proto import wandb_internal_pb2

    wandb.teardown()  # its own process writes the files
    for file in sorted(run.path.glob("wandb/offline-run-*/*.wandb")):
        for data in log_records(file.read_bytes()):
            record = wandb_internal_pb2.Record()
            record.ParseFromString(data)
            yield record


def artifacts(run):
    """Names of the artifacts that are to be sent."""
    found = [record.artifact for record in all_records(run) if record.WhichOneof("record_type") == "artifact"]
    return [artifact.name for artifact in found if artifact.type != "run_table"]


def records(run):
    """What W&B's files hold: run ids, history rows, exit codes, summary."""
    ids, history, exits, summary = [], [], [], {}
    for record in all_records(run):
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


def start(run, *overrides, begin=0, close_s=60.0):
    """The loggers of a run with these overrides, and the lines that they say."""
    said = []
    loggers = compose(*overrides).logger
    logs = {name: logger.start(run, {"seed": 0}, begin=begin) for name, logger in loggers.items()}
    return Logs(logs, said.append, close_s=close_s), said


@pytest.mark.slow
def test_a_resumed_run_goes_on_with_the_same_wandb_run(run):
    for step in (1, 2):
        logs, said = start(run, "logger=wandb")
        logs.log({"step": step, "reward/mean": 0.5})
        logs.close(None)
        assert said == []
    ids, history, exits, _ = records(run)
    assert set(ids) == {run.manifest()[WANDB_RUN]}
    assert sorted(row["step"] for row in history) == [1, 2]
    assert exits == [0, 0]


@pytest.mark.slow
def test_a_run_that_ended_badly_says_so(run):
    logs, _ = start(run, "logger=wandb")
    logs.close(BudgetReached("executor.max_usd=1 is reached"))
    _, _, exits, summary = records(run)
    assert exits == [1]
    assert summary["status"] == "executor.max_usd=1 is reached"


@pytest.mark.slow
def test_rollouts_are_a_table_and_the_report_an_artifact(run):
    (run.path / REPORT).write_text("<html>curves</html>")
    logs, said = start(run, "logger=wandb", "logger.wandb.table_rows=2")
    logs.rollouts(3, [{"task": f"t{i}", "reward": 0.5, "source": "class Workflow: ...", "token": 1} for i in range(4)])
    logs.close(None)
    _, history, _, _ = records(run)
    assert [row["step"] for row in history] == [3]
    [file] = run.path.glob("wandb/offline-run-*/files/media/table/rollouts*.json")
    table = json.loads(file.read_text())
    assert table["columns"] == list(COLUMNS)
    assert [row[COLUMNS.index("task")] for row in table["data"]] == ["t0", "t1"]
    assert said == []
    assert artifacts(run) == [f"report-{run.manifest()[WANDB_RUN]}"]


@pytest.mark.slow
def test_where_wandb_cannot_be_reached_the_run_goes_on_offline(run, monkeypatch):
    monkeypatch.setenv("WANDB_API_KEY", "0" * 40)
    monkeypatch.setenv("WANDB_BASE_URL", "http://127.0.0.1:9")
    logs, said = start(run, "logger=wandb", "logger.wandb.init_timeout_s=3")
    logs.log({"step": 1, "reward/mean": 0.5})
    logs.close(None)
    [line] = said
    assert line.startswith("W&B cannot be used (")
    assert "wandb sync" in line
    _, history, _, _ = records(run)
    assert [row["step"] for row in history] == [1]


def test_a_mode_that_wandb_does_not_know(run, monkeypatch):
    monkeypatch.setenv("WANDB_MODE", "nope")
    with pytest.raises(UserError, match="WANDB_MODE=nope: must be one of online, offline"):
        compose("logger=wandb").check()


@pytest.mark.parametrize("package", ["wandb", "tensorboard"])
def test_a_package_that_is_missing(package, monkeypatch):
    monkeypatch.setattr("grpo_aflow.run.loggers.find_spec", lambda name: None)
    with pytest.raises(UserError, match=f"logger={package} needs the package {package}: install the extra"):
        compose(f"logger={package}").check()


# --- TensorBoard ------------------------------------------------------------------------------------------------------


def scalars(run):
    """What TensorBoard shows: tag -> (step, value) of each point."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(run.path / "tensorboard"))
    events.Reload()
    return {tag: [(e.step, round(e.value, 3)) for e in events.Scalars(tag)] for tag in events.Tags()["scalars"]}


@pytest.mark.slow
def test_tensorboard_shows_a_resumed_run_as_one(run):
    pytest.importorskip("tensorboard")
    logs, said = start(run, "logger=tensorboard")
    for step in (1, 2, 3):
        logs.log({"step": step, "reward/mean": step / 10})
    logs.close(None)
    run.resumed = True  # at step 2: the third is done again
    logs, _ = start(run, "logger=tensorboard", begin=2)
    logs.log({"step": 2, "heldout/accuracy": 0.7})
    logs.log({"step": 3, "reward/mean": 0.9})
    logs.close(None)
    assert said == []
    assert scalars(run) == {"reward/mean": [(1, 0.1), (2, 0.2), (3, 0.9)], "heldout/accuracy": [(2, 0.7)]}


# --- several, and some that do not work -------------------------------------------------------------------------------


@pytest.mark.slow
def test_several_at_once(run):
    pytest.importorskip("tensorboard")
    logs, said = start(run, "logger=[wandb,tensorboard]", "logger.wandb.project=p")
    logs.log({"step": 1, "reward/mean": 0.5})
    logs.close(None)
    assert said == []
    assert scalars(run) == {"reward/mean": [(1, 0.5)]}
    _, history, _, _ = records(run)
    assert [row["reward/mean"] for row in history] == [0.5]


@pytest.mark.slow
def test_loggers_from_outside_the_package_that_hang_and_fail(run):
    logs, said = start(
        run, "+logger.stuck._target_=own_loggers.Hanging", "+logger.down._target_=own_loggers.Failing", close_s=0.2
    )
    logs.log({"step": 1})
    logs.close(None)
    assert [line.split(" (")[0] for line in said] == [
        "logger stuck: 1 of 1 calls were not logged",
        "logger down: 1 of 1 calls were not logged",
    ]


@pytest.mark.slow
def test_the_keys_of_an_option_stand_below_its_name():
    with pytest.raises(UserError, match=r"logger\.project: unknown key; .*logger\.<name>\.project"):
        compose("logger=wandb", "+logger.project=p")


@pytest.mark.slow
def test_the_config_of_an_older_run_has_one_logger_without_its_name():
    composed = plain_compose(config_name="config")
    before = {"_target_": "grpo_aflow.run.loggers.WandB", "project": "p", "entity": None, "group": None}
    [(name, node)] = with_defaults({"logger": before}, composed, "config")["logger"].items()
    assert (name, node["project"], node["table_rows"]) == ("wandb", "p", 32)
    nothing = {"_target_": "grpo_aflow.run.loggers.NoLogger"}
    assert with_defaults({"logger": nothing}, composed, "config")["logger"] == {}
    newer = {"wandb": before}
    assert with_defaults({"logger": newer}, composed, "config")["logger"]["wandb"]["table_rows"] == 32


class Kept(Log):
    """Keeps what it is given; `bar` holds every call up, `fails` are the steps at which it raises."""

    def __init__(self, *, bar=None, fails=(), opens=True):
        self.bar, self.fails, self.opens = bar, fails, opens
        self.steps, self.closed = [], False

    def open(self, say):
        if not self.opens:
            raise OSError("no such service")

    def log(self, figures):
        if self.bar:
            self.bar.wait()
        if figures["step"] in self.fails:
            raise RuntimeError("refused\nwith details")
        self.steps.append(figures["step"])

    def close(self, error):
        self.closed = True


def test_a_logger_that_raises_loses_that_call_and_no_other():
    said, bad, good = [], Kept(fails=(2, 3)), Kept()
    logs = Logs({"bad": bad, "good": good}, said.append)
    for step in range(1, 6):
        logs.log({"step": step})
    logs.close(None)
    assert bad.steps == [1, 4, 5]
    assert good.steps == [1, 2, 3, 4, 5]
    assert bad.closed
    assert said == [
        "logger bad: 2 of 5 calls were not logged (RuntimeError: refused); the files of the run have everything"
    ]


def test_a_logger_that_never_comes_back_is_left_behind():
    said, bar = [], threading.Event()
    hanging, good = Kept(bar=bar), Kept()
    logs = Logs({"hanging": hanging, "good": good}, said.append, queued=3, close_s=0.05)
    for step in range(1, 11):
        logs.log({"step": step})  # returns, or this test would not
        while step not in good.steps:
            good_thread = next(t for t in threading.enumerate() if t.name == "logger good")
            good_thread.join(0.001)
    logs.close(None)
    assert good.steps == list(range(1, 11))
    assert good.closed
    assert said == [
        "logger hanging: 10 of 10 calls were not logged (it was more than 3 calls behind); it is still at work and is "
        "left behind; the files of the run have everything"
    ]
    bar.set()


def test_a_slow_logger_drops_what_it_cannot_take():
    said, bar = [], threading.Event()
    slow = Kept(bar=bar)
    logs = Logs({"slow": slow}, said.append, queued=3)
    for step in range(1, 11):
        logs.log({"step": step})
    bar.set()
    logs.close(None)
    assert slow.steps in ([1, 2, 3], [1, 2, 3, 4])  # whether the first was in hand already
    assert slow.closed
    assert (
        f"logger slow: {10 - len(slow.steps)} of 10 calls were not logged (it was more than 3 calls behind)" in said[0]
    )


def test_a_logger_that_cannot_be_opened():
    said, bad = [], Kept(opens=False)
    logs = Logs({"bad": bad}, said.append)
    logs.log({"step": 1})
    logs.close(None)
    assert said == [
        "logger bad: 1 of 1 calls were not logged (OSError: no such service); the files of the run have everything"
    ]
    assert not bad.closed
