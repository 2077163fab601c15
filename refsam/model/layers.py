"""One function for each kind of leaf module: it reads its weights from the scope, computes, and taps the result."""

from refsam.scope import Scope
from refsam.types import Array, Float


def linear(s: Scope, x: Float[Array, "*N C"]) -> Float[Array, "*N D"]:
    """Upstream: torch.nn.Linear."""
    return s.tap(s.ops.linear(x, s["weight"], s["bias"]))


def conv2d(s: Scope, x: Float[Array, "B C H W"], stride: int = 1, padding: int = 0) -> Float[Array, "B D Ho Wo"]:
    """A dense convolution, with a bias where the checkpoint has one.  Upstream: torch.nn.Conv2d."""
    return s.tap(s.ops.conv2d(x, s["weight"], s.get("bias"), stride, padding))


def depthwise_conv2d(s: Scope, x: Float[Array, "B C H W"], stride: int = 1) -> Float[Array, "B C Ho Wo"]:
    """A 3x3 convolution of each channel by itself.  Upstream: torch.nn.Conv2d(groups=C)."""
    return s.tap(s.ops.depthwise_conv2d(x, s["weight"], stride))


def conv_transpose2d(s: Scope, x: Float[Array, "B C H W"]) -> Float[Array, "B D 2*H 2*W"]:
    """Doubles both sides.  Upstream: torch.nn.ConvTranspose2d(kernel_size=2, stride=2)."""
    return s.tap(s.ops.conv_transpose2d(x, s["weight"], s["bias"]))


def layer_norm(s: Scope, x: Float[Array, "*N C"]) -> Float[Array, "*N C"]:
    """Upstream: torch.nn.LayerNorm, eps 1e-5."""
    return s.tap(s.ops.layer_norm(x, s["weight"], s["bias"]))


def layer_norm_2d(s: Scope, x: Float[Array, "B C H W"]) -> Float[Array, "B C H W"]:
    """Upstream: common.py LayerNorm2d, eps 1e-6."""
    return s.tap(s.ops.layer_norm_2d(x, s["weight"], s["bias"]))


def batch_norm(s: Scope, x: Float[Array, "B C H W"]) -> Float[Array, "B C H W"]:
    """Upstream: torch.nn.BatchNorm2d in eval mode, eps 1e-5."""
    return s.tap(s.ops.batch_norm(x, s["running_mean"], s["running_var"], s["weight"], s["bias"]))


def conv_bn(s: Scope, x: Float[Array, "B C H W"], stride: int = 1, padding: int = 0) -> Float[Array, "B D Ho Wo"]:
    """A dense convolution without bias, then BatchNorm.  Upstream: tiny_vit_sam.py Conv2d_BN."""
    return s.tap(batch_norm(s / "bn", conv2d(s / "c", x, stride, padding)))


def depthwise_conv_bn(s: Scope, x: Float[Array, "B C H W"], stride: int = 1) -> Float[Array, "B C Ho Wo"]:
    """A depthwise 3x3 convolution, then BatchNorm.  Upstream: tiny_vit_sam.py Conv2d_BN(groups=C)."""
    return s.tap(batch_norm(s / "bn", depthwise_conv2d(s / "c", x, stride)))


def gelu(s: Scope, x: Float[Array, "*N"]) -> Float[Array, "*N"]:
    """Upstream: torch.nn.GELU, the exact one."""
    return s.tap(s.ops.gelu(x))


def relu(s: Scope, x: Float[Array, "*N"]) -> Float[Array, "*N"]:
    """Upstream: torch.nn.ReLU."""
    return s.tap(s.ops.relu(x))


def mlp(s: Scope, x: Float[Array, "*N C"], depth: int) -> Float[Array, "*N D"]:
    """Linear maps with ReLU between them.  Upstream: mask_decoder.py MLP."""
    for layer in range(depth - 1):
        x = s.ops.relu(linear(s / "layers" / layer, x))
    return s.tap(linear(s / "layers" / (depth - 1), x))


def to_map(x: Float[Array, "B N C"]) -> Float[Array, "B C H W"]:
    """Tokens in reading order -> a square feature map."""
    batch, tokens, channels = x.shape
    side = grid_side(tokens)
    return x.swapaxes(1, 2).reshape(batch, channels, side, side)


def to_tokens(x: Float[Array, "B C H W"]) -> Float[Array, "B N C"]:
    """A feature map -> tokens in reading order."""
    batch, channels, height, width = x.shape
    return x.reshape(batch, channels, height * width).swapaxes(1, 2)


def grid_side(tokens: int) -> int:
    """The side of the square grid that these tokens make."""
    return int(tokens**0.5 + 0.5)
