"""Keeps the options of commands in one piece where a line breaks."""

import re

# A tag, whose attributes may hold a page of their own, or an option.
OPTION = re.compile(
    r"""<(?:"[^"]*"|'[^']*'|[^"'<>])*>|(?:(?<=[\s>])|^)--[a-z][\w-]*"""
)


def on_page_content(html, **kwargs):
    """Marks each option, for the style of the site."""
    return OPTION.sub(_marked, html)


def _marked(match):
    text = match[0]
    return text if text[0] == "<" else f'<span class="option">{text}</span>'
