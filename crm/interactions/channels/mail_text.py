"""What somebody wrote in a mail: HTML as text, and without what they only quoted."""

import re
from html import unescape
from typing import Final

LENGTH_MAX: Final = 200_000
"""How much of a body is looked at, in characters."""
_ATTRIBUTION_LINES_MAX: Final = 3
_HEADERS_WITHIN: Final = 5

# What is written here is for programs. Unclosed, all behind it is.
_NO_TEXT: Final = re.compile(
    r"<!--.*?(?:-->|\Z)|<(script|style|template|title)\b.*?(?:</\1\s*>|\Z)|<[!?][^>]*(?:>|\Z)",
    re.DOTALL | re.IGNORECASE,
)
# Nowhere in it can one place be read in two ways: its time grows with the length of a body and no faster, which can't
# be said of the parser that Python has.
_TAG: Final = re.compile(r"""<(/?)([a-z][a-z0-9:-]*+)((?:"[^"]*+"|'[^']*+'|[^"'<>]++)*+)>""", re.IGNORECASE)
_UNFINISHED: Final = re.compile(r"<[a-z/][^<>]*\Z", re.IGNORECASE)
_SPACES: Final = re.compile(r"[ \t\r\n\f\u00a0]+")
_BLANK_LINES: Final = re.compile(r"\n{3,}")

_BLOCKS: Final = frozenset({
    "address", "article", "blockquote", "dd", "div", "dl", "dt", "footer", "form", "h1", "h2", "h3", "h4", "h5", "h6",
    "header", "hr", "li", "ol", "p", "pre", "section", "table", "tr", "ul",
})  # fmt: skip
_SPACED: Final = frozenset({"p", "table", "ul", "ol"})
_DEPTH_MAX: Final = 50
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
    html = _UNFINISHED.sub("", _NO_TEXT.sub("", html[:LENGTH_MAX]))
    page = _Page()
    end = 0
    for tag in _TAG.finditer(html):
        page.write(unescape(html[end : tag.start()]))
        end = tag.end()
        if tag[1]:
            page.close(tag[2].lower())
        else:
            page.open(tag[2].lower(), tag[3])
    page.write(unescape(html[end:]))
    return page.text()


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


class _Page:
    """Lines as they are read from HTML, with the elements that are open at the moment."""

    def __init__(self) -> None:
        self._lines: list[str] = []
        self._line: list[str] = []
        self._open: list[tuple[str, bool]] = []

    def open(self, tag: str, attributes: str) -> None:
        if tag == "br":
            self._end_line(blank=True)
        elif tag in {"td", "th"}:
            self._line.append(" ")
        elif tag in _BLOCKS:
            self._end_line()
            quotes = tag == "blockquote" or _QUOTES.search(attributes) is not None
            if tag != "hr" and len(self._open) < _DEPTH_MAX:
                self._open.append((tag, quotes))
            if tag == "li":
                self._line.append("- ")

    def close(self, tag: str) -> None:
        if tag not in _BLOCKS:
            return
        self._end_line()
        # What was left open inside ends here too; an end without a beginning ends nothing.
        if any(name == tag for name, _ in self._open):
            while self._open.pop()[0] != tag:
                pass
        if tag in _SPACED:
            self._end_line(blank=True)

    def write(self, text: str) -> None:
        if not any(name == "pre" for name, _ in self._open):
            self._line.append(_SPACES.sub(" ", text))
            return
        first, *others = text.split("\n")
        self._line.append(first)
        for line in others:
            self._end_line(blank=True)
            self._line.append(line)

    def text(self) -> str:
        self._end_line()
        return _BLANK_LINES.sub("\n\n", "\n".join(self._lines)).strip()

    def _end_line(self, *, blank: bool = False) -> None:
        line = "".join(self._line)
        self._line = []
        if not any(name == "pre" for name, _ in self._open):
            line = _SPACES.sub(" ", line).strip()
        if line.strip() or blank:
            mark = "> " * sum(quotes for _, quotes in self._open) if line.strip() else ""
            self._lines.append(f"{mark}{line}".rstrip())
