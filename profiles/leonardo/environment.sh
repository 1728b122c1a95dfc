# To be sourced on a login node before snakemake: `source profiles/leonardo/environment.sh`. Jobs inherit all of it.

# Whose budget pays (`saldo -b` lists yours), and where the project keeps its files (CINECA sets WORK at login).
: "${ALETHEIA_ACCOUNT:?set it to the account that pays, as saldo -b names it}"
: "${WORK:?expected the project folder that CINECA sets at login}"
export ALETHEIA_ACCOUNT

# Python. The wheels bring their own CUDA libraries.
module load profile/deeplrn
module load "${ALETHEIA_PYTHON_MODULE:-python/3.11.6--gcc--8.5.0}"
# A module may put packages of its own before those of this project.
unset PYTHONPATH

# Caches: $HOME has 50 GB, $SCRATCH is emptied after 40 days, and the nodes' own disk is 10 GB of memory.
export HF_HOME="$WORK/$USER/huggingface"
export PIP_CACHE_DIR="$WORK/$USER/pip"
export SNAKEMAKE_CONDA_PREFIX="$WORK/$USER/conda"
export APPTAINER_CACHEDIR="$WORK/$USER/apptainer"
mkdir -p "$HF_HOME" "$PIP_CACHE_DIR" "$SNAKEMAKE_CONDA_PREFIX" "$APPTAINER_CACHEDIR"
