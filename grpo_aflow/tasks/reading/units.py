"""Words beside a number: which are a unit, which change the value, which say nothing, which only name it.

`quantities`, `notation` and `latex.reader` ask here. The value of "4 million" is not 4, "5 or more" and "5 is wrong"
are no 5, and 3 hours are not 3 minutes; 6 in are 6 inches, and 15 square centimetres are 15 cm^2.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from itertools import zip_longest

_DOZENS = dict.fromkeys(("dozen", "dozens"), 12)
SCALES = {"hundred": 10**2, "thousand": 10**3, "million": 10**6, "billion": 10**9, "trillion": 10**12, **_DOZENS}

# Words after (or before) a number with which it states another value, or no single one.
_CHANGE = """
score k gross hundreds thousands millions billions trillions squared cubed factorial times plus minus
over divided by choose mod modulo multiplied pi sqrt root sin cos tan log ln half halves third thirds quarter quarters
fourth fourths fifth fifths sixth sixths seventh eighth ninth tenth tenths hundredth hundredths thousandth thousandths
or if and more less fewer greater least most than when unless where otherwise except not without between to through
from negative nonnegative positive base radians multiple multiples power pair pairs couple couples digit digits
th st nd rd bn mn is are was were be been has have had does do did will would can could may might must should equals
never cannot no neither nor
"""
# Words that may stand beside a value and say nothing of it.
_SILENT = """
a an the in of total altogether each left remaining only exactly about approximately approx roughly around respectively
i.e ie overall all together so far now today unit units
"""
# Words of two or three letters that are no product of variables.
_SHORT = """
of the to for per is are all day and in on at by we he she it its as be an if so no not one two six ten yes odd men boy
box car cat dog egg way sum bad big old new red hot wet dry few own low top raw pen cup bag hat toy bus kid
"""
# Of these, what a sentence may say beside a number all the same: "20 fewer cans", "6 times", "18 is what".
_PROSE = """
more less fewer greater over times by from through and if when where positive without between to not most least except
pi root log pair pairs couple couples digit digits th st nd rd is are was were be been has have had does do did will
would can could may might must should equals never cannot no neither nor
"""
_LETTER_SCALES = frozenset("KMB")  # 5M is five million, though 5 m are metres
_LETTER_SCALE = re.compile(r"\s*[KMB](?![\w&\\-])")  # and 5 M&Ms are sweets
_VERDICTS = frozenset({"wrong", "incorrect", "false", "invalid"})  # at the end; "5 wrong answers" are counted
_CHANGES, _SAYS_NOTHING = frozenset(_CHANGE.split()), frozenset(_SILENT.split())
_CHANGES_IN_PROSE = _CHANGES - frozenset(_PROSE.split())
SHORT_WORDS = frozenset(_SHORT.split())
_NAMES = {
    "in": "inch inches in '' \"",
    "ft": "foot feet ft '",
    "yd": "yard yards yd yds",
    "mi": "mile miles mi",
    "mm": "millimeter millimeters millimetre millimetres mm",
    "cm": "centimeter centimeters centimetre centimetres cm cms",
    "m": "meter meters metre metres m",
    "km": "kilometer kilometers kilometre kilometres km kms",
    "s": "second seconds sec secs s",
    "min": "minute minutes min mins",
    "h": "hour hours hr hrs h",
    "day": "day days",
    "week": "week weeks wk wks",
    "month": "month months",
    "year": "year years yr yrs",
    "g": "gram grams g",
    "kg": "kilogram kilograms kg kgs",
    "mg": "milligram milligrams mg",
    "lb": "pound pounds lb lbs",
    "oz": "ounce ounces oz",
    "ton": "ton tons tonne tonnes",
    "l": "liter liters litre litres l",
    "ml": "milliliter milliliters millilitre ml",
    "gal": "gallon gallons gal",
    "$": "dollar dollars usd buck bucks",
    "cent": "cent cents",
    "%": "percent percentage pct",
    "deg": "degree degrees deg",
    "am": "am a.m",
    "pm": "pm p.m",
    "sq": "square sq",
    "cu": "cubic cu",
    "/": "per / a",
    "mph": "mph",
}
_KNOWN = {name: canonical for canonical, names in _NAMES.items() for name in names.split() if name != "a"}
SHORT_UNITS = frozenset(name for name in _KNOWN if 2 <= len(name) <= 3 and name.isalpha()) - {"in", "am", "a.m"}
_WORD = re.compile(
    r"[A-Za-z]+n't|[A-Za-z]+(?:\.[A-Za-z]+)*|\^\s?\{?\s?[23]\s?\}?|(?<=[a-z])[23](?!\w)|/|''|'|\"|%", re.I
)
_BETWEEN_WORDS = re.compile(r"(?:[\s.,;:(){}\[\]-]|\\?&|(?![十百千万萬亿億])[^\W\d_])*")

_CHOICE = re.compile(r"\(?[A-H]\s?[).:]|\([A-H]\)\s?[:.]?")
_LABEL = re.compile(r"[A-Za-z'’,()\s-]+[:=]?")
# Words with which a label does not name the value that follows, but denies it or says something else of it.
_NO_LABEL = re.compile(
    r"\b(?:not?|none|nothing|never|neither|nor|cannot|\w+n't|wrong\w*|incorrect\w*|false\w*|invalid|undefined|"
    r"impossible|mistake\w*|errors?|guess\w*|instead|rather|or|if|unless|except|than|more|less|fewer|between|"
    r"at (?:least|most)|up to|about|around|approx\w*|roughly|nearly|almost|estimate\w*|half|halves|thirds?|quarters?|"
    r"tenths?|tens|dozens?|hundred\w*|thousand\w*|million\w*|billion\w*|trillion\w*|double\w*|twice|triple\w*|times|"
    r"squared|cubed|(?:square|cube) of|roots? of|sqrt|power|factorial|logarithms?|log|ln|negative|opposite|reciprocal|"
    r"inverse|minus|plus|over|divided|multiplied|mod|modulo|base)\b",
    re.I,
)
_STATES = re.compile(
    r"\b(?:is|are|was|were|be|equals?|makes?|gives?|gets?|has|have|needs?|costs?|earns?|pays?|takes?|spends?|saves?|"
    r"sells?|weighs?)\Z",
    re.I,
)


@dataclass(frozen=True, kw_only=True, slots=True)
class Unit:
    """The words beside a number: known units in one spelling, and the others (the things that are counted)."""

    known: tuple[str, ...] = ()
    others: frozenset[str] = frozenset()

    def agrees_with(self, other: Unit) -> bool:
        """Whether two answers may mean the same thing; a side without a unit leaves it open."""
        if not (self.known or self.others) or not (other.known or other.others):
            return True
        if self.known and other.known and self.known != other.known:
            return False
        if self.others and other.others:
            return self.others <= other.others or other.others <= self.others
        return bool(self.known and other.known) or not (self.known or other.known)


@dataclass(frozen=True, kw_only=True, slots=True)
class Beside:
    """What the words beside a number do: scale it by a factor, name its unit."""

    factor: int
    unit: Unit
    is_dozens: bool = False


def is_unit(word: str) -> bool:
    """Whether a word is a unit that may stand beside a number without a space: 5cm, 20kg; not 4x, 70k."""
    return word.lower() in _KNOWN and word not in _LETTER_SCALES


def is_label(words: str) -> bool:
    """Whether words before a value only name it: "(A)", "Total:", "The area is"; not "June", "half of it is"."""
    words = words.strip()
    if _CHOICE.fullmatch(words):
        return True
    names = _LABEL.fullmatch(words) and not _NO_LABEL.search(words)
    return bool(names) and bool(words[-1] in ":=" or _STATES.search(words))


def read_words(words: str, *, in_prose: bool = False) -> Beside | None:
    """What the words beside a number say; None where with them it is another value, or no single one.

    in_prose: they belong to a sentence, which may go on ("5 more apples than Tom"), not to a formula.
    """
    changes = _CHANGES_IN_PROSE if in_prose else _CHANGES
    factor = 1
    known: list[str] = []
    others: set[str] = set()
    found = _WORD.findall(words)
    if _LETTER_SCALE.match(words):
        return None
    is_denied = bool(found) and found[-1].lower() in _VERDICTS
    if not in_prose and (is_denied or not _BETWEEN_WORDS.fullmatch(_WORD.sub("", words))):
        return None  # "wrong", a question mark, another number
    for word, following in zip_longest(found, found[1:], fillvalue="^"):
        lower = word.lower()
        if lower == "in" and following[0] != "^":
            continue  # "5 apples in total", not inches
        if lower in ("more", "fewer") and (following == "^" or following.lower() not in _CHANGES):
            continue  # "22 more euros", not "22 more than"
        if lower in SCALES and not known and not others:
            factor *= SCALES[lower]
        elif lower in changes or lower in SCALES or (lower.endswith("n't") and not in_prose):
            return None
        elif word[0] in "^23":
            known.append(_power(known, word))
        elif lower in _KNOWN:
            known.append(_KNOWN[lower])
        elif lower not in _SAYS_NOTHING:
            others.add(lower.removesuffix("s"))
    return Beside(
        factor=factor,
        unit=Unit(known=_in_one_spelling(known), others=frozenset(others)),
        is_dozens=any(word.lower() in _DOZENS for word in found),
    )


def _power(known: list[str], word: str) -> str:
    unit = known.pop() if known else ""
    return f"{unit}^{'3' if '3' in word else '2'}"


def _in_one_spelling(known: list[str]) -> tuple[str, ...]:
    """sq cm -> cm^2, mph -> mi / h."""
    spelt: list[str] = []
    power = ""
    for unit in known:
        if unit in ("sq", "cu"):
            power = "^2" if unit == "sq" else "^3"
            continue
        spelt += ["mi", "/", "h"] if unit == "mph" else [unit + power]
        power = ""
    return tuple(spelt)
