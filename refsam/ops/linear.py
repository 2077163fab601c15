"""The affine map of the last axis."""

from refsam.types import Array, Float


def linear(x: Float[Array, "*N C"], weight: Float[Array, "D C"], bias: Float[Array, " D"]) -> Float[Array, "*N D"]:
    """x W^T + b for each token.  Upstream: torch.nn.Linear."""
    rows = x.reshape(-1, x.shape[-1])  # one large product instead of one for each window or prompt
    return (rows @ weight.T + bias).reshape(*x.shape[:-1], len(weight))
