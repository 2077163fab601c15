"""Readers of weights files, by what the bytes are. Nothing in a file is run; every bound is checked before memory is asked for.

Read in this order: stored, safetensors_file, zip_stored, pickle_machine, torch_pickle, foreign_models.
"""
