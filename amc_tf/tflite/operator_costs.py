"""What the operators of a .tflite cost: multiplications, parameters and memory, loops included.

MACs are the multiplications of convolutions and matrix products, at the shapes that the file has. An operator that is
in no table multiplies nothing by weights: activations, additions, poolings.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate
from math import prod
from pathlib import Path

from amc_tf.tflite import loops
from amc_tf.tflite.operators import Operator, Subgraph, Value, read

Shape = tuple[int, ...]


@dataclass(frozen=True)
class OperatorCost:
    """What one operator of the network costs.

    Attributes:
        name: of the operator.
        output: name of its first output in the file, which tells the Keras layers that it was made of.
        macs: of one inference; of a loop, those of all its turns.
        params: elements of its constants: weights, biases, tables; each is counted at its first reader.
        memory: bytes of activations that are alive while it runs, its own inputs and outputs included.
        exact: False for a loop whose number of turns depends on the inputs: it is counted for one turn.
    """

    name: str
    output: str
    macs: int
    params: int
    memory: int
    exact: bool


def operator_costs(tflite: bytes | str | Path) -> tuple[OperatorCost, ...]:
    """What each operator of the network costs, in the order in which they run.

    Raises:
        ConversionError: there is no such file, or it is no .tflite.
    """
    return _Counter(read(tflite)).costs()


def macs(tflite: bytes | str | Path) -> int:
    """Multiplications of one inference.

    Raises:
        ConversionError: there is no such file, or it is no .tflite.
    """
    return sum(cost.macs for cost in operator_costs(tflite))


def _convolution(shapes: Sequence[Shape], output: Shape, operator: Operator) -> int:
    return prod(output) * prod(shapes[1][1:])  # kernel (out, height, width, in of its group)


def _depthwise(shapes: Sequence[Shape], output: Shape, operator: Operator) -> int:
    return prod(output) * prod(shapes[1][1:3])  # kernel (1, height, width, out)


def _transposed(shapes: Sequence[Shape], output: Shape, operator: Operator) -> int:
    return prod(shapes[2]) * prod(shapes[1][:-1])  # inputs (output shape, kernel (out, height, width, in), x)


def _convolution_3d(shapes: Sequence[Shape], output: Shape, operator: Operator) -> int:
    return prod(output) * prod(shapes[1][:-1])  # kernel (depth, height, width, in, out)


def _dense(shapes: Sequence[Shape], output: Shape, operator: Operator) -> int:
    return prod(output) * shapes[1][-1]  # kernel (out, in)


def _product(shapes: Sequence[Shape], output: Shape, operator: Operator) -> int:
    return prod(output) * shapes[0][-2 if operator.options.get("adjX") else -1]


def _matrices(*places: int) -> Callable[[Sequence[Shape], Shape, Operator], int]:
    """The rule of a recurrent operator whose inputs at these places are matrices, each multiplied at every step."""

    def macs(shapes: Sequence[Shape], output: Shape, operator: Operator) -> int:
        steps = prod(shapes[0][:-1])  # (time, batch, features) in either order, or (batch, features)
        return steps * sum(prod(shapes[place]) for place in places if place < len(shapes) and shapes[place])

    return macs


# One table for all operators that multiply: name -> MACs, given the shapes of its inputs and of its first output.
_MACS: dict[str, Callable[[Sequence[Shape], Shape, Operator], int]] = {
    "CONV_2D": _convolution,
    "DEPTHWISE_CONV_2D": _depthwise,
    "TRANSPOSE_CONV": _transposed,
    "CONV_3D": _convolution_3d,
    "CONV_3D_TRANSPOSE": _transposed,
    "FULLY_CONNECTED": _dense,
    "BATCH_MATMUL": _product,
    "RNN": _matrices(1, 2),
    "SVDF": _matrices(1, 2),
    "UNIDIRECTIONAL_SEQUENCE_RNN": _matrices(1, 2),
    "BIDIRECTIONAL_SEQUENCE_RNN": _matrices(1, 2, 5, 6),
    "LSTM": _matrices(*range(1, 9), 16),
    "UNIDIRECTIONAL_SEQUENCE_LSTM": _matrices(*range(1, 9), 16),
    "BIDIRECTIONAL_SEQUENCE_LSTM": _matrices(*range(1, 9), 16, *range(18, 26), 33),
}


class _Counter:
    """Counts the operators of one file."""

    def __init__(self, subgraphs: Sequence[Subgraph]):
        self._subgraphs = subgraphs
        self._counted: set[int] = set()  # ids of the constants whose elements were counted

    def costs(self) -> tuple[OperatorCost, ...]:
        """What each operator of the first subgraph costs."""
        return tuple(self._costs(self._subgraphs[0], loops.followed(self._subgraphs[0])))

    def _costs(self, subgraph: Subgraph, known: loops.Known) -> Iterator[OperatorCost]:
        for operator, alive in zip(subgraph.operators, _alive(subgraph), strict=True):
            macs, memory, exact = self._macs(subgraph, operator, known)
            output = subgraph.values[operator.outputs[0]].name if operator.outputs else ""
            yield OperatorCost(operator.name, output, macs, self._params(subgraph, operator), alive + memory, exact)

    def _macs(self, subgraph: Subgraph, operator: Operator, known: loops.Known) -> tuple[int, int, bool]:
        """MACs of an operator, bytes that are alive in the subgraphs that it runs, and whether the MACs are exact."""
        if operator.name == "CALL_ONCE":  # sets variables before the first inference
            return 0, 0, True
        if operator.subgraphs:
            return self._inner(operator, known)
        rule = _MACS.get(operator.name)
        if rule is None:
            return 0, 0, True
        shapes = [subgraph.values[tensor].shape if tensor >= 0 else () for tensor in operator.inputs]
        return rule(shapes, subgraph.values[operator.outputs[0]].shape, operator), 0, True

    def _inner(self, operator: Operator, known: loops.Known) -> tuple[int, int, bool]:
        """The same of an operator that runs subgraphs: a loop as often as it turns, of branches the dearest."""
        inner = []
        for number in operator.subgraphs:
            body = self._subgraphs[number]
            costs = list(self._costs(body, loops.followed(body)))
            memory = max((cost.memory for cost in costs), default=0)
            inner.append((sum(cost.macs for cost in costs), memory, all(cost.exact for cost in costs)))
        memory, exact = max(bytes for _, bytes, _ in inner), all(sure for _, _, sure in inner)
        if operator.name != "WHILE":
            return max(macs for macs, _, _ in inner), memory, exact and len(inner) == 1
        turns = loops.turns(self._subgraphs, operator, known)
        (condition, _, _), (body_macs, _, _) = inner
        if turns is None:
            return condition + body_macs, memory, exact and not (condition or body_macs)
        return (turns + 1) * condition + turns * body_macs, memory, exact

    def _params(self, subgraph: Subgraph, operator: Operator) -> int:
        """Elements of the operator's constants of floating or quantised numbers that no operator before it has read."""
        found = 0
        for value in (subgraph.values[tensor] for tensor in operator.inputs if tensor >= 0):
            if value.data is not None and id(value.data) not in self._counted and _holds_weights(value):
                self._counted.add(id(value.data))
                found += prod(value.shape)
        for number in operator.subgraphs:
            inner = self._subgraphs[number]
            found += sum(self._params(inner, operator) for operator in inner.operators)
        return found


def _holds_weights(value: Value) -> bool:
    return value.quantized or value.dtype is None or value.dtype.kind in "fc"


def _alive(subgraph: Subgraph) -> list[int]:
    """Bytes of the activations that are alive while each operator runs: made, and still to be read."""
    last: dict[int, int] = {}
    for position, operator in enumerate(subgraph.operators):
        last |= dict.fromkeys((*operator.inputs, *operator.outputs), position)
    end = len(subgraph.operators)
    last |= dict.fromkeys(subgraph.outputs, end)
    change = [0] * (end + 2)
    made = dict.fromkeys(subgraph.inputs, 0)
    for position, operator in enumerate(subgraph.operators):
        made |= dict.fromkeys(operator.outputs, position)
    for tensor, position in made.items():
        change[position] += subgraph.values[tensor].bytes
        change[last.get(tensor, position) + 1] -= subgraph.values[tensor].bytes
    return list(accumulate(change))[:end]
