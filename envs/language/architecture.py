"""From a config.json to a model: the families that we read, and one clear error for the rest."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from evo.envs.language.decoder import Decoder
from evo.envs.language.rope import rope_of
from evo.envs.language.rwkv7 import RWKV7
from evo.registry import nearest

Config = Mapping[str, Any]
ACTIVATIONS = {
    "silu": "silu",
    "swish": "silu",
    "relu": "relu",
    "gelu": "gelu",
    "gelu_new": "gelu_tanh",
    "gelu_pytorch_tanh": "gelu_tanh",
    "gelu_fast": "gelu_tanh",
}
NUMBERS = (
    *("vocab_size", "hidden_size", "n_embd", "num_hidden_layers", "n_layer", "num_attention_heads", "n_head"),
    *("num_key_value_heads", "head_dim", "intermediate_size", "max_position_embeddings", "n_positions", "n_inner"),
    "num_heads",
)


def architecture(config: Config) -> Decoder | RWKV7:
    """The model of a config.json. Raises on a family, or a setting of one, that isn't known here."""
    family = str(config.get("model_type"))
    if family not in FAMILIES:
        raise ValueError(f"config.json: unknown architecture, model_type {family!r}; {nearest(family, FAMILIES)}")
    config = {name: value for name, value in config.items() if value is not None}
    for name in NUMBERS:
        if type(config.get(name, 1)) is not int or config.get(name, 1) < 1:
            raise ValueError(f"config.json: `{name}` is a whole number above 0; got {config[name]!r}.")
    for name in ("quantization_config", "rope_parameters", "rope_scaling"):
        if not isinstance(config.get(name, {}), dict):
            raise ValueError(f"config.json: `{name}` is a mapping; got {config[name]!r}.")
    method = config.get("quantization_config", {"quant_method": "gptq"}).get("quant_method")
    if method != "gptq":
        raise ValueError(f"config.json: weights quantised by {method!r} can't be read; wanted plain ones, or gptq.")
    try:
        return FAMILIES[family](config)
    except KeyError as error:
        raise ValueError(f"config.json: {error.args[0]!r} is missing or null, which {family} models have.") from None


def llama_like(config: Config) -> Decoder:
    """Llama, Mistral, Qwen2, Qwen3: RMS norms, gated feed-forward layers, rotary positions."""
    family, heads = config["model_type"], config["num_attention_heads"]
    biased: tuple[str, ...] = ("q", "k", "v") if family == "qwen2" else ()
    biased += ("q", "k", "v", "o") if family != "qwen2" and config.get("attention_bias") else ()
    biased += ("gate", "up", "down") if config.get("mlp_bias") else ()
    groups = config.get("num_key_value_heads", heads)
    head = config.get("head_dim") or (128 if family == "qwen3" else parted(config["hidden_size"], heads))
    if heads % groups:
        raise ValueError(f"config.json: {heads} heads can't share {groups} heads of keys and values; wanted a divisor.")
    if head % 2:
        raise ValueError(f"config.json: rotary positions turn pairs, so a head has an even size; got {head}.")
    return Decoder(
        vocabulary=config["vocab_size"],
        width=config["hidden_size"],
        layers=config["num_hidden_layers"],
        heads=heads,
        groups=groups,
        head=head,
        hidden=config["intermediate_size"],
        context=config["max_position_embeddings"],
        epsilon=config.get("rms_norm_eps", 1e-6),
        activation=activation(config.get("hidden_act", "silu")),
        rope=rope_of(config),
        head_norm=family == "qwen3",
        biased=biased,
        tied=config.get("tie_word_embeddings", False),
        windows=windows(config),
    )


def windows(config: Config) -> tuple[int, ...]:
    """How far back each layer sees; () where all see everything."""
    family, size, layers = config["model_type"], config.get("sliding_window"), config["num_hidden_layers"]
    if not size or family == "llama" or (family != "mistral" and not config.get("use_sliding_window")):
        return ()
    if family == "mistral":
        return (size,) * layers
    full = config.get("max_window_layers", layers)
    kinds = config.get("layer_types") or ["full_attention" if i < full else "sliding_attention" for i in range(layers)]
    found = tuple(size if kind == "sliding_attention" else 0 for kind in kinds)
    return found if any(found) else ()


def gpt2(config: Config) -> Decoder:
    """GPT-2: layer norms, a table of positions, biases everywhere."""
    for name, wanted in (("scale_attn_weights", True), ("scale_attn_by_inverse_layer_idx", False)):
        if config.get(name, wanted) is not wanted:
            raise ValueError(f"config.json: `{name}` is {config[name]}, which isn't supported; wanted {wanted}.")
    width = config["n_embd"]
    return Decoder(
        vocabulary=config["vocab_size"],
        width=width,
        layers=config["n_layer"],
        heads=config["n_head"],
        groups=config["n_head"],
        head=parted(width, config["n_head"]),
        hidden=config.get("n_inner") or 4 * width,
        context=config["n_positions"],
        norm="layer",
        epsilon=config.get("layer_norm_epsilon", 1e-5),
        activation=activation(config.get("activation_function", "gelu_new")),
        gated=False,
        rope=None,
        biased=("q", "k", "v", "o", "up", "down"),
        tied=config.get("tie_word_embeddings", True),
    )


def rwkv7(config: Config) -> RWKV7:
    """RWKV-7 with the settings that its published checkpoints have."""
    fixed = {"norm_first": True, "norm_bias": True, "attn": None, "hidden_act": "sqrelu"}
    for name, wanted in fixed.items():
        if config.get(name, wanted) != wanted:
            raise ValueError(f"config.json: `{name}` is {config[name]!r}, which isn't supported; wanted {wanted!r}.")
    width = config["hidden_size"]
    head = config.get("head_dim") or parted(width, config["num_heads"])
    if width % head:
        raise ValueError(f"config.json: heads of {head} don't divide a width of {width}.")
    rank = lambda name, most: config.get(f"{name}_low_rank_dim") or max(32, round(most * width**0.5 / 32) * 32)  # noqa: E731
    return RWKV7(
        vocabulary=config["vocab_size"],
        width=width,
        layers=config["num_hidden_layers"],
        head=head,
        hidden=config.get("intermediate_size") or -(-int(width * config.get("hidden_ratio", 4)) // 32) * 32,
        ranks=(
            rank("decay", 2.5 * head / 64),
            rank("a", 2.5 * head / 64),
            rank("v", 1.7 * head / 64),
            rank("gate", 5.0),
        ),
        epsilon=config.get("norm_eps", 1e-5),
        tied=config.get("tie_word_embeddings", False),
    )


def parted(width: int, parts: int) -> int:
    """The width of one of equal parts. Raises where there are none."""
    if width % parts:
        raise ValueError(f"config.json: {parts} heads don't divide a width of {width}.")
    return width // parts


def activation(name: str) -> Any:
    """Our name of an activation. Raises on others."""
    if name not in ACTIVATIONS:
        raise ValueError(f"config.json: unknown activation {name!r}; {nearest(name, ACTIVATIONS)}")
    return ACTIVATIONS[name]


FAMILIES: dict[str, Callable[[Config], Decoder | RWKV7]] = {
    "llama": llama_like,
    "mistral": llama_like,
    "qwen2": llama_like,
    "qwen3": llama_like,
    "gpt2": gpt2,
    "rwkv7": rwkv7,
}
