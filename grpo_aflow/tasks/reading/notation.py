"""One spelling for the many ways in which mathematics is typed: Unicode signs, LaTeX spacing, styles and separators.

First step of every maths grade: `quantities` and `latex.reader`, which read an answer, work on the result, so that
"−½", "-\\dfrac12" and "$-\\frac{1}{2}$" are the same text to both.
"""

from __future__ import annotations

import re
import unicodedata

from grpo_aflow.tasks.reading.units import is_label

_SIGNS = {
    **dict.fromkeys("−‐‑‒–—﹣－", "-"),
    **dict.fromkeys("×✕⨯", r"\times "),
    **dict.fromkeys("·⋅∙•", r"\cdot "),
    **dict.fromkeys("“”„″", '"'),
    **dict.fromkeys("‘’′", "'"),
    **dict.fromkeys("\u200b\u200c\u200d\u2060\ufeff\u00ad", ""),
    **dict.fromkeys("€£¥", "$"),
    "÷": r"\div ", "∕": "/", "⁄": "/", "±": r"\pm ", "∓": r"\mp ", "√": r"\sqrt ", "∛": r"\sqrt[3] ", "∜": r"\sqrt[4] ",
    "∞": r"\infty ", "≤": r"\le ", "≥": r"\ge ", "⩽": r"\le ", "⩾": r"\ge ", "≠": r"\ne ", "≈": r"\approx ",
    "∈": r"\in ", "∪": r"\cup ", "∩": r"\cap ", "∅": r"\emptyset ", "°": r"^\circ ", "º": r"^\circ ", "…": r"\ldots ",
    "¢": " cents ", "‰": " permille ", "ℝ": r"\mathbb{R}", "ℤ": r"\mathbb{Z}", "⟨": r"\langle ",
    "⟩": r"\rangle ", "→": r"\to ", "∧": r"\land ", "∨": r"\lor ", "∠": r"\angle ", "⌊": r"\lfloor ",
    "⌋": r"\rfloor ", "⌈": r"\lceil ", "⌉": r"\rceil ",
}  # fmt: skip
_GREEK_NAMES = (
    "alpha beta gamma delta epsilon zeta eta theta iota kappa lambda mu nu xi pi rho sigma tau upsilon phi chi psi "
    "omega Gamma Delta Theta Lambda Xi Pi Sigma Phi Psi Omega"
)
_GREEK = dict(zip("αβγδεζηθικλμνξπρστυφχψωΓΔΘΛΞΠΣΦΨΩ", _GREEK_NAMES.split(), strict=True))
_TABLE = str.maketrans(_SIGNS | {letter: f"\\{name} " for letter, name in _GREEK.items()})
_SUPERSCRIPTS = str.maketrans("⁰¹²³⁴⁵⁶⁷⁸⁹⁺⁻ⁿⁱ", "0123456789+-ni")
_SUBSCRIPTS = str.maketrans("₀₁₂₃₄₅₆₇₈₉", "0123456789")
_SUPERSCRIPT_RUN = re.compile("[⁰¹²³⁴⁵⁶⁷⁸⁹⁺⁻ⁿⁱ]+")
_SUBSCRIPT_RUN = re.compile("[₀₁₂₃₄₅₆₇₈₉]+")
_DEGREE = re.compile(
    r"\^\s?(?:\{\s?\\(?:circ|degree)\s?\}|\\(?:circ|degree)(?![A-Za-z]))|\\(?:degree|textdegree)(?![A-Za-z])"
)

_BRACKETS = {"\\lbrace": "\\{", "\\rbrace": "\\}", "\\lbrack": "[", "\\rbrack": "]"}
_SIZES = re.compile(
    r"\\(?:left|right|[bB]ig{1,2}[lrm]?|middle|displaystyle|textstyle|scriptstyle|limits|nolimits|rm|bf|it|hfill|"
    r"ensuremath|strut|hspace\{[^{}]*\}|phantom\{[^{}]*\})(?![A-Za-z])"
)
_TEXT = re.compile(r"\\(?:text(?:bf|it|rm|sf|tt|sc|normal|up)?|mbox|hbox|textnormal|mathrm|mathsf|mathit)\s?\{")
# Unit vectors, and the set of the real numbers: letters whose style says what they are.
_UNIT_VECTOR = re.compile(
    r"\\(?:hat|widehat|vec)\s?(\{\s?)?(\{\s?)?\\?([ijk])(?:math)?(?![A-Za-z])(?(2)\s?\})(?(1)\s?\})"
)
_REALS = re.compile(r"\\mathbb\s?(?:\{\s?R\s?\}|R(?![A-Za-z]))|\\(?:R|Reals|reals)(?![A-Za-z])")
_OF_CHANCE = re.compile(r"\\mathbb\s?\{\s?([EP])\s?\}|\\(P)r(?![A-Za-z])")  # expectation and probability
_STYLE = re.compile(r"\\(?:boldsymbol|mathbf|bm|mathnormal|underline|emph|color\{[^{}]*\}|textcolor\{[^{}]*\})\s?\{")
_FRACTIONS = re.compile(r"\\[dtc]frac(?![A-Za-z])")
_SPACES = re.compile(r"(?<!\\)\\[,;:! ]|\\q?quad(?![A-Za-z])|\\(?:thin|med|thick)space(?![A-Za-z])|~|\s")
_GROUPS = re.compile(r"(?<![\d.,])(\d{1,3})((?:(?:,?\\[,!;: ]|\{,\},?|,?\s)\s?\d{3})+)(?![\d])(?!\s?\\[dtc]?frac|\s?/)")
_DOTS = re.compile(r"\\(?:dots[cbmio]?|cdots|hdots)(?![A-Za-z])|\.\.\.+")
_LEADING_TEXT = re.compile(r"\\text\{([^{}]{1,100})\}\s?(:?)\s?(?=\S)")
_ROW_GAP = re.compile(r"\\\\\s?\[\s?-?[\d.]+\s?(?:pt|em|ex|mm|cm|in)\s?\]")  # \\\\[4pt] between rows
_BRACED_COMMA = re.compile(r"\{,\}")


def unicode_to_latex(text: str) -> str:
    """Signs, Greek letters, fractions, roots, powers and digits of Unicode as ASCII and LaTeX; lengths may change."""
    if text.isascii():
        return text
    text = _SUPERSCRIPT_RUN.sub(lambda run: f"^{{{run.group().translate(_SUPERSCRIPTS)}}}", text)
    text = _SUBSCRIPT_RUN.sub(lambda run: f"_{{{run.group().translate(_SUBSCRIPTS)}}}", text)
    text = text.translate(_TABLE)
    return text if text.isascii() else "".join(map(_character, text))


def plain_latex(text: str) -> str:
    """LaTeX without spacing, sizes and styles, text commands as `\\text{...}`, thousands joined, signs in ASCII.

    Spaces collapse to one; a label before the value, `\\$` and dollar signs go; "10\\,080", "10{,}080", "10,\\!080" and
    "10 080" become 10080 (a plain comma stays, since it may separate a list).
    """
    text = unicode_to_latex(text).replace("\\$", "").replace("\\textdollar", "").replace("$", " ")
    for name, bracket in _BRACKETS.items():
        text = text.replace(name, bracket)
    text = _ROW_GAP.sub(r"\\\\", _SIZES.sub("", text))
    text = _DOTS.sub(r"\\ldots ", text)
    text = _GROUPS.sub(lambda match: match[1] + re.sub(r"\D", "", match[2]), text)
    text = _DEGREE.sub(r"\\circ ", _FRACTIONS.sub(r"\\frac", _BRACED_COMMA.sub(",", text)))
    text = _STYLE.sub("{", _TEXT.sub(r"\\text{", text))
    text = _OF_CHANCE.sub(r"\1\2", text)
    text = _REALS.sub(r"\\R ", _UNIT_VECTOR.sub(r"{\3}", text))
    return _without_label(" ".join(_SPACES.sub(" ", text).split()))


def _without_label(text: str) -> str:
    """The text without the words that stand before its value and name it: \\text{Total: } 18, \\textbf{(C)} 5."""
    match = _LEADING_TEXT.match(text)
    return text[match.end() :] if match and is_label(match[1] + match[2]) else text


def _character(character: str) -> str:
    """NFKC where it keeps the meaning: wide digits and letters, vulgar fractions, odd spaces."""
    if character.isascii():
        return character
    name = unicodedata.normalize("NFKC", character)
    if "⁄" in name:
        above, below = name.split("⁄")
        return f"\\frac{{{above}}}{{{below}}}" if below else character
    return name if len(name) == 1 and name.isascii() else (" " if character.isspace() else character)
