"""Every family that is served: its least configuration, and the modules of a layer that carry adapters."""

import itertools
import re
from dataclasses import dataclass

# Three layers, so that a half is neither all nor none.
SIZE = {"hidden_size": 32, "num_hidden_layers": 3, "num_attention_heads": 4, "vocab_size": 96}
DENSE = {**SIZE, "intermediate_size": 64, "num_key_value_heads": 2}
# Their own ids of special tokens lie beyond a vocabulary of 96.
IDS = {"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}
EXPERTS = {**DENSE, **IDS, "num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 16}
SHARED = {**EXPERTS, "shared_expert_intermediate_size": 16}
# The first layer is dense, the others have experts and a shared one.
ROUTED = {
    **{**EXPERTS, "n_routed_experts": 4, "n_shared_experts": 1, "num_shared_experts": 1, "first_k_dense_replace": 1},
    **{"n_group": 1, "topk_group": 1, "head_dim": 8},
}
LATENT = {
    **{"q_lora_rank": 16, "kv_lora_rank": 8, "qk_rope_head_dim": 4, "qk_nope_head_dim": 4, "v_head_dim": 8},
    **{"head_dim": 4, "num_key_value_heads": 4},
}
OPENAI = {"n_embd": 32, "n_layer": 3, "n_head": 4, "vocab_size": 96, "n_positions": 64}
HEADS = {"head_dim": 8}
# Those that drop out unless told otherwise; a step is then another one each time.
STILL = dict.fromkeys(("resid_pdrop", "embd_pdrop", "attn_pdrop"), 0.0)
STILL_TOO = dict.fromkeys(("dropout", "attention_dropout", "activation_dropout", "layerdrop"), 0.0)
DELTA = {
    "layer_types": ["linear_attention", "full_attention", "linear_attention"],
    **{"linear_num_value_heads": 4, "linear_num_key_heads": 2, "linear_key_head_dim": 8, "linear_value_head_dim": 8},
}
SHORT = {"layer_types": ["conv", "full_attention", "conv"]}

QKVO, OUT = "self_attn.{q,k,v,o}_proj", "self_attn.{q,k,v,out}_proj"
GATED, PLAIN = "mlp.{gate,up,down}_proj", "mlp.{up,down}_proj"
FUSED = "mlp.experts.{gate_up,down}_proj"
LLAMA, MOE = f"{QKVO} {GATED}", f"{QKVO} {FUSED}"
NEOX = "mlp.dense_{h_to_4h,4h_to_h}"
GPT2 = "attn.c_{attn,proj} mlp.c_{fc,proj}"
OF_LATENT = "self_attn.{q_a_proj,q_b_proj,kv_a_proj_with_mqa,kv_b_proj,o_proj}"
SHARED_EXPERT = "mlp.shared_expert.{gate,up,down}_proj"
QWEN35 = f"linear_attn.{{in_proj_qkv,in_proj_z,in_proj_b,in_proj_a,out_proj}} {QKVO}"
LFM = "conv.{in,out}_proj " + OUT


@dataclass(frozen=True)
class Family:
    """A family's least configuration, and the adaptable names of its layers without their ``model.layers.N.``.

    Attributes
    ----------
    modules
        With alternatives in braces, of all its layers together: some have layers of several kinds.
    settings
        Of its configuration.
    """

    modules: str
    settings: dict

    def names(self) -> set[str]:
        return {name for pattern in self.modules.split() for name in _alternatives(pattern)}


def _alternatives(pattern: str) -> list[str]:
    parts = [part.split(",") for part in re.split(r"[{}]", pattern)]
    return ["".join(choice) for choice in itertools.product(*parts)]


# The paper's: many tests of training and evaluation go through them.
PAPER = {
    "llama": Family(LLAMA, DENSE),
    "qwen2": Family(LLAMA, DENSE),
    "mistral": Family(LLAMA, DENSE),
    "phi3": Family("self_attn.{qkv,o}_proj mlp.{gate_up,down}_proj", {**DENSE, "pad_token_id": 0}),
    "stablelm": Family(LLAMA, DENSE),
    "olmo": Family(LLAMA, DENSE),
    "gptj": Family("attn.{q,k,v,out}_proj mlp.fc_{in,out}", {**OPENAI, "rotary_dim": 4}),
    "gpt_neox": Family(f"attention.{{query_key_value,dense}} {NEOX}", {**SIZE, "intermediate_size": 64}),
    "mixtral": Family(MOE, {**DENSE, "intermediate_size": 48, "num_local_experts": 4}),
}
LIKE_LLAMA = (
    *("qwen3", "gemma", "gemma2", "gemma3_text", "vaultgemma", "olmo2", "olmo3", "granite", "cohere", "cohere2"),
    *("smollm3", "exaone4", "ernie4_5", "bitnet", "hunyuan_v1_dense", "ministral", "ministral3", "seed_oss"),
    *("helium", "cwm", "hyperclovax", "diffllama"),
)
SCALED = {
    "granite": {"logits_scaling": 4.0, "residual_multiplier": 0.5},
    "gemma2": {"final_logit_softcapping": 2.0},
    "cohere": {"use_qk_norm": True},
    "hyperclovax": {"logits_scaling": 0.5},
    "seed_oss": {"residual_dropout": 0.0, "attention_dropout": 0.0},
}
SERVED = {
    **PAPER,
    **{kind: Family(LLAMA, {**DENSE, **IDS, **HEADS, **SCALED.get(kind, {})}) for kind in LIKE_LLAMA},
    "glm": Family(f"{QKVO} mlp.{{gate_up,down}}_proj", {**DENSE, **IDS, **HEADS}),
    "glm4": Family(f"{QKVO} mlp.{{gate_up,down}}_proj", {**DENSE, **IDS, **HEADS}),
    "phi": Family("self_attn.{q,k,v}_proj self_attn.dense mlp.fc{1,2}", {**DENSE, **IDS}),
    "starcoder2": Family(
        f"{QKVO} mlp.c_{{fc,proj}}", {**DENSE, **IDS, "residual_dropout": 0.0, "embedding_dropout": 0.0}
    ),
    "nemotron": Family(f"{QKVO} {PLAIN}", {**DENSE, **IDS}),
    "arcee": Family(f"{QKVO} {PLAIN}", {**DENSE, **IDS}),
    "apertus": Family(f"{QKVO} {PLAIN}", {**DENSE, **IDS}),
    "nanochat": Family(f"{QKVO} mlp.fc{{1,2}}", {**DENSE, **IDS}),
    "persimmon": Family(f"self_attn.{{query_key_value,dense}} {NEOX}", {**SIZE, **IDS, "intermediate_size": 64}),
    "gpt2": Family(GPT2, {**OPENAI, **IDS, **STILL}),
    "gpt_bigcode": Family(GPT2, {**OPENAI, **IDS, **STILL}),
    "gpt_neo": Family(
        "attn.attention.{q,k,v,out}_proj mlp.c_{fc,proj}",
        {
            **{"hidden_size": 32, "num_layers": 3, "num_heads": 4, "vocab_size": 96, **IDS},
            **{"attention_types": [[["global", "local", "global"], 1]], "max_position_embeddings": 64},
            **{"resid_dropout": 0.0, "embed_dropout": 0.0, "attention_dropout": 0.0},
        },
    ),
    "codegen": Family("attn.{qkv,out}_proj mlp.fc_{in,out}", {**OPENAI, **IDS, "rotary_dim": 4, "n_ctx": 64}),
    "opt": Family(
        f"{OUT} fc{{1,2}}",
        {**SIZE, **IDS, **STILL_TOO, "ffn_dim": 64, "word_embed_proj_dim": 32, "max_position_embeddings": 64},
    ),
    "xglm": Family(
        f"{OUT} fc{{1,2}}",
        {"vocab_size": 96, **IDS, **STILL_TOO, "d_model": 32, "num_layers": 3, "attention_heads": 4, "ffn_dim": 64},
    ),
    "biogpt": Family(
        f"{OUT} fc{{1,2}}",
        {
            **{**SIZE, **IDS, **STILL_TOO, "intermediate_size": 64, "max_position_embeddings": 64},
            **{"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0},
        },
    ),
    "bloom": Family(
        f"self_attention.{{query_key_value,dense}} {NEOX}",
        {"hidden_size": 32, "n_layer": 3, "n_head": 4, "vocab_size": 96, **IDS},
    ),
    "falcon": Family(f"self_attention.{{query_key_value,dense}} {NEOX}", {**SIZE, **IDS}),
    "mpt": Family(
        "attn.{Wqkv,out_proj} ffn.{up,down}_proj",
        {"d_model": 32, "n_heads": 4, "n_layers": 3, "expansion_ratio": 2, "max_seq_len": 64, "vocab_size": 96, **IDS},
    ),
    "minicpm3": Family(f"{OF_LATENT} {GATED}", {**DENSE, **IDS, **LATENT}),
    "youtu": Family(f"{OF_LATENT} {GATED}", {**DENSE, **IDS, **LATENT}),
    "gemma4_text": Family(
        LLAMA,
        {
            **{**DENSE, **IDS, **HEADS, "global_head_dim": 16, "final_logit_softcapping": 2.0},
            **{"layer_types": ["full_attention", "sliding_attention", "full_attention"], "num_kv_shared_layers": 1},
            **{"hidden_size_per_layer_input": 8, "vocab_size_per_layer_input": 96},
        },
    ),
    "lfm2": Family(f"{LFM} feed_forward.w{{1,2,3}}", {**DENSE, **IDS, **SHORT, "block_ff_dim": 64}),
    "qwen3_5_text": Family(f"{QWEN35} {GATED}", {**DENSE, **IDS, **HEADS, **DELTA}),
    "olmo_hybrid": Family(
        f"{LLAMA} linear_attn.{{q,k,v,a,b,g,o}}_proj", {**DENSE, **IDS, "num_key_value_heads": 4, **DELTA}
    ),
    "qwen2_moe": Family(f"{MOE} {SHARED_EXPERT}", SHARED),
    "qwen3_moe": Family(MOE, {**EXPERTS, **HEADS}),
    "qwen3_next": Family(f"linear_attn.{{in_proj_qkvz,in_proj_ba,out_proj}} {MOE}", {**SHARED, **HEADS, **DELTA}),
    "qwen3_5_moe_text": Family(f"{QWEN35} {FUSED} {SHARED_EXPERT}", {**SHARED, **HEADS, **DELTA}),
    "olmoe": Family(MOE, {**EXPERTS, "intermediate_size": 16}),
    "flex_olmo": Family(MOE, {**EXPERTS, "intermediate_size": 16}),
    "phimoe": Family(
        MOE,
        {
            **{**EXPERTS, "intermediate_size": 16, "num_local_experts": 4},
            **{"input_jitter_noise": 0.0, "router_jitter_noise": 0.0},
        },
    ),
    "gpt_oss": Family(MOE, {**EXPERTS, "intermediate_size": 16, "num_local_experts": 4, **HEADS}),
    "granitemoe": Family(
        f"{QKVO} block_sparse_moe.experts.{{gate_up,down}}_proj",
        {**EXPERTS, "intermediate_size": 16, "num_local_experts": 4, "logits_scaling": 4.0},
    ),
    "granitemoeshared": Family(
        f"{QKVO} block_sparse_moe.experts.{{gate_up,down}}_proj shared_mlp.{{input,output}}_linear",
        {**EXPERTS, "intermediate_size": 16, "num_local_experts": 4, "shared_intermediate_size": 16}
        | {"logits_scaling": 4.0},
    ),
    "hunyuan_v1_moe": Family(MOE, {**EXPERTS, "intermediate_size": 16, "moe_topk": 2, **HEADS}),
    "minimax": Family(
        f"{MOE} self_attn.{{qkv_proj,out_proj,output_gate}}",
        {**EXPERTS, "intermediate_size": 16, "num_local_experts": 4, **HEADS, "block_size": 8},
    ),
    "minimax_m2": Family(MOE, {**EXPERTS, "intermediate_size": 16, "num_local_experts": 4, **HEADS}),
    "llama4_text": Family(
        f"{QKVO} feed_forward.{{gate,up,down}}_proj feed_forward.experts.{{gate_up,down}}_proj "
        "feed_forward.shared_expert.{gate,up,down}_proj",
        {
            **{**EXPERTS, **HEADS, "num_local_experts": 4, "intermediate_size": 16, "intermediate_size_mlp": 64},
            **{"interleave_moe_layer_step": 2},
        },
    ),
    "lfm2_moe": Family(
        f"{LFM} feed_forward.w{{1,2,3}} feed_forward.experts.{{gate_up,down}}_proj",
        {**EXPERTS, **SHORT, "num_dense_layers": 1},
    ),
    "deepseek_v2": Family(f"{OF_LATENT} {FUSED}", {**ROUTED, **LATENT}),
    "deepseek_v3": Family(f"{OF_LATENT} {FUSED}", {**ROUTED, **LATENT}),
    "glm4_moe": Family(MOE, ROUTED),
    "dots1": Family(MOE, ROUTED),
    "exaone_moe": Family(MOE, ROUTED),
    "ernie4_5_moe": Family(MOE, {**ROUTED, "moe_num_experts": 4, "moe_k": 2, "moe_num_shared_experts": 1}),
}

# State-space layers around one of attention, as in Granite 4: for tests of what is refused.
HYBRID = {
    **{**EXPERTS, "num_local_experts": 4, "layer_types": ["mamba", "attention", "mamba"]},
    **{"mamba_n_heads": 4, "mamba_d_head": 16, "mamba_d_state": 8, "mamba_expand": 2, "mamba_n_groups": 1},
}
