#!/usr/bin/env bash
# py3langid 0.4.0: an English title is "unsure", and a text loses confidence as it repeats itself.
#
# Guess: case plays no part (a sentence in capitals is recognised as well as one in small letters, so one In Title Case is
#        in between), and more of the same text makes the identifier surer, or leaves it as sure as it was.
# Seen:  only a text all in capitals is lowered before it is looked at; In Title Case the same words drop from 0.93-1.00 to
#        0.14-0.57, below any usual threshold, while the capitals score as the small letters do. And the probabilities
#        are a softmax at temperature sqrt(bytes) over log(1 + count): prose of 700,000 characters keeps 1.00, one French
#        sentence over and over falls to 0.74 at 80,000 characters and on. So `confidence >= 0.7` keeps titles, headings
#        and loops of any language in a data set that is filtered by language.
#
# Output:
#   small 0.93 to 1.00, capitals 0.93 to 1.00, title case 0.14 to 0.57
#   repeated 1 time: fr 1.00, 100 times: fr 1.00, 1000 times: fr 0.74, 5000 times: fr 0.21
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q --disable-pip-version-check py3langid==0.4.0 numpy==2.3.5
cat >"$folder/look.py" <<'PYTHON'
from py3langid.langid import MODEL_FILE, LanguageIdentifier

identify = LanguageIdentifier.from_model_file(MODEL_FILE, norm_probs=True).classify
titles = [
    "The Dog Runs Through The Garden And The Cat Sleeps On The Sofa.",
    "An Introduction To The Study Of Modern Algebra And Its Applications In Physics",
    "How To Choose The Right Insurance For Your Small Business In Five Easy Steps",
    "The Quick Guide To Writing Better Essays For University Students",
]
said = {}
for name, form in (("small", str.lower), ("capitals", str.upper), ("title case", str)):
    found = [identify(form(title)) for title in titles]
    assert {language for language, _ in found} == {"en"}
    said[name] = f"{name} {min(c for _, c in found):.2f} to {max(c for _, c in found):.2f}"
print(", ".join(said.values()))
sentence = "Le chien court dans le jardin et le chat dort sur le canapé près de la fenêtre. "
looks = []
for times in (1, 100, 1000, 5000):
    language, confidence = identify(sentence * times)
    looks.append(f"{times} time{'s' if times > 1 else ''}: {language} {confidence:.2f}")
print("repeated " + ", ".join(looks))
PYTHON
found=$("$folder/venv/bin/python" "$folder/look.py")
echo "$found"
expected="small 0.93 to 1.00, capitals 0.93 to 1.00, title case 0.14 to 0.57
repeated 1 time: fr 1.00, 100 times: fr 1.00, 1000 times: fr 0.74, 5000 times: fr 0.21"
[[ $found == "$expected" ]] || {
  echo "changed: expected the lines above" >&2
  exit 1
}
