# SPDX-License-Identifier: Apache-2.0
"""Words of Switchboard's transcripts and of the Hub5 reference, in one notation, lower case.

After Kaldi's Switchboard recipe where it has a rule:

* "[noise]", "[silence]", "[laughter]", "[vocalized-noise]", "<b_aside>", "<e_aside>" are removed.
* "[laughter-word]" becomes "word", "[meant/said]" "meant", "{coined}" "coined", "them_1" "them".
* Fragments, "th[e]-" or "-[a]bout", and hesitations, "uh" or "um", are removed from training and
  reference texts alike, for want of the rules (GLM) by which NIST's scoring forgives them. Where
  hesitations are kept, "%hesitation" of the reference is "uh".
"""

import re

# Words that NIST's rules of 2000 map to %hesitation (recalled, not checked).
HESITATIONS = {
    *("uh", "um", "eh", "mm", "hm", "ah", "huh", "ha", "er", "oof", "hee", "ach", "eee", "ew"),
}
NOT_WORDS = re.compile(r"\[(?!laughter-)[^\[\]/]*\]|<[^<>]*>")
LAUGHED = re.compile(r"(-?)\[laughter-(.+)\](-?)")
MEANT = re.compile(r"\[([^\[\]/]+)/[^\[\]]+\](-?)")
COINED = re.compile(r"\{(.+)\}")
VARIANT = re.compile(r"_\d+$|\[\d+\]$")
ALTERNATIVES = re.compile(r"\{([^{}/]*)/[^{}]*\}")
CONTRACTION = re.compile(r'<contraction\s+e_form="[^"]*">')
MARKS = re.compile(r"<[^<>]*>|[()]")


def clean(text: str, hesitations: bool = False) -> str:
    """Return the words of an MS-State transcript; empty if there is none.

    Args:
        text: What follows the times in a line of ``swNNNNA-ms98-a-trans.text``.
        hesitations: Whether they stay.

    >>> clean("[laughter-yeah] uh th[e]- [it'n/isn't] them_1 {yuppiedom} [noise]")
    "yeah it'n them yuppiedom"
    """
    words = []
    for token in text.lower().split():
        if NOT_WORDS.fullmatch(token):
            continue
        if match := LAUGHED.fullmatch(token):
            token = "".join(match.groups())
        if match := MEANT.fullmatch(token):
            token = "".join(match.groups())
        if match := COINED.fullmatch(token):
            token = match[1]
        words.append(VARIANT.sub("", token))
    return _join(words, hesitations)


def clean_stm(text: str, hesitations: bool = False) -> str:
    """Return the words of a reference; of alternatives the first, optional words as any other.

    Args:
        text: What follows the label in a line of ``hub5e00.english.000405.stm``.
        hesitations: Whether they stay.

    >>> clean_stm("we (%hesitation) { gonna / going to } (th-) go")
    'we gonna go'
    """
    text = ALTERNATIVES.sub(r" \1 ", CONTRACTION.sub("", text.lower()))
    words = ["uh" if w == "%hesitation" else w for w in MARKS.sub(" ", text).split()]
    return _join([w for w in words if w != "@"], hesitations)


def _join(words: list[str], hesitations: bool) -> str:
    whole = [w for w in words if not (w.startswith("-") or w.endswith("-") or "[" in w)]
    return " ".join(w for w in whole if hesitations or w not in HESITATIONS)
