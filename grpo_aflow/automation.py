"""`grpo-aflow-pipeline`: the whole way in one command: data, training, evaluation with baselines, summary.

Each stage is one of the other commands in a process of its own. A stage is skipped when it has ended and its inputs
have not changed since, and taken up again where it was interrupted, also with another `executor.max_usd`:

    FOLDER/pipeline.json   what was run for each stage, the hash of its inputs, and the folder that it made
    FOLDER/data            the prepared tasks
    FOLDER/runs            the training run and the two evaluations
    FOLDER/summary.md      before, after and gain, and the table of baselines

FOLDER may be moved in between, and so may a folder of benchmark files: what counts is what lies in them.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import shlex
import sys
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from grpo_aflow.config.schema import EvaluateConfig
from grpo_aflow.evaluation.compare_command import join
from grpo_aflow.evaluation.results import FILE, read_results
from grpo_aflow.evaluation.table import markdown, sheets
from grpo_aflow.run.command_line import path_value
from grpo_aflow.run.files import replace
from grpo_aflow.run.folder import lock_folder
from grpo_aflow.run.saved import flatten, saved_config
from grpo_aflow.run.signals import run_to_its_end
from grpo_aflow.types import UserError

STATE = "pipeline.json"
CAPS = ("executor.max_usd", "executor.max_usd_per_step")  # what a stage may spend is no part of what it makes
OWN = ("name", "paths.runs", "resume")  # what the pipeline sets itself, to know where each stage writes
BASELINES = "io,cot,cot_sc@5,cot_sc@matched,best_reference"
ENTRY = "import sys; from grpo_aflow.entry import enter; sys.argv[0] = sys.argv.pop(1); enter(sys.argv.pop(1))"


@dataclass(frozen=True, kw_only=True, slots=True)
class Stage:
    """One command, and the file that says that it has ended."""

    name: str
    command: str  # the console script's name, for people
    function: str  # of `cli`
    overrides: tuple[str, ...]
    made: str  # a glob below `folder`: of what it makes, the newest counts
    ended: str  # a file of what it makes that is there only at the end
    folder: Path
    inputs: Mapping[str, Path]  # folders that it reads, by their keys
    anywhere: tuple[str, ...]  # the overrides, wherever the folders lie

    def identity(self, before: str) -> str:
        """A hash of what the stage is made from: its command and the stage before it, wherever they lie."""
        overrides = [override for override in self.anywhere if _key(override) not in CAPS]
        return hashlib.sha256(json.dumps([self.command, overrides, before]).encode()).hexdigest()

    def resuming(self, begun: Path) -> tuple[str, ...]:
        """The overrides that go on with what was begun, with the caps of now and what it reads where that is now."""
        saved = flatten(saved_config(begun))
        moved = [_given(key, path) for key, path in self.inputs.items() if saved.get(key, str(path)) != str(path)]
        changed = [*moved, *(override for override in self.overrides if _key(override) in CAPS)]
        allowed = [f"resume_with=[{','.join(dict.fromkeys(map(_key, changed)))}]"] if changed else []
        return (_given("resume", begun), *changed, *allowed)


def main(argv: Sequence[str] | None = None) -> None:
    """Parse the command line and run what is not done yet."""
    parser = argparse.ArgumentParser(prog="grpo-aflow-pipeline", description=__doc__, formatter_class=_Plain)
    parser.add_argument("folder", type=Path, help="where everything is written; run it again to go on")
    parser.add_argument(
        "overrides", nargs="*", default=[], help="of training; those of groups that an evaluation has, of it, too"
    )
    parser.add_argument("--source", default="bundled", help="bundled (default), hub, or a folder of benchmark files")
    parser.add_argument("--eval", action="append", default=[], metavar="OVERRIDE", help="of the evaluations alone")
    parser.add_argument("--baselines", default=BASELINES, help=f"default: {BASELINES}")
    arguments = parser.parse_intermixed_args(argv)
    for override in (*arguments.overrides, *arguments.eval):
        if (key := _key(override)) in OWN:
            raise UserError(f"{override}: the pipeline sets {key} itself, below {arguments.folder}: leave it out")
    folder, arguments.source = arguments.folder.expanduser(), os.path.expanduser(arguments.source)
    again = shlex.join(["grpo-aflow-pipeline", *(sys.argv[1:] if argv is None else argv)])
    lock = _hold(folder)
    try:
        print(_run_all(arguments, folder, again))
    finally:
        os.close(lock)


def _run_all(arguments: argparse.Namespace, folder: Path, again: str) -> str:
    """All stages, one after the other; returns the summary. again: the command that goes on where one stops."""
    done = _read_state(folder)
    identity = "" if arguments.source in ("bundled", "hub") else _digest(Path(arguments.source))
    for name in ("data", "train", "before", "after"):
        stage = _stage(name, folder, arguments, done)
        identity = stage.identity(identity)
        done[name] = _run(stage, identity, done.get(name), again)
        replace(folder / STATE, json.dumps(done, indent=1))
    text = summary({name: folder / done[name]["folder"] for name in ("train", "before", "after")})
    replace(folder / "summary.md", text)
    return text


def summary(folders: Mapping[str, Path]) -> str:
    """The page about a finished pipeline: success before and after training, and the table of the trained policy."""
    before, after = read_results(folders["before"]), read_results(folders["after"])
    joined = join({folders["after"]: after, folders["before"]: before}, policies_only=True)
    [gain, *_] = joined["comparisons"]
    old, new = before["systems"]["policy"]["all"], after["systems"]["policy"]["all"]
    lines = [
        "# Pipeline",
        "",
        f"Training: `{folders['train']}`. Success rate (exact answers on held-out tasks): "
        f"{_percent(old)} before, {_percent(new)} after training; gain {100 * gain['gain']:+.1f} points "
        f"{_interval(gain)} on {gain['num_tasks']} tasks{_p(gain)}.",
    ]
    return "\n\n".join(["\n".join(lines), *(markdown(sheet) for sheet in sheets(after))]) + "\n"


def _stage(name: str, folder: Path, arguments: argparse.Namespace, done: Mapping[str, Any]) -> Stage:
    run = Path(done["train"]["folder"]) if name == "after" else None
    inputs = _inputs(name, folder, run)
    source = arguments.source if arguments.source in ("bundled", "hub") else "SOURCE"  # known by its content
    nowhere = Path("FOLDER")
    return Stage(
        name=name,
        command={"data": "grpo-aflow-data", "train": "grpo-aflow-train"}.get(name, "grpo-aflow-eval"),
        function={"data": "data", "train": "train"}.get(name, "evaluate"),
        overrides=_overrides(name, folder, arguments.source, inputs, arguments),
        made="data" if name == "data" else f"runs/*/*-{name}*",
        ended="manifest.json" if name in ("data", "train") else FILE,
        folder=folder,
        inputs=inputs,
        anywhere=_overrides(name, nowhere, source, _inputs(name, nowhere, run), arguments),
    )


def _inputs(name: str, folder: Path, run: Path | None) -> dict[str, Path]:
    """What a stage reads, by its keys. run: the training's, below the folder."""
    data = folder / "data"
    if name == "data":
        return {}
    if name == "train":
        return {"data_mix.source": data, "eval.source": data}
    return {"eval.source": data, **({} if run is None else {"policy.path": folder / run})}


def _overrides(
    name: str, folder: Path, source: str, inputs: Mapping[str, Path], arguments: argparse.Namespace
) -> tuple[str, ...]:
    read = [_given(key, path) for key, path in inputs.items()]
    if name == "data":
        checked = ["max_failing_golds=null"] if arguments.source == "bundled" else []
        return (_given("mix.source", source), _given("output", folder / "data"), *checked)
    own = ["eval.split=test", _given("paths.runs", folder / "runs"), f"name={name}"]
    if name == "train":
        return ("data_mix=hub", *read, *own, *arguments.overrides)
    policy = ["policy=base"]
    if name == "after":
        policy = ["policy=checkpoint", f"baselines=[{arguments.baselines}]"]
    passed = {*EvaluateConfig.__dataclass_fields__, "experiment"}  # which sets groups of an evaluation, too
    shared = [override for override in arguments.overrides if _group(override) in passed]
    # The tasks are named, since an experiment may evaluate on none.
    return (*policy, "eval=heldout", *read, *own, *shared, *arguments.eval)


def _run(stage: Stage, identity: str, before: Mapping[str, Any] | None, again: str) -> dict[str, Any]:
    """Run a stage unless it is done; take up what it had begun with the same inputs. again: what goes on."""
    folder = stage.folder
    if before is not None and before["identity"] == identity and _has_ended(stage, folder / before["folder"]):
        print(f"{stage.name}: done before, {folder / before['folder']}", flush=True)
        return dict(before)
    note = folder / f".{stage.name}"  # what it was begun with, and what lay there before
    last, *earlier = note.read_text(encoding="utf-8").split("\n") if note.is_file() else [""]
    there = _made(stage)
    is_same = last == identity
    begun = _newest(stage, earlier) if is_same else None
    overrides = stage.overrides
    if begun is not None and stage.name != "data" and (folder / begun / "config.yaml").is_file():
        overrides = stage.resuming(folder / begun)
    if not is_same:
        replace(note, "\n".join([identity, *there]))  # a killed pipeline goes on with what it had begun
    print(f"{stage.name}: {shlex.join([stage.command, *overrides])}", flush=True)
    code = run_to_its_end([sys.executable, "-P", "-c", ENTRY, stage.command, stage.function, *overrides])
    if code:
        raise Stopped(stage.name, code if code > 0 else 128 - code, again)
    # Told by what is new, not by names: a clock, or a time zone, may go back.
    made = begun if overrides is not stage.overrides else _newest(stage, there if stage.name != "data" else ())
    if made is None:
        raise UserError(f"{stage.name}: {stage.command} ended well and nothing is at {folder / stage.made}")
    return {"identity": identity, "command": [stage.command, *overrides], "folder": made}


class Stopped(UserError):
    """A stage ended badly; what it said stands above."""

    def __init__(self, stage: str, code: int, again: str) -> None:
        super().__init__(f"the stage {stage} stopped (exit code {code}); go on with: {again}")
        self.code = code


def _digest(source: Path) -> str:
    """Of the files in a folder of benchmark files; "" where there is none."""
    found = []
    for path in sorted(source.rglob("*")):
        if path.is_file():
            with path.open("rb") as file:
                found.append((str(path.relative_to(source)), hashlib.file_digest(file, "sha256").hexdigest()))
    return hashlib.sha256(repr(found).encode()).hexdigest() if found else ""


def _has_ended(stage: Stage, made: Path) -> bool:
    if stage.name != "train":
        return (made / stage.ended).is_file()
    try:
        return bool(json.loads((made / stage.ended).read_text(encoding="utf-8")).get("status") == "done")
    except (OSError, ValueError):
        return False


def _made(stage: Stage) -> list[str]:
    """Of what the stage has made the folders, below its own."""
    return sorted(str(path.relative_to(stage.folder)) for path in stage.folder.glob(stage.made) if path.is_dir())


def _newest(stage: Stage, earlier: Collection[str]) -> str | None:
    """Of what the stage has made, without what lay there earlier."""
    return next((made for made in reversed(_made(stage)) if made not in earlier), None)


def _hold(folder: Path) -> int:
    """Make the folder and lock it: two pipelines at once would both begin, and pay, the same training."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        return lock_folder(folder)
    except OSError as error:
        raise UserError(f"cannot use {folder} ({error.strerror}); give another folder") from error


def _read_state(folder: Path) -> dict[str, Any]:
    file = folder / STATE
    try:
        return dict(json.loads(file.read_text(encoding="utf-8"))) if file.is_file() else {}
    except OSError as error:
        raise UserError(f"cannot use {folder} ({error.strerror}); give another folder") from error
    except ValueError as error:
        raise UserError(
            f"{folder / STATE} cannot be read ({error}); delete it, and every stage is looked at again"
        ) from error


def _given(key: str, path: str | Path) -> str:
    return f"{key}={path_value(path)}"


def _key(override: str) -> str:
    return override.lstrip("+~").split("=")[0].split("@")[0]


def _group(override: str) -> str:
    return _key(override).split(".")[0]


def _interval(gain: Mapping[str, Any]) -> str:
    """The gain's, in points; one task alone has none, nor have gains that are all alike."""
    low, high = gain["low"], gain["high"]
    return "(no interval)" if low is None else f"[{100 * low:+.1f}, {100 * high:+.1f}]"


def _p(gain: Mapping[str, Any]) -> str:
    """The gain's p-value; one task alone has none."""
    return "" if gain["p"] is None else f" (p = {gain['p']:.4f})"


def _percent(figures: Mapping[str, Any]) -> str:
    low, high = figures["accuracy_low"], figures["accuracy_high"]
    return f"{100 * figures['accuracy']:.1f} % [{100 * low:.1f}, {100 * high:.1f}]"


class _Plain(argparse.RawDescriptionHelpFormatter):
    """The description as it is laid out above."""
