"""Text out of bytes whose charset is named, misnamed, or not named at all."""

import base64
import binascii
import codecs
import quopri
import re
from typing import Final

# Encodings that Python knows and no mail is in; reading some of them takes time that grows with the square of a text.
_NO_CHARSETS: Final = frozenset(
    {"idna", "punycode", "raw-unicode-escape", "unicode-escape", "undefined", "mbcs", "oem"}
)
_WORD: Final = re.compile(r"=\?([^?*\s]{1,60})(?:\*[^?\s]{0,60})?\?([bq])\?([^?\r\n]*)\?=", re.ASCII | re.IGNORECASE)
_BETWEEN_WORDS: Final = re.compile(r"(?<=\?=)\s+(?==\?)")
_FOLD: Final = re.compile(r"[\r\n]+[ \t]*")


def decoded(raw: bytes, charset: str | None) -> str:
    """The text; what fits no charset is read as the one that fits everything. No NUL, no half characters."""
    for name in (charset, "utf-8", "windows-1252"):
        try:
            if name and codecs.lookup(name).name not in _NO_CHARSETS:
                return _whole(raw.decode(name))
        except (LookupError, ValueError):
            continue
    return _whole(raw.decode("latin-1"))


def unfolded(header: str) -> str:
    """A header with its encoded words (RFC 2047) read, in one line."""
    text = _BETWEEN_WORDS.sub("", _FOLD.sub(" ", header))
    found: list[str] = []
    waiting: tuple[str, bytes] | None = None
    end = 0
    # Words side by side in one charset are put together first: some senders cut a character in two.
    for word in _WORD.finditer(text):
        if waiting is not None and (word.start() != end or waiting[0] != word[1].lower()):
            found.append(decoded(waiting[1], waiting[0]))
            waiting = None
        found.append(text[end : word.start()])
        waiting = word[1].lower(), (waiting[1] if waiting else b"") + _bytes(word[2].lower(), word[3])
        end = word.end()
    if waiting is not None:
        found.append(decoded(waiting[1], waiting[0]))
    return _whole("".join(found) + text[end:]).strip()


def _bytes(encoding: str, text: str) -> bytes:
    raw = text.encode("utf-8", "replace")
    if encoding == "q":
        return quopri.decodestring(raw, header=True)
    try:
        return base64.b64decode(raw + b"=" * (-len(raw) % 4))
    except binascii.Error:
        return raw


def _whole(text: str) -> str:
    return text.replace("\x00", "\ufffd").encode("utf-8", "replace").decode()
