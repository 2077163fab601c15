"""The model as functions (s, x) -> y, where `s` is a Scope: the checkpoint's names, weights and stages.

Read in this order: layers, tiny_vit, prompt_encoder, transformer, mask_decoder, sam.
"""
