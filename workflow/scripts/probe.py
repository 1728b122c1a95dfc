"""Measure how strongly the training data pulls at each layer of a model: gradient norms, batch by batch."""

from __future__ import annotations

import time
from pathlib import Path

from aletheia.cli import SEED, THREADS, step_parser
from aletheia.errors import guarded
from aletheia.provenance.job import Job


def main() -> None:
    """Run the step."""
    parser = step_parser("probe", __doc__, script=__file__, sections=("model", "encoding", "probe"))
    parser.add_argument("--model-lock", type=Path, required=True, help="lock file of the staged model")
    parser.add_argument("--data-lock", type=Path, required=True, help="lock file of the staged training data")
    parser.add_argument("--precision", type=Path, nargs="?", help="artifact of the precision step (model.dtype auto)")
    parser.add_argument("--seed", type=SEED, required=True, help="draws the probe's batches")
    parser.add_argument(
        "--compare", action="store_true", help="run the other probe.method too; say how well they agree"
    )
    parser.add_argument("--threads", type=THREADS, default=1, help="threads for torch")
    parser.add_argument("--out", type=Path, required=True, help="artifact to write")
    args = parser.parse_args()
    inputs = [args.model_lock, args.data_lock, *([args.precision] if args.precision else [])]
    with Job(args.step, inputs=inputs, outputs=[args.out]) as job:
        if job.done:
            return
        from aletheia.method import loading, probe
        from aletheia.provenance import machine_load, staged_files, start
        from aletheia.training import encoding, row_counts

        loading.leave_out_bitsandbytes(args.model_lock, job.config["model"]["quantization"])
        loading.use_threads(args.threads)
        model_lock, data_lock = job.input(args.model_lock, "model_lock"), job.input(args.data_lock, "data_lock")
        dtype = loading.resolved_dtype(job.config["model"], job.input(args.precision, "precision"))
        model, tokenizer = loading.load(model_lock, dtype=dtype, **loading.loading(job.config["model"]))
        loading.check_context(model, job.config["encoding"]["max_tokens"])
        rows = staged_files.read_rows(staged_files.checked_folder(data_lock) / "train.jsonl")
        encoded = encoding.encode_rows(rows, tokenizer, what="training rows", **job.config["encoding"])
        print(row_counts.in_words(encoded.counts(), "training rows", job.config["encoding"]["max_tokens"]))
        settings = dict(job.config["probe"])
        method = settings.pop("method")
        if settings.pop("gradient_checkpointing"):
            model.activation_checkpointing_enable({"use_reentrant": False})
        if model.is_activation_checkpointing:
            print("probe: gradient checkpointing on")
        drawn = encoding.probe_batches(encoded.examples, tokenizer.pad_token_id, seed=args.seed, **settings)
        start.work_begins()
        load, began = machine_load.LoadMeter(), time.perf_counter()
        measured = probe.probe_layers(model, drawn, method=method)
        seconds, shares = time.perf_counter() - began, load.shares()
        payload = probe.probe_payload(measured, model, dtype=dtype, quantization=job.config["model"]["quantization"])
        if args.compare:
            payload["agreement"] = probe.compared(measured, model, drawn)
        print(f"probe: {payload['status']} after {seconds:.1f} s; l2 scores {payload['scores']['l2']}")
        job.artifact(args.out, kind="probe", payload=payload, observed={"probe_seconds": seconds, "load": shares})


if __name__ == "__main__":
    guarded(main)
