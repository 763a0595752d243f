"""Markdown as HTML that is safe on any page, and as text without its marks. Pure.

HTML in it is text. A picture becomes a link to it: a page of ours loads nothing from another host.
"""

import functools
import re
from collections.abc import Iterator, MutableMapping, Sequence
from typing import Any, Final

import nh3
from markdown_it import MarkdownIt
from markdown_it.common.utils import escapeHtml
from markdown_it.renderer import RendererHTML
from markdown_it.token import Token
from markdown_it.utils import OptionsDict

TAGS: Final = frozenset({
    "a", "blockquote", "br", "code", "em", "h2", "h3", "h4", "h5", "h6", "hr", "li", "ol", "p", "pre", "s", "strong",
    "table", "tbody", "td", "th", "thead", "tr", "ul",
})  # fmt: skip
SCHEMES: Final = frozenset({"http", "https", "mailto", "tel"})
_HEADING_MAX: Final = 6
_SPACES: Final = re.compile(r"\s+")


def _picture(
    renderer: RendererHTML, tokens: Sequence[Token], place: int, options: OptionsDict, env: MutableMapping[str, Any]
) -> str:
    token = tokens[place]
    address = str(token.attrs.get("src", ""))
    shown = renderer.renderInlineAsText(token.children or [], options, env) or address
    return f'<a href="{escapeHtml(address)}">{escapeHtml(shown)}</a>'


_READER: Final = MarkdownIt("commonmark", {"html": False}).enable(["table", "strikethrough"])
_READER.add_render_rule("image", _picture)


@functools.lru_cache(maxsize=256)
def html(text: str) -> str:
    """The text as HTML; its headings begin below that of the page."""
    tokens = _READER.parse(text)
    for token in tokens:
        if token.type in {"heading_open", "heading_close"}:
            token.tag = f"h{min(int(token.tag[1]) + 1, _HEADING_MAX)}"
    rendered: str = _READER.renderer.render(tokens, _READER.options, {})
    return nh3.clean(
        rendered, tags=set(TAGS), attributes={"*": set(), "a": {"href"}, "ol": {"start"}}, url_schemes=set(SCHEMES),
        link_rel="noopener noreferrer nofollow",
    )  # fmt: skip


def plain(text: str) -> str:
    """The words of the text, one paragraph a line."""
    lines = (_SPACES.sub(" ", "".join(_spoken(token.children or ()))).strip() for token in _leaves(text))
    return "\n".join(line for line in lines if line)


def _leaves(text: str) -> Iterator[Token]:
    for token in _READER.parse(text):
        if token.type == "inline":
            yield token
        elif token.type in {"fence", "code_block"}:
            yield Token("inline", "", 0, children=[Token("text", "", 0, content=token.content)])


def _spoken(tokens: Sequence[Token]) -> Iterator[str]:
    for token in tokens:
        if token.type in {"softbreak", "hardbreak"}:
            yield " "
        elif token.children:
            yield from _spoken(token.children)
        else:
            yield token.content
