"""Reads the outside of a workflow: imports, constants, the class, `__init__` with its slots, `__call__`'s signature.

AFlow's usual header is understood here and costs nothing. What is left for `flow` is the body of `__call__`.
"""

from __future__ import annotations

import ast
from collections.abc import Iterable
from dataclasses import dataclass, field

from grpo_aflow.types import Finding
from grpo_aflow.workflow.language import REFUSED_NODES, Diagnosis, Edit, Repair
from grpo_aflow.workflow.operators.spec import OperatorSpec
from grpo_aflow.workflow.operators.table import BUILT_IN_SET, OperatorSet

NO_CLASS = "there is no `class Workflow`; write one with __init__ and async __call__"
SCOREFLOW = (
    "this is ScoreFlow's dialect (`run_workflow`, operators that hold the problem and return text); write "
    "`async def __call__(self, problem)`, `operator.Custom(self.llm)`, and hand input= and instruction= to each call"
)
CREATE_LLM = "create_llm_instance"
CALL_PARAMETERS = ("problem", "entry_point", "test")
_TYPING = frozenset(("Literal", "Union", "Optional", "Dict", "List", "Tuple", "Any", "TypeVar", "Callable", "Type"))


@dataclass(slots=True)
class Reading:
    """The outside of a workflow; filled in by `read`."""

    operators: OperatorSet = BUILT_IN_SET
    diagnoses: list[Diagnosis] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)  # what is understood and has no effect
    constants: list[ast.stmt] = field(default_factory=list)
    constant_names: set[str] = field(default_factory=set)
    class_constants: set[str] = field(default_factory=set)
    init: ast.FunctionDef | None = None
    init_body: list[ast.stmt] = field(default_factory=list)
    init_parameters: tuple[str, ...] = ()
    init_names: set[str] = field(default_factory=set)
    call: ast.AsyncFunctionDef | None = None
    parameters: tuple[tuple[str, str], ...] = ()
    slots: dict[str, OperatorSpec] = field(default_factory=dict)
    llm_names: set[str] = field(default_factory=set)
    data_names: set[str] = field(default_factory=set)
    operator_modules: set[str] = field(default_factory=lambda: {"operator", "operators"})
    prompt_modules: set[str] = field(default_factory=lambda: {"prompt_custom"})
    asyncio_names: set[str] = field(default_factory=lambda: {"asyncio"})
    gather_names: set[str] = field(default_factory=set)
    class_names: dict[str, str] = field(default_factory=dict)  # local name -> operator class, by import
    imported: set[str] = field(default_factory=set)  # understood names that cannot be used

    def report(self, node: ast.AST | int, code: str, message: str, repair: Repair | None = None) -> None:
        line = node if isinstance(node, int) else getattr(node, "lineno", 1)
        self.diagnoses.append(Diagnosis(finding=Finding(code=code, line=line, message=message), repair=repair))

    def refuse(self, node: ast.AST) -> None:
        """E502 for a node outside the language."""
        shown = REFUSED_NODES.get(type(node), f"{type(node).__name__}: leave it out")
        self.report(node, "E502", f"the language does not have {shown}")


def replace(node: ast.expr, old: str, new: str, *, at_end: bool = True) -> Edit:
    """The edit that writes `new` for the identifier `old`, with which `node` ends (an attribute) or begins (a name)."""
    size = len(old.encode())
    column = (node.end_col_offset or 0) - size if at_end else node.col_offset
    line = (node.end_lineno or node.lineno) if at_end else node.lineno
    return Edit(line=line, column=column, end_column=column + size, text=new)


def nearest(name: str, candidates: Iterable[str]) -> str | None:
    """The one candidate that `name` is a misspelling of; None if none is near, or several are equally near."""
    distances: dict[int, set[str]] = {}
    for candidate in candidates:
        far = 1 if len(_plain(candidate)) < 6 else 2
        distance = _distance(_plain(name), _plain(candidate))
        if candidate != name and distance <= far:
            distances.setdefault(distance, set()).add(candidate)
    closest = distances[min(distances)] if distances else set()
    return closest.pop() if len(closest) == 1 else None


def _plain(name: str) -> str:
    return name.replace("_", "").lower()


def _distance(a: str, b: str) -> int:
    """Levenshtein distance; 9 when the lengths alone are too far apart."""
    if abs(len(a) - len(b)) > 2 or max(len(a), len(b)) > 40:
        return 9
    row = list(range(len(b) + 1))
    for i, x in enumerate(a, start=1):
        previous, row[0] = row[0], i
        for j, y in enumerate(b, start=1):
            previous, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, previous + (x != y))
    return row[-1]


def read(tree: ast.Module, operators: OperatorSet = BUILT_IN_SET) -> Reading:
    """Read the module; everything that is wrong with it is in `.diagnoses`."""
    reading = Reading(operators=operators)
    workflow: ast.ClassDef | None = None
    for node in tree.body:
        if isinstance(node, ast.ClassDef) and node.name == "Workflow" and workflow is None:
            workflow = node
        else:
            _module_statement(reading, node)
    if workflow is None:
        reading.report(1, "E102", NO_CLASS)
        return reading
    _class(reading, workflow)
    return reading


def _module_statement(reading: Reading, node: ast.stmt) -> None:
    match node:
        case ast.Import() | ast.ImportFrom():
            read_import(reading, node)
        case (
            ast.Assign(targets=[ast.Name(id=name)], value=value) | ast.AnnAssign(target=ast.Name(id=name), value=value)
        ):
            if isinstance(value, ast.Subscript) and isinstance(value.value, ast.Name) and value.value.id in _TYPING:
                reading.imported.add(name)  # a type alias: DatasetType = Literal[...]
            elif value is not None:
                reading.constants.append(node)
                reading.constant_names.add(name)
        case ast.Expr(value=ast.Constant()) | ast.Pass():
            pass
        case ast.If(test=ast.Compare(left=ast.Name(id="__name__"))):
            pass  # `if __name__ == "__main__":` never holds here
        case ast.ClassDef(name="Workflow"):
            reading.report(node, "E102", "a second `class Workflow`; keep one")
        case ast.FunctionDef() | ast.AsyncFunctionDef() | ast.ClassDef():
            kind = "class" if isinstance(node, ast.ClassDef) else "function"
            reading.report(
                node, "E502", f"the language does not have a {kind} beside Workflow; write its lines in __call__"
            )
        case _:
            reading.report(node, "E502", "only imports and constants may stand beside the class; leave this out")


def read_import(reading: Reading, node: ast.Import | ast.ImportFrom) -> None:
    """Note what an import binds. Any import is understood and does nothing; a name of it cannot be used."""
    origin = "" if isinstance(node, ast.Import) else node.module or ""
    for alias in node.names:
        bound = alias.asname or (alias.name.partition(".")[0] if isinstance(node, ast.Import) else alias.name)
        last = alias.name.rpartition(".")[2]
        if last in ("operator", "operators"):
            reading.operator_modules.add(bound)
        elif last == "prompt":
            reading.prompt_modules.add(bound)
        elif alias.name == "asyncio":
            reading.asyncio_names.add(bound)
        elif origin == "asyncio" and alias.name == "gather":
            reading.gather_names.add(bound)
        elif origin and alias.name in reading.operators.by_class:
            reading.class_names[bound] = alias.name
        else:
            reading.imported.add(bound)


def _class(reading: Reading, workflow: ast.ClassDef) -> None:
    bases = [base for base in workflow.bases if not (isinstance(base, ast.Name) and base.id == "object")]
    if bases or workflow.keywords:
        reading.report(workflow, "E502", "Workflow has no base class; write `class Workflow:`")
    _decorators(reading, workflow)
    call: ast.stmt | None = None
    for node in workflow.body:
        match node:
            case ast.FunctionDef(name="__init__") if reading.init is None:
                reading.init = node
            case ast.FunctionDef(name="__call__") | ast.AsyncFunctionDef(name="__call__") if call is None:
                call = node
            case ast.Expr(value=ast.Constant()) | ast.Pass():
                pass
            case ast.Assign(targets=[ast.Name(id=name)]) | ast.AnnAssign(target=ast.Name(id=name)):
                if node.value is not None:
                    reading.constants.append(node)
                    reading.class_constants.add(name)
            case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name):
                reading.report(
                    node, "E502", f"the language does not have further methods; write {name} out in __call__"
                )
            case _:
                reading.report(node, "E502", "only __init__, __call__ and constants may stand in the class")
    _init(reading, workflow)
    _call(reading, workflow, call)
    if reading.call is not None:
        slots_within(reading, reading.call)


def _decorators(reading: Reading, node: ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef) -> None:
    """Imported decorators (MermaidFlow's `@weave.op()`, metadata, tracing) have no effect; Python's own are refused."""
    for decorator in node.decorator_list:
        root = decorator
        while isinstance(root, ast.Call | ast.Attribute):
            root = root.func if isinstance(root, ast.Call) else root.value
        if isinstance(root, ast.Name) and root.id in reading.imported:
            reading.notes.append(f"line {decorator.lineno}: the decorator {ast.unparse(decorator)[:40]} has no effect")
        else:
            reading.report(node, "E502", "the language does not have decorators; leave them out")


def _call(reading: Reading, workflow: ast.ClassDef, call: ast.stmt | None) -> None:
    if call is None and any(getattr(node, "name", "") == "run_workflow" for node in workflow.body):
        reading.report(workflow, "E104", SCOREFLOW)
        return
    if not isinstance(call, ast.AsyncFunctionDef):
        mend = "write `async def` for `def`" if call is not None else "write `async def __call__(self, problem: str)`"
        reading.report(call or workflow, "E104", f"Workflow has no `async def __call__`; {mend}")
        if not isinstance(call, ast.FunctionDef):
            return
    reading.call = call  # type: ignore[assignment]  # a plain def has the same fields, and is already refused
    _decorators(reading, call)
    a = call.args
    if a.vararg or a.kwarg or a.kwonlyargs:
        reading.report(call, "E105", "__call__ takes (self, problem[, entry_point[, test]]); leave `*` out")
    names = [arg.arg for arg in (*a.posonlyargs, *a.args)]
    if not names or names[0] != "self":
        reading.report(call, "E105", "the first parameter of __call__ is self")
    names = names[1:] if names[:1] == ["self"] else names
    if not names or len(names) > 3:
        reading.report(
            call, "E105", f"__call__ takes (self, problem[, entry_point[, test]]); got {len(names)} after self"
        )
    if all(name in CALL_PARAMETERS for name in names):
        reading.parameters = tuple((name, name) for name in names)
    else:
        reading.parameters = tuple(zip(names, CALL_PARAMETERS, strict=False))


def _init(reading: Reading, workflow: ast.ClassDef) -> None:
    init = reading.init
    if init is None:
        reading.report(workflow, "E103", "Workflow has no __init__; write one that sets the operator slots")
        return
    _decorators(reading, init)
    names = [a.arg for a in (*init.args.posonlyargs, *init.args.args, *init.args.kwonlyargs)]
    if names[:1] != ["self"]:
        reading.report(init, "E103", "the first parameter of __init__ is self")
    reading.init_parameters = tuple(names[1:])
    reading.init_names = set(names[1:])
    llm_variables = {name for name in names[1:] if "llm" in name and "conf" not in name}
    for node in init.body:
        _init_statement(reading, node, llm_variables)


def _init_statement(reading: Reading, node: ast.stmt, llm_variables: set[str]) -> None:
    match node:
        case ast.Expr(value=ast.Constant()) | ast.Pass():
            return
        case ast.Expr(value=ast.Call(func=ast.Name(id="print"))):
            return
        case ast.Expr(value=ast.Call(func=ast.Attribute(value=ast.Call(func=ast.Name(id="super")), attr="__init__"))):
            return
        case ast.Assign(targets=[target], value=value) | ast.AnnAssign(target=target, value=value) if value is not None:
            pass
        case ast.AnnAssign():
            return
        case _:
            reading.report(node, "E502", "__init__ only assigns: self.name = value; leave this out")
            return
    match target:
        case ast.Attribute(value=ast.Name(id="self"), attr=name):
            _init_attribute(reading, node, name, value, llm_variables)
        case ast.Attribute(value=ast.Attribute(value=ast.Name(id="self"), attr=name), attr="cost_manager"):
            if name not in reading.llm_names:
                _misspelt_llm(reading, target.value, name)
        case ast.Tuple(elts=targets) if all(_is_self_attribute(item) for item in targets):
            reading.data_names.update(item.attr for item in targets if isinstance(item, ast.Attribute))
            reading.init_body.append(node)
        case ast.Name(id=name):
            if _creates_llm(reading, value):
                llm_variables.add(name)
            else:
                reading.init_names.add(name)
                reading.init_body.append(node)
        case _:
            reading.report(node, "E502", "__init__ only assigns: self.name = value; leave this out")


def _is_self_attribute(node: ast.expr) -> bool:
    return isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "self"


def _init_attribute(reading: Reading, node: ast.stmt, name: str, value: ast.expr, llm_variables: set[str]) -> None:
    if _creates_llm(reading, value) or (isinstance(value, ast.Name) and value.id in llm_variables):
        reading.llm_names.add(name)
        return
    found = operator_class(reading, value)
    if found is None:
        reading.data_names.add(name)
        reading.init_body.append(node)
        return
    assert isinstance(value, ast.Call)
    set_slot(reading, name, found, value, llm_variables)


def set_slot(reading: Reading, name: str, found: str, value: ast.Call, llm_variables: set[str]) -> None:
    """Note the operator that `self.<name>` holds, and check what it is constructed with."""
    known = reading.operators.by_class
    if found in known:
        reading.slots[name] = known[found]
    else:
        reading.report(value, "E207", f"there is no operator {found}; known are {', '.join(known)}")
        reading.slots[name] = reading.operators.specs["custom"]  # so that its calls are not reported once more
        reading.imported.add(f"self.{name}")
    given = value.args[0] if value.args else next((k.value for k in value.keywords if k.arg == "llm"), None)
    match given:
        case ast.Name(id=variable) if variable in llm_variables:
            pass
        case ast.Attribute(value=ast.Name(id="self"), attr=attribute):
            if attribute not in reading.llm_names:
                _misspelt_llm(reading, given, attribute)
        case None:
            _report_no_llm(reading, value, found)
        case _:
            reading.report(value, "E208", f"{found} takes the language model; write {found}(self.llm)")


def _report_no_llm(reading: Reading, value: ast.Call, found: str) -> None:
    """`operator.Custom()`: the language model is put in, where there is exactly one."""
    repair = None
    if len(reading.llm_names) == 1 and not value.args and not value.keywords:
        (llm,) = reading.llm_names
        line, column = value.end_lineno or value.lineno, (value.end_col_offset or 1) - 1
        edit = Edit(line=line, column=column, end_column=column, text=f"self.{llm}")
        repair = Repair(name="misspelt_llm", edits=(edit,))
    message = f"{found} needs the language model; write {found}(self.llm)"
    reading.report(value, "E205", message, repair)


def operator_class(reading: Reading, value: ast.expr) -> str | None:
    """The operator class that a call constructs, known or not; None if the call is something else."""
    match value:
        case ast.Call(func=ast.Attribute(value=ast.Name(id=module), attr=name)) if module in reading.operator_modules:
            return name
        case ast.Call(func=ast.Name(id=name)):
            if name in reading.class_names:
                return reading.class_names[name]
            if name in reading.operators.by_class or (name[:1].isupper() and name not in reading.constant_names):
                return name
    return None


def _creates_llm(reading: Reading, value: ast.expr) -> bool:
    """Whether the value is `create_llm_instance(config)`, or means to be."""
    if not isinstance(value, ast.Call) or not isinstance(value.func, ast.Name | ast.Attribute):
        return False
    function = value.func.id if isinstance(value.func, ast.Name) else value.func.attr
    if function != CREATE_LLM:
        if function in reading.operators.by_class or nearest(function, [CREATE_LLM]) is None:
            return False
        edit = replace(value.func, function, CREATE_LLM)
        _report_llm(reading, value, f"{function} is not known; write {CREATE_LLM}", edit)
    for argument in value.args:
        if isinstance(argument, ast.Name) and argument.id not in reading.init_names | reading.constant_names:
            near = nearest(argument.id, reading.init_parameters)
            message = f"{argument.id} is not a parameter of __init__; write {near or 'llm_config'}"
            _report_llm(reading, argument, message, replace(argument, argument.id, near) if near else None)
    return True


def _misspelt_llm(reading: Reading, node: ast.expr, name: str) -> None:
    near = nearest(name, reading.llm_names)
    edit = replace(node, name, near) if near else None
    mend = f"write self.{near}" if near else f"write `self.llm = {CREATE_LLM}(llm_config)` in __init__"
    _report_llm(reading, node, f"self.{name} is not the language model; {mend}", edit)


def _report_llm(reading: Reading, node: ast.AST, message: str, edit: Edit | None) -> None:
    reading.report(node, "E208", message, Repair(name="misspelt_llm", edits=(edit,)) if edit else None)


# --- operators made inside __call__ ---------------------------------------------------------------------------------


def slots_within(reading: Reading, call: ast.AsyncFunctionDef) -> None:
    """Understand `custom = operator.Custom(self.llm)` in `__call__`: as if `__init__` had set it.

    The statement becomes `pass`, a call of the local name a call of the slot. A name that is assigned twice is none.
    """
    made: dict[str, str] = {}
    for block in _blocks(call.body):
        for i, node in enumerate(block):
            match node:
                case ast.Assign(targets=[target], value=ast.Call() as value):
                    pass
                case _:
                    continue
            found = operator_class(reading, value)
            if found is None or found not in reading.operators.by_class:
                continue
            if isinstance(target, ast.Name):
                slot = made.setdefault(target.id, _free_slot(reading, target.id, found))
            elif isinstance(target, ast.Attribute) and _is_self_attribute(target):
                slot = target.attr
            else:
                continue
            if reading.slots.get(slot, reading.operators.by_class[found]).class_name != found:
                continue  # two operators under one name: `flow` refuses the assignment
            set_slot(reading, slot, found, value, set())
            block[i] = ast.copy_location(ast.Pass(), node)
    if made:
        _LocalCalls(made).visit(call)


def _blocks(body: list[ast.stmt]) -> Iterable[list[ast.stmt]]:
    yield body
    for node in body:
        for name in ("body", "orelse", "finalbody"):
            inner = getattr(node, name, None)
            if isinstance(inner, list) and inner:
                yield from _blocks(inner)
        for handler in getattr(node, "handlers", ()):
            yield from _blocks(handler.body)


def _free_slot(reading: Reading, name: str, class_name: str) -> str:
    taken = reading.slots.get(name)
    free = name not in reading.llm_names | reading.data_names
    return name if free and (taken is None or taken.class_name == class_name) else f"{name}_in_call"


class _LocalCalls(ast.NodeTransformer):
    """Writes `self.custom(…)` for the call of a local name that holds an operator."""

    def __init__(self, made: dict[str, str]) -> None:
        self.made = made

    def visit_Call(self, node: ast.Call) -> ast.AST:
        self.generic_visit(node)
        if isinstance(node.func, ast.Name) and node.func.id in self.made:
            base = ast.copy_location(ast.Name(id="self", ctx=ast.Load()), node.func)
            attribute = ast.Attribute(value=base, attr=self.made[node.func.id], ctx=ast.Load())
            node.func = ast.copy_location(attribute, node.func)
        return node
