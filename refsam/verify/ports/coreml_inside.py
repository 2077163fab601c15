"""Which results inside Core ML packages are which stages, and those results.

Packages forget the model's names. `judge_package` finds, on one picture, which result has the numbers of which of refsam's
values; where such a value is a stage, the result of that name is the stage in every later run.
"""

from collections.abc import Collection, Mapping
from typing import Any

import numpy as np

from refsam.coreml.app_parts import by_name
from refsam.coreml.export import Part
from refsam.coreml.mil import Program
from refsam.coreml.types import Operation
from refsam.coreml.verdicts.package import judge_package
from refsam.model.sam import MobileSam
from refsam.types import Array, Float
from refsam.verify.steps import all_stages

Named = Mapping[str, str]
"""The name of a result in a program -> the stage that it is."""


class Inside:
    """Stages inside the image encoder and the mask decoder. (The prompt encoder's are its outputs.)

    Args:
        programs: part -> program.
        model: the weights that they were made from.
        image_pe: the decoder's second input.
    """

    def __init__(self, programs: Mapping[Part, Program], model: MobileSam, image_pe: Float[Array, "1 D E E"]) -> None:
        self.programs, self.model, self.image_pe = programs, model, image_pe
        self.known = frozenset(all_stages(model))
        self._named: dict[Part, Named] = {}

    def run(
        self, given: Float[Array, "1 3 S S"], coords: Float[Array, "1 N 2"], labels: Float[Array, "1 N"], stages: Collection[str]
    ) -> dict[str, Array]:
        """The stages that are wanted and that the packages have, by refsam's interpreter."""
        found, outputs = self._observed("image_encoder", (given,), stages)
        prompts = self.programs["prompt_encoder"]
        sparse, dense = prompts.run(by_name("prompt_encoder", prompts.inputs, (coords, labels))).values()
        return found | self._observed("mask_decoder", (outputs[0], self.image_pe, sparse, dense), stages)[0]

    def _observed(
        self, part: Part, inputs: tuple[Array, ...], stages: Collection[str]
    ) -> tuple[dict[str, Array], list[Array]]:  # fmt: skip
        program = self.programs[part]
        given = by_name(part, program.inputs, inputs)
        if part not in self._named:
            self._named[part] = named_results(program, self.model, given, self.known)
        named, found = self._named[part], {}

        def observe(operation: Operation, bound: Mapping[str, Any], results: list[Any]) -> None:  # noqa: ARG001 - only results count
            for output, result in zip(operation.outputs, results, strict=True):
                stage = named.get(output.name)
                if stage in stages and stage is not None:
                    found[stage] = np.array(result, np.float32)

        outputs = program.run(given, observe=observe)
        return found, [np.asarray(outputs[feature.name], np.float32) for feature in program.outputs]


def named_results(program: Program, model: MobileSam, inputs: Mapping[str, Array], known: Collection[str]) -> Named:
    """The program's results that are stages: for each stage the last one with its numbers in its order."""
    verdict = judge_package(program, model, inputs)
    by_stage = {finding.stage: finding.name for finding in verdict.found if finding.stage in known}
    return {name: stage for stage, name in by_stage.items()}
