"""Generation by vLLM: only the tokens come from it; prompts, stops, limits and records are the transformers path's.

Written against vLLM 0.19.1. An adapter is served in the base model's precision, where transformers keeps the one that
it was trained in. Like any change of kernels, that moves a bf16 answer now and then, so all runs of a model, and its
base model, are answered by the same program.
"""

from __future__ import annotations

import importlib
import json
import math
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from aletheia.errors import UserError
from aletheia.evaluation.evaluated_run import adapter_of
from aletheia.method.loading import load_tokenizer, original_window
from aletheia.provenance.artifacts import Source
from aletheia.provenance.staged_files import checked_folder
from aletheia.study.benchmarks import GENERATED
from aletheia.study.evaluation_jobs import unserved_setting

if TYPE_CHECKING:
    from aletheia.evaluation.greedy import Generation

DTYPES = {"bf16": "bfloat16", "fp16": "float16"}
# The values that vLLM's max_lora_rank takes.
RANKS = (1, 8, 16, 32, 64, 128, 256, 320, 512)
# Model types that vLLM has a class for, without adapters.
NO_ADAPTERS = ("gpt_neox", "gptj", "stablelm")
REMEDY = "set evaluation.generation to transformers"


class Engine:
    """A model that vLLM serves, on all GPUs that the job sees, with a run's adapter on it where one is given.

    Parameters
    ----------
    folder
        The staged model.
    dtype
        ``bf16`` or ``fp16``.
    slots
        Answers that are written at a time.
    adapter
        Folder of a trained adapter in PEFT's format.
    """

    def __init__(self, folder: Path, *, dtype: str, slots: int, adapter: Path | None = None) -> None:
        import torch

        self.vllm, self.adapter, self._requests = _package(), None, 0
        options: dict[str, Any] = {}
        if adapter is not None:
            request = importlib.import_module("vllm.lora.request").LoRARequest
            self.adapter = request(lora_name=adapter.parent.name, lora_int_id=1, lora_path=str(adapter.resolve()))
            largest = max(rank for rank, _ in _ranks_and_alphas(_json(adapter / "adapter_config.json")))
            max_rank = next(rank for rank in RANKS if rank >= largest)
            options = {"enable_lora": True, "max_loras": 1, "max_lora_rank": max_rank}
        try:
            self.llm = self.vllm.LLM(
                model=str(folder),
                tokenizer=str(folder),
                dtype=DTYPES[dtype],
                tensor_parallel_size=max(1, torch.cuda.device_count()),
                max_num_seqs=slots,
                max_model_len=window_of(folder),
                seed=0,
                **options,
            )
        except (ValueError, RuntimeError) as error:
            if "out of memory" in str(error):
                raise
            raise UserError(
                f"{folder}: vLLM does not serve this model ({' '.join(str(error).split())}); {REMEDY}"
            ) from error

    def generate(
        self, prompts: Sequence[list[int]], stop: Sequence[str], limit: int, tick: Callable[[], Any]
    ) -> list[Generation]:
        """Return the likeliest continuation of each prompt.

        Parameters
        ----------
        prompts
            As tokens.
        stop
            Strings, each of which ends a continuation.
        limit
            Longest continuation in tokens.
        tick
            Called before each pass; it raises when there is no time left.
        """
        from aletheia.evaluation.greedy import Generation

        self._check_window(max(map(len, prompts)) + limit)
        requests = [self.vllm.TokensPrompt(prompt_token_ids=prompt) for prompt in prompts]
        # Ids count up in the order of the prompts; requests of a benchmark that was stopped may still end meanwhile.
        first, self._requests = self._requests, self._requests + len(prompts)
        self.llm.enqueue(requests, self._sampling(stop, limit), lora_request=self.adapter, use_tqdm=False)
        ended = {}
        while self.llm.llm_engine.has_unfinished_requests():
            tick()
            ended |= {int(o.request_id): o.outputs[0] for o in self.llm.llm_engine.step() if o.finished}
        answers = [ended[number] for number in range(first, self._requests)]
        return [Generation(list(answer.token_ids), math.isnan(answer.cumulative_logprob)) for answer in answers]

    def _sampling(self, stop: Sequence[str], limit: int) -> Any:
        """Return vLLM's settings for greedy decoding, with the model's repetition penalty where it has one."""
        defaults = self.llm.model_config.get_diff_sampling_param()
        return self.vllm.SamplingParams(
            temperature=0.0,
            repetition_penalty=defaults.get("repetition_penalty", 1.0),
            stop=[s for s in stop if s],
            max_tokens=limit,
            # A stop string may be a special token, as <|im_end|> is.
            skip_special_tokens=False,
            # Of the chosen token alone: not a number where the scores are not.
            logprobs=0,
        )

    def _check_window(self, longest: int) -> None:
        window = self.llm.model_config.max_model_len
        if longest > window:
            raise UserError(
                f"vLLM found memory for {window} tokens a row, and the longest prompt with its answer has {longest}; "
                f"give the job more GPUs, lower num_fewshot or max_new_tokens, or {REMEDY}"
            )


def window_of(folder: Path) -> int:
    """Return the window in tokens to serve a model with; -1 for the model's own, or as much of it as fits into memory.

    Where rotary factors depend on the length (longrope, Phi-3.5), vLLM uses those of its window for all prompts, and
    transformers those of each prompt's length: within the original window both use the short ones.
    """
    return original_window(_json(folder / "config.json")) or -1


def load_served(
    lock: Source, run: Source | None, *, dtype: str, config: Mapping[str, Any]
) -> tuple[Any, Any, Callable[..., list[Generation]]]:
    """Return a model without weights, its tokenizer, and the function that writes answers for them.

    Parameters
    ----------
    lock
        ``resources/models/NAME.lock.json``.
    run
        ``run.json`` of the run whose adapter is served; the base model without it.
    dtype
        Precision of the weights.
    config
        Sections ``model`` and ``evaluation``.

    Raises
    ------
    UserError
        Where vLLM is missing, or does not serve the model, its adapter or the benchmarks.
    """
    settings = config["evaluation"]
    others = [name for name in settings["benchmarks"] if name not in GENERATED]
    if others:
        raise UserError(
            f"evaluation.benchmarks: expected some of {', '.join(GENERATED)}, whose answers are generated, found "
            f"{', '.join(others)}; evaluate_run.py answers these"
        )
    folder = checked_folder(lock, "model_lock")
    adapter = None if run is None else adapter_of(run)
    refused = unserved_setting({**config["model"], "dtype": dtype}) or unserved_family(folder)
    refused = refused or (adapter and unserved_adapter(adapter))
    if refused:
        raise UserError(f"{lock}: vLLM does not serve {refused}; {REMEDY}")
    engine = Engine(folder, dtype=dtype, slots=settings["batch_size"], adapter=adapter)
    return without_weights(folder), load_tokenizer(folder), engine.generate


def without_weights(folder: Path) -> Any:
    """Return a staged model's architecture, from which the harness reads its window; it holds no weights."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    config = AutoConfig.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    with torch.device("meta"):
        return AutoModelForCausalLM.from_config(config)


def unserved_family(folder: Path) -> str | None:
    """Return why vLLM serves neither the runs nor the base model, which must share one program; None where it does."""
    kind = _json(folder / "config.json")["model_type"]
    return f"adapters of a {kind} model" if kind in NO_ADAPTERS else None


def unserved_adapter(adapter: Path) -> str | None:
    """Return the property of an adapter that vLLM does not serve, or serves wrongly; None where there is none."""
    config = _json(adapter / "adapter_config.json")
    pairs = _ranks_and_alphas(config)
    largest = max(rank for rank, _ in pairs)
    reasons = {
        "an adapter of fused experts": bool(config.get("target_parameters")),
        f"rank {largest}": largest > RANKS[-1],
        # It takes one scale for the whole adapter.
        "an adapter with more than one ratio of alpha to rank": len({alpha / rank for rank, alpha in pairs}) > 1,
    }
    return next((reason for reason, holds in reasons.items() if holds), None)


def _ranks_and_alphas(config: Mapping[str, Any]) -> list[tuple[int, int]]:
    """Return (rank, alpha) pairs of an adapter's configuration: the common one, then those of modules that differ."""
    ranks, alphas = config.get("rank_pattern") or {}, config.get("alpha_pattern") or {}
    common = config["r"], config["lora_alpha"]
    return [common, *((ranks.get(n, common[0]), alphas.get(n, common[1])) for n in sorted({*ranks, *alphas}))]


def _package() -> Any:
    """Import vLLM with caches in the job's folder, and one process, which schedules passes the same way each time."""
    os.environ |= {"VLLM_NO_USAGE_STATS": "1", "VLLM_DO_NOT_TRACK": "1", "VLLM_ENABLE_V1_MULTIPROCESSING": "0"}
    if "HF_HOME" in os.environ:
        caches = Path(os.environ["HF_HOME"])
        os.environ |= {"VLLM_CACHE_ROOT": str(caches / "vllm"), "TRITON_CACHE_DIR": str(caches / "triton")}
    try:
        # By name, since only this job's environment has it.
        return importlib.import_module("vllm")
    except ImportError as error:
        raise UserError(
            f"evaluation.generation is vllm, which cannot be imported here ({error}); run with --sdm conda, whose "
            f"envs/vllm.yaml has it, or {REMEDY}"
        ) from error


def _json(path: Path) -> dict[str, Any]:
    return json.loads(path.read_text(encoding="utf-8"))
