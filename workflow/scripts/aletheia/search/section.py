"""A campaign's section ``search`` read into a space, and refused where nothing could be searched by it."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

from aletheia.errors import UserError
from aletheia.search.presets import MOVES, PRESETS, RATE_MOVES, moved, preset
from aletheia.search.space import MADE, STD, STD_EXTRAS, Recipe, Space

# say(*keys, sentence) returns the error about a mistake; the keys lead to its place below `search`.
MakeError = Callable[..., UserError]
Settings = Mapping[str, Mapping[str, Any]]
NOTHING = {"layers": "all"}  # the choice of std
FEWEST_RECIPES, FEWEST_RATES, FEWEST_SEEDS = 2, 2, 3
EXTRAS = "extras"  # key of a recipe: false takes it without the section's extras
# Keys of an arm that a recipe leaves to the search, with what decides them.
DECIDED_BY_SEARCH = {
    "learning_rate": "each recipe gets its own best one of rates",
    "steps": "each recipe gets as many as take the seconds of std's",
    "extra_steps_percent": "each recipe gets as many steps as take the seconds of std's",
    "eval_rows": "all are judged by the same rows",
    "draws": "a recipe is one arm; state draw",
    "models": "the search is of the campaign's models",
    "benchmarks": "the rungs say what is asked",
    "equal": "all are equal in seconds",
}


def read_space(section: Mapping[str, Any], *, settings: Settings, legal_keys: Collection[str], say: MakeError) -> Space:
    """Return the space that a section ``search`` declares.

    A recipe has the section's extras under its own keys, unless it states ``extras: false``; the presets
    ``accumulation_1`` and ``linear`` are std in the paper's shape with that one extra.

    Parameters
    ----------
    section
        With its defaults.
    settings
        ``{"adapter": …, "training": …}`` of the campaign, with defaults.
    legal_keys
        What an arm may state (``$defs/recipe`` of the campaign's schema).
    say
        Makes the error: ``say(*keys, sentence)``.

    Raises
    ------
    UserError
        For fewer than two recipes, an unknown preset or move, a key that no arm may state or that the search decides,
        two recipes that are equal, or one that is equal to a standard one; fewer than two rates, rates that do not
        rise; a scan as long as full runs; fewer than three seeds of the floor or of the confirmation, seeds that are
        named twice, seeds of the confirmation that the search has seen; a budget below the runs that any search makes.
    """
    _check_numbers(section, say)
    extras = _checked_extras(section, settings["training"], legal_keys, say)
    written = _written(section, settings["adapter"], say)
    for name, entry in written.items():
        _check_keys(("recipes", name), entry, {*legal_keys, EXTRAS}, say)
    recipes, stds = _recipes(written, extras, settings)
    _check_twins({**stds, **recipes}, settings, section.get("recipes") or {}, say)
    _check_budget(section, len({**stds, **recipes}), len(stds), say)
    seeds, steps, budget = section["seeds"], section["steps"], section["budget"]
    return Space(
        recipes=recipes,
        stds=stds,
        moves=_moves({**stds, **recipes}, section.get("moves") or (), settings),
        rates=tuple(section["rates"]),
        paper_rate=settings["training"]["learning_rate"],
        steps_scan=steps["scan"],
        steps_full=steps["full"],
        floor_seeds=tuple(seeds["floor"]),
        search_seed=seeds["search"],
        confirm_seeds=tuple(seeds["confirm"]),
        keep=section["keep"],
        margin=section["margin"],
        objective=section["objective"],
        retention_bound=section.get("retention_bound"),
        budget_runs=budget.get("runs"),
        budget_seconds=budget.get("seconds"),
        asked_moves=tuple(section.get("moves") or ()),
    )


def _check_numbers(section: Mapping[str, Any], say: MakeError) -> None:
    """Refuse rates, steps and seeds by which nothing could be compared."""
    rates, steps, seeds = section["rates"], section["steps"], section["seeds"]
    if len(rates) < FEWEST_RATES:
        raise say(
            "rates",
            f"expected at least {FEWEST_RATES} rates, found {len(rates)}: a recipe at another's rate seems worse than "
            "it is; add some, each twice the one before",
        )
    for before, after in itertools.pairwise(rates):
        if not before < after:
            raise say("rates", f"expected each to be above the one before, found {after:g} after {before:g}; sort them")
    if steps["scan"] >= steps["full"]:
        raise say(
            *("steps", "scan"),
            f"expected less than steps.full ({steps['full']}), found {steps['scan']}: a scan is what costs little; "
            f"write {max(1, steps['full'] // 3)}",
        )
    for key in ("floor", "confirm"):
        if len(seeds[key]) < FEWEST_SEEDS:
            raise say(
                *("seeds", key), f"expected at least {FEWEST_SEEDS} seeds, found {_listed(seeds[key])}; name others too"
            )
        if len(set(seeds[key])) < len(seeds[key]):
            raise say("seeds", key, f"expected each seed once, found {_listed(seeds[key])}; take the second out")
    seen = [seed for seed in seeds["confirm"] if seed in {*seeds["floor"], seeds["search"]}]
    if seen:
        raise say(
            *("seeds", "confirm"),
            f"found {_listed(seen)}, by which the search chooses: its luck would be confirmed with it; name new seeds",
        )


def _checked_extras(
    section: Mapping[str, Any], training: Mapping[str, Any], legal_keys: Collection[str], say: MakeError
) -> dict[str, Any]:
    extras = dict((section.get("std") or {}).get("extras") or {})
    _check_keys(("std", "extras"), extras, legal_keys, say)
    for key, value in extras.items():
        if key not in training:
            raise say(
                *("std", "extras", key),
                "expected keys of training, which std can have as well as any recipe, found one that chooses; write it "
                "into recipes",
            )
        if value == training[key]:
            raise say("std", "extras", key, f"found {value}, which the campaign says anyway; take it out")
    return extras


def _written(section: Mapping[str, Any], adapter: Mapping[str, Any], say: MakeError) -> dict[str, dict[str, Any]]:
    """Return the keys of each recipe by name: presets, then the section's own."""
    written: dict[str, dict[str, Any]] = {}
    for name in section.get("presets") or ():
        if name not in PRESETS:
            raise say("presets", f"found {name!r}; known are {', '.join(PRESETS)}")
        keys = preset(name, adapter)
        if isinstance(keys, str):
            raise say("presets", f"found {name}, and {keys}; take it out")
        written[name] = keys
    for name, keys in (section.get("recipes") or {}).items():
        if name in written:
            raise say("recipes", name, "found a preset's name beside that preset; take one of both out")
        if name in (STD, STD_EXTRAS) or MADE in name:
            raise say(
                *("recipes", name),
                f"expected another name than {STD} and {STD_EXTRAS}, and none with {MADE}, which the search names its "
                "own recipes by; rename it",
            )
        written[name] = {**NOTHING, **(keys or {})}
    if len(written) < FEWEST_RECIPES:
        raise say(
            "recipes",
            f"expected at least {FEWEST_RECIPES} recipes with the presets, found {_listed(written)}: there would be "
            "nothing to choose; add some",
        )
    for move in section.get("moves") or ():
        if move not in MOVES:
            raise say("moves", f"found {move!r}; known are {', '.join(MOVES)}")
    return written


def _check_keys(place: tuple[str, ...], entry: Mapping[str, Any], legal_keys: Collection[str], say: MakeError) -> None:
    for key in entry:
        if key in DECIDED_BY_SEARCH:
            raise say(*place, key, f"{DECIDED_BY_SEARCH[key]}; take it out")
        if key not in legal_keys:
            raise say(*place, key, "no arm may state this key; take it out or correct its name")


def _recipes(
    written: Mapping[str, Mapping[str, Any]], extras: Mapping[str, Any], settings: Settings
) -> tuple[dict[str, Recipe], dict[str, Recipe]]:
    """Return candidates and standard recipes: of each shape that a candidate has there is one that chooses nothing.

    What a recipe states as its campaign does is left out of it, so that recipes that run alike are equal.
    """
    training, said = settings["training"], {**settings["adapter"], **settings["training"]}
    stds = {STD: Recipe(STD, NOTHING, {}, STD)}
    if extras:
        stds[STD_EXTRAS] = Recipe(STD_EXTRAS, NOTHING, extras, STD_EXTRAS)
    parts: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {}
    for name, entry in written.items():
        keys = {**(extras if entry.get(EXTRAS, True) else {}), **entry}
        own = {key: value for key, value in keys.items() if key != EXTRAS and (key not in said or value != said[key])}
        shape = {key: value for key, value in own.items() if key in training}
        parts[name] = ({key: value for key, value in own.items() if key not in training}, shape)
    shape_alone = {name: shape for name, (choice, shape) in parts.items() if choice == NOTHING}
    recipes = {}
    for name, (choice, shape) in parts.items():
        of_its_shape = [std.name for std in stds.values() if std.shape == shape]
        of_its_shape += [other for other in shape_alone if shape_alone[other] == shape]
        std = of_its_shape[0] if of_its_shape else f"{STD}{MADE}{name}"
        recipes[name] = Recipe(name, choice, shape, std)
        if choice != NOTHING and std not in stds:
            stds[std] = Recipe(std, NOTHING, shape, std)
    return recipes, stds


def _whole(keys: Mapping[str, Any], settings: Settings) -> dict[str, Any]:
    """Return what an arm runs by: its keys over those of its campaign."""
    return {**settings["adapter"], **settings["training"], **keys}


def _check_twins(scanned: Mapping[str, Recipe], settings: Settings, own: Collection[str], say: MakeError) -> None:
    """Refuse a recipe that runs as one before it does."""
    seen: list[tuple[dict[str, Any], str]] = []
    for recipe in scanned.values():
        whole = _whole(recipe.keys, settings)
        twin = next((name for other, name in seen if other == whole), None)
        if twin:
            place = ("recipes", recipe.name) if recipe.name in own else ("presets",)
            raise say(*place, f"{recipe.name} runs as {twin} does, which is tried anyway; take it out")
        seen.append((whole, recipe.name))


def _moves(
    scanned: Mapping[str, Recipe], asked: Sequence[str], settings: Settings
) -> dict[tuple[str, str], Recipe | str]:
    found: dict[tuple[str, str], Recipe | str] = {}
    known = [(_whole(recipe.keys, settings), recipe.name) for recipe in scanned.values()]
    for recipe in scanned.values():
        for move in asked:
            if move in RATE_MOVES or recipe.name == STD:
                continue
            choice = moved(recipe.choice, move, settings["adapter"])
            if isinstance(choice, str):
                found[recipe.name, move] = choice
                continue
            name = f"{recipe.name}{MADE}{move.replace(' /2', '_half').replace(' ', '_')}"
            made = Recipe(name, choice, recipe.shape, recipe.std)
            twin = next((other for whole, other in known if whole == _whole(made.keys, settings)), None)
            found[recipe.name, move] = f"it leads to {twin}, which is tried anyway" if twin else made
    return found


def _check_budget(section: Mapping[str, Any], scanned: int, stds: int, say: MakeError) -> None:
    """Refuse a budget of runs that ends before the first full runs; what seconds buy is known after the costs."""
    runs = section["budget"].get("runs")
    floor, scan, full = len(section["seeds"]["floor"]), scanned * len(section["rates"]), stds + 1
    if runs is not None and runs < floor + scan + full:
        raise say(
            *("budget", "runs"),
            f"expected at least {floor + scan + full} ({floor} of the floor, {scan} of the scan, which is {scanned} "
            f"recipes with the standard ones at {len(section['rates'])} rates, and {full} full ones), found {runs}; "
            "raise it, or name fewer recipes or rates",
        )


def _listed(values: Collection[Any]) -> str:
    return ", ".join(map(str, values)) or "none"
