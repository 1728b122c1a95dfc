"""Where a running study is, as Snakemake's words and the logs of trainings have it."""

import io

from aletheia.fit.progress import Progress
from aletheia.fit.runner import Display

STARTED = """Building DAG of jobs...
Job stats:
job            count
-----------  -------
stage_model        1
train_std          1
train_ale          2
fit                1
total              5

[Sun Nov 29 08:00:00 2026]
rule stage_model:
    output: resources/models/model.lock.json
    log: logs/stage/model-model.log
    jobid: 3
    reason: Missing output files
    wildcards: model=model
    resources: tmpdir=/tmp

"""
TRAINS = """[Sun Nov 29 08:00:09 2026]
Finished jobid: 3 (Rule: stage_model)
1 of 5 steps (20%) done

rule train_ale:
    output: results/train/model/ale/seed42/run.json
    jobid: 1
    wildcards: model=model, arm=ale, seed=42
    threads: 2

"""


class Clock:
    now = 0.0

    def __call__(self):
        return self.now


def started(tmp_path):
    log, clock = tmp_path / "snakemake.log", Clock()
    return log, clock, Progress(tmp_path, log, clock)


def test_a_training_is_told_with_its_step_loss_and_what_is_left(tmp_path):
    log, clock, progress = started(tmp_path)
    progress.look()
    assert progress.sentence() == "planning"
    log.write_text(STARTED)
    progress.look()
    assert progress.sentence() == "stage_model model · 0 of 5 jobs"
    clock.now = 9.0
    log.write_text(STARTED + TRAINS)
    progress.look()
    assert progress.sentence() == "train model ale seed 42 · 1 of 5 jobs"
    assert progress.seconds_left() is None
    logs = tmp_path / "logs" / "train"
    logs.mkdir(parents=True)
    (logs / "model-ale-seed42.log").write_text("step 1/10 loss 2.5000 2.00 s\nstep 2/10 loss 2.2500 4.00 s\n")
    assert progress.sentence() == "train model ale seed 42: step 2/10, loss 2.2500 · 1 of 5 jobs"
    # Three trainings of ten steps, of which two have been, at three seconds each.
    assert progress.seconds_left() == (3 * 10 - 2) * 3.0


def test_half_a_line_is_read_once_it_is_whole(tmp_path):
    log, _, progress = started(tmp_path)
    whole = STARTED + TRAINS
    for end in range(0, len(whole) + 1, 7):
        log.write_text(whole[:end])
        progress.look()
    log.write_text(whole)
    progress.look()
    assert (progress.ended, [job.about.get("arm") for job in progress.running.values()]) == (1, ["ale"])
    assert progress.planned == {"stage_model": 1, "train_std": 1, "train_ale": 2, "fit": 1}


def test_what_is_left_counts_jobs_by_those_of_their_rule_that_have_ended(tmp_path):
    log, clock, progress = started(tmp_path)
    table = "Job stats:\njob  count\n---  ---\nevaluate    3\nfit    1\ntotal    4\n\n"
    begin = "rule evaluate:\n    jobid: {0}\n    wildcards: model=model, run=base\n\n"
    log.write_text(table + begin.format(1))
    progress.look()
    clock.now = 20.0
    log.write_text(table + begin.format(1) + "Finished jobid: 1 (Rule: evaluate)\n" + begin.format(2))
    progress.look()
    assert progress.seconds_left() == 2 * 20.0


def test_jobs_that_a_checkpoint_adds_count_and_what_is_left_of_them_is_not_guessed(tmp_path):
    log, clock, progress = started(tmp_path)
    clock.now = 9.0
    ended = "".join(TRAINS.replace("jobid: 3", f"jobid: {job}").replace("1 of 5", "4 of 90") for job in (3, 1, 1, 1))
    log.write_text(STARTED + ended)
    progress.look()
    assert progress.sentence() == "train model ale seed 42 · 4 of 90 jobs"


def test_where_there_is_no_terminal_a_line_is_said_when_another_job_runs(tmp_path):
    log, _, progress = started(tmp_path)
    said = io.StringIO()
    display = Display(said)
    for text in ("Building DAG of jobs...\n", STARTED, STARTED + TRAINS[: TRAINS.index("rule")], STARTED + TRAINS):
        log.write_text(text)
        progress.look()
        display.show(progress)
        display.show(progress)
    display.note("rows were cut")
    assert said.getvalue().splitlines() == [
        "planning",
        "stage_model model · 0 of 5 jobs",
        "train model ale seed 42 · 1 of 5 jobs",
        "note: rows were cut",
    ]
