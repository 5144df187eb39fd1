"""Pure functions on tensors; `testing.reference` has a slow reference of each.

Axes: N frames, D feature dimensions, V codes in a codebook, K codebooks,
B utterances.
"""
