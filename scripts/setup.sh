#!/usr/bin/env bash
# Create .venv and install the pinned packages and this project into it. `make` calls it; a second call returns at once.
#
#   scripts/setup.sh                          # CPU or GPU packages, by whether an NVIDIA GPU answers
#   SYNTHLOOP_DEVICE=cpu scripts/setup.sh     # or: gpu
#   PYTHON=/path/to/python3.11 scripts/setup.sh
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

VENV=.venv
STAMP=$VENV/synthloop-setup
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

create_venv() {
  local python=${PYTHON:-}
  if [[ -z $python ]]; then
    # The lists are resolved for 3.11; a later Python is the second choice.
    python=$(command -v python3.11 || command -v python3) || die "no python3 found; install Python 3.11 and run again."
  fi
  "$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' ||
    die "$python is older than Python 3.11; name another one: PYTHON=/path/to/python3.11 make setup"
  "$python" -m venv "$VENV" ||
    die "$python could not create $VENV (on Debian and Ubuntu: apt-get install python3.11-venv)."
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

device=$(choose_device)
list=requirements/$device.txt
[[ -f $list ]] || die "$list is missing; write it with: python scripts/lock_requirements.py"
want="$device $(cat "$list" pyproject.toml scripts/setup.sh | sha256sum | cut -d' ' -f1)"

if [[ -f $STAMP && -x $VENV/bin/python ]]; then
  have=$(<"$STAMP")
  [[ $have == "$want" ]] && exit 0
  [[ ${have%% *} == "$device" ]] ||
    die "$VENV holds the ${have%% *} packages and this machine wants the $device ones." \
      "Keep it with SYNTHLOOP_DEVICE=${have%% *}, or delete $VENV and run again."
fi

started=$SECONDS
[[ -x $VENV/bin/python ]] || create_venv
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
echo "$want" >"$STAMP"
echo "setup: done in $((SECONDS - started)) s"
