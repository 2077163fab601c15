"""Core ML packages without a Mac: read, run and judged in NumPy.

program = refsam.coreml.load("MaskDecoder.mlpackage")
program.run({"image_embeddings": ..., ...})       # name -> array

Read in this order: types, wire, spec, blob, mlpackage, arithmetic, ops, mil.
"""

from refsam.coreml.mil import Program, load

__all__ = ["Program", "load"]
