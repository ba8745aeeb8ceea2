#!/usr/bin/env bash
# lm-format-enforcer 0.11.3: importing the part that reads JSON schemas changes PyYAML for the whole process.
#
# Guess: importing a library for constrained decoding has no effect on yaml.safe_load.
# Seen:  its module lmformatenforcer/external/jsonschemaobjectutil.py puts the constructor of text in the place of that of
#        dates in yaml.SafeLoader itself. From then on `yaml.safe_load("2026-01-05")` is a text instead of a date, and a
#        date that does not exist, refused before, is taken. vLLM 0.31 depends on this package (it is one of its backends
#        for structured outputs), so the same file can read differently in a stage that serves a model and in one that
#        does not. A loader is safe when it copies `yaml_constructors` into its own class.
#
# Output:
#   before: date, refused
#   after:  str, taken
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q --disable-pip-version-check lm-format-enforcer==0.11.3 PyYAML==6.0.3 pydantic==2.14.3
cat >"$folder/look.py" <<'PYTHON'
import yaml


def look():
    kind = type(yaml.safe_load("day: 2026-01-05")["day"]).__name__
    try:
        yaml.safe_load("day: 2026-13-45")
    except ValueError:
        return f"{kind}, refused"
    return f"{kind}, taken"


print("before:", look())
import lmformatenforcer  # noqa: E402

print("after: ", look())
PYTHON
found=$("$folder/venv/bin/python" "$folder/look.py")
echo "$found"
[[ $found == $'before: date, refused\nafter:  str, taken' ]] || {
  echo "changed: expected a date that becomes text" >&2
  exit 1
}
