"""Folders that were moved, caches that lost something, disks and users that cannot write."""

from operations import Situation, cut, edit
from operations_folders import ONE_STEP, PRETRAINED
from run_cases import SMALL

TINIER = (
    "model.hidden_size=16",
    "model.num_heads=1",
    "model.num_kv_heads=1",
    "model.num_layers=1",
    "model.intermediate_size=32",
)
QUICK = (*SMALL, *ONE_STEP, *TINIER, "warmstart.num_steps=1", "paths.cache=FOLDER/cache", "paths.runs=FOLDER/runs")
MORE = ("schedule.num_steps=4", "resume_with=[schedule.num_steps]")
ON_MODEL = (*PRETRAINED, *SMALL, *ONE_STEP, "paths.runs=FOLDER/runs")
EVALUATED = ("sampler=hf", "eval.datasets=[gsm8k]", "eval.max_tasks_per_dataset=1", "eval.samples=1", *SMALL[1:3])


def moved(name, *arguments, says, code=0, changes=True, **more):
    return Situation(
        kind="moves, caches and disks", name=name, arguments=arguments, says=says, code=code, changes=changes, **more
    )


def each_cached(damage):
    def prepare(folder):
        for cached in (folder / "cache").glob("tiny-*"):
            damage(cached)

    return prepare


def made(folder):
    folder.mkdir()
    return folder


def only_for_reading(folder):
    for path in (folder, *folder.rglob("*")):
        path.chmod(0o555 if path.is_dir() else 0o444)


def another_base(folder):
    edit("config.json", rms_norm_eps=0.5)(folder / "model")


def model_elsewhere(folder):
    (folder / "model").rename(folder / "elsewhere")


MOVES = [
    moved(
        "a run folder, copied, without its model cache",
        "resume=RUN",
        "paths.cache=FOLDER/new",
        *MORE,
        says="last step: 4",
    ),
    moved(
        "the same, evaluated",
        "policy=checkpoint",
        "policy.path=RUN",
        "paths.cache=FOLDER/new",
        "paths.runs=FOLDER/runs",
        *EVALUATED,
        says="evaluation folder: ",
        script="eval",
    ),
    moved(
        "a base model that was moved",
        "resume=NEWEST",
        "model.path=FOLDER/elsewhere",
        "schedule.num_steps=2",
        "resume_with=[model.path,schedule.num_steps]",
        first=ON_MODEL,
        prepare=model_elsewhere,
        says="last step: 2",
    ),
    moved(
        "the same, evaluated",
        "policy=checkpoint",
        "policy.path=NEWEST",
        "model.path=FOLDER/elsewhere",
        "paths.runs=FOLDER/evaluations",
        *EVALUATED,
        first=ON_MODEL,
        prepare=model_elsewhere,
        says="evaluation folder: ",
        script="eval",
    ),
    moved(
        "another base model in its place",
        "policy=checkpoint",
        "policy.path=NEWEST",
        *PRETRAINED,
        "paths.runs=FOLDER/evaluations",
        *EVALUATED,
        first=ON_MODEL,
        prepare=another_base,
        says="was trained on the base model MODEL, but this config gives MODEL",
        script="eval",
        code=2,
        changes=False,
    ),
    moved(
        "a cached model whose weights are gone",
        *QUICK,
        first=QUICK,
        prepare=each_cached(lambda cached: (cached / "model.safetensors").unlink()),
        says="last step: 1",
    ),
    moved(
        "a cached model whose tokenizer is cut",
        *QUICK,
        first=QUICK,
        prepare=each_cached(cut("tokenizer.json", 0.5)),
        says="last step: 1",
    ),
    moved(
        "a disk that fills up while a model is built",
        *QUICK,
        "model.hidden_size=64",
        max_file_bytes=150_000,
        says="cannot write the model cache ./cache: File too large; make room on its disk",
        code=5,
        changes=False,
    ),
    moved(
        "a cache that cannot be written",
        *QUICK,
        "paths.cache=/dev/null/x",
        says="cannot write to the model cache",
        code=2,
        changes=False,
    ),
    moved(
        "~ in paths",
        *QUICK,
        "paths.runs=~/runs",
        "paths.cache=~/cache",
        environment={"HOME": "FOLDER/home"},
        says="run folder: ./home/runs/",
    ),
    moved("~ for the folder of a run", "resume=~", environment={"HOME": "RUN"}, says="run folder: RUN"),
    moved("[/red] in a path", *QUICK, "paths.runs='FOLDER/[/red] a b'", says="run folder: ./[/red] a b/"),
    moved(
        "a working folder that is gone",
        *QUICK,
        prepare=lambda folder: (folder / "here").rmdir(),
        says="the working folder is gone",
        code=2,
        changes=False,
    ),
    moved(
        "a run folder that is only for reading",
        "resume=RUN",
        prepare=lambda folder: only_for_reading(folder / "runs"),
        owner=False,
        says="cannot write in RUN (Permission denied)",
        code=2,
        changes=False,
    ),
    moved(
        "a folder of runs that is only for reading",
        *QUICK,
        prepare=lambda folder: only_for_reading(made(folder / "runs")),
        owner=False,
        says="cannot write a run folder under ./runs (Permission denied)",
        code=2,
        changes=False,
    ),
]
