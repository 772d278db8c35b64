#!/usr/bin/env bash
# BM25 over Wikipedia is mostly compared with Lucene's, whose English analysis stems with "Porter". Snowball has a stemmer of
# that name too, and bm25s's documentation shows PyStemmer. The two are not one: Porter's own program departs from his paper
# in three places: words of two letters are left alone, and "bli" and "logi" are suffixes. Lucene's follows the program,
# Snowball's the paper. NLTK has the program's rules under the name MARTIN_EXTENSIONS.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q --no-compile --disable-pip-version-check 'PyStemmer==3.1.0' 'nltk==3.10.4'
"$folder/venv/bin/python" - <<'PYTHON'
import Stemmer
from nltk.stem import PorterStemmer

WORDS = ["us", "as", "possibly", "terribly", "technology", "technological", "running", "cities"]
snowball = Stemmer.Stemmer("porter")
program = PorterStemmer(mode=PorterStemmer.MARTIN_EXTENSIONS)
print('title:    two stemmers named "porter" give other stems')
print("versions: PyStemmer 3.1.0, nltk 3.10.4")
print("expected: one algorithm of 1980 gives one stem a word")
differ = []
for word in WORDS:
    one, other = snowball.stemWord(word), program.stem(word)
    differ += [word] if one != other else []
    print(f"seen:     {word:14} PyStemmer {one:10} Porter's program {other}")
if differ != ["us", "as", "possibly", "terribly", "technology"]:
    raise SystemExit(f"CHANGED: the stems differ for {differ}")
PYTHON
