"""What somebody wrote in a mail: HTML as text, and without what they only quoted."""

import re
from html import unescape
from html.parser import HTMLParser
from typing import Final

LENGTH_MAX: Final = 200_000
"""How much of a body is looked at, in characters."""
_ATTRIBUTION_LINES_MAX: Final = 3
_HEADERS_WITHIN: Final = 5

# Declarations, comments and conditional comments hold nothing to read, and some of them stop the parser.
_NO_TEXT: Final = re.compile(r"<!--.*?(?:-->|\Z)|<[!?][^>]*(?:>|\Z)", re.DOTALL)
_TAG: Final = re.compile(r"<[^<>]*>")
_SPACES: Final = re.compile(r"[ \t\r\n\f\u00a0]+")
_BLANK_LINES: Final = re.compile(r"\n{3,}")

_SILENT: Final = frozenset({"head", "script", "style", "template", "title"})
_BLOCKS: Final = frozenset({
    "address", "article", "blockquote", "dd", "div", "dl", "dt", "footer", "form", "h1", "h2", "h3", "h4", "h5", "h6",
    "header", "hr", "li", "ol", "p", "pre", "section", "table", "tr", "ul",
})  # fmt: skip
_QUOTES: Final = re.compile(r"\b(?:gmail_quote|yahoo_quoted|protonmail_quote|moz-cite-prefix|divRplyFwdMsg)\b")

_QUOTED: Final = re.compile(r"\s{0,3}>")
_DIVIDER: Final = re.compile(
    r"\s*(?:[-_\u2014]{2,}\s*(?:original message|forwarded message|pesan asli|pesan terusan|ursprüngliche nachricht"
    r"|message d'origine|mensaje original|messaggio originale|oorspronkelijk bericht)\s*[-_\u2014]{2,}|_{20,})\s*\Z",
    re.IGNORECASE,
)
_FROM: Final = re.compile(r"\s*\*?(?:from|dari|von|de|da|van|发件人|差出人)\s?[:\uff1a]", re.IGNORECASE)
_OTHER_HEADER: Final = re.compile(
    r"\s*\*?(?:sent|date|to|subject|terkirim|dikirim|tanggal|kepada|perihal|subjek|gesendet|an|datum|betreff|envoyé|à"
    r"|objet|enviado|para|asunto|inviato|oggetto|verzonden|aan|onderwerp)\s?[:\uff1a]",
    re.IGNORECASE,
)
_WROTE: Final = r"(?:wrote|menulis|schrieb|écrit|escribió|scritto|schreef|escreveu)\b[^\n]{0,100}[:\uff1a]\s*"
_ATTRIBUTION: Final = re.compile(rf"\s*(?:On|Pada|Am|Le|El|Il|Op|Em)\b.{{0,400}}{_WROTE}", re.IGNORECASE)
_SHORT_ATTRIBUTION: Final = re.compile(rf".{{0,200}}{_WROTE}", re.IGNORECASE)


def new_text(text: str) -> tuple[str, bool]:
    """A mail's text without what is quoted below it, and whether there was any; what is quoted in between stays."""
    lines = text[:LENGTH_MAX].replace("\r\n", "\n").replace("\r", "\n").split("\n")
    kept = _without_trailing_quote(lines[: _divided_at(lines)])
    found = "\n".join(kept).strip()
    whole = "\n".join(lines).strip()
    # Nothing but a quote is all that they sent.
    return (found, found != whole) if found else (whole, False)


def of_html(html: str) -> str:
    """The text of an HTML body; quotes are marked as in plain text. Nothing of it is ever shown as HTML."""
    reader = _Reader()
    try:
        reader.feed(_NO_TEXT.sub("", html[:LENGTH_MAX]))
        reader.close()
    except AssertionError:  # how the parser says that something is none of its business
        return unescape(_TAG.sub(" ", html[:LENGTH_MAX])).strip()
    return reader.text()


def _divided_at(lines: list[str]) -> int:
    """Where the mail that was answered begins, as a mail program writes it without quote marks."""
    for place, line in enumerate(lines):
        if _DIVIDER.match(line):
            return place
        if _FROM.match(line):
            others = [each for each in lines[place + 1 : place + _HEADERS_WITHIN] if _OTHER_HEADER.match(each)]
            if len(others) > 1:
                return place
    return len(lines)


def _without_trailing_quote(lines: list[str]) -> list[str]:
    end = len(lines)
    quoted = False
    while end and (not lines[end - 1].strip() or _QUOTED.match(lines[end - 1])):
        quoted = quoted or bool(lines[end - 1].strip())
        end -= 1
    if not end:
        return []
    # Without a quote behind it, the same words may be how somebody ends a sentence.
    return lines[: _attribution(lines[:end])] if quoted else lines[:end]


def _attribution(lines: list[str]) -> int:
    """Where the line begins, often broken into several, that says who wrote what follows."""
    for count in range(1, min(_ATTRIBUTION_LINES_MAX, len(lines)) + 1):
        if _ATTRIBUTION.fullmatch(" ".join(lines[-count:])):
            return len(lines) - count
    return len(lines) - bool(_SHORT_ATTRIBUTION.fullmatch(lines[-1]))


class _Reader(HTMLParser):
    """Collects lines; `_depth` is how deep in quotes they stand."""

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self._lines: list[str] = []
        self._line: list[str] = []
        self._silent = 0
        self._open: list[tuple[str, bool]] = []
        self._depth = 0
        self._preformatted = 0

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag in _SILENT:
            self._silent += 1
        elif tag == "br":
            self._end_line()
        elif tag in _BLOCKS:
            self._begin_block(tag, attrs)
        elif tag in {"td", "th"}:
            self._line.append(" ")

    def handle_endtag(self, tag: str) -> None:
        if tag in _SILENT:
            self._silent = max(0, self._silent - 1)
        elif tag in _BLOCKS:
            self._end_line()
            self._close(tag)
            if tag in {"p", "blockquote", "table", "ul", "ol"}:
                self._lines.append("")

    def handle_data(self, data: str) -> None:
        if self._silent:
            return
        if self._preformatted:
            first, *others = data.split("\n")
            self._line.append(first)
            for line in others:
                self._end_line()
                self._line.append(line)
        else:
            self._line.append(_SPACES.sub(" ", data))

    def text(self) -> str:
        self._end_line()
        return _BLANK_LINES.sub("\n\n", "\n".join(self._lines)).strip()

    def _begin_block(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self._end_line()
        quotes = tag == "blockquote" or any(
            name in {"class", "id"} and _QUOTES.search(value or "") is not None for name, value in attrs
        )
        if tag != "hr":
            self._open.append((tag, quotes))
            self._depth += quotes
            self._preformatted += tag == "pre"
        if tag == "li":
            self._line.append("- ")

    def _close(self, tag: str) -> None:
        # What was left open inside ends here too; an end without its beginning ends nothing.
        if not any(name == tag for name, _ in self._open[-50:]):
            return
        while self._open:
            name, quotes = self._open.pop()
            self._depth -= quotes
            self._preformatted -= name == "pre"
            if name == tag:
                return

    def _end_line(self) -> None:
        line = "".join(self._line)
        line = line.rstrip() if self._preformatted else _SPACES.sub(" ", line).strip()
        self._line = []
        if line or (self._lines and self._lines[-1]):
            mark = "> " * min(self._depth, 5)
            self._lines.append(f"{mark}{line}".rstrip() if line else "")
