#!/usr/bin/env bash
# datasets 5.2.0: a local file that changed is not read again where its modification time is the same.
#
# Guess: load_dataset of a local folder gives the rows that are in its files; its cache is for what did not change, told by
#        content, or at least by size and time.
# Seen:  the cache is keyed by path and modification time alone (data_files.py, `_get_single_origin_metadata`). A file of
#        other rows, and of another size, with the same time gives the rows of before, without a word. Tools that keep or
#        fix times do that every day: cp -p, rsync -t, tar, an image built with SOURCE_DATE_EPOCH.
#        `streaming=True` reads the files themselves.
#
# Output:
#   at first:     ['old']
#   changed:      ['old']
#   as a stream:  ['new', 'newer']
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q --disable-pip-version-check datasets==5.2.0 pyarrow==26.0.1 pandas==3.1.1
cat >"$folder/look.py" <<'PYTHON'
import os
import pathlib
import sys

import datasets

datasets.disable_progress_bars()
data = pathlib.Path(sys.argv[1])
data.mkdir()


def write(*texts):
    path = data / "train.parquet"
    datasets.Dataset.from_dict({"text": list(texts)}).to_parquet(str(path))
    os.utime(path, (1_700_000_000, 1_700_000_000))


def read(**settings):
    return [row["text"] for row in datasets.load_dataset(str(data), split="train", **settings)]


write("old")
print("at first:    ", read())
write("new", "newer")
print("changed:     ", read())
print("as a stream: ", read(streaming=True))
PYTHON
found=$(HF_HOME="$folder/home" HF_HUB_OFFLINE=1 "$folder/venv/bin/python" "$folder/look.py" "$folder/data" 2>/dev/null)
echo "$found"
[[ $found == $'at first:     [\'old\']\nchanged:      [\'old\']\nas a stream:  [\'new\', \'newer\']' ]] || {
  echo "changed: expected the rows of before" >&2
  exit 1
}
