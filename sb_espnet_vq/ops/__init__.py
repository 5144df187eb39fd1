"""Pure functions on tensors; `reference` holds the slow, obvious form of each.

Letters used for axes: N frames, D feature dims, V codes in a codebook,
K codebooks, B utterances.
"""
