"""Networks: plain functions of a parameter pytree, described by a small frozen config.

Axes: `i o` inputs and outputs of a layer, `h w c` height, width, channels of an image. Every network sees one
observation, not a batch; parameters are nested dicts of float32 arrays with paths such as `layers/0/kernel`.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Key

from evo.registry import nearest

NETWORKS = {
    "mlp": "evo.envs.networks:MLP",
    "cnn": "evo.envs.networks:CNN",
    "gru": "evo.envs.networks:GRU",
}
Params = dict[str, Any]
Carry = Any  # what a network remembers between steps: () for feed-forward ones


class Network(Protocol):
    """The contract: a policy (or any model) that may remember."""

    def init(self, key: Key[Array, ""], inputs: int | tuple[int, ...], outputs: int) -> Params:
        """Random parameters."""
        ...

    def start(self, params: Params) -> Carry:
        """What it remembers at the start of an episode."""
        ...

    def apply(self, params: Params, carry: Carry, x: Float[Array, "*i"]) -> tuple[Carry, Float[Array, "o"]]:
        """One step."""
        ...


def pqn(x: Float[Array, "... o"]) -> Float[Array, "... o"]:
    """relu(layer_norm(x)), without learned scale or bias: the activation of EGGROLL's policies (arXiv 2511.16652)."""
    centred = x - x.mean(-1, keepdims=True)
    return jax.nn.relu(centred * jax.lax.rsqrt((centred**2).mean(-1, keepdims=True) + 1e-6))


ACTIVATIONS: dict[str, Callable] = {
    "elu": jax.nn.elu,
    "gelu": jax.nn.gelu,
    "identity": lambda x: x,
    "pqn": pqn,
    "relu": jax.nn.relu,
    "silu": jax.nn.silu,
    "sin": jnp.sin,
    "tanh": jnp.tanh,
}


@dataclass(frozen=True)
class MLP:
    """Dense layers: x <- activation(x @ kernel + bias), and a linear last one.

    Kernels start as normal draws of standard deviation 1/sqrt(i), the last one's times `output_scale`; biases at zero.
    `activation="pqn"` is relu(layer_norm(x)).
    """

    hidden: tuple[int, ...] = (64, 64)
    activation: str = "tanh"
    output_scale: float = 0.1

    def __post_init__(self):
        _check_sizes("hidden", self.hidden)
        _check_activation(self.activation)

    def init(self, key, inputs, outputs):
        sizes = (_flat(inputs), *self.hidden, outputs)
        return {"layers": _stack(key, sizes, self.output_scale)}

    def start(self, params):
        return ()

    def apply(self, params, carry, x):
        return carry, _dense(params["layers"], x, ACTIVATIONS[self.activation])


@dataclass(frozen=True)
class CNN:
    """Convolutions (SAME padding) over an image [h, w, c], then dense layers.

    The default is the network of the Deep GA's Atari experiments (Such et al. 2017, arXiv 1712.06567): 4,052,658
    parameters on 84 x 84 x 4 with 18 actions. Pixels are taken as they come: scale bytes to [0, 1] in the task.
    """

    channels: tuple[int, ...] = (32, 64, 64)
    kernels: tuple[int, ...] = (8, 4, 3)
    strides: tuple[int, ...] = (4, 2, 1)
    hidden: tuple[int, ...] = (512,)
    activation: str = "relu"
    output_scale: float = 0.1

    def __post_init__(self):
        for name in ("channels", "kernels", "strides", "hidden"):
            _check_sizes(name, getattr(self, name))
        _check_activation(self.activation)
        if not len(self.channels) == len(self.kernels) == len(self.strides):
            raise ValueError(
                "CNN: `channels`, `kernels` and `strides` have one number per convolution; "
                f"got {len(self.channels)}, {len(self.kernels)} and {len(self.strides)} of them."
            )

    def init(self, key, inputs, outputs):
        if isinstance(inputs, int) or len(inputs) != 3:
            raise ValueError(f"CNN sees images of shape (height, width, channels); got {inputs}. Use MLP for vectors.")
        key_convs, key_layers = jax.random.split(key)
        height, width, channels = inputs
        convs = {}
        for i, (out, size, stride) in enumerate(zip(self.channels, self.kernels, self.strides, strict=True)):
            convs[str(i)] = _layer(jax.random.fold_in(key_convs, i), (size, size, channels, out))
            height, width, channels = -(-height // stride), -(-width // stride), out
        sizes = (height * width * channels, *self.hidden, outputs)
        return {"convs": convs, "layers": _stack(key_layers, sizes, self.output_scale)}

    def start(self, params):
        return ()

    def apply(self, params, carry, x):
        activation = ACTIVATIONS[self.activation]
        x = x[None]
        for i, stride in enumerate(self.strides):
            layer = params["convs"][str(i)]
            x = jax.lax.conv_general_dilated(
                x, layer["kernel"], (stride, stride), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
            )
            x = activation(x + layer["bias"].reshape(1, 1, 1, -1))
        return carry, _dense(params["layers"], x.reshape(-1), activation)


@dataclass(frozen=True)
class GRU:
    """Gated recurrent layers (Cho et al. 2014, arXiv 1406.1078), then a linear one; remembers between steps.

    z, r = sigmoid(x W + h U + b);  c = tanh(x W_c + r * (h U_c) + b_c);  h <- z * h + (1 - z) * c, as cuDNN has it;
    `kernel` is [W_z W_r W_c], `recurrent` is [U_z U_r U_c]. Starts from h = 0.
    """

    hidden: tuple[int, ...] = (64,)
    output_scale: float = 0.1

    def __post_init__(self):
        _check_sizes("hidden", self.hidden)

    def init(self, key, inputs, outputs):
        cells, size = {}, _flat(inputs)
        for i, units in enumerate(self.hidden):
            key_kernel, key_recurrent = jax.random.split(jax.random.fold_in(key, i))
            recurrent = _layer(key_recurrent, (units, 3 * units))["kernel"]
            cells[str(i)] = {**_layer(key_kernel, (size, 3 * units)), "recurrent": recurrent}
            size = units
        key_output = jax.random.fold_in(key, len(self.hidden))
        return {"cells": cells, "layers": _stack(key_output, (size, outputs), self.output_scale)}

    def start(self, params):
        return tuple(jnp.zeros(units, jnp.float32) for units in self.hidden)

    def apply(self, params, carry, x):
        carried, x = [], x.reshape(-1)
        for i, h in enumerate(carry):
            x = _cell(params["cells"][str(i)], h, x)
            carried.append(x)
        return tuple(carried), _dense(params["layers"], x, jnp.tanh)


def _cell(cell: Params, h, x):
    """One step of a gated recurrent layer."""
    xz, xr, xc = jnp.split(x @ cell["kernel"] + cell["bias"], 3)
    hz, hr, hc = jnp.split(h @ cell["recurrent"], 3)
    z, r = jax.nn.sigmoid(xz + hz), jax.nn.sigmoid(xr + hr)
    return z * h + (1 - z) * jnp.tanh(xc + r * hc)


def _layer(key, shape: tuple[int, ...], scale: float = 1.0) -> Params:
    """Kernel of standard deviation scale / sqrt(fan in), bias zero."""
    kernel = jax.random.normal(key, shape) * (scale / math.sqrt(math.prod(shape[:-1])))
    return {"kernel": kernel, "bias": jnp.zeros(shape[-1])}


def _stack(key, sizes: tuple[int, ...], output_scale: float) -> Params:
    """Dense layers of the given sizes, the last one scaled."""
    last = len(sizes) - 2
    return {
        str(i): _layer(jax.random.fold_in(key, i), (sizes[i], sizes[i + 1]), output_scale if i == last else 1.0)
        for i in range(last + 1)
    }


def _dense(layers: Params, x, activation: Callable):
    """All layers of a stack, with the activation between them."""
    x = x.reshape(-1)
    for i in range(len(layers)):
        layer = layers[str(i)]
        x = x @ layer["kernel"] + layer["bias"]
        x = activation(x) if i < len(layers) - 1 else x
    return x


def _flat(inputs: int | tuple[int, ...]) -> int:
    return inputs if isinstance(inputs, int) else math.prod(inputs)


def _check_sizes(name: str, sizes: tuple[int, ...]):
    if any(size < 1 for size in sizes):
        raise ValueError(f"every size in `{name}` must be at least 1; got {tuple(sizes)}.")


def _check_activation(name: str):
    if name not in ACTIVATIONS:
        raise ValueError(f"unknown activation {name!r}; {nearest(name, ACTIVATIONS)}")
