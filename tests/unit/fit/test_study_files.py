"""The YAML files of `aletheia fit`: a study that the loader reads, with what was asked and what the data say."""

from pathlib import Path

import pytest
import yaml

from aletheia.errors import UserError
from aletheia.fit.choices import RATES, choose
from aletheia.fit.folder import write_or_take_up
from aletheia.fit.study_files import study_files
from aletheia.study.configuration_files import read_configuration
from aletheia.study.load import load_study
from surveyed_rows import options, surveyed


@pytest.fixture
def written(tmp_path, monkeypatch):
    """Return a function that writes the files of options, and returns them parsed, with the study that they are."""

    def write(asked, found=None, config="config.yaml", **chosen):
        found = found or surveyed()
        choices = choose(asked, found, **chosen)
        folder = tmp_path / "study"
        write_or_take_up(folder, study_files(asked, found, choices))
        monkeypatch.chdir(folder)
        files = {path.name: yaml.safe_load(path.read_text("utf-8")) for path in folder.iterdir()}
        return files, load_study(read_configuration([Path(config)]))

    return write


def test_without_a_search_one_rate_trains_standard_lora_and_the_half_that_the_gradient_chooses(written):
    files, study = written(options())
    assert sorted(files) == ["campaign.yaml", "config.yaml", "data.yaml", "models.yaml"]
    assert list(study.runs) == [("model", "std", 42), ("model", "ale", 42)]
    assert study.run("model", "ale", 42).arm_settings["layers"] == "gradient"
    assert study.benchmarks_of("model", "std") == ["heldout", "retention"]
    assert study.run("model", "std", 42).settings["training"]["learning_rate"] == 1e-3
    assert files["models.yaml"]["model"] == {"source": {"type": "hub", "id": "owner/name"}, "dtype": "auto"}
    # Nothing is chosen by held-out rows, so they may judge, and no more rows are set apart.
    assert "test" not in files["data.yaml"]["rows"]
    assert study.shared["model"]["evaluation"]["heldout"]["split"] == "heldout"


def test_quick_tries_each_arm_at_three_rates_and_judges_by_other_rows(written):
    files, study = written(options(search="quick", arms=("last_half", "std_half_rank")))
    arms = ["std", "ale", "last_half", "std_half_rank"]
    assert [run for run in study.runs if not run[1].endswith(("rate1", "rate2", "rate3"))] == [
        ("model", arm, seed) for arm in arms for seed in (42, 123)
    ]
    assert len(study.runs) == 4 * (3 + 2)
    rates = [study.run("model", f"last_half_rate{n}", 42).settings["training"]["learning_rate"] for n in (1, 2, 3)]
    assert tuple(rates) == RATES
    assert study.run("model", "last_half", 123).trial_seed == 42
    assert files["campaign.yaml"]["arms"]["std_half_rank"]["rank"] == 8
    assert files["data.yaml"]["rows"]["test"] == files["data.yaml"]["rows"]["held_out"]
    assert study.shared["model"]["evaluation"]["heldout"]["split"] == "test"


def test_full_searches_in_a_tree_of_its_own_and_the_campaign_takes_its_recipe(written, tmp_path):
    files, study = written(options(search="full", arms=("mlp",)), config="search_config.yaml")
    assert study.searches["model"]
    assert files["search_config.yaml"]["pathvars"] == {"results": "results-search"}
    assert "mlp" in files["search.yaml"]["search"]["presets"]
    recipe = Path(files["campaign.yaml"]["arms"]["found"]["recipe"])
    assert recipe.parts[0] == "results-search"
    recipe.parent.mkdir(parents=True)
    recipe.write_text("layers: last\nbudget_percent: 50\nlearning_rate: 0.002\nsteps: 30\n", encoding="utf-8")
    whole = load_study(read_configuration([Path("config.yaml")]))
    assert {arm for _, arm, _ in whole.runs} >= {"std", "ale", "found"}
    assert whole.run("model", "found", 42).settings["training"]["steps"] == 30


def test_the_scan_of_a_search_of_few_steps_still_has_steps_that_are_timed(written):
    _, study = written(options(search="full"), steps=4, steps_reason="few", config="search_config.yaml")
    trials = [run for run in study.declared_runs() if run.settings["training"]["steps"] == 2]
    assert trials
    assert all(run.settings["training"]["timing_warmup_steps"] == 1 for run in trials)


@pytest.mark.parametrize(
    ("given", "key", "value"),
    [
        ({"epochs": 2.5}, "epochs", 2.5),
        ({"rate": 2e-5}, "learning_rate", 2e-5),
        ({"max_tokens": 64}, "max_tokens", 64),
    ],
)
def test_what_is_asked_stands_in_the_file_and_says_so(written, given, key, value):
    _, study = written(options(**given))
    settings = study.run("model", "std", 42).settings
    assert {**settings["training"], **settings["encoding"]}[key] == value
    option = {"learning_rate": "rate"}.get(key, key).replace("_", "-")
    line = next(line for line in Path("campaign.yaml").read_text().splitlines() if line.strip().startswith(f"{key}:"))
    assert f"# --{option}" in line


def test_a_time_stands_there_as_its_steps_with_the_reason(written):
    _, study = written(options(seconds=600.0), steps=57, steps_reason="--time 600s: 2 runs at 5.2 s a step, timed here")
    training = study.run("model", "std", 42).settings["training"]
    assert (training["steps"], training["epochs"]) == (57, None)
    assert "steps: 57  # --time 600s: 2 runs at 5.2 s a step, timed here" in Path("campaign.yaml").read_text()


def test_paths_with_spaces_commas_and_letters_beyond_ascii_stay_what_they_are(written):
    files, _ = written(options(data="/home/é b/rows, of: mine [1] # all.jsonl", retention="none"), surveyed(passages=0))
    assert files["data.yaml"]["rows"]["source"]["path"] == "/home/é b/rows, of: mine [1] # all.jsonl"
    assert list(files["data.yaml"]) == ["rows"]


def test_columns_of_other_names_stand_in_the_registry(written):
    files, _ = written(options(columns=(("instruction", "Frage: 1"), ("output", "größe"))))
    assert files["data.yaml"]["rows"]["source"] == {
        **{"type": "local", "path": "/data/rows.jsonl"},
        "columns": {"instruction": "Frage: 1", "output": "größe"},
    }


def test_own_passages_are_those_that_are_read(written):
    files, study = written(options(retention="/data/passages.jsonl"), surveyed(passages=5))
    assert files["data.yaml"]["retention"]["source"]["path"] == "/data/passages.jsonl"
    assert study.shared["model"]["evaluation"]["retention"]["rows"] == 5


def test_a_study_is_taken_up_and_never_overwritten(tmp_path):
    asked, found = options(), surveyed()
    files = study_files(asked, found, choose(asked, found))
    assert not write_or_take_up(tmp_path / "new", files)
    assert write_or_take_up(tmp_path / "new", files)
    others = study_files(options(epochs=3.0), found, choose(options(epochs=3.0), found))
    with pytest.raises(UserError, match=r"campaign\.yaml: expected the file that these arguments write, found another"):
        write_or_take_up(tmp_path / "new", others)
    assert (tmp_path / "new" / "campaign.yaml").read_text("utf-8") == files["campaign.yaml"]
    # As after a mistake in the arguments that the first jobs found.
    with pytest.raises(UserError, match=r"or remove this one, in which nothing was trained yet$"):
        write_or_take_up(tmp_path / "new", others)
    run = tmp_path / "new" / "results" / "train" / "model" / "std" / "seed42" / "run.json"
    run.parent.mkdir(parents=True)
    run.write_text("{}")
    with pytest.raises(UserError, match=r"or name another folder$"):
        write_or_take_up(tmp_path / "new", others)
    # One that was interrupted while it was written is made whole.
    (tmp_path / "new" / "config.yaml").unlink()
    assert not write_or_take_up(tmp_path / "new", files)
    assert (tmp_path / "new" / "config.yaml").is_file()


def test_a_folder_with_other_things_and_a_file_are_refused(tmp_path):
    asked, found = options(), surveyed()
    files = study_files(asked, found, choose(asked, found))
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "letter.txt").write_text("dear")
    for path, what in ((tmp_path / "mine", "other files"), (tmp_path / "mine" / "letter.txt", "a file")):
        with pytest.raises(UserError, match=rf"--out {path}: expected a new or an empty folder, found {what}"):
            write_or_take_up(path, files)
    assert sorted(path.name for path in (tmp_path / "mine").iterdir()) == ["letter.txt"]
