"""The help pages: what customers read on a phone, without signing in and without a script."""

import base64
import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Final
from urllib.parse import urlencode

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from crm.care.article_search import FoundArticle, path
from crm.care.published import Published, Shelf

ASKED_MAX: Final = 200
"""How many characters of a question are looked at."""

_TEMPLATE: Final = Environment(
    loader=FileSystemLoader(Path(__file__).parent), autoescape=True, undefined=StrictUndefined, trim_blocks=True,
    lstrip_blocks=True,
).get_template("help.html")  # fmt: skip

LANGUAGES: Final[Mapping[str, str]] = {"id": "Indonesia", "en": "English"}
"""The languages that the pages themselves speak, by their own names."""
_WORDS: Final[Mapping[str, Mapping[str, str]]] = {
    "en": {
        "help": "Help", "skip": "Skip to the content", "language": "Language", "ask": "What can we help you with?",
        "search": "Search", "results": "What we found", "helped": "Did this help you?", "yes": "Yes", "no": "No",
        "thanks": "Thank you, that was noted. You can still change it.",
        "nothing": "We found nothing. Try other words, or write to us.", "others": "More", "more": "More",
        "empty": "There is nothing to read yet.", "back": "Back to all topics",
        "gone": "This page is not here, or not any more", "busy": "Too many at once. Please try again in a moment.",
        "wrong": "That did not arrive as it should. Please try again.",
    },
    "id": {
        "help": "Bantuan", "skip": "Langsung ke isi", "language": "Bahasa", "ask": "Ada yang bisa kami bantu?",
        "search": "Cari", "results": "Yang kami temukan", "helped": "Apakah ini membantu?", "yes": "Ya",
        "no": "Tidak", "thanks": "Terima kasih, sudah kami catat. Anda masih bisa mengubahnya.",
        "nothing": "Tidak ada yang cocok. Coba kata lain, atau hubungi kami.", "others": "Lainnya",
        "more": "Selengkapnya", "empty": "Belum ada yang bisa dibaca.", "back": "Kembali ke semua topik",
        "gone": "Halaman ini tidak ada, atau sudah tidak ada",
        "busy": "Terlalu banyak permintaan. Coba lagi sebentar lagi.",
        "wrong": "Kiriman tadi tidak lengkap. Silakan coba lagi.",
    },
}  # fmt: skip

_STYLE: Final = """
:root { --ink: #1c2530; --soft: #56616d; --line: #cfd6dd; --accent: #14634a; }
* { box-sizing: border-box; }
body { margin: 0; color: var(--ink); background: #f3f6f4; overflow-wrap: anywhere;
  font: 17px/1.5 system-ui, -apple-system, "Segoe UI", Roboto, "Noto Sans", sans-serif; }
header, main { max-width: 42rem; margin: 0 auto; padding: 1rem; }
header { display: grid; grid-template-columns: 1fr auto; gap: .5rem 1rem; align-items: center; }
header form { grid-column: 1 / -1; }
main { background: #fff; border-radius: 14px; padding: 1.25rem 1rem 2rem; }
a { color: var(--accent); }
a, button, input { min-height: 24px; }
:focus-visible { outline: 3px solid #7cc0a8; outline-offset: 2px; }
.brand { margin: 0; font-weight: 700; font-size: 1.2rem; }
.brand a { color: inherit; text-decoration: none; }
nav a { display: inline-block; padding: .4rem .3rem; }
nav a[aria-current] { color: inherit; font-weight: 650; text-decoration: none; }
.skip { position: absolute; left: -999rem; }
.skip:focus { left: .5rem; top: .5rem; background: #fff; padding: .5rem; }
label { font-weight: 600; }
.row { display: flex; gap: .5rem; margin-top: .4rem; }
input[type=search] { flex: 1; min-width: 0; font: inherit; padding: .65rem .7rem; border: 2px solid var(--line);
  border-radius: 10px; background: #fff; color: inherit; }
button { font: inherit; font-weight: 650; padding: .65rem 1.1rem; min-width: 5rem; color: #fff;
  background: var(--accent); border: 2px solid var(--accent); border-radius: 10px; cursor: pointer; }
button.plain { color: var(--accent); background: #fff; }
h1 { font-size: 1.45rem; line-height: 1.25; margin: 0 0 .8rem; }
h2 { font-size: 1.1rem; margin: 1.2rem 0 .3rem; }
h3, h4, h5, h6 { font-size: 1rem; margin: 1rem 0 .3rem; }
ul, ol { padding-left: 1.3rem; }
li { margin: .35rem 0; }
pre, table { display: block; max-width: 100%; overflow-x: auto; }
pre { background: #f3f6f4; padding: .7rem; border-radius: 8px; }
td, th { border: 1px solid var(--line); padding: .3rem .5rem; text-align: left; }
blockquote { margin: 0; padding-left: .8rem; border-left: 4px solid var(--line); color: var(--soft); }
mark { background: #dcefe6; color: inherit; }
.card { margin-top: 1.6rem; padding: .2rem 1rem 1rem; background: #f3f6f4; border-radius: 12px; }
.said { background: #e3f1ea; border-radius: 10px; padding: .6rem .8rem; margin: .4rem 0; }
.soft { color: var(--soft); font-size: .95rem; margin: 0 0 .6rem; }
"""

POLICY: Final = (
    "default-src 'none'; "
    f"style-src 'sha256-{base64.b64encode(hashlib.sha256(_STYLE.encode()).digest()).decode()}'; "
    "img-src data:; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)
"""The pages' Content-Security-Policy: this style, their own forms, and nothing else from anywhere."""


def language(locale: str) -> str:
    """The language that a page itself speaks, whatever that of an article is."""
    return locale if locale in LANGUAGES else "en"


def index(shelves: list[Shelf], *, locale: str, category: str | None = None) -> str:
    """All topics, or those of a category."""
    say = _WORDS[language(locale)]
    name = shelves[0].name if category and shelves else None
    ways = {code: f"/help/{code}" + (f"?{urlencode({'category': category})}" if category else "") for code in LANGUAGES}
    return _page(locale, name or say["help"], ways, indexed=True, shelves=shelves, category=category)


def results(found: list[FoundArticle], *, asked: str, locale: str) -> str:
    """What was found for a question."""
    say = _WORDS[language(locale)]
    ways = {code: f"/help/{code}?{urlencode({'q': asked})}" for code in LANGUAGES}
    return _page(locale, say["results"], ways, asked=asked, results=found)


def article(shown: Published, *, locale: str, thanked: bool = False) -> str:
    """An article, and the question whether it helped."""
    ways = {code: path(code, shown.slug) for code in LANGUAGES}
    return _page(locale, shown.title, ways, indexed=shown.locale == locale, article=shown, thanked=thanked)


def gone(reason: str, *, locale: str) -> str:
    """In place of a page: why there is none, `gone`, `busy` or `wrong`."""
    said = _WORDS[language(locale)][reason]
    return _page(locale, said, {code: f"/help/{code}" for code in LANGUAGES}, gone=said)


def _page(locale: str, title: str, ways: Mapping[str, str], *, indexed: bool = False, **parts: object) -> str:
    spoken = language(locale)
    nothing: dict[str, object] = {
        "article": None, "asked": None, "results": [], "gone": None, "shelves": [], "category": None, "thanked": False,
    }  # fmt: skip
    return _TEMPLATE.render(
        nothing | parts, locale=locale, language=spoken, say=_WORDS[spoken], title=title, style=_STYLE,
        languages=LANGUAGES.items(), elsewhere=ways.__getitem__, indexed=indexed, asked_max=ASKED_MAX,
    )  # fmt: skip
