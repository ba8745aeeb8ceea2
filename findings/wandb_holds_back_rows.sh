#!/usr/bin/env bash
# wandb 0.31.0: what an offline run has logged is not in its file until 32 KiB are full or the run is finished.
#
# Guess: in offline mode each logged row is in the run's .wandb file soon after `log`, so that a killed run keeps it.
# Seen:  the file is written in whole blocks of 32 KiB. Some seconds after 50 rows it holds the 7 bytes of its head, and
#        after SIGKILL it stays so: all rows are gone. After `finish` all are there. Whoever keeps a list of what was
#        logged must not add to it before `finish`.
#
# Output:
#   killed after 50 rows: 7 bytes
#   finished after 50 rows: more
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q --disable-pip-version-check wandb==0.31.0
cat >"$folder/log.py" <<'PYTHON'
import os
import sys
import time

import wandb

settings = wandb.Settings(console="off", silent=True, x_disable_meta=True, x_disable_stats=True)
run = wandb.init(mode="offline", project="p", dir=sys.argv[2], settings=settings)
for step in range(50):
    run.log({"step": step})
time.sleep(8)
if sys.argv[1] == "killed":
    os.kill(os.getpid(), 9)
run.finish()
PYTHON
mkdir "$folder/killed" "$folder/finished"
for end in killed finished; do
  HOME=$folder "$folder/venv/bin/python" "$folder/log.py" "$end" "$folder/$end" >"$folder/$end.log" 2>&1 || true
done
size() { stat -c %s "$folder/$1"/wandb/offline-run-*/*.wandb; }
found="killed after 50 rows: $(size killed) bytes
finished after 50 rows: $([[ $(size finished) -gt 1000 ]] && echo more || size finished)"
echo "$found"
[[ $found == $'killed after 50 rows: 7 bytes\nfinished after 50 rows: more' ]] || {
  echo "changed: expected rows that are held back until the run is finished" >&2
  exit 1
}
