"""Stand in for vLLM 0.19.1 as the evaluation calls it, where no GPU and no vLLM can be had.

It takes the arguments that are passed there, by the same names, refuses what vLLM refuses of them, and answers
likewise: request by request, as each ends, by ids that count up. Tokens come from the transformers library, computed
whole each time, in fp32 whatever is asked, so that tests can hold them against another's. That proves how the parts are
joined; it proves nothing of vLLM's kernels, its memory or its speed.
"""

from __future__ import annotations

import math
import os
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import TypedDict

import torch
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer, GenerationConfig

from .lora.request import LoRARequest  # noqa: TID252  a package that stands for one which is not installed

RANKS = (1, 8, 16, 32, 64, 128, 256, 320, 512)


class TokensPrompt(TypedDict):
    """A prompt that is tokens already."""

    prompt_token_ids: list[int]


@dataclass(kw_only=True)
class SamplingParams:
    """How to write."""

    temperature: float
    repetition_penalty: float
    stop: list[str]
    max_tokens: int
    skip_special_tokens: bool
    logprobs: int

    def __post_init__(self) -> None:
        if "" in self.stop:
            raise ValueError("stop cannot contain an empty string.")
        if self.temperature != 0 or self.max_tokens < 1:
            raise ValueError("this stand-in takes the likeliest token, and writes at least one")


@dataclass
class CompletionOutput:
    """What was written so far."""

    token_ids: list[int] = field(default_factory=list)
    cumulative_logprob: float = 0.0


@dataclass
class Request:
    """One prompt on its way, and the answer that a step returns."""

    request_id: str
    prompt: list[int]
    params: SamplingParams
    adapted: bool
    outputs: list[CompletionOutput] = field(default_factory=lambda: [CompletionOutput()])
    finished: bool = False


class LLM:
    """A model and its engine."""

    def __init__(
        self,
        model: str,
        *,
        tokenizer: str,
        dtype: str,
        tensor_parallel_size: int,
        max_num_seqs: int,
        max_model_len: int,
        seed: int,
        enable_lora: bool = False,
        max_loras: int = 1,
        max_lora_rank: int = 16,
    ) -> None:
        if os.environ.get("VLLM_NO_USAGE_STATS") != "1" or os.environ.get("HF_HUB_OFFLINE") != "1":
            raise RuntimeError("vLLM would now call home")
        if dtype not in ("bfloat16", "float16") or max_lora_rank not in RANKS or tensor_parallel_size < 1:
            raise ValueError(f"dtype {dtype}, max_lora_rank {max_lora_rank}, {tensor_parallel_size} GPUs")
        config = AutoConfig.from_pretrained(model)
        if max_model_len > config.max_position_embeddings:
            raise ValueError(f"max_model_len {max_model_len} is greater than the derived max_model_len")
        window = config.max_position_embeddings if max_model_len == -1 else max_model_len
        self.model_config = SimpleNamespace(max_model_len=window, get_diff_sampling_param=self._own_settings)
        self.model = AutoModelForCausalLM.from_pretrained(model, dtype=torch.float32).eval()
        self.tokenizer = AutoTokenizer.from_pretrained(tokenizer)
        self.folder, self.lora, self.rows, self.llm_engine = Path(model), enable_lora, max_num_seqs, self
        self.max_lora_rank, self.adapter, self.requests, self.count = max_lora_rank, None, [], 0

    def _own_settings(self) -> dict[str, float]:
        """Return the model's own settings for sampling."""
        found = GenerationConfig.from_pretrained(self.folder).to_diff_dict()
        return {key: found[key] for key in ("repetition_penalty", "temperature", "top_p") if key in found}

    def enqueue(
        self,
        prompts: list[TokensPrompt],
        sampling_params: SamplingParams,
        lora_request: LoRARequest | None = None,
        *,
        use_tqdm: bool = True,
    ) -> list[str]:
        """Take prompts; return internal names, which are not the ids that answers carry."""
        if lora_request is not None:
            self._load(lora_request)
        for prompt in prompts:
            if len(prompt["prompt_token_ids"]) + sampling_params.max_tokens > self.model_config.max_model_len:
                raise ValueError("the prompt is longer than the maximum model length")
            self.requests.append(
                Request(str(self.count), prompt["prompt_token_ids"], sampling_params, lora_request is not None)
            )
            self.count += 1
        return [f"{request.request_id}-internal" for request in self.requests]

    def _load(self, request: LoRARequest) -> None:
        from peft import PeftModel

        if not self.lora:
            raise ValueError("LoRA is not enabled")
        if self.adapter is None:
            self.model = PeftModel.from_pretrained(self.model, request.lora_path).eval()
            self.adapter = request.lora_name
        if self.model.peft_config["default"].r > self.max_lora_rank:
            raise ValueError("LoRA rank is greater than max_lora_rank")

    def has_unfinished_requests(self) -> bool:
        """Tell whether a step has something to do."""
        return bool(self.requests)

    def step(self) -> list[Request]:
        """Write one token for as many rows as may run at a time; return what ended, the newest first."""
        running = self.requests[: self.rows]
        for request in running:
            self._write(request)
        self.requests = [request for request in self.requests if not request.finished]
        return [request for request in reversed(running) if request.finished]

    @torch.no_grad()
    def _write(self, request: Request) -> None:
        (output,), params = request.outputs, request.params
        ids = torch.tensor([request.prompt + output.token_ids])
        model = self.model
        if self.adapter is not None and not request.adapted:
            model = self.model.get_base_model()
        scores = model(ids).logits[:, -1].float()
        seen = scores.gather(1, ids)
        penalised = torch.where(seen < 0, seen * params.repetition_penalty, seen / params.repetition_penalty)
        token = int(scores.scatter(1, ids, penalised).argmax())
        output.token_ids.append(token)
        logprob = float(scores.log_softmax(-1)[0, token])
        output.cumulative_logprob += logprob if not math.isnan(logprob) else math.nan
        text = self.tokenizer.decode(output.token_ids, skip_special_tokens=params.skip_special_tokens)
        ended = token == self.tokenizer.eos_token_id or any(stop in text for stop in params.stop)
        request.finished = ended or len(output.token_ids) == params.max_tokens
