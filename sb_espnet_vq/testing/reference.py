"""A slow reference implementation of every operation in `ops`, for tests.

References process one frame at a time in Python. Arguments and results are those of the
operation with the same name; random samples are passed as arguments.
"""

import math
from collections.abc import Sequence
from itertools import product

import torch
from torch import Tensor


def nearest_code(x: Tensor, codebook: Tensor) -> Tensor:
    """Compute all distances; ties go to the first vector."""
    codes = []
    for frame in x:
        distances = [((frame - entry) ** 2).sum().item() for entry in codebook]
        codes.append(distances.index(min(distances)))
    return torch.tensor(codes, dtype=torch.int64)


def best_score(x: Tensor, table: Tensor, bias: Tensor | None = None) -> Tensor:
    """Compute all scores; ties go to the first vector."""
    codes = []
    for frame in x:
        scores = [(frame * entry).sum().item() for entry in table]
        if bias is not None:
            scores = [score + b.item() for score, b in zip(scores, bias, strict=True)]
        codes.append(scores.index(max(scores)))
    return torch.tensor(codes, dtype=torch.int64)


def scores(x: Tensor, table: Tensor, bias: Tensor | None = None) -> Tensor:
    """Compute each product of a frame and a vector, and add the bias."""
    rows = [torch.stack([(frame * entry).sum() for entry in table]) for frame in x]
    products = torch.stack(rows) if rows else x.new_zeros(0, len(table))
    return products if bias is None else products + bias


def first_argmax(scores: Tensor) -> Tensor:
    """Return the index of the first largest value of each row."""
    best = [row.index(max(row)) for row in scores.tolist()]
    return torch.tensor(best, dtype=torch.int64)


def mean_square(away: Tensor) -> Tensor:
    """Sum the squares of each row and divide by their number."""
    total = away.new_zeros(away.shape[:-1])
    for column in away.unbind(-1):
        total = total + column * column
    return total / away.shape[-1]


def finite_rows(x: Tensor) -> Tensor:
    """Check each value of a row."""
    rows = x.reshape(-1, x.shape[-1]).tolist()
    finite = [all(math.isfinite(value) for value in row) for row in rows]
    return torch.tensor(finite, dtype=torch.bool).view(x.shape[:-1])


def nearest_allowed_code(
    x: Tensor, codebook: Tensor, first: Tensor, last: Tensor, width: int, shared: int
) -> Tensor:
    """Compute the distances to all vectors available to the utterance."""
    size = len(codebook)
    codes = torch.zeros(x.shape[:2], dtype=torch.int64)
    for b, utterance in enumerate(x):
        keys = [*range(int(first[b]), int(last[b])), *range(size - shared, size)]
        for m, frame in enumerate(utterance):
            distances = [((frame - codebook[k]) ** 2).sum().item() for k in keys]
            codes[b, m] = keys[distances.index(min(distances))]
    return codes


def code_sums(
    x: Tensor, codes: Tensor, valid: Tensor, size: int
) -> tuple[Tensor, Tensor]:
    """Add each valid frame to the row of its code."""
    counts, sums = x.new_zeros(size), x.new_zeros(size, x.shape[1])
    for frame, code, counts_too in zip(x, codes, valid, strict=True):
        if counts_too:
            counts[code] += 1
            sums[code] += frame
    return counts, sums


def ema_update(average: Tensor, new: Tensor, decay: float, update: bool) -> Tensor:
    """Return the value of ``average`` after `ema_update_`."""
    return decay * average + (1 - decay) * new if update else average.clone()


def smoothed_means(
    sums: Tensor, counts: Tensor, vectors: Tensor, epsilon: float = 1e-5
) -> Tensor:
    """Add epsilon to the count of each used code, rescale to the total and divide."""
    total = sum(count.item() for count in counts)
    scale = total / (total + len(counts) * epsilon) if total else 1.0
    rows = []
    for row, count, vector in zip(sums, counts.tolist(), vectors, strict=True):
        if count < 1e-30 and row.abs().max() < 1e-20:
            rows.append(vector)
        elif 0 < count < 5e-3:
            rows.append(row / count)
        else:
            rows.append(row / ((count + epsilon) * scale))
    return torch.stack(rows)


def entropy(probs: Tensor, epsilon: float = 1e-10) -> Tensor:
    """Sum -p log(p + epsilon)."""
    total = probs.new_zeros(probs.shape[:-1])
    for p in probs.unbind(-1):
        total = total - p * torch.log(p + epsilon)
    return total


def sign_entropy(logits: Tensor) -> Tensor:
    """Sum the entropy of a Bernoulli variable for each logit."""
    total = logits.new_zeros(logits.shape[:-1])
    for logit in logits.unbind(-1):
        p = 1 / (1 + torch.exp(-logit))
        total = total - p * torch.log(p) - (1 - p) * torch.log(1 - p)
    return total


def sign_pattern_probs(positive: Tensor, negative: Tensor) -> Tensor:
    """Multiply the probabilities of the signs of each pattern."""
    patterns = []
    for pattern in product((0, 1), repeat=len(positive)):
        probability = positive.new_ones(positive.shape[1])
        for sign, up, down in zip(pattern, positive, negative, strict=True):
            probability = probability * (up if sign else down)
        patterns.append(probability)
    return torch.stack(patterns)


def summed_pattern_probs(logits: Tensor, weight: Tensor) -> Tensor:
    """Sum the weighted pattern probabilities of the frames."""
    positive = 1 / (1 + torch.exp(-logits.t()))
    return (sign_pattern_probs(positive, 1 - positive) * weight).sum(1)


def finite_levels(x: Tensor, n_levels: Tensor, dtype: torch.dtype) -> Tensor:
    """Bound and round each value, with the gradient of the bound."""
    rows = []
    for channel, number in zip(x.t(), n_levels.tolist(), strict=True):
        half = (number - 1) * 1.001 / 2
        offset = 0.5 if number % 2 == 0 else 0.0
        shift = math.atanh(offset / half)
        bounded = torch.tanh(channel + shift) * half - offset
        levels = [round(value) for value in bounded.tolist()]
        rows.append(bounded + (torch.tensor(levels).to(dtype) - bounded).detach())
    return torch.stack(rows, 1)


def symmetric_levels(x: Tensor, n_levels: Tensor, dtype: torch.dtype) -> Tensor:
    """Clip and round each value, with the gradient of the clipping."""
    rows = []
    for channel, number in zip(x.t(), n_levels.tolist(), strict=True):
        place = (channel.clamp(-1, 1) + 1) * (number - 1) / 2
        levels = [math.floor(p + 0.5) - number // 2 for p in place.tolist()]
        rows.append(place + (torch.tensor(levels).to(dtype) - place).detach())
    return torch.stack(rows, 1)


def level_codes(levels: Tensor, n_levels: Sequence[int]) -> Tensor:
    """Add up the digit of each channel times the number of codes of those before."""
    codes = []
    for frame in levels.tolist():
        digits = [d + n // 2 for d, n in zip(frame, n_levels, strict=True)]
        places = [math.prod(n_levels[:c]) for c in range(len(n_levels))]
        codes.append(int(sum(d * p for d, p in zip(digits, places, strict=True))))
    return torch.tensor(codes, dtype=torch.int64)


def straight_through(x: Tensor, value: Tensor) -> Tensor:
    """Add the detached difference of value and frame to the frame."""
    return x + (value - x).detach() + (value - value.detach())


def gather_entries(tables: Tensor, codes: Tensor) -> Tensor:
    """Look up each code in its codebook."""
    rows = [
        torch.stack([table[code] for table, code in zip(tables, frame, strict=True)])
        for frame in codes
    ]
    empty = tables.new_zeros(0, len(tables), tables.shape[2])
    return torch.stack(rows) if rows else empty


def sample_entries(probs: Tensor, tables: Tensor, codes: Tensor) -> Tensor:
    """Multiply one-hot codes, with the gradient of the probabilities, by codebooks."""
    hard = torch.zeros_like(probs)
    for n, frame in enumerate(codes):
        for k, code in enumerate(frame):
            hard[n, k, code] = 1
    choice = hard + probs - probs.detach()
    return torch.einsum("nkv,kvd->nkd", choice, tables)


def code_counts(codes: Tensor, weight: Tensor, size: int) -> Tensor:
    """Add each frame's weight to its code, in each codebook."""
    counts = weight.new_zeros(codes.shape[1], size)
    for n, frame in enumerate(codes):
        for k, code in enumerate(frame):
            counts[k, code] += weight[n] if weight.dim() == 1 else weight[n, k]
    return counts


def usage_of_counts(counts: Tensor) -> tuple[float, float]:
    """Return perplexity and number of used codes, averaged over codebooks."""
    perplexities, used = [], []
    for codebook in counts.double().tolist():
        uses = [count for count in codebook if count > 0]
        total = sum(uses)
        surprise = -sum(u / total * math.log(u / total) for u in uses)
        perplexities.append(math.exp(surprise) if uses else 0.0)
        used.append(len(uses))
    return sum(perplexities) / len(counts), sum(used) / len(counts)


def usage_of_codes(codes: Tensor, valid: Tensor) -> tuple[float, float]:
    """Count each distinct code of the valid frames, then as `usage_of_counts`."""
    per_codebook = []
    for column in codes[valid].t():
        distinct = sorted(set(column.tolist()))
        counts = [column.tolist().count(code) for code in distinct]
        per_codebook.append(usage_of_counts(torch.tensor([counts])))
    perplexities, used = zip(*per_codebook, strict=True)
    return sum(perplexities) / len(per_codebook), sum(used) / len(per_codebook)


def mean(per_frame: Tensor, valid: Tensor) -> Tensor:
    """Average over valid frames, as `Frames.mean` does in one process."""
    kept = [value for value, keep in zip(per_frame, valid, strict=True) if keep]
    return sum(kept) / len(kept) if kept else per_frame.sum() * 0


def valid_frames(x: Tensor, mask: Tensor | None = None) -> Tensor:
    """Return (N,) bool: which frames of (..., D) are finite and not padding."""
    flat = x.reshape(-1, x.shape[-1])
    unmasked = [True] * len(flat) if mask is None else mask.reshape(-1).tolist()
    finite = [all(math.isfinite(v) for v in frame.tolist()) for frame in flat]
    return torch.tensor(
        [u and f for u, f in zip(unmasked, finite, strict=True)], dtype=torch.bool
    )


def take_frames(x: Tensor, valid: Tensor, index: Sequence[int]) -> Tensor:
    """Return valid frames by their index among the valid ones."""
    kept = [frame for frame, keep in zip(x, valid, strict=True) if keep]
    return torch.stack([kept[i] for i in index])


def kmeans(x: Tensor, centres: Tensor, iterations: int) -> tuple[Tensor, Tensor]:
    """Run Lloyd's algorithm on valid frames from given initial centres."""
    centres, counts = centres.clone(), x.new_zeros(len(centres))
    for _ in range(iterations):
        codes = nearest_code(x, centres)
        for v in range(len(centres)):
            mine = x[codes == v]
            counts[v] = len(mine)
            if len(mine):
                centres[v] = mine.mean(0)
    return centres, counts
