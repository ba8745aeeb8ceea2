#!/usr/bin/env bash
# distilabel 1.5.3: a pipeline run again with other input rows gives the old data set, and says nothing.
#
# Guess: the cache is keyed by a hash of each step's attributes, the rows of LoadDataFromDicts(data=...) are one of them,
#        so other rows are worked through anew; only an edited function body may go unnoticed.
# Seen:  the rows are left out of what is dumped and hashed. With the same cache folder, `Pipeline.run(use_cache=True)`
#        (True is the default) returns the result of the first rows for rows that differ in text and in number; an edited
#        body of a @step function is not noticed either. A changed seed file therefore trains on yesterday's
#        completions. `use_cache=False`, or a cache folder named after a hash of the rows, gives the new ones.
#
# Output:
#   Cat, Dog: CAT, DOG
#   Cow, Dog, Eel: CAT, DOG
#   Cow, Dog, Eel without the cache: COW, DOG, EEL
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q --disable-pip-version-check distilabel==1.5.3 datasets==5.2.0 pydantic==2.14.4 \
  requests==2.32.5 # imported by distilabel, which does not ask for it
cat >"$folder/look.py" <<'PYTHON'
import sys

from distilabel.pipeline import Pipeline
from distilabel.steps import LoadDataFromDicts, StepInput, step


@step(inputs=["word"], outputs=["loud"])
def shout(inputs: StepInput):
    yield [row | {"loud": row["word"].upper()} for row in inputs]


def main(cache, use_cache, *words):
    with Pipeline(name="shouts", cache_dir=cache) as pipeline:
        LoadDataFromDicts(name="load", data=[{"word": word} for word in words]) >> shout(name="shout")
    made = pipeline.run(use_cache=use_cache == "cache")["default"]["train"]
    print("FOUND " + ", ".join(row["loud"] for row in made))


if __name__ == "__main__":
    main(*sys.argv[1:])
PYTHON
look() { "$folder/venv/bin/python" "$folder/look.py" "$folder/cache" "$@" 2>/dev/null | sed -n 's/^FOUND //p'; }
found="Cat, Dog: $(look cache Cat Dog)
Cow, Dog, Eel: $(look cache Cow Dog Eel)
Cow, Dog, Eel without the cache: $(look anew Cow Dog Eel)"
echo "$found"
[[ $found == "Cat, Dog: CAT, DOG
Cow, Dog, Eel: CAT, DOG
Cow, Dog, Eel without the cache: COW, DOG, EEL" ]] || {
  echo "changed: expected the old rows from the cache" >&2
  exit 1
}
