"""The kernels of kernels/*.metal, run through metalcompute on a Mac's GPU or through refsam.emulator on a CPU.

Read in this order: sources, signature, device, runner, calls; definitions, bounds and cases say what a kernel has to compute.
"""
