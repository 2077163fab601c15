"""Times refsam and its peers on the same weights, in one interleaved run.  Run: make bench, or refsam bench --help.

Read in this order: contenders, inputs, worker (the child's side), pool (the parent's side), idle, session (the run), rows (what
comes out), ratios (with their ranges), work (how much there is to compute), goals (the table and the gate), terminal, report.
"""
