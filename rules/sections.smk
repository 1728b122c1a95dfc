# Which settings each step reads: nothing else of the configuration reaches its script, or reruns it.


def encoding_section(wildcards):
    """How rows become tokens."""
    return settings_of(wildcards)["encoding"]


def model_section(wildcards):
    """How a model is loaded."""
    entry = STUDY.models[wildcards.model]
    return {key: entry[key] for key in ("dtype", "quantization", "attention")}


def trained_model_section(wildcards):
    """How a model is loaded and how fast it learns."""
    scale = STUDY.models[wildcards.model]["learning_rate_scale"]
    return {**model_section(wildcards), "learning_rate_scale": scale}


def model_source(wildcards):
    """What decides a staged model's files."""
    entry = STUDY.models[wildcards.model]
    return {key: entry[key] for key in ("source", "family", "parameters", "layers", "licence") if key in entry}


def data_source(wildcards):
    """What decides a staged data set's files."""
    return {key: value for key, value in STUDY.data[wildcards.data].items() if key != "note"}


def precision_section(wildcards):
    """The micro-batches that the choice of precision is measured with."""
    training = next(r.settings["training"] for r in STUDY.runs.values() if r.model == wildcards.model)
    return {key: training[key] for key in ("batch_size", "accumulation")}


def probe_section(wildcards):
    """The probe's settings."""
    return settings_of(wildcards)["probe"]


def batches_section(wildcards):
    """The shape of a plan that serves every arm of a model and a seed."""
    return STUDY.batches[wildcards.model, int(wildcards.seed)]


def arm_section(wildcards):
    """What an arm means: which layers, how many of them, which ranks, how many steps."""
    return run_of(wildcards).arm_settings


def adapter_section(wildcards):
    """Ranks, alphas and dropout of a run's adapters."""
    return run_of(wildcards).settings["adapter"]


def ranks_section(wildcards):
    """Ranks and alphas, which a selection writes down."""
    return {key: adapter_section(wildcards)[key] for key in ("rank", "alpha")}


def run_section(wildcards):
    """The run's name, which its adapter and its row carry."""
    return {"model": wildcards.model, "arm": wildcards.arm}


def training_section(wildcards):
    """The optimisation's settings; what decides no result stays out (it is a resource, whose change reruns nothing)."""
    settings = run_of(wildcards).settings["training"]
    return {key: value for key, value in settings.items() if key not in ("checkpoint_seconds", "tensorboard")}


def checkpoint_seconds(wildcards):
    """Whole seconds between the checkpoints of a run, -1 for none."""
    seconds = run_of(wildcards).settings["training"]["checkpoint_seconds"]
    return -1 if seconds is None else round(seconds)


def tensorboard(wildcards):
    """Whether a run writes training curves."""
    return int(run_of(wildcards).settings["training"]["tensorboard"])


def evaluation_section(step, benchmarks):
    """How some benchmarks of a model are asked: a pattern of the settings that they need."""

    def section(wildcards):
        settings = settings_of(wildcards)["evaluation"]
        prompt = STUDY.models[wildcards.model]["prompt"] if settings["prompt"] == "registry" else settings["prompt"]
        common = {key: settings[key] for key in ("batch_size", "time_limit_seconds")} | {"prompt": prompt}
        if step == "generate":
            common["generation"] = settings["generation"]
        own = {name: {k: v for k, v in settings[name].items() if k != "sandbox"} for name in benchmarks}
        return {**common, "benchmarks": list(benchmarks), **own}

    return section


def humaneval_section(wildcards):
    """How generated code is judged."""
    return {key: settings_of(wildcards)["evaluation"]["humaneval"][key] for key in ("questions", "sandbox")}


def draws_section(wildcards):
    """The probe's settings for the study of its stability: as many batches as the largest count."""
    return {**probe_section(wildcards), "batches": max(settings_of(wildcards)["stability"]["batches"])}


def stability_section(wildcards):
    """Draws and counts of each model whose layers some arm selects."""
    return {model: STUDY.shared[model]["stability"] for model in dict.fromkeys(model for model, _ in STUDY.probed())}


def timed_section(wildcards):
    """The settings of training that an interleaved measurement reads."""
    return timed_settings(run_of(wildcards))


def std_section(wildcards):
    """What the standard arm of a pair means."""
    return STUDY.runs[wildcards.model, "std", int(wildcards.seed)].arm_settings


def interleaving_section(wildcards):
    """How many rounds and steps arms take in turns."""
    return settings_of(wildcards)["interleaving"]


def attributed_model_section(wildcards):
    """The model's name, which its attribution carries."""
    return {"model": wildcards.model, "arm": None}


def attributed_adapter_section(wildcards):
    """Ranks, alphas and dropout of a model's adapters, for its attribution."""
    return STUDY.attributed()[wildcards.model].settings["adapter"]


def attributed_training_section(wildcards):
    """The settings of training that a model's attribution reads."""
    return timed_settings(STUDY.attributed()[wildcards.model])


def timed_settings(run):
    """What decides a training step, and the number of steps, among which the probe's time is divided."""
    step = ("batch_size", "accumulation", "optimizer", "max_grad_norm", "gradient_checkpointing")
    rates = ("learning_rate", "schedule", "warmup_steps")
    return {key: run.settings["training"][key] for key in ("steps", *step, *rates)}


def campaigns_section(wildcards):
    """Which runs belong to which campaign, and what the campaign reports."""
    return STUDY.campaign_index()


def reports_section(wildcards):
    """The reports that the study's campaigns feed."""
    return STUDY.reports()


def figures_section(wildcards):
    """The look of the figures."""
    return STUDY.figures


def configuration_section(wildcards):
    """The whole configuration: a bundle holds it, and follows from it what it consists of."""
    return dict(config)
