"""Whether an answer has got into a loop. No I/O, no clock.

Two signs are looked for, each at a cost that does not grow with the answer:

- The latest text is one piece over and over, letter for letter: at least 1,500 characters, and at least three times. Pieces
  up to 500 characters are found within 2,000, longer ones, up to 1,300, with their third time.
- 2,000 characters of prose that are made of 16 different words.

Tables, arrays, code and logs repeat their form, and not their letters, and are no prose. Nothing that differs in so much
as a number counts as repeated: it may be what was asked for.
"""

CHECK_EVERY = 200
"""Characters between two looks at the latest text."""

TAIL = 4_096
"""Characters that are kept to look at."""

LOOP, TIMES, LONGEST = 1_500, 3, 1_300  # characters of a loop, its repetitions, characters of a piece
KEY = 96  # last characters, by which the piece is found
WORDS_EVERY = 5 * CHECK_EVERY  # characters between two counts of words
PROSE = 2_000  # characters whose words are counted
FEWEST_WORDS, NOVEL_WORDS = 150, 17  # fewer words there are no prose; so many different ones are no loop
WORDS_PER_PHRASE = 2.5  # lists of labels have fewer
WORDS_PER_LINE = 10  # grids and lists of steps have fewer

_ENDS = ".,;:!?…\n"
_AROUND = _ENDS + "'’“”()*-–—"


class Repetition:
    """Takes the text of one answer, piece by piece."""

    __slots__ = ("_fresh", "_pieces", "_tail", "_until_words", "period")

    def __init__(self) -> None:
        self.period = 0  # characters of the piece that is repeated, once it is found
        self._tail = ""
        self._pieces: list[str] = []  # since the last look
        self._fresh = 0  # their length
        self._until_words = WORDS_EVERY

    def feed(self, text: str) -> bool:
        """Whether the answer is in a loop now."""
        self._pieces.append(text)
        self._fresh += len(text)
        if self._fresh < CHECK_EVERY:
            return False
        text, self._pieces, self._fresh = "".join(self._pieces), [], 0
        return any(self._look(text[at : at + CHECK_EVERY]) for at in range(0, len(text), CHECK_EVERY))

    def _look(self, text: str) -> bool:
        self._tail = tail = (self._tail + text)[-TAIL:]
        self._until_words -= len(text)
        if self._until_words <= 0:
            self._until_words = WORDS_EVERY
            if len(tail) >= PROSE and _says_little(tail[-PROSE:]):
                return True
        self.period = _period(tail) if len(tail) >= LOOP else 0
        return self.period > 0


def without_loop(text: str, period: int) -> str:
    """The text without what a loop at its end repeats, so that it ends as it did; `period` is `Repetition.period`.

    Where words are repeated in any order, it is the text before them.
    """
    end = len(text)
    if not period:
        while _says_little(text[max(0, end - PROSE) : end]):
            end -= CHECK_EVERY
        return text[: max(0, end + CHECK_EVERY - PROSE)]
    while end >= 2 * period and text[end - period : end] == text[end - 2 * period : end - period]:
        end -= period
    return text[:end]


def _period(tail: str) -> int:
    """The length of the piece that the end of `tail` repeats, found by where its last letters stand before; 0: none."""
    key, at = tail[-KEY:], len(tail) - 1
    first = max(0, at - LONGEST - KEY)
    for _ in range(3):  # a piece may hold its own last letters more than once
        at = tail.rfind(key, first, at)
        if at < 0:
            return 0
        period = len(tail) - KEY - at
        span = max(LOOP, TIMES * period)
        if span > len(tail):
            return 0
        if tail[-span:-period] == tail[period - span :]:
            return period
        at += KEY - 1
    return 0


def _says_little(text: str) -> bool:
    """Whether it is prose of few words. Lists of labels, of which there are few too, have no phrases, or short lines."""
    words = text.split()
    written = set(words)
    if len(words) < FEWEST_WORDS or len(written) > 2 * NOVEL_WORDS:
        return False
    known = {word.strip(_AROUND).lower() for word in written} - {""}
    if len(known) >= NOVEL_WORDS or not all(word.replace("'", "").replace("’", "").isalpha() for word in known):
        return False
    phrases = 1 + sum([text.count(end) for end in _ENDS])
    return len(words) >= max(WORDS_PER_PHRASE * phrases, WORDS_PER_LINE * text.count("\n"))
