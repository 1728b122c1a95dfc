"""Measure each layer of a model on some training data: gradient norms, batch by batch, and what else is asked."""

from __future__ import annotations

import time
from pathlib import Path

from aletheia.cli import SEED, THREADS, step_parser
from aletheia.errors import run_main
from aletheia.provenance.job import Job
from aletheia.study.selectors import GRADIENTS, PROBED


def main() -> None:
    """Run the step."""
    parser = step_parser("probe", __doc__, script=__file__, sections=("model", "encoding", "probe"))
    parser.add_argument("--model-lock", type=Path, required=True, help="lock file of the staged model")
    parser.add_argument("--data-lock", type=Path, required=True, help="lock file of the staged training data")
    parser.add_argument("--tokens", type=Path, nargs="?", help="table of the tokens step; encoded here without it")
    parser.add_argument("--precision", type=Path, nargs="?", help="artifact of the precision step (model.dtype auto)")
    parser.add_argument("--seed", type=SEED, required=True, help="draws the probe's batches")
    parser.add_argument(
        "--compare", action="store_true", help="run the other probe.method too; say how well they agree"
    )
    parser.add_argument("--threads", type=THREADS, default=1, help="threads for torch")
    parser.add_argument("--out", type=Path, required=True, help="artifact to write")
    args = parser.parse_args()
    inputs = [args.model_lock, args.data_lock, *filter(None, [args.tokens, args.precision])]
    with Job(args.step, inputs=inputs, outputs=[args.out]) as job:
        if job.done:
            return
        from aletheia.method import loading, probe, probe_record
        from aletheia.provenance import machine_load, start
        from aletheia.training import encoding, row_counts, token_table

        loading.leave_out_bitsandbytes(args.model_lock, job.config["model"]["quantization"])
        loading.use_threads(args.threads)
        model_lock, data_lock = job.input(args.model_lock, "model_lock"), job.input(args.data_lock, "data_lock")
        locks, own = {"model_lock": model_lock, "data_lock": data_lock}, job.config["encoding"]
        rows = token_table.token_rows(args.tokens, **locks, encoding=own, tokenizer=lambda: tokenizer)
        dtype = loading.resolve_dtype(job.config["model"], job.input(args.precision, "precision"))
        model, tokenizer = loading.load(model_lock, dtype=dtype, **loading.load_options(job.config["model"]))
        loading.check_context(model, own["max_tokens"])
        encoded = rows.encoded_rows("train")
        print(row_counts.in_words(encoded.counts(), "training rows", own["max_tokens"]))
        settings = dict(job.config["probe"])
        method, measure = settings.pop("method"), settings.pop("measure", [GRADIENTS])
        settings.pop("update_steps", None)  # of the probe by training
        if settings.pop("gradient_checkpointing"):
            model.activation_checkpointing_enable({"use_reentrant": False})
        if model.is_activation_checkpointing:
            print("probe: gradient checkpointing on")
        drawn = encoding.probe_batches(encoded.examples, tokenizer.pad_token_id, seed=args.seed, **settings)
        start.work_begins()
        load, began = machine_load.LoadMeter(), time.perf_counter()
        measured = probe.probe_layers(model, drawn, method=method, measure=measure)
        seconds, shares = time.perf_counter() - began, load.shares()
        payload = probe_record.probe_payload(
            measured, model, dtype=dtype, quantization=job.config["model"]["quantization"]
        )
        if args.compare:
            payload["agreement"] = probe.compare_methods(measured, model, drawn)
        print(f"probe: {payload['status']} after {seconds:.1f} s; measured {', '.join(measure)}")
        parts = {part: measured.part_seconds.get(part) for part in PROBED}
        observed = {"probe_seconds": seconds, "part_seconds": parts, "load": shares}
        job.write_json(args.out, kind="probe", payload=payload, observed=observed)


if __name__ == "__main__":
    run_main(main)
