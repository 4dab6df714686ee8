"""How often a loop of a .tflite turns, from the whole numbers that it counts by.

A recurrent layer becomes a WHILE: its condition compares a counter with a constant, and its body adds one. Both are
small whole numbers, which are followed here turn by turn. Everything else in the loop is left alone.
"""

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from amc_tf.tflite.operators import Operator, Subgraph

_MOST_TURNS = 100_000
_MOST_ELEMENTS = 64  # of a tensor that is followed: counters and shapes, no data

_FOLLOWED: dict[str, Callable[..., np.ndarray]] = {
    "ADD": np.add,
    "SUB": np.subtract,
    "MUL": np.multiply,
    "FLOOR_DIV": np.floor_divide,
    "FLOOR_MOD": np.mod,
    "MINIMUM": np.minimum,
    "MAXIMUM": np.maximum,
    "LESS": np.less,
    "LESS_EQUAL": np.less_equal,
    "GREATER": np.greater,
    "GREATER_EQUAL": np.greater_equal,
    "EQUAL": np.equal,
    "NOT_EQUAL": np.not_equal,
    "LOGICAL_AND": np.logical_and,
    "LOGICAL_OR": np.logical_or,
    "LOGICAL_NOT": np.logical_not,
    "RESHAPE": lambda value, *shape: value,
    "SQUEEZE": lambda value: value,
    "EXPAND_DIMS": lambda value, axis: value,
    "CAST": lambda value: value,
}

Known = dict[int, np.ndarray]  # tensor -> its value, for those that are known without running the network


def turns(subgraphs: Sequence[Subgraph], loop: Operator, known: Mapping[int, np.ndarray]) -> int | None:
    """How often the body of a WHILE runs; None if that depends on the network's inputs.

    Args:
        subgraphs: of the file.
        loop: the WHILE.
        known: values of the tensors around it, see `followed`.
    """
    condition, body = (subgraphs[number] for number in loop.subgraphs)
    fixed, fixed_in_body = _constants(condition), _constants(body)
    state = [known.get(tensor) for tensor in loop.inputs]
    for turn in range(_MOST_TURNS):
        goes_on = _run(condition, fixed, state)[0]
        if goes_on is None or goes_on.size != 1:
            return None
        if not goes_on.item():
            return turn
        after = _run(body, fixed_in_body, state)
        if _same(state, after):
            return None  # it would turn for ever: something that decides is not known
        state = after
    return None


def followed(subgraph: Subgraph) -> Known:
    """The values of a subgraph's tensors that follow from its constants by whole numbers."""
    return _follow(subgraph, _constants(subgraph))


def _constants(subgraph: Subgraph) -> Known:
    """The small whole numbers in the file."""
    known: Known = {}
    for index, value in enumerate(subgraph.values):
        if value.constant and _is_small(value.shape) and value.dtype is not None and value.dtype.kind in "iub":
            values = value.values
            if values is not None:
                known[index] = values
    return known


def _follow(subgraph: Subgraph, given: Known) -> Known:
    """The given values, and those that follow from them."""
    known = dict(given)
    for operator in subgraph.operators:
        compute = _FOLLOWED.get(operator.name)
        if compute is None or operator.activation or len(operator.outputs) != 1:
            continue
        inputs = [known.get(tensor) for tensor in operator.inputs]
        if all(value is not None for value in inputs):
            (output,) = operator.outputs
            known[output] = np.asarray(compute(*inputs)).reshape(subgraph.values[output].shape)
    return known


def _run(subgraph: Subgraph, constants: Known, state: Sequence[np.ndarray | None]) -> list[np.ndarray | None]:
    given = {tensor: value for tensor, value in zip(subgraph.inputs, state, strict=True) if value is not None}
    known = _follow(subgraph, constants | given)
    return [known.get(tensor) for tensor in subgraph.outputs]


def _is_small(shape: tuple[int, ...]) -> bool:
    return int(np.prod(shape, dtype=np.int64)) <= _MOST_ELEMENTS


def _same(before: Sequence[np.ndarray | None], after: Sequence[np.ndarray | None]) -> bool:
    return all(
        one is other or (one is not None and other is not None and np.array_equal(one, other))
        for one, other in zip(before, after, strict=True)
    )
