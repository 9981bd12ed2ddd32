"""What is known of a workflow around the body of `__call__`: imports, constants, slots, parameters."""

from __future__ import annotations

import ast
from dataclasses import dataclass, field

from grpo_aflow.types import Finding
from grpo_aflow.workflow.checking.diagnosis import Diagnosis, Edit, Repair, rename
from grpo_aflow.workflow.checking.spelling import nearest
from grpo_aflow.workflow.language import CODES, REFUSED_NODES
from grpo_aflow.workflow.operators.spec import Kind, OperatorSpec, Prompt
from grpo_aflow.workflow.operators.table import OperatorSet

CREATE_LLM = "create_llm_instance"
UNKNOWN = OperatorSpec(
    slot="unknown",
    class_name="Unknown",
    arguments=(),
    results={"response": Kind.TEXT},
    min_calls=1,
    max_calls=1,
    description="",
    prompts={"main": Prompt("")},
)
"""Stands for a class that is no operator: reported where the slot is set, so that its calls are not reported again."""


@dataclass(slots=True)
class Outline:
    """What stands around the body of `__call__`; filled in by `header.read`. Gathers all that is wrong."""

    operators: OperatorSet  # that a workflow may use
    diagnoses: list[Diagnosis] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)  # what has no effect or is not taken as Python would
    constants: list[ast.Assign | ast.AnnAssign] = field(default_factory=list)  # of the module and of the class body
    constant_names: set[str] = field(default_factory=set)
    class_constants: set[str] = field(default_factory=set)
    init: ast.FunctionDef | None = None
    init_body: list[ast.Assign | ast.AnnAssign] = field(default_factory=list)  # its assignments of data
    init_parameters: tuple[str, ...] = ()
    init_names: set[str] = field(default_factory=set)  # its parameters and variables
    call: ast.AsyncFunctionDef | None = None
    parameters: tuple[tuple[str, str], ...] = ()  # of __call__: (name, what is bound to it)
    slots: dict[str, OperatorSpec] = field(default_factory=dict)  # attribute -> operator, or UNKNOWN
    llm_names: set[str] = field(default_factory=set)  # attributes that hold the language model
    data_names: set[str] = field(default_factory=set)  # attributes that hold data
    operator_modules: set[str] = field(default_factory=lambda: {"operator", "operators"})
    prompt_modules: set[str] = field(default_factory=lambda: {"prompt_custom"})
    asyncio_names: set[str] = field(default_factory=lambda: {"asyncio"})
    gather_names: set[str] = field(default_factory=set)
    class_names: dict[str, str] = field(default_factory=dict)  # local name -> operator class, by import
    loggers: set[str] = field(default_factory=set)  # names, and attributes as `self.name`
    imported: set[str] = field(default_factory=set)  # understood names that cannot be used

    @property
    def assignments(self) -> list[ast.Assign | ast.AnnAssign]:
        """All of `constants` and `init_body`."""
        return [*self.constants, *self.init_body]

    def is_logger(self, node: ast.expr) -> bool:
        """Whether the node is `logging`, or what it or an import gave as a logger."""
        match node:
            case ast.Name(id=name):
                return name in self.loggers
            case ast.Attribute(value=ast.Name(id="self"), attr=name):
                return f"self.{name}" in self.loggers
        return False

    # --- what is wrong ------------------------------------------------------------------------------------------------

    def report(self, node: ast.AST | int, code: str, message: str, repair: Repair | None = None) -> None:
        assert code in CODES, code
        line = node if isinstance(node, int) else getattr(node, "lineno", 1)
        self.diagnoses.append(Diagnosis(finding=Finding(code=code, line=line, message=message), repair=repair))

    def refuse(self, node: ast.AST) -> None:
        """E502 for a node outside the language."""
        shown = REFUSED_NODES.get(type(node), f"{type(node).__name__}: leave it out")
        self.report(node, "E502", f"the language does not have {shown}")

    def misspelt_llm(self, node: ast.expr, name: str) -> None:
        """E208 for `self.<name>` where the language model must stand."""
        near = nearest(name, self.llm_names)
        edit = rename(node, name, near) if near else None
        fix = f"write self.{near}" if near else f"write `self.llm = {CREATE_LLM}(llm_config)` in __init__"
        self.not_llm(node, f"self.{name} is not the language model; {fix}", edit)

    def not_llm(self, node: ast.AST, message: str, edit: Edit | None) -> None:
        """E208 with another message; `edit` repairs it."""
        self.report(node, "E208", message, Repair(name="misspelt_llm", edits=(edit,)) if edit else None)
