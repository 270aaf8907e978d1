#!/usr/bin/env python3
"""Makes testdata/golden-models: tiny random models as GGUF, and the log-probabilities they must give.

Needs (see testdata/golden-models/README.md):
    torch==2.15.0 transformers==5.23.0 gguf==0.19.0 numpy==2.4.6 llama-cpp-python==0.3.36

For each architecture a model of a few ten thousand weights is filled with seeded random numbers, `transformers`
computes in f32 what it answers to a fixed token sequence, and the weights are written with the names and permutations
that llama.cpp uses. llama.cpp then runs the F32 file and must agree, which proves the file right.

The quantised files are made by llama.cpp's own quantiser; their reference is transformers' f32 forward pass over the
dequantised weights, and llama.cpp's mean KL divergence from it on the same file is recorded beside it.

    scripts/golden_models.py [NAME...]      # all, or only these cases
"""

import ctypes
import hashlib
import importlib.metadata
import json
import math
import struct
import sys
from pathlib import Path

import gguf
import llama_cpp
import numpy as np
import torch
import transformers

OUT = Path(__file__).resolve().parent.parent / "testdata" / "golden-models"
SEED = 20260101
VOCAB = 64
N_TOKENS = 64
# llama.cpp works with its own exp, its table of GELU and f16 sums; agreement is meant to show that the files are
# right, and a wrong permutation, norm or scale gives differences of whole nats.
PEER_TOLERANCE = 0.005

# ---------------------------------------------------------------------------------------------------------------------
# The cases: (transformers class, its configuration, GGUF architecture, extra GGUF keys)

TINY = dict(
    vocab_size=VOCAB, hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=4,
    num_key_value_heads=2, head_dim=16, max_position_embeddings=512, tie_word_embeddings=False,
    bos_token_id=0, eos_token_id=1, pad_token_id=None, attn_implementation="eager",
)
# Where the architecture wants n_heads · head_dim = n_embd.
SQUARE = TINY | dict(num_attention_heads=2, num_key_value_heads=1)
DEFAULT_ROPE = dict(rope_type="default", rope_theta=10000.0)
LLAMA3_ROPE = dict(
    rope_type="llama3", rope_theta=10000.0, factor=4.0, low_freq_factor=1.0, high_freq_factor=4.0,
    original_max_position_embeddings=32,
)
YARN_ROPE = dict(rope_type="yarn", rope_theta=10000.0, factor=4.0, original_max_position_embeddings=32)
LONG_FACTORS = [1.0, 1.3, 1.9, 2.6, 3.4, 4.5, 6.0, 8.0]
SHORT_FACTORS = [1.0, 1.02, 1.05, 1.1, 1.15, 1.2, 1.3, 1.4]


class Case:
    """One model: how transformers builds it, how GGUF describes it."""

    def __init__(self, model, config, arch, keys=None, types=("f32", "f16", "bf16"), runs=None, peer_config=None):
        self.model = model  # name of the transformers class without "ForCausalLM" / "LMHeadModel"
        self.config = config
        self.arch = arch
        self.keys = keys or {}  # GGUF keys (without the architecture) beside those that follow from the configuration
        self.types = types
        # (suffix of the expectation file, tokens, context the model is run with)
        self.runs = runs or [("", N_TOKENS, 512)]
        # Changes to the transformers configuration for the comparison with llama.cpp, where llama.cpp knowingly
        # deviates from the model's own definition.
        self.peer_config = peer_config


CASES = {
    "llama": Case("Llama", TINY | dict(rope_parameters=DEFAULT_ROPE), "llama"),
    "llama-tied-bias": Case(
        "Llama",
        TINY | dict(rope_parameters=DEFAULT_ROPE, attention_bias=True, mlp_bias=True, tie_word_embeddings=True),
        "llama", types=("f32",),
    ),
    "llama-linear": Case(
        "Llama", TINY | dict(rope_parameters=dict(rope_type="linear", rope_theta=10000.0, factor=4.0)), "llama",
        {"rope.scaling.type": "linear", "rope.scaling.factor": 4.0}, types=("f32",),
    ),
    "llama-llama3": Case("Llama", TINY | dict(rope_parameters=LLAMA3_ROPE), "llama", types=("f32",)),
    "llama-yarn": Case(
        "Llama", TINY | dict(rope_parameters=YARN_ROPE), "llama",
        {"rope.scaling.type": "yarn", "rope.scaling.factor": 4.0, "rope.scaling.original_context_length": 32},
        types=("f32",),
    ),
    "mistral": Case(
        "Mistral", TINY | dict(rope_parameters=DEFAULT_ROPE, sliding_window=24), "llama",
        {"attention.sliding_window": 24},
        # llama.cpp gives llama files no window
        peer_config=dict(sliding_window=None),
    ),
    "qwen2": Case("Qwen2", SQUARE | dict(rope_parameters=DEFAULT_ROPE, use_sliding_window=False), "qwen2"),
    "qwen3": Case("Qwen3", TINY | dict(rope_parameters=DEFAULT_ROPE, use_sliding_window=False), "qwen3"),
    "gemma2": Case(
        "Gemma2",
        TINY | dict(
            rope_parameters=DEFAULT_ROPE, sliding_window=12, query_pre_attn_scalar=16, tie_word_embeddings=True,
            attn_logit_softcapping=2.0, final_logit_softcapping=4.0, hidden_activation="gelu_pytorch_tanh",
            num_hidden_layers=3,
        ),
        "gemma2",
        {"attention.sliding_window": 12, "attn_logit_softcapping": 2.0, "final_logit_softcapping": 4.0},
    ),
    "gemma3": Case(
        "Gemma3",
        TINY | dict(
            rope_parameters=dict(
                full_attention=dict(rope_type="linear", rope_theta=1000000.0, factor=8.0),
                sliding_attention=dict(rope_type="default", rope_theta=10000.0),
            ),
            sliding_window=12, query_pre_attn_scalar=16, tie_word_embeddings=True,
            hidden_activation="gelu_pytorch_tanh", num_hidden_layers=3,
            layer_types=["sliding_attention", "sliding_attention", "full_attention"],
        ),
        "gemma3",
        {
            "attention.sliding_window": 12, "attention.sliding_window_pattern": [True, True, False],
            "rope.freq_base": 1000000.0, "rope.freq_base_swa": 10000.0,
            "rope.scaling.type": "linear", "rope.scaling.factor": 8.0,
        },
    ),
    "phi3": Case("Phi3", SQUARE | dict(rope_parameters=DEFAULT_ROPE, sliding_window=None), "phi3"),
    "phi3-longrope": Case(
        "Phi3",
        SQUARE | dict(
            rope_parameters=dict(
                rope_type="longrope", rope_theta=10000.0, long_factor=LONG_FACTORS, short_factor=SHORT_FACTORS,
                original_max_position_embeddings=256,
            ),
            original_max_position_embeddings=256, max_position_embeddings=1024, sliding_window=None,
        ),
        "phi3",
        {
            "rope.scaling.type": "longrope", "rope.scaling.original_context_length": 256,
            "rope.scaling.attn_factor": math.sqrt(1 + math.log(1024 / 256) / math.log(256)),
        },
        types=("f32",),
        runs=[(".short", 48, 256), (".long", 288, 512)],
    ),
    "phi3-partial": Case(
        "Phi3",
        SQUARE | dict(
            rope_parameters=DEFAULT_ROPE | dict(partial_rotary_factor=0.5), sliding_window=20,
        ),
        "phi3", {"rope.dimension_count": 8, "attention.sliding_window": 20}, types=("f32",),
        # llama.cpp gives phi3 files no window
        peer_config=dict(sliding_window=None),
    ),
    "gpt2": Case(
        "GPT2",
        dict(
            vocab_size=VOCAB, n_embd=32, n_layer=2, n_head=2, n_positions=128, n_inner=64,
            activation_function="gelu_new", bos_token_id=0, eos_token_id=1, attn_implementation="eager",
        ),
        "gpt2",
        runs=[("", N_TOKENS, 128)],
    ),
    "olmo2": Case("Olmo2", SQUARE | dict(rope_parameters=DEFAULT_ROPE), "olmo2"),
    "olmo3": Case(
        "Olmo3",
        SQUARE | dict(
            rope_parameters=dict(
                full_attention=YARN_ROPE, sliding_attention=dict(rope_type="default", rope_theta=10000.0),
            ),
            sliding_window=12, layer_types=["sliding_attention", "full_attention"],
        ),
        "olmo2",
        {
            "attention.sliding_window": 12, "attention.sliding_window_pattern": [True, False],
            "rope.scaling.type": "yarn", "rope.scaling.factor": 4.0, "rope.scaling.original_context_length": 32,
        },
        types=("f32",),
    ),
    "granite": Case(
        "Granite",
        SQUARE | dict(
            rope_parameters=DEFAULT_ROPE, embedding_multiplier=3.0, attention_multiplier=0.4,
            residual_multiplier=0.6, logits_scaling=1.5,
        ),
        "granite",
        {"embedding_scale": 3.0, "attention.scale": 0.4, "residual_scale": 0.6, "logit_scale": 1.5},
    ),
    "smollm3": Case(
        "SmolLM3",
        SQUARE | dict(
            rope_parameters=DEFAULT_ROPE, num_hidden_layers=4, intermediate_size=48, tie_word_embeddings=True,
            use_sliding_window=False,
        ),
        "smollm3",
    ),
}

QUANT_TYPES = ["Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q8_0", "Q4_K", "Q5_K", "Q6_K"]
# Rows of 256 weights, the block of the K formats.
QUANT = Case(
    "Llama",
    TINY | dict(
        hidden_size=256, intermediate_size=256, num_hidden_layers=1, num_attention_heads=4, num_key_value_heads=1,
        head_dim=64, rope_parameters=DEFAULT_ROPE, tie_word_embeddings=True,
    ),
    "llama",
    runs=[("", 128, 512)],
)

# ---------------------------------------------------------------------------------------------------------------------
# Models


def build(case, change=None):
    """The transformers model, its weights random, large enough that answers are far from uniform."""
    config = case.config | (change or {})
    suffix = "LMHeadModel" if case.model == "GPT2" else "ForCausalLM"
    config_name = f"{case.model}TextConfig" if case.model == "Gemma3" else f"{case.model}Config"
    attn = config.pop("attn_implementation")
    config = getattr(transformers, config_name)(**config)
    config._attn_implementation = attn
    model = getattr(transformers, case.model + suffix)(config)
    model.to(torch.float32).eval()
    return model


def fill(model, name, rounded):
    """Seeded weights. With `rounded`, bf16 and f16 hold every matrix exactly, so that all three files are one model."""
    rng = np.random.default_rng([SEED, *name.encode()])
    seen = set()
    with torch.no_grad():
        for key, parameter in model.named_parameters():
            if parameter.data_ptr() in seen:
                continue
            seen.add(parameter.data_ptr())
            shape = tuple(parameter.shape)
            if parameter.ndim == 1:
                is_bias = key.endswith("bias")
                # gemma stores its norms' weights less one
                center = 0.0 if is_bias or "gemma" in type(model).__name__.lower() else 1.0
                values = center + 0.3 * rng.standard_normal(shape)
            else:
                fan_in = shape[0] if "c_attn" in key or "c_fc" in key or "c_proj" in key else shape[-1]
                is_embedding = "embed" in key or "wte" in key or "wpe" in key
                # Embeddings that are also the output must not make every answer certain.
                gain = 0.5 if is_embedding and not model.config.tie_word_embeddings else 1.15 / math.sqrt(fan_in)
                values = gain * rng.standard_normal(shape)
                if rounded:
                    values = torch.tensor(values).to(torch.bfloat16).to(torch.float32).numpy()
                    values[np.abs(values) < 2.0**-16] = 0.0  # below, f16 could not hold them exactly
            parameter.copy_(torch.tensor(np.asarray(values, dtype=np.float32)))


def tokens_for(name, n, vocab):
    rng = np.random.default_rng([SEED + 1, *name.encode()])
    return [int(t) for t in rng.integers(0, vocab, n)]


def reference(model, tokens):
    """[n_tokens, vocab_size] log-probabilities of the next token, in f32."""
    with torch.no_grad():
        logits = model(torch.tensor([tokens]), use_cache=False).logits[0].to(torch.float32)
        return torch.log_softmax(logits, dim=-1).numpy()


# ---------------------------------------------------------------------------------------------------------------------
# GGUF


def permute(weights, n_heads):
    """Rows of a q or k projection from transformers' order of a head (halves) to llama's (neighbours)."""
    shape = weights.shape
    return weights.reshape(n_heads, 2, shape[0] // n_heads // 2, *shape[1:]).swapaxes(1, 2).reshape(shape)


def unpermute(weights, n_heads):
    shape = weights.shape
    return weights.reshape(n_heads, shape[0] // n_heads // 2, 2, *shape[1:]).swapaxes(1, 2).reshape(shape)


def to_gguf(values, name, model, case):
    """The rows of a tensor, or of what is beside one, from transformers' order to GGUF's."""
    return reorder(permute, values, name, model, case)


def to_transformers(values, name, model, case):
    """As `to_gguf`, the other way."""
    return reorder(unpermute, values, name, model, case)


def reorder(how, values, name, model, case):
    if case.arch in PERMUTED:
        if ".attn_q." in name:
            return how(values, model.config.num_attention_heads)
        if ".attn_k." in name:
            return how(values, model.config.num_key_value_heads)
    return values


NAMES = {
    "model.embed_tokens": "token_embd", "model.norm": "output_norm", "lm_head": "output",
    "self_attn.q_proj": "attn_q", "self_attn.k_proj": "attn_k", "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output", "self_attn.qkv_proj": "attn_qkv",
    "self_attn.q_norm": "attn_q_norm", "self_attn.k_norm": "attn_k_norm",
    "input_layernorm": "attn_norm", "mlp.gate_proj": "ffn_gate", "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down", "mlp.gate_up_proj": "ffn_up",
    "pre_feedforward_layernorm": "ffn_norm", "post_feedforward_layernorm": "post_ffw_norm",
    # gpt2
    "transformer.wte": "token_embd", "transformer.wpe": "position_embd", "transformer.ln_f": "output_norm",
    "ln_1": "attn_norm", "attn.c_attn": "attn_qkv", "attn.c_proj": "attn_output", "ln_2": "ffn_norm",
    "mlp.c_fc": "ffn_up", "mlp.c_proj": "ffn_down",
}
PERMUTED = {"llama", "granite", "smollm3"}
POST_NORMED = {"gemma2", "gemma3", "olmo2"}


def gguf_name(key, arch):
    """`blk.0.attn_q.weight` of `model.layers.0.self_attn.q_proj.weight`."""
    stem, kind = key.rsplit(".", 1)
    parts = stem.split(".")
    prefix = ""
    if len(parts) > 3:
        prefix, stem = f"blk.{parts[2]}.", ".".join(parts[3:])
    if stem == "post_attention_layernorm":
        name = "post_attention_norm" if arch in POST_NORMED else "ffn_norm"
    else:
        name = NAMES[stem]
    return f"{prefix}{name}.{kind}"


def gguf_tensors(model, case):
    """GGUF's name → f32 array, outermost size first."""
    tensors = {}
    for key, parameter in model.named_parameters():
        values = parameter.detach().numpy()
        if case.model == "GPT2" and values.ndim == 2 and ".c_" in key:
            values = values.T  # transformers' Conv1D holds [in, out]
        if case.model in ("Gemma2", "Gemma3") and "norm" in key:
            values = values + np.float32(1)
        name = gguf_name(key, case.arch)
        values = to_gguf(values, name, model, case)
        tensors[name] = np.ascontiguousarray(values, dtype=np.float32)
    rope = getattr(model.config, "rope_parameters", None) or {}
    if rope.get("rope_type") == "llama3":
        tensors["rope_freqs.weight"] = llama3_factors(rope, model.config.head_dim)
    if rope.get("rope_type") == "longrope":
        tensors["rope_factors_long.weight"] = np.array(rope["long_factor"], dtype=np.float32)
        tensors["rope_factors_short.weight"] = np.array(rope["short_factor"], dtype=np.float32)
    return tensors


def llama3_factors(rope, dim):
    """Divisors of the angles: 1 for fast pairs, `factor` for slow ones, a ramp between."""
    out = []
    for i in range(dim // 2):
        wave = 2 * math.pi * rope["rope_theta"] ** (2 * i / dim)
        turns = rope["original_max_position_embeddings"] / wave
        low, high = rope["low_freq_factor"], rope["high_freq_factor"]
        smooth = min(1.0, max(0.0, (turns - low) / (high - low)))
        out.append(1 / ((1 - smooth) / rope["factor"] + smooth))
    return np.array(out, dtype=np.float32)


def write_gguf(path, model, case, ty):
    c = model.config
    writer = gguf.GGUFWriter(path, case.arch)
    gpt2 = case.model == "GPT2"
    keys = {
        "vocab_size": c.vocab_size,
        "context_length": c.max_position_embeddings,
        "embedding_length": c.hidden_size,
        "block_count": c.num_hidden_layers,
        "feed_forward_length": c.n_inner if gpt2 else c.intermediate_size,
        "attention.head_count": c.num_attention_heads,
    }
    if gpt2:
        keys["attention.layer_norm_epsilon"] = float(c.layer_norm_epsilon)
    else:
        keys |= {
            "attention.head_count_kv": c.num_key_value_heads,
            "attention.layer_norm_rms_epsilon": float(c.rms_norm_eps),
            "attention.key_length": case.config["head_dim"],
            "attention.value_length": case.config["head_dim"],
            "rope.dimension_count": case.config["head_dim"],
            "rope.freq_base": 10000.0,
        }
    writer.add_name(path.stem)
    for key, value in (keys | case.keys).items():
        add = {int: writer.add_uint32, float: writer.add_float32, str: writer.add_string, list: writer.add_array}
        add[type(value)](f"{case.arch}.{key}", value)
    writer.add_tokenizer_model("none")  # the engine sees ids; llama.cpp wants to be told so
    for name, values in gguf_tensors(model, case).items():
        if values.ndim == 1 or ty == "f32":
            writer.add_tensor(name, values)
        elif ty == "f16":
            writer.add_tensor(name, values.astype(np.float16))
        else:
            raw = gguf.quants.quantize(values, gguf.GGMLQuantizationType.BF16)
            writer.add_tensor(name, raw, raw_dtype=gguf.GGMLQuantizationType.BF16)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def load_gguf(path, model, case):
    """Puts a file's dequantised weights into the transformers model."""
    tensors = {}
    for tensor in gguf.GGUFReader(path).tensors:
        values = gguf.quants.dequantize(tensor.data, tensor.tensor_type)
        tensors[tensor.name] = values.reshape([int(n) for n in reversed(tensor.shape)])
    with torch.no_grad():
        for key, parameter in model.named_parameters():
            name = gguf_name(key, case.arch)
            values = tensors[name]
            if case.model in ("Gemma2", "Gemma3") and "norm" in key:
                values = values - np.float32(1)
            values = to_transformers(values, name, model, case)
            parameter.copy_(torch.tensor(np.array(values, dtype=np.float32)))


# ---------------------------------------------------------------------------------------------------------------------
# llama.cpp


def peer(path, tokens, n_ctx, kv_type):
    """llama.cpp's log-probabilities, [n_tokens, vocab_size]."""
    model_params = llama_cpp.llama_model_default_params()
    model = llama_cpp.llama_model_load_from_file(str(path).encode(), model_params)
    assert model, f"llama.cpp does not load {path}"
    params = llama_cpp.llama_context_default_params()
    params.n_ctx = n_ctx
    params.n_batch, params.n_ubatch = n_ctx, 512
    params.n_threads = params.n_threads_batch = 2
    params.type_k = params.type_v = kv_type
    # With an f32 cache llama.cpp is to compute as exactly as it can; the fused attention rounds to f16.
    if kv_type == llama_cpp.GGML_TYPE_F32:
        params.flash_attn_type = llama_cpp.LLAMA_FLASH_ATTN_TYPE_DISABLED
    context = llama_cpp.llama_init_from_model(model, params)
    assert context, f"llama.cpp makes no context for {path}"
    batch = llama_cpp.llama_batch_init(len(tokens), 0, 1)
    batch.n_tokens = len(tokens)
    for i, token in enumerate(tokens):
        batch.token[i] = token
        batch.pos[i] = i
        batch.n_seq_id[i] = 1
        batch.seq_id[i][0] = 0
        batch.logits[i] = 1
    assert llama_cpp.llama_decode(context, batch) == 0
    n_vocab = llama_cpp.llama_vocab_n_tokens(llama_cpp.llama_model_get_vocab(model))
    rows = [np.ctypeslib.as_array(llama_cpp.llama_get_logits_ith(context, i), (n_vocab,)).copy()
            for i in range(len(tokens))]
    llama_cpp.llama_batch_free(batch)
    llama_cpp.llama_free(context)
    llama_cpp.llama_model_free(model)
    return torch.log_softmax(torch.tensor(np.array(rows)), dim=-1).numpy()


def quantize(source, target, ty):
    params = llama_cpp.llama_model_quantize_default_params()
    params.ftype = getattr(llama_cpp, "LLAMA_FTYPE_MOSTLY_" + {"Q4_K": "Q4_K_S", "Q5_K": "Q5_K_S"}.get(ty, ty))
    params.pure = True
    params.nthread = 2
    status = llama_cpp.llama_model_quantize(str(source).encode(), str(target).encode(), ctypes.byref(params))
    assert status == 0, f"llama.cpp does not quantise to {ty}"
    found = {t.tensor_type.name for t in gguf.GGUFReader(target).tensors if t.name.endswith("weight") and "norm" not in t.name}
    assert found == {ty}, f"expected only {ty}, found {found}"


# ---------------------------------------------------------------------------------------------------------------------
# Expectations


def write_expected(path, tokens, log_probs, max_seq_len, peer_kl=math.nan):
    """The format is described in testdata/golden-models/README.md."""
    n_tokens, vocab_size = log_probs.shape
    head = b"DAYGOLD1" + struct.pack("<IIIf", n_tokens, vocab_size, max_seq_len, peer_kl)
    path.write_bytes(head + np.array(tokens, "<u4").tobytes() + log_probs.astype("<f4").tobytes())


def mean_kl(reference, other):
    """Mean over positions of KL(reference || other), in nats."""
    p, q = reference.astype(np.float64), other.astype(np.float64)
    return float((np.exp(p) * (p - q)).sum(axis=1).mean())


def make_case(name, case, report):
    model = build(case)
    fill(model, name, rounded=len(case.types) > 1)
    for ty in case.types:
        write_gguf(OUT / f"{name}-{ty}.gguf", model, case, ty)
    entry = report.setdefault(name, {})
    if case.peer_config:
        peer_model = build(case, case.peer_config)
        peer_model.load_state_dict(model.state_dict())
    else:
        peer_model = model
    for suffix, n_tokens, max_seq_len in case.runs:
        tokens = tokens_for(name + suffix, n_tokens, VOCAB)
        expected = reference(model, tokens)
        write_expected(OUT / f"{name}{suffix}.expected", tokens, expected, max_seq_len)
        spread = float((expected.max(axis=1) - expected.min(axis=1)).mean())
        differences = {}
        for ty in case.types:
            found = peer(OUT / f"{name}-{ty}.gguf", tokens, max_seq_len, llama_cpp.GGML_TYPE_F32)
            differences[ty] = float(np.abs(found - reference(peer_model, tokens)).max())
        entry["run" + suffix] = {
            "n_tokens": n_tokens, "mean_spread_nats": round(spread, 3),
            "llama_cpp_max_difference_nats": {ty: round(d, 6) for ty, d in differences.items()},
        }
        if "bf16" in case.types:
            # What it loses where the processor multiplies in bf16: it rounds activations then.
            found = peer(OUT / f"{name}-bf16.gguf", tokens, max_seq_len, llama_cpp.GGML_TYPE_F16)
            entry["run" + suffix]["llama_cpp_bf16_mean_kl"] = mean_kl(reference(peer_model, tokens), found)
        if case.peer_config:
            entry["compared_with_llama_cpp_under"] = case.peer_config
            changed = float(np.abs(reference(peer_model, tokens) - expected).max())
            assert changed > 0.1, f"{name}: the window makes no difference ({changed})"
        print(f"{name}{suffix}: spread {spread:.2f} nats, llama.cpp differs by {differences}")
        assert differences["f32"] < PEER_TOLERANCE, f"{name}{suffix}: llama.cpp disagrees by {differences}"


def make_quants(report):
    name = "quant"
    model = build(QUANT)
    fill(model, name, rounded=False)
    source = OUT / "quant-f32.tmp.gguf"
    write_gguf(source, model, QUANT, "f32")
    (suffix, n_tokens, max_seq_len), = QUANT.runs
    tokens = tokens_for(name, n_tokens, model.config.vocab_size)
    agree = float(np.abs(peer(source, tokens, max_seq_len, llama_cpp.GGML_TYPE_F32) - reference(model, tokens)).max())
    assert agree < PEER_TOLERANCE, f"quant: llama.cpp disagrees by {agree}"
    for ty in QUANT_TYPES:
        path = OUT / f"quant-{ty}.gguf"
        quantize(source, path, ty)
        load_gguf(path, model, QUANT)
        expected = reference(model, tokens)
        found = peer(path, tokens, max_seq_len, llama_cpp.GGML_TYPE_F16)
        kl = mean_kl(expected, found)
        write_expected(OUT / f"quant-{ty}.expected", tokens, expected, max_seq_len, kl)
        difference = float(np.abs(found - expected).max())
        report[f"quant-{ty}"] = {"llama_cpp_mean_kl": kl, "llama_cpp_max_difference_nats": round(difference, 5)}
        print(f"quant-{ty}: llama.cpp's mean KL {kl:.3e}, largest difference {difference:.4f}")
    source.unlink()


def main(names):
    OUT.mkdir(parents=True, exist_ok=True)
    log_off = llama_cpp.llama_log_callback(lambda level, text, data: None)
    llama_cpp.llama_log_set(log_off, None)
    torch.set_num_threads(2)
    manifest_path = OUT / "manifest.json"
    manifest = json.loads(manifest_path.read_text()) if manifest_path.exists() else {}
    report = manifest.get("cases", {})
    for name, case in CASES.items():
        if not names or name in names:
            make_case(name, case, report)
    if not names or "quant" in names:
        make_quants(report)
    manifest = {
        "made_by": "scripts/golden_models.py",
        "seed": SEED,
        "versions": {
            "python": sys.version.split()[0], "torch": torch.__version__, "transformers": transformers.__version__,
            "gguf": importlib.metadata.version("gguf"), "numpy": np.__version__, "llama_cpp_python": llama_cpp.__version__,
        },
        "cases": {key: report[key] for key in sorted(report)},
        "sha256": {p.name: hashlib.sha256(p.read_bytes()).hexdigest()
                   for p in sorted(OUT.iterdir()) if p.suffix in (".gguf", ".expected")},
    }
    manifest_path.write_text(json.dumps(manifest, indent=1) + "\n")
    total = sum(p.stat().st_size for p in OUT.iterdir())
    print(f"{OUT}: {total / 1e6:.2f} MB")


if __name__ == "__main__":
    main(sys.argv[1:])
