"""Makes tests/coreml/data/op_answers.json: what coremltools' own value inference gives for each case of op_cases.py, and torch
where coremltools infers no values.  Needs what convert.py needs.  Run: python tests/coreml/make_op_answers.py
"""

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np

sys.path[:0] = [str(Path(__file__).parents[1]), str(Path(__file__).parents[2])]

import coremltools as ct  # noqa: E402
import torch  # noqa: E402
from coreml.op_cases import CASES, Case, label  # noqa: E402
from coreml.packages import DATA  # noqa: E402
from coremltools.converters.mil import Builder as mb  # noqa: E402


def main() -> None:
    """Write the answers."""
    answers = {}
    for index, case in enumerate(CASES):
        found, by = (by_torch(case), "torch") if case.torch else (by_coremltools(case), "coremltools")
        answers[label(index)] = {"by": by, "results": [stored(x) for x in found]}
    lines = [f"{json.dumps(name)}: {json.dumps(answer)}" for name, answer in answers.items()]
    (DATA / "op_answers.json").write_text("{\n" + ",\n".join(lines) + "\n}\n")


def by_coremltools(case: Case) -> list[np.ndarray]:
    """The values that coremltools infers when it builds a program with this operation."""
    given = {name: plain(value) for name, value in case.given.items()}
    version = (
        ct.target.iOS18
        if case.op == "slice_update"
        else ct.target.iOS17
        if "axis" in case.op or case.op in ("gather", "quantize", "dequantize")
        else ct.target.iOS15
    )
    found: list[np.ndarray] = []

    @mb.program(input_specs=[mb.TensorSpec((1,))], opset_version=version)
    def program(unused: Any) -> Any:
        result = getattr(mb, case.op)(**given)
        for part in result if isinstance(result, list | tuple) else [result]:
            value = part.op.materialized_val_inference() if case.op == "dequantize" else part.val
            assert value is not None, f"coremltools infers no value of {case.op}: give it in torch"
            found.append(np.asarray(value))
        return mb.identity(x=unused)

    return found


def plain(value: Any) -> Any:
    """A copy, since thresholded_relu's inference writes into its input; scalars as Python's or NumPy's, as the builder wants."""
    value = np.array(value) if isinstance(value, np.ndarray) else value
    if not isinstance(value, np.ndarray):
        return value
    return bool(value) if value.shape == () and value.dtype == bool else value[()]


def by_torch(case: Case) -> list[np.ndarray]:
    """The same in torch."""
    given = {name: tensor(value) for name, value in case.given.items()}
    found = case.torch(torch, torch.nn.functional, given)
    return [part.numpy() for part in (found if isinstance(found, list | tuple) else [found])]


def tensor(value: Any) -> Any:
    """Arrays become tensors."""
    if isinstance(value, list):
        return [tensor(part) for part in value]
    return torch.from_numpy(np.array(value)) if isinstance(value, np.ndarray) else value


def stored(x: np.ndarray) -> dict[str, Any]:
    """As JSON; float32 numbers are decimal numbers that round to them."""
    return {"dtype": str(x.dtype), "shape": list(x.shape), "values": x.reshape(-1).tolist()}


if __name__ == "__main__":
    main()
