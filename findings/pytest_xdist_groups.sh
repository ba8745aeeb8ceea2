#!/usr/bin/env bash
# pytest-xdist 3.8.0 under pytest 9.2.0: `--dist loadgroup` takes its marks and groups nothing.
#
# Guess: tests marked `xdist_group("engine")` run on one worker, as documented, so that a model or an engine that a
#        module's fixture starts is started once; xdist 3.8.0 asks for pytest>=7.
# Seen:  a worker tells the scheduler of groups by assigning `item._nodeid`. In pytest 9.2.0 the node id is computed from
#        structured parts and `_nodeid` is read by nobody, so each test is a group of its own: six tests of one group are
#        spread over both workers, without a warning. With pytest 8.4.2 they stay on one. A suite with costly fixtures
#        makes each of them once a worker. A scheduler of one's own (`pytest_xdist_make_scheduler`, a LoadScopeScheduling
#        with `_split_scope`) still groups, as does `--dist loadfile`.
#
# Output:
#   pytest 8.4.2: 1 worker
#   pytest 9.2.0: 2 workers
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cat >"$folder/test_group.py" <<'PYTHON'
import time

import pytest


@pytest.mark.xdist_group("engine")
@pytest.mark.parametrize("number", range(6))
def test_with_an_engine(number):
    time.sleep(0.2)
PYTHON
found=""
for version in 8.4.2 9.2.0; do
  python3 -m venv "$folder/$version"
  "$folder/$version/bin/pip" install -q --disable-pip-version-check pytest==$version pytest-xdist==3.8.0
  workers=$(cd "$folder" && "$folder/$version/bin/python" -m pytest -p no:cacheprovider -n 2 --dist loadgroup -v test_group.py |
    grep -o '^\[gw[01]\]' | sort -u | wc -l)
  found+="pytest $version: $workers worker$([ "$workers" = 1 ] || echo s)"$'\n'
done
printf %s "$found"
[[ $found == $'pytest 8.4.2: 1 worker\npytest 9.2.0: 2 workers\n' ]] || {
  echo "changed: expected groups that pytest 9.2.0 loses" >&2
  exit 1
}
