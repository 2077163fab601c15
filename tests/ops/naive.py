"""Every operation by plain loops over float64 numbers, one multiplication at a time, sums exactly rounded (math.fsum).

Independent of the code under test: nothing here is vectorised, and only indexing is NumPy's.
"""

import math
from itertools import product
from typing import Any

import numpy as np


def linear(x: Any, weight: Any, bias: Any) -> Any:
    outputs, inputs = weight.shape
    y = np.zeros((*x.shape[:-1], outputs))
    for place in np.ndindex(*x.shape[:-1]):
        for d in range(outputs):
            y[(*place, d)] = math.fsum([x[(*place, c)] * weight[d, c] for c in range(inputs)] + [bias[d]])
    return y


def conv2d(x: Any, weight: Any, bias: Any = None, stride: int = 1, padding: int = 0) -> Any:
    batch, channels, height, width = x.shape
    outputs, _, size, _ = weight.shape
    tall, wide = ((n + 2 * padding - size) // stride + 1 for n in (height, width))
    y = np.zeros((batch, outputs, tall, wide))
    for b, d, i, j in np.ndindex(*y.shape):
        terms = [0.0 if bias is None else bias[d]]
        for c, dy, dx in product(range(channels), range(size), range(size)):
            row, column = i * stride + dy - padding, j * stride + dx - padding
            if 0 <= row < height and 0 <= column < width:
                terms.append(x[b, c, row, column] * weight[d, c, dy, dx])
        y[b, d, i, j] = math.fsum(terms)
    return y


def depthwise_conv2d(x: Any, weight: Any, stride: int = 1) -> Any:
    channels = [conv2d(x[:, c : c + 1], weight[c : c + 1], None, stride, 1) for c in range(x.shape[1])]
    return np.concatenate(channels, axis=1)


def conv_transpose2d(x: Any, weight: Any, bias: Any) -> Any:
    batch, channels, height, width = x.shape
    y = np.zeros((batch, weight.shape[1], 2 * height, 2 * width))
    for b, d, i, j in np.ndindex(*y.shape):
        terms = [x[b, c, i // 2, j // 2] * weight[c, d, i % 2, j % 2] for c in range(channels)]
        y[b, d, i, j] = math.fsum([*terms, bias[d]])
    return y


def layer_norm(x: Any, weight: Any, bias: Any, eps: float = 1e-5) -> Any:
    y = np.zeros(x.shape)
    for place in np.ndindex(*x.shape[:-1]):
        row = [float(value) for value in x[place]]
        mean = math.fsum(row) / len(row)
        variance = math.fsum((value - mean) ** 2 for value in row) / len(row)
        for c, value in enumerate(row):
            y[(*place, c)] = (value - mean) / math.sqrt(variance + eps) * weight[c] + bias[c]
    return y


def layer_norm_2d(x: Any, weight: Any, bias: Any, eps: float = 1e-6) -> Any:
    y = np.zeros(x.shape)
    for b, i, j in np.ndindex(x.shape[0], *x.shape[2:]):
        y[b, :, i, j] = layer_norm(x[b, :, i, j], weight, bias, eps)
    return y


def batch_norm(x: Any, mean: Any, variance: Any, weight: Any, bias: Any, eps: float = 1e-5) -> Any:
    y = np.zeros(x.shape)
    for b, c, i, j in np.ndindex(*x.shape):
        y[b, c, i, j] = (x[b, c, i, j] - mean[c]) / math.sqrt(variance[c] + eps) * weight[c] + bias[c]
    return y


def gelu(x: Any) -> Any:
    y = np.zeros(x.shape)
    for place in np.ndindex(*x.shape):
        y[place] = 0.5 * x[place] * (1 + math.erf(x[place] / math.sqrt(2)))
    return y


def relu(x: Any) -> Any:
    y = np.zeros(x.shape)
    for place in np.ndindex(*x.shape):
        y[place] = x[place] if x[place] > 0 else 0.0
    return y


def attention(q: Any, k: Any, v: Any, bias: Any = None) -> Any:
    batch, heads, tokens, width = q.shape
    keys = k.shape[2]
    y = np.zeros((batch, heads, tokens, v.shape[3]))
    for b, h, n in np.ndindex(batch, heads, tokens):
        scores = [math.fsum(q[b, h, n, c] * k[b, h, t, c] for c in range(width)) / math.sqrt(width) for t in range(keys)]
        if bias is not None:
            scores = [score + bias[h, n, t] for t, score in enumerate(scores)]
        weights = [math.exp(score - max(scores)) for score in scores]
        for d in range(v.shape[3]):
            y[b, h, n, d] = math.fsum(w * v[b, h, t, d] for t, w in enumerate(weights)) / math.fsum(weights)
    return y


NAIVE = {
    "linear": linear,
    "conv2d": conv2d,
    "depthwise_conv2d": depthwise_conv2d,
    "conv_transpose2d": conv_transpose2d,
    "layer_norm": layer_norm,
    "layer_norm_2d": layer_norm_2d,
    "batch_norm": batch_norm,
    "gelu": gelu,
    "relu": relu,
    "attention": attention,
}
