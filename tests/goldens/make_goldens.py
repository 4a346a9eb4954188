#!/usr/bin/env python3
"""Makes the goldens of this folder: small models of every family with random weights, and the logits that
transformers computes from them in float32.

usage: make_goldens.py [NAME]...

Needs torch 2.7, transformers 5, safetensors, tokenizers, numpy; the tests need none of torch and transformers.
Each NAME/ gets

  config.json          as the family's publishers write it
  model.safetensors    the weights, float16, bfloat16 or float32 (or packed to 4 bits)
  golden.safetensors   ids [tokens] and logits [POSITIONS, vocabulary], those of the last positions
  golden.json          what is tested, options for `bulla import`, and the ablations: edits of config.json or of
                       weights that switch one feature off, each with the relative change of the logits that it
                       makes in transformers

and tokenizer.json, one for all, lies beside them. A relative error is ||a - golden|| / ||golden - mean||, the mean
of each position's logits. An ablation must change the logits by ABLATION at least, or the golden tests nothing.

The weights have outlier channels, as trained models do: two channels of the residual stream are 30 times the others
from the first layer on, which writes them, and one gain of each norm is 20 times the others. Rounding activations and
weights of every linear layer to int8 as they come, gains in the weights, costs NAIVE at least, the limit of the test;
after the gain and in a rotated basis ROTATED at most: both are checked.
"""
import copy
import json
import os
import re
import sys
import tempfile

import numpy
import safetensors.numpy
import safetensors.torch
import tokenizers
import torch
import transformers

import packing

transformers.utils.logging.disable_progress_bar()
HERE = os.path.dirname(os.path.abspath(__file__))
VOCABULARY, POSITIONS = 320, 32
ABLATION, NAIVE, ROTATED = 0.10, 0.03, 0.023
OUTLIER, TIED_OUTLIER = 30, 8  # a tied head has the embedding's outliers in its weights too
BRANCH, SCORES = 0.4, 1.0  # usual sizes of what a layer adds to the residual stream, of scores before softmax
OUTLIERS, LARGE_GAIN, OUTLIER = (5, 38), 17, 30
FIRST_BRANCH = "model.layers.0.post_attention_layernorm.weight"
BRANCH, SCORES = 0.4, 1.0  # usual sizes of what a layer adds to the residual stream, of scores before softmax
OUTLIERS, LARGE_GAINS = (5, 38), (17, 50)

# A model is: base configuration, tokens of the sequence, what to scale, ablations.
BASE = {"vocab_size": VOCABULARY, "hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 3,
        "num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 512, "rms_norm_eps": 1e-5,
        "rope_theta": 10000.0, "hidden_act": "silu", "tie_word_embeddings": False, "bos_token_id": 1,
        "eos_token_id": 2, "attention_dropout": 0.0}
GEMMA = {**BASE, "head_dim": 32, "hidden_activation": "gelu_pytorch_tanh", "tie_word_embeddings": True,
         "rms_norm_eps": 1e-6, "bos_token_id": 2, "eos_token_id": 1, "pad_token_id": 0, "attention_bias": False}
PHI3 = {**BASE, "pad_token_id": 0, "rope_scaling": None, "sliding_window": None, "num_key_value_heads": 4,
        "original_max_position_embeddings": 512}


def of(base, model_type, architecture, **changes):
    config = {"architectures": [architecture], "model_type": model_type, **base, **changes}
    config.pop("hidden_act" if "hidden_activation" in config else "", None)
    return config


def config_ablation(path, value):
    return {"feature": f"{path} = {json.dumps(value)}", "config": path, "value": value}


def weight_ablation(pattern, value):
    return {"feature": f"{pattern} all {value}", "tensors": pattern, "value": value}


YARN = {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 64}
LONGROPE = {"type": "longrope", "short_factor": [1.0 + 0.05 * i for i in range(12)],
            "long_factor": [1.0 + 0.6 * i for i in range(12)]}
LONGROPE_SHORT = {**LONGROPE, "short_factor": [1.0 + 0.3 * i for i in range(12)]}
LLAMA3 = {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
          "original_max_position_embeddings": 64}

MODELS = {
    "llama2": dict(
        about="Llama 2: as many key as query heads, own head, float32",
        config=of(BASE, "llama", "LlamaForCausalLM", num_key_value_heads=4, num_hidden_layers=2,
                  intermediate_size=96),
        dtype="float32", tokens=120, ablations=[config_ablation("rope_theta", 1000000.0)]),
    "llama3": dict(
        about="Llama 3.1: grouped heads, llama3 rope scaling beyond the original context, tied head",
        config=of(BASE, "llama", "LlamaForCausalLM", head_dim=32, tie_word_embeddings=True, rope_scaling=LLAMA3),
        dtype="bfloat16", tokens=240, branch=0.35, ablations=[config_ablation("rope_scaling", None)]),
    "llama_linear": dict(
        about="llama with linear rope scaling under its old name",
        config=of(BASE, "llama", "LlamaForCausalLM", num_hidden_layers=2,
                  rope_scaling={"type": "linear", "factor": 4.0}),
        dtype="float16", tokens=200, ablations=[config_ablation("rope_scaling", None)]),
    "llama_yarn": dict(
        about="llama with yarn rope scaling, its attention factor worked out from the factor",
        config=of(BASE, "llama", "LlamaForCausalLM", num_hidden_layers=2, head_dim=32, rope_scaling=YARN),
        dtype="float16", tokens=240, scores=1.3,
        ablations=[config_ablation("rope_scaling", None), config_ablation("rope_scaling.attention_factor", 1.0)]),
    "llama_bias": dict(
        about="llama with biases of the attention, and an epsilon that matters",
        config=of(BASE, "llama", "LlamaForCausalLM", num_hidden_layers=2, attention_bias=True, rms_norm_eps=0.5),
        dtype="float16", tokens=120,
        ablations=[weight_ablation(r"self_attn\.[qk]_proj\.bias", 0), weight_ablation(r"self_attn\.v_proj\.bias", 0),
                   weight_ablation(r"self_attn\.o_proj\.bias", 0), config_ablation("rms_norm_eps", 1e-6)]),
    "llama_head80": dict(
        about="llama with heads of 80, no power of two",
        config=of(BASE, "llama", "LlamaForCausalLM", num_hidden_layers=2, head_dim=80,
                  num_attention_heads=2, num_key_value_heads=1),
        dtype="float16", tokens=120, ablations=[config_ablation("rope_theta", 1000000.0)]),
    "mistral": dict(
        about="Mistral: a sequence beyond its sliding window",
        config=of(BASE, "mistral", "MistralForCausalLM", sliding_window=24),
        dtype="bfloat16", tokens=160, branch=0.35, ablations=[config_ablation("sliding_window", None)]),
    "qwen2": dict(
        about="Qwen2: biases of q, k and v; a sliding window that is switched off",
        config=of(BASE, "qwen2", "Qwen2ForCausalLM", use_sliding_window=False, sliding_window=16,
                  max_window_layers=1, rope_theta=1000000.0, tie_word_embeddings=True),
        dtype="bfloat16", tokens=160, branch=0.3,
        ablations=[weight_ablation(r"self_attn\.[qk]_proj\.bias", 0), weight_ablation(r"self_attn\.v_proj\.bias", 0),
                   config_ablation("use_sliding_window", True)]),
    "qwen2_yarn": dict(
        about="Qwen2: yarn rope scaling, heads of 32",
        config=of(BASE, "qwen2", "Qwen2ForCausalLM", num_hidden_layers=2, num_attention_heads=2, num_key_value_heads=1,
                  use_sliding_window=False, sliding_window=None, rope_theta=1000000.0,
                  rope_scaling={**YARN, "type": "yarn"}),
        dtype="float16", tokens=240, ablations=[config_ablation("rope_scaling", None)]),
    "qwen3": dict(
        about="Qwen3: norms of q and k, heads wider than hidden size / heads",
        config=of(BASE, "qwen3", "Qwen3ForCausalLM", head_dim=32, attention_bias=False, use_sliding_window=False,
                  sliding_window=None, max_window_layers=3, rope_theta=1000000.0),
        dtype="bfloat16", tokens=160, scores=1.5,
        ablations=[weight_ablation(r"self_attn\.q_norm\.weight", 1), weight_ablation(r"self_attn\.k_norm\.weight", 1),
                   config_ablation("rope_theta", 10000.0)]),
    "gemma2": dict(
        about="Gemma 2: softcaps, post-norms, every other layer with a window, own score scale",
        config=of(GEMMA, "gemma2", "Gemma2ForCausalLM", num_hidden_layers=4, sliding_window=24,
                  intermediate_size=96, query_pre_attn_scalar=4,
                  attn_logit_softcapping=1.2, final_logit_softcapping=4.0),
        dtype="bfloat16", tokens=160, scores=1.0, branch=0.35,
        ablations=[config_ablation("attn_logit_softcapping", None), config_ablation("final_logit_softcapping", None),
                   config_ablation("query_pre_attn_scalar", 32), config_ablation("sliding_window", 512),
                   weight_ablation(r"post_attention_layernorm\.weight", 0),
                   weight_ablation(r"post_feedforward_layernorm\.weight", 0)]),
    "gemma3": dict(
        about="Gemma 3: local and global layers with rope bases of their own, linear scaling of the global ones",
        config=of(GEMMA, "gemma3_text", "Gemma3ForCausalLM", num_hidden_layers=4, num_key_value_heads=1,
                  intermediate_size=96, sliding_window=24, sliding_window_pattern=2, query_pre_attn_scalar=16,
                  rope_theta=100.0, rope_local_base_freq=100000.0,
                  rope_scaling={"rope_type": "linear", "factor": 8.0},
                  attn_logit_softcapping=None, final_logit_softcapping=None),
        dtype="bfloat16", tokens=200, scores=1.2, branch=0.35,
        ablations=[config_ablation("rope_scaling", None), config_ablation("rope_theta", 100000.0),
                   config_ablation("rope_local_base_freq", 500.0), config_ablation("sliding_window", 512),
                   config_ablation("query_pre_attn_scalar", 64),
                   config_ablation("sliding_window_pattern", 3),
                   weight_ablation(r"self_attn\.q_norm\.weight", 0),
                   weight_ablation(r"post_attention_layernorm\.weight", 0)]),
    "phi3": dict(
        about="Phi-3: fused projections, a sliding window, heads of 96",
        config=of(PHI3, "phi3", "Phi3ForCausalLM", hidden_size=96, num_attention_heads=1, num_key_value_heads=1,
                  num_hidden_layers=2, sliding_window=24, tie_word_embeddings=True),
        dtype="bfloat16", tokens=160, ablations=[config_ablation("sliding_window", None)]),
    "phi3_partial": dict(
        about="Phi-4-mini: a quarter of each head without rotation, grouped heads, tied head",
        config=of(PHI3, "phi3", "Phi3ForCausalLM", num_hidden_layers=2, num_attention_heads=2, num_key_value_heads=1,
                  partial_rotary_factor=0.75, tie_word_embeddings=True),
        dtype="float16", tokens=130, scores=1.2, branch=0.25,
        ablations=[config_ablation("partial_rotary_factor", 1.0)]),
    "phi3_longrope": dict(
        about="Phi-4-mini: longrope beyond the original context",
        config=of(PHI3, "phi3", "Phi3ForCausalLM", num_hidden_layers=2, num_attention_heads=2, num_key_value_heads=1,
                  partial_rotary_factor=0.75, rope_scaling=LONGROPE, original_max_position_embeddings=64),
        dtype="float16", tokens=240,
        ablations=[config_ablation("rope_scaling", None),
                   config_ablation("rope_scaling.long_factor", LONGROPE["short_factor"]),
                   config_ablation("rope_scaling.attention_factor", 1.0)]),
    "phi3_longrope_short": dict(
        about="the same kind of model, made for its original context: the short factors, scores still enlarged",
        config=of(PHI3, "phi3", "Phi3ForCausalLM", num_hidden_layers=2, num_attention_heads=2, num_key_value_heads=1,
                  partial_rotary_factor=0.75, rope_scaling=LONGROPE_SHORT, original_max_position_embeddings=64),
        dtype="float16", tokens=64, import_options=["--context", "64"],
        ablations=[config_ablation("rope_scaling", None),
                   config_ablation("rope_scaling.short_factor", LONGROPE["long_factor"])]),
}
# Layouts of 4-bit weights, of a model above: golden logits are those of what the packed integers say.
PACKED = {
    "llama_gptq": dict(of="llama2", about="GPTQ 4-bit, act-order, zeros stored less one", layout=packing.gptq,
                       options=dict(group=32, act_order=True, symmetric=False, version=1),
                       settings={"quant_method": "gptq", "bits": 4, "group_size": 32, "desc_act": True, "sym": False,
                                 "checkpoint_format": "gptq"}),
    "llama_gptq_v2": dict(of="llama2", about="GPTQ 4-bit, symmetric, zeros as they are", layout=packing.gptq,
                          options=dict(group=16, act_order=False, symmetric=True, version=2),
                          settings={"quant_method": "gptq", "bits": 4, "group_size": 16, "desc_act": False,
                                    "sym": True, "checkpoint_format": "gptq_v2"}),
    "qwen2_awq": dict(of="qwen2", about="AWQ 4-bit, with biases", layout=packing.awq, options=dict(group=32),
                      settings={"quant_method": "awq", "bits": 4, "group_size": 32, "zero_point": True,
                                "version": "gemm"}),
}


def make_tokenizer():
    """Byte-level BPE: three control tokens, the 256 bytes, and the most frequent merges of the text below."""
    text = ("A river begins as rain on stone. The water gathers, finds the lowest place, and carries a little of the "
            "mountain with it; the sea keeps what the river could not hold. int main(void) { return 0; }\n")
    tokenizer = tokenizers.Tokenizer(tokenizers.models.BPE())
    tokenizer.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)
    tokenizer.decoder = tokenizers.decoders.ByteLevel()
    trainer = tokenizers.trainers.BpeTrainer(
        vocab_size=VOCABULARY, special_tokens=["<unk>", "<s>", "</s>"], show_progress=False, min_frequency=1,
        initial_alphabet=tokenizers.pre_tokenizers.ByteLevel.alphabet())
    tokenizer.train_from_iterator([text] * 2, trainer)
    assert tokenizer.get_vocab_size() == VOCABULARY, tokenizer.get_vocab_size()
    return tokenizer


def relative_error(found, golden):
    centred = golden - golden.mean(axis=-1, keepdims=True)
    return float(numpy.linalg.norm(found.astype(numpy.float64) - golden) / numpy.linalg.norm(centred))


def run(model, ids):
    with torch.no_grad():
        logits = model(torch.tensor(ids[None].astype(numpy.int64)), use_cache=False).logits
    return logits[0, -POSITIONS:].float().numpy()


def load(config, tensors):
    """The model that a folder with these two files gives."""
    with tempfile.TemporaryDirectory() as folder:
        with open(os.path.join(folder, "config.json"), "w", encoding="utf-8") as file:
            json.dump(config, file)
        safetensors.torch.save_file(tensors, os.path.join(folder, "model.safetensors"), metadata={"format": "pt"})
        model, notes = transformers.AutoModelForCausalLM.from_pretrained(
            folder, dtype=torch.float32, attn_implementation="eager", output_loading_info=True)
    assert not notes["missing_keys"] and not notes["unexpected_keys"], notes
    return model.eval()


def score_scale(config):
    head = config.get("head_dim") or config["hidden_size"] // config["num_attention_heads"]
    return config.get("query_pre_attn_scalar", head) ** -0.5, head


def initial_weights(model, spec, random):
    """Random weights with outlier channels; settle_sizes settles the sizes of the linear layers."""
    config = spec["config"]
    gemma, tied, hidden = config["model_type"].startswith("gemma"), config["tie_word_embeddings"], config["hidden_size"]
    scale, head = score_scale(config)
    outliers = list(OUTLIERS)
    tensors = {}
    for name, value in model.state_dict().items():
        if name == "lm_head.weight" and tied:
            continue
        draw = random.standard_normal(tuple(value.shape))
        if "embed_tokens" in name:
            draw[:, outliers] = 2 + 0.1 * draw[:, outliers]  # what the first layer makes large
            draw[:, LARGE_GAIN] /= 3
            draw /= hidden ** 0.5 if gemma else 1
        elif "q_norm" in name or "k_norm" in name:
            draw = (1 + 0.4 * draw) * (spec.get("scores", SCORES) / (head ** 0.5 * scale)) ** 0.5 - gemma
        elif gemma and "post_" in name:
            draw = spec.get("branch", BRANCH) * (1 + 0.2 * draw)
            draw[outliers] *= OUTLIER / spec.get("branch", BRANCH) if name == FIRST_BRANCH else 1
            draw -= 1
        elif "norm" in name and name.startswith("model.layers.0.input"):
            draw = 1 + 0.2 * draw - gemma
        elif "norm" in name:
            draw = 4 * (1 + 0.2 * draw)
            draw[outliers] /= 6
            draw[LARGE_GAIN] *= 20
            draw -= gemma
        elif name.endswith("bias"):
            draw *= 0.3 if "o_proj" in name else 0.5 if "v_proj" in name else 1.2
        elif not name.endswith(("o_proj.weight", "down_proj.weight")):
            draw[:, LARGE_GAIN] /= 2
        tensors[name] = torch.tensor(draw, dtype=torch.float32)
    return tensors


def rows_and_sizes(name, layer, spec):
    """How large (root mean square) which outputs of a linear layer are to be."""
    config = spec["config"]
    scale, head = score_scale(config)
    normed = config["model_type"] in ("qwen3", "gemma3_text")
    score_size = 1.0 if normed else (spec.get("scores", SCORES) / (head ** 0.5 * scale)) ** 0.5
    everything, rows = slice(None), layer.weight.shape[0]
    if name.endswith(("q_proj", "k_proj")):
        return [(everything, score_size)]
    if name.endswith("qkv_proj"):
        scored = head * (config["num_attention_heads"] + config["num_key_value_heads"])
        return [(slice(0, scored), score_size), (slice(scored, None), 1.0)]
    if name.endswith(("o_proj", "down_proj")):
        rest = [row for row in range(rows) if row not in OUTLIERS]
        branch = spec.get("branch", BRANCH)
        return [(rest, branch), (list(OUTLIERS), branch)]
    return [(everything, 2.5 if name == "lm_head" else 1.2)]


def make_outliers(layer, inputs, spec):
    """The first layer's attention writes the outliers: rows along the mean of what they see, so that each token gets
    about the same large value there, as in trained models (Sun et al. 2024, massive activations)."""
    gemma = spec["config"]["model_type"].startswith("gemma")
    branch = spec.get("branch", BRANCH)
    rest = [row for row in range(layer.weight.shape[0]) if row not in OUTLIERS]
    plain = torch.nn.functional.linear(inputs, layer.weight)
    layer.weight[rest] *= (1.0 if gemma else branch) / plain[..., rest].square().mean().sqrt()
    mean = inputs.mean(dim=(0, 1))
    for sign, row in zip((1, -1), OUTLIERS):
        layer.weight[row] = sign * (1.0 if gemma else OUTLIER) * mean / mean.square().sum()


def settle_sizes(model, spec, ids):
    """Scales the linear layers, first to last, in one pass over the sequence, then the logits of a tied head."""
    hooks = []
    for name, layer in model.named_modules():
        if isinstance(layer, torch.nn.Linear) and not (name == "lm_head" and spec["config"]["tie_word_embeddings"]):
            def scale(layer, inputs, output, name=name):
                if name == "model.layers.0.self_attn.o_proj":
                    make_outliers(layer, inputs[0], spec)
                    return torch.nn.functional.linear(inputs[0], layer.weight, layer.bias)
                plain = torch.nn.functional.linear(inputs[0], layer.weight)
                for rows, size in rows_and_sizes(name, layer, spec):
                    factor = size / plain[..., rows].square().mean().sqrt()
                    layer.weight[rows] *= factor
                return torch.nn.functional.linear(inputs[0], layer.weight, layer.bias)
            hooks.append(layer.register_forward_hook(scale))
    with torch.no_grad():
        logits = model(torch.tensor(ids[None].astype(numpy.int64)), use_cache=False).logits
        for hook in hooks:
            hook.remove()
        if spec["config"]["tie_word_embeddings"]:
            cap = spec["config"].get("final_logit_softcapping")
            if cap:
                logits = cap * torch.atanh((logits / cap).clamp(-0.999999, 0.999999))
            one = 1.0 if spec["config"]["model_type"].startswith("gemma") else 0.0
            norm = model.model.norm.weight
            size = logits.square().mean().sqrt() if not cap else None
            if cap:  # saturated logits tell no size: measure before the cap
                states = model.model(torch.tensor(ids[None].astype(numpy.int64)), use_cache=False).last_hidden_state
                size = model.lm_head(states).square().mean().sqrt()
            norm.copy_((norm + one) * (2.5 / size) - one)


def rounded_to_int8(values):
    step = values.abs().amax(dim=-1, keepdim=True) / 127
    return torch.round(values / step) * step


def hadamard(values):
    """Unnormalised over sqrt(b), of blocks of the largest power of two that divides the length."""
    length = values.shape[-1]
    block = length & -length
    matrix = torch.ones(1, 1)
    while matrix.shape[0] < block:
        matrix = torch.cat([torch.cat([matrix, matrix], 1), torch.cat([matrix, -matrix], 1)])
    return (values.reshape(*values.shape[:-1], -1, block) @ matrix / block ** 0.5).reshape(values.shape)


def gain_before(model, name):
    """The gain of the norm whose result the linear layer of that name takes, or None."""
    parent, _, last = name.rpartition(".")
    if last == "lm_head":
        norm = model.model.norm
    elif last in ("o_proj", "down_proj"):
        return None
    else:
        layer = model.get_submodule(parent.rpartition(".")[0])
        norm = (layer.input_layernorm if parent.endswith("self_attn") else
                getattr(layer, "pre_feedforward_layernorm", layer.post_attention_layernorm))
    return norm.weight + (1 if model.config.model_type.startswith("gemma") else 0)


def int8_errors(model, ids, golden):
    """Relative errors when the inputs and weights of each linear layer are rounded to int8: with gains left to the
    weights and no rotation, and rotated after the gain."""
    errors = []
    for is_rotated in (False, True):
        hooks = []
        for name, layer in model.named_modules():
            if isinstance(layer, torch.nn.Linear):
                gain = None if is_rotated else gain_before(model, name)

                def rounded(layer, inputs, output, gain=gain, turn=hadamard if is_rotated else lambda values: values):
                    values, weights = (inputs[0], layer.weight) if gain is None else (inputs[0] / gain,
                                                                                      layer.weight * gain)
                    return torch.nn.functional.linear(rounded_to_int8(turn(values)), rounded_to_int8(turn(weights)),
                                                      layer.bias)
                hooks.append(layer.register_forward_hook(rounded))
        errors.append(relative_error(run(model, ids), golden))
        for hook in hooks:
            hook.remove()
    return errors


def ablated(config, tensors, ablation):
    """The two with the ablation's edit."""
    config, tensors = copy.deepcopy(config), dict(tensors)
    if "config" in ablation:
        *parents, last = ablation["config"].split(".")
        place = config
        for parent in parents:
            place = place[parent]
        place[last] = ablation["value"]
    else:
        found = [name for name in tensors if re.search(ablation["tensors"], name)]
        assert found, ablation
        for name in found:
            tensors[name] = torch.full_like(tensors[name], ablation["value"])
    return config, tensors


def make(name):
    """(config, tensors, ids, golden, ablations) of a model with dense weights."""
    spec = MODELS[name]
    random = numpy.random.default_rng(list(name.encode()))
    config = spec["config"]
    ids = random.integers(3, VOCABULARY, spec["tokens"])
    with tempfile.TemporaryDirectory() as folder:
        with open(os.path.join(folder, "config.json"), "w", encoding="utf-8") as file:
            json.dump(config, file)
        empty = transformers.AutoModelForCausalLM.from_config(transformers.AutoConfig.from_pretrained(folder))
    model = load(config, initial_weights(empty, spec, random))
    settle_sizes(model, spec, ids)
    tensors = {key: value.to(getattr(torch, spec["dtype"])).contiguous() for key, value in model.state_dict().items()
               if not (key == "lm_head.weight" and config["tie_word_embeddings"])}
    return config, tensors, ids


def judge(name, config, tensors, ids, ablations):
    """Golden logits, and the ablations with what they change; says what the model is like."""
    model = load(config, tensors)
    golden = run(model, ids)
    naive, rotated = int8_errors(model, ids, golden)
    print(f"{name:16} logits {golden.std():.2f}  int8 as they are {naive:.4f}, rotated {rotated:.4f}")
    problems = []
    if naive < max(NAIVE, 2 * rotated) or rotated > ROTATED:
        problems.append(f"{name}: int8 errors {naive:.4f}, {rotated:.4f}")
    measured = []
    for ablation in ablations:
        change = relative_error(run(load(*ablated(config, tensors, ablation)), ids), golden)
        print(f"    {ablation['feature'][:90]:90} {change:.3f}")
        measured.append({**ablation, "change": round(change, 4)})
        if change < ABLATION:
            problems.append(f"{name}: {ablation['feature']} changes only {change:.4f}")
    return golden, measured, problems


def pack(name):
    """(config, tensors as packed, tensors as they are dequantised, ids) of a model with 4-bit weights."""
    spec = PACKED[name]
    config, dense, ids = make(spec["of"])
    random = numpy.random.default_rng(list(name.encode()))
    packed = {}
    for key, value in list(dense.items()):
        if not key.endswith("_proj.weight"):
            packed[key] = dense[key] = value.to(torch.float16)
            continue
        parts, values = spec["layout"](value.float().numpy(), random=random, **spec["options"])
        dense[key] = torch.tensor(values)
        packed.update({key.replace("weight", part): torch.tensor(array) for part, array in parts.items()})
    return {**config, "quantization_config": spec["settings"]}, packed, dense, ids


def write(name, about, config, tensors, ids, golden, ablations, import_options=()):
    folder = os.path.join(HERE, name)
    os.makedirs(folder, exist_ok=True)
    safetensors.torch.save_file(tensors, os.path.join(folder, "model.safetensors"), metadata={"format": "pt"})
    safetensors.numpy.save_file({"ids": ids.astype(numpy.int32), "logits": golden.astype(numpy.float32)},
                                os.path.join(folder, "golden.safetensors"))
    for file_name, value in (("config.json", config), ("golden.json", {
            "about": about, "import_options": list(import_options), "ablations": ablations})):
        with open(os.path.join(folder, file_name), "w", encoding="utf-8") as file:
            json.dump(value, file, indent=1)
            file.write("\n")


def main(names):
    torch.manual_seed(0)
    torch.set_num_threads(1)
    problems = []
    make_tokenizer().save(os.path.join(HERE, "tokenizer.json"))
    for name, spec in MODELS.items():
        if names and name not in names:
            continue
        config, tensors, ids = make(name)
        golden, ablations, found = judge(name, config, tensors, ids, spec["ablations"])
        write(name, spec["about"], config, tensors, ids, golden, ablations, spec.get("import_options", ()))
        problems += found
    for name, spec in PACKED.items():
        if names and name not in names:
            continue
        config, packed, dense, ids = pack(name)
        golden, ablations, _ = judge(name, MODELS[spec["of"]]["config"], dense, ids, [])
        write(name, spec["about"], config, packed, ids, golden, ablations)
    if problems:
        sys.exit("\n".join(["", *problems]))


if __name__ == "__main__":
    main(sys.argv[1:])
