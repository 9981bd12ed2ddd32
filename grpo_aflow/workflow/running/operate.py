"""Runs one operator call, and holds the operator to what its specification promises. The operators are elsewhere."""

from __future__ import annotations

from collections.abc import Mapping

from grpo_aflow.types import UserError
from grpo_aflow.workflow.operators.context import OperatorContext
from grpo_aflow.workflow.operators.spec import Kind, OperatorSpec
from grpo_aflow.workflow.running.context import BoundContext, ExecutionInputs
from grpo_aflow.workflow.running.data import Value
from grpo_aflow.workflow.running.trace import RunningCall, Spent

_TYPES: Mapping[Kind, type | tuple[type, ...]] = {
    Kind.TEXT: str,
    Kind.TEXTS: list,
    Kind.FLAG: bool,
    Kind.COUNT: int,
    Kind.SHARE: (int, float),
}


async def run_operator(inputs: ExecutionInputs, call: RunningCall, before: Spent) -> dict[str, Value]:
    """Run the call; `before` is what the workflow had spent when it began, without the calls beside it.

    Raises UserError where an operator of the user breaks what its specification promises.
    """
    call.started = True
    operator = inputs.services.rules.operator_set.operators[call.spec.slot]
    context: OperatorContext = BoundContext(inputs, call, before)
    call.result = result = promised(call.spec, await operator.run(context, **call.arguments))
    return result


def promised(spec: OperatorSpec, result: object) -> dict[str, Value]:
    """The result as a fresh dict of plain values, checked against the specification. Raises UserError."""
    if not isinstance(result, Mapping) or result.keys() != spec.results.keys():
        shown = ", ".join(map(str, result)) if isinstance(result, Mapping) else type(result).__name__
        raise UserError(f"operator {spec.class_name}: run must return a dict with {spec.results_text}; got {shown}")
    for key, kind in spec.results.items():
        value = result[key]
        texts = kind is not Kind.TEXTS or (isinstance(value, list) and all(type(item) is str for item in value))
        if not isinstance(value, _TYPES[kind]) or not texts:
            raise UserError(f"operator {spec.class_name}: {key} must be {kind}; got {type(value).__name__}")
    return {key: list(value) if isinstance(value, list) else value for key, value in result.items()}
