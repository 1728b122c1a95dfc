"""Check with Transformers that a model's files fit its ``config.json``, before a lock vouches for them.

Transformers fills missing tensors with random numbers, and drops those that have no place, with a warning at most. Here
it loads the files on the meta device, where a tensor is a shape without numbers: its report is what it would do with
the weights, after renaming and merging older checkpoints' tensors, after tying, and with each class's own exceptions.
Only the headers of the safetensors files are read, so 140 GB take seconds.
"""

from __future__ import annotations

import contextlib
import copy
import logging
import re
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from aletheia.errors import UserError
from aletheia.staging.model_files import described_model, quiet
from aletheia.staging.weight_files import shorten_list, tensor_shapes, weight_files

if TYPE_CHECKING:
    from transformers import PreTrainedModel

Shapes = Mapping[str, Collection[int]]

# Tensors that may be left over, since the language model computes the same without them: buffers that old checkpoints
# saved (rotary frequencies, causal masks, positions), heads that stand beside the one for the next token (value heads
# of reinforcement learning, heads that predict several tokens), and the parts of a multimodal model that read pictures
# and sounds.
HARMLESS = re.compile(
    r"(^|\.)(rotary_emb\.inv_freq|attn\.bias|attn\.masked_bias|attention\.masked_bias|position_ids)$"
    r"|^(v_head|value_head|mtp)\."
    r"|^(model\.)?(vision_tower|vision_model|visual|multi_modal_projector|mm_projector|audio_tower)\."
)
CONVERSION = re.compile(r"^(\S+) +\| CONVERSION", re.MULTILINE)  # a row of Transformers' report
COLOURS = re.compile(r"\x1b\[[0-9;]*m")
# Where more of a model's parameters have no tensor, the weight files are another architecture's.
OTHER_ARCHITECTURE_SHARE = 0.9


class Report(NamedTuple):
    """Transformers' report on a checkpoint: names of parameters and tensors.

    Attributes
    ----------
    missing
        Parameters that no tensor fills.
    other_shapes
        Of parameters whose tensor has another shape: that shape, and the parameter's.
    left_over
        Tensors that have no place in the model.
    parameters
        How many parameters and buffers the model has.
    """

    missing: list[str]
    other_shapes: dict[str, tuple[tuple[int, ...], tuple[int, ...]]]
    left_over: list[str]
    parameters: int


def check_model(folder: Path, *, named: str, remedy: str) -> None:
    """Refuse model files that do not make the causal language model that they say.

    Parameters
    ----------
    folder
        ``config.json``, tokenizer and safetensors files.
    named, remedy
        What sentences call the model, and what they advise.

    Raises
    ------
    UserError
        See :func:`aletheia.staging.model_files.described_model` and :func:`check_shapes`; also for a damaged file.
    """
    model = described_model(folder, named=named, remedy=remedy)
    check_shapes(tensor_shapes(folder, named=named, remedy=remedy), model, named=named, remedy=remedy)


def check_ahead(folder: Path, names: Collection[str], shapes: Shapes | None, *, named: str, remedy: str) -> None:
    """Refuse, before the weights are downloaded, what small files and headers already show.

    Parameters
    ----------
    folder
        The model's small files.
    names
        Names of all its files.
    shapes
        Each tensor's shape by its name; None where that is not known yet.
    named, remedy
        As in :func:`check_model`.

    Raises
    ------
    UserError
        As in :func:`check_model`.
    """
    model = described_model(folder, named=named, remedy=remedy)
    weight_files(folder, names, named=named, remedy=remedy)
    if shapes is not None:
        check_shapes(shapes, model, named=named, remedy=remedy)


def check_shapes(shapes: Shapes, model: PreTrainedModel, *, named: str, remedy: str) -> None:
    """Refuse tensors that do not fill a model, or that it would drop.

    A tensor without a place is refused too: where ``config.json`` says 4 layers, the other 5 of a checkpoint would be
    dropped, and likewise biases and norms that it does not mention. Only those that the language model computes the
    same without (``HARMLESS``) are named in a note and let pass. A parameter of a quantised module may have another
    shape and companions (scales, zero points); whether these are right is seen when it is loaded.

    Parameters
    ----------
    shapes
        Each tensor's shape by its name.
    model
        What ``config.json`` describes, on the meta device (:func:`aletheia.staging.model_files.described_model`).
    named, remedy
        As in :func:`check_model`.

    Raises
    ------
    UserError
        When a parameter is missing, has another shape, or a tensor has no place.
    """
    report = transformers_report(shapes, model, named=named, remedy=remedy)
    if getattr(model.config, "quantization_config", None):
        report = _without_quantised(report, model)
    harmless = [name for name in report.left_over if HARMLESS.search(name)]
    report = report._replace(left_over=[name for name in report.left_over if name not in harmless])
    sentence = misfit(report, type(model).__name__)
    if sentence:
        raise UserError(f"{named}: {sentence}; {remedy}")
    if harmless:
        print(
            f"note: {named}: {shorten_list(harmless)} have no place in {type(model).__name__} and are not used",
            flush=True,
        )


def transformers_report(shapes: Shapes, model: PreTrainedModel, *, named: str, remedy: str) -> Report:
    """Return Transformers' report on loading tensors of these shapes into a model of this kind.

    Parameters
    ----------
    shapes, model, named, remedy
        As in :func:`check_shapes`; ``model`` is not changed.

    Raises
    ------
    UserError
        When it cannot convert the tensors of an older checkpoint.
    """
    import torch

    config = copy.deepcopy(model.config)
    if hasattr(config, "quantization_config"):
        del config.quantization_config  # would need further packages, and real numbers
    state = {name: torch.empty(tuple(shape), dtype=torch.bfloat16, device="meta") for name, shape in shapes.items()}
    with quiet(), _captured_reports() as reports:
        try:
            _, info = type(model).from_pretrained(
                None,
                config=config,
                state_dict=state,
                dtype=torch.bfloat16,
                device_map="meta",
                ignore_mismatched_sizes=True,
                output_loading_info=True,
            )
        except RuntimeError:
            parameters = CONVERSION.findall(COLOURS.sub("", "\n".join(reports)))
            if not parameters:
                raise
            raise UserError(
                f"{named}: the tensors that become {shorten_list(parameters)} of {type(model).__name__} do not fit "
                f"together (some are missing, or of other shapes); {remedy}"
            ) from None
    other = {name: (tuple(found), tuple(wanted)) for name, found, wanted in info["mismatched_keys"]}
    return Report(sorted(info["missing_keys"]), other, sorted(info["unexpected_keys"]), len(model.state_dict()))


def misfit(report: Report, architecture: str) -> str | None:
    """Return a sentence on how a checkpoint does not fit; None where it does."""
    if report.left_over and len(report.missing) > OTHER_ARCHITECTURE_SHARE * report.parameters:
        return (
            f"the tensors in its weight files ({shorten_list(report.left_over)}) are not those of the {architecture} "
            "that config.json describes: they are another architecture's"
        )
    parts = []
    if report.missing:
        parts.append(f"it has parameters that the files lack ({shorten_list(report.missing)})")
    if report.other_shapes:
        name, (found, wanted) = min(report.other_shapes.items())
        more = f" and {len(report.other_shapes) - 1} more" if len(report.other_shapes) > 1 else ""
        parts.append(
            f"it has parameters of other shapes than the files ({name}: {_size(wanted)}, found {_size(found)}{more})"
        )
    if report.left_over:
        parts.append(f"the files have tensors that have no place in it ({shorten_list(report.left_over)})")
    if not parts:
        return None
    return f"the weights are not those of the {architecture} that config.json describes: {', and '.join(parts)}"


def _without_quantised(report: Report, model: PreTrainedModel) -> Report:
    """Return a report without quantised modules: those that have a tensor which the plain module lacks."""
    modules = {name: module for name, module in model.named_modules() if any(True for _ in module.parameters(False))}

    def owner(tensor: str) -> str | None:
        parts = tensor.split(".")
        return next((name for end in range(len(parts), 0, -1) if (name := ".".join(parts[:end])) in modules), None)

    companions = [name for name in report.left_over if owner(name) and not name.endswith(".bias")]
    quantised = {owner(name) for name in companions}
    return report._replace(
        missing=[name for name in report.missing if owner(name) not in quantised],
        other_shapes={name: shapes for name, shapes in report.other_shapes.items() if owner(name) not in quantised},
        left_over=[name for name in report.left_over if name not in companions],
    )


@contextlib.contextmanager
def _captured_reports() -> Iterator[list[str]]:
    """Collect Transformers' reports on loading instead of showing them: nothing else names a failed conversion."""
    logger, messages = logging.getLogger("transformers.modeling_utils"), []
    handler = logging.Handler()
    handler.emit = lambda record: messages.append(record.getMessage())
    level, propagate = logger.level, logger.propagate
    logger.addHandler(handler)
    logger.setLevel(logging.WARNING)
    logger.propagate = False
    try:
        yield messages
    finally:
        logger.removeHandler(handler)
        logger.setLevel(level)
        logger.propagate = propagate


def _size(shape: tuple[int, ...]) -> str:
    return " × ".join(map(str, shape)) or "one number"
