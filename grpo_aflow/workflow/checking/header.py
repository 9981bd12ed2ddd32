"""Reads what stands around the body of `__call__`: imports, constants, the class, `__init__`, the signature.

AFlow's usual header is understood here and costs nothing. `flow` checks the body.
"""

from __future__ import annotations

import ast

from grpo_aflow.workflow.checking.below import idle_statements
from grpo_aflow.workflow.checking.diagnosis import rename
from grpo_aflow.workflow.checking.outline import CREATE_LLM, Outline
from grpo_aflow.workflow.checking.slots import is_self_attribute, operator_class, set_slot, slots_within
from grpo_aflow.workflow.checking.spelling import nearest
from grpo_aflow.workflow.language import BUILTINS
from grpo_aflow.workflow.operators.table import OperatorSet

NO_CLASS = "there is no `class Workflow`; write one with __init__ and async __call__"
SCOREFLOW = (
    "this is ScoreFlow's dialect (`run_workflow`, operators that hold the problem and return text); write "
    "`async def __call__(self, problem)`, `operator.Custom(self.llm)`, and hand input= and instruction= to each call"
)
CALL_PARAMETERS = ("problem", "entry_point", "test")
_TYPING = frozenset(("Literal", "Union", "Optional", "Dict", "List", "Tuple", "Any", "TypeVar", "Callable", "Type"))


def read(tree: ast.Module, operators: OperatorSet) -> Outline:
    """Read the module; everything that is wrong with it is in `.diagnoses`."""
    outline = Outline(operators=operators)
    for place, workflow in enumerate(tree.body):
        if isinstance(workflow, ast.ClassDef) and workflow.name == "Workflow":
            _below(outline, workflow, tree.body[place + 1 :])
            _class(outline, workflow)
            return outline
        _module_statement(outline, workflow)
    outline.report(1, "E102", NO_CLASS)
    return outline


def _below(outline: Outline, workflow: ast.ClassDef, statements: list[ast.stmt]) -> None:
    """Read what stands below the class; what the class does not use may be anything there."""
    code = [node for node in statements if not _is_declaration(node)]
    idle = idle_statements(workflow, code, outline.prompt_modules)
    for node in statements:
        if node in idle:
            outline.notes.append(f"line {node.lineno}: what begins here, below the class, has no effect")
        else:
            _module_statement(outline, node)


def _is_declaration(node: ast.stmt) -> bool:
    """Whether a statement of the module is an import or a literal constant, or a second class."""
    match node:
        case ast.Import() | ast.ImportFrom() | ast.ClassDef(name="Workflow"):
            return True
        case ast.Assign(value=value) | ast.AnnAssign(value=value) | ast.Expr(value=value):
            return value is None or isinstance(value, ast.Constant)
    return _is_main_guard(node)


def _is_main_guard(node: ast.stmt) -> bool:
    """`if __name__ == "__main__":` never holds here."""
    match node:
        case ast.If(test=ast.Compare(left=ast.Name(id="__name__"))):
            return True
    return False


def _module_statement(outline: Outline, node: ast.stmt) -> None:
    match node:
        case ast.Import() | ast.ImportFrom():
            read_import(outline, node)
        case (
            ast.Assign(targets=[ast.Name(id=name)], value=value) | ast.AnnAssign(target=ast.Name(id=name), value=value)
        ):
            if isinstance(value, ast.Subscript) and isinstance(value.value, ast.Name) and value.value.id in _TYPING:
                outline.imported.add(name)  # a type alias: DatasetType = Literal[...]
            elif value is not None and _of_logger(outline, value):
                outline.loggers.add(name)  # logger = logging.getLogger(__name__)
                outline.imported.add(name)
            elif value is not None:
                outline.constants.append(node)
                outline.constant_names.add(name)
        case ast.Expr(value=ast.Constant()) | ast.Pass():
            pass
        case ast.Expr(value=value) if _of_logger(outline, value):
            pass  # logging.basicConfig(...)
        case ast.If() if _is_main_guard(node):
            pass
        case ast.ClassDef(name="Workflow"):
            outline.report(node, "E102", "a second `class Workflow`; keep one")
        case ast.FunctionDef() | ast.AsyncFunctionDef() | ast.ClassDef():
            kind = "class" if isinstance(node, ast.ClassDef) else "function"
            outline.report(
                node, "E502", f"the language does not have a {kind} beside Workflow; write its lines in __call__"
            )
        case _:
            outline.report(node, "E502", "only imports and constants may stand beside the class; leave this out")


def read_import(outline: Outline, node: ast.Import | ast.ImportFrom) -> None:
    """Note what an import binds. Any import is understood and does nothing; a name of it cannot be used."""
    origin = "" if isinstance(node, ast.Import) else node.module or ""
    for alias in node.names:
        bound = alias.asname or (alias.name.partition(".")[0] if isinstance(node, ast.Import) else alias.name)
        last = alias.name.rpartition(".")[2]
        if last in ("operator", "operators"):
            outline.operator_modules.add(bound)
        elif last == "prompt":
            outline.prompt_modules.add(bound)
        elif alias.name == "asyncio":
            outline.asyncio_names.add(bound)
        elif origin == "asyncio" and alias.name == "gather":
            outline.gather_names.add(bound)
        elif origin and alias.name in outline.operators.by_class:
            outline.class_names[bound] = alias.name
        else:
            outline.imported.add(bound)
            if last in ("logging", "logger"):
                outline.loggers.add(bound)


def _of_logger(outline: Outline, value: ast.expr) -> bool:
    """Whether a value is what `logging` or a logger gives when called."""
    return isinstance(value, ast.Call) and isinstance(value.func, ast.Attribute) and outline.is_logger(value.func.value)


def _class(outline: Outline, workflow: ast.ClassDef) -> None:
    bases = [base for base in workflow.bases if not (isinstance(base, ast.Name) and base.id == "object")]
    if bases or workflow.keywords:
        outline.report(workflow, "E502", "Workflow has no base class; write `class Workflow:`")
    _decorators(outline, workflow)
    call: ast.stmt | None = None
    for node in workflow.body:
        match node:
            case ast.FunctionDef(name="__init__") if outline.init is None:
                outline.init = node
            case ast.FunctionDef(name="__call__") | ast.AsyncFunctionDef(name="__call__") if call is None:
                call = node
            case ast.Expr(value=ast.Constant()) | ast.Pass():
                pass
            case ast.Assign(targets=[ast.Name(id=name)]) | ast.AnnAssign(target=ast.Name(id=name)):
                if node.value is not None:
                    outline.constants.append(node)
                    outline.class_constants.add(name)
            case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name):
                outline.report(
                    node, "E502", f"the language does not have further methods; write {name} out in __call__"
                )
            case _:
                outline.report(node, "E502", "only __init__, __call__ and constants may stand in the class")
    _init(outline, workflow)
    _call(outline, workflow, call)
    if outline.call is not None:
        slots_within(outline, outline.call)


def _decorators(outline: Outline, node: ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef) -> None:
    """Imported decorators (MermaidFlow's `@weave.op()`, metadata, tracing) have no effect; Python's own are refused."""
    for decorator in node.decorator_list:
        root = decorator
        while isinstance(root, ast.Call | ast.Attribute):
            root = root.func if isinstance(root, ast.Call) else root.value
        if isinstance(root, ast.Name) and root.id in outline.imported:
            outline.notes.append(f"line {decorator.lineno}: the decorator {ast.unparse(decorator)[:40]} has no effect")
        else:
            outline.report(node, "E502", "the language does not have decorators; leave them out")


def _call(outline: Outline, workflow: ast.ClassDef, call: ast.stmt | None) -> None:
    if call is None and any(getattr(node, "name", "") == "run_workflow" for node in workflow.body):
        outline.report(workflow, "E104", SCOREFLOW)
        return
    if not isinstance(call, ast.AsyncFunctionDef):
        fix = "write `async def` for `def`" if call is not None else "write `async def __call__(self, problem: str)`"
        outline.report(call or workflow, "E104", f"Workflow has no `async def __call__`; {fix}")
        if not isinstance(call, ast.FunctionDef):
            return
    outline.call = call  # type: ignore[assignment]  # a plain def has the same fields, and is already refused
    _decorators(outline, call)
    a = call.args
    if a.vararg or a.kwarg or a.kwonlyargs:
        outline.report(call, "E105", "__call__ takes (self, problem[, entry_point[, test]]); leave `*` out")
    names = [arg.arg for arg in (*a.posonlyargs, *a.args)]
    if not names or names[0] != "self":
        outline.report(call, "E105", "the first parameter of __call__ is self")
    names = names[1:] if names[:1] == ["self"] else names
    if not names or len(names) > 3:
        outline.report(
            call, "E105", f"__call__ takes (self, problem[, entry_point[, test]]); got {len(names)} after self"
        )
    if all(name in CALL_PARAMETERS for name in names):
        outline.parameters = tuple((name, name) for name in names)
    else:
        outline.parameters = tuple(zip(names, CALL_PARAMETERS, strict=False))


def _init(outline: Outline, workflow: ast.ClassDef) -> None:
    init = outline.init
    if init is None:
        outline.report(workflow, "E103", "Workflow has no __init__; write one that sets the operator slots")
        return
    _decorators(outline, init)
    names = [a.arg for a in (*init.args.posonlyargs, *init.args.args, *init.args.kwonlyargs)]
    if names[:1] != ["self"]:
        outline.report(init, "E103", "the first parameter of __init__ is self")
    outline.init_parameters = tuple(names[1:])
    outline.init_names = set(names[1:])
    llm_variables = {name for name in names[1:] if "llm" in name and "conf" not in name}
    for node in init.body:
        _init_statement(outline, node, llm_variables)


def _init_statement(outline: Outline, node: ast.stmt, llm_variables: set[str]) -> None:
    match node:
        case ast.Expr(value=ast.Constant()) | ast.Pass():
            return
        case ast.Import() | ast.ImportFrom():
            read_import(outline, node)
            return
        case ast.Expr(value=ast.Call(func=ast.Name(id="print"))):
            return
        case ast.Expr(value=value) if _of_logger(outline, value):
            return
        case ast.Expr(value=ast.Call(func=ast.Attribute(value=ast.Call(func=ast.Name(id="super")), attr="__init__"))):
            return
        case ast.Assign(targets=[target], value=value) | ast.AnnAssign(target=target, value=value) if value is not None:
            pass
        case ast.AnnAssign():
            return
        case _:
            outline.report(node, "E502", "__init__ only assigns: self.name = value; leave this out")
            return
    match target:
        case ast.Attribute(value=ast.Name(id="self"), attr=name):
            _init_attribute(outline, node, name, value, llm_variables)
        case ast.Attribute(value=ast.Attribute(value=ast.Name(id="self"), attr=name), attr="cost_manager"):
            if name not in outline.llm_names:
                outline.misspelt_llm(target.value, name)
        case ast.Tuple(elts=targets) if all(is_self_attribute(item) for item in targets):
            if isinstance(value, ast.Tuple) and len(value.elts) == len(targets):  # as if each stood on its own line
                for item, part in zip(targets, value.elts, strict=True):
                    _init_statement(outline, ast.copy_location(ast.Assign([item], part), node), llm_variables)
                return
            outline.data_names.update(item.attr for item in targets if isinstance(item, ast.Attribute))
            outline.init_body.append(node)
        case ast.Name(id=name):
            if _creates_llm(outline, value):
                llm_variables.add(name)
            else:
                outline.init_names.add(name)
                outline.init_body.append(node)
        case _:
            outline.report(node, "E502", "__init__ only assigns: self.name = value; leave this out")


def _init_attribute(
    outline: Outline, node: ast.Assign | ast.AnnAssign, name: str, value: ast.expr, llm_variables: set[str]
) -> None:
    if _creates_llm(outline, value) or (isinstance(value, ast.Name) and value.id in llm_variables):
        outline.llm_names.add(name)
        return
    if _of_logger(outline, value) or outline.is_logger(value):
        outline.loggers.add(f"self.{name}")
        return
    found = operator_class(outline, value)
    if found is None:
        outline.data_names.add(name)
        outline.init_body.append(node)
        return
    assert isinstance(value, ast.Call)
    set_slot(outline, name, found, value, llm_variables)


def _creates_llm(outline: Outline, value: ast.expr) -> bool:
    """Whether the value is `create_llm_instance(config)`, is meant to be, or makes the model in another way."""
    if not isinstance(value, ast.Call) or not isinstance(value.func, ast.Name | ast.Attribute):
        return False
    function = value.func.id if isinstance(value.func, ast.Name) else value.func.attr
    if function != CREATE_LLM:
        if function in outline.operators.by_class:
            return False
        if nearest(function, [CREATE_LLM]) is None:
            return _takes_config(outline, value, function)
        edit = rename(value.func, function, CREATE_LLM)
        outline.not_llm(value, f"{function} is not known; write {CREATE_LLM}", edit)
    for argument in value.args:
        if isinstance(argument, ast.Name) and argument.id not in outline.init_names | outline.constant_names:
            near = nearest(argument.id, outline.init_parameters)
            message = f"{argument.id} is not a parameter of __init__; write {near or 'llm_config'}"
            outline.not_llm(argument, message, rename(argument, argument.id, near) if near else None)
    return True


def _takes_config(outline: Outline, value: ast.Call, function: str) -> bool:
    """Whether a call's one argument is the model's configuration: `AsyncLLM(llm_config)`, whatever makes the model."""
    match value.func:
        case ast.Name(id=name) if name not in BUILTINS:
            pass
        case ast.Attribute(value=ast.Name(id=module)) if module not in outline.operator_modules:
            pass
        case _:
            return False
    match [*value.args, *(keyword.value for keyword in value.keywords)]:
        case [ast.Name(id=given)] if given in outline.init_parameters and "conf" in given:
            pass
        case [ast.Attribute(value=ast.Name(id="self"), attr=given)] if given in outline.data_names and "conf" in given:
            pass
        case _:
            return False
    outline.notes.append(f"line {value.lineno}: what {function}({given}) gives is taken for the language model")
    return True
