#!/usr/bin/env bash
# Create .venv and install the pinned packages and this project into it. `make` calls it; a second call returns at once.
#
#   scripts/setup.sh                          # CPU or GPU packages, by whether an NVIDIA GPU answers
#   SYNTHLOOP_DEVICE=cpu scripts/setup.sh     # or: gpu
#   PYTHON=/path/to/python3.11 scripts/setup.sh
#   scripts/setup.sh --check                  # only say what would be installed, or what is missing for it
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

VENV=.venv
STAMP=$VENV/synthloop-setup
PYTHON_VERSION=3.11 # what the lists are resolved for; on a later one vllm wants six and an older setuptools beside them
MIN_DRIVER=580      # of CUDA 13, which the torch of the GPU list is built with
LEFT_OUT='requires (torchvision|torchaudio|torchcodec|triton|nvidia-[^ ]*|cuda-[^ ]*), which is not installed|has requirement torch[ =]'
PYTORCH_CPU_INDEX=https://download.pytorch.org/whl/cpu

die() {
  printf 'setup: %s\n' "$@" >&2
  exit 1
}

choose_device() {
  case "${SYNTHLOOP_DEVICE:-}" in
    cpu | gpu) echo "$SYNTHLOOP_DEVICE" ;;
    "") if nvidia-smi -L 2>/dev/null | grep -q '^GPU '; then echo gpu; else echo cpu; fi ;;
    *) die "SYNTHLOOP_DEVICE is '$SYNTHLOOP_DEVICE'; expected cpu or gpu." ;;
  esac
}

check_platform() {
  [[ $(uname -sm) == "Linux x86_64" ]] ||
    die "the pinned packages are for Linux on x86_64, and this is $(uname -sm)." \
      "On Windows use WSL 2; elsewhere: pip install -e '.[cpu]' in an environment of your own, which is not tested."
}

version_of() { "$1" -c 'import sys; print("%d.%d" % sys.version_info[:2])' 2>/dev/null; }

# The Python of $VENV where there is one, else $PYTHON, else the first on PATH that runs and is of the right version.
find_python() {
  local candidates=(python$PYTHON_VERSION python3 python) found="" python version
  [[ -z ${PYTHON:-} ]] || candidates=("$PYTHON")
  [[ ! -x $VENV/bin/python ]] || candidates=("$VENV/bin/python")
  for python in "${candidates[@]}"; do
    version=$(version_of "$python") || continue # not there, or a shim of a version that is not chosen
    if [[ $version == "$PYTHON_VERSION" ]]; then
      command -v "$python"
      return
    fi
    found+="${found:+, }$python is Python $version"
  done
  die "the pinned packages are for Python $PYTHON_VERSION, and ${found:-none was found at ${candidates[*]}}." \
    "Install it beside the other and run again; any of these will do:" \
    "    apt-get install python$PYTHON_VERSION-venv python$PYTHON_VERSION-dev       (Debian 12; on Ubuntu from ppa:deadsnakes/ppa)" \
    "    pip install uv && uv python install $PYTHON_VERSION && PYTHON=\$(uv python find $PYTHON_VERSION) make setup" \
    "    conda create -n py311 python=$PYTHON_VERSION && PYTHON=\$(conda run -n py311 which python) make setup" \
    "and delete $VENV where it is of another version."
}

# Before 8 GB are downloaded: will they run here?
check_gpu() {
  local python=$1 driver include compiler
  driver=$(nvidia-smi --query-gpu=driver_version --format=csv,noheader 2>/dev/null | head -n 1) || true
  if [[ ${driver%%.*} =~ ^[0-9]+$ ]]; then
    ((${driver%%.*} >= MIN_DRIVER)) ||
      die "the NVIDIA driver is $driver; the GPU packages need $MIN_DRIVER or later (CUDA 13)." \
        "Update the driver, or take the CPU packages: SYNTHLOOP_DEVICE=cpu make setup"
  else
    printf 'setup: warning: no driver version from nvidia-smi; a GPU will need driver %s or later.\n' "$MIN_DRIVER" >&2
  fi
  local wanted=${CC:-gcc} # $CC may hold options
  compiler=$(command -v "${wanted%% *}" || command -v clang) ||
    die "no C compiler was found (\$CC, gcc or clang), and Triton compiles its kernels at run time." \
      "Install one (apt-get install build-essential), or take the CPU packages: SYNTHLOOP_DEVICE=cpu make setup"
  include=$("$python" -c 'import sysconfig; print(sysconfig.get_path("include"))')
  [[ -f $include/Python.h ]] ||
    die "there is no $include/Python.h, and $compiler needs it for Triton's kernels." \
      "Install it (apt-get install python$PYTHON_VERSION-dev), take a Python that brings it (uv python install $PYTHON_VERSION)," \
      "or take the CPU packages: SYNTHLOOP_DEVICE=cpu make setup"
}

create_venv() {
  "$1" -m venv "$VENV" ||
    die "$1 could not create $VENV (on Debian and Ubuntu: apt-get install python$PYTHON_VERSION-venv)."
}

# What the CPU list leaves out on purpose, and a torch labelled otherwise than `+cpu`, are no complaints.
check_packages() {
  local complaints
  complaints=$("$VENV/bin/python" -m pip --disable-pip-version-check check) && return
  [[ $1 == gpu ]] || complaints=$(grep -vE "$LEFT_OUT" <<<"$complaints") || return 0
  die "the installed packages do not fit together:" "$complaints" "Delete $VENV and run again."
}

pip_install() { "$VENV/bin/python" -m pip install -qq --disable-pip-version-check --no-deps "$@"; }

# torch's CPU build must be there before anything asks for torch: the torch of PyPI is the CUDA build (0.9 GB, and 3 GB
# more of its dependencies). The lists ask for `+cpu`, a local version, which PyPI cannot hold: no CUDA build matches it.
install_cpu_torch() {
  local pin=$1
  if "$VENV/bin/python" -c "
import sys, torch
sys.exit(torch.version.cuda is not None or torch.__version__.partition('+')[0] != '${pin#torch==}'.partition('+')[0])
" 2>/dev/null; then
    return # the pinned release, in a CPU build
  fi
  # PyTorch's own index first, giving up at once where it cannot be reached; then whatever pip is set up to use.
  pip_install --retries 0 --timeout 5 --index-url "$PYTORCH_CPU_INDEX" "$pin" 2>"$VENV/torch-install.log" ||
    pip_install "$pin" 2>>"$VENV/torch-install.log" ||
    die "no CPU build of torch was found for $("$VENV/bin/python" -V), neither on $PYTORCH_CPU_INDEX nor" \
      "with pip's own settings (details: $VENV/torch-install.log). The build on PyPI needs CUDA and was not taken." \
      "Install the CPU build by hand, then run this again:" \
      "    $VENV/bin/python -m pip install --no-deps WHEEL_OR_URL_OF_${pin}"
  rm -f "$VENV/torch-install.log"
}

case "${1:-}" in
  "" | --check) ;;
  *) die "'$1' is no option; there is --check alone." ;;
esac
device=$(choose_device)
list=requirements/$device.txt
[[ -f $list ]] || die "$list is missing; write it with: python scripts/lock_requirements.py"
want="$device $(cat "$list" pyproject.toml scripts/setup.sh | sha256sum | cut -d' ' -f1)"

if [[ -f $STAMP && -x $VENV/bin/python ]]; then
  have=$(<"$STAMP")
  if [[ $have == "$want" ]]; then
    [[ ${1:-} != --check ]] || echo "setup: $VENV holds the $device packages of $list already"
    exit
  fi
  [[ ${have%% *} == "$device" ]] ||
    die "$VENV holds the ${have%% *} packages and this machine wants the $device ones." \
      "Keep it with SYNTHLOOP_DEVICE=${have%% *}, or delete $VENV and run again."
fi

check_platform
python=$(find_python)
[[ $device == cpu ]] || check_gpu "$python"
if [[ ${1:-} == --check ]]; then
  echo "setup: would install the $device packages into $VENV with $python"
  exit
fi
started=$SECONDS
[[ -x $VENV/bin/python ]] || create_venv "$python"
echo "setup: installing the $device packages of $list into $VENV (first time: a few minutes)"
torch_pin=$(grep -oE '^torch==[^ ;]+' "$list") || die "$list pins no torch; write it anew: python scripts/lock_requirements.py"
[[ $device == gpu ]] || install_cpu_torch "$torch_pin"

packages=$list
if [[ $device == cpu ]]; then # torch is there by now; one installed by hand may be labelled otherwise than the list says
  packages=$(mktemp)
  trap 'rm -f "$packages"' EXIT
  grep -v '^torch==' "$list" >"$packages"
fi
pip_install -r "$packages" ||
  die "pip could not install $list (its message is above); check the network and pip's index, then run again."
pip_install --no-build-isolation -e . ||
  die "pip could not install this project into $VENV (its message is above)."

"$VENV/bin/python" - "$device" <<'PYTHON' || die "the installed torch does not fit this machine; delete $VENV and run again."
import sys
import torch
if sys.argv[1] == "cpu":
    sys.exit(torch.version.cuda is not None)
if not torch.cuda.is_available():
    print("setup: warning: torch sees no GPU; is the driver older than CUDA", torch.version.cuda, "wants?", file=sys.stderr)
PYTHON
check_packages "$device"
echo "$want" >"$STAMP"
echo "setup: done in $((SECONDS - started)) s. To have synthloop on your PATH: source $VENV/bin/activate"
